//! Channels that do not answer. One of them must not hold up its partition, so it is *parked*: the partition goes on
//! without it, and its gateway catches every room up when it answers again.
//!
//! That a channel is parked is written down in the same step that acknowledges the batch it did not get, and nowhere
//! else: an owner that remembered it alone, or wrote it down a moment later, would take the knowledge with it when it
//! dies, and in a room where nothing comes any more nobody would ever miss the message. Whoever owns the partition next
//! finds the marks when it reads from the head. A parked channel gets nothing but an overrun mark, which tells its gateway
//! to catch up, and only then, by the owner alone, is it marked no more.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use carillon_broker::{Fenced, Incarnation};
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use super::{Interruption, Owner, Stand};
use crate::{metrics::Counted, shared::Shared};

/// The parked channels of a partition, and those that have begun to fail.
#[derive(Debug, Default)]
pub(super) struct Parking {
    parked: BTreeMap<Incarnation, Parked>,
    /// Looks at whether a parked gateway's server answers, and what it says of the gateway: whether it lives.
    looks: JoinSet<(Incarnation, Option<bool>)>,
    /// Since when appends to a channel have failed, over any number of tries of a batch.
    failing: Mutex<BTreeMap<Incarnation, Instant>>,
}

#[derive(Debug)]
struct Parked {
    /// Since when, as far as this owner knows.
    since: Instant,
    state: State,
    _counted: Counted,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// It is looked at again then.
    Silent(Instant),
    /// A look is under way.
    LookedAt,
    /// Its server answers: the gateway lives, or does not.
    Answers { lives: bool },
}

impl Parking {
    /// Whether a channel is parked.
    pub(super) fn holds(&self, gateway: &Incarnation) -> bool {
        self.parked.contains_key(gateway)
    }

    /// Whether a channel has been parked for longer than a silent gateway counts as alive.
    pub(super) fn is_given_up(&self, gateway: &Incarnation, alive_for: Duration) -> bool {
        let parked = self.parked.get(gateway);
        parked.is_some_and(|parked| parked.since.elapsed() > alive_for)
    }

    /// An append to a channel failed; since when it has.
    pub(super) fn failed(&self, gateway: &Incarnation, began: Instant) -> Instant {
        let mut failing = self.failing.lock();
        *failing.entry(gateway.clone()).or_insert(began)
    }

    /// All channels of a batch answered, or were parked.
    pub(super) fn settled(&self) {
        self.failing.lock().clear();
    }

    /// Parks a channel that was written down as such.
    pub(super) fn park(&mut self, shared: &Shared, gateway: Incarnation) {
        self.failing.lock().remove(&gateway);
        self.parked.entry(gateway).or_insert_with(|| Parked {
            since: Instant::now(),
            state: State::Silent(Instant::now()),
            _counted: shared.metrics.parked(),
        });
    }

    /// What is written down counts: after a lost answer, and at a takeover, it is all that is known.
    pub(super) fn replace(&mut self, shared: &Shared, written: Vec<Incarnation>) {
        let written: BTreeSet<Incarnation> = written.into_iter().collect();
        self.parked.retain(|gateway, _| written.contains(gateway));
        for gateway in written {
            self.park(shared, gateway);
        }
    }

    /// Waits until there may be something to do for a parked channel. Cancel safe.
    pub(super) async fn stirred(&mut self) {
        let due = self.parked.values().filter_map(|parked| match parked.state {
            State::Silent(due) => Some(due),
            State::LookedAt => None,
            State::Answers { .. } => Some(Instant::now()),
        });
        let due = due.min();
        tokio::select! {
            biased;
            Some(Ok(looked)) = self.looks.join_next(), if !self.looks.is_empty() => self.looked(looked),
            () = async { match due { Some(due) => sleep_until(due).await, None => pending().await } } => {}
        }
    }

    fn looked(&mut self, (gateway, lives): (Incarnation, Option<bool>)) {
        if let Some(parked) = self.parked.get_mut(&gateway) {
            parked.state = match lives {
                Some(lives) => State::Answers { lives },
                None => State::Silent(Instant::now() + LOOK_EVERY),
            };
        }
    }

    /// Begins the looks that are due, ends those that are done, and answers which channels answer again.
    fn answering(&mut self, shared: &Arc<Shared>) -> Vec<(Incarnation, bool)> {
        while let Some(Ok(looked)) = self.looks.try_join_next() {
            self.looked(looked);
        }
        let mut answering = Vec::new();
        for (gateway, parked) in &mut self.parked {
            match parked.state {
                State::Silent(due) if due <= Instant::now() => {
                    parked.state = State::LookedAt;
                    self.looks.spawn(look(Arc::clone(shared), gateway.clone()));
                }
                State::Answers { lives } => answering.push((gateway.clone(), lives)),
                State::Silent(_) | State::LookedAt => {}
            }
        }
        answering
    }
}

/// Between two looks at a channel's server that did not answer.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The gateway's life lies beside its channel.
async fn look(shared: Arc<Shared>, gateway: Incarnation) -> (Incarnation, Option<bool>) {
    let gateways = [gateway];
    let living = shared.broker.living(&gateways);
    let living = shared
        .call_within(shared.settings.channel_patience, "living", living)
        .await;
    let [gateway] = gateways;
    (gateway, living.ok().and_then(|living| living.first().copied()))
}

impl Owner {
    /// Tells the gateways whose channels answer again that they missed something, and marks them no more. Between two
    /// batches, so that nothing is withheld from them after they were told.
    pub(super) async fn unpark(&mut self, stand: &Stand) -> Result<(), Interruption> {
        if self.parking.parked.is_empty() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let answering = self.parking.answering(&shared);
        if answering.is_empty() {
            return Ok(());
        }
        let telling = answering.into_iter().map(|(gateway, lives)| {
            let shared = Arc::clone(&shared);
            async move {
                // Nobody reads the channel of a dead one.
                let told = !lives || {
                    let overrun = shared.broker.append_channel(&gateway, Bytes::new(), 0);
                    let patience = shared.settings.channel_patience;
                    let told = shared.call_within(patience, "append_channel", overrun).await;
                    shared
                        .metrics
                        .channel_append(told.as_ref().map(|outcome| *outcome).map_err(|_| ()));
                    told.is_ok()
                };
                (gateway, told)
            }
        });
        let mut told = Vec::new();
        for (gateway, done) in join_all(telling).await {
            if done {
                told.push(gateway);
            } else {
                self.parking.looked((gateway, None));
            }
        }
        if told.is_empty() {
            return Ok(());
        }
        if !shared.mutations.park_in_memory {
            let unpark = shared
                .broker
                .unpark(self.partition, self.token, &stand.life, &told);
            if shared.call("unpark", unpark).await? == Fenced::Lost {
                return Err(Interruption::Lost);
            }
        }
        for gateway in told {
            info!(partition = %self.partition, %gateway, "a parked channel answers again; its gateway catches up");
            self.parking.parked.remove(&gateway);
        }
        Ok(())
    }

    /// These channels did not get a batch that is acknowledged now.
    pub(super) fn park(&mut self, gateways: Vec<Incarnation>) {
        for gateway in gateways {
            if !self.parking.holds(&gateway) {
                warn!(partition = %self.partition, %gateway, "a channel does not answer; the partition goes on without it");
            }
            self.parking.park(&self.shared, gateway);
        }
    }
}

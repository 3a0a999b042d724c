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

use carillon_broker::Incarnation;
use parking_lot::Mutex;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

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

    /// No channel is parked.
    pub(super) fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    /// A channel that had answered does not again.
    pub(super) fn is_silent_again(&mut self, gateway: Incarnation) {
        self.looked((gateway, None));
    }

    /// A gateway was told.
    pub(super) fn release(&mut self, gateway: &Incarnation) {
        self.parked.remove(gateway);
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
    pub(super) fn answering(&mut self, shared: &Arc<Shared>) -> Vec<(Incarnation, bool)> {
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

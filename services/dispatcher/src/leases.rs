//! Who owns what: takes what this dispatcher should own, hands over what another one should.
//!
//! Nobody assigns partitions. Every dispatcher looks at who lives, once a second, and computes the same owner for each
//! partition and list ([`rendezvous`](crate::rendezvous)). A lease makes sure that there is one at a time most of the
//! time; its token makes sure that a second one can do no harm.
//!
//! A partition that makes no progress is given up and left to others for a while, unless its server itself refuses: others
//! would get the same answer, and a change of owners would only delay what waits. They don't know about that; so each
//! dispatcher also tries, now and then, what it is the *second* choice for, and keeps what it got that way for as long.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use carillon_broker::{Incarnation, LOOKS_UNTIL_IDENTITY_DIFFERS, LeaseName, ServiceKind};
use carillon_model::Partition;
use indexmap::{IndexMap, IndexSet};
use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    DispatcherStatus,
    lives::Seen,
    rendezvous::owner_of,
    shared::Shared,
    tenure::{self, Orders, TenureEnd},
};

/// How many surveys the living must have been the same before anything is tried as a second choice, and between two
/// tries of it.
const SURVEYS_BEFORE_SECOND_CHOICE: u32 = 10;

/// Runs all leases of a process.
#[derive(Debug)]
pub(crate) struct Leaseholder {
    shared: Arc<Shared>,
    standing: watch::Receiver<Option<Incarnation>>,
    lives: watch::Receiver<Seen>,
    status: watch::Sender<DispatcherStatus>,
    tasks: JoinSet<TenureEnd>,
    held: IndexMap<LeaseName, Held>,
    /// Given up for want of progress, until when.
    shunned: BTreeMap<LeaseName, Instant>,
    living: Vec<Incarnation>,
    /// Surveys since the living changed.
    surveys: u32,
    /// When the last survey was, and since when none was missed.
    surveyed: Instant,
    awake_since: Instant,
    stuck: Vec<Partition>,
    /// Those that metrics name: stuck, or given up for it a while ago.
    marked: IndexSet<Partition>,
    /// Partitions of which this one is the first choice.
    wanted: usize,
    /// What another one held when this one last asked for it.
    held_by_others: IndexSet<LeaseName>,
    /// Since when queues are read from other servers than those that looks show.
    differs_since: Option<Instant>,
}

/// A lease that is wanted, and the task that has it or tries to get it.
#[derive(Debug)]
struct Held {
    task: Id,
    orders: Orders,
    /// A second choice is kept until then.
    borrowed_until: Option<Instant>,
}

impl Leaseholder {
    pub(crate) fn new(
        shared: Arc<Shared>,
        standing: watch::Receiver<Option<Incarnation>>,
        lives: watch::Receiver<Seen>,
        status: watch::Sender<DispatcherStatus>,
    ) -> Self {
        Self {
            shared,
            standing,
            lives,
            status,
            tasks: JoinSet::new(),
            held: IndexMap::new(),
            shunned: BTreeMap::new(),
            living: Vec::new(),
            surveys: 0,
            surveyed: Instant::now(),
            awake_since: Instant::now(),
            stuck: Vec::new(),
            marked: IndexSet::new(),
            wanted: 0,
            held_by_others: IndexSet::new(),
            differs_since: None,
        }
    }

    /// Takes and keeps leases until drained, then hands all of them over.
    pub(crate) async fn run(&mut self, drain: &CancellationToken) {
        let mut every = interval(self.shared.settings.survey_every);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = drain.cancelled() => break,
                Ok(()) = self.standing.changed() => {
                    self.revoke_all();
                    every.reset_immediately();
                }
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => self.ended(ended),
                _ = every.tick() => self.survey().await,
            }
        }
        self.hand_all_over().await;
    }

    /// This process is somebody else now (or nobody): what it held in its former name is gone.
    fn revoke_all(&mut self) {
        self.standing.borrow_and_update();
        for held in self.held.values() {
            held.orders.revoke.cancel();
        }
    }

    async fn survey(&mut self) {
        let me = self.standing.borrow().clone();
        let (known, broker_error, up_since, differs) = {
            let seen = self.lives.borrow();
            let differs = self.shared.board.differs(|partition| seen.life_of(partition));
            (seen.is_known(), seen.error.clone(), seen.up_since, differs)
        };
        self.differs_since = differs.then(|| self.differs_since.unwrap_or_else(Instant::now));
        let since_last = self.surveyed.elapsed();
        self.surveyed = Instant::now();
        if since_last > self.shared.settings.stuck_after / 2 {
            // The process itself stood still.
            self.awake_since = self.surveyed;
        }
        let up_since = up_since.map(|up_since| up_since.max(self.awake_since));
        let registered = me.is_some() && known;
        if let (Some(me), true) = (&me, known) {
            self.look_at_the_living(me).await;
            self.give_up_stuck(me, up_since);
            self.adjust(me);
        }
        let agreed_within = self.shared.settings.survey_every * LOOKS_UNTIL_IDENTITY_DIFFERS;
        self.status.send_replace(DispatcherStatus {
            broker_error,
            registered,
            surveyed: Some(Instant::now()),
            living: self.living.len(),
            wanted: self.wanted,
            owned: self.shared.board.owned().len(),
            held_by_others: self.held_by_others.len(),
            identity_differs: self
                .differs_since
                .is_some_and(|since| since.elapsed() >= agreed_within),
            stuck: self.stuck.clone(),
        });
    }

    /// Those on their way out don't count. If the broker does not answer, everybody is as before.
    async fn look_at_the_living(&mut self, me: &Incarnation) {
        let members = self.shared.broker.list_members(ServiceKind::Dispatcher);
        let members = match self.shared.call("members", members).await {
            Ok(members) => {
                *self.shared.listed.lock() = members.listed.into();
                members.living
            }
            Err(error) => {
                debug!(%error, "could not look at who lives");
                if !self.living.contains(me) {
                    self.living = vec![me.clone()];
                    self.surveys = 0;
                }
                return;
            }
        };
        let mut living: Vec<Incarnation> = members
            .into_iter()
            .filter(|member| !member.draining)
            .map(|member| member.incarnation)
            .collect();
        if !living.contains(me) {
            living.push(me.clone());
        }
        living.sort_unstable();
        self.surveys = self.surveys.saturating_add(1);
        if living != self.living {
            info!(living = living.len(), "the living dispatchers changed");
            self.shared
                .metrics
                .living
                .set(i64::try_from(living.len()).unwrap_or(i64::MAX));
            self.living = living;
            self.surveys = 0;
        }
    }

    /// Gives up partitions without progress, if there is somebody else to have them.
    fn give_up_stuck(&mut self, me: &Incarnation, up_since: Option<Instant>) {
        let settings = &self.shared.settings;
        let now = Instant::now();
        self.shunned.retain(|_, until| *until > now);
        let stuck = self.shared.board.stuck(up_since, settings.stuck_after);
        // Where every owner in turn gets stuck, none owns the partition for long: it stays marked while it is left to
        // others, so that whoever looks now and then sees it.
        let shunned = &self.shunned;
        self.marked.retain(|partition| {
            let marked = stuck.contains(partition) || shunned.contains_key(&LeaseName::Partition(*partition));
            if !marked {
                self.shared.metrics.stuck(*partition, false);
            }
            marked
        });
        let alone = self.living.iter().all(|other| other == me);
        for partition in &stuck {
            if !self.stuck.contains(partition) {
                warn!(%partition, alone, "the partition makes no progress");
                self.shared.metrics.stuck(*partition, true);
                self.marked.insert(*partition);
            }
            let lease = LeaseName::Partition(*partition);
            let others_could = !alone && !self.shared.board.is_held_by_server(*partition);
            if others_could && let Some(held) = self.held.get(&lease) {
                held.orders.revoke.cancel();
                self.shared.metrics.given_up.inc();
                self.shunned.insert(lease, now + settings.shun_for);
            }
        }
        self.shared.metrics.stuck_count(self.marked.len());
        self.stuck = stuck;
    }

    /// Begins what is wanted and not there, and hands over what is there and not wanted.
    fn adjust(&mut self, me: &Incarnation) {
        let now = Instant::now();
        let partitions = self
            .shared
            .broker
            .partitions()
            .partitions()
            .map(LeaseName::Partition);
        let lists: IndexSet<LeaseName> = {
            let policy = self.shared.policy.borrow();
            let lists = policy.lists().iter();
            lists.map(|intake| LeaseName::List(intake.list.clone())).collect()
        };
        let all: IndexSet<LeaseName> = partitions.chain(lists).collect();
        self.wanted = 0;
        let living = &self.living;
        self.held_by_others
            .retain(|lease| all.contains(lease) && owner_of(lease, living) == Some(me));
        let second_choices = self.surveys > 0 && self.surveys.is_multiple_of(SURVEYS_BEFORE_SECOND_CHOICE);
        for lease in &all {
            let first = owner_of(lease, &self.living);
            let mine = first == Some(me);
            if mine && matches!(lease, LeaseName::Partition(_)) {
                self.wanted += 1;
            }
            if self.held.contains_key(lease) {
                continue;
            }
            if mine && !self.shunned.contains_key(lease) {
                self.begin(lease.clone(), me.clone(), None);
            } else if !mine && second_choices {
                let others = self.living.iter().filter(|other| Some(*other) != first);
                if owner_of(lease, others) == Some(me) {
                    let until = now + self.shared.settings.shun_for;
                    self.begin(lease.clone(), me.clone(), Some(until));
                }
            }
        }
        let changed = self.surveys == 0;
        for (lease, held) in &self.held {
            let mine = all.contains(lease) && owner_of(lease, &self.living) == Some(me);
            let borrowed =
                all.contains(lease) && !changed && held.borrowed_until.is_some_and(|until| until > now);
            if !mine && !borrowed {
                held.orders.handover.cancel();
            }
        }
    }

    fn begin(&mut self, lease: LeaseName, me: Incarnation, borrowed_until: Option<Instant>) {
        let (shared, orders) = (Arc::clone(&self.shared), Orders::default());
        let task = match lease.clone() {
            LeaseName::Partition(partition) => {
                let lives = self.lives.clone();
                self.tasks
                    .spawn(tenure::partition(shared, partition, me, lives, orders.clone()))
            }
            LeaseName::List(list) => self.tasks.spawn(tenure::list(shared, list, me, orders.clone())),
        };
        let held = Held {
            task: task.id(),
            orders,
            borrowed_until,
        };
        self.held.insert(lease, held);
    }

    fn ended(&mut self, ended: Result<(Id, TenureEnd), JoinError>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(crash) => crash.id(),
        };
        let lease = self
            .held
            .iter()
            .find(|(_, held)| held.task == id)
            .map(|(lease, _)| lease.clone());
        if let Some(lease) = lease {
            self.held_by_others.swap_remove(&lease);
            match ended {
                Ok((_, TenureEnd::HeldByAnother)) if matches!(lease, LeaseName::Partition(_)) => {
                    self.held_by_others.insert(lease.clone());
                }
                Ok(_) => {}
                Err(crash) => {
                    // Its lease runs out by itself; until then nobody owns it.
                    error!(?lease, %crash, "an owner crashed");
                    self.shared.metrics.crashes.inc();
                }
            }
            self.held.swap_remove(&lease);
        }
    }

    async fn hand_all_over(&mut self) {
        for held in self.held.values() {
            held.orders.handover.cancel();
        }
        let settings = &self.shared.settings;
        let (patience, last_calls) = (settings.drain_for, settings.call_timeout * 3);
        if self.all_end_within(patience).await {
            info!("all partitions are handed over");
            return;
        }
        warn!(
            left = self.tasks.len(),
            "not everything could be handed over in time; giving it up"
        );
        self.revoke_all();
        if !self.all_end_within(last_calls).await {
            self.tasks.abort_all();
        }
    }

    async fn all_end_within(&mut self, patience: Duration) -> bool {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        timeout(patience, all).await.is_ok()
    }
}

//! Servers that fail over, old primaries that still answer, and connections that notice late.
//!
//! The model is that of `DESIGN` §5: a failover gives a server another life and takes back a tail of its writes. In a
//! split the old primary serves the connections it has for a while; what it takes is lost.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use carillon_broker::{
    BrokerError, Incarnation, Life, Result,
    losses::{LogLimits, LossMetrics, Losses},
    memory::{MemoryBroker, MemoryOptions, ServerState},
    redis::Identities,
};
use carillon_model::{MessageId, PartitionCount};
use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::Notify, time::Instant};

use crate::{
    identities::{Standing, run_id},
    ledger::Ledger,
};

pub use crate::condition::{Condition, Step};

/// How calls behave in a schedule.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// Calls take up to this long before and after they happen.
    pub latency: Duration,
    /// One in so many answers is lost; 0 loses none.
    pub lost_answers: u32,
    /// How long an old primary serves the connections it has, at most; none if zero.
    pub split: Duration,
    /// A server's writes that a failover may take back.
    pub tail: usize,
    /// After a failover offsets start from the server's clock as if nothing had happened (a mutation).
    pub offsets_not_raised: bool,
    /// Nobody marks what a failover took back (a mutation).
    pub gaps_not_marked: bool,
    /// Replication IDs change while servers run.
    pub identities_change: bool,
    /// Whatever changes a replication ID is taken for benign (a mutation).
    pub every_change_benign: bool,
    /// Fenced calls compare with what the data is called, not with the present replication ID (a mutation).
    pub fenced_by_name: bool,
}

/// All servers, and who can reach which.
#[derive(Debug)]
pub struct Network {
    /// What the servers hold.
    pub servers: MemoryBroker,
    pub(crate) manners: Manners,
    random: Mutex<fastrand::Rng>,
    slots: Vec<Mutex<Slot>>,
    ledgers: Vec<Mutex<Ledger>>,
    written: Vec<Notify>,
    /// Until when dispatchers get no answer from a gateway's channel; the gateway itself reads on.
    pub(crate) mute: Mutex<BTreeMap<Incarnation, Instant>>,
}

#[derive(Debug, Default)]
pub(crate) struct Slot {
    lives: u64,
    pub(crate) standing: Standing,
    old_primary: Option<OldPrimary>,
}

#[derive(Debug)]
struct OldPrimary {
    state: ServerState,
    writes: u64,
    skew: i64,
    until: Instant,
}

/// Virtual 2024-11-23, so that offsets look as they do.
const BASE_MILLISECONDS: u64 = 1_732_377_600_000;

impl Network {
    /// Two servers that share these partitions.
    pub fn new(partitions: PartitionCount, manners: Manners, random: fastrand::Rng) -> Arc<Self> {
        let servers = MemoryBroker::new(MemoryOptions {
            servers: 2,
            recent_versions: manners.tail,
            ..MemoryOptions::new(partitions, BASE_MILLISECONDS)
        });
        let count = servers.servers();
        for server in 0..count {
            // A name of the form that Redis' identities have.
            let mut state = servers.server_state(server);
            state.life = Life(format!("life-{server}-0:0").into());
            state.adopt_life();
            let life = state.life.clone();
            servers.replace_server_state(server, state, life, 0);
        }
        Arc::new(Self {
            servers,
            manners,
            random: Mutex::new(random),
            slots: (0..count).map(|_| Mutex::default()).collect(),
            ledgers: (0..count).map(|_| Mutex::default()).collect(),
            written: (0..count).map(|_| Notify::new()).collect(),
            mute: Mutex::default(),
        })
    }

    pub(crate) fn chance(&self, one_in: u32) -> bool {
        one_in > 0 && self.random.lock().u32(..one_in) == 0
    }

    pub(crate) fn below(&self, limit: usize) -> usize {
        self.random.lock().usize(..limit.max(1))
    }

    fn latency(&self, factor: u32) -> Duration {
        let limit = u64::try_from((self.manners.latency * factor).as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.random.lock().u64(..=limit))
    }

    /// Whether anybody marks what a failover took back.
    pub(crate) fn marks_gaps(&self) -> bool {
        !self.manners.gaps_not_marked
    }

    /// Whether servers may lose writes, or look as if they had.
    pub(crate) fn changes_lives(&self) -> bool {
        self.manners.tail > 0 || self.manners.identities_change
    }

    pub(crate) fn slot(&self, server: usize) -> MutexGuard<'_, Slot> {
        self.slots[server].lock()
    }

    /// The present life of a server.
    pub fn life(&self, server: usize) -> Life {
        self.servers.read(server, |state, _| state.life.clone())
    }

    pub(crate) async fn written(&self, server: usize) {
        self.written[server].notified().await;
    }

    /// Something done to a server from outside, at once.
    pub(crate) fn intervene<R>(&self, server: usize, operation: impl FnOnce(&mut ServerState) -> R) -> R {
        self.ledgers[server].lock().writes += 1;
        self.servers.write(server, |state, _| operation(state))
    }

    /// Notes which messages the write under way appends. What an old primary takes nobody else will ever have.
    pub(crate) fn note_append(&self, server: usize, happened: Happened, messages: Vec<MessageId>) {
        let mut ledger = self.ledgers[server].lock();
        match happened {
            Happened::OldPrimary => ledger.lost.extend(messages),
            Happened::Present => {
                let writes = ledger.writes;
                ledger
                    .appended
                    .extend(messages.into_iter().map(|id| (id, writes)));
            }
        }
    }

    /// Messages that were in a queue that a failover took back, whatever became of them since.
    pub fn ever_lost(&self) -> Vec<MessageId> {
        self.ledgers
            .iter()
            .flat_map(|ledger| ledger.lock().lost.clone())
            .collect()
    }

    /// A failover: another life, another clock, and the last writes gone. In a split the old primary serves on for a random
    /// time.
    pub fn fail_over(&self, server: usize, writes_lost: usize, skew: i64, split: bool) {
        let split = (split && !self.manners.split.is_zero()).then(|| {
            let limit = u64::try_from(self.manners.split.as_millis()).unwrap_or(u64::MAX);
            Duration::from_millis(self.random.lock().u64(1..limit.max(2)))
        });
        self.promote(server, writes_lost, skew, split);
    }

    /// A replica is promoted that lacks so many writes; the old primary serves the connections it has for a while.
    pub(crate) fn promote(&self, server: usize, writes_lost: usize, skew: i64, split: Option<Duration>) {
        let mut slot = self.slot(server);
        slot.lives += 1;
        let present = self.servers.server_state(server);
        let former = present.life.clone();
        if let Some(time) = split {
            let until = Instant::now() + time;
            slot.old_primary = Some(OldPrimary {
                state: present,
                writes: self.ledgers[server].lock().writes,
                skew: self.servers.skew(server),
                until,
            });
        }
        let run_id = format!("life-{server}-{}", slot.lives);
        let life = slot.standing.promoted(&run_id, &former);
        drop(slot);
        self.go_on(server, writes_lost, life, skew);
    }

    /// A server goes on under another name, and lacks its last writes.
    pub(crate) fn go_on(&self, server: usize, writes_lost: usize, life: Life, skew: i64) {
        let recent = self.servers.recent_states(server);
        let lost = writes_lost.min(recent.len());
        let state = match lost {
            0 => self.servers.server_state(server),
            lost => recent[recent.len() - lost].clone(),
        };
        self.ledgers[server].lock().take_back(lost as u64);
        self.servers.replace_server_state(server, state, life, skew);
        if self.manners.offsets_not_raised {
            self.intervene(server, carillon_broker::memory::ServerState::adopt_life);
        }
        self.written[server].notify_waiters();
    }

    /// How many writes the old primary with this life took, if it still serves.
    pub(crate) fn writes_of_old(&self, server: usize, life: &Life) -> Option<u64> {
        let slot = self.slots[server].lock();
        let old = slot.old_primary.as_ref().filter(|old| old.state.life == *life);
        old.map(|old| old.writes)
    }

    /// How many writes a server took and kept.
    pub(crate) fn writes(&self, server: usize) -> u64 {
        self.ledgers[server].lock().writes
    }

    /// Ends all splits.
    pub fn heal(&self) {
        for slot in &self.slots {
            slot.lock().old_primary = None;
        }
        self.unmute();
    }
}

/// A process' connections.
#[derive(Debug)]
pub struct Connections {
    pub(crate) network: Arc<Network>,
    condition: Arc<Condition>,
    /// The process that each connection leads to.
    lanes: Mutex<Vec<[Option<Arc<str>>; LANES]>>,
    /// What this process confirmed.
    pub(crate) losses: Losses,
    /// Which identities of servers mean the same data, where any changes.
    pub(crate) identities: Option<Identities>,
    pub(crate) looking: tokio::sync::Mutex<()>,
}

/// Connections per server: calls of one process take different ones, and so overtake each other.
const LANES: usize = 3;

/// Where a call happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    Present,
    OldPrimary,
}

impl Connections {
    /// No connection yet.
    pub fn new(network: &Arc<Network>, condition: &Arc<Condition>) -> Self {
        let lanes = Mutex::new(vec![Default::default(); network.servers.servers()]);
        Self {
            network: Arc::clone(network),
            condition: Arc::clone(condition),
            lanes,
            losses: Losses::new(LogLimits::default(), LossMetrics::default()),
            identities: network.identities(),
            looking: tokio::sync::Mutex::default(),
        }
    }

    /// A call that only reads.
    pub(crate) async fn read<R>(
        &self,
        server: usize,
        operation: impl FnOnce(&ServerState, u64) -> R,
    ) -> Result<R> {
        self.call(server, false, |state, now, _| operation(state, now))
            .await
    }

    /// A call that writes.
    pub(crate) async fn write<R>(
        &self,
        server: usize,
        operation: impl FnOnce(&mut ServerState, u64) -> R,
    ) -> Result<R> {
        self.call(server, true, |state, now, _| operation(state, now))
            .await
    }

    pub(crate) async fn call<R>(
        &self,
        server: usize,
        writes: bool,
        operation: impl FnOnce(&mut ServerState, u64, Happened) -> R,
    ) -> Result<R> {
        self.step().await;
        let lane = self.network.below(LANES);
        let happens = self.connected(server, lane, writes)?;
        let losing = self.network.chance(self.network.manners.lost_answers);
        if losing && self.network.chance(2) {
            self.break_lane(server, lane);
            return Err(lost(writes));
        }
        let result = self.happen(server, writes, happens, operation);
        self.step().await;
        if losing {
            self.break_lane(server, lane);
            return Err(lost(writes));
        }
        Ok(result)
    }

    /// Waits as long as a scenario holds this kind of call back.
    pub(crate) async fn pass(&self, step: Step) {
        self.condition.pass(step).await;
    }

    /// Takes time, and stands still while the process does.
    pub(crate) async fn step(&self) {
        self.condition.running().await;
        tokio::time::sleep(self.network.latency(self.condition.slowness)).await;
        self.condition.running().await;
    }

    fn break_lane(&self, server: usize, lane: usize) {
        self.lanes.lock()[server][lane] = None;
    }

    /// Whether this connection still leads somewhere. One to a server that is primary no more finds out by failing.
    fn connected(&self, server: usize, lane: usize, writes: bool) -> Result<Happened> {
        let present = self.network.life(server);
        let mut lanes = self.lanes.lock();
        let connection = &mut lanes[server][lane];
        match connection {
            Some(process) if **process != *run_id(&present) => {
                let mut slot = self.network.slots[server].lock();
                let serves =
                    |old: &OldPrimary| *run_id(&old.state.life) == **process && Instant::now() < old.until;
                if slot.old_primary.as_ref().is_some_and(serves) {
                    return Ok(Happened::OldPrimary);
                }
                if slot
                    .old_primary
                    .as_ref()
                    .is_some_and(|old| Instant::now() >= old.until)
                {
                    slot.old_primary = None;
                }
                *connection = None;
                Err(lost(writes))
            }
            Some(_) => Ok(Happened::Present),
            None => {
                *connection = Some(run_id(&present).into());
                Ok(Happened::Present)
            }
        }
    }

    fn happen<R>(
        &self,
        server: usize,
        writes: bool,
        happens: Happened,
        operation: impl FnOnce(&mut ServerState, u64, Happened) -> R,
    ) -> R {
        let network = &self.network;
        if happens == Happened::OldPrimary {
            let mut slot = network.slots[server].lock();
            if let Some(old) = &mut slot.old_primary {
                let common = network
                    .servers
                    .now(server)
                    .saturating_add_signed(-network.servers.skew(server));
                old.writes += u64::from(writes);
                return operation(&mut old.state, common.saturating_add_signed(old.skew), happens);
            }
        }
        if !writes {
            // Reads take a copy: its parts are shared, so it costs next to nothing.
            let now = network.servers.now(server);
            return operation(&mut network.servers.server_state(server), now, Happened::Present);
        }
        network.ledgers[server].lock().writes += 1;
        let result = network
            .servers
            .write(server, |state, now| operation(state, now, Happened::Present));
        network.written[server].notify_waiters();
        result
    }

    /// Looks at the present primary, as a resolver does; connections to older ones are given up. While an old primary
    /// still answers, the look may be at that one.
    pub(crate) async fn present_life(&self, server: usize) -> Result<Life> {
        self.step().await;
        let monitor = LANES - 1;
        if self.connected(server, monitor, false)? == Happened::OldPrimary && !self.network.chance(3) {
            let slot = self.network.slot(server);
            let old = slot.old_primary.as_ref().map(|old| old.state.life.clone());
            return old.ok_or_else(|| lost(false));
        }
        let life = self.network.life(server);
        for connection in &mut self.lanes.lock()[server] {
            if connection.as_deref() != Some(run_id(&life)) {
                *connection = None;
            }
        }
        self.step().await;
        Ok(life)
    }
}

fn lost(writes: bool) -> BrokerError {
    let why = "connection lost".to_owned();
    if writes {
        BrokerError::Unknown(why)
    } else {
        BrokerError::Unavailable(why)
    }
}

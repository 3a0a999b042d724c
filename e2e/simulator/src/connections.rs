//! A process' connections: which server a call reaches, how long it takes, and whether its answer comes.

use std::sync::Arc;

use carillon_broker::{
    BrokerError, Life, Result,
    losses::{LogLimits, LossMetrics, Losses},
    memory::ServerState,
    redis::Identities,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    identities::run_id,
    network::{Condition, Network, OldPrimary, Step},
    primaries::Primaries,
};

/// A process' connections.
#[derive(Debug)]
pub struct Connections {
    pub(crate) network: Arc<Network>,
    pub(crate) condition: Arc<Condition>,
    /// The process that each connection leads to.
    lanes: Mutex<Vec<[Option<Arc<str>>; LANES]>>,
    /// What this process confirmed.
    pub(crate) losses: Losses,
    /// Which identities of servers mean the same data, where any changes.
    pub(crate) identities: Option<Identities>,
    /// One look at a server at a time.
    pub(crate) looking: Vec<tokio::sync::Mutex<()>>,
    /// Whom it takes for primary, where addresses tell.
    pub(crate) primaries: Primaries,
}

/// Connections per server: calls of one process take different ones, and so overtake each other.
const LANES: usize = 3;

/// Where a call happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    Present,
    OldPrimary,
}

/// What becomes of a call that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    Answers(Happened),
    /// The process accepts connections, and stands still.
    Silent,
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
            looking: (0..network.servers.servers())
                .map(|_| tokio::sync::Mutex::default())
                .collect(),
            primaries: Primaries::new(network.servers.servers()),
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
        let happens = match self.reach(server, lane, writes).await? {
            Reached::Answers(happens) => happens,
            Reached::Silent => {
                self.unanswered(server).await;
                self.break_lane(server, lane);
                return Err(lost(writes));
            }
        };
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

    pub(crate) fn break_lane(&self, server: usize, lane: usize) {
        self.lanes.lock()[server][lane] = None;
    }

    pub(crate) fn forget_connections(&self, server: usize) {
        self.lanes.lock()[server] = Default::default();
    }

    /// Where a connection leads. A new one leads to whom the process takes for primary.
    pub(crate) async fn reach(&self, server: usize, lane: usize, writes: bool) -> Result<Reached> {
        if self.network.seeds.is_none() {
            return self.connected(server, lane, writes).map(Reached::Answers);
        }
        let kept = self.lanes.lock()[server][lane].clone();
        let process = match kept {
            Some(process) => process,
            None => self.primary(server).await?,
        };
        let reached = self.network.whose(server, &process);
        self.lanes.lock()[server][lane] = reached.map(|_| process);
        if reached.is_none() {
            let _ = self.discover().await;
        }
        reached.ok_or_else(|| lost(writes))
    }

    /// Whether this connection still leads somewhere. One to a server that is primary no more finds out by failing.
    fn connected(&self, server: usize, lane: usize, writes: bool) -> Result<Happened> {
        let present = self.network.life(server);
        let mut lanes = self.lanes.lock();
        let connection = &mut lanes[server][lane];
        match connection {
            Some(process) if **process != *run_id(&present) => {
                let mut slot = self.network.slot(server);
                let demoted_answers = self.network.manners.role_not_checked && !writes;
                let serves = |old: &OldPrimary| {
                    *run_id(&old.state.life) == **process && (Instant::now() < old.until || demoted_answers)
                };
                if slot.old_primary.as_ref().is_some_and(serves) {
                    return Ok(Happened::OldPrimary);
                }
                if slot
                    .old_primary
                    .as_ref()
                    .is_some_and(|old| Instant::now() >= old.until)
                    && !self.network.manners.role_not_checked
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

    pub(crate) fn happen<R>(
        &self,
        server: usize,
        writes: bool,
        happens: Happened,
        operation: impl FnOnce(&mut ServerState, u64, Happened) -> R,
    ) -> R {
        let network = &self.network;
        if happens == Happened::OldPrimary {
            let mut slot = network.slot(server);
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
        let monitor = LANES - 1;
        if self.network.seeds.is_some() {
            return self.identify(server, monitor).await;
        }
        self.step().await;
        if self.connected(server, monitor, false)? == Happened::OldPrimary {
            let slot = self.network.slot(server);
            let old = slot.old_primary.as_ref();
            let demoted = old.is_some_and(|old| Instant::now() >= old.until);
            if demoted || !self.network.chance(3) {
                let old = old.map(|old| old.state.life.clone());
                return old.ok_or_else(|| lost(false));
            }
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

impl Connections {
    /// Asks who is primary of a server; connections to older ones are given up.
    pub(crate) async fn find_primary(&self, server: usize) {
        if self.network.seeds.is_some() {
            // Whom it knows of is primary as long as nobody says otherwise.
            let _ = self.discover().await;
            return;
        }
        self.step().await;
        let life = self.network.life(server);
        for connection in &mut self.lanes.lock()[server] {
            if connection.as_deref() != Some(run_id(&life)) {
                *connection = None;
            }
        }
        self.step().await;
    }
}

pub(crate) fn lost(writes: bool) -> BrokerError {
    let why = "connection lost".to_owned();
    if writes {
        BrokerError::Unknown(why)
    } else {
        BrokerError::Unavailable(why)
    }
}

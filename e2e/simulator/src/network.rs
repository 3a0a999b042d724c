//! Servers that fail over or fall silent, and old primaries that still answer.
//!
//! The model is that of `DESIGN` §5: a failover gives a server another life and takes back a tail of its writes. In a
//! split the old primary serves the connections it has for a while; what it takes is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use carillon_broker::{
    Incarnation, Life,
    memory::{MemoryBroker, MemoryOptions, ServerState},
};
use carillon_model::{MessageId, PartitionCount};
use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::Notify, time::Instant};

use crate::{
    connections::{Happened, Reached},
    identities::{Standing, run_id},
    ledger::Ledger,
    seeds::Seeds,
};

pub use crate::{
    condition::{Condition, Step},
    connections::Connections,
};

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
    /// Addresses tell who is primary; they, and servers, may fall silent, and old primaries may serve on for good.
    pub seeds: bool,
    /// Who is primary is asked of one address alone (a mutation).
    pub one_address_asked: bool,
    /// Readers are not cut off from a server that lost its role (a mutation).
    pub readers_stay: bool,
    /// Nobody asks a server for its role (a mutation).
    pub role_not_checked: bool,
}

/// All servers, and who can reach which.
#[derive(Debug)]
pub struct Network {
    /// What the servers hold.
    pub servers: MemoryBroker,
    pub(crate) manners: Manners,
    random: Mutex<fastrand::Rng>,
    slots: Vec<Mutex<Slot>>,
    pub(crate) ledgers: Vec<Mutex<Ledger>>,
    pub(crate) written: Vec<Notify>,
    /// Until when dispatchers get no answer from a gateway's channel; the gateway itself reads on.
    pub(crate) mute: Mutex<BTreeMap<Incarnation, Instant>>,
    /// Who tells who is primary; without it everybody knows.
    pub(crate) seeds: Option<Seeds>,
    /// Lives that ran out though their primary was there to be reached.
    needless_deaths: Mutex<Vec<String>>,
}

#[derive(Debug, Default)]
pub(crate) struct Slot {
    lives: u64,
    pub(crate) standing: Standing,
    /// Processes that accept connections and stand still.
    silent: BTreeSet<String>,
    pub(crate) old_primary: Option<OldPrimary>,
}

#[derive(Debug)]
pub(crate) struct OldPrimary {
    pub(crate) state: ServerState,
    pub(crate) writes: u64,
    pub(crate) skew: i64,
    pub(crate) until: Instant,
}

/// How long an old primary serves on that never hears of its successor.
const FOR_GOOD: Duration = Duration::from_secs(1_000_000);

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
            seeds: manners
                .seeds
                .then(|| Seeds::new((0..count).map(|server| format!("life-{server}-0")))),
            needless_deaths: Mutex::default(),
        })
    }

    pub(crate) fn chance(&self, one_in: u32) -> bool {
        one_in > 0 && self.random.lock().u32(..one_in) == 0
    }

    pub(crate) fn below(&self, limit: usize) -> usize {
        self.random.lock().usize(..limit.max(1))
    }

    pub(crate) fn latency(&self, factor: u32) -> Duration {
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
            if self.seeds.is_some() && self.chance(2) {
                return FOR_GOOD;
            }
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
        if let Some(seeds) = &self.seeds {
            let late = self
                .chance(2)
                .then(|| (self.below(3), Duration::from_millis(self.below(1_000) as u64)));
            seeds.promoted(server, &run_id, late);
        }
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

    /// The present primary accepts connections from now on, and answers nothing. Who it is.
    pub(crate) fn fall_silent(&self, server: usize) -> String {
        let process = run_id(&self.life(server)).to_owned();
        self.slot(server).silent.insert(process.clone());
        process
    }

    /// What becomes of a call to a process; nothing where it is gone.
    pub(crate) fn whose(&self, server: usize, process: &str) -> Option<Reached> {
        let slot = self.slot(server);
        if slot.silent.contains(process) {
            return Some(Reached::Silent);
        }
        if *run_id(&self.life(server)) == *process {
            return Some(Reached::Answers(Happened::Present));
        }
        let old = slot.old_primary.as_ref()?;
        let serves = *run_id(&old.state.life) == *process && Instant::now() < old.until;
        serves.then_some(Reached::Answers(Happened::OldPrimary))
    }

    /// The name of the data behind an answer.
    pub(crate) fn life_at(&self, server: usize, happened: Happened) -> Option<Life> {
        match happened {
            Happened::Present => Some(self.life(server)),
            Happened::OldPrimary => self
                .slot(server)
                .old_primary
                .as_ref()
                .map(|old| old.state.life.clone()),
        }
    }

    /// A life ran out though its process ran, and the primary was there to be reached, twice as long as a life lasts.
    pub(crate) fn died_needlessly(&self, who: &Incarnation) {
        self.needless_deaths.lock().push(who.to_string());
    }

    /// Who died so.
    pub(crate) fn needless_deaths(&self) -> Vec<String> {
        self.needless_deaths.lock().clone()
    }

    /// Ends all splits but those of old primaries that never hear of their successors.
    pub fn heal(&self) {
        for slot in &self.slots {
            let ends = |old: &mut OldPrimary| {
                old.until < Instant::now() + FOR_GOOD / 2 && !self.manners.role_not_checked
            };
            drop(slot.lock().old_primary.take_if(ends));
        }
        self.unmute();
    }
}

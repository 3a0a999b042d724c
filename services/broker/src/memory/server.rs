//! One server: a state behind a lock, its clock, and the versions it had.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{state::ServerState, wake::Wake};
use crate::Life;

/// The clock all servers of an installation share, before skew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    base_ms: u64,
    started: Instant,
}

impl Clock {
    pub(super) fn starting_at(base_ms: u64) -> Self {
        Self {
            base_ms,
            started: Instant::now(),
        }
    }

    /// Milliseconds on a server whose clock is off by `skew`.
    pub(super) fn now(&self, skew: i64) -> u64 {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.base_ms.saturating_add(elapsed).saturating_add_signed(skew)
    }
}

#[derive(Debug)]
pub(super) struct Server {
    slot: Mutex<Slot>,
    clock: Clock,
    keep_versions: usize,
    pub(super) wake: Wake,
}

#[derive(Debug)]
struct Slot {
    state: ServerState,
    skew: i64,
    versions: VecDeque<ServerState>,
}

impl Server {
    pub(super) fn new(state: ServerState, clock: Clock, keep_versions: usize) -> Self {
        Self {
            wake: Wake::new(state.partitions()),
            slot: Mutex::new(Slot {
                state,
                skew: 0,
                versions: VecDeque::new(),
            }),
            clock,
            keep_versions,
        }
    }

    pub(super) fn write<R>(&self, operation: impl FnOnce(&mut ServerState, u64) -> R) -> R {
        let mut slot = self.slot.lock();
        let now = self.clock.now(slot.skew);
        if self.keep_versions > 0 {
            if slot.versions.len() >= self.keep_versions {
                slot.versions.pop_front();
            }
            let version = slot.state.clone();
            slot.versions.push_back(version);
        }
        operation(&mut slot.state, now)
    }

    pub(super) fn read<R>(&self, operation: impl FnOnce(&ServerState, u64) -> R) -> R {
        let slot = self.slot.lock();
        operation(&slot.state, self.clock.now(slot.skew))
    }

    pub(super) fn replace(&self, state: ServerState, life: Life, skew: i64) {
        {
            let mut slot = self.slot.lock();
            slot.state = ServerState { life, ..state };
            slot.skew = skew;
            slot.versions.clear();
        }
        self.wake.everyone();
    }

    pub(super) fn versions(&self) -> Vec<ServerState> {
        self.slot.lock().versions.iter().cloned().collect()
    }

    pub(super) fn set_skew(&self, skew: i64) {
        self.slot.lock().skew = skew;
    }

    pub(super) fn skew(&self) -> i64 {
        self.slot.lock().skew
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.now(self.skew())
    }
}

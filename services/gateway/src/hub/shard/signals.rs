//! What outboxes and handles tell a shard without waiting for it.
//!
//! Both ends must never block: a transport that waits for its shard while the shard waits for it would stand still.
//! So these are sets, bounded by the number of sessions, and a wake-up.

use indexmap::{IndexMap, IndexSet};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::hub::outbox::CloseReason;

/// A session's number within the process; its shard is this modulo the number of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::hub) struct SessionKey(pub(in crate::hub) u64);

#[derive(Debug, Default)]
struct Pending {
    gone: IndexMap<SessionKey, Option<CloseReason>>,
    drained: IndexSet<SessionKey>,
}

/// The sets of one shard.
#[derive(Debug, Default)]
pub(in crate::hub) struct Signals {
    pending: Mutex<Pending>,
    raised: Notify,
}

/// What was taken out at once.
#[derive(Debug, Default)]
pub(in crate::hub) struct Raised {
    pub(super) gone: IndexMap<SessionKey, Option<CloseReason>>,
    pub(super) drained: IndexSet<SessionKey>,
}

#[cfg(test)]
impl Raised {
    pub(in crate::hub) fn drained_count(&self) -> usize {
        self.drained.len()
    }
}

impl Signals {
    /// The session has ended; the first reason given counts.
    pub(in crate::hub) fn gone(&self, session: SessionKey, reason: Option<CloseReason>) {
        let mut pending = self.pending.lock();
        let known = pending.gone.entry(session).or_insert(reason);
        if known.is_none() {
            *known = reason;
        }
        drop(pending);
        self.raised.notify_one();
    }

    /// The session's outbox has room again.
    pub(in crate::hub) fn drained(&self, session: SessionKey) {
        self.pending.lock().drained.insert(session);
        self.raised.notify_one();
    }

    /// Waits until something was raised and takes all of it. Cancel safe.
    pub(in crate::hub) async fn take(&self) -> Raised {
        loop {
            let raised = self.raised.notified();
            {
                let mut pending = self.pending.lock();
                if !pending.gone.is_empty() || !pending.drained.is_empty() {
                    let Pending { gone, drained } = std::mem::take(&mut *pending);
                    return Raised { gone, drained };
                }
            }
            raised.await;
        }
    }
}

//! A count that tells what came first.
//!
//! A read is stamped when it is issued, a position when it moves. A position with an older stamp has not moved since
//! the read was issued, so what the read says of the past applies to it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A moment between events of this gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(u64);

/// Gives ticks.
#[derive(Clone, Debug, Default)]
pub(super) struct Ticks(Arc<AtomicU64>);

impl Ticks {
    /// The stamp of something that is issued now: later than every [`Ticks::now`] before it.
    pub(super) fn issue(&self) -> Tick {
        Tick(self.0.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// The stamp of something that happened now: earlier than what is issued after it.
    pub(super) fn now(&self) -> Tick {
        Tick(self.0.load(Ordering::SeqCst))
    }
}

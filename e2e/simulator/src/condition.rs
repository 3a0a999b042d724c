//! Processes that stand still.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

/// How a process is doing.
///
/// Not a `watch` channel: that wakes its waiters in an order of its own, and a seed would not replay.
#[derive(Debug)]
pub struct Condition {
    stalled: AtomicBool,
    resumed: Notify,
    /// How many times slower than others its calls are.
    pub slowness: u32,
}

impl Condition {
    /// A running process.
    pub fn new(slowness: u32) -> Arc<Self> {
        Arc::new(Self {
            stalled: AtomicBool::new(false),
            resumed: Notify::new(),
            slowness,
        })
    }

    /// Lets the process stand still at its next step, or go on.
    pub fn stall(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Relaxed);
        if !stalled {
            self.resumed.notify_waiters();
        }
    }

    /// Whether it stands still.
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    pub(crate) async fn running(&self) {
        while self.is_stalled() {
            self.resumed.notified().await;
        }
    }
}

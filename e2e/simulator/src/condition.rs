//! Processes that stand still, wholly or before one kind of call.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// A kind of call that a directed scenario holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A dispatcher records a batch that has messages.
    Record,
    /// A dispatcher writes to a gateway's channel.
    AppendChannel,
    /// A dispatcher writes down that a channel is parked.
    Park,
    /// A gateway adds routes.
    AddRoutes,
    /// A gateway reads its channel.
    ReadChannel,
}

#[derive(Debug)]
struct Hold {
    step: Step,
    reached: bool,
}

/// How a process is doing.
///
/// Not a `watch` channel: that wakes its waiters in an order of its own, and a seed would not replay.
#[derive(Debug)]
pub struct Condition {
    stalled: AtomicBool,
    /// When it started, or went on.
    runs_since: Mutex<Instant>,
    held: Mutex<Option<Hold>>,
    resumed: Notify,
    /// How many times slower than others its calls are.
    pub slowness: u32,
}

impl Condition {
    /// A running process.
    pub fn new(slowness: u32) -> Arc<Self> {
        Arc::new(Self {
            stalled: AtomicBool::new(false),
            runs_since: Mutex::new(Instant::now()),
            held: Mutex::new(None),
            resumed: Notify::new(),
            slowness,
        })
    }

    /// Lets the process stand still at its next step, or go on.
    pub fn stall(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Relaxed);
        if !stalled {
            *self.runs_since.lock() = Instant::now();
            self.resumed.notify_waiters();
        }
    }

    /// Whether it stands still.
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Whether it has been running for longer than this.
    pub(crate) fn runs_for(&self, time: Duration) -> bool {
        !self.is_stalled() && self.runs_since.lock().elapsed() > time
    }

    pub(crate) async fn running(&self) {
        while self.is_stalled() {
            self.resumed.notified().await;
        }
    }

    /// Holds back the next call of this kind, in place of whatever was held back.
    pub(crate) fn hold(&self, step: Step) {
        *self.held.lock() = Some(Hold { step, reached: false });
        self.resumed.notify_waiters();
    }

    /// Whether the process wants to make the call that is held back.
    pub(crate) fn is_held(&self) -> bool {
        self.held.lock().as_ref().is_some_and(|hold| hold.reached)
    }

    /// Holds nothing back any more.
    pub(crate) fn release(&self) {
        *self.held.lock() = None;
        self.resumed.notify_waiters();
    }

    /// Waits as long as a call of this kind is held back.
    pub(crate) async fn pass(&self, step: Step) {
        loop {
            let resumed = self.resumed.notified();
            match &mut *self.held.lock() {
                Some(hold) if hold.step == step => hold.reached = true,
                _ => return,
            }
            resumed.await;
        }
    }
}

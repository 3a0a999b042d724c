//! The drain: how a process ends without dropping what it holds.
//!
//! [`channel`] makes two halves. `main` keeps the [`Drain`]; everything that holds work gets a [`DrainWatch`], which
//! is cheap to clone and is threaded through the process like a context. Whoever has something that must be finished
//! takes a *hold* by name. When the drain starts, every watch hears of it, holders finish and drop their holds, and
//! `main` waits until none is left or the deadline passes. After the deadline the names of the remaining holders are
//! known, so the log can say who was late. (The idea is linkerd's.)
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use std::time::Duration;
//! let (drain, watch) = carillon_chassis::drain::channel();
//! let hold = watch.hold("sessions");
//! tokio::spawn(async move {
//!     watch.signaled().await;
//!     // … hand the sessions over …
//!     drop(hold);
//! });
//! drain.start(Duration::from_secs(30));
//! assert!(drain.finished().await.is_ok());
//! # });
//! ```

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

/// A drain and its first watch.
pub fn channel() -> (Drain, DrainWatch) {
    let shared = Arc::new(Shared {
        deadline: watch::Sender::new(None),
        holders: watch::Sender::default(),
    });
    (Drain(Arc::clone(&shared)), DrainWatch(shared))
}

struct Shared {
    /// Set once, when the drain starts.
    deadline: watch::Sender<Option<Instant>>,
    /// How many holds each name has; names without holds are not in it.
    holders: watch::Sender<BTreeMap<&'static str, usize>>,
}

/// The side of `main`: starts the drain and waits for its end.
#[derive(Clone)]
pub struct Drain(Arc<Shared>);

/// The side of everybody else.
#[derive(Clone)]
pub struct DrainWatch(Arc<Shared>);

/// Something that must be finished before the process may end. Dropping it says that it is.
#[must_use = "dropping a hold says that the work is done"]
pub struct DrainHold {
    shared: Arc<Shared>,
    name: &'static str,
}

/// The deadline passed with work unfinished.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the drain's deadline passed while {} was not done", .holders.join(", "))]
pub struct Unfinished {
    /// The names of those that still hold.
    pub holders: Vec<&'static str>,
}

impl Drain {
    /// Starts the drain, to be over after `patience`. Starting again changes nothing.
    pub fn start(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        self.0.deadline.send_if_modified(|current| {
            let first = current.is_none();
            current.get_or_insert(deadline);
            first
        });
    }

    /// When the drain will be over; `None` before it starts.
    pub fn deadline(&self) -> Option<Instant> {
        *self.0.deadline.borrow()
    }

    /// Waits, once the drain has started, until nothing is held any more or the deadline passes.
    pub async fn finished(&self) -> Result<(), Unfinished> {
        let watch = DrainWatch(Arc::clone(&self.0));
        let deadline = watch.signaled().await;
        let mut holders = self.0.holders.subscribe();
        let empty = holders.wait_for(BTreeMap::is_empty);
        match tokio::time::timeout_at(deadline, empty).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let holders: Vec<_> = self.0.holders.borrow().keys().copied().collect();
                if holders.is_empty() {
                    Ok(())
                } else {
                    Err(Unfinished { holders })
                }
            }
        }
    }
}

impl DrainWatch {
    /// Waits until the drain starts, and gives its deadline. Cancel safe.
    pub async fn signaled(&self) -> Instant {
        let mut deadline = self.0.deadline.subscribe();
        loop {
            if let Some(deadline) = *deadline.borrow_and_update() {
                return deadline;
            }
            if deadline.changed().await.is_err() {
                // Cannot be: `self` keeps the sender. Waiting is what a drain that never starts means.
                std::future::pending::<()>().await;
            }
        }
    }

    /// When the drain will be over; `None` before it starts.
    pub fn deadline(&self) -> Option<Instant> {
        *self.0.deadline.borrow()
    }

    /// Whether the drain has started.
    pub fn is_draining(&self) -> bool {
        self.deadline().is_some()
    }

    /// Makes the end of the process wait until the hold is dropped. Names are few and fixed: they are shown in the
    /// log if the deadline passes.
    pub fn hold(&self, name: &'static str) -> DrainHold {
        self.0
            .holders
            .send_modify(|holders| *holders.entry(name).or_default() += 1);
        DrainHold {
            shared: Arc::clone(&self.0),
            name,
        }
    }
}

impl Drop for DrainHold {
    fn drop(&mut self) {
        self.shared.holders.send_modify(|holders| {
            if let Some(count) = holders.get_mut(self.name) {
                *count -= 1;
                if *count == 0 {
                    holders.remove(self.name);
                }
            }
        });
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Drain")
            .field("holders", &*self.0.holders.borrow())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DrainWatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DrainWatch")
            .field("draining", &self.is_draining())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DrainHold {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("DrainHold").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_every_holder() {
        let (drain, watch) = channel();
        let holds = [
            watch.hold("sessions"),
            watch.hold("sessions"),
            watch.hold("batch"),
        ];
        let started = Instant::now();
        for (place, hold) in holds.into_iter().enumerate() {
            let watch = watch.clone();
            tokio::spawn(async move {
                watch.signaled().await;
                tokio::time::sleep(Duration::from_secs(place as u64 + 1)).await;
                drop(hold);
            });
        }
        assert!(!watch.is_draining());
        drain.start(Duration::from_secs(30));
        drain.start(Duration::from_secs(1));
        assert_eq!(
            watch.deadline(),
            Some(started + Duration::from_secs(30)),
            "the first start counts"
        );
        assert_eq!(drain.finished().await, Ok(()));
        assert_eq!(started.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_late_is_named_at_the_deadline() {
        let (drain, watch) = channel();
        let _late = watch.hold("sessions");
        drop(watch.hold("batch"));
        drain.start(Duration::from_secs(5));
        let unfinished = drain.finished().await.unwrap_err();
        assert_eq!(unfinished.holders, ["sessions"]);
        assert!(unfinished.to_string().contains("sessions was not done"));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_finishes_before_the_drain_starts() {
        let (drain, watch) = channel();
        let early = tokio::time::timeout(Duration::from_secs(3600), drain.finished()).await;
        assert!(early.is_err());
        drain.start(Duration::ZERO);
        watch.signaled().await;
        assert_eq!(drain.finished().await, Ok(()));
    }
}

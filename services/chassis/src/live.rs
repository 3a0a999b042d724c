//! A value that changes while it is used, such as the policy.
//!
//! Readers on the hot path take what holds now ([`Live::load`], no lock, no waiting); those that must act on a change
//! subscribe. Whoever gets new values keeps the [`LiveWriter`]: the policy file's watcher, or what reads the
//! operator's snapshot from the broker.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

/// A live value and the one handle that can change it.
pub fn live<T: Send + Sync + 'static>(initial: T) -> (LiveWriter<T>, Live<T>) {
    let initial = Arc::new(initial);
    let current = Arc::new(ArcSwap::new(Arc::clone(&initial)));
    let (sender, changes) = watch::channel(initial);
    (
        LiveWriter {
            current: Arc::clone(&current),
            sender,
        },
        Live { current, changes },
    )
}

/// Reads a value that may change. Cheap to clone.
#[derive(Debug)]
pub struct Live<T> {
    current: Arc<ArcSwap<T>>,
    changes: watch::Receiver<Arc<T>>,
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self {
            current: Arc::clone(&self.current),
            changes: self.changes.clone(),
        }
    }
}

impl<T: Send + Sync + 'static> Live<T> {
    /// A value that never changes.
    pub fn fixed(value: T) -> Self {
        live(value).1
    }

    /// What holds now. Take it once per decision, so that one decision sees one value.
    pub fn load(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Tells of every change from now on. Its `changed()` fails when the writer is gone and nothing can change any more.
    pub fn subscribe(&self) -> watch::Receiver<Arc<T>> {
        let mut changes = self.changes.clone();
        changes.mark_unchanged();
        changes
    }
}

/// Changes a [`Live`] value.
#[derive(Debug)]
pub struct LiveWriter<T> {
    current: Arc<ArcSwap<T>>,
    sender: watch::Sender<Arc<T>>,
}

impl<T: Send + Sync + 'static> LiveWriter<T> {
    /// Puts a new value in place of the old one, for all readers at once.
    pub fn replace(&self, value: T) {
        let value = Arc::new(value);
        self.current.store(Arc::clone(&value));
        self.sender.send_replace(value);
    }

    /// What holds now.
    pub fn load(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Waits until nobody reads the value any more.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readers_and_subscribers_see_the_same() {
        let (writer, value) = live(1);
        let mut changes = value.subscribe();
        assert!(!changes.has_changed().unwrap());
        writer.replace(2);
        changes.changed().await.unwrap();
        assert_eq!(
            (**changes.borrow_and_update(), *value.load(), *writer.load()),
            (2, 2, 2)
        );
        drop(writer);
        assert!(changes.changed().await.is_err());
        assert_eq!(*value.load(), 2, "what held still holds");
        assert_eq!(*Live::fixed(7).load(), 7);
    }
}

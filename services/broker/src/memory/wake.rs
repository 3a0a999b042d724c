//! Wakes blocking reads when something was written that they may wait for.

use std::{collections::BTreeMap, time::Duration};

use carillon_model::Partition;
use tokio::{
    sync::{Notify, futures::Notified},
    time::timeout,
};

/// Who waits on a server. A wake-up only says "look again".
#[derive(Debug, Default)]
pub(super) struct Wake {
    queues: BTreeMap<Partition, Notify>,
    channels: Notify,
}

impl Wake {
    pub(super) fn new(partitions: impl Iterator<Item = Partition>) -> Self {
        Self {
            queues: partitions.map(|partition| (partition, Notify::new())).collect(),
            channels: Notify::new(),
        }
    }

    /// Entries came into a partition's queue.
    pub(super) fn queue(&self, partition: Partition) {
        if let Some(waiting) = self.queues.get(&partition) {
            waiting.notify_waiters();
        }
    }

    /// Entries came into a channel.
    pub(super) fn channels(&self) {
        self.channels.notify_waiters();
    }

    /// Anything may have changed.
    pub(super) fn everyone(&self) {
        for waiting in self.queues.values() {
            waiting.notify_waiters();
        }
        self.channels();
    }

    /// A future that completes when entries come into the partition's queue after this call.
    pub(super) fn of_queue(&self, partition: Partition) -> Notified<'_> {
        self.queues.get(&partition).unwrap_or(&self.channels).notified()
    }

    /// A future that completes when entries come into any channel after this call.
    pub(super) fn of_channels(&self) -> Notified<'_> {
        self.channels.notified()
    }
}

/// Tries at once, then after every wake-up, until there is an answer or the time is up.
pub(super) async fn until<'a, T>(
    block: Duration,
    listen: impl Fn() -> Notified<'a>,
    mut attempt: impl FnMut() -> Option<T>,
) -> Option<T> {
    let attempts = async {
        loop {
            // Listening starts before looking, so that what is written in between wakes us.
            let mut written = std::pin::pin!(listen());
            written.as_mut().enable();
            if let Some(answer) = attempt() {
                return answer;
            }
            written.await;
        }
    };
    timeout(block, attempts).await.ok()
}

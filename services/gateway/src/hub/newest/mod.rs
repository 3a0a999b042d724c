//! Reads the newest messages of rooms, for clients that look back: with `history`, and with joins that rewind.
//!
//! A shard asks for sessions that it has authorized, for each of them one at a time. While a read is on its way,
//! everybody who asks for the same meanwhile is served by the next. Reads are bounded in number, entries and bytes, and
//! in bytes per second; requests that wait are bounded in number and time. One that can't be served is refused, and no
//! other waits for it.

mod budget;
mod requests;

use std::{sync::Arc, time::Duration};

use carillon_broker::{NewestPage, NewestQuery, Rooms, SharedBroker};
use carillon_model::{Message, PartitionCount};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Notify;

pub(super) use self::requests::{Look, NewestRequests};
use self::{budget::Budget, requests::Asked};
use super::{
    HubSettings,
    delivery::Delivery,
    metrics::HubMetrics,
    session::{Refusal, RefusalCode},
    shard::{Answer, SessionKey, Shards},
    slots::ReadSlots,
    standing::Standing,
    wake::sleep_until,
};

/// Tries of a read whose server turned out to be another than the known one.
const TRIES: u32 = 4;

/// What became of a read, for all sessions that asked.
#[derive(Debug)]
pub(super) struct Found {
    /// What was read.
    pub(super) look: Look,
    /// Of all shards.
    pub(super) sessions: Vec<SessionKey>,
    /// Newest first.
    pub(super) outcome: Result<Vec<Arc<Delivery>>, Refusal>,
}

/// The reading task.
pub(super) struct NewestReader {
    pub(super) broker: SharedBroker,
    pub(super) partitions: PartitionCount,
    pub(super) requests: Arc<NewestRequests>,
    pub(super) standing: Standing,
    pub(super) shards: Shards,
    pub(super) settings: HubSettings,
    pub(super) metrics: HubMetrics,
    /// Raised when an answer came from a life that is not the known one.
    pub(super) look_at_lives: Arc<Notify>,
}

struct Read {
    look: Look,
    asked: Asked,
    bytes: usize,
    outcome: Result<Vec<Arc<Delivery>>, Refusal>,
}

impl NewestReader {
    /// Runs until the gateway ends.
    pub(super) async fn run(self) {
        let mut slots: ReadSlots<Look> = ReadSlots::new(self.settings.newest_reads);
        let mut budget = Budget::new(self.settings.newest_bytes_per_second);
        let mut reads = FuturesUnordered::new();
        loop {
            let changed = self.requests.changed.notified();
            while budget.opens().is_none() {
                let partition_of = |look: &Look| self.partitions.partition_of(&look.room);
                let Some((look, asked)) = self
                    .requests
                    .take(|look| slots.may_start(look, partition_of(look)))
                else {
                    break;
                };
                if asked.since.elapsed() >= self.settings.newest_patience {
                    let refusal = Refusal::new(
                        RefusalCode::Unavailable,
                        "the history could not be read in time; try again later",
                    );
                    self.answer(look, asked, Err(refusal)).await;
                    continue;
                }
                slots.start(look.clone(), partition_of(&look));
                reads.push(self.read(look, asked));
            }
            tokio::select! {
                biased;
                Some(read) = reads.next() => {
                    let Read { look, asked, bytes, outcome } = read;
                    slots.end(&look, outcome.is_ok());
                    budget.spend(bytes);
                    self.answer(look, asked, outcome).await;
                }
                () = changed => {}
                () = sleep_until(budget.opens()) => {}
            }
        }
    }

    async fn answer(&self, look: Look, asked: Asked, outcome: Result<Vec<Arc<Delivery>>, Refusal>) {
        let result = match outcome {
            Ok(_) => "answered",
            Err(_) => "unavailable",
        };
        let (sessions, shards) = asked.sessions();
        self.metrics
            .history_requests
            .with_label_values(&[result])
            .inc_by(sessions.len() as u64);
        let found = Arc::new(Found {
            look,
            sessions,
            outcome,
        });
        self.shards
            .answer_all(shards, || Answer::Newest(Arc::clone(&found)))
            .await;
    }

    async fn read(&self, look: Look, asked: Asked) -> Read {
        let (bytes, outcome) = match self.page(&look, asked.entries).await {
            Ok(page) => {
                let bytes = page.items.iter().map(|item| item.message.len()).sum();
                (bytes, Ok(self.deliveries(&look, page)))
            }
            Err(refusal) => (0, Err(refusal)),
        };
        Read {
            look,
            asked,
            bytes,
            outcome,
        }
    }

    async fn page(&self, look: &Look, entries: usize) -> Result<NewestPage, Refusal> {
        let partition = self.partitions.partition_of(&look.room);
        let query = NewestQuery {
            below: look.below,
            entries,
            bytes: self.settings.newest_bytes,
        };
        let mut pause = Duration::from_millis(20);
        for _ in 0..TRIES {
            let view = self.standing.view();
            match Rooms::read_newest(&*self.broker, &look.room, query).await {
                Ok(page) if Some(&page.partition.life) == view.life(partition) => {
                    self.metrics.newest_reads.inc();
                    return Ok(page);
                }
                // From an old primary, or from a new one that the watch has not seen yet.
                Ok(_) => self.look_at_lives.notify_one(),
                Err(error) => {
                    tracing::debug!(room = %look.room, %error, "reading the newest messages failed");
                    self.metrics
                        .broker_errors
                        .with_label_values(&[error.kind()])
                        .inc();
                    let message = format!("the history can't be read at the moment: {error}");
                    return Err(Refusal::new(RefusalCode::Unavailable, message));
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        let message = "Redis is failing over; try again in a moment";
        Err(Refusal::new(RefusalCode::Unavailable, message))
    }

    /// What can be read of it, newest first.
    fn deliveries(&self, look: &Look, page: NewestPage) -> Vec<Arc<Delivery>> {
        let decoded = page.items.into_iter().filter_map(|item| {
            let delivery = Message::decode(item.message)
                .map_err(|error| error.to_string())
                .and_then(|message| {
                    Delivery::new(look.room.clone(), item.offset, Some(item.prev), message)
                        .map_err(|error| error.to_string())
                });
            match delivery {
                Ok(delivery) => Some(Arc::new(delivery)),
                Err(error) => {
                    tracing::warn!(room = %look.room, offset = %item.offset, error, "a history entry can't be read; it is left out");
                    self.metrics.unreadable.inc();
                    None
                }
            }
        });
        decoded.collect()
    }
}

//! Reads histories for all shards of a gateway, one read per room at a time.
//!
//! Catch-ups of one room share their reads: while one is on its way, everybody who asks meanwhile is served by the
//! next, which starts at the least cursor asked for. A storm of reconnects so costs Redis two reads per room.

use std::{sync::Arc, time::Duration};

use carillon_broker::{HistoryPage, HistoryQuery, Rooms, SharedBroker};
use carillon_model::{Message, Offset, PartitionCount, Room};
use futures::stream::{FuturesUnordered, StreamExt};
use indexmap::IndexMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    HubSettings,
    metrics::HubMetrics,
    outbox::Delivery,
    shard::{Answer, Shards},
    standing::{Epoch, Standing},
    ticks::{Tick, Ticks},
};

/// A page as shards use it.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) room: Room,
    /// It has everything above this.
    pub(super) after: Offset,
    /// When it was issued.
    pub(super) issued: Tick,
    /// In which epoch it was issued.
    pub(super) epoch: Epoch,
    pub(super) items: Vec<Arc<Delivery>>,
    /// Where it ends, also if its last entries could not be decoded.
    pub(super) read: HistoryPage,
}

impl Page {
    /// The longest end of the page in which every prev leads to the message before, and nothing was lost.
    pub(super) fn without_breaks(&self) -> &[Arc<Delivery>] {
        let linked =
            |pair: &[Arc<Delivery>]| matches!(pair, [before, after] if after.prev <= Some(before.offset));
        let above = |place: Option<usize>| place.map_or(0, |place| place + 1);
        let from_break = above(self.items.windows(2).rposition(|pair| !linked(pair)));
        let from_gap = above(self.items.iter().rposition(|item| item.gap.is_some()));
        self.items.get(from_break.max(from_gap)..).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Wanted {
    after: Offset,
    shards: u64,
}

/// Where shards leave what they want to read.
#[derive(Debug, Default)]
pub(super) struct HistoryRequests {
    wanted: Mutex<IndexMap<Room, Wanted>>,
    changed: Notify,
}

impl HistoryRequests {
    /// Asks for a page above `after`. Never waits; bounded by the number of rooms.
    pub(super) fn want(&self, room: &Room, after: Offset, shard: usize) {
        let mut wanted = self.wanted.lock();
        match wanted.get_mut(room) {
            Some(already) => {
                already.after = already.after.min(after);
                already.shards |= 1 << shard;
            }
            None => {
                wanted.insert(
                    room.clone(),
                    Wanted {
                        after,
                        shards: 1 << shard,
                    },
                );
            }
        }
        drop(wanted);
        self.changed.notify_one();
    }

    /// Takes a request whose room is not being read already.
    fn take(&self, busy: &IndexMap<Room, ()>) -> Option<(Room, Wanted)> {
        let mut wanted = self.wanted.lock();
        let place = wanted.keys().position(|room| !busy.contains_key(room))?;
        wanted.shift_remove_index(place)
    }
}

/// The reading task.
pub(super) struct HistoryReader {
    pub(super) broker: SharedBroker,
    pub(super) partitions: PartitionCount,
    pub(super) requests: Arc<HistoryRequests>,
    pub(super) standing: Standing,
    pub(super) ticks: Ticks,
    pub(super) shards: Shards,
    pub(super) settings: HubSettings,
    pub(super) metrics: HubMetrics,
    /// Raised when an answer came from a life that is not the known one.
    pub(super) look_at_lives: Arc<Notify>,
}

impl HistoryReader {
    /// Runs until the gateway ends.
    pub(super) async fn run(self) {
        let mut busy: IndexMap<Room, ()> = IndexMap::new();
        let mut reads = FuturesUnordered::new();
        loop {
            let changed = self.requests.changed.notified();
            while reads.len() < self.settings.concurrent_reads {
                let Some((room, wanted)) = self.requests.take(&busy) else {
                    break;
                };
                busy.insert(room.clone(), ());
                reads.push(self.read(room, wanted));
            }
            tokio::select! {
                biased;
                Some((page, shards)) = reads.next() => {
                    busy.swap_remove(&page.room);
                    self.shards.answer_all(shards, || Answer::Page(Arc::clone(&page))).await;
                }
                () = changed => {}
            }
        }
    }

    /// Reads one page, however long Redis is away.
    async fn read(&self, room: Room, wanted: Wanted) -> (Arc<Page>, u64) {
        let partition = self.partitions.partition_of(&room);
        let query = HistoryQuery {
            after: Some(wanted.after),
            entries: self.settings.page_entries,
            bytes: self.settings.page_bytes,
        };
        let mut pause = Duration::from_millis(20);
        loop {
            let view = self.standing.view();
            let (epoch, issued) = (view.epoch(partition), self.ticks.issue());
            match Rooms::read_history(&*self.broker, &room, query).await {
                Ok(read) if Some(&read.partition.life) == view.life(partition) => {
                    self.metrics.history_reads.inc();
                    let items = self.deliveries(&room, &read);
                    let page = Page {
                        room,
                        after: wanted.after,
                        issued,
                        epoch,
                        items,
                        read,
                    };
                    return (Arc::new(page), wanted.shards);
                }
                // From an old primary, or from a new one that the watch has not seen yet.
                Ok(_) => self.look_at_lives.notify_one(),
                Err(error) => {
                    tracing::debug!(%room, %error, "reading history failed; trying again");
                    self.metrics
                        .broker_errors
                        .with_label_values(&[error.kind()])
                        .inc();
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    fn deliveries(&self, room: &Room, read: &HistoryPage) -> Vec<Arc<Delivery>> {
        let decoded = read.items.iter().filter_map(|item| {
            let (of, prev) = (room.clone(), Some(item.prev));
            let delivery = match item.gap {
                Some(gap) => Delivery::of_gap(of, item.offset, prev, gap),
                None => Message::decode(item.message.clone())
                    .map_err(|error| error.to_string())
                    .and_then(|message| {
                        Delivery::new(of, item.offset, prev, message).map_err(|error| error.to_string())
                    }),
            };
            match delivery {
                Ok(delivery) => Some(Arc::new(delivery)),
                Err(error) => {
                    tracing::warn!(%room, offset = %item.offset, error, "a history entry can't be read; it is passed over and told");
                    self.metrics.unreadable.inc();
                    None
                }
            }
        });
        decoded.collect()
    }
}

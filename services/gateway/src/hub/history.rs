//! Reads histories for all shards of a gateway, one read per room at a time.
//!
//! Catch-ups of one room share their reads: while one is on its way, everybody who asks meanwhile is served by the
//! next, which starts at the least cursor asked for. A storm of reconnects so costs Redis two reads per room.
//!
//! A read that failed is tried again after a pause, in which it holds up no other room. One that can never succeed
//! (its history holds what can't be read) is answered with where the room stands and no entries: its sessions are told
//! that something is missing, and go on.

use std::{sync::Arc, time::Duration};

use carillon_broker::{BrokerError, HistoryPage, HistoryQuery, Rooms, SharedBroker};
use carillon_model::{Message, Offset, PartitionCount, Room};
use futures::stream::{FuturesUnordered, StreamExt};
use indexmap::IndexMap;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{
    HubSettings,
    delivery::Delivery,
    health::{HubHealth, Source},
    metrics::HubMetrics,
    shard::{Answer, Shards},
    slots::ReadSlots,
    standing::{Epoch, Standing},
    ticks::{Tick, Ticks},
    wake::sleep_until,
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
    /// The last read failed: no other before this, and how long the pause after the next failure is.
    not_before: Option<Instant>,
    pause: Duration,
}

/// The pause after the first failure, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Where shards leave what they want to read.
#[derive(Debug, Default)]
pub(super) struct HistoryRequests {
    wanted: Mutex<IndexMap<Room, Wanted>>,
    changed: Notify,
}

impl HistoryRequests {
    /// Asks for a page above `after`. Never waits; bounded by the number of rooms.
    pub(super) fn want(&self, room: &Room, after: Offset, shard: usize) {
        let wanted = Wanted {
            after,
            shards: 1 << shard,
            not_before: None,
            pause: FIRST_PAUSE,
        };
        self.add(room.clone(), wanted);
        self.changed.notify_one();
    }

    /// Puts back what could not be read, for after its pause.
    fn again(&self, room: Room, failed: Wanted) {
        self.add(
            room,
            Wanted {
                not_before: Some(Instant::now() + failed.pause),
                pause: (failed.pause * 2).min(LONGEST_PAUSE),
                ..failed
            },
        );
    }

    fn add(&self, room: Room, more: Wanted) {
        let mut all = self.wanted.lock();
        match all.get_mut(&room) {
            Some(already) => {
                already.after = already.after.min(more.after);
                already.shards |= more.shards;
                already.not_before = already.not_before.max(more.not_before);
                already.pause = already.pause.max(more.pause);
            }
            None => {
                all.insert(room, more);
            }
        }
    }

    /// Takes a request that is due and may be read now.
    fn take(&self, may_start: impl Fn(&Room) -> bool) -> Option<(Room, Wanted)> {
        let now = Instant::now();
        let mut all = self.wanted.lock();
        let place = all.iter().position(|(room, wanted)| {
            wanted.not_before.is_none_or(|not_before| not_before <= now) && may_start(room)
        })?;
        all.shift_remove_index(place)
    }

    /// When the next pause ends.
    fn next_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let all = self.wanted.lock();
        let pauses = all.values().filter_map(|wanted| wanted.not_before);
        pauses.filter(|not_before| *not_before > now).min()
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
    pub(super) health: HubHealth,
    /// Raised when an answer came from a life that is not the known one.
    pub(super) look_at_lives: Arc<Notify>,
}

impl HistoryReader {
    /// Runs until the gateway ends.
    pub(super) async fn run(self) {
        let mut slots: ReadSlots<Room> = ReadSlots::new(self.settings.concurrent_reads);
        let mut reads = FuturesUnordered::new();
        loop {
            let changed = self.requests.changed.notified();
            let partition_of = |room: &Room| self.partitions.partition_of(room);
            while let Some((room, wanted)) = self
                .requests
                .take(|room| slots.may_start(room, partition_of(room)))
            {
                slots.start(room.clone(), partition_of(&room));
                reads.push(self.read(room, wanted));
            }
            let due = self.requests.next_due();
            tokio::select! {
                biased;
                Some((room, wanted, read)) = reads.next() => {
                    slots.end(&room, read.is_some());
                    match read {
                        Some(page) => {
                            let page = Arc::new(page);
                            self.shards.answer_all(wanted.shards, || Answer::Page(Arc::clone(&page))).await;
                        }
                        None => self.requests.again(room, wanted),
                    }
                }
                () = changed => {}
                () = sleep_until(due) => {}
            }
        }
    }

    /// Reads one page; without one it is to be tried again.
    async fn read(&self, room: Room, wanted: Wanted) -> (Room, Wanted, Option<Page>) {
        let query = HistoryQuery {
            after: Some(wanted.after),
            entries: self.settings.page_entries,
            bytes: self.settings.page_bytes,
        };
        let page = match self.page(&room, wanted.after, query).await {
            Err(error) if error.needs_help() || matches!(error, BrokerError::Unstorable(_)) => {
                tracing::warn!(%room, %error, "a history can't be read; its sessions are told that something is missing");
                let stand = HistoryQuery { after: None, ..query };
                self.page(&room, wanted.after, stand).await
            }
            page => page,
        };
        (room, wanted, page.ok().flatten())
    }

    /// `None`: the answer is of another server than the known one.
    async fn page(
        &self,
        room: &Room,
        after: Offset,
        query: HistoryQuery,
    ) -> Result<Option<Page>, BrokerError> {
        let partition = self.partitions.partition_of(room);
        let view = self.standing.view();
        let (epoch, issued) = (view.epoch(partition), self.ticks.issue());
        let read = Rooms::read_history(&*self.broker, room, query).await;
        let read = read.inspect_err(|error| {
            tracing::debug!(%room, %error, "reading history failed");
            self.metrics
                .broker_errors
                .with_label_values(&[error.kind()])
                .inc();
        })?;
        if Some(&read.partition.life) != view.life(partition) {
            // From an old primary, or from a new one that the watch has not seen yet.
            self.health.identity_differs(Source::Partition(partition));
            self.look_at_lives.notify_one();
            return Ok(None);
        }
        self.health.identity_fits(Source::Partition(partition));
        self.metrics.history_reads.inc();
        let items = self.deliveries(room, &read);
        Ok(Some(Page {
            room: room.clone(),
            after,
            issued,
            epoch,
            items,
            read,
        }))
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

//! Reads this incarnation's channel and hands its frames to the shards that hold their rooms.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use carillon_broker::{ChannelItem, ChannelRead, ChannelReader, Channels, SharedBroker};
use carillon_model::{Gap, Message, Offset, Partition, PartitionCount, Room, wire};
use prost::Message as _;
use tokio::sync::Notify;

use super::{
    HubSettings,
    delivery::Delivery,
    health::{HubHealth, Source},
    metrics::HubMetrics,
    route_table::RouteTable,
    shard::Shards,
    standing::Standing,
    traces::{Arrival, DeliverSpan},
};

/// The reading task.
pub(super) struct ChannelTask {
    pub(super) broker: SharedBroker,
    pub(super) partitions: PartitionCount,
    pub(super) standing: Standing,
    pub(super) shards: Shards,
    pub(super) routes: Arc<RouteTable>,
    pub(super) settings: HubSettings,
    pub(super) metrics: HubMetrics,
    pub(super) health: HubHealth,
    pub(super) look_at_lives: Arc<Notify>,
}

/// Entries per read: a batch is queued whole before writers run.
const ENTRIES_PER_READ: usize = 64;

impl ChannelTask {
    /// Runs until the gateway ends.
    pub(super) async fn run(self) {
        let mut views = self.standing.watch();
        loop {
            let incarnation = views.borrow_and_update().incarnation.clone();
            match Channels::open_channel(&*self.broker, &incarnation).await {
                Ok(reader) => {
                    tokio::select! {
                        biased;
                        () = self.read(reader) => {
                            // The next reader does not know where this one stood, so it could not tell a loss.
                            self.catch_up_all();
                        }
                        () = another_incarnation(&mut views, &incarnation) => {}
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "opening the channel failed; trying again");
                    self.metrics
                        .broker_errors
                        .with_label_values(&[error.kind()])
                        .inc();
                    tokio::time::sleep(self.settings.retry).await;
                }
            }
        }
    }

    /// Reads until a read hangs.
    async fn read(&self, mut reader: Box<dyn ChannelReader>) {
        let block = self.settings.channel_block;
        loop {
            let read = tokio::time::timeout(
                block + self.settings.watchdog,
                reader.read(ENTRIES_PER_READ, block),
            );
            match read.await {
                Ok(Ok(read)) => self.take(read).await,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "reading the channel failed; trying again");
                    self.metrics
                        .broker_errors
                        .with_label_values(&[error.kind()])
                        .inc();
                    tokio::time::sleep(self.settings.retry.min(Duration::from_millis(100))).await;
                }
                Err(_) => {
                    tracing::warn!("a read of the channel neither answered nor failed in time; reading anew");
                    return;
                }
            }
        }
    }

    async fn take(&self, read: ChannelRead) {
        if self
            .standing
            .view()
            .channel_life()
            .is_some_and(|known| *known != read.life)
        {
            // Not from the primary that is known: that is no proof that messages arrive.
            self.health.identity_differs(Source::Channel);
            self.look_at_lives.notify_one();
        } else {
            self.health.identity_fits(Source::Channel);
            self.health.channel_was_read();
        }
        if read.lost {
            tracing::warn!("the channel lost entries with its server; catching every room up");
            self.metrics.channels_lost.inc();
            self.catch_up_all();
        }
        for item in read.items {
            match item {
                ChannelItem::Entry(entry) => self.entry(entry).await,
                ChannelItem::Overrun => {
                    tracing::warn!("the channel was over its limit and was emptied; catching every room up");
                    self.metrics.overruns.inc();
                    self.catch_up_all();
                }
            }
        }
    }

    fn catch_up_all(&self) {
        self.routes.reassert(self.partitions.partitions());
    }

    async fn entry(&self, entry: Bytes) {
        let entry = match wire::ChannelEntry::decode(entry) {
            Ok(entry) => entry,
            Err(error) => {
                tracing::warn!(%error, "a channel entry can't be read; catching every room up");
                self.metrics.unreadable.inc();
                self.catch_up_all();
                return;
            }
        };
        for probe in entry.probes {
            self.metrics.probe_arrived();
            self.health
                .probe_arrived(probe.offset.map(Offset::from).unwrap_or_default());
        }
        if !entry.partition_gaps.is_empty() {
            let gaps = entry.partition_gaps.iter().filter_map(|partition| {
                let partition = u16::try_from(*partition).ok().map(Partition)?;
                (partition.0 < self.partitions.get()).then_some(partition)
            });
            // What the partition lost nobody knows: every room of it hears so with its route.
            self.routes.reassert(gaps);
        }
        let mut per_shard: Vec<Vec<Arrival>> = vec![Vec::new(); self.shards.count()];
        for frame in entry.frames {
            self.metrics.frames.inc();
            let Some(arrival) = self.arrival(frame) else {
                continue;
            };
            let shards = self.routes.shards_of(&arrival.delivery.room);
            if let Some(span) = &arrival.span {
                span.through(shards.count_ones());
            }
            if shards == 0 {
                self.metrics.frames_unheld.inc();
            }
            for (shard, frames) in per_shard.iter_mut().enumerate() {
                if shards & (1 << shard) != 0 {
                    frames.push(arrival.clone());
                }
            }
        }
        for (shard, frames) in per_shard.into_iter().enumerate() {
            if !frames.is_empty() {
                self.shards.deliver(shard, frames).await;
            }
        }
    }

    /// An unreadable frame is a hole: the next one's prev finds it.
    fn arrival(&self, frame: wire::Frame) -> Option<Arrival> {
        let offset = frame.offset.map(Offset::from)?;
        let hop = frame.traceparent;
        if let Some(gap) = &frame.gap {
            let (room, prev) = (Room::new(&frame.room).ok()?, frame.prev.map(Offset::from));
            let delivery = Delivery::of_gap(room, offset, prev, Gap::from(gap)).ok()?;
            return Some(Arrival {
                delivery: Arc::new(delivery),
                span: None,
            });
        }
        let made = Room::new(&frame.room)
            .map_err(|error| error.to_string())
            .and_then(|room| {
                Ok((
                    room,
                    Message::decode(frame.message).map_err(|error| error.to_string())?,
                ))
            })
            .and_then(|(room, message)| {
                Delivery::new(room, offset, frame.prev.map(Offset::from), message)
                    .map_err(|error| error.to_string())
            });
        match made {
            Ok(mut delivery) => {
                self.metrics.arrived(delivery.message.accepted_at);
                let traceparent = match hop.as_str() {
                    "" => delivery.message.traceparent.as_str(),
                    hop => hop,
                };
                let gateway = || self.standing.view().incarnation.clone();
                let span = DeliverSpan::begin(traceparent, &delivery.room, offset, gateway);
                delivery.trace = span.as_ref().map(DeliverSpan::carried);
                Some(Arrival {
                    delivery: Arc::new(delivery),
                    span: span.map(Arc::new),
                })
            }
            Err(error) => {
                tracing::warn!(%offset, error, "a message can't be read; it is passed over");
                self.metrics.unreadable.inc();
                None
            }
        }
    }
}

async fn another_incarnation(
    views: &mut tokio::sync::watch::Receiver<Arc<super::standing::View>>,
    present: &carillon_broker::Incarnation,
) {
    if views.wait_for(|view| view.incarnation != *present).await.is_err() {
        std::future::pending::<()>().await;
    }
}

//! A batch goes into the channels of the gateways that hold its rooms, except for those that do not answer.

use carillon_broker::{BrokerError, ChannelAppend, Incarnation, LeaseName, RecordOutcome};
use futures::{StreamExt as _, stream};
use tokio::time::Instant;
use tracing::{debug, info};

use super::{
    Interruption, Owner,
    batch::{Batch, Entry},
    frames::{self, Parcel},
    traces::BatchTrace,
};

/// What became of a batch's parcels.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Messages put into channels.
    pub(super) frames: usize,
    /// Channels that they were for.
    pub(super) gateways: usize,
    /// Channels that got nothing: this must be written down before the batch is acknowledged.
    pub(super) parked: Vec<Incarnation>,
}

/// What became of one parcel.
#[derive(Debug)]
enum Delivery {
    /// The channel took it, or needs it no more.
    Done(usize),
    /// The channel was parked before.
    Parked,
    /// The channel has not answered for too long.
    Silent(BrokerError),
}

impl Owner {
    /// Step 2. It is over when every channel has answered or is to be parked.
    pub(super) async fn send(
        &self,
        batch: &Batch,
        recorded: &RecordOutcome,
        trace: Option<&BatchTrace>,
    ) -> Result<Sent, Interruption> {
        let living = if batch.marks_the_partition() {
            self.shared.gateways_for_marker().await
        } else if batch.is_for_all() {
            self.shared.gateways().await
        } else {
            Vec::new()
        };
        let parcels = frames::parcels(batch, &recorded.entries, &recorded.routes, &living, trace);
        let mut sent = Sent {
            gateways: parcels.len(),
            ..Sent::default()
        };
        let mut silent = Vec::new();
        for (parcel, delivery) in parcels.iter().zip(self.send_all(batch, &parcels).await?) {
            match delivery {
                Delivery::Done(frames) => sent.frames += frames,
                Delivery::Parked => sent.parked.push(parcel.gateway.clone()),
                Delivery::Silent(error) => {
                    debug!(partition = %self.partition, gateway = %parcel.gateway, %error, "a channel does not answer");
                    silent.push(parcel);
                }
            }
        }
        if !silent.is_empty() {
            // Where the partition's own server was away as well, a channel that answers now is better than a parked one.
            self.must_answer().await?;
            for (parcel, delivery) in silent
                .iter()
                .zip(self.send_all(batch, silent.iter().copied()).await?)
            {
                match delivery {
                    Delivery::Done(frames) => sent.frames += frames,
                    Delivery::Parked | Delivery::Silent(_) => sent.parked.push(parcel.gateway.clone()),
                }
            }
        }
        self.count_withheld(batch, &parcels, &sent.parked);
        Ok(sent)
    }

    async fn send_all<'a>(
        &self,
        batch: &Batch,
        parcels: impl IntoIterator<Item = &'a Parcel>,
    ) -> Result<Vec<Delivery>, Interruption> {
        let sends: Vec<_> = parcels
            .into_iter()
            .map(|parcel| self.send_one(batch, parcel))
            .collect();
        let deliveries: Vec<Result<Delivery, BrokerError>> = stream::iter(sends)
            .buffered(self.shared.settings.channels_at_once.max(1))
            .collect()
            .await;
        Ok(deliveries.into_iter().collect::<Result<_, _>>()?)
    }

    async fn send_one(&self, batch: &Batch, parcel: &Parcel) -> Result<Delivery, BrokerError> {
        let (broker, settings) = (&self.shared.broker, &self.shared.settings);
        let gateway = &parcel.gateway;
        if self.parking.holds(gateway) {
            if self.parking.is_given_up(gateway, settings.alive_for) {
                // It is told to catch up before it gets anything again, and adds its routes anew then.
                self.remove_routes(batch, parcel).await?;
            }
            return Ok(Delivery::Parked);
        }
        let began = Instant::now();
        let append = broker.append_channel(gateway, parcel.entry.clone(), settings.channel_bytes);
        let outcome = self
            .shared
            .call_within(settings.channel_patience, "append_channel", append)
            .await;
        self.shared
            .metrics
            .channel_append(outcome.as_ref().map(|outcome| *outcome).map_err(|_| ()));
        match outcome {
            Ok(ChannelAppend::Kept) => Ok(Delivery::Done(parcel.frames)),
            Ok(ChannelAppend::Overrun) => {
                info!(%gateway, "the channel was full; its gateway catches up from history");
                Ok(Delivery::Done(0))
            }
            Ok(ChannelAppend::Dead) => {
                self.remove_routes(batch, parcel).await?;
                Ok(Delivery::Done(0))
            }
            // A channel that says no is not silent: somebody has to help it.
            Err(
                error @ (BrokerError::Unavailable(_) | BrokerError::NotWritable(_) | BrokerError::Unknown(_)),
            ) if self.parking.failed(gateway, began).elapsed() >= settings.channel_patience => {
                Ok(Delivery::Silent(error))
            }
            Err(error) => Err(error),
        }
    }

    async fn remove_routes(&self, batch: &Batch, parcel: &Parcel) -> Result<(), BrokerError> {
        let (rooms, gateway) = (parcel.rooms(batch), &parcel.gateway);
        if !rooms.is_empty() {
            debug!(%gateway, rooms = rooms.len(), "removing routes of a dead gateway");
            let remove = self.shared.broker.remove_routes(self.partition, &rooms, gateway);
            self.shared.call("remove_routes", remove).await?;
            self.shared.metrics.dead_routes.inc_by(rooms.len() as u64);
        }
        Ok(())
    }

    /// The partition's own server answers, and the partition is still this owner's.
    async fn must_answer(&self) -> Result<(), Interruption> {
        let lease = LeaseName::Partition(self.partition);
        let settings = &self.shared.settings;
        let renew = self
            .shared
            .broker
            .renew_lease(&lease, self.token, settings.lease_for);
        let renewed = self
            .shared
            .call_within(settings.channel_patience, "renew_lease", renew)
            .await?;
        if renewed { Ok(()) } else { Err(Interruption::Lost) }
    }

    /// What histories hold comes later. A session's own room has none.
    fn count_withheld(&self, batch: &Batch, parcels: &[Parcel], parked: &[Incarnation]) {
        let parked = parcels.iter().filter(|parcel| parked.contains(&parcel.gateway));
        let lost: usize = parked.map(|parcel| parcel.session_messages(batch)).sum();
        self.shared.metrics.session_messages_lost.inc_by(lost as u64);
    }
}

impl Parcel {
    /// How many of its messages are for rooms that keep nothing and know no gaps.
    fn session_messages(&self, batch: &Batch) -> usize {
        let entries = self.places.iter().filter_map(|place| batch.entries.get(*place));
        entries
            .filter(|(_, entry)| matches!(entry, Entry::Message { room, .. } if !room.has_offsets()))
            .count()
    }
}

//! The three steps of a batch: record, channels, trim. Nothing may overtake anything.

use carillon_broker::{
    BrokerError, ChannelAppend, Fenced, Incarnation, Record, RecordEntry, RecordOutcome, ServiceKind,
};
use carillon_model::Room;
use futures::{StreamExt as _, stream};
use tokio::time::{Instant, sleep};
use tracing::{Instrument as _, Span, debug, info};

use super::{
    Interruption, Owner, Stand,
    batch::{Batch, Entry},
    frames::{self, Parcel},
    traces::BatchTrace,
};
use crate::metrics::Burial;

impl Owner {
    /// The three steps, under the spans of the batch if it has any.
    pub(super) async fn handle(&self, batch: &Batch, stand: &Stand) -> Result<(), Interruption> {
        let trace = BatchTrace::begin(self.partition, batch);
        let span = trace.as_ref().map_or_else(Span::none, |trace| trace.span.clone());
        self.pass_on(batch, stand, trace.as_ref())
            .instrument(span)
            .await
            .inspect_err(|interruption| {
                if let Some(trace) = &trace {
                    trace.interrupted(interruption);
                }
            })
    }

    async fn pass_on(
        &self,
        batch: &Batch,
        stand: &Stand,
        trace: Option<&BatchTrace>,
    ) -> Result<(), Interruption> {
        let started = Instant::now();
        let metrics = &self.shared.metrics;
        let trim_first = self.shared.mutations.trim_before_channels;
        let recorded = self.record(batch, stand).await?;
        if let Some(last) = batch.last() {
            self.shared.known.saw(self.partition, last);
        }
        if trim_first {
            self.trim(batch, stand).await?;
        }
        let (frames, gateways) = self.send(batch, &recorded, trace).await?;
        if let Some(trace) = trace {
            trace.passed_on(batch, &recorded, frames, gateways);
        }
        if !trim_first {
            self.trim(batch, stand).await?;
        }
        let repeats = recorded.entries.iter().filter(|entry| entry.repeated).count();
        let messages = batch.count(|entry| matches!(entry, Entry::Message { .. }));
        let gaps = batch.count(|entry| matches!(entry, Entry::Gap { .. }));
        let partition_gaps = batch.count(|entry| matches!(entry, Entry::PartitionGap));
        metrics.messages.inc_by(messages as u64);
        metrics.repeats.inc_by(repeats as u64);
        metrics.frames.inc_by(frames as u64);
        metrics.gaps.with_label_values(&["room"]).inc_by(gaps as u64);
        metrics
            .gaps
            .with_label_values(&["partition"])
            .inc_by(partition_gaps as u64);
        let probes = batch.count(|entry| matches!(entry, Entry::Probe(_)));
        metrics
            .probes
            .with_label_values(&["passed_on"])
            .inc_by(probes as u64);
        metrics.batch(started.elapsed());
        debug!(
            partition = %self.partition, messages, gaps, partition_gaps, repeats, frames, gateways, probes,
            last = %batch.last().unwrap_or_default(), "a batch was passed on"
        );
        Ok(())
    }

    async fn record(&self, batch: &Batch, stand: &Stand) -> Result<RecordOutcome, Interruption> {
        let policy = self.shared.policy.borrow().clone();
        let entries: Vec<RecordEntry> = {
            let mut prevs = self.prevs.lock();
            batch
                .of_rooms()
                .map(|entry| RecordEntry {
                    room: entry.room.clone(),
                    offset: entry.offset,
                    prev: (entry.room.has_offsets())
                        .then(|| prevs.replace(entry.room, entry.offset))
                        .flatten(),
                    message: entry.message.cloned().unwrap_or_default(),
                    gap: entry.gap,
                    history: policy.room(entry.room).history,
                })
                .collect()
        };
        if entries.is_empty() {
            return Ok(RecordOutcome {
                entries: Vec::new(),
                routes: Vec::new(),
            });
        }
        let early_routes = match &self.shared.mutations.routes_before_history {
            Some(sabotage) => {
                let rooms: indexmap::IndexSet<Room> =
                    entries.iter().map(|entry| entry.room.clone()).collect();
                let rooms: Vec<Room> = rooms.into_iter().collect();
                Some(sabotage.read_routes(self.partition, &rooms).await?)
            }
            None => None,
        };
        let record = Record {
            partition: self.partition,
            token: self.token,
            life: stand.life.clone(),
            horizon: stand.horizon,
            entries,
        };
        match self
            .shared
            .call("record", self.shared.broker.record(record))
            .await
        {
            Ok(Fenced::Done(mut outcome)) => {
                if let Some(routes) = early_routes {
                    outcome.routes = routes;
                }
                Ok(outcome)
            }
            Ok(Fenced::Lost) => Err(Interruption::Lost),
            Err(BrokerError::Corrupt(reason)) => match &batch.entries[..] {
                [(head, _)] => Err(Interruption::Unhandled {
                    head: *head,
                    why: Burial::Refused,
                    reason,
                }),
                entries => Err(Interruption::RefusedTogether {
                    entries: entries.len(),
                }),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Step 2. Answers how many frames went to how many gateways, after every channel has answered.
    async fn send(
        &self,
        batch: &Batch,
        recorded: &RecordOutcome,
        trace: Option<&BatchTrace>,
    ) -> Result<(usize, usize), Interruption> {
        let living: Vec<Incarnation> = if batch.is_for_all() {
            let members = self.shared.broker.members(ServiceKind::Gateway);
            let members = self.shared.call("members", members).await?;
            members.into_iter().map(|member| member.incarnation).collect()
        } else {
            Vec::new()
        };
        let parcels = frames::parcels(batch, &recorded.entries, &recorded.routes, &living, trace);
        let sends: Vec<_> = parcels
            .iter()
            .map(|parcel| self.send_one(batch, parcel))
            .collect();
        let outcomes: Vec<Result<usize, BrokerError>> = stream::iter(sends)
            .buffered(self.shared.settings.channels_at_once.max(1))
            .collect()
            .await;
        let mut frames = 0;
        for outcome in outcomes {
            frames += outcome?;
        }
        Ok((frames, parcels.len()))
    }

    async fn send_one(&self, batch: &Batch, parcel: &Parcel) -> Result<usize, BrokerError> {
        let broker = &self.shared.broker;
        let limit = self.shared.settings.channel_bytes;
        let append = broker.append_channel(&parcel.gateway, parcel.entry.clone(), limit);
        let outcome = self.shared.call("append_channel", append).await;
        self.shared
            .metrics
            .channel_append(outcome.as_ref().map(|outcome| *outcome).map_err(|_| ()));
        match outcome? {
            ChannelAppend::Kept => Ok(parcel.frames),
            ChannelAppend::Overrun => {
                info!(gateway = %parcel.gateway, "the channel was full; its gateway catches up from history");
                Ok(0)
            }
            ChannelAppend::Dead => {
                let rooms = parcel.rooms(batch);
                if !rooms.is_empty() {
                    debug!(gateway = %parcel.gateway, rooms = rooms.len(), "removing routes of a dead gateway");
                    let remove = broker.remove_routes(self.partition, &rooms, &parcel.gateway);
                    self.shared.call("remove_routes", remove).await?;
                    self.shared.metrics.dead_routes.inc_by(rooms.len() as u64);
                }
                Ok(0)
            }
        }
    }

    /// Step 3.
    async fn trim(&self, batch: &Batch, stand: &Stand) -> Result<(), Interruption> {
        let Some(last) = batch.last() else { return Ok(()) };
        if let Some(sabotage) = &self.shared.mutations.unfenced_trim {
            while let Err(error) = sabotage.trim_unfenced(self.partition, last).await {
                debug!(partition = %self.partition, %error, "trimming again");
                sleep(self.shared.settings.pause_least).await;
            }
            return Ok(());
        }
        let trim = self
            .shared
            .broker
            .trim(self.partition, self.token, &stand.life, last);
        match self.shared.call("trim", trim).await? {
            Fenced::Done(()) => Ok(()),
            Fenced::Lost => Err(Interruption::Lost),
        }
    }
}

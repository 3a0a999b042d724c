//! The three steps of a batch: record, channels, trim. Nothing may overtake anything.

use carillon_broker::{BrokerError, Fenced, Incarnation, Record, RecordEntry, RecordOutcome};
use carillon_model::Room;
use tokio::time::{Instant, sleep};
use tracing::{Instrument as _, Span, debug};

use super::{
    Interruption, Owner, Stand,
    batch::{Batch, Entry},
    sending::Sent,
    traces::BatchTrace,
};
use crate::metrics::Burial;

impl Owner {
    /// The three steps, under the spans of the batch if it has any.
    /// Answers which channels did not get it and are written down as parked.
    pub(super) async fn handle(
        &self,
        batch: &Batch,
        stand: &Stand,
    ) -> Result<Vec<Incarnation>, Interruption> {
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
    ) -> Result<Vec<Incarnation>, Interruption> {
        let started = Instant::now();
        let metrics = &self.shared.metrics;
        let trim_first = self.shared.mutations.trim_before_channels;
        let recorded = self.record(batch, stand).await?;
        if let Some(last) = batch.last() {
            self.shared.known.saw(self.partition, last);
        }
        if trim_first {
            self.trim(batch, stand, &[]).await?;
        }
        let Sent {
            frames,
            gateways,
            parked,
        } = self.send(batch, &recorded, trace).await?;
        if let Some(trace) = trace {
            trace.passed_on(batch, &recorded, frames, gateways);
        }
        if !trim_first {
            self.acknowledge(batch, stand, &parked).await?;
        }
        self.parking.settled();
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
            parked = parked.len(), last = %batch.last().unwrap_or_default(), "a batch was passed on"
        );
        Ok(parked)
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
            // The one error that is the message's own. Whatever else Redis says is waited out.
            Err(BrokerError::Unstorable(reason)) => match &batch.entries[..] {
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

    /// Step 3. Which channels did not get the batch is written down with it.
    async fn acknowledge(
        &self,
        batch: &Batch,
        stand: &Stand,
        parked: &[Incarnation],
    ) -> Result<(), Interruption> {
        let mutations = &self.shared.mutations;
        if mutations.park_in_memory {
            return self.trim(batch, stand, &[]).await;
        }
        if mutations.mark_after_trim && !parked.is_empty() {
            self.trim(batch, stand, &[]).await?;
        }
        self.trim(batch, stand, parked).await
    }

    async fn trim(&self, batch: &Batch, stand: &Stand, parked: &[Incarnation]) -> Result<(), Interruption> {
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
            .trim(self.partition, self.token, &stand.life, last, parked);
        match self.shared.call("trim", trim).await? {
            Fenced::Done(()) => Ok(()),
            Fenced::Lost => Err(Interruption::Lost),
        }
    }
}

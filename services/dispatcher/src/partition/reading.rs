//! Reading: from the head, then on from there, and what of it is handled together.

use std::sync::Arc;

use carillon_broker::{BrokerError, QueueItem, QueueRead};
use tokio_util::sync::CancellationToken;

use super::{Interruption, Owner, Stand, batch::Batch, reads::Reads};
use crate::metrics::Burial;

impl Owner {
    /// Reads from the head and works on from there, until something interrupts it. `Ok`: asked to hand over.
    pub(super) async fn work_from_head(&mut self, handover: &CancellationToken) -> Result<(), Interruption> {
        self.progress.busy();
        let shared = Arc::clone(&self.shared);
        let limit = shared.settings.batch_entries;
        let open = shared.broker.open_queue(self.partition);
        let mut reader = shared.call("open_queue", open).await?;
        let head = shared
            .call("read_head", reader.read_head(self.token, limit))
            .await?;
        if !head.owned {
            return Err(Interruption::Lost);
        }
        shared.metrics.rereads.inc();
        if !shared.mutations.keep_prev_over_lease {
            self.prevs.lock().clear();
        }
        self.progress.reads_from(&head.life);
        self.life = head.life.clone();
        let mut stand = Stand {
            life: head.life,
            horizon: head.handled,
            position: head.handled,
        };
        if !shared.mutations.park_in_memory {
            self.parking.replace(&shared, head.parked);
        }
        let mut items = head.items;
        if self.after_takeover {
            self.take_over(&items).await?;
        }
        if shared.mutations.consuming_read
            && let Some(consumed) = self.consumed
        {
            stand.position = consumed;
            items.clear();
        }
        let settings = &shared.settings;
        let mut reads = Reads::new(reader, limit, settings.read_block, settings.call_timeout);
        loop {
            if items.is_empty() {
                self.pauses.reset();
                self.refused = None;
                self.progress.idle();
                items = self.read_on(&mut reads, &mut stand, handover).await?;
                if handover.is_cancelled() {
                    return Ok(());
                }
                continue;
            }
            if handover.is_cancelled() {
                return Ok(());
            }
            self.progress.busy();
            self.unpark(&stand).await?;
            items = self.handle_items(items, &mut reads, &mut stand, handover).await?;
        }
    }

    /// Waits for what comes next.
    async fn read_on(
        &mut self,
        reads: &mut Reads,
        stand: &mut Stand,
        handover: &CancellationToken,
    ) -> Result<Vec<QueueItem>, Interruption> {
        reads.start(stand.position);
        loop {
            tokio::select! {
                biased;
                () = handover.cancelled() => return Ok(Vec::new()),
                read = reads.advance() => return self.accept(read, stand),
                () = self.parking.stirred() => {}
            }
            self.unpark(stand).await?;
        }
    }

    fn accept(
        &self,
        read: Result<QueueRead, BrokerError>,
        stand: &Stand,
    ) -> Result<Vec<QueueItem>, Interruption> {
        let read = read.inspect_err(|error| {
            self.shared.metrics.failed(error);
            if matches!(error, BrokerError::Unknown(_)) {
                self.shared.metrics.watchdog.inc();
            }
        })?;
        if read.life != stand.life {
            return Err(BrokerError::LifeChanged.into());
        }
        Ok(read.items)
    }

    /// Handles what was read, or its first part, and answers what comes after.
    async fn handle_items(
        &mut self,
        mut items: Vec<QueueItem>,
        reads: &mut Reads,
        stand: &mut Stand,
        handover: &CancellationToken,
    ) -> Result<Vec<QueueItem>, Interruption> {
        let full = items.len() >= self.shared.settings.batch_entries;
        let rest = if self.wary > 0 || self.alone > 0 {
            items.split_off(1)
        } else {
            items.split_off(fitting(&items, self.shared.settings.batch_bytes))
        };
        if let Some(last) = items.last() {
            self.consumed = Some(rest.last().unwrap_or(last).offset);
        }
        if let Some(head) = items.first().map(|item| item.offset)
            && self.wary > 0
            && self.counted != Some(head)
        {
            self.count_try(head).await?;
        }
        let partitions = self.shared.broker.partitions();
        let batch = Batch::decode(self.partition, partitions, items);
        let Some(last) = batch.last() else {
            return match batch.unreadable {
                Some((head, reason)) => Err(Interruption::Unhandled {
                    head,
                    why: Burial::Unreadable,
                    reason,
                }),
                None => Ok(rest),
            };
        };
        // A full batch means that more waits: it is read while this one is handled.
        let ahead = full && rest.is_empty() && batch.unreadable.is_none();
        if ahead {
            reads.start(last);
        }
        let mut arrived = None;
        let parked = {
            let handling = self.handle(&batch, stand);
            let mut handling = std::pin::pin!(handling);
            loop {
                tokio::select! {
                    biased;
                    outcome = &mut handling => break outcome?,
                    read = reads.advance(), if ahead && arrived.is_none() => arrived = Some(read),
                }
            }
        };
        self.park(parked);
        stand.position = last;
        self.settled(&batch);
        if let Some(read) = arrived {
            return self.accept(read, stand);
        }
        if ahead {
            return self.read_on(reads, stand, handover).await;
        }
        if batch.unreadable.is_some() {
            // It is at the head now; the next read begins with it.
            return Ok(Vec::new());
        }
        Ok(rest)
    }

    /// A batch is done.
    fn settled(&mut self, batch: &Batch) {
        self.counted = None;
        self.refused = None;
        self.attempts = None;
        self.wary = self.wary.saturating_sub(batch.entries.len());
        self.alone = self.alone.saturating_sub(batch.entries.len());
        self.pauses.reset();
        self.progress.moved();
    }
}

/// How many entries fit into so many bytes; at least one.
fn fitting(items: &[QueueItem], bytes: usize) -> usize {
    let mut total = 0;
    let fit = items.iter().take_while(|item| {
        total += item.entry.len();
        total <= bytes
    });
    fit.count().max(1).min(items.len())
}

//! The old door: plain Redis lists that producers `RPUSH` to (DESIGN §10).
//!
//! A list has one owner at a time. What it takes is numbered and pending until the queue holds it; a repeat carries
//! the same number, which is its idempotency key. So an owner that dies between any two steps leaves nothing lost and
//! nothing doubled: the next one first finishes what is pending. A list's items all go to one room, in order, so one
//! append carries all that one take brought.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use carillon_broker::{
    Append, AppendOutcome, DeadLetterSource, FencingToken, Growth, IdempotencyKey, ListItem, NewMessage,
    TakeOutcome,
};
use carillon_chassis::telemetry::trace_context::{self, HOP};
use carillon_model::{
    Data, Message, MessageId, Partition, Sender, policy::ListIntake, time::wall_clock_milliseconds, wire,
};
use prost::Message as _;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{Span, debug, info, info_span, warn};
use xxhash_rust::xxh3::xxh3_128;

use crate::{metrics::Burial, partition::OwnerEnd, patience::Pauses, shared::Shared};

/// Between two questions whether Redis has memory for more.
const MEMORY_PAUSE: Duration = Duration::from_secs(1);

/// The owner of a list, for as long as one lease.
#[derive(Debug)]
pub(crate) struct ListTaker {
    shared: Arc<Shared>,
    list: String,
    token: FencingToken,
    pauses: Pauses,
    random: fastrand::Rng,
    /// The key holds something that is no list, and that was said.
    wrong: bool,
}

/// An item that is no message, and why.
#[derive(Debug)]
struct Unfit {
    number: u64,
    item: Bytes,
    why: Burial,
    reason: String,
}

/// An item as it enters the queue.
#[derive(Clone, Debug)]
struct Fit {
    item: ListItem,
    message: NewMessage,
    /// From its taking until the queue has it.
    _span: Span,
}

impl Drop for ListTaker {
    fn drop(&mut self) {
        // Whoever has the list next says how it is.
        self.shared
            .metrics
            .lists_wrong
            .remove_label_values(&[self.list.as_str()])
            .ok();
    }
}

impl ListTaker {
    pub(crate) fn new(shared: Arc<Shared>, list: String, token: FencingToken) -> Self {
        let settings = &shared.settings;
        Self {
            pauses: Pauses::new(settings.pause_least, settings.pause_most, shared.fork_random()),
            random: shared.fork_random(),
            shared,
            list,
            token,
            wrong: false,
        }
    }

    /// Takes until the list is lost or asked for.
    pub(crate) async fn run(&mut self, handover: &CancellationToken) -> OwnerEnd {
        while !handover.is_cancelled() {
            // In a full Redis the list keeps its items, and whoever pushes is refused by Redis itself.
            if self.shared.memory_gate.ask(Growth::ListItem).is_err() {
                rest(handover, MEMORY_PAUSE).await;
                continue;
            }
            let limit = self.shared.settings.list_items;
            let take = self.shared.broker.take(&self.list, self.token, limit);
            let idle = match self.shared.call("take", take).await {
                Ok(TakeOutcome::Items(items)) => {
                    self.complain(false);
                    self.pauses.reset();
                    let full = items.len() >= limit;
                    if !items.is_empty() && !self.move_on(items, handover).await {
                        return OwnerEnd::HandedOver;
                    }
                    if full { None } else { Some(self.poll_pause()) }
                }
                Ok(TakeOutcome::NotAList) => {
                    self.complain(true);
                    Some(self.poll_pause() * 20)
                }
                Ok(TakeOutcome::Lost) => {
                    self.shared.metrics.fenced.inc();
                    return OwnerEnd::Lost;
                }
                Err(error) => {
                    debug!(list = self.list, %error, "could not take from the list");
                    Some(self.pauses.next_pause())
                }
            };
            if let Some(pause) = idle {
                rest(handover, pause).await;
            }
        }
        OwnerEnd::HandedOver
    }

    fn poll_pause(&mut self) -> Duration {
        let every = self.shared.settings.list_poll_every;
        every.mul_f64(0.75 + self.random.f64() / 2.0)
    }

    fn complain(&mut self, wrong: bool) {
        if wrong != self.wrong {
            self.wrong = wrong;
            if wrong {
                warn!(
                    list = self.list,
                    "the key set as a list holds something else; nothing is taken from it"
                );
            } else {
                info!(list = self.list, "the key holds a list again");
            }
        }
        let gauge = self
            .shared
            .metrics
            .lists_wrong
            .with_label_values(&[self.list.as_str()]);
        gauge.set(i64::from(wrong));
    }

    /// Brings items into the queue or the dead letters, then settles them. Goes on until it is done: what is pending
    /// comes before everything else. `false`: asked to hand over first; the next owner finishes it.
    async fn move_on(&mut self, items: Vec<ListItem>, handover: &CancellationToken) -> bool {
        let policy = self.shared.policy.borrow().clone();
        let Some(intake) = policy.lists().iter().find(|intake| intake.list == self.list) else {
            // It was taken off the policy a moment ago: what is pending stays so until it is back.
            return false;
        };
        let partition = self.shared.broker.partitions().partition_of(&intake.room);
        let numbers: Vec<u64> = items.iter().map(|item| item.number).collect();
        let mut fits = Vec::with_capacity(items.len());
        let mut unfits = Vec::new();
        for item in items {
            let key = item.number.to_string();
            match self.message(intake, item, key) {
                Ok(fit) => fits.push(fit),
                Err(unfit) => unfits.push(unfit),
            }
        }
        self.append(intake, fits, handover).await
            && self.bury(partition, &unfits, handover).await
            && self.settle(&numbers, handover).await
    }

    async fn append(
        &mut self,
        intake: &ListIntake,
        mut fits: Vec<Fit>,
        handover: &CancellationToken,
    ) -> bool {
        let partition = self.shared.broker.partitions().partition_of(&intake.room);
        while !fits.is_empty() {
            let append = Append {
                partition,
                messages: fits.iter().map(|fit| fit.message.clone()).collect(),
                known: self.shared.known.of(partition),
                queue_limit: self.shared.settings.queue_entries,
                keep_keys: self.shared.settings.keep_keys,
            };
            match self
                .shared
                .call("append", self.shared.broker.append(append))
                .await
            {
                Ok(AppendOutcome::Appended(placed)) => {
                    let repeated = placed.iter().filter(|placed| placed.repeated).count();
                    self.shared.metrics.list_items("repeated", repeated);
                    self.shared
                        .metrics
                        .list_items("appended", placed.len() - repeated);
                    if let Some(greatest) = placed.iter().flat_map(|placed| &placed.offsets).max() {
                        self.shared.known.saw(partition, *greatest);
                    }
                    return true;
                }
                Ok(AppendOutcome::KeyReused { message }) => {
                    // Redis lost the count in a failover and gives a number again, to another item. It is not the
                    // one we know under that number, so its content becomes part of its name.
                    let Some(fit) = fits.get_mut(message) else {
                        return true;
                    };
                    let item = fit.item.clone();
                    warn!(list = self.list, number = item.number, "a number was given twice");
                    let key = format!("{}:{:032x}", item.number, xxh3_128(&item.item));
                    if let Ok(renamed) = self.message(intake, item, key) {
                        *fit = renamed;
                    }
                    continue;
                }
                Ok(AppendOutcome::QueueFull { length }) => {
                    debug!(list = self.list, %partition, length, "the queue is full; the list waits");
                }
                Err(error) => {
                    debug!(list = self.list, %partition, %error, "could not append items of the list")
                }
            }
            if !self.wait(handover).await {
                return false;
            }
        }
        true
    }

    async fn bury(&mut self, partition: Partition, unfits: &[Unfit], handover: &CancellationToken) -> bool {
        for unfit in unfits {
            let source = DeadLetterSource::List {
                list: self.list.clone(),
                number: unfit.number,
            };
            loop {
                let broker = &self.shared.broker;
                let bury = broker.bury(partition, source.clone(), unfit.item.clone(), &unfit.reason);
                match self.shared.call("bury", bury).await {
                    Ok(()) => break,
                    Err(error) => debug!(list = self.list, %error, "could not bury an item of the list"),
                }
                if !self.wait(handover).await {
                    return false;
                }
            }
            let (number, reason) = (unfit.number, &unfit.reason);
            warn!(
                list = self.list,
                number, reason, "an item of the list became a dead letter"
            );
            self.shared.metrics.buried(unfit.why);
            self.shared.metrics.list_items("buried", 1);
            self.shared.cap_dead_letters(partition).await;
        }
        true
    }

    async fn settle(&mut self, numbers: &[u64], handover: &CancellationToken) -> bool {
        loop {
            let settle = self.shared.broker.settle(&self.list, numbers);
            match self.shared.call("settle", settle).await {
                Ok(()) => return true,
                Err(error) => debug!(list = self.list, %error, "could not settle items of the list"),
            }
            if !self.wait(handover).await {
                return false;
            }
        }
    }

    /// Waits before the same is tried again; `false`: asked to hand over.
    async fn wait(&mut self, handover: &CancellationToken) -> bool {
        let pause = self.pauses.next_pause();
        tokio::select! {
            biased;
            () = handover.cancelled() => false,
            () = sleep(pause) => true,
        }
    }

    /// An item's trace starts here, if it is chosen: whoever pushed it could not say one.
    fn trace(&mut self, number: u64) -> (Span, String) {
        if !self.shared.settings.traced.chooses(|| self.random.f64()) {
            return (Span::none(), String::new());
        }
        let span = info_span!(
            target: HOP, parent: None, "take",
            otel.kind = "consumer", chosen = true, list = self.list, number = trace_context::number(number),
        );
        let traceparent = trace_context::traceparent_of(&span);
        (span, traceparent)
    }

    fn message(&mut self, intake: &ListIntake, item: ListItem, key: String) -> Result<Fit, Unfit> {
        let bytes = &item.item;
        let limit = self.shared.settings.message_bytes;
        let unfit = |why, reason| Unfit {
            number: item.number,
            item: bytes.clone(),
            why,
            reason,
        };
        let too_large = |size| {
            let reason = format!("the item has {size} bytes, at most {limit} are allowed");
            unfit(Burial::ItemTooLarge, reason)
        };
        if bytes.len() > limit {
            return Err(too_large(bytes.len()));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| unfit(Burial::ItemNotText, format!("the item is not UTF-8: {error}")))?;
        let data = match &intake.format {
            Some(format) => Data::text(&format.fill(|_| text)),
            None => Data::text(text),
        };
        if data.len() > limit {
            return Err(too_large(data.len()));
        }
        let (span, traceparent) = self.trace(item.number);
        let producer = format!("list:{}", intake.list);
        let fingerprint = Bytes::copy_from_slice(&xxh3_128(bytes).to_be_bytes());
        let message = Message {
            id: MessageId::of_idempotency_key(&producer, &key),
            event: intake.event.clone(),
            data,
            accepted_at: wall_clock_milliseconds(),
            copies: 1,
            sender: Sender::Producer(producer.clone()),
            traceparent,
        };
        let entry = wire::QueueEntry::of_message(&intake.room, message.encode()).traced(&message.traceparent);
        Ok(Fit {
            _span: span,
            item,
            message: NewMessage {
                entries: vec![(intake.room.clone(), entry.encode_to_vec().into())],
                idempotency: Some(IdempotencyKey {
                    producer,
                    key,
                    // Of the item as it was pushed: the policy may change between two tries.
                    fingerprint,
                }),
            },
        })
    }
}

async fn rest(handover: &CancellationToken, pause: Duration) {
    tokio::select! {
        biased;
        () = handover.cancelled() => {}
        () = sleep(pause) => {}
    }
}

//! What clients publish takes the road of every message: queue, dispatcher, channel.
//!
//! A transport may run a task per event, which would reorder them. So publishing only enqueues, in the order of the
//! calls, and one writer per session appends. The writer exists while there is something to write.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use carillon_broker::{
    Append, AppendOutcome, Appended, BrokerError, Growth, IdempotencyKey, MemoryFull, MemoryGate, NewMessage,
    Queue, SharedBroker,
};
use carillon_chassis::telemetry::trace_context;
use carillon_model::{
    Data, EventName, Message, MessageId, Offset, Partition, PartitionCount, Room, Sender,
    policy::{ClientEvent, Policy},
    time::wall_clock_milliseconds,
    wire::QueueEntry,
};
use parking_lot::Mutex;
use prost::Message as _;
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tracing::Span;

use super::{
    HubSettings,
    fingerprint::fingerprint,
    metrics::HubMetrics,
    session::{Identity, Refusal, RefusalCode},
};

/// A message a client sends to a room.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Where to.
    pub room: Room,
    /// The event.
    pub event: EventName,
    /// The content.
    pub data: Data,
    /// Makes repeating safe.
    pub key: Option<String>,
    /// The span under which it is asked for, kept until the outcome is known; [`Span::none`] if its trace is not
    /// recorded.
    pub trace: Span,
}

/// A kept message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Published {
    /// Its id.
    pub id: MessageId,
    /// Its place in the room.
    pub offset: Offset,
}

/// The outcome, when it is known.
pub type PublishReceipt = oneshot::Receiver<Result<Published, Refusal>>;

/// What all sessions' writers share.
#[derive(Debug)]
pub(super) struct PublishDesk {
    pub(super) broker: SharedBroker,
    pub(super) memory_gate: MemoryGate,
    pub(super) partitions: PartitionCount,
    pub(super) policy: watch::Receiver<Arc<Policy>>,
    pub(super) settings: HubSettings,
    pub(super) metrics: HubMetrics,
    /// The greatest offset known of each partition.
    pub(super) known: Vec<Mutex<Offset>>,
    /// Bytes of all publishes that wait.
    pub(super) held: AtomicUsize,
}

#[derive(Debug)]
struct Waiting {
    publish: Publish,
    reply: oneshot::Sender<Result<Published, Refusal>>,
    _bytes: HeldBytes,
}

/// Bytes of a publish that waits; given back when it is answered.
#[derive(Debug)]
struct HeldBytes {
    desk: Arc<PublishDesk>,
    bytes: usize,
}

impl HeldBytes {
    /// `None` if all sessions' publishes together hold too much already.
    fn take(desk: &Arc<PublishDesk>, bytes: usize) -> Option<Self> {
        let before = desk.held.fetch_add(bytes, Ordering::Relaxed);
        let held = Self {
            desk: Arc::clone(desk),
            bytes,
        };
        (before + bytes <= desk.settings.publishes_bytes).then_some(held)
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.desk.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    writing: bool,
}

/// One session's line of publishes.
#[derive(Debug)]
pub(super) struct Publisher {
    desk: Arc<PublishDesk>,
    session: Arc<str>,
    identity: Identity,
    line: Mutex<Line>,
}

/// Publishes of one session that may wait.
const LINE: usize = 256;
/// Publishes of one session in one append.
const BATCH: usize = 64;
/// What a publish takes besides its data, in bytes, roughly.
const PUBLISH_OVERHEAD: usize = 512;
/// After how long a publish to a full queue may be tried again.
const QUEUE_FULL_RETRY: Duration = Duration::from_secs(1);

impl Publisher {
    pub(super) fn new(desk: Arc<PublishDesk>, session: Arc<str>, identity: Identity) -> Arc<Self> {
        Arc::new(Self {
            desk,
            session,
            identity,
            line: Mutex::default(),
        })
    }

    /// Queues a publish that policy allows. Never waits.
    pub(super) fn publish(self: &Arc<Self>, publish: Publish) -> Result<PublishReceipt, Refusal> {
        let rule = Arc::clone(self.desk.policy.borrow().room(&publish.room));
        if !rule.publish.allows(self.identity.user.is_some()) {
            return Err(self.refused(
                RefusalCode::Forbidden,
                format!("policy does not let this session publish to `{}`", publish.room),
            ));
        }
        self.enqueue(publish)
    }

    /// Queues what policy makes of a client's event. Never waits.
    pub(super) fn event(
        self: &Arc<Self>,
        name: &str,
        data: Data,
        trace: Span,
    ) -> Result<PublishReceipt, Refusal> {
        let becomes = self.desk.policy.borrow().client_event(name).map(Arc::clone);
        let (Some(becomes), Ok(event)) = (becomes, EventName::new(name)) else {
            let name: String = name.chars().take(64).collect();
            return Err(self.refused(
                RefusalCode::UnknownEvent,
                format!("no policy says what becomes of `{name}`; see client_events, or use `publish`"),
            ));
        };
        let data = self.format(&becomes, data);
        self.enqueue(Publish {
            room: becomes.room.clone(),
            event,
            data,
            key: None,
            trace,
        })
    }

    fn format(&self, becomes: &ClientEvent, data: Data) -> Data {
        let (Some(format), Data::Json(json)) = (&becomes.format, &data) else {
            return data;
        };
        let text = match serde_json::from_slice::<String>(json) {
            Ok(text) => text,
            Err(_) => String::from_utf8_lossy(json).into_owned(),
        };
        Data::text(&format.fill(|hole| match hole {
            "session" => &self.session,
            "user" => self.identity.user.as_deref().unwrap_or_default(),
            _ => &text,
        }))
    }

    fn enqueue(self: &Arc<Self>, publish: Publish) -> Result<PublishReceipt, Refusal> {
        let limit = self.desk.settings.message_bytes;
        if publish.data.len() > limit {
            return Err(self.refused(RefusalCode::TooLarge, format!("data has at most {limit} bytes")));
        }
        let Some(held) = HeldBytes::take(&self.desk, publish.data.len() + PUBLISH_OVERHEAD) else {
            let refusal = self.refused(
                RefusalCode::QueueFull,
                "publishes of all sessions wait already; try again later".to_owned(),
            );
            return Err(refusal.retry_after(QUEUE_FULL_RETRY));
        };
        let (reply, receipt) = oneshot::channel();
        let mut line = self.line.lock();
        if line.waiting.len() >= LINE {
            drop(line);
            return Err(self.refused(
                RefusalCode::TooManyRequests,
                format!("{LINE} publishes of this session wait already; wait for their acks"),
            ));
        }
        line.waiting.push_back(Waiting {
            publish,
            reply,
            _bytes: held,
        });
        if !std::mem::replace(&mut line.writing, true) {
            tokio::spawn(Arc::clone(self).write());
        }
        Ok(receipt)
    }

    fn refused(&self, code: RefusalCode, message: String) -> Refusal {
        self.desk
            .metrics
            .publishes
            .with_label_values(&[code.as_str()])
            .inc();
        Refusal::new(code, message)
    }

    /// Appends until nothing waits.
    async fn write(self: Arc<Self>) {
        loop {
            let batch = {
                let mut line = self.line.lock();
                let Some(first) = line.waiting.front() else {
                    line.writing = false;
                    return;
                };
                let partition = self.desk.partitions.partition_of(&first.publish.room);
                let same =
                    |waiting: &Waiting| self.desk.partitions.partition_of(&waiting.publish.room) == partition;
                let count = line
                    .waiting
                    .iter()
                    .take(BATCH)
                    .take_while(|waiting| same(waiting))
                    .count();
                (partition, line.waiting.drain(..count).collect::<Vec<_>>())
            };
            self.append(batch.0, batch.1).await;
        }
    }

    async fn append(&self, partition: Partition, mut batch: Vec<Waiting>) {
        let desk = &self.desk;
        if let Err(full) = desk.memory_gate.ask(Growth::Message) {
            let refusal = Refusal::new(RefusalCode::QueueFull, full.to_string());
            return self.refuse_all(batch, &refusal.retry_after(MemoryFull::RETRY_AFTER));
        }
        while !batch.is_empty() {
            let (ids, messages): (Vec<_>, Vec<_>) = batch
                .iter()
                .map(|waiting| self.new_message(&waiting.publish))
                .unzip();
            let known = desk.known.get(partition.index());
            let append = Append {
                partition,
                messages,
                known: known.map(|known| *known.lock()).unwrap_or_default(),
                queue_limit: desk.settings.queue_limit,
                keep_keys: desk.settings.keep_keys,
            };
            let refusal = match Queue::append(&*desk.broker, append).await {
                Ok(AppendOutcome::Appended(placed)) => {
                    self.placed(partition, batch, &ids, &placed);
                    return;
                }
                Ok(AppendOutcome::KeyReused { message }) if message < batch.len() => {
                    // The others are not to blame: they are tried again without it.
                    let waiting = batch.remove(message);
                    let text = "this key was used with another content; use a new key for a new message";
                    let _ = waiting
                        .reply
                        .send(Err(self.refused(RefusalCode::KeyReused, text.to_owned())));
                    continue;
                }
                Ok(AppendOutcome::KeyReused { .. }) => Refusal::new(
                    RefusalCode::Unavailable,
                    "the broker named a message that was not sent",
                ),
                Ok(AppendOutcome::QueueFull { length }) => Refusal::new(
                    RefusalCode::QueueFull,
                    format!("{length} messages wait already; try again later"),
                )
                .retry_after(QUEUE_FULL_RETRY),
                Err(error) if error.outcome_is_unknown() => Refusal::new(
                    RefusalCode::OutcomeUnknown,
                    format!("it may have been kept; repeat it with the same key ({error})"),
                ),
                Err(BrokerError::OutOfMemory(_)) => Refusal::new(
                    RefusalCode::QueueFull,
                    "the broker's memory is full; try again later",
                )
                .retry_after(MemoryFull::RETRY_AFTER),
                Err(error) => Refusal::new(RefusalCode::Unavailable, format!("nothing was kept: {error}")),
            };
            return self.refuse_all(batch, &refusal);
        }
    }

    fn refuse_all(&self, batch: Vec<Waiting>, refusal: &Refusal) {
        let refused = self
            .desk
            .metrics
            .publishes
            .with_label_values(&[refusal.code.as_str()]);
        for waiting in batch {
            refused.inc();
            let _ = waiting.reply.send(Err(refusal.clone()));
        }
    }

    fn placed(&self, partition: Partition, batch: Vec<Waiting>, ids: &[MessageId], placed: &[Appended]) {
        for ((waiting, id), placed) in batch.into_iter().zip(ids).zip(placed) {
            let offset = placed.offsets.first().copied().unwrap_or_default();
            if let Some(known) = self.desk.known.get(partition.index()) {
                let mut known = known.lock();
                *known = known.max(offset);
            }
            self.desk.metrics.publishes.with_label_values(&["kept"]).inc();
            let _ = waiting.reply.send(Ok(Published { id: *id, offset }));
        }
    }

    fn new_message(&self, publish: &Publish) -> (MessageId, NewMessage) {
        let producer = match &self.identity.user {
            Some(user) => format!("user:{user}"),
            None => format!("session:{}", self.session),
        };
        let id = match &publish.key {
            Some(key) => MessageId::of_idempotency_key(&producer, key),
            None => MessageId::fresh(),
        };
        let message = Message {
            id,
            event: publish.event.clone(),
            data: publish.data.clone(),
            accepted_at: wall_clock_milliseconds(),
            copies: 1,
            sender: Sender::Session {
                session: self.session.to_string(),
                user: self.identity.user.as_deref().map(str::to_owned),
            },
            traceparent: trace_context::traceparent_of(&publish.trace),
        };
        let entry = QueueEntry::of_message(&publish.room, message.encode())
            .traced(&message.traceparent)
            .encode_to_vec()
            .into();
        let idempotency = publish.key.as_ref().map(|key| IdempotencyKey {
            producer,
            key: key.clone(),
            fingerprint: fingerprint(publish),
        });
        (
            id,
            NewMessage {
                entries: vec![(publish.room.clone(), entry)],
                idempotency,
            },
        )
    }
}

/// How long a client's idempotency key is kept.
pub(super) const KEEP_KEYS: Duration = Duration::from_secs(600);

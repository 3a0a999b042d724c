//! The queues: appended to by ingest and gateways, read and trimmed by the one owner of each partition.
//!
//! There is no consumer group. The stream holds exactly what is not yet handled; its owner reads it with plain reads,
//! strictly in order, and trimming is the acknowledgement. Two owners at once then only repeat work (DESIGN §5).

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use carillon_model::{Gap, Offset, Partition, Room, policy::HistoryLimits};

use crate::{FencingToken, Incarnation, Life, Result};

/// Appends to and works off the queues of the partitions.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Appends a request's messages to one partition: all of them or none. With `wait_replicas` set, the answer
    /// comes when as many replicas have it, else [`Unreplicated`](crate::BrokerError::Unreplicated).
    ///
    /// Where the server's life differs from the one kept with the partition, the queue's last id is first raised to
    /// max(last, `known`, server's time + 10 min), so that no offset is ever given twice.
    ///
    /// What is answered as appended is remembered until it cannot be lost any more (see [`losses`](crate::losses)). Where
    /// the server was replaced before its answer came, the outcome is [`Unknown`](crate::BrokerError::Unknown).
    async fn append(&self, append: Append) -> Result<AppendOutcome>;

    /// A reader of a partition's queue, with a connection of its own.
    async fn open_queue(&self, partition: Partition) -> Result<Box<dyn QueueReader>>;

    /// Records a batch read from the head of the queue: checks token and life, appends to each room's history with
    /// the explicit offset (a repeat is refused by the history and still answered), writes the rooms' last offsets,
    /// then reads the rooms' routes. One atomic step.
    async fn record(&self, record: Record) -> Result<Fenced<RecordOutcome>>;

    /// Trims everything up to and including `upto`, if token and life still hold. This acknowledges it. Tries of the
    /// head (see [`Queue::count_try`]) are forgotten. In the same step, the channels that did not get it are written down
    /// as parked: every owner's [`QueueReader::read_head`] tells them from then on.
    async fn trim(
        &self,
        partition: Partition,
        token: FencingToken,
        life: &Life,
        upto: Offset,
        parked: &[Incarnation],
    ) -> Result<Fenced<()>>;

    /// These gateways were told that they missed something: their channels are parked no more, if token and life still
    /// hold.
    async fn unpark(
        &self,
        partition: Partition,
        token: FencingToken,
        life: &Life,
        gateways: &[Incarnation],
    ) -> Result<Fenced<()>>;

    /// Writes down, before the head entry is handled, that the owner with this token tries it, and answers how many
    /// owners did, this one included. Saying it again counts once. Another entry's tries are forgotten.
    async fn count_try(&self, partition: Partition, token: FencingToken, head: Offset)
    -> Result<Fenced<u32>>;

    /// Takes the try of a token back: its process is alive, so the entry did not end it. It needs no lease: an owner
    /// that lost the partition, for whatever reason, does this as soon as it can.
    async fn take_back_try(&self, partition: Partition, token: FencingToken) -> Result<()>;

    /// Marks a partition of which nobody knows what its server lost when it was replaced: each of its rooms says
    /// `recovered: false` once. The marker is owed from now on, and written as soon as the server takes it.
    async fn mark_unknown_loss(&self, partition: Partition) -> Result<()>;
}

/// Reads one partition's queue for its owner.
#[async_trait]
pub trait QueueReader: Send {
    /// Reads from the head, at once: what a new owner does, and every owner after any lost answer.
    async fn read_head(&mut self, token: FencingToken, limit: usize) -> Result<HeadRead>;

    /// Reads what lies after an offset this owner has read up to, waiting up to `block` for the first entry.
    async fn read_after(&mut self, after: Offset, limit: usize, block: Duration) -> Result<QueueRead>;
}

/// The answer to an owner: done, or no longer the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fenced<T> {
    /// The token was still the owner's and the server's life the same.
    Done(T),
    /// Nothing was written: another owner has the partition, or the server has another life.
    Lost,
}

/// A request's messages for one partition.
#[derive(Clone, Debug)]
pub struct Append {
    /// Which one.
    pub partition: Partition,
    /// The messages, in the order sent.
    pub messages: Vec<NewMessage>,
    /// The greatest offset of the partition the caller knows of.
    pub known: Offset,
    /// The queue is full with this many entries.
    pub queue_limit: u64,
    /// How long idempotency keys are kept.
    pub keep_keys: Duration,
}

/// A message as it enters a partition.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Its rooms in this partition, each with the encoded `carillon.wire.v1.QueueEntry`.
    pub entries: Vec<(Room, Bytes)>,
    /// Makes a repeat find the first try.
    pub idempotency: Option<IdempotencyKey>,
}

/// A producer's name for a message, so that repeating it is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Whose key it is.
    pub producer: String,
    /// The key.
    pub key: String,
    /// A hash of what was sent: the same key with another content is refused.
    pub fingerprint: Bytes,
}

/// What became of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// Kept. One for each message, in order.
    Appended(Vec<Appended>),
    /// Nothing was written: so many entries wait.
    QueueFull {
        /// Entries in the queue.
        length: u64,
    },
    /// Nothing was written: this message's key was used with another content.
    KeyReused {
        /// The message's place in the request.
        message: usize,
    },
}

/// Where a message was placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// One for each of its rooms, in order.
    pub offsets: Vec<Offset>,
    /// Whether an earlier try had placed it.
    pub repeated: bool,
}

/// An entry of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueItem {
    /// Its offset.
    pub offset: Offset,
    /// The encoded `carillon.wire.v1.QueueEntry`, whoever wrote it.
    pub entry: Bytes,
}

/// What lies at the head of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadRead {
    /// The entries, oldest first.
    pub items: Vec<QueueItem>,
    /// The life they were read from.
    pub life: Life,
    /// Everything up to it is done; never below the partition's birth.
    pub handled: Offset,
    /// Whether the token is (still) the owner's.
    pub owned: bool,
    /// Gateways whose channels did not get what was acknowledged, in order.
    pub parked: Vec<Incarnation>,
}

/// What came after an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRead {
    /// The entries, oldest first; none if the time ran out.
    pub items: Vec<QueueItem>,
    /// The life they were read from.
    pub life: Life,
}

/// A batch on its way from the queue into histories.
#[derive(Clone, Debug)]
pub struct Record {
    /// Which partition.
    pub partition: Partition,
    /// The owner's proof.
    pub token: FencingToken,
    /// The life the batch was read from.
    pub life: Life,
    /// The handled position at takeover or at the last re-read from the head.
    pub horizon: Offset,
    /// Messages, in the queue's order.
    pub entries: Vec<RecordEntry>,
}

/// A message on its way into its room's history.
#[derive(Clone, Debug)]
pub struct RecordEntry {
    /// Its room. A session room has neither history nor last offset: only its routes are read.
    pub room: Room,
    /// Its offset.
    pub offset: Offset,
    /// The room's message before it, where the owner read both without a break; else the broker finds it.
    pub prev: Option<Offset>,
    /// The encoded `carillon.wire.v1.Message`; empty for a gap.
    pub message: Bytes,
    /// It is a gap marker: messages were lost before it.
    pub gap: Option<Gap>,
    /// What is kept of the room.
    pub history: HistoryLimits,
}

/// What a recorded batch needs to be sent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordOutcome {
    /// One for each entry, in order.
    pub entries: Vec<Recorded>,
    /// The routes of each room of the batch, in the order the rooms first appear in it.
    pub routes: Vec<(Room, Arc<[Incarnation]>)>,
}

/// A recorded message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// No message of the room lies strictly between this and its offset. `None` for session rooms.
    pub prev: Option<Offset>,
    /// Whether it had been recorded before.
    pub repeated: bool,
}

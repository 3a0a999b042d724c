//! What cases have in common: an installation, its processes, and short ways to say what they do.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use carillon_model::{Gap, Offset, Partition, Room, policy::HistoryLimits, wire};
use parking_lot::Mutex;
use prost::Message as _;

use super::Installation;
use crate::{
    Append, AppendOutcome, Appended, Fenced, FencingToken, HeadRead, HistoryPage, HistoryQuery,
    IdempotencyKey, Incarnation, LeaseName, Life, Member, NewMessage, NewestPage, NewestQuery, QueueItem,
    QueueRead, QueueReader, Record, RecordEntry, RecordOutcome, Result, ServiceKind, SharedBroker,
};

/// How long anything may take to become so.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough that nothing ends by itself during a case.
pub(super) const LONG: Duration = Duration::from_secs(600);
/// Short enough to wait for its end.
pub(super) const SHORT: Duration = Duration::from_millis(120);
/// What a room keeps unless a case says otherwise.
pub(super) const KEPT: HistoryLimits = HistoryLimits::DEFAULT;

/// An installation and a first process on it.
#[derive(Clone)]
pub(super) struct Stage {
    pub(super) installation: Arc<dyn Installation>,
    pub(super) broker: SharedBroker,
    /// The partition whose rooms [`Stage::room`] names.
    pub(super) partition: Partition,
}

impl Stage {
    pub(super) async fn new(installation: Box<dyn Installation>) -> Self {
        let broker = installation.broker().await;
        let partition = broker.partitions().partitions().next_back().unwrap();
        Self {
            installation: installation.into(),
            broker,
            partition,
        }
    }

    /// Another process.
    pub(super) async fn another(&self) -> SharedBroker {
        self.installation.broker().await
    }

    /// The n-th room of the stage's partition.
    pub(super) fn room(&self, n: usize) -> Room {
        self.room_of(self.partition, n)
    }

    /// The n-th room of a partition.
    pub(super) fn room_of(&self, partition: Partition, n: usize) -> Room {
        self.named(partition, n, |i| Room::new(format!("room-{i}")).unwrap())
    }

    /// The first room of a partition among those that a number makes.
    pub(super) fn named_in(&self, partition: Partition, name: impl Fn(usize) -> String) -> Room {
        self.named(partition, 0, |i| Room::new(name(i)).unwrap())
    }

    /// The n-th session room of the stage's partition.
    pub(super) fn session_room(&self, n: usize) -> Room {
        self.named(self.partition, n, |i| Room::of_session(&format!("s{i}")).unwrap())
    }

    fn named(&self, partition: Partition, n: usize, name: impl Fn(usize) -> Room) -> Room {
        let partitions = self.broker.partitions();
        (0..)
            .map(name)
            .filter(|room| partitions.partition_of(room) == partition)
            .nth(n)
            .unwrap()
    }

    /// Appends one message to a room.
    pub(super) async fn append(&self, room: &Room, text: &str) -> Offset {
        append_to(&self.broker, room, text).await
    }

    /// Appends messages with nothing special about them.
    pub(super) async fn append_all(&self, messages: Vec<NewMessage>) -> AppendOutcome {
        self.broker
            .append(request(self.partition, messages))
            .await
            .unwrap()
    }

    /// Where a room stands, and everything kept above an offset.
    pub(super) async fn history(&self, room: &Room, after: Offset) -> HistoryPage {
        let query = HistoryQuery {
            after: Some(after),
            entries: 1000,
            bytes: usize::MAX,
        };
        self.broker.read_history(room, query).await.unwrap()
    }

    /// The newest entries kept of a room below an offset.
    pub(super) async fn newest(
        &self,
        room: &Room,
        below: Option<Offset>,
        entries: usize,
        bytes: usize,
    ) -> NewestPage {
        let query = NewestQuery {
            below,
            entries,
            bytes,
        };
        self.broker.read_newest(room, query).await.unwrap()
    }

    /// Where a room stands.
    pub(super) async fn look(&self, room: &Room) -> HistoryPage {
        let query = HistoryQuery {
            after: None,
            entries: 0,
            bytes: 0,
        };
        self.broker.read_history(room, query).await.unwrap()
    }

    /// Becomes the owner of the stage's partition.
    pub(super) async fn own(&self, name: &str) -> Owner {
        Owner::take(self.another().await, self.partition, name)
            .await
            .expect("nobody holds it")
    }

    /// Everything in the queue, whoever owns it.
    pub(super) async fn queue(&self) -> Vec<QueueItem> {
        let mut reader = self.broker.open_queue(self.partition).await.unwrap();
        reader.read_head(FencingToken(0), 10_000).await.unwrap().items
    }

    /// A gateway that is registered and lives long.
    pub(super) async fn gateway(&self, name: &str) -> Incarnation {
        let member = member(ServiceKind::Gateway, name);
        self.broker.register(&member, LONG).await.unwrap();
        member.incarnation
    }
}

/// A process that owns a partition.
pub(super) struct Owner {
    pub(super) broker: SharedBroker,
    /// Never locked: a mutex makes a reader, which nobody shares, part of something that is.
    reader: Mutex<Box<dyn QueueReader>>,
    pub(super) partition: Partition,
    pub(super) token: FencingToken,
    pub(super) life: Life,
    pub(super) horizon: Offset,
}

impl Owner {
    /// Takes a partition for long, unless somebody has it.
    pub(super) async fn take(broker: SharedBroker, partition: Partition, name: &str) -> Option<Self> {
        let grant = broker
            .acquire_partition(partition, &Incarnation::new(name, "1"), LONG, Offset::ZERO)
            .await
            .unwrap()?;
        Some(Self {
            reader: Mutex::new(broker.open_queue(partition).await.unwrap()),
            broker,
            partition,
            token: grant.token,
            life: grant.life,
            horizon: grant.handled,
        })
    }

    /// Takes a partition as soon as it is free.
    pub(super) async fn take_over(broker: SharedBroker, partition: Partition, name: &str) -> Self {
        eventually!(
            "the partition is free",
            Self::take(broker.clone(), partition, name).await
        )
    }

    /// Lets the lease run out, as if the process stood still.
    pub(super) async fn stall(&self) {
        let lease = LeaseName::Partition(self.partition);
        let renewed = self
            .broker
            .renew_lease(&lease, self.token, Duration::from_millis(30))
            .await;
        assert_eq!(renewed, Ok(true), "it was the owner");
    }

    /// Everything in the queue, from the head.
    pub(super) async fn read(&mut self) -> Vec<QueueItem> {
        let read = self.read_head(10_000).await.unwrap();
        assert!(read.owned, "it is the owner");
        assert_eq!(read.life, self.life);
        read.items
    }

    /// Reads from the head.
    pub(super) async fn read_head(&mut self, limit: usize) -> Result<HeadRead> {
        self.reader.get_mut().read_head(self.token, limit).await
    }

    /// Reads on.
    pub(super) async fn read_after(
        &mut self,
        after: Offset,
        limit: usize,
        block: Duration,
    ) -> Result<QueueRead> {
        self.reader.get_mut().read_after(after, limit, block).await
    }

    /// Records entries with the owner's token, life and horizon.
    pub(super) async fn record(&self, entries: Vec<RecordEntry>) -> Fenced<RecordOutcome> {
        let record = Record {
            partition: self.partition,
            token: self.token,
            life: self.life.clone(),
            horizon: self.horizon,
            entries,
        };
        self.broker.record(record).await.unwrap()
    }

    /// Records entries and expects to be the owner.
    pub(super) async fn must_record(&self, entries: Vec<RecordEntry>) -> RecordOutcome {
        match self.record(entries).await {
            Fenced::Done(outcome) => outcome,
            Fenced::Lost => panic!("the owner's record was refused"),
        }
    }

    /// Records entries; the prevs they went out with.
    pub(super) async fn prevs(&self, entries: Vec<RecordEntry>) -> Vec<Option<Offset>> {
        let outcome = self.must_record(entries).await;
        outcome
            .entries
            .into_iter()
            .map(|recorded| recorded.prev)
            .collect()
    }

    pub(super) async fn trim(&self, upto: Offset) -> Fenced<()> {
        self.broker
            .trim(self.partition, self.token, &self.life, upto, &[])
            .await
            .unwrap()
    }

    /// Takes everything from the queue to the histories and acknowledges it.
    pub(super) async fn drain(&mut self) -> RecordOutcome {
        let items = self.read().await;
        let outcome = self.must_record(entries(&items, KEPT)).await;
        if let Some(last) = items.last() {
            assert_eq!(self.trim(last.offset).await, Fenced::Done(()));
        }
        outcome
    }

    pub(super) async fn release(&self) {
        let lease = LeaseName::Partition(self.partition);
        self.broker.release_lease(&lease, self.token).await.unwrap();
    }
}

/// An entry whose bytes say its room, so that a reader can tell where it goes.
pub(super) fn entry(room: &Room, text: &str) -> Bytes {
    format!("{room}|{text}").into()
}

/// What an owner makes of queue items, without any prev of its own.
pub(super) fn entries(items: &[QueueItem], history: HistoryLimits) -> Vec<RecordEntry> {
    items
        .iter()
        .map(|item| {
            let text = std::str::from_utf8(&item.entry).unwrap();
            let (room, _) = text.split_once('|').unwrap();
            RecordEntry {
                room: Room::new(room).unwrap(),
                offset: item.offset,
                prev: None,
                message: item.entry.clone(),
                gap: None,
                history,
            }
        })
        .collect()
}

/// One message for rooms of one partition.
pub(super) fn message(rooms: &[Room], text: &str) -> NewMessage {
    NewMessage {
        entries: rooms
            .iter()
            .map(|room| (room.clone(), entry(room, text)))
            .collect(),
        idempotency: None,
    }
}

/// The same with an idempotency key; the text is its fingerprint.
pub(super) fn keyed(rooms: &[Room], text: &str, producer: &str, key: &str) -> NewMessage {
    NewMessage {
        idempotency: Some(IdempotencyKey {
            producer: producer.to_owned(),
            key: key.to_owned(),
            fingerprint: Bytes::copy_from_slice(text.as_bytes()),
        }),
        ..message(rooms, text)
    }
}

/// What is left without gap markers: whoever confirmed what a failover took back writes them, sooner or later.
pub(super) fn without_gaps(mut items: Vec<QueueItem>) -> Vec<QueueItem> {
    items.retain(|item| gap_of(item).is_none());
    items
}

/// The gap that an entry marks: its room and place, or neither for a partition's.
pub(super) fn gap_of(item: &QueueItem) -> Option<(Option<Room>, Gap)> {
    let gap = wire::QueueEntry::decode(item.entry.clone()).ok()?.gap?;
    Some((Room::new(&gap.room).ok(), Gap::from(&gap)))
}

/// A request with room to spare.
pub(super) fn request(partition: Partition, messages: Vec<NewMessage>) -> Append {
    Append {
        partition,
        messages,
        known: Offset::ZERO,
        queue_limit: 100_000,
        keep_keys: LONG,
    }
}

/// Appends one message to a room.
pub(super) async fn append_to(broker: &SharedBroker, room: &Room, text: &str) -> Offset {
    let partition = broker.partitions().partition_of(room);
    let append = request(partition, vec![message(std::slice::from_ref(room), text)]);
    one(broker.append(append).await.unwrap()).offsets[0]
}

/// The placement of the only message of a request.
pub(super) fn one(outcome: AppendOutcome) -> Appended {
    let mut all = placed(outcome);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// Where the messages of a request were placed.
pub(super) fn placed(outcome: AppendOutcome) -> Vec<Appended> {
    match outcome {
        AppendOutcome::Appended(placed) => placed,
        refused => panic!("not appended: {refused:?}"),
    }
}

/// A process as it registers.
pub(super) fn member(kind: ServiceKind, name: &str) -> Member {
    Member {
        kind,
        incarnation: Incarnation::new(name, "1"),
        address: format!("{name}:3000"),
        version: "0.1.0".to_owned(),
        capacity: 10_000,
        sessions: 0,
        last_probe: None,
        draining: false,
        policy_revision: String::new(),
    }
}

/// Looks again and again until there is an answer: the second argument is an expression of an `Option`.
macro_rules! eventually {
    ($what:expr, $look:expr) => {{
        let deadline = tokio::time::Instant::now() + $crate::conformance::stage::PATIENCE;
        loop {
            if let Some(answer) = $look {
                break answer;
            }
            let waited = tokio::time::Instant::now() >= deadline;
            assert!(!waited, "waited in vain until {}", $what);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }};
}
pub(super) use eventually;

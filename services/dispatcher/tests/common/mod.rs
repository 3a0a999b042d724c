//! A small installation on a paused clock: producers, dispatchers and the ears of gateways.

#![allow(dead_code, unreachable_pub)]

pub mod faulty;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use carillon_broker::{
    Append, AppendOutcome, ChannelItem, ChannelReader, Channels as _, DeadLetter, DeadLetters as _,
    IdempotencyKey, Incarnation, Member, Membership as _, MemoryGate, MemoryLimits, NewMessage, Queue as _,
    Rooms as _, ServiceKind, SharedBroker, TakeOutcome,
    memory::{MemoryBroker, MemoryOptions, ops},
};
use carillon_dispatcher::{
    Dispatcher, DispatcherMetrics, DispatcherMutations, DispatcherParts, DispatcherSettings, DispatcherStatus,
};
use carillon_model::{
    Data, EventName, Gap, Message, MessageId, Offset, Partition, PartitionCount, Room, Sender,
    policy::Policy, wire,
};
use prometheus::Registry;
use prost::Message as _;
use tokio::{sync::watch, task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use faulty::{Faulty, Plan};

pub const SECOND: Duration = Duration::from_secs(1);

pub struct World {
    pub broker: MemoryBroker,
    pub policy: watch::Sender<Arc<Policy>>,
    pub memory_gate: MemoryGate,
    dispatchers: u64,
    sent: u64,
}

pub struct Process {
    pub task: JoinHandle<()>,
    pub drain: CancellationToken,
    pub status: watch::Receiver<DispatcherStatus>,
    pub plan: Plan,
    pub registry: Registry,
}

impl World {
    pub fn new(partitions: u64) -> Self {
        Self::with_policy(partitions, Policy::default_policy())
    }

    pub fn with_policy(partitions: u64, policy: Policy) -> Self {
        let mut options = MemoryOptions::new(PartitionCount::new(partitions).unwrap(), 1_700_000_000_000);
        options.recent_versions = 4;
        Self {
            broker: MemoryBroker::new(options),
            policy: watch::Sender::new(Arc::new(policy)),
            memory_gate: MemoryGate::new(MemoryLimits::default()).unwrap(),
            dispatchers: 0,
            sent: 0,
        }
    }

    pub fn shared(&self) -> SharedBroker {
        Arc::new(self.broker.clone())
    }

    pub fn dispatcher(&mut self) -> Process {
        self.dispatcher_with(DispatcherSettings::default())
    }

    pub fn dispatcher_with(&mut self, settings: DispatcherSettings) -> Process {
        self.mutant(settings, DispatcherMutations::default())
    }

    pub fn mutant(&mut self, mut settings: DispatcherSettings, mutations: DispatcherMutations) -> Process {
        self.dispatchers += 1;
        settings.pod = format!("d{}", self.dispatchers);
        let (broker, plan) = Faulty::around(self.shared());
        let registry = Registry::new();
        let dispatcher = Dispatcher::new(DispatcherParts {
            broker,
            memory_gate: self.memory_gate.clone(),
            policy: self.policy.subscribe(),
            settings,
            metrics: DispatcherMetrics::new(&registry).unwrap(),
            random: fastrand::Rng::with_seed(self.dispatchers),
            mutations,
        });
        let drain = CancellationToken::new();
        let status = dispatcher.status();
        Process {
            task: tokio::spawn(dispatcher.run(drain.clone())),
            drain,
            status,
            plan,
            registry,
        }
    }

    pub fn partition_of(&self, room: &str) -> Partition {
        let shared: &dyn carillon_broker::Broker = &self.broker;
        shared.partitions().partition_of(&Room::new(room).unwrap())
    }

    /// Sends the next message, whose data is its number, to a room.
    pub async fn send(&mut self, room: &str) -> u64 {
        self.sent += 1;
        let message = Message {
            id: MessageId(uuid::Uuid::from_u128(u128::from(self.sent))),
            event: EventName::new("e").unwrap(),
            data: Data::Json(self.sent.to_string().into()),
            accepted_at: 0,
            copies: 1,
            sender: Sender::Anonymous,
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        };
        let room = Room::new(room).unwrap();
        let entry = wire::QueueEntry::of_message(&room, message.encode()).encode_to_vec();
        self.push_entry(&room, entry.into()).await;
        self.sent
    }

    /// Puts anything at all into the queue of a room's partition.
    pub async fn push_entry(&self, room: &Room, entry: Bytes) -> Offset {
        let append = Append {
            partition: self.partition_of(room.as_str()),
            messages: vec![NewMessage {
                entries: vec![(room.clone(), entry)],
                idempotency: None::<IdempotencyKey>,
            }],
            known: Offset::ZERO,
            queue_limit: 1_000_000,
            keep_keys: SECOND,
        };
        match self.broker.append(append).await.unwrap() {
            AppendOutcome::Appended(placed) => placed[0].offsets[0],
            other => panic!("{other:?}"),
        }
    }

    pub async fn ear(&self, pod: &str, rooms: &[&str]) -> Ear {
        let member = member(ServiceKind::Gateway, pod);
        let gateway = member.incarnation.clone();
        let forever = Duration::from_secs(1_000_000);
        self.broker.register(&member, forever).await.unwrap();
        let mut last = BTreeMap::new();
        for room in rooms {
            let named = Room::new(room).unwrap();
            let partition = self.partition_of(room);
            let state = self
                .broker
                .add_routes(partition, &[named], &gateway)
                .await
                .unwrap();
            last.insert(
                (*room).to_owned(),
                state.last[0].unwrap_or(state.partition.handled),
            );
        }
        Ear {
            reader: self.broker.open_channel(&gateway).await.unwrap(),
            gateway,
            last,
            heard: BTreeMap::new(),
            dropped: 0,
            overruns: 0,
            holes: 0,
            probes: Vec::new(),
            gaps: Vec::new(),
            partition_gaps: Vec::new(),
        }
    }

    /// Entries still in queues.
    pub fn waiting(&self) -> usize {
        let count = PartitionCount::new(self.partitions()).unwrap();
        let state = self.broker.server_state(0);
        count
            .partitions()
            .map(|partition| state.queue(partition).len())
            .sum()
    }

    /// Items that are pending or not even taken, as somebody would find them an hour later.
    pub fn unsettled(&self, list: &str) -> usize {
        let server = self.broker.server_of_list(list);
        let mut state = self.broker.server_state(server);
        let later = self.broker.now(server) + 3_600_000;
        let owner = Incarnation::new("audit", 1);
        let grant = ops::leases::acquire_list(&mut state, later, list, &owner, SECOND).unwrap();
        match ops::lists::take(&mut state, later, list, grant.token, usize::MAX) {
            TakeOutcome::Items(items) => items.len(),
            other => panic!("{other:?}"),
        }
    }

    fn partitions(&self) -> u64 {
        let shared: &dyn carillon_broker::Broker = &self.broker;
        u64::from(shared.partitions().get())
    }

    pub async fn until_drained(&self) {
        until("the queues are empty", || self.waiting() == 0).await;
    }

    pub async fn dead_letters(&self) -> Vec<DeadLetter> {
        let mut letters = Vec::new();
        for partition in PartitionCount::new(self.partitions()).unwrap().partitions() {
            letters.extend(self.broker.dead_letters(partition, None, 100).await.unwrap());
        }
        letters
    }
}

impl Process {
    pub fn owned(&self) -> usize {
        self.status.borrow().owned
    }

    /// What `kill -9` does.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    /// What SIGTERM does.
    pub async fn drain(self) {
        self.drain.cancel();
        self.task.await.unwrap();
    }

    /// The sum of a metric's values.
    pub fn metric(&self, name: &str) -> f64 {
        let name = format!("carillon_dispatcher_{name}");
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        family.map_or(0.0, |family| {
            let metrics = family.get_metric().iter();
            metrics
                .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
                .sum()
        })
    }
}

/// The first incarnation of a pod.
pub fn member(kind: ServiceKind, pod: &str) -> Member {
    Member {
        kind,
        incarnation: Incarnation::new(pod, "1"),
        address: String::new(),
        version: String::new(),
        capacity: 0,
        sessions: 0,
        last_probe: None,
        draining: false,
        policy_revision: String::new(),
    }
}

/// A gateway as far as its channel and its filter go.
pub struct Ear {
    pub gateway: Incarnation,
    reader: Box<dyn ChannelReader>,
    last: BTreeMap<String, Offset>,
    /// The data of the messages taken, by room.
    pub heard: BTreeMap<String, Vec<u64>>,
    pub dropped: usize,
    /// How often it was told that it missed something.
    pub overruns: usize,
    /// Frames whose prev said that something was missed.
    pub holes: usize,
    pub probes: Vec<wire::ProbeFrame>,
    /// Gaps in rooms, and how many messages were heard of the room before.
    pub gaps: Vec<(String, Gap, usize)>,
    pub partition_gaps: Vec<u32>,
}

impl Ear {
    /// Reads all that is in the channel.
    pub async fn listen(&mut self) -> &mut Self {
        loop {
            let read = self.reader.read(1000, Duration::from_millis(1)).await.unwrap();
            if read.items.is_empty() {
                return self;
            }
            for item in read.items {
                let ChannelItem::Entry(entry) = item else {
                    self.overruns += 1;
                    continue;
                };
                let entry = wire::ChannelEntry::decode(entry).unwrap();
                self.probes.extend(entry.probes);
                self.partition_gaps.extend(entry.partition_gaps);
                for frame in entry.frames {
                    self.hear(frame);
                }
            }
        }
    }

    fn hear(&mut self, frame: wire::Frame) {
        let offset = Offset::from(frame.offset.unwrap());
        let last = self.last.entry(frame.room.clone()).or_default();
        if offset <= *last {
            self.dropped += 1;
            return;
        }
        if let Some(prev) = frame.prev.map(Offset::from) {
            assert!(prev < offset);
            if prev > *last {
                self.holes += 1;
            }
        }
        *last = offset;
        if let Some(gap) = &frame.gap {
            let heard = self.heard.get(&frame.room).map_or(0, Vec::len);
            self.gaps.push((frame.room, Gap::from(gap), heard));
            return;
        }
        let message = Message::decode(frame.message).unwrap();
        assert!(message.traceparent.is_empty() || message.traceparent.starts_with("00-0af7651916cd"));
        let number = match message.data {
            Data::Json(json) => {
                let text = String::from_utf8(json.to_vec()).unwrap();
                let digits: String = text.chars().filter(char::is_ascii_digit).collect();
                digits.parse().unwrap()
            }
            Data::Binary(_) => panic!("binary"),
        };
        self.heard.entry(frame.room).or_default().push(number);
    }
}

/// What [`killer_entry`] holds and no other entry does.
pub const KILLER: &[u8] = b"this kills";

/// An entry for the room `a` that a test takes for deadly.
pub fn killer_entry() -> Bytes {
    let room = Room::new("a").unwrap();
    wire::QueueEntry::of_message(&room, Bytes::from_static(KILLER))
        .encode_to_vec()
        .into()
}

/// Waits for something that must come within two minutes of virtual time.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came true that {what}");
}

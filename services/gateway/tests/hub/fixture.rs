//! A hub on an embedded broker, with a dispatcher in twenty lines.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use carillon_broker::{
    Append, AppendOutcome, Broker, Channels, Fenced, FencingToken, Incarnation, Leases, Life, MemoryBroker,
    MemoryGate, MemoryLimits, NewMessage, NewestQuery, Queue, Record, RecordEntry, Rooms,
    memory::{MemoryOptions, ServerState, ops},
};
use carillon_gateway::hub::{
    CloseReason, Connect, CursorNote, Delivery, Hub, HubMetrics, HubMutations, HubParts, HubSettings,
    HubTasks, Identity, Joined, OutboxReceiver, Outgoing, PresenceNote, Refusal, SessionHandle, Start,
};
use carillon_model::{
    Data, EventName, Gap, Message, MessageId, Offset, PartitionCount, Room, Sender,
    policy::Policy,
    wire::{ChannelEntry, Frame, QueueEntry},
};
use prometheus::Registry;
use prost::Message as _;
use tokio::sync::watch;

pub(crate) fn room(name: &str) -> Room {
    Room::new(name).unwrap()
}

/// What a hub may hold.
#[derive(Clone, Copy)]
struct Limits {
    outbox_bytes: usize,
    outboxes_bytes: usize,
    newest_waiting: usize,
    look_at_lives: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            outbox_bytes: 1 << 20,
            outboxes_bytes: 256 << 20,
            newest_waiting: 1024,
            look_at_lives: Duration::from_secs(1),
        }
    }
}

pub(crate) struct Fixture {
    pub(crate) broker: MemoryBroker,
    pub(crate) hub: Hub,
    pub(crate) memory_gate: MemoryGate,
    pub(crate) outbox_bytes: usize,
    pub(crate) newest_waiting: usize,
    pub(crate) outboxes_bytes: usize,
    pub(crate) look_at_lives: Duration,
    rules: String,
    registry: Registry,
    policy: watch::Sender<Arc<Policy>>,
    _tasks: HubTasks,
    owner: Option<(FencingToken, Life)>,
}

impl Fixture {
    pub(crate) async fn new(rules: &str) -> Self {
        let options = MemoryOptions::new(PartitionCount::new(1).unwrap(), 1_732_377_600_000);
        Self::with_broker(MemoryBroker::new(options), rules).await
    }

    /// A second gateway on the same broker, with nothing in memory yet.
    pub(crate) async fn another_gateway(&self) -> Self {
        let other = Self::with_broker(self.broker.clone(), &self.rules).await;
        Self {
            owner: self.owner.clone(),
            ..other
        }
    }

    async fn with_broker(broker: MemoryBroker, rules: &str) -> Self {
        let memory_gate = MemoryGate::new(MemoryLimits::default()).unwrap();
        let limits = Limits::default();
        let (registry, policy, hub, tasks) = start(&broker, &memory_gate, rules, limits);
        let rules = rules.to_owned();
        let fixture = Self {
            broker,
            hub,
            memory_gate,
            outbox_bytes: limits.outbox_bytes,
            outboxes_bytes: limits.outboxes_bytes,
            newest_waiting: limits.newest_waiting,
            look_at_lives: limits.look_at_lives,
            rules,
            registry,
            policy,
            _tasks: tasks,
            owner: None,
        };
        fixture.until(|fixture| fixture.hub.incarnation().is_some()).await;
        fixture
    }

    pub(crate) async fn restart(&mut self) {
        let limits = Limits {
            outbox_bytes: self.outbox_bytes,
            outboxes_bytes: self.outboxes_bytes,
            newest_waiting: self.newest_waiting,
            look_at_lives: self.look_at_lives,
        };
        (self.registry, self.policy, self.hub, self._tasks) =
            start(&self.broker, &self.memory_gate, &self.rules, limits);
        self.until(|fixture| fixture.hub.incarnation().is_some()).await;
    }

    pub(crate) fn set_policy(&self, rules: &str) {
        self.policy.send_replace(Arc::new(policy(rules)));
    }

    pub(crate) fn set_policy_document(&self, text: &str) {
        self.policy
            .send_replace(Arc::new(Policy::parse_yaml(text).unwrap()));
    }

    /// The gateway dies without a word.
    pub(crate) fn kill(self) -> MemoryBroker {
        self.broker
    }

    pub(crate) async fn until(&self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn try_connect(&self, id: &str) -> Result<SessionHandle, Refusal> {
        self.hub
            .connect(Connect {
                id: id.into(),
                identity: Identity::default(),
                since: Vec::new(),
            })
            .await
    }

    pub(crate) async fn connect(&mut self, id: &str, since: &[(&str, Offset)]) -> TestSession {
        self.connect_as(id, Identity::default(), since).await
    }

    pub(crate) async fn connect_as(
        &mut self,
        id: &str,
        identity: Identity,
        since: &[(&str, Offset)],
    ) -> TestSession {
        let since = since.iter().map(|(name, offset)| (room(name), *offset)).collect();
        let connect = Connect {
            id: id.into(),
            identity,
            since,
        };
        let mut handle = self.hub.connect(connect).await.unwrap();
        let outbox = handle.take_outbox().unwrap();
        let mut session = TestSession {
            handle,
            outbox,
            read: VecDeque::new(),
            notes: Vec::new(),
            presence: VecDeque::new(),
            gaps_told: 0,
        };
        session.note("all").await;
        session
    }

    /// Accepts, records and sends one message.
    pub(crate) async fn publish(&mut self, name: &str, text: &str) -> Offset {
        let (offset, entries) = self.record(&[name], text).await;
        self.send(entries).await;
        offset
    }

    pub(crate) async fn publish_to(&mut self, names: &[&str], text: &str) {
        let (_, entries) = self.record(names, text).await;
        self.send(entries).await;
    }

    /// A message that never reaches the channel: what a lost one looks like.
    pub(crate) async fn publish_without_sending(&mut self, name: &str, text: &str) {
        self.record(&[name], text).await;
    }

    async fn record(&mut self, names: &[&str], text: &str) -> (Offset, Vec<(Vec<Incarnation>, Frame)>) {
        let partition = self.broker.partitions().partitions().next().unwrap();
        if self.owner.is_none() {
            let owner = Incarnation::new("dispatcher", "1");
            let lasts = Duration::from_secs(1_000_000);
            let grant = self
                .broker
                .acquire_partition(partition, &owner, lasts, Offset::ZERO)
                .await
                .unwrap();
            let grant = grant.unwrap();
            self.owner = Some((grant.token, grant.life));
        }
        let (token, life) = self.owner.clone().unwrap();
        let copies = u32::try_from(names.len()).unwrap();
        let message = Message {
            id: MessageId::fresh(),
            event: EventName::new("test").unwrap(),
            data: Data::text(text),
            accepted_at: 1,
            copies,
            sender: Sender::Anonymous,
            traceparent: String::new(),
        };
        let encoded = message.encode();
        let entry = |name: &&str| {
            let room = room(name);
            let entry = QueueEntry::of_message(&room, encoded.clone())
                .encode_to_vec()
                .into();
            (room, entry)
        };
        let append = Append {
            partition,
            messages: vec![NewMessage {
                entries: names.iter().map(entry).collect(),
                idempotency: None,
            }],
            known: Offset::ZERO,
            queue_limit: 10_000,
            keep_keys: Duration::from_secs(1),
        };
        let AppendOutcome::Appended(placed) = self.broker.append(append).await.unwrap() else {
            panic!("refused")
        };
        let offsets = placed[0].offsets.clone();
        let policy = policy(&self.rules);
        let entries = names.iter().zip(&offsets).map(|(name, offset)| RecordEntry {
            room: room(name),
            offset: *offset,
            prev: None,
            message: encoded.clone(),
            gap: None,
            history: policy.room(&room(name)).history,
        });
        let horizon = offsets[0].just_below();
        let record = Record {
            partition,
            token,
            life: life.clone(),
            horizon,
            entries: entries.collect(),
        };
        let Fenced::Done(recorded) = self.broker.record(record).await.unwrap() else {
            panic!("fenced")
        };
        let last = *offsets.last().unwrap();
        assert_eq!(
            self.broker
                .trim(partition, token, &life, last, &[])
                .await
                .unwrap(),
            Fenced::Done(())
        );
        let frames =
            names
                .iter()
                .zip(&offsets)
                .zip(&recorded.entries)
                .map(|((name, offset), recorded_entry)| {
                    let routes = recorded
                        .routes
                        .iter()
                        .find(|(of, _)| of.as_str() == *name)
                        .unwrap();
                    let frame = Frame {
                        room: (*name).to_owned(),
                        offset: Some((*offset).into()),
                        prev: recorded_entry.prev.map(Into::into),
                        message: encoded.clone(),
                        ..Frame::default()
                    };
                    (routes.1.to_vec(), frame)
                });
        (last, frames.collect())
    }

    async fn send(&self, entries: Vec<(Vec<Incarnation>, Frame)>) {
        for (routes, frame) in entries {
            let entry = ChannelEntry {
                frames: vec![frame],
                ..ChannelEntry::default()
            }
            .encode_to_vec();
            for route in routes {
                self.broker
                    .append_channel(&route, entry.clone().into(), 1 << 30)
                    .await
                    .unwrap();
            }
        }
    }

    /// The server is replaced by one that stands where it stood in this state.
    pub(crate) fn fail_over(&mut self, state: ServerState, life: &str) {
        let life = Life(life.into());
        self.broker.replace_server_state(0, state, life.clone(), 0);
        if let Some((_, known)) = &mut self.owner {
            *known = life;
        }
    }

    /// Waits for gap markers in the queue and passes them on.
    pub(crate) async fn pass_gaps(&mut self) {
        let partition = self.broker.partitions().partitions().next().unwrap();
        let (token, life) = self.owner.clone().unwrap();
        let mut reader = self.broker.open_queue(partition).await.unwrap();
        let head = loop {
            let head = reader.read_head(token, 100).await.unwrap();
            if !head.items.is_empty() {
                break head;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let policy = policy(&self.rules);
        for item in &head.items {
            let gap = QueueEntry::decode(item.entry.clone()).unwrap().gap.unwrap();
            let mut channel = ChannelEntry::default();
            let routes = match Room::new(&gap.room) {
                Err(_) => {
                    channel.partition_gaps.push(0);
                    vec![self.hub.incarnation().unwrap()]
                }
                Ok(room) => {
                    let entry = RecordEntry {
                        room: room.clone(),
                        offset: item.offset,
                        prev: None,
                        message: bytes::Bytes::new(),
                        gap: Some(Gap::from(&gap)),
                        history: policy.room(&room).history,
                    };
                    let record = Record {
                        partition,
                        token,
                        life: life.clone(),
                        horizon: head.handled,
                        entries: vec![entry],
                    };
                    let Fenced::Done(recorded) = self.broker.record(record).await.unwrap() else {
                        panic!("fenced")
                    };
                    channel.frames.push(Frame {
                        offset: Some(item.offset.into()),
                        prev: recorded.entries[0].prev.map(Into::into),
                        gap: Some(gap.clone()),
                        room: gap.room,
                        ..Frame::default()
                    });
                    recorded.routes[0].1.to_vec()
                }
            };
            let trimmed = self.broker.trim(partition, token, &life, item.offset, &[]).await;
            assert_eq!(trimmed.unwrap(), Fenced::Done(()));
            for route in routes {
                let entry = channel.encode_to_vec().into();
                self.broker.append_channel(&route, entry, 1 << 30).await.unwrap();
            }
        }
    }

    /// Everything in the queue counts as handled, and is sent to nobody.
    pub(crate) async fn drop_queue(&mut self) {
        let partition = self.broker.partitions().partitions().next().unwrap();
        let (token, life) = self.owner.clone().unwrap();
        let mut reader = self.broker.open_queue(partition).await.unwrap();
        let head = reader.read_head(token, 100).await.unwrap();
        let upto = head.items.last().unwrap().offset;
        let trimmed = self.broker.trim(partition, token, &life, upto, &[]).await;
        assert_eq!(trimmed, Ok(Fenced::Done(())));
    }

    pub(crate) async fn last_offset(&self, name: &str) -> Offset {
        let query = NewestQuery {
            below: None,
            entries: 1,
            bytes: 1,
        };
        let newest = self.broker.read_newest(&room(name), query).await.unwrap();
        newest.items[0].offset
    }

    /// How many gateways hold a room.
    pub(crate) async fn routes(&self, name: &str) -> usize {
        let partition = self.broker.partitions().partition_of(&room(name));
        self.broker.read(0, |state, now| {
            ops::rooms::routes(state, now, partition, &[room(name)])[0]
                .1
                .len()
        })
    }

    pub(crate) fn declare_dead(&self) {
        let incarnation = self.hub.incarnation().unwrap();
        self.broker
            .write(0, |state, _| ops::membership::end_life(state, &incarnation));
    }

    pub(crate) fn gauge(&self, name: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        family.get_metric()[0].get_gauge().get_value() as u64
    }

    /// A counter with this value of its one label.
    pub(crate) fn counter_of(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let is_it = |metric: &&prometheus::proto::Metric| metric.get_label()[0].value() == label;
        let metric = family.get_metric().iter().find(is_it).unwrap();
        metric.get_counter().get_value()
    }

    pub(crate) fn counter(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        family
            .get_metric()
            .iter()
            .map(|metric| metric.get_counter().get_value())
            .sum()
    }
}

fn policy(rules: &str) -> Policy {
    let fallback = "- { match: \"*\", join: anyone, publish: anyone }";
    Policy::parse_yaml(&format!(
        "anonymous: {{ sessions: true }}\nrooms:\n{rules}\n{fallback}\n"
    ))
    .unwrap()
}

fn start(
    broker: &MemoryBroker,
    memory_gate: &MemoryGate,
    rules: &str,
    limits: Limits,
) -> (Registry, watch::Sender<Arc<Policy>>, Hub, HubTasks) {
    let registry = Registry::new();
    let (sender, policy) = watch::channel(Arc::new(policy(rules)));
    let (hub, tasks) = Hub::start(HubParts {
        broker: Arc::new(broker.clone()),
        memory_gate: memory_gate.clone(),
        policy,
        settings: HubSettings {
            outbox_bytes: limits.outbox_bytes,
            newest_waiting: limits.newest_waiting,
            outboxes_bytes: limits.outboxes_bytes,
            look_at_lives: limits.look_at_lives,
            ..HubSettings::new("gateway")
        },
        metrics: HubMetrics::new(&registry).unwrap(),
        random: fastrand::Rng::new(),
        mutations: HubMutations::default(),
    });
    (registry, sender, hub, tasks)
}

pub(crate) struct TestSession {
    handle: SessionHandle,
    outbox: OutboxReceiver,
    read: VecDeque<Outgoing>,
    notes: Vec<(Room, CursorNote)>,
    pub(crate) presence: VecDeque<Arc<PresenceNote>>,
    pub(crate) gaps_told: usize,
}

impl TestSession {
    pub(crate) fn handle(&self) -> &SessionHandle {
        &self.handle
    }

    pub(crate) async fn join(&mut self, name: &str, start: Start) -> Result<Joined, Refusal> {
        self.handle.join(room(name), start).await
    }

    /// The next thing written; notes are kept for [`TestSession::note`].
    pub(crate) async fn next(&mut self) -> Option<Arc<Delivery>> {
        if self.read.is_empty() {
            self.outbox.receive(&mut self.read).await.unwrap();
        }
        let outgoing = self.read.pop_front().unwrap();
        self.outbox.written(&outgoing);
        match outgoing {
            Outgoing::Message(delivery) | Outgoing::Replayed(delivery) => Some(delivery),
            Outgoing::Presence(note) => {
                self.presence.push_back(note);
                None
            }
            Outgoing::Cursors(notes) => {
                let gaps = notes
                    .values()
                    .filter(|note| matches!(note, CursorNote::At { recovered: false, .. }));
                self.gaps_told += gaps.count();
                self.notes.extend(notes);
                None
            }
        }
    }

    pub(crate) async fn next_delivery(&mut self) -> Arc<Delivery> {
        loop {
            if let Some(delivery) = self.next().await {
                return delivery;
            }
        }
    }

    pub(crate) async fn next_text(&mut self) -> String {
        text(&*self.next_delivery().await)
    }

    pub(crate) async fn deliveries_until(&mut self, end: &str) -> Vec<Arc<Delivery>> {
        let mut seen = Vec::new();
        loop {
            let delivery = self.next_delivery().await;
            if text(&delivery) == end {
                return seen;
            }
            seen.push(delivery);
        }
    }

    pub(crate) async fn texts_until(&mut self, end: &str) -> Vec<String> {
        self.deliveries_until(end)
            .await
            .iter()
            .map(|delivery| text(delivery))
            .collect()
    }

    /// The oldest note on a room that was not asked for yet.
    pub(crate) async fn note(&mut self, name: &str) -> CursorNote {
        loop {
            if let Some(place) = self.notes.iter().position(|(of, _)| of.as_str() == name) {
                return self.notes.remove(place).1;
            }
            if let Some(delivery) = self.next().await {
                panic!("{} came before the note on {name}", text(&delivery));
            }
        }
    }

    pub(crate) async fn closed(&mut self) -> CloseReason {
        loop {
            if let Err(reason) = self.outbox.receive(&mut self.read).await {
                return reason;
            }
        }
    }

    pub(crate) async fn leave_when_told(mut self) -> CloseReason {
        self.closed().await
    }

    /// What messages waited in the outbox, in bytes: all that has come is taken now, and none of it is written yet.
    pub(crate) async fn waiting_bytes(&mut self) -> usize {
        self.outbox.receive(&mut self.read).await.unwrap();
        let weight = |outgoing: &Outgoing| match outgoing {
            Outgoing::Message(delivery) | Outgoing::Replayed(delivery) => delivery.weight,
            Outgoing::Presence(_) | Outgoing::Cursors(_) => 0,
        };
        self.read.iter().map(weight).sum()
    }
}

fn text(delivery: &Delivery) -> String {
    let Data::Json(json) = &delivery.message.data else {
        panic!("binary")
    };
    serde_json::from_slice(json).unwrap()
}

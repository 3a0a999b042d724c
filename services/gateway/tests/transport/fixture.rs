//! A gateway on an embedded broker behind a real listener, with a small dispatcher at its side.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use carillon_broker::{
    Append, Broker, Channels, Fenced, Incarnation, Leases, MemoryBroker, MemoryGate, MemoryLimits,
    NewMessage, Queue, Record, RecordEntry, memory::MemoryOptions,
};
use carillon_gateway::{
    hub::{Hub, HubMetrics, HubMutations, HubParts, HubSettings, HubTasks},
    transport::{SocketIo, Transport, TransportMetrics, TransportSettings},
};
use carillon_model::{
    Data, EventName, Message, MessageId, Offset, Partition, PartitionCount, Room, Sender,
    policy::Policy,
    wire::{ChannelEntry, Frame, QueueEntry, queue_entry::Content},
};
use prometheus::Registry;
use prost::Message as _;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) hub: Hub,
    pub(crate) drain: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
    pub(crate) broker: MemoryBroker,
    registry: Registry,
    _tasks: HubTasks,
    dispatcher: JoinHandle<()>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.serving.abort();
        self.dispatcher.abort();
    }
}

/// Everybody may do everything, and the demo's event has the demo's look.
pub(crate) const OPEN: &str = r#"
anonymous: { sessions: true }
rooms:
  - { match: "secret*", join: nobody, publish: nobody }
  - { match: "*", join: anyone, publish: anyone }
client_events:
  "chat message": { room: all }
  "formatted": { room: all, format: "{session}: {data}" }
"#;

impl Gateway {
    pub(crate) async fn start(settings: TransportSettings) -> Self {
        Self::with(settings, OPEN, |_| {}).await
    }

    pub(crate) async fn with(
        settings: TransportSettings,
        policy: &str,
        adjust: impl FnOnce(&mut HubSettings),
    ) -> Self {
        let broker = MemoryBroker::new(MemoryOptions::new(
            PartitionCount::new(1).unwrap(),
            1_732_377_600_000,
        ));
        let registry = Registry::new();
        let (_, policy) = watch::channel(Arc::new(Policy::parse_yaml(policy).unwrap()));
        let mut hub_settings = HubSettings::new("gateway");
        adjust(&mut hub_settings);
        let (hub, tasks) = Hub::start(HubParts {
            broker: Arc::new(broker.clone()),
            memory_gate: MemoryGate::new(MemoryLimits::NONE).unwrap(),
            policy: policy.clone(),
            settings: hub_settings,
            metrics: HubMetrics::new(&registry).unwrap(),
            random: fastrand::Rng::new(),
            mutations: HubMutations::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let drain = CancellationToken::new();
        let transport = SocketIo {
            hub: hub.clone(),
            policy: policy.clone(),
            settings,
            metrics: TransportMetrics::new(&registry).unwrap(),
        };
        let serving = tokio::spawn(transport.serve(listener, drain.clone()));
        let dispatcher = tokio::spawn(dispatch(broker.clone(), policy));
        Self {
            address,
            hub,
            drain,
            serving,
            broker,
            registry,
            _tasks: tasks,
            dispatcher,
        }
    }

    /// What a producer does.
    pub(crate) async fn post(&self, room: &str, event: &str, data: Data) {
        let room = Room::new(room).unwrap();
        let message = Message {
            id: MessageId::fresh(),
            event: EventName::new(event).unwrap(),
            data,
            accepted_at: 1,
            copies: 1,
            sender: Sender::Anonymous,
            traceparent: String::new(),
        };
        let entry = QueueEntry::of_message(&room, message.encode()).encode_to_vec();
        let append = Append {
            partition: self.broker.partitions().partition_of(&room),
            messages: vec![NewMessage {
                entries: vec![(room, entry.into())],
                idempotency: None,
            }],
            known: Offset::ZERO,
            queue_limit: 100_000,
            keep_keys: Duration::from_secs(1),
        };
        self.broker.append(append).await.unwrap();
    }

    /// The sum of a metric over the labels that contain `label`; of a histogram, how often it was observed.
    pub(crate) fn metric(&self, name: &str, label: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let matching = family
            .get_metric()
            .iter()
            .filter(|metric| label.is_empty() || metric.get_label().iter().any(|pair| pair.value() == label));
        matching
            .map(|metric| {
                let observed = metric.get_histogram().get_sample_count() as f64;
                metric.get_counter().get_value() + metric.get_gauge().get_value() + observed
            })
            .sum::<f64>() as u64
    }

    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited
            .await
            .unwrap_or_else(|_| panic!("waited in vain until {what}"));
    }
}

/// The dispatcher of one partition, without any of what makes a dispatcher safe.
async fn dispatch(broker: MemoryBroker, policy: watch::Receiver<Arc<Policy>>) {
    let partition: Partition = broker.partitions().partitions().next().unwrap();
    let owner = Incarnation::new("dispatcher", "1");
    let lasts = Duration::from_secs(1_000_000);
    let grant = broker
        .acquire_partition(partition, &owner, lasts, Offset::ZERO)
        .await;
    let grant = grant.unwrap().unwrap();
    let mut reader = broker.open_queue(partition).await.unwrap();
    let mut after = reader.read_head(grant.token, 1).await.unwrap().handled;
    loop {
        let items = reader
            .read_after(after, 200, Duration::from_secs(5))
            .await
            .unwrap()
            .items;
        let Some(last) = items.last() else { continue };
        after = last.offset;
        let entries: Vec<RecordEntry> = items
            .into_iter()
            .filter_map(|item| match QueueEntry::decode(item.entry).unwrap().content? {
                Content::Message(message) => Some(RecordEntry {
                    room: Room::new(&message.room).unwrap(),
                    offset: item.offset,
                    prev: None,
                    message: message.message,
                    gap: None,
                    history: policy.borrow().room(&Room::new(&message.room).unwrap()).history,
                }),
                Content::Probe(_) => None,
            })
            .collect();
        let record = Record {
            partition,
            token: grant.token,
            life: grant.life.clone(),
            horizon: grant.handled,
            entries: entries.clone(),
        };
        let Fenced::Done(recorded) = broker.record(record).await.unwrap() else {
            panic!("fenced")
        };
        for (room, routes) in &recorded.routes {
            let frames = entries
                .iter()
                .zip(&recorded.entries)
                .filter(|(entry, _)| entry.room == *room)
                .map(|(entry, recorded)| Frame {
                    room: room.as_str().to_owned(),
                    offset: Some(entry.offset.into()),
                    prev: recorded.prev.map(Into::into),
                    message: entry.message.clone(),
                    ..Frame::default()
                })
                .collect();
            let channel = ChannelEntry {
                frames,
                ..ChannelEntry::default()
            };
            for route in routes.iter() {
                let entry = channel.encode_to_vec().into();
                broker.append_channel(route, entry, 1 << 30).await.unwrap();
            }
        }
        broker
            .trim(partition, grant.token, &grant.life, after, &[])
            .await
            .unwrap();
    }
}

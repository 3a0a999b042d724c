//! A real listener, a real client, and a broker that fails as told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use carillon_broker::{
    Append, AppendOutcome, BrokerError, Fenced, FencingToken, Health, Incarnation, Life, Lives, MemoryBroker,
    MemoryGate, MemoryLimits, MemoryOptions, Pressure, Queue, QueueReader, Record, RecordOutcome, Result,
};
use carillon_chassis::metrics::Metrics;
use carillon_ingest::{Ingest, IngestMetrics, IngestSettings, serve, serve_grpc};
use carillon_model::{Message, Offset, Partition, PartitionCount, Room, policy::Policy, wire};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use prost::Message as _;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::Instant,
};

/// How an append fails.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// At once, with nothing written.
    Error(BrokerError),
    /// The queue is full.
    Full,
    /// Written, and the answer is lost.
    LoseAnswer,
    /// Never answered, not written.
    Hang,
    /// Written as often as there is a permit, each of which is used up.
    Wait(Arc<Semaphore>),
}

/// A memory broker whose appends and health fail as told.
#[derive(Debug)]
pub(crate) struct Faulty {
    pub(crate) memory: MemoryBroker,
    pub(crate) appends: Mutex<Vec<Append>>,
    faults: Mutex<BTreeMap<Partition, Fault>>,
    everywhere: Mutex<Option<Fault>>,
    pub(crate) pressure: Mutex<Result<f64>>,
    pub(crate) check: Mutex<Result<()>>,
}

impl Faulty {
    pub(crate) fn fail(&self, fault: Fault) {
        *self.everywhere.lock().unwrap() = Some(fault);
    }

    pub(crate) fn fail_at(&self, partition: Partition, fault: Fault) {
        self.faults.lock().unwrap().insert(partition, fault);
    }

    pub(crate) fn heal(&self) {
        *self.everywhere.lock().unwrap() = None;
        self.faults.lock().unwrap().clear();
    }

    /// How many messages each append to a partition brought.
    pub(crate) fn windows(&self, partition: Partition) -> Vec<usize> {
        let appends = self.appends.lock().unwrap();
        let of_partition = appends.iter().filter(|append| append.partition == partition);
        of_partition.map(|append| append.messages.len()).collect()
    }

    /// What lies in a partition's queue: offset, room, message.
    pub(crate) async fn queued(&self, partition: Partition) -> Vec<(Offset, String, Message)> {
        let mut reader = self.memory.open_queue(partition).await.unwrap();
        let read = reader
            .read_after(Offset::ZERO, 100_000, Duration::ZERO)
            .await
            .unwrap();
        read.items
            .into_iter()
            .map(
                |item| match wire::QueueEntry::decode(item.entry).unwrap().content.unwrap() {
                    wire::queue_entry::Content::Message(copy) => {
                        (item.offset, copy.room, Message::decode(copy.message).unwrap())
                    }
                    wire::queue_entry::Content::Probe(_) => panic!("a probe"),
                },
            )
            .collect()
    }
}

#[async_trait]
impl Queue for Faulty {
    async fn append(&self, append: Append) -> Result<AppendOutcome> {
        self.appends.lock().unwrap().push(append.clone());
        let fault = self.faults.lock().unwrap().get(&append.partition).cloned();
        let fault = fault.or_else(|| self.everywhere.lock().unwrap().clone());
        match fault {
            None => self.memory.append(append).await,
            Some(Fault::Error(error)) => Err(error),
            Some(Fault::Full) => Ok(AppendOutcome::QueueFull { length: 100_000 }),
            Some(Fault::LoseAnswer) => {
                self.memory.append(append).await?;
                Err(BrokerError::Unknown("the connection was reset".to_owned()))
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Wait(permits)) => {
                permits.acquire().await.unwrap().forget();
                self.memory.append(append).await
            }
        }
    }

    async fn open_queue(&self, partition: Partition) -> Result<Box<dyn QueueReader>> {
        self.memory.open_queue(partition).await
    }

    async fn record(&self, record: Record) -> Result<Fenced<RecordOutcome>> {
        self.memory.record(record).await
    }

    async fn trim(
        &self,
        partition: Partition,
        token: FencingToken,
        life: &Life,
        upto: Offset,
        parked: &[Incarnation],
    ) -> Result<Fenced<()>> {
        self.memory.trim(partition, token, life, upto, parked).await
    }

    async fn unpark(
        &self,
        partition: Partition,
        token: FencingToken,
        life: &Life,
        gateways: &[Incarnation],
    ) -> Result<Fenced<()>> {
        self.memory.unpark(partition, token, life, gateways).await
    }

    async fn count_try(
        &self,
        partition: Partition,
        token: FencingToken,
        head: Offset,
    ) -> Result<Fenced<u32>> {
        self.memory.count_try(partition, token, head).await
    }

    async fn take_back_try(&self, partition: Partition, token: FencingToken) -> Result<()> {
        self.memory.take_back_try(partition, token).await
    }

    async fn mark_unknown_loss(&self, partition: Partition) -> Result<()> {
        self.memory.mark_unknown_loss(partition).await
    }
}

#[async_trait]
impl Health for Faulty {
    async fn lives(&self, channel: Option<&Incarnation>) -> Result<Lives> {
        self.memory.lives(channel).await
    }

    async fn pressure(&self) -> Result<Pressure> {
        self.pressure.lock().unwrap().clone().map(|memory| Pressure {
            memory,
            complete: true,
        })
    }

    async fn check(&self) -> Result<()> {
        self.check.lock().unwrap().clone()
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// That this is a problem of a kind with a status, and all it must have.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, kind: &str) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        assert_eq!(
            self.body["type"],
            format!("https://carillon.dev/problems/{kind}"),
            "{self:?}"
        );
        assert_eq!(self.body["status"], status, "{self:?}");
        assert!(
            self.body["title"].is_string() && self.body["detail"].is_string(),
            "{self:?}"
        );
        if status == 429 || status == 503 {
            let seconds: u64 = self.header("retry-after").parse().unwrap();
            assert!(seconds >= 1 && self.body["retry_after"] == seconds, "{self:?}");
            assert!(self.body["outcome"].is_string(), "{self:?}");
        }
        self
    }

    #[track_caller]
    pub(crate) fn has(&self, member: &str, value: impl Into<Value>) -> &Self {
        assert_eq!(self.body[member], value.into(), "{member} of {}", self.body);
        self
    }

    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Self {
        assert!(
            self.body["detail"].as_str().unwrap().contains(text),
            "{}",
            self.body
        );
        self
    }

    #[track_caller]
    pub(crate) fn is_accepted(&self) -> &Self {
        assert_eq!(self.status, StatusCode::ACCEPTED, "{self:?}");
        assert_eq!(self.header("content-type"), "application/json");
        self
    }
}

/// Ingest on ports of its own.
pub(crate) struct Fixture {
    pub(crate) broker: Arc<Faulty>,
    pub(crate) ingest: Ingest,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) grpc_address: std::net::SocketAddr,
    pub(crate) metrics: Metrics,
    pub(crate) policy: watch::Sender<Arc<Policy>>,
    drain: watch::Sender<Option<Instant>>,
    pub(crate) serving: JoinHandle<()>,
    watching: JoinHandle<()>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.watching.abort();
        self.serving.abort();
    }
}

pub(crate) const PARTITIONS: u64 = 8;

impl Fixture {
    /// Waits until so many streams are open.
    pub(crate) async fn has_open_streams(&self, count: usize) {
        let line = format!("carillon_ingest_streams_open {count}\n");
        until(|| self.metrics.encode().unwrap().contains(&line)).await;
    }

    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings. Everybody may send.
    pub(crate) async fn with(change: impl FnOnce(&mut IngestSettings)) -> Self {
        let mut settings = IngestSettings {
            watch_every: Duration::from_millis(20),
            ..IngestSettings::default()
        };
        change(&mut settings);
        let partitions = PartitionCount::new(PARTITIONS).unwrap();
        let broker = Arc::new(Faulty {
            memory: MemoryBroker::new(MemoryOptions::new(partitions, 1_700_000_000_000)),
            appends: Mutex::default(),
            faults: Mutex::default(),
            everywhere: Mutex::default(),
            pressure: Mutex::new(Ok(0.1)),
            check: Mutex::new(Ok(())),
        });
        let metrics = Metrics::new().unwrap();
        let memory_gate = MemoryGate::new(MemoryLimits::default()).unwrap();
        memory_gate.register(metrics.registry()).unwrap();
        let (policy, policies) = watch::channel(Arc::new(Policy::permissive()));
        let ingest = Ingest::new(
            settings,
            partitions,
            broker.clone(),
            broker.clone(),
            memory_gate,
            policies,
            IngestMetrics::new(&metrics).unwrap(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let grpc_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc_address = grpc_listener.local_addr().unwrap();
        let (drain, drained) = watch::channel(None);
        let drained = move || {
            let mut drained = drained.clone();
            async move { drained.wait_for(Option::is_some).await.unwrap().unwrap() }
        };
        let http = serve(listener, ingest.clone(), drained());
        let grpc = serve_grpc(grpc_listener, None, ingest.clone(), drained());
        let serving = tokio::spawn(async move {
            tokio::join!(http, grpc);
        });
        let watching = tokio::spawn({
            let ingest = ingest.clone();
            async move { ingest.watch().await }
        });
        Self {
            broker,
            ingest,
            address,
            grpc_address,
            metrics,
            policy,
            drain,
            serving,
            watching,
        }
    }

    pub(crate) fn drain(&mut self, patience: Duration) {
        self.drain.send_replace(Some(Instant::now() + patience));
    }

    pub(crate) fn set_policy(&self, yaml: &str) {
        self.policy
            .send_replace(Arc::new(Policy::parse_yaml(yaml).unwrap()));
    }

    pub(crate) fn partition(&self, room: &str) -> Partition {
        PartitionCount::new(PARTITIONS)
            .unwrap()
            .partition_of(&Room::new(room).unwrap())
    }

    /// Two rooms of different partitions.
    pub(crate) fn apart(&self) -> (String, String) {
        let other = (0..)
            .map(|n| format!("room-{n}"))
            .find(|name| self.partition(name) != self.partition("lobby"));
        ("lobby".to_owned(), other.unwrap())
    }

    pub(crate) fn request(&self, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
        Request::post(format!("http://{}/v1/messages", self.address))
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .unwrap()
    }

    pub(crate) async fn send<B>(&self, request: Request<B>) -> Answer
    where
        B: http_body::Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let client = Client::builder(TokioExecutor::new()).build_http();
        answer(client.request(request).await.unwrap()).await
    }

    pub(crate) async fn post(&self, body: impl Into<Bytes>) -> Answer {
        self.send(self.request(body)).await
    }

    pub(crate) async fn post_with(&self, body: impl Into<Bytes>, headers: &[(&'static str, &str)]) -> Answer {
        let mut request = self.request(body);
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        self.send(request).await
    }

    /// Messages that came through a door and were told what became of them, by ingest's own count.
    pub(crate) fn arrivals(&self, door: &str) -> usize {
        let name = format!("carillon_ingest_arrivals_total{{door=\"{door}\"}} ");
        let text = self.metrics.encode().unwrap();
        let found = text.lines().find_map(|line| line.strip_prefix(&name));
        found.unwrap().parse().unwrap()
    }

    /// A metric's line, whole.
    #[track_caller]
    pub(crate) fn counts(&self, line: &str) {
        let text = self.metrics.encode().unwrap();
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
}

pub(crate) async fn answer(response: http::Response<hyper::body::Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer {
        status: head.status,
        headers: head.headers,
        body: serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("{bytes:?}")),
    }
}

/// Waits until something holds.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waited)
        .await
        .expect("it never held");
}

/// Waits until nothing moves any more that would move if it could. How long that takes is not measured by a clock, which
/// knows nothing of how slow a machine is, but by what the same process gets done meanwhile: whole requests to another
/// partition.
pub(crate) async fn standstill(fixture: &Fixture, other: &str, moved: impl Fn() -> usize) -> usize {
    let (mut last, mut unmoved) = (moved(), 0);
    while unmoved < 100 {
        let body = format!("{{\"to\":{{\"room\":\"{other}\"}},\"event\":\"e\",\"data\":1}}");
        fixture.post(body).await.is_accepted();
        let now = moved();
        unmoved = if now == last { unmoved + 1 } else { 0 };
        last = now;
    }
    last
}

/// A policy's hash of a key.
pub(crate) fn hashed(key: &str) -> String {
    hex::encode(Sha256::digest(key))
}

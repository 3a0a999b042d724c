//! What the fuzz targets of `e2e/fuzz` see of ingest: its parsers, and what came of them as values.

use std::{io, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use carillon_broker::{
    MemoryGate, MemoryLimits,
    memory::{MemoryBroker, MemoryOptions},
};
use carillon_chassis::metrics::Metrics;
use carillon_model::{
    PartitionCount,
    policy::Policy,
    publish::{Publish, PublishErrors, PublishLimits},
};
use futures::stream;
use http::HeaderMap;
use prost::Message as _;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tonic::Status;
use tracing::Span;

use crate::{
    Ingest, IngestMetrics, IngestSettings,
    accept::described,
    grpc::{pb, service, status},
    http as door,
    lines::Lines,
    ndjson,
    problem::Problem,
    producer::Caller,
    stream::{Answer, Arrival, Arrivals, Arrived},
};

/// A refusal as producers are told it.
#[derive(Debug, PartialEq)]
pub struct Told {
    /// What HTTP says.
    pub problem: Map<String, Value>,
    /// The fields that gRPC names, and what is wrong with them.
    pub fields: Vec<(String, String)>,
    /// Bytes of gRPC's trailers: the text and the details.
    pub trailers: usize,
}

/// How mistakes are told.
pub fn told(errors: &PublishErrors) -> Told {
    refusal(described(errors))
}

fn refusal(problem: Problem) -> Told {
    let fields = status::told(&problem).fields.into_iter();
    Told {
        fields: fields.map(|told| (told.field, told.message)).collect(),
        problem: problem.to_json(),
        trailers: {
            let status = Status::from(problem);
            status.message().len() + status.details().len()
        },
    }
}

/// The message that a gRPC request asks for; `None` if these bytes are no request.
pub fn called(bytes: Bytes, limits: &PublishLimits) -> Option<Result<Publish, PublishErrors>> {
    let request = pb::PublishRequest::decode(bytes).ok()?;
    Some(service::asked(request, limits))
}

/// The producer that headers identify; `None` for nobody, where policy lets such in.
pub fn producer(headers: &HeaderMap, policy: &Policy) -> Result<Option<String>, Told> {
    let caller = Caller::of(headers, policy).map_err(refusal)?;
    Ok(caller.producer().map(|producer| producer.name.clone()))
}

/// The idempotency key in headers.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Told> {
    door::idempotency_key(headers).map_err(refusal)
}

/// The trace that a message takes over from headers where traces are not set up; empty if there is none.
pub fn traceparent(headers: &HeaderMap) -> String {
    door::traceparent(headers, &Span::none())
}

/// A body of lines on its way.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// The pieces in which it comes.
    pub pieces: Vec<Bytes>,
    /// The connection breaks behind the last one.
    pub cut_off: bool,
    /// The first piece is waited for before anything is read, as for those who ask before they send.
    pub asks_first: bool,
    /// So many lines are read before they are handed over.
    pub window: usize,
    /// So many bytes may be held.
    pub memory: usize,
}

/// What was read of a body of lines.
#[derive(Debug, Default, PartialEq)]
pub struct Read {
    /// The lines that are answered.
    pub lines: Vec<Line>,
    /// The last line of the answers, if the body was not read to its end.
    pub ended: Option<Map<String, Value>>,
    /// The most bytes that were kept and that nothing was held for.
    pub unheld: usize,
    /// All that was held is given back.
    pub given_back: bool,
}

/// A line that is answered.
#[derive(Debug, PartialEq)]
pub struct Line {
    /// Its number, from 1.
    pub number: u64,
    /// Its bytes, or those of its beginning if it is too long.
    pub bytes: usize,
    /// The message, or the answer.
    pub publish: Result<Publish, Map<String, Value>>,
}

/// Reads lines, and writes none of them.
#[derive(Clone, Debug)]
pub struct LineReader(Ingest);

impl LineReader {
    /// A reader within these bounds; `None` if metrics can't be registered.
    pub fn new(settings: IngestSettings) -> Option<Self> {
        let partitions = PartitionCount::new(1).ok()?;
        let broker = Arc::new(MemoryBroker::new(MemoryOptions::new(partitions, 0)));
        let (_, policy) = watch::channel(Arc::new(Policy::default_policy()));
        let metrics = IngestMetrics::new(&Metrics::new().ok()?).ok()?;
        let gate = MemoryGate::new(MemoryLimits::NONE).ok()?;
        Some(Self(Ingest::new(
            settings,
            partitions,
            Arc::clone(&broker) as _,
            broker,
            gate,
            policy,
            metrics,
        )))
    }

    /// Reads a body to its end. Needs a runtime that has time.
    pub async fn read(&self, sent: Sent) -> Read {
        let all = self.0.shared.settings.buffered_bytes;
        let mut others = self.0.shared.memory.hold();
        let mut read = Read::default();
        if others.take(all.saturating_sub(sent.memory)).is_err() {
            return read;
        }
        self.read_within(sent, &mut read).await;
        drop(others);
        read.given_back = self.0.shared.memory.hold().take(all).is_ok();
        read
    }

    async fn read_within(&self, sent: Sent, read: &mut Read) {
        let breaks = sent
            .cut_off
            .then(|| Err(io::Error::from(io::ErrorKind::BrokenPipe)));
        let pieces = sent.pieces.into_iter().map(Ok).chain(breaks);
        let mut lines = Lines::new(&self.0, Body::from_stream(stream::iter(pieces)));
        if sent.asks_first
            && let Err(problem) = lines.begin().await
        {
            read.ended = Some(problem.to_json());
            return;
        }
        loop {
            for _ in 0..sent.window.max(1) {
                let arrival = lines.next().await;
                let (kept, held) = lines.kept();
                read.unheld = read.unheld.max(kept.saturating_sub(held));
                match arrival {
                    Arrival::Message(arrived) => read.lines.push(line(arrived)),
                    Arrival::End(problem) => {
                        read.ended = problem.as_ref().map(Problem::to_json);
                        return;
                    }
                }
            }
            drop(lines.hand_over());
        }
    }
}

fn line(arrived: Arrived) -> Line {
    let Arrived {
        place,
        publish,
        bytes,
    } = arrived;
    let answered = |problem| {
        ndjson::line(Answer {
            place,
            result: Err(problem),
        })
    };
    Line {
        number: place,
        bytes,
        publish: publish.map_err(answered),
    }
}

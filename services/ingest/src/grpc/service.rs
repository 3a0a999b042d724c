//! The three calls.

use std::sync::Arc;

use carillon_chassis::{metrics::GaugeGuard, telemetry::trace_context};
use carillon_model::{
    Target,
    policy::Producer,
    publish::{DataPart, Publish, PublishErrors, PublishLimits, PublishParts},
};
use futures::{StreamExt, stream, stream::BoxStream};
use http::HeaderMap;
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Extensions, Request, Response, Status, Streaming, metadata::MetadataMap};
use tracing::{Instrument, Span, field::Empty, info_span};

use super::{
    metered::Meter,
    pb,
    stream::{Calls, Tally, answers},
};
use crate::{
    Ingest,
    accept::described,
    answer::Accepted,
    http::traceparent,
    metrics::Door,
    problem::Problem,
    producer::Caller,
    stream::{Stream, Turn},
};

/// A stream of messages, and whose it is if that is known.
struct Opened {
    stream: Stream<Calls>,
    span: Span,
    producer: Option<Arc<Producer>>,
}

pub(crate) struct Publisher {
    ingest: Ingest,
}

impl Publisher {
    pub(crate) fn new(ingest: Ingest) -> Self {
        Self { ingest }
    }

    /// Opens a stream: who may not has no stream to be told in.
    fn open(&self, request: Request<Streaming<pb::PublishRequest>>) -> Result<Opened, Status> {
        let (metadata, extensions, messages) = request.into_parts();
        let headers = metadata.into_headers();
        let span = span(&headers);
        let policy = Arc::clone(&self.ingest.shared.policy.borrow());
        let caller = Caller::of(&headers, &policy).map_err(|problem| {
            self.ingest.shared.metrics.told(Door::Grpc, Some(&problem));
            Status::from(problem)
        })?;
        span.record("producer", caller.name());
        let traceparent = traceparent(&headers, &span);
        let calls = Calls::new(&self.ingest, messages, self.meter(&extensions));
        let producer = caller.producer().cloned();
        let stream = Stream::new(&self.ingest, calls, headers, policy, caller, traceparent);
        Ok(Opened {
            stream,
            span,
            producer,
        })
    }

    /// An answer with where the producer stands beside it, if it has a quota.
    fn told<T>(&self, producer: Option<&Producer>, answer: T) -> Response<T> {
        Response::from_parts(self.standing(producer), answer, Extensions::default())
    }

    /// Where a producer stands, as metadata: the same fields as over HTTP.
    fn standing(&self, producer: Option<&Producer>) -> MetadataMap {
        let mut standing = HeaderMap::new();
        if let Some(producer) = producer {
            self.ingest.shared.quotas.tell(producer, &mut standing);
        }
        MetadataMap::from_headers(standing)
    }

    fn meter(&self, extensions: &Extensions) -> Meter {
        let meter = extensions.get::<Meter>().cloned();
        meter.unwrap_or_else(|| Meter::new(&self.ingest))
    }

    async fn publish_one(
        &self,
        caller: Result<Caller, Problem>,
        headers: &HeaderMap,
        extensions: &Extensions,
        message: pb::PublishRequest,
        span: &Span,
    ) -> Result<Accepted, Problem> {
        let caller = caller?;
        span.record("producer", caller.name());
        let bytes = message.encoded_len();
        let mut held = self.meter(extensions).hand_over();
        let asked = asked(message, &self.ingest.shared.settings.limits);
        let publish = asked.map_err(|errors| described(&errors))?;
        let traceparent = traceparent(headers, span);
        let id_and_rooms = self
            .ingest
            .accept(&caller, vec![publish], false, &traceparent, &mut held)
            .await?;
        self.ingest.shared.metrics.bytes.inc_by(bytes as u64);
        // One message was given, so one comes back.
        id_and_rooms.into_iter().next().ok_or_else(|| {
            let detail = "the message was accepted, and its place was lost on the way to the answer";
            Problem::new(crate::problem::Kind::Unknown, detail).with("outcome", "unknown")
        })
    }
}

fn span(headers: &HeaderMap) -> Span {
    let span = info_span!(
        "publish_grpc",
        otel.kind = "server",
        producer = Empty,
        status = Empty
    );
    trace_context::set_parent(&span, trace_context::from_headers(headers));
    span
}

#[tonic::async_trait]
impl pb::publisher_server::Publisher for Publisher {
    async fn publish(
        &self,
        request: Request<pb::PublishRequest>,
    ) -> Result<Response<pb::PublishResponse>, Status> {
        let started = Instant::now();
        let shared = &self.ingest.shared;
        let _open = GaugeGuard::new(&shared.metrics.requests_open);
        let (metadata, extensions, message) = request.into_parts();
        let headers = metadata.into_headers();
        let span = span(&headers);
        let policy = Arc::clone(&shared.policy.borrow());
        let caller = Caller::of(&headers, &policy);
        let producer = caller.as_ref().ok().and_then(Caller::producer).cloned();
        let result = self
            .publish_one(caller, &headers, &extensions, message, &span)
            .instrument(span.clone())
            .await;
        shared
            .metrics
            .request_seconds
            .observe(started.elapsed().as_secs_f64());
        shared.metrics.told(Door::Grpc, result.as_ref().err());
        match result {
            Ok(accepted) => {
                span.record("status", "OK");
                Ok(self.told(producer.as_deref(), published(&accepted)))
            }
            Err(problem) => {
                let mut status = Status::from(problem);
                span.record("status", status.code().description());
                *status.metadata_mut() = self.standing(producer.as_deref());
                Err(status)
            }
        }
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<pb::PublishRequest>>,
    ) -> Result<Response<pb::PublishSummary>, Status> {
        let Opened {
            mut stream,
            span,
            producer,
        } = self.open(request)?;
        let summed = async {
            let mut tally = Tally::default();
            loop {
                match stream.turn().await {
                    Turn::Answers(answers) => tally.count(answers),
                    Turn::End(ended) => return tally.summary(ended),
                }
            }
        };
        let summary = summed.instrument(span).await;
        Ok(self.told(producer.as_deref(), summary))
    }

    type PublishEachStream = BoxStream<'static, Result<pb::PublishAnswer, Status>>;

    async fn publish_each(
        &self,
        request: Request<Streaming<pb::PublishRequest>>,
    ) -> Result<Response<Self::PublishEachStream>, Status> {
        let Opened {
            stream,
            span,
            producer,
        } = self.open(request)?;
        // Nothing is done before the next answers are asked for, and HTTP/2 asks when there is room for them.
        let turns = stream::unfold(Some(stream), move |stream| {
            answers(stream).instrument(span.clone())
        });
        Ok(self.told(producer.as_deref(), turns.flat_map(stream::iter).boxed()))
    }
}

/// The message that a request asks for.
pub(crate) fn asked(request: pb::PublishRequest, limits: &PublishLimits) -> Result<Publish, PublishErrors> {
    use pb::{publish_request::Content, target::To};
    let to = request.to.and_then(|target| target.to).and_then(|to| match to {
        To::Room(room) => Some(Target::Room(room)),
        To::Rooms(rooms) => Some(Target::Rooms(rooms.names)),
        To::User(user) => Some(Target::User(user)),
        To::Users(users) => Some(Target::Users(users.names)),
        To::Session(session) => Some(Target::Session(session)),
        To::All(all) => all.then_some(Target::All),
    });
    let data = request.content.map(|content| match content {
        Content::Data(json) => DataPart::Json(json),
        Content::DataBytes(bytes) => DataPart::Binary(bytes),
    });
    let key = request.idempotency_key;
    let parts = PublishParts {
        to,
        event: request.event,
        data,
        idempotency_key: (!key.is_empty()).then_some(key),
    };
    Publish::of_parts(parts, limits)
}

/// The answer to a message that is kept.
pub(crate) fn published(accepted: &Accepted) -> pb::PublishResponse {
    let rooms = accepted.rooms.iter().map(|(room, offset)| pb::Placement {
        room: room.as_str().to_owned(),
        offset: offset.to_string(),
    });
    pb::PublishResponse {
        id: accepted.id.to_string(),
        rooms: rooms.collect(),
    }
}

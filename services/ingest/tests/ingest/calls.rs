//! gRPC, with a client generated from the .proto alone.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use carillon_broker::BrokerError;
use carillon_model::{Data, Message, Sender};
use futures::{SinkExt, StreamExt, channel::mpsc, stream};
use tokio::time::timeout;
use tonic::{Code, Request, Status, Streaming, metadata::MetadataMap, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    fixture::{Fault, Fixture, hashed, standstill, until},
    hanging::Hanging,
};

#[allow(missing_docs, unreachable_pub, clippy::all)] // generated; the .proto says what everything is
pub(crate) mod pb {
    include!(concat!(env!("OUT_DIR"), "/client/carillon.v1.rs"));
}

use pb::{
    Names, Outcome, PublishAnswer, PublishRequest, Target, publish_answer::Answer, publish_request::Content,
    publisher_client::PublisherClient, target::To,
};

pub(crate) async fn channel(fixture: &Fixture) -> Channel {
    Channel::from_shared(format!("http://{}", fixture.grpc_address))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

async fn client(fixture: &Fixture) -> PublisherClient<Channel> {
    PublisherClient::new(channel(fixture).await)
}

fn to(to: To) -> Option<Target> {
    Some(Target { to: Some(to) })
}

fn message(room: &str, data: impl ToString) -> PublishRequest {
    PublishRequest {
        to: to(To::Room(room.to_owned())),
        event: "e".to_owned(),
        content: Some(Content::Data(data.to_string())),
        idempotency_key: String::new(),
    }
}

async fn data(fixture: &Fixture, room: &str) -> Vec<String> {
    let queued = fixture.broker.queued(fixture.partition(room)).await;
    queued
        .into_iter()
        .map(|(_, _, message)| match message.data {
            Data::Json(json) => String::from_utf8(json.to_vec()).unwrap(),
            Data::Binary(bytes) => format!("{bytes:?}"),
        })
        .collect()
}

/// The details that every status has: what for, and the outcome.
#[track_caller]
fn reason(status: &Status) -> (String, BTreeMap<String, String>) {
    let info = status.get_error_details().error_info().cloned().unwrap();
    assert_eq!(info.domain, "carillon.dev");
    (info.reason, info.metadata.into_iter().collect())
}

#[tokio::test]
async fn a_message_is_the_same_by_grpc_and_by_http() {
    let fixture = Fixture::start().await;
    let mut client = client(&fixture).await;
    let traced = |request: PublishRequest| {
        let mut request = Request::new(request);
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        request
            .metadata_mut()
            .insert("traceparent", trace.parse().unwrap());
        request
    };
    let names = |names: &[&str]| Names {
        names: names.iter().map(ToString::to_string).collect(),
    };
    let targets = [
        (To::Room("lobby".into()), r#"{"room":"lobby"}"#),
        (
            To::Rooms(names(&["lobby", "lobby"])),
            r#"{"rooms":["lobby","lobby"]}"#,
        ),
        (To::User("7".into()), r#"{"user":"7"}"#),
        (To::Users(names(&["7"])), r#"{"users":["7"]}"#),
        (To::Session("s".into()), r#"{"session":"s"}"#),
        (To::All(true), r#""all""#),
    ];
    let contents = [
        (Content::Data(" {\"ü\": 1.00} ".into()), r#""data": {"ü": 1.00} "#),
        (Content::DataBytes(vec![0, 255]), r#""data_base64":"AP8=""#),
    ];
    for (target, json_target) in targets {
        for (content, json_content) in &contents {
            let request = PublishRequest {
                to: to(target.clone()),
                event: "größe".to_owned(),
                content: Some(content.clone()),
                idempotency_key: String::new(),
            };
            let answer = client.publish(traced(request)).await.unwrap().into_inner();
            let body = format!(r#"{{"to":{json_target},"event":"größe",{json_content}}}"#);
            let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
            let by_http = fixture.post_with(body, &[("traceparent", trace)]).await;
            by_http.is_accepted();
            let room = &answer.rooms[0].room;
            assert_eq!(by_http.body["rooms"][0]["room"], room.as_str());
            let queued = fixture.broker.queued(fixture.partition(room)).await;
            let [.., (grpc_offset, grpc_room, grpc), (_, http_room, http)] = queued.as_slice() else {
                panic!("{queued:?}")
            };
            assert_eq!(grpc_room, http_room);
            assert_eq!(answer.id, grpc.id.to_string());
            assert_eq!(answer.rooms[0].offset, grpc_offset.to_string());
            assert_eq!(grpc.traceparent, trace);
            let apart = |message: &Message| Message {
                id: http.id,
                accepted_at: 0,
                ..message.clone()
            };
            assert_eq!(apart(grpc), apart(http));
        }
    }
    fixture.counts("carillon_ingest_arrivals_total{door=\"grpc\"} 12");
    fixture.counts("carillon_ingest_arrivals_total{door=\"http\"} 12");
    fixture.counts("carillon_ingest_requests_open 0");
}

#[tokio::test]
async fn a_key_is_the_same_at_both_doors() {
    let fixture = Fixture::start().await;
    let mut client = client(&fixture).await;
    let by_http = fixture
        .post(r#"{"to":{"room":"lobby"},"event":"e","data":1,"idempotency_key":"k"}"#)
        .await;
    let keyed = |data: u32| PublishRequest {
        idempotency_key: "k".to_owned(),
        ..message("lobby", data)
    };
    let by_grpc = client.publish(keyed(1)).await.unwrap().into_inner();
    assert_eq!(by_http.body["id"], by_grpc.id);
    assert_eq!(by_http.body["rooms"][0]["offset"], by_grpc.rooms[0].offset);
    let status = client.publish(keyed(2)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(reason(&status).0, "KEY_REUSED");
    assert_eq!(data(&fixture, "lobby").await, ["1"]);
}

#[tokio::test]
async fn mistakes_are_told_field_by_field() {
    let fixture = Fixture::start().await;
    let mut client = client(&fixture).await;
    let status = client
        .publish(PublishRequest {
            to: to(To::Rooms(Names {
                names: vec!["a".into(), String::new()],
            })),
            event: "connect".to_owned(),
            content: Some(Content::Data("{".to_owned())),
            idempotency_key: "\u{7}".to_owned(),
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    let fields: Vec<_> = violations
        .iter()
        .map(|violation| violation.field.as_str())
        .collect();
    assert_eq!(fields, ["to.rooms[1]", "event", "data", "idempotency_key"]);
    assert!(violations[2].description.contains("not JSON"), "{violations:?}");
    assert_eq!(reason(&status).0, "INVALID");

    for request in [
        PublishRequest::default(),
        PublishRequest {
            to: to(To::All(false)),
            ..PublishRequest::default()
        },
    ] {
        let status = client.publish(request).await.unwrap_err();
        let details = status.get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
        let fields: Vec<_> = violations
            .iter()
            .map(|violation| violation.field.as_str())
            .collect();
        assert_eq!(fields, ["to", "event", "data"]);
    }
    let status = client
        .publish(message("lobby", format!("\"{}\"", "x".repeat(70_000))))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let (reason, metadata) = reason(&status);
    assert_eq!(
        (reason.as_str(), metadata["limit"].as_str()),
        ("TOO_LARGE", "ingest.message")
    );
    // Over what a whole request may have: the transport refuses it unread.
    let status = client
        .publish(message("lobby", "x".repeat(2 << 20)))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(fixture.broker.appends.lock().unwrap().is_empty());
}

#[tokio::test]
async fn bytes_are_counted_before_they_are_a_message() {
    let fixture = Fixture::with(|settings| settings.buffered_bytes = 500).await;
    let mut client = client(&fixture).await;
    // It is wrong as well, but nobody gets so far as to see it.
    let large = message("", "x".repeat(1_000));
    let status = client.publish(large.clone()).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).0.as_str()),
        (Code::Unavailable, "BUSY")
    );
    let summary = client
        .publish_stream(stream::iter([large]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(summary.ended.unwrap().reason, "busy");
    let small = client.publish(message("lobby", 1)).await;
    assert!(small.is_ok(), "what was refused is held no more: {small:?}");
}

#[tokio::test]
async fn the_three_outcomes_are_named() {
    let fixture = Fixture::start().await;
    let mut client = client(&fixture).await;
    let mut told = async |fault: Fault| {
        fixture.broker.fail(fault);
        let status = client.publish(message("lobby", 1)).await.unwrap_err();
        let details = status.get_error_details();
        let retry = details.retry_info().unwrap().retry_delay.unwrap();
        assert!(retry >= Duration::from_secs(1));
        let (reason, metadata) = reason(&status);
        (status.code(), reason, metadata["outcome"].clone())
    };
    let named = |code, reason: &str, outcome: &str| (code, reason.to_owned(), outcome.to_owned());
    assert_eq!(
        told(Fault::Full).await,
        named(Code::ResourceExhausted, "QUEUE_FULL", "refused")
    );
    assert_eq!(
        told(Fault::Error(BrokerError::OutOfMemory("OOM".into()))).await,
        named(Code::ResourceExhausted, "MEMORY", "refused")
    );
    assert_eq!(
        told(Fault::Error(BrokerError::Unavailable("gone".into()))).await,
        named(Code::Unavailable, "UNAVAILABLE", "refused")
    );
    assert_eq!(
        told(Fault::LoseAnswer).await,
        named(Code::Unavailable, "OUTCOME_UNKNOWN", "unknown")
    );
}

#[tokio::test]
async fn a_key_opens_its_own_rooms() {
    let fixture = Fixture::start().await;
    fixture.set_policy(&format!(
        "producers: [{{name: desk, key_sha256: {}, rooms: [lobby], rate: 2/h}}]",
        hashed("key")
    ));
    let mut client = client(&fixture).await;
    let status = client.publish(message("lobby", 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let status = client.publish_each(stream::empty()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let as_desk = |request: PublishRequest| {
        let mut request = Request::new(request);
        request
            .metadata_mut()
            .insert("authorization", "Bearer key".parse().unwrap());
        request
    };
    let status = client.publish(as_desk(message("attic", 1))).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(reason(&status).1["room"], "attic");
    let answer = client.publish(as_desk(message("lobby", 1))).await.unwrap();
    assert!(answer.metadata().contains_key("ratelimit"));
    client.publish(as_desk(message("lobby", 2))).await.unwrap();
    let status = client.publish(as_desk(message("lobby", 3))).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(reason(&status).0, "QUOTA");
    assert!(status.get_error_details().retry_info().is_some());
    let queued = fixture.broker.queued(fixture.partition("lobby")).await;
    assert_eq!(queued[0].2.sender, Sender::Producer("desk".to_owned()));
    // Streams tell where the producer stands, too.
    let mut call = Request::new(stream::iter([message("lobby", 4)]));
    let key = "Bearer key".parse().unwrap();
    call.metadata_mut().insert("authorization", key);
    let summary = client.publish_stream(call).await.unwrap();
    let has_none_left = |metadata: &MetadataMap| {
        let standing = metadata.get("ratelimit").unwrap();
        assert!(standing.to_str().unwrap().contains("r=0"), "{standing:?}");
    };
    has_none_left(summary.metadata());
    let mut call = Request::new(stream::empty());
    let key = "Bearer key".parse().unwrap();
    call.metadata_mut().insert("authorization", key);
    let answers = client.publish_each(call).await.unwrap();
    has_none_left(answers.metadata());
}

async fn next(answers: &mut Streaming<PublishAnswer>) -> Option<Result<PublishAnswer, Status>> {
    timeout(Duration::from_secs(10), answers.next())
        .await
        .expect("an answer comes")
}

#[tokio::test]
async fn each_message_of_a_stream_is_answered_while_it_is_open() {
    let fixture = Fixture::start().await;
    let mut client = client(&fixture).await;
    let (mut sender, requests) = mpsc::channel(0);
    let mut answers = client.publish_each(requests).await.unwrap().into_inner();
    for n in 0..3_u64 {
        sender.send(message("lobby", n)).await.unwrap();
        let answer = next(&mut answers).await.unwrap().unwrap();
        assert_eq!(answer.index, n);
        assert!(matches!(answer.answer, Some(Answer::Published(_))), "{answer:?}");
    }
    sender.send(message("", 3)).await.unwrap();
    let answer = next(&mut answers).await.unwrap().unwrap();
    let Some(Answer::Problem(problem)) = answer.answer else {
        panic!("{answer:?}")
    };
    assert_eq!(
        (answer.index, problem.code(), problem.reason.as_str()),
        (3, Code::InvalidArgument, "invalid")
    );
    assert_eq!(
        (problem.outcome(), problem.fields[0].field.as_str()),
        (Outcome::Refused, "to.room")
    );

    fixture.broker.fail(Fault::LoseAnswer);
    sender.send(message("lobby", 4)).await.unwrap();
    let answer = next(&mut answers).await.unwrap().unwrap();
    let Some(Answer::Problem(problem)) = answer.answer else {
        panic!("{answer:?}")
    };
    assert_eq!(
        (problem.outcome(), problem.rooms[0].outcome()),
        (Outcome::Unknown, Outcome::Unknown)
    );
    assert!(!problem.id.is_empty() && problem.retry_after_seconds >= 1);
    fixture.broker.heal();
    sender.send(message("lobby", 5)).await.unwrap();
    assert_eq!(next(&mut answers).await.unwrap().unwrap().index, 5);
    fixture.counts("carillon_ingest_streams_open 1");
    drop(sender);
    assert!(next(&mut answers).await.is_none());
    assert_eq!(data(&fixture, "lobby").await, ["0", "1", "2", "4", "5"]);
    fixture.counts("carillon_ingest_arrivals_total{door=\"grpc\"} 6");
}

impl pb::Problem {
    fn code(&self) -> Code {
        self.code.into()
    }
}

#[tokio::test]
async fn a_stream_keeps_its_order_and_is_written_in_windows() {
    let fixture = Fixture::start().await;
    let (here, there) = fixture.apart();
    let mut client = client(&fixture).await;
    let requests: Vec<_> = (0..2_000)
        .map(|n| message(if n % 2 == 0 { &here } else { &there }, n))
        .collect();
    let mut answers = client
        .publish_each(stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    for n in 0..2_000 {
        assert_eq!(next(&mut answers).await.unwrap().unwrap().index, n);
    }
    assert!(next(&mut answers).await.is_none());
    let wanted = |odd: u32| (0..1_000).map(|n| (n * 2 + odd).to_string()).collect::<Vec<_>>();
    assert_eq!(data(&fixture, &here).await, wanted(0));
    assert_eq!(data(&fixture, &there).await, wanted(1));
    let appends = fixture.broker.appends.lock().unwrap().len();
    assert!(appends < 2_000, "{appends} appends for 2000 messages");
}

#[tokio::test]
async fn a_whole_stream_has_one_answer() {
    let fixture = Fixture::start().await;
    let mut client = client(&fixture).await;
    let requests: Vec<_> = (0..300)
        .map(|n| message(if n % 2 == 0 { "lobby" } else { "" }, n))
        .collect();
    let summary = client
        .publish_stream(stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            summary.messages,
            summary.accepted,
            summary.refused,
            summary.unknown
        ),
        (300, 150, 150, 0)
    );
    let indices: Vec<_> = summary.problems.iter().map(|refusal| refusal.index).collect();
    assert_eq!(indices, (0..100).map(|n| n * 2 + 1).collect::<Vec<_>>());
    assert!(summary.ended.is_none());
    let wanted: Vec<String> = (0..150).map(|n| (n * 2).to_string()).collect();
    assert_eq!(data(&fixture, "lobby").await, wanted);
}

/// Messages of a stream that is sent as fast as it is taken, and how many were taken.
fn sending(
    mut sender: mpsc::Sender<PublishRequest>,
    total: usize,
    message: impl Fn(usize) -> PublishRequest + Send + 'static,
) -> Arc<AtomicUsize> {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    tokio::spawn(async move {
        for n in 0..total {
            if sender.send(message(n)).await.is_err() {
                return;
            }
            counted.fetch_add(1, Relaxed);
        }
    });
    sent
}

/// 30 MB, of which windows of HTTP/2 and the kernel's buffers hold a few.
const MANY: usize = 30_000;

fn large(room: &str, n: usize) -> PublishRequest {
    message(room, format!("\"{n} {}\"", "x".repeat(1_000)))
}

#[tokio::test]
async fn while_the_broker_hangs_no_stream_is_read_further_than_a_window() {
    for one_answer in [false, true] {
        let hanging = Hanging::start().await;
        let (fixture, room) = (&hanging.fixture, hanging.room.clone());
        let mut client = client(fixture).await;
        let (sender, requests) = mpsc::channel(0);
        let sent = sending(sender, MANY, move |n| large(&room, n));
        let answered = tokio::spawn(async move {
            if one_answer {
                let summary = client.publish_stream(requests).await.unwrap().into_inner();
                return summary.accepted;
            }
            let mut answers = client.publish_each(requests).await.unwrap().into_inner();
            let mut read = 0;
            while let Some(answer) = answers.message().await.unwrap() {
                assert_eq!(answer.index, read);
                assert!(matches!(answer.answer, Some(Answer::Published(_))), "{answer:?}");
                read += 1;
            }
            read
        });
        hanging
            .is_read_by_windows("grpc", MANY, || sent.load(Relaxed))
            .await;
        assert_eq!(answered.await.unwrap(), MANY as u64);
        let data = data(fixture, &hanging.room).await;
        assert_eq!(data.len(), MANY);
        for (n, data) in data.iter().enumerate() {
            assert!(data.starts_with(&format!("\"{n} ")), "{n}: {data}");
        }
    }
}

#[tokio::test]
async fn who_does_not_read_answers_is_not_read() {
    let fixture = Fixture::with(|settings| settings.buffered_bytes = 4 << 20).await;
    let channel = Channel::from_shared(format!("http://{}", fixture.grpc_address))
        .unwrap()
        .initial_stream_window_size(65_535)
        .connect()
        .await
        .unwrap();
    let mut client = PublisherClient::new(channel);
    let (sender, requests) = mpsc::channel(0);
    let mut answers = client.publish_each(requests).await.unwrap().into_inner();
    // Nothing of it is kept, so that nothing but the answers can hold it up.
    let sent = sending(sender, MANY, |n| large("", n));
    until(|| fixture.arrivals("grpc") > 0).await;
    let stood = standstill(&fixture, "lobby", || sent.load(Relaxed)).await;
    assert!(stood < MANY, "all of it was taken, and no answer was");
    let told = fixture.arrivals("grpc");
    assert!(told < MANY, "{told} messages were read, and no answer was");
    let mut read = 0;
    while let Some(answer) = next(&mut answers).await {
        assert_eq!(answer.unwrap().index, read);
        read += 1;
    }
    assert_eq!(read, MANY as u64);
}

#[tokio::test]
async fn a_drain_ends_streams_with_what_they_have_answered() {
    let mut fixture = Fixture::start().await;
    let mut client = client(&fixture).await;
    let (mut sender, requests) = mpsc::channel(0);
    let mut answers = client.publish_each(requests).await.unwrap().into_inner();
    sender.send(message("lobby", 1)).await.unwrap();
    next(&mut answers).await.unwrap().unwrap();
    let (mut other, requests) = mpsc::channel(0);
    let mut second = client.clone();
    let summary = tokio::spawn(async move { second.publish_stream(requests).await });
    other.send(message("attic", 1)).await.unwrap();
    until(|| fixture.broker.appends.lock().unwrap().len() == 2).await;

    fixture.drain(Duration::from_secs(60));
    let status = next(&mut answers).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(reason(&status).1["outcome"], "refused");
    let summary = summary.await.unwrap().unwrap().into_inner();
    assert_eq!((summary.messages, summary.accepted), (1, 1));
    assert_eq!(summary.ended.unwrap().code(), Code::Unavailable);
    drop((client, sender, other));
    timeout(Duration::from_secs(10), &mut fixture.serving)
        .await
        .expect("the drain is not held up")
        .unwrap();
}

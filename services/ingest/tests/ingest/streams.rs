//! NDJSON: a line of answer for each line, while the body is open.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use carillon_broker::{Append, IdempotencyKey, NewMessage, Queue as _};
use carillon_model::Offset;
use futures::{SinkExt, StreamExt, channel::mpsc};
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    sync::Semaphore,
    time::timeout,
};

use crate::fixture::{Fault, Fixture, answer, hashed, until};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// An open stream, from the side of a producer.
pub(crate) struct Open {
    lines: Option<mpsc::Sender<Bytes>>,
    body: Incoming,
    read: Vec<u8>,
}

impl Open {
    async fn request(fixture: &Fixture, http2: bool, headers: &[(&str, &str)]) -> http::Response<Incoming> {
        Self::begin(fixture, http2, headers).await.1
    }

    async fn begin(
        fixture: &Fixture,
        http2: bool,
        headers: &[(&str, &str)],
    ) -> (mpsc::Sender<Bytes>, http::Response<Incoming>) {
        let (lines, sent) = mpsc::channel(0);
        let frames = sent.map(|line| Ok::<_, std::io::Error>(Frame::data(line)));
        let mut request = Request::post(format!("http://{}/v1/messages", fixture.address))
            .header("content-type", "application/x-ndjson");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let client = Client::builder(TokioExecutor::new())
            .http2_only(http2)
            .build_http();
        let request = request.body(StreamBody::new(frames)).unwrap();
        (lines, client.request(request).await.unwrap())
    }

    async fn with(fixture: &Fixture, http2: bool, headers: &[(&str, &str)]) -> Self {
        let (lines, response) = Self::begin(fixture, http2, headers).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        Self {
            lines: Some(lines),
            body: response.into_body(),
            read: Vec::new(),
        }
    }

    pub(crate) async fn start(fixture: &Fixture) -> Self {
        Self::with(fixture, false, &[]).await
    }

    pub(crate) async fn send(&mut self, text: impl Into<Bytes>) {
        self.lines.as_mut().unwrap().send(text.into()).await.unwrap();
    }

    pub(crate) fn end(&mut self) {
        self.lines = None;
    }

    /// The next line of the answer, `None` at its end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(at) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=at).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = timeout(PATIENCE, self.body.frame())
                .await
                .expect("an answer comes");
            match frame {
                Some(frame) => self.read.extend(frame.unwrap().into_data().unwrap()),
                None => {
                    assert!(self.read.is_empty(), "{:?}", String::from_utf8_lossy(&self.read));
                    return None;
                }
            }
        }
    }

    pub(crate) async fn rest(&mut self) -> Vec<Value> {
        let mut rest = Vec::new();
        while let Some(line) = self.next().await {
            rest.push(line);
        }
        rest
    }
}

pub(crate) fn message(room: &str, data: impl Into<Value>) -> String {
    format!(
        "{}\n",
        json!({"to": {"room": room}, "event": "e", "data": data.into()})
    )
}

/// What lies in a room, as JSON.
pub(crate) async fn data(fixture: &Fixture, room: &str) -> Vec<Value> {
    let queued = fixture.broker.queued(fixture.partition(room)).await;
    let of_room = queued.into_iter().filter(|(_, of, _)| of == room);
    of_room
        .map(|(_, _, message)| match message.data {
            carillon_model::Data::Json(json) => serde_json::from_slice(&json).unwrap(),
            carillon_model::Data::Binary(_) => panic!("no bytes were sent"),
        })
        .collect()
}

#[tokio::test]
async fn a_line_is_answered_while_the_body_is_open() {
    for http2 in [false, true] {
        let fixture = Fixture::start().await;
        let mut stream = Open::with(&fixture, http2, &[]).await;
        for line in 1..=3 {
            stream.send(message("lobby", line)).await;
            let answer = stream.next().await.unwrap();
            let queued = fixture.broker.queued(fixture.partition("lobby")).await;
            let (offset, _, message) = queued.last().unwrap();
            assert_eq!(
                answer,
                json!({"line": line, "status": 202, "id": message.id, "rooms": [{"room": "lobby", "offset": offset}]})
            );
        }
        fixture.counts("carillon_ingest_streams_open 1");
        stream.end();
        assert_eq!(stream.next().await, None);
        assert_eq!(data(&fixture, "lobby").await, [1, 2, 3]);
        fixture.counts("carillon_ingest_arrivals_total{door=\"ndjson\"} 3");
        fixture.counts("carillon_ingest_requests_total{outcome=\"accepted\"} 3");
        fixture.counts("carillon_ingest_messages_total 3");
    }
}

#[tokio::test]
async fn a_line_that_is_too_long_is_answered_however_it_comes() {
    let fixture = Fixture::with(|settings| settings.body_bytes = 80).await;
    for line in [" ".repeat(100), "x".repeat(100)] {
        for piece in [200, 101, 81, 7] {
            let text = format!("{line}\n{}", message("lobby", piece));
            let mut stream = Open::start(&fixture).await;
            for piece in text.as_bytes().chunks(piece) {
                stream.send(Bytes::copy_from_slice(piece)).await;
            }
            stream.end();
            let answers = stream.rest().await;
            let told: Vec<_> = answers
                .iter()
                .map(|answer| (answer["line"].as_u64(), answer["status"].as_u64()))
                .collect();
            assert_eq!(
                told,
                [(Some(1), Some(413)), (Some(2), Some(202))],
                "{line:?} in {piece}"
            );
        }
    }
}

#[tokio::test]
async fn a_bad_line_is_answered_and_the_next_one_is_read() {
    let fixture = Fixture::with(|settings| settings.body_bytes = 2_000).await;
    let mut stream = Open::start(&fixture).await;
    let long = format!("{}\n", "x".repeat(5_000));
    let text = [
        message("lobby", 1),
        "{\"to\":\n".to_owned(),
        "  \r\n".to_owned(),
        message("lobby", 2).replace('\n', "\r\n"),
        "{\"to\":{\"room\":7},\"event\":\"e\",\"data\":1}\n".to_owned(),
        format!("[{}]\n", message("lobby", 3).trim()),
        long,
        "{\"to\":\"all\",\"event\":\"e\"}\n".to_owned(),
        message("lobby", 4).trim().to_owned(),
    ]
    .concat();
    // Cut in the middle of anything.
    for piece in text.as_bytes().chunks(7) {
        stream.send(Bytes::copy_from_slice(piece)).await;
    }
    stream.end();
    let answers = stream.rest().await;
    let told: Vec<_> = answers
        .iter()
        .map(|answer| {
            (
                answer["line"].as_u64().unwrap(),
                answer["status"].as_u64().unwrap(),
            )
        })
        .collect();
    // The blank line has no answer, and a number all the same.
    assert_eq!(
        told,
        [
            (1, 202),
            (2, 400),
            (4, 202),
            (5, 422),
            (6, 422),
            (7, 413),
            (8, 422),
            (9, 202)
        ]
    );
    assert_eq!(data(&fixture, "lobby").await, [1, 2, 4]);
    let wrong = &answers[3];
    assert_eq!(wrong["type"], "https://carillon.dev/problems/invalid");
    assert_eq!(
        (wrong["field"].as_str(), wrong["column"].as_u64()),
        (Some("to.room"), Some(15))
    );
    assert!(
        wrong["detail"].as_str().unwrap().contains("line 5, column 15"),
        "{wrong}"
    );
    assert!(answers[4]["detail"].as_str().unwrap().contains("not an array"));
    assert_eq!(
        (answers[5]["limit"].as_str(), answers[5]["allowed"].as_u64()),
        (Some("ingest.body"), Some(2_000))
    );
    fixture.counts("carillon_ingest_rejections_total{reason=\"invalid\"} 3");
}

#[tokio::test]
async fn what_comes_together_is_written_together_and_in_order() {
    let fixture = Fixture::start().await;
    let (here, there) = fixture.apart();
    let mut stream = Open::start(&fixture).await;
    let lines: String = (0..1_000)
        .map(|n| message(if n % 3 == 0 { &there } else { &here }, n))
        .collect();
    stream.send(lines).await;
    stream.end();
    let answers = stream.rest().await;
    for (place, answer) in answers.iter().enumerate() {
        assert_eq!(
            (answer["line"].as_u64().unwrap(), &answer["status"]),
            (place as u64 + 1, &json!(202))
        );
    }
    assert_eq!(answers.len(), 1_000);
    let wanted = |third: bool| (0..1_000).filter(|n| (n % 3 == 0) == third).collect::<Vec<_>>();
    assert_eq!(data(&fixture, &here).await, wanted(false));
    assert_eq!(data(&fixture, &there).await, wanted(true));
    let appends = fixture.broker.appends.lock().unwrap();
    assert!(appends.len() <= 100, "{} appends for 1000 lines", appends.len());
    let largest = appends.iter().map(|append| append.messages.len()).max();
    assert!(
        largest <= Some(128),
        "no stream holds more than a window: {largest:?}"
    );
}

#[tokio::test]
async fn a_key_that_was_used_before_is_no_trouble_of_its_neighbours() {
    let fixture = Fixture::start().await;
    let keyed = |data: u32, key: &str| {
        let line =
            json!({"to": {"rooms": ["lobby", "attic"]}, "event": "e", "data": data, "idempotency_key": key});
        format!("{line}\n")
    };
    let lines: String = (0..30)
        .map(|n| match n {
            7 => keyed(70, "k6"),
            20 => message("lobby", 20),
            _ => keyed(n, &format!("k{n}")),
        })
        .collect();
    for _ in 0..2 {
        let mut stream = Open::start(&fixture).await;
        stream.send(lines.clone()).await;
        stream.end();
        for answer in stream.rest().await {
            let wanted = if answer["line"] == 8 { 422 } else { 202 };
            assert_eq!(answer["status"], wanted, "{answer}");
            if answer["line"] == 8 {
                assert_eq!(answer["type"], "https://carillon.dev/problems/key-reused");
                assert_eq!(
                    (&answer["field"], &answer["outcome"]),
                    (&json!("idempotency_key"), &json!("refused"))
                );
            }
        }
    }
    // The second stream repeats all but the message without a key.
    let mut wanted: Vec<u32> = (0..30).filter(|n| *n != 7).collect();
    wanted.push(20);
    assert_eq!(data(&fixture, "lobby").await, wanted);
    wanted.retain(|n| *n != 20);
    assert_eq!(data(&fixture, "attic").await, wanted);
    // Found in the partition of either room.
    fixture.counts("carillon_ingest_repeats_total 56");
}

#[tokio::test]
async fn what_stands_beside_a_wrong_key_is_written_once_in_each_of_its_rooms() {
    let fixture = Fixture::start().await;
    let (here, there) = fixture.apart();
    // The key's home has forgotten it, and the room's partition has not.
    let key = IdempotencyKey {
        producer: "anonymous".to_owned(),
        key: "k".to_owned(),
        fingerprint: Bytes::from_static(b"another"),
    };
    let before = Append {
        partition: fixture.partition(&there),
        messages: vec![NewMessage {
            entries: Vec::new(),
            idempotency: Some(key),
        }],
        known: Offset::ZERO,
        queue_limit: 100,
        keep_keys: Duration::from_secs(60),
    };
    fixture.broker.memory.append(before).await.unwrap();
    let both = json!({"to": {"rooms": [here, there]}, "event": "e", "data": 1});
    let keyed = json!({"to": {"room": there}, "event": "e", "data": 2, "idempotency_key": "k"});
    let mut stream = Open::start(&fixture).await;
    stream.send(format!("{both}\n{keyed}\n")).await;
    stream.end();
    let answers = stream.rest().await;
    assert_eq!(
        (&answers[0]["status"], &answers[1]["status"]),
        (&json!(202), &json!(422))
    );
    assert_eq!(answers[0]["rooms"].as_array().unwrap().len(), 2);
    for room in [&here, &there] {
        assert_eq!(data(&fixture, room).await, [1]);
    }
}

#[tokio::test]
async fn every_outcome_is_told_line_by_line() {
    let fixture = Fixture::start().await;
    let (here, there) = fixture.apart();
    let mut stream = Open::start(&fixture).await;
    fixture.broker.fail_at(fixture.partition(&there), Fault::Full);
    let both = format!(
        "{}\n",
        json!({"to": {"rooms": [here, there]}, "event": "e", "data": 2})
    );
    stream
        .send([message(&here, 1), both, message(&there, 3)].concat())
        .await;
    let answers = [
        stream.next().await.unwrap(),
        stream.next().await.unwrap(),
        stream.next().await.unwrap(),
    ];
    assert_eq!(answers[0]["status"], 202);
    assert_eq!(
        (&answers[1]["status"], &answers[1]["outcome"]),
        (&json!(429), &json!("partial"))
    );
    assert_eq!(answers[1]["messages"][0]["rooms"][0]["outcome"], "accepted");
    assert_eq!(answers[1]["messages"][0]["rooms"][1]["outcome"], "refused");
    assert_eq!(
        (&answers[2]["status"], &answers[2]["outcome"]),
        (&json!(429), &json!("refused"))
    );
    assert!(answers[2]["retry_after"].as_u64() >= Some(1));

    fixture.broker.heal();
    fixture.broker.fail(Fault::LoseAnswer);
    stream.send(message(&here, 4)).await;
    let answer = stream.next().await.unwrap();
    assert_eq!(
        (&answer["status"], &answer["outcome"]),
        (&json!(503), &json!("unknown"))
    );
    fixture.broker.heal();
    stream.send(message(&there, 5)).await;
    assert_eq!(stream.next().await.unwrap()["status"], 202);
    for outcome in ["partial", "refused", "unknown"] {
        fixture.counts(&format!(
            "carillon_ingest_requests_total{{outcome=\"{outcome}\"}} 1"
        ));
    }
}

#[tokio::test]
async fn who_may_not_open_a_stream_is_told_with_a_status() {
    let fixture = Fixture::start().await;
    let refused = answer(Open::request(&fixture, false, &[("idempotency-key", "k")]).await).await;
    refused.is_problem(422, "invalid").says("each line has its own");
    let refused = answer(Open::request(&fixture, false, &[("content-encoding", "gzip")]).await).await;
    refused.is_problem(415, "media-type");
    fixture.set_policy("producers: []");
    let refused = answer(Open::request(&fixture, true, &[]).await).await;
    refused.is_problem(401, "unauthorized");
}

#[tokio::test]
async fn a_key_that_is_taken_away_ends_the_stream() {
    let fixture = Fixture::start().await;
    fixture.set_policy(&format!(
        "producers: [{{name: desk, key_sha256: {}, rooms: [lobby], rate: 100/h}}]",
        hashed("key")
    ));
    let key = [("authorization", "Bearer key")];
    let response = Open::request(&fixture, false, &key).await;
    assert!(response.headers().contains_key("ratelimit"));
    let mut stream = Open::with(&fixture, false, &key).await;
    stream.send(message("lobby", 1)).await;
    assert_eq!(stream.next().await.unwrap()["status"], 202);
    stream.send(message("attic", 2)).await;
    let forbidden = stream.next().await.unwrap();
    assert_eq!(
        (&forbidden["status"], &forbidden["room"]),
        (&json!(403), &json!("attic"))
    );
    fixture.set_policy("producers: []");
    stream.send(message("lobby", 3)).await;
    stream.end();
    let last = stream.next().await.unwrap();
    assert_eq!((&last["status"], &last["line"]), (&json!(401), &Value::Null));
    assert_eq!(stream.next().await, None);
    assert_eq!(data(&fixture, "lobby").await, [1]);
}

#[tokio::test]
async fn a_drain_ends_streams_with_what_they_have_answered() {
    for http2 in [false, true] {
        let mut fixture = Fixture::start().await;
        let mut stream = Open::with(&fixture, http2, &[]).await;
        stream.send(message("lobby", 1)).await;
        assert_eq!(stream.next().await.unwrap()["status"], 202);
        fixture.drain(Duration::from_secs(60));
        let last = stream.next().await.unwrap();
        assert_eq!(
            (&last["status"], &last["outcome"], &last["line"]),
            (&json!(503), &json!("refused"), &Value::Null)
        );
        stream.end();
        assert_eq!(stream.next().await, None);
        timeout(PATIENCE, &mut fixture.serving)
            .await
            .expect("the drain is not held up")
            .unwrap();
    }
}

#[tokio::test]
async fn what_is_being_written_is_answered_before_a_drain_ends_its_stream() {
    let mut fixture = Fixture::with(|settings| settings.write_timeout = Duration::from_secs(1)).await;
    let mut stream = Open::start(&fixture).await;
    fixture.broker.fail(Fault::Hang);
    stream.send(message("lobby", 1)).await;
    until(|| fixture.broker.appends.lock().unwrap().len() == 1).await;
    fixture.drain(Duration::from_secs(60));
    let [answer, last] = [stream.next().await.unwrap(), stream.next().await.unwrap()];
    assert_eq!(
        (&answer["line"], &answer["outcome"]),
        (&json!(1), &json!("unknown"))
    );
    assert_eq!(
        (&last["line"], &last["outcome"]),
        (&Value::Null, &json!("refused"))
    );
}

#[tokio::test]
async fn half_a_line_is_not_waited_for_and_never_sent() {
    let fixture = Fixture::with(|settings| settings.body_timeout = Duration::from_millis(300)).await;
    let mut stream = Open::start(&fixture).await;
    stream.send(message("lobby", 1)).await;
    assert_eq!(stream.next().await.unwrap()["status"], 202);
    // Nothing has to come, but what has begun has to end.
    tokio::time::sleep(Duration::from_millis(600)).await;
    stream.send(message("lobby", 2)).await;
    assert_eq!(stream.next().await.unwrap()["status"], 202);
    stream.send(message("lobby", 3).trim().to_owned()).await;
    let last = stream.next().await.unwrap();
    assert_eq!((&last["status"], &last["line"]), (&json!(408), &json!(3)));
    assert_eq!(stream.next().await, None);

    let fixture = Fixture::start().await;
    let mut stream = Open::start(&fixture).await;
    stream.send(message("lobby", 1)).await;
    assert_eq!(stream.next().await.unwrap()["status"], 202);
    stream.send(message("lobby", 2).trim().to_owned()).await;
    drop(stream.lines.take().unwrap());
    drop(stream);
    fixture.has_open_streams(0).await;
}

/// The time that the broker takes is not the sender's.
#[tokio::test]
async fn half_a_line_has_its_time_when_it_is_read_again() {
    let patience = Duration::from_millis(400);
    let fixture = Fixture::with(|settings| settings.body_timeout = patience).await;
    let permits = Arc::new(Semaphore::new(0));
    fixture
        .broker
        .fail_at(fixture.partition("lobby"), Fault::Wait(permits.clone()));
    let mut stream = Open::start(&fixture).await;
    let second = message("lobby", 2);
    let (half, rest) = second.split_at(second.len() / 2);
    stream.send(format!("{}{half}", message("lobby", 1))).await;
    fixture.has_open_streams(1).await;
    tokio::time::sleep(patience * 3).await;
    permits.add_permits(100);
    assert_eq!(stream.next().await.unwrap()["status"], 202);
    stream.send(rest.to_owned()).await;
    assert_eq!(stream.next().await.unwrap()["status"], 202);
}

#[tokio::test]
async fn a_body_that_is_cut_sends_no_half_line() {
    let fixture = Fixture::start().await;
    let mut socket = raw(&fixture, 1 << 20).await;
    let half = message("lobby", 1);
    socket
        .write_all(chunk(half.trim().as_bytes()).as_slice())
        .await
        .unwrap();
    fixture.has_open_streams(1).await;
    drop(socket);
    fixture.has_open_streams(0).await;
    assert!(fixture.broker.appends.lock().unwrap().is_empty());
}

#[tokio::test]
async fn whoever_asks_before_sending_is_told_to_go_on() {
    let fixture = Fixture::start().await;
    let mut socket = raw_with(&fixture, 1 << 20, "expect: 100-continue\r\n").await;
    let mut told = [0; 25];
    timeout(PATIENCE, socket.read_exact(&mut told))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    let line = message("lobby", 1);
    let body = [chunk(line.as_bytes()), b"0\r\n\r\n".to_vec()].concat();
    socket.write_all(&body).await.unwrap();
    let mut told = [0; 12];
    timeout(PATIENCE, socket.read_exact(&mut told))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&told, b"HTTP/1.1 200");
}

/// A connection whose client reads into so small a buffer, with the head of a stream sent.
pub(crate) async fn raw(fixture: &Fixture, receive: u32) -> tokio::net::TcpStream {
    raw_with(fixture, receive, "").await
}

async fn raw_with(fixture: &Fixture, receive: u32, more: &str) -> tokio::net::TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(receive).unwrap();
    let mut stream = socket.connect(fixture.address).await.unwrap();
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: \
         chunked\r\n{more}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// As a chunk of a chunked body.
pub(crate) fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

//! NDJSON: what a stream may hold, and that all of it is given back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
    time::timeout,
};

use crate::{
    fixture::{Fixture, standstill, until},
    hanging::Hanging,
    streams::{Open, PATIENCE, chunk, data, message, raw},
};

#[tokio::test]
async fn what_a_stream_brought_is_given_back_line_by_line() {
    let fixture = Fixture::with(|settings| {
        settings.body_bytes = 2_000;
        settings.buffered_bytes = 500_000;
        settings.request_copies = 4;
    })
    .await;
    let mut stream = Open::start(&fixture).await;
    let rooms = ["a", "b", "c", "d"];
    let wide = |n: usize| json!({"to": {"rooms": rooms}, "event": "e", "data": format!("{n:01500}")});
    let blank = " \n".repeat(1_000);
    let long = "x".repeat(1_000);
    // A megabyte of nothing, one of what is skipped, and more copies than may be held at once.
    let lines: String = (0..200).map(|n| format!("{}\n", wide(n))).collect();
    let mut parts = vec![blank; 500];
    parts.extend(vec![long; 1_000]);
    parts.push(format!("\n{lines}"));
    for part in parts {
        stream.send(part).await;
    }
    stream.end();
    let answers = stream.rest().await;
    assert_eq!((answers.len(), &answers[0]["status"]), (201, &json!(413)));
    for answer in &answers[1..] {
        assert_eq!(answer["status"], 202, "{answer}");
    }
    let wanted: Vec<Value> = (0..200).map(|n| wide(n)["data"].clone()).collect();
    for room in rooms {
        assert_eq!(data(&fixture, room).await, wanted);
    }
}

#[tokio::test]
async fn a_line_that_has_begun_counts_in_what_all_may_hold() {
    let fixture = Fixture::with(|settings| settings.buffered_bytes = 10_000).await;
    let mut stream = Open::start(&fixture).await;
    stream
        .send([message("lobby", 1), "x".repeat(6_000)].concat())
        .await;
    assert_eq!(stream.next().await.unwrap()["status"], 202);
    let large = message("lobby", "y".repeat(3_000));
    let refused = fixture.post(large.clone()).await;
    refused.is_problem(503, "busy").has("outcome", "refused");
    drop(stream);
    fixture.has_open_streams(0).await;
    fixture.post(large).await.is_accepted();
}

/// A body that is sent whether or not anybody reads it.
struct Flood {
    total: usize,
    sent: Arc<AtomicUsize>,
    reading: OwnedReadHalf,
    sender: JoinHandle<OwnedWriteHalf>,
}

impl Flood {
    fn start(socket: TcpStream, lines: &[u8]) -> Self {
        let (reading, mut writing) = socket.into_split();
        let body = [chunk(lines), b"0\r\n\r\n".to_vec()].concat();
        let (total, sent) = (body.len(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&sent);
        let sender = tokio::spawn(async move {
            while counted.load(Relaxed) < body.len() {
                let written = writing.write(&body[counted.load(Relaxed)..]).await.unwrap();
                counted.fetch_add(written, Relaxed);
            }
            writing
        });
        Self {
            total,
            sent,
            reading,
            sender,
        }
    }

    /// Everything that is answered, to the end.
    async fn answers(mut self) -> String {
        let mut told = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        while !told.ends_with(b"\r\n0\r\n\r\n") {
            let length = timeout(PATIENCE, self.reading.read(&mut buffer))
                .await
                .unwrap()
                .unwrap();
            assert!(length > 0, "it was closed");
            told.extend_from_slice(&buffer[..length]);
        }
        drop(self.sender.await.unwrap());
        String::from_utf8(told).unwrap()
    }
}

/// With a thousand bytes each, 30 MB, of which the kernel buffers a few.
const LINES: usize = 30_000;

#[tokio::test]
async fn while_the_broker_hangs_a_stream_is_read_no_further_than_a_window() {
    let hanging = Hanging::start().await;
    let (fixture, room) = (&hanging.fixture, &hanging.room);
    let long = "x".repeat(1_000);
    let lines: String = (0..LINES).map(|n| message(room, format!("{n} {long}"))).collect();
    let flood = Flood::start(raw(fixture, 1 << 20).await, lines.as_bytes());
    hanging
        .is_read_by_windows("ndjson", flood.total, || flood.sent.load(Relaxed))
        .await;
    let answers = flood.answers().await;
    assert_eq!(answers.matches("\"status\":202").count(), LINES);
    let data = data(fixture, room).await;
    assert_eq!(data.len(), LINES);
    for (n, data) in data.iter().enumerate() {
        assert!(
            data.as_str().unwrap().starts_with(&format!("{n} ")),
            "{n}: {data}"
        );
    }
}

#[tokio::test]
async fn who_does_not_read_answers_is_not_read() {
    let fixture = Fixture::with(|settings| settings.buffered_bytes = 4 << 20).await;
    // Wrong ones, so that nothing but the answers can hold them up.
    let line = format!("{{\"{}\":1}}\n", "x".repeat(1_000));
    let lines = line.as_bytes().repeat(LINES);
    let flood = Flood::start(raw(&fixture, 4_096).await, &lines);
    until(|| fixture.arrivals("ndjson") > 0).await;
    let stood = standstill(&fixture, "lobby", || flood.sent.load(Relaxed)).await;
    assert!(stood < flood.total, "all of it was taken, and no answer was");
    let answered = fixture.arrivals("ndjson");
    assert!(answered < LINES, "{answered} lines were read, and no answer was");
    // As soon as the answers are read, so is the rest.
    let answers = flood.answers().await;
    assert_eq!(answers.matches("\"status\":422").count(), LINES);
    assert!(!answers.contains("\"status\":503"), "back-pressure, not refusals");
}

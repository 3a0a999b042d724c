//! NDJSON: what a stream may hold, and that all of it is given back.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{
    fixture::Fixture,
    streams::{Open, chunk, data, message, raw},
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

#[tokio::test]
async fn who_does_not_read_answers_is_not_read() {
    let fixture = Fixture::with(|settings| settings.buffered_bytes = 4 << 20).await;
    let mut socket = raw(&fixture, 4_096).await;
    // 30 MB of lines, wrong ones, so that nothing but the answers can hold them up.
    let lines = 30_000;
    let line = format!("{{\"{}\":1}}\n", "x".repeat(1_000));
    let body = [chunk(&line.as_bytes().repeat(lines)), b"0\r\n\r\n".to_vec()].concat();
    let (mut reading, mut writing) = socket.split();
    let mut sent = 0;
    let stuck = timeout(Duration::from_secs(2), async {
        while sent < body.len() {
            sent += writing.write(&body[sent..]).await.unwrap();
        }
    });
    assert!(stuck.await.is_err(), "all of it was taken, and no answer was");
    // As soon as the answers are read, so is the rest.
    let mut told = Vec::new();
    let (_, read) = tokio::join!(
        async {
            writing.write_all(&body[sent..]).await.unwrap();
        },
        timeout(Duration::from_secs(60), async {
            let mut buffer = vec![0; 1 << 16];
            while !told.ends_with(b"\r\n0\r\n\r\n") {
                let length = reading.read(&mut buffer).await.unwrap();
                assert!(length > 0, "it was closed");
                told.extend_from_slice(&buffer[..length]);
            }
        }),
    );
    read.expect("every line is answered");
    let answers = String::from_utf8(told).unwrap();
    assert_eq!(answers.matches("\"status\":422").count(), lines);
    assert!(!answers.contains("\"status\":503"), "back-pressure, not refusals");
}

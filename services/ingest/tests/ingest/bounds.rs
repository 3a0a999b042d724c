//! NDJSON: what a stream may hold, and that all of it is given back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
    time::timeout,
};

use crate::{
    fixture::{Fault, Fixture, standstill, until},
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

/// What a stream has in hand at most: `WINDOW` in `stream.rs`.
pub(crate) const WINDOW: usize = 128;

#[tokio::test]
async fn while_the_broker_hangs_a_stream_is_read_no_further_than_a_window() {
    let fixture = Fixture::with(|settings| {
        settings.buffered_bytes = 4 << 20;
        settings.write_timeout = Duration::from_secs(600);
    })
    .await;
    let (lobby, other) = fixture.apart();
    let partition = fixture.partition(&lobby);
    let permits = Arc::new(Semaphore::new(0));
    fixture.broker.fail_at(partition, Fault::Wait(permits.clone()));
    let socket = raw(&fixture, 1 << 20).await;
    let (mut reading, mut writing) = socket.into_split();
    // 30 MB, of which the kernel buffers a few.
    let lines = 30_000;
    let long = "x".repeat(1_000);
    let body: Vec<String> = (0..lines)
        .map(|n| message(&lobby, format!("{n} {long}")))
        .collect();
    let body = [chunk(body.concat().as_bytes()), b"0\r\n\r\n".to_vec()].concat();
    let (total, sent) = (body.len(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&sent);
    let sender = tokio::spawn(async move {
        while counted.load(Relaxed) < body.len() {
            let written = writing.write(&body[counted.load(Relaxed)..]).await.unwrap();
            counted.fetch_add(written, Relaxed);
        }
        writing
    });
    let windows = || fixture.broker.windows(partition);

    until(|| windows().len() == 1).await;
    let stood = standstill(&fixture, &other, || sent.load(Relaxed)).await;
    assert!(
        stood < total / 2,
        "{stood} of {total} bytes were taken, and nothing was written"
    );
    assert_eq!(fixture.arrivals("ndjson"), 0);

    // The broker takes one window: one more is read, and no more.
    permits.add_permits(1);
    until(|| windows().len() == 2).await;
    let stood = standstill(&fixture, &other, || sent.load(Relaxed)).await;
    assert!(
        stood < total / 2,
        "{stood} of {total} bytes were taken, and one window was written"
    );
    assert_eq!(fixture.arrivals("ndjson"), windows()[0]);
    assert_eq!(windows().len(), 2);
    assert!(
        windows().iter().all(|window| *window <= WINDOW),
        "{:?}",
        windows()
    );

    // It goes on, and so does everything.
    permits.add_permits(Semaphore::MAX_PERMITS / 2);
    let mut told = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    while !told.ends_with(b"\r\n0\r\n\r\n") {
        let length = timeout(PATIENCE, reading.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        assert!(length > 0, "it was closed");
        told.extend_from_slice(&buffer[..length]);
    }
    drop(sender.await.unwrap());
    let answers = String::from_utf8(told).unwrap();
    assert_eq!(answers.matches("\"status\":202").count(), lines);
    let data = data(&fixture, &lobby).await;
    assert_eq!(data.len(), lines);
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
    let socket = raw(&fixture, 4_096).await;
    let (mut reading, mut writing) = socket.into_split();
    // 30 MB of lines, wrong ones, so that nothing but the answers can hold them up.
    let lines = 30_000;
    let line = format!("{{\"{}\":1}}\n", "x".repeat(1_000));
    let body = [chunk(&line.as_bytes().repeat(lines)), b"0\r\n\r\n".to_vec()].concat();
    let (total, sent) = (body.len(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&sent);
    let sender = tokio::spawn(async move {
        while counted.load(Relaxed) < body.len() {
            let written = writing.write(&body[counted.load(Relaxed)..]).await.unwrap();
            counted.fetch_add(written, Relaxed);
        }
        writing
    });
    until(|| fixture.arrivals("ndjson") > 0).await;
    let stood = standstill(&fixture, "lobby", || sent.load(Relaxed)).await;
    assert!(stood < total, "all of it was taken, and no answer was");
    let answered = fixture.arrivals("ndjson");
    assert!(answered < lines, "{answered} lines were read, and no answer was");
    // As soon as the answers are read, so is the rest.
    let mut told = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    while !told.ends_with(b"\r\n0\r\n\r\n") {
        let length = timeout(PATIENCE, reading.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        assert!(length > 0, "it was closed");
        told.extend_from_slice(&buffer[..length]);
    }
    drop(sender.await.unwrap());
    let answers = String::from_utf8(told).unwrap();
    assert_eq!(answers.matches("\"status\":422").count(), lines);
    assert!(!answers.contains("\"status\":503"), "back-pressure, not refusals");
}

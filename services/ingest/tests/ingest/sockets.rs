//! Connections: chunked and slow bodies, silence, HTTP/2, draining.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::Request;
use http_body::Frame;
use http_body_util::StreamBody;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::fixture::{Fault, Fixture, answer, until};

const BODY: &str = r#"{"to":{"room":"lobby"},"event":"e","data":1}"#;

/// What a raw connection is told until it is closed.
async fn told(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes))
        .await
        .expect("it was never closed");
    // A reset is a way to be closed.
    read.ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn head(more: &str) -> String {
    format!("POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{more}\r\n")
}

#[tokio::test]
async fn a_chunked_body_is_counted_as_it_comes() {
    let fixture = Fixture::with(|settings| settings.body_bytes = 10_000).await;
    let chunk = Bytes::from(vec![b' '; 1000]);
    let chunked = |count: usize| {
        let chunks = stream::iter(vec![chunk.clone(); count]).chain(stream::iter([Bytes::from(BODY)]));
        Request::post(format!("http://{}/v1/messages", fixture.address))
            .header("content-type", "application/json")
            .body(StreamBody::new(
                chunks.map(|chunk| Ok::<_, std::io::Error>(Frame::data(chunk))),
            ))
            .unwrap()
    };
    fixture.send(chunked(9)).await.is_accepted();
    fixture
        .send(chunked(10))
        .await
        .is_problem(413, "too-large")
        .has("limit", "ingest.body");
    fixture.send(chunked(50)).await.is_problem(413, "too-large");
    assert_eq!(fixture.broker.appends.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn whoever_asks_first_is_told_before_sending() {
    let fixture = Fixture::start().await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    let request = head("content-length: 9999999\r\nexpect: 100-continue\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let told = told(&mut stream).await;
    assert!(told.starts_with("HTTP/1.1 413"), "{told}");
}

#[tokio::test]
async fn a_slow_body_is_not_waited_for() {
    let fixture = Fixture::with(|settings| settings.body_timeout = Duration::from_millis(200)).await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    stream
        .write_all(head("content-length: 44\r\n").as_bytes())
        .await
        .unwrap();
    stream.write_all(b"{").await.unwrap();
    let told = told(&mut stream).await;
    assert!(
        told.starts_with("HTTP/1.1 408") && told.contains("problems/body-timeout"),
        "{told}"
    );
}

#[tokio::test]
async fn a_connection_that_stands_still_is_closed() {
    let fixture = Fixture::with(|settings| settings.idle_timeout = Duration::from_millis(200)).await;
    for start in [
        "",
        "P",
        "PRI * HTTP/2.0\r\n",
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-slow: ",
    ] {
        let mut stream = TcpStream::connect(fixture.address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        assert_eq!(told(&mut stream).await, "", "{start:?}");
    }
    until(|| {
        fixture
            .metrics
            .encode()
            .unwrap()
            .contains("carillon_ingest_connections_open 0\n")
    })
    .await;
}

#[tokio::test]
async fn dripping_is_no_moving() {
    let fixture = Fixture::with(|settings| settings.idle_timeout = Duration::from_millis(300)).await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    let mut dripped = 0;
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        let written = stream.write_u8(*byte).await.is_ok();
        let closed = timeout(Duration::from_millis(100), stream.read_u8()).await;
        if !written || closed.is_ok() {
            break;
        }
        dripped += 1;
    }
    assert!(
        dripped < 12,
        "{dripped} bytes in four times as long as silence may last"
    );
}

#[tokio::test]
async fn whoever_sends_everything_first_still_reads_the_answer() {
    let fixture = Fixture::start().await;
    let large = vec![b' '; 6 << 20];
    for (more, status) in [("", 413), ("authorization: nonsense\r\n", 401)] {
        let mut stream = TcpStream::connect(fixture.address).await.unwrap();
        let request = head(&format!("content-length: {}\r\n{more}", large.len()));
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.write_all(&large).await.expect("the body is taken");
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(start, *format!("HTTP/1.1 {status}").as_bytes());
    }
}

#[tokio::test]
async fn connections_are_bounded_and_used_again() {
    let fixture = Fixture::with(|settings| settings.connections = 1).await;
    let mut first = TcpStream::connect(fixture.address).await.unwrap();
    for _ in 0..2 {
        first
            .write_all(head("content-length: 44\r\n").as_bytes())
            .await
            .unwrap();
        first.write_all(BODY.as_bytes()).await.unwrap();
        let mut bytes = [0; 1000];
        let length = first.read(&mut bytes).await.unwrap();
        assert!(bytes[..length].starts_with(b"HTTP/1.1 202"));
    }
    let mut second = TcpStream::connect(fixture.address).await.unwrap();
    second
        .write_all(head("content-length: 44\r\nconnection: close\r\n").as_bytes())
        .await
        .unwrap();
    second.write_all(BODY.as_bytes()).await.unwrap();
    let early = timeout(Duration::from_millis(200), second.read_u8()).await;
    assert!(early.is_err(), "the second connection waits for the first");
    drop(first);
    assert!(told(&mut second).await.starts_with("HTTP/1.1 202"));
}

#[tokio::test]
async fn http2_is_spoken_with_prior_knowledge() {
    let fixture = Fixture::start().await;
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let response = client.request(fixture.request(BODY)).await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_2);
    answer(response).await.is_accepted();
}

#[tokio::test]
async fn a_drain_finishes_what_was_begun() {
    let mut fixture = Fixture::with(|settings| settings.write_timeout = Duration::from_millis(400)).await;
    let mut idle = TcpStream::connect(fixture.address).await.unwrap();
    idle.write_all(head("content-length: 44\r\n").as_bytes())
        .await
        .unwrap();
    idle.write_all(BODY.as_bytes()).await.unwrap();
    let mut bytes = [0; 1000];
    assert!(idle.read(&mut bytes).await.unwrap() > 0);

    fixture.broker.fail(Fault::Hang);
    let mut busy = TcpStream::connect(fixture.address).await.unwrap();
    busy.write_all(head("content-length: 44\r\n").as_bytes())
        .await
        .unwrap();
    busy.write_all(BODY.as_bytes()).await.unwrap();
    let begun = fixture.broker.clone();
    until(|| begun.appends.lock().unwrap().len() == 2).await;

    fixture.drain(Duration::from_secs(5));
    assert_eq!(told(&mut idle).await, "");
    let told = told(&mut busy).await;
    assert!(
        told.starts_with("HTTP/1.1 503") && told.contains("connection: close"),
        "{told}"
    );
    timeout(Duration::from_secs(2), &mut fixture.serving)
        .await
        .expect("it ends with its last request")
        .unwrap();
    assert!(
        TcpStream::connect(fixture.address).await.is_err(),
        "nothing new is accepted"
    );
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let mut fixture = Fixture::start().await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    stream
        .write_all(head("content-length: 44\r\n").as_bytes())
        .await
        .unwrap();
    until(|| {
        fixture
            .metrics
            .encode()
            .unwrap()
            .contains("carillon_ingest_requests_open 1\n")
    })
    .await;
    let started = Instant::now();
    fixture.drain(Duration::from_millis(200));
    timeout(Duration::from_secs(5), &mut fixture.serving)
        .await
        .expect("the deadline holds")
        .unwrap();
    assert!(started.elapsed() >= Duration::from_millis(200));
    assert_eq!(told(&mut stream).await, "");
}

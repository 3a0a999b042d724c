//! Accepting connections, and letting them go.

use std::{sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{engine::Shared, handshake::HandshakeCode, http::Router, io::Connection};

/// Bytes of a request's head: a client of Socket.IO 2 brings its cursors in the query.
const HEAD_BYTES: usize = 64 << 10;
/// How long to wait after a failed accept; most often the process has no file descriptors left.
const RETRY: Duration = Duration::from_millis(100);
/// How long a connection over the limit may take to be told so.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 5\r\n\
      connection: close\r\ncontent-length: 85\r\n\r\n\
      {\"code\":\"gateway_full\",\"message\":\"gateway_full: this gateway has no connection left\"}";

/// Serves connections until a drain has ended.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router = Arc::new(Router::new(Arc::clone(&shared)));
    let all = u32::try_from(shared.settings.connections).unwrap_or(u32::MAX);
    let limit = (all as usize).min(Semaphore::MAX_PERMITS);
    let places = Arc::new(Semaphore::new(limit));
    tokio::select! {
        biased;
        () = shared.draining.cancelled() => {}
        () = accept(&listener, &shared, &router, &places) => {}
    }
    let deadline = Instant::now() + shared.settings.drain_timeout;
    // Clients that poll need new connections until they are handed over; new sessions are refused by now.
    tokio::select! {
        biased;
        () = tokio::time::sleep_until(deadline) => {}
        () = shared.sockets.none_left() => {}
        () = accept(&listener, &shared, &router, &places) => {}
    }
    drop(listener);
    if tokio::time::timeout_at(deadline, places.acquire_many(all))
        .await
        .is_err()
    {
        let left = limit - places.available_permits();
        tracing::warn!(
            left,
            "connections were still open when the time for draining was up"
        );
    }
}

async fn accept(listener: &TcpListener, shared: &Arc<Shared>, router: &Arc<Router>, places: &Arc<Semaphore>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            shared.metrics.refused(HandshakeCode::GatewayFull);
            tokio::spawn(refuse(stream));
            continue;
        };
        let settings = &shared.settings;
        let patience = settings.ping_interval + settings.ping_timeout;
        let written = shared.metrics.written_bytes.clone();
        match Connection::new(stream, patience, settings.send_buffer, written) {
            Ok(connection) => {
                tokio::spawn(converse(
                    connection,
                    Arc::clone(router),
                    Arc::clone(shared),
                    place,
                ));
            }
            Err(error) => tracing::debug!(%error, "a connection ended before it began"),
        }
    }
}

/// Answers the requests of one connection, until it ends or becomes a WebSocket.
async fn converse(
    mut connection: Connection,
    router: Arc<Router>,
    shared: Arc<Shared>,
    place: OwnedSemaphorePermit,
) {
    // It is given back when the TCP connection ends, WebSocket or not.
    connection.hold(place);
    let _gauge = shared.metrics.http();
    let switch = connection.kill_switch();
    let service = service_fn(|request: Request<Incoming>| {
        let (router, switch) = (Arc::clone(&router), switch.clone());
        async move { Ok::<_, std::convert::Infallible>(router.respond(request, &switch).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.settings.header_timeout)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(connection), service)
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    let served = tokio::select! {
        biased;
        served = serving.as_mut() => served,
        () = shared.draining.cancelled() => {
            // The present request is answered; the next one comes over another connection.
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn refuse(mut stream: TcpStream) {
    use tokio::io::AsyncWriteExt;
    // Who is not read to may not read either.
    let _ = tokio::time::timeout(REFUSAL_TIME, async {
        stream.write_all(FULL).await?;
        stream.shutdown().await
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_as_long_as_it_says() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())));
    }
}

//! Connections: HTTP/1.1 and HTTP/2 with prior knowledge on one port, bounded in number and time, ended gracefully.

use std::{pin::pin, sync::Arc, time::Duration};

use carillon_chassis::metrics::GaugeGuard;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use crate::{Ingest, guarded::Guarded, http::router};

/// How long to wait after a connection could not be accepted: out of file descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection's buffer for a request's header, in bytes; longer headers are refused.
const HEADER_BYTES: usize = 64 << 10;

/// Requests at once on one connection of HTTP/2.
const STREAMS: u32 = 100;

/// Serves until `drain` gives a deadline. Then nothing new is accepted, requests in flight are finished, idle
/// connections closed, and what is left at the deadline is cut.
pub async fn serve(listener: TcpListener, ingest: Ingest, drain: impl Future<Output = Instant>) {
    let mut drain = pin!(drain);
    let permits = Arc::new(Semaphore::new(
        ingest.shared.settings.connections.min(Semaphore::MAX_PERMITS),
    ));
    let (draining, watch) = watch::channel(false);
    let service = TowerToHyperService::new(router(ingest.clone()));
    let mut connections = JoinSet::new();
    let deadline = loop {
        tokio::select! {
            biased;
            deadline = &mut drain => break deadline,
            Some(_) = connections.join_next() => {}
            (permit, stream) = accept(&listener, &permits) => {
                let guard = GaugeGuard::new(&ingest.shared.metrics.connections_open);
                let patience = ingest.shared.settings.idle_timeout;
                let connection = connection(stream, patience, service.clone(), watch.clone());
                connections.spawn(async move {
                    let _held = (permit, guard);
                    connection.await;
                });
            }
        }
    };
    drop(listener);
    draining.send_replace(true);
    let finished = async { while connections.join_next().await.is_some() {} };
    if timeout_at(deadline, finished).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "connections were cut at the drain's deadline"
        );
        connections.shutdown().await;
    }
}

/// The next connection, once there is room for one.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (Option<OwnedSemaphorePermit>, TcpStream) {
    // The semaphore is never closed.
    let permit = Arc::clone(permits).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (permit, stream),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    patience: Duration,
    service: TowerToHyperService<axum::Router>,
    mut draining: watch::Receiver<bool>,
) {
    // Without it answers wait for acknowledgements; that it can't be set is no reason not to serve.
    stream.set_nodelay(true).ok();
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(HEADER_BYTES)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(HEADER_BYTES).unwrap_or(u32::MAX));
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(Guarded::new(stream, patience)), service));
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = async { draining.wait_for(|draining| *draining).await.map(drop).unwrap_or_default() } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}

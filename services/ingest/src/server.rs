//! Connections: HTTP/1.1 and HTTP/2 with prior knowledge at one door, gRPC at the other. They are bounded in number and
//! time, and ended gracefully.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::Router;
use carillon_chassis::metrics::GaugeGuard;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{Ingest, Tls, grpc, guarded::Guarded, http::router};

/// How long to wait after a connection could not be accepted: out of file descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection's buffer for a request's header, in bytes; longer headers are refused.
const HEADER_BYTES: usize = 64 << 10;

/// Requests at once on one connection of HTTP/2.
const STREAMS: u32 = 100;

/// Serves HTTP until `drain` gives a deadline. Then nothing new is accepted, requests in flight are finished, idle
/// connections closed, streams ended with what they have answered, and what is left at the deadline is cut.
pub async fn serve(listener: TcpListener, ingest: Ingest, drain: impl Future<Output = Instant>) {
    let entrance = Entrance {
        service: TowerToHyperService::new(router(ingest.clone())),
        tls: None,
        grpc: false,
        patience: ingest.shared.settings.idle_timeout,
    };
    entrance.serve(listener, &ingest, drain).await;
}

/// Serves gRPC in the same way, with TLS if it is given.
pub async fn serve_grpc(
    listener: TcpListener,
    tls: Option<Tls>,
    ingest: Ingest,
    drain: impl Future<Output = Instant>,
) {
    let entrance = Entrance {
        service: TowerToHyperService::new(grpc::router(&ingest)),
        tls,
        grpc: true,
        patience: ingest.shared.settings.idle_timeout,
    };
    entrance.serve(listener, &ingest, drain).await;
}

/// What every connection of a listener needs.
#[derive(Clone)]
struct Entrance {
    service: TowerToHyperService<Router>,
    tls: Option<Tls>,
    grpc: bool,
    patience: Duration,
}

impl Entrance {
    async fn serve(self, listener: TcpListener, ingest: &Ingest, drain: impl Future<Output = Instant>) {
        let mut drain = pin!(drain);
        let permits = Arc::new(Semaphore::new(
            ingest.shared.settings.connections.min(Semaphore::MAX_PERMITS),
        ));
        let (draining, watch) = watch::channel(false);
        let mut connections = JoinSet::new();
        let deadline = loop {
            tokio::select! {
                biased;
                deadline = &mut drain => break deadline,
                Some(_) = connections.join_next() => {}
                (permit, stream) = accept(&listener, &permits) => {
                    let guard = GaugeGuard::new(&ingest.shared.metrics.connections_open);
                    let connection = self.clone().connection(stream, watch.clone());
                    connections.spawn(async move {
                        let _held = (permit, guard);
                        connection.await;
                    });
                }
            }
        };
        drop(listener);
        // First those who watch are told, then their connections.
        ingest.shared.standing.draining();
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

    async fn connection(self, stream: TcpStream, draining: watch::Receiver<bool>) {
        // Without it answers wait for acknowledgements; that it can't be set is no reason not to serve.
        stream.set_nodelay(true).ok();
        let stream = Guarded::new(stream, self.patience);
        let Some(tls) = &self.tls else {
            return self.spoken(stream, draining).await;
        };
        match timeout(self.patience, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.spoken(stream, draining).await,
            Ok(Err(error)) => tracing::debug!(%error, "a connection could not be secured"),
            Err(_) => tracing::debug!("a connection was not secured in time"),
        }
    }

    /// Serves what is spoken on a connection.
    async fn spoken<S>(self, stream: S, mut draining: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let builder = self.builder();
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), self.service.clone()));
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

    fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.patience)
            .max_buf_size(HEADER_BYTES)
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(u32::try_from(HEADER_BYTES).unwrap_or(u32::MAX));
        if !self.grpc {
            return builder;
        }
        // A gRPC channel is kept open while nobody calls. Pings tell a quiet client from one that is gone, before the
        // connection counts as standing still.
        builder
            .http2()
            .keep_alive_interval(self.patience / 3)
            .keep_alive_timeout(self.patience / 3);
        builder.http2_only()
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

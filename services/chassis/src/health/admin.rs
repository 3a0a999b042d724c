//! The administration server. It runs on a thread and runtime of its own, so that probes and scrapes are answered when
//! the service's runtime is busy, and can say so when it is stuck.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio::sync::oneshot;

use super::Health;
use crate::metrics::Metrics;

/// A bound administration server.
#[derive(Debug)]
pub struct AdminServer {
    address: SocketAddr,
    listener: TcpListener,
}

/// Ends the server when dropped.
#[derive(Debug)]
pub struct AdminGuard {
    _stop: oneshot::Sender<()>,
}

impl AdminServer {
    /// Binds the address; port 0 takes a free one.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            address: listener.local_addr()?,
            listener,
        })
    }

    /// Where it really listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves on a thread of its own until the guard is dropped. `beside` is run there too: for what must go on when
    /// the service's runtime is stuck.
    pub fn serve(
        self,
        health: Health,
        metrics: Metrics,
        beside: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<AdminGuard> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(self.listener)?
        };
        let (stop, stopped) = oneshot::channel();
        std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    tokio::spawn(beside);
                    let serving =
                        axum::serve(listener, router(health, metrics)).with_graceful_shutdown(async {
                            // An error means that the guard was dropped, which is the signal.
                            let _ = stopped.await;
                        });
                    if let Err(error) = serving.await {
                        tracing::error!(%error, "the administration server ended");
                    }
                });
            })?;
        Ok(AdminGuard { _stop: stop })
    }
}

#[derive(Clone)]
struct Shared {
    health: Health,
    metrics: Metrics,
}

fn router(health: Health, metrics: Metrics) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/startupz", get(startupz))
        .route("/metrics", get(scrape))
        .with_state(Shared { health, metrics })
}

async fn livez(State(shared): State<Shared>) -> Response {
    match shared.health.stuck_for() {
        None => "ok\n".into_response(),
        Some(silence) => {
            let why = format!("fail: the runtime has run nothing for {} s\n", silence.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
        }
    }
}

async fn startupz(State(shared): State<Shared>) -> Response {
    if shared.health.is_started() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "fail: still starting\n").into_response()
    }
}

async fn readyz(State(shared): State<Shared>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let readiness = shared.health.readiness();
    let status = if readiness.ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let by_query = query.is_some_and(|query| query.split('&').any(|pair| pair == "format=json"));
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if by_query || accept.contains("application/json") {
        let checks: Vec<_> = readiness
            .checks
            .iter()
            .map(|check| json!({"name": check.name, "ok": check.why.is_none(), "why": check.why}))
            .collect();
        return (
            status,
            Json(json!({"ready": readiness.ready(), "checks": checks, "notes": readiness.notes})),
        )
            .into_response();
    }
    (status, readiness.to_string()).into_response()
}

async fn scrape(State(shared): State<Shared>) -> Response {
    match shared.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

//! Requests of sessions that live at other gateways.
//!
//! A stock client polls first, and a load balancer sends each request wherever it likes. The id that a client gets
//! says which gateway its session is at ([`name`]), and that a gateway says so ([`seal`]); any other one hands the request on, the upgrade to a WebSocket
//! included, and the answer back. So no one has to configure sticky sessions.
//!
//! What is handed on is proved ([`proof`]), counted, and bounded in number. It is handed on once: an owner that doesn't
//! have the session says so, and the client connects anew with its cursors.

pub(super) mod name;
mod proof;
mod seal;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, Request, Response, StatusCode, Uri, header};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(super) use name::{GatewayName, NamedId, with_id};
pub use proof::ForwardingSecret;

use super::{
    metrics::{ForwardOutcome, TransportMetrics},
    responses::{Body, empty_response, unavailable},
    settings::TransportSettings,
};
use crate::hub::Hub;

/// How long a gateway may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Below the time a gateway lets a connection wait for its next request.
const IDLE: Duration = Duration::from_secs(10);
/// What belongs to one connection and not to the request (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 5] = [
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
];

/// How requests are handed on between gateways.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// This gateway's pod, as membership names it.
    pub pod: String,
    /// What all gateways know, and nobody else.
    pub secret: ForwardingSecret,
    /// Requests and WebSockets that may be handed on at once.
    pub requests: usize,
}

/// The way to other gateways.
#[derive(Debug)]
pub(super) struct Peers {
    pub(super) own: GatewayName,
    pub(super) secret: ForwardingSecret,
    places: Arc<Semaphore>,
    client: Client<HttpConnector, Incoming>,
    metrics: TransportMetrics,
    /// How long an answer may take: a poll is answered by the next ping at the latest.
    patience: Duration,
}

impl Peers {
    pub(super) fn new(
        forwarding: &Forwarding,
        settings: &TransportSettings,
        metrics: &TransportMetrics,
    ) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Self {
            own: GatewayName::of_pod(&forwarding.pod),
            secret: forwarding.secret.clone(),
            places: Arc::new(Semaphore::new(forwarding.requests.min(Semaphore::MAX_PERMITS))),
            client,
            metrics: metrics.clone(),
            patience: settings.ping_interval + settings.ping_timeout,
        }
    }

    /// The id of a session here, as clients are told it.
    pub(super) fn told(&self, id: &str) -> String {
        let seal = self.secret.seal(self.own.as_str(), id);
        self.own.name(&format!("{id}{seal}"))
    }

    /// As [`GatewayName::name_open_packet`].
    pub(super) fn name_open_packet(&self, payload: &str) -> Option<String> {
        let seal = |id: &str| self.secret.seal(self.own.as_str(), id);
        self.own.name_open_packet(payload, seal)
    }

    /// Where the gateway is reached that a request's id names, if there is one. A name that anybody may have made up is
    /// looked for among those that are known already.
    pub(super) async fn find(&self, named: NamedId<'_>, hub: &Hub) -> Option<String> {
        let is_it = |pod: &str| GatewayName::of_pod(pod).as_str() == named.gateway;
        let (id, seal) = named.unsealed();
        match seal.is_some_and(|seal| self.secret.is_seal(seal, named.gateway, id)) {
            true => hub.find_gateway(is_it).await,
            false => hub.known_gateway(is_it),
        }
    }

    /// Hands a request on to the gateway at an address, and its answer back.
    pub(super) async fn forward(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        sid: &str,
        address: &str,
        hub: &Hub,
    ) -> Response<Body> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.metrics.forwarded(ForwardOutcome::Full);
            return unavailable(
                "forwarding_full",
                "this gateway hands on as many requests as it may (gateway.forwarding.requests)",
            );
        };
        let upgrade = request
            .headers()
            .contains_key(header::UPGRADE)
            .then(|| hyper::upgrade::on(&mut request));
        let answered = match self.address(&mut request, sid, address) {
            Some(()) => tokio::time::timeout(self.patience, self.client.request(request)).await,
            None => return self.gone(ForwardOutcome::Unreachable),
        };
        let mut response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                tracing::debug!(address, error = %with_sources(&error), "a request could not be handed on");
                return self.gone(ForwardOutcome::Unreachable);
            }
            Err(_) => {
                tracing::debug!(address, "a request that was handed on got no answer");
                return self.gone(ForwardOutcome::Unreachable);
            }
        };
        self.metrics.forwarded(ForwardOutcome::Answered);
        without_hops(response.headers_mut());
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().remove(header::CONNECTION);
            return response.map(|body| Body::Forwarded(body, place));
        }
        let Some(client) = upgrade else {
            return self.gone(ForwardOutcome::Unreachable);
        };
        let owner = hyper::upgrade::on(&mut response);
        tokio::spawn(Arc::clone(self).relay(client, owner, hub.clone(), place));
        let mut answer = empty_response(StatusCode::SWITCHING_PROTOCOLS);
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        answer
    }

    fn address(&self, request: &mut Request<Incoming>, sid: &str, address: &str) -> Option<()> {
        let path = request.uri().path_and_query()?.as_str();
        let uri: Uri = format!("http://{address}{path}").parse().ok()?;
        *request.uri_mut() = uri;
        let upgrades = request.headers().contains_key(header::UPGRADE);
        let headers = request.headers_mut();
        without_hops(headers);
        if !upgrades {
            headers.remove(header::CONNECTION);
        }
        headers.insert(proof::HEADER, self.secret.prove(sid)?);
        Some(())
    }

    /// The session is not to be had. To a client that is a lost transport: it connects anew, with its cursors.
    pub(super) fn gone(&self, outcome: ForwardOutcome) -> Response<Body> {
        self.metrics.forwarded(outcome);
        unavailable(
            "session_gone",
            "the gateway of this session is gone or does not know it any more; connect again",
        )
    }

    /// Carries a WebSocket's bytes until one side ends it. A gateway that drains lets go of those it carries at the pace
    /// of its own sessions, so that their clients don't come back all at once.
    async fn relay(
        self: Arc<Self>,
        client: OnUpgrade,
        owner: OnUpgrade,
        hub: Hub,
        place: OwnedSemaphorePermit,
    ) {
        let carried = hub.carry();
        let (client, owner) = match tokio::try_join!(client, owner) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "an upgrade that was handed on failed"),
        };
        let (mut client, mut owner) = (TokioIo::new(client), TokioIo::new(owner));
        tokio::select! {
            biased;
            ended = tokio::io::copy_bidirectional(&mut client, &mut owner) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a WebSocket that was handed on ended");
                }
            }
            () = carried.let_go() => {}
        }
        drop((carried, place));
    }
}

fn without_hops(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

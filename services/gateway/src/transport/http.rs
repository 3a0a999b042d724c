//! Requests: who answers which.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use engineioxide::TransportType;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{
    engine::{Engine, Shared, engine},
    handshake::HandshakeCode,
    io::KillSwitch,
    metrics::ForwardOutcome,
    origin::Source,
    page::Assets,
    peers::{NamedId, Peers, with_id},
    posted::Posted,
    responses::{Body, allow, empty_response, json_response, text_response, unavailable},
    websocket::{self, Wire},
};

/// The headers a session keeps of its first request, and what Engine.IO reads of any.
const KEPT: [HeaderName; 8] = [
    header::COOKIE,
    header::AUTHORIZATION,
    header::ORIGIN,
    header::USER_AGENT,
    header::CONTENT_TYPE,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("traceparent"),
];

/// Answers requests.
#[derive(Debug)]
pub(super) struct Router {
    shared: Arc<Shared>,
    engine: Engine,
    assets: Assets,
    /// The way to other gateways, if there is one.
    peers: Option<Arc<Peers>>,
}

impl Router {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            engine: engine(&shared),
            assets: Assets::new(shared.settings.page),
            peers: shared.peers.clone(),
            shared,
        }
    }

    /// Answers one request that came over the connection with this switch.
    pub(super) async fn respond(&self, request: Request<Incoming>, switch: &KillSwitch) -> Response<Body> {
        let path = request.uri().path();
        if let Some(response) = self.assets.respond(request.method(), path, request.headers()) {
            return response;
        }
        if !matches!(path, "/socket.io" | "/socket.io/") {
            return text_response(
                StatusCode::NOT_FOUND,
                "nothing is here; clients connect to /socket.io/\n",
            );
        }
        let source = self.shared.settings.origins.judge(request.headers());
        if source == Source::Foreign {
            self.shared.metrics.refused(HandshakeCode::OriginRefused);
            let message =
                "origin_refused: pages of this origin may not connect here; list it in gateway.origins\n";
            return text_response(StatusCode::FORBIDDEN, message);
        }
        let mut response = match *request.method() {
            Method::OPTIONS => empty_response(StatusCode::NO_CONTENT),
            Method::GET | Method::POST => self.engine(request, switch).await,
            _ => text_response(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and POST are answered here\n",
            ),
        };
        allow(response.headers_mut(), &source);
        response
    }

    async fn engine(&self, mut request: Request<Incoming>, switch: &KillSwitch) -> Response<Body> {
        let mut session = field(request.uri(), "sid").map(str::to_owned);
        let websocket = field(request.uri(), "transport") == Some("websocket");
        if let (Some(peers), Some(sid)) = (&self.peers, &session) {
            match self.locate(peers, request.headers(), sid).await {
                Place::Here(id) => {
                    if let Some(uri) = with_id(request.uri(), &id) {
                        *request.uri_mut() = uri;
                    }
                    session = Some(id);
                }
                Place::At(address) => {
                    return peers.forward(request, sid, &address, &self.shared.hub).await;
                }
                Place::Nowhere(answer) => return *answer,
            }
        }
        if session.is_none() && self.shared.draining.is_cancelled() {
            self.shared.metrics.refused(HandshakeCode::Draining);
            return unavailable(
                "draining",
                "this gateway is going; connect again to reach another",
            );
        }
        if session.is_none() && !self.shared.limits.may_connect() {
            self.shared.metrics.refused(HandshakeCode::ConnectRate);
            return unavailable(
                "connect_rate",
                "too many clients connect at this moment; connect again a little later",
            );
        }
        if websocket {
            return self.websocket(request, switch, session);
        }
        let (parts, body) = request.into_parts();
        if let Some(id) = &session
            && parts.method == Method::POST
            && content_length(&parts.headers) > self.shared.settings.message_bytes as u64
            && let Some(socket) = self.shared.sockets.get(id)
        {
            // Engine.IO ends the session; so it is known why.
            socket.data.too_large.store(true, Ordering::Relaxed);
        }
        let polled = session
            .as_deref()
            .filter(|_| parts.method == Method::GET)
            .and_then(|id| self.shared.sockets.get(id));
        let answering = polled.map(|socket| Arc::clone(&socket.data.flow).answer());
        let fresh = fresh(&parts, Posted::new(body, field(&parts.uri, "EIO")));
        let response = match hyper::service::Service::call(&self.engine, fresh).await {
            Ok(response) => response
                .map(|body| Body::Engine(body.map_err(|never: Infallible| match never {}).boxed_unsync())),
            Err(never) => match never {},
        };
        drop(answering);
        match &self.peers {
            Some(peers) if session.is_none() => name_session(peers, response).await,
            _ => response,
        }
    }

    /// Where the session is that a request names.
    async fn locate(&self, peers: &Peers, headers: &HeaderMap, sid: &str) -> Place {
        let forwarded = match peers.secret.judge(headers, sid) {
            None => false,
            Some(true) => {
                self.shared.metrics.forwarded(ForwardOutcome::Taken);
                true
            }
            Some(false) => {
                self.shared.metrics.forwarded(ForwardOutcome::Unauthenticated);
                let message =
                    "forwarding_unauthenticated: gateways need the same gateway.forwarding.secret\n";
                return Place::Nowhere(Box::new(text_response(StatusCode::FORBIDDEN, message)));
            }
        };
        let Some(named) = NamedId::read(sid) else {
            // The id of a session that began with a WebSocket, or nonsense: Engine.IO knows.
            return Place::Here(sid.to_owned());
        };
        if named.gateway == peers.own.as_str() {
            let (id, _) = named.unsealed();
            return match self.shared.sockets.get(id) {
                Some(_) => Place::Here(id.to_owned()),
                None => Place::Nowhere(Box::new(peers.gone(ForwardOutcome::Gone))),
            };
        }
        let address = match forwarded {
            true => None,
            false => peers.find(named, &self.shared.hub).await,
        };
        match address {
            Some(address) => Place::At(address),
            None => Place::Nowhere(Box::new(peers.gone(ForwardOutcome::Gone))),
        }
    }

    fn websocket(
        &self,
        mut request: Request<Incoming>,
        switch: &KillSwitch,
        session: Option<String>,
    ) -> Response<Body> {
        let bad = |code: u8, message: &str| {
            let body = format!(r#"{{"code":"{code}","message":"{message}"}}"#);
            json_response(StatusCode::BAD_REQUEST, body)
        };
        let (Some(accept), &Method::GET) = (websocket::accept(request.headers()), request.method()) else {
            return bad(3, "Bad request");
        };
        let query = request.uri().query().unwrap_or_default();
        if !query.split('&').any(|pair| matches!(pair, "EIO=3" | "EIO=4")) {
            return bad(5, "Unsupported protocol version");
        }
        let socket = match session.as_deref().map(|id| self.shared.sockets.get(id)) {
            None => None,
            Some(None) => return bad(1, "Session ID unknown"),
            Some(Some(socket)) if socket.transport_type() == TransportType::Websocket => {
                return bad(3, "Bad request");
            }
            Some(found) => found,
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, _) = request.into_parts();
        tokio::spawn(websocket::take_over(
            Arc::clone(&self.shared),
            self.engine.clone(),
            upgrade,
            fresh(&parts, ()),
            Wire::new(switch.clone()),
            socket,
        ));
        let mut response = empty_response(StatusCode::SWITCHING_PROTOCOLS);
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        response
    }
}

/// Where a session is.
enum Place {
    /// Here, under this id.
    Here(String),
    /// At the gateway with this address.
    At(String),
    /// Nowhere any more; this is what the client is told.
    Nowhere(Box<Response<Body>>),
}

/// A field of the query.
fn field<'a>(uri: &'a http::Uri, name: &str) -> Option<&'a str> {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    pairs.find_map(|pair| {
        pair.split_once('=')
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
    })
}

/// Lets the answer to a first request name this gateway.
async fn name_session(peers: &Peers, response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return empty_response(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let named = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| peers.name_open_packet(text));
    // Whatever isn't the packet that opens a session (a refusal) stays as it is.
    let bytes = named.map_or(bytes, Bytes::from);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(bytes))
}

/// A request with the few headers that are needed, copied: what hyper made points into its read buffer, 16 KiB that
/// would live as long as the session.
fn fresh<B>(parts: &http::request::Parts, body: B) -> Request<B> {
    let mut fresh = Request::new(body);
    *fresh.method_mut() = parts.method.clone();
    *fresh.version_mut() = parts.version;
    // Parsed again from a text of its own, for the same reason.
    *fresh.uri_mut() = parts.uri.to_string().parse().unwrap_or_default();
    for name in KEPT {
        if let Some(value) = parts.headers.get(&name)
            && let Ok(value) = HeaderValue::from_bytes(value.as_bytes())
        {
            fresh.headers_mut().insert(name, value);
        }
    }
    fresh
}

fn content_length(headers: &HeaderMap) -> u64 {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or(0)
}

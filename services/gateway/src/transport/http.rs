//! Requests: who answers which, and what a browser of another site may do.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use engineioxide::TransportType;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;

use super::{
    engine::{Engine, Shared, engine},
    handshake::HandshakeCode,
    io::KillSwitch,
    origin::Source,
    page::Assets,
    websocket::{self, Wire},
};

/// The body of an answer.
pub(super) enum Body {
    /// All of it.
    Full(Full<Bytes>),
    /// Engine.IO's.
    Engine(UnsyncBoxBody<Bytes, Infallible>),
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Full(Full::new(bytes))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Full(body) => std::pin::Pin::new(body).poll_frame(context),
            Self::Engine(body) => std::pin::Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(body) => body.is_end_stream(),
            Self::Engine(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Full(body) => body.size_hint(),
            Self::Engine(body) => body.size_hint(),
        }
    }
}

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
}

impl Router {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            engine: engine(&shared),
            assets: Assets::new(shared.settings.page),
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

    async fn engine(&self, request: Request<Incoming>, switch: &KillSwitch) -> Response<Body> {
        let query = request.uri().query().unwrap_or_default();
        let field = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
        };
        let session = field("sid").map(|(_, id)| id.to_owned());
        let websocket = matches!(field("transport"), Some((_, "websocket")));
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
        let fresh = fresh(&parts, body);
        match hyper::service::Service::call(&self.engine, fresh).await {
            Ok(response) => response
                .map(|body| Body::Engine(body.map_err(|never: Infallible| match never {}).boxed_unsync())),
            Err(never) => match never {},
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

/// Lets a page of another site read the answer, if it may.
fn allow(headers: &mut HeaderMap, source: &Source) {
    let Source::Allowed { answer, credentials } = source else {
        return;
    };
    let Ok(answer) = HeaderValue::from_str(answer) else {
        return;
    };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, answer);
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    if *credentials {
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
    }
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST"),
    );
    let allowed = HeaderValue::from_static("content-type, authorization");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
}

/// "Not now": clients try again by themselves.
fn unavailable(code: &str, message: &str) -> Response<Body> {
    let body = format!(r#"{{"code":"{code}","message":"{code}: {message}"}}"#);
    let mut response = json_response(StatusCode::SERVICE_UNAVAILABLE, body);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn empty_response(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::new()));
    *response.status_mut() = status;
    response
}

fn json_response(status: StatusCode, body: String) -> Response<Body> {
    typed_response(status, body.into(), "application/json")
}

pub(super) fn text_response(status: StatusCode, text: &'static str) -> Response<Body> {
    typed_response(
        status,
        Bytes::from_static(text.as_bytes()),
        "text/plain; charset=utf-8",
    )
}

fn typed_response(status: StatusCode, body: Bytes, kind: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

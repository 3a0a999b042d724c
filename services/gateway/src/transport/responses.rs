//! Answers to requests, and what a browser of another site may read of them.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::origin::Source;

/// The body of an answer.
pub(super) enum Body {
    /// All of it.
    Full(Full<Bytes>),
    /// Engine.IO's.
    Engine(UnsyncBoxBody<Bytes, Infallible>),
    /// Another gateway's, with the place it takes.
    Forwarded(
        Incoming,
        #[expect(dead_code, reason = "given back by its drop")] OwnedSemaphorePermit,
    ),
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Full(Full::new(bytes))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Full(body) => std::pin::Pin::new(body)
                .poll_frame(context)
                .map_err(|never| match never {}),
            Self::Engine(body) => std::pin::Pin::new(body)
                .poll_frame(context)
                .map_err(|never| match never {}),
            Self::Forwarded(body, _) => std::pin::Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(body) => body.is_end_stream(),
            Self::Engine(body) => body.is_end_stream(),
            Self::Forwarded(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Full(body) => body.size_hint(),
            Self::Engine(body) => body.size_hint(),
            Self::Forwarded(body, _) => body.size_hint(),
        }
    }
}

/// Lets a page of another site read the answer, if it may.
pub(super) fn allow(headers: &mut HeaderMap, source: &Source) {
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
pub(super) fn unavailable(code: &str, message: &str) -> Response<Body> {
    let body = format!(r#"{{"code":"{code}","message":"{code}: {message}"}}"#);
    let mut response = json_response(StatusCode::SERVICE_UNAVAILABLE, body);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

pub(super) fn empty_response(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::new()));
    *response.status_mut() = status;
    response
}

pub(super) fn json_response(status: StatusCode, body: String) -> Response<Body> {
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

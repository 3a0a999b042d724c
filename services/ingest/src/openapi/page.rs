//! `/openapi.json`, and `/docs`: the same for people, on one page that needs nothing from anywhere else.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Body,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;
use sha2::{Digest, Sha256};
use utoipa::openapi::OpenApi;

use super::{
    Doors,
    parts::{ABOUT, answer, anything, content, operation, string},
};
use crate::Ingest;

const STYLE: &str = include_str!("../../assets/docs/page.css");
const SCRIPT: &str = include_str!("../../assets/docs/page.js");
const PAGE: &str = include_str!("../../assets/docs/page.html");

/// What is served, made once.
struct Files {
    document: File,
    page: File,
}

struct File {
    content: Bytes,
    content_type: HeaderValue,
    tag: HeaderValue,
    more: Vec<(HeaderName, HeaderValue)>,
}

pub(super) fn doors(doors: Doors<'_>) -> Doors<'_> {
    let document = answer(
        "The document.",
        "application/json",
        content(
            anything(),
            [("document", "Its beginning", json!({ "openapi": "3.1.0" }))],
        ),
    );
    let page = answer(
        "The page.",
        "text/html; charset=utf-8",
        content(string("HTML."), []),
    );
    doors
        .get(
            "/openapi.json",
            operation(
                "document",
                ABOUT,
                "This document",
                "As OpenAPI 3.1, made by the running service.",
            )
            .response("200", document),
            async |Extension(files): Extension<Arc<Files>>, headers: HeaderMap| {
                files.document.answer(&headers)
            },
        )
        .get(
            "/docs",
            operation("page", ABOUT, "This document as a page", "For people.").response("200", page),
            async |Extension(files): Extension<Arc<Files>>, headers: HeaderMap| files.page.answer(&headers),
        )
}

/// Gives the routes what they serve.
pub(super) fn with_document(router: Router<Ingest>, document: &OpenApi) -> Router<Ingest> {
    // It has text keys only, which is all that could be wrong.
    let text = document.to_json().unwrap_or_default();
    let files = Files {
        page: page(&text),
        document: File::new(text, "application/json", Vec::new()),
    };
    router.layer(Extension(Arc::new(files)))
}

fn page(document: &str) -> File {
    // Nothing in it may end the element that it stands in.
    let document = document.replace('<', "\\u003c");
    let page = PAGE
        .replace("/* style */", STYLE)
        .replace("/* script */", SCRIPT)
        .replace("/* document */", &document);
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action \
         'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    let more = [
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    let more = more
        .into_iter()
        .filter_map(|(name, value)| Some((name, HeaderValue::from_str(value).ok()?)))
        .collect();
    File::new(page, "text/html; charset=utf-8", more)
}

impl File {
    fn new(content: String, content_type: &'static str, more: Vec<(HeaderName, HeaderValue)>) -> Self {
        let tag = format!("\"{}\"", STANDARD.encode(&Sha256::digest(&content)[..12]));
        Self {
            tag: HeaderValue::from_str(&tag).unwrap_or_else(|_| HeaderValue::from_static("\"\"")),
            content: content.into(),
            content_type: HeaderValue::from_static(content_type),
            more,
        }
    }

    fn answer(&self, asked: &HeaderMap) -> Response {
        let known = asked.get(header::IF_NONE_MATCH) == Some(&self.tag);
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            Response::new(Body::from(self.content.clone()))
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, self.content_type.clone());
        headers.insert(header::ETAG, self.tag.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        headers.extend(self.more.iter().cloned());
        response
    }
}

//! The document and the doors are the same.

use std::collections::{BTreeMap, BTreeSet};

use carillon_ingest::router;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;

use crate::fixture::Fixture;

async fn ask(
    fixture: &Fixture,
    method: Method,
    path: &str,
    tag: Option<&str>,
) -> (http::response::Parts, bytes::Bytes) {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://{}{path}", fixture.address));
    if let Some(tag) = tag {
        request = request.header("if-none-match", tag);
    }
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client
        .request(request.body(Empty::<bytes::Bytes>::new()).unwrap())
        .await
        .unwrap();
    let (head, body) = answer.into_parts();
    (head, body.collect().await.unwrap().to_bytes())
}

/// Paths and their methods, as the document has them.
async fn documented(fixture: &Fixture) -> BTreeMap<String, BTreeSet<String>> {
    let (head, body) = ask(fixture, Method::GET, "/openapi.json", None).await;
    assert_eq!(head.status, 200);
    assert_eq!(head.headers["content-type"], "application/json");
    let document: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    let methods = |item: &Value| item.as_object().unwrap().keys().cloned().collect();
    paths
        .iter()
        .map(|(path, item)| (path.clone(), methods(item)))
        .collect()
}

#[tokio::test]
async fn every_route_is_in_the_document_and_nothing_else() {
    let fixture = Fixture::start().await;
    let documented = documented(&fixture).await;

    // The router tells its paths to nobody but a debugger.
    let told = format!("{:?}", router(fixture.ingest.clone()));
    let mut routed: BTreeSet<String> = told
        .split('"')
        .filter(|word| word.starts_with('/') && !word.contains("axum_fallback"))
        .map(str::to_owned)
        .collect();
    assert!(routed.contains("/v1/messages"), "{told}");
    // What answers everywhere else answers there too.
    let (head, _) = ask(&fixture, Method::GET, "/", None).await;
    assert!(head.status == 404 && routed.remove("/"), "{}", head.status);
    assert_eq!(documented.keys().cloned().collect::<BTreeSet<_>>(), routed);

    for (path, methods) in &documented {
        let path = path.replace("{room}", "lobby");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            let (head, body) = ask(&fixture, method.parse().unwrap(), &path, None).await;
            let known = methods.contains(&method.to_ascii_lowercase());
            assert_eq!(head.status != 405, known, "{method} {path}: {}", head.status);
            if !known {
                assert_eq!(head.headers["content-type"], "application/problem+json");
                let problem: Value = serde_json::from_slice(&body).unwrap();
                assert!(problem["detail"].as_str().unwrap().contains(method), "{problem}");
                let allowed = head.headers["allow"].to_str().unwrap().to_lowercase();
                assert!(
                    methods.iter().all(|method| allowed.contains(method)),
                    "{path}: {allowed}"
                );
            }
        }
    }
}

#[tokio::test]
async fn the_page_holds_the_document_and_runs_nothing_else() {
    let fixture = Fixture::start().await;
    let (head, body) = ask(&fixture, Method::GET, "/docs", None).await;
    assert_eq!(head.status, 200);
    assert_eq!(head.headers["content-type"], "text/html; charset=utf-8");
    let policy = head.headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    let page = String::from_utf8(body.to_vec()).unwrap();
    let held = page
        .split_once("id=\"document\">")
        .and_then(|(_, rest)| rest.split_once("</script>"))
        .unwrap()
        .0;
    let held: Value = serde_json::from_str(held).unwrap();
    let (_, document) = ask(&fixture, Method::GET, "/openapi.json", None).await;
    assert_eq!(held, serde_json::from_slice::<Value>(&document).unwrap());

    let tag = head.headers["etag"].to_str().unwrap();
    let (head, body) = ask(&fixture, Method::GET, "/docs", Some(tag)).await;
    assert_eq!((head.status.as_u16(), body.len()), (304, 0));
}

#[tokio::test]
async fn a_room_that_is_no_text_is_a_problem() {
    let fixture = Fixture::start().await;
    let (head, body) = ask(&fixture, Method::GET, "/v1/rooms/%FF/presence", None).await;
    assert_eq!(head.status, 422);
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["field"], "room");
}

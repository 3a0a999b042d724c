use std::{
    io,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, response::IntoResponse, routing::post};
use serde_json::Value;
use tokio::sync::mpsc;

use super::*;
use crate::settings::{LogLevel, SettingValue};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn json(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn settings(format: LogFormat, level: &str, endpoint: Option<String>) -> (LogSettings, TelemetrySettings) {
    let level = LogLevel::parse_text(level).unwrap();
    (
        LogSettings { format, level },
        TelemetrySettings {
            otlp_endpoint: endpoint,
            sample_ratio: 1.0,
        },
    )
}

fn logging(format: LogFormat, level: &str) -> (Dispatch, Lines) {
    let lines = Lines::default();
    let (log, telemetry) = settings(format, level, None);
    let writer = lines.clone();
    let (dispatch, _provider) = build("bell", &log, &telemetry, move || writer.clone()).unwrap();
    (dispatch, lines)
}

#[test]
fn a_line_names_its_trace_and_its_spans() {
    let (dispatch, lines) = logging(LogFormat::Json, "warn");
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::warn!(level = "taken", count = 3, error = %"why", "outside");
        tracing::info!("too low");
        let span = tracing::info_span!("accept", room = "lobby");
        trace_context::set_parent(&span, trace_context::from_traceparent(PARENT));
        span.in_scope(|| tracing::warn!(ok = true, "inside"));
    });
    let lines = lines.json();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0]["message"], "outside");
    assert_eq!(lines[0]["level"], "WARN");
    assert_eq!(lines[0]["fields.level"], "taken");
    assert_eq!(lines[0]["count"], 3);
    assert_eq!(lines[0]["error"], "why");
    assert_eq!(lines[0]["trace_id"], Value::Null);
    assert!(lines[0]["timestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(lines[1]["trace_id"], TRACE);
    assert_eq!(lines[1]["span_id"].as_str().unwrap().len(), 16);
    assert_ne!(
        lines[1]["span_id"], "b7ad6b7169203331",
        "the span is a child of the caller's"
    );
    assert_eq!(lines[1]["spans"][0]["name"], "accept");
    assert_eq!(lines[1]["spans"][0]["room"], "lobby");
}

#[test]
fn text_is_for_people() {
    let (dispatch, lines) = logging(LogFormat::Text, "info,carillon_chassis=debug");
    tracing::dispatcher::with_default(&dispatch, || tracing::debug!(room = "lobby", "joined"));
    let text = lines.text();
    assert!(
        text.contains("DEBUG") && text.ends_with("joined room=\"lobby\"\n"),
        "{text}"
    );
}

#[test]
fn a_text_line_ends_with_its_trace() {
    let (dispatch, lines) = logging(LogFormat::Text, "info");
    tracing::dispatcher::with_default(&dispatch, || {
        let span = tracing::info_span!("accept");
        trace_context::set_parent(&span, trace_context::from_traceparent(PARENT));
        span.in_scope(|| tracing::info!(room = "lobby", "joined"));
    });
    let text = lines.text();
    let end = format!("joined room=\"lobby\" trace_id={TRACE} span_id=");
    let (_, span) = text.split_once(&end).unwrap_or_else(|| panic!("{text}"));
    assert_eq!(span.len(), 17, "sixteen digits and the end of the line: {text}");
}

/// Whether a span is made at all is settled for its place in the code by what all subscribers of the process want. A
/// process has one; tests that have one which exports take turns.
static EXPORTING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_hops_are_there_only_where_traces_are_exported() {
    let _turn = EXPORTING.lock().await;
    let hop = |dispatch: &Dispatch| {
        tracing::dispatcher::with_default(dispatch, || {
            let span = tracing::info_span!(target: trace_context::HOP, parent: None, "dispatch");
            trace_context::set_parent(&span, trace_context::from_traceparent(PARENT));
            (span.is_disabled(), trace_context::traceparent_of(&span))
        })
    };
    let (dispatch, _lines) = logging(LogFormat::Json, "trace");
    assert_eq!(hop(&dispatch), (true, String::new()));
    let (endpoint, _received) = collector().await;
    let (log, telemetry) = settings(LogFormat::Json, "warn", Some(endpoint));
    let (dispatch, _provider) = build("bell", &log, &telemetry, io::sink).unwrap();
    let (disabled, traceparent) = hop(&dispatch);
    assert!(!disabled && traceparent.contains(TRACE), "{traceparent}");
}

#[test]
fn callers_links_and_makers_decide_before_chance_does() {
    use opentelemetry::{
        Context,
        trace::{Link, SpanKind, TraceContextExt, TraceId},
    };
    use opentelemetry_sdk::trace::{SamplingDecision, ShouldSample};
    let never = Decisions {
        by_chance: Sampler::AlwaysOff,
    };
    let decide = |decisions: &Decisions, parent: &Context, attributes: &[KeyValue], links: &[Link]| {
        let trace = TraceId::from(7);
        decisions
            .should_sample(Some(parent), trace, "s", &SpanKind::Internal, attributes, links)
            .decision
    };
    let nobody = Context::new();
    let (yes, no) = (SamplingDecision::RecordAndSample, SamplingDecision::Drop);
    let caller = |flags: &str| trace_context::from_traceparent(&PARENT.replace("-01", flags));
    let link = |flags: &str| Link::with_context(caller(flags).span().span_context().clone());
    assert_eq!(decide(&never, &nobody, &[], &[]), no);
    assert_eq!(decide(&never, &caller("-01"), &[], &[]), yes);
    assert_eq!(decide(&never, &nobody, &[], &[link("-00"), link("-01")]), yes);
    assert_eq!(decide(&never, &nobody, &[], &[link("-00")]), no);
    let chosen = KeyValue::new(trace_context::CHOSEN, true);
    assert_eq!(decide(&never, &nobody, std::slice::from_ref(&chosen), &[]), yes);
    let always = Decisions {
        by_chance: Sampler::AlwaysOn,
    };
    assert_eq!(decide(&always, &nobody, &[], &[]), yes);
    assert_eq!(decide(&always, &caller("-00"), &[chosen], &[link("-01")]), no);
}

#[test]
fn a_share_is_drawn_only_where_it_matters() {
    let share = |endpoint: Option<&str>, sample_ratio| {
        TracedShare::of(&TelemetrySettings {
            otlp_endpoint: endpoint.map(str::to_owned),
            sample_ratio,
        })
    };
    let unasked = || -> f64 { panic!("nothing is exported, so nothing is drawn") };
    assert!(!share(None, 1.0).chooses(unasked));
    assert!(!share(Some("http://collector:4317"), 0.0).chooses(unasked));
    assert!(share(Some("http://collector:4317"), 1.0).chooses(|| 0.999));
    assert!(share(Some("http://collector:4317"), 0.25).chooses(|| 0.2));
    assert!(!share(Some("http://collector:4317"), 0.25).chooses(|| 0.25));
}

#[test]
fn a_context_is_found_in_any_kind_of_metadata() {
    let (dispatch, _lines) = logging(LogFormat::Json, "info");
    tracing::dispatcher::with_default(&dispatch, || {
        let metadata = [("traceparent", PARENT), ("tracestate", "vendor=1")];
        let find = |name: &str| {
            metadata
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| *value)
        };
        let span = tracing::info_span!("accept");
        trace_context::set_parent(&span, trace_context::from_lookup(find));
        assert_eq!(&trace_context::traceparent_of(&span)[3..35], TRACE);
        let other = tracing::info_span!("accept");
        trace_context::set_parent(&other, trace_context::from_lookup(|_| None));
        assert!(!trace_context::traceparent_of(&other).contains(TRACE));
    });
}

#[test]
fn what_libraries_quote_is_logged_at_no_level() {
    for level in [
        "trace",
        "info,axum::rejection=trace,tungstenite=trace,engineioxide=trace",
    ] {
        let (dispatch, lines) = logging(LogFormat::Text, level);
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::trace!(target: "axum::rejection", body = "a secret", "rejecting request");
            tracing::trace!(target: "tungstenite::protocol::frame", "a secret");
            tracing::error!(target: "engineioxide", "a secret");
            tracing::error!(target: "tungstenite_of_another_kind", "this one is let through");
        });
        let text = lines.text();
        assert!(!text.contains("a secret"), "{level}: {text}");
        assert!(text.contains("let through"), "{level}: {text}");
    }
}

#[test]
fn a_trace_goes_through_in_headers_and_text() {
    let (dispatch, _lines) = logging(LogFormat::Json, "info");
    tracing::dispatcher::with_default(&dispatch, || {
        assert_eq!(trace_context::current_traceparent(), "", "there is no trace yet");
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", PARENT.parse().unwrap());
        headers.insert("tracestate", "vendor=1".parse().unwrap());
        let span = tracing::info_span!("accept");
        trace_context::set_parent(&span, trace_context::from_headers(&headers));
        let (text, out) = span.in_scope(|| {
            let mut out = HeaderMap::new();
            trace_context::into_headers(&mut out);
            (trace_context::current_traceparent(), out)
        });
        assert_eq!(text, trace_context::traceparent_of(&span));
        assert_eq!(&text[3..35], TRACE);
        assert!(text.ends_with("-01"), "the caller's decision to record stands");
        assert_ne!(&text[36..52], "b7ad6b7169203331");
        assert_eq!(out["traceparent"], text.as_str());
        assert_eq!(out["tracestate"], "vendor=1");

        let next = tracing::info_span!("dispatch");
        trace_context::set_parent(&next, trace_context::from_traceparent(&text));
        assert_eq!(&trace_context::traceparent_of(&next)[3..35], TRACE);

        let broken = tracing::info_span!("broken");
        trace_context::set_parent(&broken, trace_context::from_traceparent("nonsense"));
        let own = trace_context::traceparent_of(&broken);
        assert!(
            own.len() == 55 && !own.contains(TRACE),
            "a broken context starts a trace of its own: {own}"
        );
        assert!(
            own.ends_with("-00"),
            "without export a trace that starts here is not recorded: {own}"
        );
    });
}

/// A collector that says yes to everything.
async fn collector() -> (String, mpsc::Receiver<Bytes>) {
    let (sender, received) = mpsc::channel(16);
    async fn export(State(sender): State<mpsc::Sender<Bytes>>, body: Bytes) -> impl IntoResponse {
        sender.send(body).await.unwrap();
        let empty: &[u8] = &[0; 5];
        (
            [("content-type", "application/grpc"), ("grpc-status", "0")],
            empty,
        )
    }
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let app = Router::new().route(path, post(export)).with_state(sender);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (endpoint, received)
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_leave_only_to_an_endpoint_and_all_do_before_the_end() {
    let _turn = EXPORTING.lock().await;
    let (endpoint, mut received) = collector().await;
    let (log, telemetry) = settings(LogFormat::Json, "info", Some(endpoint));
    let (dispatch, provider) = build("carillon-bell", &log, &telemetry, io::sink).unwrap();
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::info_span!("ring_the_bell").in_scope(|| {});
    });
    Telemetry {
        provider: Some(provider),
    }
    .shutdown()
    .await;
    let body = received.try_recv().expect("the span has left");
    let has = |text: &str| body.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("ring_the_bell") && has("carillon-bell") && !has("carillon-carillon"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_collector_does_not_hold_the_end() {
    let _turn = EXPORTING.lock().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let (log, telemetry) = settings(LogFormat::Json, "info", Some(endpoint));
    let (dispatch, provider) = build("bell", &log, &telemetry, io::sink).unwrap();
    tracing::dispatcher::with_default(&dispatch, || tracing::info_span!("lost").in_scope(|| {}));
    let ended = tokio::time::timeout(
        FLUSH * 2,
        Telemetry {
            provider: Some(provider),
        }
        .shutdown(),
    )
    .await;
    assert!(ended.is_ok(), "flushing is bounded");
}

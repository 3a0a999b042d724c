//! Logs and traces.
//!
//! Logs go to standard error, as JSON for machines or as text for people. Traces are OpenTelemetry's: every service
//! takes a W3C trace context in ([`trace_context::from_headers`], [`trace_context::from_traceparent`]), works under it,
//! and hands it on, whether or not anything is exported. Spans leave the process only if an OTLP endpoint is set.
//! Without one a trace that starts here is not recorded, which costs next to nothing, and still has an id to find its
//! log lines by.
//!
//! *A message's hops* (dispatcher, gateway) open spans of the target [`trace_context::HOP`], and only for messages whose
//! trace is recorded: [`carillon_model::trace::is_sampled`] looks at one character for that. Where nothing is exported
//! such spans are disabled, and the context passes through untouched.
//!
//! ```
//! use carillon_chassis::telemetry::trace_context;
//! # let headers = axum::http::HeaderMap::new();
//! let span = tracing::info_span!("accept");
//! trace_context::set_parent(&span, trace_context::from_headers(&headers));
//! let traceparent = span.in_scope(trace_context::current_traceparent); // travels in the message
//! ```

mod discretion;
mod ids;
mod json;
mod sampler;
mod share;
#[cfg(test)]
mod tests;
mod text;
pub mod trace_context;

use std::{io::IsTerminal as _, time::Duration};

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::{Dispatch, Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt as _, Targets, filter_fn},
    fmt::{MakeWriter, format::JsonFields},
    layer::SubscriberExt as _,
    registry::LookupSpan,
};

use crate::{
    build_info::BUILD,
    settings::{LogFormat, LogSettings, TelemetrySettings},
};
use discretion::discreet;
use ids::TraceIds;
use json::JsonLines;
use sampler::Decisions;
use text::TextLines;
use trace_context::HOP;

pub use share::TracedShare;

/// How long the last spans may take to leave.
const FLUSH: Duration = Duration::from_secs(3);

/// Why logs and traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The exporter refused its endpoint.
    #[error("cannot export traces to telemetry.otlp.endpoint: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The log level is none.
    #[error("log.level: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// Somebody has set up logs in this process before.
    #[error("logs are set up already: {0}")]
    Twice(#[from] tracing::dispatcher::SetGlobalDefaultError),
}

/// Keeps logs and traces going; sends what is left of the traces when it is shut down or dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the traces"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sets up logs and traces for the whole process. Must be called inside a runtime, on which spans will be exported.
    pub fn init(
        service: &str,
        log: &LogSettings,
        telemetry: &TelemetrySettings,
    ) -> Result<Self, TelemetryError> {
        let (dispatch, provider) = build(service, log, telemetry, std::io::stderr)?;
        tracing::dispatcher::set_global_default(dispatch)?;
        Ok(Self {
            provider: Some(provider),
        })
    }

    /// Sends what is left, within three seconds.
    pub async fn shutdown(mut self) {
        if let Some(provider) = self.provider.take() {
            let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH)).await;
            if let Ok(Err(error)) = flushed {
                tracing::warn!(%error, "the last traces did not get out");
            }
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take() {
            let _ = provider.shutdown_with_timeout(FLUSH);
        }
    }
}

/// Everything but making it the process' own, for tests that have several.
fn build<W>(
    service: &str,
    log: &LogSettings,
    telemetry: &TelemetrySettings,
    writer: W,
) -> Result<(Dispatch, SdkTracerProvider), TelemetryError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let provider = provider(service, telemetry)?;
    // Our own spans, and not those of the libraries that carry them: exporting would make more to export.
    let exports = telemetry.otlp_endpoint.is_some();
    let libraries = [
        "h2",
        "hyper",
        "hyper_util",
        "tonic",
        "tower",
        "opentelemetry",
        "opentelemetry_sdk",
    ];
    let not_ours = libraries.into_iter().chain((!exports).then_some(HOP));
    let ours = not_ours.fold(
        Targets::new().with_default(LevelFilter::INFO),
        |targets, library| targets.with_target(library, LevelFilter::OFF),
    );
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("carillon"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false)
        .with_filter(ours);
    let ids = TraceIds::default();
    let level = EnvFilter::try_new(log.level.as_str())?;
    // Spans pass whatever the level of the lines, or a lone warning could not name its trace.
    let spans = filter_fn(|metadata| metadata.is_span() && *metadata.level() <= Level::INFO)
        .with_max_level_hint(LevelFilter::INFO);
    let wanted = filter_fn(move |metadata| exports || metadata.target() != HOP);
    let lines =
        log_layer(log.format, ids.clone(), writer).with_filter(wanted.and(level.or(spans)).and(discreet()));
    // It wants no spans of its own, and must not keep those alive that nobody else wants.
    let told = ids.with_filter(LevelFilter::OFF);
    let subscriber = Registry::default().with(traces).with(lines).with(told);
    Ok((Dispatch::new(subscriber), provider))
}

fn provider(service: &str, settings: &TelemetrySettings) -> Result<SdkTracerProvider, TelemetryError> {
    let name = service.strip_prefix("carillon-").unwrap_or(service);
    let resource = Resource::builder()
        .with_service_name(format!("carillon-{name}"))
        .with_attribute(KeyValue::new("service.version", BUILD.version))
        .build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    // The caller's decision stands in either case, so that traces that pass through are not torn.
    let provider = match &settings.otlp_endpoint {
        Some(endpoint) => {
            let exporter = opentelemetry_otlp::SpanExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .build()?;
            let by_chance = Sampler::TraceIdRatioBased(settings.sample_ratio);
            builder
                .with_sampler(Decisions { by_chance })
                .with_batch_exporter(exporter)
                .build()
        }
        None => builder
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)))
            .build(),
    };
    Ok(provider)
}

fn log_layer<S, W>(format: LogFormat, ids: TraceIds, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Json => layer
            .fmt_fields(JsonFields::new())
            .event_format(JsonLines { ids })
            .boxed(),
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            layer
                .with_ansi(colours)
                .event_format(TextLines::new(ids, colours))
                .boxed()
        }
    }
}

/// Makes a panic a log line like any other, so that it is found where logs are looked for.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("something that is no text");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        tracing::error!(location, thread, %backtrace, "panic: {message}");
    }));
}

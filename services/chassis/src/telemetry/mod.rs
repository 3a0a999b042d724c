//! Logs and traces.
//!
//! Logs go to standard error, as JSON for machines or as text for people. Traces are OpenTelemetry's: every service
//! takes a W3C trace context in ([`trace_context::from_headers`], [`trace_context::from_traceparent`]), works under it,
//! and hands it on, whether or not anything is exported. Spans leave the process only if an OTLP endpoint is set.
//! Without one a trace that starts here is not recorded, which costs next to nothing, and still has an id to find its
//! log lines by.
//!
//! ```
//! use carillon_chassis::telemetry::trace_context;
//! # let headers = axum::http::HeaderMap::new();
//! let span = tracing::info_span!("accept");
//! trace_context::set_parent(&span, trace_context::from_headers(&headers));
//! let traceparent = span.in_scope(trace_context::current_traceparent); // travels in the message
//! ```

mod json;
#[cfg(test)]
mod tests;
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
use json::{DispatchCell, JsonLines};

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
    let ours = [
        "h2",
        "hyper",
        "hyper_util",
        "tonic",
        "tower",
        "opentelemetry",
        "opentelemetry_sdk",
    ]
    .into_iter()
    .fold(
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
    let dispatch = DispatchCell::default();
    let level = EnvFilter::try_new(log.level.as_str())?;
    // Spans pass whatever the level of the lines, or a lone warning could not name its trace.
    let spans = filter_fn(|metadata| metadata.is_span() && *metadata.level() <= Level::INFO)
        .with_max_level_hint(LevelFilter::INFO);
    let lines = log_layer(log.format, dispatch.clone(), writer).with_filter(level.or(spans));
    let subscriber = Registry::default().with(traces).with(lines).with(dispatch);
    Ok((Dispatch::new(subscriber), provider))
}

fn provider(service: &str, settings: &TelemetrySettings) -> Result<SdkTracerProvider, TelemetryError> {
    let resource = Resource::builder()
        .with_service_name(format!("carillon-{service}"))
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
            let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio)));
            builder
                .with_sampler(sampler)
                .with_batch_exporter(exporter)
                .build()
        }
        None => builder
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)))
            .build(),
    };
    Ok(provider)
}

fn log_layer<S, W>(format: LogFormat, dispatch: DispatchCell, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Json => layer
            .fmt_fields(JsonFields::new())
            .event_format(JsonLines { dispatch })
            .boxed(),
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).boxed(),
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

//! The sections that the chassis itself reads. Every service has them.

use std::{net::SocketAddr, path::PathBuf};

use crate::{setting_words, settings_section};

use super::{load::Reader, value::SettingValue};

setting_words! {
    /// The form of log lines.
    pub enum LogFormat {
        /// One JSON object per line.
        Json = "json",
        /// For people.
        Text = "text",
    }
}

settings_section! {
    /// What is logged, to standard error.
    pub struct LogSettings in "log" {
        /// `json` for machines, `text` for people.
        "format" => format: LogFormat = "json";
        /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels per module such as
        /// `info,carillon_gateway=debug`.
        "level" => level: LogLevel = "info";
    }
}

settings_section! {
    /// The administration server: `/livez`, `/readyz`, `/startupz` and `/metrics`, apart from the public ports.
    pub struct AdminSettings in "admin" {
        /// Where it listens. Port 0 takes a free one.
        "listen" => listen: SocketAddr = "0.0.0.0:9090";
    }
}

settings_section! {
    /// Where the policy comes from.
    pub struct PolicySettings in "policy" {
        /// A policy file, which is watched. Without one, the snapshot in the broker decides.
        "file" => file: Option<PathBuf>;
    }
}

settings_section! {
    /// OpenTelemetry traces. Trace context is passed on in any case; spans are exported only if an endpoint is set.
    pub struct TelemetrySettings in "telemetry", check = check_telemetry {
        /// The OTLP/gRPC endpoint of a collector, such as `http://localhost:4317`.
        "otlp.endpoint" => otlp_endpoint: Option<String>;
        /// The share of traces that is recorded, where the caller has not decided already.
        "sample_ratio" => sample_ratio: f64 = 1.0, range 0..=1;
    }
}

fn check_telemetry(telemetry: &TelemetrySettings, reader: &mut Reader<'_>) {
    if let Some(endpoint) = &telemetry.otlp_endpoint
        && endpoint.strip_prefix("http://").is_none_or(str::is_empty)
    {
        let what =
            "must start with `http://`; for a collector behind TLS, run a collector next to this process";
        reader.problem("telemetry.otlp.endpoint", what);
    }
}

/// A directive of [`tracing_subscriber::EnvFilter`], known to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevel(String);

impl LogLevel {
    /// The directive.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SettingValue for LogLevel {
    fn expects() -> String {
        "a level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or `module=level` separated by commas"
            .to_owned()
    }

    fn parse_text(text: &str) -> Result<Self, String> {
        const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
        let valid = !text.is_empty()
            && tracing_subscriber::EnvFilter::try_new(text).is_ok()
            // The filter takes any single word for a module's name, and a mistyped level would silence everything.
            && text.split(',').all(|part| {
                part.contains('=') || LEVELS.contains(&part.trim().to_lowercase().as_str())
            });
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("expected {}", Self::expects()))
        }
    }
}

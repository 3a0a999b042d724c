//! Log lines as JSON objects, one a line: time, level, target, message and the event's fields; inside a trace also
//! `trace_id` and `span_id`, by which a log line finds its trace.

use std::fmt;

use serde::ser::{SerializeMap, Serializer as _};
use serde_json::{Value, value::RawValue};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormattedFields,
        format::{FormatEvent, FormatFields, Writer},
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

use super::ids::TraceIds;

/// Formats events as JSON.
#[derive(Debug, Default)]
pub(super) struct JsonLines {
    pub(super) ids: TraceIds,
}

/// Names that are taken; a field of that name is put under `fields.<name>`.
const RESERVED: [&str; 6] = ["timestamp", "level", "target", "trace_id", "span_id", "spans"];

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut fields = Fields::default();
        event.record(&mut fields);

        let mut line = Vec::with_capacity(256);
        let mut serializer = serde_json::Serializer::new(&mut line);
        let written = (|| {
            let mut map = serializer.serialize_map(None)?;
            map.serialize_entry("timestamp", &timestamp)?;
            map.serialize_entry("level", event.metadata().level().as_str())?;
            map.serialize_entry("target", event.metadata().target())?;
            if let Some((_, message)) = fields.0.iter().find(|(name, _)| *name == "message") {
                map.serialize_entry("message", message)?;
            }
            for (name, value) in fields.0.iter().filter(|(name, _)| *name != "message") {
                if RESERVED.contains(name) {
                    map.serialize_entry(&format!("fields.{name}"), value)?;
                } else {
                    map.serialize_entry(name, value)?;
                }
            }
            if let Some(span) = context.parent_span() {
                if let Some((trace, span)) = self.ids.of(&span.id()) {
                    map.serialize_entry("trace_id", &trace)?;
                    map.serialize_entry("span_id", &span)?;
                }
                let spans: Vec<Value> = span
                    .scope()
                    .from_root()
                    .map(|span| describe::<S, N>(&span))
                    .collect();
                map.serialize_entry("spans", &spans)?;
            }
            map.end()
        })();
        written.map_err(|_: serde_json::Error| fmt::Error)?;
        writer.write_str(std::str::from_utf8(&line).map_err(|_| fmt::Error)?)?;
        writer.write_char('\n')
    }
}

fn describe<'a, S, N>(span: &tracing_subscriber::registry::SpanRef<'a, S>) -> Value
where
    S: for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    let mut described = serde_json::Map::new();
    described.insert("name".to_owned(), span.name().into());
    let extensions = span.extensions();
    let fields = extensions.get::<FormattedFields<N>>();
    if let Some(Ok(Value::Object(fields))) = fields.map(|fields| serde_json::from_str(&fields.fields)) {
        described.extend(fields);
    }
    Value::Object(described)
}

#[derive(Default)]
struct Fields(Vec<(&'static str, Box<RawValue>)>);

impl Fields {
    fn push(&mut self, field: &Field, value: impl serde::Serialize) {
        if let Ok(value) = serde_json::value::to_raw_value(&value) {
            self.0.push((field.name(), value));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.push(field, value.to_string());
    }
}

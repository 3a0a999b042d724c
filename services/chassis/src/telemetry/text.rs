//! Log lines for people: the usual ones of tracing; inside a trace they end with `trace_id` and `span_id`.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext,
        format::{Format, FormatEvent, FormatFields, Writer},
    },
    registry::LookupSpan,
};

use super::ids::TraceIds;

/// Formats events as text.
#[derive(Debug)]
pub(super) struct TextLines {
    usual: Format,
    ids: TraceIds,
}

impl TextLines {
    pub(super) fn new(ids: TraceIds, colours: bool) -> Self {
        let usual = Format::default().with_ansi(colours);
        Self { usual, ids }
    }
}

impl<S, N> FormatEvent<S, N> for TextLines
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
        let Some((trace, span)) = context.parent_span().and_then(|span| self.ids.of(&span.id())) else {
            return self.usual.format_event(context, writer, event);
        };
        let mut line = String::with_capacity(256);
        self.usual.format_event(context, Writer::new(&mut line), event)?;
        writeln!(
            writer,
            "{} trace_id={trace} span_id={span}",
            line.trim_end_matches('\n')
        )
    }
}

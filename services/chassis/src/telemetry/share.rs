//! Deciding before a span is made.

use crate::settings::TelemetrySettings;

/// The share of the traces that start here which is recorded: nothing where nothing is exported. Work that is done often
/// draws by it first, and makes no span for what is not recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TracedShare(f64);

impl TracedShare {
    /// By the settings of a process.
    pub fn of(settings: &TelemetrySettings) -> Self {
        Self(match settings.otlp_endpoint {
            Some(_) => settings.sample_ratio,
            None => 0.0,
        })
    }

    /// Draws, with a number from 0 up to 1 that is asked for only where it matters. A span for what was chosen says so in
    /// its field `chosen = true` ([`CHOSEN`](super::trace_context::CHOSEN)).
    pub fn chooses(self, draw: impl FnOnce() -> f64) -> bool {
        self.0 > 0.0 && draw() < self.0
    }
}

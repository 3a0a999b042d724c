//! Durations as people write them, and steps in time.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

/// A duration like `1h30m`. What the API server let in is one; anything else is `None`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

/// So much later; the end of time if that is beyond it.
pub(crate) fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

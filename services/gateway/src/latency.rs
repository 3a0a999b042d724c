//! How long ago a message was accepted, for people: it takes the clocks of two machines, so nothing is decided by it.

use carillon_model::time::wall_clock_milliseconds;

/// Seconds since a time on another machine's clock (milliseconds since 1970); 0 where that clock is ahead of this one.
#[allow(clippy::cast_precision_loss)] // a latency in milliseconds is far below 2^53
pub(crate) fn seconds_since(then: u64) -> f64 {
    wall_clock_milliseconds().saturating_sub(then) as f64 / 1_000.0
}

//! Wall-clock time for people and traces. No decision in Carillon reads it: only Redis' clock decides.

use std::time::UNIX_EPOCH;

/// Milliseconds since 1970 by this machine's clock; 0 if that clock stands before 1970.
#[allow(clippy::disallowed_methods)]
pub fn wall_clock_milliseconds() -> u64 {
    std::time::SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| {
            u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
        })
}

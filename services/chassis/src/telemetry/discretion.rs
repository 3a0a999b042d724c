//! What libraries would quote of other people's requests and messages stays out of the logs, at any level.
//!
//! Whoever looks for a fault sets `log.level` to `trace`, and logs go to places that must not know tokens, cookies,
//! keys or what people say to each other. So this is no default that a level could change.

use tracing::{Metadata, Subscriber};
use tracing_subscriber::{filter::filter_fn, layer::Filter};

/// Targets of libraries that show what they carry.
const QUOTING: [&str; 4] = [
    // Why a request was refused, in words that quote it.
    "axum::rejection",
    // Packets.
    "engineioxide",
    // Frames.
    "tungstenite",
    "tokio_tungstenite",
];

/// Passes everything but that.
pub(super) fn discreet<S: Subscriber>() -> impl Filter<S> {
    filter_fn(|metadata: &Metadata<'_>| !QUOTING.iter().any(|target| is_of(metadata.target(), target)))
}

/// Whether a target is another one or below it, as paths of modules are.
fn is_of(target: &str, other: &str) -> bool {
    target
        .strip_prefix(other)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

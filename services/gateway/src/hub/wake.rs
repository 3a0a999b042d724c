//! Waiting for a moment that may never come.

use tokio::time::Instant;

/// Waits until then; without a moment, for ever.
pub(super) async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

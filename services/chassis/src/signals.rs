//! SIGTERM and SIGINT: the first one drains, the second one ends the process at once.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{drain::Drain, run::exit};

/// Handles signals for as long as the process lives.
///
/// The handlers are installed when this function is called, not when the future is first polled, so that no signal
/// finds the process without them. Must be called inside a runtime.
pub(crate) fn attend(drain: Drain, patience: Duration) -> impl Future<Output = ()> + Send + 'static {
    let terminate = signal(SignalKind::terminate());
    let interrupt = signal(SignalKind::interrupt());
    async move {
        let (mut terminate, mut interrupt) = match (terminate, interrupt) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "cannot handle signals; they will end the process without a drain");
                return;
            }
        };
        let name = next(&mut terminate, &mut interrupt).await;
        tracing::info!(
            signal = name,
            patience_seconds = patience.as_secs_f64(),
            "draining"
        );
        drain.start(patience);
        let name = next(&mut terminate, &mut interrupt).await;
        tracing::warn!(signal = name, "a second signal: ending at once");
        end_at_once();
    }
}

/// Nothing that the process still does is worth waiting for, by its operator's word; so destructors are not run.
#[allow(clippy::exit, reason = "this is the one place that ends the process")]
fn end_at_once() {
    std::process::exit(i32::from(exit::FAILED));
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        biased;
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

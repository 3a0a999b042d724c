//! Looks after the broker, so that a request need not: how full it is, and whether it is there.

use std::time::Duration;

use carillon_broker::Result;
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::Ingest;

/// How often the broker's configuration is looked at, once it was right.
const CHECK_EVERY: Duration = Duration::from_secs(30);

/// What was seen last.
#[derive(Debug, Default)]
pub(crate) struct Watched(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    memory: f64,
    /// Why the broker can't be used; outermost `None` before the first look.
    trouble: Option<std::result::Result<(), String>>,
}

impl Watched {
    /// Used share of the broker's memory; 0 where nobody knows, because then appends tell.
    pub(crate) fn memory(&self) -> f64 {
        self.0.lock().memory
    }
}

impl Ingest {
    /// Whether messages can be accepted, for a check of readiness. The error says why not. Asks nobody: it tells what
    /// [`Ingest::watch`] saw last.
    pub fn readiness(&self) -> std::result::Result<(), String> {
        match &self.shared.watched.0.lock().trouble {
            Some(seen) => seen.clone(),
            None => Err("the broker was not looked at yet".to_owned()),
        }
    }

    /// Looks after the broker, for as long as it is polled.
    pub async fn watch(&self) {
        let mut ticks = interval(self.shared.settings.watch_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut checked: Option<Instant> = None;
        loop {
            ticks.tick().await;
            let due = checked.is_none_or(|checked| checked.elapsed() >= CHECK_EVERY);
            let looked = async {
                let pressure = self.shared.health.pressure().await?;
                if due {
                    self.shared.health.check().await?;
                }
                Ok(pressure)
            };
            let looked: Result<_> = match timeout(self.shared.settings.write_timeout, looked).await {
                Ok(looked) => looked,
                Err(_) => Err(carillon_broker::BrokerError::Unavailable(format!(
                    "no answer within {:?}",
                    self.shared.settings.write_timeout
                ))),
            };
            if looked.is_err() {
                checked = None;
            } else if due {
                checked = Some(Instant::now());
            }
            self.saw(
                looked
                    .map(|pressure| pressure.memory)
                    .map_err(|error| error.to_string()),
            );
        }
    }

    fn saw(&self, looked: std::result::Result<f64, String>) {
        let memory = *looked.as_ref().unwrap_or(&0.0);
        self.shared.metrics.redis_memory_ratio.set(memory);
        let mut seen = self.shared.watched.0.lock();
        let full = self.shared.settings.memory_share;
        if (memory > full) != (seen.memory > full) {
            let verb = if memory > full { "refuses" } else { "accepts" };
            tracing::warn!(
                memory,
                limit = full,
                "ingest {verb} messages by the broker's memory"
            );
        }
        let now = looked.map(|_| ());
        match (&seen.trouble, &now) {
            (Some(Err(before)), Err(after)) if before == after => {}
            (_, Err(why)) => tracing::warn!(%why, "the broker can't be used"),
            (Some(Err(_)), Ok(())) => tracing::info!("the broker can be used again"),
            _ => {}
        }
        self.shared.standing.ready(now.is_ok());
        *seen = Seen {
            memory,
            trouble: Some(now),
        };
    }
}

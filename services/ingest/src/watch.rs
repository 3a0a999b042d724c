//! Looks after the broker, so that a request need not: whether it is there. How full it is, the memory gate says.

use std::time::Duration;

use carillon_broker::{Pressure, Result};
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
    /// Why the broker can't be used; outermost `None` before the first look.
    trouble: Option<std::result::Result<(), String>>,
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
                    .inspect(|pressure| self.memory_gate.saw(*pressure))
                    .map_err(|error| error.to_string()),
            );
        }
    }

    fn saw(&self, looked: std::result::Result<Pressure, String>) {
        let mut seen = self.shared.watched.0.lock();
        let now = looked.map(|_| ());
        match (&seen.trouble, &now) {
            (Some(Err(before)), Err(after)) if before == after => {}
            (_, Err(why)) => tracing::warn!(%why, "the broker can't be used"),
            (Some(Err(_)), Ok(())) => tracing::info!("the broker can be used again"),
            _ => {}
        }
        self.shared.standing.ready(now.is_ok());
        *seen = Seen { trouble: Some(now) };
    }
}

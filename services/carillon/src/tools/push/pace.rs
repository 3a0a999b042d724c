//! How fast messages are sent: `--rate 100/s`.

use std::{num::NonZeroU32, str::FromStr, time::Duration};

use tokio::time::Instant;

/// So many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    each: Duration,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no rate; it looks like 100/s, 30/m or 5000/h");
        let (count, unit) = text.split_once('/').unwrap_or((text, "s"));
        let count: NonZeroU32 = count.trim().parse().map_err(|_| wrong())?;
        let period = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        Ok(Self {
            each: Duration::from_secs(period) / count.get(),
        })
    }
}

/// How often a request goes out at most while a rate holds: faster rates are sent several at once.
const TICK: Duration = Duration::from_millis(50);

/// Keeps the pace.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Option<Rate>,
    due: Instant,
}

impl Pace {
    pub(super) fn new(rate: Option<Rate>) -> Self {
        let due = Instant::now();
        Self { rate, due }
    }

    /// How many go together, at most `most`.
    pub(super) fn together(&self, most: usize) -> usize {
        let Some(rate) = self.rate else { return most };
        let fitting = TICK.as_nanos() / rate.each.as_nanos().max(1);
        usize::try_from(fitting).unwrap_or(most).clamp(1, most)
    }

    /// Waits until so many may be sent.
    pub(super) async fn wait(&mut self, count: usize) {
        let Some(rate) = self.rate else { return };
        tokio::time::sleep_until(self.due).await;
        // Whoever was late does not hurry afterwards.
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.due = self.due.max(Instant::now()) + rate.each * count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        for (text, each) in [("100/s", 10), ("100", 10), ("60/m", 1000), ("3600/h", 1000)] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.each, Duration::from_millis(each), "{text}");
        }
        for wrong in ["", "0/s", "fast", "1/day", "-1/s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_is_kept() {
        let mut pace = Pace::new(Some("1000/s".parse().unwrap()));
        assert_eq!(pace.together(100), 50);
        let begin = Instant::now();
        for _ in 0..21 {
            pace.wait(50).await;
        }
        assert_eq!(begin.elapsed(), Duration::from_secs(1));
        assert_eq!(Pace::new(None).together(100), 100);
        assert_eq!(Pace::new(Some("1/m".parse().unwrap())).together(100), 1);
    }
}

//! When to look again at a partition whose marker of unknown losses was not handled yet.

use std::time::Duration;

use tokio::time::Instant;

use super::HubSettings;

/// A marker of unknown losses lies ahead: what comes before it is still on its way, so nobody can be told yet. The routes are
/// asserted again a while later, because this gateway may have registered too late to get the marker itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct MarkerAhead {
    pub(super) look_again_at: Instant,
    /// The pause that led to it.
    pause: Duration,
}

impl MarkerAhead {
    /// One that was seen now.
    pub(super) fn seen(settings: &HubSettings) -> Self {
        Self {
            look_again_at: Instant::now() + settings.doubt,
            pause: settings.doubt,
        }
    }

    /// Whether it is time to look again. If it is, the next time is twice as far away, or as far as a second look.
    pub(super) fn is_due(&mut self, settings: &HubSettings) -> bool {
        let now = Instant::now();
        let due = self.look_again_at <= now;
        if due {
            self.pause = (self.pause * 2).min(settings.second_look);
            self.look_again_at = now + self.pause;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_second_look() {
        let settings = HubSettings::new("gateway");
        let mut marker = MarkerAhead::seen(&settings);
        assert!(!marker.is_due(&settings));
        advance(settings.doubt).await;
        assert!(marker.is_due(&settings));
        assert!(!marker.is_due(&settings));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let before = Instant::now();
            sleep_until(marker.look_again_at).await;
            assert!(marker.is_due(&settings));
            pauses.push(before.elapsed());
        }
        assert!(pauses.is_sorted());
        assert_eq!(pauses.last(), Some(&settings.second_look));
    }
}

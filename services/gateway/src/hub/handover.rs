//! Handing sessions over: their transports are closed at a pace, and stock clients come back by themselves.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use carillon_chassis::metrics::GaugeGuard;
use tokio::{sync::Semaphore, time::Instant};

use super::{Hub, outbox::CloseReason};

/// How often a few sessions are told to go.
pub(super) const BEAT: Duration = Duration::from_millis(100);
/// Beats in a second.
const BEATS: f64 = 10.0;

/// Makes whole sessions of a rate, beat by beat. It never catches up on beats that were missed: a pace is an upper bound.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The part of a session that the beats so far have earned.
    earned: f64,
}

impl Pace {
    /// How many sessions are due at this beat.
    pub(super) fn beat(&mut self, per_second: f64) -> usize {
        self.earn(per_second / BEATS)
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // whole, not negative, and a float that is too large saturates
    fn earn(&mut self, part: f64) -> usize {
        self.earned += part;
        let whole = self.earned.floor();
        self.earned -= whole;
        whole as usize
    }
}

/// A connection of another gateway's session, as long as it is carried.
#[derive(Debug)]
pub struct Carried {
    /// As many places as may be let go.
    turns: Arc<Semaphore>,
    _gauge: GaugeGuard,
}

impl Carried {
    /// Waits until a drain lets go of it. Its client comes back just like one whose session is handed over.
    pub async fn let_go(&self) {
        match self.turns.acquire().await {
            Ok(turn) => turn.forget(),
            Err(_) => std::future::pending().await,
        }
    }
}

impl Hub {
    /// Counts a connection that is carried for a session of another gateway: a drain lets go of it in its turn.
    pub fn carry(&self) -> Carried {
        Carried {
            turns: Arc::clone(&self.0.carried_turns),
            _gauge: self.0.metrics.carried(),
        }
    }

    /// Hands all sessions over: closes their transports at an even pace, so that they reconnect elsewhere without a
    /// storm, and answers when none is left or time is up. What is carried for other gateways goes within the same
    /// pace. From the start no session is taken in any more.
    ///
    /// The pace is the policy's, which may change on the way, or the setting's; or more, to meet the deadline.
    pub async fn drain(&self) {
        let inner = &self.0;
        inner.draining.store(true, Ordering::Relaxed);
        let (started, timeout) = (Instant::now(), inner.settings.drain_timeout);
        // Four fifths of the time for the pace, the rest for the last ones to go.
        let paced_until = started + timeout * 4 / 5;
        let left = || (inner.metrics.session_count(), inner.metrics.carried_count());
        let (sessions, carried) = left();
        tracing::info!(
            sessions,
            carried,
            per_second = self.drain_rate(),
            "handing sessions over"
        );
        let all = sessions + carried;
        let (mut pace, mut share) = (Pace::default(), Pace::default());
        let mut told = 0;
        while started.elapsed() < timeout {
            let (sessions, carried) = left();
            if sessions + carried == 0 {
                return;
            }
            let time = paced_until.saturating_duration_since(Instant::now()).max(BEAT);
            let needed = count(all.saturating_sub(told)) / time.as_secs_f64();
            let due = pace.beat(self.drain_rate().max(needed));
            let of_carried = share.earn(count(due as u64) * count(carried) / count(sessions + carried));
            inner.carried_turns.add_permits(of_carried);
            let of_sessions = due.saturating_sub(of_carried);
            told += of_carried as u64 + inner.shards.close(of_sessions, CloseReason::Draining).await as u64;
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Sessions per second.
    fn drain_rate(&self) -> f64 {
        let inner = &self.0;
        let live = inner.desk.policy.borrow().gateways().drain_rate;
        live.map_or_else(|| count(inner.settings.drain_rate), |rate| rate.per_second())
    }
}

/// A number of sessions to reckon with.
#[allow(clippy::cast_precision_loss)] // exact up to 2^53 sessions
pub(super) fn count(sessions: u64) -> f64 {
    sessions as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_make_the_rate() {
        let in_a_minute = |per_second: f64| {
            let mut pace = Pace::default();
            (0..600).map(|_| pace.beat(per_second)).sum::<usize>()
        };
        assert_eq!(in_a_minute(10.0), 600);
        assert_eq!(in_a_minute(25.0), 1_500);
        assert_eq!(in_a_minute(0.5), 30);
        let mut pace = Pace::default();
        assert_eq!((pace.beat(15.0), pace.beat(15.0), pace.beat(0.0)), (1, 2, 0));
    }
}

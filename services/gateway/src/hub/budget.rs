//! What all outboxes of a gateway may hold together.
//!
//! What is counted is what the outboxes count: a message's bytes once for each session that has it in its outbox or on its
//! connection. A message that waits for a thousand sessions is one allocation as long as it waits; but each connection
//! gets a copy of its own when it is written, and a client that does not read keeps that copy here. So real memory is never
//! more than what is counted, whoever reads and whoever does not, and a bound on the count is a bound on memory.
//!
//! The fuller it is, the less one session may hold: a part of what is still free. So the slowest, with the most waiting,
//! meet their bound first and are caught up later, while whoever reads still finds room. Replays stop earlier than
//! messages that have just come, and go on in the order in which they stopped. Where that is not enough, the shards close
//! sessions that read nothing at all ([relief](super::shard)).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use indexmap::IndexMap;
use parking_lot::Mutex;

use super::shard::{SessionKey, Signals};

/// One session may hold this part of what is free.
const PART: usize = 64;
/// Sessions that are told of room at one time: each takes some of it.
const AT_ONCE: usize = 4;

/// The bytes that all outboxes hold together, and who waits for some.
#[derive(Debug)]
pub(super) struct OutboxBudget {
    limit: usize,
    used: AtomicUsize,
    /// How many wait, so that whoever gives back need not look.
    waiting: AtomicUsize,
    /// In the order in which they began to wait, each once.
    line: Mutex<IndexMap<SessionKey, Arc<Signals>>>,
}

impl OutboxBudget {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            line: Mutex::default(),
        }
    }

    /// What is held now.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether next to nothing is left, or replays wait while nothing comes free.
    pub(super) fn is_short(&self) -> bool {
        let waits = self.waiting.load(Ordering::Relaxed) > 0;
        self.used() > self.limit - self.limit / 16 || (waits && !self.has_room(0))
    }

    /// Where replays stop. They go on below [`OutboxBudget::resumes`].
    fn replays(&self) -> usize {
        self.limit / 4 * 3
    }

    fn resumes(&self) -> usize {
        self.limit / 8 * 5
    }

    /// What one session may hold of replays now, beside the first message.
    pub(super) fn replay_part(&self) -> usize {
        self.replays().saturating_sub(self.used()) / PART
    }

    /// Takes bytes for a session that holds some, if there is room; `live` for what has just come.
    pub(super) fn take(&self, held: usize, bytes: usize, live: bool) -> bool {
        let end = if live { self.limit } else { self.replays() };
        let used = self.used.fetch_add(bytes, Ordering::Relaxed);
        // One message larger than all that may be held goes alone, or it never would.
        let fits = used == 0 || used.saturating_add(bytes) <= end;
        let part = end.saturating_sub(used) / PART;
        if fits && (held == 0 || held + bytes <= part) {
            return true;
        }
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        false
    }

    /// Counts bytes that are never refused.
    pub(super) fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives bytes back, and tells some of those who wait.
    pub(super) fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.wake(AT_ONCE);
    }

    /// Whether a replay may go on with so many bytes. If not, the session is told when it may.
    pub(super) fn may_go_on(&self, bytes: usize, session: SessionKey, signals: &Arc<Signals>) -> bool {
        if self.has_room(bytes) {
            return true;
        }
        let mut line = self.line.lock();
        line.entry(session).or_insert_with(|| Arc::clone(signals));
        self.waiting.store(line.len(), Ordering::Relaxed);
        false
    }

    fn has_room(&self, bytes: usize) -> bool {
        let used = self.used();
        used == 0 || used.saturating_add(bytes) <= self.resumes()
    }

    /// Tells up to so many sessions that there is room, while there is.
    pub(super) fn wake(&self, count: usize) {
        if self.waiting.load(Ordering::Relaxed) == 0 || !self.has_room(0) {
            return;
        }
        let told: Vec<_> = {
            let mut line = self.line.lock();
            let count = count.min(line.len());
            let told = line.drain(..count).collect();
            self.waiting.store(line.len(), Ordering::Relaxed);
            told
        };
        for (session, signals) in told {
            signals.drained(session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 64 * 1024;

    #[test]
    fn the_fuller_it_is_the_less_one_may_hold_and_all_never_more_than_the_limit() {
        let budget = OutboxBudget::new(LIMIT);
        let mut held = vec![0; 500];
        loop {
            let mut taken = 0;
            for mine in &mut held {
                if budget.take(*mine, 16, true) {
                    *mine += 16;
                    taken += 1;
                }
            }
            if taken == 0 {
                break;
            }
        }
        assert_eq!(budget.used(), held.iter().sum::<usize>());
        assert!(budget.used() <= LIMIT);
        assert!(budget.take(0, 64, true), "whoever reads finds room");
        assert!(held.iter().all(|mine| *mine <= LIMIT / PART), "{held:?}");
    }

    #[test]
    fn replays_stop_before_what_is_live_and_nothing_passes_the_limit() {
        let budget = OutboxBudget::new(LIMIT);
        budget.add(LIMIT / 4 * 3);
        assert!(!budget.take(0, 1, false));
        assert!(budget.take(0, LIMIT / 4, true));
        assert!(budget.is_short());
        assert!(!budget.take(0, 1, true));
        assert_eq!(budget.used(), LIMIT);
    }

    #[test]
    fn a_message_larger_than_everything_goes_alone() {
        let budget = OutboxBudget::new(LIMIT);
        assert!(budget.take(0, 2 * LIMIT, false));
        assert!(!budget.take(0, 1, true));
        budget.give_back(2 * LIMIT);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn who_waits_is_told_in_order_once_there_is_room() {
        let (budget, signals) = (OutboxBudget::new(LIMIT), Arc::new(Signals::default()));
        budget.add(LIMIT);
        for key in 0..10 {
            assert!(!budget.may_go_on(1, SessionKey(key), &signals));
        }
        budget.give_back(LIMIT / 4);
        budget.wake(100);
        let take = async || {
            let taken = tokio::time::timeout(std::time::Duration::from_millis(10), signals.take()).await;
            match taken {
                Ok(raised) => raised.drained_count(),
                Err(_) => 0,
            }
        };
        assert_eq!(take().await, 0, "replays stop still");
        assert!(budget.is_short(), "and nothing comes free");
        budget.give_back(LIMIT / 4);
        assert_eq!(take().await, AT_ONCE);
        budget.give_back(1);
        assert_eq!(take().await, AT_ONCE);
        budget.wake(100);
        assert_eq!(take().await, 2);
        assert!(budget.may_go_on(1, SessionKey(0), &signals));
    }
}

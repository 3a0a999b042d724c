//! Which partitions make progress, as their owners report it and the survey judges it.

use std::{sync::Arc, time::Duration};

use carillon_broker::Life;
use carillon_model::Partition;
use indexmap::IndexMap;
use parking_lot::Mutex;
use tokio::time::Instant;

/// All partitions of this process that are owned.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProgressBoard(Arc<Mutex<IndexMap<Partition, Place>>>);

#[derive(Clone, Debug)]
struct Place {
    /// Since when the head stands still.
    since: Instant,
    /// The last failure was an answer of the server that any other dispatcher would get, too.
    held_by_server: bool,
    /// The life of the server that the queue is read from; none before the first read.
    life: Option<Life>,
}

/// An owner's place on the board; gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    board: ProgressBoard,
    partition: Partition,
    idle: bool,
}

/// An idle partition makes progress: there is nothing to do. That is a far future "since".
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

impl ProgressBoard {
    /// A partition is owned from now on.
    pub(crate) fn enter(&self, partition: Partition) -> Progress {
        let place = Place {
            since: Instant::now(),
            held_by_server: false,
            life: None,
        };
        self.0.lock().insert(partition, place);
        Progress {
            board: self.clone(),
            partition,
            idle: false,
        }
    }

    /// Partitions owned, in order.
    pub(crate) fn owned(&self) -> Vec<Partition> {
        let mut owned: Vec<_> = self.0.lock().keys().copied().collect();
        owned.sort_unstable();
        owned
    }

    /// Partitions whose head has not moved for this long, while the broker answered for as long; in order.
    pub(crate) fn stuck(&self, broker_up_since: Option<Instant>, after: Duration) -> Vec<Partition> {
        let Some(up_since) = broker_up_since else {
            return Vec::new();
        };
        let now = Instant::now();
        let mut stuck: Vec<_> = self
            .0
            .lock()
            .iter()
            .filter(|(_, place)| now.saturating_duration_since(place.since.max(up_since)) > after)
            .map(|(partition, _)| *partition)
            .collect();
        stuck.sort_unstable();
        stuck
    }

    /// Whether another owner could do no better: the server itself refuses.
    pub(crate) fn is_held_by_server(&self, partition: Partition) -> bool {
        self.0
            .lock()
            .get(&partition)
            .is_some_and(|place| place.held_by_server)
    }

    /// Whether a queue is read from another server than a look has shown.
    pub(crate) fn differs<'a>(&self, shown: impl Fn(Partition) -> Option<&'a Life>) -> bool {
        self.0.lock().iter().any(|(partition, place)| {
            let pair = place.life.as_ref().zip(shown(*partition));
            pair.is_some_and(|(read_from, shown)| read_from != shown)
        })
    }

    fn change(&self, partition: Partition, change: impl FnOnce(&mut Place)) {
        if let Some(place) = self.0.lock().get_mut(&partition) {
            change(place);
        }
    }
}

impl Progress {
    /// There is nothing to do.
    pub(crate) fn idle(&mut self) {
        self.idle = true;
        self.board
            .change(self.partition, |place| place.since = Instant::now() + NEVER);
    }

    /// There is something to do, or it can't be told.
    pub(crate) fn busy(&mut self) {
        if self.idle {
            self.moved();
        }
    }

    /// The queue is read from a server of this life.
    pub(crate) fn reads_from(&self, life: &Life) {
        self.board
            .change(self.partition, |place| place.life = Some(life.clone()));
    }

    /// The head moved.
    pub(crate) fn moved(&mut self) {
        self.idle = false;
        self.board.change(self.partition, |place| {
            place.since = Instant::now();
            place.held_by_server = false;
        });
    }

    /// A call failed; whether the server itself refused it.
    pub(crate) fn failed(&mut self, by_server: bool) {
        self.board
            .change(self.partition, |place| place.held_by_server = by_server);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.board.0.lock().swap_remove(&self.partition);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[test]
    fn reading_from_another_server_than_looks_show_is_seen() {
        let board = ProgressBoard::default();
        let (shown, other) = (Life("shown".into()), Life("other".into()));
        let owner = board.enter(Partition(1));
        assert!(!board.differs(|_| Some(&shown)), "nothing was read yet");
        owner.reads_from(&other);
        assert!(board.differs(|_| Some(&shown)));
        assert!(!board.differs(|_| None), "nothing was looked at yet");
        owner.reads_from(&shown);
        assert!(!board.differs(|_| Some(&shown)));
    }

    #[tokio::test(start_paused = true)]
    async fn standing_still_with_work_to_do_is_no_progress() {
        let after = Duration::from_secs(10);
        let board = ProgressBoard::default();
        let up = Some(Instant::now());
        let (mut one, mut two) = (board.enter(Partition(1)), board.enter(Partition(2)));
        one.idle();
        advance(Duration::from_secs(11)).await;
        assert_eq!(board.stuck(up, after), [Partition(2)]);
        assert_eq!(board.stuck(None, after), [], "the broker is away");
        assert_eq!(board.stuck(Some(Instant::now()), after), [], "it was away");
        two.moved();
        one.busy();
        assert_eq!(board.stuck(up, after), []);
        advance(Duration::from_secs(11)).await;
        assert_eq!(board.stuck(up, after), [Partition(1), Partition(2)]);
        one.failed(true);
        assert!(board.is_held_by_server(Partition(1)));
        assert_eq!(
            board.stuck(up, after),
            [Partition(1), Partition(2)],
            "it is shown"
        );
        one.failed(false);
        assert!(!board.is_held_by_server(Partition(1)));
        one.failed(true);
        one.moved();
        assert!(!board.is_held_by_server(Partition(1)));
        drop(two);
        assert_eq!(board.owned(), [Partition(1)]);
    }
}

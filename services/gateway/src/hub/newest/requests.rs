//! Where shards leave what their sessions want to look back at.

use carillon_model::{Offset, Room};
use indexmap::IndexMap;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::hub::shard::SessionKey;

/// The newest messages of a room, or the newest below an offset.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::hub) struct Look {
    pub(in crate::hub) room: Room,
    pub(in crate::hub) below: Option<Offset>,
}

/// Who asked for the same.
#[derive(Debug)]
pub(super) struct Asked {
    /// The most that anybody asked for.
    pub(super) entries: usize,
    /// Since when the first waits.
    pub(super) since: Instant,
    /// With their shards.
    by: IndexMap<SessionKey, usize>,
}

impl Asked {
    /// The sessions, and a bit for each of their shards.
    pub(super) fn sessions(&self) -> (Vec<SessionKey>, u64) {
        let shards = self.by.values().fold(0, |shards, shard| shards | 1 << shard);
        (self.by.keys().copied().collect(), shards)
    }
}

/// Requests that wait for a read.
#[derive(Debug)]
pub(in crate::hub) struct NewestRequests {
    asked: Mutex<IndexMap<Look, Asked>>,
    /// Raised when anybody asked.
    pub(super) changed: Notify,
    limit: usize,
}

impl NewestRequests {
    /// So many different ones may wait.
    pub(in crate::hub) fn new(limit: usize) -> Self {
        Self {
            asked: Mutex::default(),
            changed: Notify::new(),
            limit,
        }
    }

    /// Asks for a session, which is told by its shard. `false`: too many wait already. Never waits.
    pub(in crate::hub) fn ask(&self, look: &Look, entries: usize, session: SessionKey, shard: usize) -> bool {
        let mut all = self.asked.lock();
        if let Some(asked) = all.get_mut(look) {
            asked.entries = asked.entries.max(entries);
            asked.by.insert(session, shard);
            return true;
        }
        if all.len() >= self.limit {
            return false;
        }
        let asked = Asked {
            entries,
            since: Instant::now(),
            by: [(session, shard)].into_iter().collect(),
        };
        all.insert(look.clone(), asked);
        drop(all);
        self.changed.notify_one();
        true
    }

    /// A session is gone, or wants it no more. If it was the only one, nothing is read.
    pub(in crate::hub) fn withdraw(&self, look: &Look, session: SessionKey) {
        let mut all = self.asked.lock();
        let Some(asked) = all.get_mut(look) else {
            return;
        };
        asked.by.swap_remove(&session);
        if asked.by.is_empty() {
            all.shift_remove(look);
        }
    }

    /// Takes the request that waits longest of those that may be read.
    pub(super) fn take(&self, may_start: impl Fn(&Look) -> bool) -> Option<(Look, Asked)> {
        let mut all = self.asked.lock();
        let place = all.keys().position(may_start)?;
        all.shift_remove_index(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(room: &str) -> Look {
        Look {
            room: Room::new(room).unwrap(),
            below: None,
        }
    }

    #[test]
    fn equal_requests_are_one_and_different_ones_are_bounded() {
        let requests = NewestRequests::new(2);
        assert!(requests.ask(&look("a"), 5, SessionKey(1), 0));
        assert!(requests.ask(&look("b"), 5, SessionKey(2), 0));
        assert!(!requests.ask(&look("c"), 5, SessionKey(3), 0), "two wait already");
        assert!(requests.ask(&look("a"), 9, SessionKey(3), 2), "it waits already");
        let (taken, asked) = requests.take(|_| true).unwrap();
        assert_eq!((taken, asked.entries), (look("a"), 9));
        assert_eq!(asked.sessions(), (vec![SessionKey(1), SessionKey(3)], 0b101));
        assert!(requests.take(|look| look.room.as_str() != "b").is_none());
        assert!(requests.ask(&look("c"), 5, SessionKey(3), 0));
    }

    #[test]
    fn what_nobody_wants_any_more_is_not_read() {
        let requests = NewestRequests::new(2);
        requests.ask(&look("a"), 5, SessionKey(1), 0);
        requests.ask(&look("a"), 5, SessionKey(2), 0);
        requests.withdraw(&look("a"), SessionKey(1));
        assert_eq!(requests.take(|_| true).unwrap().1.sessions().0, [SessionKey(2)]);
        requests.ask(&look("a"), 5, SessionKey(1), 0);
        requests.withdraw(&look("a"), SessionKey(1));
        assert!(requests.take(|_| true).is_none());
    }
}

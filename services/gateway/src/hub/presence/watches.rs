//! Who wants to know who is in a room.

use std::{collections::BTreeSet, sync::Arc};

use carillon_model::Room;
use indexmap::IndexMap;
use tokio::sync::oneshot;

use super::{
    note::{PresenceNote, PresenceSummary},
    picture::Change,
};
use crate::hub::{outbox::Outbox, session::Refusal, shard::SessionKey};

/// By room.
#[derive(Debug, Default)]
pub(super) struct Watches(IndexMap<Room, Watched>);

#[derive(Debug, Default)]
struct Watched {
    watchers: IndexMap<SessionKey, Watcher>,
    asks: Vec<oneshot::Sender<Result<Arc<PresenceSummary>, Refusal>>>,
}

#[derive(Debug)]
struct Watcher {
    outbox: Outbox,
    /// It was told nothing yet, or something had no room in its outbox: it gets everything anew.
    owed: bool,
}

/// What became of telling a room's watchers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) summaries: u64,
    pub(super) changes: u64,
}

impl Watches {
    pub(super) fn watch(&mut self, room: &Room, session: SessionKey, outbox: Outbox) {
        let watched = self.0.entry(room.clone()).or_default();
        watched.watchers.insert(session, Watcher { outbox, owed: true });
    }

    pub(super) fn unwatch(&mut self, room: &Room, session: SessionKey) -> Option<Outbox> {
        let watched = self.0.get_mut(room)?;
        let watcher = watched.watchers.swap_remove(&session)?;
        self.tidy(room);
        Some(watcher.outbox)
    }

    pub(super) fn ask(&mut self, room: &Room, reply: oneshot::Sender<Result<Arc<PresenceSummary>, Refusal>>) {
        self.0.entry(room.clone()).or_default().asks.push(reply);
    }

    /// Rooms that are watched or asked for.
    pub(super) fn rooms(&self) -> impl Iterator<Item = &Room> {
        self.0.keys()
    }

    /// Rooms in which somebody waits for a first word.
    pub(super) fn urgent(&self) -> impl Iterator<Item = &Room> {
        let waits = |watched: &Watched| {
            !watched.asks.is_empty() || watched.watchers.values().any(|watcher| watcher.owed)
        };
        self.0
            .iter()
            .filter(move |(_, watched)| waits(watched))
            .map(|(room, _)| room)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_watched(&self, room: &Room) -> bool {
        self.0
            .get(room)
            .is_some_and(|watched| !watched.watchers.is_empty())
    }

    /// Tells everybody who watches a room, and answers who asked.
    pub(super) fn tell(
        &mut self,
        room: &Room,
        changes: &[Change],
        summary: impl Fn() -> PresenceSummary,
    ) -> Told {
        let mut told = Told::default();
        let Some(watched) = self.0.get_mut(room) else {
            return told;
        };
        let notes: Vec<Arc<PresenceNote>> = changes
            .iter()
            .map(|change| match change {
                Change::Joined(user) => PresenceNote::join(room, user),
                Change::Left(user) => PresenceNote::leave(room, user),
            })
            .map(Arc::new)
            .collect();
        let mut all: Option<Arc<PresenceNote>> = None;
        for watcher in watched.watchers.values_mut() {
            if watcher.owed {
                let all = all.get_or_insert_with(|| Arc::new(PresenceNote::all(&summary())));
                watcher.owed = !watcher.outbox.push_presence(all);
                told.summaries += u64::from(!watcher.owed);
                continue;
            }
            for note in &notes {
                if !watcher.outbox.push_presence(note) {
                    watcher.owed = true;
                    break;
                }
                told.changes += 1;
            }
        }
        if !watched.asks.is_empty() {
            let answer = Arc::new(summary());
            for reply in watched.asks.drain(..) {
                let _ = reply.send(Ok(Arc::clone(&answer)));
            }
        }
        self.tidy(room);
        told
    }

    /// It can't be known now: those who asked hear why, those who watch hear it later.
    pub(super) fn fail(&mut self, rooms: &BTreeSet<Room>, refusal: &Refusal) {
        for room in rooms {
            if let Some(watched) = self.0.get_mut(room) {
                for reply in watched.asks.drain(..) {
                    let _ = reply.send(Err(refusal.clone()));
                }
            }
            self.tidy(room);
        }
    }

    fn tidy(&mut self, room: &Room) {
        let idle = |watched: &Watched| watched.watchers.is_empty() && watched.asks.is_empty();
        if self.0.get(room).is_some_and(idle) {
            self.0.swap_remove(room);
        }
    }
}

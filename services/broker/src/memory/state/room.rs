//! A room: its history, last offset and routes. Each expires by itself.

use std::collections::{BTreeSet, VecDeque};

use carillon_model::{Offset, policy::HistoryLimits};

use super::{OVERHEAD, milliseconds, presence::PresenceData};
use crate::{
    HistoryItem, Incarnation,
    presence::{EMPTY_PRESENCE_KEPT, PRESENCE_KEPT},
    rooms::{EVICTED_AT_ONCE, LAST_OFFSET_KEPT, ROUTE_KEPT},
};

#[derive(Clone, Debug, Default)]
pub(in crate::memory) struct RoomData {
    last: Option<Expiring<Offset>>,
    history: Option<Expiring<History>>,
    routes: Option<Expiring<BTreeSet<Incarnation>>>,
    presence: Option<Expiring<PresenceData>>,
}

/// A value that is gone at a moment of the server's clock.
#[derive(Clone, Debug)]
struct Expiring<T> {
    value: T,
    at: u64,
}

#[derive(Clone, Debug, Default)]
struct History {
    items: VecDeque<HistoryItem>,
    /// The last offset it ever took; it refuses what is not above.
    last: Offset,
    bytes: u64,
}

impl RoomData {
    /// The room's last offset, unless it is too long ago.
    pub(in crate::memory) fn last(&self, now: u64) -> Option<Offset> {
        alive(&self.last, now).copied()
    }

    /// What is kept of its messages, oldest first.
    pub(in crate::memory) fn history(&self, now: u64) -> &VecDeque<HistoryItem> {
        static NOTHING: VecDeque<HistoryItem> = VecDeque::new();
        alive(&self.history, now).map_or(&NOTHING, |history| &history.items)
    }

    /// The gateways that hold it.
    pub(in crate::memory) fn routes(&self, now: u64) -> impl Iterator<Item = &Incarnation> {
        alive(&self.routes, now).into_iter().flatten()
    }

    /// The kept message with this offset.
    pub(in crate::memory) fn kept(&self, now: u64, offset: Offset) -> Option<&HistoryItem> {
        let history = self.history(now);
        let place = history.binary_search_by_key(&offset, |item| item.offset).ok()?;
        history.get(place)
    }

    /// Whether this offset was recorded already, or one after it.
    pub(in crate::memory) fn refuses(&self, now: u64, offset: Offset) -> bool {
        let history_last = alive(&self.history, now).map(|history| history.last);
        self.last(now)
            .max(history_last)
            .is_some_and(|last| offset <= last)
    }

    /// Records a message that [is not refused](Self::refuses).
    pub(in crate::memory) fn record(&mut self, now: u64, item: HistoryItem, limits: HistoryLimits) {
        self.last = Some(Expiring {
            value: item.offset,
            at: now.saturating_add(milliseconds(LAST_OFFSET_KEPT)),
        });
        if !limits.keeps_any() {
            self.history = None;
            return;
        }
        if alive(&self.history, now).is_none() {
            self.history = None;
        }
        let history = self.history.get_or_insert_with(|| Expiring {
            value: History::default(),
            at: 0,
        });
        history.at = now.saturating_add(milliseconds(limits.age));
        history.value.push(item, limits);
    }

    pub(in crate::memory) fn add_route(&mut self, now: u64, route: &Incarnation) {
        if alive(&self.routes, now).is_none() {
            self.routes = None;
        }
        let routes = self.routes.get_or_insert_with(|| Expiring {
            value: BTreeSet::new(),
            at: 0,
        });
        routes.at = now.saturating_add(milliseconds(ROUTE_KEPT));
        routes.value.insert(route.clone());
    }

    pub(in crate::memory) fn remove_route(&mut self, route: &Incarnation) {
        if let Some(routes) = &mut self.routes {
            routes.value.remove(route);
            if routes.value.is_empty() {
                self.routes = None;
            }
        }
    }

    /// Who is in it, if anything was stated lately.
    pub(in crate::memory) fn presence(&self, now: u64) -> Option<&PresenceData> {
        alive(&self.presence, now)
    }

    /// Changes who is in it.
    pub(in crate::memory) fn with_presence(&mut self, now: u64, change: impl FnOnce(&mut PresenceData)) {
        if alive(&self.presence, now).is_none() {
            self.presence = None;
        }
        let presence = self.presence.get_or_insert_with(|| Expiring {
            value: PresenceData::default(),
            at: 0,
        });
        change(&mut presence.value);
        let kept = if presence.value.is_empty() {
            EMPTY_PRESENCE_KEPT
        } else {
            PRESENCE_KEPT
        };
        presence.at = now.saturating_add(milliseconds(kept));
    }

    /// Frees what is expired. `false`: nothing is left.
    pub(in crate::memory) fn sweep(&mut self, now: u64) -> bool {
        if alive(&self.last, now).is_none() {
            self.last = None;
        }
        if alive(&self.history, now).is_none() {
            self.history = None;
        }
        if alive(&self.routes, now).is_none() {
            self.routes = None;
        }
        if alive(&self.presence, now).is_none() {
            self.presence = None;
        }
        self.last.is_some() || self.history.is_some() || self.routes.is_some() || self.presence.is_some()
    }

    /// Its bytes, about.
    pub(in crate::memory) fn used(&self) -> u64 {
        let history = self.history.as_ref().map_or(0, |history| {
            history.value.bytes + OVERHEAD * history.value.items.len() as u64
        });
        let routes = self
            .routes
            .as_ref()
            .map_or(0, |routes| OVERHEAD * routes.value.len() as u64);
        let presence = self.presence.as_ref().map_or(0, |presence| presence.value.used());
        history + routes + presence + 2 * OVERHEAD
    }
}

impl History {
    fn push(&mut self, item: HistoryItem, limits: HistoryLimits) {
        self.last = item.offset;
        let added = item.message.len() as u64;
        self.bytes += added;
        self.items.push_back(item);
        let (mut gone, mut freed) = (0, 0);
        while (self.items.len() as u64 > limits.size || self.bytes > limits.bytes)
            && (gone < EVICTED_AT_ONCE || freed < added)
        {
            let Some(oldest) = self.items.pop_front() else {
                break;
            };
            gone += 1;
            freed += oldest.message.len() as u64;
            self.bytes -= oldest.message.len() as u64;
        }
    }
}

fn alive<T>(slot: &Option<Expiring<T>>, now: u64) -> Option<&T> {
    slot.as_ref()
        .filter(|expiring| now < expiring.at)
        .map(|expiring| &expiring.value)
}

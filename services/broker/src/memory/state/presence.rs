//! Who is in a room, as gateways stated it.

use std::collections::BTreeMap;

use super::OVERHEAD;
use crate::{Incarnation, Life, Person, PresenceStatement, PresenceVersion, RoomPresence};

#[derive(Clone, Debug, Default)]
pub(in crate::memory) struct PresenceData {
    gateways: BTreeMap<Incarnation, BTreeMap<Person, u32>>,
    version: u64,
    /// The number of each gateway's last statement.
    stated: BTreeMap<Incarnation, u64>,
}

impl PresenceData {
    /// Takes a statement in, unless it was overtaken.
    pub(in crate::memory) fn state(
        &mut self,
        now: u64,
        gateway: &Incarnation,
        number: u64,
        statement: &PresenceStatement,
    ) {
        if self.stated.get(gateway).is_some_and(|last| number <= *last) {
            return;
        }
        self.stated.insert(gateway.clone(), number);
        let mut people = match statement.whole {
            true => BTreeMap::new(),
            false => self.gateways.get(gateway).cloned().unwrap_or_default(),
        };
        for (person, sessions) in &statement.people {
            match sessions {
                Some(sessions) => people.insert(person.clone(), *sessions),
                None => people.remove(person),
            };
        }
        if self
            .gateways
            .get(gateway)
            .map_or(people.is_empty(), |known| *known == people)
        {
            return;
        }
        if people.is_empty() {
            self.gateways.remove(gateway);
        } else {
            self.gateways.insert(gateway.clone(), people);
        }
        // The clock is in it because an empty room forgets its version.
        self.version = (self.version + 1).max(now.saturating_mul(1000));
    }

    /// Removes what a dead gateway stated. Nobody sees a difference, so the version stays.
    pub(in crate::memory) fn forget(&mut self, dead: &Incarnation) {
        self.gateways.remove(dead);
        self.stated.remove(dead);
    }

    pub(in crate::memory) fn is_empty(&self) -> bool {
        self.gateways.is_empty()
    }

    pub(in crate::memory) fn version(&self, life: &Life) -> PresenceVersion {
        PresenceVersion(format!("{life} {}", self.version).into())
    }

    pub(in crate::memory) fn people(&self) -> usize {
        self.gateways.values().map(BTreeMap::len).sum()
    }

    pub(in crate::memory) fn read(&self, life: &Life) -> RoomPresence {
        RoomPresence {
            version: self.version(life),
            gateways: self.gateways.clone(),
        }
    }

    /// Its bytes, about.
    pub(in crate::memory) fn used(&self) -> u64 {
        OVERHEAD * (self.people() + self.stated.len() + 1) as u64
    }
}

//! Looks at what all gateways stated of the rooms that somebody here watches or asks for.
//!
//! Watched rooms are looked at once a second, a new watcher or a question at once. Rooms of one partition are read in
//! one call, which brings only what changed, and whether the gateways behind it live is asked once for all of them. A
//! look that fails tells nothing; the next one tells what is so by then.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use carillon_broker::{BrokerError, Incarnation, Life, Presence, RoomPresence, SharedBroker};
use carillon_model::{Partition, Room};
use futures::stream::{self, StreamExt};
use indexmap::IndexMap;
use tokio::{sync::Notify, time::Instant};

use super::{PresenceDesk, note::PresenceSummary, picture::Picture};
use crate::hub::{
    HubSettings,
    metrics::HubMetrics,
    session::{Refusal, RefusalCode},
    standing::Standing,
    wake::sleep_until,
};

/// Calls under way at once.
const SIDE_BY_SIDE: usize = 8;
/// Rooms in one call.
const ROOMS_PER_CALL: usize = 256;
/// How long questions are gathered: a storm of them costs one look.
const GATHER: Duration = Duration::from_millis(20);
/// Between two looks at least: questions that never end cost so many looks a second.
const REST: Duration = Duration::from_millis(100);

/// The task.
pub(in crate::hub) struct PresenceWatcher {
    pub(in crate::hub) broker: SharedBroker,
    pub(in crate::hub) desk: Arc<PresenceDesk>,
    pub(in crate::hub) standing: Standing,
    pub(in crate::hub) settings: HubSettings,
    pub(in crate::hub) metrics: HubMetrics,
    pub(in crate::hub) look_at_lives: Arc<Notify>,
}

type Found = Vec<(Room, Option<RoomPresence>, Life)>;

impl PresenceWatcher {
    /// Runs until the gateway ends.
    pub(in crate::hub) async fn run(self) {
        let mut pictures: IndexMap<Room, Picture> = IndexMap::new();
        let mut next: Option<Instant> = None;
        let mut rested = Instant::now();
        loop {
            let all = tokio::select! {
                biased;
                () = sleep_until(next) => true,
                () = self.desk.asked.notified() => false,
            };
            if !all {
                tokio::time::sleep_until(rested.max(Instant::now() + GATHER)).await;
            }
            let rooms: Vec<Room> = {
                let watches = self.desk.watches.lock();
                let wanted: Vec<&Room> = if all {
                    watches.rooms().collect()
                } else {
                    watches.urgent().collect()
                };
                wanted.into_iter().cloned().collect()
            };
            self.look(&mut pictures, rooms).await;
            rested = Instant::now() + REST;
            let watches = self.desk.watches.lock();
            pictures.retain(|room, _| watches.is_watched(room));
            self.metrics
                .presence_watched_rooms
                .set(i64::try_from(pictures.len()).unwrap_or(i64::MAX));
            if watches.is_empty() {
                next = None;
            } else if all || next.is_none() {
                next = Some(Instant::now() + self.settings.presence_look);
            }
        }
    }

    async fn look(&self, pictures: &mut IndexMap<Room, Picture>, rooms: Vec<Room>) {
        let found = self.read(pictures, &rooms).await;
        for (room, found, life) in found {
            pictures.entry(room).or_default().read(found, &life);
        }
        let drawn: Vec<Room> = rooms
            .into_iter()
            .filter(|room| pictures.contains_key(room))
            .collect();
        let living = match self.living(pictures, &drawn).await {
            Ok(living) => living,
            Err(error) => return self.failed(&error, drawn),
        };
        {
            let incarnation = &self.standing.view().incarnation;
            let own = self.desk.own.lock();
            for room in &drawn {
                if let Some(picture) = pictures.get_mut(room) {
                    picture.draw_own(incarnation, own.people(room));
                }
            }
        }
        let now = Instant::now();
        let mut dead: BTreeMap<(Incarnation, Partition), Vec<Room>> = BTreeMap::new();
        {
            let mut watches = self.desk.watches.lock();
            for room in drawn {
                let Some(picture) = pictures.get_mut(&room) else {
                    continue;
                };
                let changes = picture.look(&living, now, self.settings.presence_grace);
                for one in picture.bury(&living) {
                    let partition = self.desk.partitions.partition_of(&room);
                    dead.entry((one, partition)).or_default().push(room.clone());
                }
                let told = watches.tell(&room, &changes, || {
                    let listed = self.settings.presence_listed;
                    PresenceSummary::new(&room, picture.users(), picture.sessions(), listed)
                });
                self.metrics.presence_told(told.summaries, told.changes);
            }
        }
        for ((dead, partition), rooms) in dead {
            // Whoever reads next finds it again if this fails.
            if let Err(error) = Presence::forget_presence(&*self.broker, partition, &rooms, &dead).await {
                tracing::debug!(%error, "could not remove the presence of a dead gateway");
            }
        }
    }

    /// What was read; rooms that could not be read are left out.
    async fn read(&self, pictures: &IndexMap<Room, Picture>, rooms: &[Room]) -> Found {
        let mut by_partition: BTreeMap<Partition, Vec<Room>> = BTreeMap::new();
        for room in rooms {
            let partition = self.desk.partitions.partition_of(room);
            by_partition.entry(partition).or_default().push(room.clone());
        }
        let calls: Vec<(Partition, Vec<Room>)> = by_partition
            .into_iter()
            .flat_map(|(partition, rooms)| {
                let parts: Vec<_> = rooms
                    .chunks(ROOMS_PER_CALL)
                    .map(|part| (partition, part.to_vec()))
                    .collect();
                parts
            })
            .collect();
        let mut answers = stream::iter(calls)
            .map(|(partition, rooms)| self.read_partition(pictures, partition, rooms))
            .buffer_unordered(SIDE_BY_SIDE);
        let mut all = Vec::new();
        while let Some(found) = answers.next().await {
            all.extend(found);
        }
        all
    }

    async fn read_partition(
        &self,
        pictures: &IndexMap<Room, Picture>,
        partition: Partition,
        rooms: Vec<Room>,
    ) -> Found {
        let mut found = Vec::new();
        while found.len() < rooms.len() {
            let rest = rooms.get(found.len()..).unwrap_or_default();
            let asked: Vec<_> = rest
                .iter()
                .map(|room| {
                    let known = pictures.get(room).and_then(Picture::version).cloned();
                    (room.clone(), known)
                })
                .collect();
            match Presence::read_presence(&*self.broker, partition, &asked).await {
                Ok(read) if !read.rooms.is_empty() => {
                    if self.standing.view().life(partition) != Some(&read.life) {
                        self.look_at_lives.notify_one();
                    }
                    let life = read.life;
                    let answered = rest.iter().cloned().zip(read.rooms);
                    let answered: Vec<_> = answered.map(|(room, of)| (room, of, life.clone())).collect();
                    found.extend(answered);
                }
                Ok(_) => break,
                Err(error) => {
                    self.failed(&error, rest.to_vec());
                    break;
                }
            }
        }
        found
    }

    /// Those who live of all who stated anything of these rooms. We do.
    async fn living(
        &self,
        pictures: &IndexMap<Room, Picture>,
        rooms: &[Room],
    ) -> Result<BTreeSet<Incarnation>, BrokerError> {
        let own = self.standing.view().incarnation.clone();
        let others: BTreeSet<&Incarnation> = rooms
            .iter()
            .filter_map(|room| pictures.get(room))
            .flat_map(Picture::stated_by)
            .filter(|gateway| **gateway != own)
            .collect();
        let others: Vec<Incarnation> = others.into_iter().cloned().collect();
        let mut living = BTreeSet::from([own]);
        if !others.is_empty() {
            let answers = Presence::living(&*self.broker, &others).await?;
            living.extend(
                others
                    .into_iter()
                    .zip(answers)
                    .filter(|(_, lives)| *lives)
                    .map(|(one, _)| one),
            );
        }
        Ok(living)
    }

    fn failed(&self, error: &BrokerError, rooms: Vec<Room>) {
        tracing::debug!(%error, "looking at presence failed; trying again");
        self.metrics
            .broker_errors
            .with_label_values(&[error.kind()])
            .inc();
        let refusal = Refusal::new(RefusalCode::Unavailable, error.to_string());
        let rooms = rooms.into_iter().collect();
        self.desk.watches.lock().fail(&rooms, &refusal);
    }
}

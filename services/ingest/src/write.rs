//! Writing a request: one append per partition, all at once, and what their answers mean together.
//!
//! A partition takes its part of a request whole or not at all, and says which. Parts of several partitions are
//! written side by side, so a request can end in the middle; its fates are told room by room then, and repeating it
//! with idempotency keys completes it.
//!
//! *Keys.* Each partition remembers the keys of what was appended to it, which is enough to find a repeat. It is not
//! enough to find a key that is used again for *another* room, whose partition knows nothing of it. So a key has a home,
//! the partition that its message's id falls to, and is claimed there first, by an append of nothing. A claim that fails
//! refuses the whole request before any message is written.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use carillon_broker::{
    Append, AppendOutcome, BrokerError, IdempotencyKey, NewMessage, Queue, Result as BrokerResult,
};
use carillon_model::{MessageId, Offset, Partition, PartitionCount, Room, wire::QueueEntry};
use futures::future::join_all;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::{Instant, timeout_at};

use crate::{
    IngestSettings,
    written::{Fate, Places, Trouble, Written, copies, fits, trouble},
};

/// A message ready to be written.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) id: MessageId,
    pub(crate) rooms: Vec<Room>,
    /// The encoded `carillon.wire.v1.Message`.
    pub(crate) encoded: Bytes,
    pub(crate) key: Option<IdempotencyKey>,
    /// The message's trace, if it has one.
    pub(crate) traceparent: Arc<str>,
}

/// What a claim that fails means for the messages beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    /// They belong together: none is written.
    Refused,
    /// They stand for themselves: they are written.
    Written,
}

/// Writes requests.
pub(crate) struct Writer {
    queue: Arc<dyn Queue>,
    partitions: PartitionCount,
    /// The greatest offset known of each partition: it goes with every append, so that no offset is given twice.
    known: Vec<Mutex<Offset>>,
    queue_entries: u64,
    keep_keys: Duration,
    timeout: Duration,
}

/// A partition's part of a request.
#[derive(Default)]
struct Part {
    messages: Vec<NewMessage>,
    places: Places,
}

impl Part {
    fn push(&mut self, message: usize, rooms: Vec<usize>, new: NewMessage) {
        self.messages.push(new);
        self.places.push((message, rooms));
    }
}

type Parts = BTreeMap<Partition, Part>;

impl Writer {
    pub(crate) fn new(queue: Arc<dyn Queue>, partitions: PartitionCount, settings: &IngestSettings) -> Self {
        Self {
            queue,
            partitions,
            known: partitions.partitions().map(|_| Mutex::default()).collect(),
            queue_entries: settings.queue_entries,
            keep_keys: settings.keep_keys,
            timeout: settings.write_timeout,
        }
    }

    /// Writes a request, in its order within each partition. Ends within the time-out.
    pub(crate) async fn write(&self, messages: &[Outgoing]) -> Written {
        self.write_beside(messages, Beside::Refused).await
    }

    /// Writes messages that stand for themselves, in their order within each partition: what is wrong with one is no
    /// trouble of the others. Ends within the time-out, or, where a key is found that was used with another content, within
    /// as many time-outs as there are messages.
    pub(crate) async fn write_each(&self, messages: &[Outgoing]) -> Written {
        let mut written = self.write_beside(messages, Beside::Written).await;
        // A partition refuses its part whole for one wrong key. The others of that part are written one by one, and
        // with them whatever came to nothing beside them: by their order, so no room's order changes.
        for (place, message) in messages.iter().enumerate() {
            let Some(Trouble::KeyReused(culprit)) = written.troubles[place] else {
                continue;
            };
            let left: Vec<usize> = (0..message.rooms.len())
                .filter(|room| written.fates[place][*room] == Fate::Refused)
                .collect();
            if culprit == place || left.is_empty() {
                continue;
            }
            let alone = Outgoing {
                rooms: left.iter().map(|room| message.rooms[*room].clone()).collect(),
                ..message.clone()
            };
            let mut again = self.write_beside(&[alone], Beside::Written).await;
            for (room, fate) in left.into_iter().zip(again.fates.remove(0)) {
                written.fates[place][room] = fate;
            }
            written.troubles[place] = again.troubles.remove(0).map(|trouble| match trouble {
                Trouble::KeyReused(_) => Trouble::KeyReused(place),
                other => other,
            });
            written.repeats += again.repeats;
            written.appends += again.appends;
        }
        written
    }

    async fn write_beside(&self, messages: &[Outgoing], beside: Beside) -> Written {
        let deadline = Instant::now() + self.timeout;
        let mut written = Written::nothing(messages);
        let claims = self.claims(messages);
        if !claims.is_empty() {
            for (places, result) in self.append_all(claims, deadline, &mut written.appends).await {
                let trouble = match result {
                    Ok(AppendOutcome::Appended(_)) => continue,
                    // Whether or not the key is claimed now, no message was written.
                    Err(error) if error.outcome_is_unknown() => Trouble::Unavailable(error.to_string()),
                    other => trouble(other, &places),
                };
                written.happened(&places, &trouble);
            }
            let wrong_key = written
                .troubles
                .iter()
                .flatten()
                .find_map(|trouble| match trouble {
                    Trouble::KeyReused(place) => Some(*place),
                    _ => None,
                });
            if let (Beside::Written, Some(culprit)) = (beside, wrong_key) {
                // Nobody may overtake those whose claims came to nothing by another's key.
                for trouble in written.troubles.iter_mut().filter(|trouble| trouble.is_none()) {
                    *trouble = Some(Trouble::KeyReused(culprit));
                }
                return written;
            }
            if beside == Beside::Refused && written.trouble().is_some() {
                return written;
            }
        }
        let parts = self.parts(messages, &written.troubles);
        for (places, result) in self.append_all(parts, deadline, &mut written.appends).await {
            let appended = match result {
                Ok(AppendOutcome::Appended(appended)) if fits(&appended, &places) => appended,
                other => {
                    let trouble = trouble(other, &places);
                    if matches!(trouble, Trouble::Unknown(_)) {
                        for (message, room) in copies(&places) {
                            written.fates[message][room] = Fate::Unknown;
                        }
                    }
                    written.happened(&places, &trouble);
                    continue;
                }
            };
            for ((message, rooms), appended) in places.iter().zip(appended) {
                written.repeats += u64::from(appended.repeated);
                for (room, offset) in rooms.iter().zip(appended.offsets) {
                    written.fates[*message][*room] = Fate::Placed(offset);
                }
            }
        }
        written
    }

    /// Splits what has no trouble yet by partition.
    fn parts(&self, messages: &[Outgoing], troubles: &[Option<Trouble>]) -> Parts {
        let mut parts = Parts::new();
        let untroubled = messages.iter().zip(troubles).enumerate();
        for (place, (message, _)) in untroubled.filter(|(_, (_, trouble))| trouble.is_none()) {
            let mut rooms: BTreeMap<Partition, Vec<usize>> = BTreeMap::new();
            for (room, name) in message.rooms.iter().enumerate() {
                rooms
                    .entry(self.partitions.partition_of(name))
                    .or_default()
                    .push(room);
            }
            for (partition, rooms) in rooms {
                let entries = rooms
                    .iter()
                    .map(|room| {
                        let room = &message.rooms[*room];
                        let entry = QueueEntry::of_message(room, message.encoded.clone())
                            .traced(&message.traceparent);
                        (room.clone(), Bytes::from(entry.encode_to_vec()))
                    })
                    .collect();
                let new = NewMessage {
                    entries,
                    idempotency: message.key.clone(),
                };
                parts.entry(partition).or_default().push(place, rooms, new);
            }
        }
        parts
    }

    /// The claims of a request's keys at their homes. A claim has a name of its own: under the message's, an append to
    /// the home partition would find the claim and take itself for a repeat without offsets.
    fn claims(&self, messages: &[Outgoing]) -> Parts {
        let mut claims = Parts::new();
        for (place, message) in messages
            .iter()
            .enumerate()
            .filter(|(_, message)| message.key.is_some())
        {
            let claim = NewMessage {
                entries: Vec::new(),
                idempotency: message.key.clone().map(|key| IdempotencyKey {
                    producer: format!("claim:{}", key.producer),
                    ..key
                }),
            };
            claims
                .entry(self.home(message.id))
                .or_default()
                .push(place, Vec::new(), claim);
        }
        claims
    }

    /// Where a key is claimed: a message's id is derived from it.
    fn home(&self, id: MessageId) -> Partition {
        let count = u128::from(self.partitions.get());
        Partition(u16::try_from(id.0.as_u128() % count).unwrap_or_default())
    }

    async fn append_all(
        &self,
        parts: Parts,
        deadline: Instant,
        appends: &mut u64,
    ) -> Vec<(Places, BrokerResult<AppendOutcome>)> {
        *appends += parts.len() as u64;
        let all = parts.into_iter().map(|(partition, part)| async move {
            let append = Append {
                partition,
                messages: part.messages,
                known: self.known_of(partition),
                queue_limit: self.queue_entries,
                keep_keys: self.keep_keys,
            };
            let result = match timeout_at(deadline, self.queue.append(append)).await {
                Ok(result) => result,
                Err(_) => Err(BrokerError::Unknown(format!(
                    "no answer within {:?}",
                    self.timeout
                ))),
            };
            self.learn(partition, &result);
            (part.places, result)
        });
        join_all(all).await
    }

    fn known_of(&self, partition: Partition) -> Offset {
        self.known
            .get(partition.index())
            .map(|known| *known.lock())
            .unwrap_or_default()
    }

    fn learn(&self, partition: Partition, result: &BrokerResult<AppendOutcome>) {
        let Ok(AppendOutcome::Appended(appended)) = result else {
            return;
        };
        let greatest = appended.iter().flat_map(|appended| &appended.offsets).max();
        if let (Some(known), Some(greatest)) = (self.known.get(partition.index()), greatest) {
            let mut known = known.lock();
            *known = (*known).max(*greatest);
        }
    }
}

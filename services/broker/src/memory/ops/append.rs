//! Messages come into a partition.

use std::collections::BTreeMap;

use carillon_model::Offset;

use crate::{
    Append, AppendOutcome, Appended, IdempotencyKey, NewMessage, Result,
    memory::state::{Admission, OVERHEAD, PartitionData, ServerState, milliseconds},
};

/// Appends a request's messages to its partition: all of them, or none and the reason.
///
/// Only messages that are not there yet need room, so a repeat is answered by a full queue too.
pub fn append(state: &mut ServerState, now: u64, append: &Append) -> Result<AppendOutcome> {
    let fates = match fates(&state.partition(append.partition, now), now, &append.messages) {
        Ok(fates) => fates,
        Err(message) => return Ok(AppendOutcome::KeyReused { message }),
    };
    let fresh = || {
        fates
            .iter()
            .zip(&append.messages)
            .filter(|(fate, _)| matches!(fate, Fate::Fresh))
    };
    let entries: usize = fresh().map(|(_, message)| message.entries.len()).sum();
    let bytes: u64 = fresh()
        .flat_map(|(_, message)| &message.entries)
        .map(|(_, entry)| entry.len() as u64 + OVERHEAD)
        .sum();
    if entries > 0 {
        let length = state.partition(append.partition, now).queue.len() as u64;
        if length + entries as u64 > append.queue_limit {
            return Ok(AppendOutcome::QueueFull { length });
        }
        state.admit(bytes, Admission::Producer)?;
    }
    let life = state.life.clone();
    let partition = state.partition_mut(append.partition, now);
    if entries > 0 {
        partition.raise(now, &life, append.known);
    }
    let expires = now.saturating_add(milliseconds(append.keep_keys));
    let mut placed: Vec<Appended> = Vec::with_capacity(append.messages.len());
    for (fate, message) in fates.into_iter().zip(&append.messages) {
        let appended = match fate {
            Fate::Fresh => place(partition, now, expires, message),
            Fate::Repeat(offsets) => Appended {
                offsets,
                repeated: true,
            },
            Fate::RepeatOf(earlier) => Appended {
                offsets: placed
                    .get(earlier)
                    .map(|first| first.offsets.clone())
                    .unwrap_or_default(),
                repeated: true,
            },
        };
        placed.push(appended);
    }
    Ok(AppendOutcome::Appended(placed))
}

/// What becomes of a message of a request.
enum Fate {
    /// It is new.
    Fresh,
    /// An earlier request placed it.
    Repeat(Vec<Offset>),
    /// A message before it in the same request has the same key.
    RepeatOf(usize),
}

/// Looks at every key before anything is written. The error is the place of a message whose key stands for another
/// content.
fn fates(
    partition: &PartitionData,
    now: u64,
    messages: &[NewMessage],
) -> std::result::Result<Vec<Fate>, usize> {
    let mut seen: BTreeMap<(&str, &str), (usize, &IdempotencyKey)> = BTreeMap::new();
    let mut fates = Vec::with_capacity(messages.len());
    for (place, message) in messages.iter().enumerate() {
        let Some(key) = &message.idempotency else {
            fates.push(Fate::Fresh);
            continue;
        };
        let (fate, fingerprint) = if let Some(remembered) = partition.remembered(now, &key.producer, &key.key)
        {
            (Fate::Repeat(remembered.offsets.clone()), &remembered.fingerprint)
        } else if let Some((earlier, first)) = seen.get(&(&*key.producer, &*key.key)) {
            (Fate::RepeatOf(*earlier), &first.fingerprint)
        } else {
            seen.insert((&key.producer, &key.key), (place, key));
            (Fate::Fresh, &key.fingerprint)
        };
        if *fingerprint != key.fingerprint {
            return Err(place);
        }
        fates.push(fate);
    }
    Ok(fates)
}

fn place(partition: &mut PartitionData, now: u64, expires: u64, message: &NewMessage) -> Appended {
    let offsets: Vec<Offset> = message
        .entries
        .iter()
        .map(|(_, entry)| partition.push(now, entry.clone()))
        .collect();
    if let Some(key) = &message.idempotency {
        partition.remember(
            &key.producer,
            &key.key,
            key.fingerprint.clone(),
            offsets.clone(),
            expires,
        );
    }
    Appended {
        offsets,
        repeated: false,
    }
}

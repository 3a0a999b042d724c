//! What could not be handled is buried, looked at, and dropped.

use bytes::Bytes;
use carillon_model::{Offset, Partition};

use super::queue::still_owned;
use crate::{
    DeadLetter, DeadLetterId, DeadLetterSource, Fenced, FencingToken, Life, Result,
    dead_letters::CAPPED_AT_ONCE,
    memory::state::{Admission, Buried, OVERHEAD, ServerState},
};

/// Moves the head of a queue to the dead letters. A head that is gone already was moved by an earlier try.
pub fn bury_head(
    state: &mut ServerState,
    now: u64,
    partition: Partition,
    token: FencingToken,
    life: &Life,
    head: Offset,
    reason: &str,
) -> Fenced<()> {
    if !still_owned(state, now, partition, token, life) {
        return Fenced::Lost;
    }
    let data = state.partition_mut(partition, now);
    if data.queue.front().is_some_and(|item| item.offset == head)
        && let Some(item) = data.pop()
    {
        data.tries = None;
        data.bury(now, DeadLetterSource::Queue(head), item.entry, reason);
    }
    Fenced::Done(())
}

/// Writes a dead letter that never was in a queue, once for each source.
pub fn bury(
    state: &mut ServerState,
    now: u64,
    partition: Partition,
    source: &DeadLetterSource,
    entry: Bytes,
    reason: &str,
) -> Result<()> {
    let known = state
        .partition(partition, now)
        .buried
        .values()
        .any(|letter| letter.source == *source);
    if !known {
        state.admit((entry.len() + reason.len()) as u64 + OVERHEAD, Admission::Drain)?;
        state
            .partition_mut(partition, now)
            .bury(now, source.clone(), entry, reason);
    }
    Ok(())
}

/// The oldest dead letters after an id.
pub fn dead_letters(
    state: &ServerState,
    now: u64,
    partition: Partition,
    after: Option<Offset>,
    limit: usize,
) -> Vec<DeadLetter> {
    state
        .partition(partition, now)
        .buried
        .iter()
        .filter(|(offset, _)| after.is_none_or(|after| **offset > after))
        .take(limit)
        .map(|(offset, letter)| letter_at(partition, *offset, letter))
        .collect()
}

/// One dead letter.
pub fn dead_letter(state: &ServerState, now: u64, id: DeadLetterId) -> Option<DeadLetter> {
    state
        .partition(id.partition, now)
        .buried
        .get(&id.offset)
        .map(|letter| letter_at(id.partition, id.offset, letter))
}

/// Removes dead letters; how many were there.
pub fn drop_dead_letters(state: &mut ServerState, now: u64, partition: Partition, letters: &[Offset]) -> u64 {
    let data = state.partition_mut(partition, now);
    letters.iter().filter(|offset| data.unbury(**offset)).count() as u64
}

/// Removes the oldest of too many dead letters; how many.
pub fn cap_dead_letters(state: &mut ServerState, now: u64, partition: Partition, keep: u64) -> u64 {
    let data = state.partition_mut(partition, now);
    let over = (data.buried.len() as u64)
        .saturating_sub(keep)
        .min(CAPPED_AT_ONCE);
    for _ in 0..over {
        let Some(oldest) = data.buried.keys().next().copied() else {
            break;
        };
        data.unbury(oldest);
    }
    over
}

fn letter_at(partition: Partition, offset: Offset, letter: &Buried) -> DeadLetter {
    DeadLetter {
        id: DeadLetterId { partition, offset },
        source: letter.source.clone(),
        reason: letter.reason.clone(),
        entry: letter.entry.clone(),
        buried_at: letter.at,
    }
}

//! What could not be handled, with its reason, until a person decides.

use async_trait::async_trait;
use bytes::Bytes;
use carillon_model::{Offset, Partition};
use serde::{Deserialize, Serialize};

use crate::{FencingToken, Life, Result, queue::Fenced};

/// Keeps dead letters per partition.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Moves the entry at the head of the queue to the dead letters, if token and life still hold. One atomic step.
    async fn bury_head(
        &self,
        partition: Partition,
        token: FencingToken,
        life: &Life,
        head: Offset,
        reason: &str,
    ) -> Result<Fenced<()>>;

    /// Writes a dead letter that never was in a queue. The same source twice is one letter.
    async fn bury(
        &self,
        partition: Partition,
        source: DeadLetterSource,
        entry: Bytes,
        reason: &str,
    ) -> Result<()>;

    /// The oldest dead letters of a partition after an id.
    async fn dead_letters(
        &self,
        partition: Partition,
        after: Option<Offset>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>>;

    /// One dead letter.
    async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>>;

    /// Removes dead letters of a partition; how many of them were there. Name a few hundred at most.
    async fn drop_dead_letters(&self, partition: Partition, letters: &[Offset]) -> Result<u64>;

    /// Removes the oldest dead letters of a partition that has more than `keep`; how many. One call removes at most
    /// [`CAPPED_AT_ONCE`], so it is made after each letter that is written.
    async fn cap_dead_letters(&self, partition: Partition, keep: u64) -> Result<u64>;
}

/// At most so many dead letters are removed at once because there are too many.
pub const CAPPED_AT_ONCE: u64 = 64;

/// A dead letter's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadLetterId {
    /// Its partition.
    pub partition: Partition,
    /// Its entry id in the partition's dead letters.
    pub offset: Offset,
}

impl std::fmt::Display for DeadLetterId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.partition, self.offset)
    }
}

/// Where a dead letter came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterSource {
    /// The partition's queue, at this offset.
    Queue(Offset),
    /// A list's item with this number.
    List {
        /// The list's key.
        list: String,
        /// The item's number.
        number: u64,
    },
}

/// What could not be handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its place.
    pub id: DeadLetterId,
    /// Where it came from.
    pub source: DeadLetterSource,
    /// Why it is here.
    pub reason: String,
    /// The entry as it was.
    pub entry: Bytes,
    /// Milliseconds since 1970 by the server's clock when it was buried.
    pub buried_at: u64,
}

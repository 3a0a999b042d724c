//! Plain Redis lists as a door for old producers (DESIGN §10).
//!
//! Items move, numbered, into a pending hash in the list's own slot; they are removed from it once the queue holds
//! them. A new owner first finishes what is pending, so order is kept and nothing is lost; a repeat carries the same
//! number, which is its idempotency key, so nothing is doubled.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{FencingToken, Result};

/// Takes items from lists that producers `RPUSH` to.
#[async_trait]
pub trait Lists: Send + Sync {
    /// Takes items from the list's head into pending, as long as no more than `limit` are pending, and answers everything
    /// pending, by number.
    async fn take(&self, list: &str, token: FencingToken, limit: usize) -> Result<TakeOutcome>;

    /// Removes items from pending: the queue (or the dead letters) hold them. Numbers not pending are fine.
    async fn settle(&self, list: &str, numbers: &[u64]) -> Result<()>;
}

/// What a take brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeOutcome {
    /// Everything pending, ordered by number; none if the list is empty.
    Items(Vec<ListItem>),
    /// Nothing was taken: another owner has the list.
    Lost,
    /// Nothing was taken: the key holds something that is no list.
    NotAList,
}

/// An item and its number, which only ever grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListItem {
    /// Given when it was taken; never given twice.
    pub number: u64,
    /// As the producer pushed it.
    pub item: Bytes,
}

//! The policy snapshot that an operator writes and every service applies.

use async_trait::async_trait;
use bytes::Bytes;

use crate::Result;

/// Keeps one snapshot.
#[async_trait]
pub trait PolicyStore: Send + Sync {
    /// The snapshot in force, if an operator ever wrote one.
    async fn load_policy(&self) -> Result<Option<PolicySnapshot>>;

    /// Replaces the snapshot.
    async fn store_policy(&self, snapshot: &PolicySnapshot) -> Result<()>;
}

/// A policy as text, and its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySnapshot {
    /// A hash of the document; services report the one they apply through their [`Member`](crate::Member).
    pub revision: String,
    /// The policy as YAML.
    pub document: Bytes,
}

//! A plain list that old producers push to.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::Lease;

/// The list, what was taken from it, and who may take.
#[derive(Clone, Debug, Default)]
pub(in crate::memory) struct List {
    pub(in crate::memory) items: VecDeque<Bytes>,
    pub(in crate::memory) pending: BTreeMap<u64, Bytes>,
    /// The last number given to an item.
    pub(in crate::memory) last_number: u64,
    /// Something else than a list lies at the key.
    pub(in crate::memory) occupied: bool,
    pub(in crate::memory) lease: Lease,
    /// Bytes of items and pending.
    pub(in crate::memory) bytes: u64,
}

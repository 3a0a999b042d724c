//! What a server took, and what a failover took back.

use std::collections::BTreeMap;

use carillon_model::MessageId;

/// What a server took, for the audit.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) writes: u64,
    /// With which write each message came into a queue of this server.
    pub(crate) appended: BTreeMap<MessageId, u64>,
    pub(crate) lost: Vec<MessageId>,
}

impl Ledger {
    /// A failover takes the last writes back.
    pub(crate) fn take_back(&mut self, writes: u64) {
        self.writes -= writes;
        let kept = self.writes;
        let gone = self
            .appended
            .iter()
            .filter(|(_, write)| **write > kept)
            .map(|(id, _)| *id);
        self.lost.extend(gone);
        self.appended.retain(|_, write| *write <= kept);
    }
}

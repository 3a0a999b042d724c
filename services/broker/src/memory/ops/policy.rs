//! The policy snapshot, on the first server.

use crate::{PolicySnapshot, memory::state::ServerState};

/// The snapshot in force.
pub fn load_policy(state: &ServerState) -> Option<PolicySnapshot> {
    state.policy.clone()
}

/// Replaces the snapshot.
pub fn store_policy(state: &mut ServerState, snapshot: &PolicySnapshot) {
    state.policy = Some(snapshot.clone());
}

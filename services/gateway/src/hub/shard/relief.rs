//! What is done, once a second, while all outboxes together fill the memory set for them.

use super::{SessionKey, Shard};
use crate::hub::outbox::CloseReason;

/// Sessions that are told each second of room they wait for: mostly those that write tell each other.
const WOKEN: usize = 64;
/// One of so many sessions is closed each second, and at least one.
const CLOSED: usize = 100;

impl Shard {
    /// Lets replays go on. Where memory is short, closes sessions that wrote nothing for a second or two, those first for
    /// which most waits: their clients come back with their cursors, and what they missed waits in history, not here.
    pub(super) fn relieve_memory(&mut self) {
        let outboxes = &self.around.outboxes;
        outboxes.wake(WOKEN);
        let used = i64::try_from(outboxes.used()).unwrap_or(i64::MAX);
        self.around.metrics.outbox_bytes.set(used);
        if !outboxes.is_short() {
            return;
        }
        let open = self.sessions.iter().filter(|(_, session)| !session.closing);
        let mut stuck: Vec<(usize, SessionKey)> = open
            .map(|(key, session)| (session.outbox.stuck_bytes(), *key))
            .filter(|(bytes, _)| *bytes > 0)
            .collect();
        stuck.sort_unstable();
        stuck.reverse();
        stuck.truncate((self.sessions.len() / CLOSED).max(1));
        for (_, key) in stuck {
            if let Some(session) = self.sessions.get_mut(&key) {
                session.close(CloseReason::MemoryBudget);
            }
        }
    }
}

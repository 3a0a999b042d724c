//! Which sessions are told to go: those that are here longest, over all shards.

use tokio::sync::oneshot;

use super::{Request, SessionKey, Shard, Shards};
use crate::hub::outbox::CloseReason;

impl Shards {
    /// Closes up to so many sessions, those that are here longest: one that was sent away and came back is not the next
    /// to go. Answers how many were told to go.
    pub(in crate::hub) async fn close(&self, count: usize, reason: CloseReason) -> usize {
        let mut longest = Vec::new();
        if count == 0 {
            return 0;
        }
        for queues in self.0.iter() {
            let (reply, answer) = oneshot::channel();
            if queues
                .requests
                .send(Request::Longest { count, reply })
                .await
                .is_ok()
            {
                longest.extend(answer.await.unwrap_or_default());
            }
        }
        // Keys are given in the order of arrival.
        longest.sort_unstable();
        longest.truncate(count);
        let mut told = 0;
        for (index, queues) in self.0.iter().enumerate() {
            let here = |key: &SessionKey| key.0 % self.0.len() as u64 == index as u64;
            let sessions: Vec<SessionKey> = longest.iter().copied().filter(here).collect();
            let (reply, answer) = oneshot::channel();
            let request = Request::Close {
                sessions,
                reason,
                reply,
            };
            if queues.requests.send(request).await.is_ok() {
                told += answer.await.unwrap_or_default();
            }
        }
        told
    }
}

impl Shard {
    /// Up to so many open sessions, those that are here longest.
    pub(super) fn longest(&self, count: usize) -> Vec<SessionKey> {
        let open = self.sessions.iter().filter(|(_, session)| !session.closing);
        // Keys are given in the order of arrival.
        let mut keys: Vec<SessionKey> = open.map(|(key, _)| *key).collect();
        if count < keys.len() {
            keys.select_nth_unstable(count);
            keys.truncate(count);
        }
        keys
    }

    /// Closes those that are still here; answers how many.
    pub(super) fn close_sessions(&mut self, keys: &[SessionKey], reason: CloseReason) -> usize {
        let mut closed = 0;
        for key in keys {
            if let Some(session) = self.sessions.get_mut(key) {
                session.close(reason);
                closed += 1;
            }
        }
        closed
    }
}

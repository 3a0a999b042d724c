//! What is kept from round to round. All of it can be lost: the next operator finds out again.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use crate::{
    keys::KeyHash,
    picture::{Picture, Seen},
    pods::scaling::Looks,
    resources::{PushClusterSpec, PushProducerSpec, PushRoomSpec},
    status::acknowledged::Acknowledged,
    validate::LastRead,
};

/// Snapshots whose keys are remembered: a service that is slow to take the newest may apply one of these.
const REVISIONS: usize = 32;

/// Where no ingest is known, one may be starting: a key counts as let in after it was in the policy for so long.
const GRACE: Duration = Duration::from_secs(10);

/// What is kept.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// What was last read of objects, for when they can't be read.
    pub(crate) clusters: LastRead<PushClusterSpec>,
    pub(crate) rooms: LastRead<PushRoomSpec>,
    pub(crate) producers: LastRead<PushProducerSpec>,
    /// Snapshots that were stored, with the keys they let in; the newest last.
    revisions: VecDeque<(Arc<str>, BTreeSet<KeyHash>)>,
    /// Since when each key is in the policy without a break.
    keys_since: BTreeMap<KeyHash, Instant>,
    /// Who applied what, when last it could be asked.
    pub(crate) acknowledged: Option<Acknowledged>,
    /// Statuses as they were written last, by the object's identity: a watch may be behind.
    statuses: BTreeMap<String, Value>,
    /// When a status with numbers was written last.
    pub(crate) numbers_written: Option<Instant>,
    /// Needs of services.
    pub(crate) gateways: Looks,
    pub(crate) dispatchers: Looks,
    /// When the snapshot in Redis was compared last.
    pub(crate) compared: Option<Instant>,
}

impl Memory {
    /// Remembers what can be read, and forgets what is gone.
    pub(crate) fn learn(&mut self, picture: &Picture) {
        keep(&mut self.clusters, &picture.clusters);
        keep(&mut self.rooms, &picture.rooms);
        keep(&mut self.producers, &picture.producers);
        let clusters = picture.clusters.iter().map(Seen::uid);
        let rooms = picture.rooms.iter().map(Seen::uid);
        let there: BTreeSet<&str> = clusters
            .chain(rooms)
            .chain(picture.producers.iter().map(Seen::uid))
            .collect();
        self.statuses.retain(|uid, _| there.contains(uid.as_str()));
    }

    /// A snapshot is in Redis.
    pub(crate) fn stored(&mut self, revision: &Arc<str>, keys: BTreeSet<KeyHash>) {
        if self.newest() == Some(revision) {
            return;
        }
        self.keys_since.retain(|key, _| keys.contains(key));
        let now = Instant::now();
        for key in &keys {
            self.keys_since.entry(*key).or_insert(now);
        }
        self.revisions.retain(|(known, _)| known != revision);
        self.revisions.push_back((revision.clone(), keys));
        if self.revisions.len() > REVISIONS {
            self.revisions.pop_front();
        }
    }

    /// The revision that was stored last.
    pub(crate) fn newest(&self) -> Option<&Arc<str>> {
        self.revisions.back().map(|(revision, _)| revision)
    }

    /// Whether every ingest lets this key in.
    pub(crate) fn lets_in(&self, key: &KeyHash) -> bool {
        let with_key: BTreeSet<&str> = self
            .revisions
            .iter()
            .filter(|(_, keys)| keys.contains(key))
            .map(|(revision, _)| &**revision)
            .collect();
        let (Some(since), Some(acknowledged)) = (self.keys_since.get(key), &self.acknowledged) else {
            return false;
        };
        if acknowledged.has("ingest") {
            acknowledged.all_of("ingest", |revision| with_key.contains(revision))
        } else {
            since.elapsed() >= GRACE
        }
    }

    /// An object's status as it was written last, else as it was seen.
    pub(crate) fn status<S>(&self, seen: &Seen<S>) -> Value {
        self.statuses
            .get(seen.uid())
            .cloned()
            .unwrap_or_else(|| seen.status.clone())
    }

    /// A status was written.
    pub(crate) fn wrote<S>(&mut self, seen: &Seen<S>, status: Value) {
        self.statuses.insert(seen.uid().to_owned(), status);
    }
}

fn keep<S: Clone>(last: &mut LastRead<S>, seen: &[Seen<S>]) {
    last.retain(|uid, _| seen.iter().any(|seen| seen.uid() == uid));
    for seen in seen {
        if let Ok(spec) = &seen.spec {
            last.insert(seen.uid().to_owned(), spec.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ingest(revision: &str) -> Option<Acknowledged> {
        let mut acknowledged = Acknowledged::default();
        acknowledged
            .counted
            .insert("i".to_owned(), ("ingest", revision.to_owned()));
        Some(acknowledged)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_let_in_when_every_ingest_applies_a_policy_with_it() {
        let (mut memory, key) = (Memory::default(), KeyHash([1; 32]));
        memory.acknowledged = ingest("one");
        assert!(!memory.lets_in(&key), "no policy has it");
        memory.stored(&"one".into(), BTreeSet::new());
        memory.stored(&"two".into(), BTreeSet::from([key]));
        assert!(!memory.lets_in(&key), "the ingest applies the one before");
        memory.stored(&"three".into(), BTreeSet::from([key]));
        memory.acknowledged = ingest("two");
        assert!(memory.lets_in(&key), "not the newest, and it has the key");
        memory.stored(&"one".into(), BTreeSet::new());
        assert!(!memory.lets_in(&key), "the policy went back");
        memory.stored(&"four".into(), BTreeSet::from([key]));
        memory.acknowledged = Some(Acknowledged::default());
        assert!(
            !memory.lets_in(&key),
            "there is no ingest, but one may be starting"
        );
        tokio::time::advance(GRACE).await;
        assert!(memory.lets_in(&key));
        memory.acknowledged = None;
        assert!(!memory.lets_in(&key), "nobody could be asked");
    }
}

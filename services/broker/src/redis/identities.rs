//! Which server identities mean the same data.
//!
//! The replication ID of a primary changes without a loss when its first replica attaches, and when none was attached
//! for `repl-backlog-ttl`. Such a benign change must not look like a failover. It can be told from one only by a
//! process that looked at the server a moment before; the table is in docs/redis.md. Pure, so that the simulator runs it too.

use std::time::Duration;

use indexmap::IndexMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::server_identity::ServerIdentity;
use crate::Life;

/// A change is judged benign only within this time after the last look.
const JUDGED_WITHIN: Duration = Duration::from_secs(30);
/// A server that was not seen for this long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);
/// Replication IDs remembered for one server.
const ALIASES: usize = 32;

#[derive(Debug)]
struct Known {
    /// What the rest of the program calls the data on this server.
    life: Life,
    /// Replication IDs that mean this data; the last one is the present one.
    replication_ids: Vec<String>,
    seen: Instant,
}

/// What a look at a primary has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What its data is called.
    pub life: Life,
    /// How its replication ID changed since the last look, if it did and its process is the same.
    pub change: Option<Change>,
}

/// What another replication ID of a running server means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing was lost: a first replica attached, or the backlog expired.
    Benign,
    /// The server was demoted and promoted again, or may have been.
    Failover,
}

/// The servers this process has looked at, by `run_id`.
#[derive(Debug)]
pub struct Identities {
    known: Mutex<IndexMap<String, Known>>,
    judged_within: Duration,
}

impl Default for Identities {
    fn default() -> Self {
        Self::judging_within(JUDGED_WITHIN)
    }
}

impl Identities {
    /// No server is known yet. A change is judged benign only within this time after the last look; half a
    /// `repl-backlog-ttl` at most.
    pub fn judging_within(judged_within: Duration) -> Self {
        Self {
            known: Mutex::default(),
            judged_within,
        }
    }

    /// Takes in what a look at a primary has shown at a moment.
    pub fn observe(&self, identity: &ServerIdentity, seen: Instant) -> Observed {
        let mut known = self.known.lock();
        known.retain(|_, server| seen.duration_since(server.seen) < FORGOTTEN_AFTER);
        let life = Life(identity.text().into());
        let Some(server) = known.get_mut(&identity.run_id) else {
            let server = Known {
                life: life.clone(),
                replication_ids: vec![identity.replication_id.clone()],
                seen,
            };
            known.insert(identity.run_id.clone(), server);
            return Observed { life, change: None };
        };
        let recent = seen.duration_since(server.seen) < self.judged_within;
        server.seen = seen.max(server.seen);
        if server.replication_ids.last() == Some(&identity.replication_id) {
            return Observed {
                life: server.life.clone(),
                change: None,
            };
        }
        let benign = recent && identity.promoted_from.is_none();
        if benign {
            if server.replication_ids.len() >= ALIASES {
                server.replication_ids.remove(0);
            }
        } else {
            server.replication_ids.clear();
            server.life = life;
        }
        server.replication_ids.push(identity.replication_id.clone());
        Observed {
            life: server.life.clone(),
            change: Some(if benign { Change::Benign } else { Change::Failover }),
        }
    }

    /// What the data is called that a server with this identity (`run_id:replication ID`) answered from; `None` if no
    /// look has shown that identity yet.
    pub fn resolve(&self, identity: &str) -> Option<Life> {
        let (run_id, replication_id) = identity.split_once(':')?;
        let known = self.known.lock();
        let server = known.get(run_id)?;
        let same = server.replication_ids.iter().any(|known| known == replication_id);
        same.then(|| server.life.clone())
    }

    /// The identity that the server of this data has at present, as scripts compare it.
    pub fn present(&self, life: &Life) -> String {
        let known = self.known.lock();
        let run_id = life.0.split_once(':').map_or("", |(run_id, _)| run_id);
        let server = known.get(run_id).filter(|server| server.life == *life);
        match server.and_then(|server| server.replication_ids.last()) {
            Some(replication_id) => format!("{run_id}:{replication_id}"),
            None => life.0.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::ReplicationState;

    fn primary(run_id: &str, replication_id: &str, previous: Option<&str>) -> ServerIdentity {
        ServerIdentity {
            run_id: run_id.to_owned(),
            is_primary: true,
            replication_id: replication_id.to_owned(),
            promoted_from: previous.map(|previous| (previous.to_owned(), 100)),
            replication: ReplicationState {
                replication_id: replication_id.into(),
                replicas: Vec::new(),
            },
        }
    }

    /// Two looks at a server, some seconds apart: is the data the same?
    fn same(first: &ServerIdentity, second: &ServerIdentity, seconds: u64) -> bool {
        let identities = Identities::default();
        let start = Instant::now();
        let before = identities.observe(first, start);
        let after = identities.observe(second, start + Duration::from_secs(seconds));
        before.life == after.life
    }

    #[test]
    fn each_row_of_the_table() {
        let before = primary("r", "x", None);
        for (event, after, seconds, benign) in [
            ("nothing changed", primary("r", "x", None), 1, true),
            ("the same after a long time", primary("r", "x", None), 600, true),
            ("first replica attached", primary("r", "y", None), 1, true),
            ("the same, seen too late", primary("r", "y", None), 31, false),
            ("promoted back: A, B, A", primary("r", "y", Some("b")), 1, false),
            (
                "demoted toward a dead server and back",
                primary("r", "y", Some("x")),
                1,
                false,
            ),
            (
                "a replica was promoted",
                primary("other", "y", Some("x")),
                1,
                false,
            ),
            (
                "restarted from a snapshot",
                primary("new", "y", Some("x")),
                1,
                false,
            ),
            (
                "restarted from AOF, or empty",
                primary("new", "y", None),
                1,
                false,
            ),
        ] {
            assert_eq!(same(&before, &after, seconds), benign, "{event}");
        }
    }

    #[test]
    fn answers_under_the_old_and_the_new_id_mean_the_same_after_a_benign_change() {
        let identities = Identities::default();
        let start = Instant::now();
        let life = identities.observe(&primary("r", "x", None), start).life;
        assert_eq!(identities.resolve("r:y"), None, "nobody has looked yet");
        let benign = identities.observe(&primary("r", "y", None), start + Duration::from_secs(1));
        assert_eq!(benign.change, Some(Change::Benign));
        assert_eq!(identities.resolve("r:x"), Some(life.clone()));
        assert_eq!(identities.resolve("r:y"), Some(life.clone()));
        assert_eq!(
            identities.present(&life),
            "r:y",
            "scripts compare with what the server says now"
        );
        let failover = identities.observe(&primary("r", "z", Some("y")), start + Duration::from_secs(2));
        assert_eq!(failover.change, Some(Change::Failover));
        assert_eq!(identities.resolve("r:y"), None);
        assert_eq!(
            identities.present(&life),
            "r:x",
            "a name that is over fits nothing"
        );
    }
}

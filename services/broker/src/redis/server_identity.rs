//! Which server answered, in which role, and where its replication stands. Pure: the text of `INFO` in, a struct out.

use super::{replication::replication_state, requirements::field};
use crate::losses::ReplicationState;

/// What `INFO server replication` says of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerIdentity {
    /// Of the process: it never changes while the process runs.
    pub run_id: String,
    /// Whether it is a primary. A demoted primary may keep its replication ID and answer old data.
    pub is_primary: bool,
    /// Of the data: it changes with a promotion, a restart, and when the first replica attaches.
    pub replication_id: String,
    /// The replication ID before the last promotion, and the first byte of it that this server does not have.
    pub promoted_from: Option<(String, u64)>,
    /// How far its replicas are.
    pub replication: ReplicationState,
}

impl ServerIdentity {
    /// Reads an answer of `INFO server replication`.
    pub(super) fn of(information: &str) -> Self {
        let previous = field(information, "master_replid2");
        let second_offset = field(information, "second_repl_offset").parse::<u64>().ok();
        let had_none = previous.is_empty() || previous.bytes().all(|byte| byte == b'0');
        Self {
            run_id: field(information, "run_id").to_owned(),
            is_primary: field(information, "role") == "master",
            replication_id: field(information, "master_replid").to_owned(),
            promoted_from: second_offset
                .filter(|_| !had_none)
                .map(|offset| (previous.to_owned(), offset)),
            replication: replication_state(information),
        }
    }

    /// Process and data in one text, as the scripts write it.
    pub fn text(&self) -> String {
        format!("{}:{}", self.run_id, self.replication_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIMARY: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:11aa\r\n\r\n# Replication\r\nrole:master\r\n\
        connected_slaves:1\r\nslave0:ip=127.0.0.1,port=6380,state=online,offset=4214,lag=1\r\n\
        master_failover_state:no-failover\r\nmaster_replid:22bb\r\n\
        master_replid2:0000000000000000000000000000000000000000\r\nmaster_repl_offset:4228\r\nsecond_repl_offset:-1\r\n";

    #[test]
    fn a_primary_that_never_was_promoted() {
        let identity = ServerIdentity::of(PRIMARY);
        assert!(identity.is_primary);
        assert_eq!(identity.text(), "11aa:22bb");
        assert_eq!(identity.promoted_from, None);
    }

    #[test]
    fn a_promoted_replica_names_what_it_continues() {
        let text = PRIMARY
            .replace(
                "master_replid2:0000000000000000000000000000000000000000",
                "master_replid2:33cc",
            )
            .replace("second_repl_offset:-1", "second_repl_offset:4215");
        let identity = ServerIdentity::of(&text);
        assert_eq!(identity.promoted_from, Some(("33cc".to_owned(), 4215)));
    }

    #[test]
    fn a_replica_is_no_primary() {
        assert!(!ServerIdentity::of(&PRIMARY.replace("role:master", "role:slave")).is_primary);
        assert!(!ServerIdentity::of("").is_primary);
    }
}

//! What a primary says of its replication, in its `INFO replication`.

use super::requirements::field;
use crate::losses::{Replica, ReplicationState};

/// Reads an `INFO replication` of a primary.
pub(super) fn replication_state(information: &str) -> ReplicationState {
    let replicas = information.lines().filter_map(|line| {
        let (name, replica) = line.trim().split_once(':')?;
        let number = name.strip_prefix("slave")?;
        number
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| replica_of(replica))?
    });
    ReplicationState {
        replication_id: field(information, "master_replid").into(),
        replicas: replicas.collect(),
    }
}

/// `ip=10.0.0.7,port=6379,state=online,offset=1234,lag=1`. One that is not online yet has nothing for certain.
fn replica_of(line: &str) -> Option<Replica> {
    let value = |name: &str| {
        let mut pairs = line.split(',').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let acknowledged = match value("state") {
        Some("online") => value("offset").and_then(|offset| offset.parse().ok()),
        _ => None,
    };
    Some(Replica {
        address: format!("{}:{}", value("ip")?, value("port")?).into(),
        acknowledged: acknowledged.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Redis 7.0.15, with a replica that is there and one that is being sent the data.
    const PRIMARY: &str = "# Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
        slave0:ip=127.0.0.1,port=17001,state=online,offset=5264,lag=0\r\n\
        slave1:ip=127.0.0.1,port=17002,state=wait_bgsave,offset=0,lag=0\r\n\
        master_failover_state:no-failover\r\nmaster_replid:8c2ed1ff28dc23bc5dc4cc3e4b1ad9cf9a5a23ab\r\n\
        master_replid2:0000000000000000000000000000000000000000\r\nmaster_repl_offset:5278\r\n\
        second_repl_offset:-1\r\nrepl_backlog_active:1\r\n";

    #[test]
    fn a_primary_says_how_far_its_replicas_are() {
        let state = replication_state(PRIMARY);
        assert_eq!(&*state.replication_id, "8c2ed1ff28dc23bc5dc4cc3e4b1ad9cf9a5a23ab");
        let replicas: Vec<(&str, u64)> = state
            .replicas
            .iter()
            .map(|replica| (&*replica.address, replica.acknowledged))
            .collect();
        assert_eq!(replicas, [("127.0.0.1:17001", 5264), ("127.0.0.1:17002", 0)]);
    }

    #[test]
    fn a_primary_alone_has_no_replicas() {
        let alone = "# Replication\r\nrole:master\r\nconnected_slaves:0\r\nmaster_replid:ab\r\n";
        assert_eq!(replication_state(alone).replicas, []);
    }
}

//! What a round has to do with Redis: store the snapshot, ask who lives and how much waits.

use bytes::Bytes;
use carillon_broker::{Broker, BrokerError, Member, PolicySnapshot, ServiceKind, SharedBroker};

use crate::build::Snapshot;

/// Who lives, and how much waits.
#[derive(Clone, Debug)]
pub(super) struct Living {
    pub(super) members: Vec<Member>,
    /// Messages in all queues.
    pub(super) lag: u64,
}

/// Stores the snapshot if another one, or none, is there. The answer says whether it was written.
pub(super) async fn store(broker: &SharedBroker, snapshot: &Snapshot) -> Result<bool, BrokerError> {
    let wanted = PolicySnapshot {
        revision: snapshot.revision.to_string(),
        document: Bytes::from(snapshot.text.clone()),
    };
    if broker.load_policy().await?.as_ref() == Some(&wanted) {
        return Ok(false);
    }
    broker.store_policy(&wanted).await?;
    Ok(true)
}

/// Asks.
pub(super) async fn living(broker: &SharedBroker) -> Result<Living, BrokerError> {
    let mut members = Vec::new();
    for kind in [ServiceKind::Gateway, ServiceKind::Dispatcher, ServiceKind::Ingest] {
        members.extend(broker.members(kind).await?);
    }
    let partitions: Vec<_> = Broker::partitions(&**broker).partitions().collect();
    let backlogs = broker.backlogs(&partitions).await?;
    let lag = backlogs.into_iter().map(|backlog| backlog.entries).sum();
    Ok(Living { members, lag })
}

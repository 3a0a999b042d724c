//! Replication IDs that change, and what each process makes of it by the product's own rule
//! ([`Identities`](carillon_broker::redis::Identities)).
//!
//! A server's state is named `run_id:replication ID`, as scripts write it. A process asks for the name of the data behind
//! each answer, and compares with the present ID in each fenced call, as the broker on Redis does.

use std::time::Duration;

use carillon_broker::{
    Life, Result,
    losses::ReplicationState,
    redis::{Identities, ServerIdentity},
};
use tokio::time::Instant;

use crate::{connections::Connections, network::Network};

/// A change is judged benign within this time after the last look; 30 s in the product.
const JUDGED_WITHIN: Duration = Duration::from_secs(1);
/// A backlog expires so long after a promotion; 60 s in Redis.
const BACKLOG_KEPT: Duration = Duration::from_secs(2);

/// A server as `INFO` tells of it, beside what its state says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// Replication IDs it has given.
    ids: u64,
    /// The replication ID that its last promotion ended.
    promoted_from: Option<String>,
    promoted_at: Option<Instant>,
}

impl Standing {
    /// A promotion: another replication ID, behind which stands the former one.
    pub(crate) fn promoted(&mut self, run_id: &str, former: &Life) -> Life {
        self.promoted_from = Some(former.replication_id().to_owned());
        self.promoted_at = Some(Instant::now());
        self.renamed(run_id)
    }

    /// Whether no promotion was so lately.
    pub(crate) fn stands_for(&self, time: Duration) -> bool {
        self.promoted_at.is_none_or(|at| at.elapsed() > time)
    }

    /// Another replication ID.
    fn renamed(&mut self, run_id: &str) -> Life {
        self.ids += 1;
        Life(format!("{run_id}:{}", self.ids).into())
    }
}

/// The process in a name.
pub(crate) fn run_id(life: &Life) -> &str {
    life.0.split_once(':').map_or(&life.0, |(run_id, _)| run_id)
}

impl Network {
    /// The first replica attaches, or the backlog expires: another replication ID, and nothing else. Whether it could be: a
    /// server that was promoted has a backlog for a while.
    pub(crate) fn change_replication_id(&self, server: usize) -> bool {
        let mut slot = self.slot(server);
        let standing = &mut slot.standing;
        if standing.promoted_at.is_some_and(|at| at.elapsed() < BACKLOG_KEPT) {
            return false;
        }
        standing.promoted_from = None;
        let life = standing.renamed(run_id(&self.life(server)));
        drop(slot);
        self.intervene(server, |state| state.life = life);
        true
    }

    /// A primary is demoted and promoted again, and lacks so many writes: its process is the same, and connections stand.
    pub(crate) fn promote_back(&self, server: usize, writes_lost: usize) {
        let mut slot = self.slot(server);
        let former = self.life(server);
        let life = slot.standing.promoted(run_id(&former), &former);
        drop(slot);
        self.go_on(server, writes_lost, life, self.servers.skew(server));
    }

    /// What `INFO` says of the server that a look has shown.
    fn server_identity(&self, server: usize, life: &Life) -> ServerIdentity {
        let standing = self.slot(server).standing.clone();
        // Nothing changes at an old primary any more.
        let promoted_from = standing.promoted_from.filter(|_| *life == self.life(server));
        ServerIdentity {
            run_id: run_id(life).to_owned(),
            is_primary: true,
            replication_id: life.replication_id().to_owned(),
            promoted_from: promoted_from.map(|former| (former, self.writes(server))),
            replication: ReplicationState {
                replication_id: life.replication_id().into(),
                replicas: Vec::new(),
            },
        }
    }

    /// What a process knows of identities at first; nothing where no replication ID changes.
    pub(crate) fn identities(&self) -> Option<Identities> {
        let judged_within = if self.manners.every_change_benign {
            Duration::MAX
        } else {
            JUDGED_WITHIN
        };
        let changes = self.manners.identities_change;
        changes.then(|| Identities::judging_within(judged_within))
    }
}

impl Connections {
    /// Looks at a server: what its data is called, and the identity it has. One look at a time.
    pub(crate) async fn look(&self, server: usize) -> Result<(Life, Life)> {
        let Some(identities) = &self.identities else {
            let life = self.present_life(server).await?;
            return Ok((life.clone(), life));
        };
        let _alone = self.looking[server].lock().await;
        let seen = Instant::now();
        let identity = self.present_life(server).await?;
        let mut answer = self.network.server_identity(server, &identity);
        if self.network.manners.every_change_benign {
            answer.promoted_from = None;
        }
        Ok((identities.observe(&answer, seen).life, identity))
    }

    /// What the data is called that a server with this identity answered from. One that nobody has seen is looked at now.
    pub(crate) async fn resolve(&self, server: usize, identity: Life) -> Life {
        let Some(identities) = &self.identities else {
            return identity;
        };
        if let Some(life) = identities.resolve(&identity.0) {
            return life;
        }
        if self.network.seeds.is_some() {
            let _ = self.survey().await;
        } else {
            let _ = self.look(server).await;
        }
        identities.resolve(&identity.0).unwrap_or(identity)
    }

    /// The identity that the server of this data has at present, as fenced calls compare it.
    pub(crate) fn present(&self, life: &Life) -> Life {
        match &self.identities {
            Some(identities) if !self.network.manners.fenced_by_name => Life(identities.present(life).into()),
            _ => life.clone(),
        }
    }
}

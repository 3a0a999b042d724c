//! Which server holds a slot, and which data it holds.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::future::join_all;
use indexmap::{IndexMap, IndexSet};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    Mode, RedisMetrics, RedisOptions,
    asking::Ranges,
    clients::{Clients, Kind},
    discovery::Discovery,
    identities::{Change, Identities},
    node::{Node, NodeOptions},
    requirements::IS_A_CLUSTER,
};
use crate::{BrokerError, Life, Result, losses::ReplicationState};

/// While a primary does not answer who it is, it is asked so often whether it still is one.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// The servers, as last seen.
pub(super) struct Topology {
    mode: Mode,
    clients: Arc<Clients>,
    discovery: Discovery,
    identities: Identities,
    node_options: NodeOptions,
    /// How long one server may take to say who it is.
    patience: Duration,
    map: Mutex<Map>,
    /// Grows with every change of who holds what.
    changes: watch::Sender<u64>,
    /// When the last look began, and what came of it. One look at a time.
    looked: tokio::sync::Mutex<Option<(Instant, Result<()>)>>,
    /// The same of the last survey.
    surveyed: tokio::sync::Mutex<Option<(Instant, Result<Survey>)>>,
}

#[derive(Default)]
struct Map {
    nodes: IndexMap<String, Arc<Node>>,
    ranges: Ranges,
    /// What the data of each server was called when it last answered.
    lives: IndexMap<String, Life>,
}

/// What a look at every primary has shown.
#[derive(Clone, Debug)]
pub(super) struct Survey {
    lives: IndexMap<String, Life>,
    /// Those that answered this time.
    servers: IndexMap<String, Surveyed>,
    /// Why a server or the discovery did not answer; what is known of it is from before.
    pub(super) problem: Option<BrokerError>,
}

/// A server that answered a survey.
#[derive(Clone, Debug)]
pub(super) struct Surveyed {
    /// Its identity as scripts write it.
    pub(super) identity: Life,
    /// Its replicas.
    pub(super) replication: ReplicationState,
}

impl std::fmt::Debug for Topology {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Topology")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl Topology {
    pub(super) fn new(options: &RedisOptions, metrics: RedisMetrics) -> Result<Self> {
        let clients = Arc::new(Clients::new(options)?);
        let mut seeds = vec![clients.first_address()?];
        seeds.extend(options.nodes.iter().cloned());
        Ok(Self {
            mode: options.mode.clone(),
            discovery: Discovery::new(
                options.mode.clone(),
                Arc::clone(&clients),
                seeds,
                options.timeout,
                metrics.clone(),
            ),
            clients,
            identities: Identities::default(),
            node_options: NodeOptions {
                connections: options.connections,
                timeout: options.timeout,
                metrics,
            },
            patience: options.timeout.min(Duration::from_secs(1)),
            map: Mutex::default(),
            changes: watch::Sender::new(0),
            looked: tokio::sync::Mutex::default(),
            surveyed: tokio::sync::Mutex::default(),
        })
    }

    /// What the identities of servers mean.
    pub(super) fn identities(&self) -> &Identities {
        &self.identities
    }

    /// The server at an address.
    pub(super) fn node(&self, address: &str) -> Result<Arc<Node>> {
        let mut map = self.map.lock();
        if let Some(node) = map.nodes.get(address) {
            return Ok(Arc::clone(node));
        }
        let client = self.clients.client(address, Kind::Server)?;
        let node = Arc::new(Node::new(address, client, &self.node_options)?);
        map.nodes.insert(address.to_owned(), Arc::clone(&node));
        Ok(node)
    }

    /// The server of a slot; looks for it if it is not known.
    pub(super) async fn of_slot(&self, slot: u16) -> Result<Arc<Node>> {
        if let Some(address) = self.known(slot) {
            return self.node(&address);
        }
        self.look().await?;
        let address = self.known(slot);
        self.node(&address.ok_or_else(|| BrokerError::Unavailable(format!("no server holds slot {slot}")))?)
    }

    /// The address of a slot's server, as last seen.
    pub(super) fn known(&self, slot: u16) -> Option<String> {
        let map = self.map.lock();
        let range = map.ranges.partition_point(|(last, _)| *last < slot);
        map.ranges.get(range).map(|(_, address)| address.clone())
    }

    /// Whether a slot is at this server, as last seen.
    pub(super) fn holds(&self, node: &Node, slot: u16) -> bool {
        self.known(slot).as_deref() == Some(&*node.address)
    }

    /// Wakes at every change of who holds what.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// All servers that hold slots.
    pub(super) async fn primaries(&self) -> Result<Vec<Arc<Node>>> {
        if self.map.lock().ranges.is_empty() {
            self.look().await?;
        }
        let addresses: IndexSet<String> = self
            .map
            .lock()
            .ranges
            .iter()
            .map(|(_, address)| address.clone())
            .collect();
        addresses.iter().map(|address| self.node(address)).collect()
    }

    /// Finds out anew who holds what. Callers that come while a look is under way share the next one.
    pub(super) async fn look(&self) -> Result<()> {
        let asked = Instant::now();
        let mut looked = self.looked.lock().await;
        if let Some((began, outcome)) = &*looked
            && *began >= asked
        {
            return outcome.clone();
        }
        let began = Instant::now();
        let in_use = self.map.lock().nodes.keys().cloned().collect();
        let outcome = self
            .discovery
            .ranges(in_use)
            .await
            .map(|ranges| self.adopt(ranges));
        *looked = Some((began, outcome.clone()));
        outcome
    }

    /// Servers that hold nothing any more are given up, with everybody who waits for them.
    fn adopt(&self, ranges: Ranges) {
        let gone: Vec<Arc<Node>> = {
            let mut map = self.map.lock();
            if map.ranges == ranges {
                return;
            }
            let holders: IndexSet<&String> = ranges.iter().map(|(_, address)| address).collect();
            let gone = map
                .nodes
                .extract_if(.., |address, _| !holders.contains(address))
                .map(|(_, node)| node)
                .collect();
            map.lives.retain(|address, _| holders.contains(address));
            if !map.ranges.is_empty() {
                tracing::info!(primaries = ?holders, "the primaries of Redis changed");
            }
            map.ranges = ranges;
            gone
        };
        for node in gone {
            node.outdate();
        }
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Looks who is primary, and asks every primary who it is, all at once. Callers that come while a survey is under
    /// way share the next one. An error: it is not known who is primary, or none of them was ever seen.
    pub(super) async fn survey(&self) -> Result<Survey> {
        let asked = Instant::now();
        let mut surveyed = self.surveyed.lock().await;
        if let Some((began, outcome)) = &*surveyed
            && *began >= asked
        {
            return outcome.clone();
        }
        let began = Instant::now();
        let outcome = self.survey_now().await;
        *surveyed = Some((began, outcome.clone()));
        outcome
    }

    async fn survey_now(&self) -> Result<Survey> {
        let mut problem = self.look().await.err();
        if let Some(error) = &problem
            && self.map.lock().ranges.is_empty()
        {
            return Err(error.clone());
        }
        let mut primaries = self.primaries().await?;
        let mut answers = self.identify_all(&primaries).await;
        if primaries.iter().any(|node| !self.is_primary(&node.address)) {
            primaries = self.primaries().await?;
            answers = self.identify_all(&primaries).await;
        }
        let (mut lives, mut servers) = (IndexMap::new(), IndexMap::new());
        for (node, answer) in primaries.iter().zip(answers) {
            let address = node.address.to_string();
            match answer {
                Ok((life, server)) => {
                    self.map.lock().lives.insert(address.clone(), life.clone());
                    servers.insert(address.clone(), server);
                    lives.insert(address, life);
                }
                Err(error) => {
                    // A server that was never seen must not keep a new process from the others. When it answers, it is
                    // taken for another one than this, and everything of it is read again.
                    let before = self.map.lock().lives.get(&address).cloned();
                    let unseen = || Life(format!("{address}:unseen").into());
                    lives.insert(address.clone(), before.unwrap_or_else(unseen));
                    problem.get_or_insert(error);
                }
            }
        }
        if let Some(error) = &problem
            && servers.is_empty()
            && self.map.lock().lives.is_empty()
        {
            return Err(error.clone());
        }
        Ok(Survey {
            lives,
            servers,
            problem,
        })
    }

    fn is_primary(&self, address: &str) -> bool {
        let map = self.map.lock();
        map.ranges.iter().any(|(_, primary)| primary == address)
    }

    /// Asks these primaries who they are. One that does not answer may have been replaced; then it is not waited for.
    async fn identify_all(&self, primaries: &[Arc<Node>]) -> Vec<Result<(Life, Surveyed)>> {
        let mut answers = pin!(join_all(primaries.iter().map(|node| self.identify(node))));
        loop {
            tokio::select! {
                biased;
                answers = &mut answers => return answers,
                () = sleep(LOOK_AGAIN_AFTER) => {}
            }
            tokio::select! {
                biased;
                answers = &mut answers => return answers,
                // What is known stays known if it fails.
                _ = self.look() => {}
            }
        }
    }

    /// Asks a primary who it is.
    async fn identify(&self, node: &Node) -> Result<(Life, Surveyed)> {
        let seen = Instant::now();
        let unavailable = |why: String| Err(BrokerError::Unavailable(format!("{} {why}", node.address)));
        let mut changes = self.changes();
        let identity = tokio::select! {
            biased;
            identity = node.identify() => identity,
            Ok(_) = changes.wait_for(|_| !self.is_primary(&node.address)) => {
                unavailable("is no primary any more".to_owned())
            }
            () = sleep(self.patience) => unavailable(format!("did not answer within {:?}", self.patience)),
        };
        self.node_options.metrics.look(identity.is_ok());
        match identity {
            Ok(identity) => {
                let observed = self.identities.observe(&identity, seen);
                if let Some(change) = observed.change {
                    self.node_options
                        .metrics
                        .replication_id_changed(change == Change::Benign);
                }
                if observed.change == Some(Change::Benign) {
                    tracing::info!(
                        replication_id = identity.replication_id,
                        "the replication ID changed without a failover: a first replica attached, or its backlog expired"
                    );
                }
                let server = Surveyed {
                    identity: Life(identity.text().into()),
                    replication: identity.replication,
                };
                Ok((observed.life, server))
            }
            Err(error) => {
                node.forget_control();
                Err(error)
            }
        }
    }

    /// What the data is called that a server with this identity answered from. An identity nobody has seen yet is
    /// looked at now; one that no server has is called what it says.
    pub(super) async fn resolve(&self, identity: &str) -> Life {
        if let Some(life) = self.identities.resolve(identity) {
            return life;
        }
        let _ = self.survey().await;
        self.identities
            .resolve(identity)
            .unwrap_or_else(|| Life(identity.into()))
    }

    /// A server redirects, as only a node of a cluster does: in any other mode no server will ever be right.
    pub(super) fn expects_redirections(&self, address: &str) -> Result<()> {
        match self.mode {
            Mode::Cluster => Ok(()),
            Mode::Standalone | Mode::Sentinel { .. } => Err(BrokerError::Misconfigured(format!(
                "Redis at {address}: {IS_A_CLUSTER}"
            ))),
        }
    }
}

impl Survey {
    /// The data of the server at an address.
    pub(super) fn life(&self, address: &str) -> Option<&Life> {
        self.lives.get(address)
    }

    /// What the server at an address answered, if it did.
    pub(super) fn server(&self, address: Option<&str>) -> Option<&Surveyed> {
        self.servers.get(address?)
    }
}

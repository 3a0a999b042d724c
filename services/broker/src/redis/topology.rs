//! Which server holds a slot.

use std::{fs, sync::Arc, time::Duration};

use deadpool_redis::redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates, Value,
    cmd,
};
use indexmap::IndexMap;
use parking_lot::Mutex;

use super::{
    Mode, RedisMetrics, RedisOptions,
    node::{Lane, Node},
    reply,
    requirements::{IS_A_CLUSTER, IS_A_SENTINEL, IS_NO_CLUSTER, IS_NO_SENTINEL},
};
use crate::{BrokerError, Life, Result};

/// The servers, as last seen.
pub(super) struct Topology {
    mode: Mode,
    connection: ConnectionInfo,
    certificates: Option<Vec<u8>>,
    /// Who the sentinels take this to be.
    sentinel_login: RedisConnectionInfo,
    /// The configured addresses.
    seeds: Vec<String>,
    connections: usize,
    timeout: Duration,
    metrics: RedisMetrics,
    map: Mutex<Map>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Map {
    nodes: IndexMap<String, Arc<Node>>,
    /// Last slot of each range, in order, and who holds it. One range without a cluster.
    ranges: Vec<(u16, String)>,
    /// What the last look saw of each server.
    lives: IndexMap<String, (Life, Lane)>,
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
        // Whoever speaks TLS has to say with which cryptography; it counts only where the program has not said it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let wrong = |error: &dyn std::fmt::Display| BrokerError::Misconfigured(format!("redis.url: {error}"));
        let connection = options
            .url
            .as_str()
            .into_connection_info()
            .map_err(|error| wrong(&error))?;
        let certificates = match &options.tls_ca_file {
            None => None,
            Some(file) => Some(fs::read(file).map_err(|error| {
                BrokerError::Misconfigured(format!(
                    "redis.tls.ca_file: cannot read {}: {error}",
                    file.display()
                ))
            })?),
        };
        let mut seeds = vec![address_of(&connection)?];
        seeds.extend(options.nodes.iter().cloned());
        Ok(Self {
            mode: options.mode.clone(),
            connection,
            certificates,
            sentinel_login: sentinel_login(options),
            seeds,
            connections: options.connections,
            timeout: options.timeout,
            metrics,
            map: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
        })
    }

    fn client(&self, address: &str, sentinel: bool) -> Result<Client> {
        let wrong = |error: &dyn std::fmt::Display| BrokerError::Misconfigured(format!("{address}: {error}"));
        let (host, port) = split(address)?;
        let mut info = self.connection.clone();
        info = info.clone().set_addr(match info.addr() {
            ConnectionAddr::TcpTls {
                insecure, tls_params, ..
            } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host, port),
        });
        if sentinel {
            info = info.set_redis_settings(self.sentinel_login.clone());
        }
        match &self.certificates {
            None => Client::open(info).map_err(|error| wrong(&error)),
            Some(pem) => {
                let certificates = TlsCertificates {
                    client_tls: None,
                    root_cert: Some(pem.clone()),
                };
                Client::build_with_tls(info, certificates).map_err(|error| wrong(&error))
            }
        }
    }

    /// The server at an address.
    pub(super) fn node(&self, address: &str) -> Result<Arc<Node>> {
        let mut map = self.map.lock();
        if let Some(node) = map.nodes.get(address) {
            return Ok(Arc::clone(node));
        }
        let node = Arc::new(Node::new(
            address,
            self.client(address, false)?,
            self.connections,
            self.timeout,
            self.metrics.clone(),
        )?);
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

    fn known(&self, slot: u16) -> Option<String> {
        let map = self.map.lock();
        let range = map.ranges.partition_point(|(last, _)| *last < slot);
        map.ranges.get(range).map(|(_, address)| address.clone())
    }

    /// All servers that hold slots.
    pub(super) async fn primaries(&self) -> Result<Vec<Arc<Node>>> {
        if self.map.lock().ranges.is_empty() {
            self.look().await?;
        }
        let addresses: indexmap::IndexSet<String> = self
            .map
            .lock()
            .ranges
            .iter()
            .map(|(_, address)| address.clone())
            .collect();
        addresses.iter().map(|address| self.node(address)).collect()
    }

    /// Finds out anew who holds what.
    pub(super) async fn look(&self) -> Result<()> {
        let _alone = self.looking.lock().await;
        let ranges = match &self.mode {
            Mode::Standalone => vec![(u16::MAX, self.seeds.first().cloned().unwrap_or_default())],
            Mode::Sentinel { master } => vec![(u16::MAX, self.ask_sentinels(master).await?)],
            Mode::Cluster => self.ask_cluster().await?,
        };
        self.map.lock().ranges = ranges;
        Ok(())
    }

    /// A server sends on to another, as only a node of a cluster does: with any other mode, none will ever be right.
    pub(super) fn expects_redirections(&self, address: &str) -> Result<()> {
        match self.mode {
            Mode::Cluster => Ok(()),
            Mode::Standalone | Mode::Sentinel { .. } => Err(BrokerError::Misconfigured(format!(
                "Redis at {address}: {IS_A_CLUSTER}"
            ))),
        }
    }

    async fn ask(&self, address: &str, sentinel: bool, command: &redis::Cmd) -> Result<Value> {
        let client = self.client(address, sentinel)?;
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let asked = async {
            let mut connection = client
                .get_multiplexed_async_connection_with_config(&config)
                .await?;
            connection.send_packed_command(command).await?.extract_error()
        };
        asked
            .await
            .map_err(|error| match super::classify::classify(&error, false, false) {
                super::classify::Verdict::Failed { error, .. } => error,
                other => BrokerError::Unavailable(format!("{address}: {other:?}")),
            })
    }

    async fn ask_sentinels(&self, master: &str) -> Result<String> {
        let mut last = BrokerError::Unavailable("no sentinel is set".to_owned());
        let mut command = cmd("SENTINEL");
        command.arg("get-master-addr-by-name").arg(master);
        for seed in &self.seeds {
            match self.ask(seed, true, &command).await.map(reply::present) {
                Ok(Some(answer)) => {
                    let [host, port] = reply::tuple(answer)?;
                    return Ok(join(&reply::text(host)?, &reply::text(port)?));
                }
                Ok(None) => {
                    last = BrokerError::Misconfigured(format!(
                        "the sentinel at {seed} knows no master `{master}`; check redis.sentinel.master"
                    ));
                }
                Err(BrokerError::Misconfigured(text)) => {
                    last = BrokerError::Misconfigured(format!(
                        "the sentinel at {seed}: {text}, or, for a sentinel, redis.sentinel.user and \
                         redis.sentinel.password"
                    ));
                }
                Err(error) => last = of_another_kind(seed, error, IS_NO_SENTINEL),
            }
        }
        Err(last)
    }

    async fn ask_cluster(&self) -> Result<Vec<(u16, String)>> {
        let mut known: indexmap::IndexSet<String> = self.map.lock().nodes.keys().cloned().collect();
        known.extend(self.seeds.iter().cloned());
        let mut last = BrokerError::Unavailable("no node is set".to_owned());
        let mut command = cmd("CLUSTER");
        command.arg("SLOTS");
        for address in known {
            match self.ask(&address, false, &command).await {
                Ok(answer) => {
                    let ranges = slots(answer, &address)?;
                    if !ranges.is_empty() {
                        return Ok(ranges);
                    }
                    last = BrokerError::Unavailable(format!("the node at {address} knows of no slots yet"));
                }
                Err(error) => last = of_another_kind(&address, error, IS_A_SENTINEL),
            }
        }
        Err(last)
    }

    /// The life of a server, by a look with a connection of its own. A change gives all its other connections up.
    pub(super) async fn life(&self, node: &Node) -> Result<Life> {
        let kept = self.map.lock().lives.get(&*node.address).cloned();
        if let Some((life, mut lane)) = kept {
            let ping = tokio::time::timeout(self.timeout, lane.send(&role())).await;
            if let Ok(Ok(answer)) = ping
                && is_master(&answer)
            {
                // The connection stands, so the life does: a restart or a demotion would have ended one or the other.
                return Ok(life);
            }
            node.outdate();
            self.map.lock().lives.swap_remove(&*node.address);
        }
        let lane = node.own_lane().await?;
        let life = lane.life.clone();
        self.map
            .lock()
            .lives
            .insert(node.address.to_string(), (life.clone(), lane));
        Ok(life)
    }
}

/// Sentinels have credentials of their own, or none: one that has none refuses whoever brings a password.
fn sentinel_login(options: &RedisOptions) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default();
    if let Some(user) = &options.sentinel_user {
        login = login.set_username(user);
    }
    if let Some(password) = &options.sentinel_password {
        login = login.set_password(password);
    }
    login
}

/// Who has never heard of what only a sentinel, or any server but a sentinel, can be asked, is the other; who does not want
/// to hear of clusters is none.
fn of_another_kind(address: &str, error: BrokerError, otherwise: &str) -> BrokerError {
    match error {
        BrokerError::Rejected { reason, .. } if reason.to_lowercase().contains("unknown command") => {
            BrokerError::Misconfigured(format!("Redis at {address}: {otherwise}"))
        }
        BrokerError::Misconfigured(text) if text == IS_NO_CLUSTER => {
            BrokerError::Misconfigured(format!("Redis at {address}: {text}"))
        }
        other => other,
    }
}

fn role() -> redis::Cmd {
    cmd("ROLE")
}

fn is_master(answer: &Value) -> bool {
    matches!(answer, Value::Array(values) if matches!(values.first(), Some(Value::BulkString(role)) if role == b"master"))
}

fn slots(answer: Value, asked: &str) -> Result<Vec<(u16, String)>> {
    let mut ranges = Vec::new();
    for range in reply::array(answer)? {
        let mut parts = reply::array(range)?.into_iter();
        let last = parts.nth(1).map(reply::unsigned).transpose()?.unwrap_or_default();
        let Some(primary) = parts.next() else { continue };
        let mut primary = reply::array(primary)?.into_iter();
        let host = primary
            .next()
            .and_then(reply::present)
            .map(reply::text)
            .transpose()?
            .unwrap_or_default();
        let port = primary.next().map(reply::text).transpose()?.unwrap_or_default();
        // A node that does not know its own address yet means the one it was asked at.
        let host = if host.is_empty() { split(asked)?.0 } else { host };
        ranges.push((u16::try_from(last).unwrap_or(u16::MAX), join(&host, &port)));
    }
    ranges.sort();
    Ok(ranges)
}

fn join(host: &str, port: &str) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn split(address: &str) -> Result<(String, u16)> {
    let wrong = || BrokerError::Misconfigured(format!("`{address}` is not host:port"));
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    Ok((
        host.trim_matches(['[', ']']).to_owned(),
        port.parse().map_err(|_| wrong())?,
    ))
}

fn address_of(connection: &ConnectionInfo) -> Result<String> {
    match connection.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Ok(join(host, &port.to_string()))
        }
        _ => Err(BrokerError::Misconfigured(
            "redis.url must name a host and a port".to_owned(),
        )),
    }
}

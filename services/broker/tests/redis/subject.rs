//! Real Redis as a subject of the conformance suite.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use carillon_broker::{
    Incarnation, Member, ServiceKind, SharedBroker,
    conformance::{Capability, Installation, Subject},
    redis::{Mode, RedisBroker, RedisOptions},
};
use carillon_model::{Partition, PartitionCount};
use parking_lot::Mutex;

use crate::{
    secured::{PASSWORD, Secured},
    server::{self, Server},
};

pub(crate) struct Redis {
    name: &'static str,
    servers: Arc<Mutex<Vec<Server>>>,
    /// Who finds the servers for us.
    _sentinel: Option<Server>,
    /// How it is reached; the prefix is each installation's own.
    options: RedisOptions,
    installations: AtomicU64,
}

impl Redis {
    pub(crate) fn standalone() -> Self {
        let server = Server::start(&["--appendonly", "no"]);
        let options = options(server.url(), Mode::Standalone);
        Self::of("a standalone Redis", vec![server], None, options)
    }

    pub(crate) fn cluster() -> Self {
        let servers = server::cluster();
        let options = options(servers[0].url(), Mode::Cluster);
        Self::of("a Redis Cluster of three", servers, None, options)
    }

    /// Sentinel on the way, without a replica that could be promoted: restarts are the server's own.
    pub(crate) fn behind_sentinel() -> Self {
        let server = Server::start(&["--appendonly", "no"]);
        let sentinel = Server::sentinel_of(&server, "");
        let options = options(
            sentinel.url(),
            Mode::Sentinel {
                master: "mymaster".to_owned(),
            },
        );
        Self::of("a Redis behind Sentinel", vec![server], Some(sentinel), options)
    }

    /// By TLS, as the user of docs/redis.md that may do what is written there and no more.
    pub(crate) fn secured() -> Self {
        let secured = Secured::start();
        let options = secured.options(PASSWORD);
        Self::of("a Redis with TLS and users", vec![secured.server], None, options)
    }

    fn of(name: &'static str, servers: Vec<Server>, sentinel: Option<Server>, options: RedisOptions) -> Self {
        Self {
            name,
            servers: Arc::new(Mutex::new(servers)),
            _sentinel: sentinel,
            options,
            installations: AtomicU64::new(0),
        }
    }
}

/// A gateway as it registers itself.
pub(crate) fn gateway_member(gateway: &Incarnation) -> Member {
    Member {
        kind: ServiceKind::Gateway,
        incarnation: gateway.clone(),
        address: "127.0.0.1:3000".to_owned(),
        version: String::new(),
        capacity: 1,
        sessions: 0,
        last_probe: None,
        draining: false,
        policy_revision: String::new(),
    }
}

/// A small installation that may lose everything.
pub(crate) fn options(url: String, mode: Mode) -> RedisOptions {
    RedisOptions {
        mode,
        allow_no_persistence: true,
        ..RedisOptions::new(url, PartitionCount::new(8).unwrap())
    }
}

#[async_trait]
impl Subject for Redis {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn capabilities(&self) -> Vec<Capability> {
        let mut capabilities = vec![
            Capability::PushList,
            Capability::WriteRaw,
            Capability::LimitMemory,
            Capability::Restart,
            Capability::FailOver,
            Capability::Flush,
        ];
        if matches!(self.options.mode, Mode::Cluster) {
            capabilities.push(Capability::MovePartition);
        }
        capabilities
    }

    async fn install(&self) -> Box<dyn Installation> {
        let number = self.installations.fetch_add(1, Ordering::Relaxed);
        let options = RedisOptions {
            prefix: format!("test{number}:"),
            ..self.options.clone()
        };
        Box::new(Installed {
            servers: Arc::clone(&self.servers),
            options,
            number,
        })
    }
}

struct Installed {
    servers: Arc<Mutex<Vec<Server>>>,
    options: RedisOptions,
    number: u64,
}

impl Installed {
    fn redis(&self) -> RedisBroker {
        RedisBroker::new(self.options.clone()).unwrap()
    }

    /// Runs a command where its key is.
    fn cli(&self, arguments: &[&str]) -> String {
        let servers = self.servers.lock();
        let cluster = matches!(self.options.mode, Mode::Cluster);
        let mut all = if cluster { vec!["-c"] } else { vec![] };
        all.extend(arguments);
        servers[0].cli(&all)
    }

    fn everywhere(&self, arguments: &[&str]) {
        for server in &*self.servers.lock() {
            server.cli(arguments);
        }
    }

    /// Every server is prepared, killed and started again; a cluster knows its nodes by the file each of them keeps.
    async fn revive(&self, prepare: fn(&mut Server)) {
        let servers = Arc::clone(&self.servers);
        let cluster = matches!(self.options.mode, Mode::Cluster);
        let revive = move || {
            let mut servers = servers.lock();
            for server in &mut *servers {
                prepare(server);
                server.kill();
            }
            for server in &mut *servers {
                server.run();
            }
            if cluster {
                server::until_in_service(&servers);
            }
        };
        tokio::task::spawn_blocking(revive).await.unwrap();
    }

    async fn run(&self, command: redis::Cmd, key: &str) {
        // redis-cli can't be given every byte. In a cluster only the holder of the key takes it.
        let ports: Vec<u16> = self.servers.lock().iter().map(|server| server.port).collect();
        for port in ports {
            let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            if command.exec_async(&mut connection).await.is_ok() {
                return;
            }
        }
        panic!("no server takes {key}");
    }
}

#[async_trait]
impl Installation for Installed {
    async fn broker(&self) -> SharedBroker {
        Arc::new(self.redis())
    }

    fn list(&self, name: &str) -> String {
        format!("{name}-{}", self.number)
    }

    async fn push_list(&self, list: &str, item: Bytes) {
        let mut command = redis::cmd("RPUSH");
        command.arg(list).arg(&item[..]);
        self.run(command, list).await;
    }

    async fn occupy_list(&self, list: &str) {
        self.cli(&["SET", list, "no list"]);
    }

    async fn write_raw(&self, partition: Partition, entry: Bytes) {
        let key = self.redis().queue_key(partition);
        let mut command = redis::cmd("XADD");
        command.arg(&key).arg("*").arg("e").arg(&entry[..]);
        self.run(command, &key).await;
    }

    async fn restart(&self) {
        self.revive(|server| {
            server.cli(&["SAVE"]);
        })
        .await;
    }

    async fn mark(&self) {
        for server in &*self.servers.lock() {
            server.cli(&["SAVE"]);
            server.keep_snapshot();
        }
    }

    async fn fail_over(&self) {
        self.revive(|server| {
            server.kill();
            server.back_to_snapshot();
        })
        .await;
    }

    async fn flush(&self) {
        self.everywhere(&["FLUSHALL"]);
    }

    async fn move_partition(&self, partition: Partition) {
        let key = self.redis().queue_key(partition);
        let servers = Arc::clone(&self.servers);
        tokio::task::spawn_blocking(move || server::move_slot(&servers.lock(), &key))
            .await
            .unwrap();
    }

    async fn limit_memory(&self, more: Option<u64>) {
        for server in &*self.servers.lock() {
            let limit = match more {
                None => 0,
                Some(more) => {
                    let memory = server.cli(&["INFO", "memory"]);
                    let used = memory
                        .lines()
                        .find_map(|line| line.strip_prefix("used_memory:"))
                        .unwrap();
                    used.trim().parse::<u64>().unwrap() + more
                }
            };
            server.cli(&["CONFIG", "SET", "maxmemory", &limit.to_string()]);
        }
    }

    async fn remove(&self) {
        self.everywhere(&["CONFIG", "SET", "maxmemory", "0"]);
        self.everywhere(&["FLUSHALL"]);
    }
}

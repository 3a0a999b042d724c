//! Real Redis servers and sentinels on free ports, each in a folder of its own, killed when dropped.

use std::{
    ffi::OsString,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A running `redis-server`, as a server or as a sentinel.
pub(crate) struct Server {
    pub(crate) port: u16,
    arguments: Vec<String>,
    child: Option<Child>,
    folder: PathBuf,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let port = free_port();
        let folder = folder(port);
        let mut all: Vec<String> = [
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "yes",
        ]
        .map(str::to_owned)
        .into();
        all.extend(
            [
                "--maxmemory-policy",
                "noeviction",
                "--dir",
                folder.to_str().unwrap(),
            ]
            .map(str::to_owned),
        );
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let mut server = Self {
            port,
            arguments: all,
            child: None,
            folder,
        };
        server.run();
        server
    }

    /// A replica that holds what its primary does.
    pub(crate) fn replica_of(primary: &Self) -> Self {
        let replica = Self::start(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
        until("the replica to follow", || {
            replica
                .cli(&["INFO", "replication"])
                .contains("master_link_status:up")
        });
        replica
    }

    /// A sentinel that decides alone. It promotes a replica of `mymaster` soon after its primary is gone.
    pub(crate) fn sentinel_of(primary: &Self, further: &str) -> Self {
        let port = free_port();
        let folder = folder(port);
        let file = folder.join("sentinel.conf");
        let watched = primary.port;
        let settings = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor mymaster 127.0.0.1 {watched} 1\n\
             sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 3000\n{further}\n",
            folder.display()
        );
        std::fs::write(&file, settings).unwrap();
        let mut server = Self {
            port,
            arguments: vec![file.display().to_string(), "--sentinel".to_owned()],
            child: None,
            folder,
        };
        server.run();
        server
    }

    /// Starts it (again), and waits until it answers.
    pub(crate) fn run(&mut self) {
        let started = Command::new(named("REDIS_SERVER", "redis-server"))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(started.expect("redis-server is missing: apt-get install redis-server"));
        // One that wants a password first is there, too.
        until(&format!("redis-server on port {} to answer", self.port), || {
            let answer = self.cli(&["PING"]);
            answer.trim() == "PONG" || answer.contains("NOAUTH")
        });
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Keeps what was saved last, to come back to.
    pub(crate) fn keep_snapshot(&self) {
        std::fs::copy(self.folder.join("dump.rdb"), self.folder.join("kept.rdb")).unwrap();
    }

    /// A stopped server will start with what was kept.
    pub(crate) fn back_to_snapshot(&self) {
        std::fs::copy(self.folder.join("kept.rdb"), self.folder.join("dump.rdb")).unwrap();
    }

    /// What `redis-cli` prints for a command.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new(named("REDIS_CLI", "redis-cli"))
            .args(["-p", &self.port.to_string()])
            .args(arguments)
            .output();
        String::from_utf8_lossy(
            &output
                .expect("redis-cli is missing: apt-get install redis-tools")
                .stdout,
        )
        .into_owned()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Asks until it is so, for 30 s at most.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// What is run: a variable of the environment can name another version than that in `PATH`.
fn named(variable: &str, usual: &str) -> OsString {
    std::env::var_os(variable)
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| usual.into())
}

fn folder(port: u16) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("carillon-redis-{}-{port}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A port nobody listens on; below those the kernel gives out, and with room for a cluster bus above it.
pub(crate) fn free_port() -> u16 {
    for _ in 0..1_000 {
        let port = fastrand::u16(12_000..22_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok()
            && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok()
        {
            return port;
        }
    }
    panic!("no free port")
}

/// Three primaries that share all slots.
pub(crate) fn cluster() -> Vec<Server> {
    let servers: Vec<Server> = (0..3)
        .map(|_| {
            Server::start(&[
                "--appendonly",
                "no",
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "2000",
            ])
        })
        .collect();
    for (number, server) in servers.iter().enumerate() {
        let (first, last) = (number * 16_384 / 3, (number + 1) * 16_384 / 3 - 1);
        server.cli(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        server.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
    }
    // A handshake that takes too long on a busy machine is forgotten; `redis-cli --cluster create` would wait for ever.
    until("the nodes to meet", || {
        let known = servers[0].cli(&["CLUSTER", "NODES"]);
        for other in servers[1..]
            .iter()
            .filter(|other| !known.contains(&format!(":{}@", other.port)))
        {
            servers[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &other.port.to_string()]);
        }
        servers.iter().all(|server| {
            let nodes = server.cli(&["CLUSTER", "NODES"]);
            nodes.trim().lines().count() == servers.len() && !nodes.contains("handshake")
        })
    });
    until_in_service(&servers);
    servers
}

/// Until every node of a cluster serves its slots, and takes every other for served.
pub(crate) fn until_in_service(servers: &[Server]) {
    until("the cluster to be in service", || {
        servers.iter().all(|server| {
            let nodes = server.cli(&["CLUSTER", "NODES"]);
            server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
                && !nodes.contains("fail")
                && !nodes.contains("disconnected")
        })
    });
}

/// Moves the slot of a key to another server while it is in use, key by key.
pub(crate) fn move_slot(servers: &[Server], key: &str) {
    let mut moving = SlotMove::begin(servers, key);
    while moving.some_keys() {}
    moving.finish();
}

/// A slot on its way to another server.
pub(crate) struct SlotMove<'a> {
    servers: &'a [Server],
    slot: String,
    from: &'a Server,
    to: &'a Server,
}

impl<'a> SlotMove<'a> {
    pub(crate) fn begin(servers: &'a [Server], key: &str) -> Self {
        let slot = servers[0].cli(&["CLUSTER", "KEYSLOT", key]).trim().to_owned();
        let holds = |server: &&Server| !server.cli(&["EXISTS", key]).contains("MOVED");
        let from = servers.iter().find(holds).unwrap();
        let to = servers.iter().find(|server| server.port != from.port).unwrap();
        to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
        from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
        Self {
            servers,
            slot,
            from,
            to,
        }
    }

    /// Moves these keys.
    pub(crate) fn keys(&mut self, keys: &[&str]) {
        let port = self.to.port.to_string();
        let mut arguments = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        arguments.extend(keys);
        self.from.cli(&arguments);
    }

    /// Moves the next few; `false`: there are none.
    pub(crate) fn some_keys(&mut self) -> bool {
        let keys = self.from.cli(&["CLUSTER", "GETKEYSINSLOT", &self.slot, "10"]);
        let keys: Vec<&str> = keys.lines().filter(|line| !line.is_empty()).collect();
        if !keys.is_empty() {
            self.keys(&keys);
        }
        !keys.is_empty()
    }

    /// All keys are there: everybody is told.
    pub(crate) fn finish(self) {
        let first = [self.to, self.from];
        for server in first.into_iter().chain(self.servers) {
            server.cli(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &id(self.to)]);
        }
    }
}

fn id(server: &Server) -> String {
    server.cli(&["CLUSTER", "MYID"]).trim().to_owned()
}

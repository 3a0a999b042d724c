//! Real Redis servers on free ports, each in a folder of its own, killed when dropped.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A running `redis-server`.
pub(crate) struct Server {
    pub(crate) port: u16,
    arguments: Vec<String>,
    child: Option<Child>,
    folder: PathBuf,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("carillon-redis-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
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

    /// Starts it (again), and waits until it answers.
    pub(crate) fn run(&mut self) {
        let started = Command::new("redis-server")
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(started.expect("redis-server is missing: apt-get install redis-server"));
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.cli(&["PING"]).trim() != "PONG" {
            assert!(
                Instant::now() < deadline,
                "redis-server on port {} does not answer",
                self.port
            );
            std::thread::yield_now();
        }
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
        let output = Command::new("redis-cli")
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
        .map(|_| Server::start(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]))
        .collect();
    let addresses: Vec<String> = servers.iter().map(Server::address).collect();
    let mut arguments = vec!["--cluster", "create"];
    arguments.extend(addresses.iter().map(String::as_str));
    arguments.push("--cluster-yes");
    let made = Command::new("redis-cli").args(&arguments).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    let deadline = Instant::now() + Duration::from_secs(30);
    while !servers
        .iter()
        .all(|server| server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
    {
        assert!(Instant::now() < deadline, "the cluster does not form");
        std::thread::yield_now();
    }
    servers
}

/// Moves the slot of a key to another server while it is in use, key by key.
pub(crate) fn move_slot(servers: &[Server], key: &str) {
    let slot = servers[0].cli(&["CLUSTER", "KEYSLOT", key]).trim().to_owned();
    let holds = |server: &&Server| !server.cli(&["EXISTS", key]).contains("MOVED");
    let from = servers.iter().find(holds).unwrap();
    let to = servers.iter().find(|server| server.port != from.port).unwrap();
    let id = |server: &Server| server.cli(&["CLUSTER", "MYID"]).trim().to_owned();
    to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
    from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
    loop {
        let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]);
        let keys: Vec<&str> = keys.lines().filter(|line| !line.is_empty()).collect();
        if keys.is_empty() {
            break;
        }
        let port = to.port.to_string();
        let mut arguments = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        arguments.extend(keys);
        from.cli(&arguments);
    }
    for server in [to, from] {
        server.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(to)]);
    }
    for server in servers {
        server.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(to)]);
    }
}

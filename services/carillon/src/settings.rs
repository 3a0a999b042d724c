//! All settings of all commands: one tree, so that one file serves every service.

use std::{net::SocketAddr, time::Duration};

use bytesize::ByteSize;
use carillon_chassis::{
    setting_words,
    settings::{AdminSettings, LogSettings, PolicySettings, Preset, Secret, SecretUrl, TelemetrySettings},
    settings_section, settings_tree,
};

use crate::namespace::WatchedNamespace;

settings_tree! {
    /// Everything that can be set.
    pub(crate) struct Settings {
        redis: RedisSettings,
        broker: BrokerSettings,
        gateway: GatewaySettings,
        dispatcher: DispatcherSettings,
        ingest: IngestSettings,
        operator: OperatorSection,
        identity: IdentitySettings,
        policy: PolicySettings,
        admin: AdminSettings,
        log: LogSettings,
        telemetry: TelemetrySettings,
        client: ClientSettings,
    }
}

setting_words! {
    /// What stands behind the address of Redis.
    pub(crate) enum RedisMode {
        /// One server.
        Standalone = "standalone",
        /// Sentinels that know who the master is.
        Sentinel = "sentinel",
        /// A cluster.
        Cluster = "cluster",
    }
}

setting_words! {
    /// What clients are told while it can't be known who they are.
    pub(crate) enum OutageAnswer {
        /// Nothing: their transport is closed, and they come back.
        Retry = "retry",
        /// A `connect_error`.
        Tell = "tell",
    }
}

settings_section! {
    /// Where the services meet. `carillon dev` needs none of it.
    pub(crate) struct RedisSettings in "redis" {
        /// The server, a node of the cluster, or a sentinel: `redis://`, or `rediss://` for TLS, with user and password if needed.
        "url" => url: SecretUrl = "redis://127.0.0.1:6379";
        /// What stands behind the address: `standalone`, `sentinel` or `cluster`.
        "mode" => mode: RedisMode = "standalone";
        /// Further sentinels or nodes of the cluster, as `host:port`.
        "nodes" => nodes: Vec<String>;
        /// The master's name at the sentinels.
        "sentinel.master" => sentinel_master: String = "mymaster";
        /// The sentinels' user, if they have users.
        "sentinel.user" => sentinel_user: Option<String>;
        /// The sentinels' password, if they want one. The server's, in `redis.url`, is never shown to them.
        "sentinel.password" => sentinel_password: Option<Secret>;
        /// A file with the certificates of authorities to trust instead of the system's.
        "tls.ca_file" => tls_ca_file: Option<std::path::PathBuf>;
        /// What all keys begin with. No braces.
        "prefix" => prefix: String = "carillon:";
        /// Connections to each server at most, beside those that wait.
        "connections" => connections: usize = 16, range 1..=1000;
        /// How long a call may take.
        "timeout" => timeout: Duration = "2s", range "50ms"..="30s";
        /// Replicas that must hold a write before it counts, at every hop. Only the number of all replicas that may be
        /// promoted protects through a promotion: 1 with one replica, 2 with two, 3 with three.
        "wait_replicas" => wait_replicas: u32 = 0, range 0..=10;
        /// Whether a server that keeps nothing on disk is accepted.
        "allow_no_persistence" => allow_no_persistence: bool = false;
    }
}

settings_section! {
    /// What is fixed for ever when an installation is born.
    pub(crate) struct BrokerSettings in "broker" {
        /// Partitions. All services of an installation must agree.
        "partitions" => partitions: u64 = 64, range 1..=1024;
        /// Bytes the embedded broker of `carillon dev` may hold.
        "embedded.memory" => embedded_memory: ByteSize = "256MiB", range "1MiB"..="64GiB";
    }
}

settings_section! {
    /// The push-gateway.
    pub(crate) struct GatewaySettings in "gateway" {
        /// Where clients connect. Port 0 takes a free one.
        "listen" => listen: SocketAddr = "0.0.0.0:3000";
        /// The pod's name, which names this gateway's channel.
        "pod" => pod: String = Preset::computed("POD_NAME, else the host's name", host_name);
        /// Where other gateways reach this one, as `host:port`; by default at the address it listens on or, if that is any, under the name of its pod.
        "address" => address: Option<String>;
        /// Tasks that share the sessions.
        "shards" => shards: usize = Preset::computed("the number of cores", cores), range 1..=64;
        /// Sessions at most.
        "sessions" => sessions: u64 = 20000, range 1..=10000000;
        /// Bytes that may wait for one session.
        "outbox" => outbox: ByteSize = "1MiB", range "1KiB"..="1GiB";
        /// Bytes that may wait for all sessions together, replays included. Over it, sessions with the most waiting are caught up later, or closed.
        "outboxes" => outboxes: ByteSize = "256MiB", range "1MiB"..="1TiB";
        /// Rooms a session may be in, beside those it is in by who it is.
        "rooms_per_session" => rooms_per_session: usize = 200, range 1..=10000;
        /// Sessions one user may have on this gateway; each gateway counts its own.
        "sessions_per_user" => sessions_per_user: usize = 100, range 1..=1000000;
        /// Clients that may connect per second, and as many at once; more are told to come back.
        "connects" => connects: u32 = 1000, range 1..=1000000;
        /// Events a session may send per second; more are refused, ten times more close the session.
        "events.rate" => events_rate: u32 = 100, range 1..=1000000;
        /// Events a session may send at once.
        "events.burst" => events_burst: u32 = 500, range 1..=1000000;
        /// How long a user who lost the connection stays in a room with presence.
        "presence.grace" => presence_grace: Duration = "15s", range "0s"..="10m";
        /// Users a gateway names per room with presence; sessions of more count without a name.
        "presence.users" => presence_users: usize = 2000, range 1..=100000;
        /// Share of Redis' memory above which no room is joined that nobody on this gateway is in; half-way from there to full, nobody is let in any more.
        "memory_share" => memory_share: f64 = 0.9, range 0.1..=1.0;
        /// Bytes of a frame or a request of a client; never less than 480 for each of `gateway.rooms_per_session`, so that a client can bring its cursors.
        "frame" => frame: ByteSize = "100KiB", range "1KiB"..="64MiB";
        /// Bytes of recent messages kept in memory for reconnects.
        "tails" => tails: ByteSize = "64MiB";
        /// Web pages that may connect beside the gateway's own, as origins; `*` lets all.
        "origins" => origins: Vec<String>;
        /// Whether the chat page is served at `/`.
        "page" => page: bool = true;
        /// How often a client is pinged.
        "ping.interval" => ping_interval: Duration = "25s", range "100ms"..="10m";
        /// How long its answer may take.
        "ping.timeout" => ping_timeout: Duration = "20s", range "100ms"..="10m";
        /// How long a draining gateway takes at most to hand its sessions over.
        "drain.timeout" => drain_timeout: Duration = "30s", range "1s"..="1h";
        /// Sessions a draining gateway hands over per second, or more to meet its deadline.
        "drain.rate" => drain_rate: u64 = 100, range 10..=100000;
        /// What gateways prove themselves with to each other, the same for all of them. With it a request may come to any
        /// gateway, whichever holds its session; without it clients that poll need sticky sessions.
        "forwarding.secret" => forwarding_secret: Option<Secret>;
        /// Requests and WebSockets handed on to other gateways at once.
        "forwarding.requests" => forwarding_requests: usize = 20000, range 1..=1000000;
    }
}

settings_section! {
    /// The dispatcher.
    pub(crate) struct DispatcherSettings in "dispatcher" {
        /// Messages handled together at most.
        "batch" => batch: usize = 128, range 1..=10000;
        /// Bytes that may wait in a gateway's channel; over it, the channel is emptied and the gateway catches up.
        "channel" => channel: ByteSize = "16MiB", range "64KiB"..="1GiB";
        /// Dead letters that a partition keeps; the oldest of more are dropped.
        "dead_letters" => dead_letters: u64 = 10000, range 1..=1000000;
    }
}

settings_section! {
    /// The doors for producers.
    pub(crate) struct IngestSettings in "ingest" {
        /// Where producers POST. Port 0 takes a free one.
        "http.listen" => http_listen: SocketAddr = "0.0.0.0:8080";
        /// Where producers call by gRPC. Port 0 takes a free one.
        "grpc.listen" => grpc_listen: SocketAddr = "0.0.0.0:8081";
        /// A file in PEM with the certificate that is shown to who calls by gRPC, and its chain. With it and the key gRPC is served by TLS, without them in plain text.
        "grpc.tls.certificate" => grpc_tls_certificate: Option<std::path::PathBuf>;
        /// A file in PEM with the certificate's private key.
        "grpc.tls.key" => grpc_tls_key: Option<std::path::PathBuf>;
        /// Bytes of a request's body; of a line or a message, in streams.
        "body" => body: ByteSize = "1MiB", range "1KiB"..="1GiB";
        /// Bytes of one message's data.
        "message" => message: ByteSize = "64KiB", range "1KiB"..="64MiB";
        /// Messages in a batch.
        "batch" => batch: usize = 1000, range 1..=100000;
        /// Rooms a message may go to.
        "rooms" => rooms: usize = 100, range 1..=10000;
        /// How long a request may take until its outcome is unknown.
        "timeout" => timeout: Duration = "2s", range "50ms"..="1m";
        /// Messages that may wait in one partition's queue; more are refused.
        "queue" => queue: u64 = 100000, range 1..=100000000;
        /// How long idempotency keys are kept.
        "idempotency" => idempotency: Duration = "10m", range "1s"..="24h";
        /// Share of Redis' memory above which messages are refused, of producers and of clients, and lists wait, so that dispatchers can drain.
        "memory_share" => memory_share: f64 = 0.8, range 0.1..=1.0;
        /// Connections at most, at each of the two doors.
        "connections" => connections: usize = 10000, range 1..=1000000;
        /// Messages times their rooms in one request: each message is written once for each of its rooms.
        "copies" => copies: usize = 10000, range 1..=1000000;
        /// Bytes of all these copies.
        "copy_bytes" => copy_bytes: ByteSize = "16MiB", range "1KiB"..="1GiB";
        /// Bytes of bodies and copies that all requests together may hold in memory; what comes on top is refused.
        "buffered" => buffered: ByteSize = "256MiB", range "1MiB"..="64GiB";
        /// How long a connection may stand still, and how long a request's header may take.
        "idle_timeout" => idle_timeout: Duration = "1m", range "1s"..="1h";
        /// How long a request's body may take; in a stream of lines, how long a line that was begun may take.
        "body_timeout" => body_timeout: Duration = "30s", range "100ms"..="10m";
    }
}

settings_section! {
    /// The operator. Only `carillon operator` reads it.
    pub(crate) struct OperatorSection in "operator" {
        /// Its own namespace: the PushCluster, the pods and the Lease are there. Empty takes the kube config's.
        "namespace" => namespace: String = Preset::computed("POD_NAMESPACE, else the kube config's", pod_namespace);
        /// Namespaces whose PushRooms and PushProducers count; `*` for all. Without any, its own.
        "watch" => watch: Vec<WatchedNamespace>;
        /// The PushCluster that it answers for.
        "cluster" => cluster: String = "carillon";
        /// Which pods and Deployments are this installation's, as a label selector.
        "selector" => selector: String = "app.kubernetes.io/name=carillon";
        /// The Lease by which replicas agree which of them acts.
        "lease" => lease: String = "carillon-operator";
    }
}

settings_section! {
    /// Who clients are.
    pub(crate) struct IdentitySettings in "identity" {
        /// The secret that HS256 tokens are signed with.
        "hs256_secret" => hs256_secret: Option<Secret>;
        /// Files with public keys that tokens are signed for, one each, in PEM: RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA).
        "public_keys" => public_keys: Vec<std::path::PathBuf>;
        /// Where an issuer serves its public keys as a JSON Web Key Set.
        "jwks.url" => jwks_url: Option<SecretUrl>;
        /// How often they are fetched. A token with an unknown `kid` has them fetched at once.
        "jwks.refresh" => jwks_refresh: Duration = "5m", range "1s"..="24h";
        /// How soon after one fetch an unknown `kid` may lead to the next.
        "jwks.cooldown" => jwks_cooldown: Duration = "10s", range "100ms"..="1h";
        /// How old keys may get while they can't be fetched. Then tokens are refused.
        "jwks.stale" => jwks_stale: Duration = "24h", range "1s"..="30d";
        /// How long a fetch may take.
        "jwks.timeout" => jwks_timeout: Duration = "5s", range "100ms"..="1m";
        /// Audiences, one of which a token's `aud` must name. Without any, `aud` is not looked at.
        "audience" => audience: Vec<String>;
        /// Issuers, one of which a token's `iss` must be. Without any, `iss` is not looked at.
        "issuers" => issuers: Vec<String>;
        /// By how much the clocks of issuers may differ from ours.
        "leeway" => leeway: Duration = "30s", range "0s"..="10m";
        /// How long a session whose token has expired may take to bring another before its transport is closed.
        "refresh_grace" => refresh_grace: Duration = "1m", range "100ms"..="1h";
        /// What a client meets while the issuer's keys or the login store are away: `retry` closes its transport, so that stock clients come back by themselves; `tell` sends a `connect_error` with the code, after which they stay away.
        "outage" => outage: OutageAnswer = "retry";
        /// Secrets that the login cookies of a web application are signed with: `express-session`'s own and former ones. One with a comma can only be set in a file, as an item of a list. Without any, cookies are not looked at.
        "cookie.secrets" => cookie_secrets: Vec<Secret>;
        /// The cookie's name.
        "cookie.name" => cookie_name: String = "connect.sid";
        /// The Redis with the logins, if it is another one than `redis.url`. One server, or one behind a proxy.
        "cookie.store.url" => cookie_store_url: Option<SecretUrl>;
        /// What the keys of logins begin with.
        "cookie.store.prefix" => cookie_store_prefix: String = "sess:";
        /// How long a look at a login may take.
        "cookie.store.timeout" => cookie_store_timeout: Duration = "1s", range "50ms"..="10s";
        /// How often the login of a session is looked at again, give or take a quarter. Whoever logged out keeps the connection that long at most; a store that does not answer ends nobody's.
        "cookie.recheck" => cookie_recheck: Duration = "1m", range "1s"..="1h";
        /// Where in a login's JSON the user's id is, as a JSON pointer. Passport's is `/passport/user`.
        "cookie.user.pointer" => cookie_user_pointer: String = "/user/id";
        /// What is put before that id to name the user.
        "cookie.user.prefix" => cookie_user_prefix: String = "";
    }
}

settings_section! {
    /// What `carillon push` and `carillon tail` talk to. Services do not read it.
    pub(crate) struct ClientSettings in "client" {
        /// The ingest to send messages to.
        "ingest" => ingest: String = "http://127.0.0.1:8080";
        /// The producer's key.
        "key" => key: Option<Secret>;
        /// The gateways to listen at; one after the other is tried.
        "gateways" => gateways: Vec<String> = "http://127.0.0.1:3000";
        /// The token to listen with.
        "token" => token: Option<Secret>;
    }
}

/// The pod's name: Kubernetes tells it through the downward API.
fn host_name() -> String {
    let from_environment = std::env::var("POD_NAME").ok().filter(|name| !name.is_empty());
    let from_host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    from_environment
        .or_else(from_host)
        .map_or_else(|| "carillon".to_owned(), |name| name.trim().to_owned())
}

/// The pod's namespace: Kubernetes tells it through the downward API.
fn pod_namespace() -> String {
    std::env::var("POD_NAMESPACE").unwrap_or_default()
}

fn cores() -> String {
    std::thread::available_parallelism()
        .map_or(2, usize::from)
        .min(64)
        .to_string()
}

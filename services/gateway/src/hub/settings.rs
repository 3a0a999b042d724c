//! What can be set of the hub.

use std::time::Duration;

/// The hub's settings; the defaults are those of DESIGN §13.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// The pod's name: the first half of every incarnation.
    pub pod: String,
    /// Where other gateways reach this one (`host:port`).
    pub address: String,
    /// Shards: tasks that each own a part of the sessions. 1 to 64.
    pub shards: usize,
    /// Sessions at most.
    pub capacity: u64,
    /// Bytes that may wait for one session.
    pub outbox_bytes: usize,
    /// Bytes that may wait for all sessions together.
    pub outboxes_bytes: usize,
    /// Bytes of publishes of all sessions that may wait to be kept.
    pub publishes_bytes: usize,
    /// Rooms a session may join on request.
    pub rooms_per_session: usize,
    /// Bytes of one message's data.
    pub message_bytes: usize,
    /// Entries a partition's queue may hold before clients' publishes are refused.
    pub queue_limit: u64,
    /// How long clients' idempotency keys are kept.
    pub keep_keys: Duration,
    /// Bytes of recent messages kept in memory per room and shard.
    pub tail_bytes: usize,
    /// Bytes of recent messages kept in memory altogether.
    pub tails_bytes: usize,
    /// Entries in a page of history.
    pub page_entries: usize,
    /// Bytes in a page of history.
    pub page_bytes: usize,
    /// Pages of different rooms that are read at once: fewer than there are connections to a server.
    pub concurrent_reads: usize,
    /// Reads of newest messages, for clients that look back, that are under way at once.
    pub newest_reads: usize,
    /// Different ones of them that may wait; more are refused.
    pub newest_waiting: usize,
    /// How long one may wait.
    pub newest_patience: Duration,
    /// Bytes that one of them may bring.
    pub newest_bytes: usize,
    /// Bytes that all of them may bring per second.
    pub newest_bytes_per_second: usize,
    /// How long a room without members keeps its route.
    pub linger: Duration,
    /// How often routes are renewed; a third of how long they are kept.
    pub route_refresh: Duration,
    /// How long the incarnation lives without renewal.
    pub alive_for: Duration,
    /// How often it is renewed.
    pub renew: Duration,
    /// How often the servers' lives are looked at.
    pub look_at_lives: Duration,
    /// When rooms are caught up once more after a failover.
    pub second_look: Duration,
    /// How long a place above everything the queue ever held is doubted before it goes down: longer than it takes to
    /// give an old primary up.
    pub doubt: Duration,
    /// How long a user who lost the last session stays in a room with presence.
    pub presence_grace: Duration,
    /// How often rooms are looked at whose presence somebody watches.
    pub presence_look: Duration,
    /// How often everything stated of presence is stated again; a third of how long it is kept.
    pub presence_refresh: Duration,
    /// Users that are stated by name per room; sessions of more count without one.
    pub presence_users: usize,
    /// Users that are named to a client at once.
    pub presence_listed: usize,
    /// How often others are told of this gateway's state.
    pub report: Duration,
    /// How long a read of the channel waits.
    pub channel_block: Duration,
    /// How much longer than its time a read may take before it is given up.
    pub watchdog: Duration,
    /// How long a failed call waits before it is tried again.
    pub retry: Duration,
    /// How long the broker may be silent before the gateway is unready.
    pub health_patience: Duration,
    /// By how much this gateway's probes may be behind the others' before it is unready.
    pub probe_patience: Duration,
    /// The longest a draining gateway takes to hand its sessions over.
    pub drain_timeout: Duration,
    /// Sessions handed over per second at least, so that a small gateway is gone soon; a larger one goes faster, to
    /// meet its deadline.
    pub drain_rate: u64,
}

impl HubSettings {
    /// The defaults, for a pod of this name.
    pub fn new(pod: impl Into<String>) -> Self {
        Self {
            pod: pod.into(),
            address: String::new(),
            shards: 2,
            capacity: 20_000,
            outbox_bytes: 1 << 20,
            outboxes_bytes: 256 << 20,
            publishes_bytes: 64 << 20,
            rooms_per_session: 200,
            message_bytes: 64 << 10,
            queue_limit: 100_000,
            keep_keys: super::publish::KEEP_KEYS,
            tail_bytes: 64 << 10,
            tails_bytes: 64 << 20,
            page_entries: 500,
            page_bytes: 256 << 10,
            concurrent_reads: 8,
            newest_reads: 4,
            newest_waiting: 1024,
            newest_patience: Duration::from_secs(5),
            newest_bytes: 512 << 10,
            newest_bytes_per_second: 32 << 20,
            linger: Duration::from_secs(30),
            route_refresh: Duration::from_secs(8 * 3600),
            alive_for: Duration::from_secs(10),
            renew: Duration::from_secs(2),
            look_at_lives: Duration::from_secs(1),
            second_look: Duration::from_secs(30),
            doubt: Duration::from_secs(2),
            presence_grace: Duration::from_secs(15),
            presence_look: Duration::from_secs(1),
            presence_refresh: carillon_broker::presence::PRESENCE_KEPT / 3,
            presence_users: 2_000,
            presence_listed: 1_000,
            report: Duration::from_secs(5),
            channel_block: Duration::from_secs(2),
            watchdog: Duration::from_secs(5),
            retry: super::routes::RETRY,
            health_patience: Duration::from_secs(4),
            probe_patience: Duration::from_secs(20),
            drain_timeout: Duration::from_secs(30),
            drain_rate: 100,
        }
    }
}

//! What can be set of the transport.

use std::time::Duration;

use carillon_chassis::telemetry::TracedShare;

use super::{origin::Origins, peers::Forwarding};
use crate::identity::Identities;

/// The transport's settings; the defaults are those of DESIGN §13 and of Socket.IO itself.
#[derive(Clone, Debug)]
pub struct TransportSettings {
    /// Web origins that may connect beside the gateway's own.
    pub origins: Origins,
    /// What tells who a client is.
    pub identities: Identities,
    /// How long a session whose token has expired may take to bring another.
    pub refresh_grace: Duration,
    /// Whether a client that can't be identified because of an outage is told so, after which a stock client stays away,
    /// instead of being made to come back by itself.
    pub tell_outages: bool,
    /// TCP connections at most. A session that polls may hold two.
    pub connections: usize,
    /// Bytes of one message or one polling request of a client.
    pub message_bytes: usize,
    /// Sessions a user may have in this process.
    pub sessions_per_user: usize,
    /// Clients that may connect per second, and as many at once.
    pub connects: u32,
    /// Events a session may send per second.
    pub events: u32,
    /// Events a session may send at once.
    pub events_at_once: u32,
    /// How often a ping is sent.
    pub ping_interval: Duration,
    /// How long its answer may take.
    pub ping_timeout: Duration,
    /// How long a client may take from its connection to its `CONNECT`.
    pub connect_timeout: Duration,
    /// How long the headers of a request may take, and how long a connection may wait for its next request.
    pub header_timeout: Duration,
    /// Bytes the kernel may hold for one connection that reads slowly.
    pub send_buffer: usize,
    /// How long a closed connection may take to write its last bytes before it is ended.
    pub close_timeout: Duration,
    /// How long after the start of a drain the transport gives up on connections that are still there.
    pub drain_timeout: Duration,
    /// Whether the chat page is served at `/`.
    pub page: bool,
    /// How requests of sessions at other gateways are handed on to them; without it they are refused.
    pub forwarding: Option<Forwarding>,
    /// The share of clients' publishes whose trace is recorded.
    pub traced: TracedShare,
}

impl Default for TransportSettings {
    fn default() -> Self {
        Self {
            origins: Origins::default(),
            identities: Identities::default(),
            refresh_grace: Duration::from_secs(60),
            tell_outages: false,
            connections: 60_000,
            message_bytes: 100 << 10,
            sessions_per_user: 100,
            connects: 1_000,
            events: 100,
            events_at_once: 500,
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(20),
            header_timeout: Duration::from_secs(15),
            send_buffer: 64 << 10,
            close_timeout: Duration::from_secs(3),
            drain_timeout: Duration::from_secs(30),
            page: true,
            forwarding: None,
            traced: TracedShare::default(),
        }
    }
}

//! The transport: Socket.IO for stock clients, on [engineioxide](engineioxide).
//!
//! It brings clients and [hub](crate::hub) together, and knows nothing of Redis. A client's road through it:
//!
//! - [`listener`] accepts, [`io`] wraps the connection, [`http`] routes its requests: [`page`] or Engine.IO, [`posted`] is what polling
//!   clients send, and [`responses`] are what comes back;
//! - [`origin`] judges the web page a browser comes from;
//! - [`websocket`] takes a connection out of HTTP, [`frames`] watches what goes by;
//! - [`engine`] hears of connections and packets ([`packet`]), [`session`] is a client from its [`admission`]
//!   ([`handshake`]) to its [`expiry`] and becomes its [`writer`], [`incoming`] is what it says;
//! - [`flow`] hands packets to Engine.IO without filling its queue;
//! - [`peers`] hands requests of sessions at other gateways on to them;
//! - [`limits`] bounds what one process, user and session may do;
//! - [`requests`] does what the client asks for, [`publishing`] takes what it wants to be sent, [`answers`] says what
//!   became of it.
//!
//! Engine.IO (WebSockets, polling, upgrades, heartbeats) is the library's; the thin Socket.IO layer on top is ours.
//! The library's own can't close the transport of one client (a client that is disconnected in Socket.IO's sense
//! doesn't come back), gives the secret Engine.IO id to be shown as the session's, and has rooms where we have a hub.

mod acknowledgements;
mod admission;
mod answers;
mod engine;
mod expiry;
mod flow;
mod frames;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod handshake;
mod http;
mod incoming;
mod io;
mod limits;
mod listener;
mod login;
mod metrics;
mod origin;
mod packet;
mod page;
mod peers;
mod posted;
mod publishing;
mod requests;
mod responses;
mod session;
mod settings;
mod websocket;
mod writer;

use std::{future::Future, sync::Arc};

use carillon_model::policy::Policy;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

pub use handshake::HandshakeCode;
pub use metrics::TransportMetrics;
pub use origin::{InvalidOrigin, Origins};
pub use peers::{Forwarding, ForwardingSecret};
pub use settings::TransportSettings;

use crate::hub::Hub;

/// Brings clients to a hub over one kind of connection.
pub trait Transport: Send + 'static {
    /// Serves the listener until a drain has ended: from the moment `draining` is cancelled no session is taken in; those
    /// that are there are closed by the hub. Answers when no connection is left, or when the time for that is up.
    fn serve(self, listener: TcpListener, draining: CancellationToken) -> impl Future<Output = ()> + Send;
}

/// Socket.IO, revisions 4 and 5, over WebSockets and polling.
#[derive(Debug)]
pub struct SocketIo {
    /// Where sessions and messages are.
    pub hub: Hub,
    /// Who may connect; it may change at any time.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// What was set.
    pub settings: TransportSettings,
    /// What is counted.
    pub metrics: TransportMetrics,
}

impl Transport for SocketIo {
    async fn serve(self, listener: TcpListener, draining: CancellationToken) {
        let shared = engine::Shared {
            peers: self
                .settings
                .forwarding
                .as_ref()
                .map(|forwarding| Arc::new(peers::Peers::new(forwarding, &self.settings, &self.metrics))),
            limits: limits::Limits::new(&self.settings),
            hub: self.hub,
            policy: self.policy,
            settings: self.settings,
            metrics: self.metrics,
            sockets: engine::Sockets::default(),
            acknowledgements: acknowledgements::places(),
            draining,
        };
        listener::serve(listener, Arc::new(shared)).await;
    }
}

//! Our ear at Engine.IO: it opens sessions, hears packets and learns of ends.

use std::{fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use carillon_model::{collections::LookupMap, policy::Policy};
use engineioxide::{
    DisconnectReason, Str, config::EngineIoConfig, handler::EngineIoHandler, service::EngineIoService,
    socket::Sid,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{
    flow, incoming,
    limits::Limits,
    metrics::TransportMetrics,
    peers::Peers,
    session::{self, EngineSocket, Slot},
    settings::TransportSettings,
    websocket::Wire,
};
use crate::hub::Hub;

/// What everything in the transport shares.
pub(super) struct Shared {
    pub(super) hub: Hub,
    pub(super) policy: watch::Receiver<Arc<Policy>>,
    pub(super) settings: TransportSettings,
    pub(super) metrics: TransportMetrics,
    pub(super) limits: Limits,
    /// The way to other gateways, if sessions name theirs.
    pub(super) peers: Option<Arc<Peers>>,
    pub(super) sockets: Sockets,
    /// Places for acknowledgements that are awaited.
    pub(super) acknowledgements: Arc<Semaphore>,
    /// Cancelled when the gateway hands its sessions over.
    pub(super) draining: CancellationToken,
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Shared")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// The Engine.IO connections there are, by their id.
#[derive(Default)]
pub(super) struct Sockets {
    by_id: Mutex<LookupMap<Sid, Arc<EngineSocket>>>,
    left: Notify,
}

impl Sockets {
    /// The connection with this id, as a request's query names it.
    pub(super) fn get(&self, id: &str) -> Option<Arc<EngineSocket>> {
        self.by_id.lock().get(&Sid::from_str(id).ok()?).cloned()
    }

    /// Waits until there is none.
    pub(super) async fn none_left(&self) {
        loop {
            let left = self.left.notified();
            if self.by_id.lock().is_empty() {
                return;
            }
            left.await;
        }
    }
}

/// What Engine.IO calls.
#[derive(Debug)]
pub(super) struct Ear(pub(super) Arc<Shared>);

impl EngineIoHandler for Ear {
    type Data = Slot;

    fn on_connect(self: Arc<Self>, socket: Arc<EngineSocket>) {
        socket.data.flow.of(&socket);
        *socket.data.wire.lock() = socket.req_parts.extensions.get::<Wire>().cloned();
        self.0.sockets.by_id.lock().insert(socket.id, Arc::clone(&socket));
        session::open(Arc::clone(&self.0), socket);
    }

    fn on_disconnect(&self, socket: Arc<EngineSocket>, reason: DisconnectReason) {
        socket.data.ended(reason);
        let mut by_id = self.0.sockets.by_id.lock();
        by_id.remove(&socket.id);
        if by_id.is_empty() {
            self.0.sockets.left.notify_waiters();
        }
    }

    fn on_message(self: &Arc<Self>, message: Str, socket: Arc<EngineSocket>) {
        incoming::text(&self.0, &socket, &message);
    }

    fn on_binary(self: &Arc<Self>, data: Bytes, socket: Arc<EngineSocket>) {
        incoming::attachment(&self.0, &socket, &data);
    }
}

/// Engine.IO, versions 3 and 4, as a service for requests and for WebSockets.
pub(super) type Engine = EngineIoService<Ear>;

pub(super) fn engine(shared: &Arc<Shared>) -> Engine {
    let settings = &shared.settings;
    let config = EngineIoConfig::builder()
        .req_path("/socket.io")
        .ping_interval(settings.ping_interval)
        .ping_timeout(settings.ping_timeout)
        .max_payload(settings.message_bytes as u64)
        .ws_max_message_size(settings.message_bytes)
        .ws_max_frame_size(settings.message_bytes)
        .ws_read_buffer_size(1 << 10)
        // Places for packets of ours and some for pings and upgrades.
        .max_buffer_size(flow::PACKETS + 32)
        .build();
    EngineIoService::with_config(Arc::new(Ear(Arc::clone(shared))), config)
}

//! From a request to a WebSocket.
//!
//! We do the upgrade ourselves and hand Engine.IO the bare connection: hyper and its buffers are gone by then, we see
//! frames that are too large, and the hub can end a connection whose writer is stuck.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::{Buf, Bytes};
use carillon_chassis::metrics::GaugeGuard;
use engineioxide::{DisconnectReason, TransportType};
use http::{HeaderMap, HeaderValue, Request, header};
use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Handle,
};

use super::{
    engine::{Engine, Shared},
    frames::FrameWatch,
    io::{Connection, KillSwitch},
    session::EngineSocket,
};

/// What a session knows of the WebSocket beneath it.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) switch: KillSwitch,
    pub(super) too_large: Arc<AtomicBool>,
}

impl Wire {
    pub(super) fn new(switch: KillSwitch) -> Self {
        Self {
            switch,
            too_large: Arc::default(),
        }
    }
}

/// The answer to `Sec-WebSocket-Key` (RFC 6455, section 4.2.2), if the request is one for a WebSocket.
pub(super) fn accept(headers: &HeaderMap) -> Option<HeaderValue> {
    const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let version = headers.get(header::SEC_WEBSOCKET_VERSION)?;
    let upgrade = headers.get(header::UPGRADE)?;
    if version != "13" || !upgrade.as_bytes().eq_ignore_ascii_case(b"websocket") {
        return None;
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    let hash = Sha1::new()
        .chain_update(key.as_bytes())
        .chain_update(MAGIC)
        .finalize();
    HeaderValue::from_str(&BASE64_STANDARD.encode(hash)).ok()
}

/// Waits for the upgrade and hands the connection to Engine.IO. `request` names the session; `socket` is that session
/// if it exists already and polls.
pub(super) async fn take_over(
    shared: Arc<Shared>,
    engine: Engine,
    upgrade: OnUpgrade,
    mut request: Request<()>,
    wire: Wire,
    socket: Option<Arc<EngineSocket>>,
) {
    let parts = match upgrade
        .await
        .map(|upgraded| upgraded.downcast::<TokioIo<Connection>>())
    {
        Ok(Ok(parts)) => parts,
        Ok(Err(_)) => return tracing::error!("an upgraded connection is not ours"),
        Err(error) => return tracing::debug!(%error, "an upgrade failed"),
    };
    let Parts { io, read_buf, .. } = parts;
    if let Some(socket) = &socket {
        *socket.data.wire.lock() = Some(wire.clone());
    }
    request.extensions_mut().insert(wire.clone());
    let limit = shared.settings.message_bytes as u64;
    let stream = WireStream {
        connection: io.into_inner(),
        early: read_buf,
        watch: FrameWatch::new(limit),
        wire,
        upgrading: socket,
        _gauge: shared.metrics.websocket(),
    };
    if let Err(error) = hyper::service::Service::call(&engine, (stream, request)).await {
        tracing::debug!(%error, "a WebSocket was not taken");
    }
}

/// A WebSocket's connection as Engine.IO uses it.
struct WireStream {
    connection: Connection,
    /// What was read behind the request.
    early: Bytes,
    watch: FrameWatch,
    wire: Wire,
    /// The session that shall go on here instead of polling.
    upgrading: Option<Arc<EngineSocket>>,
    _gauge: GaugeGuard,
}

impl WireStream {
    fn look(&mut self, bytes: &[u8]) {
        if self.watch.look(bytes) {
            self.wire.too_large.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for WireStream {
    fn drop(&mut self) {
        // A session whose upgrade broke off would wait for it for ever.
        if let Some(socket) = self.upgrading.take()
            && socket.transport_type() != TransportType::Websocket
            && Handle::try_current().is_ok()
        {
            socket.close(DisconnectReason::TransportError);
        }
    }
}

impl AsyncRead for WireStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.early.has_remaining() {
            let count = self.early.len().min(buffer.remaining());
            let early = self.early.split_to(count);
            buffer.put_slice(&early);
        } else {
            std::task::ready!(Pin::new(&mut self.connection).poll_read(context, buffer))?;
        }
        let (_, new) = buffer.filled().split_at(before);
        self.look(new);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WireStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_answered_as_the_rfc_says() {
        let mut headers = HeaderMap::new();
        headers.insert(header::UPGRADE, HeaderValue::from_static("WebSocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        assert_eq!(accept(&headers), None);
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
        assert_eq!(accept(&headers).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}

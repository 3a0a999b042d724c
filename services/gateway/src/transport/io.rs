//! A client's TCP connection, with what the library above does not do.
//!
//! A client that stops reading but keeps its connection (a phone in a tunnel, a paused debugger) leaves a writer stuck
//! in a flush, where neither heartbeats nor a close reach it. Three things bound that: the kernel gives up on data that
//! stays unacknowledged (`TCP_USER_TIMEOUT`), it holds little of it (`SO_SNDBUF`), and a [`KillSwitch`] ends the
//! connection at once.

use std::{
    io,
    net::Shutdown,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use prometheus::IntCounter;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
};

/// A connection that can be ended from elsewhere.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Arc<TcpStream>,
    written: IntCounter,
    /// Its place among the connections there may be.
    place: Option<OwnedSemaphorePermit>,
}

/// Ends one connection, if it is still there.
#[derive(Clone, Debug)]
pub(super) struct KillSwitch(Weak<TcpStream>);

impl KillSwitch {
    /// Ends the connection: whoever reads or writes gets an error, and the kernel throws away what it holds.
    pub(super) fn kill(&self) {
        if let Some(stream) = self.0.upgrade() {
            let socket = SockRef::from(&*stream);
            // Both fail only where the connection has ended already.
            let _ = socket.set_linger(Some(Duration::ZERO));
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Whether the connection is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl Connection {
    /// Takes over an accepted stream. `patience`: how long the peer may leave data unacknowledged; `send_buffer`: bytes
    /// the kernel may hold for it.
    pub(super) fn new(
        stream: TcpStream,
        patience: Duration,
        send_buffer: usize,
        written: IntCounter,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_send_buffer_size(send_buffer)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(patience))?;
        #[cfg(not(target_os = "linux"))]
        let _ = patience;
        Ok(Self {
            stream: Arc::new(stream),
            written,
            place: None,
        })
    }

    /// Keeps a place until the connection ends.
    pub(super) fn hold(&mut self, place: OwnedSemaphorePermit) {
        self.place = Some(place);
    }

    /// The switch that ends it.
    pub(super) fn kill_switch(&self) -> KillSwitch {
        KillSwitch(Arc::downgrade(&self.stream))
    }

    fn poll_write_with(
        &self,
        context: &mut Context<'_>,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(count) => {
                    self.written.inc_by(count as u64);
                    return Poll::Ready(Ok(count));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            match self.stream.try_read(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |stream| stream.try_write(buffer))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |stream| stream.try_write_vectored(buffers))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match SockRef::from(&*self.stream).shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn the_switch_ends_a_writer_that_is_stuck() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let counter = IntCounter::new("written", "bytes").unwrap();
        let mut connection =
            Connection::new(stream, Duration::from_secs(45), 16 << 10, counter.clone()).unwrap();
        client.write_all(b"hello").await.unwrap();
        let mut hello = [0; 5];
        connection.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"hello");

        let switch = connection.kill_switch();
        let writer = tokio::spawn(async move {
            let chunk = vec![0; 64 << 10];
            while connection.write_all(&chunk).await.is_ok() {}
        });
        // The client reads nothing: the writer stands still once the kernel's buffers are full.
        let mut before = u64::MAX;
        while counter.get() != before {
            before = counter.get();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(!writer.is_finished() && !switch.is_gone());
        switch.kill();
        writer.await.unwrap();
        assert!(switch.is_gone());
    }
}

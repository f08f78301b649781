//! Connections of clients. Each has a session of its own, so that what one client `SET`s ends with its connection and touches no other.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::Connected;

use super::limits::CONNECTIONS_MAX;
use crate::Session;

/// When no connection can be accepted (no file handles left, say), this long passes before the next attempt.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// What a request knows of the connection it came over.
#[derive(Clone)]
pub(super) struct Client {
    session: Arc<OnceLock<Session>>,
}

impl Client {
    /// The connection's session, made for its first request.
    pub(super) fn session(&self, base: &Session) -> Session {
        self.session.get_or_init(|| base.for_client()).clone()
    }
}

/// A TCP connection and what hangs on it.
pub(super) struct Connection {
    stream: TcpStream,
    client: Client,
    _one_of_all: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Client;

    fn connect_info(&self) -> Client {
        self.client.clone()
    }
}

/// Connections as they come. Those beyond the bound wait to be accepted until another one ends.
pub(super) fn accepted(listener: TcpListener) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    stream::unfold((listener, places), |(listener, places)| async move {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let stream = loop {
            match listener.accept().await {
                Ok((stream, _)) => break stream,
                Err(why) => {
                    tracing::warn!("cannot accept a Flight SQL connection: {why}");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        };
        // Small answers are not held back; if that cannot be set, they come later.
        let _ = stream.set_nodelay(true);
        let connection = Connection { stream, client: Client { session: Arc::default() }, _one_of_all: place };
        Some((Ok(connection), (listener, places)))
    })
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

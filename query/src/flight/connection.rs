//! Connections of clients. Each has a session of its own, so that what one client `SET`s ends with its connection and touches no other.
//!
//! A connection that has not yet spoken HTTP/2 waits, for a short time, and the oldest of those makes room for a new one: silent ones lock
//! no others out. One that has spoken takes a place; if there is none, each of its calls is answered with the reason.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{FutureExt, Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Sleep, sleep};
use tonic::transport::server::Connected;
use tonic::{Code, Request, Status};
use watershed_message::Message;

use super::limits::{CONNECTIONS_MAX, CROWDED_KEPT, CROWDED_MAX, SILENT_KEPT, SILENT_MAX};
use super::status::said;
use crate::counters;
use crate::{ServerCounters, Session};

/// When no connection can be accepted (no file handles left, say), this long passes before the next attempt.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// With so many bytes HTTP/2 begins: its preface, and the head of the first frame.
const PREFACE_BYTES: usize = 24 + 9;

/// What a request knows of the connection it came over.
#[derive(Clone)]
pub(super) struct Client {
    session: Arc<OnceLock<Session>>,
    peer: SocketAddr,
    /// There was no place for the connection.
    crowded: Arc<AtomicBool>,
}

impl Client {
    /// The connection's session, made for its first request.
    pub(super) fn session(&self, base: &Session) -> Session {
        self.session.get_or_init(|| base.for_client()).clone()
    }

    /// Where it comes from.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }
}

/// Lets a call through, unless there was no place for its connection.
#[allow(clippy::result_large_err, reason = "it is the type of tonic's interceptors")]
pub(super) fn let_through(request: Request<()>) -> Result<Request<()>, Status> {
    match request.extensions().get::<Client>() {
        Some(client) if client.crowded.load(Ordering::Relaxed) => {
            let message = Message::new("the connection was not taken")
                .why(format!("{CONNECTIONS_MAX} clients are connected already"))
                .next("close a connection that is not used, or try again");
            Err(said(Code::ResourceExhausted, &message))
        }
        _ => Ok(request),
    }
}

/// A TCP connection and what hangs on it.
pub(super) struct Connection {
    stream: TcpStream,
    client: Client,
    lobby: Arc<Lobby>,
    /// Until it has spoken.
    waiting: Option<Waiting>,
    /// When it ends, unless it takes a place before.
    ends: Option<Pin<Box<Sleep>>>,
    place: Option<OwnedSemaphorePermit>,
    _counted: counters::Connected,
}

impl Connected for Connection {
    type ConnectInfo = Client;

    fn connect_info(&self) -> Client {
        self.client.clone()
    }
}

/// Connections as they come.
pub(super) fn accepted(listener: TcpListener, counters: Arc<ServerCounters>) -> impl Stream<Item = io::Result<Connection>> {
    let lobby = Arc::new(Lobby {
        counters,
        places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        crowded: Arc::new(Semaphore::new(CROWDED_MAX)),
        waiting: Mutex::default(),
    });
    stream::unfold((listener, lobby), |(listener, lobby)| async move {
        let (stream, peer) = loop {
            match listener.accept().await {
                Ok(accepted) => break accepted,
                Err(why) => {
                    tracing::warn!("cannot accept a Flight SQL connection: {why}");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        };
        // Small answers are not held back; if that cannot be set, they come later.
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            stream,
            client: Client { session: Arc::default(), peer, crowded: Arc::default() },
            waiting: Some(lobby.wait()),
            ends: Some(Box::pin(sleep(SILENT_KEPT))),
            place: None,
            _counted: lobby.counters.connected(),
            lobby: Arc::clone(&lobby),
        };
        Some((Ok(connection), (listener, lobby)))
    })
}

/// All connections of a server.
struct Lobby {
    counters: Arc<ServerCounters>,
    places: Arc<Semaphore>,
    /// Places of those that only get the answer that there is none.
    crowded: Arc<Semaphore>,
    /// In the order they came; what is sent sends one away.
    waiting: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    next: u64,
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
}

impl Lobby {
    /// A place among those that wait; the oldest goes if there are too many.
    fn wait(self: &Arc<Self>) -> Waiting {
        let mut queue = self.lock();
        if queue.waiting.len() >= SILENT_MAX
            && let Some((_, oldest)) = queue.waiting.pop_front()
        {
            // It may have left by itself.
            let _ = oldest.send(());
        }
        queue.next += 1;
        let (id, (sender, sent_away)) = (queue.next, oneshot::channel());
        queue.waiting.push_back((id, sender));
        Waiting { lobby: Arc::clone(self), id, spoken: 0, sent_away }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that has not spoken.
struct Waiting {
    lobby: Arc<Lobby>,
    id: u64,
    spoken: usize,
    sent_away: oneshot::Receiver<()>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.lobby.lock().waiting.retain(|(id, _)| *id != self.id);
    }
}

impl Connection {
    /// It has spoken: it takes a place, or a moment in which it gets the answer that there is none.
    fn takes_place(&mut self) -> io::Result<()> {
        self.waiting = None;
        self.place = Arc::clone(&self.lobby.places).try_acquire_owned().ok();
        if self.place.is_some() {
            self.ends = None;
            return Ok(());
        }
        self.lobby.counters.turn_away();
        self.client.crowded.store(true, Ordering::Relaxed);
        self.ends = Some(Box::pin(sleep(CROWDED_KEPT)));
        self.place = Arc::clone(&self.lobby.crowded).try_acquire_owned().ok();
        if self.place.is_some() { Ok(()) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
    }

    /// Ready when it has been there too long without a place.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let sent_away = self.waiting.as_mut().is_some_and(|waiting| matches!(waiting.sent_away.poll_unpin(context), Poll::Ready(Ok(()))));
        let out_of_time = self.ends.as_mut().is_some_and(|ends| ends.poll_unpin(context).is_ready());
        if !sent_away && !out_of_time {
            return Poll::Pending;
        }
        if self.waiting.take().is_some() {
            self.lobby.counters.turn_away();
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(waiting) = &mut self.waiting {
            waiting.spoken += buffer.filled().len() - before;
            if waiting.spoken >= PREFACE_BYTES {
                self.takes_place()?;
            }
        }
        if read.is_pending() && self.poll_end(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
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

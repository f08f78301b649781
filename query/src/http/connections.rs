//! Connections of the HTTP server: how many there are, how long they may be silent, and what is answered when there are too many.
//!
//! A connection *waits* until the head of its first request is there, then it is *served*. Of those that wait, a new one takes the place of
//! the oldest: silent ones lock no others out. Of those served, a new one takes the place of the one that has been idle longest; if all are
//! at work it is turned away with the reason, except for who looks after the process.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::head::{self, Head, LEAVE_WAIT, UNREAD_BYTES_MAX, turn_away};
use super::problem::Problem;
use crate::counters::ServerCounters;

/// How many, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections whose first request has not come.
    pub waiting_max: usize,
    /// Connections that are served.
    pub served_max: usize,
    /// Connections beyond that for `/healthz`, `/readyz` and `/metrics`.
    pub supervisors_max: usize,
    /// How long the head of a request may take.
    pub head_time_max: Duration,
    /// How long a connection may be idle between two requests.
    pub idle_time_max: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            waiting_max: 128,
            served_max: 128,
            supervisors_max: 16,
            head_time_max: Duration::from_secs(10),
            idle_time_max: Duration::from_secs(60),
        }
    }
}

/// Where a request comes from, among its extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Requests at once over one connection of HTTP/2.
const STREAMS_MAX: u32 = 32;
/// Headers of one request over HTTP/2.
const HEADERS_BYTES_MAX: u32 = 128 << 10;
/// How long a connection that is closed has for what is under way on the wire.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// When no connection can be accepted (no file handles left, say), this long passes before the next attempt.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Accepts for ever. All connections end when this is dropped.
pub(super) async fn serve(listener: TcpListener, router: Router, limits: ConnectionLimits, counters: Arc<ServerCounters>) {
    let lobby = Arc::new(Lobby { limits, counters, state: Mutex::default() });
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Small answers are not held back; if that cannot be set, they come later.
                let _ = stream.set_nodelay(true);
                tasks.spawn(connection(stream, Peer(peer), router.clone(), Arc::clone(&lobby)));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                sleep(AFTER_FAILURE).await;
            }
        }
    }
}

async fn connection(mut stream: TcpStream, peer: Peer, router: Router, lobby: Arc<Lobby>) {
    let _counted = lobby.counters.connected();
    let waiting = lobby.wait();
    let first = async {
        let problem = match timeout(lobby.limits.head_time_max, head::read(&mut stream)).await {
            Ok(Ok(Head::Came(bytes))) => match lobby.place(head::is_from_supervisor(&bytes)) {
                Some(place) => return Some((bytes, place)),
                None => Problem::crowded(lobby.limits.served_max),
            },
            Ok(Ok(Head::Gone) | Err(_)) => return None,
            Ok(Ok(Head::Refused(problem))) => problem,
            Err(_) => Problem::silent(lobby.limits.head_time_max.as_secs()),
        };
        lobby.counters.turn_away();
        turn_away(&mut stream, problem).await;
        None
    };
    let first = tokio::select! {
        first = first => first,
        // A client that says nothing gets no answer when another needs its place.
        () = waiting.sent_away() => {
            lobby.counters.turn_away();
            None
        }
    };
    drop(waiting);
    let Some((head, place)) = first else { return };
    serve_one(Rewound { head, at: 0, stream, client: Arc::clone(&place.client), leave: None }, peer, router, &lobby, place).await;
}

/// Serves requests until the client leaves, is idle for too long, or has to make room.
async fn serve_one(stream: Rewound, peer: Peer, router: Router, lobby: &Lobby, place: Place) {
    let client = Arc::clone(&place.client);
    let inner = TowerToHyperService::new(router);
    let at_work = Arc::clone(&client);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let busy = Busy::new(&at_work);
        let answer = inner.call(request);
        async move { answer.await.map(|response| response.map(|body| AtWork { body, _busy: busy })) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(lobby.limits.idle_time_max).keep_alive(!place.beyond);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX).max_header_list_size(HEADERS_BYTES_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // A connection that fails is its client's business.
        _ = connection.as_mut() => return,
        () = client.idle_for(lobby.limits.idle_time_max) => {}
        () = client.leave.notified() => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = connection => {}
        () = client.idle_for(CLOSE_WAIT) => {}
    }
}

/// All connections.
struct Lobby {
    limits: ConnectionLimits,
    counters: Arc<ServerCounters>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// In the order they came.
    waiting: BTreeMap<u64, Arc<Notify>>,
    served: HashMap<u64, Arc<Client>>,
}

impl Lobby {
    /// A place among those that wait; the oldest goes if there are too many.
    fn wait(self: &Arc<Self>) -> Waiting {
        let mut state = self.lock();
        if state.waiting.len() >= self.limits.waiting_max
            && let Some((_, oldest)) = state.waiting.pop_first()
        {
            oldest.notify_one();
        }
        let (id, leave) = (state.next_id(), Arc::new(Notify::new()));
        state.waiting.insert(id, Arc::clone(&leave));
        Waiting { lobby: Arc::clone(self), id, leave }
    }

    /// A place among those served, if there is one.
    fn place(self: &Arc<Self>, supervisor: bool) -> Option<Place> {
        let mut state = self.lock();
        let full = state.served.len() >= self.limits.served_max;
        if full {
            let idle = state.served.iter().filter_map(|(id, client)| Some((client.idle_since()?, *id))).min();
            if let Some(client) = idle.and_then(|(_, id)| state.served.remove(&id)) {
                client.leave.notify_one();
            }
        }
        let room = self.limits.served_max + if supervisor { self.limits.supervisors_max } else { 0 };
        if state.served.len() >= room {
            return None;
        }
        let (id, client) = (state.next_id(), Arc::new(Client::new()));
        state.served.insert(id, Arc::clone(&client));
        Some(Place { lobby: Arc::clone(self), id, client, beyond: full && supervisor })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// A connection that waits.
struct Waiting {
    lobby: Arc<Lobby>,
    id: u64,
    leave: Arc<Notify>,
}

impl Waiting {
    async fn sent_away(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.lobby.lock().waiting.remove(&self.id);
    }
}

/// A connection that is served.
struct Place {
    lobby: Arc<Lobby>,
    id: u64,
    client: Arc<Client>,
    /// One more than there should be: it is served once.
    beyond: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lobby.lock().served.remove(&self.id);
    }
}

/// What is known of who is served.
struct Client {
    activity: Mutex<Activity>,
    leave: Notify,
}

struct Activity {
    /// Requests whose answer is not complete.
    requests: usize,
    /// When the newest byte moved.
    newest: Instant,
}

impl Client {
    fn new() -> Self {
        Self { activity: Mutex::new(Activity { requests: 0, newest: Instant::now() }), leave: Notify::new() }
    }

    fn activity(&self) -> MutexGuard<'_, Activity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` while it is at work.
    fn idle_since(&self) -> Option<Instant> {
        let activity = self.activity();
        (activity.requests == 0).then_some(activity.newest)
    }

    /// Returns when it has been idle for that long.
    async fn idle_for(&self, time: Duration) {
        loop {
            let idle = self.idle_since().map_or(Duration::ZERO, |since| since.elapsed());
            match time.checked_sub(idle) {
                None | Some(Duration::ZERO) => return,
                Some(left) => sleep(left).await,
            }
        }
    }
}

/// A request that is being answered.
struct Busy(Arc<Client>);

impl Busy {
    fn new(client: &Arc<Client>) -> Self {
        client.activity().requests += 1;
        Self(Arc::clone(client))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut activity = self.0.activity();
        activity.requests -= 1;
        activity.newest = Instant::now();
    }
}

/// The body of an answer, which is complete when it is dropped.
struct AtWork {
    body: Body,
    _busy: Busy,
}

impl HttpBody for AtWork {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection from which something has been read already.
struct Rewound {
    head: Vec<u8>,
    at: usize,
    stream: TcpStream,
    client: Arc<Client>,
    /// Once all is said: until when the client may take it and leave, and how much it has sent since.
    leave: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Rewound {
    fn moved<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(result, Poll::Ready(Ok(_))) {
            self.client.activity().newest = Instant::now();
        }
        result
    }
}

impl AsyncRead for Rewound {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.at < self.head.len() {
            let end = self.head.len().min(self.at + buffer.remaining());
            buffer.put_slice(&self.head[self.at..end]);
            self.at = end;
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.moved(read)
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.moved(written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.moved(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Waits a little until the client has left, too. A connection that is closed with bytes unread is reset, and a client whose request was
    /// answered before it was read to its end may lose the answer.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, leave, .. } = &mut *self;
        if leave.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
        }
        let (until, unread) = leave.get_or_insert_with(|| (Box::pin(sleep(LEAVE_WAIT)), 0));
        while *unread < UNREAD_BYTES_MAX && until.as_mut().poll(context).is_pending() {
            let mut bytes = [0; 8 << 10];
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
            *unread += buffer.filled().len();
        }
        Poll::Ready(Ok(()))
    }
}

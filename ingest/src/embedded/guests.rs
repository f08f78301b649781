//! Who is connected to the embedded broker: how many there may be, and who goes when there is no room.
//!
//! A new connection takes the place of the one that has asked nothing for longest, so silent ones lock nobody out. If all are at work, it is
//! turned away. Who is turned away is in the log, a line in a while.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

/// How many there may be, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at a time.
    pub connections_max: usize,
    /// How long one may ask nothing, as Apache Kafka has it.
    pub idle_max: Duration,
    /// How long a request may take to come once it has begun, and an answer to be taken.
    pub transfer_max: Duration,
    /// How often the log tells of those who were turned away.
    pub log_every: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1000,
            idle_max: Duration::from_secs(10 * 60),
            transfer_max: Duration::from_secs(60),
            log_every: Duration::from_secs(10),
        }
    }
}

/// All connections.
pub(super) struct Guests {
    pub(super) limits: Limits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    there: HashMap<u64, Seat>,
    /// When the log was told last, and of how many it was not told since.
    told: Option<Instant>,
    untold: u64,
}

struct Seat {
    /// `None` while it is at work.
    idle_since: Option<Instant>,
    leave: Arc<Notify>,
}

impl Guests {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    /// A place for a connection, if there is one.
    pub(super) fn enter(self: &Arc<Self>, peer: SocketAddr) -> Option<Guest> {
        let mut state = self.lock();
        if state.there.len() >= self.limits.connections_max {
            let idle = state.there.iter().filter_map(|(id, seat)| Some((seat.idle_since?, *id))).min();
            let Some(seat) = idle.and_then(|(_, id)| state.there.remove(&id)) else {
                drop(state);
                self.turned_away(peer, &format!("{} connections are at work already", self.limits.connections_max));
                return None;
            };
            seat.leave.notify_one();
        }
        state.next += 1;
        let (id, leave) = (state.next, Arc::new(Notify::new()));
        state.there.insert(id, Seat { idle_since: Some(Instant::now()), leave: Arc::clone(&leave) });
        Some(Guest { guests: Arc::clone(self), id, peer, leave })
    }

    /// Says in the log that a connection was closed, and why.
    pub(super) fn turned_away(&self, peer: SocketAddr, why: &str) {
        let mut state = self.lock();
        if state.told.is_some_and(|told| told.elapsed() < self.limits.log_every) {
            state.untold += 1;
            return;
        }
        state.told = Some(Instant::now());
        let others = std::mem::take(&mut state.untold);
        drop(state);
        warn!(%peer, why, others_before = others, "the embedded broker has closed a connection");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection.
pub(super) struct Guest {
    guests: Arc<Guests>,
    id: u64,
    pub(super) peer: SocketAddr,
    leave: Arc<Notify>,
}

impl Guest {
    pub(super) fn limits(&self) -> Limits {
        self.guests.limits
    }

    /// It has begun to ask, or has its answer.
    pub(super) fn is_at_work(&self, at_work: bool) {
        if let Some(seat) = self.guests.lock().there.get_mut(&self.id) {
            seat.idle_since = (!at_work).then(Instant::now);
        }
    }

    /// Returns when another needs its place.
    pub(super) async fn must_leave(&self) {
        self.leave.notified().await;
    }

    /// Says in the log why it is closed.
    pub(super) fn turned_away(&self, why: &str) {
        self.guests.turned_away(self.peer, why);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.lock().there.remove(&self.id);
    }
}

//! What a server counts of its clients, for `/metrics`, and the line that each statement leaves in the log: who asked, what kind of statement,
//! what became of it. Its text, which may hold what is secret, is not logged: a hash tells whether two are the same.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::memory::MemoryUse;

/// Of one server, since the process began.
#[derive(Debug, Default)]
pub struct ServerCounters {
    running: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    rows: AtomicU64,
    connections: AtomicU64,
    turned_away: AtomicU64,
}

impl ServerCounters {
    /// Queries that run now.
    pub fn running(&self) -> u64 {
        self.running.load(Ordering::Relaxed)
    }

    /// Ended queries by what became of them: all rows sent, an error, the client went away.
    pub fn ended(&self) -> [(&'static str, u64); 3] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("done", read(&self.done)), ("failed", read(&self.failed)), ("cancelled", read(&self.cancelled))]
    }

    /// Rows that were sent.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Connections that are open now.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Connections and requests that were turned away because there were too many, or because nothing came.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// A statement begins.
    pub(crate) fn begin(self: &Arc<Self>, asked: Asked) -> Counted {
        self.running.fetch_add(1, Ordering::Relaxed);
        Counted { counters: Arc::clone(self), bytes: asked.text_bytes, asked, rows: 0, memory: Arc::default(), outcome: None }
    }

    /// A connection is there until what is returned is dropped.
    pub(crate) fn connected(self: &Arc<Self>) -> Connected {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(Arc::clone(self))
    }

    /// One was turned away.
    pub(crate) fn turn_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }
}

/// Who asked what, and when.
pub(crate) struct Asked {
    who: Who,
    /// Its first word.
    kind: String,
    text_hash: u64,
    text_bytes: usize,
    since: Instant,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    /// The way in.
    pub(crate) door: &'static str,
    pub(crate) peer: Option<SocketAddr>,
    /// What the client calls itself.
    pub(crate) agent: String,
}

/// How much of its name a client can have in the log.
const AGENT_CHARACTERS_MAX: usize = 80;
/// No first word of a statement is longer.
const KIND_CHARACTERS_MAX: usize = 16;

impl Who {
    pub(crate) fn new(door: &'static str, peer: Option<SocketAddr>, agent: Option<&str>) -> Self {
        Self { door, peer, agent: agent.unwrap_or_default().chars().filter(|c| !c.is_control()).take(AGENT_CHARACTERS_MAX).collect() }
    }
}

impl Asked {
    /// Asked now.
    pub(crate) fn new(who: Who, text: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        text.trim().hash(&mut hasher);
        let word = text.trim_start().chars().take_while(char::is_ascii_alphabetic).take(KIND_CHARACTERS_MAX);
        let kind = word.map(|letter| letter.to_ascii_uppercase()).collect();
        Self { who, kind, text_hash: hasher.finish(), text_bytes: text.len(), since: Instant::now() }
    }
}

/// A statement that runs. Dropped without an outcome it was cancelled.
pub(crate) struct Counted {
    counters: Arc<ServerCounters>,
    asked: Asked,
    bytes: usize,
    rows: u64,
    memory: Arc<MemoryUse>,
    outcome: Option<bool>,
}

impl Counted {
    /// What its text and values take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Text and values take that.
    pub(crate) fn holds(&mut self, bytes: usize) {
        self.bytes = bytes;
    }

    /// It takes that of the memory of this process.
    pub(crate) fn takes(&mut self, memory: Arc<MemoryUse>) {
        self.memory = memory;
    }

    /// Rows are sent.
    pub(crate) fn sent(&mut self, rows: usize) {
        self.rows += rows as u64;
        self.counters.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// It has ended with that.
    pub(crate) fn of<T, E>(mut self, result: Result<T, E>) -> Result<T, E> {
        self.end(result.is_ok());
        result
    }

    /// It has ended if that is an error.
    pub(crate) fn end_if_failed<T, E>(&mut self, result: &Result<T, E>) {
        if result.is_err() {
            self.end(false);
        }
    }

    /// It has ended, well or not.
    pub(crate) fn end(&mut self, well: bool) {
        self.outcome = Some(well);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let counters = &self.counters;
        let (counter, outcome) = match self.outcome {
            Some(true) => (&counters.done, "done"),
            Some(false) => (&counters.failed, "failed"),
            None => (&counters.cancelled, "cancelled"),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        counters.running.fetch_sub(1, Ordering::Relaxed);
        let Asked { who, kind, text_hash, text_bytes, since } = &self.asked;
        let (peer, agent, rows) = (who.peer.map(tracing::field::display), &who.agent, self.rows);
        let (text_hash, took_ms) = (format!("{text_hash:016x}"), since.elapsed().as_millis() as u64);
        let (door, memory_peak_bytes) = (who.door, self.memory.peak_bytes());
        // The page asks for its panels every few seconds; who types at a prompt knows what they asked.
        if door == PANEL || door == SHELL {
            tracing::debug!(door, peer, agent, kind, text_hash, text_bytes, rows, took_ms, memory_peak_bytes, outcome, "statement");
        } else {
            tracing::info!(door, peer, agent, kind, text_hash, text_bytes, rows, took_ms, memory_peak_bytes, outcome, "statement");
        }
    }
}

/// The doors.
pub(crate) const HTTP: &str = "http";
pub(crate) const PANEL: &str = "panel";
pub(crate) const FLIGHT: &str = "flight";
pub(crate) const SHELL: &str = "shell";

/// A connection that is open.
pub(crate) struct Connected(Arc<ServerCounters>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

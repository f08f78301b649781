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

#[cfg(test)]
mod tests {
    use std::fmt::{Debug, Write};
    use std::sync::Mutex;

    use datafusion::execution::memory_pool::MemoryConsumer;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Dispatch, Event, Metadata, Subscriber};

    use super::*;

    /// What is logged, a text for each event.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>);

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            write!(self.0, " {}={value:?}", field.name()).unwrap();
        }
    }

    impl Subscriber for Log {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut line = Line(event.metadata().level().to_string());
            event.record(&mut line);
            self.0.lock().unwrap().push(line.0);
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn the_log_says_who_asked_what_and_what_became_of_it() {
        let (log, counters) = (Log::default(), Arc::<ServerCounters>::default());
        // While there is one alone, the thread of another test, which has none, may turn events off for all.
        let _second = Dispatch::new(log.clone());
        tracing::subscriber::with_default(log.clone(), || {
            let whole = Who::new(HTTP, "192.0.2.7:4711".parse().ok(), Some("curl\n/8.0"));
            let mut asked = counters.begin(Asked::new(whole, " select 'SeCrEt77' AS s"));
            let (task, memory) = crate::memory::counted(datafusion::execution::TaskContext::default());
            let held = MemoryConsumer::new("test").register(task.memory_pool());
            held.try_grow(4711).unwrap();
            held.shrink(4000);
            asked.takes(memory);
            asked.sent(3);
            asked.end(true);
            drop(asked);
            let failed = counters.begin(Asked::new(Who::new(FLIGHT, None, None), "WITH a AS (SELECT 1) SELECT 'SeCrEt77'"));
            assert!(failed.of(Err::<(), _>("it fails")).is_err());
            // The client has gone away.
            drop(counters.begin(Asked::new(Who::new(FLIGHT, None, None), "select 'SeCrEt77' AS s\n")));
            drop(counters.begin(Asked::new(Who::new(SHELL, None, None), "(SELECT 1)")));
            drop(counters.begin(Asked::new(Who::new(PANEL, None, None), "SELECT 1")));
        });
        let lines = log.0.lock().unwrap().clone();
        let expected = [
            ["INFO", "door=\"http\"", "kind=\"SELECT\"", "text_bytes=23", "rows=3", "outcome=\"done\""],
            ["INFO", "door=\"flight\"", "kind=\"WITH\"", "text_bytes=38", "rows=0", "outcome=\"failed\""],
            ["INFO", "door=\"flight\"", "kind=\"SELECT\"", "text_bytes=23", "rows=0", "outcome=\"cancelled\""],
            ["DEBUG", "door=\"shell\"", "kind=\"\"", "text_bytes=10", "rows=0", "outcome=\"cancelled\""],
            ["DEBUG", "door=\"panel\"", "kind=\"SELECT\"", "text_bytes=8", "rows=0", "outcome=\"cancelled\""],
        ];
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, parts) in lines.iter().zip(expected) {
            let words: Vec<&str> = line.split(' ').collect();
            assert!(parts.iter().all(|part| words.contains(part)), "{parts:?} in: {line}");
            assert!(line.contains(" message=statement") && !line.contains("SeCrEt77"), "{line}");
        }
        assert!(lines[0].contains(" memory_peak_bytes=4711 ") && lines[1].contains(" memory_peak_bytes=0 "), "{lines:#?}");
        assert!(lines[0].contains(" peer=192.0.2.7:4711 agent=\"curl/8.0\" "), "{}", lines[0]);
        assert!(!lines[1].contains(" peer="), "{}", lines[1]);
        // Whether two are the same can be told.
        let hash = |line: usize| lines[line].split(' ').find(|word| word.starts_with("text_hash=")).unwrap();
        assert!(hash(0) == hash(2) && hash(0) != hash(1), "{lines:#?}");
    }
}

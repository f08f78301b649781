//! Counts queries over HTTP, for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Queries since the process began.
#[derive(Debug, Default)]
pub struct QueryCounters {
    running: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
}

impl QueryCounters {
    /// Queries that run now.
    pub fn running(&self) -> u64 {
        self.running.load(Ordering::Relaxed)
    }

    /// Ended queries by what became of them: all rows sent, an error, the client went away.
    pub fn ended(&self) -> [(&'static str, u64); 3] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("done", read(&self.done)), ("failed", read(&self.failed)), ("cancelled", read(&self.cancelled))]
    }

    /// A query begins.
    pub(super) fn begin(self: &Arc<Self>) -> Counted {
        self.running.fetch_add(1, Ordering::Relaxed);
        Counted { counters: Arc::clone(self), outcome: None }
    }
}

/// A query that runs. Dropped without an outcome it was cancelled.
pub(super) struct Counted {
    counters: Arc<QueryCounters>,
    outcome: Option<bool>,
}

impl Counted {
    /// It has ended, well or not.
    pub(super) fn end(&mut self, well: bool) {
        self.outcome = Some(well);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let counters = &self.counters;
        let counter = match self.outcome {
            Some(true) => &counters.done,
            Some(false) => &counters.failed,
            None => &counters.cancelled,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        counters.running.fetch_sub(1, Ordering::Relaxed);
    }
}

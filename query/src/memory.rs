//! What one statement takes of the memory that all statements share: the most it held at once goes into its line in the log.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;

/// Rows of one piece in which a result leaves take about this at most. Clients of Flight refuse messages of more than 4 MiB unless set otherwise.
pub(crate) const PIECE_BYTES_TARGET: usize = 1 << 20;

/// Bytes that a statement holds now, and the most it held.
#[derive(Debug, Default)]
pub(crate) struct MemoryUse {
    held: AtomicUsize,
    peak: AtomicUsize,
}

impl MemoryUse {
    /// The most bytes it held at once.
    pub(crate) fn peak_bytes(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    fn grown(&self, bytes: usize) {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(held, Ordering::Relaxed);
    }
}

/// The same task, whose memory is counted.
pub(crate) fn counted(task: TaskContext) -> (TaskContext, Arc<MemoryUse>) {
    let used = Arc::new(MemoryUse::default());
    let runtime = task.runtime_env();
    let pool = Counting { pool: Arc::clone(&runtime.memory_pool), used: Arc::clone(&used) };
    let runtime = RuntimeEnv { memory_pool: Arc::new(pool), ..runtime.as_ref().clone() };
    (task.with_runtime(Arc::new(runtime)), used)
}

/// The pool of all statements, seen by one of them.
#[derive(Debug)]
struct Counting {
    pool: Arc<dyn MemoryPool>,
    used: Arc<MemoryUse>,
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.pool, f)
    }
}

impl MemoryPool for Counting {
    fn name(&self) -> &str {
        self.pool.name()
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.pool.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.pool.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool.grow(reservation, additional);
        self.used.grown(additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool.shrink(reservation, shrink);
        self.used.held.fetch_sub(shrink, Ordering::Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.pool.try_grow(reservation, additional)?;
        self.used.grown(additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.pool.memory_limit()
    }
}

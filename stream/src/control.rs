//! What the shard's coordinator and its tasks share: the barrier that is asked for, the wish to stop, how far each partition is.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::epoch::Counters;
use crate::idle::Quiet;

/// A barrier: everything before it belongs to the epoch.
#[derive(Debug, Clone, Default)]
pub struct BarrierRequest {
    /// The epoch it ends.
    pub epoch: u64,
    /// Partitions that are idle, and what their watermark is raised to.
    pub idle_us: BTreeMap<i32, i64>,
    /// Whether these are raised although rows may have come since: so that open windows close.
    pub drains: bool,
    /// Whether the tasks end after it.
    pub last: bool,
}

/// How far one partition is.
#[derive(Debug, Clone, Copy)]
pub struct PartitionState {
    /// The next offset to be read.
    pub next_offset: i64,
    /// The end of the partition as last known.
    pub high_watermark: Option<i64>,
    /// Microseconds since 1970; `i64::MIN` before the first row.
    pub watermark_us: i64,
    /// The greatest event time so far, in microseconds since 1970; `i64::MIN` before the first row.
    pub newest_us: i64,
    /// Since when it has been read to its end; `None` if it is not.
    pub caught_up_since: Option<Instant>,
    /// If that was so in an earlier run and no row has come since.
    pub quiet: Option<Quiet>,
    /// The latest Kafka timestamp among the records read in this run, in milliseconds since 1970; `None` before the first.
    pub read_ms: Option<i64>,
}

impl PartitionState {
    /// Records between here and the end.
    pub fn lag(&self) -> u64 {
        self.high_watermark.map_or(0, |high| high.saturating_sub(self.next_offset).max(0) as u64)
    }
}

/// The stages of a pipeline, as metrics name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageName {
    /// Fetch, decode, and the work beside the partitions.
    Local,
    /// After the exchange.
    Keyed,
    /// Rows to files: the writer.
    Sink,
}

impl StageName {
    /// All, in the order rows pass them.
    pub const ALL: [StageName; 3] = [StageName::Local, StageName::Keyed, StageName::Sink];

    /// As metrics write it.
    pub fn name(self) -> &'static str {
        match self {
            StageName::Local => "local",
            StageName::Keyed => "keyed",
            StageName::Sink => "sink",
        }
    }
}

/// Rows through one stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageRows {
    /// Rows it took.
    pub rows_in: u64,
    /// Rows it handed on; late and quarantined ones are counted apart.
    pub rows_out: u64,
}

/// Rows through each stage, in the order of [`StageName::ALL`].
pub type StageCounts = [StageRows; StageName::ALL.len()];

/// Shared by one run of a shard.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    requested: AtomicU64,
    request: Mutex<BarrierRequest>,
    partitions: Mutex<BTreeMap<i32, PartitionState>>,
    live: Mutex<Counters>,
    stages: Mutex<StageCounts>,
}

impl Control {
    /// Tells all tasks to end at once, wherever they are.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether tasks should end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Asks for a barrier.
    pub fn request(&self, request: BarrierRequest) {
        let epoch = request.epoch;
        *lock(&self.request) = request;
        self.requested.store(epoch, Ordering::Release);
    }

    /// The barrier asked for, if it is newer than `last`.
    pub fn pending(&self, last: u64) -> Option<BarrierRequest> {
        (self.requested.load(Ordering::Acquire) > last).then(|| lock(&self.request).clone())
    }

    /// Says how far a partition is.
    pub fn report(&self, partition: i32, state: PartitionState) {
        lock(&self.partitions).insert(partition, state);
    }

    /// How far all partitions are.
    pub fn partitions(&self) -> BTreeMap<i32, PartitionState> {
        lock(&self.partitions).clone()
    }

    /// Counts rows as they pass; the epoch record has its own, exact count.
    pub fn count(&self, counters: Counters) {
        lock(&self.live).add(counters);
    }

    /// Counts rows that passed a stage.
    pub fn passed(&self, stage: StageName, rows_in: usize, rows_out: usize) {
        let counts = &mut lock(&self.stages)[stage as usize];
        counts.rows_in += rows_in as u64;
        counts.rows_out += rows_out as u64;
    }

    /// Rows that passed each stage in this run so far.
    pub fn stages(&self) -> StageCounts {
        *lock(&self.stages)
    }

    /// Rows counted in this run so far.
    pub fn live(&self) -> Counters {
        *lock(&self.live)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

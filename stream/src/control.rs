//! What the shard's coordinator and its tasks share: the barrier that is asked for, the wish to stop, how far each partition is.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::align::Ceilings;
use crate::epoch::Counters;
use crate::hidden::Lane;
use crate::idle::Quiet;

/// A barrier: everything before it belongs to the epoch.
#[derive(Debug, Clone, Default)]
pub struct BarrierRequest {
    /// The epoch it ends.
    pub epoch: u64,
    /// Partitions that are idle, and what their watermark is raised to.
    pub idle_us: BTreeMap<Lane, i64>,
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

/// A stage of a pipeline, as metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageName {
    /// Beside the source of this place, with fetch and decode.
    Source(usize),
    /// After an exchange, by its place among those that are.
    Exchange(usize),
    /// Rows to files: the writer.
    Sink,
}

impl StageName {
    /// As metrics write it.
    pub fn name(self) -> Cow<'static, str> {
        match self {
            StageName::Source(0) => "local".into(),
            StageName::Source(place) => format!("local_{}", place + 1).into(),
            StageName::Exchange(0) => "keyed".into(),
            StageName::Exchange(place) => format!("keyed_{}", place + 1).into(),
            StageName::Sink => "sink".into(),
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

impl StageRows {
    fn add(&mut self, other: StageRows) {
        self.rows_in += other.rows_in;
        self.rows_out += other.rows_out;
    }
}

/// Rows through each stage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StageCounts {
    sources: Vec<StageRows>,
    exchanges: Vec<StageRows>,
    sink: StageRows,
}

impl StageCounts {
    fn of(&mut self, stage: StageName) -> &mut StageRows {
        let (stages, place) = match stage {
            StageName::Source(place) => (&mut self.sources, place),
            StageName::Exchange(place) => (&mut self.exchanges, place),
            StageName::Sink => return &mut self.sink,
        };
        if stages.len() <= place {
            stages.resize(place + 1, StageRows::default());
        }
        &mut stages[place]
    }

    /// Adds other counts, stage by stage.
    pub fn add(&mut self, other: &StageCounts) {
        for (stage, rows) in other.iter() {
            self.of(stage).add(rows);
        }
    }

    /// Each stage in the order in which rows pass them. One beside a source and one after an exchange are always told, also where rows need none.
    pub fn iter(&self) -> impl Iterator<Item = (StageName, StageRows)> {
        let of = |stages: &[StageRows], place: usize| stages.get(place).copied().unwrap_or_default();
        let sources = (0..self.sources.len().max(1)).map(move |place| (StageName::Source(place), of(&self.sources, place)));
        let exchanges = (0..self.exchanges.len().max(1)).map(move |place| (StageName::Exchange(place), of(&self.exchanges, place)));
        sources.chain(exchanges).chain([(StageName::Sink, self.sink)])
    }
}

/// Shared by one run of a shard.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    requested: AtomicU64,
    request: Mutex<BarrierRequest>,
    partitions: Mutex<BTreeMap<Lane, PartitionState>>,
    ceilings: Mutex<Arc<Ceilings>>,
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
    pub fn report(&self, lane: Lane, state: PartitionState) {
        lock(&self.partitions).insert(lane, state);
    }

    /// How far all partitions are.
    pub fn partitions(&self) -> BTreeMap<Lane, PartitionState> {
        lock(&self.partitions).clone()
    }

    /// Says how far sources may go that meet others.
    pub fn set_ceilings(&self, ceilings: Ceilings) {
        *lock(&self.ceilings) = Arc::new(ceilings);
    }

    /// How far they may go.
    pub fn ceilings(&self) -> Arc<Ceilings> {
        lock(&self.ceilings).clone()
    }

    /// Counts rows as they pass; the epoch record has its own, exact count.
    pub fn count(&self, counters: Counters) {
        lock(&self.live).add(counters);
    }

    /// Counts rows that passed a stage.
    pub fn passed(&self, stage: StageName, rows_in: usize, rows_out: usize) {
        lock(&self.stages).of(stage).add(StageRows { rows_in: rows_in as u64, rows_out: rows_out as u64 });
    }

    /// Rows that passed each stage in this run so far.
    pub fn stages(&self) -> StageCounts {
        lock(&self.stages).clone()
    }

    /// Rows counted in this run so far.
    pub fn live(&self) -> Counters {
        *lock(&self.live)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_stage_by_stage() {
        let control = Control::default();
        control.passed(StageName::Exchange(1), 3, 1);
        control.passed(StageName::Sink, 1, 1);
        let mut counts = control.stages();
        counts.add(&control.stages());
        let said: Vec<_> = counts.iter().map(|(stage, rows)| format!("{} {}-{}", stage.name(), rows.rows_in, rows.rows_out)).collect();
        assert_eq!(said, ["local 0-0", "keyed 0-0", "keyed_2 6-2", "sink 2-2"]);
        assert_eq!(StageCounts::default().iter().count(), 3);
    }
}

//! What a pipeline says of itself while it runs: the same for every pipeline, taken from the runtime.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use watershed_lake::TableName;
use watershed_lake::clock::now_ms;
use watershed_message::Message;

use crate::budget::{Budget, Held};
use crate::control::{Control, PartitionState, StageCounts};
use crate::epoch::{Counters, EpochRecord};
use crate::hidden::{Lane, SourceNames};
use crate::holder::Failure;
use crate::limits::WELL_AFTER;

/// Upper bounds of the buckets commits are counted in, in milliseconds; longer ones are in a last one of their own.
pub const COMMIT_BUCKETS_MS: [u64; 12] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000];

/// How long commits of this process took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommitTimes {
    /// Commits in each bucket of [`COMMIT_BUCKETS_MS`] (not summed up), and those longer than all.
    pub counts: [u64; COMMIT_BUCKETS_MS.len() + 1],
    /// All of them together, in microseconds.
    pub sum_us: u64,
}

impl CommitTimes {
    fn add(&mut self, took: Duration) {
        let bucket = COMMIT_BUCKETS_MS.iter().position(|&bound| took <= Duration::from_millis(bound)).unwrap_or(COMMIT_BUCKETS_MS.len());
        self.counts[bucket] += 1;
        self.sum_us += took.as_micros() as u64;
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// State written with one epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// How much.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// What a pipeline is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Reading its newest epoch and starting tasks.
    Starting,
    /// Carrying rows.
    Running,
    /// Waiting to start again after an error that may pass.
    Retrying {
        /// The error.
        error: Message,
    },
    /// Ended: stopped, or done.
    Stopped,
    /// Ended by an error that will not pass by itself.
    Failed {
        /// The error.
        error: Message,
    },
}

impl Phase {
    /// A word for each.
    pub const NAMES: [&'static str; 5] = ["starting", "running", "retrying", "stopped", "failed"];

    /// One of [`Phase::NAMES`].
    pub fn name(&self) -> &'static str {
        Self::NAMES[match self {
            Phase::Starting => 0,
            Phase::Running => 1,
            Phase::Retrying { .. } => 2,
            Phase::Stopped => 3,
            Phase::Failed { .. } => 4,
        }]
    }
}

/// One source of a pipeline at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceMetrics {
    /// The source.
    pub name: String,
    /// Records that were not read yet.
    pub lag_records: u64,
    /// The least watermark of its partitions in microseconds since 1970; `None` before every partition has one.
    pub watermark_us: Option<i64>,
    /// The source that it waits for because it is too far ahead of it.
    pub waits_for: Option<String>,
}

/// A pipeline at one moment.
#[derive(Debug, Clone)]
pub struct PipelineMetrics {
    /// The table it writes.
    pub pipeline: TableName,
    /// The sources it reads, in the order in which its query names them; none if it cannot be planned.
    pub sources: Vec<SourceMetrics>,
    /// What it is doing.
    pub phase: Phase,
    /// Why it does not get on: kept from an error until an epoch is committed, or it has run for a while.
    pub failure: Option<Failure>,
    /// Rows since the pipeline began, those of the epoch under way included.
    pub counters: Counters,
    /// Rows this process counted: never falls, rows that were read again after a restart count again.
    pub counted: Counters,
    /// The same through each stage.
    pub stages: StageCounts,
    /// Rows in since the pipeline began, up to the newest epoch.
    pub rows_in_committed: u64,
    /// Records in the topic that were not read yet.
    pub lag_records: u64,
    /// How old the newest record is that was read of the partition that lags most, in milliseconds; 0 when there is nothing left to read.
    pub lag_ms: u64,
    /// The least watermark of its partitions in microseconds since 1970; `None` before every partition has one.
    pub watermark_us: Option<i64>,
    /// How far the watermark lags the wall clock; less than zero if it is ahead, `None` without a watermark.
    pub watermark_lag_ms: Option<i64>,
    /// The newest epoch.
    pub epoch: u64,
    /// Epochs committed by this process.
    pub commits: u64,
    /// From the barrier's passing to the tables' commit, of the newest epoch.
    pub commit_ms: u64,
    /// The same of all epochs of this process.
    pub commit_times: CommitTimes,
    /// State that the newest epoch holds.
    pub state_bytes: u64,
    /// State that was written with the newest epoch.
    pub snapshot_bytes: u64,
    /// How long that took: to say what changed, and to write it.
    pub snapshot_ms: u64,
    /// How long it took to read the state back when the pipeline was started last; 0 if there was none.
    pub restore_ms: u64,
    /// What its operators hold now.
    pub held: Held,
    /// State that is put aside, in bytes.
    pub spilled_bytes: u64,
    /// Times it was started again after an error.
    pub restarts: u64,
}

#[derive(Default)]
struct State {
    phase: Option<Phase>,
    failure: Option<Failure>,
    /// Since when it is in its phase.
    phase_since: Option<Instant>,
    control: Option<Arc<Control>>,
    /// Counts of the epochs before this run.
    base: Counters,
    /// Counts of earlier runs of this process.
    earlier: Counters,
    earlier_stages: StageCounts,
    record: Option<(u64, Counters)>,
    commit: Duration,
    commit_times: CommitTimes,
    state_bytes: u64,
    snapshot: Snapshot,
    restore: Duration,
    restarts: u64,
}

impl State {
    /// The failure, if it still counts.
    fn failure(&self) -> Option<&Failure> {
        let running = self.phase == Some(Phase::Running) && self.phase_since.is_some_and(|since| since.elapsed() >= WELL_AFTER);
        self.failure.as_ref().filter(|_| !running)
    }
}

/// Collects what [`PipelineMetrics`] shows.
pub struct Metrics {
    pipeline: TableName,
    sources: SourceNames,
    budget: Option<Arc<Budget>>,
    state: Mutex<State>,
}

impl Metrics {
    /// For a pipeline over these sources that has not started.
    pub fn new(pipeline: TableName, sources: SourceNames) -> Self {
        Self { pipeline, sources, budget: None, state: Mutex::default() }
    }

    /// What the pipeline's operators hold is counted there.
    pub fn with_budget(mut self, budget: Arc<Budget>) -> Self {
        self.budget = Some(budget);
        self
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pipeline is in another phase.
    pub fn phase(&self, phase: Phase) {
        let mut state = self.state();
        if matches!(phase, Phase::Retrying { .. }) {
            state.restarts += 1;
        }
        let since_ms = state.failure().map_or_else(now_ms, |failure| failure.since_ms);
        state.failure = match &phase {
            Phase::Retrying { error } => Some(Failure { error: error.to_string(), since_ms, ended: false }),
            Phase::Failed { error } => Some(Failure { error: error.to_string(), since_ms, ended: true }),
            Phase::Stopped => None,
            Phase::Starting | Phase::Running => state.failure.take(),
        };
        (state.phase, state.phase_since) = (Some(phase), Some(Instant::now()));
    }

    /// A run has begun from `record`.
    pub fn run(&self, control: Arc<Control>, record: Option<&EpochRecord>) {
        let mut state = self.state();
        if let Some(before) = state.control.take() {
            state.earlier.add(before.live());
            state.earlier_stages.add(&before.stages());
        }
        state.base = record.map(|r| r.counters).unwrap_or_default();
        state.record = record.map(|r| (r.epoch, r.counters));
        state.state_bytes = record.map_or(0, EpochRecord::state_bytes);
        state.control = Some(control);
    }

    /// State was read back in so much time.
    pub fn restored(&self, took: Duration) {
        self.state().restore = took;
    }

    /// An epoch was committed, and state written with it.
    pub fn committed(&self, record: Option<&EpochRecord>, took: Duration, snapshot: Snapshot) {
        let mut state = self.state();
        state.record = record.map(|r| (r.epoch, r.counters));
        state.failure = None;
        state.commit = took;
        state.commit_times.add(took);
        state.state_bytes = record.map_or(0, EpochRecord::state_bytes);
        state.snapshot = snapshot;
    }

    /// The pipeline now.
    pub fn read(&self) -> PipelineMetrics {
        let state = self.state();
        let partitions = state.control.as_ref().map(|c| c.partitions()).unwrap_or_default();
        let (mut counters, mut counted, mut stages) = (state.base, state.earlier, state.earlier_stages.clone());
        if let Some(control) = &state.control {
            let live = control.live();
            counters.add(live);
            counted.add(live);
            stages.add(&control.stages());
        }
        let ceilings = state.control.as_ref().map(|control| control.ceilings()).unwrap_or_default();
        let runs = state.phase == Some(Phase::Running);
        let waits_for = |place: usize| {
            let other = ceilings.waits_for.get(place).copied().flatten().filter(|_| runs)?;
            Some(self.sources.get(other).to_owned())
        };
        let of_source = |(place, name)| SourceMetrics { waits_for: waits_for(place), ..of_source(place, name, &partitions) };
        let sources = self.sources.iter().enumerate().map(of_source).collect();
        let now_ms = now_ms();
        let behind = partitions.values().filter(|p| p.lag() > 0).filter_map(|p| p.read_ms).min();
        let watermark_us = partitions.values().map(|p| p.watermark_us).min().filter(|&w| w != i64::MIN);
        PipelineMetrics {
            pipeline: self.pipeline.clone(),
            sources,
            phase: state.phase.clone().unwrap_or(Phase::Starting),
            failure: state.failure().cloned(),
            counters,
            counted,
            stages,
            rows_in_committed: state.record.map_or(0, |(_, counters)| counters.rows_in),
            lag_records: partitions.values().map(|p| p.lag()).sum(),
            lag_ms: behind.map_or(0, |read_ms| now_ms.saturating_sub(read_ms as u64)),
            watermark_us,
            watermark_lag_ms: watermark_us.map(|w| now_ms as i64 - w / 1_000),
            epoch: state.record.map_or(0, |(epoch, _)| epoch),
            commits: state.commit_times.count(),
            commit_ms: state.commit.as_millis() as u64,
            commit_times: state.commit_times,
            state_bytes: state.state_bytes,
            snapshot_bytes: state.snapshot.bytes,
            snapshot_ms: state.snapshot.took.as_millis() as u64,
            restore_ms: state.restore.as_millis() as u64,
            held: self.budget.as_ref().map(|budget| budget.held()).unwrap_or_default(),
            spilled_bytes: self.budget.as_ref().map_or(0, |budget| budget.bytes_aside()),
            restarts: state.restarts,
        }
    }
}

fn of_source(place: usize, name: &str, partitions: &BTreeMap<Lane, PartitionState>) -> SourceMetrics {
    let own = || partitions.iter().filter(move |(lane, _)| lane.source == place).map(|(_, state)| state);
    SourceMetrics {
        name: name.to_owned(),
        lag_records: own().map(PartitionState::lag).sum(),
        watermark_us: own().map(|state| state.watermark_us).min().filter(|&us| us != i64::MIN),
        waits_for: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::StageName;

    fn metrics() -> Metrics {
        Metrics::new("gold.demand".parse().unwrap(), SourceNames::new(["rides", "trips"].map(str::to_owned)))
    }

    fn lane(source: usize, partition: i32) -> Lane {
        Lane { source, partition }
    }

    fn partition(next_offset: i64, high: i64, read_ms: i64) -> PartitionState {
        PartitionState {
            next_offset,
            high_watermark: Some(high),
            watermark_us: 0,
            newest_us: 0,
            caught_up_since: None,
            quiet: None,
            read_ms: Some(read_ms),
        }
    }

    #[test]
    fn counts_of_the_process_never_fall_when_a_run_begins_anew() {
        let metrics = metrics();
        for _ in 0..2 {
            let control = Arc::new(Control::default());
            metrics.run(control.clone(), None);
            control.count(Counters { rows_in: 10, ..Counters::default() });
            control.passed(StageName::Exchange(0), 4, 3);
        }
        let read = metrics.read();
        assert_eq!((read.counters.rows_in, read.counted.rows_in), (10, 20));
        let keyed = read.stages.iter().find(|(stage, _)| *stage == StageName::Exchange(0)).map(|(_, rows)| (rows.rows_in, rows.rows_out));
        assert_eq!(keyed, Some((8, 6)));
    }

    #[test]
    fn lag_is_the_age_of_the_partition_furthest_behind_and_none_when_all_is_read() {
        let metrics = metrics();
        let control = Arc::new(Control::default());
        metrics.run(control.clone(), None);
        let now = now_ms() as i64;
        control.report(lane(0, 0), partition(5, 5, now - 3_600_000));
        assert_eq!((metrics.read().lag_records, metrics.read().lag_ms), (0, 0));
        control.report(lane(0, 1), partition(5, 8, now - 60_000));
        control.report(lane(1, 0), partition(5, 6, now - 5_000));
        let read = metrics.read();
        assert_eq!((read.lag_records, read.sources.iter().map(|source| source.lag_records).collect::<Vec<_>>()), (4, vec![3, 1]));
        assert!((60_000..70_000).contains(&read.lag_ms), "{}", read.lag_ms);
    }

    #[test]
    fn commits_stand_in_the_bucket_that_holds_them() {
        let mut times = CommitTimes::default();
        for ms in [5, 6, 40, 100_000] {
            times.add(Duration::from_millis(ms));
        }
        assert_eq!((times.counts[0], times.counts[1], times.counts[3], times.counts[12]), (1, 1, 1, 1));
        assert_eq!((times.count(), times.sum_us), (4, 100_051_000));
    }
}

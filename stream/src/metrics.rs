//! What a pipeline says of itself while it runs: the same for every pipeline, taken from the runtime.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use watershed_lake::TableName;

use crate::control::Control;
use crate::epoch::{Counters, EpochRecord, now_ms};

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
        error: String,
    },
    /// Ended: stopped, or done.
    Stopped,
    /// Ended by an error that will not pass by itself.
    Failed {
        /// The error.
        error: String,
    },
}

impl Phase {
    /// One word.
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Retrying { .. } => "retrying",
            Phase::Stopped => "stopped",
            Phase::Failed { .. } => "failed",
        }
    }
}

/// A pipeline at one moment.
#[derive(Debug, Clone)]
pub struct PipelineMetrics {
    /// The table it writes.
    pub pipeline: TableName,
    /// The source it reads.
    pub source: String,
    /// What it is doing.
    pub phase: Phase,
    /// Rows since the pipeline began, those of the epoch under way included.
    pub counters: Counters,
    /// Rows in since the pipeline began, up to the newest epoch.
    pub rows_in_committed: u64,
    /// Records in the topic that were not read yet.
    pub lag_records: u64,
    /// The least watermark of its partitions in microseconds since 1970; `None` before every partition has one, and after a drain.
    pub watermark_us: Option<i64>,
    /// How far the watermark is behind the wall clock; `None` without a watermark.
    pub watermark_lag_ms: Option<i64>,
    /// The newest epoch.
    pub epoch: u64,
    /// Epochs committed by this process.
    pub commits: u64,
    /// From the barrier's passing to the tables' commit, of the newest epoch.
    pub commit_ms: u64,
    /// State written with the newest epoch.
    pub state_bytes: u64,
    /// Times it was started again after an error.
    pub restarts: u64,
}

#[derive(Default)]
struct State {
    phase: Option<Phase>,
    control: Option<Arc<Control>>,
    /// Counts of the epochs before this run.
    base: Counters,
    record: Option<(u64, Counters)>,
    commits: u64,
    commit: Duration,
    state_bytes: u64,
    restarts: u64,
}

/// Collects what [`PipelineMetrics`] shows.
pub struct Metrics {
    pipeline: TableName,
    source: String,
    state: Mutex<State>,
}

impl Metrics {
    /// For a pipeline that has not started.
    pub fn new(pipeline: TableName, source: String) -> Self {
        Self { pipeline, source, state: Mutex::default() }
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
        state.phase = Some(phase);
    }

    /// A run has begun from `record`.
    pub fn run(&self, control: Arc<Control>, record: Option<&EpochRecord>) {
        let mut state = self.state();
        state.base = record.map(|r| r.counters).unwrap_or_default();
        state.record = record.map(|r| (r.epoch, r.counters));
        state.control = Some(control);
    }

    /// An epoch was committed.
    pub fn committed(&self, record: Option<&EpochRecord>, took: Duration, state_bytes: u64) {
        let mut state = self.state();
        state.record = record.map(|r| (r.epoch, r.counters));
        state.commits += 1;
        state.commit = took;
        state.state_bytes = state_bytes;
    }

    /// The pipeline now.
    pub fn read(&self) -> PipelineMetrics {
        let state = self.state();
        let partitions = state.control.as_ref().map(|c| c.partitions()).unwrap_or_default();
        let mut counters = state.base;
        if let Some(control) = &state.control {
            counters.add(control.live());
        }
        let watermark_us = partitions.values().map(|p| p.watermark_us).min().filter(|&w| w != i64::MIN && w != i64::MAX);
        PipelineMetrics {
            pipeline: self.pipeline.clone(),
            source: self.source.clone(),
            phase: state.phase.clone().unwrap_or(Phase::Starting),
            counters,
            rows_in_committed: state.record.map_or(0, |(_, counters)| counters.rows_in),
            lag_records: partitions.values().map(|p| p.lag()).sum(),
            watermark_us,
            watermark_lag_ms: watermark_us.map(|w| now_ms() as i64 - w / 1_000),
            epoch: state.record.map_or(0, |(epoch, _)| epoch),
            commits: state.commits,
            commit_ms: state.commit.as_millis() as u64,
            state_bytes: state.state_bytes,
            restarts: state.restarts,
        }
    }
}

//! What the jobs of a process report, for `/metrics`: their state by the records of their runs, and what this process did.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use watershed_lake::TableName;

use crate::runs::RunStatus;
use crate::status::JobStatus;

/// What this process did for a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// Runs that replaced the view's rows.
    pub succeeded: u64,
    /// Runs that gave up.
    pub failed: u64,
    /// Runs that were asked to stop.
    pub stopped: u64,
    /// Attempts beyond the first of their run.
    pub retries: u64,
    /// Runs under way.
    pub running: u64,
}

/// One job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobMetrics {
    /// By the records, no matter which process made them, as of the scheduler's last look.
    pub status: JobStatus,
    /// By this process.
    pub counts: JobCounts,
}

/// Looks at the jobs of a process. Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct JobObserver {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    statuses: Vec<JobStatus>,
    counts: BTreeMap<TableName, JobCounts>,
    trouble: Option<String>,
}

impl JobObserver {
    /// All jobs that are scheduled here.
    pub fn metrics(&self) -> Vec<JobMetrics> {
        let seen = self.seen();
        let of =
            |status: &JobStatus| JobMetrics { counts: seen.counts.get(&status.job).copied().unwrap_or_default(), status: status.clone() };
        seen.statuses.iter().map(of).collect()
    }

    /// Why the scheduler cannot see which jobs are due; `None` if it can.
    pub fn trouble(&self) -> Option<String> {
        self.seen().trouble.clone()
    }

    pub(crate) fn looked(&self, statuses: Vec<JobStatus>) {
        let mut seen = self.seen();
        (seen.statuses, seen.trouble) = (statuses, None);
    }

    pub(crate) fn could_not_look(&self, why: String) {
        self.seen().trouble = Some(why);
    }

    /// A run begins; it goes on until the answer is dropped.
    pub(crate) fn began(&self, job: &TableName) -> UnderWay {
        self.count(job, |counts| counts.running += 1);
        UnderWay { observer: self.clone(), job: job.clone() }
    }

    pub(crate) fn tried_again(&self, job: &TableName) {
        self.count(job, |counts| counts.retries += 1);
    }

    pub(crate) fn ended(&self, job: &TableName, status: RunStatus) {
        self.count(job, |counts| match status {
            RunStatus::Succeeded => counts.succeeded += 1,
            RunStatus::Failed => counts.failed += 1,
            RunStatus::Stopped => counts.stopped += 1,
            RunStatus::Running | RunStatus::Lost => {}
        });
    }

    fn count(&self, job: &TableName, change: impl FnOnce(&mut JobCounts)) {
        change(self.seen().counts.entry(job.clone()).or_default());
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run that is under way.
pub(crate) struct UnderWay {
    observer: JobObserver,
    job: TableName,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.observer.count(&self.job, |counts| counts.running -= 1);
    }
}

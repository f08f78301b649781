//! The state of the jobs of a project, from their definitions and the records of their runs: the same in every process.

use chrono::{DateTime, Utc};
use watershed_dialect::Schedule;
use watershed_lake::TableName;

use crate::runs::{RunRecord, RunStatus};
use crate::schedule::next_after;
use crate::{View, Views};

/// One job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobStatus {
    /// The view that it refreshes.
    pub job: TableName,
    /// When it does, for a person.
    pub schedule: String,
    /// What it reads.
    pub reads: Vec<TableName>,
    /// Its newest run.
    pub last: Option<RunRecord>,
    /// Its newest run that has ended, or whose process has.
    pub last_ended: Option<RunRecord>,
    /// Its newest run that succeeded.
    pub last_success: Option<RunRecord>,
    /// Runs on record.
    pub runs: usize,
    /// Those of them that failed.
    pub failed: usize,
    /// When time makes it due next, if a scheduler runs; `None` if no time does, or at once.
    pub next: Option<DateTime<Utc>>,
}

impl JobStatus {
    /// What came of its newest run, in a word or two.
    pub fn last_status(&self) -> String {
        self.last.as_ref().map_or_else(|| "never run".to_owned(), |run| run.status.to_string())
    }
}

/// The jobs in an order in which each comes after those it reads; `records` newest first.
pub fn statuses(views: &Views, records: &[RunRecord]) -> Vec<JobStatus> {
    views.iter().map(|view| status(view, records)).collect()
}

fn status(view: &View, records: &[RunRecord]) -> JobStatus {
    let own = || records.iter().filter(|record| record.job == view.name);
    let last = own().next().cloned();
    let timed = matches!(view.definition.schedule, Schedule::Cron(_) | Schedule::Every(_));
    let started = last.as_ref().and_then(|record| DateTime::from_timestamp_millis(record.started_ms));
    JobStatus {
        job: view.name.clone(),
        schedule: view.definition.schedule.to_string(),
        reads: view.reads.clone(),
        last_ended: own().find(|record| record.status != RunStatus::Running).cloned(),
        last_success: own().find(|record| record.status == RunStatus::Succeeded).cloned(),
        runs: own().count(),
        failed: own().filter(|record| record.status == RunStatus::Failed).count(),
        next: started.filter(|_| timed).and_then(|started| next_after(&view.definition.schedule, started)),
        last,
    }
}

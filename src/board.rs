//! Jobs that are run by this process, as lines for a terminal.

use std::time::Duration;

use anyhow::Result;
use watershed_batch::{JobStatus, RunRecord, Runs, Views, statuses, versions};
use watershed_lake::clock;
use watershed_query::shell::{Cell, Column, duration, grouped};

use crate::terminal::Terminal;

/// Columns of the table in narrow windows.
const NARROW: [&[usize]; 2] = [&[0, 2, 3, 4, 5], &[0, 2]];

/// One line about a run that succeeded.
pub fn done(record: &RunRecord) -> String {
    let rows = if record.rows == 1 { "row" } else { "rows" };
    let version = record.written.map_or_else(String::new, |version| format!(", version {version}"));
    let read = if record.read.is_empty() { String::new() } else { format!(", read {}", versions(&record.read)) };
    let again = if record.attempts > 1 { format!(", at attempt {}", record.attempts) } else { String::new() };
    let took = duration(Duration::from_millis(record.took_ms().unwrap_or(0) as u64));
    let (count, bytes) = (grouped(record.rows as usize), grouped(record.bytes as usize));
    format!("{}: {count} {rows}, {bytes} bytes{version}{read}, in {took}{again}", record.job)
}

/// The jobs as lines for a terminal, below the pipelines.
pub struct Board {
    views: Views,
    runs: Runs,
    terminal: Terminal,
}

impl Board {
    /// Of these views.
    pub fn new(views: Views, runs: Runs, terminal: Terminal) -> Self {
        Self { views, runs, terminal }
    }

    /// Their status now.
    pub async fn statuses(&self) -> Result<Vec<JobStatus>> {
        Ok(statuses(&self.views, &self.runs.all().await?))
    }

    /// The table; empty if there are no jobs or their records cannot be read just now.
    pub async fn table(&self) -> String {
        let Ok(jobs) = self.statuses().await else { return String::new() };
        if jobs.is_empty() {
            return String::new();
        }
        let number = |name: &str| Column { name: name.to_owned(), number: true, whole: true };
        let words = |name: &str| Column { name: name.to_owned(), number: false, whole: true };
        let columns = [
            words("job"),
            words("schedule"),
            words("state"),
            number("rows"),
            number("took"),
            number("ago"),
            number("runs"),
            number("failed"),
        ];
        let now_ms = clock::now().timestamp_millis();
        let rows: Vec<Vec<Cell>> = jobs.iter().map(|job| cells(job, now_ms)).collect();
        self.terminal.table_of(&columns, &rows, &NARROW)
    }
}

fn cells(job: &JobStatus, now_ms: i64) -> Vec<Cell> {
    let span = |ms: i64| duration(Duration::from_millis(ms.max(0) as u64));
    let maybe = |text: Option<String>| Cell::Text(text.unwrap_or_else(|| "-".to_owned()));
    let last = job.last.as_ref();
    vec![
        Cell::Text(job.job.to_string()),
        Cell::Text(job.schedule.clone()),
        Cell::Text(job.last_status()),
        maybe(job.last_success.as_ref().map(|run| grouped(run.rows as usize))),
        maybe(last.and_then(RunRecord::took_ms).map(span)),
        maybe(last.map(|run| span((now_ms - run.started_ms) / 1000 * 1000))),
        Cell::Text(grouped(job.runs)),
        Cell::Text(grouped(job.failed)),
    ]
}

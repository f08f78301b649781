//! Jobs as people see them: `system.jobs`, `system.job_runs`, and a few lines for a terminal. `watershed status` and `SHOW JOBS` read the tables.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use watershed_batch::{JobStatus, RunRecord, RunStatus, Runs, Views, statuses};
use watershed_lake::{TableName, Warehouse, clock};
use watershed_query::SystemTable;
use watershed_query::shell::{Cell, Column, Layout, Style, duration, expanded, grouped};

use crate::columns::{count, counts, maybe, text, texts, time, times_ms};
use crate::project;
use crate::terminal::{Terminal, terminal_width};

/// The columns of `system.jobs` that fit a terminal.
pub const SHOWN: &str = "job, schedule, status, started, took_ms, rows, runs, failed, error";

/// `system.jobs`: each materialized view and how its job stands.
#[derive(Debug)]
pub struct Jobs {
    warehouse: Warehouse,
    runs: Runs,
}

/// `system.job_runs`: each run on record.
#[derive(Debug)]
pub struct JobRuns {
    runs: Runs,
}

impl Jobs {
    /// Of this warehouse.
    pub fn new(warehouse: Warehouse) -> Self {
        Self { runs: Runs::new(warehouse.clone()), warehouse }
    }
}

impl JobRuns {
    /// Of this warehouse.
    pub fn new(warehouse: Warehouse) -> Self {
        Self { runs: Runs::new(warehouse) }
    }
}

#[async_trait::async_trait]
impl SystemTable for Jobs {
    fn name(&self) -> &str {
        "jobs"
    }

    fn shown(&self) -> &str {
        SHOWN
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![
            text("job"),
            text("schedule"),
            text("reads"),
            text("status"),
            maybe(time("started")),
            maybe(count("took_ms")),
            maybe(count("rows")),
            count("runs"),
            count("failed"),
            maybe(time("next")),
            maybe(text("error")),
        ]))
    }

    async fn rows(&self) -> Result<RecordBatch, String> {
        let definitions = self.warehouse.definitions().await.map_err(|error| error.to_string())?;
        let views = project::applied_views(&definitions).map_err(|error| error.to_string())?;
        let records = self.runs.all().await.map_err(|error| error.to_string())?;
        job_rows(self.schema(), &statuses(&views, &records)).map_err(|error| error.to_string())
    }
}

fn job_rows(schema: SchemaRef, jobs: &[JobStatus]) -> Result<RecordBatch, ArrowError> {
    let last = |job: &JobStatus| job.last.clone();
    let columns = vec![
        texts(jobs, |job| Some(job.job.to_string())),
        texts(jobs, |job| Some(job.schedule.clone())),
        texts(jobs, |job| Some(names(&job.reads))),
        texts(jobs, |job| Some(status(job.last.as_ref()))),
        times_ms(jobs, |job| Some(last(job)?.started_ms)),
        counts(jobs, |job| last(job)?.took_ms()),
        counts(jobs, |job| Some(job.last_success.as_ref()?.rows)),
        counts(jobs, |job| Some(job.runs as u64)),
        counts(jobs, |job| Some(job.failed as u64)),
        times_ms(jobs, |job| Some(job.next?.timestamp_millis())),
        texts(jobs, |job| last(job)?.error),
    ];
    RecordBatch::try_new(schema, columns)
}

#[async_trait::async_trait]
impl SystemTable for JobRuns {
    fn name(&self) -> &str {
        "job_runs"
    }

    fn shown(&self) -> &str {
        "run_id, job, trigger, status, started, took_ms, rows, bytes, written, attempts, error"
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![
            text("run_id"),
            text("job"),
            text("trigger"),
            text("status"),
            time("started"),
            maybe(time("ended")),
            maybe(count("took_ms")),
            maybe(count("rows")),
            maybe(count("bytes")),
            maybe(count("dropped")),
            maybe(text("read")),
            maybe(count("written")),
            count("attempts"),
            maybe(text("error")),
        ]))
    }

    async fn rows(&self) -> Result<RecordBatch, String> {
        let records = self.runs.all().await.map_err(|error| error.to_string())?;
        run_rows(self.schema(), &records).map_err(|error| error.to_string())
    }
}

fn run_rows(schema: SchemaRef, runs: &[RunRecord]) -> Result<RecordBatch, ArrowError> {
    let done = |run: &RunRecord| run.status == RunStatus::Succeeded;
    let columns = vec![
        texts(runs, |run| Some(run.run_id.clone())),
        texts(runs, |run| Some(run.job.to_string())),
        texts(runs, |run| Some(run.trigger.to_string())),
        texts(runs, |run| Some(run.status.to_string())),
        times_ms(runs, |run| Some(run.started_ms)),
        times_ms(runs, |run| run.ended_ms),
        counts(runs, RunRecord::took_ms),
        counts(runs, |run| done(run).then_some(run.rows)),
        counts(runs, |run| done(run).then_some(run.bytes)),
        counts(runs, |run| done(run).then_some(run.dropped)),
        texts(runs, |run| done(run).then(|| versions(&run.read))),
        counts(runs, |run| run.written),
        counts(runs, |run| Some(run.attempts)),
        texts(runs, |run| run.error.clone()),
    ];
    RecordBatch::try_new(schema, columns)
}

/// `a@1 b@2`
pub fn versions(read: &BTreeMap<TableName, i64>) -> String {
    read.iter().map(|(table, version)| format!("{table}@{version}")).collect::<Vec<_>>().join(" ")
}

fn names(tables: &[TableName]) -> String {
    tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn status(last: Option<&RunRecord>) -> String {
    last.map_or_else(|| "never run".to_owned(), |run| run.status.to_string())
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

    /// How they stand now.
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
        let width = if self.terminal.output { terminal_width() } else { None };
        let style = Style { width, unicode: self.terminal.output, color: self.terminal.color_output() };
        match Layout::fit(&columns, &rows, &style) {
            Some(layout) => layout.head(&columns, &style) + &layout.rows(&columns, &rows, &style),
            None => expanded(&columns, &rows, 1, &style),
        }
    }
}

fn cells(job: &JobStatus, now_ms: i64) -> Vec<Cell> {
    let span = |ms: i64| duration(Duration::from_millis(ms.max(0) as u64));
    let maybe = |text: Option<String>| Cell::Text(text.unwrap_or_else(|| "-".to_owned()));
    let last = job.last.as_ref();
    vec![
        Cell::Text(job.job.to_string()),
        Cell::Text(job.schedule.clone()),
        Cell::Text(status(last)),
        maybe(job.last_success.as_ref().map(|run| grouped(run.rows as usize))),
        maybe(last.and_then(RunRecord::took_ms).map(span)),
        maybe(last.map(|run| span((now_ms - run.started_ms) / 1000 * 1000))),
        Cell::Text(grouped(job.runs)),
        Cell::Text(grouped(job.failed)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tables_have_a_row_for_each_job_and_run() {
        let warehouse = Warehouse::open("memory://", &std::collections::HashMap::new()).await.unwrap();
        let sql = "CREATE MATERIALIZED VIEW gold.v SCHEDULE EVERY 1 HOUR AS SELECT 1 AS one".to_owned();
        let item = watershed_lake::Definition { name: "gold.v".to_owned(), kind: watershed_lake::kind::VIEW.to_owned(), sql: sql.clone() };
        let before = warehouse.definitions().await.unwrap();
        warehouse.save_definitions(&before, vec![item]).await.unwrap();
        let (jobs, runs) = (Jobs::new(warehouse.clone()), JobRuns::new(warehouse.clone()));
        let text = |batch: &RecordBatch| arrow::util::pretty::pretty_format_batches(std::slice::from_ref(batch)).unwrap().to_string();
        let never = text(&jobs.rows().await.unwrap());
        assert!(never.contains("gold.v") && never.contains("every 1 hour") && never.contains("never run"), "{never}");
        assert_eq!(runs.rows().await.unwrap().num_rows(), 0);

        let views = Views::parse([sql.as_str()]).unwrap();
        let runner = watershed_batch::JobRunner::new(warehouse, watershed_batch::Limits::default()).unwrap();
        let (_sender, stop) = tokio::sync::watch::channel(false);
        let run = runner.run(views.iter().next().unwrap(), watershed_batch::Trigger::Manual, stop).await.unwrap();
        let found = runs.rows().await.unwrap();
        assert!(text(&found).contains(&run.run_id) && text(&found).contains("succeeded"), "{}", text(&found));
        assert_eq!(found.schema(), runs.schema());
        assert!(text(&jobs.rows().await.unwrap()).contains("succeeded"));
    }
}

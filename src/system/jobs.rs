//! `system.jobs` and `system.job_runs`: each materialized view's job with its status; each run on record. `watershed status` and
//! `SHOW JOBS` read them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use watershed_batch::{JobStatus, RunRecord, RunStatus, Runs, statuses, versions};
use watershed_lake::{TableName, Warehouse};
use watershed_message::Message;
use watershed_query::SystemTable;

use super::columns::{count, counts, maybe, text, texts, time, times_ms};
use crate::project;
use crate::report::message_of;

/// The columns of `system.jobs` that fit a terminal.
pub const SHOWN: &str = "job, schedule, status, started, took_ms, rows, runs, failed, error";

/// `system.jobs`: each materialized view and the status of its job.
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

    async fn rows(&self) -> Result<RecordBatch, Message> {
        let definitions = self.warehouse.definitions().await.map_err(|error| error.message())?;
        let views = project::applied_views(&definitions).map_err(|error| message_of(error.as_ref()))?;
        let records = self.runs.all().await.map_err(|error| error.message())?;
        job_rows(self.schema(), &statuses(&views, &records)).map_err(|error| error.to_string().into())
    }
}

fn job_rows(schema: SchemaRef, jobs: &[JobStatus]) -> Result<RecordBatch, ArrowError> {
    let last = |job: &JobStatus| job.last.clone();
    let columns = vec![
        texts(jobs, |job| Some(job.job.to_string())),
        texts(jobs, |job| Some(job.schedule.clone())),
        texts(jobs, |job| Some(names(&job.reads))),
        texts(jobs, |job| Some(job.last_status())),
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

    async fn rows(&self) -> Result<RecordBatch, Message> {
        let records = self.runs.all().await.map_err(|error| error.message())?;
        run_rows(self.schema(), &records).map_err(|error| error.to_string().into())
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

fn names(tables: &[TableName]) -> String {
    tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
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

        let views = watershed_batch::Views::parse([sql.as_str()]).unwrap();
        let runner = watershed_batch::JobRunner::new(warehouse, watershed_batch::Limits::default()).unwrap();
        let (_sender, stop) = tokio::sync::watch::channel(false);
        let run = runner.run(views.iter().next().unwrap(), watershed_batch::Trigger::Manual, stop).await.unwrap();
        let found = runs.rows().await.unwrap();
        assert!(text(&found).contains(&run.run_id) && text(&found).contains("succeeded"), "{}", text(&found));
        assert_eq!(found.schema(), runs.schema());
        assert!(text(&jobs.rows().await.unwrap()).contains("succeeded"));
    }
}

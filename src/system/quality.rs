//! `system.quality`: how well each table's rows meet its expectations, from the newest epoch record of each pipeline and the newest successful run
//! of each job. Counts are part of epochs and runs, so no restart loses or doubles any.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use watershed_batch::{ConstraintRun, RunRecord, RunStatus, Runs};
use watershed_lake::Warehouse;
use watershed_message::Message;
use watershed_query::SystemTable;
use watershed_stream::{ConstraintEpoch, EpochRecord, newest_epochs};

use super::columns::{count, counts, maybe, ratio, ratios, text, texts, time, times_ms};

/// The table; reads the warehouse again each time.
#[derive(Debug)]
pub struct Quality {
    warehouse: Warehouse,
    runs: Runs,
}

/// One constraint of a table.
struct Row {
    table: String,
    name: String,
    predicate: String,
    action: String,
    passed: u64,
    failed: u64,
    last_failed_ms: Option<i64>,
    /// The epoch, or the version that the run wrote.
    epoch: i64,
    epoch_passed: u64,
    epoch_failed: u64,
    committed_ms: i64,
}

impl Quality {
    /// Of this warehouse.
    pub fn new(warehouse: Warehouse) -> Self {
        Self { runs: Runs::new(warehouse.clone()), warehouse }
    }
}

#[async_trait::async_trait]
impl SystemTable for Quality {
    fn name(&self) -> &str {
        "quality"
    }

    fn shown(&self) -> &str {
        "pipeline, \"constraint\", action, passed, failed, failed_ratio, last_failed"
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![
            text("pipeline"),
            text("constraint"),
            text("predicate"),
            text("action"),
            count("passed"),
            count("failed"),
            // NULL before the first row.
            maybe(ratio("failed_ratio")),
            maybe(time("last_failed")),
            count("epoch"),
            count("epoch_passed"),
            count("epoch_failed"),
            time("committed"),
        ]))
    }

    async fn rows(&self) -> Result<RecordBatch, Message> {
        let epochs = newest_epochs(&self.warehouse).await.map_err(|error| error.message())?;
        let runs = self.runs.all().await.map_err(|error| error.message())?;
        let rows: Vec<Row> = epochs.iter().flat_map(of_pipeline).chain(of_jobs(&runs)).collect();
        batch(self.schema(), &rows).map_err(|error| error.to_string().into())
    }
}

fn of_pipeline(record: &EpochRecord) -> impl Iterator<Item = Row> {
    let row = move |constraint: &ConstraintEpoch| Row {
        table: record.pipeline.to_string(),
        name: constraint.name.clone(),
        predicate: constraint.predicate.clone(),
        action: constraint.action.clone(),
        passed: constraint.passed,
        failed: constraint.failed,
        last_failed_ms: constraint.last_failed_ms.map(|ms| ms as i64),
        epoch: record.epoch as i64,
        epoch_passed: constraint.epoch_passed,
        epoch_failed: constraint.epoch_failed,
        committed_ms: record.written_ms as i64,
    };
    record.constraints.iter().map(row)
}

/// A run computes all rows again, so those of the newest are all there are. `runs` are newest first.
fn of_jobs(runs: &[RunRecord]) -> Vec<Row> {
    let mut seen = BTreeSet::new();
    let done = || runs.iter().filter(|run| run.status == RunStatus::Succeeded);
    let mut rows = Vec::new();
    for run in done().filter(|run| seen.insert(run.job.clone())) {
        for constraint in &run.constraints {
            let same = |other: &&ConstraintRun| {
                (&other.name, &other.predicate, &other.action) == (&constraint.name, &constraint.predicate, &constraint.action)
            };
            let failed = |run: &&RunRecord| run.constraints.iter().find(same).is_some_and(|constraint| constraint.failed > 0);
            let last_failed = done().filter(|other| other.job == run.job).find(failed);
            rows.push(Row {
                table: run.job.to_string(),
                name: constraint.name.clone(),
                predicate: constraint.predicate.clone(),
                action: constraint.action.clone(),
                passed: constraint.passed,
                failed: constraint.failed,
                last_failed_ms: last_failed.and_then(|run| run.ended_ms),
                epoch: run.written.unwrap_or_default(),
                epoch_passed: constraint.passed,
                epoch_failed: constraint.failed,
                committed_ms: run.ended_ms.unwrap_or(run.started_ms),
            });
        }
    }
    rows
}

fn batch(schema: SchemaRef, rows: &[Row]) -> Result<RecordBatch, ArrowError> {
    let failed_ratio = |row: &Row| {
        let all = row.passed + row.failed;
        (all > 0).then(|| row.failed as f64 / all as f64)
    };
    let columns = vec![
        texts(rows, |row| Some(row.table.clone())),
        texts(rows, |row| Some(row.name.clone())),
        texts(rows, |row| Some(row.predicate.clone())),
        texts(rows, |row| Some(row.action.clone())),
        counts(rows, |row| Some(row.passed)),
        counts(rows, |row| Some(row.failed)),
        ratios(rows, failed_ratio),
        times_ms(rows, |row| row.last_failed_ms),
        counts(rows, |row| Some(row.epoch)),
        counts(rows, |row| Some(row.epoch_passed)),
        counts(rows, |row| Some(row.epoch_failed)),
        times_ms(rows, |row| Some(row.committed_ms)),
    ];
    RecordBatch::try_new(schema, columns)
}

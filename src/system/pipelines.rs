//! `system.pipelines`: what the newest epoch record of each pipeline says, and the process that runs it; why this version cannot run others.
//! `watershed status` and `SHOW PIPELINES` read it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::exec_err;
use tokio::sync::Mutex;
use watershed_lake::clock::now_ms;
use watershed_lake::{Definitions, TableName, Warehouse};
use watershed_message::Message;
use watershed_query::{SystemTable, shell};
use watershed_stream::{Counters, Held, PipelineReport, StreamError, reports, with_refused};

use super::columns::{count, counts, maybe, text, texts, time, times_ms, times_us};
use crate::project;
use crate::say::behind;

/// The columns that fit a terminal.
pub const SHOWN: &str = "pipeline, state, epoch, age, behind, lag_records AS lag, rows_in, rows_out, late, quarantined, deduplicated";

/// The pipelines that this version cannot run, and why.
#[derive(Debug, Default)]
pub struct Refused {
    definitions: Definitions,
    why: BTreeMap<TableName, String>,
}

impl Refused {
    /// Those of `definitions`, which are planned only if they are not those of the last call.
    pub async fn of(&mut self, definitions: Definitions) -> &BTreeMap<TableName, String> {
        if self.definitions != definitions {
            let refused = project::applied(&definitions).plan_each().await.refused.into_iter();
            let why = refused.map(|(name, error)| (name.clone(), StreamError::cannot_plan(&name, error).to_string())).collect();
            *self = Self { definitions, why };
        }
        &self.why
    }
}

/// The table; reads the warehouse again each time.
#[derive(Debug)]
pub struct Pipelines {
    warehouse: Warehouse,
    refused: Mutex<Refused>,
}

impl Pipelines {
    /// Of this warehouse.
    pub fn new(warehouse: Warehouse) -> Self {
        Self { warehouse, refused: Mutex::default() }
    }
}

#[async_trait::async_trait]
impl SystemTable for Pipelines {
    fn name(&self) -> &str {
        "pipelines"
    }

    fn shown(&self) -> &str {
        SHOWN
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![
            text("pipeline"),
            // running, failing (it tries again), failed (it gave up, or this version cannot run it), stopped, or silent: who ran it last was not heard of for a while
            text("state"),
            // The newest epoch, when it was committed, and the counts until then; none before the first.
            maybe(count("epoch")),
            maybe(text("age")),
            maybe(count("age_ms")),
            maybe(time("committed")),
            maybe(time("watermark")),
            // How far it lags the clock: such as `13.00 s`, or `365 days ahead`; the number is less than zero then.
            maybe(text("behind")),
            maybe(count("watermark_lag_ms")),
            count("rows_in"),
            count("rows_out"),
            count("late"),
            count("quarantined"),
            count("deduplicated"),
            count("violating"),
            count("dropped"),
            count("lost"),
            count("tombstones"),
            // What the process that runs it said last; none if it never ran.
            maybe(count("lag_records")),
            maybe(count("lag_ms")),
            maybe(count("commit_ms")),
            maybe(count("restarts")),
            maybe(text("last_error")),
            maybe(time("failing_since")),
            count("state_bytes"),
            maybe(count("state_keys")),
            maybe(count("state_memory_bytes")),
            maybe(count("state_spilled_bytes")),
            maybe(count("snapshot_ms")),
            maybe(count("restore_ms")),
            // Sources that wait for another one: `clicks for rides`.
            maybe(text("waiting")),
            maybe(text("offsets")),
            maybe(text("writer")),
        ]))
    }

    async fn rows(&self) -> Result<RecordBatch, Message> {
        let definitions = self.warehouse.definitions().await.map_err(|error| error.message())?;
        let reports = reports(&self.warehouse).await.map_err(|error| error.message())?;
        let reports = with_refused(reports, self.refused.lock().await.of(definitions).await);
        batch(self.schema(), &reports, now_ms()).map_err(|error| error.to_string().into())
    }
}

fn state(held: Held) -> &'static str {
    match held {
        Held::Running => "running",
        Held::Failing => "failing",
        Held::Failed => "failed",
        Held::Stopped => "stopped",
        Held::Silent => "silent",
    }
}

fn batch(schema: SchemaRef, reports: &[PipelineReport], now_ms: u64) -> Result<RecordBatch, datafusion::error::DataFusionError> {
    let age_ms = |report: &PipelineReport| Some(now_ms.saturating_sub(report.record.as_ref()?.written_ms));
    let lag_ms = |report: &PipelineReport| report.record.as_ref()?.watermark_us().map(|us| now_ms as i64 - us / 1_000);
    // A pipeline without an epoch has read nothing.
    let counted =
        |count: fn(&Counters) -> u64| counts(reports, move |report| Some(report.record.as_ref().map_or(0, |r| count(&r.counters))));
    let failure = |report: &PipelineReport| report.vitals.as_ref()?.failure.clone();
    let columns = vec![
        texts(reports, |report| Some(report.pipeline.to_string())),
        texts(reports, |report| Some(state(report.held).to_owned())),
        counts(reports, |report| Some(report.record.as_ref()?.epoch)),
        texts(reports, |report| age_ms(report).map(|ms| shell::duration(Duration::from_millis(ms)))),
        counts(reports, age_ms),
        times_ms(reports, |report| Some(report.record.as_ref()?.written_ms)),
        times_us(reports, |report| report.record.as_ref()?.watermark_us()),
        texts(reports, |report| lag_ms(report).map(behind)),
        counts(reports, lag_ms),
        counted(|counters| counters.rows_in),
        counted(|counters| counters.rows_out),
        counted(|counters| counters.rows_late),
        counted(|counters| counters.rows_quarantined),
        counted(|counters| counters.rows_deduplicated),
        counted(|counters| counters.rows_violating),
        counted(|counters| counters.rows_dropped),
        counted(|counters| counters.rows_lost),
        counted(|counters| counters.tombstones),
        counts(reports, |report| Some(report.vitals.as_ref()?.lag_records)),
        counts(reports, |report| Some(report.vitals.as_ref()?.lag_ms)),
        counts(reports, |report| Some(report.vitals.as_ref()?.commit_ms)),
        counts(reports, |report| Some(report.vitals.as_ref()?.restarts)),
        texts(reports, |report| report.refused.clone().or_else(|| failure(report).map(|failure| failure.error))),
        times_ms(reports, |report| failure(report).map(|failure| failure.since_ms)),
        counts(reports, |report| Some(report.record.as_ref().map_or(0, |record| record.state_bytes()))),
        counts(reports, |report| Some(report.vitals.as_ref()?.state_keys)),
        counts(reports, |report| Some(report.vitals.as_ref()?.state_memory_bytes)),
        counts(reports, |report| Some(report.vitals.as_ref()?.state_spilled_bytes)),
        counts(reports, |report| Some(report.vitals.as_ref()?.snapshot_ms)),
        counts(reports, |report| Some(report.vitals.as_ref()?.restore_ms)),
        texts(reports, waiting),
        texts(reports, |report| Some(report.record.as_ref()?.offsets_shown())),
        texts(reports, |report| Some(report.record.as_ref()?.writer.to_string())),
    ];
    if columns.len() != schema.fields().len() {
        return exec_err!("system.pipelines has columns without values");
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// Which sources wait for another one, while somebody runs the pipeline.
pub fn waiting(report: &PipelineReport) -> Option<String> {
    let waits = &report.vitals.as_ref().filter(|_| report.held == Held::Running)?.waits;
    let said: Vec<String> = waits.iter().map(|waits| format!("{} for {}", waits.source, waits.waits_for)).collect();
    (!said.is_empty()).then(|| said.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow::array::AsArray;
    use watershed_lake::Definition;
    use watershed_lake::kind::{SOURCE, TABLE};

    use super::*;

    /// After an upgrade, say: nobody has run it yet.
    #[tokio::test]
    async fn what_this_version_refuses_has_failed_before_it_runs() {
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        let item = |kind: &str, name: &str, sql: &str| Definition { kind: kind.to_owned(), name: name.to_owned(), sql: sql.to_owned() };
        let source = "CREATE SOURCE s (c INT) WITH (connector = 'kafka', topic = 's', format = 'json')";
        let good = item(TABLE, "silver.good", "CREATE STREAMING TABLE silver.good AS SELECT c FROM s");
        let odd = item(TABLE, "silver.odd", "CREATE STREAMING TABLE silver.odd WITH (gone = 'x') AS SELECT c FROM s");
        let first = warehouse.save_definitions(&Definitions::default(), vec![item(SOURCE, "s", source), good.clone(), odd]).await.unwrap();
        let table = Pipelines::new(warehouse.clone());
        let said = async || {
            let rows = table.rows().await.unwrap();
            let text = |name: &str| rows.column_by_name(name).unwrap().as_string::<i32>().clone();
            let (names, states, errors) = (text("pipeline"), text("state"), text("last_error"));
            (0..rows.num_rows()).map(|row| [&names, &states, &errors].map(|of| of.value(row).to_owned())).collect::<Vec<_>>()
        };
        let rows = said().await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(rows[0][..2], ["silver.odd", "failed"]);
        assert!(rows[0][2].starts_with("this version of Watershed cannot run silver.odd as it was applied: "), "{rows:?}");
        assert!(rows[0][2].contains("no option 'gone'") && rows[0][2].contains("correct its definition"), "{rows:?}");

        warehouse.save_definitions(&first, vec![item(SOURCE, "s", source), good]).await.unwrap();
        assert!(said().await.is_empty(), "nothing is refused any more");
    }
}

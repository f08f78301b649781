//! `system.pipelines`: what the newest epoch record of each pipeline says, and the process that runs it. `watershed status` and
//! `SHOW PIPELINES` read it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::exec_err;
use watershed_lake::Warehouse;
use watershed_query::{SystemTable, shell};
use watershed_stream::{EpochRecord, Held, PipelineReport, Vitals, reports};

use crate::live::span;

/// The columns that fit a terminal.
pub const SHOWN: &str = "pipeline, state, epoch, age, behind, lag_records AS lag, rows_in, rows_out, late, quarantined, deduplicated";

/// The table; reads the warehouse anew each time.
#[derive(Debug)]
pub struct Pipelines {
    warehouse: Warehouse,
}

impl Pipelines {
    /// Of this warehouse.
    pub fn new(warehouse: Warehouse) -> Self {
        Self { warehouse }
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
        let text = |name| Field::new(name, DataType::Utf8, false);
        let count = |name| Field::new(name, DataType::Int64, false);
        let perhaps = |name| Field::new(name, DataType::Int64, true);
        let time = |name, nullable| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), nullable);
        Arc::new(Schema::new(vec![
            text("pipeline"),
            // running, stopped, or silent: the last process that ran it was not heard of for a while
            text("state"),
            count("epoch"),
            text("age"),
            count("age_ms"),
            time("committed", false),
            time("watermark", true),
            Field::new("behind", DataType::Utf8, true),
            perhaps("watermark_lag_ms"),
            count("rows_in"),
            count("rows_out"),
            count("late"),
            count("quarantined"),
            count("deduplicated"),
            count("violating"),
            count("dropped"),
            // What the process that runs it said last; none if nobody ever did.
            perhaps("lag_records"),
            perhaps("lag_ms"),
            perhaps("commit_ms"),
            perhaps("restarts"),
            count("state_bytes"),
            text("offsets"),
            text("writer"),
        ]))
    }

    async fn rows(&self) -> Result<RecordBatch, String> {
        let reports = reports(&self.warehouse).await.map_err(|error| error.to_string())?;
        batch(self.schema(), &reports, now_ms()).map_err(|error| error.to_string())
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn state(held: Held) -> &'static str {
    match held {
        Held::Running => "running",
        Held::Stopped => "stopped",
        Held::Silent => "silent",
    }
}

fn batch(schema: SchemaRef, reports: &[PipelineReport], now_ms: u64) -> Result<RecordBatch, datafusion::error::DataFusionError> {
    let texts = |value: &dyn Fn(&EpochRecord) -> String| {
        Arc::new(reports.iter().map(|report| Some(value(&report.record))).collect::<StringArray>()) as ArrayRef
    };
    let counts = |value: &dyn Fn(&EpochRecord) -> u64| {
        Arc::new(reports.iter().map(|report| Some(value(&report.record) as i64)).collect::<Int64Array>()) as ArrayRef
    };
    let times = |value: &dyn Fn(&EpochRecord) -> Option<i64>| {
        Arc::new(reports.iter().map(|report| value(&report.record)).collect::<TimestampMicrosecondArray>().with_timezone("UTC")) as ArrayRef
    };
    let vitals = |value: &dyn Fn(&Vitals) -> u64| {
        Arc::new(reports.iter().map(|report| report.vitals.as_ref().map(|vitals| value(vitals) as i64)).collect::<Int64Array>()) as ArrayRef
    };
    let lag_ms = |report: &PipelineReport| report.record.watermark_us().map(|us| now_ms as i64 - us / 1_000);
    let columns = vec![
        texts(&|record| record.pipeline.to_string()),
        Arc::new(reports.iter().map(|report| Some(state(report.held))).collect::<StringArray>()),
        counts(&|record| record.epoch),
        texts(&|record| shell::duration(Duration::from_millis(now_ms.saturating_sub(record.written_ms)))),
        counts(&|record| now_ms.saturating_sub(record.written_ms)),
        times(&|record| Some(record.written_ms as i64 * 1000)),
        times(&EpochRecord::watermark_us),
        Arc::new(reports.iter().map(|report| lag_ms(report).map(span)).collect::<StringArray>()),
        Arc::new(reports.iter().map(lag_ms).collect::<Int64Array>()),
        counts(&|record| record.counters.rows_in),
        counts(&|record| record.counters.rows_out),
        counts(&|record| record.counters.rows_late),
        counts(&|record| record.counters.rows_quarantined),
        counts(&|record| record.counters.rows_deduplicated),
        counts(&|record| record.counters.rows_violating),
        counts(&|record| record.counters.rows_dropped),
        vitals(&|vitals| vitals.lag_records),
        vitals(&|vitals| vitals.lag_ms),
        vitals(&|vitals| vitals.commit_ms),
        vitals(&|vitals| vitals.restarts),
        counts(&EpochRecord::state_bytes),
        texts(&|record| offsets(&record.offsets)),
        texts(&|record| record.writer.to_string()),
    ];
    if columns.len() != schema.fields().len() {
        return exec_err!("system.pipelines has columns without values");
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn offsets(offsets: &BTreeMap<i32, i64>) -> String {
    let pairs: Vec<String> = offsets.iter().map(|(partition, offset)| format!("{partition}:{offset}")).collect();
    pairs.join(" ")
}

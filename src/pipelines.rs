//! `system.pipelines`: what the newest epoch record of each pipeline says. `watershed status` and `SHOW PIPELINES` read it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::exec_err;
use watershed_lake::Warehouse;
use watershed_query::{SystemTable, shell};
use watershed_stream::{EpochRecord, newest_epochs};

/// The columns that fit a terminal.
pub const SHOWN: &str = "pipeline, epoch, age, watermark, rows_in, rows_out, late, quarantined, deduplicated";

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
        let time = |name, nullable| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), nullable);
        Arc::new(Schema::new(vec![
            text("pipeline"),
            count("epoch"),
            text("age"),
            time("committed", false),
            time("watermark", true),
            count("rows_in"),
            count("rows_out"),
            count("late"),
            count("quarantined"),
            count("deduplicated"),
            count("violating"),
            count("dropped"),
            text("offsets"),
            text("writer"),
        ]))
    }

    async fn rows(&self) -> Result<RecordBatch, String> {
        let records = newest_epochs(&self.warehouse).await.map_err(|error| error.to_string())?;
        batch(self.schema(), &records, now_ms()).map_err(|error| error.to_string())
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn batch(schema: SchemaRef, records: &[EpochRecord], now_ms: u64) -> Result<RecordBatch, datafusion::error::DataFusionError> {
    let texts = |value: &dyn Fn(&EpochRecord) -> String| Arc::new(records.iter().map(value).map(Some).collect::<StringArray>()) as ArrayRef;
    let counts = |value: &dyn Fn(&EpochRecord) -> u64| {
        Arc::new(records.iter().map(|record| Some(value(record) as i64)).collect::<Int64Array>()) as ArrayRef
    };
    let times = |value: &dyn Fn(&EpochRecord) -> Option<i64>| {
        Arc::new(records.iter().map(value).collect::<TimestampMicrosecondArray>().with_timezone("UTC")) as ArrayRef
    };
    let columns = vec![
        texts(&|record| record.pipeline.to_string()),
        counts(&|record| record.epoch),
        texts(&|record| shell::duration(Duration::from_millis(now_ms.saturating_sub(record.written_ms)))),
        times(&|record| Some(record.written_ms as i64 * 1000)),
        times(&|record| record.watermarks_us.values().copied().min()),
        counts(&|record| record.counters.rows_in),
        counts(&|record| record.counters.rows_out),
        counts(&|record| record.counters.rows_late),
        counts(&|record| record.counters.rows_quarantined),
        counts(&|record| record.counters.rows_deduplicated),
        counts(&|record| record.counters.rows_violating),
        counts(&|record| record.counters.rows_dropped),
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

//! `system.quality`: how well each table's rows meet its expectations, from the newest epoch record of each pipeline. Counts are part of
//! epochs, so no restart loses or doubles any.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use watershed_lake::Warehouse;
use watershed_query::SystemTable;
use watershed_stream::{ConstraintEpoch, EpochRecord, newest_epochs};

/// The table; reads the warehouse anew each time.
#[derive(Debug)]
pub struct Quality {
    warehouse: Warehouse,
}

impl Quality {
    /// Of this warehouse.
    pub fn new(warehouse: Warehouse) -> Self {
        Self { warehouse }
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
        let text = |name| Field::new(name, DataType::Utf8, false);
        let count = |name| Field::new(name, DataType::Int64, false);
        let time = |name, nullable| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), nullable);
        Arc::new(Schema::new(vec![
            text("pipeline"),
            text("constraint"),
            text("predicate"),
            text("action"),
            count("passed"),
            count("failed"),
            // NULL before the first row.
            Field::new("failed_ratio", DataType::Float64, true),
            time("last_failed", true),
            count("epoch"),
            count("epoch_passed"),
            count("epoch_failed"),
            time("committed", false),
        ]))
    }

    async fn rows(&self) -> Result<RecordBatch, String> {
        let records = newest_epochs(&self.warehouse).await.map_err(|error| error.to_string())?;
        batch(self.schema(), &records).map_err(|error| error.to_string())
    }
}

fn batch(schema: SchemaRef, records: &[EpochRecord]) -> Result<RecordBatch, ArrowError> {
    type Row<'a> = (&'a EpochRecord, &'a ConstraintEpoch);
    let rows: Vec<Row> = records.iter().flat_map(|record| record.constraints.iter().map(move |constraint| (record, constraint))).collect();
    let texts = |value: &dyn Fn(&Row) -> String| Arc::new(StringArray::from_iter_values(rows.iter().map(value))) as ArrayRef;
    let counts = |value: &dyn Fn(&Row) -> u64| Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| value(row) as i64))) as ArrayRef;
    let times = |value: &dyn Fn(&Row) -> Option<u64>| {
        let micros = rows.iter().map(|row| value(row).map(|ms| ms as i64 * 1_000));
        Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC")) as ArrayRef
    };
    let ratio = |(_, constraint): &Row| {
        let all = constraint.passed + constraint.failed;
        (all > 0).then(|| constraint.failed as f64 / all as f64)
    };
    let columns = vec![
        texts(&|(record, _)| record.pipeline.to_string()),
        texts(&|(_, constraint)| constraint.name.clone()),
        texts(&|(_, constraint)| constraint.predicate.clone()),
        texts(&|(_, constraint)| constraint.action.clone()),
        counts(&|(_, constraint)| constraint.passed),
        counts(&|(_, constraint)| constraint.failed),
        Arc::new(rows.iter().map(ratio).collect::<Float64Array>()),
        times(&|(_, constraint)| constraint.last_failed_ms),
        counts(&|(record, _)| record.epoch),
        counts(&|(_, constraint)| constraint.epoch_passed),
        counts(&|(_, constraint)| constraint.epoch_failed),
        times(&|(record, _)| Some(record.written_ms)),
    ];
    RecordBatch::try_new(schema, columns)
}

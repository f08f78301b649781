//! `system.quality`: how well each table's rows meet its expectations, from the newest epoch record of each pipeline. Counts are part of
//! epochs, so no restart loses or doubles any.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use watershed_lake::Warehouse;
use watershed_query::SystemTable;
use watershed_stream::{ConstraintEpoch, EpochRecord, newest_epochs};

use crate::columns::{count, counts, maybe, ratio, ratios, text, texts, time, times_ms};

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

    async fn rows(&self) -> Result<RecordBatch, String> {
        let records = newest_epochs(&self.warehouse).await.map_err(|error| error.to_string())?;
        batch(self.schema(), &records).map_err(|error| error.to_string())
    }
}

fn batch(schema: SchemaRef, records: &[EpochRecord]) -> Result<RecordBatch, ArrowError> {
    type Row<'a> = (&'a EpochRecord, &'a ConstraintEpoch);
    let rows: Vec<Row> = records.iter().flat_map(|record| record.constraints.iter().map(move |constraint| (record, constraint))).collect();
    let failed_ratio = |(_, constraint): &Row| {
        let all = constraint.passed + constraint.failed;
        (all > 0).then(|| constraint.failed as f64 / all as f64)
    };
    let columns = vec![
        texts(&rows, |(record, _)| Some(record.pipeline.to_string())),
        texts(&rows, |(_, constraint)| Some(constraint.name.clone())),
        texts(&rows, |(_, constraint)| Some(constraint.predicate.clone())),
        texts(&rows, |(_, constraint)| Some(constraint.action.clone())),
        counts(&rows, |(_, constraint)| Some(constraint.passed)),
        counts(&rows, |(_, constraint)| Some(constraint.failed)),
        ratios(&rows, failed_ratio),
        times_ms(&rows, |(_, constraint)| constraint.last_failed_ms),
        counts(&rows, |(record, _)| Some(record.epoch)),
        counts(&rows, |(_, constraint)| Some(constraint.epoch_passed)),
        counts(&rows, |(_, constraint)| Some(constraint.epoch_failed)),
        times_ms(&rows, |(record, _)| Some(record.written_ms)),
    ];
    RecordBatch::try_new(schema, columns)
}

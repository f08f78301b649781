//! `system.sinks`: how many rows each sink has delivered, from the newest epoch record of each pipeline.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use watershed_lake::Warehouse;
use watershed_query::SystemTable;
use watershed_stream::{EpochRecord, SinkEpoch, newest_epochs};

/// The table; reads the warehouse anew each time.
#[derive(Debug)]
pub struct Sinks {
    warehouse: Warehouse,
}

impl Sinks {
    /// Of this warehouse.
    pub fn new(warehouse: Warehouse) -> Self {
        Self { warehouse }
    }
}

#[async_trait::async_trait]
impl SystemTable for Sinks {
    fn name(&self) -> &str {
        "sinks"
    }

    fn schema(&self) -> SchemaRef {
        let text = |name| Field::new(name, DataType::Utf8, false);
        let count = |name| Field::new(name, DataType::Int64, false);
        Arc::new(Schema::new(vec![
            text("sink"),
            text("pipeline"),
            text("topic"),
            // `at once` or `after each epoch`.
            text("delivery"),
            count("rows"),
            count("epoch"),
            Field::new("committed", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        ]))
    }

    async fn rows(&self) -> Result<RecordBatch, String> {
        let records = newest_epochs(&self.warehouse).await.map_err(|error| error.to_string())?;
        batch(self.schema(), &records).map_err(|error| error.to_string())
    }
}

fn batch(schema: SchemaRef, records: &[EpochRecord]) -> Result<RecordBatch, ArrowError> {
    type Row<'a> = (&'a EpochRecord, &'a SinkEpoch);
    let rows: Vec<Row> = records.iter().flat_map(|record| record.sinks.iter().map(move |sink| (record, sink))).collect();
    let texts = |value: &dyn Fn(&Row) -> String| Arc::new(StringArray::from_iter_values(rows.iter().map(value))) as ArrayRef;
    let counts = |value: &dyn Fn(&Row) -> u64| Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| value(row) as i64))) as ArrayRef;
    let committed = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|(record, _)| record.written_ms as i64 * 1_000));
    let columns = vec![
        texts(&|(_, sink)| sink.name.clone()),
        texts(&|(record, _)| record.pipeline.to_string()),
        texts(&|(_, sink)| sink.topic.clone()),
        texts(&|(_, sink)| if sink.at_once { "at once" } else { "after each epoch" }.to_owned()),
        counts(&|(_, sink)| sink.rows),
        counts(&|(record, _)| record.epoch),
        Arc::new(committed.with_timezone("UTC")),
    ];
    RecordBatch::try_new(schema, columns)
}

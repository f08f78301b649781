//! `system.sinks`: how many rows each sink has delivered, from the newest epoch record of each pipeline and what is noted of its rows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use watershed_lake::Warehouse;
use watershed_message::Message;
use watershed_query::SystemTable;
use watershed_stream::{EpochRecord, SinkEpoch, newest_epochs, with_noted};

use super::columns::{count, counts, text, texts, time, times_ms};

/// The table; reads the warehouse again each time.
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
        Arc::new(Schema::new(vec![
            text("sink"),
            text("pipeline"),
            text("topic"),
            // `at once` or `after each epoch`.
            text("delivery"),
            count("rows"),
            count("epoch"),
            time("committed"),
        ]))
    }

    async fn rows(&self) -> Result<RecordBatch, Message> {
        let mut records = Vec::new();
        for record in newest_epochs(&self.warehouse).await.map_err(|error| error.message())? {
            records.push(with_noted(&self.warehouse, record).await);
        }
        batch(self.schema(), &records).map_err(|error| error.to_string().into())
    }
}

fn batch(schema: SchemaRef, records: &[EpochRecord]) -> Result<RecordBatch, ArrowError> {
    type Row<'a> = (&'a EpochRecord, &'a SinkEpoch);
    let rows: Vec<Row> = records.iter().flat_map(|record| record.sinks.iter().map(move |sink| (record, sink))).collect();
    let columns = vec![
        texts(&rows, |(_, sink)| Some(sink.name.clone())),
        texts(&rows, |(record, _)| Some(record.pipeline.to_string())),
        texts(&rows, |(_, sink)| Some(sink.topic.clone())),
        texts(&rows, |(_, sink)| Some(if sink.at_once { "at once" } else { "after each epoch" }.to_owned())),
        counts(&rows, |(_, sink)| Some(sink.rows)),
        counts(&rows, |(record, _)| Some(record.epoch)),
        times_ms(&rows, |(record, _)| Some(record.written_ms)),
    ];
    RecordBatch::try_new(schema, columns)
}

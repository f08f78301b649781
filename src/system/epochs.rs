//! `system.epochs`: the newest epoch records of each pipeline, with what each epoch added.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use watershed_lake::{TableName, Warehouse};
use watershed_message::Message;
use watershed_query::SystemTable;
use watershed_stream::{Counters, EpochHistory, EpochSummary};

use super::columns::{count, counts, maybe, text, texts, time, times_ms, times_us};

/// Records of each pipeline that are read: some minutes of the usual commit interval.
const EPOCHS_EACH: usize = 60;

/// The table; what it has read once it knows.
#[derive(Debug)]
pub struct Epochs {
    history: EpochHistory,
}

impl Epochs {
    /// Of this warehouse.
    pub fn new(warehouse: Warehouse) -> Self {
        // One more than is shown: what an epoch added is the difference to the one before it.
        Self { history: EpochHistory::new(warehouse, EPOCHS_EACH + 1) }
    }
}

#[async_trait::async_trait]
impl SystemTable for Epochs {
    fn name(&self) -> &str {
        "epochs"
    }

    fn shown(&self) -> &str {
        "pipeline, epoch, committed, rows_in, rows_out, late, quarantined, deduplicated, files, file_bytes, state_bytes"
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![
            text("pipeline"),
            count("epoch"),
            time("committed"),
            maybe(time("watermark")),
            count("rows_in"),
            count("rows_out"),
            count("late"),
            count("quarantined"),
            count("deduplicated"),
            count("files"),
            count("file_bytes"),
            count("state_bytes"),
            text("writer"),
        ]))
    }

    async fn rows(&self) -> Result<RecordBatch, Message> {
        let epochs = self.history.newest().await.map_err(|error| error.message())?;
        batch(self.schema(), &added(epochs)).map_err(|error| error.to_string().into())
    }
}

/// Each record with what its epoch added. A record whose predecessor is not known is left out, unless it is a pipeline's first.
fn added(records: Vec<EpochSummary>) -> Vec<(EpochSummary, Counters)> {
    let mut before: HashMap<TableName, (u64, Counters)> = HashMap::new();
    let mut all = Vec::with_capacity(records.len());
    for record in records {
        let known = before.insert(record.pipeline.clone(), (record.epoch, record.counters));
        let earlier = match known {
            Some((epoch, counters)) if epoch + 1 == record.epoch => counters,
            _ if record.epoch == 1 => Counters::default(),
            _ => continue,
        };
        let (now, less) = (record.counters, |now: u64, before: u64| now.saturating_sub(before));
        let added = Counters {
            rows_in: less(now.rows_in, earlier.rows_in),
            rows_out: less(now.rows_out, earlier.rows_out),
            rows_late: less(now.rows_late, earlier.rows_late),
            rows_quarantined: less(now.rows_quarantined, earlier.rows_quarantined),
            rows_deduplicated: less(now.rows_deduplicated, earlier.rows_deduplicated),
            rows_dropped: less(now.rows_dropped, earlier.rows_dropped),
            rows_violating: less(now.rows_violating, earlier.rows_violating),
            rows_lost: less(now.rows_lost, earlier.rows_lost),
            tombstones: less(now.tombstones, earlier.tombstones),
        };
        all.push((record, added));
    }
    all
}

fn batch(schema: SchemaRef, rows: &[(EpochSummary, Counters)]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let columns = vec![
        texts(rows, |(record, _)| Some(record.pipeline.to_string())),
        counts(rows, |(record, _)| Some(record.epoch)),
        times_ms(rows, |(record, _)| Some(record.written_ms)),
        times_us(rows, |(record, _)| record.watermark_us),
        counts(rows, |(_, added)| Some(added.rows_in)),
        counts(rows, |(_, added)| Some(added.rows_out)),
        counts(rows, |(_, added)| Some(added.rows_late)),
        counts(rows, |(_, added)| Some(added.rows_quarantined)),
        counts(rows, |(_, added)| Some(added.rows_deduplicated)),
        counts(rows, |(record, _)| Some(record.files)),
        counts(rows, |(record, _)| Some(record.file_bytes)),
        counts(rows, |(record, _)| Some(record.state_bytes)),
        texts(rows, |(record, _)| Some(record.writer.clone())),
    ];
    RecordBatch::try_new(schema, columns)
}

//! `<source>$quarantine`: records that could not be decoded, cast or accepted, with raw bytes, coordinates and reason.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BinaryBuilder, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;

use crate::error::Result;
use crate::source::RawBatch;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("source", DataType::Utf8, false),
        Field::new("topic", DataType::Utf8, false),
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("append_time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("key", DataType::Binary, true),
        Field::new("value", DataType::Binary, true),
        Field::new("reason", DataType::Utf8, false),
    ]))
});

/// Columns of a quarantine table: `source`, `topic`, `partition`, `offset`, `append_time`, `key`, `value`, `reason`.
///
/// `key` and `value` are the bytes as they came; NULL means that the message had none. `append_time` is NULL if Kafka gave no timestamp.
pub fn schema() -> SchemaRef {
    SCHEMA.clone()
}

/// Collects the bad records of one batch: which, and why.
#[derive(Debug, Default)]
pub struct Quarantine {
    rows: Vec<(usize, String)>,
}

impl Quarantine {
    /// Sets the record at `index` of the raw batch aside.
    pub fn push(&mut self, index: usize, reason: String) {
        self.rows.push((index, reason));
    }

    /// The rows as a batch in [`schema`], or `None` if there are none; afterwards this is empty.
    pub fn finish(&mut self, source: &str, topic: &str, raw: &RawBatch) -> Result<Option<RecordBatch>> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let rows = std::mem::take(&mut self.rows);
        let count = rows.len();
        let mut keys = BinaryBuilder::with_capacity(count, 0);
        let mut values = BinaryBuilder::with_capacity(count, 0);
        for (index, _) in &rows {
            keys.append_option(raw.keys.get(*index));
            values.append_option(raw.values.get(*index));
        }
        let append_times_us = rows.iter().map(|(index, _)| {
            let ms = raw.timestamps_ms[*index];
            if ms < 0 { None } else { ms.checked_mul(1000) }
        });
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(source, count))),
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(topic, count))),
            Arc::new(Int32Array::from_value(raw.partition, count)),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(index, _)| raw.offsets[*index]))),
            Arc::new(append_times_us.collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
            Arc::new(keys.finish()),
            Arc::new(values.finish()),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, reason)| reason))),
        ];
        Ok(Some(RecordBatch::try_new(schema(), columns)?))
    }
}

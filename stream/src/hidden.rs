//! Columns that travel behind the query's own through the partition-local stage: where a row came from, and what its
//! partition's watermark was before it. Whether a row is late follows from them alone, however batches were cut.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int32Array, Int64Array, TimestampMicrosecondArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::StreamError;

/// Kafka partition of the row.
pub const PARTITION: &str = "__partition";
/// Kafka offset of the row.
pub const OFFSET: &str = "__offset";
/// Watermark of the row's partition as it stood before the row, in microseconds since 1970.
pub const WATERMARK: &str = "__watermark";
/// How many hidden columns there are.
pub const COUNT: usize = 3;

/// `visible` followed by the hidden columns.
pub fn with_hidden(visible: &Schema) -> SchemaRef {
    let mut fields: Vec<_> = visible.fields().iter().cloned().collect();
    fields.push(Field::new(PARTITION, DataType::Int32, false).into());
    fields.push(Field::new(OFFSET, DataType::Int64, false).into());
    fields.push(Field::new(WATERMARK, DataType::Int64, false).into());
    Schema::new(fields).into()
}

/// `schema` without the hidden columns, if it ends in them.
pub fn visible(schema: &Schema) -> SchemaRef {
    let fields = schema.fields();
    let end = fields.len() - if has_hidden(schema) { COUNT } else { 0 };
    Schema::new(fields[..end].to_vec()).into()
}

/// Whether the schema ends in the hidden columns.
pub fn has_hidden(schema: &Schema) -> bool {
    let fields = schema.fields();
    fields.len() >= COUNT && fields[fields.len() - COUNT].name() == PARTITION
}

/// The hidden columns of a batch that has them.
pub fn hidden_columns(batch: &RecordBatch) -> &[ArrayRef] {
    &batch.columns()[batch.num_columns() - COUNT..]
}

/// A batch without its hidden columns, if it has any.
pub fn without_hidden(batch: RecordBatch) -> Result<RecordBatch, StreamError> {
    if !has_hidden(&batch.schema()) {
        return Ok(batch);
    }
    let visible: Vec<usize> = (0..batch.num_columns() - COUNT).collect();
    Ok(batch.project(&visible)?)
}

/// The partition of a batch of the partition-local stage; all its rows share it.
pub fn partition(batch: &RecordBatch) -> i32 {
    let column = &hidden_columns(batch)[0];
    column.as_any().downcast_ref::<Int32Array>().map_or(0, |values| values.value(0))
}

/// The watermark of one partition: the running maximum of event time less the delay, or a floor that was set when it was idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionWatermark {
    /// Microseconds since 1970; `i64::MIN` before the first row.
    pub watermark_us: i64,
    delay_us: i64,
}

impl PartitionWatermark {
    /// Starts at `watermark_us`, with rows expected to be at most `delay_us` behind the newest.
    pub fn new(watermark_us: i64, delay_us: i64) -> Self {
        Self { watermark_us, delay_us }
    }

    /// Folds the event times of the next rows in and returns the watermark as it stood before each.
    pub fn fold(&mut self, times: &TimestampMicrosecondArray) -> Int64Array {
        let mut before = Vec::with_capacity(times.len());
        let mut watermark = self.watermark_us;
        for &time in times.values() {
            before.push(watermark);
            watermark = watermark.max(time.saturating_sub(self.delay_us));
        }
        self.watermark_us = watermark;
        before.into()
    }

    /// Never below `floor_us` from here on.
    pub fn raise(&mut self, floor_us: i64) {
        self.watermark_us = self.watermark_us.max(floor_us);
    }
}

/// Puts the hidden columns behind `rows`.
pub fn attach(
    rows: RecordBatch,
    schema: SchemaRef,
    partition: i32,
    offsets: ArrayRef,
    watermarks: Int64Array,
) -> Result<RecordBatch, StreamError> {
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(Int32Array::from_value(partition, rows.num_rows())));
    columns.push(offsets);
    columns.push(Arc::new(watermarks));
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// The rows of `batch` at `rows`.
pub fn take(batch: &RecordBatch, rows: &UInt32Array) -> Result<RecordBatch, StreamError> {
    Ok(arrow::compute::take_record_batch(batch, rows)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watermark_before_a_row_depends_on_the_rows_before_it_only() {
        let times = [100, 90, 150, 120, 149];
        let fold = |cuts: &[usize]| {
            let mut watermark = PartitionWatermark::new(i64::MIN, 10);
            let (mut before, mut start) = (Vec::new(), 0);
            for &end in cuts {
                let part = TimestampMicrosecondArray::from(times[start..end].to_vec());
                before.extend(watermark.fold(&part).values().to_vec());
                start = end;
            }
            (before, watermark.watermark_us)
        };
        let whole = fold(&[5]);
        assert_eq!(whole, (vec![i64::MIN, 90, 90, 140, 140], 140));
        assert_eq!(fold(&[1, 2, 4, 5]), whole);
    }
}

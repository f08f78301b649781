//! Columns that travel after the query's own through the partition-local stage: where a row came from, and what its
//! partition's watermark was before it. Whether a row is late follows from them alone, however batches were cut.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int32Array, Int64Array, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::StreamError;

/// Kafka partition of the row.
pub const PARTITION: &str = "__partition";
/// Kafka offset of the row.
pub const OFFSET: &str = "__offset";
/// Watermark of the row's partition as it was before the row, in microseconds since 1970.
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

/// Puts the hidden columns after those of `rows`.
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

//! Sets late rows aside: rows whose deadline had passed in their own partition before they came.
//!
//! The deadline is the end of the row's window, or for operators that release row by row the row's own time. A row is late
//! if its deadline is at or below the watermark its partition had before it. No state: the watermark is a column.
//!
//! ```text
//! window_end  __watermark
//!   10:01       10:00:30      in time
//!   10:01       10:01:00      late
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;

use crate::StreamError;
use crate::hidden::{self, SourceNames};
use crate::operator::{Operator, Output};

/// When a row is too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// Once the watermark has reached the column's value (the end of a window).
    At,
    /// Once the watermark has passed the column's value (the row's own time).
    After,
}

/// Splits late rows off.
pub struct Late {
    column: usize,
    deadline: Deadline,
    schema: SchemaRef,
    sources: SourceNames,
    side_schema: SchemaRef,
}

impl Late {
    /// `column` of `schema` (which ends in hidden columns) holds the deadline.
    pub fn new(column: usize, deadline: Deadline, schema: SchemaRef, sources: SourceNames) -> Self {
        let side_schema = side_schema(&schema, &sources);
        Self { column, deadline, schema, sources, side_schema }
    }
}

/// What a late row keeps: the columns the query read, where it came from, and the watermark it came too late for.
pub fn side_schema(schema: &Schema, sources: &SourceNames) -> SchemaRef {
    let mut fields: Vec<_> = hidden::visible(schema).fields().iter().cloned().collect();
    fields.extend(sources.fields(true).into_iter().map(Arc::new));
    fields.push(Field::new("watermark", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false).into());
    Schema::new(fields).into()
}

impl Operator for Late {
    fn name(&self) -> &'static str {
        "late"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> Result<(), StreamError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let deadlines = batch.column(self.column).as_primitive::<TimestampMicrosecondType>();
        let watermarks: &Int64Array = hidden::hidden_columns(&batch)[2].as_primitive::<Int64Type>();
        let earliest = arrow::compute::min(deadlines).unwrap_or(i64::MAX);
        // Watermarks only rise, so the last one decides whether the whole batch is in time.
        let last = watermarks.value(watermarks.len() - 1);
        let is_late = |deadline: i64, watermark: i64| match self.deadline {
            Deadline::At => deadline <= watermark,
            Deadline::After => deadline < watermark,
        };
        if !is_late(earliest, last) {
            out.rows.push(batch);
            return Ok(());
        }
        let late: BooleanArray =
            deadlines.values().iter().zip(watermarks.values()).map(|(&deadline, &watermark)| Some(is_late(deadline, watermark))).collect();
        let late_rows = filter_record_batch(&batch, &late)?;
        if late_rows.num_rows() > 0 {
            out.late.push(self.to_side(late_rows)?);
        }
        out.rows.push(filter_record_batch(&batch, &arrow::compute::not(&late)?)?);
        Ok(())
    }
}

impl Late {
    fn to_side(&self, rows: RecordBatch) -> Result<RecordBatch, StreamError> {
        let mut columns: Vec<ArrayRef> = rows.columns()[..rows.num_columns() - hidden::COUNT].to_vec();
        columns.extend(self.sources.columns(&rows));
        let micros = hidden::hidden_columns(&rows)[2].as_primitive::<Int64Type>().values().clone();
        columns.push(Arc::new(TimestampMicrosecondArray::new(micros, None).with_timezone("UTC")));
        Ok(RecordBatch::try_new(self.side_schema.clone(), columns)?)
    }
}

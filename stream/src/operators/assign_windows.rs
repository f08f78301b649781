//! `TUMBLE`, `HOP`, `CUMULATE`: appends `window_start`, `window_end` and `window_time` to each row, once for each window it
//! belongs to. The kernel is the one that batch queries use. No state.

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{Schema, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use watershed_functions::window::{self, WindowKind};

use crate::StreamError;
use crate::hidden;
use crate::operator::{Operator, Output};

/// Assigns windows by one time column.
pub struct AssignWindows {
    kind: WindowKind,
    time_column: usize,
    has_hidden: bool,
    schema: SchemaRef,
}

impl AssignWindows {
    /// `visible` is the schema of the result without hidden columns; `has_hidden` says whether the input ends in them.
    pub fn new(kind: WindowKind, time_column: usize, visible: &Schema, has_hidden: bool) -> Self {
        let schema = if has_hidden { hidden::with_hidden(visible) } else { SchemaRef::new(visible.clone()) };
        Self { kind, time_column, has_hidden, schema }
    }
}

impl Operator for AssignWindows {
    fn name(&self) -> &'static str {
        "assign_windows"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> Result<(), StreamError> {
        let times = batch.column(self.time_column).as_primitive::<TimestampMicrosecondType>();
        let assigned = window::assign(times, &self.kind);
        let batch = match &assigned.rows {
            Some(rows) => hidden::take(&batch, rows)?,
            None => batch,
        };
        let own = batch.num_columns() - if self.has_hidden { hidden::COUNT } else { 0 };
        let mut columns: Vec<ArrayRef> = batch.columns()[..own].to_vec();
        let time = assigned.time();
        columns.extend([assigned.start, assigned.end, time]);
        columns.extend_from_slice(&batch.columns()[own..]);
        out.rows.push(RecordBatch::try_new(self.schema.clone(), columns)?);
        Ok(())
    }
}

//! Puts rows into the order of event time: what operators need that look at the rows before a row, such as `OVER`.
//!
//! A row waits until the watermark has passed its time; then no row of its time can come any more, so all rows of one time leave together. Rows of one time are
//! ordered by where they came from, so that every run hands on the same order.
//!
//! State: rows that wait, in segments `w/<second>` of the seconds since 1970; dropped when handed on.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::by_time::ByTime;
use crate::StreamError;
use crate::budget::{Aside, Held};
use crate::operator::{Operator, Output, StateDelta, StateSnapshot};
use crate::state::{KeyColumns, fit};
use crate::watermark::Watermark;

/// See the module documentation.
pub struct InOrder {
    waiting: ByTime,
}

impl InOrder {
    /// `schema`, which ends in hidden columns, is that of input and output.
    pub fn new(time_column: usize, schema: SchemaRef) -> Self {
        Self { waiting: ByTime::new(time_column, schema, "w") }
    }
}

impl Operator for InOrder {
    fn name(&self) -> &'static str {
        "in_order"
    }

    fn schema(&self) -> SchemaRef {
        self.waiting.schema().clone()
    }

    fn process(&mut self, batch: RecordBatch, _out: &mut Output) -> Result<(), StreamError> {
        self.waiting.add(&batch)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark, StreamError> {
        out.rows.extend(self.waiting.take_before(watermark.merged_us)?);
        Ok(watermark)
    }

    fn held(&self) -> Held {
        self.waiting.held()
    }

    fn put_aside(&mut self, bytes: usize, aside: &dyn Aside) -> Result<usize, StreamError> {
        self.waiting.put_aside(bytes, aside)
    }

    fn snapshot(&mut self) -> Result<StateDelta, StreamError> {
        self.waiting.snapshot()
    }

    fn state_keys(&self, _segment: &str, keys: &[usize]) -> Option<KeyColumns> {
        Some(KeyColumns::Columns(keys.to_vec()))
    }

    fn restore(&mut self, state: StateSnapshot) -> Result<(), StreamError> {
        for (segment, pieces) in state.segments {
            for rows in pieces {
                let rows = fit(self.name(), &segment, &rows, self.waiting.schema())?;
                self.waiting.add(&rows)?;
            }
        }
        Ok(())
    }
}

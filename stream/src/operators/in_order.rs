//! Puts rows into the order of event time: what operators need that look at the rows before a row, such as `OVER`.
//!
//! A row waits until the watermark has passed its time; then no row of its time can come any more, so all rows of one time leave together. Rows of one time are
//! ordered by where they came from, so that every run hands on the same order.
//!
//! State: rows that wait, in segments `w/<second>` of the seconds since 1970; dropped when handed on.

use arrow::array::{AsArray, UInt32Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;

use crate::StreamError;
use crate::budget::{Aside, Held};
use crate::hidden;
use crate::operator::{Operator, Output, StateDelta, StateSnapshot};
use crate::segments::{Plain, Segments, bytes_of};
use crate::state::{KeyColumns, fit};
use crate::watermark::Watermark;

/// Width of a segment: what leaves together leaves the store together.
const SEGMENT_US: i64 = 1_000_000;

/// See the module documentation.
pub struct InOrder {
    time_column: usize,
    schema: SchemaRef,
    /// By second.
    waiting: Segments<i64>,
}

impl InOrder {
    /// `schema`, which ends in hidden columns, is that of input and output.
    pub fn new(time_column: usize, schema: SchemaRef) -> Self {
        Self { time_column, schema, waiting: Segments::default() }
    }

    fn wait(&mut self, batch: &RecordBatch) -> Result<(), StreamError> {
        let sorted = self.sorted(batch)?;
        let times = times(&sorted, self.time_column);
        let row_bytes = bytes_of(&sorted) / times.len().max(1);
        let mut from = 0;
        while from < times.len() {
            let second = times[from].div_euclid(SEGMENT_US);
            let rows = times[from..].partition_point(|time| time.div_euclid(SEGMENT_US) == second);
            self.waiting.append_sized(second, sorted.slice(from, rows), rows * row_bytes);
            from += rows;
        }
        Ok(())
    }

    fn sorted(&self, batch: &RecordBatch) -> Result<RecordBatch, StreamError> {
        let times = times(batch, self.time_column);
        let place = hidden::hidden_columns(batch);
        let (partitions, offsets) = (place[0].as_primitive::<Int32Type>().values(), place[1].as_primitive::<Int64Type>().values());
        let key = |row: &u32| (times[*row as usize], partitions[*row as usize], offsets[*row as usize]);
        let mut rows: Vec<u32> = (0..batch.num_rows() as u32).collect();
        if rows.is_sorted_by_key(key) {
            return Ok(batch.clone());
        }
        rows.sort_by_key(key);
        hidden::take(batch, &UInt32Array::from(rows))
    }

    /// Takes out all rows before `watermark_us`, batch by batch.
    fn ripe(&mut self, watermark_us: i64) -> Result<Vec<RecordBatch>, StreamError> {
        let mut ripe = Vec::new();
        while let Some(&second) = self.waiting.first() {
            if second.saturating_mul(SEGMENT_US) >= watermark_us {
                break;
            }
            if (second + 1).saturating_mul(SEGMENT_US) <= watermark_us {
                ripe.extend(self.waiting.remove(&second).into_iter().map(|run| run.rows));
                continue;
            }
            // The second the watermark is in.
            let before = ripe.len();
            let mut rest = Vec::new();
            for run in self.waiting.runs(&second) {
                // A snapshot may have joined several batches that are each in order.
                let rows = self.sorted(&run.rows)?;
                let count = times(&rows, self.time_column).partition_point(|&time| time < watermark_us);
                if count > 0 {
                    ripe.push(rows.slice(0, count));
                }
                if count < rows.num_rows() {
                    rest.push(rows.slice(count, rows.num_rows() - count));
                }
            }
            if ripe.len() > before {
                self.waiting.replace(second, rest);
            }
            break;
        }
        Ok(ripe)
    }
}

impl Operator for InOrder {
    fn name(&self) -> &'static str {
        "in_order"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, batch: RecordBatch, _out: &mut Output) -> Result<(), StreamError> {
        self.wait(&batch)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark, StreamError> {
        let ripe = self.ripe(watermark.merged_us)?;
        if !ripe.is_empty() {
            out.rows.push(self.sorted(&concat_batches(&self.schema, &ripe)?)?);
        }
        Ok(watermark)
    }

    fn held(&self) -> Held {
        Held { keys: self.waiting.rows() as u64, bytes: self.waiting.bytes() as u64 }
    }

    fn put_aside(&mut self, bytes: usize, aside: &dyn Aside) -> Result<usize, StreamError> {
        self.waiting.put_aside(bytes, aside)
    }

    fn snapshot(&mut self) -> Result<StateDelta, StreamError> {
        self.waiting.snapshot(&mut Plain::new(&self.schema, |second: &i64| format!("w/{second}")))
    }

    fn state_keys(&self, _segment: &str, keys: &[usize]) -> Option<KeyColumns> {
        Some(KeyColumns::Columns(keys.to_vec()))
    }

    fn restore(&mut self, state: StateSnapshot) -> Result<(), StreamError> {
        for (segment, pieces) in state.segments {
            for rows in pieces {
                self.wait(&fit(self.name(), &segment, &rows, &self.schema)?)?;
            }
        }
        Ok(())
    }
}

fn times(batch: &RecordBatch, column: usize) -> &[i64] {
    batch.column(column).as_primitive::<TimestampMicrosecondType>().values()
}

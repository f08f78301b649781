//! Rows by their event time, taken out again from the oldest on: what steps keep that wait for the watermark. A part of operators.
//!
//! State: segments `<prefix>/<second>` of the seconds since 1970; dropped when their rows are taken out.

use arrow::array::{AsArray, UInt32Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;

use crate::StreamError;
use crate::budget::{Aside, Held};
use crate::hidden;
use crate::operator::StateDelta;
use crate::segments::{Plain, Segments, bytes_of};

/// Width of a segment: what leaves together leaves the store together.
const SEGMENT_US: i64 = 1_000_000;

/// See the module documentation.
pub struct ByTime {
    time_column: usize,
    schema: SchemaRef,
    prefix: &'static str,
    /// By second.
    rows: Segments<i64>,
}

impl ByTime {
    /// Rows of `schema`, none at first. If they end in hidden columns, those of one time are in the order of where they came from.
    pub fn new(time_column: usize, schema: SchemaRef, prefix: &'static str) -> Self {
        Self { time_column, schema, prefix, rows: Segments::default() }
    }

    /// The columns of its rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Adds rows.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), StreamError> {
        let sorted = self.sorted(batch)?;
        let times = times(&sorted, self.time_column);
        let row_bytes = bytes_of(&sorted) / times.len().max(1);
        let mut from = 0;
        while from < times.len() {
            let second = times[from].div_euclid(SEGMENT_US);
            let rows = times[from..].partition_point(|time| time.div_euclid(SEGMENT_US) == second);
            self.rows.append_sized(second, sorted.slice(from, rows), rows * row_bytes);
            from += rows;
        }
        Ok(())
    }

    /// Takes out all rows before `us`, in order; `None` if there are none.
    pub fn take_before(&mut self, us: i64) -> Result<Option<RecordBatch>, StreamError> {
        let mut taken = Vec::new();
        while let Some(&second) = self.rows.first() {
            if second.saturating_mul(SEGMENT_US) >= us {
                break;
            }
            if (second + 1).saturating_mul(SEGMENT_US) <= us {
                taken.extend(self.rows.remove(&second).into_iter().map(|run| run.rows));
                continue;
            }
            // The second that `us` is in.
            let before = taken.len();
            let mut rest = Vec::new();
            for run in self.rows.runs(&second) {
                // A snapshot may have joined several batches that are each in order.
                let rows = self.sorted(&run.rows)?;
                let count = times(&rows, self.time_column).partition_point(|&time| time < us);
                if count > 0 {
                    taken.push(rows.slice(0, count));
                }
                if count < rows.num_rows() {
                    rest.push(rows.slice(count, rows.num_rows() - count));
                }
            }
            if taken.len() > before {
                self.rows.replace(second, rest);
            }
            break;
        }
        if taken.is_empty() { Ok(None) } else { Ok(Some(self.sorted(&concat_batches(&self.schema, &taken)?)?)) }
    }

    /// Drops all seconds that have ended before `us`.
    pub fn drop_before(&mut self, us: i64) {
        while let Some(&second) = self.rows.first().filter(|second| (**second + 1).saturating_mul(SEGMENT_US) <= us) {
            self.rows.remove(&second);
        }
    }

    /// Rows in the order of time.
    pub fn sorted(&self, batch: &RecordBatch) -> Result<RecordBatch, StreamError> {
        let times = times(batch, self.time_column);
        let mut rows: Vec<u32> = (0..batch.num_rows() as u32).collect();
        if hidden::has_hidden(&self.schema) {
            let place = hidden::hidden_columns(batch);
            let (lanes, offsets) = (place[0].as_primitive::<Int32Type>().values(), place[1].as_primitive::<Int64Type>().values());
            let key = |row: &u32| (times[*row as usize], lanes[*row as usize], offsets[*row as usize]);
            if rows.is_sorted_by_key(key) {
                return Ok(batch.clone());
            }
            rows.sort_by_key(key);
        } else {
            if times.is_sorted() {
                return Ok(batch.clone());
            }
            rows.sort_by_key(|row| times[*row as usize]);
        }
        hidden::take(batch, &UInt32Array::from(rows))
    }

    /// How much it holds.
    pub fn held(&self) -> Held {
        Held { keys: self.rows.rows() as u64, bytes: self.rows.bytes() as u64 }
    }

    /// See [`crate::operator::Operator::put_aside`].
    pub fn put_aside(&mut self, bytes: usize, aside: &dyn Aside) -> Result<usize, StreamError> {
        self.rows.put_aside(bytes, aside)
    }

    /// See [`crate::operator::Operator::snapshot`].
    pub fn snapshot(&mut self) -> Result<StateDelta, StreamError> {
        let prefix = self.prefix;
        self.rows.snapshot(&mut Plain::new(&self.schema, |second: &i64| format!("{prefix}/{second}")))
    }
}

/// The event times of rows.
pub fn times(batch: &RecordBatch, column: usize) -> &[i64] {
    batch.column(column).as_primitive::<TimestampMicrosecondType>().values()
}

//! Puts rows into the order of event time: what operators need that look at the rows before a row, such as `OVER`.
//!
//! A row waits until the watermark has passed its time; then no row of its time can come any more, so all rows of one time leave together. Rows of one time are
//! ordered by where they came from, so that every run hands on the same order.
//!
//! State: rows that wait, in segments `w/<second>` of the seconds since 1970; dropped when handed on.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{AsArray, UInt32Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;

use crate::StreamError;
use crate::hidden;
use crate::operator::{Operator, Output, StateDelta, StateSnapshot};
use crate::state::fit;
use crate::watermark::Watermark;

/// Width of a segment: a snapshot writes the seconds that rows came into, and no others.
const SEGMENT_US: i64 = 1_000_000;

/// See the module documentation.
pub struct InOrder {
    time_column: usize,
    schema: SchemaRef,
    /// By second; each batch is in order.
    waiting: BTreeMap<i64, Vec<RecordBatch>>,
    changed: BTreeSet<i64>,
}

impl InOrder {
    /// `schema`, which ends in hidden columns, is that of input and output.
    pub fn new(time_column: usize, schema: SchemaRef) -> Self {
        Self { time_column, schema, waiting: BTreeMap::new(), changed: BTreeSet::new() }
    }

    fn wait(&mut self, batch: &RecordBatch) -> Result<(), StreamError> {
        let sorted = self.sorted(batch)?;
        let times = times(&sorted, self.time_column);
        let mut from = 0;
        while from < times.len() {
            let second = times[from].div_euclid(SEGMENT_US);
            let rows = times[from..].partition_point(|time| time.div_euclid(SEGMENT_US) == second);
            self.waiting.entry(second).or_default().push(sorted.slice(from, rows));
            self.changed.insert(second);
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
    fn ripe(&mut self, watermark_us: i64) -> Vec<RecordBatch> {
        let mut ripe = Vec::new();
        while let Some(mut entry) = self.waiting.first_entry() {
            let second = *entry.key();
            if second.saturating_mul(SEGMENT_US) >= watermark_us {
                break;
            }
            if (second + 1).saturating_mul(SEGMENT_US) <= watermark_us {
                self.changed.insert(second);
                ripe.extend(entry.remove());
                continue;
            }
            // The second the watermark is in.
            let before = ripe.len();
            for batch in entry.get_mut() {
                let rows = times(batch, self.time_column).partition_point(|&time| time < watermark_us);
                if rows > 0 {
                    ripe.push(batch.slice(0, rows));
                    *batch = batch.slice(rows, batch.num_rows() - rows);
                }
            }
            if ripe.len() > before {
                self.changed.insert(second);
                entry.get_mut().retain(|batch| batch.num_rows() > 0);
                if entry.get().is_empty() {
                    entry.remove();
                }
            }
            break;
        }
        ripe
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
        let ripe = self.ripe(watermark.merged_us);
        if !ripe.is_empty() {
            out.rows.push(self.sorted(&concat_batches(&self.schema, &ripe)?)?);
        }
        Ok(watermark)
    }

    fn snapshot(&mut self) -> Result<StateDelta, StreamError> {
        let mut delta = StateDelta::default();
        for second in std::mem::take(&mut self.changed) {
            match self.waiting.get(&second) {
                Some(batches) => delta.upserts.push((format!("w/{second}"), concat_batches(&self.schema, batches)?)),
                None => delta.deletes.push(format!("w/{second}")),
            }
        }
        Ok(delta)
    }

    fn restore(&mut self, state: StateSnapshot) -> Result<(), StreamError> {
        for (segment, batch) in state.segments {
            self.wait(&fit(self.name(), &segment, &batch, &self.schema)?)?;
        }
        Ok(())
    }
}

fn times(batch: &RecordBatch, column: usize) -> &[i64] {
    batch.column(column).as_primitive::<TimestampMicrosecondType>().values()
}

//! `DEDUPLICATE`: keeps a row unless one with the same key comes within an interval before it.
//!
//! "Before" is an order of the rows themselves (time, then all columns, NULL first), not of their arrival, so every run keeps the
//! same ones. Rows wait until the watermark has passed their time; then they are looked at in that order.
//!
//! State, in segments of one time bucket each: `w/<bucket>` rows that wait, dropped when released; `s/<bucket>` keys by the time they
//! were last seen, dropped when the interval after the bucket has passed.

mod index;
mod keys;
mod seen;

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use watershed_functions::deduplicate::order;
use watershed_functions::numbers::one_key;

use self::seen::Seen;
use crate::StreamError;
use crate::budget::{ASIDE_BYTES_MIN, Aside, Held};
use crate::hidden;
use crate::operator::{Operator, Output, StateDelta, StateSnapshot};
use crate::segments::{Plain, Segments, bytes_of};
use crate::state::{KeyColumns, fit};
use crate::watermark::Watermark;

/// Drops rows that repeat a key within an interval.
pub struct Deduplicate {
    time_column: usize,
    wait_us: i64,
    schema: SchemaRef,
    key_columns: Vec<usize>,
    keys: RowConverter,
    /// Rows not yet looked at, by the bucket of their time.
    waiting: Segments<i64>,
    seen: Seen,
}

impl Deduplicate {
    /// `schema` is that of input and output. Keys and the time are places in it.
    pub fn new(key_columns: Vec<usize>, time_column: usize, within_us: i64, schema: SchemaRef) -> Result<Self, StreamError> {
        let field = |column: usize| SortField::new(schema.field(column).data_type().clone());
        let keys = RowConverter::new(key_columns.iter().map(|&column| field(column)).collect())?;
        Ok(Self {
            time_column,
            wait_us: wait_us(within_us),
            key_columns,
            keys,
            schema,
            waiting: Segments::default(),
            // Sixteen buckets over the interval: at most a sixteenth is kept too long.
            seen: Seen::new(within_us, (within_us / 16).max(1_000_000)),
        })
    }

    fn wait(&mut self, batch: RecordBatch) -> Result<(), StreamError> {
        let mut rows_of: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, time) in times(&batch, self.time_column).iter().enumerate() {
            rows_of.entry(time.div_euclid(self.wait_us)).or_default().push(row as u32);
        }
        let whole = rows_of.len() == 1;
        let row_bytes = bytes_of(&batch) / batch.num_rows().max(1);
        for (bucket, rows) in rows_of {
            let part = if whole { batch.clone() } else { hidden::take(&batch, &UInt32Array::from(rows))? };
            let bytes = part.num_rows() * row_bytes;
            self.waiting.append_sized(bucket, part, bytes);
        }
        Ok(())
    }

    /// Looks at all waiting rows whose buckets the watermark has passed.
    fn release(&mut self, watermark_us: i64, out: &mut Output) -> Result<(), StreamError> {
        let mut ripe = Vec::new();
        while let Some(&bucket) = self.waiting.first() {
            if (bucket + 1).saturating_mul(self.wait_us) > watermark_us {
                break;
            }
            ripe.extend(self.waiting.remove(&bucket).into_iter().map(|run| run.rows));
        }
        if ripe.is_empty() {
            return Ok(());
        }
        let ripe = concat_batches(&self.schema, &ripe)?;
        let ripe = hidden::take(&ripe, &order(&ripe, self.time_column)?)?;
        let key_columns: Vec<ArrayRef> = self.key_columns.iter().map(|&column| one_key(ripe.column(column))).collect();
        let keys = self.keys.convert_columns(&key_columns)?;
        let times = times(&ripe, self.time_column);
        let kept: BooleanArray = keys.iter().zip(times).map(|(key, &time)| Some(self.seen.is_first(key.as_ref(), time))).collect();
        let first = filter_record_batch(&ripe, &kept)?;
        out.deduplicated += (ripe.num_rows() - first.num_rows()) as u64;
        out.rows.push(first);
        Ok(())
    }
}

/// Rows leave a bucket of this length at a time: fine enough to add little delay, coarse enough to sort many rows at once.
pub fn wait_us(within_us: i64) -> i64 {
    (within_us / 600).clamp(100_000, 1_000_000)
}

impl Operator for Deduplicate {
    fn name(&self) -> &'static str {
        "deduplicate"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, batch: RecordBatch, _out: &mut Output) -> Result<(), StreamError> {
        self.wait(batch)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark, StreamError> {
        self.release(watermark.merged_us, out)?;
        self.seen.forget(watermark.merged_us);
        // Rows of the bucket that the watermark is in are still here.
        let released_us = match watermark.merged_us {
            i64::MIN | i64::MAX => watermark.merged_us,
            merged_us => merged_us.div_euclid(self.wait_us).saturating_mul(self.wait_us),
        };
        Ok(Watermark { merged_us: released_us, ..watermark })
    }

    fn held(&self) -> Held {
        let keys = self.waiting.rows() + self.seen.len();
        Held { keys: keys as u64, bytes: (self.waiting.bytes() + self.seen.bytes()) as u64 }
    }

    fn put_aside(&mut self, bytes: usize, aside: &dyn Aside) -> Result<usize, StreamError> {
        let freed = self.waiting.put_aside(bytes, aside)?;
        Ok(freed + self.seen.put_aside(bytes.saturating_sub(freed), ASIDE_BYTES_MIN, aside)?)
    }

    fn snapshot(&mut self) -> Result<StateDelta, StreamError> {
        let mut delta = self.waiting.snapshot(&mut Plain::new(&self.schema, |bucket: &i64| format!("w/{bucket}")))?;
        let seen = self.seen.snapshot()?;
        delta.deletes.extend(seen.deletes);
        delta.changes.extend(seen.changes);
        Ok(delta)
    }

    fn state_keys(&self, segment: &str, keys: &[usize]) -> Option<KeyColumns> {
        match segment.starts_with("w/") {
            true => Some(KeyColumns::Columns(keys.to_vec())),
            false => (keys == self.key_columns).then_some(KeyColumns::Encoded(0)),
        }
    }

    fn restore(&mut self, state: StateSnapshot) -> Result<(), StreamError> {
        for (segment, pieces) in state.segments {
            for rows in pieces {
                if segment.starts_with("w/") {
                    self.wait(fit(self.name(), &segment, &rows, &self.schema)?)?;
                } else {
                    self.seen.restore(&rows);
                }
            }
        }
        Ok(())
    }
}

fn times(batch: &RecordBatch, column: usize) -> &[i64] {
    batch.column(column).as_primitive::<TimestampMicrosecondType>().values()
}

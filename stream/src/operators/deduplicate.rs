//! `DEDUPLICATE`: keeps a row unless one with the same key comes within an interval before it.
//!
//! "Before" is an order of the rows themselves (time, then all columns, NULL first), not of their arrival, so every run keeps the
//! same ones. Rows wait until the watermark has passed their time; then they are looked at in that order.
//!
//! State, in segments of one time bucket each: `w/<bucket>` rows that wait, dropped when released; `s/<bucket>` keys by the time they
//! were last seen, dropped when the interval after the bucket has passed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use watershed_functions::deduplicate::{is_first, order};
use watershed_functions::numbers::one_key;

use crate::StreamError;
use crate::hidden;
use crate::operator::{Operator, Output, StateDelta, StateSnapshot};
use crate::state::fit;
use crate::watermark::Watermark;

/// Drops rows that repeat a key within an interval.
pub struct Deduplicate {
    time_column: usize,
    wait_us: i64,
    schema: SchemaRef,
    key_columns: Vec<usize>,
    keys: RowConverter,
    /// Rows not yet looked at, by the bucket of their time.
    waiting: BTreeMap<i64, Vec<RecordBatch>>,
    changed_waiting: BTreeSet<i64>,
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
            waiting: BTreeMap::new(),
            changed_waiting: BTreeSet::new(),
            // Sixteen buckets over the interval: snapshots rewrite only the newest, and at most a sixteenth is kept too long.
            seen: Seen { within_us, bucket_us: (within_us / 16).max(1_000_000), ..Seen::default() },
        })
    }

    fn wait(&mut self, batch: RecordBatch) -> Result<(), StreamError> {
        let mut rows_of: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, time) in times(&batch, self.time_column).iter().enumerate() {
            rows_of.entry(time.div_euclid(self.wait_us)).or_default().push(row as u32);
        }
        let whole = rows_of.len() == 1;
        for (bucket, rows) in rows_of {
            let part = if whole { batch.clone() } else { hidden::take(&batch, &UInt32Array::from(rows))? };
            self.waiting.entry(bucket).or_default().push(part);
            self.changed_waiting.insert(bucket);
        }
        Ok(())
    }

    /// Looks at all waiting rows whose buckets the watermark has passed.
    fn release(&mut self, watermark_us: i64, out: &mut Output) -> Result<(), StreamError> {
        let mut ripe = Vec::new();
        while let Some(entry) = self.waiting.first_entry() {
            if (*entry.key() + 1).saturating_mul(self.wait_us) > watermark_us {
                break;
            }
            self.changed_waiting.insert(*entry.key());
            ripe.extend(entry.remove());
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

/// When each key was last seen.
#[derive(Default)]
struct Seen {
    within_us: i64,
    bucket_us: i64,
    last: HashMap<Box<[u8]>, i64>,
    /// The keys that were seen in a bucket; some may since have been seen in a later one.
    buckets: BTreeMap<i64, HashSet<Box<[u8]>>>,
    changed: BTreeSet<i64>,
}

impl Seen {
    /// Notes that `key` was seen at `time`; true if it was not within the interval before.
    fn is_first(&mut self, key: &[u8], time: i64) -> bool {
        let bucket = time.div_euclid(self.bucket_us);
        self.changed.insert(bucket);
        self.buckets.entry(bucket).or_default().insert(key.into());
        match self.last.get_mut(key) {
            Some(last) => is_first(time, Some(std::mem::replace(last, time)), self.within_us),
            None => {
                self.last.insert(key.into(), time);
                true
            }
        }
    }

    /// Forgets keys that no row still to come can repeat.
    fn forget(&mut self, watermark_us: i64) {
        while let Some(entry) = self.buckets.first_entry() {
            let bucket = *entry.key();
            let end_us = (bucket + 1).saturating_mul(self.bucket_us);
            if end_us.saturating_add(self.within_us) >= watermark_us {
                break;
            }
            for key in entry.remove() {
                if self.last.get(&key).is_some_and(|time| time.div_euclid(self.bucket_us) == bucket) {
                    self.last.remove(&key);
                }
            }
            self.changed.insert(bucket);
        }
    }

    /// The keys last seen in a bucket, in key order; `None` if there are none.
    fn batch(&self, bucket: i64) -> Result<Option<RecordBatch>, StreamError> {
        let Some(keys) = self.buckets.get(&bucket) else { return Ok(None) };
        let mut rows: Vec<(&[u8], i64)> = keys
            .iter()
            .filter_map(|key| self.last.get(key).map(|&time| (key.as_ref(), time)))
            .filter(|(_, time)| time.div_euclid(self.bucket_us) == bucket)
            .collect();
        if rows.is_empty() {
            return Ok(None);
        }
        rows.sort_unstable();
        let fields = vec![Field::new("key", DataType::Binary, false), Field::new("time", DataType::Int64, false)];
        let keys = BinaryArray::from_iter_values(rows.iter().map(|(key, _)| key));
        let times = Int64Array::from_iter_values(rows.iter().map(|(_, time)| *time));
        Ok(Some(RecordBatch::try_new(Schema::new(fields).into(), vec![Arc::new(keys), Arc::new(times)])?))
    }

    fn restore(&mut self, batch: &RecordBatch) {
        let keys = batch.column(0).as_binary::<i32>();
        let times = batch.column(1).as_primitive::<Int64Type>();
        // An older segment may still hold a key that a newer one has moved on: the later time counts.
        for (key, &time) in keys.iter().flatten().zip(times.values()) {
            let last = self.last.entry(key.into()).or_insert(time);
            *last = time.max(*last);
            let bucket = time.div_euclid(self.bucket_us);
            self.buckets.entry(bucket).or_default().insert(key.into());
            self.changed.insert(bucket);
        }
    }
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

    fn snapshot(&mut self) -> Result<StateDelta, StreamError> {
        let mut delta = StateDelta::default();
        for bucket in std::mem::take(&mut self.changed_waiting) {
            match self.waiting.get(&bucket) {
                Some(batches) => delta.upserts.push((format!("w/{bucket}"), concat_batches(&self.schema, batches)?)),
                None => delta.deletes.push(format!("w/{bucket}")),
            }
        }
        for bucket in std::mem::take(&mut self.seen.changed) {
            match self.seen.batch(bucket)? {
                Some(batch) => delta.upserts.push((format!("s/{bucket}"), batch)),
                None => delta.deletes.push(format!("s/{bucket}")),
            }
        }
        Ok(delta)
    }

    fn restore(&mut self, state: StateSnapshot) -> Result<(), StreamError> {
        for (segment, batch) in state.segments {
            if segment.starts_with("w/") {
                self.wait(fit(self.name(), &segment, &batch, &self.schema)?)?;
            } else {
                self.seen.restore(&batch);
            }
        }
        Ok(())
    }
}

fn times(batch: &RecordBatch, column: usize) -> &[i64] {
    batch.column(column).as_primitive::<TimestampMicrosecondType>().values()
}

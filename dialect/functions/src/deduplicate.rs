//! `DEDUPLICATE(TABLE t PARTITION BY k1, k2, DESCRIPTOR(event_time), INTERVAL '10 minutes')`: of rows that repeat a key within a time, the first.
//!
//! Rows are looked at in the order of event time, then of all their columns, nulls first. A row is kept if no earlier row in that order with the
//! same key, itself kept or not, is within the interval before it. So a run of repeats, each close to the one before, is one event however long the
//! run lasts. A null key equals a null key. A row without an event time is always kept.
//!
//! ```text
//! key a:  0 min  kept
//!         8 min  dropped (8 after the first)
//!        16 min  dropped (8 after the second, though that one was dropped)
//!        27 min  kept    (11 after the third)
//! ```

mod exec;
mod node;

use arrow::array::{Array, ArrayRef, BooleanArray, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::row::{OwnedRow, RowConverter, SortField};

pub use exec::DeduplicateExec;
pub use node::Deduplicate;

/// True if a row at `time_us` is kept when the row before it with the same key was at `previous_us`. Times do not descend.
pub fn is_first(time_us: i64, previous_us: Option<i64>, within_us: i64) -> bool {
    previous_us.is_none_or(|previous| time_us.saturating_sub(previous) > within_us)
}

/// The order in which rows are looked at: by the time column, then by all columns from left to right, all ascending with nulls first.
pub fn order(batch: &RecordBatch, time_index: usize) -> Result<UInt32Array, ArrowError> {
    let others = (0..batch.num_columns()).filter(|i| *i != time_index);
    let columns: Vec<SortColumn> =
        std::iter::once(time_index).chain(others).map(|i| SortColumn { values: batch.column(i).clone(), options: Some(ORDER) }).collect();
    lexsort_to_indices(&columns, None)
}

/// How each column is ordered.
pub const ORDER: SortOptions = SortOptions { descending: false, nulls_first: true };

/// Decides which rows to keep of rows that come ordered by key, then as [`order`] says. Remembers the last row between batches.
#[derive(Debug)]
pub struct KeepFirst {
    keys: RowConverter,
    within_us: i64,
    last: Option<(OwnedRow, Option<i64>)>,
}

impl KeepFirst {
    /// Fails if a key type has no order.
    pub fn new(key_types: impl IntoIterator<Item = DataType>, within_us: i64) -> Result<Self, ArrowError> {
        let fields = key_types.into_iter().map(SortField::new).collect();
        Ok(Self { keys: RowConverter::new(fields)?, within_us, last: None })
    }

    /// Marks the rows to keep of the next batch.
    pub fn keep(&mut self, keys: &[ArrayRef], times: &TimestampMicrosecondArray) -> Result<BooleanArray, ArrowError> {
        let rows = self.keys.convert_columns(keys)?;
        let mut kept = Vec::with_capacity(times.len());
        for i in 0..times.len() {
            let time = times.is_valid(i).then(|| times.value(i));
            let previous = match i {
                0 => self.last.take().filter(|(key, _)| key.row() == rows.row(0)).and_then(|(_, time)| time),
                _ if rows.row(i - 1) == rows.row(i) && times.is_valid(i - 1) => Some(times.value(i - 1)),
                _ => None,
            };
            kept.push(time.is_none_or(|time| is_first(time, previous, self.within_us)));
        }
        if let Some(end) = times.len().checked_sub(1) {
            self.last = Some((rows.row(end).owned(), times.is_valid(end).then(|| times.value(end))));
        }
        Ok(kept.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use std::sync::Arc;

    /// Keys and times of the rows of a batch.
    type Batch<'a> = (&'a [Option<&'a str>], &'a [Option<i64>]);

    fn kept(batches: &[Batch]) -> Vec<bool> {
        let mut keep = KeepFirst::new([DataType::Utf8], 10).unwrap();
        let mut all = vec![];
        for (keys, times) in batches {
            let keys: ArrayRef = Arc::new(StringArray::from(keys.to_vec()));
            all.extend(keep.keep(&[keys], &TimestampMicrosecondArray::from(times.to_vec())).unwrap().iter().flatten());
        }
        all
    }

    #[test]
    fn a_repeat_counts_from_the_row_before_it_even_if_that_was_dropped() {
        let a = Some("a");
        let times = [Some(0), Some(8), Some(16), Some(27), Some(37), Some(48)];
        let expected = [true, false, false, true, false, true];
        assert_eq!(kept(&[(&[a; 6], &times)]), expected);
        // The same, however the rows are cut to batches.
        for cut in 0..=6 {
            assert_eq!(kept(&[(&[a; 6][..cut], &times[..cut]), (&[a; 6][cut..], &times[cut..])]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn keys_do_not_see_each_other_and_nulls_are_one_key() {
        let keys = [None, None, Some("a"), Some("b")];
        assert_eq!(kept(&[(&keys, &[Some(0), Some(1), Some(1), Some(1)])]), [true, false, true, true]);
        assert_eq!(kept(&[(&keys[..1], &[Some(0)]), (&keys[1..], &[Some(10), Some(10), Some(11)])]), [true, false, true, true]);
    }

    #[test]
    fn rows_without_a_time_are_kept() {
        assert_eq!(kept(&[(&[Some("a"); 4], &[None, None, Some(1), Some(2)])]), [true, true, true, false]);
    }

    #[test]
    fn order_breaks_ties_by_all_columns_nulls_first() {
        let batch = RecordBatch::try_from_iter([
            ("x", Arc::new(Int64Array::from(vec![Some(2), None, Some(1), Some(9)])) as ArrayRef),
            ("t", Arc::new(TimestampMicrosecondArray::from(vec![5, 5, 5, 1])) as ArrayRef),
        ])
        .unwrap();
        assert_eq!(order(&batch, 1).unwrap().values(), &[3, 1, 2, 0]);
    }
}

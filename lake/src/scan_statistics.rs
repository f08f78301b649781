//! Statistics of the files a scan reads, for DataFusion's planner.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::filter;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};

use crate::bounds::{self, End};
use crate::files::{Chunk, Layout};

/// Statistics of the kept files, for the stored columns in the form of `file_schema` and then the partition columns.
///
/// Row counts, null counts and the bounds of whole numbers and dates are exact, and those of decimals where this program wrote the file, so
/// that `count(*)`, `min` and `max` need not read files; other bounds may lie beyond the values.
pub(crate) fn of(layout: &Layout, file_schema: &SchemaRef, kept: &[(Arc<Chunk>, Vec<bool>)]) -> Statistics {
    let masks = kept.iter().map(|(chunk, kept)| (chunk.as_ref(), BooleanArray::from(kept.clone()))).collect::<Vec<_>>();
    let rows = total(&masks, |chunk| Some(Arc::new(chunk.rows().clone()) as ArrayRef));
    let bytes = kept.iter().flat_map(|(chunk, kept)| chunk.files.iter().zip(kept)).filter(|(_, kept)| **kept);
    let bytes = bytes.map(|(file, _)| file.size_bytes as usize).sum::<usize>();
    let stored = file_schema.fields().iter().map(|field| {
        let nulls = total(&masks, |chunk| chunk.nulls(field.name()));
        let (low, high) = bounds(&masks, field.name());
        let (low, high) = (formed(low, field.data_type()), formed(high, field.data_type()));
        ColumnStatistics { null_count: precise(nulls), min_value: low, max_value: high, ..ColumnStatistics::new_unknown() }
    });
    let partition = layout.partition_fields.iter().map(|_| ColumnStatistics::new_unknown());
    Statistics {
        num_rows: precise(rows),
        // Encoded; what comes out is some times larger.
        total_byte_size: Precision::Inexact(bytes),
        column_statistics: stored.chain(partition).collect(),
    }
}

/// The bound as the scan returns its column; unknown if that cannot be.
fn formed(bound: Precision<ScalarValue>, data_type: &DataType) -> Precision<ScalarValue> {
    match bound {
        Precision::Exact(value) => value.cast_to(data_type).map_or(Precision::Absent, Precision::Exact),
        Precision::Inexact(value) => value.cast_to(data_type).map_or(Precision::Absent, Precision::Inexact),
        Precision::Absent => Precision::Absent,
    }
}

fn precise(total: Option<usize>) -> Precision<usize> {
    total.map_or(Precision::Absent, Precision::Exact)
}

/// The sum over all kept files, if all of them say.
fn total(masks: &[(&Chunk, BooleanArray)], column: impl Fn(&Chunk) -> Option<ArrayRef>) -> Option<usize> {
    let mut total = 0;
    for (chunk, mask) in masks {
        let kept = filter(&column(chunk)?, mask).ok()?;
        let kept = kept.as_any().downcast_ref::<arrow::array::Int64Array>()?;
        if kept.null_count() > 0 {
            return None;
        }
        total += usize::try_from(arrow::compute::sum(kept).unwrap_or(0)).ok()?;
    }
    Some(total)
}

/// The bounds over all kept files, if every file with values has some.
fn bounds(masks: &[(&Chunk, BooleanArray)], column: &str) -> (Precision<ScalarValue>, Precision<ScalarValue>) {
    let absent = (Precision::Absent, Precision::Absent);
    let mut is_exact = true;
    let (mut lowest, mut highest): (Option<ScalarValue>, Option<ScalarValue>) = (None, None);
    for (chunk, mask) in masks {
        let (Some(lower), Some(upper)) = (bounds::of(chunk, column, End::Lower), bounds::of(chunk, column, End::Upper)) else {
            return absent;
        };
        let nulls = chunk.nulls(column);
        for index in (0..mask.len()).filter(|index| mask.value(*index)) {
            if lower.is_null(index) || upper.is_null(index) {
                let all_null = nulls.as_ref().is_some_and(|nulls| {
                    let nulls = nulls.as_any().downcast_ref::<arrow::array::Int64Array>();
                    let rows = chunk.rows();
                    nulls.is_some_and(|nulls| nulls.is_valid(index) && rows.is_valid(index) && nulls.value(index) == rows.value(index))
                });
                if all_null {
                    continue;
                }
                return absent;
            }
            let (Ok(low), Ok(high)) = (ScalarValue::try_from_array(&lower, index), ScalarValue::try_from_array(&upper, index)) else {
                return absent;
            };
            is_exact &= bounds::are_exact(chunk, index, lower.data_type());
            if lowest.as_ref().is_none_or(|lowest| low < *lowest) {
                lowest = Some(low);
            }
            if highest.as_ref().is_none_or(|highest| high > *highest) {
                highest = Some(high);
            }
        }
    }
    let precision = |value: Option<ScalarValue>| match value {
        None => Precision::Absent,
        Some(value) if is_exact => Precision::Exact(value),
        Some(value) => Precision::Inexact(value),
    };
    (precision(lowest), precision(highest))
}

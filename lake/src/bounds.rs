//! The bounds that the log gives for a file's columns, as far as they hold for every row of it.
//!
//! | bound | what its writer may have done | what is made of it |
//! |---|---|---|
//! | upper one of a time | cut it to ms | the end of that ms |
//! | of a decimal | written it by way of a double (delta-rs, Polars) | widened by what a double cannot tell apart, and not exact |
//! | of a decimal, at an end of BIGINT | cut a longer one off there (delta-rs) | unknown |
//! | upper one of a float | left NaN out, which SQL orders above all numbers | unknown |
//! | of a float that is zero | taken -0.0 and 0.0 for one number | the lower one is -0.0, the upper one 0.0 |
//!
//! Files that this program has written are known by their names; their decimals are exact, and floats with a NaN have no bounds.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, TimeUnit, TimestampMicrosecondType};

use crate::files::Chunk;

/// A double tells numbers apart that differ by more than this part of them: 2^-52.
const DOUBLE_BITS: u32 = 52;

/// Which end of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Lower,
    Upper,
}

/// Bounds of a stored column, one for each file of the chunk, null where unknown. No row lies beyond them.
pub(crate) fn of(chunk: &Chunk, column: &str, end: End) -> Option<ArrayRef> {
    let bounds = if end == End::Lower { chunk.lower(column)? } else { chunk.upper(column)? };
    Some(match bounds.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, zone) if end == End::Upper => {
            let widen = |micros: i64| if micros % 1000 == 0 { micros.saturating_add(999) } else { micros };
            let wide = bounds.as_primitive::<TimestampMicrosecondType>().unary::<_, TimestampMicrosecondType>(widen);
            Arc::new(wide.with_timezone_opt(zone.clone()))
        }
        DataType::Decimal128(_, _) => Arc::new(each(chunk, bounds.as_primitive::<Decimal128Type>(), |value: i128, is_own| {
            let slack = if is_own { 0 } else { (value.saturating_abs() >> DOUBLE_BITS) + 1 };
            let is_end = |end: i64| value.abs_diff(i128::from(end)) <= slack.unsigned_abs();
            if !is_own && (is_end(i64::MIN) || is_end(i64::MAX)) {
                return None;
            }
            Some(if end == End::Lower { value.saturating_sub(slack) } else { value.saturating_add(slack) })
        })),
        DataType::Float32 => Arc::new(each(chunk, bounds.as_primitive::<Float32Type>(), |value: f32, is_own| {
            float(value.into(), is_own, end).map(|value| value as f32)
        })),
        DataType::Float64 => Arc::new(each(chunk, bounds.as_primitive::<Float64Type>(), |value, is_own| float(value, is_own, end))),
        _ => bounds,
    })
}

/// Whether the bounds of a column of this type are values of the file at `index`, and not beyond them.
pub(crate) fn are_exact(chunk: &Chunk, index: usize, data_type: &DataType) -> bool {
    match data_type {
        DataType::Date32 => true,
        DataType::Decimal128(_, _) => chunk.files[index].is_own,
        other => other.is_integer(),
    }
}

fn float(value: f64, is_own: bool, end: End) -> Option<f64> {
    match end {
        End::Lower => Some(if value == 0.0 { -0.0 } else { value }),
        End::Upper if is_own => Some(if value == 0.0 { 0.0 } else { value }),
        End::Upper => None,
    }
}

fn each<T: ArrowPrimitiveType>(
    chunk: &Chunk,
    bounds: &PrimitiveArray<T>,
    change: impl Fn(T::Native, bool) -> Option<T::Native>,
) -> PrimitiveArray<T> {
    let changed = bounds.iter().zip(&chunk.files).map(|(bound, file)| change(bound?, file.is_own));
    changed.collect::<PrimitiveArray<T>>().with_data_type(bounds.data_type().clone())
}

//! Columns of the tables of `system`: their fields, and the arrays that fill them from rows of any kind.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, TimeUnit};

/// A field of text.
pub fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

/// A field of whole numbers.
pub fn count(name: &str) -> Field {
    Field::new(name, DataType::Int64, false)
}

/// A field of fractions.
pub fn ratio(name: &str) -> Field {
    Field::new(name, DataType::Float64, false)
}

/// A field of instants.
pub fn time(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false)
}

/// The same field, which may have no value.
pub fn maybe(field: Field) -> Field {
    field.with_nullable(true)
}

/// Values of a [`text`] field.
pub fn texts<T>(rows: &[T], value: impl Fn(&T) -> Option<String>) -> ArrayRef {
    Arc::new(rows.iter().map(value).collect::<StringArray>())
}

/// Values of a [`count`] field; one too large for it becomes the largest there is.
pub fn counts<T, N: TryInto<i64>>(rows: &[T], value: impl Fn(&T) -> Option<N>) -> ArrayRef {
    Arc::new(rows.iter().map(|row| value(row).map(|number| number.try_into().unwrap_or(i64::MAX))).collect::<Int64Array>())
}

/// Values of a [`ratio`] field.
pub fn ratios<T>(rows: &[T], value: impl Fn(&T) -> Option<f64>) -> ArrayRef {
    Arc::new(rows.iter().map(value).collect::<Float64Array>())
}

/// Values of a [`time`] field, in microseconds since 1970.
pub fn times_us<T>(rows: &[T], value: impl Fn(&T) -> Option<i64>) -> ArrayRef {
    Arc::new(rows.iter().map(value).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

/// Values of a [`time`] field, in milliseconds since 1970.
pub fn times_ms<T, N: TryInto<i64>>(rows: &[T], value: impl Fn(&T) -> Option<N>) -> ArrayRef {
    times_us(rows, |row| value(row).map(|ms| ms.try_into().unwrap_or(i64::MAX).saturating_mul(1_000)))
}

//! Constants of a query as texts: one that is exact and never changes, and one for people.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use datafusion::common::ScalarValue;

/// A value so that no two values of a type share a text; `None` for kinds of values that no query makes.
pub(super) fn exact(value: &ScalarValue) -> Option<String> {
    use ScalarValue as V;
    if value.is_null() {
        return Some("NULL".to_owned());
    }
    Some(match value {
        V::Boolean(Some(v)) => v.to_string(),
        // Debug of a float is its shortest text that reads back to the same bits.
        V::Float32(Some(v)) => format!("{v:?}"),
        V::Float64(Some(v)) => format!("{v:?}"),
        V::Decimal32(Some(v), _, scale) => decimal(i128::from(*v), *scale),
        V::Decimal64(Some(v), _, scale) => decimal(i128::from(*v), *scale),
        V::Decimal128(Some(v), _, scale) => decimal(*v, *scale),
        V::Decimal256(Some(v), ..) => v.to_string(),
        V::Int8(Some(v)) => v.to_string(),
        V::Int16(Some(v)) => v.to_string(),
        V::Int32(Some(v)) | V::Date32(Some(v)) | V::Time32Second(Some(v)) | V::Time32Millisecond(Some(v)) => v.to_string(),
        V::IntervalYearMonth(Some(v)) => v.to_string(),
        V::Int64(Some(v)) | V::Date64(Some(v)) | V::Time64Microsecond(Some(v)) | V::Time64Nanosecond(Some(v)) => v.to_string(),
        V::UInt8(Some(v)) => v.to_string(),
        V::UInt16(Some(v)) => v.to_string(),
        V::UInt32(Some(v)) => v.to_string(),
        V::UInt64(Some(v)) => v.to_string(),
        V::TimestampSecond(Some(v), _) | V::TimestampMillisecond(Some(v), _) => v.to_string(),
        V::TimestampMicrosecond(Some(v), _) | V::TimestampNanosecond(Some(v), _) => v.to_string(),
        V::DurationSecond(Some(v)) | V::DurationMillisecond(Some(v)) => v.to_string(),
        V::DurationMicrosecond(Some(v)) | V::DurationNanosecond(Some(v)) => v.to_string(),
        V::IntervalDayTime(Some(v)) => format!("{} days {} ms", v.days, v.milliseconds),
        V::IntervalMonthDayNano(Some(v)) => format!("{} months {} days {} ns", v.months, v.days, v.nanoseconds),
        V::Utf8(Some(v)) | V::Utf8View(Some(v)) | V::LargeUtf8(Some(v)) => quoted(v),
        V::Binary(Some(v)) | V::BinaryView(Some(v)) | V::LargeBinary(Some(v)) | V::FixedSizeBinary(_, Some(v)) => {
            format!("x'{}'", v.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        V::Dictionary(_, v) => exact(v)?,
        nested => {
            let array = nested.to_array().ok()?;
            let parts = match nested.data_type() {
                DataType::List(_) => elements(&array.as_list::<i32>().value(0))?,
                DataType::LargeList(_) => elements(&array.as_list::<i64>().value(0))?,
                DataType::FixedSizeList(..) => elements(&array.as_fixed_size_list().value(0))?,
                DataType::Map(..) => {
                    let entries: ArrayRef = std::sync::Arc::new(array.as_map().value(0));
                    elements(&entries)?
                }
                DataType::Struct(_) => {
                    let columns = array.as_struct().columns().iter().map(|column| element(column, 0));
                    columns.collect::<Option<Vec<_>>>()?
                }
                _ => return None,
            };
            format!("[{}]", parts.join(", "))
        }
    })
}

fn elements(array: &ArrayRef) -> Option<Vec<String>> {
    (0..array.len()).map(|row| element(array, row)).collect()
}

fn element(array: &ArrayRef, row: usize) -> Option<String> {
    exact(&ScalarValue::try_from_array(array, row).ok()?)
}

/// A value as people write it.
pub(super) fn shown(value: &ScalarValue) -> String {
    let text = || value.to_array().ok().and_then(|array| array_value_to_string(&array, 0).ok()).unwrap_or_else(|| "?".to_owned());
    if value.is_null() {
        return "NULL".to_owned();
    }
    match value.data_type() {
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => quoted(&text()),
        DataType::Timestamp(..) => format!("TIMESTAMP '{}'", text()),
        DataType::Date32 | DataType::Date64 => format!("DATE '{}'", text()),
        DataType::Interval(_) | DataType::Duration(_) => format!("INTERVAL '{}'", text()),
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => format!("x'{}'", text()),
        _ => text(),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// An unscaled number with its point.
fn decimal(unscaled: i128, scale: i8) -> String {
    let Ok(scale) = usize::try_from(scale) else { return format!("{unscaled}e{}", scale.unsigned_abs()) };
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

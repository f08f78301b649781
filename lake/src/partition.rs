//! Partition values: from rows to text in the log and back, and splitting batches by them.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Date32Type, Field, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::DateTime;
use datafusion::common::ScalarValue;

use crate::encoding;
use crate::limits::PARTITION_FOLDER_BYTES;

/// The text of each partition column, `None` for null.
pub(crate) type Values = Vec<Option<String>>;

const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";

/// The days of the years 1 to 9999, counted from 1970, and their microseconds.
const DAYS: std::ops::RangeInclusive<i32> = -719_162..=2_932_896;
const MICROS: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

const EMPTY_TEXT: &str = "an empty text cannot be the value of a partition column, Delta reads it as NULL";
const FAR_TIME: &str =
    "a time before the year 1 or after 9999 cannot be the value of a partition column, not every reader of Delta understands it";

/// Whether values of this type can be written as partition values.
pub(crate) fn supports(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Utf8 | DataType::Boolean | DataType::Date32 | DataType::Decimal128(_, _) | DataType::Timestamp(_, _)
        )
}

/// The first value of a column that cannot be a partition value, and why; `None` if all can.
///
/// What passes is read back as it was by every reader of Delta. An empty text would come back as NULL, or, in a column that is NOT NULL, make
/// the table unreadable for some.
pub fn refused_partition_value(column: &ArrayRef) -> Option<(usize, &'static str)> {
    let first = |refused: &dyn Fn(usize) -> bool| (0..column.len()).find(|row| column.is_valid(*row) && refused(*row));
    let (row, why) = match column.data_type() {
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            (first(&|row| texts.value_length(row) == 0), EMPTY_TEXT)
        }
        DataType::Utf8View => {
            let texts = column.as_string_view();
            (first(&|row| texts.value(row).is_empty()), EMPTY_TEXT)
        }
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>();
            (first(&|row| !DAYS.contains(&days.value(row))), FAR_TIME)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>();
            (first(&|row| !MICROS.contains(&micros.value(row))), FAR_TIME)
        }
        DataType::LargeUtf8 | DataType::Dictionary(_, _) => return refused_partition_value(&cast(column, &DataType::Utf8).ok()?),
        DataType::Timestamp(_, zone) => {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
            return refused_partition_value(&cast(column, &micros).ok()?);
        }
        _ => return None,
    };
    Some((row?, why))
}

/// Whether files with these partition values can be written again with the same values.
pub(crate) fn can_be_written(values: &[ScalarValue]) -> bool {
    values.iter().all(|value| value.to_array().is_ok_and(|value| refused_partition_value(&value).is_none()))
}

/// The value of a live file in a column, read from the log.
///
/// A NOT NULL column of text without a value holds an empty one: Delta writes both alike, and older versions of this program wrote it.
pub(crate) fn of_file(text: Option<&str>, field: &Field) -> Result<ScalarValue, String> {
    let value = parse(text, field.data_type()).map_err(|why| format!("partition column '{}': {why}", field.name()))?;
    match field.data_type() {
        _ if field.is_nullable() || !value.is_null() => Ok(value),
        DataType::Utf8 => Ok(ScalarValue::Utf8(Some(String::new()))),
        _ => Err(format!("partition column '{}' is NOT NULL, and the log gives the file no value for it", field.name())),
    }
}

/// Reads a partition value from the log. The Delta protocol reads an empty text as null.
pub(crate) fn parse(text: Option<&str>, data_type: &DataType) -> Result<ScalarValue, String> {
    let text = text.filter(|text| !text.is_empty());
    let value = match text {
        None => ScalarValue::try_new_null(data_type),
        Some(text) => ScalarValue::try_from_string(text.to_owned(), data_type),
    };
    let value = value.map_err(|error| error.to_string())?;
    match text {
        Some(text) if value.is_null() => Err(format!("partition value '{text}' is not of type {data_type}")),
        _ => Ok(value),
    }
}

/// The folder of a partition below the table's folder, empty without partitioning.
pub(crate) fn folder<'a>(columns: impl Iterator<Item = &'a str>, values: &Values) -> String {
    let mut folder = String::new();
    for (column, value) in columns.zip(values) {
        let value = match value {
            Some(value) => shortened(encoding::folder_name(value)),
            None => NULL_FOLDER.to_owned(),
        };
        folder.push_str(&format!("{}={value}/", encoding::folder_name(column)));
    }
    folder
}

/// The rows of a batch by partition. `columns` are the partition columns of `batch`; what comes back has all columns.
pub(crate) fn split(batch: &RecordBatch, columns: &[ArrayRef]) -> Result<Vec<(Values, RecordBatch)>, ArrowError> {
    if batch.num_rows() == 0 {
        return Ok(Vec::new());
    }
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let keys = RowConverter::new(fields)?.convert_columns(columns)?;
    let mut rows: HashMap<&[u8], Vec<u32>> = HashMap::new();
    for index in 0..batch.num_rows() {
        rows.entry(keys.row(index).data()).or_default().push(index as u32);
    }
    let mut groups = rows.into_values().collect::<Vec<_>>();
    // First come, first written: the same rows give the same files.
    groups.sort_unstable_by_key(|indices| indices[0]);
    if groups.len() == 1 {
        return Ok(vec![(values_at(columns, 0)?, batch.clone())]);
    }
    let split = groups.into_iter().map(|indices| {
        let values = values_at(columns, indices[0] as usize)?;
        Ok((values, take_record_batch(batch, &UInt32Array::from(indices))?))
    });
    split.collect()
}

fn values_at(columns: &[ArrayRef], row: usize) -> Result<Values, ArrowError> {
    columns.iter().map(|column| text_at(column, row)).collect()
}

fn text_at(column: &ArrayRef, row: usize) -> Result<Option<String>, ArrowError> {
    if column.is_null(row) {
        return Ok(None);
    }
    let text = match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        DataType::Timestamp(_, zone) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
            let time = DateTime::from_timestamp_micros(micros)
                .ok_or_else(|| ArrowError::InvalidArgumentError(format!("time {micros} µs is out of range for a partition value")))?;
            let form = if zone.is_some() { "%Y-%m-%dT%H:%M:%S%.6fZ" } else { "%Y-%m-%d %H:%M:%S%.6f" };
            time.format(form).to_string()
        }
        _ => ArrayFormatter::try_new(column.as_ref(), &FormatOptions::default())?.value(row).try_to_string()?,
    };
    Ok(Some(text))
}

/// Folder names are for people; the log holds the whole value.
fn shortened(mut name: String) -> String {
    if name.len() > PARTITION_FOLDER_BYTES {
        name.truncate(PARTITION_FOLDER_BYTES);
        if let Some(cut) = name.rfind('%').filter(|at| at + 3 > name.len()) {
            name.truncate(cut);
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Date32Array, Decimal128Array, Int32Array, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    #[test]
    fn values_come_back() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["São Paulo/=%\u{1F600}"])),
            Arc::new(Int32Array::from(vec![-7])),
            Arc::new(Date32Array::from(vec![20_000])),
            Arc::new(Decimal128Array::from(vec![-105]).with_precision_and_scale(10, 2).unwrap()),
            Arc::new(TimestampMicrosecondArray::from(vec![-1]).with_timezone("UTC")),
            Arc::new(TimestampMicrosecondArray::from(vec![1_700_000_000_123_456])),
        ];
        for column in columns {
            let text = text_at(&column, 0).unwrap();
            assert_eq!(parse(text.as_deref(), column.data_type()).unwrap(), ScalarValue::try_from_array(&column, 0).unwrap(), "{text:?}");
        }
        assert!(parse(Some("soon"), &DataType::Date32).is_err());
        assert!(parse(None, &DataType::Date32).unwrap().is_null());
    }

    #[test]
    fn splits_in_order_of_appearance() {
        let cities: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("a"), Some("b"), None]));
        let rows: ArrayRef = Arc::new(Int32Array::from(vec![0, 1, 2, 3, 4]));
        let schema = Schema::new(vec![Field::new("city", DataType::Utf8, true), Field::new("row", DataType::Int32, false)]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![cities.clone(), rows]).unwrap();
        let parts = split(&batch, &[cities]).unwrap();
        let parts = parts.iter().map(|(values, part)| (values[0].as_deref(), part.column(1).as_primitive::<arrow::datatypes::Int32Type>()));
        let parts = parts.map(|(city, rows)| (city, rows.values().to_vec())).collect::<Vec<_>>();
        assert_eq!(parts, vec![(Some("b"), vec![0, 3]), (None, vec![1, 4]), (Some("a"), vec![2])]);
    }

    #[test]
    fn long_values_make_short_folders() {
        let folder = folder(["k"].into_iter(), &vec![Some("é".repeat(100))]);
        assert!(folder.len() < 130 && folder.ends_with("%A9/"), "{folder}");
        assert_eq!(super::folder(["k"].into_iter(), &vec![None]), "k=__HIVE_DEFAULT_PARTITION__/");
    }
}

//! Times and dates that no formatter knows, as text: years beyond 262,142, which a TIMESTAMP of 64 bits reaches. Otherwise a cell would hold the formatter's
//! error as if it were a value.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch, StringArray};
use arrow::datatypes::{
    ArrowTimestampType, DataType, Date32Type, Date64Type, Field, Schema, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampSecondType,
};
use arrow::error::ArrowError;
use watershed_functions::civil::civil_of_day;

/// Years that every formatter knows, in seconds from 1970, a little within.
const KNOWN_S: std::ops::Range<i64> = -8_000_000_000_000..8_000_000_000_000;

/// The batch, with columns of times as texts if a time of theirs is beyond the years that are known. Fails if such a time is within a list or struct.
pub(crate) fn printable(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    if columns.iter().all(Option::is_none) {
        return Ok(batch.clone());
    }
    let schema = batch.schema();
    let fields = schema.fields().iter().zip(&columns).map(|(field, column)| match column {
        Some(column) => Arc::new(Field::new(field.name(), column.data_type().clone(), field.is_nullable())),
        None => field.clone(),
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = columns.into_iter().zip(batch.columns()).map(|(text, column)| text.unwrap_or_else(|| column.clone()));
    RecordBatch::try_new(schema, columns.collect())
}

/// A column as texts; `None` if it can be written as it is.
fn column(column: &ArrayRef) -> Result<Option<ArrayRef>, ArrowError> {
    Ok(match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => texts(column.as_primitive::<TimestampSecondType>(), 1),
        DataType::Timestamp(TimeUnit::Millisecond, _) => texts(column.as_primitive::<TimestampMillisecondType>(), 1_000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => texts(column.as_primitive::<TimestampMicrosecondType>(), 1_000_000),
        DataType::Date32 => dates(column.as_primitive::<Date32Type>().iter().map(|day| day.map(i64::from))),
        DataType::Date64 => dates(column.as_primitive::<Date64Type>().iter().map(|ms| ms.map(|ms| ms.div_euclid(86_400_000)))),
        DataType::Struct(_) => inner(column.as_struct().columns())?,
        DataType::List(_) => inner(std::slice::from_ref(column.as_list::<i32>().values()))?,
        DataType::Map(..) => inner(column.as_map().entries().columns())?,
        _ => None,
    })
}

fn inner(columns: &[ArrayRef]) -> Result<Option<ArrayRef>, ArrowError> {
    for part in columns {
        if column(part)?.is_some() {
            return Err(ArrowError::CastError(
                "a time within a list or struct is after the year 262,000: such times have no text; select it by itself".to_owned(),
            ));
        }
    }
    Ok(None)
}

fn texts<T: ArrowTimestampType>(times: &PrimitiveArray<T>, units: i64) -> Option<ArrayRef> {
    let is_known = |time: i64| KNOWN_S.contains(&time.div_euclid(units));
    if times.iter().flatten().all(is_known) {
        return None;
    }
    let zone = if times.timezone().is_some() { "Z" } else { "" };
    let texts: StringArray = times.iter().map(|time| time.map(|time| text(time, units) + zone)).collect();
    Some(Arc::new(texts))
}

/// Days from 1970.
fn dates(days: impl Iterator<Item = Option<i64>> + Clone) -> Option<ArrayRef> {
    if days.clone().flatten().all(|day| KNOWN_S.contains(&day.saturating_mul(86_400))) {
        return None;
    }
    let texts: StringArray = days.map(|day| day.map(date)).collect();
    Some(Arc::new(texts))
}

/// A day as ISO 8601 has it; years that have not four digits have a sign.
fn date(day: i64) -> String {
    let (year, month, day) = civil_of_day(day);
    let year = if (0..=9_999).contains(&year) { format!("{year:04}") } else { format!("{year:+05}") };
    format!("{year}-{month:02}-{day:02}")
}

fn text(time: i64, units: i64) -> String {
    let (second, fraction) = (time.div_euclid(units), time.rem_euclid(units));
    let (day, of_day) = (second.div_euclid(86_400), second.rem_euclid(86_400));
    let digits = units.ilog10() as usize;
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:0digits$}") };
    format!("{}T{:02}:{:02}:{:02}{fraction}", date(day), of_day / 3_600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Date32Array, StructArray, TimestampMicrosecondArray, TimestampSecondArray};

    use super::*;

    fn one(column: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([("t", column, true)]).unwrap()
    }

    #[test]
    fn far_times_are_texts_and_others_stay() {
        let far = TimestampMicrosecondArray::from(vec![Some(i64::MAX), Some(i64::MIN), None, Some(1_500_000)]).with_timezone("UTC");
        let shown = printable(&one(Arc::new(far))).unwrap();
        let texts: Vec<_> = shown.column(0).as_string::<i32>().iter().collect();
        let right = ["+294247-01-10T04:00:54.775807Z", "-290308-12-21T19:59:05.224192Z"];
        assert_eq!(texts, [Some(right[0]), Some(right[1]), None, Some("1970-01-01T00:00:01.500000Z")]);
        let seconds = TimestampSecondArray::from(vec![9_000_000_000_000_000]);
        assert_eq!(printable(&one(Arc::new(seconds))).unwrap().column(0).as_string::<i32>().value(0), "+285200616-07-24T16:00:00");
        let days = Date32Array::from(vec![Some(i32::MAX), None, Some(0)]);
        let texts: Vec<_> =
            printable(&one(Arc::new(days))).unwrap().column(0).as_string::<i32>().iter().map(|t| t.map(str::to_owned)).collect();
        assert_eq!(texts, [Some("+5881580-07-11".to_owned()), None, Some("1970-01-01".to_owned())]);
        let near = one(Arc::new(TimestampMicrosecondArray::from(vec![0, 253_402_300_799_999_999])));
        assert_eq!(printable(&near).unwrap(), near);
    }

    #[test]
    fn far_times_within_others_are_an_error() {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX]));
        let field = Arc::new(Field::new("t", times.data_type().clone(), true));
        let error = printable(&one(Arc::new(StructArray::from(vec![(field, times)])))).unwrap_err();
        assert!(error.to_string().contains("select it by itself"), "{error}");
    }
}

//! What formatters would write otherwise than people expect. Times and dates of years beyond 262,142, which a TIMESTAMP of 64 bits reaches, become
//! texts: a cell would hold the formatter's error as if it were a value. What is between two times, `ts - ts`, becomes an interval of days and a rest: it
//! would be written as `P1D`, and an interval as `1 days`.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, IntervalMonthDayNanoArray, ListArray, PrimitiveArray, RecordBatch, StringArray, StructArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowTimestampType, DataType, Date32Type, Date64Type, Field, FieldRef, IntervalMonthDayNano, Schema, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampSecondType,
};
use arrow::error::ArrowError;
use watershed_functions::civil::civil_of_day;

/// Years that every formatter knows, in seconds from 1970, a little within.
const KNOWN_S: std::ops::Range<i64> = -8_000_000_000_000..8_000_000_000_000;

/// The batch, with columns of times as texts if a time of theirs is beyond the years that are known, and lengths of time as intervals. Fails if such a time
/// is within a list or struct.
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
        DataType::Duration(unit) => {
            let counts = cast(column, &DataType::Int64)?;
            intervals(counts.as_primitive(), units_per_second(*unit))
        }
        DataType::Struct(fields) => {
            let parts = column.as_struct();
            inner(parts.columns())?.map(|columns| {
                let fields = fields.iter().zip(&columns).map(|(field, column)| retyped(field, column)).collect();
                Arc::new(StructArray::new(fields, columns, parts.nulls().cloned())) as _
            })
        }
        DataType::List(field) => {
            let lists = column.as_list::<i32>();
            inner(std::slice::from_ref(lists.values()))?.and_then(|mut items| {
                let items = items.pop()?;
                Some(Arc::new(ListArray::new(retyped(field, &items), lists.offsets().clone(), items, lists.nulls().cloned())) as _)
            })
        }
        DataType::Map(..) => {
            inner(column.as_map().entries().columns())?;
            None
        }
        _ => None,
    })
}

/// Parts of lists and structs with lengths of time as intervals; `None` if there are none. A time that has no text is an error.
fn inner(columns: &[ArrayRef]) -> Result<Option<Vec<ArrayRef>>, ArrowError> {
    let mut changed = false;
    let columns = columns.iter().map(|part| match column(part)? {
        Some(text) if text.data_type().is_string() => Err(ArrowError::CastError(
            "a time within a list or struct is after the year 262,000: such times have no text; select it by itself".to_owned(),
        )),
        Some(other) => {
            changed = true;
            Ok(other)
        }
        None => Ok(Arc::clone(part)),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    Ok(changed.then_some(columns))
}

fn retyped(field: &Field, column: &ArrayRef) -> FieldRef {
    Arc::new(field.clone().with_data_type(column.data_type().clone()))
}

fn units_per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Lengths of time as days and a rest; `None` if one has more days than an interval holds.
fn intervals(lengths: &Int64Array, per_second: i64) -> Option<ArrayRef> {
    let (per_day, nanoseconds) = (86_400 * per_second, 1_000_000_000 / per_second);
    let interval = |length: i64| Some(IntervalMonthDayNano::new(0, i32::try_from(length / per_day).ok()?, length % per_day * nanoseconds));
    let made = lengths.iter().map(|length| length.map_or(Some(None), |length| interval(length).map(Some)));
    let made: IntervalMonthDayNanoArray = made.collect::<Option<Vec<_>>>()?.into();
    Some(Arc::new(made))
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
    use arrow::array::{Date32Array, DurationMicrosecondArray, DurationSecondArray, TimestampMicrosecondArray, TimestampSecondArray};
    use arrow::util::display::array_value_to_string;

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
    fn what_is_between_times_is_an_interval() {
        let day = 86_400_000_000;
        let lengths = DurationMicrosecondArray::from(vec![Some(day), Some(day + 3_600_000_001), Some(-day), None, Some(0)]);
        let lengths: ArrayRef = Arc::new(lengths);
        let shown = |column: &ArrayRef| (0..column.len()).map(|row| array_value_to_string(column, row).unwrap()).collect::<Vec<_>>();
        let as_intervals: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(vec![
            Some(IntervalMonthDayNano::new(0, 1, 0)),
            Some(IntervalMonthDayNano::new(0, 1, 3_600_000_001_000)),
            Some(IntervalMonthDayNano::new(0, -1, 0)),
            None,
            Some(IntervalMonthDayNano::new(0, 0, 0)),
        ]));
        let found = printable(&one(Arc::clone(&lengths))).unwrap();
        assert_eq!(shown(found.column(0)), shown(&as_intervals));
        assert_eq!(shown(found.column(0))[..1], ["1 days"]);
        let items = ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>([Some([Some(day)])]);
        let items = cast(&items, &DataType::new_list(DataType::Duration(TimeUnit::Microsecond), true)).unwrap();
        assert_eq!(shown(printable(&one(items)).unwrap().column(0)), ["[1 days]"]);
        let field = Arc::new(Field::new("d", lengths.data_type().clone(), true));
        let parts = printable(&one(Arc::new(StructArray::from(vec![(field, lengths)])))).unwrap();
        assert_eq!(shown(parts.column(0))[0], "{d: 1 days}");
        // Beyond what an interval holds.
        let far = one(Arc::new(DurationSecondArray::from(vec![i64::MAX])));
        assert_eq!(printable(&far).unwrap(), far);
    }

    #[test]
    fn far_times_within_others_are_an_error() {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX]));
        let field = Arc::new(Field::new("t", times.data_type().clone(), true));
        let error = printable(&one(Arc::new(StructArray::from(vec![(field, times)])))).unwrap_err();
        assert!(error.to_string().contains("select it by itself"), "{error}");
    }
}

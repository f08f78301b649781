//! What is wrong with values of a file once they have the declared types, also within structs, lists and maps: those that could not be cast or
//! are not what they were, and times beyond the years 1 to 9999.
//!
//! A value is what it was if casting it back gives it again. Floating-point numbers are the nearest to what they are read from, and stand for
//! a decimal that differs from them by no more than computing with them does: 24.299999999999997 is 24.30, and 1.005 is no DECIMAL(10, 2).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{and, is_not_null};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Float64Type, TimeUnit, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;
use watershed_functions::sql_type;

use crate::event_time::TIMES_US;
use crate::json::is_decimal;

/// Longer values are cut in reasons.
const SHOWN_CHARS_MAX: usize = 100;
const DAY_US: i64 = 86_400_000_000;

/// Takes the row of a fault, and what makes its reason.
type Found<'a> = &'a mut dyn FnMut(usize, &dyn Fn() -> String);

/// Tells of each fault in `cast`, which was made of `column`.
pub(crate) fn faults(column: &ArrayRef, cast: &ArrayRef, found: Found) {
    if cast.null_count() > column.null_count() {
        for row in (0..cast.len()).filter(|&row| cast.is_null(row) && column.is_valid(row)) {
            found(row, &|| format!("'{}' is no {}", shown(column, row), sql_type(cast.data_type())));
        }
    }
    if let Some(changed) = changed(column, cast) {
        changed
            .values()
            .set_indices()
            .for_each(|row| found(row, &|| format!("'{}' does not fit {}", shown(column, row), sql_type(cast.data_type()))));
    }
    let far: &dyn Fn() -> String = &|| "not in the years 1 to 9999".to_owned();
    match cast.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let times = cast.as_primitive::<TimestampMicrosecondType>().iter().enumerate();
            times.filter(|(_, us)| us.is_some_and(|us| !TIMES_US.contains(&us))).for_each(|(row, _)| found(row, far));
        }
        DataType::Date32 => {
            let days = TIMES_US.start / DAY_US..TIMES_US.end / DAY_US;
            let dates = cast.as_primitive::<Date32Type>().iter().enumerate();
            dates.filter(|(_, day)| day.is_some_and(|day| !days.contains(&i64::from(day)))).for_each(|(row, _)| found(row, far));
        }
        DataType::Struct(fields) => {
            let (structs, before) = (cast.as_struct(), column.as_struct_opt());
            for (at, (field, values)) in fields.iter().zip(structs.columns()).enumerate() {
                let named = before.and_then(|before| before.column_by_name(field.name()).or_else(|| before.columns().get(at)));
                faults(alike(named, values), values, &mut |row, reason| {
                    if structs.is_valid(row) {
                        found(row, &|| format!("in '{}': {}", field.name(), reason()));
                    }
                });
            }
        }
        DataType::List(_) => {
            let lists = cast.as_list::<i32>();
            let before = match column.data_type() {
                DataType::List(_) => Some(column.as_list::<i32>().values()),
                DataType::LargeList(_) => Some(column.as_list::<i64>().values()),
                DataType::FixedSizeList(..) => Some(column.as_fixed_size_list().values()),
                _ => None,
            };
            let values = lists.values();
            faults(alike(before, values), values, &mut |at, reason| in_row(lists.offsets(), at, lists, found, reason));
        }
        DataType::Map(..) => {
            let maps = cast.as_map();
            let values: ArrayRef = Arc::new(maps.entries().clone());
            let before: Option<ArrayRef> = column.as_map_opt().map(|before| Arc::new(before.entries().clone()) as ArrayRef);
            faults(alike(before.as_ref(), &values), &values, &mut |at, reason| in_row(maps.offsets(), at, maps, found, reason));
        }
        _ => {}
    }
}

fn shown(column: &ArrayRef, row: usize) -> String {
    array_value_to_string(column, row).unwrap_or_default().chars().take(SHOWN_CHARS_MAX).collect()
}

/// Which values of `cast` are others than those of `column` that they were made of; `None` if that cannot be.
fn changed(column: &ArrayRef, cast: &ArrayRef) -> Option<BooleanArray> {
    let (from, to) = (column.data_type(), cast.data_type());
    let each = |is_changed: &dyn Fn(usize) -> bool| -> BooleanArray {
        (0..cast.len()).map(|row| Some(cast.is_valid(row) && column.is_valid(row) && is_changed(row))).collect()
    };
    let differs = match (from, to) {
        _ if from == to => return None,
        (DataType::Utf8, DataType::Decimal128(_, scale)) => {
            let (texts, values) = (column.as_string::<i32>(), cast.as_primitive::<Decimal128Type>());
            each(&|row| !is_decimal(texts.value(row), values.value(row), *scale))
        }
        // Of text, what is written as a number and not as "inf".
        (DataType::Utf8, DataType::Float32 | DataType::Float64) => {
            let (texts, infinite) = (column.as_string::<i32>(), infinite(cast)?);
            each(&|row| infinite.value(row) && texts.value(row).contains(|c: char| c.is_ascii_digit()))
        }
        (DataType::Float16 | DataType::Float32 | DataType::Float64, DataType::Decimal128(..)) => {
            let noise = if *from == DataType::Float64 { 1e-9 } else { 1e-6 };
            let (was, is) = (doubles(column)?, doubles(cast)?);
            each(&|row| (was.value(row) - is.value(row)).abs() > noise * was.value(row).abs())
        }
        (DataType::Float64 | DataType::Decimal128(..) | DataType::Decimal256(..), DataType::Float32)
        | (DataType::Decimal128(..) | DataType::Decimal256(..), DataType::Float64) => {
            let (was, is) = (infinite(column)?, infinite(cast)?);
            each(&|row| is.value(row) && !was.value(row))
        }
        (from, to) if from.is_numeric() && (to.is_numeric() || *to == DataType::Boolean) => back(column, cast)?,
        (DataType::Timestamp(..) | DataType::Date64, DataType::Date32) => back(column, cast)?,
        _ => return None,
    };
    (differs.true_count() > 0).then_some(differs)
}

/// Which values are others when they are cast back.
fn back(column: &ArrayRef, cast: &ArrayRef) -> Option<BooleanArray> {
    let back = arrow::compute::cast(cast, column.data_type()).ok()?;
    let differs = distinct(&back, column).ok()?;
    let known = is_not_null(cast).ok()?;
    and(&differs, &known).ok()
}

fn doubles(numbers: &ArrayRef) -> Option<Float64Array> {
    Some(arrow::compute::cast(numbers, &DataType::Float64).ok()?.as_primitive::<Float64Type>().clone())
}

fn infinite(numbers: &ArrayRef) -> Option<BooleanArray> {
    Some(doubles(numbers)?.iter().map(|value| Some(value.is_some_and(f64::is_infinite))).collect())
}

/// What values were made of, if it can be set beside them one by one.
fn alike<'a>(before: Option<&'a ArrayRef>, values: &'a ArrayRef) -> &'a ArrayRef {
    before.filter(|before| before.len() == values.len()).unwrap_or(values)
}

/// Tells of a fault of one element in the row whose list has it.
fn in_row(offsets: &[i32], at: usize, lists: &dyn Array, found: Found, reason: &dyn Fn() -> String) {
    let begun = offsets.partition_point(|&offset| usize::try_from(offset).is_ok_and(|offset| offset <= at));
    let Some(row) = begun.checked_sub(1).filter(|&row| row < lists.len() && lists.is_valid(row)) else { return };
    found(row, reason);
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BooleanArray, Decimal128Array, Float32Array, Int64Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray,
    };
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::compute::cast;
    use arrow::datatypes::{Field, Fields};

    use super::*;

    fn told(column: &ArrayRef, to: &DataType) -> Vec<String> {
        let mut told = Vec::new();
        faults(column, &cast(column, to).unwrap(), &mut |row, reason| told.push(format!("{row}: {}", reason())));
        told
    }

    #[test]
    fn faults_within_structs_and_lists_are_told_with_their_row() {
        let far = TIMES_US.end;
        let (ids, times) = (StringArray::from(vec!["1", "x", "y", "4"]), TimestampMicrosecondArray::from(vec![0, far, far, far]));
        let fields = |id: DataType| {
            Fields::from(vec![Field::new("id", id, true), Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true)])
        };
        let valid = NullBuffer::from(vec![true, true, false, true]);
        let structs: ArrayRef = Arc::new(StructArray::new(fields(DataType::Utf8), vec![Arc::new(ids), Arc::new(times)], Some(valid)));
        let to = DataType::Struct(fields(DataType::Int32));
        let right = ["1: in 'id': 'x' is no INT", "1: in 'at': not in the years 1 to 9999", "3: in 'at': not in the years 1 to 9999"];
        assert_eq!(told(&structs, &to), right);

        let item = |data_type: &DataType| Arc::new(Field::new("item", data_type.clone(), true));
        let offsets = OffsetBuffer::new(vec![0, 1, 1, 4].into());
        let lists: ArrayRef = Arc::new(ListArray::new(item(structs.data_type()), offsets, structs.clone(), None));
        let expected = right.map(|reason| format!("2{}", &reason[1..]));
        assert_eq!(told(&lists, &DataType::List(item(&to))), expected);
        assert_eq!(told(&lists.slice(0, 2), &DataType::List(item(&to))), Vec::<String>::new());

        let days: ArrayRef = Arc::new(Int64Array::from(vec![0, 10_000_000]));
        assert_eq!(told(&(cast(&days, &DataType::Int32).unwrap()), &DataType::Date32), ["1: not in the years 1 to 9999"]);
    }

    #[test]
    fn what_a_cast_changes_is_a_fault() {
        let doubles = |values: Vec<f64>| Arc::new(Float64Array::from(values)) as ArrayRef;
        let whole = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let cents =
            |values: Vec<i128>, scale| Arc::new(Decimal128Array::from(values).with_precision_and_scale(12, scale).unwrap()) as ArrayRef;
        let texts = |values: Vec<&str>| Arc::new(StringArray::from(values)) as ArrayRef;
        let fare = DataType::Decimal128(10, 2);
        let day_us = 86_400_000_000;
        let times = |values: Vec<i64>| Arc::new(TimestampMicrosecondArray::from(values)) as ArrayRef;
        let (of_two, of_three) = (1_i64 << 53, 1_i64 << 60);
        let cases: [(ArrayRef, DataType, &[usize]); 14] = [
            (doubles(vec![1.0, 1.5, 2.999999, -0.5, -3.0]), DataType::Int32, &[1, 2, 3]),
            (doubles(vec![0.0, 1.0, 2.0, 0.1]), DataType::Boolean, &[2, 3]),
            // What computing leaves of 24.30 and 17.50 is no other number.
            (doubles(vec![24.299999999999997, 17.499999999999996, 1.005, 9.994999, 13.3]), fare.clone(), &[2, 3]),
            (Arc::new(Float32Array::from(vec![13.3, 1.005])), fare.clone(), &[1]),
            (doubles(vec![0.1, 1e300, f64::INFINITY, f64::NAN]), DataType::Float32, &[1]),
            (cents(vec![2_500, 2_000, -1_999], 3), DataType::Int64, &[0, 2]),
            (cents(vec![1_999, 1_990], 3), fare.clone(), &[0]),
            (cents(vec![10, 13], 2), DataType::Float64, &[]),
            (whole(vec![of_two, of_two + 1, of_three, i64::MAX]), DataType::Float64, &[1, 3]),
            (whole(vec![0, 1, 2]), DataType::Boolean, &[2]),
            (texts(vec!["1.5", "1.005", "+2", "1.00"]), fare, &[1]),
            (texts(vec!["1e30", "1e300", "inf"]), DataType::Float32, &[1]),
            (times(vec![day_us, day_us + 1, -day_us]), DataType::Date32, &[1]),
            (Arc::new(BooleanArray::from(vec![true, false])), DataType::Int32, &[]),
        ];
        for (column, to, faulty) in cases {
            let cast = cast(&column, &to).unwrap();
            let found: Vec<usize> = changed(&column, &cast).map_or(Vec::new(), |changed| changed.values().set_indices().collect());
            assert_eq!(found, faulty, "{column:?} as {to}: {cast:?}");
        }
        assert_eq!(told(&doubles(vec![1.5, 2.0]), &DataType::Int32), ["0: '1.5' does not fit INT"]);
    }
}

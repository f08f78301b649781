//! What is wrong with values of a file once they have the declared types, also within structs, lists and maps: those that could not be cast, and
//! times beyond the years 1 to 9999.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Date32Type, TimeUnit, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;
use watershed_functions::sql_type;

use crate::event_time::TIMES_US;

/// Longer values are cut in reasons.
const SHOWN_CHARS_MAX: usize = 100;
const DAY_US: i64 = 86_400_000_000;

/// Takes the row of a fault, and what makes its reason.
type Found<'a> = &'a mut dyn FnMut(usize, &dyn Fn() -> String);

/// Tells of each fault in `cast`, which was made of `column`.
pub(crate) fn faults(column: &ArrayRef, cast: &ArrayRef, found: Found) {
    if cast.null_count() > column.null_count() {
        for row in (0..cast.len()).filter(|&row| cast.is_null(row) && column.is_valid(row)) {
            found(row, &|| {
                let text: String = array_value_to_string(column, row).unwrap_or_default().chars().take(SHOWN_CHARS_MAX).collect();
                format!("'{text}' is no {}", sql_type(cast.data_type()))
            });
        }
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
            let values: ArrayRef = std::sync::Arc::new(maps.entries().clone());
            let before: Option<ArrayRef> = column.as_map_opt().map(|before| std::sync::Arc::new(before.entries().clone()) as ArrayRef);
            faults(alike(before.as_ref(), &values), &values, &mut |at, reason| in_row(maps.offsets(), at, maps, found, reason));
        }
        _ => {}
    }
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
    use std::sync::Arc;

    use arrow::array::{Int64Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray};
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
}

//! Numbers in the place of times: what they count is as in JSON, milliseconds since 1970 unless `EPOCH` says something else. Arrow's own cast
//! takes them for microseconds.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, LargeListArray, ListArray, StructArray, TimestampMicrosecondArray,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use watershed_dialect::Epoch;

use crate::json::counted_us;

/// What is declared of the times within one column.
#[derive(Debug, Default)]
pub(crate) struct Units {
    /// `EPOCH`, of the field that these numbers lead to; of the column itself without any.
    pub(crate) epochs: Vec<(Vec<usize>, Epoch)>,
    /// The same way to the event time.
    pub(crate) event_time: Option<Vec<usize>>,
}

/// Takes the row of a number that is no time, and why.
pub(crate) type Found<'a> = &'a mut dyn FnMut(usize, String);

/// Whether values of this type are numbers that count time.
pub(crate) fn counts(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

/// `column` with times where it has numbers and `to` has times, also within structs and lists; the rest of it as it is. A number that is no
/// time becomes NULL, and is told of if it is in no list.
pub(crate) fn with_times(column: &ArrayRef, to: &DataType, units: &Units, found: Found) -> Result<ArrayRef, ArrowError> {
    within(column, to, Some(&mut Vec::new()), units, found)
}

/// `path` is the way from the column to what is in `column`; `None` below a list.
fn within(column: &ArrayRef, to: &DataType, path: Option<&mut Vec<usize>>, units: &Units, found: Found) -> Result<ArrayRef, ArrowError> {
    let renewed = |field: &FieldRef, values: &ArrayRef| -> FieldRef {
        Arc::new(Field::clone(field).with_data_type(values.data_type().clone()).with_nullable(true))
    };
    Ok(match (column.data_type(), to) {
        (from, DataType::Timestamp(TimeUnit::Microsecond, _)) => {
            let at: Option<&[usize]> = path.as_deref().map(Vec::as_slice);
            let declared = at.and_then(|at| units.epochs.iter().find(|(of, _)| of == at)).map(|(_, epoch)| *epoch);
            let is_event_time = at.is_some() && units.event_time.as_deref() == at;
            if counts(from) {
                Arc::new(times(column, declared, is_event_time, found)?)
            } else if let (true, Some(epoch)) = (matches!(from, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View), declared) {
                texts(column, epoch)?
            } else {
                Arc::clone(column)
            }
        }
        (DataType::Struct(fields), DataType::Struct(wanted)) => {
            let structs = column.as_struct();
            let mut columns = structs.columns().to_vec();
            let mut path = path;
            for (at, field) in wanted.iter().enumerate() {
                // As casts of structs do.
                let Some(from) = fields.iter().position(|known| known.name() == field.name()).or((at < columns.len()).then_some(at)) else {
                    continue;
                };
                if let Some(path) = &mut path {
                    path.push(at);
                }
                columns[from] = within(&columns[from], field.data_type(), path.as_deref_mut(), units, found)?;
                if let Some(path) = &mut path {
                    path.pop();
                }
            }
            let fields: Fields = fields.iter().zip(&columns).map(|(field, values)| renewed(field, values)).collect();
            Arc::new(StructArray::try_new_with_length(fields, columns, structs.nulls().cloned(), structs.len())?)
        }
        (DataType::List(item), DataType::List(wanted)) => {
            let lists = column.as_list::<i32>();
            let values = within(lists.values(), wanted.data_type(), None, units, &mut |_, _| {})?;
            Arc::new(ListArray::try_new(renewed(item, &values), lists.offsets().clone(), values, lists.nulls().cloned())?)
        }
        (DataType::LargeList(item), DataType::List(wanted)) => {
            let lists = column.as_list::<i64>();
            let values = within(lists.values(), wanted.data_type(), None, units, &mut |_, _| {})?;
            Arc::new(LargeListArray::try_new(renewed(item, &values), lists.offsets().clone(), values, lists.nulls().cloned())?)
        }
        (DataType::FixedSizeList(item, size), DataType::List(wanted)) => {
            let lists = column.as_fixed_size_list();
            let values = within(lists.values(), wanted.data_type(), None, units, &mut |_, _| {})?;
            Arc::new(FixedSizeListArray::try_new(renewed(item, &values), *size, values, lists.nulls().cloned())?)
        }
        _ => Arc::clone(column),
    })
}

/// Numbers as times. They go through their text: one meaning, and one set of reasons, for JSON and files.
fn times(numbers: &ArrayRef, epoch: Option<Epoch>, is_event_time: bool, found: Found) -> Result<TimestampMicrosecondArray, ArrowError> {
    let texts = ArrayFormatter::try_new(numbers.as_ref(), &FormatOptions::default())?;
    let (mut times, mut text) = (TimestampMicrosecondBuilder::with_capacity(numbers.len()), String::new());
    for row in 0..numbers.len() {
        if numbers.is_null(row) {
            times.append_null();
            continue;
        }
        text.clear();
        texts.value(row).write(&mut text)?;
        match counted_us(&text, epoch, is_event_time) {
            Ok(us) => times.append_value(us),
            Err(reason) => {
                times.append_null();
                found(row, reason);
            }
        }
    }
    Ok(times.finish())
}

/// Texts that may be numbers, where the unit of these is declared: numbers as the text of their time.
fn texts(column: &ArrayRef, epoch: Epoch) -> Result<ArrayRef, ArrowError> {
    let column = arrow::compute::cast(column, &DataType::Utf8)?;
    let texts = column.as_string::<i32>();
    let is_number = |text: &str| text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    if !texts.iter().flatten().any(|text| is_number(text) && counted_us(text, Some(epoch), false).is_ok()) {
        return Ok(column);
    }
    let written = |text: &str| match counted_us(text, Some(epoch), false) {
        Ok(us) if is_number(text) => {
            arrow::temporal_conversions::timestamp_us_to_datetime(us).map(|time| time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
        }
        _ => None,
    };
    let times = texts.iter().map(|text| text.map(|text| written(text.trim()).unwrap_or_else(|| text.to_owned())));
    Ok(Arc::new(times.collect::<arrow::array::StringArray>()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, Float64Array, Int64Array, StringArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::TimestampMicrosecondType;

    use super::*;

    const US: i64 = 1_700_000_000_000_000;

    fn time() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    }

    /// The times, and what is told.
    fn read(column: ArrayRef, units: &Units) -> (Vec<Option<i64>>, Vec<String>) {
        let mut told = Vec::new();
        let times = with_times(&column, &time(), units, &mut |row, reason| told.push(format!("{row}: {reason}"))).unwrap();
        (times.as_primitive::<TimestampMicrosecondType>().iter().collect(), told)
    }

    #[test]
    fn numbers_count_what_is_declared_or_milliseconds() {
        let of = |epoch| Units { epochs: vec![(Vec::new(), epoch)], event_time: None };
        let whole = |value: i64| Arc::new(Int64Array::from(vec![Some(value), None])) as ArrayRef;
        assert_eq!(read(whole(US / 1_000), &Units::default()).0, [Some(US), None]);
        assert_eq!(read(whole(US / 1_000_000), &of(Epoch::Seconds)).0, [Some(US), None]);
        assert_eq!(read(whole(US), &of(Epoch::Microseconds)).0, [Some(US), None]);
        assert_eq!(read(whole(US * 1_000 + 1), &of(Epoch::Nanoseconds)).0, [Some(US), None]);
        assert_eq!(read(Arc::new(Float64Array::from(vec![1_700_000_000.5])), &of(Epoch::Seconds)).0, [Some(US + 500_000)]);
        let decimals = Decimal128Array::from(vec![17_000_000_001_234]).with_precision_and_scale(20, 4).unwrap();
        assert_eq!(read(Arc::new(decimals), &of(Epoch::Seconds)).0, [Some(US + 123_400)]);

        let (times, told) = read(whole(US / 1_000_000), &Units { epochs: Vec::new(), event_time: Some(Vec::new()) });
        assert_eq!(times, [None, None]);
        assert!(told[0].contains("declare the column as TIMESTAMP EPOCH 'seconds'"), "{told:?}");
        let (times, told) = read(Arc::new(Float64Array::from(vec![0.5])), &Units::default());
        assert_eq!((times, told), (vec![None], vec!["0: 0.5 does not fit a whole number".to_owned()]));
    }

    #[test]
    fn text_is_a_number_where_a_unit_is_declared() {
        let texts = || Arc::new(StringArray::from(vec!["1700000000", "2023-11-14 22:13:20", "soon"])) as ArrayRef;
        let units = Units { epochs: vec![(Vec::new(), Epoch::Seconds)], event_time: None };
        let read = |units: &Units| with_times(&texts(), &time(), units, &mut |_, _| {}).unwrap().as_string::<i32>().value(0).to_owned();
        assert_eq!((read(&units).as_str(), read(&Units::default()).as_str()), ("2023-11-14T22:13:20.000000Z", "1700000000"));
    }

    #[test]
    fn numbers_within_structs_and_lists_are_times_too() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![US / 1_000, US / 1_000]));
        let fields = |data_type: &DataType| Fields::from(["a", "b"].map(|name| Field::new(name, data_type.clone(), true)).to_vec());
        let structs: ArrayRef = Arc::new(StructArray::new(fields(&DataType::Int64), vec![numbers.clone(), numbers], None));
        let item = |data_type: &DataType| Arc::new(Field::new("item", data_type.clone(), true));
        let lists: ArrayRef =
            Arc::new(ListArray::new(item(structs.data_type()), OffsetBuffer::new(vec![0, 2].into()), structs.clone(), None));
        let to = DataType::Struct(fields(&time()));

        let units = Units { epochs: vec![(vec![1], Epoch::Microseconds)], event_time: None };
        let read = with_times(&structs, &to, &units, &mut |_, _| {}).unwrap();
        let field = |index: usize| read.as_struct().column(index).as_primitive::<TimestampMicrosecondType>().value(0);
        assert_eq!((field(0), field(1)), (US, US / 1_000));
        let read = with_times(&lists, &DataType::List(item(&to)), &Units::default(), &mut |_, _| {}).unwrap();
        assert_eq!(read.as_list::<i32>().values().as_struct().column(1).as_primitive::<TimestampMicrosecondType>().values(), &[US, US]);
    }
}

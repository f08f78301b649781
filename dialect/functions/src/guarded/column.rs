//! The arguments of a guarded function: how large their values are.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;

const DAY_US: i64 = 86_400_000_000;
/// No month is shorter.
const MONTH_US: i64 = 28 * DAY_US;

/// An argument.
pub(super) struct Column {
    values: ArrayRef,
    pub(super) constant: bool,
    /// Bytes of all values.
    all: u64,
    /// The values as whole numbers, where they are some.
    numbers: Option<ArrayRef>,
    /// Elements of all lists, and what is in them where they are lists themselves.
    elements: u64,
    leaves: u64,
}

impl Column {
    pub(super) fn new(argument: &ColumnarValue) -> Result<Self> {
        let (values, constant) = match argument {
            ColumnarValue::Array(values) => (values.clone(), false),
            ColumnarValue::Scalar(value) => (value.to_array_of_size(1)?, true),
        };
        let numbers = match values.data_type() {
            kind if kind.is_integer() => Some(cast(&values, &DataType::Int64)?),
            // Microseconds.
            DataType::Timestamp(_, zone) => {
                let micros = cast(&values, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
                Some(cast(&micros, &DataType::Int64)?)
            }
            DataType::Date32 | DataType::Date64 => {
                let micros = cast(&values, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
                Some(cast(&micros, &DataType::Int64)?)
            }
            _ => None,
        };
        let all = values.to_data().get_slice_memory_size()? as u64;
        let elements = within(&values).map_or(0, |inner| inner.len() as u64);
        let leaves = leaves(&values);
        Ok(Self { values, constant, all, numbers, elements, leaves })
    }

    fn at(&self, row: usize) -> usize {
        if self.constant { 0 } else { row }
    }

    /// The value in a row as a whole number, times and intervals in microseconds.
    pub(super) fn number(&self, row: usize) -> Option<i64> {
        let row = self.at(row);
        if let DataType::Interval(IntervalUnit::MonthDayNano) = self.values.data_type() {
            let interval = self.values.is_valid(row).then(|| self.values.as_primitive::<IntervalMonthDayNanoType>().value(row))?;
            let days = i64::from(interval.months).saturating_mul(MONTH_US).saturating_add(i64::from(interval.days).saturating_mul(DAY_US));
            return Some(days.saturating_add(interval.nanoseconds / 1_000));
        }
        let numbers = self.numbers.as_ref()?;
        numbers.is_valid(row).then(|| numbers.as_primitive::<Int64Type>().value(row))
    }

    /// The text in a row.
    pub(super) fn text(&self, row: usize) -> Option<&str> {
        let row = self.at(row);
        if self.values.is_null(row) {
            return None;
        }
        match self.values.data_type() {
            DataType::Utf8 => Some(self.values.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => Some(self.values.as_string::<i64>().value(row)),
            DataType::Utf8View => Some(self.values.as_string_view().value(row)),
            _ => None,
        }
    }

    /// Bytes of the value in a row; of a list, elements of average size.
    pub(super) fn bytes(&self, row: usize) -> u64 {
        if let Some(text) = self.text(row) {
            return text.len() as u64;
        }
        let at = self.at(row);
        match self.values.data_type() {
            DataType::Binary => self.values.as_binary::<i32>().value(at).len() as u64,
            DataType::LargeBinary => self.values.as_binary::<i64>().value(at).len() as u64,
            DataType::BinaryView => self.values.as_binary_view().value(at).len() as u64,
            DataType::List(_) | DataType::LargeList(_) => self.all.div_ceil(self.elements.max(1)).saturating_mul(self.elements(row)),
            _ => self.all.div_ceil(self.values.len().max(1) as u64),
        }
    }

    /// Elements of the list in a row.
    pub(super) fn elements(&self, row: usize) -> u64 {
        let row = self.at(row);
        match self.values.data_type() {
            DataType::List(_) => self.values.as_list::<i32>().value_length(row) as u64,
            DataType::LargeList(_) => self.values.as_list::<i64>().value_length(row) as u64,
            _ => self.elements.div_ceil(self.values.len().max(1) as u64),
        }
    }

    /// What is in the list of a row and is no list: where lists are within lists, so many as on average.
    pub(super) fn leaves(&self, row: usize) -> u64 {
        self.elements(row).saturating_mul(self.leaves.div_ceil(self.elements.max(1)))
    }

    /// Bytes of all values together, in so many rows.
    pub(super) fn total(&self, rows: usize) -> u64 {
        if self.constant { self.all.saturating_mul(rows as u64) } else { self.all }
    }
}

/// The elements of all lists.
fn within(values: &ArrayRef) -> Option<ArrayRef> {
    match values.data_type() {
        DataType::List(_) => {
            let lists = values.as_list::<i32>();
            let (start, end) = (lists.value_offsets().first().copied()?, lists.value_offsets().last().copied()?);
            Some(lists.values().slice(start as usize, (end - start) as usize))
        }
        DataType::LargeList(_) => {
            let lists = values.as_list::<i64>();
            let (start, end) = (lists.value_offsets().first().copied()?, lists.value_offsets().last().copied()?);
            Some(lists.values().slice(start as usize, (end - start) as usize))
        }
        DataType::FixedSizeList(..) => Some(values.as_fixed_size_list().values().clone()),
        _ => None,
    }
}

/// What is in all lists and is no list.
pub(super) fn leaves(values: &ArrayRef) -> u64 {
    within(values).map_or(values.len() as u64, |inner| leaves(&inner))
}

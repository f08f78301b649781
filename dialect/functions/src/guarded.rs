//! Functions whose result may be far bigger than what they are given: `repeat('x', 600000000)`, `range(0, 1099511627776)`. They work out its size
//! first, and refuse what is too big. Neither a constant that is computed while planning nor the memory of a batch is counted by a pool.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use watershed_message::Message;

use super::room;

/// Bytes of one value.
pub(super) const VALUE_BYTES_MAX: u64 = 64 << 20;
/// Bytes of the values of one batch together.
pub(super) const BATCH_BYTES_MAX: u64 = 256 << 20;
/// Bytes of a number in a list.
const NUMBER_BYTES: u64 = 8;
const DAY_US: i64 = 86_400_000_000;
/// No month is shorter.
const MONTH_US: i64 = 28 * DAY_US;

/// A function that may grow in its guarded form, any other as it is.
pub fn guarded(function: &ScalarUDF) -> Option<ScalarUDF> {
    let growth = match function.name() {
        "repeat" => Growth::Repeat,
        "lpad" | "rpad" => Growth::Pad,
        "range" => Growth::Range { inclusive: false },
        "generate_series" => Growth::Range { inclusive: true },
        "array_repeat" => Growth::Elements { of: 0, count: 1 },
        "array_resize" => Growth::Elements { of: 0, count: 1 },
        "concat" | "concat_ws" | "array_concat" => Growth::Sum,
        "replace" => Growth::Replace,
        _ => return None,
    };
    Some(ScalarUDF::new_from_impl(Guarded { inner: function.clone(), growth }))
}

/// How the size of a result follows from the arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Growth {
    /// The first argument as often as the second says.
    Repeat,
    /// As many characters as the second argument says.
    Pad,
    /// From the first to the second by steps of the third.
    Range { inclusive: bool },
    /// So many elements as large as those of an argument.
    Elements { of: usize, count: usize },
    /// All arguments one after the other.
    Sum,
    /// Each place of the second argument in the first becomes the third.
    Replace,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Guarded {
    inner: ScalarUDF,
    growth: Growth,
}

// Without `simplify`: what some functions make of themselves there is not guarded.
impl ScalarUDFImpl for Guarded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&args)?;
        self.inner.invoke_with_args(args)
    }
}

impl Guarded {
    fn check(&self, args: &ScalarFunctionArgs) -> Result<()> {
        let columns = args.args.iter().map(Column::new).collect::<Result<Vec<_>>>()?;
        let rows = if columns.iter().all(|column| column.constant) { 1 } else { args.number_rows };
        let mut total = 0_u64;
        for row in 0..rows {
            let bytes = self.growth.bytes(&columns, row);
            if bytes > VALUE_BYTES_MAX {
                return Err(too_big(&self.shown(), "a value", bytes, VALUE_BYTES_MAX));
            }
            total += bytes;
        }
        if total > BATCH_BYTES_MAX {
            return Err(too_big(&self.shown(), &format!("{rows} values"), total, BATCH_BYTES_MAX));
        }
        room::check(&self.shown(), total)
    }

    /// Its name in messages.
    fn shown(&self) -> String {
        format!("{}()", self.name())
    }
}

pub(super) fn too_big(name: &str, what: &str, bytes: u64, limit: u64) -> DataFusionError {
    let limit = limit >> 20;
    let made = if bytes == u64::MAX { "more bytes than can be counted".to_owned() } else { format!("{bytes} bytes") };
    let message = Message::new(format!("{name} would make {what} of {made}, and {limit} MiB are the limit"));
    DataFusionError::External(Box::new(message.next("ask for less of it at once")))
}

/// An argument.
struct Column {
    values: ArrayRef,
    constant: bool,
    /// Bytes of a value on average.
    average: u64,
    /// The values as whole numbers, where they are some.
    numbers: Option<ArrayRef>,
}

impl Column {
    fn new(argument: &ColumnarValue) -> Result<Self> {
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
        let all = values.to_data().get_slice_memory_size()?;
        let average = (all / values.len().max(1)) as u64;
        Ok(Self { values, constant, average, numbers })
    }

    fn at(&self, row: usize) -> usize {
        if self.constant { 0 } else { row }
    }

    fn number(&self, row: usize) -> Option<i64> {
        let row = self.at(row);
        if let DataType::Interval(IntervalUnit::MonthDayNano) = self.values.data_type() {
            let interval = self.values.is_valid(row).then(|| self.values.as_primitive::<IntervalMonthDayNanoType>().value(row))?;
            let days = i64::from(interval.months).saturating_mul(MONTH_US).saturating_add(i64::from(interval.days).saturating_mul(DAY_US));
            return Some(days.saturating_add(interval.nanoseconds / 1_000));
        }
        let numbers = self.numbers.as_ref()?;
        numbers.is_valid(row).then(|| numbers.as_primitive::<Int64Type>().value(row))
    }

    fn text(&self, row: usize) -> Option<&str> {
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

    /// Bytes of the value in a row; of a list, an average one.
    fn bytes(&self, row: usize) -> u64 {
        self.text(row).map_or(self.average, |text| text.len() as u64)
    }
}

impl Growth {
    /// What the result of a row takes, at most or nearly; NULL is nothing.
    fn bytes(self, columns: &[Column], row: usize) -> u64 {
        self.counted(columns, row).unwrap_or(0)
    }

    fn counted(self, columns: &[Column], row: usize) -> Option<u64> {
        let count = |of: usize| columns.get(of)?.number(row).map(|count| u64::try_from(count).unwrap_or(0));
        match self {
            Self::Repeat => Some(columns.first()?.bytes(row).saturating_mul(count(1)?)),
            Self::Pad => count(1),
            Self::Elements { of, count: at } => Some(columns.get(of)?.bytes(row).max(NUMBER_BYTES).saturating_mul(count(at)?)),
            Self::Sum => Some(columns.iter().fold(0_u64, |sum, column| sum.saturating_add(column.bytes(row)))),
            Self::Replace => {
                let (text, from, to) = (columns.first()?.text(row)?, columns.get(1)?.text(row)?, columns.get(2)?.text(row)?);
                // An empty text is found between all characters.
                let places = if from.is_empty() { text.len() + 1 } else { text.len() / from.len() };
                Some((text.len() as u64).saturating_add((places as u64).saturating_mul(to.len() as u64)))
            }
            Self::Range { inclusive } => {
                let (start, stop) = match columns {
                    [stop] => (0, stop.number(row)?),
                    [start, stop, ..] => (start.number(row)?, stop.number(row)?),
                    [] => return None,
                };
                let step = columns.get(2).map_or(Some(1), |step| step.number(row))?;
                let (way, step) = (i128::from(stop) - i128::from(start), i128::from(step));
                if step == 0 || (way < 0) != (step < 0) {
                    return Some(NUMBER_BYTES);
                }
                let count = way / step + i128::from(inclusive);
                Some(u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(NUMBER_BYTES))
            }
        }
    }
}

//! Intervals are compared by how long they are: a month as 30 days, a day as 24 hours, as PostgreSQL does. Arrow compares months first, then days,
//! then the rest, so that 25 hours would be less than one day; and it would make an interval of a difference of times, which has no days.
//!
//! Comparisons, orders and keys of joins take the [`length`]; where an interval must stay one, as a key of groups or as what `max` gives, it is
//! written in days and the rest ([`one_interval`]), as which Arrow's order is that of lengths.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, IntervalMonthDayNanoArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType,
    IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{ScalarFunction, Sort};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::type_of;
use crate::result;

const DAY_NS: i128 = 86_400_000_000_000;
const MONTH_NS: i128 = 30 * DAY_NS;

static LENGTH: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(Length::new(false))));
static PLACE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(Length::new(true))));

/// Whether values of these types are to be compared by [`length`].
pub(super) fn are_lengths(types: &[DataType]) -> bool {
    let is_length = |found: &DataType| matches!(found, DataType::Interval(_) | DataType::Duration(_));
    let may_be = |found: &DataType| is_length(found) || matches!(found, DataType::Null | DataType::Utf8);
    types.iter().any(|found| matches!(found, DataType::Interval(_))) && types.iter().all(may_be)
}

/// How long an interval or a difference of times is, in nanoseconds.
pub(super) fn length(expr: Expr, found: &DataType) -> Expr {
    let interval = DataType::Interval(IntervalUnit::MonthDayNano);
    let expr = if *found == DataType::Utf8 { datafusion::logical_expr::cast(expr, interval) } else { expr };
    Expr::ScalarFunction(ScalarFunction { func: LENGTH.clone(), args: vec![expr] })
}

/// Puts intervals among the keys of an order by their [`length`], under the names they have: the columns of an order keep theirs. Says whether
/// there were some.
pub(super) fn order_by_length(by: &mut [Sort], schema: &DFSchema) -> bool {
    let mut changed = false;
    for sort in by.iter_mut().filter(|sort| matches!(type_of(&sort.expr, schema), DataType::Interval(_))) {
        let args = vec![std::mem::take(&mut sort.expr)];
        sort.expr = Expr::ScalarFunction(ScalarFunction { func: PLACE.clone(), args });
        changed = true;
    }
    changed
}

/// The expression without [`length`].
pub(super) fn as_written(expr: Expr) -> Expr {
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, mut args }) if func.name() == NAME && args.len() == 1 => args.remove(0),
        other => other,
    }
}

const NAME: &str = "interval_length_ns";

#[derive(Debug, PartialEq, Eq, Hash)]
struct Length {
    has_name_of_argument: bool,
    signature: Signature,
}

impl Length {
    fn new(has_name_of_argument: bool) -> Self {
        Self { has_name_of_argument, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Length {
    fn name(&self) -> &str {
        NAME
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let argument: String = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(if self.has_name_of_argument { argument } else { format!("{NAME}({argument})") })
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = matches!(args.args[0], ColumnarValue::Scalar(_));
        let column = args.args[0].to_array(if constant { 1 } else { args.number_rows })?;
        result(interval_lengths(&column)?, constant)
    }
}

/// The lengths of intervals, or of differences of times, in nanoseconds: decimals without places.
pub(crate) fn interval_lengths(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(Arc::new(lengths(column)?.with_precision_and_scale(DECIMAL128_MAX_PRECISION, 0)?))
}

/// Intervals in days and the rest of a day: those of one length are one.
pub(super) fn one_interval(intervals: &IntervalMonthDayNanoArray) -> IntervalMonthDayNanoArray {
    intervals.unary(|interval| {
        let length = length_ns(interval);
        // Six million years: more than months hold in an interval that anybody writes.
        let days = i32::try_from(length.div_euclid(DAY_NS)).unwrap_or(if length < 0 { i32::MIN } else { i32::MAX });
        IntervalMonthDayNano::new(0, days, length.rem_euclid(DAY_NS) as i64)
    })
}

fn length_ns(interval: IntervalMonthDayNano) -> i128 {
    i128::from(interval.months) * MONTH_NS + i128::from(interval.days) * DAY_NS + i128::from(interval.nanoseconds)
}

fn lengths(column: &ArrayRef) -> Result<Decimal128Array> {
    macro_rules! of {
        ($type:ty, $ns:expr) => {
            Decimal128Array::from_iter(column.as_primitive::<$type>().iter().map(|value| value.map(|value| i128::from(value) * $ns)))
        };
    }
    Ok(match column.data_type() {
        DataType::Duration(TimeUnit::Second) => of!(DurationSecondType, 1_000_000_000),
        DataType::Duration(TimeUnit::Millisecond) => of!(DurationMillisecondType, 1_000_000),
        DataType::Duration(TimeUnit::Microsecond) => of!(DurationMicrosecondType, 1_000),
        DataType::Duration(TimeUnit::Nanosecond) => of!(DurationNanosecondType, 1),
        _ => {
            let intervals = cast(column, &DataType::Interval(IntervalUnit::MonthDayNano))?;
            let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
            Decimal128Array::from_iter(intervals.iter().map(|interval| interval.map(length_ns)))
        }
    })
}

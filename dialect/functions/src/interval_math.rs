//! What DataFusion has no operator for, or a wrong one, where intervals are computed with; [`planned_operator`] puts these in its place.
//!
//! ```text
//!  INTERVAL '1 hour' * n            interval_times(INTERVAL '1 hour', n); also n * INTERVAL, INTERVAL / n, and differences of times
//!  DATE '2024-01-02' - INTERVAL '1 hour'       a time, as in PostgreSQL; DataFusion drops the hour
//!  (ts AT TIME ZONE 'Europe/Berlin') + INTERVAL '1 day'      zoned_plus(…): the same wall-clock time; where clocks skip it, that much later
//! ```

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{ArrayRef, AsArray, IntervalMonthDayNanoArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Float64Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampMicrosecondType,
};
use chrono::{DateTime, Days, Months, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use datafusion::common::{DFSchema, Result, ScalarValue, exec_datafusion_err, exec_err, internal_err};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    cast as cast_expr,
};

use crate::{columns, event_time_type, result, sql_type};

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
const DAY_NS: i128 = 86_400_000_000_000;

/// An operator between two expressions over `schema`, if it is one of ours.
pub fn planned_operator(left: &Expr, op: Operator, right: &Expr, schema: &DFSchema) -> Option<Expr> {
    // That of a parameter is not known.
    let right_type = right.get_type(schema).ok()?;
    // The left side of a long chain is long: its type is asked for only where it matters.
    if matches!(op, Operator::Plus | Operator::Minus) && right_type.is_numeric() {
        return None;
    }
    let left_type = left.get_type(schema).ok()?;
    let is_date = |found: &DataType| *found == DataType::Date32;
    let is_interval = |found: &DataType| matches!(found, DataType::Interval(_));
    let is_length = |found: &DataType| is_interval(found) || matches!(found, DataType::Duration(_));
    let call = |math, first: &Expr, second: &Expr| {
        Some(ScalarUDF::new_from_impl(IntervalMath::new(math)).call(vec![first.clone(), second.clone()]))
    };
    let computed = |left: Expr, right: Expr| Some(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))));
    match op {
        Operator::Multiply if is_length(&left_type) && right_type.is_numeric() => call(Math::Times, left, right),
        Operator::Multiply if left_type.is_numeric() && is_length(&right_type) => call(Math::Times, right, left),
        Operator::Divide if is_length(&left_type) && right_type.is_numeric() => call(Math::Divided, left, right),
        Operator::Plus if is_zoned(&left_type) && is_interval(&right_type) => call(Math::ZonedPlus, left, right),
        Operator::Plus if is_interval(&left_type) && is_zoned(&right_type) => call(Math::ZonedPlus, right, left),
        Operator::Minus if is_zoned(&left_type) && is_interval(&right_type) => call(Math::ZonedMinus, left, right),
        Operator::Plus | Operator::Minus if is_date(&left_type) && may_have_hours(right, &right_type) => {
            computed(cast_expr(left.clone(), event_time_type()), right.clone())
        }
        Operator::Plus if may_have_hours(left, &left_type) && is_date(&right_type) => {
            computed(cast_expr(right.clone(), event_time_type()), left.clone())
        }
        // DataFusion takes nanoseconds, which far dates are not.
        Operator::Minus if is_microseconds(&left_type) && is_date(&right_type) => {
            computed(left.clone(), cast_expr(right.clone(), left_type))
        }
        Operator::Minus if is_date(&left_type) && is_microseconds(&right_type) => {
            computed(cast_expr(left.clone(), right_type), right.clone())
        }
        _ => None,
    }
}

/// Whether a date plus or minus it may be a time within a day. A date and whole days are a date.
fn may_have_hours(expr: &Expr, found: &DataType) -> bool {
    match (expr, found) {
        (Expr::Literal(ScalarValue::IntervalMonthDayNano(interval), _), _) => interval.is_some_and(|interval| interval.nanoseconds != 0),
        (Expr::Literal(ScalarValue::IntervalDayTime(interval), _), _) => interval.is_some_and(|interval| interval.milliseconds != 0),
        (_, DataType::Interval(IntervalUnit::YearMonth)) => false,
        (_, found) => matches!(found, DataType::Interval(_) | DataType::Duration(_)),
    }
}

fn is_microseconds(found: &DataType) -> bool {
    matches!(found, DataType::Timestamp(TimeUnit::Microsecond, _))
}

/// Whether a day may have other than 24 hours.
fn is_zoned(found: &DataType) -> bool {
    match found {
        DataType::Timestamp(_, Some(zone)) => &**zone != "UTC" && !zone.starts_with(['+', '-']),
        _ => false,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Math {
    Times,
    Divided,
    ZonedPlus,
    ZonedMinus,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IntervalMath {
    math: Math,
    signature: Signature,
}

impl IntervalMath {
    fn new(math: Math) -> Self {
        Self { math, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for IntervalMath {
    fn name(&self) -> &str {
        match self.math {
            Math::Times => "interval_times",
            Math::Divided => "interval_divided",
            Math::ZonedPlus => "zoned_plus",
            Math::ZonedMinus => "zoned_minus",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [first, second] = arguments else { return internal_err!("{} of {} arguments", self.name(), arguments.len()) };
        Ok(match self.math {
            // A whole number is exact.
            Math::Times if second.is_integer() => vec![first.clone(), DataType::Int64],
            Math::Times | Math::Divided => vec![first.clone(), DataType::Float64],
            Math::ZonedPlus | Math::ZonedMinus => match first {
                DataType::Timestamp(_, zone) => vec![DataType::Timestamp(TimeUnit::Microsecond, zone.clone()), INTERVAL],
                other => vec![other.clone(), INTERVAL],
            },
        })
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match &arguments[0] {
            DataType::Interval(_) => INTERVAL,
            other => other.clone(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (columns, constant) = columns(&args)?;
        let values = match (self.math, columns[0].data_type()) {
            (Math::ZonedPlus, _) => moved(&columns[0], &columns[1], 1)?,
            (Math::ZonedMinus, _) => moved(&columns[0], &columns[1], -1)?,
            (_, DataType::Duration(_)) => self.scaled_durations(&columns[0], &columns[1])?,
            _ => self.scaled_intervals(&columns[0], &columns[1])?,
        };
        result(values, constant)
    }
}

/// By what a length is multiplied.
#[derive(Debug, Clone, Copy)]
enum Factor {
    Whole(i64),
    Other(f64),
}

impl IntervalMath {
    fn factors(&self, numbers: &ArrayRef) -> Vec<Option<Factor>> {
        match numbers.data_type() {
            DataType::Int64 => numbers.as_primitive::<Int64Type>().iter().map(|number| number.map(Factor::Whole)).collect(),
            _ if self.math == Math::Divided => {
                numbers.as_primitive::<Float64Type>().iter().map(|number| number.map(|number| Factor::Other(number.recip()))).collect()
            }
            _ => numbers.as_primitive::<Float64Type>().iter().map(|number| number.map(Factor::Other)).collect(),
        }
    }

    fn scaled_durations(&self, durations: &ArrayRef, numbers: &ArrayRef) -> Result<ArrayRef> {
        let counts = cast(durations, &DataType::Int64)?;
        let scaled = counts.as_primitive::<Int64Type>().iter().zip(self.factors(numbers)).map(|pair| match pair {
            (Some(count), Some(factor)) => {
                let value = scaled(i128::from(count), factor).and_then(|value| i64::try_from(value).ok());
                value.map(Some).ok_or_else(|| too_long(factor))
            }
            _ => Ok(None),
        });
        let scaled: arrow::array::Int64Array = scaled.collect::<Result<_>>()?;
        Ok(cast(&scaled, durations.data_type())?)
    }

    fn scaled_intervals(&self, intervals: &ArrayRef, numbers: &ArrayRef) -> Result<ArrayRef> {
        let intervals = cast(intervals, &INTERVAL)?;
        let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
        let scaled = intervals.iter().zip(self.factors(numbers)).map(|pair| match pair {
            (Some(interval), Some(factor)) => scaled_interval(interval, factor).map(Some).ok_or_else(|| too_long(factor)),
            _ => Ok(None),
        });
        Ok(Arc::new(scaled.collect::<Result<IntervalMonthDayNanoArray>>()?))
    }
}

fn too_long(factor: Factor) -> datafusion::error::DataFusionError {
    let factor = match factor {
        Factor::Whole(factor) => factor.to_string(),
        Factor::Other(factor) => factor.to_string(),
    };
    exec_datafusion_err!("an interval cannot be multiplied by {factor}: the result is longer than an interval can be")
}

fn scaled(count: i128, factor: Factor) -> Option<i128> {
    match factor {
        Factor::Whole(factor) => count.checked_mul(i128::from(factor)),
        // Beyond it a double is no count.
        Factor::Other(factor) => Some(count as f64 * factor).filter(|value| value.abs() < 1e30).map(|value| value.round() as i128),
    }
}

/// What is left of months becomes days, of which there are 30 in a month; what is left of days becomes hours.
fn scaled_interval(interval: IntervalMonthDayNano, factor: Factor) -> Option<IntervalMonthDayNano> {
    let IntervalMonthDayNano { months, days, nanoseconds } = interval;
    let (months, days, nanoseconds) = match factor {
        Factor::Whole(factor) => {
            let factor = i128::from(factor);
            (i128::from(months) * factor, i128::from(days) * factor, i128::from(nanoseconds).checked_mul(factor)?)
        }
        Factor::Other(number) => {
            let all_months = f64::from(months) * number;
            let whole_months = all_months.trunc();
            let all_days = f64::from(days) * number + (all_months - whole_months) * 30.0;
            let whole_days = all_days.trunc();
            let of_days = ((all_days - whole_days) * DAY_NS as f64).round() as i128;
            if !(whole_months.is_finite() && whole_days.is_finite()) {
                return None;
            }
            (whole_months as i128, whole_days as i128, scaled(i128::from(nanoseconds), factor)? + of_days)
        }
    };
    Some(IntervalMonthDayNano::new(months.try_into().ok()?, days.try_into().ok()?, nanoseconds.try_into().ok()?))
}

/// Times of a zone, later or earlier by intervals: months and days by the clocks on its walls, the rest as time passes.
fn moved(times: &ArrayRef, intervals: &ArrayRef, sign: i64) -> Result<ArrayRef> {
    let DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) = times.data_type() else {
        return exec_err!("a time of a zone was expected, and this is {}", sql_type(times.data_type()));
    };
    let tz: Tz = zone.parse()?;
    let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
    let moved = times.as_primitive::<TimestampMicrosecondType>().iter().zip(intervals).map(|pair| match pair {
        (Some(time), Some(interval)) => {
            let moved = moved_time(time, tz, interval, sign);
            moved
                .map(Some)
                .ok_or_else(|| exec_datafusion_err!("a time {time} µs from 1970 cannot be moved by an interval: the result is no time"))
        }
        _ => Ok(None),
    });
    let moved: TimestampMicrosecondArray = moved.collect::<Result<_>>()?;
    Ok(Arc::new(moved.with_timezone(zone.clone())))
}

fn moved_time(time_us: i64, tz: Tz, interval: IntervalMonthDayNano, sign: i64) -> Option<i64> {
    let mut time_us = time_us;
    if interval.months != 0 || interval.days != 0 {
        let at = DateTime::from_timestamp_micros(time_us)?;
        let before = tz.offset_from_utc_datetime(&at.naive_utc()).fix();
        let local = at.naive_utc().checked_add_offset(before)?;
        let months = i64::from(interval.months) * sign;
        let count = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
        let local = if months < 0 { local.checked_sub_months(count)? } else { local.checked_add_months(count)? };
        let days = i64::from(interval.days) * sign;
        let count = Days::new(days.unsigned_abs());
        let local = if days < 0 { local.checked_sub_days(count)? } else { local.checked_add_days(count)? };
        time_us = on_clock(local, tz)?.timestamp_micros();
    }
    time_us.checked_add(interval.nanoseconds.checked_mul(sign)?.div_euclid(1_000))
}

/// When the clocks of a zone show a time: the first of two times; where they skip it, what the clocks before the change would have shown.
fn on_clock(local: NaiveDateTime, tz: Tz) -> Option<DateTime<Utc>> {
    if let Some(time) = tz.from_local_datetime(&local).earliest() {
        return Some(time.to_utc());
    }
    // No zone skips more than a day.
    let earlier = tz.from_local_datetime(&local.checked_sub_signed(TimeDelta::days(1))?).earliest()?;
    local.checked_sub_offset(earlier.offset().fix()).map(|time| time.and_utc())
}

//! Constant intervals of a query as lengths of time.

use datafusion::common::ScalarValue;

const DAY_US: i64 = 86_400_000_000;

/// Why a value has no length in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoLength {
    /// It is no interval, or NULL.
    NoInterval,
    /// It is in months or years, which differ in length.
    Months,
    /// It is finer than a microsecond.
    Fraction,
    /// It does not fit 64 bits.
    TooLong,
}

/// Microseconds of an interval; negative ones count back.
pub(crate) fn interval_us(value: &ScalarValue) -> Result<i64, NoLength> {
    let total = |months: i32, days: i32, nanoseconds: i64| {
        if months != 0 {
            return Err(NoLength::Months);
        }
        if nanoseconds % 1000 != 0 {
            return Err(NoLength::Fraction);
        }
        i64::from(days).checked_mul(DAY_US).and_then(|us| us.checked_add(nanoseconds / 1000)).ok_or(NoLength::TooLong)
    };
    match value {
        ScalarValue::IntervalMonthDayNano(Some(v)) => total(v.months, v.days, v.nanoseconds),
        ScalarValue::IntervalDayTime(Some(v)) => total(0, v.days, i64::from(v.milliseconds) * 1_000_000),
        ScalarValue::IntervalYearMonth(Some(months)) => total(*months, 0, 0),
        ScalarValue::DurationSecond(Some(s)) => s.checked_mul(1_000_000).ok_or(NoLength::TooLong),
        ScalarValue::DurationMillisecond(Some(ms)) => ms.checked_mul(1000).ok_or(NoLength::TooLong),
        ScalarValue::DurationMicrosecond(Some(us)) => Ok(*us),
        ScalarValue::DurationNanosecond(Some(ns)) => total(0, 0, *ns),
        _ => Err(NoLength::NoInterval),
    }
}

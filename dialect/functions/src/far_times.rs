//! Times of the years 1 to 9999 everywhere: nanoseconds, which DataFusion would make of them in some places, end in 2262.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, cast};

use crate::event_time_type;

/// `ts AT TIME ZONE '…'` in the unit of `ts`, and `now()` in that of event times. `found` gives the type of an expression.
pub(crate) fn in_microseconds(expr: &Expr, found: impl Fn(&Expr) -> DataType) -> Option<Expr> {
    match expr {
        Expr::Cast(Cast { expr, field }) => {
            let DataType::Timestamp(TimeUnit::Nanosecond, Some(zone)) = field.data_type() else { return None };
            let is_coarse = match found(expr) {
                DataType::Timestamp(unit, _) => unit != TimeUnit::Nanosecond,
                DataType::Date32 => true,
                _ => false,
            };
            is_coarse.then(|| cast(expr.as_ref().clone(), DataType::Timestamp(TimeUnit::Microsecond, Some(zone.clone()))))
        }
        Expr::ScalarFunction(call) if call.func.name() == "now" => Some(cast(expr.clone(), event_time_type())),
        _ => None,
    }
}

/// The type in which dates and times are compared, where one of them is a date: that of the time.
pub(crate) fn of_dates(types: &[DataType]) -> Option<DataType> {
    if !types.contains(&DataType::Date32) {
        return None;
    }
    let mut times = types.iter().filter(|found| matches!(found, DataType::Timestamp(..)));
    let first = times.next()?;
    let is_coarse = !matches!(first, DataType::Timestamp(TimeUnit::Nanosecond, _));
    (is_coarse && times.all(|other| other == first)).then(|| first.clone())
}

//! Times of the years 1 to 9999 everywhere: nanoseconds, which DataFusion would make of them in some places, end in 2262.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, cast};

use crate::event_time_type;

/// `ts AT TIME ZONE '…'` in the unit of `ts`; `now()`, and dates that are cut to a unit, in that of event times. `found` gives the type of an expression.
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
        Expr::ScalarFunction(call) if matches!(call.func.name(), "date_trunc" | "date_bin") => {
            let mut call = call.clone();
            let date = call.args.get_mut(1).filter(|time| found(time) == DataType::Date32)?;
            *date = cast(std::mem::take(date), event_time_type());
            Some(Expr::ScalarFunction(call))
        }
        _ => None,
    }
}

/// The type in which times are compared with dates and texts: that of the times. DataFusion takes nanoseconds.
pub(crate) fn one_time(types: &[DataType]) -> Option<DataType> {
    let is_time = |found: &&DataType| matches!(found, DataType::Timestamp(..));
    let mut times = types.iter().filter(is_time);
    let first = times.next()?;
    let is_coarse = !matches!(first, DataType::Timestamp(TimeUnit::Nanosecond, _));
    let are_alike = times.all(|other| other == first);
    let mut others = types.iter().filter(|found| !is_time(found) && **found != DataType::Null).peekable();
    (is_coarse && are_alike && others.peek().is_some() && others.all(becomes_time)).then(|| first.clone())
}

/// The same where several values become one column or list; dates beside texts are dates.
pub(crate) fn one_result(types: &[DataType]) -> Option<DataType> {
    let is_one = |found: &DataType| *found == DataType::Date32 || found.is_string() || *found == DataType::Null;
    let is_date = types.contains(&DataType::Date32) && types.iter().any(DataType::is_string) && types.iter().all(is_one);
    one_time(types).or_else(|| is_date.then_some(DataType::Date32))
}

/// The type of elements that lists have in common, or that of the values themselves where none is a list; `None` where DataFusion's choice will do.
pub(crate) fn one_element(types: &[DataType]) -> Option<DataType> {
    let elements: Vec<DataType> = types.iter().map(|found| element_of(found).unwrap_or(found).clone()).collect();
    one_result(&elements)
}

/// What the lists of a type are of.
pub(crate) fn element_of(list: &DataType) -> Option<&DataType> {
    match list {
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => Some(element.data_type()),
        _ => None,
    }
}

/// Whether values of a type are cast to times beside times.
pub(crate) fn becomes_time(found: &DataType) -> bool {
    *found == DataType::Date32 || found.is_string()
}

/// A constant text that becomes a time, with seconds. Its parts have been rewritten before.
pub(crate) fn constant_with_seconds(mut expr: Expr) -> Transformed<Expr> {
    let (inner, target) = match &mut expr {
        Expr::Cast(cast) => (cast.expr.as_mut(), cast.field.data_type()),
        Expr::TryCast(cast) => (cast.expr.as_mut(), cast.field.data_type()),
        _ => return Transformed::no(expr),
    };
    if let Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)), _) = inner
        && matches!(target, DataType::Timestamp(..))
        && let Some(whole) = with_seconds(text)
    {
        *text = whole;
        return Transformed::yes(expr);
    }
    Transformed::no(expr)
}

/// `2024-01-02 10:30` with the seconds that Arrow's reader wants; `None` if that is not what it lacks.
pub(crate) fn with_seconds(text: &str) -> Option<String> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let is_date = date.len() >= 10 && date.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let bytes = time.as_bytes();
    let minutes = bytes.len() >= 5 && bytes[2] == b':' && [0, 1, 3, 4].iter().all(|&at| bytes[at].is_ascii_digit());
    let ends = bytes.get(5).is_none_or(|next| matches!(next, b'+' | b'-' | b'Z' | b'z' | b' '));
    (is_date && minutes && ends).then(|| format!("{date}{}{}:00{}", &text[date.len()..=date.len()], &time[..5], &time[5..]))
}

#[cfg(test)]
mod tests {
    use super::with_seconds;

    #[test]
    fn times_without_seconds_get_them() {
        let made = |text| with_seconds(text);
        assert_eq!(made("2024-01-02 10:30").as_deref(), Some("2024-01-02 10:30:00"));
        assert_eq!(made("2024-01-02T10:30+01:00").as_deref(), Some("2024-01-02T10:30:00+01:00"));
        assert_eq!(made("2024-01-02T10:30Z").as_deref(), Some("2024-01-02T10:30:00Z"));
        for left in ["2024-01-02 10:30:15", "2024-01-02", "10:30", "2024-01-02 1:30", "soon at 10:30", "2024-01-02 10:3ü"] {
            assert_eq!(made(left), None, "{left}");
        }
    }
}

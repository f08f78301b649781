//! A bound value as it would be written in SQL, of the value's own type: nothing is cut to the type of what is beside the parameter.
//! What cannot be written exactly is an error.

use arrow::array::{Array, ArrayRef, TimestampMicrosecondArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, DecimalType, TimeUnit};
use arrow::util::display::array_value_to_string;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{Array as SqlArray, Expr, Value};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Tokenizer;
use watershed_functions::sql_type;

const US_PER_DAY: i64 = 86_400_000_000;
const MS_PER_DAY: i64 = 86_400_000;
/// Digits of the widest decimal.
const DIGITS_MAX: usize = 76;
const NANOSECONDS: &str = "it has nanoseconds, and TIMESTAMP counts microseconds";

/// The value at `row` of `column` as an expression; the error says why there is none. `beside` is the type of what is beside the parameter,
/// as which a text will be read.
pub(super) fn literal(column: &ArrayRef, row: usize, beside: Option<&DataType>) -> Result<Expr, String> {
    let value = ScalarValue::try_from_array(column, row).map_err(|why| why.strip_backtrace())?;
    written(&value, beside)
}

fn written(value: &ScalarValue, beside: Option<&DataType>) -> Result<Expr, String> {
    if value.is_null() {
        // Clients give NULL the type they like, or none.
        return Ok(Expr::value(Value::Null));
    }
    match value {
        ScalarValue::Boolean(Some(value)) => Ok(Expr::value(Value::Boolean(*value))),
        ScalarValue::Int8(_) | ScalarValue::Int16(_) | ScalarValue::Int32(_) | ScalarValue::Int64(_) => parsed(&value.to_string()),
        ScalarValue::UInt8(_) | ScalarValue::UInt16(_) | ScalarValue::UInt32(_) | ScalarValue::UInt64(_) => parsed(&value.to_string()),
        ScalarValue::Float16(Some(value)) => typed(&value.to_f32().to_string(), "FLOAT"),
        ScalarValue::Float32(Some(value)) => typed(&format!("{value:?}"), "FLOAT"),
        ScalarValue::Float64(Some(value)) => typed(&format!("{value:?}"), "DOUBLE"),
        ScalarValue::Decimal32(Some(value), precision, scale) => decimal::<Decimal128Type>(i128::from(*value), *precision, *scale),
        ScalarValue::Decimal64(Some(value), precision, scale) => decimal::<Decimal128Type>(i128::from(*value), *precision, *scale),
        ScalarValue::Decimal128(Some(value), precision, scale) => decimal::<Decimal128Type>(*value, *precision, *scale),
        ScalarValue::Decimal256(Some(value), precision, scale) => decimal::<Decimal256Type>(*value, *precision, *scale),
        ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)) => {
            read_whole(text, beside)?;
            Ok(Expr::value(Value::SingleQuotedString(text.clone())))
        }
        ScalarValue::Binary(Some(bytes))
        | ScalarValue::BinaryView(Some(bytes))
        | ScalarValue::LargeBinary(Some(bytes))
        | ScalarValue::FixedSizeBinary(_, Some(bytes)) => {
            Ok(Expr::value(Value::HexStringLiteral(bytes.iter().map(|byte| format!("{byte:02X}")).collect())))
        }
        ScalarValue::Date32(Some(days)) => date(i64::from(*days)),
        ScalarValue::Date64(Some(ms)) if ms % MS_PER_DAY == 0 => date(ms / MS_PER_DAY),
        ScalarValue::Date64(Some(ms)) => timestamp(*ms, 1_000),
        ScalarValue::TimestampSecond(Some(at), _) => timestamp(*at, 1_000_000),
        ScalarValue::TimestampMillisecond(Some(at), _) => timestamp(*at, 1_000),
        ScalarValue::TimestampMicrosecond(Some(at), _) => timestamp(*at, 1),
        ScalarValue::TimestampNanosecond(Some(at), _) if at % 1_000 == 0 => timestamp(at / 1_000, 1),
        ScalarValue::TimestampNanosecond(Some(_), _) => Err(NANOSECONDS.to_owned()),
        ScalarValue::Time32Second(_)
        | ScalarValue::Time32Millisecond(_)
        | ScalarValue::Time64Microsecond(_)
        | ScalarValue::Time64Nanosecond(_) => typed(&shown(value)?, "TIME"),
        ScalarValue::DurationSecond(Some(count)) => parsed(&format!("INTERVAL '{count} seconds'")),
        ScalarValue::DurationMillisecond(Some(count)) => parsed(&format!("INTERVAL '{count} milliseconds'")),
        ScalarValue::DurationMicrosecond(Some(count)) => parsed(&format!("INTERVAL '{count} microseconds'")),
        ScalarValue::DurationNanosecond(Some(count)) => parsed(&format!("INTERVAL '{count} nanoseconds'")),
        ScalarValue::IntervalYearMonth(Some(months)) => parsed(&format!("INTERVAL '{months} months'")),
        ScalarValue::IntervalDayTime(Some(span)) => parsed(&format!("INTERVAL '{} days {} milliseconds'", span.days, span.milliseconds)),
        ScalarValue::IntervalMonthDayNano(Some(span)) => {
            parsed(&format!("INTERVAL '{} months {} days {} nanoseconds'", span.months, span.days, span.nanoseconds))
        }
        ScalarValue::Dictionary(_, inner) | ScalarValue::RunEndEncoded(_, _, inner) => written(inner, beside),
        ScalarValue::List(list) => list_of(&list.value(0)),
        ScalarValue::LargeList(list) => list_of(&list.value(0)),
        ScalarValue::FixedSizeList(list) => list_of(&list.value(0)),
        ScalarValue::Map(_) => Err("a MAP cannot be bound: bind two lists, and write map(?, ?) in the statement".to_owned()),
        ScalarValue::Struct(_) => Err("a STRUCT cannot be bound: bind its fields, and write struct(?, …) in the statement".to_owned()),
        other => Err(format!("a {} cannot be bound", sql_type(&other.data_type()))),
    }
}

fn list_of(items: &ArrayRef) -> Result<Expr, String> {
    let elem = (0..items.len()).map(|row| literal(items, row, None)).collect::<Result<_, _>>()?;
    Ok(Expr::Array(SqlArray { elem, named: false }))
}

fn decimal<T: DecimalType>(value: T::Native, precision: u8, scale: i8) -> Result<Expr, String> {
    exact_decimal(&T::format_decimal(value, precision, scale))
}

/// Digits, a sign and a point as a decimal of just that size.
fn exact_decimal(text: &str) -> Result<Expr, String> {
    let digits = text.trim_start_matches(['-', '+']);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (precision, scale) = ((whole.trim_start_matches('0').len() + fraction.len()).max(1), fraction.len());
    if precision > DIGITS_MAX {
        return Err(format!("a number has {DIGITS_MAX} digits at most"));
    }
    typed(text, &format!("DECIMAL({precision}, {scale})"))
}

fn date(days: i64) -> Result<Expr, String> {
    let us = days.checked_mul(US_PER_DAY).ok_or_else(beyond_times)?;
    let text = instant(us)?;
    // The midnight of a day, without its time.
    let (day, _) = text.split_once('T').ok_or_else(beyond_times)?;
    typed(day, "DATE")
}

/// An instant of `at` units of `unit_us` microseconds. Without a zone it is one of UTC, as a literal is.
fn timestamp(at: i64, unit_us: i64) -> Result<Expr, String> {
    typed(&instant(at.checked_mul(unit_us).ok_or_else(beyond_times)?)?, "TIMESTAMP")
}

/// ISO 8601 in UTC, of years that are written with four digits.
fn instant(us: i64) -> Result<String, String> {
    let array = TimestampMicrosecondArray::from(vec![us]).with_timezone("UTC");
    let text = array_value_to_string(&array, 0).map_err(|_| beyond_times())?;
    if text.as_bytes().get(4) == Some(&b'-') && text.starts_with(|first: char| first.is_ascii_digit()) {
        Ok(text)
    } else {
        Err(beyond_times())
    }
}

fn beyond_times() -> String {
    "its year is not one from 0 to 9999".to_owned()
}

fn shown(value: &ScalarValue) -> Result<String, String> {
    let array = value.to_array().map_err(|why| why.strip_backtrace())?;
    array_value_to_string(&array, 0).map_err(|why| why.to_string())
}

/// An error if a text, read as the type of what is beside it, would be another value or none.
fn read_whole(text: &str, beside: Option<&DataType>) -> Result<(), String> {
    let Some(beside) = beside else { return Ok(()) };
    let unfit = || format!("'{}' is not a {}", excerpt(text), sql_type(beside));
    match beside {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => {
            fits(text, beside).ok_or_else(unfit)?;
            // Digits beyond the scale would be rounded away, and an exponent hides how many there are.
            let beyond = fraction(text).skip(usize::try_from(*scale).unwrap_or(0)).any(|digit| digit != b'0');
            if beyond || text.contains(['e', 'E']) { Err(unfit()) } else { Ok(()) }
        }
        DataType::Date32 | DataType::Date64 => {
            let day = fits(text, &DataType::Date32).ok_or_else(unfit)?;
            // A text with a time of day is read as a date, too.
            let clock = DataType::Timestamp(TimeUnit::Microsecond, None);
            let midnight = cast_with_options(&day, &clock, &CastOptions::default()).map_err(|_| unfit())?;
            if fits(text, &clock).is_some_and(|at| at == midnight) { Ok(()) } else { Err(unfit()) }
        }
        DataType::Timestamp(..) => {
            fits(text, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))).ok_or_else(unfit)?;
            if fraction(text).skip(6).any(|digit| digit != b'0') { Err(NANOSECONDS.to_owned()) } else { Ok(()) }
        }
        kind if kind.is_numeric() || *kind == DataType::Boolean => fits(text, kind).map(|_| ()).ok_or_else(unfit),
        _ => Ok(()),
    }
}

/// The digits after the point.
fn fraction(text: &str) -> impl Iterator<Item = u8> {
    text.split_once('.').map_or("", |(_, rest)| rest).bytes().take_while(u8::is_ascii_digit)
}

/// The text as that type, if it is one of its values.
fn fits(text: &str, kind: &DataType) -> Option<ArrayRef> {
    let array = ScalarValue::from(text).to_array().ok()?;
    cast_with_options(&array, kind, &CastOptions { safe: false, ..CastOptions::default() }).ok()
}

fn excerpt(text: &str) -> String {
    const CHARACTERS_MAX: usize = 40;
    let mut short: String = text.chars().take(CHARACTERS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// `CAST('text' AS kind)`
fn typed(text: &str, kind: &str) -> Result<Expr, String> {
    parsed(&format!("CAST('{}' AS {kind})", text.replace('\'', "''")))
}

/// An expression of our own making, without places: it is not in the client's text.
pub(super) fn parsed(text: &str) -> Result<Expr, String> {
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, text).tokenize().map_err(|why| why.to_string())?;
    Parser::new(&dialect).with_tokens(tokens).parse_expr().map_err(|why| why.to_string())
}

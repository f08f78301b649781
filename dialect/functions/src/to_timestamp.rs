//! `to_timestamp(x [, format …])`, `to_timestamp_seconds`, `_millis` and `_micros`: TIMESTAMP from text or a number.
//!
//! DataFusion's fail on columns of text in a session with a time zone (datafusion#24632), and know no text outside of 1677 to 2262. These take
//! years 1 to 9999 and beyond, and give TIMESTAMP as it is everywhere: microseconds in UTC. A number is one of seconds for `to_timestamp`, with
//! its fraction, else of the named unit. Formats are those of chrono; the first that a text fits counts.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, StringArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use chrono::format::{Parsed, StrftimeItems, parse};
use chrono::{DateTime, Utc};
use datafusion::common::{Result, exec_datafusion_err, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::{columns, null_of_null, result};
use crate::event_time_type;
use crate::far_times::with_seconds;
use crate::sql_type;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ToTimestamp {
    name: &'static str,
    /// How many microseconds a whole number counts.
    unit_us: i64,
    /// Whether fractions of the unit count.
    has_fractions: bool,
    signature: Signature,
}

impl ToTimestamp {
    fn new(name: &'static str, unit_us: i64, has_fractions: bool) -> Self {
        Self { name, unit_us, has_fractions, signature: Signature::variadic_any(Volatility::Immutable) }
    }

    /// All of the family.
    pub(super) fn all() -> [Self; 4] {
        [
            Self::new("to_timestamp", 1_000_000, true),
            Self::new("to_timestamp_seconds", 1_000_000, false),
            Self::new("to_timestamp_millis", 1_000, false),
            Self::new("to_timestamp_micros", 1, false),
        ]
    }

    fn out_of_range(&self, value: impl std::fmt::Display) -> datafusion::error::DataFusionError {
        exec_datafusion_err!("{}({value}) is no time: TIMESTAMP ends 292,277 years from 1970; look at the unit of the number", self.name)
    }

    fn of_numbers(&self, values: &ArrayRef) -> Result<TimestampMicrosecondArray> {
        let whole = |value: i64| value.checked_mul(self.unit_us).ok_or_else(|| self.out_of_range(value));
        match values.data_type() {
            DataType::Decimal128(_, scale) => {
                let one = 10_i128.pow((*scale).max(0) as u32);
                let unit = i128::from(self.unit_us);
                let of = |value: i128| {
                    let us = match self.has_fractions {
                        true => value.checked_mul(unit).map(|scaled| scaled.div_euclid(one)),
                        false => (value / one).checked_mul(unit),
                    };
                    us.and_then(|us| i64::try_from(us).ok()).ok_or_else(|| self.out_of_range(value as f64 / one as f64))
                };
                values.as_primitive::<Decimal128Type>().iter().map(|value| value.map(of).transpose()).collect()
            }
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                let values = cast(values, &DataType::Float64)?;
                let of = |value: f64| {
                    let us = if self.has_fractions { (value * self.unit_us as f64).round() } else { value.trunc() * self.unit_us as f64 };
                    // The bound is the first double that a BIGINT does not hold.
                    if us.abs() < 9.223_372_036_854_775e18 { Ok(us as i64) } else { Err(self.out_of_range(value)) }
                };
                values.as_primitive::<Float64Type>().iter().map(|value| value.map(of).transpose()).collect()
            }
            _ => {
                let values = cast(values, &DataType::Int64)?;
                values.as_primitive::<Int64Type>().iter().map(|value| value.map(whole).transpose()).collect()
            }
        }
    }

    fn of_texts(&self, texts: &ArrayRef, formats: &[StringArray]) -> Result<TimestampMicrosecondArray> {
        let texts = cast(texts, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        let of = |(row, text): (usize, Option<&str>)| {
            let Some(text) = text else { return Ok(None) };
            if formats.is_empty() {
                let time = string_to_datetime(&Utc, text)
                    .or_else(|error| with_seconds(text).map_or(Err(error), |whole| string_to_datetime(&Utc, &whole)));
                return time.map(|time| Some(self.whole(time))).map_err(|_| self.not_understood(text, "as RFC 3339 or a date"));
            }
            let mut failed = None;
            for format in formats.iter().filter(|format| format.is_valid(row)).map(|format| format.value(row)) {
                match formatted(text, format) {
                    Ok(time) => return Ok(Some(self.whole(time))),
                    Err(why) => failed = failed.or(Some((format, why))),
                }
            }
            match failed {
                Some((format, why)) => Err(self.not_understood(text, &format!("with the format '{format}' ({why})"))),
                None => Ok(None),
            }
        };
        texts.iter().enumerate().map(of).collect()
    }

    /// In microseconds, of whole units.
    fn whole(&self, time: DateTime<Utc>) -> i64 {
        let us = time.timestamp_micros();
        if self.has_fractions { us } else { us.div_euclid(self.unit_us) * self.unit_us }
    }

    fn not_understood(&self, text: &str, how: &str) -> datafusion::error::DataFusionError {
        exec_datafusion_err!("{}: '{text}' cannot be read {how}; give its format, or leave it out with TRY_CAST(… AS TIMESTAMP)", self.name)
    }
}

/// A text by chrono's format, in UTC unless it says otherwise. A name of a time zone may stand at the end.
fn formatted(text: &str, format: &str) -> Result<DateTime<Utc>, String> {
    let (mut text, mut format, mut zone) = (text, format, None);
    if let Some(before) = format.trim_end().strip_suffix(" %Z") {
        let (time, name) = text.trim_end().rsplit_once(' ').ok_or("no time zone at its end")?;
        zone = Some(name.parse::<Tz>().map_err(|_| format!("'{name}' is no time zone"))?);
        (text, format) = (time, before);
    } else if format.contains("%Z") {
        return Err("%Z can only stand at the end, after a space".to_owned());
    }
    let mut parsed = Parsed::new();
    parse(&mut parsed, text, StrftimeItems::new(format)).map_err(|error| error.to_string())?;
    if let Some(zone) = zone {
        return parsed.to_datetime_with_timezone(&zone).map(|time| time.to_utc()).map_err(|error| error.to_string());
    }
    if let Ok(time) = parsed.to_datetime() {
        return Ok(time.to_utc());
    }
    let local = parsed.to_naive_datetime_with_offset(0).or_else(|_| parsed.to_naive_date().map(Into::into));
    local.map(|time| time.and_utc()).map_err(|error| error.to_string())
}

impl ScalarUDFImpl for ToTimestamp {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let Some((first, formats)) = arguments.split_first() else { return plan_err!("{}() needs a text or a number", self.name) };
        let is_known = first.is_numeric() || first.is_string() || first.is_null() || first.is_temporal();
        if !is_known || matches!(first, DataType::Interval(_) | DataType::Duration(_) | DataType::Time32(_) | DataType::Time64(_)) {
            return plan_err!("{}() does not take {}: it takes a text, a number or a time", self.name, sql_type(first));
        }
        if !formats.is_empty() && !first.is_string() && !first.is_null() {
            return plan_err!("{}() takes formats for a text only, and this is {}", self.name, sql_type(first));
        }
        match formats.iter().find(|format| !format.is_string() && !format.is_null()) {
            Some(other) => plan_err!("{}() takes formats as texts, and this is {}", self.name, sql_type(other)),
            None => Ok(event_time_type()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let Some(null) = null_of_null(&args) {
            return null;
        }
        let (columns, constant) = columns(&args)?;
        let Some((first, formats)) = columns.split_first() else { return exec_err!("{}() needs a text or a number", self.name) };
        let times: ArrayRef = match first.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                let formats = formats.iter().map(|format| Ok(cast(format, &DataType::Utf8)?.as_string::<i32>().clone()));
                Arc::new(self.of_texts(first, &formats.collect::<Result<Vec<_>>>()?)?.with_timezone("UTC"))
            }
            DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal256(..) => {
                let values = cast(first, &DataType::Decimal128(38, 9))?;
                Arc::new(self.of_numbers(&values)?.with_timezone("UTC"))
            }
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null => cast(first, &event_time_type())?,
            _ => Arc::new(self.of_numbers(first)?.with_timezone("UTC")),
        };
        result(times, constant)
    }
}

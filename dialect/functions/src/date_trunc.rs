//! `date_trunc(unit, time)`: DataFusion's, but for TIMESTAMP of any year: it computes in nanoseconds, which end in 1677 and 2262.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, FieldRef, TimestampMicrosecondType};
use datafusion::common::Result;
use datafusion::functions::datetime;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

use super::result;
use crate::civil::{civil_of_day, day_of_civil};
use crate::event_time_type;

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DateTrunc {
    inner: Arc<ScalarUDF>,
}

impl Default for DateTrunc {
    fn default() -> Self {
        Self { inner: datetime::date_trunc() }
    }
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [ColumnarValue::Scalar(unit), times] = args.args.as_slice() else { return self.inner.invoke_with_args(args) };
        let unit = unit.try_as_str().flatten().and_then(truncation);
        match unit {
            Some(truncate) if times.data_type() == event_time_type() => {
                let (times, constant): (ArrayRef, bool) = match times {
                    ColumnarValue::Array(times) => (times.clone(), false),
                    ColumnarValue::Scalar(time) => (time.to_array()?, true),
                };
                let truncated = times.as_primitive::<TimestampMicrosecondType>().unary::<_, TimestampMicrosecondType>(truncate);
                result(Arc::new(truncated.with_timezone("UTC")), constant)
            }
            _ => self.inner.invoke_with_args(args),
        }
    }
}

/// What makes a time in microseconds the first of its unit; `None` for a word that is no unit.
fn truncation(unit: &str) -> Option<fn(i64) -> i64> {
    fn down(time: i64, unit_us: i64) -> i64 {
        time.div_euclid(unit_us).saturating_mul(unit_us)
    }
    fn first_of_months(time: i64, months: i64) -> i64 {
        let (year, month, _) = civil_of_day(time.div_euclid(DAY_US));
        day_of_civil(year, (month - 1) / months * months + 1, 1).saturating_mul(DAY_US)
    }
    let truncate: fn(i64) -> i64 = match unit.to_lowercase().as_str() {
        "microsecond" => |time| time,
        "millisecond" => |time| down(time, 1_000),
        "second" => |time| down(time, SECOND_US),
        "minute" => |time| down(time, 60 * SECOND_US),
        "hour" => |time| down(time, 3_600 * SECOND_US),
        "day" => |time| down(time, DAY_US),
        // 1970-01-01 was a Thursday, and weeks begin on Mondays.
        "week" => |time| ((time.div_euclid(DAY_US) + 3).div_euclid(7) * 7 - 3).saturating_mul(DAY_US),
        "month" => |time| first_of_months(time, 1),
        "quarter" => |time| first_of_months(time, 3),
        "year" => |time| first_of_months(time, 12),
        _ => return None,
    };
    Some(truncate)
}

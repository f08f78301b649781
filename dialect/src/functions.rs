//! Scalar functions beyond DataFusion's, and those of its that we mend, the same in streams, jobs and queries. A stream may replay rows, so all of them give the same value each time.

mod date_trunc;
mod distance_m;
mod guarded;
mod joined_text;
mod room;
mod s2_cell;
mod series;
mod to_timestamp;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::Float64Type;
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};

pub(crate) use self::guarded::guarded;
pub(crate) use self::joined_text::{BoundedTexts, as_written as joined_as_written};
pub(crate) use self::series::Series;

/// All of them.
pub(crate) fn all() -> Vec<Arc<ScalarUDF>> {
    let mut all = vec![
        Arc::new(ScalarUDF::new_from_impl(distance_m::DistanceM::default())),
        Arc::new(ScalarUDF::new_from_impl(s2_cell::S2Cell::default())),
        Arc::new(ScalarUDF::new_from_impl(date_trunc::DateTrunc::default())),
    ];
    all.extend(to_timestamp::ToTimestamp::all().map(|function| Arc::new(ScalarUDF::new_from_impl(function))));
    all
}

/// The arguments as columns of one length, and whether all of them were constants.
fn columns(args: &ScalarFunctionArgs) -> Result<(Vec<ArrayRef>, bool)> {
    let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
    Ok((ColumnarValue::values_to_arrays(&args.args)?, constant))
}

/// What a function of constants gives is a constant.
pub(crate) fn result(values: ArrayRef, constant: bool) -> Result<ColumnarValue> {
    if constant {
        return Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&values, 0)?));
    }
    Ok(ColumnarValue::Array(values))
}

/// The latitude and longitude of a row in degrees; `None` if one is NULL or no place on Earth.
fn place(latitudes: &Float64Array, longitudes: &Float64Array, row: usize) -> Option<(f64, f64)> {
    use arrow::array::Array;
    if latitudes.is_null(row) || longitudes.is_null(row) {
        return None;
    }
    let (latitude, longitude) = (latitudes.value(row), longitudes.value(row));
    // NaN is in no range.
    ((-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude)).then_some((latitude, longitude))
}

fn doubles(column: &ArrayRef) -> &Float64Array {
    column.as_primitive::<Float64Type>()
}

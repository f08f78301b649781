//! What SQL computes beyond DataFusion, and what we mend of what it computes: scalar, aggregate and table functions, the same in streams, jobs
//! and queries. A stream may replay rows, so all of them give the same value each time.
//!
//! | question | file |
//! |---|---|
//! | which numbers are computed otherwise than DataFusion does | `numbers/` |
//! | which window a row is in | `window.rs` |
//! | which of repeated rows is kept | `deduplicate.rs` |
//! | which scalar functions there are beside DataFusion's | a file each |
//! | which of DataFusion's may make values that are too big, or take too long | `guarded/`, `joined_text.rs`, `room.rs` |
//! | which constants are computed while planning | `folding.rs` |
//! | how a function hears that nobody waits any more | `ended.rs` |
//! | how times beyond the years that nanoseconds hold are computed | `far_times.rs` |
//! | how intervals are multiplied, and added to dates and to times of a zone | `interval_math.rs` |
//! | how ANY and ALL compare with a list | `quantified.rs` |
//! | which of DataFusion's take further types | `retyped.rs` |
//! | what a type is called | `sql_type.rs` |

pub mod civil;
pub mod deduplicate;
pub mod numbers;
pub mod window;

mod balanced;
mod date_trunc;
mod distance_m;
mod ended;
mod event_time;
mod far_times;
mod folding;
mod guarded;
mod interval_math;
mod joined_text;
mod quantified;
mod retyped;
mod room;
mod s2_cell;
mod series;
mod sql_type;
mod to_timestamp;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, Signature, SimpleScalarUDF, Volatility};

use self::quantified::{Quantified, Quantifier};

pub use self::balanced::balanced;
pub use self::ended::Ended;
pub use self::event_time::event_time_type;
pub use self::folding::{FOLDING_MAX, folding};
pub use self::guarded::{guarded, is_guarded};
pub use self::interval_math::planned_operator;
pub use self::joined_text::BoundedTexts;
pub use self::retyped::retyped;
pub use self::series::Series;
pub use self::sql_type::sql_type;

/// All scalar functions that DataFusion has not, or has otherwise.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    let mut all = vec![
        Arc::new(ScalarUDF::new_from_impl(distance_m::DistanceM::default())),
        Arc::new(ScalarUDF::new_from_impl(s2_cell::S2Cell::default())),
        Arc::new(ScalarUDF::new_from_impl(date_trunc::DateTrunc::default())),
        Arc::new(ScalarUDF::new_from_impl(Quantified::new(Quantifier::Any))),
        Arc::new(ScalarUDF::new_from_impl(Quantified::new(Quantifier::All))),
        Arc::new(version()),
    ];
    all.extend(to_timestamp::ToTimestamp::all().map(|function| Arc::new(ScalarUDF::new_from_impl(function))));
    all
}

/// `version()`: programs show it to people.
fn version() -> ScalarUDF {
    let said = concat!("Watershed ", env!("CARGO_PKG_VERSION"));
    let constant = Arc::new(move |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(ScalarValue::from(said))));
    ScalarUDF::new_from_impl(SimpleScalarUDF::new_with_signature(
        "version",
        Signature::nullary(Volatility::Immutable),
        DataType::Utf8,
        constant,
    ))
}

/// The arguments as columns of one length, and whether all of them were constants.
fn columns(args: &ScalarFunctionArgs) -> Result<(Vec<ArrayRef>, bool)> {
    let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
    Ok((ColumnarValue::values_to_arrays(&args.args)?, constant))
}

/// NULL, where an argument is of NULL's own type: rules ask so what a condition comes to when all columns are NULL.
fn null_of_null(args: &ScalarFunctionArgs) -> Option<Result<ColumnarValue>> {
    let is_null = args.args.iter().any(|value| value.data_type() == DataType::Null);
    is_null.then(|| Ok(ColumnarValue::Scalar(ScalarValue::try_from(args.return_field.data_type())?)))
}

/// What a function of constants gives is a constant.
pub(crate) fn result(values: ArrayRef, constant: bool) -> Result<ColumnarValue> {
    if constant {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?));
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

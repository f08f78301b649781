//! `s2_cell(lat, lon, level)`: the S2 cell of a place, as its token, VARCHAR.
//!
//! Degrees in; the level is from 0 (a sixth of the Earth) to 30 (about 1 cm²); 12 is about 2.3 km wide, 14 about 600 m. The token is the
//! hexadecimal id without trailing zeros, as S2 libraries, BigQuery and map tools read it; a cell's token tells its level, too. NULL if the
//! place is NULL or not on Earth, or the level of the row is none; a level written as a constant is checked when the query is planned.
//!
//! ```sql
//! SELECT s2_cell(52.5163, 13.3777, 12) AS cell, count(*) FROM silver.ride_events GROUP BY 1
//! ```

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use s2::cellid::CellID;
use s2::latlng::LatLng;

use super::{columns, doubles, null_of_null, place, result};

const LEVEL_MAX: i64 = 30;
/// Bytes of the longest token.
const TOKEN_BYTES: usize = 16;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct S2Cell {
    signature: Signature,
}

impl Default for S2Cell {
    fn default() -> Self {
        let arguments = vec![DataType::Float64, DataType::Float64, DataType::Int64];
        Self { signature: Signature::exact(arguments, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for S2Cell {
    fn name(&self) -> &str {
        "s2_cell"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let level = args.scalar_arguments.get(2).copied().flatten().and_then(whole);
        if let Some(level) = level.filter(|level| !(0..=LEVEL_MAX).contains(level)) {
            return plan_err!("s2_cell() has no level {level}: levels are from 0 (a sixth of the Earth) to {LEVEL_MAX} (about 1 cm²)");
        }
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let Some(null) = null_of_null(&args) {
            return null;
        }
        let (columns, constant) = columns(&args)?;
        let (latitudes, longitudes) = (doubles(&columns[0]), doubles(&columns[1]));
        let levels = columns[2].as_primitive::<Int64Type>();
        let mut tokens = StringBuilder::with_capacity(latitudes.len(), latitudes.len() * TOKEN_BYTES / 2);
        for row in 0..latitudes.len() {
            let level = levels.is_valid(row).then(|| levels.value(row)).filter(|level| (0..=LEVEL_MAX).contains(level));
            let place = place(latitudes, longitudes, row);
            tokens.append_option(place.zip(level).map(|(place, level)| token(place, level)));
        }
        result(Arc::new(tokens.finish()), constant)
    }
}

fn token((latitude, longitude): (f64, f64), level: i64) -> String {
    CellID::from(LatLng::from_degrees(latitude, longitude)).parent(level as u64).to_token()
}

/// A constant that is a whole number.
fn whole(value: &ScalarValue) -> Option<i64> {
    match value.cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(level) => level,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_other_s2_libraries() {
        // From the tests of Google's libraries. A parent's id keeps 3 bits of the face and 2 a level, then comes a one.
        let place = (49.703_498_679, 11.770_681_595);
        assert_eq!(token(place, 30), "47a1cbd595522b39");
        assert_eq!(token(place, 12), "47a1cbd");
        assert_eq!(token(place, 2), "47");
        assert_eq!(token((-34.055_420_593, 18.551_140_038), 30), "1dcc469991555555");
        assert_eq!(token((0.0, 0.0), 0), "1");
    }
}

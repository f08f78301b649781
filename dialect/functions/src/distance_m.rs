//! `distance_m(lat1, lon1, lat2, lon2)`: metres between two places along the great circle, DOUBLE.
//!
//! Degrees in; a sphere of the Earth's mean radius, so up to 0.5 % off the ellipsoid. NULL if a place is NULL or not on Earth.
//!
//! ```sql
//! SELECT distance_m(52.5163, 13.3777, 52.5208, 13.4094)   -- Brandenburger Tor to Fernsehturm: about 2200
//! ```

use std::sync::Arc;

use arrow::array::Float64Array;
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::{columns, doubles, null_of_null, place, result};

/// The mean radius of the Earth (IUGG), in metres.
const EARTH_RADIUS_M: f64 = 6_371_008.8;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DistanceM {
    signature: Signature,
}

impl Default for DistanceM {
    fn default() -> Self {
        Self { signature: Signature::exact(vec![DataType::Float64; 4], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for DistanceM {
    fn name(&self) -> &str {
        "distance_m"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let Some(null) = null_of_null(&args) {
            return null;
        }
        let (columns, constant) = columns(&args)?;
        let [lat1, lon1, lat2, lon2] = [0, 1, 2, 3].map(|index| doubles(&columns[index]));
        let distances: Float64Array =
            (0..lat1.len()).map(|row| Some(great_circle_m(place(lat1, lon1, row)?, place(lat2, lon2, row)?))).collect();
        result(Arc::new(distances), constant)
    }
}

/// The haversine formula: exact for near places, where others lose digits.
fn great_circle_m(from: (f64, f64), to: (f64, f64)) -> f64 {
    let (lat1, lat2) = (from.0.to_radians(), to.0.to_radians());
    let (half_lat, half_lon) = ((lat2 - lat1) / 2.0, (to.1 - from.1).to_radians() / 2.0);
    let haversine = half_lat.sin().powi(2) + lat1.cos() * lat2.cos() * half_lon.sin().powi(2);
    // Rounding must not take antipodes out of the domain of the arc sine.
    2.0 * EARTH_RADIUS_M * haversine.sqrt().min(1.0).asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_distances() {
        let near = |found: f64, wanted: f64, within: f64| assert!((found - wanted).abs() < within, "{found} is not {wanted}");
        // A quarter of a meridian, and half of the equator across the date line.
        near(great_circle_m((0.0, 0.0), (90.0, 0.0)), EARTH_RADIUS_M * std::f64::consts::FRAC_PI_2, 1e-6);
        near(great_circle_m((0.0, 179.5), (0.0, -179.5)), EARTH_RADIUS_M * 1_f64.to_radians(), 1e-6);
        near(great_circle_m((10.0, 20.0), (-10.0, -160.0)), EARTH_RADIUS_M * std::f64::consts::PI, 1.0);
        near(great_circle_m((52.5, 13.4), (52.5, 13.4)), 0.0, 1e-9);
        // London to Paris, by the calculators of geodesy to half a per cent.
        near(great_circle_m((51.5074, -0.1278), (48.8566, 2.3522)), 343_556.0, 1_718.0);
        // A metre is still told apart.
        near(great_circle_m((52.5, 13.4), (52.500_009, 13.4)), 1.0, 0.01);
    }
}

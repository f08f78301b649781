//! Accumulators of doubles for frames that move: what has left a frame leaves no trace, be it a NaN or 1e300. Their results do not depend
//! on the order of the rows.

use std::mem::size_of_val;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue, not_impl_err};
use datafusion::logical_expr::Accumulator;

use super::exact::ExactSum;

/// The square of a greater value overflows.
const SQUARED_MAX: f64 = 1e150;

fn doubles(values: &ArrayRef) -> Result<Float64Array> {
    Ok(match values.as_primitive_opt::<Float64Type>() {
        Some(doubles) => doubles.clone(),
        None => cast(values, &DataType::Float64)?.as_primitive::<Float64Type>().clone(),
    })
}

/// What is made of the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Of {
    Sum,
    Average,
}

/// `sum` and `avg`.
#[derive(Debug)]
pub(super) struct MovingSum {
    sum: ExactSum,
    count: u64,
    of: Of,
}

impl MovingSum {
    pub(super) fn new(of: Of) -> Self {
        Self { sum: ExactSum::default(), count: 0, of }
    }
}

impl Accumulator for MovingSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = doubles(&values[0])?;
        values.iter().flatten().for_each(|value| self.sum.add(value));
        self.count += (values.len() - values.null_count()) as u64;
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = doubles(&values[0])?;
        values.iter().flatten().for_each(|value| self.sum.subtract(value));
        self.count -= (values.len() - values.null_count()) as u64;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let result = (self.count > 0).then(|| match self.of {
            Of::Sum => self.sum.value(),
            Of::Average => self.sum.value() / self.count as f64,
        });
        Ok(ScalarValue::Float64(result))
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        not_impl_err!("a frame is computed in one step")
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        not_impl_err!("a frame is computed in one step")
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sum.size()
    }
}

/// `var`, `stddev` and their like.
#[derive(Debug)]
pub(super) struct MovingSpread {
    sum: ExactSum,
    squares: ExactSum,
    count: u64,
    /// How many values have a square that overflows.
    beyond: u64,
    spread: Spread,
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Spread {
    /// Whether the rows are all there are, and not a sample.
    pub(super) of_population: bool,
    /// Whether it is the standard deviation.
    pub(super) is_root: bool,
}

impl MovingSpread {
    pub(super) fn new(spread: Spread) -> Self {
        Self { sum: ExactSum::default(), squares: ExactSum::default(), count: 0, beyond: 0, spread }
    }

    /// The sum of squared distances from the average: of all values with a guess at it, less what the guess is off by.
    fn squared_distances(&self) -> f64 {
        if !self.sum.is_finite() {
            return f64::NAN;
        }
        if self.beyond > 0 {
            return f64::INFINITY;
        }
        let count = self.count as f64;
        let guess = self.sum.value() / count;
        let mut distances = self.squares.clone();
        for part in self.sum.parts() {
            distances.subtract_product(2.0 * guess, *part);
        }
        let mut square = ExactSum::default();
        square.add_product(guess, guess);
        for part in square.parts() {
            distances.add_product(count, *part);
        }
        let mut off = self.sum.clone();
        off.subtract_product(count, guess);
        let off = off.value();
        (distances.value() - off * off / count).max(0.0)
    }
}

impl Accumulator for MovingSpread {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = doubles(&values[0])?;
        for value in values.iter().flatten() {
            self.sum.add(value);
            if value.abs() <= SQUARED_MAX {
                self.squares.add_product(value, value);
            } else {
                self.beyond += 1;
            }
        }
        self.count += (values.len() - values.null_count()) as u64;
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = doubles(&values[0])?;
        for value in values.iter().flatten() {
            self.sum.subtract(value);
            if value.abs() <= SQUARED_MAX {
                self.squares.subtract_product(value, value);
            } else {
                self.beyond -= 1;
            }
        }
        self.count -= (values.len() - values.null_count()) as u64;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let of = if self.spread.of_population { self.count } else { self.count.saturating_sub(1) };
        let result = (of > 0).then(|| {
            let variance = self.squared_distances() / of as f64;
            if self.spread.is_root { variance.sqrt() } else { variance }
        });
        Ok(ScalarValue::Float64(result))
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        not_impl_err!("a frame is computed in one step")
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        not_impl_err!("a frame is computed in one step")
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sum.size() + self.squares.size()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn array(values: &[f64]) -> Vec<ArrayRef> {
        vec![Arc::new(Float64Array::from(values.to_vec()))]
    }

    fn result(accumulator: &mut dyn Accumulator) -> Option<f64> {
        match accumulator.evaluate().unwrap() {
            ScalarValue::Float64(result) => result,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_has_left_a_frame_leaves_no_trace() {
        let spread = |of_population, is_root| Box::new(MovingSpread::new(Spread { of_population, is_root })) as Box<dyn Accumulator>;
        for odd in [f64::NAN, f64::INFINITY, 1e300, 1e16, -1e-300] {
            for (mut accumulator, right) in [
                (Box::new(MovingSum::new(Of::Sum)) as Box<dyn Accumulator>, 20.0),
                (Box::new(MovingSum::new(Of::Average)) as _, 5.0),
                (spread(true, false), 2.5),
                (spread(true, true), 2.5_f64.sqrt()),
                (spread(false, false), 10.0 / 3.0),
            ] {
                accumulator.update_batch(&array(&[odd, 7.0, 4.0])).unwrap();
                accumulator.update_batch(&array(&[6.0, 3.0])).unwrap();
                accumulator.retract_batch(&array(&[odd])).unwrap();
                assert_eq!(result(accumulator.as_mut()), Some(right), "{odd} {accumulator:?}");
                accumulator.retract_batch(&array(&[7.0, 4.0, 6.0, 3.0])).unwrap();
                assert_eq!(result(accumulator.as_mut()), None);
            }
        }
    }

    #[test]
    fn the_spread_of_values_far_from_zero_keeps_its_digits() {
        let mut variance = MovingSpread::new(Spread { of_population: true, is_root: false });
        variance.update_batch(&array(&[1e15 + 1.0, 1e15 + 2.0, 1e15 + 3.0, 1e15 + 6.0])).unwrap();
        assert_eq!(result(&mut variance), Some(3.5));
        variance.update_batch(&array(&[0.1; 3])).unwrap();
        variance.retract_batch(&array(&[1e15 + 1.0, 1e15 + 2.0, 1e15 + 3.0, 1e15 + 6.0])).unwrap();
        assert_eq!(result(&mut variance), Some(0.0));
    }
}

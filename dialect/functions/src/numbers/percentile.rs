//! `percentile_cont`, between two values as they are: DataFusion takes the place between them with six digits, so that 0.9 of 1 to 10 is 9.099999.
//!
//! Its accumulators hold the values; what lies between them is computed here. The method is R's type 7, as in other systems: the values in order
//! are at 0 to 1 in equal steps.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use datafusion::physical_expr::expressions::Literal;

use super::finished::Finish;
use super::nan::one_nan_f64;

/// Which percentile, and of values in which order.
#[derive(Debug, Clone)]
pub(super) struct Percentile {
    fraction: f64,
    descending: bool,
    is_distinct: bool,
    data_type: DataType,
}

impl Percentile {
    /// `None` if it is no constant, which DataFusion refuses.
    pub(super) fn of(args: &AccumulatorArgs) -> Option<Self> {
        let literal = args.exprs.get(1)?.downcast_ref::<Literal>()?;
        let ScalarValue::Float64(Some(fraction)) = literal.value().cast_to(&DataType::Float64).ok()? else { return None };
        let descending = args.order_bys.first().is_some_and(|sort| sort.options.descending);
        Some(Self { fraction, descending, is_distinct: args.is_distinct, data_type: args.return_field.data_type().clone() })
    }

    /// Of values among which is no NULL; `None` if there are none.
    fn among(&self, values: &ArrayRef) -> Result<Option<f64>> {
        let doubles = cast(values, &DataType::Float64)?;
        let mut values = doubles.as_primitive::<Float64Type>().values().to_vec();
        let Some(last) = values.len().checked_sub(1) else { return Ok(None) };
        let order = |a: &f64, b: &f64| if self.descending { order(b, a) } else { order(a, b) };
        let place = self.fraction * last as f64;
        let (at, between) = (place.floor() as usize, place.fract());
        let (_, &mut lower, above) = values.select_nth_unstable_by(at.min(last), order);
        let upper = above.iter().copied().min_by(order).filter(|_| between > 0.0);
        let found = match upper {
            // Between the ends of the type their distance is no number.
            Some(upper) if upper != lower && lower.is_finite() && !(upper - lower).is_finite() => lower * (1.0 - between) + upper * between,
            Some(upper) if upper != lower => lower + (upper - lower) * between,
            _ => lower,
        };
        Ok(Some(one_nan_f64(found)))
    }

    fn of_all(&self, values: Vec<Option<f64>>) -> Result<ArrayRef> {
        Ok(cast(&(Arc::new(Float64Array::from(values)) as ArrayRef), &self.data_type)?)
    }
}

/// All NaN are above all numbers.
fn order(a: &f64, b: &f64) -> Ordering {
    a.is_nan().cmp(&b.is_nan()).then_with(|| a.partial_cmp(b).unwrap_or(Ordering::Equal))
}

impl Finish for Percentile {
    fn result(&self, accumulator: &mut dyn Accumulator) -> Result<ScalarValue> {
        let state = accumulator.state()?;
        let Some(ScalarValue::List(lists)) = state.first() else { return accumulator.evaluate() };
        let values = lists.value(0);
        let result = ScalarValue::try_from_array(&self.of_all(vec![self.among(&values)?])?, 0)?;
        // The next frame goes on from these. Of distinct values they were not taken away.
        if !self.is_distinct {
            accumulator.update_batch(&[values])?;
        }
        Ok(result)
    }

    fn results(&self, accumulator: &mut dyn GroupsAccumulator, emit_to: EmitTo) -> Result<ArrayRef> {
        let states = accumulator.state(emit_to)?;
        let lists = states[0].as_list::<i32>();
        let values = (0..lists.len()).map(|group| self.among(&lists.value(group)));
        self.of_all(values.collect::<Result<_>>()?)
    }
}

//! One NaN for all: a division leaves it with a sign on some machines, and where values are compared by their bits it is another then.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::finished::Finish;

pub(super) fn one_nan_f64(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}

pub(super) fn one_nan_f32(value: f32) -> f32 {
    if value.is_nan() { f32::NAN } else { value }
}

/// Floats of which all NaN are the same; without a NaN, the same array.
pub(super) fn one_nan(values: &ArrayRef) -> ArrayRef {
    match values.data_type() {
        DataType::Float64 if values.as_primitive::<Float64Type>().values().iter().any(|value| value.is_nan()) => {
            Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(one_nan_f64))
        }
        DataType::Float32 if values.as_primitive::<Float32Type>().values().iter().any(|value| value.is_nan()) => {
            Arc::new(values.as_primitive::<Float32Type>().unary::<_, Float32Type>(one_nan_f32))
        }
        _ => values.clone(),
    }
}

/// Of an aggregate whose result is a float.
#[derive(Debug)]
pub(super) struct OneNan {
    /// Whether what it is given must have none with a sign either, as values are compared.
    pub(super) compares: bool,
}

impl Finish for OneNan {
    fn given<'a>(&self, columns: &'a [ArrayRef]) -> Cow<'a, [ArrayRef]> {
        if self.compares { columns.iter().map(one_nan).collect() } else { Cow::Borrowed(columns) }
    }

    fn result(&self, accumulator: &mut dyn Accumulator) -> Result<ScalarValue> {
        Ok(match accumulator.evaluate()? {
            ScalarValue::Float64(Some(value)) => ScalarValue::Float64(Some(one_nan_f64(value))),
            ScalarValue::Float32(Some(value)) => ScalarValue::Float32(Some(one_nan_f32(value))),
            other => other,
        })
    }

    fn results(&self, accumulator: &mut dyn GroupsAccumulator, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(one_nan(&accumulator.evaluate(emit_to)?))
    }
}

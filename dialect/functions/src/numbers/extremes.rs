//! `min` and `max` of floats: every NaN is above all numbers, and -0.0 below 0.0, in whichever order the rows come.
//!
//! DataFusion's accumulators for groups compare as IEEE 754 does, where a NaN is neither above nor below. Its other ones take the total
//! order, in which a NaN that a division made (its sign is set on x86) is below all numbers.

use std::cmp::Ordering;

use arrow::array::ArrowPrimitiveType;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::GroupsAccumulator;
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;

use super::nan::{one_nan_f32, one_nan_f64};
use crate::sql_type;

/// Which of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Extreme {
    Min,
    Max,
}

impl Extreme {
    /// How a value compares that takes the place of another.
    fn better(self) -> Ordering {
        match self {
            Extreme::Min => Ordering::Less,
            Extreme::Max => Ordering::Greater,
        }
    }
}

/// Refuses a type whose values DataFusion cannot put in order: it finds out when it meets the second one.
pub(super) fn check_order(name: &str, data_type: &DataType) -> Result<()> {
    fn has_order(data_type: &DataType, is_within: bool) -> bool {
        match data_type {
            DataType::Struct(fields) => fields.iter().all(|field| has_order(field.data_type(), true)),
            DataType::List(item) => !is_within && !item.data_type().is_nested(),
            other => !other.is_nested(),
        }
    }
    if has_order(data_type, false) {
        return Ok(());
    }
    let values = sql_type(data_type);
    plan_err!("{name}() of {values}: such values have no order, because lists are within them; compare one of their fields")
}

/// One a group; `None` if the values are no floats.
pub(super) fn groups_accumulator(extreme: Extreme, data_type: &DataType) -> Option<Box<dyn GroupsAccumulator>> {
    let better = extreme.better();
    // The first value of a group takes the place of what it starts with, or is equal to it.
    Some(match (data_type, extreme) {
        (DataType::Float64, Extreme::Max) => floats::<Float64Type>(data_type, better, f64::NEG_INFINITY, order_f64),
        (DataType::Float64, Extreme::Min) => floats::<Float64Type>(data_type, better, f64::NAN, order_f64),
        (DataType::Float32, Extreme::Max) => floats::<Float32Type>(data_type, better, f32::NEG_INFINITY, order_f32),
        (DataType::Float32, Extreme::Min) => floats::<Float32Type>(data_type, better, f32::NAN, order_f32),
        _ => return None,
    })
}

fn floats<T: ArrowPrimitiveType + Send>(
    data_type: &DataType,
    better: Ordering,
    start: T::Native,
    order: impl Fn(T::Native, T::Native) -> Ordering + Send + Sync + 'static,
) -> Box<dyn GroupsAccumulator> {
    let accumulator = PrimitiveGroupsAccumulator::<T, _>::new(data_type, move |best, value| {
        if order(value, *best) == better {
            *best = value;
        }
    });
    Box::new(accumulator.with_starting_value(start))
}

fn order_f64(a: f64, b: f64) -> Ordering {
    match a.partial_cmp(&b) {
        Some(order @ (Ordering::Less | Ordering::Greater)) => order,
        _ => one_nan_f64(a).total_cmp(&one_nan_f64(b)),
    }
}

fn order_f32(a: f32, b: f32) -> Ordering {
    match a.partial_cmp(&b) {
        Some(order @ (Ordering::Less | Ordering::Greater)) => order,
        _ => one_nan_f32(a).total_cmp(&one_nan_f32(b)),
    }
}

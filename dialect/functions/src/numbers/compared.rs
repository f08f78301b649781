//! Comparisons in a type that holds both sides. DataFusion compares a double with a decimal as decimals of 15 places, which NaN and 1e300 are not, and
//! decimals as such of 38 digits, even where that is too few for the one's whole digits and the other's places.

use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Between, InList, InSubquery};
use datafusion::logical_expr::{BinaryExpr, Expr, Join, LogicalPlan, LogicalPlanBuilder, cast};

use super::lengths::{are_lengths, length, order_by_length};
use super::literals::{leveled_choice, results_mut};
use super::rows::{is_row, rows_in_list};
use super::{is_comparison, is_decimal, type_of};
use crate::far_times::{becomes_time, element_of, in_microseconds, one_element, one_result, one_time};

/// A part of an expression whose types are not settled yet. Its parts have been rewritten before.
pub(super) fn compared(mut part: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if let Some(changed) = leveled_choice(&mut part, schema) {
        let changed = leveled_times(&mut part, schema) || changed;
        return Ok(Transformed::new_transformed(part, changed));
    }
    let sides: Vec<&mut Expr> = match &mut part {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => vec![left.as_mut(), right.as_mut()],
        Expr::Between(Between { expr, low, high, .. }) => vec![expr.as_mut(), low.as_mut(), high.as_mut()],
        Expr::InList(list) if is_row(&list.expr) => return rows_in_list(part, schema),
        Expr::InList(InList { expr, list, .. }) => std::iter::once(expr.as_mut()).chain(list).collect(),
        Expr::InSubquery(_) => return of_subquery(part, schema),
        Expr::ScalarFunction(call) if OF_LISTS.contains(&call.func.name()) => {
            let changed = leveled_elements(&mut call.args, schema);
            return Ok(Transformed::new_transformed(part, changed));
        }
        // A frame over intervals has no plan, so it must not wait until types are settled.
        Expr::WindowFunction(call) => {
            let changed = order_by_length(&mut call.params.order_by, schema);
            return Ok(Transformed::new_transformed(part, changed));
        }
        Expr::Cast(_) | Expr::ScalarFunction(_) => {
            let found = in_microseconds(&part, |expr| type_of(expr, schema));
            return Ok(found.map_or_else(|| Transformed::no(part), Transformed::yes));
        }
        _ => return Ok(Transformed::no(part)),
    };
    let types: Vec<DataType> = sides.iter().map(|side| type_of(side, schema)).collect();
    if are_lengths(&types) {
        for (side, found) in sides.into_iter().zip(types) {
            if found != DataType::Null {
                *side = length(std::mem::take(side), &found);
            }
        }
        return Ok(Transformed::yes(part));
    }
    let Some(common) = common(&types) else { return Ok(Transformed::no(part)) };
    cast_those(sides, types, &common, |found| is_cast(found, &common));
    Ok(Transformed::yes(part))
}

/// Casts those of the sides whose type says so. Says whether there were some.
fn cast_those<'a>(
    sides: impl IntoIterator<Item = &'a mut Expr>,
    types: impl IntoIterator<Item = DataType>,
    to: &DataType,
    says_so: impl Fn(&DataType) -> bool,
) -> bool {
    let mut changed = false;
    for (side, _) in sides.into_iter().zip(types).filter(|(_, found)| says_so(found)) {
        *side = cast(std::mem::take(side), to.clone());
        changed = true;
    }
    changed
}

/// Makes dates and texts times where the result of an expression may be either, and what CASE compares one type.
fn leveled_times(part: &mut Expr, schema: &DFSchema) -> bool {
    match part {
        Expr::Case(case) => {
            let compared = case.expr.is_some() && {
                let whens = case.when_then_expr.iter_mut().map(|(when, _)| when.as_mut());
                leveled(whens.chain(case.expr.as_deref_mut()).collect(), schema)
            };
            leveled(results_mut(case).collect(), schema) || compared
        }
        // The first argument of this one is no result.
        Expr::ScalarFunction(call) if call.func.name() == "nvl2" => leveled(call.args.iter_mut().skip(1).collect(), schema),
        Expr::ScalarFunction(call) => leveled(call.args.iter_mut().collect(), schema),
        _ => false,
    }
}

fn leveled(values: Vec<&mut Expr>, schema: &DFSchema) -> bool {
    let types: Vec<DataType> = values.iter().map(|value| type_of(value, schema)).collect();
    one_result(&types).is_some_and(|common| cast_those(values, types, &common, |found| becomes_time(found) && *found != common))
}

/// Functions that want lists and elements of one type.
const OF_LISTS: [&str; 15] = [
    "make_array",
    "array_append",
    "array_prepend",
    "array_concat",
    "array_has",
    "array_has_all",
    "array_has_any",
    "array_position",
    "array_positions",
    "array_remove",
    "array_remove_all",
    "array_replace",
    "array_except",
    "array_intersect",
    "array_union",
];

/// Makes dates and texts times where they are elements of a list, or come together with one.
fn leveled_elements(args: &mut [Expr], schema: &DFSchema) -> bool {
    let types: Vec<DataType> = args.iter().map(|arg| type_of(arg, schema)).collect();
    let Some(common) = one_element(&types) else { return false };
    let mut changed = false;
    for (arg, found) in args.iter_mut().zip(types) {
        let element = element_of(&found);
        if becomes_time(element.unwrap_or(&found)) && element.unwrap_or(&found) != &common {
            let target = match element {
                Some(_) => DataType::new_list(common.clone(), true),
                None => common.clone(),
            };
            *arg = cast(std::mem::take(arg), target);
            changed = true;
        }
    }
    changed
}

/// Whether a side is cast to the common type; DataFusion casts the others to it itself.
fn is_cast(found: &DataType, common: &DataType) -> bool {
    let is_time = matches!(common, DataType::Timestamp(..)) && becomes_time(found);
    is_time || is_decimal(found) || (found.is_integer() && is_decimal(common))
}

/// `x IN (SELECT …)` with both sides in the type that holds them.
fn of_subquery(part: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::InSubquery(InSubquery { expr, subquery, negated }) = part else { return Ok(Transformed::no(part)) };
    let column = subquery.subquery.schema().columns().first().cloned();
    let inner = subquery.subquery.schema().fields().first().map(|field| field.data_type().clone());
    let (Some(column), Some(inner)) = (column, inner) else {
        return Ok(Transformed::no(Expr::InSubquery(InSubquery { expr, subquery, negated })));
    };
    let outer = type_of(&expr, schema);
    if are_lengths(&[outer.clone(), inner.clone()]) {
        let name = column.name.clone();
        let lengths = length(Expr::Column(column), &inner).alias(name);
        let plan = LogicalPlanBuilder::from(Arc::clone(&subquery.subquery)).project([lengths])?.build()?;
        let (expr, subquery) = (Box::new(length(*expr, &outer)), subquery.with_plan(Arc::new(plan)));
        return Ok(Transformed::yes(Expr::InSubquery(InSubquery { expr, subquery, negated })));
    }
    let Some(common) = common(&[outer.clone(), inner.clone()]) else {
        return Ok(Transformed::no(Expr::InSubquery(InSubquery { expr, subquery, negated })));
    };
    let expr = if is_cast(&outer, &common) { Box::new(cast(*expr, common.clone())) } else { expr };
    let subquery = if is_cast(&inner, &common) {
        let name = column.name.clone();
        let plan = LogicalPlanBuilder::from(Arc::clone(&subquery.subquery)).project([cast(Expr::Column(column), common).alias(name)])?;
        subquery.with_plan(Arc::new(plan.build()?))
    } else {
        subquery
    };
    Ok(Transformed::yes(Expr::InSubquery(InSubquery { expr, subquery, negated })))
}

/// The keys of a join in types that hold both sides. Its parts have been rewritten before.
pub(super) fn joined(mut join: Join) -> Transformed<LogicalPlan> {
    let (left, right) = (Arc::clone(join.left.schema()), Arc::clone(join.right.schema()));
    let mut changed = false;
    for (a, b) in &mut join.on {
        let types = [type_of(a, &left), type_of(b, &right)];
        if are_lengths(&types) {
            (*a, *b) = (length(std::mem::take(a), &types[0]), length(std::mem::take(b), &types[1]));
            changed = true;
            continue;
        }
        let Some(common) = common(&types) else { continue };
        changed |= cast_those([a, b], types, &common, |found| is_cast(found, &common));
    }
    Transformed::new_transformed(LogicalPlan::Join(join), changed)
}

/// The type to compare in, where DataFusion's choice would not do.
pub fn common(types: &[DataType]) -> Option<DataType> {
    if let Some(time) = one_time(types) {
        return Some(time);
    }
    if !types.iter().any(is_decimal) {
        return None;
    }
    if types.iter().any(DataType::is_floating) {
        return Some(DataType::Float64);
    }
    let (mut whole, mut places) = (0, 0);
    for data_type in types {
        let (precision, scale) = match data_type {
            DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => (i16::from(*precision), i16::from(*scale)),
            integer if integer.is_integer() => (20, 0),
            _ => continue,
        };
        whole = whole.max(precision - scale);
        places = places.max(scale);
    }
    let digits = whole + places;
    (digits > i16::from(DECIMAL128_MAX_PRECISION))
        .then(|| DataType::Decimal256(DECIMAL256_MAX_PRECISION.min(digits as u8), i8::try_from(places).unwrap_or(i8::MAX)))
}

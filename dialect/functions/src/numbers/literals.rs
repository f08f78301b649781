//! Number literals with a point, such as `0.1`: exact beside decimals, whole numbers and one another, and doubles wherever their value leaves the
//! expression or meets a double.
//!
//! ```text
//!  0.1 + 0.2 = 0.3                    decimals: true
//!  CAST(12345678901234567.89 AS DECIMAL(19, 2)), price * 1.19, price > 0.5        decimals, if price is one
//!  speed * 0.5, sqrt(0.25), x / 2.0, SELECT 0.5 AS weight                          doubles
//! ```
//!
//! DataFusion is told to read them as decimals. This turns those of them into doubles that should be. It looks at a plan as it
//! comes from the text: later on a decimal constant may come from anywhere. Literals with an exponent are doubles always, those too long for a
//! BIGINT decimals.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, Between, Case, Cast, InList, ScalarFunction, WindowFunction};
use datafusion::logical_expr::{BinaryExpr, Distinct, Expr, LogicalPlan, LogicalPlanBuilder, Operator, Union, Values, cast};

use super::{is_comparison, is_decimal, rewritten, type_of};
use crate::far_times::{becomes_time, element_of, one_element, one_time};

/// Functions of which the result is one of the arguments.
const CHOICES: [&str; 7] = ["coalesce", "nullif", "nvl", "ifnull", "nvl2", "greatest", "least"];

/// Settles which literals of a plan are doubles. It must be as it came from the text.
pub fn settle(plan: LogicalPlan) -> Result<LogicalPlan> {
    if !is_unsettled(&plan)? {
        return Ok(plan);
    }
    Ok(plan.transform_up_with_subqueries(|node| settled_node(node)?.map_data(with_types_of_inputs))?.data)
}

fn is_unsettled(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Values(values) = node {
            found = found || values.schema.fields().iter().any(|field| is_nanoseconds(field.data_type()));
        }
        node.apply_expressions(|expr| {
            found = found || expr.exists(|part| Ok(is_soft_literal(part)))?;
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    Ok(found)
}

/// A node whose inputs may give other types than before.
fn with_types_of_inputs(node: LogicalPlan) -> Result<LogicalPlan> {
    match &node {
        LogicalPlan::Extension(_) => {
            let inputs = node.inputs().into_iter().cloned().collect();
            node.with_new_exprs(node.expressions(), inputs)
        }
        _ => node.recompute_schema(),
    }
}

fn settled_node(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Union(union) => united(union),
        LogicalPlan::Values(values) => with_one_time(values),
        other => rewritten(other, settle_expr),
    }
}

/// The same for an expression that is in no plan, and what it gives.
pub fn settle_expr(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if !expr.exists(|part| Ok(is_soft_literal(part)))? {
        return Ok(Transformed::no(expr));
    }
    let settled = expr.transform_up(|part| settled_part(part, schema))?;
    Ok(match settled.data {
        Expr::Alias(mut alias) if is_soft(&alias.expr, schema) => {
            alias.expr = Box::new(double(*alias.expr, schema));
            Transformed::yes(Expr::Alias(alias))
        }
        other if is_soft(&other, schema) => Transformed::yes(double(other, schema)),
        other => Transformed::new_transformed(other, settled.transformed),
    })
}

/// Operators whose result over decimals is a decimal without loss.
fn is_exact(op: Operator) -> bool {
    matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Modulo)
}

fn is_soft_literal(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Decimal128(Some(_), _, scale) | ScalarValue::Decimal256(Some(_), _, scale), _) => *scale > 0,
        _ => false,
    }
}

/// Whether an expression is made of literals with a point, and at most whole numbers beside.
fn is_soft(expr: &Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::Alias(alias) => is_soft(&alias.expr, schema),
        Expr::Negative(inner) => is_soft(inner, schema),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_exact(*op) => some_soft([left.as_ref(), right.as_ref()], schema),
        Expr::Case(case) => some_soft(results(case), schema),
        Expr::ScalarFunction(call) if CHOICES.contains(&call.func.name()) => some_soft(&call.args, schema),
        other => is_soft_literal(other),
    }
}

/// Whether some are soft and the others whole numbers.
fn some_soft<'a>(exprs: impl IntoIterator<Item = &'a Expr>, schema: &DFSchema) -> bool {
    let mut soft = false;
    for expr in exprs {
        if is_soft(expr, schema) {
            soft = true;
        } else if !matches!(type_of(expr, schema), DataType::Null) && !type_of(expr, schema).is_integer() {
            return false;
        }
    }
    soft
}

fn results(case: &Case) -> impl Iterator<Item = &Expr> {
    case.when_then_expr.iter().map(|(_, then)| then.as_ref()).chain(case.else_expr.as_deref())
}

pub(super) fn results_mut(case: &mut Case) -> impl Iterator<Item = &mut Expr> {
    case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut()).chain(case.else_expr.as_deref_mut())
}

/// A decimal as the double it was written for. Constants are computed exactly before; what has columns is computed in doubles.
fn double(mut expr: Expr, schema: &DFSchema) -> Expr {
    if !is_soft(&expr, schema) || is_constant(&expr) {
        return match &expr {
            Expr::Literal(value, metadata) if is_soft_literal(&expr) => match value.to_string().parse() {
                Ok(value) => Expr::Literal(ScalarValue::Float64(Some(value)), metadata.clone()),
                Err(_) => cast(expr, DataType::Float64),
            },
            _ => cast(expr, DataType::Float64),
        };
    }
    let parts: Vec<&mut Expr> = match &mut expr {
        Expr::Alias(alias) => vec![alias.expr.as_mut()],
        Expr::Negative(inner) => vec![inner.as_mut()],
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => vec![left.as_mut(), right.as_mut()],
        Expr::Case(case) => results_mut(case).collect(),
        Expr::ScalarFunction(call) => call.args.iter_mut().collect(),
        _ => return cast(expr, DataType::Float64),
    };
    // Whole numbers beside them follow.
    soften(parts, schema);
    expr
}

/// Whether an expression that [`is_soft`] is made of literals only.
fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_constant(&alias.expr),
        Expr::Negative(inner) => is_constant(inner),
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => is_constant(left) && is_constant(right),
        other => matches!(other, Expr::Literal(..)),
    }
}

/// Makes decimals doubles where `all` of a group come together with one.
fn level(exprs: Vec<&mut Expr>, schema: &DFSchema) -> bool {
    let floats = exprs.iter().any(|expr| type_of(expr, schema).is_floating());
    let mut changed = false;
    if floats {
        for expr in exprs.into_iter().filter(|expr| is_decimal(&type_of(expr, schema))) {
            *expr = double(std::mem::take(expr), schema);
            changed = true;
        }
    }
    changed
}

/// Makes soft ones doubles.
fn soften<'a>(exprs: impl IntoIterator<Item = &'a mut Expr>, schema: &DFSchema) -> bool {
    let mut changed = false;
    for expr in exprs.into_iter().filter(|expr| is_soft(expr, schema)) {
        *expr = double(std::mem::take(expr), schema);
        changed = true;
    }
    changed
}

/// Levels what may become the result of an expression that is one of several, and what CASE compares; `None` for any other expression.
pub(super) fn leveled_choice(part: &mut Expr, schema: &DFSchema) -> Option<bool> {
    match part {
        Expr::Case(Case { expr, when_then_expr, else_expr }) => {
            let (whens, thens): (Vec<_>, Vec<_>) = when_then_expr.iter_mut().map(|(when, then)| (when.as_mut(), then.as_mut())).unzip();
            let compared = expr.is_some() && level(whens.into_iter().chain(expr.as_deref_mut()).collect(), schema);
            Some(level(thens.into_iter().chain(else_expr.as_deref_mut()).collect(), schema) || compared)
        }
        Expr::ScalarFunction(call) if CHOICES.contains(&call.func.name()) => Some(level(call.args.iter_mut().collect(), schema)),
        _ => None,
    }
}

fn settled_part(mut part: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if let Some(changed) = leveled_choice(&mut part, schema) {
        return Ok(Transformed::new_transformed(part, changed));
    }
    let changed = match &mut part {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            if op.is_logic_operator() {
                false
            } else if is_comparison(*op) || is_exact(*op) {
                let soft = is_soft(left, schema) || is_soft(right, schema);
                soft && level(vec![left.as_mut(), right.as_mut()], schema)
            } else {
                soften([left.as_mut(), right.as_mut()], schema)
            }
        }
        Expr::Between(Between { expr, low, high, .. }) => level(vec![expr.as_mut(), low.as_mut(), high.as_mut()], schema),
        Expr::InList(InList { expr, list, .. }) => level(std::iter::once(expr.as_mut()).chain(list).collect(), schema),
        Expr::Cast(Cast { expr, field }) => !is_decimal(field.data_type()) && soften([expr.as_mut()], schema),
        Expr::TryCast(cast) => !is_decimal(cast.field.data_type()) && soften([cast.expr.as_mut()], schema),
        Expr::ScalarFunction(ScalarFunction { args, .. }) => soften(args, schema),
        Expr::AggregateFunction(AggregateFunction { params, .. }) => soften(&mut params.args, schema),
        Expr::WindowFunction(call) => {
            let WindowFunction { params, .. } = call.as_mut();
            soften(params.args.iter_mut().chain(&mut params.partition_by), schema)
        }
        _ => false,
    };
    Ok(Transformed::new_transformed(part, changed))
}

/// What DataFusion makes of dates beside times.
fn is_nanoseconds(found: &DataType) -> bool {
    matches!(element_of(found).unwrap_or(found), DataType::Timestamp(TimeUnit::Nanosecond, None))
}

/// `VALUES (DATE '2024-01-01'), (TIMESTAMP '2024-01-01 10:00')` as times of the kind that the others are of: nanoseconds end in 2262.
fn with_one_time(values: Values) -> Result<Transformed<LogicalPlan>> {
    let Values { schema, values: mut rows } = values;
    let mut changed = false;
    for (place, field) in schema.fields().iter().enumerate() {
        if !is_nanoseconds(field.data_type()) {
            continue;
        }
        // As they were written, without the casts to the type that was chosen.
        let written = |value: &Expr| match value {
            Expr::Cast(cast) if cast.field.data_type() == field.data_type() => cast.expr.as_ref().clone(),
            Expr::Literal(value, metadata) if value.is_null() => Expr::Literal(ScalarValue::Null, metadata.clone()),
            other => other.clone(),
        };
        let column: Vec<Expr> = rows.iter().filter_map(|row| row.get(place)).map(written).collect();
        let types: Vec<DataType> = column.iter().map(|value| type_of(value, &DFSchema::empty())).collect();
        let Some(time) = one_element(&types) else { continue };
        for ((row, value), found) in rows.iter_mut().zip(column).zip(types) {
            row[place] = match element_of(&found) {
                _ if found.is_null() => value,
                Some(element) if *element == time => value,
                Some(_) => cast(value, DataType::new_list(time.clone(), true)),
                None if found == time => value,
                None => cast(value, time.clone()),
            };
        }
        changed = true;
    }
    if !changed {
        return Ok(Transformed::no(LogicalPlan::Values(Values { schema, values: rows })));
    }
    Ok(Transformed::yes(LogicalPlanBuilder::values(rows)?.build()?))
}

/// Columns that are decimals in one part of a union and doubles in another become doubles, and dates and texts beside times become times.
pub(super) fn united(union: Union) -> Result<Transformed<LogicalPlan>> {
    let types: Vec<Vec<DataType>> = (0..union.schema.fields().len())
        .map(|place| union.inputs.iter().flat_map(|input| types_of_column(input, place)).collect())
        .collect();
    let may_differ = |found: &DataType| found.is_floating() || is_decimal(found) || *found == DataType::Date32;
    if !types.iter().flatten().any(may_differ) && !types.iter().any(|types| one_time(types).is_some()) {
        return Ok(Transformed::no(LogicalPlan::Union(union)));
    }
    let common: Vec<Option<DataType>> = types.iter().map(|types| common_of_parts(types)).collect();
    let mut inputs = Vec::with_capacity(union.inputs.len());
    for input in &union.inputs {
        let columns = input.schema().columns();
        let cast_to: Vec<Option<&DataType>> = common
            .iter()
            .enumerate()
            .map(|(place, common)| {
                common.as_ref().filter(|common| types_of_column(input, place).iter().any(|found| is_cast_in_union(found, common)))
            })
            .collect();
        inputs.push(if cast_to.iter().any(Option::is_some) {
            let columns = columns.into_iter().zip(cast_to).map(|(column, cast_to)| {
                let name = column.name.clone();
                let relation = column.relation.clone();
                let column = Expr::Column(column);
                match cast_to {
                    Some(common) => cast(column, common.clone()).alias_qualified(relation, name),
                    None => column,
                }
            });
            Arc::new(LogicalPlanBuilder::from(input.as_ref().clone()).project(columns.collect::<Vec<_>>())?.build()?)
        } else {
            input.clone()
        });
    }
    // Types below may have changed, so the schema is always made again.
    Ok(Transformed::yes(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?)))
}

/// The type of a column whose parts have these, where DataFusion's choice would not hold them all.
fn common_of_parts(types: &[DataType]) -> Option<DataType> {
    if types.iter().any(DataType::is_floating) && types.iter().any(is_decimal) {
        return Some(DataType::Float64);
    }
    one_time(types)
}

/// Whether a part is cast to that type.
fn is_cast_in_union(found: &DataType, common: &DataType) -> bool {
    if common.is_floating() { is_decimal(found) } else { becomes_time(found) }
}

/// The types of the rows that a column comes from: those of all parts where it is a union, whose own type is not settled yet.
fn types_of_column(plan: &LogicalPlan, place: usize) -> Vec<DataType> {
    let own = || plan.schema().fields().get(place).map(|field| field.data_type().clone()).into_iter().collect();
    match plan {
        LogicalPlan::Union(union) => union.inputs.iter().flat_map(|input| types_of_column(input, place)).collect(),
        LogicalPlan::Distinct(Distinct::All(input)) => types_of_column(input, place),
        LogicalPlan::SubqueryAlias(alias) => types_of_column(&alias.input, place),
        LogicalPlan::Projection(projection) => match projection.expr.get(place) {
            Some(Expr::Column(column)) => match projection.input.schema().maybe_index_of_column(column) {
                Some(place) => types_of_column(&projection.input, place),
                None => own(),
            },
            _ => own(),
        },
        _ => own(),
    }
}

//! What DataFusion would plan and answer wrongly, found in the plan because it takes types to tell: each is refused by name. What the syntax tells is in
//! `ignored.rs`.

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{AggregateFunction, Sort, WindowFunction};
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan, Window, WindowFrameBound, WindowFrameUnits};
use watershed_functions::sql_type;

use crate::SqlError;
use crate::streamable::unaliased;

const DAY_NS: i64 = 86_400_000_000_000;

pub(crate) fn check(plan: &LogicalPlan) -> Result<(), SqlError> {
    let mut refused = None;
    let walked = plan.apply_with_subqueries(|node| {
        let checked = match node {
            LogicalPlan::Aggregate(aggregate) => {
                check_parts(Clause::GroupBy, &aggregate.group_expr).and_then(|()| check_distinct_orders(aggregate))
            }
            LogicalPlan::Filter(filter) => check_parts(Clause::Condition, [&filter.predicate]),
            LogicalPlan::Join(join) => check_parts(Clause::On, join.on.iter().flat_map(|(left, right)| [left, right]).chain(&join.filter)),
            LogicalPlan::Sort(sort) => check_parts(Clause::OrderBy, sort.expr.iter().map(|key| &key.expr)),
            LogicalPlan::Window(window) => window.window_expr.iter().try_for_each(|expr| check_range(expr, window)),
            _ => Ok(()),
        };
        refused = checked.err();
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.map_err(|error| SqlError::new(error.message().into_owned()))?;
    refused.map_or(Ok(()), Err)
}

/// DISTINCT aggregates get their rows in one order, that of the first.
fn check_distinct_orders(aggregate: &Aggregate) -> Result<(), SqlError> {
    let mut first: Option<&Vec<Sort>> = None;
    for expr in &aggregate.aggr_expr {
        let Expr::AggregateFunction(AggregateFunction { func, params }) = unaliased(expr) else { continue };
        if !params.distinct || params.order_by.is_empty() {
            continue;
        }
        if first.is_some_and(|first| *first != params.order_by) {
            return Err(SqlError::new(format!("{}(DISTINCT … ORDER BY …) beside another one in another order", func.name()))
                .detail("DISTINCT aggregates of one query get their rows in one order")
                .hint("compute one of them in a query of its own, and join its result"));
        }
        first = Some(&params.order_by);
    }
    Ok(())
}

/// A clause in which nothing is computed that looks at other rows, or makes some.
#[derive(Clone, Copy, PartialEq)]
enum Clause {
    Condition,
    On,
    GroupBy,
    OrderBy,
}

/// A condition is true or not of one row by itself, and so is what rows are joined, grouped and ordered by.
fn check_parts<'a>(clause: Clause, exprs: impl IntoIterator<Item = &'a Expr>) -> Result<(), SqlError> {
    for expr in exprs {
        let mut refused = None;
        let walked = expr.apply(|part| {
            refused = match part {
                Expr::WindowFunction(call) => Some(window_in(clause, call)),
                Expr::Unnest(_) => Some(unnest_in(clause)),
                _ => None,
            };
            Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        });
        walked.map_err(|error| SqlError::new(error.message().into_owned()))?;
        if let Some(refused) = refused {
            return Err(refused);
        }
    }
    Ok(())
}

fn window_in(clause: Clause, call: &WindowFunction) -> SqlError {
    const FIRST: &str = "compute it in a query in FROM, and use the name of its column";
    let (place, why, instead) = match clause {
        Clause::Condition => {
            ("a condition", "WHERE and HAVING say which rows OVER sees", "write QUALIFY instead, or compute it in a query in FROM")
        }
        Clause::On => ("ON", "ON says which rows there are for OVER to see", FIRST),
        Clause::GroupBy => ("GROUP BY", "OVER sees the groups, which are not made yet", FIRST),
        Clause::OrderBy => ("ORDER BY", "the rows are those of all parts together", FIRST),
    };
    SqlError::new(format!("{}() OVER in {place}", call.fun.name())).detail(why).hint(instead)
}

fn unnest_in(clause: Clause) -> SqlError {
    const JOINED: &str = "write CROSS JOIN UNNEST(list) AS u (x) in FROM, and use x";
    let (place, instead) = match clause {
        Clause::Condition => ("a condition", "array_has(list, x) looks into a list; or write CROSS JOIN UNNEST(list) AS u (x) in FROM"),
        Clause::On => ("ON", JOINED),
        Clause::GroupBy => ("GROUP BY", JOINED),
        Clause::OrderBy => ("ORDER BY", JOINED),
    };
    SqlError::new(format!("unnest() in {place}")).detail("it makes several rows of one").hint(instead)
}

/// The offsets of RANGE are numbers or lengths of time from the key's value, which it must be able to hold.
fn check_range(expr: &Expr, window: &Window) -> Result<(), SqlError> {
    let Expr::WindowFunction(call) = unaliased(expr) else { return Ok(()) };
    let WindowFunction { params, .. } = call.as_ref();
    let frame = &params.window_frame;
    let bounds = [&frame.start_bound, &frame.end_bound];
    let offsets = bounds.into_iter().filter_map(|bound| match bound {
        WindowFrameBound::Preceding(offset) | WindowFrameBound::Following(offset) if !offset.is_null() => Some(offset),
        _ => None,
    });
    let [key] = params.order_by.as_slice() else { return Ok(()) };
    let Ok(key_type) = key.expr.get_type(window.input.schema()) else { return Ok(()) };
    if frame.units != WindowFrameUnits::Range {
        return Ok(());
    }
    for offset in offsets {
        let ordered_by = sql_type(&key_type);
        if !key_type.is_numeric() && !key_type.is_temporal() && !key_type.is_null() {
            return Err(SqlError::new(format!("RANGE with an offset over ORDER BY of {ordered_by}"))
                .detail("the offset is a distance from the value, which only numbers and times have")
                .hint("count rows: ROWS BETWEEN 1 PRECEDING AND CURRENT ROW"));
        }
        if is_finer(offset, &key_type) {
            let wider = if key_type == DataType::Date32 { "TIMESTAMP" } else { "DOUBLE" };
            return Err(SqlError::new(format!("the offset {offset} of RANGE is finer than ORDER BY of {ordered_by}"))
                .hint(format!("order by a type that holds it: ORDER BY CAST({} AS {wider})", key.expr)));
        }
    }
    Ok(())
}

/// Whether an offset has parts that values of a type have not.
fn is_finer(offset: &ScalarValue, key_type: &DataType) -> bool {
    let Some(text) = offset.try_as_str().flatten() else { return false };
    match key_type {
        DataType::Date32 => parse_interval_month_day_nano(text).is_ok_and(|interval| interval.nanoseconds % DAY_NS != 0),
        other if other.is_integer() => text.parse::<f64>().is_ok_and(|offset| offset.fract() != 0.0),
        _ => false,
    }
}

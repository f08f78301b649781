//! Aggregates that cannot be computed of what they are given, found while planning. DataFusion finds out when the first group is there, which would end a
//! pipeline at its first window, or forgets a DISTINCT. Each accumulator is made once, as it will be at run time, and takes one row of NULL through all that
//! becomes of a row.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, new_null_array};
use datafusion::arrow::datatypes::Schema;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::error::DataFusionError;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Aggregate, EmitTo, LogicalPlan, Window};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder};
use datafusion::physical_expr::window::{PlainAggregateWindowExpr, SlidingAggregateWindowExpr};
use datafusion::physical_planner::create_window_expr;
use watershed_functions::sql_type;
use watershed_message::Message;

use crate::panics::of_panic;
use crate::plain::{is_of_statement, plain_message};

/// Changes nothing. It runs after all rules, which make other aggregates of some that could not be computed, and constants of what must be constant.
#[derive(Debug)]
pub(crate) struct Accumulators;

impl OptimizerRule for Accumulators {
    fn name(&self) -> &str {
        "accumulators"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Aggregate(aggregate) => check_groups(aggregate)?,
            LogicalPlan::Window(window) => check_frames(window)?,
            _ => {}
        }
        Ok(Transformed::no(plan))
    }
}

fn check_groups(aggregate: &Aggregate) -> Result<()> {
    let (input, props, planning) = (aggregate.input.schema(), ExecutionProps::new(), PhysicalPlanningContext::default());
    for expr in &aggregate.aggr_expr {
        // One with a subquery or a parameter in it cannot be lowered yet.
        let Ok(lowered) = LoweredAggregateBuilder::new(expr, input, input.as_arrow(), &props, &planning).build() else { continue };
        let function = lowered.aggregate;
        let by_group = !aggregate.group_expr.is_empty() && function.groups_accumulator_supported();
        let tried = without_panic(|| match by_group {
            true => try_group(&function, input.as_arrow()),
            false => try_one(&function, input.as_arrow()),
        });
        tried.map_err(|error| refused(&function, input.as_arrow(), error))?;
    }
    Ok(())
}

fn check_frames(window: &Window) -> Result<()> {
    let (input, props, planning) = (window.input.schema(), ExecutionProps::new(), PhysicalPlanningContext::default());
    for expr in &window.window_expr {
        let Ok(lowered) = create_window_expr(&expr.clone().unalias(), input, &props, &planning) else { continue };
        let (function, moves) = if let Some(sliding) = lowered.as_any().downcast_ref::<SlidingAggregateWindowExpr>() {
            (sliding.get_aggregate_expr(), true)
        } else if let Some(plain) = lowered.as_any().downcast_ref::<PlainAggregateWindowExpr>() {
            (plain.get_aggregate_expr(), false)
        } else {
            continue;
        };
        let made = without_panic(|| match moves {
            true => function.create_sliding_accumulator().map(drop),
            false => function.create_accumulator().map(drop),
        });
        made.map_err(|error| refused(function, input.as_arrow(), error))?;
    }
    Ok(())
}

/// What would end a pipeline at run time is an error here.
fn without_panic(tried: impl FnOnce() -> Result<()>) -> Result<()> {
    catch_unwind(AssertUnwindSafe(tried)).unwrap_or_else(|panic| Err(of_panic(panic.as_ref())))
}

fn try_group(function: &AggregateFunctionExpr, rows: &Schema) -> Result<()> {
    let (mut partial, mut whole) = (function.create_groups_accumulator()?, function.create_groups_accumulator()?);
    let Some(row) = row_of_null(function, rows)? else { return Ok(()) };
    partial.update_batch(&row, &[0], None, 1)?;
    let states = partial.state(EmitTo::All)?;
    check_states(function, &states)?;
    whole.merge_batch(&states, &[0], 1)?;
    whole.evaluate(EmitTo::All).map(drop)
}

fn try_one(function: &AggregateFunctionExpr, rows: &Schema) -> Result<()> {
    let (mut partial, mut whole) = (function.create_accumulator()?, function.create_accumulator()?);
    let Some(row) = row_of_null(function, rows)? else { return Ok(()) };
    partial.update_batch(&row)?;
    let states = partial.state()?.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>>>()?;
    check_states(function, &states)?;
    whole.merge_batch(&states)?;
    whole.evaluate().map(drop)
}

/// The arguments of one row; `None` for an aggregate with an order, which takes more than its arguments.
fn row_of_null(function: &AggregateFunctionExpr, rows: &Schema) -> Result<Option<Vec<ArrayRef>>> {
    if !function.order_bys().is_empty() {
        return Ok(None);
    }
    let of_null = |argument: &Arc<dyn PhysicalExpr>| Ok(new_null_array(&argument.data_type(rows)?, 1));
    function.expressions().iter().map(of_null).collect::<Result<_>>().map(Some)
}

/// Partial results must be of the types that are announced for them: those that are not have forgotten something, such as DISTINCT.
fn check_states(function: &AggregateFunctionExpr, states: &[ArrayRef]) -> Result<()> {
    let announced: Vec<String> = function.state_fields()?.iter().map(|field| sql_type(field.data_type())).collect();
    let found: Vec<String> = states.iter().map(|state| sql_type(state.data_type())).collect();
    if announced == found {
        return Ok(());
    }
    exec_err!("partial results are {}, and {} are announced", found.join(" and "), announced.join(" and "))
}

fn refused(function: &AggregateFunctionExpr, rows: &Schema, error: DataFusionError) -> DataFusionError {
    let why = error.strip_backtrace();
    if is_of_statement(&why) {
        return error;
    }
    let name = function.fun().name();
    let types: Vec<String> = function
        .expressions()
        .iter()
        .map(|argument| argument.data_type(rows).map_or_else(|_| "?".to_owned(), |found| sql_type(&found)))
        .collect();
    let (distinct, next) = match (function.is_distinct(), name) {
        (true, _) => ("DISTINCT ", "leave DISTINCT out, or let GROUP BY in a query in FROM leave one row of each value"),
        (false, "approx_distinct") => ("", "count(DISTINCT …) takes values of all types; or cast the argument: CAST(… AS VARCHAR)"),
        (false, _) => ("", "cast the arguments: CAST(… AS …), or take another aggregate"),
    };
    let message = Message::new(format!("{name}() of {distinct}{} cannot be computed", types.join(", ")));
    DataFusionError::External(Box::new(message.why(plain_message(&why).what).next(next)))
}

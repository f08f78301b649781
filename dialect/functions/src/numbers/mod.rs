//! Numbers that are right, or an error: what is computed otherwise than DataFusion does, the same in streams, jobs and queries.
//!
//! | what | file |
//! |---|---|
//! | `+`, `-`, `*` of whole numbers and decimals that do not fit their type are errors | `checked.rs` |
//! | sums that do not fit their type are errors, whatever the order of rows | `sum.rs` |
//! | averages of decimals that do not fit say so | `average.rs` |
//! | `min` and `max` with NaN and -0.0 | `extremes.rs` |
//! | sums, averages and spreads over frames that move | `frames.rs`, `exact.rs` |
//! | comparisons of intervals | `lengths.rs` |
//! | comparisons of doubles with decimals, and of long decimals | `compared.rs` |
//! | lists of rows in IN | `rows.rs` |
//! | `0.1` is a decimal beside decimals, and a double elsewhere | `literals.rs` |
//! | `percentile_cont` between two values | `percentile.rs` |
//! | results of aggregates have one NaN | `nan.rs` |
//! | 0.0 and -0.0 are one key, and so are all NaN | `zero.rs` |
//! | `string_agg` has bounds, as functions have | `../guarded/string_agg.rs` |

mod average;
mod checked;
mod compared;
mod exact;
mod extremes;
mod finished;
mod frames;
mod lengths;
pub mod literals;
mod nan;
mod percentile;
mod rows;
mod sum;
mod zero;

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::functions_aggregate::{average as averages, min_max, percentile_cont, stddev, string_agg as texts, sum as sums, variance};
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, merge_schema};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Expr, ExprSchemable, GroupsAccumulator, LogicalPlan, LogicalPlanBuilder,
    Operator, ReversedUDAF, SetMonotonicity, Signature, StatisticsArgs,
};
use datafusion::optimizer::AnalyzerRule;

use crate::far_times::constant_with_seconds;
use crate::guarded::string_agg;
use crate::joined_text::as_written as joined_as_written;

use self::average::Target;
use self::extremes::Extreme;
use self::finished::{Finished, FinishedGroups};
use self::frames::{MovingSpread, MovingSum, Of, Spread};
use self::nan::OneNan;
use self::percentile::Percentile;

pub use self::compared::common;
pub(crate) use self::lengths::interval_lengths;
pub use self::rows::{ROW_PART, ROWS_MAX};
pub use self::zero::{ONE_KEY_NAME, one_key};
pub use self::zero::{has_variants, physical_key};

/// Puts what is right into the place of operators that are not. It runs once the types of a plan are settled.
#[derive(Debug)]
pub struct RightNumbers;

impl AnalyzerRule for RightNumbers {
    fn name(&self) -> &str {
        "right_numbers"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let right = |node: LogicalPlan| {
            let node = rewritten(node, guarded)?.transform_data(zero::keyed)?;
            if node.transformed { node.map_data(LogicalPlan::recompute_schema) } else { Ok(node) }
        };
        Ok(plan.transform_up_with_subqueries(right)?.data)
    }
}

/// Puts casts where DataFusion would choose a type that does not hold both sides of a comparison. It runs before types are settled.
#[derive(Debug)]
pub struct WideComparisons;

impl AnalyzerRule for WideComparisons {
    fn name(&self) -> &str {
        "wide_comparisons"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut retyped = false;
        let plan = plan.transform_up_with_subqueries(|node| {
            let node = rewritten(node, widened)?;
            let is_new = node.transformed;
            node.transform_data(|node| match node {
                // Nothing else gives the columns of VALUES their new types.
                LogicalPlan::Values(values) if is_new => {
                    retyped = true;
                    Ok(Transformed::yes(LogicalPlanBuilder::values(values.values)?.build()?))
                }
                LogicalPlan::Join(join) => Ok(compared::joined(join)),
                LogicalPlan::Union(union) => {
                    let found = literals::united(union)?;
                    retyped |= found.transformed;
                    Ok(found)
                }
                other => Ok(Transformed::no(other)),
            })
        })?;
        // The nodes above take up the new types.
        if retyped {
            Ok(plan.data.transform_up_with_subqueries(|node| node.recompute_schema().map(Transformed::yes))?.data)
        } else {
            Ok(plan.data)
        }
    }
}

/// The same for an expression that is in no plan.
pub fn widened(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|part| compared::compared(part, schema))
}

/// A node with its expressions rewritten, under the names that they had.
pub(crate) fn rewritten(
    node: LogicalPlan,
    rewrite: impl Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&node.inputs());
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let name = names.save(&expr);
        let expr = rewrite(expr, &schema)?;
        Ok(if expr.transformed { expr.update_data(|expr| name.restore(expr)) } else { expr })
    })
}

/// The same for an expression that is in no plan.
pub fn guarded(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|part| {
        let part = constant_with_seconds(part).transform_data(|part| checked::checked(part, schema))?;
        part.transform_data(|part| zero::compared(part, schema))
    })
}

/// An expression as it would be without [`RightNumbers`] and [`BoundedTexts`](crate::BoundedTexts): to be shown, and to be compared with what earlier versions made of its text.
pub fn as_written(expr: &Expr) -> Expr {
    let written = expr
        .clone()
        .transform_up(|part| Ok(Transformed::yes(joined_as_written(lengths::as_written(zero::as_written(checked::as_written(part)))))));
    written.map_or_else(|_| expr.clone(), |written| written.data)
}

fn is_decimal(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..) | DataType::Decimal256(..))
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// The type of an expression; NULL's if it cannot be told, as of a parameter.
fn type_of(expr: &Expr, schema: &DFSchema) -> DataType {
    expr.get_type(schema).unwrap_or(DataType::Null)
}

/// The sum of an expression, as a query has it.
pub fn sum(expr: Expr) -> Expr {
    guarded_aggregate(sums::sum_udaf(), Own::Sum).call(vec![expr])
}

/// The least value of an expression, as a query has it.
pub fn min(expr: Expr) -> Expr {
    guarded_aggregate(min_max::min_udaf(), Own::Extreme(Extreme::Min)).call(vec![expr])
}

/// The greatest value of an expression, as a query has it.
pub fn max(expr: Expr) -> Expr {
    guarded_aggregate(min_max::max_udaf(), Own::Extreme(Extreme::Max)).call(vec![expr])
}

/// The aggregates that take the place of DataFusion's of the same names.
pub fn aggregates() -> Vec<Arc<AggregateUDF>> {
    let spread = |of_population, is_root| Own::Spread(Spread { of_population, is_root });
    [
        (sums::sum_udaf(), Own::Sum),
        (averages::avg_udaf(), Own::Average),
        (min_max::min_udaf(), Own::Extreme(Extreme::Min)),
        (min_max::max_udaf(), Own::Extreme(Extreme::Max)),
        (variance::var_samp_udaf(), spread(false, false)),
        (variance::var_pop_udaf(), spread(true, false)),
        (stddev::stddev_udaf(), spread(false, true)),
        (stddev::stddev_pop_udaf(), spread(true, true)),
        (texts::string_agg_udaf(), Own::Texts),
        (percentile_cont::percentile_cont_udaf(), Own::Percentile),
    ]
    .into_iter()
    .map(|(inner, own)| Arc::new(guarded_aggregate(inner, own)))
    .collect()
}

fn guarded_aggregate(inner: Arc<AggregateUDF>, own: Own) -> AggregateUDF {
    AggregateUDF::new_from_impl(Guarded { inner, own })
}

/// An aggregate of DataFusion's, some of whose accumulators are ours.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Guarded {
    inner: Arc<AggregateUDF>,
    own: Own,
}

/// Which accumulators those are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Own {
    Sum,
    Average,
    Extreme(Extreme),
    Spread(Spread),
    Texts,
    Percentile,
}

impl Own {
    /// For frames that move; `None` where DataFusion's will do.
    fn sliding(self, args: &AccumulatorArgs) -> Option<Box<dyn Accumulator>> {
        let of_doubles = *args.expr_fields[0].data_type() == DataType::Float64 && !args.is_distinct;
        match self {
            Own::Sum if of_doubles => Some(Box::new(MovingSum::new(Of::Sum))),
            Own::Sum => sum::accumulator(args),
            Own::Average if of_doubles => Some(Box::new(MovingSum::new(Of::Average))),
            Own::Spread(spread) if !args.is_distinct => Some(Box::new(MovingSpread::new(spread))),
            Own::Average | Own::Spread(_) | Own::Extreme(_) | Own::Texts | Own::Percentile => None,
        }
    }

    /// Around DataFusion's.
    fn wrapped(
        self,
        args: AccumulatorArgs,
        inner: impl FnOnce(AccumulatorArgs) -> Result<Box<dyn Accumulator>>,
    ) -> Result<Box<dyn Accumulator>> {
        let is_floating = args.return_field.data_type().is_floating();
        let (average, percentile) = (Target::of(&args), Percentile::of(&args));
        let accumulator = inner(args)?;
        Ok(match self {
            Own::Average if let Some(target) = average => Box::new(Finished(accumulator, target)),
            Own::Percentile if let Some(percentile) = percentile => Box::new(Finished(accumulator, percentile)),
            _ if is_floating => Box::new(Finished(accumulator, OneNan { compares: matches!(self, Own::Extreme(_)) })),
            _ => accumulator,
        })
    }
}

impl AggregateUDFImpl for Guarded {
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if self.own == Own::Sum
            && let Some(own) = sum::accumulator(&args)
        {
            return Ok(own);
        }
        if self.own == Own::Texts {
            let (delimiter_bytes, is_distinct) = (string_agg::delimiter_bytes(&args), args.is_distinct);
            return Ok(Box::new(string_agg::Bounded::new(self.inner.accumulator(args)?, delimiter_bytes, is_distinct)));
        }
        self.own.wrapped(args, |args| self.inner.accumulator(args))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if let Some(own) = self.own.sliding(&args) {
            return Ok(own);
        }
        self.own.wrapped(args, |args| self.inner.create_sliding_accumulator(args))
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let own = match self.own {
            Own::Sum => sum::groups_accumulator(&args),
            Own::Extreme(extreme) => extremes::groups_accumulator(extreme, args.return_field.data_type()),
            Own::Average | Own::Spread(_) | Own::Texts | Own::Percentile => None,
        };
        if let Some(own) = own {
            return Ok(own);
        }
        let is_floating = args.return_field.data_type().is_floating();
        let average = Target::of(&args).filter(|_| self.own == Own::Average);
        let percentile = Percentile::of(&args).filter(|_| self.own == Own::Percentile);
        let delimiter_bytes = string_agg::delimiter_bytes(&args);
        let inner = self.inner.create_groups_accumulator(args)?;
        Ok(match (average, percentile) {
            (Some(target), _) => Box::new(FinishedGroups(inner, target)),
            (_, Some(percentile)) => Box::new(FinishedGroups(inner, percentile)),
            _ if self.own == Own::Texts => Box::new(string_agg::BoundedGroups::new(inner, delimiter_bytes)),
            _ if is_floating => Box::new(FinishedGroups(inner, OneNan { compares: false })),
            _ => inner,
        })
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let own = if self.own == Own::Sum { sum::state_fields(&args) } else { None };
        own.map_or_else(|| self.inner.state_fields(args), Ok)
    }

    // From here on all is as DataFusion has it.

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner.schema_name(params)
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner.human_display(params)
    }

    fn window_function_schema_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.inner.window_function_schema_name(params)
    }

    fn display_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner.display_name(params)
    }

    fn window_function_display_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.inner.window_function_display_name(params)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        if let (Own::Extreme(_), Some(argument)) = (self.own, arguments.first()) {
            extremes::check_order(self.name(), argument.data_type())?;
        }
        self.inner.return_field(arguments)
    }

    fn is_nullable(&self) -> bool {
        self.inner.is_nullable()
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        // What DataFusion's `string_agg` is in reverse has no bounds.
        if self.own == Own::Texts { ReversedUDAF::NotSupported } else { self.inner.reverse_udf() }
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        // The least and the greatest value are DataFusion's `min` and `max` then.
        if self.own == Own::Percentile { None } else { self.inner.simplify() }
    }

    fn simplify_expr_op_literal(
        &self,
        call: &AggregateFunction,
        argument: &Expr,
        op: Operator,
        literal: &Expr,
        argument_is_left: bool,
    ) -> Result<Option<Expr>> {
        self.inner.simplify_expr_op_literal(call, argument, op, literal, argument_is_left)
    }

    fn is_descending(&self) -> Option<bool> {
        self.inner.is_descending()
    }

    fn value_from_stats(&self, args: &StatisticsArgs) -> Option<ScalarValue> {
        self.inner.value_from_stats(args)
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner.default_value(data_type)
    }

    fn supports_within_group_clause(&self) -> bool {
        self.inner.supports_within_group_clause()
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.inner.supports_null_handling_clause()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner.inner().set_monotonicity(data_type)
    }
}

//! Counts beside distinct ones, computed in two steps.
//!
//! `SELECT count(*), count(DISTINCT id)` keeps a set of all values in each partition, and one thread merges the sets in the end. DataFusion has a
//! better plan, to group by the value first (`SingleDistinctToGroupBy`), which spreads over all threads and can spill; but it takes sums beside
//! the distinct count and no counts. A count is a sum of ones, which DataFusion's own `sum` adds up: no number of rows overflows it.
//!
//! ```text
//!  count(*), count(DISTINCT id)   ──►   coalesce(sum(1), 0), count(DISTINCT id)   ──►   DataFusion's rule
//! ```

use std::collections::HashSet;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, lit, when};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use watershed_functions::numbers;

/// The rule. It belongs after DataFusion's own, which then take up its result in their next pass.
#[derive(Debug, Default)]
pub struct CountsBesideDistinct;

impl OptimizerRule for CountsBesideDistinct {
    fn name(&self) -> &str {
        "counts_beside_distinct"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Aggregate(aggregate) if applies(&aggregate) => Ok(Transformed::yes(rewritten(aggregate)?)),
            other => Ok(Transformed::no(other)),
        }
    }
}

/// Whether there are plain counts, and DataFusion's rule would apply if they were sums.
fn applies(aggregate: &Aggregate) -> bool {
    let mut counts = 0;
    let mut distinct: HashSet<&Expr> = HashSet::new();
    for (index, expression) in aggregate.aggr_expr.iter().enumerate() {
        let Expr::AggregateFunction(AggregateFunction { func, params }) = expression else { return false };
        if params.filter.is_some() || !params.order_by.is_empty() || params.null_treatment.is_some() || params.args.len() != 1 {
            return false;
        }
        match func.name() {
            _ if params.distinct => drop(distinct.insert(&params.args[0])),
            "count" => counts += 1,
            "min" | "max" => {}
            // The sum of sums must have the type of the sum: that of decimals grows.
            "sum" => {
                let field = aggregate.schema.field(aggregate.group_expr.len() + index);
                if !matches!(field.data_type(), DataType::Int64 | DataType::UInt64 | DataType::Float64) {
                    return false;
                }
            }
            _ => return false,
        }
    }
    let sets = aggregate.group_expr.iter().any(|expression| matches!(expression, Expr::GroupingSet(_)));
    counts > 0 && distinct.len() == 1 && !sets
}

fn rewritten(aggregate: Aggregate) -> Result<LogicalPlan> {
    let Aggregate { input, group_expr, aggr_expr, schema, .. } = aggregate;
    let groups = group_expr.len();
    let mut columns: Vec<Expr> = (0..groups).map(|index| Expr::from(schema.qualified_field(index))).collect();
    let mut computed: Vec<Expr> = Vec::with_capacity(aggr_expr.len());
    // A sum that the query has itself, of the same ones, is another function under the same name.
    let names: Vec<String> = aggr_expr.iter().map(|expression| expression.schema_name().to_string()).collect();
    for (index, expression) in aggr_expr.into_iter().enumerate() {
        let (qualifier, field) = schema.qualified_field(groups + index);
        let ones = match &expression {
            Expr::AggregateFunction(AggregateFunction { func, params }) if func.name() == "count" && !params.distinct => {
                let ones = one_if_there(&params.args[0])?;
                let sum_of_ones = sum(ones.clone());
                let name = sum_of_ones.schema_name().to_string();
                Some(if names.contains(&name) { numbers::sum(ones) } else { sum_of_ones })
            }
            _ => None,
        };
        let column = match &ones {
            // Of no rows the sum is NULL and the count 0.
            Some(ones) => {
                let sum = Expr::Column(Column::from_name(ones.schema_name().to_string()));
                when(sum.clone().is_not_null(), sum).otherwise(lit(0_i64))?.alias_qualified(qualifier.cloned(), field.name())
            }
            None => Expr::from((qualifier, field)),
        };
        columns.push(column);
        let expression = ones.unwrap_or(expression);
        if !computed.contains(&expression) {
            computed.push(expression);
        }
    }
    LogicalPlanBuilder::from(LogicalPlan::Aggregate(Aggregate::try_new(input, group_expr, computed)?)).project(columns)?.build()
}

/// 1 where there is a value, else 0.
fn one_if_there(value: &Expr) -> Result<Expr> {
    match value {
        Expr::Literal(constant, _) if !constant.is_null() => Ok(lit(1_i64)),
        value => when(value.clone().is_not_null(), lit(1_i64)).otherwise(lit(0_i64)),
    }
}

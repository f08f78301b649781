//! `n <> 0 AND 10 / n > 2`: what the left side has decided, the right side cannot spoil. DataFusion computes both sides for all rows of a batch,
//! or only the left one, as it seems cheaper, so that such a condition fails or not by what other rows are beside.
//!
//! Where computing both sides fails, the right one is computed for those rows alone that the left one leaves open.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{BooleanArray, RecordBatch};
use datafusion::arrow::compute::kernels::boolean::{and_kleene, or_kleene};
use datafusion::arrow::compute::{filter_record_batch, interleave};
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, TryCastExpr};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr, ScalarFunctionExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, PhysicalGroupBy};
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::sorts::sort::SortExec;

/// The rule for conditions of filters and joins. It runs after all others, which take such conditions apart.
#[derive(Debug)]
pub(crate) struct FiltersInOrder;

impl PhysicalOptimizerRule for FiltersInOrder {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let ordered = |node: Arc<dyn ExecutionPlan>| {
            let changed: Option<Arc<dyn ExecutionPlan>> = if let Some(filter) = node.downcast_ref::<FilterExec>() {
                let predicate = in_order(Arc::clone(filter.predicate()))?;
                let changed = predicate.transformed.then(|| FilterExecBuilder::from(filter).with_predicate(predicate.data).build());
                changed.transpose()?.map(|filter| Arc::new(filter) as _)
            } else if let Some(join) = node.downcast_ref::<HashJoinExec>() {
                let changed = joined_on(join.filter())?.map(|filter| join.builder().with_filter(Some(filter)).build());
                changed.transpose()?.map(|join| Arc::new(join) as _)
            } else if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
                let changed =
                    joined_on(join.filter())?.map(|filter| NestedLoopJoinExecBuilder::from(join).with_filter(Some(filter)).build());
                changed.transpose()?.map(|join| Arc::new(join) as _)
            } else {
                None
            };
            Ok(changed.map_or_else(|| Transformed::no(node), Transformed::yes))
        };
        Ok(plan.transform_up(ordered)?.data)
    }

    fn name(&self) -> &str {
        "filters_in_order"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The rule for what is computed. It runs before all others, which move it to where rows are read.
#[derive(Debug)]
pub(crate) struct ColumnsInOrder;

impl PhysicalOptimizerRule for ColumnsInOrder {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let ordered = |node: Arc<dyn ExecutionPlan>| {
            let changed = if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
                projected(projection)?
            } else if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
                aggregated(aggregate)?
            } else if let Some(sort) = node.downcast_ref::<SortExec>() {
                sorted(sort)?
            } else {
                None
            };
            Ok(changed.map_or_else(|| Transformed::no(node), Transformed::yes))
        };
        Ok(plan.transform_up(ordered)?.data)
    }

    fn name(&self) -> &str {
        "columns_in_order"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn projected(projection: &ProjectionExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let mut changed = false;
    let columns = projection.expr().iter().map(|column| -> Result<ProjectionExpr> {
        let expr = in_order(Arc::clone(&column.expr))?;
        changed |= expr.transformed;
        Ok(ProjectionExpr { expr: expr.data, alias: column.alias.clone() })
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(if changed { Some(Arc::new(ProjectionExec::try_new(columns, Arc::clone(projection.input()))?)) } else { None })
}

/// The condition of a join.
fn joined_on(filter: Option<&JoinFilter>) -> Result<Option<JoinFilter>> {
    let Some(filter) = filter else { return Ok(None) };
    let condition = in_order(Arc::clone(filter.expression()))?;
    let indices = || filter.column_indices().to_vec();
    Ok(condition.transformed.then(|| JoinFilter::new(condition.data, indices(), Arc::clone(filter.schema()))))
}

fn sorted(sort: &SortExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let mut changed = false;
    let keys = sort.expr().iter().map(|key| -> Result<PhysicalSortExpr> {
        let expr = in_order(Arc::clone(&key.expr))?;
        changed |= expr.transformed;
        Ok(PhysicalSortExpr::new(expr.data, key.options))
    });
    let keys = keys.collect::<Result<Vec<_>>>()?;
    let Some(keys) = LexOrdering::new(keys).filter(|_| changed) else { return Ok(None) };
    let sorted = SortExec::new(keys, Arc::clone(sort.input())).with_preserve_partitioning(sort.preserve_partitioning());
    Ok(Some(Arc::new(sorted.with_fetch(sort.fetch()))))
}

fn aggregated(aggregate: &AggregateExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let mut changed = false;
    let mut all = |exprs: Vec<Arc<dyn PhysicalExpr>>| -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        let one = |expr| {
            let expr = in_order(expr)?;
            changed |= expr.transformed;
            Ok(expr.data)
        };
        exprs.into_iter().map(one).collect()
    };
    let mut functions = Vec::with_capacity(aggregate.aggr_expr().len());
    for function in aggregate.aggr_expr() {
        let order = all(function.order_bys().iter().map(|sort| Arc::clone(&sort.expr)).collect())?;
        let ordered = function.with_new_expressions(all(function.expressions())?, order);
        functions.push(ordered.map_or_else(|| Arc::clone(function), Arc::new));
    }
    let mut filters = Vec::with_capacity(aggregate.filter_expr().len());
    for filter in aggregate.filter_expr() {
        filters.push(match filter {
            Some(filter) => all(vec![Arc::clone(filter)])?.pop(),
            None => None,
        });
    }
    let groups = aggregate.group_expr();
    let (keys, names): (Vec<_>, Vec<String>) = groups.expr().iter().cloned().unzip();
    let keys = all(keys)?.into_iter().zip(names).collect();
    let groups = PhysicalGroupBy::new(keys, groups.null_expr().to_vec(), groups.groups().to_vec(), groups.has_grouping_set());
    if !changed {
        return Ok(None);
    }
    let (mode, limit) = (*aggregate.mode(), aggregate.limit_options());
    let input = Arc::clone(aggregate.input());
    let changed = AggregateExec::try_new(mode, groups, functions, filters, input, aggregate.input_schema())?;
    Ok(Some(Arc::new(changed.with_limit_options(limit))))
}

/// Whether a part of a condition decides for which rows another one that may fail is computed.
pub(crate) fn guards(condition: &Arc<dyn PhysicalExpr>) -> bool {
    condition.exists(|part| Ok(part.is::<InOrder>() || is_guard(part))).unwrap_or(true)
}

fn is_guard(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<BinaryExpr>().is_some_and(|sides| is_logical(*sides.op()) && may_fail(sides.right()))
}

fn in_order(expr: Arc<dyn PhysicalExpr>) -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
    expr.transform_up(|part| {
        Ok(if is_guard(&part) { Transformed::yes(Arc::new(InOrder { sides: part }) as _) } else { Transformed::no(part) })
    })
}

fn is_logical(op: Operator) -> bool {
    matches!(op, Operator::And | Operator::Or)
}

/// Whether an expression computes something that may fail.
fn may_fail(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let mut found = false;
    let walked = expr.apply(|part| {
        found |= part.downcast_ref::<BinaryExpr>().is_some_and(|sides| sides.op().is_numerical_operators())
            || part.is::<CastExpr>()
            || part.is::<TryCastExpr>()
            || part.is::<ScalarFunctionExpr>();
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.is_err() || found
}

/// A [`BinaryExpr`] of AND or OR.
#[derive(Debug, Eq)]
struct InOrder {
    sides: Arc<dyn PhysicalExpr>,
}

impl Hash for InOrder {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sides.hash(state);
    }
}

impl PartialEq for InOrder {
    fn eq(&self, other: &Self) -> bool {
        self.sides.eq(&other.sides)
    }
}

impl InOrder {
    /// The result where the right side is computed for the rows alone that the left side leaves open.
    fn by_rows(&self, batch: &RecordBatch, failed: DataFusionError) -> Result<ColumnarValue> {
        let Some(sides) = self.sides.downcast_ref::<BinaryExpr>() else { return internal_err!("no AND or OR: {}", self.sides) };
        let decides = *sides.op() == Operator::Or;
        let left = sides.left().evaluate(batch)?.into_array(batch.num_rows())?;
        let left = as_boolean_array(&left)?;
        let open: BooleanArray = left.iter().map(|value| Some(value != Some(decides))).collect();
        if open.true_count() == batch.num_rows() {
            return Err(failed);
        }
        let rows = filter_record_batch(batch, &open)?;
        let right = sides.right().evaluate(&rows)?.into_array(rows.num_rows())?;
        // Where the left side has decided, any value will do for the right one.
        let decided = BooleanArray::from(vec![decides]);
        let mut next = 0;
        let places = open.iter().map(|is_open| {
            let at = next;
            next += usize::from(is_open == Some(true));
            if is_open == Some(true) { (0, at) } else { (1, 0) }
        });
        let places: Vec<_> = places.collect();
        let right = interleave(&[right.as_ref(), &decided], &places)?;
        let right = as_boolean_array(&right)?;
        let result = if decides { or_kleene(left, right)? } else { and_kleene(left, right)? };
        Ok(ColumnarValue::Array(Arc::new(result)))
    }
}

impl fmt::Display for InOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.sides, f)
    }
}

impl PhysicalExpr for InOrder {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.sides.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.sides.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        match self.sides.evaluate(batch) {
            Ok(value) => Ok(value),
            // One row is decided by its left side already.
            Err(failed) if batch.num_rows() > 1 => self.by_rows(batch, failed),
            Err(failed) => Err(failed),
        }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.sides]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match children.pop() {
            Some(sides) if children.is_empty() => Ok(Arc::new(Self { sides })),
            _ => internal_err!("an expression of two sides has one child"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sides.fmt_sql(f)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Int64Array;
    use datafusion::physical_expr::expressions::{binary, col, lit};

    use super::*;

    #[test]
    fn a_row_that_the_left_side_has_decided_is_not_computed_on_the_right() {
        let numbers = Int64Array::from(vec![Some(0), Some(2), None, Some(9)]);
        let batch = RecordBatch::try_from_iter_with_nullable([("n", Arc::new(numbers) as _, true)]).unwrap();
        let schema = batch.schema();
        let n = || col("n", &schema).unwrap();
        let of = |left, op, right| binary(left, op, right, &schema).unwrap();
        let quotient = || of(of(lit(10_i64), Operator::Divide, n()), Operator::Gt, lit(2_i64));
        let all = |expr: Arc<dyn PhysicalExpr>| {
            let expr = in_order(expr).unwrap();
            assert!(expr.transformed);
            expr.data.evaluate(&batch).map(|value| as_boolean_array(&value.into_array(4).unwrap()).unwrap().iter().collect::<Vec<_>>())
        };
        let and = of(of(n(), Operator::NotEq, lit(0_i64)), Operator::And, quotient());
        assert_eq!(all(and).unwrap(), [Some(false), Some(true), None, Some(false)]);
        let or = of(of(n(), Operator::Eq, lit(0_i64)), Operator::Or, quotient());
        assert_eq!(all(or).unwrap(), [Some(true), Some(true), None, Some(false)]);
        // What the left side leaves open still fails.
        let open = of(of(n(), Operator::GtEq, lit(0_i64)), Operator::And, quotient());
        assert!(all(open).unwrap_err().to_string().contains("ivide by zero"));
        let plain = of(of(n(), Operator::NotEq, lit(0_i64)), Operator::And, of(n(), Operator::Gt, lit(2_i64)));
        assert!(!in_order(plain).unwrap().transformed);
    }
}

//! 0.0 and -0.0 are one key, and so are all NaN. DataFusion compares both zeros as equal, and groups and joins by them as one, but not where it sorts
//! rows, as for ORDER BY and PARTITION BY, where keys are within structs and lists, and where it looks up constants by their bits. A NaN that a
//! division made (its sign is set on x86) would come before all numbers.
//!
//! Once types are settled the rule makes such keys the same for both zeros, and for intervals of one length.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, LargeListArray, ListArray, StructArray};
use arrow::datatypes::{DataType, FieldRef, Float32Type, Float64Type, IntervalUnit, Schema};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::{Alias, Case, GroupingSet, InList, ScalarFunction, Sort, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, ColumnarValue, Distinct, DistinctOn, Expr, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::lengths::{one_interval, order_by_length};
use super::type_of;

static ONE_KEY: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(OneKey { signature: Signature::user_defined(Volatility::Immutable) })));

/// The name under which plans show what [`one_key`] does.
pub const ONE_KEY_NAME: &str = "one_key";

/// Values for which both zeros, all NaN, and intervals of one length are the same. Without such values it is the same array.
pub fn one_key(values: &ArrayRef) -> ArrayRef {
    match values.data_type() {
        DataType::Float64 => {
            let one = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
            Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(one))
        }
        DataType::Float32 => {
            let one = |value: f32| if value.is_nan() { f32::NAN } else { value + 0.0 };
            Arc::new(values.as_primitive::<Float32Type>().unary::<_, Float32Type>(one))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => Arc::new(one_interval(values.as_primitive())),
        DataType::Struct(fields) if has_variants(values.data_type()) => {
            let structs = values.as_struct();
            let columns = structs.columns().iter().map(one_key).collect();
            Arc::new(StructArray::new(fields.clone(), columns, structs.nulls().cloned()))
        }
        DataType::List(field) if has_variants(values.data_type()) => {
            let lists = values.as_list::<i32>();
            Arc::new(ListArray::new(field.clone(), lists.offsets().clone(), one_key(lists.values()), lists.nulls().cloned()))
        }
        DataType::LargeList(field) if has_variants(values.data_type()) => {
            let lists = values.as_list::<i64>();
            Arc::new(LargeListArray::new(field.clone(), lists.offsets().clone(), one_key(lists.values()), lists.nulls().cloned()))
        }
        DataType::FixedSizeList(field, size) if has_variants(values.data_type()) => {
            let lists = values.as_fixed_size_list();
            Arc::new(FixedSizeListArray::new(field.clone(), *size, one_key(lists.values()), lists.nulls().cloned()))
        }
        _ => values.clone(),
    }
}

/// Computes [`one_key`] of what an expression gives.
pub fn physical_key(expr: Arc<dyn PhysicalExpr>, schema: &Schema) -> Arc<dyn PhysicalExpr> {
    match expr.return_field(schema) {
        Ok(field) if has_variants(field.data_type()) => {
            let (key, options) = (ONE_KEY.clone(), Arc::new(ConfigOptions::default()));
            Arc::new(ScalarFunctionExpr::new(ONE_KEY_NAME, key, vec![expr], field, options))
        }
        _ => expr,
    }
}

/// Whether values of a type can be equal and yet differ, where [`one_key`] reaches them: zeros with a sign, NaN, intervals.
pub fn has_variants(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float32 | DataType::Float64 | DataType::Interval(IntervalUnit::MonthDayNano) => true,
        DataType::Struct(fields) => fields.iter().any(|field| has_variants(field.data_type())),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => has_variants(item.data_type()),
        _ => false,
    }
}

fn is_key(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarFunction(call) => is_own(&call.func),
        Expr::Alias(alias) => is_key(&alias.expr),
        _ => false,
    }
}

fn is_own(function: &ScalarUDF) -> bool {
    let inner: &dyn ScalarUDFImpl = function.inner().as_ref();
    inner.downcast_ref::<OneKey>().is_some()
}

/// An expression as a key, if equal ones may differ.
fn key(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if is_key(&expr) || !has_variants(&type_of(&expr, schema)) {
        return Ok(Transformed::no(expr));
    }
    Ok(Transformed::yes(match expr {
        Expr::Alias(Alias { expr, relation, name, .. }) => call(*expr).alias_qualified(relation, name),
        other => call(other),
    }))
}

fn call(expr: Expr) -> Expr {
    Expr::ScalarFunction(ScalarFunction { func: ONE_KEY.clone(), args: vec![expr] })
}

/// The key under the name of what it is made of.
fn named_key(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (relation, name) = expr.qualified_name();
    let key = key(expr, schema)?;
    Ok(if key.transformed && !matches!(key.data, Expr::Alias(_)) {
        key.update_data(|key| key.alias_qualified(relation, name))
    } else {
        key
    })
}

/// A part of an expression as it would be without these rules. Its parts have been rewritten before.
pub(super) fn as_written(expr: Expr) -> Expr {
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, mut args }) if is_own(&func) && args.len() == 1 => args.remove(0),
        other => other,
    }
}

/// What DataFusion compares by hashing, and the keys of windows. Its parts have been rewritten before.
pub(super) fn compared(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::InList(InList { expr, list, negated }) if is_float(&expr, schema) && list.iter().any(may_be_odd) => {
            let list = list.into_iter().map(|item| Ok(key(item, schema)?.data)).collect::<Result<Vec<_>>>()?;
            Ok(Transformed::yes(Expr::InList(InList::new(Box::new(key(*expr, schema)?.data), list, negated))))
        }
        Expr::Case(Case { expr: Some(expr), when_then_expr, else_expr }) if is_float(&expr, schema) && !is_key(&expr) => {
            let when_then = when_then_expr.into_iter().map(|(when, then)| Ok((Box::new(key(*when, schema)?.data), then)));
            let (expr, when_then_expr) = (Some(Box::new(key(*expr, schema)?.data)), when_then.collect::<Result<Vec<_>>>()?);
            Ok(Transformed::yes(Expr::Case(Case { expr, when_then_expr, else_expr })))
        }
        Expr::WindowFunction(call) => {
            let WindowFunction { fun, mut params } = *call;
            let mut changed = false;
            let keys = params.partition_by.into_iter().map(|expr| -> Result<Expr> {
                let key = key(expr, schema)?;
                changed |= key.transformed;
                Ok(key.data)
            });
            params.partition_by = keys.collect::<Result<Vec<_>>>()?;
            changed |= order(&mut params.order_by, schema)?;
            let call = Expr::WindowFunction(Box::new(WindowFunction { fun, params }));
            Ok(Transformed::new_transformed(call, changed))
        }
        Expr::AggregateFunction(mut call) => {
            let mut changed = order(&mut call.params.order_by, schema)?;
            if call.params.distinct || matches!(call.func.name(), "min" | "max") {
                changed |= intervals(&mut call.params.args, schema)?;
            }
            Ok(Transformed::new_transformed(Expr::AggregateFunction(call), changed))
        }
        Expr::ScalarFunction(mut call) if matches!(call.func.name(), "greatest" | "least") => {
            let changed = intervals(&mut call.args, schema)?;
            Ok(Transformed::new_transformed(Expr::ScalarFunction(call), changed))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Makes intervals of one length the same, and have the order of their lengths. Says whether there was something to do.
fn intervals(exprs: &mut [Expr], schema: &DFSchema) -> Result<bool> {
    let mut changed = false;
    for expr in exprs.iter_mut().filter(|expr| matches!(type_of(expr, schema), DataType::Interval(_))) {
        let key = key(std::mem::take(expr), schema)?;
        changed |= key.transformed;
        *expr = key.data;
    }
    Ok(changed)
}

/// Makes both zeros come at one place of an order, and intervals by their lengths. Says whether there was something to do.
fn order(by: &mut [Sort], schema: &DFSchema) -> Result<bool> {
    let mut changed = order_by_length(by, schema);
    for sort in by {
        let key = key(std::mem::take(&mut sort.expr), schema)?;
        changed |= key.transformed;
        sort.expr = key.data;
    }
    Ok(changed)
}

fn is_float(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(type_of(expr, schema), DataType::Float32 | DataType::Float64)
}

/// Whether a value may be a zero or a NaN: constants are known not to be, and a scan can use them as they are.
fn may_be_odd(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Float64(value), _) => value.is_some_and(|value| value == 0.0 || value.is_nan()),
        Expr::Literal(ScalarValue::Float32(value), _) => value.is_some_and(|value| value == 0.0 || value.is_nan()),
        // Types are settled: what is left of a constant of another type is its cast.
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Literal(value, _) => value.cast_to(&DataType::Float64).is_ok_and(|value| may_be_odd(&Expr::Literal(value, None))),
            _ => true,
        },
        _ => true,
    }
}

/// Makes the keys of a node one for both zeros. Expressions have been rewritten before.
pub(super) fn keyed(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => grouped(aggregate),
        LogicalPlan::Sort(mut sort) => {
            let schema = sort.input.schema().clone();
            let changed = order(&mut sort.expr, &schema)?;
            Ok(Transformed::new_transformed(LogicalPlan::Sort(sort), changed))
        }
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let differ = input.schema().fields().iter().any(|field| has_variants(field.data_type()));
            if !differ || matches!(input.as_ref(), LogicalPlan::Projection(projection) if projection.expr.iter().any(is_key)) {
                return Ok(Transformed::no(LogicalPlan::Distinct(Distinct::All(input))));
            }
            let schema = input.schema().clone();
            let columns = schema.columns().into_iter().map(|column| Ok(named_key(Expr::Column(column), &schema)?.data));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let input = LogicalPlanBuilder::from(Arc::unwrap_or_clone(input)).project(columns)?.build()?;
            Ok(Transformed::yes(LogicalPlan::Distinct(Distinct::All(Arc::new(input)))))
        }
        LogicalPlan::Distinct(Distinct::On(mut on)) => {
            let mut changed = false;
            let schema = on.input.schema().clone();
            let keys = std::mem::take(&mut on.on_expr).into_iter().map(|expr| -> Result<Expr> {
                let key = key(expr, &schema)?;
                changed |= key.transformed;
                Ok(key.data)
            });
            let on_expr = keys.collect::<Result<Vec<_>>>()?;
            // These must be what the rows are ordered by.
            order(on.sort_expr.as_deref_mut().unwrap_or_default(), &schema)?;
            let plan = LogicalPlan::Distinct(Distinct::On(DistinctOn { on_expr, ..on }));
            Ok(Transformed::new_transformed(plan, changed))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn grouped(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let schema = aggregate.input.schema().clone();
    let mut changed = false;
    let mut one = |expr: Expr| -> Result<Expr> {
        let key = named_key(expr, &schema)?;
        changed |= key.transformed;
        Ok(key.data)
    };
    let mut all = |exprs: Vec<Expr>| exprs.into_iter().map(&mut one).collect::<Result<Vec<_>>>();
    let group_expr = aggregate.group_expr.clone().into_iter().map(|expr| -> Result<Vec<Expr>> {
        Ok(match expr {
            Expr::GroupingSet(GroupingSet::Rollup(keys)) => vec![Expr::GroupingSet(GroupingSet::Rollup(all(keys)?))],
            Expr::GroupingSet(GroupingSet::Cube(keys)) => vec![Expr::GroupingSet(GroupingSet::Cube(all(keys)?))],
            Expr::GroupingSet(GroupingSet::GroupingSets(sets)) => {
                let sets = sets.into_iter().map(&mut all).collect::<Result<Vec<_>>>()?;
                vec![Expr::GroupingSet(GroupingSet::GroupingSets(sets))]
            }
            other => all(vec![other])?,
        })
    });
    let group_expr: Vec<Expr> = group_expr.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    if !changed {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let Aggregate { input, aggr_expr, schema, .. } = aggregate;
    Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new_with_schema(input, group_expr, aggr_expr, schema)?)))
}

/// What [`one_key`] does as a function of plans.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OneKey {
    signature: Signature,
}

impl ScalarUDFImpl for OneKey {
    fn name(&self) -> &str {
        ONE_KEY_NAME
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|arg| arg.schema_name().to_string()).collect())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arguments.to_vec())
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [argument] => Ok(argument.clone()),
            _ => internal_err!("{ONE_KEY_NAME} of {} arguments", arguments.len()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.arg_fields {
            [field] => Ok(field.clone()),
            _ => internal_err!("{ONE_KEY_NAME} of {} arguments", args.arg_fields.len()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(match &args.args[0] {
            ColumnarValue::Array(values) => ColumnarValue::Array(one_key(values)),
            ColumnarValue::Scalar(value) => ColumnarValue::Scalar(ScalarValue::try_from_array(&one_key(&value.to_array()?), 0)?),
        })
    }
}

//! 0.0 and -0.0 are one key, and so are all NaN. DataFusion compares both zeros as equal, and groups and joins by them as one, but not where it sorts
//! rows, as for ORDER BY and PARTITION BY, where keys are within structs and lists, and where it looks up constants by their bits. A NaN that a
//! division made (its sign is set on x86) would come before all numbers, and equal no other.
//!
//! Once types are settled the rule makes such keys the same for both zeros, and for intervals of one length. What is computed and then compared, or
//! is a column of a query, has no NaN with a sign; the lake's writer sees to the columns of tables.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, LargeListArray, ListArray, StructArray};
use arrow::datatypes::{DataType, FieldRef, Float32Type, Float64Type, IntervalUnit, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::{Alias, Case, GroupingSet, InList, ScalarFunction, Sort, WindowFunction};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, ColumnarValue, Distinct, Expr, LogicalPlan, LogicalPlanBuilder, Operator, Projection, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::lengths::{one_interval, order_by_length};
use super::nan::one_nan;
use super::{is_comparison, type_of};

static ONE_KEY: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(One::function(Same::Key, DataType::Null)));
static ONE_NAN: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(One::function(Same::Nan, DataType::Null)));

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
        Expr::ScalarFunction(call) => own(&call.func) == Some(Same::Key),
        Expr::Alias(alias) => is_key(&alias.expr),
        _ => false,
    }
}

/// What a function of this file makes the same.
fn own(function: &ScalarUDF) -> Option<Same> {
    let inner: &dyn ScalarUDFImpl = function.inner().as_ref();
    inner.downcast_ref::<One>().map(|one| one.same)
}

/// An expression as a key, if equal ones may differ.
fn key(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if is_key(&expr) || !has_variants(&type_of(&expr, schema)) {
        return Ok(Transformed::no(expr));
    }
    Ok(Transformed::yes(call(&ONE_KEY, expr)))
}

fn call(function: &Arc<ScalarUDF>, expr: Expr) -> Expr {
    match expr {
        Expr::Alias(Alias { expr, relation, name, .. }) => call(function, *expr).alias_qualified(relation, name),
        other => Expr::ScalarFunction(ScalarFunction { func: function.clone(), args: vec![other] }),
    }
}

/// Whether an expression computes floats: what it gives may be a NaN whose sign is set.
fn may_make_nan(expr: &Expr, schema: &DFSchema) -> bool {
    let computes = |part: &Expr| {
        Ok(match part {
            Expr::BinaryExpr(BinaryExpr { op, .. }) => op.is_numerical_operators(),
            Expr::ScalarFunction(call) => own(&call.func).is_none(),
            Expr::Negative(_) => true,
            _ => false,
        })
    };
    let is_one = matches!(expr, Expr::ScalarFunction(call) if own(&call.func).is_some());
    !is_one && expr.exists(computes).is_ok_and(|computes| computes) && is_float(expr, schema)
}

/// Sides of a comparison as keys, where they are computed, or structs or lists that hold variants. Says whether there was something to do.
fn comparable<'a>(sides: impl IntoIterator<Item = &'a mut Expr>, schema: &DFSchema) -> bool {
    let mut changed = false;
    for side in sides {
        if may_make_nan(side, schema) || (!is_key(side) && holds_variants(&type_of(side, schema))) {
            *side = call(&ONE_KEY, std::mem::take(side));
            changed = true;
        }
    }
    changed
}

/// Whether a type is one of structs or lists in which equal values may differ.
fn holds_variants(data_type: &DataType) -> bool {
    data_type.is_nested() && has_variants(data_type)
}

/// Functions that put values together, or compare them, as they are.
const AS_THEY_ARE: [&str; 9] = ["make_array", "named_struct", "struct", "row", "map", "greatest", "least", "array_append", "array_prepend"];

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
        Expr::ScalarFunction(ScalarFunction { func, mut args }) if own(&func).is_some() && args.len() == 1 => args.remove(0),
        other => other,
    }
}

/// What DataFusion compares by hashing, and the keys of windows. Its parts have been rewritten before.
pub(super) fn compared(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(mut sides) if is_comparison(sides.op) => {
            let changed = comparable([sides.left.as_mut(), sides.right.as_mut()], schema);
            Ok(Transformed::new_transformed(Expr::BinaryExpr(sides), changed))
        }
        Expr::Between(mut sides) => {
            let changed = comparable([sides.expr.as_mut(), sides.low.as_mut(), sides.high.as_mut()], schema);
            Ok(Transformed::new_transformed(Expr::Between(sides), changed))
        }
        Expr::InSubquery(mut sides) => {
            let changed = comparable([sides.expr.as_mut()], schema);
            Ok(Transformed::new_transformed(Expr::InSubquery(sides), changed))
        }
        Expr::InList(InList { expr, list, negated })
            if is_float(&expr, schema) && (list.iter().any(may_be_odd) || may_make_nan(&expr, schema))
                || holds_variants(&type_of(&expr, schema)) && !is_key(&expr) =>
        {
            let list = list.into_iter().map(|item| Ok(key(item, schema)?.data)).collect::<Result<Vec<_>>>()?;
            Ok(Transformed::yes(Expr::InList(InList::new(Box::new(key(*expr, schema)?.data), list, negated))))
        }
        Expr::Case(Case { expr: Some(expr), when_then_expr, else_expr })
            if (is_float(&expr, schema) || holds_variants(&type_of(&expr, schema))) && !is_key(&expr) =>
        {
            let when_then = when_then_expr.into_iter().map(|(when, then)| Ok((Box::new(key(*when, schema)?.data), then)));
            let (expr, when_then_expr) = (Some(Box::new(key(*expr, schema)?.data)), when_then.collect::<Result<Vec<_>>>()?);
            Ok(Transformed::yes(Expr::Case(Case { expr, when_then_expr, else_expr })))
        }
        Expr::WindowFunction(call) => {
            let WindowFunction { fun, mut params } = *call;
            let mut changed = ordered(&mut params.partition_by, schema)?;
            if params.distinct {
                changed |= keys(&mut params.args, schema)?;
            }
            changed |= order(&mut params.order_by, schema)?;
            let call = Expr::WindowFunction(Box::new(WindowFunction { fun, params }));
            Ok(Transformed::new_transformed(call, changed))
        }
        Expr::AggregateFunction(mut call) => {
            let mut changed = order(&mut call.params.order_by, schema)?;
            if call.params.distinct {
                changed |= keys(&mut call.params.args, schema)?;
            } else if matches!(call.func.name(), "min" | "max") {
                changed |= intervals(&mut call.params.args, schema)?;
            }
            Ok(Transformed::new_transformed(Expr::AggregateFunction(call), changed))
        }
        Expr::ScalarFunction(mut function) if AS_THEY_ARE.contains(&function.func.name()) => {
            let mut changed = false;
            if matches!(function.func.name(), "greatest" | "least") {
                changed = intervals(&mut function.args, schema)?;
            }
            for arg in &mut function.args {
                if may_make_nan(arg, schema) {
                    *arg = call(&ONE_NAN, std::mem::take(arg));
                    changed = true;
                }
            }
            Ok(Transformed::new_transformed(Expr::ScalarFunction(function), changed))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Makes intervals of one length the same, and have the order of their lengths. Says whether there was something to do.
fn intervals<'a>(exprs: impl IntoIterator<Item = &'a mut Expr>, schema: &DFSchema) -> Result<bool> {
    keys(exprs.into_iter().filter(|expr| matches!(type_of(expr, schema), DataType::Interval(_))), schema)
}

/// Makes expressions keys. Says whether there was something to do.
fn keys<'a>(exprs: impl IntoIterator<Item = &'a mut Expr>, schema: &DFSchema) -> Result<bool> {
    let mut changed = false;
    for expr in exprs {
        let key = key(std::mem::take(expr), schema)?;
        changed |= key.transformed;
        *expr = key.data;
    }
    Ok(changed)
}

/// Makes expressions keys that rows can be put in order by. Says whether there was something to do.
fn ordered<'a>(exprs: impl IntoIterator<Item = &'a mut Expr>, schema: &DFSchema) -> Result<bool> {
    let mut changed = false;
    for expr in exprs {
        let key = with_bounds(std::mem::take(expr), schema)?.transform_data(|expr| key(expr, schema))?;
        changed |= key.transformed;
        *expr = key.data;
    }
    Ok(changed)
}

/// An expression that rows are put in order by, where DataFusion can tell that they are: it works out bounds for both sides of `length(s) > 1`,
/// fails to compare those of functions, and takes the rows to be in no order.
fn with_bounds(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    use Operator::{Gt, GtEq, Lt, LtEq};
    let is_plain = |side: &Expr| match side {
        Expr::Column(_) | Expr::Literal(..) => true,
        Expr::ScalarFunction(call) => own(&call.func) == Some(Same::Nothing),
        _ => false,
    };
    expr.transform_up(|part| {
        let mut changed = false;
        let part = match part {
            Expr::BinaryExpr(mut sides) if matches!(sides.op, Lt | LtEq | Gt | GtEq) => {
                for side in [&mut sides.left, &mut sides.right] {
                    if !is_plain(side) {
                        let function = Arc::new(One::function(Same::Nothing, type_of(side, schema)));
                        **side = call(&function, std::mem::take(side.as_mut()));
                        changed = true;
                    }
                }
                Expr::BinaryExpr(sides)
            }
            other => other,
        };
        Ok(Transformed::new_transformed(part, changed))
    })
}

/// Makes both zeros come at one place of an order, and intervals by their lengths. Says whether there was something to do.
fn order(by: &mut [Sort], schema: &DFSchema) -> Result<bool> {
    let by_length = order_by_length(by, schema);
    Ok(ordered(by.iter_mut().map(|sort| &mut sort.expr), schema)? || by_length)
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
            let schema = on.input.schema().clone();
            let changed = keys(&mut on.on_expr, &schema)?;
            // These must be what the rows are ordered by.
            order(on.sort_expr.as_deref_mut().unwrap_or_default(), &schema)?;
            Ok(Transformed::new_transformed(LogicalPlan::Distinct(Distinct::On(on)), changed))
        }
        LogicalPlan::Projection(Projection { expr, input, schema, .. }) => {
            let mut changed = false;
            let columns = expr.into_iter().map(|expr| {
                if !may_make_nan(expr_of(&expr), input.schema()) {
                    return expr;
                }
                changed = true;
                call(&ONE_NAN, expr)
            });
            let columns: Vec<Expr> = columns.collect();
            let plan = LogicalPlan::Projection(Projection::try_new_with_schema(columns, input, schema)?);
            Ok(Transformed::new_transformed(plan, changed))
        }
        LogicalPlan::Join(mut join) => {
            let (left, right) = (join.left.schema().clone(), join.right.schema().clone());
            let mut changed = false;
            for (a, b) in &mut join.on {
                changed |= comparable([a], &left) | comparable([b], &right);
            }
            Ok(Transformed::new_transformed(LogicalPlan::Join(join), changed))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// What a column is computed from.
fn expr_of(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => expr_of(&alias.expr),
        other => other,
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

/// What is made the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Same {
    /// What [`one_key`] makes the same.
    Key,
    /// All NaN.
    Nan,
    /// Nothing: it has bounds where its argument may have none.
    Nothing,
}

/// What [`one_key`] and [`one_nan`] do as functions of plans.
#[derive(Debug, PartialEq, Eq, Hash)]
struct One {
    same: Same,
    /// Of [`Same::Nothing`].
    data_type: DataType,
    signature: Signature,
}

impl One {
    fn function(same: Same, data_type: DataType) -> ScalarUDF {
        ScalarUDF::new_from_impl(Self { same, data_type, signature: Signature::user_defined(Volatility::Immutable) })
    }
}

impl ScalarUDFImpl for One {
    fn name(&self) -> &str {
        match self.same {
            Same::Key => ONE_KEY_NAME,
            Same::Nan => "one_nan",
            Same::Nothing => "as_it_is",
        }
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
            _ => internal_err!("{} of {} arguments", self.name(), arguments.len()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.arg_fields {
            [field] => Ok(field.clone()),
            _ => internal_err!("{} of {} arguments", self.name(), args.arg_fields.len()),
        }
    }

    /// Unknown, but of its type: bounds of no type, which DataFusion has for most functions, are an error where they are compared.
    fn evaluate_bounds(&self, _: &[&Interval]) -> Result<Interval> {
        Interval::make_unbounded(&self.data_type)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let one = match self.same {
            Same::Key => one_key,
            Same::Nan => one_nan,
            Same::Nothing => Arc::clone,
        };
        Ok(match &args.args[0] {
            ColumnarValue::Array(values) => ColumnarValue::Array(one(values)),
            ColumnarValue::Scalar(value) => ColumnarValue::Scalar(ScalarValue::try_from_array(&one(&value.to_array()?), 0)?),
        })
    }
}

//! `a || b` of texts, which refuses to make a value that is too big, as the functions of `guarded/` do: `s || s` doubles in each round of a
//! recursive query, and a chain of them adds up.
//!
//! A rule puts the function in the operator's place once types are settled; columns keep the names that they would have. It puts guarded
//! functions into the places of those that DataFusion's planners made of other operators, such as `||` of lists.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{self, Column, Literal};

use super::guarded::{self, BATCH_BYTES_MAX, VALUE_BYTES_MAX, too_big};
use super::{folding, room};
use crate::numbers::rewritten;

static JOINED: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(Joined { signature: Signature::user_defined(Volatility::Immutable) })));

/// The rule. It runs once the types of a plan are settled.
#[derive(Debug)]
pub struct BoundedTexts;

impl AnalyzerRule for BoundedTexts {
    fn name(&self) -> &str {
        "bounded_texts"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let bounded = |expr: Expr, schema: &DFSchema| expr.transform_up(|part| Ok(bounded(part, schema)));
        Ok(plan.transform_up_with_subqueries(|node| rewritten(node, bounded))?.data)
    }
}

fn bounded(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) if is_text(&right, schema) || is_text(&left, schema) => {
            Transformed::yes(Expr::ScalarFunction(ScalarFunction { func: Arc::clone(&JOINED), args: vec![*left, *right] }))
        }
        Expr::ScalarFunction(call) => {
            let (call, is_new) = guarded::call(call);
            if is_new { Transformed::yes(call) } else { Transformed::no(call) }
        }
        other => Transformed::no(other),
    }
}

fn is_text(expr: &Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::ScalarFunction(call) if is_joined(&call.func) => true,
        other => other.get_type(schema).is_ok_and(|found| matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)),
    }
}

fn is_joined(function: &ScalarUDF) -> bool {
    let inner: &dyn ScalarUDFImpl = function.inner().as_ref();
    inner.downcast_ref::<Joined>().is_some()
}

/// The operator in the place of the function.
pub(crate) fn as_written(expr: Expr) -> Expr {
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, mut args }) if is_joined(&func) => match (args.pop(), args.pop()) {
            (Some(right), Some(left)) => Expr::BinaryExpr(BinaryExpr::new(Box::new(left), Operator::StringConcat, Box::new(right))),
            (right, left) => Expr::ScalarFunction(ScalarFunction { func, args: left.into_iter().chain(right).collect() }),
        },
        other => other,
    }
}

/// See the module documentation.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Joined {
    signature: Signature,
}

impl ScalarUDFImpl for Joined {
    fn name(&self) -> &str {
        "joined_text"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let [left, right] = args else { return Ok(self.name().to_owned()) };
        Ok(format!("{} || {}", left.schema_name(), right.schema_name()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Types are settled when the function takes the operator's place.
    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arguments.to_vec())
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let [left, right] = arguments else { return internal_err!("|| of {} values", arguments.len()) };
        BinaryTypeCoercer::new(left, &Operator::StringConcat, right).get_result_type()
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = args.args.as_slice() else { return internal_err!("|| of {} values", args.args.len()) };
        let is_constant = matches!((left, right), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        check(left, right, rows)?;
        let mut columns = vec![];
        let joined = operator(left, right, &mut columns);
        let field = |(at, column): (usize, &ArrayRef)| Field::new(format!("c{at}"), column.data_type().clone(), true);
        let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        joined(&RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)?)
    }
}

/// DataFusion's operator over two values, columns of which are added to `columns`.
fn operator(
    left: &ColumnarValue,
    right: &ColumnarValue,
    columns: &mut Vec<ArrayRef>,
) -> impl Fn(&RecordBatch) -> Result<ColumnarValue> + use<> {
    let mut side = |value: &ColumnarValue| -> Arc<dyn PhysicalExpr> {
        match value {
            ColumnarValue::Scalar(value) => Arc::new(Literal::new(value.clone())),
            ColumnarValue::Array(column) => {
                columns.push(Arc::clone(column));
                let at = columns.len() - 1;
                Arc::new(Column::new(&format!("c{at}"), at))
            }
        }
    };
    let joined = expressions::BinaryExpr::new(side(left), Operator::StringConcat, side(right));
    move |batch| joined.evaluate(batch)
}

fn check(left: &ColumnarValue, right: &ColumnarValue, rows: usize) -> Result<()> {
    let (left, right) = (Lengths::of(left)?, Lengths::of(right)?);
    // No value is longer than all of them together.
    let all = left.total(rows).saturating_add(right.total(rows));
    if all <= VALUE_BYTES_MAX {
        folding::check("||", all, 0)?;
        return room::check("||", all);
    }
    let mut total = 0_u64;
    for row in 0..rows {
        let bytes = left.at(row) + right.at(row);
        if bytes > VALUE_BYTES_MAX {
            return Err(too_big("||", "a value", bytes, VALUE_BYTES_MAX));
        }
        total += bytes;
    }
    if total > BATCH_BYTES_MAX { Err(too_big("||", &format!("{rows} values"), total, BATCH_BYTES_MAX)) } else { room::check("||", total) }
}

/// How long the texts of one side are, in bytes.
struct Lengths {
    values: ArrayRef,
    is_constant: bool,
}

impl Lengths {
    fn of(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Array(values) => Self { values: Arc::clone(values), is_constant: false },
            ColumnarValue::Scalar(value) => Self { values: value.to_array()?, is_constant: true },
        })
    }

    fn total(&self, rows: usize) -> u64 {
        if self.is_constant {
            return self.at(0).saturating_mul(rows as u64);
        }
        match self.values.data_type() {
            DataType::Utf8 => {
                let offsets = self.values.as_string::<i32>().offsets();
                (offsets[offsets.len() - 1] - offsets[0]) as u64
            }
            DataType::LargeUtf8 => {
                let offsets = self.values.as_string::<i64>().offsets();
                (offsets[offsets.len() - 1] - offsets[0]) as u64
            }
            DataType::Utf8View => self.values.as_string_view().lengths().map(u64::from).sum(),
            _ => 0,
        }
    }

    fn at(&self, row: usize) -> u64 {
        let row = if self.is_constant { 0 } else { row };
        match self.values.data_type() {
            DataType::Utf8 => self.values.as_string::<i32>().value_length(row) as u64,
            DataType::LargeUtf8 => self.values.as_string::<i64>().value_length(row) as u64,
            DataType::Utf8View => self.values.as_string_view().views()[row] as u32 as u64,
            _ => 0,
        }
    }
}

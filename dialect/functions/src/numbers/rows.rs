//! `(a, b) IN (rows of constants)`: DataFusion takes one type for each column of such a list, in which texts, decimals and times are others than they
//! were written as.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::InList;

use super::{type_of, widened};
use crate::balanced;

/// How many rows a list of IN may have that are compared one by one.
pub const ROWS_MAX: usize = 2_000;
/// How the fields of a struct begin that the dialect writes for `(a, b)` in `(a, b) IN (rows of constants)`, as a condition of WHERE.
pub const ROW_PART: &str = "__row_";

pub(super) fn is_row(expr: &Expr) -> bool {
    row_parts(expr).is_some()
}

/// The parts of a row that is written as a struct.
fn row_parts(expr: &Expr) -> Option<Vec<&Expr>> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let Expr::Literal(name, _) = call.args.first().filter(|_| call.func.name() == "named_struct")? else { return None };
    name.try_as_str().flatten().filter(|name| name.starts_with(ROW_PART))?;
    Some(call.args.iter().skip(1).step_by(2).collect())
}

/// `(a, b) IN (rows)` stays a list of structs, which is hashed, where the row's types are those of the list; else each pair of parts is compared
/// in the type that holds both.
pub(super) fn rows_in_list(part: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::InList(InList { expr, list, negated: false }) = &part else { return Ok(Transformed::no(part)) };
    let (Some(values), Some(rows)) = (row_parts(expr), list.iter().map(row_parts).collect::<Option<Vec<_>>>()) else {
        return Ok(Transformed::no(part));
    };
    let alike = |value: &Expr, constant: &Expr| {
        let (value, constant) = (type_of(value, schema), type_of(constant, schema));
        value.is_integer() && constant.is_integer()
            || value.is_string() && constant.is_string()
            || value == constant && value == DataType::Boolean
            || value == DataType::Null
    };
    let Some(first) = rows.first() else { return Ok(Transformed::no(part)) };
    if values.iter().zip(first).all(|(value, constant)| alike(value, constant)) {
        return Ok(Transformed::no(part));
    }
    if rows.len() > ROWS_MAX {
        return plan_err!(
            "a list of {} rows whose types are not those of the row before IN: {ROWS_MAX} are the limit; cast the parts of the row, or put the \
             rows into a table and join it",
            rows.len()
        );
    }
    let same =
        |row: &Vec<&Expr>| values.iter().zip(row).map(|(value, constant)| (*value).clone().eq((*constant).clone())).reduce(Expr::and);
    match balanced(rows.iter().filter_map(same).collect(), Expr::or) {
        Some(written) => Ok(Transformed::yes(widened(written, schema)?.data)),
        None => Ok(Transformed::no(part)),
    }
}

//! Comparisons of rows, `(a, b) = (c, d)`, as SQL has them: by their parts, so that a NULL makes them unknown unless another part decides.
//! DataFusion compares structs instead, in which NULL equals NULL, and has no plan for such a row beside a subquery.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, SetExpr, TableAlias,
    TableAliasColumnDef, TableFactor, UnaryOperator, Value,
};
use datafusion::sql::sqlparser::parser::Parser;

use crate::SqlError;
use crate::forms::{both, equal, parsed};
use crate::syntax::WatershedDialect;

/// Longer lists of constants in a condition of WHERE are looked up by hashing.
const COMPARED_MAX: usize = 8;
/// Longer lists must be hashed.
const LISTED_MAX: usize = 2_000;

/// A comparison of rows anywhere.
pub(crate) fn of_value(expr: &mut Expr) -> Result<(), SqlError> {
    match expr {
        Expr::InSubquery { expr: left, .. } if matches!(left.as_ref(), Expr::Tuple(_)) => tuple_in_value(expr),
        Expr::InList { expr: left, list, negated } => {
            if matches!(left.as_ref(), Expr::Tuple(_)) && list.len() > LISTED_MAX {
                let error =
                    SqlError::new(format!("a list of {} rows: {LISTED_MAX} are the limit, unless IN is a condition of WHERE", list.len()));
                return Err(error
                    .detail("each is compared by itself")
                    .hint("put the rows into a table and join it, or into VALUES: (a, b) IN (VALUES (1, 2), …)"));
            }
            // In brackets, so that what is in them is looked at next.
            if let Some(found) = in_list(left, list) {
                *expr = if *negated { not(found) } else { Expr::Nested(Box::new(found)) };
            }
        }
        Expr::BinaryOp { left, op, right } => {
            if let (Expr::Tuple(left), Expr::Tuple(right)) = (left.as_ref(), right.as_ref())
                && let Some(compared) = compared(left, op, right)
            {
                *expr = Expr::Nested(Box::new(compared));
            }
        }
        _ => {}
    }
    Ok(())
}

/// `left op right` by the parts of both; `None` for an operator that is none of rows.
fn compared(left: &[Expr], op: &BinaryOperator, right: &[Expr]) -> Option<Expr> {
    if left.len() != right.len() {
        return None;
    }
    match op {
        BinaryOperator::Eq => same(left, right),
        BinaryOperator::NotEq => same(left, right).map(not),
        BinaryOperator::Lt | BinaryOperator::LtEq => ordered(left, BinaryOperator::Lt, op, right),
        BinaryOperator::Gt | BinaryOperator::GtEq => ordered(left, BinaryOperator::Gt, op, right),
        _ => None,
    }
}

fn same(left: &[Expr], right: &[Expr]) -> Option<Expr> {
    left.iter().zip(right).map(|(left, right)| equal(left.clone(), right.clone())).reduce(both)
}

/// The first part that differs decides; all parts but the last are written twice.
fn ordered(left: &[Expr], strictly: BinaryOperator, last: &BinaryOperator, right: &[Expr]) -> Option<Expr> {
    // Rows within rows would double with each level.
    if left.iter().chain(right).any(|part| matches!(part, Expr::Tuple(_))) {
        return None;
    }
    let binary = |left: &Expr, op: &BinaryOperator, right: &Expr| Expr::BinaryOp {
        left: Box::new(left.clone()),
        op: op.clone(),
        right: Box::new(right.clone()),
    };
    let mut parts = left.iter().zip(right).rev();
    let (left, right) = parts.next()?;
    let after = binary(left, last, right);
    Some(parts.fold(after, |after, (left, right)| {
        let alike = both(equal(left.clone(), right.clone()), after);
        Expr::Nested(Box::new(either(binary(left, &strictly, right), alike)))
    }))
}

/// `(a, b) IN ((1, 2), (3, 4))` as the comparisons with each. `None` if there are no rows.
fn in_list(left: &Expr, list: &[Expr]) -> Option<Expr> {
    let Expr::Tuple(values) = left else { return None };
    let rows = list.iter().map(|row| match row {
        Expr::Tuple(row) if row.len() == values.len() => Some(row.as_slice()),
        _ => None,
    });
    let rows = rows.collect::<Option<Vec<_>>>()?;
    let found = rows.iter().map(|row| same(values, row)).collect::<Option<Vec<_>>>()?;
    any_of(found)
}

/// One of them, as a tree that is as flat as can be.
fn any_of(mut conditions: Vec<Expr>) -> Option<Expr> {
    while conditions.len() > 1 {
        let mut pairs = Vec::with_capacity(conditions.len().div_ceil(2));
        let mut left = conditions.into_iter();
        while let Some(first) = left.next() {
            pairs.push(match left.next() {
                Some(second) => Expr::Nested(Box::new(either(first, second))),
                None => first,
            });
        }
        conditions = pairs;
    }
    conditions.pop()
}

fn either(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::Or, right: Box::new(right) }
}

fn not(expr: Expr) -> Expr {
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(expr))) }
}

fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => !matches!(value.value, Value::Null | Value::Placeholder(_)),
        Expr::Tuple(parts) => parts.iter().all(is_constant),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => is_constant(expr),
        Expr::TypedString(_) => true,
        _ => false,
    }
}

/// `row(a, b)`: a struct.
fn as_struct(parts: Vec<Expr>) -> Option<Expr> {
    let Ok(Expr::Function(mut call)) = parsed("row()") else { return None };
    if let FunctionArguments::List(list) = &mut call.args {
        list.args = parts.into_iter().map(|part| FunctionArg::Unnamed(FunctionArgExpr::Expr(part))).collect();
    }
    Some(Expr::Function(call))
}

/// `(a, b) IN (subquery)` as a condition of WHERE: a row for which it is not true goes, so EXISTS will do.
pub(crate) fn of_condition(condition: &mut Expr) {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            of_condition(left);
            of_condition(right);
        }
        Expr::Nested(inner) => of_condition(inner),
        // Only what is true counts here, and that is the same for structs: constants have no NULL.
        Expr::InList { expr, list, negated: false } if list.len() > COMPARED_MAX && list.iter().all(is_constant) => {
            let row = |expr: &Expr| match expr {
                Expr::Tuple(parts) => as_struct(parts.clone()),
                _ => None,
            };
            if let (Some(left), Some(rows)) = (row(expr), list.iter().map(row).collect::<Option<Vec<_>>>()) {
                (**expr, *list) = (left, rows);
            }
        }
        Expr::InSubquery { expr, subquery, negated } => {
            if let Expr::Tuple(values) = expr.as_ref() {
                let same = same_tuple(values);
                let found = if *negated { Expr::IsNotFalse(Box::new(same)) } else { same };
                *condition = exists(subquery, values.len(), found, *negated);
            }
        }
        _ => {}
    }
}

/// `(a, b) IN (subquery)` anywhere: unknown if NULL may hide the row that is looked for.
fn tuple_in_value(expr: &mut Expr) {
    let Expr::InSubquery { expr: left, subquery, negated } = expr else { return };
    let Expr::Tuple(values) = left.as_ref() else { return };
    let same = same_tuple(values);
    let when = |found: Expr, result: Value| CaseWhen {
        condition: exists(subquery, values.len(), found, false),
        result: Expr::Value(result.into()),
    };
    let conditions =
        vec![when(same.clone(), Value::Boolean(!*negated)), when(Expr::IsNull(Box::new(Expr::Nested(Box::new(same)))), Value::Null)];
    let Ok(Expr::Case { case_token, end_token, .. }) = parsed("CASE WHEN true THEN true END") else { return };
    let else_result = Some(Box::new(Expr::Value(Value::Boolean(*negated).into())));
    *expr = Expr::Case { case_token, end_token, operand: None, conditions, else_result };
}

const TUPLE: &str = "__tuple";

fn tuple_column(at: usize) -> Ident {
    Ident::new(format!("__tuple_{}", at + 1))
}

/// A row of the subquery has the values.
fn same_tuple(values: &[Expr]) -> Expr {
    let column = |at: usize| Expr::CompoundIdentifier(vec![Ident::new(TUPLE), tuple_column(at)]);
    let same = values.iter().enumerate().map(|(at, value)| equal(value.clone(), column(at)));
    Expr::Nested(Box::new(same.reduce(both).unwrap_or(Expr::Value(Value::Boolean(true).into()))))
}

fn exists(subquery: &Query, width: usize, condition: Expr, negated: bool) -> Expr {
    let columns = (0..width).map(|at| TableAliasColumnDef { name: tuple_column(at), data_type: None }).collect();
    let alias = TableAlias { explicit: true, name: Ident::new(TUPLE), columns, at: None };
    let relation = TableFactor::Derived { lateral: false, subquery: Box::new(subquery.clone()), alias: Some(alias), sample: None };
    let mut outer = Parser::new(&WatershedDialect::default()).try_with_sql("SELECT 1 FROM t").and_then(|mut parser| parser.parse_query());
    if let Ok(query) = &mut outer
        && let SetExpr::Select(select) = query.body.as_mut()
    {
        select.from[0].relation = relation;
        select.selection = Some(condition);
    }
    let subquery = outer.unwrap_or_else(|_| Box::new(subquery.clone()));
    Expr::Exists { subquery, negated }
}

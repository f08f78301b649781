//! Comparisons of rows, `(a, b) = (c, d)`, as SQL has them: by their parts, so that a NULL makes them unknown unless another part decides.
//! DataFusion compares structs instead, in which NULL equals NULL, and has no plan for such a row beside a subquery.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, SetExpr, TableAlias,
    TableAliasColumnDef, TableFactor, UnaryOperator, Value,
};
use datafusion::sql::sqlparser::parser::Parser;
use watershed_functions::balanced;
use watershed_functions::numbers::{ROW_PART, ROWS_MAX};

use crate::SqlError;
use crate::forms::{both, equal, parsed};
use crate::syntax::WatershedDialect;

/// Longer lists of constants in a condition of WHERE are looked up by hashing.
const COMPARED_MAX: usize = 8;
/// How many parts rows have that are put into order.
const ORDERED_MAX: usize = 48;

/// A comparison of rows anywhere.
pub(crate) fn of_value(expr: &mut Expr) -> Result<(), SqlError> {
    if let Some(written) = written_out(expr)? {
        // In brackets, so that what is in them is looked at next.
        *expr = Expr::Nested(Box::new(written));
    }
    if let Expr::InSubquery { expr: left, .. } = expr
        && let Some(values) = parts(left).map(owned)
    {
        tuple_in_value(expr, &values);
    }
    Ok(())
}

/// A comparison of rows by their parts; `None` if it is none, or one with the rows of a query.
fn written_out(expr: &mut Expr) -> Result<Option<Expr>, SqlError> {
    match expr {
        Expr::InList { expr: left, list, negated } => {
            let Some(values) = parts(left) else { return Ok(None) };
            if list.len() > ROWS_MAX {
                let error = SqlError::new(format!(
                    "a list of {} rows: {ROWS_MAX} are the limit, unless IN is a condition of WHERE and its rows are of whole numbers and texts",
                    list.len()
                ));
                return Err(error
                    .detail("each is compared by itself")
                    .hint("put the rows into a table and join it, or into VALUES: (a, b) IN (VALUES (1, 2), …)"));
            }
            let found = in_list(&values, list)?;
            Ok(found.map(|found| if *negated { not(found) } else { found }))
        }
        Expr::BinaryOp { left, op, right } => match (parts(left), parts(right)) {
            (Some(left), Some(right)) => compared(&left, op, &right),
            _ => Ok(None),
        },
        Expr::IsDistinctFrom(left, right) => Ok(not_distinct(left, right)?.map(not)),
        Expr::IsNotDistinctFrom(left, right) => not_distinct(left, right),
        Expr::IsNull(row) => Ok(parts(row).and_then(|parts| each(parts, Expr::IsNull))),
        Expr::IsNotNull(row) => Ok(parts(row).and_then(|parts| each(parts, Expr::IsNotNull))),
        Expr::Between { expr: row, negated, low, high } if parts(row).is_some() => {
            let compared = |op, bound: &Expr| binary(row, &op, bound);
            let within = both(compared(BinaryOperator::GtEq, low), compared(BinaryOperator::LtEq, high));
            Ok(Some(if *negated { not(within) } else { within }))
        }
        Expr::Case { operand, conditions, .. } => {
            let Some(row) = operand.as_deref().filter(|row| parts(row).is_some()).cloned() else { return Ok(None) };
            for when in conditions {
                let Some((left, right)) = parts(&row).zip(parts(&when.condition)) else {
                    return Err(unlike().hint("write a row after each WHEN: CASE (a, b) WHEN (1, 2) THEN … END"));
                };
                check_lengths(&left, &right)?;
                when.condition = Expr::Nested(Box::new(equal(row.clone(), when.condition.clone())));
            }
            *operand = None;
            Ok(None)
        }
        Expr::AnyOp { left, compare_op, right, .. } => with_each(left, compare_op, right, &BinaryOperator::Eq, "ANY"),
        Expr::AllOp { left, compare_op, right } => with_each(left, compare_op, right, &BinaryOperator::NotEq, "ALL"),
        _ => Ok(None),
    }
}

/// The parts of `(a, b)` and of `ROW(a, b)`.
fn parts<'a>(expr: &'a Expr) -> Option<Vec<&'a Expr>> {
    match expr {
        Expr::Tuple(parts) => Some(parts.iter().collect()),
        Expr::Nested(inner) => parts(inner),
        Expr::Function(Function { name, args: FunctionArguments::List(list), over: None, filter: None, .. }) => {
            let [name] = name.0.as_slice() else { return None };
            if !name.as_ident().is_some_and(|name| name.value.eq_ignore_ascii_case("row")) {
                return None;
            }
            let part = |argument: &'a FunctionArg| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(part)) => Some(part),
                _ => None,
            };
            list.args.iter().map(part).collect()
        }
        _ => None,
    }
}

fn owned(parts: Vec<&Expr>) -> Vec<Expr> {
    parts.into_iter().cloned().collect()
}

/// `row = ANY (subquery)` is IN, and `row <> ALL (subquery)` NOT IN.
fn with_each(row: &Expr, op: &BinaryOperator, right: &Expr, known: &BinaryOperator, quantifier: &str) -> Result<Option<Expr>, SqlError> {
    let (Some(_), Expr::Subquery(subquery)) = (parts(row), right) else { return Ok(None) };
    if op == known {
        let negated = *op == BinaryOperator::NotEq;
        return Ok(Some(Expr::InSubquery { expr: Box::new(row.clone()), subquery: subquery.clone(), negated }));
    }
    Err(SqlError::new(format!("a row before {op} {quantifier} of a query is not supported"))
        .hint("write IN or NOT IN, or EXISTS with a condition: EXISTS (SELECT 1 FROM (…) AS q WHERE (a, b) < (q.a, q.b))"))
}

/// `left op right` by the parts of both; `None` for an operator that is none of rows.
fn compared(left: &[&Expr], op: &BinaryOperator, right: &[&Expr]) -> Result<Option<Expr>, SqlError> {
    match op {
        BinaryOperator::Eq => same(left, right),
        BinaryOperator::NotEq => Ok(same(left, right)?.map(not)),
        BinaryOperator::Lt | BinaryOperator::LtEq => ordered(left, &BinaryOperator::Lt, op, right),
        BinaryOperator::Gt | BinaryOperator::GtEq => ordered(left, &BinaryOperator::Gt, op, right),
        _ => Ok(None),
    }
}

fn check_lengths(left: &[&Expr], right: &[&Expr]) -> Result<(), SqlError> {
    if left.len() == right.len() {
        return Ok(());
    }
    let error = SqlError::new(format!("a row of {} parts is compared with one of {}", left.len(), right.len()));
    Err(error.hint("write as many on either side: (a, b) = (1, 2)"))
}

fn unlike() -> SqlError {
    SqlError::new("a row is compared with what is none")
}

fn binary(left: &Expr, op: &BinaryOperator, right: &Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left.clone()), op: op.clone(), right: Box::new(right.clone()) }
}

fn same(left: &[&Expr], right: &[&Expr]) -> Result<Option<Expr>, SqlError> {
    check_lengths(left, right)?;
    Ok(left.iter().zip(right).map(|(left, right)| binary(left, &BinaryOperator::Eq, right)).reduce(both))
}

/// No part differs, where NULL is a value like others.
fn not_distinct(left: &Expr, right: &Expr) -> Result<Option<Expr>, SqlError> {
    let Some((left, right)) = parts(left).zip(parts(right)) else { return Ok(None) };
    check_lengths(&left, &right)?;
    let alike = |(left, right): (&Expr, &Expr)| Expr::IsNotDistinctFrom(Box::new(left.clone()), Box::new(right.clone()));
    Ok(left.into_iter().zip(right).map(alike).reduce(both))
}

/// `row IS [NOT] NULL` holds if it does of each part.
fn each(parts: Vec<&Expr>, is: fn(Box<Expr>) -> Expr) -> Option<Expr> {
    parts.into_iter().map(|part| is(Box::new(part.clone()))).reduce(both)
}

/// The first part that differs decides; all parts but the last are written twice. Rows within rows are read part by part.
fn ordered(left: &[&Expr], strictly: &BinaryOperator, last: &BinaryOperator, right: &[&Expr]) -> Result<Option<Expr>, SqlError> {
    let mut pairs = Vec::new();
    flat(left, right, &mut pairs)?;
    let mut pairs = pairs.into_iter().rev();
    let Some((left, right)) = pairs.next() else { return Ok(None) };
    let after = binary(left, last, right);
    Ok(Some(pairs.fold(after, |after, (left, right)| {
        let alike = both(binary(left, &BinaryOperator::Eq, right), after);
        Expr::Nested(Box::new(either(binary(left, strictly, right), alike)))
    })))
}

fn flat<'a>(left: &[&'a Expr], right: &[&'a Expr], pairs: &mut Vec<(&'a Expr, &'a Expr)>) -> Result<(), SqlError> {
    check_lengths(left, right)?;
    for (left, right) in left.iter().zip(right) {
        match (parts(left), parts(right)) {
            (Some(left), Some(right)) => flat(&left, &right, pairs)?,
            (None, None) => pairs.push((left, right)),
            _ => return Err(unlike().hint("write as many brackets on either side: ((a, b), c) < ((1, 2), 3)")),
        }
    }
    if pairs.len() > ORDERED_MAX {
        let error = SqlError::new(format!("rows of too many parts are put into order: {ORDERED_MAX} are the limit"));
        return Err(error.hint("compare those parts that decide"));
    }
    Ok(())
}

/// `(a, b) IN ((1, 2), (3, 4))` as the comparisons with each. `None` if there are no rows.
fn in_list(values: &[&Expr], list: &[Expr]) -> Result<Option<Expr>, SqlError> {
    let Some(rows) = list.iter().map(parts).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let found = rows.iter().map(|row| same(values, row)).collect::<Result<Option<Vec<_>>, _>>()?;
    Ok(found.and_then(any_of))
}

/// One of them, as a tree that is as flat as can be.
fn any_of(conditions: Vec<Expr>) -> Option<Expr> {
    balanced(conditions, |first, second| Expr::Nested(Box::new(either(first, second))))
}

fn either(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::Or, right: Box::new(right) }
}

fn not(expr: Expr) -> Expr {
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(expr))) }
}

/// A kind of constants that are equal as they are written.
#[derive(PartialEq)]
enum Kind {
    Whole,
    Text,
    Truth,
}

fn kind_of(constant: &Expr) -> Option<Kind> {
    /// Those of more digits may be decimals.
    const DIGITS_MAX: usize = 18;
    match constant {
        Expr::Nested(inner) => kind_of(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => kind_of(expr).filter(|kind| *kind == Kind::Whole),
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => {
                (digits.len() <= DIGITS_MAX && digits.bytes().all(|digit| digit.is_ascii_digit())).then_some(Kind::Whole)
            }
            Value::SingleQuotedString(_) => Some(Kind::Text),
            Value::Boolean(_) => Some(Kind::Truth),
            _ => None,
        },
        _ => None,
    }
}

/// A row and a list of rows of constants as structs, which are looked up by hashing, if each column of the list is of one kind. Whether the row's
/// own types are those of the list is known when it is planned (`rows_in_list` in `functions/src/numbers/rows.rs`).
fn hashed(row: &Expr, list: &[Expr]) -> Option<(Expr, Vec<Expr>)> {
    let values = parts(row)?;
    let rows = list.iter().map(parts).collect::<Option<Vec<_>>>()?;
    let first = rows.first()?.iter().map(|part| kind_of(part)).collect::<Option<Vec<_>>>()?;
    let alike = |row: &Vec<&Expr>| {
        row.len() == values.len()
            && row.len() == first.len()
            && row.iter().zip(&first).all(|(part, kind)| kind_of(part).as_ref() == Some(kind))
    };
    if !rows.iter().all(alike) {
        return None;
    }
    let rows = rows.into_iter().map(as_struct).collect::<Option<Vec<_>>>()?;
    Some((as_struct(values)?, rows))
}

/// A struct with the names that a row's parts have.
fn as_struct(parts: Vec<&Expr>) -> Option<Expr> {
    let Ok(Expr::Function(mut call)) = parsed("named_struct()") else { return None };
    let argument = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    if let FunctionArguments::List(list) = &mut call.args {
        let named = parts.into_iter().enumerate().flat_map(|(at, part)| {
            let name = Value::SingleQuotedString(format!("{ROW_PART}{}", at + 1));
            [argument(Expr::Value(name.into())), argument(part.clone())]
        });
        list.args = named.collect();
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
        Expr::InList { expr, list, negated: false } if list.len() > COMPARED_MAX => {
            if let Some((left, rows)) = hashed(expr, list) {
                (**expr, *list) = (left, rows);
            }
        }
        Expr::InSubquery { expr, subquery, negated } => {
            if let Some(values) = parts(expr) {
                let same = same_tuple(&owned(values.clone()));
                let found = if *negated { Expr::IsNotFalse(Box::new(same)) } else { same };
                *condition = exists(subquery, values.len(), found, *negated);
            }
        }
        _ => {}
    }
}

/// `(a, b) IN (subquery)` anywhere: unknown if NULL may hide the row that is looked for.
fn tuple_in_value(expr: &mut Expr, values: &[Expr]) {
    let Expr::InSubquery { subquery, negated, .. } = expr else { return };
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

/// What the rows of a query are called that a row is compared with.
pub(crate) const TUPLE: &str = "__tuple";

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

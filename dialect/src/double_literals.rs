//! Number literals that are doubles by how they are written: those with an exponent, and elements of lists with a point. DataFusion is told to
//! read all with a point as decimals; which of the others become doubles is settled in the plan (`functions/src/numbers/literals.rs`).

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType as SqlType, ExactNumberInfo, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Query, SetExpr,
    UnaryOperator, Value, Values, VisitorMut,
};

use crate::SqlError;
use crate::walk::{self, End, Flow};

/// Makes them doubles in a statement.
pub(crate) fn rewrite(statement: &mut Statement) -> Result<(), SqlError> {
    walk::change_statement(statement, &mut Doubles)
}

/// The same in an expression.
pub(crate) fn rewrite_expr(expr: &mut Expr) -> Result<(), SqlError> {
    walk::change(expr, &mut Doubles)
}

struct Doubles;

impl VisitorMut for Doubles {
    type Break = End;

    fn pre_visit_query(&mut self, query: &mut Query) -> Flow {
        if let SetExpr::Values(values) = query.body.as_mut() {
            double_columns(values);
        }
        Flow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        double_elements(expr);
        if let Expr::Value(value) = expr
            && let Value::Number(digits, _) = &value.value
            && digits.contains(['e', 'E'])
        {
            let text = Expr::Value(Value::SingleQuotedString(digits.clone()).with_span(value.span));
            *expr = as_double(text);
        }
        Flow::Continue(())
    }
}

/// Makes number literals with a point doubles where they are elements of lists, or beside them: functions of lists take one type only.
fn double_elements(expr: &mut Expr) {
    let literals: Vec<&mut Expr> = match expr {
        Expr::Array(array) => array.elem.iter_mut().collect(),
        Expr::AnyOp { left, right, .. } | Expr::AllOp { left, right, .. } if !matches!(right.as_ref(), Expr::Subquery(_)) => {
            vec![left.as_mut()]
        }
        Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) => {
            let name = name.to_string().to_ascii_lowercase();
            if !name.starts_with("array_") && !name.starts_with("list_") && name != "make_array" {
                return;
            }
            let args = list.args.iter_mut().filter_map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
                _ => None,
            });
            args.collect()
        }
        _ => return,
    };
    literals.into_iter().for_each(double_literal);
}

fn double_literal(literal: &mut Expr) {
    let (number, sign) = match &*literal {
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => (expr.as_ref(), "-"),
        other => (other, ""),
    };
    if let Expr::Value(value) = number
        && let Value::Number(digits, _) = &value.value
        && digits.contains('.')
    {
        let text = Value::SingleQuotedString(format!("{sign}{digits}")).with_span(value.span);
        *literal = as_double(Expr::Value(text));
    }
}

/// `VALUES (0.5), (1e-20)`: a column with a double has no decimals.
fn double_columns(values: &mut Values) {
    let width = values.rows.iter().map(|row| row.content.len()).max().unwrap_or(0);
    for column in 0..width {
        if values.rows.iter().any(|row| row.content.get(column).is_some_and(is_double)) {
            values.rows.iter_mut().filter_map(|row| row.content.get_mut(column)).for_each(double_literal);
        }
    }
}

fn is_double(expr: &Expr) -> bool {
    match expr {
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } | Expr::Nested(expr) => is_double(expr),
        Expr::Value(value) => matches!(&value.value, Value::Number(digits, _) if digits.contains(['e', 'E'])),
        Expr::Cast { data_type, .. } => {
            matches!(data_type, SqlType::Double(_) | SqlType::DoublePrecision | SqlType::Float(_) | SqlType::Real)
        }
        _ => false,
    }
}

/// A text cast to DOUBLE.
fn as_double(text: Expr) -> Expr {
    let data_type = SqlType::Double(ExactNumberInfo::None);
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(text), data_type, array: false, format: None }
}

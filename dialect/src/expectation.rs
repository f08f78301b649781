//! `CONSTRAINT name EXPECT (predicate) [ON VIOLATION WARN | DROP ROW | QUARANTINE | FAIL]`: what must be true of each row of a table.
//!
//! A predicate is over the columns of the result. A row meets it only if it is true: false and NULL violate it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::sqlparser::ast::ExprWithAlias;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Location, Token};
use watershed_functions::numbers;

use crate::bounds::{CALLS_MAX, check_tree};
use crate::cursor::{Cursor, error_at};
use crate::deep_stack::on_deep_stack;
use crate::definition::{Expectation, OnViolation};
use crate::diagnose::{from_datafusion, from_parser};
use crate::locate::{Excerpt, placed_by_message};
use crate::nearest::did_you_mean;

use crate::plain::sql_types;
use crate::plan::clock_function;
use crate::syntax::WatershedDialect;
use crate::{SqlError, double_literals, ignored};

const ACTIONS: [&str; 4] = ["WARN", "DROP ROW", "QUARANTINE", "FAIL"];

/// A constraint whose predicate is still a stretch of the text.
pub(crate) struct Parsed {
    pub(crate) name: String,
    pub(crate) action: OnViolation,
    /// Where the predicate begins.
    pub(crate) from: Location,
    /// Just after it.
    pub(crate) to: Location,
}

/// Parses `(CONSTRAINT …, CONSTRAINT …)`. `text` is the whole text.
pub(crate) fn parse_expectations(cursor: &mut Cursor, text: &str) -> Result<Vec<Parsed>, SqlError> {
    cursor.expect_token(&Token::LParen)?;
    let mut all: Vec<Parsed> = vec![];
    cursor.list(|cursor| {
        let (parsed, place) = parse_one(cursor, text)?;
        if all.iter().any(|other| other.name == parsed.name) {
            return Err(error_at(place, format!("constraint '{}' stands twice", parsed.name)).hint("give one of them another name"));
        }
        all.push(parsed);
        Ok(())
    })?;
    Ok(all)
}

fn parse_one(cursor: &mut Cursor, text: &str) -> Result<(Parsed, Location), SqlError> {
    let form = "write CONSTRAINT name EXPECT (predicate) ON VIOLATION WARN, DROP ROW, QUARANTINE or FAIL";
    if !cursor.peeks("CONSTRAINT") {
        let near = cursor.peek_word().and_then(|w| did_you_mean(&w.value, ["CONSTRAINT"]));
        return Err(cursor.expected("CONSTRAINT").hint(near.unwrap_or_else(|| form.into())));
    }
    cursor.expect(&["CONSTRAINT"])?;
    let (name, place) = cursor.name("a name for the constraint")?;
    if name.eq_ignore_ascii_case("expect") && cursor.parser.peek_token_ref().token == Token::LParen {
        return Err(error_at(place, "a constraint has a name, under which its violations are counted").hint(form));
    }
    if !cursor.peeks("EXPECT") {
        let hint = match cursor.peek_word() {
            Some(w) if w.value.eq_ignore_ascii_case("check") => Some("write EXPECT in place of CHECK".to_string()),
            Some(w) => did_you_mean(&w.value, ["EXPECT"]),
            None => None,
        };
        return Err(cursor.expected("EXPECT").hint(hint.unwrap_or_else(|| form.into())));
    }
    cursor.expect(&["EXPECT"])?;
    if !cursor.take_token(&Token::LParen) {
        return Err(cursor.expected("'('").hint("the predicate stands in parentheses: EXPECT (fare >= 0)"));
    }
    let from = cursor.here();
    let predicate = cursor.parser.parse_expr().map_err(|e| from_parser(&e, text))?;
    check_tree(&predicate).map_err(|e| e.at_least(from.line, from.column))?;
    let to = cursor.here();
    cursor.expect_token(&Token::RParen)?;
    let action = parse_action(cursor)?;
    if !matches!(cursor.parser.peek_token_ref().token, Token::Comma | Token::RParen) {
        let is_action = |w: &str| ACTIONS.iter().any(|action| action.split(' ').next().is_some_and(|first| w.eq_ignore_ascii_case(first)));
        let hint = match cursor.peek_word() {
            Some(w) if is_action(&w.value) => Some(format!("write ON VIOLATION {}", w.value.to_uppercase())),
            Some(w) => did_you_mean(&w.value, ["ON VIOLATION"]),
            None => None,
        };
        return Err(cursor.expected("ON VIOLATION, ',' or ')'").maybe_hint(hint));
    }
    Ok((Parsed { name, action, from, to }, place))
}

fn parse_action(cursor: &mut Cursor) -> Result<OnViolation, SqlError> {
    if !cursor.take(&["ON"]) {
        return Ok(OnViolation::Warn);
    }
    cursor.expect(&["VIOLATION"])?;
    if cursor.take(&["WARN"]) {
        return Ok(OnViolation::Warn);
    }
    if cursor.take(&["DROP", "ROW"]) {
        return Ok(OnViolation::DropRow);
    }
    if cursor.take(&["QUARANTINE"]) {
        return Ok(OnViolation::Quarantine);
    }
    // Databricks' form has one word more.
    if cursor.take(&["FAIL", "UPDATE"]) || cursor.take(&["FAIL"]) {
        return Ok(OnViolation::Fail);
    }
    let hint = match cursor.peek_word() {
        Some(w) if w.value.eq_ignore_ascii_case("drop") => Some("write DROP ROW".to_string()),
        Some(w) => did_you_mean(&w.value, ACTIONS),
        None => None,
    };
    Err(cursor.expected("WARN, DROP ROW, QUARANTINE or FAIL").maybe_hint(hint))
}

/// With the types that its parts will have, and what makes numbers right, as in a plan.
fn settled(state: &SessionState, expr: Expr, columns: &DFSchema) -> Result<Expr, DataFusionError> {
    let context = SimplifyContext::builder().with_schema(Arc::new(columns.clone())).with_config_options(state.config_options().clone());
    let expr = numbers::widened(numbers::literals::settle_expr(expr, columns)?.data, columns)?.data;
    let expr = ExprSimplifier::new(context.build()).coerce(expr, columns)?;
    Ok(numbers::guarded(expr, columns)?.data)
}

/// Plans a predicate over the columns of `result`. Places in errors count from the start of the text that the constraint was parsed from.
pub fn plan_expectation(state: &SessionState, expectation: &Expectation, result: &Schema) -> Result<Arc<dyn PhysicalExpr>, SqlError> {
    on_deep_stack(|| plan_predicate(state, expectation, result)).map_err(|e| e.within(expectation.line, expectation.column))
}

fn plan_predicate(state: &SessionState, expectation: &Expectation, result: &Schema) -> Result<Arc<dyn PhysicalExpr>, SqlError> {
    let text = Excerpt::whole(&expectation.predicate);
    let failed = |e: DataFusionError| from_datafusion(&e, state, text).at_least(1, 1);
    let dialect = WatershedDialect::default();
    let parser = Parser::new(&dialect).with_recursion_limit(CALLS_MAX).try_with_sql(&expectation.predicate);
    let parsed = parser.and_then(|mut parser| parser.parse_expr());
    let mut parsed = parsed.map_err(|e| from_parser(&e, &expectation.predicate))?;
    ignored::check_tree(&parsed, state).map_err(|e| placed_by_message(e, text).at_least(1, 1))?;
    double_literals::rewrite_expr(&mut parsed)?;
    let columns = DFSchema::try_from(result.clone()).map_err(failed)?;
    let expr = state.create_logical_expr_from_sql_expr(ExprWithAlias { expr: parsed, alias: None }, &columns).map_err(|e| {
        let mut error = failed(e);
        error.detail = error.detail.map(|detail| detail.replace("columns here:", "an expectation sees the columns of the result:"));
        error
    })?;
    let refuse = |message: String, hint: &str| Err(placed_by_message(SqlError::new(message).hint(hint), text).at_least(1, 1));
    let looks_further = |part: &Expr| {
        matches!(
            part,
            Expr::AggregateFunction(_)
                | Expr::WindowFunction(_)
                | Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
        )
    };
    if expr.exists(|part| Ok(looks_further(part))).map_err(failed)? {
        return refuse(
            "an expectation looks at one row at a time".into(),
            "leave out aggregates, OVER and subqueries: compute them in the query and compare the column here",
        );
    }
    if let Some(name) = clock_function(&expr).map_err(failed)? {
        return refuse(
            format!("{name}() cannot be part of an expectation"),
            "its value would differ in a replay: compare with an event time",
        );
    }
    let expr = settled(state, expr, &columns).map_err(failed)?;
    let predicate = state.create_physical_expr(expr, &columns).map_err(failed)?;
    match predicate.data_type(result).map_err(failed)? {
        DataType::Boolean => Ok(predicate),
        other => refuse(
            format!("an expectation is true or false, but this is {}", sql_types(&other.to_string())),
            "compare it with something: EXPECT (fare >= 0)",
        ),
    }
}

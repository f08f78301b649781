//! Parameters of a statement: `?` becomes `$1`, `$2`, … in the order of the text, so that planning sees one form; values go in their place
//! before the statement is planned, so that a value means what it means written into the text.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, OrderByKind, Query, Select, Statement as SqlStatement, Value, ValueWithSpan, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::ignored::constant_key;
use crate::walk::{self, End, Flow};
use crate::{SqlError, Statement, StatementKind};

/// Numbers each `?` within its statement. A statement that also writes `$1` itself is refused: it would not be clear which is which.
pub(crate) fn number(tokens: &mut [TokenWithSpan]) -> Result<(), SqlError> {
    for statement in tokens.split_mut(|token| token.token == Token::SemiColon) {
        let named = statement.iter().any(|token| matches!(&token.token, Token::Placeholder(name) if name.starts_with('$')));
        let mut last = 0;
        for token in statement {
            let Token::Placeholder(name) = &mut token.token else { continue };
            if name[1..].parse::<u64>() == Ok(0) {
                let (line, column) = (token.span.start.line, token.span.start.column);
                let first = name.replace('0', "") + "1";
                let error = SqlError::new(format!("there is no parameter {name}: parameters are counted from 1"));
                return Err(error.at(line, column).hint(format!("write {first} for the first one")));
            }
            let Some(digits) = name.strip_prefix('?') else { continue };
            if named {
                let (line, column) = (token.span.start.line, token.span.start.column);
                return Err(SqlError::new("the statement has parameters of two kinds, ? and $1")
                    .at(line, column)
                    .hint("write all of them as $1, $2, …, or all as ?"));
            }
            if digits.is_empty() {
                last += 1;
                *name = format!("${last}");
            } else {
                *name = format!("${digits}");
            }
        }
    }
    Ok(())
}

/// The parameters of a query (`$1`, `$name`), as far as no statement of ours but a query, or one that explains it, has some.
pub fn parameters_named(statement: &Statement) -> BTreeSet<String> {
    let mut found = Named(BTreeSet::new());
    if let StatementKind::Other(parsed) = &statement.kind {
        // It refuses nothing.
        let _ = walk::check_statement(parsed, &mut found);
    }
    found.0
}

struct Named(BTreeSet<String>);

impl Visitor for Named {
    type Break = End;

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> Flow {
        if let Value::Placeholder(name) = &value.value {
            self.0.insert(name.clone());
        }
        ControlFlow::Continue(())
    }
}

/// Puts `values`, by parameter (`$1`, `$name`), in place of the parameters of a query. One without a value is left as it is.
pub fn with_values(statement: &mut Statement, values: &HashMap<String, Expr>) -> Result<(), SqlError> {
    let StatementKind::Other(parsed) = &mut statement.kind else { return Ok(()) };
    let Some(inner) = explained(parsed) else { return Ok(()) };
    walk::change(inner, &mut Put(values))
}

/// The statement itself, or the one below EXPLAIN.
fn explained(statement: &mut DfStatement) -> Option<&mut SqlStatement> {
    match statement {
        DfStatement::Statement(inner) => Some(inner),
        DfStatement::Explain(explain) => explained(&mut explain.statement),
        _ => None,
    }
}

struct Put<'a>(&'a HashMap<String, Expr>);

impl Put<'_> {
    /// A key of ORDER BY or GROUP BY that is a parameter would become the position that its value is.
    fn check_key(&self, key: &Expr, clause: &str) -> Flow {
        let Some(("a parameter", instead)) = constant_key(key) else { return ControlFlow::Continue(()) };
        walk::flow(Err(SqlError::new(format!("{clause} of a parameter is not supported")).hint(instead)))
    }
}

impl VisitorMut for Put<'_> {
    type Break = End;

    fn pre_visit_query(&mut self, query: &mut Query) -> Flow {
        match query.order_by.as_ref().map(|order| &order.kind) {
            Some(OrderByKind::Expressions(keys)) => keys.iter().try_for_each(|key| self.check_key(&key.expr, "ORDER BY")),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Flow {
        match &select.group_by {
            GroupByExpr::Expressions(keys, _) => keys.iter().try_for_each(|key| self.check_key(key, "GROUP BY")),
            GroupByExpr::All(_) => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        if let Expr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) = expr
            && let Some(value) = self.0.get(name)
        {
            *expr = value.clone();
        }
        ControlFlow::Continue(())
    }

    /// What is left here is no expression of its own, but part of a clause.
    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> Flow {
        match &value.value {
            Value::Placeholder(name) if self.0.contains_key(name) => {
                let place = value.span.start;
                let error = SqlError::new(format!("parameter {name} is where only a value itself can be"));
                walk::flow(Err(error.at(place.line, place.column).hint("write the value into the statement")))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use datafusion::sql::sqlparser::ast::{Expr, Value};

    use super::with_values;
    use crate::{StatementKind, one_statement, parse};

    fn written(text: &str) -> Vec<String> {
        let shown = |statement: crate::Statement| match statement.kind {
            StatementKind::Other(parsed) => parsed.to_string(),
            other => format!("{other:?}"),
        };
        parse(text).unwrap().into_iter().map(shown).collect()
    }

    #[test]
    fn question_marks_are_numbered_within_their_statement() {
        assert_eq!(
            written("FROM t SELECT a + ? WHERE b = '?' AND c > ? -- ?\n LIMIT ?; SELECT ?"),
            ["FROM t SELECT a + $1 WHERE b = '?' AND c > $2 LIMIT $3", "SELECT $1"]
        );
        assert_eq!(written("SELECT ?2, ?1"), ["SELECT $2, $1"]);
        assert_eq!(written("SELECT $2, $city FROM t$late"), ["SELECT $2, $city FROM t$late"]);
    }

    #[test]
    fn two_kinds_in_one_statement_are_refused_at_their_place() {
        let error = parse("SELECT $1,\n ?").unwrap_err();
        assert_eq!((error.line, error.column), (Some(2), Some(2)), "{error}");
    }

    #[test]
    fn parameters_are_counted_from_one() {
        for (text, first) in [("SELECT 1,\n $0", "write $1 "), ("SELECT 1,\n ?0", "write ?1 "), ("SELECT 1,\n $00", "write $1 ")] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.line, error.column), (Some(2), Some(2)), "{error}");
            assert!(error.message.contains("counted from 1") && error.hint.is_some_and(|hint| hint.starts_with(first)), "{text}");
        }
        assert_eq!(written("SELECT $10, $zero0"), ["SELECT $10, $zero0"]);
    }

    #[test]
    fn values_stand_where_parameters_stood() {
        let values = HashMap::from([
            ("$1".to_owned(), Expr::value(Value::SingleQuotedString("it's $2".to_owned()))),
            ("$city".to_owned(), Expr::value(Value::Null)),
        ]);
        for (text, expected) in [
            ("SELECT $1, $2 FROM t WHERE a = $1 ORDER BY f($city)", "SELECT 'it''s $2', $2 FROM t WHERE a = 'it''s $2' ORDER BY f(NULL)"),
            ("WITH c AS (SELECT $1) SELECT (SELECT $city) LIMIT $1", "WITH c AS (SELECT 'it''s $2') SELECT (SELECT NULL) LIMIT 'it''s $2'"),
            ("EXPLAIN SELECT '$1', $1", "EXPLAIN SELECT '$1', 'it''s $2'"),
        ] {
            let mut statement = one_statement(text).unwrap();
            with_values(&mut statement, &values).unwrap();
            let StatementKind::Other(parsed) = statement.kind else { panic!("{text}") };
            assert_eq!(parsed.to_string(), expected);
        }
    }
}

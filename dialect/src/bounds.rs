//! How long, how deep and how much a statement may be: checked on its tokens before anything recursive reads them, and on its syntax tree before
//! it is planned.
//!
//! Planners call themselves for each level of a statement, and much of what they do takes time that grows with the square of its depth. A
//! statement of a few kilobytes could so end the process (its stack) or keep a thread busy for minutes. Each limit has room for what people and
//! programs write; what it takes at a limit is measured in `tests/dialect/bounds.rs`.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, Function, FunctionArguments, GroupByExpr, ObjectName, OrderByKind, Query, Select, SetExpr, TableFactor, Visit, Visitor,
    WindowType,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::SqlError;
use crate::cursor::error_at;
use crate::walk::{self, End, Flow};

/// Bytes of a text of statements.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// Words, names, numbers and signs of one statement.
const TOKENS_MAX: usize = 400_000;
/// Brackets, CASEs and NOTs within each other.
const NESTING_MAX: usize = 48;
/// How often sqlparser may call itself: a level of brackets takes up to four calls.
pub(crate) const CALLS_MAX: usize = 4 * NESTING_MAX + 60;
/// Operators in a row: `1 + 1 + …`. Chains of AND and OR are read as trees of little depth and have no such limit.
pub(crate) const CHAIN_MAX: usize = 500;
/// UNION, INTERSECT and EXCEPT of a statement.
const SET_OPERATIONS_MAX: usize = 250;
/// Names defined by WITH.
const CTES_MAX: usize = 250;
/// Tables that are read, one for each place where it is written; a name of WITH counts as all that its query reads.
const TABLES_MAX: usize = 500;
/// Tables joined in one FROM.
const JOINED_MAX: usize = 64;
/// Expressions of SELECT.
const ITEMS_MAX: usize = 2_000;
/// Expressions of GROUP BY, and of ORDER BY.
const KEYS_MAX: usize = 500;
/// Levels of expressions and queries within each other, operators in a row included.
const DEPTH_MAX: usize = CHAIN_MAX + 2 * NESTING_MAX;
/// Windows of a statement; each is a step of its own.
const WINDOWS_MAX: usize = 150;
/// Groupings that CUBE, ROLLUP and GROUPING SETS come to together.
const GROUPINGS_MAX: usize = 128;
/// Arguments of a function.
const ARGUMENTS_MAX: usize = 300;
/// ANY, ALL and `(a, b) IN (SELECT …)` within each other; each is written as several queries for the planner.
const COMPARED_MAX: usize = 5;
/// WHEN … THEN … of one CASE.
const ARMS_MAX: usize = 300;
/// What planning may take, as [`effort_at`] counts it: lists of IN with 300,000 values, 16,000 terms of OR, or two chains of the greatest length.
const EFFORT_MAX: u64 = 2_000_000;
/// Statements of less effort over fewer tables are planned within milliseconds.
const BRIEF_EFFORT_MAX: u64 = 2_000;
const BRIEF_TABLES_MAX: usize = 8;
/// Levels from which on an expression counts more: chains take the square of their length, and more than trees of the same size.
const DEEP: usize = 64;

/// What an expression at a depth adds to the effort of planning.
fn effort_at(depth: usize) -> u64 {
    depth as u64 * if depth > DEEP { 4 } else { 1 }
}

/// Tries of sqlparser to read an expression. It reads a piece again in another way when the first did not do, and pieces within pieces more often still.
pub(crate) fn tries_for(tokens: usize) -> usize {
    16 * tokens + 10_000
}

/// Checks a text before its tokens are told apart.
pub(crate) fn check_text(text: &str) -> Result<(), SqlError> {
    if text.len() <= TEXT_BYTES_MAX {
        return Ok(());
    }
    let error = SqlError::new(format!("the text is too long: it has {} bytes, and {TEXT_BYTES_MAX} are the limit", text.len()));
    Err(error.hint("split it; a long list of values belongs in a table that the query joins"))
}

/// Checks the tokens of a text before they are parsed.
pub(crate) fn check_tokens(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    let mut walk = Walk::default();
    for token in tokens {
        if !matches!(token.token, Token::Whitespace(_)) {
            walk.take(token)?;
        }
    }
    Ok(())
}

/// What was seen of the statement that a walk over tokens is in.
#[derive(Default)]
struct Walk {
    count: usize,
    open: Vec<Opened>,
    /// Signs and words in a row each before what it applies to: `NOT NOT`, `- -`.
    prefixes: usize,
    /// `[]` in a row, as in `INT[][]`.
    array_types: usize,
    set_operations: usize,
    explains: usize,
    /// Whether the last token was a word that takes types in angle brackets, and whether it was `[`.
    after_type: bool,
    after_bracket: bool,
}

#[derive(PartialEq)]
enum Opened {
    Bracket,
    Case,
    Angle,
}

impl Walk {
    fn take(&mut self, token: &TokenWithSpan) -> Result<(), SqlError> {
        let place = token.span.start;
        self.count += 1;
        if self.count > TOKENS_MAX {
            let error = error_at(place, format!("the statement is too long: {TOKENS_MAX} words and signs are the limit"));
            return Err(error.hint("a long list of values belongs in a table that the query joins"));
        }
        let keyword = match &token.token {
            Token::Word(word) if word.quote_style.is_none() => word.keyword,
            _ => Keyword::NoKeyword,
        };
        let (mut is_prefix, mut closes_array) = (false, false);
        match &token.token {
            Token::SemiColon => {
                *self = Self::default();
                return Ok(());
            }
            Token::LParen | Token::LBracket | Token::LBrace => self.open.push(Opened::Bracket),
            Token::RParen | Token::RBracket | Token::RBrace => {
                while self.open.pop().is_some_and(|opened| opened != Opened::Bracket) {}
                closes_array = self.after_bracket && token.token == Token::RBracket;
            }
            Token::Lt if self.after_type => self.open.push(Opened::Angle),
            Token::Gt => self.close_angle(),
            Token::ShiftRight => {
                self.close_angle();
                self.close_angle();
            }
            Token::Word(word) if word.quote_style.is_none() => match keyword {
                Keyword::CASE => self.open.push(Opened::Case),
                Keyword::END if self.open.last() == Some(&Opened::Case) => {
                    self.open.pop();
                }
                Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT | Keyword::MINUS | Keyword::PIVOT | Keyword::UNPIVOT => {
                    self.set_operations += 1;
                }
                Keyword::EXPLAIN => self.explains += 1,
                Keyword::NOT | Keyword::INTERVAL | Keyword::PRIOR => is_prefix = true,
                _ => {}
            },
            Token::Plus | Token::Minus | Token::Tilde | Token::ExclamationMark | Token::DoubleExclamationMark | Token::AtSign => {
                is_prefix = true;
            }
            Token::PGSquareRoot | Token::PGCubeRoot => is_prefix = true,
            _ => {}
        }
        self.prefixes = if is_prefix { self.prefixes + 1 } else { 0 };
        self.array_types = match &token.token {
            Token::RBracket if closes_array => self.array_types + 1,
            Token::LBracket => self.array_types,
            _ => 0,
        };
        self.after_bracket = token.token == Token::LBracket;
        self.after_type = matches!(&token.token, Token::Word(word) if takes_types(&word.value));
        if self.open.len().max(self.prefixes).max(self.array_types) > NESTING_MAX || self.explains > NESTING_MAX {
            return Err(error_at(place, too_deep().message).hint(HINT_DEEP));
        }
        if self.set_operations > SET_OPERATIONS_MAX {
            let error =
                error_at(place, format!("the statement has too many UNION, INTERSECT and EXCEPT: {SET_OPERATIONS_MAX} are the limit"));
            return Err(error.hint("split it, or select from one (VALUES …)"));
        }
        Ok(())
    }

    fn close_angle(&mut self) {
        if self.open.last() == Some(&Opened::Angle) {
            self.open.pop();
        }
    }
}

fn takes_types(word: &str) -> bool {
    ["array", "list", "map", "row", "struct"].iter().any(|known| known.eq_ignore_ascii_case(word))
}

const HINT_DEEP: &str = "split it: give inner queries names with WITH … AS (…)";

/// What is said of brackets within brackets.
pub(crate) fn too_deep() -> SqlError {
    SqlError::new(format!("the statement is nested too deeply: {NESTING_MAX} levels are the limit")).hint(HINT_DEEP)
}

/// What is said of a chain of operators.
pub(crate) fn too_long_a_chain() -> SqlError {
    SqlError::new(format!("the expression has too many operators in a row: {CHAIN_MAX} are the limit"))
        .hint("put brackets around parts of it, compute parts in a subquery, or write a list: x IN (1, 2, …), concat(a, b, …)")
}

/// Checks a parsed statement before it is planned. Says whether planning it will be brief.
pub(crate) fn check_statement(statement: &DfStatement) -> Result<bool, SqlError> {
    let mut measure = Measure::default();
    walk::check_statement(statement, &mut measure)?;
    let Weight { tables, effort } = measure.whole;
    Ok(tables <= BRIEF_TABLES_MAX && effort.saturating_add(measure.effort) <= BRIEF_EFFORT_MAX)
}

/// Checks a part of a statement: a query, an expression.
pub(crate) fn check_tree(tree: &impl Visit) -> Result<(), SqlError> {
    walk::check(tree, &mut Measure::default())
}

#[derive(Default)]
struct Measure {
    depth: usize,
    /// What is outside of all queries.
    effort: u64,
    /// What is within them, once they have been left.
    whole: Weight,
    ctes: usize,
    windows: usize,
    compared: usize,
    queries: Vec<Scope>,
}

/// A query that the visitor is in.
#[derive(Default)]
struct Scope {
    weight: Weight,
    /// What the names of its WITH mean, as far as they were met.
    named: HashMap<String, Weight>,
    /// Its queries of WITH by their place in memory, to be known when they are met.
    to_name: HashMap<*const Query, String>,
}

/// What planning takes, with names of WITH counted wherever they are used.
#[derive(Clone, Copy, Default)]
struct Weight {
    tables: usize,
    effort: u64,
}

impl Weight {
    fn add(&mut self, other: Self) {
        self.tables = self.tables.saturating_add(other.tables);
        self.effort = self.effort.saturating_add(other.effort);
    }

    fn check(self) -> Flow {
        if self.tables > TABLES_MAX {
            let what = format!("the statement reads too many tables: {TABLES_MAX} are the limit");
            let why = "a name of WITH counts as all that its query reads, wherever it is used";
            return refuse(SqlError::new(what).detail(why).hint("split it, or keep a part as a materialized view"));
        }
        if self.effort > EFFORT_MAX {
            let what = format!("the statement is too much to plan: {EFFORT_MAX} steps are the limit");
            let why = "each expression counts as often as it is deep, in a query of WITH wherever its name is used";
            return refuse(SqlError::new(what).detail(why).hint("split it; a long list of values belongs in a table that the query joins"));
        }
        ControlFlow::Continue(())
    }
}

fn refuse(error: SqlError) -> Flow {
    walk::flow(Err(error))
}

fn check_count(count: usize, max: usize, what: &str, hint: &str) -> Flow {
    if count <= max {
        return ControlFlow::Continue(());
    }
    refuse(SqlError::new(format!("{what}: {count}, and {max} are the limit")).hint(hint))
}

/// True for a comparison with all rows of a query that becomes several queries.
fn is_compared(expr: &Expr) -> bool {
    match expr {
        Expr::InSubquery { expr, .. } => matches!(expr.as_ref(), Expr::Tuple(_)),
        Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } => matches!(right.as_ref(), Expr::Subquery(_)),
        _ => false,
    }
}

impl Measure {
    fn go_down(&mut self) -> Flow {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return refuse(
                SqlError::new(format!("the statement is nested too deeply: {DEPTH_MAX} operators within each other are the limit"))
                    .hint(HINT_DEEP),
            );
        }
        self.take(effort_at(self.depth))
    }

    fn take(&mut self, effort: u64) -> Flow {
        let weight = match self.queries.last_mut() {
            Some(query) => {
                query.weight.effort += effort;
                query.weight
            }
            None => {
                self.effort += effort;
                Weight { tables: 0, effort: self.effort }
            }
        };
        weight.check()
    }
}

impl Visitor for Measure {
    type Break = End;

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        let mut scope = Scope::default();
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.ctes += 1;
            scope.to_name.insert(&raw const *cte.query, cte.alias.name.value.to_ascii_lowercase());
        }
        check_count(self.ctes, CTES_MAX, "the statement has too many names in WITH", "split it, or keep a part as a materialized view")?;
        let keys = match query.order_by.as_ref().map(|order| &order.kind) {
            Some(OrderByKind::Expressions(keys)) => keys.len(),
            _ => 0,
        };
        check_count(keys, KEYS_MAX, "ORDER BY has too many expressions", "leave some out")?;
        check_count(query.pipe_operators.len(), CTES_MAX, "the statement has too many steps with |>", "split it")?;
        if let SetExpr::Values(values) = query.body.as_ref()
            && let Some(row) = values.rows.first()
        {
            check_count(row.len(), ITEMS_MAX, "VALUES has too many columns", "leave some out")?;
        }
        self.queries.push(scope);
        self.go_down()
    }

    fn post_visit_query(&mut self, query: &Query) -> Flow {
        self.depth -= 1;
        let Some(scope) = self.queries.pop() else { return ControlFlow::Continue(()) };
        if let Some(outer) = self.queries.last_mut() {
            match outer.to_name.get(&(&raw const *query)) {
                Some(name) => {
                    outer.named.insert(name.clone(), scope.weight);
                }
                None => outer.weight.add(scope.weight),
            }
            return outer.weight.check();
        }
        self.whole.add(scope.weight);
        scope.weight.check()
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        check_count(select.projection.len(), ITEMS_MAX, "SELECT has too many expressions", "leave some out")?;
        if let GroupByExpr::Expressions(keys, _) = &select.group_by {
            check_count(keys.len(), KEYS_MAX, "GROUP BY has too many expressions", "leave some out")?;
            let groupings = keys.iter().fold(1_usize, |product, key| {
                product.saturating_mul(match key {
                    Expr::Cube(sets) => 1_usize.checked_shl(sets.len() as u32).unwrap_or(usize::MAX),
                    Expr::Rollup(sets) => sets.len() + 1,
                    Expr::GroupingSets(sets) => sets.len(),
                    _ => 1,
                })
            });
            check_count(groupings, GROUPINGS_MAX, "GROUP BY comes to too many groupings", "write those that matter as GROUPING SETS")?;
        }
        let joined = select.from.iter().map(|from| 1 + from.joins.len()).sum();
        let distinct = match &select.distinct {
            Some(Distinct::On(keys)) => keys.len(),
            _ => 0,
        };
        check_count(distinct, KEYS_MAX, "DISTINCT ON has too many expressions", "leave some out")?;
        check_count(select.named_window.len(), WINDOWS_MAX, "WINDOW has too many names", "leave some out")?;
        check_count(joined, JOINED_MAX, "FROM joins too many tables", "join some of them in a materialized view")
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        if let TableFactor::UNNEST { array_exprs, .. } = factor {
            check_count(array_exprs.len(), KEYS_MAX, "UNNEST has too many arguments", "leave some out")?;
        }
        self.go_down()
    }

    fn post_visit_table_factor(&mut self, _factor: &TableFactor) -> Flow {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> Flow {
        let name = match relation.0.as_slice() {
            [part] => part.as_ident().map(|ident| ident.value.to_ascii_lowercase()),
            _ => None,
        };
        let named = name.and_then(|name| self.queries.iter().rev().find_map(|query| query.named.get(&name).copied()));
        let mut weight = named.unwrap_or_default();
        weight.tables = weight.tables.saturating_add(1);
        match self.queries.last_mut() {
            Some(query) => {
                query.weight.add(weight);
                query.weight.check()
            }
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        let parts = match expr {
            Expr::CompoundFieldAccess { access_chain, .. } => access_chain.len(),
            Expr::CompoundIdentifier(parts) => parts.len(),
            Expr::Tuple(values) => values.len(),
            _ => 0,
        };
        check_count(parts, NESTING_MAX, "a name or a row has too many parts", "compute a part of it in a subquery")?;
        if is_compared(expr) {
            self.compared += 1;
            let what = "too many queries of ANY, ALL and (a, b) IN are within each other";
            check_count(self.compared, COMPARED_MAX, what, "compute one of them in WITH")?;
        }
        if let Expr::Function(Function { args, over, .. }) = expr {
            if let FunctionArguments::List(list) = args {
                check_count(list.args.len(), ARGUMENTS_MAX, "a function has too many arguments", "write a list in brackets: [a, b, …]")?;
            }
            if let Some(WindowType::WindowSpec(window)) = over {
                self.windows += 1;
                check_count(self.windows, WINDOWS_MAX, "the statement has too many OVER (…)", "leave some out, or split it")?;
                let keys = window.order_by.len() + window.partition_by.len();
                check_count(keys, KEYS_MAX, "OVER has too many expressions", "leave some out")?;
            }
        }
        if let Expr::Map(map) = expr {
            check_count(map.entries.len(), KEYS_MAX, "a map has too many entries", "put them into a table and join it")?;
        }
        if let Expr::Case { conditions, .. } = expr {
            let arms = conditions.len();
            check_count(arms, ARMS_MAX, "CASE has too many WHENs", "put the values into a table and join it, or look them up in a map")?;
            // Each arm is compared with all others.
            self.take((arms * arms * 8) as u64)?;
        }
        self.go_down()
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> Flow {
        self.depth -= 1;
        self.compared -= usize::from(is_compared(expr));
        ControlFlow::Continue(())
    }
}

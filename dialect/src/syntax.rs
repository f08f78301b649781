//! The tokens and expressions of the dialect: DataFusion's generic SQL, and `TABLE t [PARTITION BY k, …]` as an argument.
//!
//! `TUMBLE(TABLE t, …)` is the form of the SQL standard and of Flink. No dialect that sqlparser ships parses it, so ours does, in
//! `parse_prefix`. The argument becomes a subquery `(SELECT * FROM t DISTRIBUTE BY k)` in the syntax tree: a relation in there is found by
//! whatever walks the tree for table names. Operators between expressions that are read in our way: `infix.rs`.

use std::any::TypeId;
use std::cell::Cell;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query, SetExpr, TableFactor, TableFunctionArgs,
    TableWithJoins, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion::sql::sqlparser::keywords::{Keyword, RESERVED_FOR_COLUMN_ALIAS};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::bounds::{too_long_a_chain, tries_for};
use crate::table_function::TableFunction;
use crate::walk::{self, End, Flow};
use crate::{SqlError, infix};

/// Generic SQL with `TABLE t` as an argument, and what one text may ask of the parser.
#[derive(Debug)]
pub(crate) struct WatershedDialect {
    /// How many expressions may still be begun.
    tries_left: Cell<usize>,
    /// Whether a chain of operators was refused; the parser's own error does not say so.
    chain_refused: Cell<bool>,
}

impl Default for WatershedDialect {
    fn default() -> Self {
        Self { tries_left: Cell::new(usize::MAX), chain_refused: Cell::new(false) }
    }
}

impl WatershedDialect {
    /// For a text of so many tokens, and no longer.
    pub(crate) fn for_tokens(tokens: usize) -> Self {
        Self { tries_left: Cell::new(tries_for(tokens)), ..Self::default() }
    }

    /// What a refusal of the parser was for, if it was one of ours.
    pub(crate) fn refusal(&self) -> Option<SqlError> {
        self.chain_refused.get().then(too_long_a_chain)
    }
}

macro_rules! same_as_generic {
    ($($flag:ident)*) => { $(fn $flag(&self) -> bool { GenericDialect.$flag() })* };
}

impl Dialect for WatershedDialect {
    // sqlparser asks some questions by the dialect's type; to those we answer as the generic one.
    fn dialect(&self) -> TypeId {
        GenericDialect.dialect()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_identifier_start(ch)
    }

    // Includes `$`: side tables are called `t$late`.
    fn is_identifier_part(&self, ch: char) -> bool {
        GenericDialect.is_identifier_part(ch)
    }

    // The other way to read CASE and NOT is as names, and a message of that one would hide what was wrong with the first.
    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        matches!(keyword, Keyword::CASE | Keyword::NOT) || GenericDialect.is_reserved_for_identifier(keyword)
    }

    fn parse_infix(&self, parser: &mut Parser, first: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
        if infix::is_too_long(first) {
            self.chain_refused.set(true);
            // The one error that no other way of reading the text is tried after.
            return Some(Err(ParserError::RecursionLimitExceeded));
        }
        infix::parse_infix(parser, first, precedence)
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let Some(tries_left) = self.tries_left.get().checked_sub(1) else { return Some(Err(ParserError::RecursionLimitExceeded)) };
        self.tries_left.set(tries_left);
        if !parser.peek_keyword(Keyword::TABLE) {
            return None;
        }
        let [_, next] = parser.peek_tokens::<2>();
        let names_a_table = match next {
            Token::LParen => true,
            // `SELECT table FROM …` and the like stay what they were.
            Token::Word(w) => w.quote_style.is_some() || (w.keyword != Keyword::AS && !RESERVED_FOR_COLUMN_ALIAS.contains(&w.keyword)),
            _ => false,
        };
        names_a_table.then(|| parse_table_argument(parser))
    }

    same_as_generic! {
        supports_unicode_string_literal supports_partition_by_after_order_by supports_array_join_syntax supports_group_by_expr
        supports_group_by_with_modifier supports_left_associative_joins_without_parens supports_connect_by
        supports_match_recognize supports_pipe_operator supports_start_transaction_modifier
        supports_window_function_null_treatment_arg supports_dictionary_syntax supports_window_clause_named_window_reference
        supports_parenthesized_set_variables supports_select_wildcard_except support_map_literal_syntax allow_extract_custom
        allow_extract_single_quotes supports_extract_comma_syntax supports_create_view_comment_syntax
        supports_parens_around_table_factor supports_values_as_table_factor supports_create_index_with_clause
        supports_explain_with_utility_options supports_limit_comma supports_update_order_by supports_from_first_select
        supports_projection_trailing_commas supports_asc_desc_in_column_definition supports_try_convert
        supports_bitwise_shift_operators supports_comment_on supports_load_extension
        supports_named_fn_args_with_assignment_operator supports_struct_literal supports_empty_projections
        supports_nested_comments supports_multiline_comment_hints supports_user_host_grantee supports_string_escape_constant
        supports_array_typedef_with_brackets supports_match_against supports_set_names supports_comma_separated_set_assignments
        supports_filter_during_aggregation supports_select_wildcard_exclude supports_data_type_signed_suffix
        supports_interval_options supports_quote_delimited_string supports_select_wildcard_replace
        supports_select_wildcard_ilike supports_select_wildcard_rename supports_optimize_table supports_install supports_detach
        supports_prewhere supports_with_fill supports_limit_by supports_interpolate supports_settings supports_select_format
        supports_comment_optimizer_hint supports_constraint_keyword_without_name supports_key_column_option
        supports_comma_separated_trim supports_cte_without_as supports_select_item_multi_column_alias supports_xml_expressions
    }
}

/// `TABLE name` or `TABLE (query)`, then perhaps `PARTITION BY k1, k2` or `PARTITION BY (k1, k2)`.
fn parse_table_argument(parser: &mut Parser) -> Result<Expr, ParserError> {
    parser.expect_keyword(Keyword::TABLE)?;
    let relation = if parser.consume_token(&Token::LParen) {
        let relation = match parser.peek_token().token {
            Token::Word(w) if !matches!(w.keyword, Keyword::SELECT | Keyword::WITH | Keyword::FROM | Keyword::VALUES | Keyword::TABLE) => {
                named_table(parser.parse_object_name(true)?)
            }
            _ => TableFactor::Derived { lateral: false, subquery: parser.parse_query()?, alias: None, sample: None },
        };
        parser.expect_token(&Token::RParen)?;
        relation
    } else {
        named_table(parser.parse_object_name(true)?)
    };
    let keys = if parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) { parse_partition_keys(parser)? } else { vec![] };
    table_argument(relation, keys)
}

fn parse_partition_keys(parser: &mut Parser) -> Result<Vec<Expr>, ParserError> {
    if parser.consume_token(&Token::LParen) {
        let keys = parser.parse_comma_separated(parse_partition_key)?;
        parser.expect_token(&Token::RParen)?;
        return Ok(keys);
    }
    let mut keys = vec![parse_partition_key(parser)?];
    // Without parentheses the list of keys ends where the next argument of the function begins: at DESCRIPTOR(…), INTERVAL or a => b.
    loop {
        let [comma, word, after] = parser.peek_tokens::<3>();
        let goes_on = comma == Token::Comma
            && matches!(&word, Token::Word(w) if w.quote_style.is_some() || w.keyword != Keyword::INTERVAL)
            && !matches!(after, Token::LParen | Token::RArrow);
        if !goes_on {
            return Ok(keys);
        }
        parser.expect_token(&Token::Comma)?;
        keys.push(parse_partition_key(parser)?);
    }
}

fn parse_partition_key(parser: &mut Parser) -> Result<Expr, ParserError> {
    let mut parts = vec![parser.parse_identifier()?];
    while parser.consume_token(&Token::Period) {
        parts.push(parser.parse_identifier()?);
    }
    Ok(if parts.len() == 1 { Expr::Identifier(parts.remove(0)) } else { Expr::CompoundIdentifier(parts) })
}

fn named_table(name: ObjectName) -> TableFactor {
    TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    }
}

fn select_all() -> Result<Box<Query>, ParserError> {
    Parser::new(&GenericDialect).try_with_sql("SELECT * FROM t")?.parse_query()
}

/// The syntax tree of `TABLE relation PARTITION BY keys`.
fn table_argument(relation: TableFactor, keys: Vec<Expr>) -> Result<Expr, ParserError> {
    let mut query = select_all()?;
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.from = vec![TableWithJoins { relation, joins: vec![] }];
        select.distribute_by = keys;
    }
    Ok(Expr::Subquery(query))
}

/// The relation and keys of an argument that means a table: `TABLE t [PARTITION BY …]`, a name, or a subquery.
pub(crate) fn as_table_argument(argument: Expr) -> Option<(TableFactor, Vec<Expr>)> {
    match argument {
        Expr::Identifier(name) => Some((named_table(ObjectName::from(vec![name])), vec![])),
        Expr::CompoundIdentifier(parts) => Some((named_table(ObjectName::from(parts)), vec![])),
        Expr::Subquery(mut query) => {
            if let SetExpr::Select(select) = query.body.as_mut()
                && select.from.len() == 1
                && select.from[0].joins.is_empty()
            {
                let mut bare = select_all().ok()?;
                if let SetExpr::Select(bare) = bare.body.as_mut() {
                    (bare.from, bare.distribute_by) = (select.from.clone(), select.distribute_by.clone());
                }
                if bare == query
                    && let SetExpr::Select(select) = *query.body
                {
                    let keys = select.distribute_by;
                    return select.from.into_iter().next().map(|table| (table.relation, keys));
                }
            }
            Some((TableFactor::Derived { lateral: false, subquery: query, alias: None, sample: None }, vec![]))
        }
        _ => None,
    }
}

/// Rewrites `TUMBLE(t, …)` to `TUMBLE(TABLE t, …)` and `TABLE(TUMBLE(…))` to `TUMBLE(…)`, so that planning sees one form and table names in
/// arguments are found.
pub(crate) fn normalise(statement: &mut DfStatement) -> Result<(), SqlError> {
    walk::change_statement(statement, &mut OneForm)
}

struct OneForm;

impl VisitorMut for OneForm {
    type Break = End;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Flow {
        if let TableFactor::TableFunction { expr: Expr::Function(Function { name, args: FunctionArguments::List(list), .. }), alias } =
            factor
            && TableFunction::of(name).is_some()
        {
            let mut table = named_table(name.clone());
            if let TableFactor::Table { args: own_args, alias: own_alias, .. } = &mut table {
                *own_args = Some(TableFunctionArgs { args: std::mem::take(&mut list.args), settings: None });
                *own_alias = alias.take();
            }
            *factor = table;
        }
        if let TableFactor::Table { name, args: Some(args), .. } = factor
            && TableFunction::of(name).is_some()
        {
            let first = args.args.iter_mut().enumerate().find_map(|(i, arg)| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) if i == 0 => Some(expr),
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } if name.value.eq_ignore_ascii_case("data") => Some(expr),
                _ => None,
            });
            if let Some(expr) = first
                && matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
                && let Some((relation, keys)) = as_table_argument(expr.clone())
                && let Ok(argument) = table_argument(relation, keys)
            {
                *expr = argument;
            }
        }
        ControlFlow::Continue(())
    }
}

/// An identifier as DataFusion sees it: lower case unless quoted.
pub(crate) fn normalised(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}

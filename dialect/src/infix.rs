//! How operators between two expressions are read where sqlparser's own way does not do: chains of AND and OR, `IS [NOT] DISTINCT FROM`,
//! `IN` with a list that begins with a subquery, and chains of other operators that grow too long.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use watershed_functions::balanced;

use crate::bounds::CHAIN_MAX;

/// True if an expression has as many operators in a row as one may have: `1 + 1 + …`, `x::INT::INT…`.
///
/// sqlparser makes a tree of them that is as deep as the chain is long, and what walks the tree, or only frees it, is as deep.
pub(crate) fn is_too_long(mut expr: &Expr) -> bool {
    for _ in 0..CHAIN_MAX {
        match first_operand(expr) {
            Some(operand) => expr = operand,
            None => return false,
        }
    }
    true
}

/// What comes first in an expression that sqlparser makes around what it has read so far.
fn first_operand(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::BinaryOp { left, .. } | Expr::AnyOp { left, .. } | Expr::AllOp { left, .. } => Some(left),
        Expr::IsTrue(expr)
        | Expr::IsNotTrue(expr)
        | Expr::IsFalse(expr)
        | Expr::IsNotFalse(expr)
        | Expr::IsNull(expr)
        | Expr::IsNotNull(expr)
        | Expr::IsUnknown(expr)
        | Expr::IsNotUnknown(expr)
        | Expr::IsDistinctFrom(expr, _)
        | Expr::IsNotDistinctFrom(expr, _)
        | Expr::IsNormalized { expr, .. }
        | Expr::Like { expr, .. }
        | Expr::ILike { expr, .. }
        | Expr::SimilarTo { expr, .. }
        | Expr::RLike { expr, .. }
        | Expr::InList { expr, .. }
        | Expr::InSubquery { expr, .. }
        | Expr::InUnnest { expr, .. }
        | Expr::Between { expr, .. }
        | Expr::Cast { expr, .. }
        | Expr::Collate { expr, .. }
        | Expr::UnaryOp { expr, .. }
        | Expr::AtTimeZone { timestamp: expr, .. } => Some(expr),
        Expr::JsonAccess { value, .. } => Some(value),
        Expr::CompoundFieldAccess { root, .. } => Some(root),
        Expr::MemberOf(member) => Some(&member.value),
        _ => None,
    }
}

/// Reads what follows `first` if it is ours to read; `None` leaves it to sqlparser.
pub(crate) fn parse_infix(parser: &mut Parser, first: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
    match &parser.peek_token_ref().token {
        Token::Word(word) => match word.keyword {
            Keyword::AND => Some(parse_chain(parser, first, Keyword::AND, &BinaryOperator::And, precedence)),
            Keyword::OR => Some(parse_chain(parser, first, Keyword::OR, &BinaryOperator::Or, precedence)),
            Keyword::IS => parse_distinct_from(parser, first, precedence),
            Keyword::IN | Keyword::NOT => parse_in(parser, first),
            _ => None,
        },
        _ => None,
    }
}

/// `first OR b OR c OR …` to a tree whose depth is the logarithm of the number of terms. AND and OR may be grouped in any way, and the order of
/// the terms stays.
fn parse_chain(
    parser: &mut Parser,
    first: &Expr,
    keyword: Keyword,
    operator: &BinaryOperator,
    precedence: u8,
) -> Result<Expr, ParserError> {
    let mut terms = vec![first.clone()];
    while parser.parse_keyword(keyword) {
        terms.push(parser.parse_subexpr(precedence)?);
    }
    let join = |left, right| Expr::BinaryOp { left: Box::new(left), op: operator.clone(), right: Box::new(right) };
    balanced(terms, join).ok_or_else(|| ParserError::ParserError(format!("Expected: an expression before {operator}")))
}

/// `first [NOT] IN ((…`: a query, or a list that begins with an expression in brackets. sqlparser takes a list that begins with a subquery for a
/// query, and does not look again.
fn parse_in(parser: &mut Parser, first: &Expr) -> Option<Result<Expr, ParserError>> {
    let negated = parser.peek_keyword(Keyword::NOT);
    let is_in = |token: &Token| matches!(token, Token::Word(word) if word.keyword == Keyword::IN);
    let [a, b, c, d] = parser.peek_tokens::<4>();
    let (word, brackets) = if negated { (&b, [&c, &d]) } else { (&a, [&b, &c]) };
    if !is_in(word) || brackets.iter().any(|bracket| **bracket != Token::LParen) {
        return None;
    }
    (0..2 + usize::from(negated)).for_each(|_| drop(parser.next_token()));
    Some(in_brackets(parser, first, negated))
}

fn in_brackets(parser: &mut Parser, first: &Expr, negated: bool) -> Result<Expr, ParserError> {
    let expr = Box::new(first.clone());
    let query = parser.maybe_parse(|parser| {
        let query = parser.parse_query()?;
        parser.expect_token(&Token::RParen)?;
        Ok(query)
    })?;
    if let Some(subquery) = query {
        return Ok(Expr::InSubquery { expr, subquery, negated });
    }
    let list = parser.parse_comma_separated(Parser::parse_expr)?;
    parser.expect_token(&Token::RParen)?;
    Ok(Expr::InList { expr, list, negated })
}

/// `first IS [NOT] DISTINCT FROM b`, where b ends at what binds less than IS. sqlparser takes all that follows, `AND …` included.
fn parse_distinct_from(parser: &mut Parser, first: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
    let negated = parser.parse_keywords(&[Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM]);
    if !negated && !parser.parse_keywords(&[Keyword::IS, Keyword::DISTINCT, Keyword::FROM]) {
        return None;
    }
    Some(parser.parse_subexpr(precedence).map(|second| {
        let (first, second) = (Box::new(first.clone()), Box::new(second));
        if negated { Expr::IsNotDistinctFrom(first, second) } else { Expr::IsDistinctFrom(first, second) }
    }))
}

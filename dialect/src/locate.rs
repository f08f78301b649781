//! Finds the place in a text that a message without a place speaks of.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use watershed_message::Message;

use crate::syntax::WatershedDialect;
use crate::{SqlError, Statement};

/// A piece of a text, and where in the whole it begins. Places in a syntax tree count from the start of the whole.
#[derive(Clone, Copy)]
pub(crate) struct Excerpt<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: u64,
    pub(crate) column: u64,
}

impl<'a> Excerpt<'a> {
    /// The whole text.
    pub(crate) fn whole(text: &'a str) -> Self {
        Self { text, line: 1, column: 1 }
    }
}

/// A line and a column of the whole text.
pub(crate) type Place = (u64, u64);

/// Where a name is first written as a word, outside of strings and comments.
pub(crate) fn find_word(text: Excerpt, word: &str) -> Option<Place> {
    find(text, |token| matches!(token, Token::Word(w) if w.value.eq_ignore_ascii_case(word)))
}

/// True if a name in double quotes is at a place.
pub(crate) fn is_quoted_name(text: Excerpt, place: Place) -> bool {
    let here = |t: &&TokenWithSpan| moved(text, t) == Some(place);
    tokens(text).iter().find(here).is_some_and(|t| matches!(&t.token, Token::Word(w) if w.quote_style == Some('"')))
}

/// A name without quotes that something is compared with, as it was written: `berlin` in `city = berlin`; most likely a text.
pub(crate) fn compared_name(text: Excerpt, place: Place) -> Option<String> {
    let tokens: Vec<TokenWithSpan> = tokens(text).into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).collect();
    let at = tokens.iter().position(|t| moved(text, t) == Some(place))?;
    let Token::Word(word) = &tokens[at].token else { return None };
    let before: Vec<&Token> = tokens[..at].iter().rev().map(|t| &t.token).collect();
    let keyword =
        |token: &Token, names: &[&str]| matches!(token, Token::Word(w) if names.iter().any(|name| w.value.eq_ignore_ascii_case(name)));
    let compared = match before.as_slice() {
        [Token::Eq | Token::Neq | Token::Lt | Token::Gt | Token::LtEq | Token::GtEq, ..] => true,
        [first, ..] if keyword(first, &["LIKE", "ILIKE", "BETWEEN"]) => true,
        // Somewhere in the list of an IN.
        [Token::LParen | Token::Comma, ..] => {
            let list = before.iter().position(|token| matches!(token, Token::LParen));
            list.and_then(|open| before.get(open + 1)).is_some_and(|token| keyword(token, &["IN"]))
        }
        _ => false,
    };
    (compared && word.quote_style.is_none()).then(|| word.value.clone())
}

/// Fills in where an error is, if it does not say, from what its message quotes: `'x'`, `name()`, or SQL words in capitals.
pub(crate) fn placed_by_message(error: SqlError, text: Excerpt) -> SqlError {
    if error.line.is_some() {
        return error;
    }
    match place_in(&error.message, text) {
        Some((line, column)) => error.at(line, column),
        None => error,
    }
}

/// What cannot be computed of the constants of a statement, at the place of the text that the message quotes; `None` if the statement has no such text.
pub fn placed_in(statement: &Statement, message: &Message) -> Option<SqlError> {
    let text = Excerpt { text: &statement.text, line: statement.line, column: statement.column };
    let said = std::iter::once(&message.what).chain(&message.why);
    let mut quoted = said.flat_map(|said| said.split('\'').skip(1).step_by(2)).filter(|quoted| !quoted.is_empty());
    let (line, column) =
        quoted.find_map(|quoted| find(text, |token| matches!(token, Token::SingleQuotedString(text) if text == quoted)))?;
    Some(SqlError::from(message.clone()).at(line, column))
}

/// The error with the place in `query` of what its message quotes.
pub fn placed(error: SqlError, query: &str) -> SqlError {
    placed_by_message(error, Excerpt::whole(query)).at_least(1, 1)
}

fn place_in(message: &str, text: Excerpt) -> Option<Place> {
    let quoted = message.split('\'').skip(1).step_by(2).filter(|q| !q.is_empty());
    let by_quotes = quoted.clone().find_map(|q| find(text, |t| matches!(t, Token::SingleQuotedString(s) if s == q)));
    let by_names = || quoted.clone().find_map(|q| words(q).next_back().and_then(|word| find_word(text, word)));
    let by_calls =
        || message.match_indices("()").find_map(|(at, _)| words(&message[..at]).next_back().and_then(|word| find_word(text, word)));
    let capitals =
        || message.split(|c: char| !c.is_ascii_alphabetic()).filter(|w| w.len() > 3 && w.chars().all(|c| c.is_ascii_uppercase()));
    by_quotes.or_else(by_names).or_else(by_calls).or_else(|| capitals().find_map(|word| find_word(text, word)))
}

fn words(piece: &str) -> impl DoubleEndedIterator<Item = &str> {
    piece.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').filter(|w| !w.is_empty())
}

fn find(text: Excerpt, wanted: impl Fn(&Token) -> bool) -> Option<Place> {
    tokens(text).iter().find(|t| wanted(&t.token)).and_then(|t| moved(text, t))
}

fn tokens(text: Excerpt) -> Vec<TokenWithSpan> {
    Tokenizer::new(&WatershedDialect::default(), text.text).tokenize_with_location().unwrap_or_default()
}

fn moved(text: Excerpt, token: &TokenWithSpan) -> Option<Place> {
    let start = token.span.start;
    let place = SqlError::new("").at(start.line, start.column).within(text.line, text.column);
    place.line.zip(place.column)
}

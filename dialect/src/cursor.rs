//! Walks over tokens for the statements that are ours, and makes errors that point at the token that surprised.

use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Word};

use crate::SqlError;
use crate::nearest::did_you_mean;
use crate::syntax::normalised;

/// A borrowed parser with the few moves that our statements need. Words are compared in any case and need not be keywords of sqlparser.
pub(crate) struct Cursor<'p, 'd> {
    pub(crate) parser: &'p mut Parser<'d>,
    /// Half of a `>>` that closed one angle bracket and is to close another.
    half_closed: bool,
}

impl<'p, 'd> Cursor<'p, 'd> {
    pub(crate) fn new(parser: &'p mut Parser<'d>) -> Self {
        Self { parser, half_closed: false }
    }

    pub(crate) fn here(&self) -> Location {
        self.parser.peek_token_ref().span.start
    }

    /// An error at the next token.
    pub(crate) fn error(&self, message: impl Into<String>) -> SqlError {
        error_at(self.here(), message)
    }

    /// "expected …, found …" at the next token.
    pub(crate) fn expected(&self, what: &str) -> SqlError {
        let found = match &self.parser.peek_token_ref().token {
            Token::EOF => "the end of the text".to_string(),
            token => format!("'{token}'"),
        };
        self.error(format!("expected {what}, found {found}"))
    }

    pub(crate) fn peek_word(&self) -> Option<&Word> {
        word_of(self.parser.peek_token_ref())
    }

    pub(crate) fn peeks(&self, word: &str) -> bool {
        self.peek_word().is_some_and(|w| is(w, word))
    }

    /// Takes all of `words` or nothing.
    pub(crate) fn take(&mut self, words: &[&str]) -> bool {
        let there = words.iter().enumerate().all(|(i, word)| word_of(self.parser.peek_nth_token_ref(i)).is_some_and(|w| is(w, word)));
        if there {
            for _ in words {
                self.parser.advance_token();
            }
        }
        there
    }

    pub(crate) fn expect(&mut self, words: &[&str]) -> Result<(), SqlError> {
        for word in words {
            if !self.take(&[word]) {
                let hint = self.peek_word().and_then(|w| did_you_mean(&w.value, [*word]));
                return Err(self.expected(&words.join(" ")).maybe_hint(hint));
            }
        }
        Ok(())
    }

    pub(crate) fn take_token(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    pub(crate) fn expect_token(&mut self, token: &Token) -> Result<(), SqlError> {
        if self.take_token(token) { Ok(()) } else { Err(self.expected(&format!("'{token}'"))) }
    }

    /// An identifier: lower case unless quoted.
    pub(crate) fn name(&mut self, what: &str) -> Result<(String, Location), SqlError> {
        let TokenWithSpan { token, span } = self.parser.peek_token_ref().clone();
        match token {
            Token::Word(word) => {
                self.parser.advance_token();
                Ok((normalised(&word.into_ident(span)), span.start))
            }
            _ => Err(self.expected(what)),
        }
    }

    /// The text of `'…'`.
    pub(crate) fn string(&mut self, what: &str) -> Result<String, SqlError> {
        match self.parser.peek_token_ref().token.clone() {
            Token::SingleQuotedString(text) => {
                self.parser.advance_token();
                Ok(text)
            }
            _ => Err(self.expected(&format!("{what} in single quotes"))),
        }
    }

    /// A whole number.
    pub(crate) fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, SqlError> {
        let number = match &self.parser.peek_token_ref().token {
            Token::Number(digits, _) => digits.parse().ok(),
            _ => None,
        };
        let number = number.ok_or_else(|| self.expected(what))?;
        self.parser.advance_token();
        Ok(number)
    }

    /// `>`, or half of a `>>`.
    pub(crate) fn close_angle(&mut self) -> Result<(), SqlError> {
        if std::mem::take(&mut self.half_closed) || self.take_token(&Token::Gt) {
            return Ok(());
        }
        if self.take_token(&Token::ShiftRight) {
            self.half_closed = true;
            return Ok(());
        }
        Err(self.expected("'>'"))
    }

    /// True between the two halves of a `>>`.
    pub(crate) fn is_half_closed(&self) -> bool {
        self.half_closed
    }

    /// `item, item, …` up to and with `)`; the `(` is taken already.
    pub(crate) fn list(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), SqlError>) -> Result<(), SqlError> {
        loop {
            item(self)?;
            if self.take_token(&Token::RParen) {
                return Ok(());
            }
            if !self.take_token(&Token::Comma) {
                return Err(self.expected("',' or ')'"));
            }
        }
    }
}

pub(crate) fn error_at(place: Location, message: impl Into<String>) -> SqlError {
    let error = SqlError::new(message);
    // The end of the text has no place; a caller that knows the text fills it in.
    if place.line == 0 { error } else { error.at(place.line, place.column) }
}

fn word_of(token: &TokenWithSpan) -> Option<&Word> {
    match &token.token {
        Token::Word(word) => Some(word),
        _ => None,
    }
}

fn is(word: &Word, wanted: &str) -> bool {
    word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted)
}

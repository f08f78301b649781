//! What was wrong with a piece of SQL, where, and the nearest thing that works.
//!
//! ```
//! use watershed_dialect::SqlError;
//! let text = "SELECT citty\nFROM rides";
//! let error = SqlError::new("column 'citty' does not exist").at(1, 8).hint("did you mean 'city'?");
//! assert!(error.render(text, Some("demand.sql")).contains("demand.sql:1:8"));
//! ```

use std::fmt;

use unicode_width::UnicodeWidthStr;
use watershed_message::{Message, visible};

/// How a tab is shown.
const TAB: &str = "    ";

/// A refusal of a piece of SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// What is wrong, in one line.
    pub message: String,
    /// Why, or what there is to choose from.
    pub detail: Option<String>,
    /// What to do next.
    pub hint: Option<String>,
    /// Line in the text that was given, from 1.
    pub line: Option<u64>,
    /// Column in that line in characters, from 1.
    pub column: Option<u64>,
}

impl SqlError {
    /// An error that says only what is wrong.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), detail: None, hint: None, line: None, column: None }
    }

    /// Adds why.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what to do next, if there is something to say.
    pub fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    /// Says where. Lines and columns count from 1.
    pub fn at(mut self, line: u64, column: u64) -> Self {
        (self.line, self.column) = (Some(line), Some(column));
        self
    }

    /// Says where, unless that is known already.
    pub fn at_least(self, line: u64, column: u64) -> Self {
        if self.line.is_some() { self } else { self.at(line, column) }
    }

    /// Moves a place that counts from the start of an excerpt to the whole text, in which the excerpt starts at `line` and `column`.
    pub fn within(mut self, line: u64, column: u64) -> Self {
        match (self.line, self.column) {
            (Some(1), own) => (self.line, self.column) = (Some(line), own.map(|c| c + column - 1)),
            (Some(own), _) => self.line = Some(own + line - 1),
            (None, _) => (self.line, self.column) = (Some(line), Some(column)),
        }
        self
    }

    /// What is wrong and where, why, and what to do next.
    pub fn message(&self) -> Message {
        let what = match (self.line, self.column) {
            (Some(line), Some(column)) => format!("{} (line {line}, column {column})", self.message),
            _ => self.message.clone(),
        };
        Message { what, why: self.detail.clone(), next: self.hint.clone() }
    }

    /// The error with the line it speaks of, secrets in it covered, and a caret below the place. `text` is the whole text, `file` its name.
    pub fn render(&self, text: &str, file: Option<&str>) -> String {
        let text = &crate::masked::masked(text);
        let mut out = format!("error: {}\n", self.message);
        if let Some(line) = self.line {
            let column = self.column.unwrap_or(1);
            let shown = text.lines().nth(line.saturating_sub(1) as usize).unwrap_or("");
            // A tab is as wide as its reader says, so that no caret could be below what follows.
            let spelt = |c: char| if c == '\t' { TAB.to_owned() } else { visible(c.encode_utf8(&mut [0; 4])) };
            let before: String = shown.chars().take(column.saturating_sub(1) as usize).map(spelt).collect();
            let pad = " ".repeat(before.width());
            let shown: String = shown.chars().map(spelt).collect();
            let width = line.to_string().len();
            let gutter = " ".repeat(width);
            out += &format!("{gutter}--> {}:{line}:{column}\n", file.unwrap_or("line"));
            out += &format!("{gutter} |\n{line} | {shown}\n{gutter} | {pad}^\n");
        }
        if let Some(detail) = &self.detail {
            out += &format!("  detail: {detail}\n");
        }
        if let Some(hint) = &self.hint {
            out += &format!("  hint: {hint}\n");
        }
        out
    }
}

impl From<Message> for SqlError {
    fn from(Message { what, why, next }: Message) -> Self {
        Self { message: what, detail: why, hint: next, line: None, column: None }
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.message(), f)
    }
}

impl std::error::Error for SqlError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_the_place() {
        let text = "SELECT a,\n\tcitty\nFROM rides";
        let rendered = SqlError::new("column 'citty' does not exist").at(2, 2).hint("did you mean 'city'?").render(text, Some("x.sql"));
        let expected =
            "error: column 'citty' does not exist\n --> x.sql:2:2\n  |\n2 |     citty\n  |     ^\n  hint: did you mean 'city'?\n";
        assert_eq!(rendered, expected);
    }

    #[test]
    fn the_caret_is_below_what_follows_wide_characters_and_marks() {
        let rendered = SqlError::new("no").at(1, 8).render("SELECT '東京', x", None);
        assert!(rendered.contains("| SELECT '東京', x\n  |        ^"), "{rendered}");
        let rendered = SqlError::new("no").at(1, 14).render("SELECT '東京', x\u{202e}", None);
        assert!(rendered.contains("x\\u{202e}\n  |                ^"), "{rendered}");
    }

    #[test]
    fn a_place_past_the_text_is_shown_without_panic() {
        assert!(SqlError::new("unfinished").at(9, 40).render("SELECT", None).contains("line:9:40"));
    }

    #[test]
    fn an_excerpt_moves_to_its_place_in_the_whole() {
        let at = |e: SqlError| (e.line, e.column);
        assert_eq!(at(SqlError::new("x").at(1, 3).within(10, 5)), (Some(10), Some(7)));
        assert_eq!(at(SqlError::new("x").at(2, 3).within(10, 5)), (Some(11), Some(3)));
        assert_eq!(at(SqlError::new("x").within(10, 5)), (Some(10), Some(5)));
    }
}

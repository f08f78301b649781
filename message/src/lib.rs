//! What an error tells a person: what happened, why, and what to do next, each by itself until it is shown.
//!
//! A text is made of the three only where it leaves the process: the terminal, an HTTP answer, a Flight status, the log. Nothing takes such a text
//! apart again: values in it may hold any character.
//!
//! ```
//! use watershed_message::Message;
//! let message = Message::new("cannot read 'a; b'").why("it is gone").next("restore it");
//! assert_eq!(message.to_string(), "cannot read 'a; b': it is gone; restore it");
//! assert_eq!(message.within("cannot start").why.as_deref(), Some("cannot read 'a; b': it is gone"));
//! ```

use std::any::Any;
use std::fmt;

/// See the crate's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What happened.
    pub what: String,
    /// Why.
    pub why: Option<String>,
    /// What to do next.
    pub next: Option<String>,
}

impl Message {
    /// Says what happened.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), why: None, next: None }
    }

    /// Says why.
    pub fn why(self, why: impl Into<String>) -> Self {
        Self { why: Some(why.into()), ..self }
    }

    /// Says what to do next.
    pub fn next(self, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..self }
    }

    /// What happened and why.
    pub fn said(&self) -> String {
        match &self.why {
            Some(why) => format!("{}: {why}", self.what),
            None => self.what.clone(),
        }
    }

    /// The message of something larger that happened because of this; what to do next is the same.
    pub fn within(self, what: impl Into<String>) -> Self {
        Self { what: what.into(), why: Some(self.said()), next: self.next }
    }
}

/// Only what happened.
impl From<String> for Message {
    fn from(what: String) -> Self {
        Self::new(what)
    }
}

/// Only what happened.
impl From<&str> for Message {
    fn from(what: &str) -> Self {
        Self::new(what)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(why) = &self.why {
            write!(f, ": {why}")?;
        }
        if let Some(next) = &self.next {
            write!(f, "; {next}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Message {}

/// What a panic says, if it says something.
pub fn panic_text(panic: &(dyn Any + Send)) -> Option<&str> {
    panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied())
}

/// Makes visible what would steer the terminal: control characters, and marks that turn the direction of what follows.
pub fn visible(text: &str) -> String {
    if !text.chars().any(steers) {
        return text.to_owned();
    }
    text.chars().map(|c| if steers(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// The same for text of several lines.
pub fn visible_lines(text: &str) -> String {
    text.split('\n').map(visible).collect::<Vec<_>>().join("\n")
}

fn steers(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let unseen =
        matches!(c, '\u{ad}' | '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}');
    c.is_control() || turns || unseen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_cannot_steer_the_terminal() {
        assert_eq!(visible("a\nb\x1b[31m"), "a\\nb\\u{1b}[31m");
        // Marks that turn the direction of what follows, and such as cannot be seen; letters of any language stay.
        assert_eq!(visible("exe\u{202e}cod.txt \u{2066}x\u{feff}"), "exe\\u{202e}cod.txt \\u{2066}x\\u{feff}");
        assert_eq!(visible("العربية 👩\u{200d}🚀 東京"), "العربية 👩\u{200d}🚀 東京");
    }
}

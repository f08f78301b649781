//! How an error is said: what happened, why, what to do next.

use std::io::Write;

use watershed_batch::BatchError;
use watershed_dialect::SqlError;
use watershed_ingest::IngestError;
use watershed_lake::LakeError;
use watershed_message::{Message, visible_lines};
use watershed_query::QueryError;
use watershed_simulator::SimulatorError;
use watershed_stream::StreamError;

use crate::terminal::{Terminal, paint};

/// An error that has been laid out already, for example SQL with its caret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Rendered(pub String);

/// Writes an error to standard error.
pub fn error(error: &anyhow::Error, terminal: &Terminal) {
    // If this fails, there is nowhere else to say it.
    let _ = write!(std::io::stderr(), "{}", render(error, terminal.color_error()));
}

/// What an error says, in parts; only the text, if it is none of ours.
pub fn message_of(error: &(dyn std::error::Error + 'static)) -> Message {
    let own = error.downcast_ref::<Message>().cloned();
    own.or_else(|| error.downcast_ref().map(StreamError::message))
        .or_else(|| error.downcast_ref().map(BatchError::message))
        .or_else(|| error.downcast_ref().map(QueryError::message))
        .or_else(|| error.downcast_ref().map(IngestError::message))
        .or_else(|| error.downcast_ref().map(LakeError::message))
        .or_else(|| error.downcast_ref().map(SqlError::message))
        .or_else(|| error.downcast_ref().map(SimulatorError::message))
        .unwrap_or_else(|| Message::new(error.to_string()))
}

/// The text of an error, what to do next on a line of its own.
pub fn render(error: &anyhow::Error, color: bool) -> String {
    let word = paint("error:", "1;31", color);
    if let Some(Rendered(text)) = error.downcast_ref() {
        let text = visible_lines(text);
        let rest = text.strip_prefix("error:").unwrap_or(&text).trim();
        return format!("{word} {rest}\n");
    }
    let mut out = String::new();
    let mut hint = None;
    let mut before = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // Transparent errors repeat their cause.
        if before.contains(&text) {
            continue;
        }
        let message = message_of(cause);
        let lead = if out.is_empty() { word.clone() } else { "  because:".to_owned() };
        out.push_str(&format!("{lead} {}\n", visible_lines(&message.said())));
        hint = hint.or(message.next);
        before = text;
    }
    if let Some(hint) = hint {
        out.push_str(&format!("  {} {}\n", paint("hint:", "1", color), visible_lines(&hint)));
    }
    out
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn what_why_and_what_next_stand_on_lines_of_their_own() {
        let missing = Message::new("table silver.x does not exist").next("`watershed apply` makes it");
        let error = anyhow::Error::new(missing).context("cannot start the pipeline");
        assert_eq!(
            render(&error, false),
            "error: cannot start the pipeline\n  because: table silver.x does not exist\n  hint: `watershed apply` makes it\n"
        );
        assert_eq!(render(&anyhow!("no way"), false), "error: no way\n");
    }

    /// Values may hold what the parts are shown with.
    #[test]
    fn nothing_is_taken_apart_again() {
        let error = anyhow!("cannot read 'a; b: c'").context("cannot apply 'no; such'");
        assert_eq!(render(&error, false), "error: cannot apply 'no; such'\n  because: cannot read 'a; b: c'\n");
        let path = "x; y: z".to_owned();
        let error = anyhow::Error::new(LakeError::Damaged { path, reason: "it ends; early".to_owned() });
        let hint = "restore it from a copy, or make the table anew (`watershed rebuild TABLE` if a pipeline writes it)";
        assert_eq!(render(&error, false), format!("error: 'x; y: z' is damaged: it ends; early\n  hint: {hint}\n"));
    }

    /// Values and names of files may hold what steers a terminal.
    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(render(&anyhow!("no file 'exe\u{202e}cod'\n\x1b[2J"), false), "error: no file 'exe\\u{202e}cod'\n\\u{1b}[2J\n");
        let sql = anyhow::Error::new(Rendered("error: no\n --> \u{2066}x.sql:1:2\n".to_owned()));
        assert_eq!(render(&sql, false), "error: no\n --> \\u{2066}x.sql:1:2\n");
    }

    #[test]
    fn sql_errors_keep_their_caret() {
        let error = anyhow::Error::new(Rendered("error: unknown column\n --> x.sql:1:2\n".to_owned()));
        assert_eq!(render(&error, false), "error: unknown column\n --> x.sql:1:2\n");
    }
}

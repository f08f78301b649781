//! How an error is said: what happened, why, what to do next.

use std::io::Write;

use crate::terminal::{Terminal, paint};

/// An error that has been laid out already, for example SQL with its caret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Rendered(pub String);

/// Writes an error to standard error.
pub fn error(error: &anyhow::Error, terminal: &Terminal) {
    // There is nobody else to tell if this fails.
    let _ = write!(std::io::stderr(), "{}", render(error, terminal.color_error()));
}

/// The text of an error. The crates write `what happened: why; what to do next`: the last part becomes a line of its own.
pub fn render(error: &anyhow::Error, color: bool) -> String {
    let word = paint("error:", "1;31", color);
    if let Some(Rendered(text)) = error.downcast_ref() {
        let rest = text.strip_prefix("error:").unwrap_or(text).trim();
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
        let (said, next) = text.split_once("; ").unwrap_or((&text, ""));
        if !next.is_empty() && hint.is_none() {
            hint = Some(next.to_owned());
        }
        let lead = if out.is_empty() { word.clone() } else { "  because:".to_owned() };
        out.push_str(&format!("{lead} {said}\n"));
        before = text;
    }
    if let Some(hint) = hint {
        out.push_str(&format!("  {} {hint}\n", paint("hint:", "1", color)));
    }
    out
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn what_why_and_what_next_stand_on_lines_of_their_own() {
        let error = anyhow!("table silver.x does not exist; `watershed apply` makes it").context("cannot start the pipeline");
        assert_eq!(
            render(&error, false),
            "error: cannot start the pipeline\n  because: table silver.x does not exist\n  hint: `watershed apply` makes it\n"
        );
        assert_eq!(render(&anyhow!("no way"), false), "error: no way\n");
    }

    #[test]
    fn sql_errors_keep_their_caret() {
        let error = anyhow::Error::new(Rendered("error: unknown column\n --> x.sql:1:2\n".to_owned()));
        assert_eq!(render(&error, false), "error: unknown column\n --> x.sql:1:2\n");
    }
}

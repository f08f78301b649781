//! Secrets in clear text do not belong in a definition; an error about one must not show them either.

use crate::definition::{holds_secret, is_secret};

/// `text` with what is written in quotes as the value of a secret setting covered, character by character, so that places stay what they are.
pub(crate) fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('\'') {
        let (before, quoted) = (&rest[..open], &rest[open + 1..]);
        let end = end_of_quoted(quoted);
        let value = &quoted[..end];
        out.push_str(before);
        out.push('\'');
        if is_secret(option_before(&out[..out.len() - 1])) || holds_secret(value) {
            out.extend(value.chars().map(|letter| if letter == '\n' || letter == '\r' { letter } else { '*' }));
        } else {
            out.push_str(value);
        }
        rest = &quoted[end..];
        if rest.starts_with('\'') {
            out.push('\'');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}

/// Where a text in quotes ends: at a quote that is not doubled, or at the end of all.
fn end_of_quoted(text: &str) -> usize {
    let mut from = 0;
    while let Some(found) = text[from..].find('\'').map(|found| from + found) {
        if !text[found + 1..].starts_with('\'') {
            return found;
        }
        from = found + 2;
    }
    text.len()
}

/// The name in `name =` or `'name' =` at the end of `text`; empty if there is none.
fn option_before(text: &str) -> &str {
    let Some(text) = text.trim_end().strip_suffix('=') else { return "" };
    let text = text.trim_end();
    let text = text.strip_suffix(['\'', '"']).unwrap_or(text);
    let before = text.trim_end_matches(|letter: char| letter.is_alphanumeric() || matches!(letter, '.' | '_' | '-'));
    &text[before.len()..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SqlError;

    #[test]
    fn an_error_shows_the_line_without_its_secret() {
        let text = "WITH (kafka.sasl.password = 'hunter2', topci = 'x')";
        let rendered = SqlError::new("no option 'topci'").at(1, 40).render(text, None);
        assert!(rendered.contains("password = '*******', topci = 'x'"), "{rendered}");
    }

    #[test]
    fn only_values_of_secrets_are_covered() {
        for (text, expected) in [
            ("kafka.sasl.password = 'it''s me', topic = 'x'", "kafka.sasl.password = '********', topic = 'x'"),
            ("'kafka.sasl.password'='a\nb', x = 'c'", "'kafka.sasl.password'='*\n*', x = 'c'"),
            ("\"kafka.ssl.key.pem\" = 'é", "\"kafka.ssl.key.pem\" = '*"),
            ("x = 'a; password=b'", "x = '*************'"),
            ("SELECT 'a' = 'b', password = 'c' FROM 't'", "SELECT 'a' = 'b', password = '*' FROM 't'"),
            ("kafka.sasl.password = secret('NAME')", "kafka.sasl.password = secret('NAME')"),
            ("→= 'a'", "→= 'a'"),
            ("", ""),
        ] {
            assert_eq!(masked(text), expected);
        }
    }
}

//! Parameters of a statement: `?` becomes `$1`, `$2`, … in the order of the text, so that planning sees one form.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::SqlError;

/// Numbers each `?` within its statement. A statement that also writes `$1` itself is refused: which is which could not be told.
pub(crate) fn number(tokens: &mut [TokenWithSpan]) -> Result<(), SqlError> {
    for statement in tokens.split_mut(|token| token.token == Token::SemiColon) {
        let named = statement.iter().any(|token| matches!(&token.token, Token::Placeholder(name) if name.starts_with('$')));
        let mut last = 0;
        for token in statement {
            let Token::Placeholder(name) = &mut token.token else { continue };
            let Some(digits) = name.strip_prefix('?') else { continue };
            if named {
                let (line, column) = (token.span.start.line, token.span.start.column);
                return Err(SqlError::new("the statement has parameters of two kinds, ? and $1")
                    .at(line, column)
                    .hint("write all of them as $1, $2, …, or all as ?"));
            }
            if digits.is_empty() {
                last += 1;
                *name = format!("${last}");
            } else {
                *name = format!("${digits}");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{StatementKind, parse};

    fn written(text: &str) -> Vec<String> {
        let shown = |statement: crate::Statement| match statement.kind {
            StatementKind::Other(parsed) => parsed.to_string(),
            other => format!("{other:?}"),
        };
        parse(text).unwrap().into_iter().map(shown).collect()
    }

    #[test]
    fn question_marks_are_numbered_within_their_statement() {
        assert_eq!(
            written("FROM t SELECT a + ? WHERE b = '?' AND c > ? -- ?\n LIMIT ?; SELECT ?"),
            ["FROM t SELECT a + $1 WHERE b = '?' AND c > $2 LIMIT $3", "SELECT $1"]
        );
        assert_eq!(written("SELECT ?2, ?1"), ["SELECT $2, $1"]);
        assert_eq!(written("SELECT $2, $city FROM t$late"), ["SELECT $2, $city FROM t$late"]);
    }

    #[test]
    fn two_kinds_in_one_statement_are_refused_at_their_place() {
        let error = parse("SELECT $1,\n ?").unwrap_err();
        assert_eq!((error.line, error.column), (Some(2), Some(2)), "{error}");
    }
}

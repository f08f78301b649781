//! Whether two texts say the same, blanks, comments and the case of words aside.

use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::syntax::WatershedDialect;

/// True if two pieces of SQL differ in nothing but blanks, comments, and how words without quotes are capitalised.
pub fn same_sql(one: &str, other: &str) -> bool {
    one == other || words(one).zip(words(other)).is_some_and(|(one, other)| one == other)
}

fn words(text: &str) -> Option<Vec<Token>> {
    let tokens = Tokenizer::new(&WatershedDialect::default(), text).tokenize().ok()?;
    let told_apart = tokens.into_iter().filter_map(|token| match token {
        Token::Whitespace(_) => None,
        Token::Word(mut word) => {
            if word.quote_style.is_none() {
                word.value = word.value.to_lowercase();
            }
            Some(Token::Word(word))
        }
        other => Some(other),
    });
    Some(told_apart.collect())
}

#[cfg(test)]
mod tests {
    use super::same_sql;

    #[test]
    fn blanks_comments_and_capitals_say_nothing() {
        assert!(same_sql("SELECT a FROM t -- all\n WHERE b = 'X'", "select A\nfrom /* the */ T where b='X'"));
        for other in ["SELECT a FROM t WHERE b = 'x'", "SELECT \"A\" FROM t WHERE b = 'X'", "SELECT a FROM t WHERE b = 'X' AND c"] {
            assert!(!same_sql("SELECT a FROM t WHERE b = 'X'", other), "{other}");
        }
    }
}

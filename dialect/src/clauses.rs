//! What streaming tables and materialized views write alike: `schema.table`, `PARTITIONED BY (…)`, and whether there are constraints.

use datafusion::sql::sqlparser::tokenizer::{Location, Token};

use crate::SqlError;
use crate::cursor::{Cursor, error_at};
use crate::nearest::nearest;

/// The longest name: with what is put after it (`$violations`, `$quarantine`, a dash and a hash) it is one of a file in any file system.
const NAME_BYTES_MAX: usize = 230;

/// Whether the parentheses that open here hold constraints (or something meant as such) and not columns.
pub(crate) fn names_constraints(cursor: &Cursor) -> bool {
    let [_, first, _, third] = cursor.parser.peek_tokens_ref::<4>();
    let is = |token: &Token, words: &[&str]| matches!(token, Token::Word(w) if nearest(&w.value, words.iter().copied()).is_some());
    is(&first.token, &["constraint", "expect"]) || is(&third.token, &["expect"])
}

/// `schema.table`, both of them names that a folder can have; `what` is to be named.
pub(crate) fn parse_table_name(cursor: &mut Cursor, what: &str) -> Result<(String, String), SqlError> {
    let (schema, place) = cursor.name("schema.table")?;
    if !cursor.take_token(&Token::Period) {
        return Err(error_at(place, format!("'{schema}' names no schema")).hint(format!("write schema.table, such as silver.{schema}")));
    }
    let (table, table_place) = cursor.name("a table's name")?;
    check_name(&schema, place)?;
    check_name(&table, table_place)?;
    check_length(&format!("{schema}.{table}"), "a table", table_place)?;
    if cursor.parser.peek_token_ref().token == Token::Period {
        return Err(cursor.error(format!("{what}'s name has two parts")).hint(format!("write {schema}.{table}")));
    }
    Ok((schema, table))
}

/// `(column, …)`, what follows `PARTITIONED BY`.
pub(crate) fn parse_partitioning(cursor: &mut Cursor) -> Result<Vec<String>, SqlError> {
    let mut columns: Vec<String> = vec![];
    cursor.expect_token(&Token::LParen)?;
    cursor.list(|cursor| {
        let (column, place) = cursor.name("a column's name")?;
        if columns.contains(&column) {
            return Err(error_at(place, format!("column '{column}' stands twice in PARTITIONED BY")));
        }
        columns.push(column);
        Ok(())
    })?;
    Ok(columns)
}

/// Fails if folders could not be called so. Side tables and lists of files add some letters to a name, and file systems take 255 bytes.
pub(crate) fn check_length(name: &str, what: &str, place: Location) -> Result<(), SqlError> {
    if name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    let shown: String = name.chars().take(30).collect();
    let error = error_at(place, format!("'{shown}…' is too long to name {what}: it has {} bytes", name.len()));
    Err(error.hint(format!("{NAME_BYTES_MAX} are the limit")))
}

fn check_name(name: &str, place: Location) -> Result<(), SqlError> {
    // Stores and readers of URLs spell other letters differently.
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && !name.starts_with('_') && name.chars().all(allowed) {
        return Ok(());
    }
    let error = error_at(place, format!("'{name}' cannot name a table or its schema"));
    Err(if name.contains('$') {
        error.hint("'$' is for side tables, which come by themselves: t$late")
    } else {
        error.hint("use letters a-z, digits, '_' and '-', not starting with '_'")
    })
}

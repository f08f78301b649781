//! `CREATE STREAMING TABLE schema.table [(CONSTRAINT …)] [PARTITIONED BY (…)] [WITH (…)] AS query`.

use std::time::Duration;

use datafusion::sql::sqlparser::tokenizer::Token;

use crate::SqlError;
use crate::clauses::{names_constraints, parse_partitioning, parse_table_name};
use crate::cursor::{Cursor, error_at};
use crate::definition::LateRows;
use crate::expectation::{Parsed, parse_expectations};
use crate::options::Options;

const COMMIT_INTERVAL: Duration = Duration::from_secs(5);

/// All but the query.
pub(crate) struct Head {
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) expectations: Vec<Parsed>,
    pub(crate) partitioned_by: Vec<String>,
    pub(crate) commit_interval: Duration,
    pub(crate) late_rows: LateRows,
    pub(crate) max_ahead: Option<Duration>,
}

/// Parses what follows `CREATE STREAMING TABLE`, up to and with `AS`. `text` is the whole text.
pub(crate) fn parse_head(cursor: &mut Cursor, text: &str) -> Result<Head, SqlError> {
    if cursor.peeks("IF") {
        return Err(cursor.error("IF NOT EXISTS is not needed").hint("leave it out: apply compares the definition with what is there"));
    }
    let (schema, table) = parse_table_name(cursor, "a streaming table")?;
    let mut expectations = vec![];
    if cursor.parser.peek_token_ref().token == Token::LParen {
        if !names_constraints(cursor) {
            return Err(cursor
                .error("a streaming table has no list of columns")
                .hint("its columns are those of the query: name and cast them there; in parentheses stand CONSTRAINT … EXPECT (…)"));
        }
        expectations = parse_expectations(cursor, text)?;
    }
    let mut partitioned_by: Vec<String> = vec![];
    let mut options = None;
    loop {
        let place = cursor.here();
        if cursor.take(&["PARTITIONED", "BY"]) {
            if !partitioned_by.is_empty() {
                return Err(error_at(place, "PARTITIONED BY stands twice"));
            }
            partitioned_by = parse_partitioning(cursor)?;
        } else if cursor.peeks("WITH") {
            if options.replace(Options::parse(cursor)?).is_some() {
                return Err(error_at(place, "WITH stands twice"));
            }
        } else {
            break;
        }
    }
    if !cursor.take(&["AS"]) {
        let hint = match cursor.peek_word() {
            Some(w) if w.value.eq_ignore_ascii_case("partition") => "write PARTITIONED BY (column)".to_string(),
            Some(w) if w.value.eq_ignore_ascii_case("select") => "write AS before the query".to_string(),
            _ => format!("write CREATE STREAMING TABLE {schema}.{table} AS SELECT …"),
        };
        return Err(cursor.expected("PARTITIONED BY, WITH or AS").hint(hint));
    }
    let mut options = options.unwrap_or_default();
    let commit_interval = options.take_duration("commit_interval", COMMIT_INTERVAL)?;
    let late_rows = options.take_word("late_rows", &[("divert", LateRows::Divert), ("drop", LateRows::Drop)], LateRows::Divert)?;
    let max_ahead = options.take_some_duration("max_ahead")?;
    options.finish("a streaming table", &[])?;
    Ok(Head { schema, table, expectations, partitioned_by, commit_interval, late_rows, max_ahead })
}

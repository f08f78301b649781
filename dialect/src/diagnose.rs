//! Turns errors of sqlparser and DataFusion to [`SqlError`]s: what is wrong, where, and the nearest name that exists.

use datafusion::common::{Column, DataFusionError, Diagnostic, SchemaError};
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, TokenizerError};
use watershed_message::Message;

use crate::SqlError;
use crate::bounds::too_deep;
use crate::locate::{Excerpt, Place, compared_name, find_word, is_quoted_name, placed_by_message};
use crate::nearest::{did_you_mean, nearest};
use crate::plain::{plain_message, sql_types};
use crate::syntax::WatershedDialect;
use crate::table_function::TableFunction;

/// How many names of a list are shown.
const NAMES_SHOWN_MAX: usize = 16;

/// Words that a statement can hardly do without; a misspelt one makes the parser stumble over what follows.
const CLAUSES: [&str; 36] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "BY",
    "HAVING",
    "ORDER",
    "LIMIT",
    "CREATE",
    "SOURCE",
    "STREAMING",
    "TABLE",
    "PARTITIONED",
    "PARTITION",
    "WATERMARK",
    "METADATA",
    "DESCRIPTOR",
    "INTERVAL",
    "WITH",
    "VALUES",
    "UNION",
    "INSERT",
    "INTO",
    "UPDATE",
    "DELETE",
    "EXPLAIN",
    "ANALYZE",
    "DESCRIBE",
    "SHOW",
    "JOIN",
    "DISTINCT",
    "FILTER",
    "BETWEEN",
    "CAST",
    "DROP",
    "OVER",
];

/// What a text could not be parsed for.
pub(crate) fn from_parser(error: &ParserError, text: &str) -> SqlError {
    match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
            let (what, place) = split_place(message);
            let (line, column) = place.unwrap_or_else(|| end_of(text));
            let what = what.trim_start_matches("sql parser error: ");
            readable(what).at(line, column).maybe_hint(misspelt_clause(text, line, column))
        }
        ParserError::RecursionLimitExceeded => too_deep(),
    }
}

/// A text that is not even words and signs: an open quote or comment, a stray character.
pub(crate) fn from_tokenizer(error: &TokenizerError) -> SqlError {
    let error_at = readable(&error.message).at(error.location.line, error.location.column);
    if error.message.contains("Unterminated") { error_at.hint("close what is opened here") } else { error_at }
}

/// Why a statement could not be planned.
pub(crate) fn from_datafusion(error: &DataFusionError, state: &SessionState, text: Excerpt) -> SqlError {
    let diagnostic = error.diagnostic();
    let mut out = match root(error) {
        DataFusionError::SQL(parser, _) => return from_parser(parser, text.text).within(text.line, text.column),
        DataFusionError::SchemaError(schema, _) => of_schema(schema, text),
        DataFusionError::Plan(message) => of_plan(message, diagnostic, state, text),
        other => of_ours(other).unwrap_or_else(|| readable(&other.message())),
    };
    if let Some(mismatch) = of_signature(&root(error).message()) {
        out = mismatch;
    }
    if let Some(diagnostic) = diagnostic {
        if let Some(span) = diagnostic.span {
            out = out.at(span.start.line, span.start.column);
        }
        let helps: Vec<String> = diagnostic.helps.iter().map(|h| readable(&h.message).to_string()).collect();
        out.hint = out.hint.or_else(|| (!helps.is_empty()).then(|| helps.join("; ")));
        // "Possible …" notes are DataFusion's own guesses at names; ours are there already.
        let notes = || diagnostic.notes.iter().map(|n| n.message.as_str()).filter(|note| !note.starts_with("Possible "));
        let types: Vec<&str> = notes().filter_map(|note| note.strip_prefix("has type ")).collect();
        if out.detail.is_none() && !types.is_empty() {
            out = out.detail(sql_types(&format!("one is {}", types.join(", the other ")))).maybe_hint(Some(of_types(&types)));
        } else if out.detail.is_none() && notes().next().is_some() {
            out = out.detail(notes().collect::<Vec<_>>().join("; "));
        }
    }
    placed_by_message(out, text)
}

/// What makes two types fit each other.
fn of_types(types: &[&str]) -> String {
    let any = |begins: &[&str]| types.iter().any(|kind| begins.iter().any(|begin| kind.trim_start_matches('\'').starts_with(begin)));
    if any(&["Timestamp", "Date"]) && any(&["Int", "UInt", "Float", "Decimal"]) {
        "a number has no unit of time: write an interval, such as INTERVAL '1 day'".to_owned()
    } else {
        "cast one of them: CAST(… AS …)".to_owned()
    }
}

/// `Function 'sum' failed to match any signature …`: says what the function takes.
fn of_signature(message: &str) -> Option<SqlError> {
    // The names of types may have quotes in them.
    let message = sql_types(message);
    let call = quoted_between(&message, "given name and argument types '", "'")?;
    let name = call.split('(').next().unwrap_or(call);
    let given = call.get(name.len()..).unwrap_or("");
    let given = given.strip_prefix('(').and_then(|given| given.strip_suffix(')')).unwrap_or(given);
    let given = if given.is_empty() { "nothing" } else { given };
    let error = SqlError::new(format!("{name}() does not take {given}")).hint("cast the arguments: CAST(… AS …)");
    let mut takes: Vec<&str> = message.split_once("Candidate functions:")?.1.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    takes.dedup();
    // Some functions look at what they are given for themselves, which says nothing to a reader.
    if takes.iter().any(|call| call.contains("UserDefined")) {
        return Some(error);
    }
    Some(error.detail(format!("it takes {}", takes.join(" or "))))
}

/// The error inside of contexts, diagnostics and collections (where the first counts).
pub(crate) fn root(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => root(inner),
        DataFusionError::Shared(inner) => root(inner),
        DataFusionError::Collection(all) => all.first().map_or(error, root),
        other => other,
    }
}

/// What a function or a table of ours says for itself.
fn of_ours(error: &DataFusionError) -> Option<SqlError> {
    let DataFusionError::External(inner) = error else { return None };
    inner.downcast_ref::<Message>().cloned().map(SqlError::from)
}

fn of_schema(error: &SchemaError, text: Excerpt) -> SqlError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let shown = field.flat_name();
            let names: Vec<String> = valid_fields.iter().map(|c| c.name.clone()).collect();
            let near = nearest(&field.name, names.iter().map(String::as_str)).map(|near| match &field.relation {
                // The column may be right and the table in front of it wrong.
                Some(relation) => {
                    let qualified = valid_fields.iter().find(|c| c.name == near);
                    let same_table = qualified.and_then(|c| c.relation.as_ref()) == Some(relation);
                    if same_table { near.to_string() } else { qualified.map_or(near.to_string(), Column::flat_name) }
                }
                None => near.to_string(),
            });
            let mut out = SqlError::new(format!("column '{shown}' does not exist")).detail(listed("columns here", &names));
            let place = field.spans.first().map(|s| (s.start.line, s.start.column)).or_else(|| find_word(text, &field.name));
            out.hint = near.map(|near| meant(&shown, &near));
            if out.hint.is_none() && place.is_some_and(|place| is_quoted_name(text, place)) {
                out.hint = Some(format!("text goes in single quotes: '{}'; double quotes are for names", field.name));
            }
            if out.hint.is_none() && field.relation.is_none() {
                let name = place.and_then(|place| compared_name(text, place));
                out.hint = name.map(|name| format!("if it is a text, write it in single quotes: '{name}'"));
            }
            place_at(out, place)
        }
        SchemaError::AmbiguousReference { field } => {
            let out = SqlError::new(format!("column '{}' is ambiguous: more than one table has it", field.name));
            place_at(out.hint(format!("say which: write table.{}", field.name)), find_word(text, &field.name))
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => of_twice(name, text),
    }
}

fn of_twice(name: &str, text: Excerpt) -> SqlError {
    let out = SqlError::new(format!("column '{name}' would be twice in the result"));
    place_at(out.hint("give one of them another name with AS"), find_word(text, name))
}

fn of_plan(message: &str, diagnostic: Option<&Diagnostic>, state: &SessionState, text: Excerpt) -> SqlError {
    if let Some(name) = quoted_between(message, "table '", "' not found") {
        let tables = table_names(state);
        let short = short_name(name, state);
        return place_at(
            SqlError::new(format!("table '{short}' does not exist"))
                .detail(listed("tables and sources", &tables))
                .maybe_hint(near_table(&short, &tables)),
            find_word(text, short.rsplit('.').next().unwrap_or(&short)),
        );
    }
    if let Some(name) = quoted_between(message, "Invalid function '", "'") {
        let mut names = function_names(state);
        names.extend(TableFunction::NAMES.map(String::from));
        let hint = did_you_mean(name, names.iter().map(String::as_str))
            .map(|hint| if TableFunction::NAMES.contains(&name) { format!("{} belongs in FROM", name.to_uppercase()) } else { hint });
        return place_at(SqlError::new(format!("function '{name}' does not exist")).maybe_hint(hint), find_word(text, name));
    }
    if let Some(name) = quoted_between(message, "table function '", "' not found") {
        let mut names: Vec<String> = state.table_functions().keys().cloned().collect();
        names.extend(TableFunction::NAMES.map(String::from));
        let hint = did_you_mean(name, names.iter().map(String::as_str));
        return place_at(SqlError::new(format!("table function '{name}' does not exist")).maybe_hint(hint), find_word(text, name));
    }
    if let Some(name) = quoted_between(message, "require unique expression names but the expression \"", "\" at position") {
        let name = name.rsplit_once(" AS ").map_or(name, |(_, alias)| alias);
        let is_name = name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '$'));
        let short = if is_name { name.rsplit('.').next().unwrap_or(name) } else { name };
        return of_twice(short, text);
    }
    // A diagnostic is written for people, the message with it often is not.
    readable(diagnostic.map_or(message, |d| d.message.as_str()))
}

fn place_at(error: SqlError, place: Option<Place>) -> SqlError {
    match place {
        Some((line, column)) => error.at(line, column),
        None => error,
    }
}

fn quoted_between<'a>(message: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let from = message.find(before)? + before.len();
    let rest = &message[from..];
    Some(&rest[..rest.find(after)?])
}

/// `label: a, b, c`, cut where it gets long.
fn listed(label: &str, names: &[String]) -> String {
    let mut shown: Vec<&str> = names.iter().map(String::as_str).collect();
    shown.dedup();
    let more = shown.len().saturating_sub(NAMES_SHOWN_MAX);
    shown.truncate(NAMES_SHOWN_MAX);
    match (shown.is_empty(), more) {
        (true, _) => format!("{label}: none"),
        (false, 0) => format!("{label}: {}", shown.join(", ")),
        (false, more) => format!("{label}: {} and {more} more", shown.join(", ")),
    }
}

fn near_table(wanted: &str, tables: &[String]) -> Option<String> {
    // The right name in another schema is nearer than another name in the right one.
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_string();
    let same = tables.iter().find(|t| last(t).eq_ignore_ascii_case(&last(wanted)));
    let near = same.cloned().or_else(|| nearest(wanted, tables.iter().map(String::as_str)).map(String::from)).or_else(|| {
        let lasts: Vec<String> = tables.iter().map(|t| last(t)).collect();
        let near = nearest(&last(wanted), lasts.iter().map(String::as_str))?;
        tables.iter().find(|t| last(t) == near).cloned()
    });
    near.map(|near| meant(wanted, &near))
}

/// A name that was meant. One with capitals must be quoted, which is all that is wrong if that name was typed.
fn meant(wanted: &str, near: &str) -> String {
    let quoted = |part: &str| if part.chars().any(|c| c.is_uppercase()) { format!("\"{part}\"") } else { part.to_owned() };
    if near.chars().all(|c| !c.is_uppercase()) {
        return format!("did you mean '{near}'?");
    }
    let quoted: Vec<String> = near.split('.').map(quoted).collect();
    let quoted = quoted.join(".");
    if near.eq_ignore_ascii_case(wanted) {
        return format!("a name with capitals stands in double quotes, or it is read in small letters: write {quoted}");
    }
    format!("did you mean '{near}'? A name with capitals stands in double quotes: write {quoted}")
}

/// The name without the catalog and schema that DataFusion filled in.
fn short_name(name: &str, state: &SessionState) -> String {
    let defaults = &state.config_options().catalog;
    let name = name.strip_prefix(&format!("{}.", defaults.default_catalog)).unwrap_or(name);
    name.strip_prefix(&format!("{}.", defaults.default_schema)).unwrap_or(name).to_string()
}

fn table_names(state: &SessionState) -> Vec<String> {
    let catalogs = state.catalog_list();
    let defaults = &state.config_options().catalog;
    let mut names = vec![];
    for catalog_name in catalogs.catalog_names() {
        let Some(catalog) = catalogs.catalog(&catalog_name) else { continue };
        for schema_name in catalog.schema_names() {
            let Some(schema) = catalog.schema(&schema_name) else { continue };
            if schema_name == "information_schema" {
                continue;
            }
            names.extend(schema.table_names().into_iter().map(|table| {
                match (catalog_name == defaults.default_catalog, schema_name == defaults.default_schema) {
                    (true, true) => table,
                    (true, false) => format!("{schema_name}.{table}"),
                    (false, _) => format!("{catalog_name}.{schema_name}.{table}"),
                }
            }));
        }
    }
    names.sort();
    names
}

fn function_names(state: &SessionState) -> Vec<String> {
    let mut names: Vec<String> = state.scalar_functions().keys().cloned().collect();
    names.extend(state.aggregate_functions().keys().cloned());
    names.extend(state.window_functions().keys().cloned());
    names.sort();
    names
}

/// A clause word that the word at the place, or the one before it, is a typing error away from.
fn misspelt_clause(text: &str, line: u64, column: u64) -> Option<String> {
    let tokens = Tokenizer::new(&WatershedDialect::default(), text).tokenize_with_location().ok()?;
    let solid: Vec<_> = tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).collect();
    let at = solid.iter().position(|t| (t.span.start.line, t.span.start.column) >= (line, column)).unwrap_or(solid.len());
    let near_by = solid.get(at.saturating_sub(3)..(at + 1).min(solid.len()))?;
    near_by.iter().rev().find_map(|t| match &t.token {
        Token::Word(w) if w.quote_style.is_none() && w.value.len() > 3 => {
            let near = nearest(&w.value, CLAUSES)?;
            (!near.eq_ignore_ascii_case(&w.value)).then(|| format!("did you mean {near} instead of {}?", w.value))
        }
        _ => None,
    })
}

/// Cuts ` at Line: 3, Column: 7` off a parser's message.
fn split_place(message: &str) -> (&str, Option<(u64, u64)>) {
    let Some(at) = message.rfind(" at Line: ") else { return (message, None) };
    let numbers = &message[at + " at Line: ".len()..];
    let place = numbers.split_once(", Column: ").and_then(|(line, column)| {
        let digits: String = column.chars().take_while(char::is_ascii_digit).collect();
        Some((line.trim().parse().ok()?, digits.parse().ok()?))
    });
    (&message[..at], place)
}

fn end_of(text: &str) -> (u64, u64) {
    let text = text.trim_end();
    let line = text.matches('\n').count() as u64 + 1;
    let column = text.rsplit('\n').next().unwrap_or("").chars().count() as u64 + 1;
    (line, column)
}

/// Our messages begin in lower case, and say "end of the text" where a parser says EOF.
fn readable(message: &str) -> SqlError {
    let message = message.trim().replace("found: EOF", "found: the end of the text");
    let mut message = plain_message(&message);
    if let Some(rest) = message.what.strip_prefix("Expected: ") {
        message.what = format!("expected {}", rest.replacen(", found: ", ", found ", 1));
    }
    let mut chars = message.what.chars();
    // Words in capitals are SQL and stay so.
    if let (Some(first), Some(second)) = (chars.next(), chars.clone().next())
        && first.is_uppercase()
        && !second.is_uppercase()
    {
        message.what = first.to_lowercase().chain(chars).collect();
    }
    message.into()
}

//! What Tab offers. Pure: names in, candidates out; `prompt.rs` asks the session for the names.

use std::collections::HashMap;

use crate::session::LISTED;

/// Words of SQL worth completing, beside `SHOW` with what is [`LISTED`].
const KEYWORDS: &[&str] = &[
    "ALL",
    "ANALYZE",
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COPY",
    "CROSS JOIN",
    "CUMULATE(",
    "DEDUPLICATE(",
    "DESC",
    "DESCRIBE",
    "DESCRIPTOR(",
    "DISTINCT",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "EXPLAIN MATERIALIZED VIEW",
    "FALSE",
    "FILTER (WHERE",
    "FROM",
    "FULL JOIN",
    "GROUP BY",
    "HAVING",
    "HOP(",
    "ILIKE",
    "IN",
    "INNER JOIN",
    "INTERSECT",
    "INTERVAL",
    "IS NOT NULL",
    "IS NULL",
    "JOIN",
    "LEFT JOIN",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER BY",
    "OVER (",
    "PARTITION BY",
    "RIGHT JOIN",
    "SELECT",
    "SET",
    "SHOW",
    "SHOW TABLES",
    "TABLE",
    "THEN",
    "TRUE",
    "TUMBLE(",
    "UNION ALL",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WITH",
];

/// Most candidates offered at once.
const CANDIDATES_MAX: usize = 200;

/// Names of the lake as of the last prompt.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// `schema.table`, sorted.
    pub tables: Vec<String>,
    /// Functions, sorted.
    pub functions: Vec<String>,
    /// Backslash commands without the backslash.
    pub commands: Vec<String>,
}

impl Names {
    /// The table that `word` names, with or without its schema.
    pub fn table(&self, word: &str) -> Option<&str> {
        let bare = |table: &&String| table.split_once('.').is_some_and(|(_, name)| name == word);
        self.tables.iter().find(|table| *table == word).or_else(|| self.tables.iter().find(bare)).map(String::as_str)
    }
}

/// Where the word to be completed begins, and what could be put there.
/// `columns` holds the columns of the tables that the text names (see [`tables_named`]).
pub fn complete(text: &str, at: usize, names: &Names, columns: &HashMap<String, Vec<String>>) -> (usize, Vec<String>) {
    let before = &text[..at];
    let start = before.rfind(|c: char| !is_word(c)).map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    let word = &before[start..];
    // Within a statement, too.
    let line = before.rsplit('\n').next().unwrap_or_default();
    if let Some(command) = line.trim_start().strip_prefix('\\') {
        return complete_command(command, start, word, before, names);
    }
    let mut found: Vec<String> = Vec::new();
    if let Some((qualifier, part)) = word.rsplit_once('.') {
        let table = aliases(text).get(qualifier).cloned().unwrap_or_else(|| qualifier.to_owned());
        let known = names.table(&table).and_then(|table| columns.get(table)).into_iter().flatten();
        found.extend(known.filter(|column| starts(column, part)).map(|column| format!("{qualifier}.{}", quoted(column))));
        found.extend(names.tables.iter().filter(|table| starts(table, word)).cloned());
    } else {
        let wants_table = matches!(previous_word(&before[..start]).as_str(), "FROM" | "JOIN" | "TABLE" | "DESCRIBE" | "VIEW");
        if !wants_table {
            let mut known: Vec<&String> = columns.values().flatten().collect();
            known.sort();
            known.dedup();
            found.extend(known.into_iter().filter(|column| starts(column, word)).map(|column| quoted(column)));
        }
        found.extend(names.tables.iter().filter(|table| starts(table, word)).cloned());
        let bare = names.tables.iter().filter_map(|table| table.split_once('.')).map(|(_, name)| name);
        found.extend(bare.filter(|name| !word.is_empty() && starts(name, word)).filter_map(|name| names.table(name)).map(str::to_owned));
        if !word.is_empty() && !wants_table {
            let lower = word.chars().all(|c| !c.is_uppercase());
            let shows = LISTED.iter().map(|name| format!("SHOW {}", name.to_uppercase()));
            let mut keywords: Vec<String> =
                KEYWORDS.iter().map(|&keyword| keyword.to_owned()).chain(shows).filter(|keyword| starts(keyword, word)).collect();
            keywords.sort();
            found.extend(keywords.into_iter().map(|keyword| if lower { keyword.to_lowercase() } else { keyword }));
            found.extend(names.functions.iter().filter(|name| starts(name, word)).map(|name| format!("{name}(")));
        }
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|candidate| seen.insert(candidate.clone()));
    found.truncate(CANDIDATES_MAX);
    (start, found)
}

fn complete_command(command: &str, start: usize, word: &str, before: &str, names: &Names) -> (usize, Vec<String>) {
    let offer = |words: &[&str]| words.iter().filter(|candidate| starts(candidate, word)).map(|&word| word.to_owned()).collect();
    let Some((name, _)) = command.split_once(char::is_whitespace) else {
        let at = before.len() - command.len();
        return (at, names.commands.iter().filter(|candidate| candidate.starts_with(command)).cloned().collect());
    };
    let found = match name {
        "d" | "dt" => names.tables.iter().filter(|table| starts(table, word)).cloned().collect(),
        "format" => offer(&["table", "csv", "json"]),
        "x" => offer(&["on", "off", "auto"]),
        "timing" => offer(&["on", "off"]),
        _ => Vec::new(),
    };
    (start, found)
}

/// The tables of the lake that `text` names: those whose columns [`complete`] needs.
pub fn tables_named(text: &str, names: &Names) -> Vec<String> {
    let mut tables: Vec<String> =
        text.split(|c| !is_word(c)).filter(|word| !word.is_empty()).filter_map(|word| names.table(word)).map(str::to_owned).collect();
    tables.sort();
    tables.dedup();
    tables
}

/// `FROM table [AS] alias` and `JOIN table [AS] alias`.
fn aliases(text: &str) -> HashMap<String, String> {
    let words: Vec<&str> = text.split(|c: char| !is_word(c) && c != ',').filter(|word| !word.is_empty()).collect();
    let mut found = HashMap::new();
    for (at, word) in words.iter().enumerate() {
        let is_from = word.eq_ignore_ascii_case("from") || word.eq_ignore_ascii_case("join");
        if let (true, Some(table)) = (is_from, words.get(at + 1)) {
            let mut next = words.get(at + 2);
            if next.is_some_and(|word| word.eq_ignore_ascii_case("as")) {
                next = words.get(at + 3);
            }
            if let Some(alias) =
                next.filter(|alias| !KEYWORDS.iter().any(|keyword| keyword.split(' ').any(|k| k.eq_ignore_ascii_case(alias))))
            {
                found.insert((*alias).to_owned(), (*table).to_owned());
            }
        }
    }
    found
}

fn previous_word(before: &str) -> String {
    before.trim_end().rsplit(|c: char| !is_word(c)).next().unwrap_or_default().to_uppercase()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '$' | '"')
}

fn starts(candidate: &str, word: &str) -> bool {
    candidate.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
}

/// Column names that SQL would fold or misread are offered in quotes.
fn quoted(name: &str) -> String {
    let plain =
        name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit());
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(text: &str) -> Vec<String> {
        let names = Names {
            tables: ["bronze.rides", "silver.city_demand", "silver.city_demand$late"].map(str::to_owned).to_vec(),
            functions: ["count", "coalesce"].map(str::to_owned).to_vec(),
            commands: ["d", "dt", "timing"].map(str::to_owned).to_vec(),
        };
        let columns: HashMap<String, Vec<String>> =
            tables_named(text, &names).into_iter().map(|table| (table, ["city", "requests", "Fare"].map(str::to_owned).to_vec())).collect();
        complete(text, text.len(), &names, &columns).1
    }

    #[test]
    fn tables_stand_after_from() {
        assert_eq!(offered("select * from "), ["bronze.rides", "silver.city_demand", "silver.city_demand$late"]);
        assert_eq!(offered("select * from silver.c"), ["silver.city_demand", "silver.city_demand$late"]);
        assert_eq!(offered("select * from ri"), ["bronze.rides"]);
        assert_eq!(offered("select * from tumble(table b"), ["bronze.rides"]);
    }

    #[test]
    fn columns_come_from_the_tables_named() {
        assert_eq!(offered("select * from city_demand where re"), ["requests"]);
        assert_eq!(offered("select * from bronze.rides r where r.c"), ["r.city"]);
        assert_eq!(offered("select * from bronze.rides where f"), ["\"Fare\"", "false", "filter (where", "from", "full join"]);
        assert!(offered("select re").is_empty());
    }

    #[test]
    fn keywords_keep_the_case_that_was_typed() {
        assert_eq!(offered("sele"), ["select"]);
        assert_eq!(offered("SELE"), ["SELECT"]);
        assert_eq!(offered("select cou"), ["count("]);
        let shows = ["SHOW", "SHOW EPOCHS", "SHOW JOB_RUNS", "SHOW JOBS", "SHOW PIPELINES", "SHOW QUALITY", "SHOW SINKS", "SHOW TABLES"];
        let mut shows = shows.map(str::to_owned);
        shows.sort();
        assert_eq!(offered("SHO"), shows);
    }

    #[test]
    fn commands_and_their_arguments() {
        assert_eq!(offered("\\d"), ["d", "dt"]);
        assert_eq!(offered("\\d bro"), ["bronze.rides"]);
        assert_eq!(offered("SELECT 1,\n\\d bro"), ["bronze.rides"]);
        assert_eq!(offered("\\format "), ["table", "csv", "json"]);
    }

    #[test]
    fn text_before_the_cursor_may_hold_any_character() {
        assert_eq!(offered("select 'ü€' sele"), ["select"]);
        assert!(offered("ü").is_empty());
    }
}

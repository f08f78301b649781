//! Messages of libraries in words for people: without the program's own names for things.
//!
//! DataFusion builds messages from the debug form of its syntax trees, plans and types. What is known is said in our words; of all else the message
//! goes as far as the first piece of a program.

use watershed_message::Message;

/// What is wrong, and what to do next.
type Said = (&'static str, Option<&'static str>);

/// Messages that are known, by a part of each, and what they mean.
const KNOWN: [(&str, Said); 26] = [
    ("Physical plan does not support logical expression InSubquery", SUBQUERY),
    ("Physical plan does not support logical expression Exists", SUBQUERY),
    ("Physical plan does not support logical expression ScalarSubquery", SUBQUERY),
    ("Physical plan does not support logical expression OuterReferenceColumn", SUBQUERY),
    ("Physical plan does not support logical expression SetComparison", SUBQUERY),
    ("Physical plan does not support undecorrelated Subquery", SUBQUERY),
    (
        "Physical plan does not support logical expression",
        ("an expression of this kind cannot be computed where it is written", Some("compute it in a query in FROM, and name its column")),
    ),
    (
        "Unnest should be rewritten to LogicalPlan",
        ("unnest() cannot be computed where it is written", Some("write CROSS JOIN UNNEST(list) AS u (x) in FROM")),
    ),
    ("ot access not supported", ("a field can be taken of a column only: write (column).field, or column['field']", None)),
    (
        "SetTimeZone",
        ("SET TIME ZONE is not supported: times are in UTC", Some("write ts AT TIME ZONE 'Europe/Berlin' where another is wanted")),
    ),
    ("SET variant not implemented", ("this form of SET is not supported", Some("write SET name = value"))),
    ("Unsupported ast node Pivot", ("PIVOT is not supported", Some("write one sum(CASE WHEN … THEN … END) for each column"))),
    ("Unsupported ast node Unpivot", ("UNPIVOT is not supported", Some("write UNION ALL of one SELECT for each column"))),
    ("Unsupported ast node MatchRecognize", ("MATCH_RECOGNIZE is not supported", None)),
    ("Unsupported JOIN operator AsOf", ("ASOF JOIN is for training sets: put it in CREATE MATERIALIZED VIEW", None)),
    ("Unsupported JOIN operator CrossApply", ("CROSS APPLY is not supported", Some("write CROSS JOIN LATERAL (…)"))),
    ("Unsupported JOIN operator OuterApply", ("OUTER APPLY is not supported", Some("write LEFT JOIN LATERAL (…) ON true"))),
    ("Unsupported ast node in sqltorel: Lambda", ("lambdas (x -> …) are not supported", None)),
    (
        "Unsupported ast node in sqltorel",
        ("an expression of this form is not supported", Some("write it with other functions or operators")),
    ),
    ("Unsupported ast node", ("this form of FROM is not supported", Some("name a table, or put a query in parentheses"))),
    (
        "Unsupported JOIN operator",
        ("this kind of JOIN is not supported", Some("write JOIN, LEFT JOIN, RIGHT JOIN, FULL JOIN or CROSS JOIN")),
    ),
    ("Unsupported binary operator", ("this operator is not supported", Some("write it with a function"))),
    ("Unsupported SQL binary operator", ("this operator is not supported", Some("write it with a function"))),
    ("Unsupported compound identifier", PARTS),
    ("compound identifier: [\"", PARTS),
    (
        "Nested identifiers are not yet supported for OuterReferenceColumn",
        (
            "a field of a column of the outer query cannot be named in a subquery",
            Some("name it in the outer query's FROM first: (SELECT *, s.field AS field FROM t) t"),
        ),
    ),
];

const PARTS: Said = ("a name has at most a schema, a table and a column, joined by dots", None);
const SUBQUERY: Said = ("a subquery cannot be computed where it is written", Some("put it in FROM, and join it"));

/// Types as Arrow names them, longer names first.
const TYPES: [(&str, &str); 22] = [
    ("Decimal128(", "DECIMAL("),
    ("Decimal256(", "DECIMAL("),
    ("LargeUtf8", "VARCHAR"),
    ("Utf8View", "VARCHAR"),
    ("Utf8", "VARCHAR"),
    ("BinaryView", "BINARY"),
    ("LargeBinary", "BINARY"),
    ("Binary", "BINARY"),
    ("UInt64", "BIGINT UNSIGNED"),
    ("UInt32", "INT UNSIGNED"),
    ("UInt16", "SMALLINT UNSIGNED"),
    ("UInt8", "TINYINT UNSIGNED"),
    ("Int64", "BIGINT"),
    ("Int32", "INT"),
    ("Int16", "SMALLINT"),
    ("Int8", "TINYINT"),
    ("Float64", "DOUBLE"),
    ("Float32", "REAL"),
    ("Float16", "REAL"),
    ("Date32", "DATE"),
    ("Date64", "DATE"),
    ("Boolean", "BOOLEAN"),
];

/// Types that Arrow gives arguments: those of a list is what is in it.
const TYPES_OF: [(&str, &str); 11] = [
    ("Timestamp(", "TIMESTAMP"),
    ("Time64(", "TIME"),
    ("Time32(", "TIME"),
    ("Interval(", "INTERVAL"),
    ("Duration(", "INTERVAL"),
    ("LargeList(", "[]"),
    ("FixedSizeList(", "[]"),
    ("ListView(", "[]"),
    ("List(", "[]"),
    ("Struct(", "STRUCT"),
    ("Map(", "MAP"),
];

/// Parts of messages of libraries that take a mistake in a statement for one of theirs: what is wrong, and what to do.
const MISTAKES: [(&str, &str, &str); 11] = [
    ("Invalid timezone", "there is no such time zone", "write for example 'Europe/Berlin' or '+02:00'"),
    ("Nth value indices are 1 based", "nth_value() counts from 1", "give it a number of 1 or more"),
    ("failed to convert size to usize", "a list has no negative size", "give array_resize() a size of 0 or more"),
    (
        "Cannot run range queries on datatype",
        "OVER cannot find the frame of a row by its ORDER BY",
        "order by a number, a time or a text: one field of it; or write ROWS BETWEEN … AND …",
    ),
    (
        "Array overflow on abs(",
        "the value is the least of its type, and its abs() is greater than the greatest",
        "CAST it to a wider type first",
    ),
    (
        "for converting from i64 to i32 failed",
        "to_date() of a text that is no date, or of a year after 2262",
        "CAST(… AS DATE) reads dates of all years, and TRY_CAST gives NULL for other texts",
    ),
    (
        "exceeds the representable i64 range",
        "a time before 1678 or after 2262 where nanoseconds are counted",
        "leave such times out, or use date_trunc, extract and intervals, which take the years 1 to 9999",
    ),
    (
        "because `retract_batch` is not implemented",
        "this aggregate cannot be computed over a frame whose beginning moves",
        "begin the frame with UNBOUNDED PRECEDING; or take another: bool_and(b) is min(CASE WHEN b THEN 1 WHEN NOT b THEN 0 END) = 1",
    ),
    (
        "COUNT DISTINCT with multiple arguments",
        "count(DISTINCT …) takes one argument",
        "write the columns as a row: count(DISTINCT (a, b))",
    ),
    ("regex parse error", "the pattern is no regular expression", "write a \\ before a sign that is meant as itself"),
    (
        "string_agg delimiter must be a string literal",
        "what string_agg() puts between texts is no short constant",
        "write it as a text: ', '",
    ),
];

/// Whether a message tells of a mistake in a statement, whichever error it comes as.
pub fn is_of_statement(message: &str) -> bool {
    MISTAKES.iter().any(|(part, ..)| message.contains(part))
}

/// What comes before a message and says which part of a program speaks.
const PREFIXES: [&str; 14] = [
    "Error during planning: ",
    "Internal error: ",
    "Execution error: ",
    "This feature is not implemented: ",
    "Not yet implemented: ",
    "Schema error: ",
    "SQL error: ",
    "External error: ",
    "External: ",
    "Parser error: ",
    "Cast error: ",
    "Compute error: ",
    "Arrow error: ",
    "Invalid argument error: ",
];

/// The message in words for people.
pub fn plain_message(message: &str) -> Message {
    if let Some((_, (what, next))) =
        KNOWN.iter().find(|(part, _)| message.contains(part) && (part.ends_with('"') || looks_like_code(message)))
    {
        return Message { what: (*what).to_owned(), why: None, next: next.map(str::to_owned) };
    }
    // DataFusion asks for a bug report wherever it finds itself surprised, mostly by the text it was given.
    let mut message = message.split("\nThis issue was likely caused by a bug").next().unwrap_or(message);
    message = message.split("\n\nbacktrace:").next().unwrap_or(message).trim();
    if let Some((_, cause)) = message.split_once("\ncaused by\n") {
        message = cause;
    }
    // What a filter met where rows are read comes as the debug text of another error.
    let met = message.split_once(IN_A_FILTER).map(|(_, debug)| first_text(debug));
    if let Some(met) = &met {
        message = met;
    }
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| message.strip_prefix(prefix)) {
        message = rest;
    }
    if let Some((_, why)) = message.strip_prefix("Assertion failed: ").and_then(|rest| rest.split_once(": ")) {
        message = why;
    }
    let message = sql_types(&values(message));
    if let Some((_, what, next)) = MISTAKES.iter().find(|(part, ..)| message.contains(part)) {
        let said = Message::new(*what).why(message.trim_start_matches("Parser error: "));
        return if next.is_empty() { said } else { said.next(*next) };
    }
    if let Some(text) = message.strip_prefix("Error parsing timestamp from ").and_then(|rest| rest.split_once(": error")) {
        return Message::new(format!("{} is no time", text.0)).next(NO_SUCH_TIME);
    }
    // A text in a message ends where it is quoted, and may hold anything.
    if message.starts_with("Cannot cast string '") {
        return Message::new(message).next(NO_SUCH_VALUE);
    }
    let said = before_code(&message);
    if said.is_empty() { Message::new("this cannot be computed").next("write it in another way") } else { said.into() }
}

/// What comes before the debug text of an error that a filter met.
pub(crate) const IN_A_FILTER: &str = "Error evaluating filter predicate: ";
const NO_SUCH_TIME: &str =
    "write it as '2024-01-02' or '2024-01-02 10:30:00'; a text beside a time is read as one: CAST(… AS VARCHAR) makes the time a text";
const NO_SUCH_VALUE: &str =
    "TRY_CAST gives NULL for such texts; a text beside a number is read as one: write the number as a text ('5') to compare texts";

/// The first text in the debug text of an error, which says what happened.
fn first_text(debug: &str) -> String {
    if debug.contains("DivideByZero") {
        return "Divide by zero error".to_owned();
    }
    let Some((_, rest)) = debug.split_once('"') else { return "a filter cannot be computed".to_owned() };
    let mut text = String::new();
    let mut letters = rest.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => break,
            '\\' => match letters.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some(other) => text.push(other),
                None => {}
            },
            other => text.push(other),
        }
    }
    text
}

fn looks_like_code(message: &str) -> bool {
    before_code(message).len() < message.len()
}

/// Arrow's names of types as those of SQL.
pub(crate) fn sql_types(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    'next: while let Some(first) = rest.chars().next() {
        if !out.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            for (arrow, sql) in TYPES_OF {
                let Some(within) = rest.strip_prefix(arrow) else { continue };
                let Some((arguments, after)) = closed(within) else { continue };
                if sql == "[]" {
                    let item = arguments.split(", field:").next().unwrap_or(arguments);
                    out.push_str(&sql_types(item.trim_start_matches("nullable ").trim_start_matches("non-null ")));
                }
                out.push_str(sql);
                rest = after;
                continue 'next;
            }
        }
        out.push(first);
        rest = &rest[first.len_utf8()..];
    }
    TYPES.iter().fold(out, |text, (arrow, sql)| replace_word(&text, arrow, sql))
}

/// What comes before the parenthesis that closes one opened before, and what comes after it.
fn closed(text: &str) -> Option<(&str, &str)> {
    let mut open = 1;
    for (at, c) in text.char_indices() {
        match c {
            '(' => open += 1,
            ')' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some((&text[..at], &text[at + 1..]));
        }
    }
    None
}

/// `Int64(5)` is 5, `Utf8("x")` is 'x'.
pub(crate) fn values(message: &str) -> String {
    let numbers = ["UInt64(", "UInt32(", "UInt16(", "UInt8(", "Int64(", "Int32(", "Int16(", "Int8(", "Float64(", "Float32(", "Boolean("];
    let texts = ["LargeUtf8(\"", "Utf8View(\"", "Utf8(\""];
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    'next: while let Some(first) = rest.chars().next() {
        let at_word = !out.ends_with(|c: char| c.is_alphanumeric());
        if at_word {
            for start in texts {
                if let Some(inner) = rest.strip_prefix(start)
                    && let Some((text, after)) = inner.split_once("\")")
                {
                    out.push('\'');
                    out.push_str(text);
                    out.push('\'');
                    rest = after;
                    continue 'next;
                }
            }
            for start in numbers {
                if let Some(inner) = rest.strip_prefix(start)
                    && let Some((number, after)) = inner.split_once(')')
                    && number.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'))
                {
                    out.push_str(number);
                    rest = after;
                    continue 'next;
                }
            }
        }
        out.push(first);
        rest = &rest[first.len_utf8()..];
    }
    out
}

fn replace_word(message: &str, word: &str, by: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.find(word) {
        let before = rest[..at].chars().next_back();
        let after = rest[at + word.len()..].chars().next();
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let whole = !is_word(before) && (word.ends_with(['(', ')']) || !is_word(after));
        out.push_str(&rest[..at]);
        out.push_str(if whole { by } else { word });
        rest = &rest[at + word.len()..];
    }
    out.push_str(rest);
    out
}

/// The message up to its first piece of a program: `Ident { value: … }`, `Some("x")`, `Identifier(Ident`, `datafusion_expr::…`.
fn before_code(message: &str) -> &str {
    let bytes = message.as_bytes();
    let is_name = |at: usize| bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let mut code = message.len();
    let mut at = 0;
    while at < bytes.len() {
        if !is_name(at) {
            at += 1;
            continue;
        }
        let from = at;
        while is_name(at) {
            at += 1;
        }
        let (word, rest) = (&message[from..at], &message[at..]);
        let is_type = word.starts_with(|c: char| c.is_ascii_uppercase()) && word.contains(|c: char| c.is_ascii_lowercase());
        let inner = rest.strip_prefix('(').and_then(|rest| rest.chars().next());
        let is_code = is_type && (rest.starts_with(" { ") || inner.is_some_and(|c| c == '"' || c.is_ascii_uppercase()))
            || word == "Some" && rest.starts_with('(')
            || word == "None" && rest.starts_with([',', ')', ' ', '}'])
            || rest.starts_with("::") && rest[2..].starts_with(|c: char| c.is_ascii_alphabetic()) && word.len() > 1;
        if is_code {
            code = from;
            break;
        }
    }
    if let Some(list) = message.find("[Ident").or_else(|| message.find("[{")) {
        code = code.min(list);
    }
    let said = message[..code].trim_end();
    if code == message.len() {
        said
    } else {
        said.trim_end_matches([':', ',', '(', '[', '{', '\'', '"', '=', ' ', '&', '`'])
            .trim_end_matches(" got")
            .trim_end_matches(" from")
            .trim_end_matches(" found")
            .trim_end_matches(',')
            .trim_end_matches(':')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_for_people() {
        for (message, plain) in [
            ("Physical plan does not support logical expression InSubquery(InSubquery { expr: Column(Column { relation: None", SUBQUERY.0),
            (
                "Error during planning: dot access not supported for non-string expr: Identifier(Ident { value: \"x\"",
                "a field can be taken of a column only: write (column).field, or column['field']",
            ),
            ("This feature is not implemented: Unsupported SQL type JSON", "Unsupported SQL type JSON"),
            (
                "Internal error: Assertion failed: a == b: Function 'f' returned value of type 'Timestamp(ns)' while expected: 'Int64'.\nThis issue was likely caused by a bug in DataFusion's code.",
                "Function 'f' returned value of type 'TIMESTAMP' while expected: 'BIGINT'.",
            ),
            (
                "first argument must be a timestamp or NULL, got Literal(TimestampMicrosecond(1704067200000000, Some(\"UTC\")))",
                "first argument must be a timestamp or NULL",
            ),
            ("compound identifier: [\"a\", \"b\", \"c\", \"d\", \"e\"]", PARTS.0),
            ("could not parse compound identifier from [Ident { value: \"a\" }]", "could not parse compound identifier"),
            ("Cannot coerce Utf8(\"x\") and Int64(5) to Decimal128(10, 2)", "Cannot coerce 'x' and 5 to DECIMAL(10, 2)"),
            ("Arrow error: Divide by zero error", "Divide by zero error"),
            (
                "Compute error: Error evaluating filter predicate: ArrowError(CastError(\"Cannot cast string 'a\\\"b' to value of Int64 type\"), Some(\"\"))",
                "Cannot cast string 'a\"b' to value of BIGINT type",
            ),
            ("Error evaluating filter predicate: ArrowError(DivideByZero, None)", "Divide by zero error"),
            ("one is List(Int64, field: 'element'), the other LargeList(nullable Utf8)", "one is BIGINT[], the other VARCHAR[]"),
            ("to_char(Timestamp(ns, \"+TZ\"), Utf8) or (Time64(µs))", "to_char(TIMESTAMP, VARCHAR) or (TIME)"),
            ("Optimizer rule 'simplify_expressions' failed\ncaused by\nArrow error: Divide by zero error", "Divide by zero error"),
        ] {
            assert_eq!(plain_message(message).what, plain, "{message}");
        }
        let pivot = plain_message("This feature is not implemented: Unsupported ast node Pivot { table: Table { name: ObjectName([Ident");
        assert_eq!(pivot, Message::new("PIVOT is not supported").next("write one sum(CASE WHEN … THEN … END) for each column"));
    }
}

//! Two lists that are asked of one value say together what they say apart, whatever is in them.

use crate::shared::session;
use crate::small_tables::cells;

/// The rows: a value, and a column that is in some of the lists.
const ROWS: [(Option<i64>, Option<i64>); 8] = [
    (Some(1), Some(1)),
    (Some(1), Some(2)),
    (Some(2), Some(2)),
    (Some(3), Some(3)),
    (Some(3), None),
    (None, Some(1)),
    (None, None),
    (Some(2), Some(1)),
];

/// A list as it is written, and its elements for a row.
type List = (&'static str, fn(Option<i64>) -> Vec<Option<i64>>);

const LISTS: [List; 9] = [
    ("1", |_| vec![Some(1)]),
    ("2", |_| vec![Some(2)]),
    ("1, 2", |_| vec![Some(1), Some(2)]),
    ("1, NULL", |_| vec![Some(1), None]),
    ("CAST(NULL AS BIGINT)", |_| vec![None]),
    ("c", |c| vec![c]),
    ("2, c", |c| vec![Some(2), c]),
    ("1 + 1, 3", |_| vec![Some(2), Some(3)]),
    ("4, 5, 6, 7, 1", |_| vec![Some(4), Some(5), Some(6), Some(7), Some(1)]),
];

fn is_in(x: Option<i64>, items: &[Option<i64>], negated: bool) -> Option<bool> {
    let found = match x {
        None => None,
        Some(_) if items.contains(&x) => Some(true),
        Some(_) if items.contains(&None) => None,
        Some(_) => Some(false),
    };
    found.map(|found| found != negated)
}

fn both(left: Option<bool>, right: Option<bool>, and: bool) -> Option<bool> {
    match (left, right) {
        _ if left == Some(!and) || right == Some(!and) => Some(!and),
        (Some(_), Some(_)) => Some(and),
        _ => None,
    }
}

fn text(value: Option<bool>) -> String {
    value.map_or("NULL".to_owned(), |v| v.to_string())
}

#[tokio::test]
async fn two_lists_say_together_what_they_say_apart() {
    let ctx = session();
    let number = |n: Option<i64>| n.map_or("NULL".to_owned(), |n| n.to_string());
    let values: Vec<String> = ROWS
        .iter()
        .enumerate()
        .map(|(at, (x, c))| format!("({at}, CAST({} AS BIGINT), CAST({} AS BIGINT))", number(*x), number(*c)))
        .collect();
    let rows = format!("(VALUES {}) v(at, x, c)", values.join(", "));
    for and in [true, false] {
        for (not_left, not_right) in [(false, false), (false, true), (true, false), (true, true)] {
            for (left, left_items) in LISTS {
                let mut columns = Vec::new();
                let mut right_rows: Vec<Vec<String>> = vec![Vec::new(); ROWS.len()];
                for (right, right_items) in LISTS {
                    let word = |not: bool| if not { "NOT IN" } else { "IN" };
                    let joins = if and { "AND" } else { "OR" };
                    columns.push(format!("x {} ({left}) {joins} x {} ({right})", word(not_left), word(not_right)));
                    for (row, (x, c)) in right_rows.iter_mut().zip(ROWS) {
                        row.push(text(both(is_in(x, &left_items(c), not_left), is_in(x, &right_items(c), not_right), and)));
                    }
                }
                let named: Vec<String> = columns.iter().enumerate().map(|(at, column)| format!("{column} AS c{at}")).collect();
                let query = format!("SELECT {} FROM {rows} ORDER BY at", named.join(", "));
                let right: Vec<String> = right_rows.iter().map(|row| row.join(" ")).collect();
                assert_eq!(cells(&ctx, &query).await, right, "{query}");
                for (column, negated) in columns.iter().flat_map(|column| [(column, false), (column, true)]) {
                    let at = columns.iter().position(|other| other == column).unwrap();
                    let wanted = text(Some(!negated));
                    let right = right_rows.iter().filter(|row| row[at] == wanted).count().to_string();
                    let condition = if negated { format!("NOT ({column})") } else { column.clone() };
                    // Every fifth: each is a query of its own.
                    if (at + usize::from(and) + usize::from(not_left)).is_multiple_of(5) {
                        assert_eq!(cells(&ctx, &format!("SELECT count(*) FROM {rows} WHERE {condition}")).await, [right], "{condition}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn lists_of_two_queries_and_of_other_types_are_put_together_by_their_values() {
    let ctx = session();
    let rows = "(VALUES (1, 1.0, 'a', 0e0), (2, 2.0, 'b', -0e0), (3, 3.5, NULL, 1e0), (NULL, NULL, 'c', NULL)) v(n, d, s, f)";
    for (query, right) in [
        (format!("SELECT n FROM (SELECT * FROM {rows} WHERE n IN (1, 2, 3)) WHERE n NOT IN (1, NULL)"), vec![]),
        (format!("SELECT n FROM (SELECT * FROM {rows} WHERE n IN (1, 2, 3)) WHERE n NOT IN (1, d)"), vec!["3"]),
        (format!("SELECT n FROM {rows} WHERE NOT ((n = 1 OR n = 2) AND (n = 1 + 2 OR n = 4)) ORDER BY n"), vec!["1", "2", "3"]),
        (format!("SELECT d FROM {rows} WHERE d IN (1, 2, 3.5) AND d NOT IN (1.00, 3) ORDER BY d"), vec!["2.0", "3.5"]),
        (format!("SELECT s FROM {rows} WHERE s IN ('a', 'b', 'x') AND s NOT IN ('b', 'y') AND n IN (1, 2)"), vec!["a"]),
        (format!("SELECT n FROM {rows} WHERE f IN (0e0, 5e0) AND f IN (-0e0, 7e0) ORDER BY n"), vec!["1", "2"]),
        (format!("SELECT n FROM {rows} WHERE f = 0e0 OR f = 5e0 OR f = 6e0 OR f = 7e0 OR f = 8e0 ORDER BY n"), vec!["1", "2"]),
        (format!("SELECT n FROM {rows} WHERE f IN (0e0, 1e0) AND f NOT IN (-0e0, 7e0) ORDER BY n"), vec!["3"]),
        (
            format!("SELECT n, CASE WHEN n IN (1, 3, 1) AND n NOT IN (NULL, 1, 1) THEN 'y' ELSE 'n' END FROM {rows} ORDER BY n"),
            vec!["1 n", "2 n", "3 n", "NULL n"],
        ),
    ] {
        assert_eq!(cells(&ctx, &query).await, right, "{query}");
    }
}

//! Rows are counted as often as they come, and given once where DISTINCT or GROUP BY say so, whatever is joined below.

use crate::shared::session;
use crate::small_tables::cells;

const A: &str = "(VALUES (1), (1), (2), (NULL)) a(i)";
const B: &str = "(VALUES (1, 10), (2, 20), (3, 20)) b(i, j)";

#[tokio::test]
async fn rows_are_distinct_over_joins_of_distinct_rows() {
    let ctx = session();
    let pairs = format!("(SELECT DISTINCT a.i, b.j FROM (SELECT DISTINCT i FROM {A}) a CROSS JOIN {B}) x");
    let sums = format!("(SELECT a.i, b.j, sum(b.i) AS s FROM (SELECT i FROM {A} GROUP BY i) a CROSS JOIN {B} GROUP BY a.i, b.j) x");
    for (query, right) in [
        (format!("SELECT DISTINCT i FROM {pairs} ORDER BY i"), vec!["1", "2", "NULL"]),
        (format!("SELECT i, count(*) FROM {pairs} GROUP BY i ORDER BY i"), vec!["1 2", "2 2", "NULL 2"]),
        (format!("SELECT count(*) FROM (SELECT i FROM {pairs} GROUP BY i, j)"), vec!["6"]),
        (format!("SELECT count(*) FROM (SELECT DISTINCT i, j FROM {pairs})"), vec!["6"]),
        (format!("SELECT DISTINCT i FROM {sums} ORDER BY i"), vec!["1", "2", "NULL"]),
        (format!("SELECT i, sum(s) FROM {sums} GROUP BY i ORDER BY i"), vec!["1 6", "2 6", "NULL 6"]),
        (
            format!("SELECT i, s, count(*) FROM {sums} GROUP BY i, s ORDER BY i, s"),
            vec!["1 1 1", "1 5 1", "2 1 1", "2 5 1", "NULL 1 1", "NULL 5 1"],
        ),
        (
            format!(
                "WITH x AS (SELECT a.i, b.j FROM (SELECT DISTINCT i FROM {A}) a CROSS JOIN {B} GROUP BY a.i, b.j) SELECT i, count(*) FROM x GROUP BY i ORDER BY i"
            ),
            vec!["1 2", "2 2", "NULL 2"],
        ),
        (
            format!(
                "SELECT x.i, y.j FROM (SELECT DISTINCT i FROM {pairs}) x JOIN (VALUES (1, 10), (2, 20)) y(i, j) ON x.i = y.i ORDER BY x.i"
            ),
            vec!["1 10", "2 20"],
        ),
        (format!("SELECT DISTINCT i FROM {A} WHERE i IN (SELECT i FROM {A} GROUP BY i) ORDER BY i"), vec!["1", "2"]),
    ] {
        assert_eq!(cells(&ctx, &query).await, right, "{query}");
    }
}

#[tokio::test]
async fn a_subquery_with_distinct_rows_doubles_no_row_that_asks() {
    let ctx = session();
    for (query, right) in [
        (format!("SELECT b.i FROM {B} WHERE EXISTS (SELECT DISTINCT a.i + b.i FROM {A}) OR b.i > 100 ORDER BY b.i"), vec!["1", "2", "3"]),
        (
            format!(
                "SELECT b.i FROM {B} WHERE NOT EXISTS (SELECT DISTINCT CASE WHEN a.i <> 1 THEN b.i ELSE 3 END FROM {A}) OR true ORDER BY b.i"
            ),
            vec!["1", "2", "3"],
        ),
        (
            format!("SELECT b.i, 2 IN (SELECT count(DISTINCT 1) + 1 FROM {A} WHERE 1 <= b.j GROUP BY a.i) FROM {B} ORDER BY b.i"),
            vec!["1 true", "2 true", "3 true"],
        ),
        (
            format!("SELECT b.i FROM {B} WHERE 1 NOT IN (SELECT count(DISTINCT a.i) FROM {A} WHERE 15 <= b.j GROUP BY a.i) ORDER BY b.i"),
            vec!["1"],
        ),
        (
            format!("SELECT b.i, (1, b.i) IN (SELECT DISTINCT b.i, a.i FROM {A}) FROM {B} ORDER BY b.i"),
            vec!["1 true", "2 false", "3 false"],
        ),
    ] {
        assert_eq!(cells(&ctx, &query).await, right, "{query}");
    }
}

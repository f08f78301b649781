//! Expressions that DataFusion gives one name, side by side.

use watershed_dialect::plan_streaming;

use crate::shared::session;
use crate::small_tables::{cells, check, tables};

const ROWS: &str = "(VALUES (1, 7), (2, 8)) t(v, w)";

#[tokio::test]
async fn expressions_that_differ_in_a_cast_are_two_columns() {
    let ctx = session();
    for (query, right) in [
        ("sum(v), sum(CAST(v AS DOUBLE))", vec!["3 3.0"]),
        ("max(CAST(NULL AS DOUBLE)), max(CAST(NULL AS TIMESTAMP))", vec!["NULL NULL"]),
        ("sum(v::DOUBLE) / sum(v), max(TRY_CAST(v AS VARCHAR)), max(v), max(v::VARCHAR)", vec!["1.0 2 2 2"]),
        ("max(DATE '2024-01-02'), max('2024-01-02'), max(TIMESTAMP '2024-01-02')", vec!["2024-01-02 2024-01-02 2024-01-02T00:00:00Z"]),
        ("count(*) FILTER (WHERE CAST(v AS DOUBLE) > 1.5), count(*) FILTER (WHERE v > 1.5)", vec!["1 1"]),
        ("sum(v) OVER (ORDER BY v), sum(CAST(v AS DOUBLE)) OVER (ORDER BY v)", vec!["1 1.0", "3 3.0"]),
        ("rank() OVER (ORDER BY v), rank() OVER (ORDER BY CAST(v AS VARCHAR))", vec!["1 1", "2 2"]),
        ("sum(v) OVER a, sum(CAST(v AS DOUBLE)) OVER a", vec!["1 1.0", "3 3.0"]),
    ] {
        let window = if query.contains("OVER a") { "WINDOW a AS (ORDER BY v)" } else { "" };
        let query = format!("SELECT {query} FROM {ROWS} {window}");
        assert_eq!(cells(&ctx, &query).await, right, "{query}");
        // The same within another query.
        let query = format!("SELECT * FROM ({query}) AS q");
        assert_eq!(cells(&ctx, &query).await, right, "{query}");
    }
}

#[tokio::test]
async fn brackets_and_subqueries_tell_columns_apart() {
    check(&[
        ("SELECT sum((k + x) * 2), sum(k + x * 2) FROM s.a", &["132 126"]),
        ("SELECT count(*) FILTER (WHERE NOT (k = 1 AND x = 10)), sum(k) FILTER (WHERE (NOT k = 1) AND x > 0) FROM s.a", &["2 5"]),
        ("SELECT bool_or(NOT (k > 1 AND x > 20)), bool_or((NOT k > 1) AND x > 20) FROM s.a", &["true false"]),
        ("SELECT sum((SELECT max(k) FROM s.b)), sum((SELECT min(k) FROM s.b)) FROM s.a", &["12 6"]),
        ("SELECT bool_or(k IN (SELECT k FROM s.b)), bool_or(k IN (SELECT k FROM s.b WHERE y < 0)) FROM s.a", &["true false"]),
        ("SELECT bool_or(EXISTS (SELECT k FROM s.b)), bool_or(EXISTS (SELECT k FROM s.b WHERE y < 0)) FROM s.a", &["true false"]),
        ("SELECT bool_or(k > ANY (SELECT k FROM s.b)), bool_or(k > ALL (SELECT k FROM s.b)) FROM s.a", &["true false"]),
    ])
    .await;
}

#[tokio::test]
async fn keys_and_what_is_made_of_them_are_found_again() {
    check(&[
        (
            "SELECT CAST(k AS DOUBLE) / 2, CAST(k AS VARCHAR), sum(x), sum(CAST(x AS DOUBLE)) FROM s.a
             GROUP BY CAST(k AS DOUBLE), CAST(k AS VARCHAR) HAVING sum(CAST(x AS DOUBLE)) > 10.5
             ORDER BY sum(CAST(x AS DOUBLE)) DESC",
            &["1.5 3 30 30.0", "1.0 2 20 20.0"],
        ),
        ("SELECT CAST(a.k AS DOUBLE), count(*) FROM s.a GROUP BY CAST(k AS DOUBLE), CAST(k AS VARCHAR) ORDER BY 1 LIMIT 1", &["1.0 1"]),
        (
            "SELECT CAST(k AS DOUBLE), CAST(k AS VARCHAR), count(*) FROM s.a GROUP BY ROLLUP (CAST(k AS DOUBLE), CAST(k AS VARCHAR))
             ORDER BY 1 NULLS LAST, 2 NULLS LAST LIMIT 2",
            &["1.0 1 1", "1.0 NULL 1"],
        ),
        ("SELECT DISTINCT sum(k), sum(CAST(k AS DOUBLE)) FROM s.a ORDER BY sum(CAST(k AS DOUBLE))", &["6 6.0"]),
        ("SELECT x FROM s.a WHERE EXISTS (SELECT k, CAST(k AS DOUBLE) FROM s.b WHERE b.k = a.k) ORDER BY 1", &["20", "30"]),
        ("SELECT q.k FROM (SELECT k, CAST(k AS DOUBLE), -k FROM s.a UNION ALL SELECT k, y, CAST(k AS DOUBLE) FROM s.b) q ORDER BY 1 LIMIT 1", &["1"]),
        (
            "WITH w AS (SELECT sum(k), sum(CAST(k AS DOUBLE)) FROM s.a) SELECT w.\"sum(CAST(k AS DOUBLE))\" FROM w",
            &["6.0"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_name_that_is_given_twice_is_refused_still() {
    let ctx = tables().await;
    for query in ["SELECT * FROM (SELECT k AS n, x AS n FROM s.a) q", "SELECT sum(k), sum(CAST(k AS DOUBLE)), nothing FROM s.a"] {
        let error = watershed_dialect::plan_text(&ctx, query).await.expect_err(query);
        assert!(error.message.contains("'n' would be twice") || error.message.contains("'nothing' does not exist"), "{error}");
        assert!(!error.to_string().contains("__"), "{error}");
    }
}

#[tokio::test]
async fn streams_have_them_too() {
    let state = session().state();
    let window = "FROM TUMBLE(TABLE rides, DESCRIPTOR(event_time), INTERVAL '1 minute') GROUP BY window_start, window_end";
    let query = format!("SELECT sum(fare) AS a, sum(CAST(fare AS DOUBLE)) AS b {window}");
    let plan = plan_streaming(&state, &query).await.unwrap_or_else(|error| panic!("{}", error.render(&query, None)));
    let types: Vec<String> = plan.schema().fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    assert_eq!(types, ["a Decimal128(20, 2)", "b Float64"]);
    // What is planned at once keeps the names that it has always had.
    let plan = plan_streaming(&state, &format!("SELECT sum(CAST(fare AS DOUBLE)) AS b {window}")).await.unwrap();
    assert!(plan.display_indent().to_string().contains("sum(rides.fare) AS b"), "{}", plan.display_indent());
}

//! What ORDER BY, GROUP BY and ON may name and compute, and names for columns in FROM and WITH.

use watershed_dialect::plan_text;

use crate::shared::rows;
use crate::small_tables::{check, tables};

#[tokio::test]
async fn keys_that_are_the_same_for_all_rows_are_refused() {
    let ctx = tables().await;
    for (query, said) in [
        ("SELECT k FROM s.a ORDER BY ('k')", "ORDER BY of a constant text is not supported"),
        ("SELECT k FROM s.a ORDER BY k, (('k')) DESC", "ORDER BY of a constant text is not supported"),
        ("SELECT k FROM s.a ORDER BY E'k'", "ORDER BY of a constant text is not supported"),
        ("SELECT k FROM s.a UNION ALL SELECT k FROM s.b ORDER BY ('k')", "ORDER BY of a constant text is not supported"),
        ("SELECT count(*) FROM s.a GROUP BY ('k')", "GROUP BY of a constant text is not supported"),
        ("SELECT k FROM s.a ORDER BY $1", "ORDER BY of a parameter is not supported"),
        ("SELECT k FROM s.a ORDER BY (?)", "ORDER BY of a parameter is not supported"),
        ("SELECT count(*) FROM s.a GROUP BY $1", "GROUP BY of a parameter is not supported"),
        ("SELECT k FROM s.a ORDER BY -1", "ORDER BY of a constant number with a sign is not supported"),
        ("SELECT k FROM s.a ORDER BY 1.5", "ORDER BY of a constant number that is not whole is not supported"),
        ("FROM s.a |> ORDER BY 'k'", "ORDER BY of a constant text is not supported"),
    ] {
        let error = plan_text(&ctx, query).await.expect_err(query);
        assert!(error.message == said && error.hint.is_some(), "{query}: {error}");
    }
    check(&[
        ("SELECT k, x FROM s.a ORDER BY (2) DESC", &["3 30", "2 20", "1 10"]),
        ("SELECT k FROM s.a ORDER BY ((1)) DESC LIMIT 1", &["3"]),
        ("SELECT k, count(*) AS n FROM s.a GROUP BY (1) ORDER BY (1)", &["1 1", "2 1", "3 1"]),
        ("SELECT k FROM s.a ORDER BY NULL, k DESC", &["3", "2", "1"]),
    ])
    .await;
}

#[tokio::test]
async fn a_name_in_an_expression_of_order_by_is_the_tables() {
    check(&[
        ("SELECT -k AS k FROM s.a ORDER BY k", &["-3", "-2", "-1"]),
        ("SELECT -k AS k FROM s.a ORDER BY (k)", &["-3", "-2", "-1"]),
        ("SELECT -k AS k FROM s.a ORDER BY k + 0", &["-1", "-2", "-3"]),
        ("SELECT -k AS k, x FROM s.a ORDER BY k + 0 DESC, x LIMIT 2", &["-3 30", "-2 20"]),
        ("SELECT -k AS k FROM s.a ORDER BY CASE WHEN k = 1 THEN 9 ELSE k END", &["-2", "-3", "-1"]),
        ("SELECT k AS x, -x AS k FROM s.a ORDER BY x + k, k", &["1 -10", "2 -20", "3 -30"]),
        ("SELECT k FROM (SELECT -k AS k FROM s.a ORDER BY k + 0 LIMIT 1) q", &["-1"]),
        ("SELECT -k AS k, count(*) AS n FROM s.a GROUP BY k ORDER BY k + 0", &["-1 1", "-2 1", "-3 1"]),
        ("SELECT -k AS k FROM s.a QUALIFY row_number() OVER (ORDER BY x) > 1 ORDER BY k + 0", &["-2", "-3"]),
        // What the table has not, or more than one has, is the result's.
        ("SELECT -k AS neg FROM s.a ORDER BY neg + 0", &["-3", "-2", "-1"]),
        ("SELECT sum(x) AS x, k FROM s.a GROUP BY k ORDER BY x + 0 DESC", &["30 3", "20 2", "10 1"]),
        ("SELECT -a.k AS k FROM s.a JOIN s.b ON a.k = b.k ORDER BY k + 0", &["-3", "-2"]),
    ])
    .await;
}

#[tokio::test]
async fn columns_beyond_those_that_are_named_keep_their_names() {
    check(&[
        ("SELECT q, x FROM s.a AS t(q) ORDER BY q LIMIT 1", &["1 10"]),
        ("SELECT t.q, t.x FROM (SELECT k, x FROM s.a) AS t(q) WHERE t.q = 2", &["2 20"]),
        ("SELECT q, column2, column3 FROM (VALUES (1, 2, 3)) AS t(q)", &["1 2 3"]),
        ("WITH w(q) AS (SELECT k, x FROM s.a) SELECT q, x FROM w ORDER BY q LIMIT 1", &["1 10"]),
        ("WITH w(q) AS (SELECT * FROM s.a), u(z) AS (SELECT q, x FROM w) SELECT z, x FROM u WHERE z = 3", &["3 30"]),
        ("SELECT q FROM (SELECT k, k FROM s.a) AS t(q) WHERE q = 1", &["1"]),
    ])
    .await;
    let ctx = tables().await;
    for (query, said) in [
        ("SELECT * FROM s.a AS t(x, y, z)", "'t' has 2 columns, and 3 names are given"),
        ("WITH w(a, b) AS (SELECT 1) SELECT * FROM w", "'w' has 1 column, and 2 names are given"),
        ("SELECT k FROM s.a AS t(q)", "column 'k' does not exist"),
    ] {
        let error = plan_text(&ctx, query).await.expect_err(query);
        assert!(error.message == said && error.line.is_some(), "{query}: {error}");
    }
}

#[tokio::test]
async fn what_on_group_by_and_order_by_cannot_compute_is_refused_by_name() {
    let ctx = tables().await;
    for (query, said) in [
        ("SELECT a.k FROM s.a JOIN s.b ON row_number() OVER (ORDER BY a.k) = b.k", "row_number() OVER in ON"),
        ("SELECT a.k FROM s.a LEFT JOIN s.b ON a.k = b.k AND rank() OVER (ORDER BY a.k) > 1", "rank() OVER in ON"),
        ("SELECT count(*) FROM s.a GROUP BY row_number() OVER (ORDER BY k)", "row_number() OVER in GROUP BY"),
        ("SELECT row_number() OVER (ORDER BY k), count(*) FROM s.a GROUP BY 1", "row_number() OVER in GROUP BY"),
        ("SELECT k FROM s.l ORDER BY unnest(l)", "unnest() in ORDER BY"),
        ("SELECT a.k FROM s.l AS a JOIN s.l AS b ON unnest(a.l) = unnest(b.l)", "unnest() in ON"),
        ("SELECT count(DISTINCT k, x) FROM s.a", "count(DISTINCT …) of several columns is not supported"),
        ("SELECT count(DISTINCT k, x) OVER () FROM s.a", "count(DISTINCT …) of several columns is not supported"),
    ] {
        let error = rows(&ctx, query).await.expect_err(query);
        assert!(error.message == said && error.hint.is_some() && error.line.is_some(), "{query}: {error}");
    }
    check(&[("SELECT count(DISTINCT (k, x)) AS n FROM s.a", &["3"])]).await;
}

//! Forms of SQL that DataFusion reads in another way, or not at all.

use watershed_dialect::plan_text;

use crate::small_tables::{cells, check, tables};

#[tokio::test]
async fn using_takes_the_side_that_has_the_row() {
    check(&[
        ("SELECT k, y FROM s.a RIGHT JOIN s.b USING (k) ORDER BY y", &["2 200", "3 300", "4 400"]),
        ("SELECT k, x, y FROM s.a FULL JOIN s.b USING (k) ORDER BY k", &["1 10 NULL", "2 20 200", "3 30 300", "4 NULL 400"]),
        ("SELECT k, a.k AS ak, b.k AS bk FROM s.a FULL JOIN s.b USING (k) ORDER BY k", &["1 1 NULL", "2 2 2", "3 3 3", "4 NULL 4"]),
        ("SELECT * FROM s.a FULL JOIN s.b USING (k) ORDER BY k", &["1 10 NULL", "2 20 200", "3 30 300", "4 NULL 400"]),
        ("SELECT * FROM s.a RIGHT JOIN s.b USING (k) ORDER BY k", &["2 20 200", "3 30 300", "4 NULL 400"]),
        ("SELECT k, count(*) AS n FROM s.a FULL JOIN s.b USING (k) GROUP BY k ORDER BY k", &["1 1", "2 1", "3 1", "4 1"]),
        ("SELECT y FROM s.a FULL JOIN s.b USING (k) WHERE k = 4", &["400"]),
        ("SELECT x FROM s.a FULL JOIN s.b USING (k) ORDER BY k DESC", &["NULL", "30", "20", "10"]),
        ("SELECT k + 1 AS n FROM s.a AS p FULL JOIN s.b AS q USING (k) GROUP BY k HAVING max(k) > 2 ORDER BY n", &["4", "5"]),
        ("SELECT k FROM s.a FULL JOIN s.b USING (k) FULL JOIN (SELECT 9 AS k) AS c USING (k) ORDER BY k", &["1", "2", "3", "4", "9"]),
        ("WITH j AS (SELECT * FROM s.a FULL JOIN s.b USING (k)) SELECT sum(k) AS n FROM j", &["10"]),
        ("SELECT k FROM s.a FULL JOIN s.b USING (k) WHERE k IN (SELECT k FROM s.b WHERE y > 300)", &["4"]),
        ("SELECT k FROM s.a LEFT JOIN s.b USING (k) WHERE k < 3 ORDER BY k", &["1", "2"]),
    ])
    .await;
    for join in ["FULL", "RIGHT"] {
        let error = plan_text(&tables().await, &format!("SELECT k FROM s.a NATURAL {join} JOIN s.b")).await.unwrap_err();
        assert_eq!(error.message, "NATURAL beside a RIGHT or FULL JOIN is not supported: its columns are known only when it is planned");
        assert_eq!(error.hint.as_deref(), Some("name the columns: … JOIN … USING (column)"));
    }
}

#[tokio::test]
async fn what_everybody_writes_is_understood() {
    check(&[
        ("SELECT a.* FROM s.a ORDER BY 1", &["1 10", "2 20", "3 30"]),
        ("SELECT a.*, b.y FROM s.a JOIN s.b ON a.k = b.k ORDER BY 1", &["2 20 200", "3 30 300"]),
        ("SELECT k % 2 AS odd, sum(x) AS n, rank() OVER (ORDER BY sum(x) DESC) FROM s.a GROUP BY k % 2 ORDER BY 3", &["1 40 1", "0 20 2"]),
        ("SELECT k, rank() OVER (ORDER BY x DESC) AS r FROM s.a ORDER BY 2", &["3 1", "2 2", "1 3"]),
        ("SELECT w FROM s.words WHERE w LIKE 'foo$_%' ESCAPE '$'", &["foo_1"]),
        ("SELECT w FROM s.words WHERE w LIKE '%!%' ESCAPE '!'", &["50%"]),
        ("SELECT w FROM s.words WHERE w NOT LIKE 'FOO^_1' ESCAPE '^' AND w ILIKE 'FOO^_1' ESCAPE '^'", &["foo_1"]),
        ("SELECT count(*) AS n FROM s.a WHERE (k, x) IN (SELECT k, k * 10 FROM s.b)", &["2"]),
        ("SELECT k FROM s.a WHERE (k, x) NOT IN (SELECT k, y FROM s.b WHERE y > 200) ORDER BY k", &["1", "2", "3"]),
        (
            "SELECT id, (id, z) IN (SELECT id, z + 5 FROM s.n2) AS is_in FROM s.n1 ORDER BY z",
            &["1 true", "2 false", "NULL false", "4 false"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn set_operations_with_all_count_rows() {
    let left = "SELECT * FROM (VALUES (1, 'a'), (1, 'a'), (1, 'a'), (2, NULL), (2, NULL), (3, 'c')) AS l(k, w)";
    let right = "SELECT * FROM (VALUES (1, 'a'), (1, 'a'), (2, NULL), (4, 'd')) AS r(k, w)";
    check(&[
        (&format!("{left} INTERSECT ALL {right} ORDER BY k"), &["1 a", "1 a", "2 NULL"]),
        (&format!("{left} EXCEPT ALL {right} ORDER BY k"), &["1 a", "2 NULL", "3 c"]),
        (&format!("{right} EXCEPT ALL {left}"), &["4 d"]),
        (&format!("{left} INTERSECT {right} ORDER BY k"), &["1 a", "2 NULL"]),
        (&format!("{left} EXCEPT {right}"), &["3 c"]),
        (&format!("SELECT count(*) AS n FROM ({left} UNION ALL {left} EXCEPT ALL {right})"), &["9"]),
        (
            &format!("SELECT k FROM s.a WHERE k IN (SELECT k FROM ({left}) EXCEPT ALL SELECT k FROM s.b WHERE b.k = a.k) ORDER BY k"),
            &["1", "2"],
        ),
        (&format!("WITH l AS ({left}) SELECT k FROM l EXCEPT ALL SELECT k FROM l WHERE w IS NULL ORDER BY k"), &["1", "1", "1", "3"]),
    ])
    .await;
}

#[tokio::test]
async fn set_operations_over_conditions_are_planned() {
    check(&[
        ("SELECT x IS TRUE AS v FROM (VALUES (true), (NULL)) AS l(x) INTERSECT SELECT x FROM (VALUES (true), (NULL)) AS r(x)", &["true"]),
        ("SELECT count(*) AS n FROM (SELECT k IS NULL AS v FROM s.a EXCEPT SELECT CAST(NULL AS BOOLEAN))", &["1"]),
    ])
    .await;
}

#[tokio::test]
async fn what_is_computed_is_headed_as_it_is_written() {
    let ctx = tables().await;
    for (query, headings) in [
        ("SELECT k, CAST(k AS BIGINT), count(*), count(*) FROM s.a GROUP BY k", vec!["k", "CAST(k AS BIGINT)", "count(*)", "count(*) (2)"]),
        ("SELECT EXTRACT(YEAR FROM DATE '2024-01-01'), -k, a.k FROM s.a", vec!["EXTRACT(YEAR FROM DATE '2024-01-01')", "-k", "k"]),
        ("SELECT sum(x) FROM s.a GROUP BY k ORDER BY sum(x)", vec!["sum(x)"]),
        ("SELECT unnest(l) FROM s.l", vec!["UNNEST(s.l.l)"]),
    ] {
        let plan = plan_text(&ctx, query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        let found: Vec<_> = plan.schema().fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(found, headings, "{query}");
    }
}

#[tokio::test]
async fn capitals_are_to_be_quoted() {
    let ctx = tables().await;
    for made in ["CREATE SCHEMA \"Sales\"", "CREATE TABLE \"Sales\".\"Orders\" AS SELECT * FROM (VALUES (7)) t(id)"] {
        ctx.sql(made).await.unwrap().collect().await.unwrap();
    }
    assert_eq!(cells(&ctx, "SELECT id FROM \"Sales\".\"Orders\"").await, ["7"]);
    for (query, hint) in [
        ("SELECT VendorID FROM s.\"Caps\"", "write \"VendorID\""),
        ("SELECT VendorId FROM s.\"Caps\"", "write \"VendorID\""),
        ("SELECT 1 FROM s.Caps", "\"Caps\""),
        ("SELECT id FROM Sales.Orders", "write \"Sales\".\"Orders\""),
        ("SELECT id FROM sales.\"Orders\"", "write \"Sales\".\"Orders\""),
        ("SELECT id FROM \"Sales\".orders", "write \"Sales\".\"Orders\""),
    ] {
        let error = plan_text(&ctx, query).await.expect_err(query).to_string();
        assert!(error.contains("double quotes") && error.contains(hint), "{query}: {error}");
    }
}

#[tokio::test]
async fn columns_are_headed_as_they_are_written() {
    let ctx = tables().await;
    for (query, names) in [
        ("SELECT 1", &["1"][..]),
        ("SELECT 'x', 1 + 1, NULL", &["'x'", "1 + 1", "NULL"]),
        ("SELECT k, k + 1, count(*) FROM s.a GROUP BY k", &["k", "k + 1", "count(*)"]),
        ("SELECT 1 UNION ALL SELECT 2", &["1"]),
        ("SELECT DATE '2024-01-01', INTERVAL '1 day'", &["DATE '2024-01-01'", "INTERVAL '1 day'"]),
        ("SELECT DISTINCT k + 1 FROM s.a ORDER BY k + 1", &["k + 1"]),
    ] {
        let plan = plan_text(&ctx, query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        let found: Vec<&str> = plan.schema().fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(found, names, "{query}");
    }
}

//! Subqueries give the rows that SQL says, NULL and all, wherever they are written.

use watershed_dialect::plan_text;

use crate::shared::{lines, session};
use crate::small_tables::{check, tables};

/// The aggregate has a row of no rows, too.
#[tokio::test]
async fn a_condition_without_columns_stays_above_an_aggregate() {
    let ctx = session();
    let rows = "(VALUES (1), (2)) t(n)";
    let never = format!("(SELECT max(n) FROM {rows}) <> (SELECT max(n) FROM {rows})");
    for (query, right) in [
        (format!("SELECT count(*) FROM (SELECT DISTINCT max(n) AS m FROM {rows}) WHERE {never}"), "0"),
        (format!("SELECT count(*) FROM (SELECT max(n) AS m FROM {rows} GROUP BY ROLLUP (n)) WHERE {never}"), "0"),
        (format!("SELECT count(*) FROM (SELECT max(n) AS m FROM {rows}) WHERE m > 1 AND {never}"), "0"),
        (format!("SELECT count(*) FROM (SELECT max(n) AS m FROM {rows} HAVING {never})"), "0"),
        (format!("SELECT count(*) FROM (SELECT max(n) AS m FROM {rows}) WHERE NOT ({never})"), "1"),
    ] {
        assert_eq!(lines(&ctx, &query).await, [right], "{query}");
    }
}

#[tokio::test]
async fn all_and_any_compare_with_every_row() {
    check(&[
        ("SELECT k FROM s.a WHERE k >= ALL (SELECT k FROM s.a)", &["3"]),
        ("SELECT k FROM s.a WHERE k > ALL (SELECT k FROM s.a WHERE k < 3)", &["3"]),
        ("SELECT k FROM s.a WHERE k > ANY (SELECT k FROM s.a) ORDER BY k", &["2", "3"]),
        ("SELECT k FROM s.a WHERE k > ALL (SELECT k FROM s.a WHERE k > 9) ORDER BY k", &["1", "2", "3"]),
        ("SELECT k FROM s.a WHERE k > ANY (SELECT k FROM s.a WHERE k > 9)", &[]),
        ("SELECT k FROM s.a WHERE k <> ALL (SELECT k FROM s.b) ORDER BY k", &["1"]),
        ("SELECT k FROM s.a WHERE k = ANY (SELECT k FROM s.b) ORDER BY k", &["2", "3"]),
        ("SELECT k FROM s.a WHERE k = ALL (SELECT k FROM s.b WHERE k = 2)", &["2"]),
        ("SELECT k FROM s.a WHERE k <> ANY (SELECT k FROM s.b WHERE k = 2) ORDER BY k", &["1", "3"]),
        (
            "SELECT id, id < ALL (SELECT id FROM s.n2) AS all_of, id < ANY (SELECT id FROM s.n2) AS any_of FROM s.n1 ORDER BY id",
            &["1 false true", "2 false true", "4 false true", "NULL NULL NULL"],
        ),
        ("SELECT k FROM s.a WHERE x < ALL (SELECT y FROM s.b WHERE s.b.k = s.a.k) ORDER BY k", &["1", "2", "3"]),
        ("SELECT k FROM s.a WHERE NOT (k < ANY (SELECT k FROM s.b WHERE y < 10 * x + 1)) ORDER BY k", &["1", "2", "3"]),
    ])
    .await;
}

#[tokio::test]
async fn not_in_knows_null() {
    check(&[
        ("SELECT id FROM s.t1 WHERE 3 NOT IN (SELECT id FROM s.t2)", &[]),
        ("SELECT id FROM s.t_out WHERE 3 NOT IN (SELECT t_in.id FROM s.t_in WHERE t_in.g = t_out.g)", &["1"]),
        ("SELECT id FROM s.n1 WHERE id NOT IN (SELECT n2.id FROM s.n2 WHERE n2.z < n1.z) ORDER BY id", &["2", "4"]),
        ("SELECT id FROM s.n1 WHERE id NOT IN (SELECT id FROM s.n2)", &[]),
        ("SELECT id FROM s.n1 WHERE id NOT IN (SELECT id FROM s.n2 WHERE id IS NOT NULL) ORDER BY id", &["2", "4"]),
        ("SELECT id FROM s.n1 WHERE id NOT IN (SELECT id FROM s.n2 WHERE id > 100) ORDER BY id", &["1", "2", "4", "NULL"]),
        ("SELECT id FROM s.n1 WHERE NOT (id IN (SELECT n2.id FROM s.n2 WHERE n2.z < n1.z) AND z > 0) ORDER BY id", &["2", "4"]),
        ("SELECT id, id IN (SELECT id FROM s.n2) AS is_in FROM s.n1 ORDER BY id", &["1 true", "2 NULL", "4 NULL", "NULL NULL"]),
        (
            "SELECT id, id NOT IN (SELECT n2.id FROM s.n2 WHERE n2.z < n1.z) AS out FROM s.n1 ORDER BY id",
            &["1 false", "2 true", "4 true", "NULL NULL"],
        ),
        ("SELECT count(*) FROM s.n1 WHERE (id IN (SELECT id FROM s.n2)) IS NULL", &["3"]),
    ])
    .await;
}

#[tokio::test]
async fn an_aggregate_without_groups_exists() {
    check(&[
        ("SELECT id FROM s.n1 WHERE EXISTS (SELECT count(*) FROM s.n2 WHERE n2.id = n1.id) ORDER BY id", &["1", "2", "4", "NULL"]),
        ("SELECT id FROM s.n1 WHERE NOT EXISTS (SELECT max(z) FROM s.n2 WHERE n2.id = n1.id)", &[]),
        ("SELECT id FROM s.n1 WHERE EXISTS (SELECT 1 FROM s.n2 WHERE n2.id = n1.id HAVING count(*) = 0) ORDER BY id", &["2", "4", "NULL"]),
        ("SELECT id FROM s.n1 WHERE EXISTS (SELECT n2.id FROM s.n2 WHERE n2.id = n1.id GROUP BY n2.id)", &["1"]),
        ("SELECT id FROM s.n1 WHERE EXISTS (SELECT 1 FROM s.n2 WHERE n2.id = n1.id LIMIT 0)", &[]),
        ("SELECT id FROM s.n1 WHERE EXISTS (SELECT 1 FROM s.n2 WHERE n2.z < n1.z OFFSET 1) ORDER BY id", &["2", "4", "NULL"]),
    ])
    .await;
}

#[tokio::test]
async fn subqueries_stand_anywhere() {
    check(&[
        ("SELECT k, k IN (SELECT k FROM s.b) AS is_in FROM s.a ORDER BY k", &["1 false", "2 true", "3 true"]),
        ("SELECT k, EXISTS (SELECT 1 FROM s.b WHERE b.k = a.k) AS e FROM s.a AS a ORDER BY k", &["1 false", "2 true", "3 true"]),
        ("SELECT EXISTS (SELECT 1 FROM s.a WHERE k = 3) AS e, NOT EXISTS (SELECT 1 FROM s.a WHERE k = 4) AS n", &["true true"]),
        ("SELECT sum(CASE WHEN k IN (SELECT k FROM s.b) THEN 1 END) AS n FROM s.a", &["2"]),
        ("SELECT count(*) FILTER (WHERE EXISTS (SELECT 1 FROM s.b WHERE b.k = a.k)) AS n FROM s.a AS a", &["2"]),
        ("SELECT k IN (SELECT k FROM s.b) AS is_in, count(*) FROM s.a GROUP BY 1 ORDER BY 1", &["false 1", "true 2"]),
        ("SELECT k FROM s.a AS a ORDER BY (SELECT -y FROM s.b WHERE b.k = a.k) NULLS LAST", &["3", "2", "1"]),
        ("SELECT k, rank() OVER (ORDER BY k IN (SELECT k FROM s.b)) AS r FROM s.a ORDER BY k", &["1 1", "2 2", "3 2"]),
        ("SELECT a.k, b.y FROM s.a JOIN s.b ON a.k = b.k AND a.k IN (SELECT max(k) FROM s.a)", &["3 300"]),
        ("SELECT k FROM s.a WHERE k = 1 OR EXISTS (SELECT 1 FROM s.b WHERE b.k = a.k AND y > 250) ORDER BY k", &["1", "3"]),
        ("SELECT k FROM s.a WHERE CASE WHEN k IN (SELECT k FROM s.b) THEN false ELSE true END", &["1"]),
    ])
    .await;
}

#[tokio::test]
async fn a_value_may_depend_on_the_row_in_any_way() {
    check(&[
        ("SELECT k, (SELECT max(y) FROM s.b WHERE b.k >= a.k) AS m FROM s.a AS a ORDER BY k", &["1 400", "2 400", "3 400"]),
        ("SELECT k, (SELECT count(*) FROM s.b WHERE b.k > a.k + 1) AS n FROM s.a AS a ORDER BY k", &["1 2", "2 1", "3 0"]),
        ("SELECT k, (SELECT y FROM s.b WHERE b.k > a.k ORDER BY y DESC LIMIT 1) AS m FROM s.a AS a ORDER BY k", &["1 400", "2 400", "3 400"]),
        ("SELECT k, (SELECT y FROM s.b WHERE b.k > a.k ORDER BY b.k LIMIT 1 OFFSET 1) AS m FROM s.a AS a ORDER BY k", &["1 300", "2 400", "3 NULL"]),
        ("SELECT k, (SELECT y FROM s.b WHERE b.k = a.k) AS y FROM s.a AS a ORDER BY k", &["1 NULL", "2 200", "3 300"]),
        ("SELECT k, (SELECT count(*) + 1 FROM s.b WHERE b.k = a.k) AS n FROM s.a AS a ORDER BY k", &["1 1", "2 2", "3 2"]),
        ("SELECT k, (SELECT a.x + max(b.y) FROM s.b WHERE b.k = a.k) AS n FROM s.a AS a ORDER BY k", &["1 NULL", "2 220", "3 330"]),
        ("SELECT k, (SELECT sum(y) FROM (SELECT y FROM s.b WHERE b.k > a.k UNION ALL SELECT a.x) t) AS n FROM s.a AS a ORDER BY k", &["1 910", "2 720", "3 430"]),
        ("SELECT k FROM s.a AS a WHERE x < (SELECT avg(y) FROM s.b WHERE b.k <> a.k) ORDER BY k", &["1", "2", "3"]),
        ("SELECT (SELECT count(*) FROM s.a HAVING max(x) > 99) AS n", &["NULL"]),
        ("SELECT k, (SELECT a.k + 1) AS n FROM s.a AS a ORDER BY k", &["1 2", "2 3", "3 4"]),
        ("SELECT n1.z, (SELECT count(*) FROM s.n2 WHERE n2.id IS NOT DISTINCT FROM n1.id) AS n FROM s.n1 ORDER BY 1", &["10 1", "20 0", "30 1", "40 0"]),
        ("SELECT k, (SELECT sum(m) FROM (SELECT row_number() OVER (ORDER BY y) AS m FROM s.b WHERE b.k >= a.k) t) AS n FROM s.a AS a ORDER BY k", &["1 6", "2 6", "3 3"]),
        ("SELECT k, (SELECT b.y FROM s.b FULL JOIN s.t1 ON b.k = t1.id + a.k WHERE t1.id = 1) AS n FROM s.a AS a ORDER BY k", &["1 200", "2 300", "3 400"]),
    ])
    .await;
    let ctx = tables().await;
    let several = plan_text(&ctx, "SELECT k, (SELECT y FROM s.b WHERE b.k > a.k) FROM s.a AS a").await.unwrap();
    let error = ctx.execute_logical_plan(several).await.unwrap().collect().await.unwrap_err().to_string();
    assert!(error.contains("has more than one row: add LIMIT 1"), "{error}");
}

#[tokio::test]
async fn subqueries_reach_out_as_far_as_they_like() {
    check(&[
        ("SELECT k FROM s.a WHERE EXISTS (SELECT 1 FROM s.b WHERE EXISTS (SELECT 1 FROM s.n1 WHERE n1.id = b.k AND n1.z = s.a.x))", &["2"]),
        ("SELECT k FROM s.a WHERE NOT EXISTS (SELECT 1 FROM s.b WHERE NOT EXISTS (SELECT 1 FROM s.n1 WHERE n1.z > s.a.x AND n1.id <= b.k)) ORDER BY k", &["1"]),
        ("SELECT k, (SELECT max(y) FROM s.b WHERE b.k IN (SELECT id FROM s.n1 WHERE n1.z > a.x)) AS m FROM s.a AS a ORDER BY k", &["1 400", "2 400", "3 400"]),
        ("SELECT k FROM s.a WHERE k IN (SELECT b.k FROM s.b WHERE y = (SELECT max(y) FROM s.b AS c WHERE c.k <= s.a.k AND c.k <= b.k)) ORDER BY k", &["2", "3"]),
    ])
    .await;
}

#[tokio::test]
async fn lateral_makes_rows_for_each_row() {
    check(&[
        (
            "SELECT a.k, t.y FROM s.a AS a, LATERAL (SELECT y FROM s.b WHERE b.k > a.k ORDER BY y LIMIT 1) t ORDER BY 1",
            &["1 200", "2 300", "3 400"],
        ),
        (
            "SELECT a.k, t.y FROM s.a AS a LEFT JOIN LATERAL (SELECT y FROM s.b WHERE b.k = a.k LIMIT 1) t ON true ORDER BY 1",
            &["1 NULL", "2 200", "3 300"],
        ),
        (
            "SELECT a.k, t.n FROM s.a AS a CROSS JOIN LATERAL (SELECT count(*) AS n FROM s.b WHERE b.k < a.k) t ORDER BY 1",
            &["1 0", "2 0", "3 1"],
        ),
        ("SELECT t.k, u.v FROM s.l AS t CROSS JOIN UNNEST(t.l) AS u(v) ORDER BY 1, 2", &["1 7", "1 8", "2 9", "2 9"]),
        ("SELECT t.k, u.v FROM s.l AS t LEFT JOIN UNNEST(t.l) AS u(v) ON true ORDER BY 1, 2", &["1 7", "1 8", "2 9", "2 9", "3 NULL"]),
        (
            "SELECT a.k, t.y FROM s.a AS a, LATERAL (SELECT y FROM s.b WHERE b.k > a.k) t WHERE t.y > 300 ORDER BY 1",
            &["1 400", "2 400", "3 400"],
        ),
    ])
    .await;
}

/// Lists and structs, in subqueries that depend on the row.
#[tokio::test]
async fn lists_may_name_what_is_outside() {
    let ctx = session();
    let t = "(SELECT i, [i, 2] AS l, named_struct('n', i, 'items', [i]) AS p FROM (VALUES (1), (2), (NULL)) v(i))";
    for (query, right) in [
        (format!("SELECT a.i FROM {t} a WHERE EXISTS (SELECT 1 FROM {t} b WHERE [a.i, b.i] = [2, 1])"), vec!["2"]),
        (format!("SELECT a.i FROM {t} a WHERE a.i IN (SELECT [a.i, b.i][2] FROM {t} b)"), vec!["1", "2"]),
        ("WITH w AS (SELECT 7 AS n) SELECT [(SELECT n FROM w), 8]".to_owned(), vec!["[7, 8]"]),
        (
            format!(
                "SELECT coalesce(CAST(x.i AS VARCHAR), 'none') FROM {t} a LEFT JOIN LATERAL (SELECT b.i FROM {t} b WHERE b.p = a.p LIMIT 1) x ON true ORDER BY 1"
            ),
            vec!["1", "2", "none"],
        ),
        (
            format!("SELECT count(*) FROM {t} a WHERE EXISTS (SELECT 1 FROM {t} b WHERE b.l = a.l GROUP BY b.l HAVING count(*) > 0)"),
            vec!["3"],
        ),
    ] {
        let mut found = lines(&ctx, &query).await;
        found.sort();
        assert_eq!(found, right, "{query}");
    }
}

/// Rules ask what a condition comes to when all columns are NULL.
#[tokio::test]
async fn conditions_over_functions_of_ours_go_through_outer_joins() {
    let ctx = session();
    let t = "(VALUES (1, 1.5e0, '2024-01-01'), (2, 2.5e0, NULL)) AS";
    for condition in ["x.v IS NULL", "x.v IS NOT NULL"] {
        for value in [
            "1 - b.i",
            "-b.i",
            "b.i * b.i",
            "CAST(b.f AS DECIMAL(9, 2)) + 1",
            "distance_m(b.f, b.f, 1, 1)",
            "s2_cell(b.f, b.f, 4)",
            "to_timestamp(b.s)",
        ] {
            let query = format!(
                "SELECT x.i FROM (SELECT a.i, {value} AS v FROM {t} a(i, f, s) LEFT JOIN {t} b(i, f, s) ON a.i = b.i AND a.i = 1) x \
                 JOIN {t} c(i, f, s) ON c.i = x.i WHERE {condition}"
            );
            let right = if condition.contains("NOT") { ["1"] } else { ["2"] };
            assert_eq!(lines(&ctx, &query).await, right, "{query}");
        }
    }
}

/// Structs with lists in them can be joined on, though they have no order.
#[tokio::test]
async fn structs_without_an_order_are_joined_and_not_compared() {
    let ctx = session();
    let t = "(SELECT i, named_struct('items', [i]) AS p FROM (VALUES (1), (2)) v(i) UNION ALL SELECT 3, named_struct('items', [3]))";
    let joined = format!("SELECT count(*) FROM {t} a JOIN {t} b ON a.p = b.p");
    assert_eq!(lines(&ctx, &joined).await, ["3"]);
    for query in [format!("SELECT max(p) FROM {t}"), format!("SELECT a.i FROM {t} a WHERE a.p = ALL (SELECT b.p FROM {t} b)")] {
        let error = plan_text(&ctx, &query).await.unwrap_err().to_string();
        assert!(error.contains("such values have no order"), "{query}: {error}");
    }
}

#[tokio::test]
async fn a_list_may_begin_with_a_subquery() {
    check(&[
        ("SELECT k FROM s.a WHERE k IN ((SELECT min(k) FROM s.b), 1) ORDER BY k", &["1", "2"]),
        ("SELECT k FROM s.a WHERE k NOT IN ((SELECT 2), 1 + 0) ORDER BY k", &["3"]),
        ("SELECT k FROM s.a WHERE k IN ((SELECT 1) UNION (SELECT 2)) ORDER BY k", &["1", "2"]),
        ("SELECT k FROM s.a WHERE k NOT IN ((SELECT k FROM s.b)) ORDER BY k", &["1"]),
        ("SELECT k FROM s.a WHERE k IN ((1), (2)) AND NOT k IN ((2)) ORDER BY k", &["1"]),
    ])
    .await;
}

#[tokio::test]
async fn fields_of_structs_are_found_whatever_is_joined() {
    let ctx = session();
    let t = "(SELECT i, named_struct('n', i) AS p FROM (VALUES (1), (2)) v(i))";
    let query = format!(
        "SELECT r.v1['n'] FROM (SELECT * FROM (SELECT (SELECT p FROM {t} x WHERE i = 2) AS v1, count(*) AS v2 FROM {t} a GROUP BY a.i) l \
         EXCEPT ALL SELECT * FROM (SELECT b.p AS v1, b.i AS v2 FROM {t} b WHERE b.i = 1) m) r CROSS JOIN {t} c WHERE r.v1['n'] = c.i"
    );
    assert_eq!(lines(&ctx, &query).await, ["2", "2"]);
}

//! Queries that random ones have shown to give other rows than they should, or none.

use crate::small_tables::check;

#[tokio::test]
async fn null_meets_null_beside_other_joins_where_it_is_asked_to() {
    check(&[
        ("SELECT a.z, b.z, c.id FROM s.n1 a JOIN s.n2 b ON a.id IS NOT DISTINCT FROM b.id JOIN s.t1 c ON a.z > c.id WHERE c.id = 1 ORDER BY 1", &[
            "10 5 1", "30 50 1",
        ]),
        ("SELECT count(*) FROM s.n1 a JOIN s.n2 b ON a.id IS NOT DISTINCT FROM b.id, s.t1 c WHERE c.id = 1", &["2"]),
        // And nowhere else.
        ("SELECT a.id FROM s.n2 a JOIN s.n2 b ON a.z IS NOT DISTINCT FROM b.z WHERE a.id = b.id ORDER BY 1", &["1", "5"]),
        ("SELECT a.id FROM s.n2 a JOIN s.n2 b ON a.z IS NOT DISTINCT FROM b.z JOIN s.t2 c ON a.id = c.id", &["1"]),
    ])
    .await;
}

#[tokio::test]
async fn a_number_orders_nothing_within_an_aggregate() {
    check(&[
        ("SELECT array_agg(k ORDER BY 1 DESC, x) FROM s.a", &["[1, 2, 3]"]),
        ("SELECT array_agg(7 ORDER BY 1 DESC) FROM (SELECT DISTINCT named_struct('l', l) AS p FROM s.l) q", &["[7, 7, 7]"]),
    ])
    .await;
}

#[tokio::test]
async fn lateral_may_name_nothing_outside() {
    check(&[(
        "SELECT DISTINCT a.k, r.y FROM s.a CROSS JOIN LATERAL (SELECT b.y FROM s.b CROSS JOIN LATERAL
         (SELECT (SELECT max(k) FROM s.a) AS v FROM s.t1 WHERE b.y > 200) q) r WHERE a.k = 1 ORDER BY 2",
        &["1 300", "1 400"],
    )])
    .await;
}

#[tokio::test]
async fn a_subquery_may_name_its_columns_as_its_tables_do() {
    check(&[
        ("SELECT k FROM s.a WHERE (1, 1) NOT IN (SELECT 1 AS k, 9 AS y FROM s.b WHERE b.y > a.x) ORDER BY 1", &["1", "2", "3"]),
        ("SELECT k FROM s.a WHERE EXISTS (SELECT 7 AS y FROM s.b WHERE b.y = a.x * 10 AND b.k = a.k) ORDER BY 1", &["2", "3"]),
    ])
    .await;
}

#[tokio::test]
async fn fields_are_found_where_an_outer_join_has_no_other_side() {
    let none = "(SELECT k, x, named_struct('n', k) AS p FROM s.a) r RIGHT JOIN (SELECT k, y, named_struct('n', k) AS p FROM s.b) q ON CAST(NULL AS BOOLEAN)";
    let query = format!("SELECT max(v) FROM (SELECT DISTINCT q.p['n'] AS v, CASE WHEN r.x > 1 THEN r.x ELSE q.y END AS w FROM {none}) z");
    check(&[(&query, &["4"])]).await;
}

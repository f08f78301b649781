//! Scalar functions in batch and in streams.

use datafusion::prelude::SessionContext;
use watershed_dialect::{plan_streaming, plan_text};

use crate::shared::{lines, rows, session};

#[tokio::test]
async fn cells_and_distances_of_columns_and_constants() {
    let ctx = session();
    // At 2 decimals, so that the last digits of a sine do not matter.
    let query = "SELECT s2_cell(lat, lon, 12), s2_cell(lat, lon, level), round(distance_m(lat, lon, 0, 0) * 100) / 100
                 FROM (VALUES (49.703498679, 11.770681595, 2), (0.0, 0.0, 0), (NULL, 1.0, 3), (91.0, 1.0, 3), (0.0, 1.0, 31)) AS t (lat, lon, level)";
    let found = lines(&ctx, query).await;
    assert_eq!(found[0].split(' ').take(2).collect::<Vec<_>>(), ["47a1cbd", "47"]);
    assert_eq!(found[1], "1000001 1 0.0");
    // NULL, no place on Earth, no such level: nothing, and no failure.
    assert_eq!(found[2], "");
    assert_eq!(found[3], "");
    assert_eq!(found[4].split(' ').count(), 2, "{}", found[4]);
    // Whole numbers, decimals and constants will do.
    let query = "SELECT s2_cell(1, CAST(2 AS DECIMAL(5, 2)), 0), distance_m(0, 0, 0, 0), s2_cell(NULL, 1, 3) IS NULL";
    assert_eq!(lines(&ctx, query).await, ["1 0.0 true"]);
}

#[tokio::test]
async fn a_level_that_does_not_exist_is_refused_at_its_place() {
    let ctx = session();
    let query = "SELECT city, s2_cell(1.0, 2.0, 31) FROM rides";
    let error = rows(&ctx, query).await.unwrap_err();
    assert!(error.message.contains("no level 31"), "{error}");
    assert_eq!((error.line, error.column), (Some(1), Some(14)), "{error}");
    let error = rows(&ctx, "SELECT distance_m('a', 2, 3) FROM rides").await.unwrap_err();
    assert!(error.message.starts_with("distance_m() does not take"), "{error}");
}

#[tokio::test]
async fn streams_may_call_them() {
    let ctx = session();
    let query = "SELECT s2_cell(pickup['lat'], pickup['lon'], 12) AS cell, window_start, count(*) AS rides
                 FROM TUMBLE(TABLE rides, DESCRIPTOR(event_time), INTERVAL '1 minute')
                 GROUP BY s2_cell(pickup['lat'], pickup['lon'], 12), window_start";
    plan_streaming(&ctx.state(), query).await.unwrap_or_else(|e| panic!("{}", e.render(query, None)));
}

async fn failure(ctx: &SessionContext, query: &str) -> String {
    let computed = async {
        let plan = plan_text(ctx, query).await.map_err(|e| e.to_string())?;
        let frame = ctx.execute_logical_plan(plan).await.map_err(|e| e.to_string())?;
        frame.collect().await.map_err(|e| e.to_string())
    };
    computed.await.expect_err(query)
}

#[tokio::test]
async fn what_would_make_a_huge_value_is_refused_before_it_is_made() {
    let ctx = session();
    for (expression, name) in [
        ("repeat('x', 600000000)", "repeat"),
        ("repeat(s, n)", "repeat"),
        ("lpad('x', 500000000, 'y')", "lpad"),
        ("rpad(s, CAST(n AS INT))", "rpad"),
        ("array_length(range(0, 100000000))", "range"),
        ("array_length(range(0, 1099511627776))", "range"),
        ("array_length(range(n))", "range"),
        ("range(TIMESTAMP '2000-01-01', TIMESTAMP '2024-01-01', INTERVAL '1 second')", "range"),
        ("array_length(generate_series(100000000, 0, -1))", "generate_series"),
        ("array_length(generate_series(-9223372036854775807, 9223372036854775807))", "generate_series"),
        ("array_length(array_repeat(1, 100000000))", "array_repeat"),
        ("array_length(array_repeat(s, n))", "array_repeat"),
        ("array_length(array_resize([1], 100000000, 0))", "array_resize"),
        ("length(concat(repeat('x', 60000000), repeat('y', 60000000)))", "concat"),
        ("length(replace(repeat('x', 100000), 'x', repeat('y', 1000)))", "replace"),
    ] {
        let query = format!("SELECT {expression} FROM (VALUES ('x', 600000000)) t(s, n)");
        let error = failure(&ctx, &query).await;
        assert!(error.contains(&format!("{name}() would make a value of ")) && error.contains("64 MiB are the limit"), "{query}: {error}");
    }
    for query in [
        "WITH RECURSIVE d AS (SELECT CAST('x' AS VARCHAR) AS s, 1 AS n UNION ALL SELECT s || s, n + 1 FROM d WHERE n < 60) SELECT max(length(s)) FROM d",
        "SELECT length(repeat('x', 60000000) || repeat('y', 60000000))",
        "SELECT length(s || repeat('y', 60000000)) FROM (SELECT repeat('x', n) AS s FROM (VALUES (50000000)) t(n))",
    ] {
        let error = failure(&ctx, query).await;
        assert!(error.contains("|| would make a value of ") && error.contains("64 MiB are the limit"), "{query}: {error}");
    }
    let query = "SELECT 'a' || s || NULL IS NULL AS n, 'a' || s || 'ü' AS v, s || s AS w FROM (VALUES ('x'), (NULL), ('')) t(s) ORDER BY s";
    assert_eq!(lines(&ctx, query).await, ["true aü", "true axü xx", "true"]);
    assert_eq!(rows(&ctx, "SELECT s || 'b' FROM (VALUES ('x')) t(s)").await.unwrap().lines().nth(1), Some("| s || 'b' |"));
    // Many that are big together.
    let query = "SELECT length(repeat('x', CAST(60000000 + n AS BIGINT))) FROM (VALUES (1), (2), (3), (4), (5)) t(n)";
    let error = failure(&ctx, query).await;
    assert!(error.contains("repeat() would make 5 values of 300000015 bytes, and 256 MiB are the limit"), "{error}");
    let query = "SELECT length(repeat('xy', 1000)), lpad('1', 3, '0'), range(3), generate_series(3, 1, -1), array_repeat('a', 2), repeat(NULL, 3) IS NULL,
                        range(DATE '2024-01-01', DATE '2024-01-03', INTERVAL '1 day')[2], concat('a', NULL, 'b'), replace('aXa', 'X', 'b'),
                        array_resize([1], 2, 0), repeat('a', -1)";
    assert_eq!(lines(&ctx, query).await, ["2000 001 [0, 1, 2] [3, 2, 1] [a, a] true 2024-01-02 ab aba [1, 0]"]);
}

//! Plans of streaming queries: which are accepted, in what shape, and what is said of the others.

use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;
use watershed_dialect::{SourceTable, SqlError, StatementKind, check_streamable, parse, plan_streaming, plan_streaming_table};

use crate::shared::{session, source, with_rows};

async fn planned(query: &str) -> Result<LogicalPlan, SqlError> {
    let ctx = session();
    with_rows(&ctx, &[(Some("a"), Some(0), 1)]);
    plan_streaming(&ctx.state(), query).await
}

async fn shape(query: &str) -> String {
    planned(query).await.unwrap_or_else(|e| panic!("{}", e.render(query, None))).display_indent().to_string()
}

#[tokio::test]
async fn a_windowed_aggregate_keeps_its_shape_and_reads_few_columns() {
    let got = shape(
        "SELECT window_start, window_end, city, CAST(window_start AS DATE) AS day, count(*) FILTER (WHERE fare > 1) AS n, count(DISTINCT ride_id) AS rides
         FROM TUMBLE(TABLE rides, DESCRIPTOR(event_time), INTERVAL '1 minute')
         WHERE city <> 'x'
         GROUP BY window_start, window_end, city HAVING count(*) > 0",
    )
    .await;
    let nodes: Vec<&str> = got.lines().map(|l| l.trim().split(':').next().unwrap()).collect();
    assert_eq!(nodes, ["Projection", "Filter", "Aggregate", "Projection", "WindowAssign", "Filter", "TableScan"], "{got}");
    assert!(got.contains("count(DISTINCT rides.ride_id)"), "{got}");
    assert!(got.contains("TableScan: rides projection=[ride_id, event_time, city, fare]"), "{got}");
}

#[tokio::test]
async fn a_projection_reads_only_what_it_shows() {
    let got = shape("SELECT upper(city) AS city, pickup['lat'] AS lat FROM rides WHERE fare IS NOT NULL").await;
    assert!(got.contains("projection=[city, fare, pickup]"), "{got}");
    assert!(!got.contains("filters="), "a filter moved into the scan: {got}");
}

#[tokio::test]
async fn accepted() {
    for query in [
        "SELECT * FROM rides",
        "SELECT ride_id FROM rides AS r WHERE r.city = 'Berlin' AND r.fare > 10",
        "WITH big AS (SELECT * FROM rides WHERE fare > 10) SELECT city FROM big",
        "SELECT *, window_start AS begun FROM TUMBLE(TABLE rides, DESCRIPTOR(event_time), INTERVAL '1 minute')",
        "SELECT window_time, count(*) AS n FROM HOP(TABLE rides, DESCRIPTOR(event_time), INTERVAL '1 s', INTERVAL '10 s') GROUP BY window_time",
        "SELECT window_end, avg(fare) AS fare FROM CUMULATE(rides, DESCRIPTOR(event_time), INTERVAL '1 s', INTERVAL '10 s') GROUP BY window_end",
        "SELECT w.ws, w.c, count(*) AS n FROM (SELECT window_start AS ws, lower(city) AS c FROM TUMBLE(rides, DESCRIPTOR(event_time), INTERVAL '1 s')) AS w GROUP BY w.ws, w.c",
        "SELECT * FROM DEDUPLICATE(TABLE rides PARTITION BY ride_id, DESCRIPTOR(event_time), INTERVAL '10 minutes')",
        "SELECT window_start, count(*) AS n FROM TUMBLE(TABLE (SELECT * FROM DEDUPLICATE(TABLE rides PARTITION BY ride_id, DESCRIPTOR(event_time), INTERVAL '10 minutes')), DESCRIPTOR(event_time), INTERVAL '1 s') GROUP BY window_start",
        "SELECT ride_id, count(*) OVER w AS n, last_value(fare) OVER w AS fare FROM rides WINDOW w AS (PARTITION BY lower(city) ORDER BY event_time RANGE BETWEEN INTERVAL '1 day' PRECEDING AND INTERVAL '1 s' PRECEDING)",
        "SELECT ride_id, count(DISTINCT city) OVER (ORDER BY t RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW) + 1 AS n FROM (SELECT ride_id, city, event_time AS t FROM DEDUPLICATE(TABLE rides PARTITION BY ride_id, DESCRIPTOR(event_time), INTERVAL '10 minutes'))",
        "SELECT max(n) AS n FROM (SELECT window_start, city, count(*) AS n FROM TUMBLE(TABLE rides, DESCRIPTOR(event_time), INTERVAL '1 minute') GROUP BY window_start, city) GROUP BY window_start",
        "SELECT sum(n) OVER (ORDER BY window_end RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW) AS s FROM (SELECT window_end, count(*) AS n FROM TUMBLE(TABLE rides, DESCRIPTOR(event_time), INTERVAL '1 minute') GROUP BY window_end)",
        "SELECT window_end, max(n) AS n FROM TUMBLE(TABLE (SELECT window_start AS began, count(*) AS n FROM TUMBLE(TABLE rides, DESCRIPTOR(event_time), INTERVAL '1 minute') GROUP BY window_start), DESCRIPTOR(began), INTERVAL '1 hour') GROUP BY window_end",
        "SELECT city FROM DEDUPLICATE(TABLE (SELECT * FROM DEDUPLICATE(TABLE rides PARTITION BY ride_id, DESCRIPTOR(event_time), INTERVAL '1 hour')) PARTITION BY city, DESCRIPTOR(event_time), INTERVAL '1 minute')",
        "SELECT ts, sum(fare) AS fare FROM (SELECT event_time AS t, fare, window_start AS ts FROM TUMBLE(TABLE (SELECT event_time, fare FROM rides), DESCRIPTOR(event_time), INTERVAL '1 s')) GROUP BY ts",
    ] {
        let plan = planned(query).await.unwrap_or_else(|e| panic!("{}", e.render(query, None)));
        check_streamable(&plan).unwrap();
    }
}

#[tokio::test]
async fn refused_with_the_nearest_thing_that_works() {
    let windowed = "FROM TUMBLE(TABLE rides, DESCRIPTOR(event_time), INTERVAL '1 minute')";
    let over = |call: &str, window: &str| format!("SELECT {call} OVER ({window}) FROM rides");
    let back = "RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW";
    let cases = [
        ("SELECT city, count(*) FROM rides GROUP BY city".to_string(), "GROUP BY without a window", "GROUP BY window_start, window_end, city"),
        ("SELECT count(*) FROM rides".into(), "count() over the whole stream", "TUMBLE"),
        (format!("SELECT city, count(*) {windowed} GROUP BY city"), "no column of the window", "GROUP BY window_start, window_end, city"),
        (format!("SELECT date_trunc('hour', window_start), count(*) {windowed} GROUP BY 1"), "no column of the window", "window_end"),
        ("SELECT window_start, count(*) FROM CUMULATE(rides, DESCRIPTOR(event_time), INTERVAL '1 s', INTERVAL '10 s') GROUP BY window_start".into(), "needs window_end", "window_end"),
        (format!("SELECT window_start, count(*) {windowed} GROUP BY ROLLUP (window_start, city)"), "ROLLUP", "finest"),
        (format!("SELECT window_start, array_agg(city ORDER BY fare) {windowed} GROUP BY window_start"), "ORDER BY inside array_agg", "leave it out"),
        (format!("SELECT max(n) FROM (SELECT window_start, city, count(*) AS n {windowed} GROUP BY window_start, city) GROUP BY city"), "no column of the window", "GROUP BY window_start, window_end, city"),
        (format!("SELECT began, max(n) FROM TUMBLE(TABLE (SELECT window_start AS began, count(*) AS n {windowed} GROUP BY window_start), DESCRIPTOR(began), INTERVAL '1 hour') GROUP BY began"), "no column of the window", "GROUP BY window_start, window_end, began"),
        (format!("SELECT * FROM TUMBLE(TABLE (SELECT max(event_time) AS t {windowed} GROUP BY window_start), DESCRIPTOR(t), INTERVAL '1 hour')"), "no time of the windows", "DESCRIPTOR(window_time)"),
        (format!("SELECT city FROM DEDUPLICATE(TABLE (SELECT event_time, city, count(*) AS n {windowed} GROUP BY window_start, event_time, city) PARTITION BY city, DESCRIPTOR(event_time), INTERVAL '1 s')"), "no time of the windows", "DESCRIPTOR(window_time)"),
        (format!("SELECT * FROM TUMBLE(TABLE (SELECT window_start AS began, city {windowed}), DESCRIPTOR(began), INTERVAL '1 hour')"), "follows 'event_time'", "DESCRIPTOR(event_time)"),
        ("SELECT city FROM rides ORDER BY fare".into(), "ORDER BY", "sort when you query"),
        ("SELECT city FROM rides LIMIT 5".into(), "LIMIT", "limit when you query"),
        ("SELECT DISTINCT city FROM rides".into(), "DISTINCT", "DEDUPLICATE"),
        ("SELECT a.city FROM rides a JOIN clicks b ON a.ride_id = b.user_id".into(), "without a bound in time", "join them when you query"),
        ("SELECT city FROM rides UNION SELECT user_id FROM clicks".into(), "UNION over streams", "write UNION ALL"),
        (over("row_number()", "PARTITION BY city ORDER BY event_time"), "row_number() OVER", "DEDUPLICATE"),
        (over("lag(fare)", "PARTITION BY city ORDER BY event_time"), "lag() OVER", "last_value(x) OVER"),
        (over("ntile(4)", "ORDER BY event_time"), "ntile() OVER", "first_value"),
        (over("last_value(fare) IGNORE NULLS", &format!("ORDER BY event_time {back}")), "IGNORE NULLS", "WHERE x IS NOT NULL"),
        (over("array_agg(fare)", &format!("ORDER BY event_time {back}")), "array_agg() OVER", "count, sum"),
        (over("sum(DISTINCT fare)", &format!("ORDER BY event_time {back}")), "DISTINCT", "count(DISTINCT x)"),
        (over("sum(fare)", ""), "without ORDER BY", "ORDER BY event_time"),
        (over("sum(fare)", "PARTITION BY city ORDER BY event_time"), "without a beginning", "INTERVAL '10 minutes' PRECEDING"),
        (over("sum(fare)", "ORDER BY event_time ROWS BETWEEN 3 PRECEDING AND CURRENT ROW"), "frame of ROWS", "RANGE BETWEEN"),
        (over("sum(fare)", &format!("ORDER BY event_time DESC {back}")), "from new to old", "DESC"),
        (over("sum(fare)", &format!("ORDER BY event_time + INTERVAL '1 s' {back}")), "no column", "event time"),
        (over("sum(fare)", &format!("ORDER BY seen_time {back}")), "follows 'event_time'", "ORDER BY event_time"),
        (over("sum(fare)", "ORDER BY event_time RANGE BETWEEN CURRENT ROW AND INTERVAL '1 s' FOLLOWING"), "look ahead", "CURRENT ROW"),
        (over("sum(fare)", "ORDER BY event_time RANGE BETWEEN INTERVAL '1 month' PRECEDING AND CURRENT ROW"), "months", "minutes"),
        (format!("SELECT sum(n) OVER (ORDER BY t {back}) FROM (SELECT max(event_time) AS t, count(*) AS n {windowed} GROUP BY window_start)"), "no time of the windows", "ORDER BY window_time"),
        (format!("SELECT sum(fare) OVER (PARTITION BY window_start ORDER BY event_time {back}) {windowed}"), "OVER over TUMBLE", "put OVER into"),
        ("SELECT city FROM rides WHERE fare > (SELECT 1)".into(), "subquery", "compare when you query"),
        ("SELECT unnest(tags) FROM rides".into(), "UNNEST", "when you query"),
        ("SELECT 1".into(), "reads no source", "CREATE SOURCE"),
        ("SELECT k FROM t".into(), "'t' is a table", "CREATE SOURCE"),
        ("SELECT now(), city FROM rides".into(), "now() cannot be part", "event time"),
        ("SELECT city FROM rides WHERE random() < 0.5".into(), "random() cannot be part", "event time"),
        ("SELECT * FROM TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '1 s')".into(), "declares none", "WATERMARK FOR at AS at"),
        (
            "SELECT * FROM TUMBLE(TABLE (SELECT event_time + INTERVAL '1 h' AS event_time FROM rides), DESCRIPTOR(event_time), INTERVAL '1 s')".into(),
            "by 'event_time', which is computed",
            "hand 'event_time' on as it is",
        ),
        ("SELECT * FROM TUMBLE(TABLE rides, DESCRIPTOR(seen_time), INTERVAL '1 s')".into(), "follows 'event_time'", "DESCRIPTOR(event_time)"),
        ("SHOW TABLES".into(), "made of a query", "SELECT"),
        ("SELECT city FROM rides WHERE city + 1 > fare || 'x'".into(), "incompatible types", "cast one"),
    ];
    for (query, message, hint) in cases {
        let error = planned(&query).await.expect_err(&query);
        assert!(error.message.contains(message), "{query}\n{}", error.render(&query, None));
        assert!(error.hint.as_deref().unwrap_or("").contains(hint), "{query}\n{}", error.render(&query, None));
        assert!(error.line.is_some() || query == "SELECT 1", "no place: {query}\n{error}");
    }
}

#[tokio::test]
async fn a_window_takes_the_place_of_what_is_computed_of_the_time() {
    let windowed = "FROM TUMBLE(TABLE rides, DESCRIPTOR(event_time), INTERVAL '1 minute')";
    let window_it = "window it: FROM TUMBLE(TABLE t, DESCRIPTOR(event_time), INTERVAL '1 minute') GROUP BY window_start, window_end";
    let group_by = "write GROUP BY window_start, window_end";
    for (query, hint) in [
        ("SELECT count(*) AS n FROM rides GROUP BY date_bin(INTERVAL '1 minute', event_time)".to_owned(), window_it.to_owned()),
        (
            "SELECT city, count(*) AS n FROM rides GROUP BY date_bin(INTERVAL '1 minute', event_time), city".to_owned(),
            format!("{window_it}, city"),
        ),
        ("SELECT date_trunc('hour', event_time) AS h, max(fare) AS m FROM rides GROUP BY 1".to_owned(), window_it.to_owned()),
        (format!("SELECT date_bin(INTERVAL '1 hour', window_start) AS h, count(*) AS n {windowed} GROUP BY 1"), group_by.to_owned()),
    ] {
        let error = planned(&query).await.expect_err(&query);
        assert_eq!(error.hint, Some(hint), "{query}");
    }
}

#[tokio::test]
async fn refusals_point_at_the_place() {
    let query = "SELECT city,\n  count(*)\nFROM rides\nGROUP BY city";
    let error = planned(query).await.unwrap_err();
    assert_eq!((error.line, error.column), (Some(4), Some(10)), "{}", error.render(query, None));
    let query = "SELECT *\nFROM TUMBLE(TABLE rides, DESCRIPTOR(seen_time), INTERVAL '1 s')";
    let error = planned(query).await.unwrap_err();
    assert_eq!((error.line, error.column), (Some(2), Some(37)), "{}", error.render(query, None));
}

#[tokio::test]
async fn constants_are_not_folded_to_nothing() {
    // `WHERE false` stays a filter: a stream that yields no rows is a stream.
    let got = shape("SELECT city FROM rides WHERE 1 = 2").await;
    assert!(got.contains("TableScan: rides"), "{got}");
}

#[tokio::test]
async fn deduplication_reads_all_columns_since_they_decide_ties() {
    let ctx = session();
    let wide = source("CREATE SOURCE s (id INT, ts TIMESTAMP, a INT, b INT, WATERMARK FOR ts AS ts) WITH (topic = 't')");
    ctx.register_table("s", Arc::new(SourceTable::new(wide))).unwrap();
    let plan = |query: &'static str| {
        let state = ctx.state();
        async move { plan_streaming(&state, query).await.unwrap().display_indent().to_string() }
    };
    let all = plan("SELECT id FROM DEDUPLICATE(TABLE s PARTITION BY id, DESCRIPTOR(ts), INTERVAL '1 s')").await;
    assert!(all.contains("projection=[id, ts, a, b]"), "{all}");
    // Whoever wants fewer names them below.
    let few = plan("SELECT id FROM DEDUPLICATE(TABLE (SELECT id, ts FROM s) PARTITION BY id, DESCRIPTOR(ts), INTERVAL '1 s')").await;
    assert!(few.contains("projection=[id, ts]\n") || few.ends_with("projection=[id, ts]"), "{few}");
}

#[tokio::test]
async fn results_have_types_and_names_that_a_table_holds() {
    let windowed = "FROM TUMBLE(TABLE rides, DESCRIPTOR(event_time), INTERVAL '1 minute') GROUP BY window_start";
    let query =
        format!("SELECT window_start, approx_distinct(ride_id) AS rides, max(arrow_cast(event_time, 'Timestamp(ns)')) AS last {windowed}");
    let plan = planned(&query).await.unwrap();
    let types: Vec<String> = plan.schema().fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect();
    assert_eq!(types, ["window_start: Timestamp(µs, \"UTC\")", "rides: Int64", "last: Timestamp(µs, \"UTC\")"]);

    let cases = [
        (format!("SELECT window_start, count(*) {windowed}"), "'count(*)' cannot name a column", "count(*) AS count"),
        ("SELECT city AS \"Date Time\" FROM rides".into(), "'Date Time' cannot name", "write AS date_time in place of AS \"Date Time\""),
        ("SELECT city, ride_id AS \"City\" FROM rides".into(), "twice in the table", "AS"),
        ("SELECT event_time - seen_time AS lag FROM rides".into(), "which a table cannot hold", "CAST(lag AS"),
        ("SELECT NULL AS nothing FROM rides".into(), "which a table cannot hold", "CAST(nothing AS"),
    ];
    for (query, message, hint) in cases {
        let error = planned(&query).await.expect_err(&query);
        assert!(error.message.contains(message) && error.hint.as_deref().unwrap_or("").contains(hint), "{query}\n{error}");
    }
}

#[tokio::test]
async fn a_column_of_a_source_that_no_table_can_have_is_to_be_renamed() {
    let ctx = session();
    let trips = source("CREATE SOURCE trips (\"Date Time\" TIMESTAMP, fare INT) WITH (topic = 't')");
    ctx.register_table("trips", Arc::new(SourceTable::new(trips))).unwrap();
    for query in ["SELECT * FROM trips", "SELECT fare, \"Date Time\" FROM trips", "SELECT x.* FROM (SELECT * FROM trips) AS x"] {
        let error = plan_streaming(&ctx.state(), query).await.expect_err(query);
        assert_eq!(error.message, "'Date Time' cannot name a column of a table", "{query}");
        assert_eq!(error.hint.as_deref(), Some("give it a name: \"Date Time\" AS date_time"), "{query}");
    }
    plan_streaming(&ctx.state(), "SELECT \"Date Time\" AS date_time, fare FROM trips").await.unwrap();
}

#[tokio::test]
async fn partition_columns_are_among_the_result() {
    let ctx = session();
    let partitioned = |by: &str| {
        let text = format!(
            "CREATE STREAMING TABLE a.b PARTITIONED BY ({by}) AS SELECT city, fare, pickup, CAST(fare AS DOUBLE) AS dear FROM rides"
        );
        let state = ctx.state();
        async move {
            let StatementKind::CreateStreamingTable(table) = parse(&text).unwrap().remove(0).kind else { panic!("not a table") };
            plan_streaming_table(&state, &table).await.map_err(|e| e.to_string())
        }
    };
    assert!(partitioned("city").await.is_ok());
    assert!(partitioned("city, fare").await.is_ok());
    assert!(partitioned("citty").await.unwrap_err().contains("did you mean 'city'?"));
    assert!(partitioned("pickup").await.unwrap_err().contains("cannot be partitioned by 'pickup'"));
    assert!(partitioned("dear").await.unwrap_err().contains("cannot be partitioned by 'dear': it is DOUBLE"));
    assert!(partitioned("city, fare, pickup").await.unwrap_err().contains("pickup"));
}

//! Window functions and deduplication over tables, run by DataFusion.

use watershed_dialect::{StatementKind, parse};

use crate::shared::{lines, rows, session, with_rows};

#[tokio::test]
async fn tumble_counts_per_window_and_key() {
    let ctx = session();
    with_rows(
        &ctx,
        &[(Some("a"), Some(0), 1), (Some("a"), Some(59), 2), (Some("b"), Some(61), 3), (Some("a"), Some(-1), 4), (None, None, 5)],
    );
    let expected = [
        "1969-12-31T23:59:00Z 1970-01-01T00:00:00Z a 4",
        "1970-01-01T00:00:00Z 1970-01-01T00:01:00Z a 3",
        "1970-01-01T00:01:00Z 1970-01-01T00:02:00Z b 3",
    ];
    // All the ways to say it.
    for from in [
        "TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1 minute')",
        "TUMBLE(t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)",
        "TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '60 seconds'))",
        "tumble(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1 minute')",
        "TUMBLE(TABLE public.t, DESCRIPTOR(t.ts), INTERVAL '1 minute') AS w",
        "TUMBLE(TABLE (SELECT * FROM t WHERE v < 100), DESCRIPTOR(ts), INTERVAL '1 minute', INTERVAL '0 s')",
        "TUMBLE((SELECT k, ts, v FROM t), DESCRIPTOR(ts), INTERVAL '1 minute', INTERVAL '-3 minutes')",
    ] {
        let query =
            format!("SELECT window_start, window_end, k, sum(v) FROM {from} GROUP BY window_start, window_end, k ORDER BY window_start, k");
        assert_eq!(lines(&ctx, &query).await, expected, "{query}");
    }
    let cte =
        "WITH u AS (SELECT * FROM t) SELECT k, v, window_time FROM TUMBLE(TABLE u, DESCRIPTOR(ts), INTERVAL '1 minute') AS w WHERE w.v = 3";
    assert_eq!(lines(&ctx, cte).await, ["b 3 1970-01-01T00:01:59.999999Z"]);
}

#[tokio::test]
async fn a_statement_shown_as_text_means_the_same() {
    let ctx = session();
    with_rows(&ctx, &[(Some("a"), Some(0), 1), (Some("a"), Some(1), 2)]);
    let query = "SELECT v, window_start FROM TUMBLE(TABLE (SELECT * FROM DEDUPLICATE(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '10 s')), DESCRIPTOR(ts), INTERVAL '1 s')";
    let StatementKind::Other(parsed) = parse(query).unwrap().remove(0).kind else { panic!("not a query") };
    assert_eq!(lines(&ctx, &parsed.to_string()).await, lines(&ctx, query).await, "{parsed}");
    assert_eq!(lines(&ctx, query).await, ["1 1970-01-01T00:00:00Z"]);
}

#[tokio::test]
async fn offsets_shift_windows() {
    let ctx = session();
    with_rows(&ctx, &[(Some("a"), Some(0), 1)]);
    let query = "SELECT window_start FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1 hour', INTERVAL '15 minutes')";
    assert_eq!(lines(&ctx, query).await, ["1969-12-31T23:15:00Z"]);
    // By their names in any order, in all of them.
    for (call, starts) in [
        (
            "TUMBLE(OFFSET => INTERVAL '6 hours', SIZE => INTERVAL '1 day', DATA => TABLE t, TIMECOL => DESCRIPTOR(ts))",
            vec!["1969-12-31T06:00:00Z"],
        ),
        (
            "HOP(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '2 hours', SLIDE => INTERVAL '1 hour', OFFSET => INTERVAL '-15 minutes')",
            vec!["1969-12-31T22:45:00Z", "1969-12-31T23:45:00Z"],
        ),
        (
            "CUMULATE(TABLE t, DESCRIPTOR(ts), STEP => INTERVAL '30 minutes', SIZE => INTERVAL '1 hour', OFFSET => INTERVAL '30 minutes')",
            vec!["1969-12-31T23:30:00Z"],
        ),
    ] {
        let query = format!("SELECT DISTINCT window_start FROM {call} ORDER BY window_start");
        assert_eq!(lines(&ctx, &query).await, starts, "{call}");
    }
}

#[tokio::test]
async fn hop_multiplies_rows() {
    let ctx = session();
    with_rows(&ctx, &[(Some("a"), Some(12), 1), (Some("b"), Some(-1), 2)]);
    let query =
        "SELECT k, window_start, window_end FROM HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5 s', INTERVAL '10 s') ORDER BY k, window_start";
    let expected = [
        "a 1970-01-01T00:00:05Z 1970-01-01T00:00:15Z",
        "a 1970-01-01T00:00:10Z 1970-01-01T00:00:20Z",
        "b 1969-12-31T23:59:50Z 1970-01-01T00:00:00Z",
        "b 1969-12-31T23:59:55Z 1970-01-01T00:00:05Z",
    ];
    assert_eq!(lines(&ctx, query).await, expected);
}

#[tokio::test]
async fn hop_output_is_cut_to_the_batch_size() {
    let ctx = session();
    let many: Vec<_> = (0..500).map(|i| (Some("a"), Some(i), i)).collect();
    with_rows(&ctx, &many);
    ctx.sql("SET datafusion.execution.batch_size = 64").await.unwrap();
    let query = "SELECT count(*), sum(v), count(DISTINCT window_start) FROM HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1 s', INTERVAL '100 s')";
    assert_eq!(lines(&ctx, query).await, ["50000 12475000 599"]);
}

#[tokio::test]
async fn cumulate_shares_starts() {
    let ctx = session();
    with_rows(&ctx, &[(Some("a"), Some(0), 1), (Some("a"), Some(70), 2)]);
    let query = "SELECT window_end, sum(v) FROM CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '1 minute', INTERVAL '3 minutes') GROUP BY window_end ORDER BY 1";
    assert_eq!(lines(&ctx, query).await, ["1970-01-01T00:01:00Z 1", "1970-01-01T00:02:00Z 3", "1970-01-01T00:03:00Z 3"]);
}

#[tokio::test]
async fn deduplicate_keeps_the_first_of_each_run() {
    let ctx = session();
    let data = [
        (Some("a"), Some(16), 3),
        (Some("a"), Some(0), 1),
        (Some("b"), Some(1), 10),
        (Some("a"), Some(8), 2),
        (Some("a"), Some(27), 4),
        // Equal in key and time: the lesser in the other columns is the first.
        (Some("b"), Some(1), 9),
        (None, Some(5), 20),
        (None, Some(6), 21),
    ];
    with_rows(&ctx, &data);
    let query = "SELECT k, v FROM DEDUPLICATE(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '10 s') ORDER BY v";
    assert_eq!(lines(&ctx, query).await, ["a 1", "a 4", "b 9", "20"]);
    // Several keys, with and without parentheses.
    for keys in ["k, v", "(k, v)", "t.v, k"] {
        let query = format!("SELECT count(*) FROM DEDUPLICATE(TABLE t PARTITION BY {keys}, DESCRIPTOR(ts), INTERVAL '10 s')");
        assert_eq!(lines(&ctx, &query).await, ["8"], "{keys}");
    }
    // Which row is kept does not depend on which columns are asked for, nor on filters above.
    let query = "SELECT k FROM DEDUPLICATE(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '10 s') WHERE v = 10";
    assert!(lines(&ctx, query).await.is_empty());
    let query = "SELECT v FROM DEDUPLICATE(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '10 s') WHERE k = 'b'";
    assert_eq!(lines(&ctx, query).await, ["9"]);
}

#[tokio::test]
async fn windows_over_deduplicated_rows() {
    let ctx = session();
    with_rows(&ctx, &[(Some("a"), Some(0), 1), (Some("a"), Some(1), 1), (Some("b"), Some(61), 1)]);
    let query = "SELECT window_start, count(*) FROM TUMBLE(TABLE (
            SELECT * FROM DEDUPLICATE(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '10 s')), DESCRIPTOR(ts), INTERVAL '1 minute')
        GROUP BY window_start ORDER BY 1";
    assert_eq!(lines(&ctx, query).await, ["1970-01-01T00:00:00Z 1", "1970-01-01T00:01:00Z 1"]);
}

#[tokio::test]
async fn filters_and_unused_columns_go_below_the_window() {
    let ctx = session();
    with_rows(&ctx, &[(Some("a"), Some(0), 1), (Some("b"), Some(0), 2)]);
    let query = "EXPLAIN SELECT window_start, k FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1 minute')
        WHERE k = 'a' AND window_end > TIMESTAMP '1970-01-01 00:00:00'";
    let plan = rows(&ctx, query).await.unwrap();
    let at = |part: &str| plan.find(part).unwrap_or_else(|| panic!("no '{part}' in\n{plan}"));
    assert!(at("Filter: window_end >") < at("WindowAssign:") && at("WindowAssign:") < at("t.k = Utf8(\"a\")"), "{plan}");
    assert!(plan.contains("projection=[k, ts]"), "{plan}");
    let query = query.replace("EXPLAIN ", "");
    assert_eq!(lines(&ctx, &query).await, ["1970-01-01T00:00:00Z a"]);
}

#[tokio::test]
async fn times_in_queries_are_microseconds_in_utc() {
    let ctx = session();
    assert_eq!(
        lines(&ctx, "SELECT arrow_typeof(CAST('2026-01-01' AS TIMESTAMP)), arrow_typeof('x' || 'y')").await,
        ["Timestamp(µs, \"UTC\") Utf8"]
    );
}

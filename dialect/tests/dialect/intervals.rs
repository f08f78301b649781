//! Intervals: added to dates and to times of a zone, multiplied, put in order, as keys.

use crate::shared::{lines, session};

#[tokio::test]
async fn a_date_and_hours_are_a_time() {
    let ctx = session();
    for (query, right) in [
        ("SELECT DATE '2024-01-02' - INTERVAL '1 hour'", "2024-01-01T23:00:00Z"),
        ("SELECT INTERVAL '25 hours' + DATE '2024-01-02'", "2024-01-03T01:00:00Z"),
        // Whole days stay a date, by which partitions are found.
        ("SELECT DATE '2024-01-31' + INTERVAL '1 month'", "2024-02-29"),
        ("SELECT DATE '2024-01-02' - INTERVAL '1 day'", "2024-01-01"),
        ("SELECT d + i FROM (VALUES (DATE '2024-01-02', INTERVAL '90 minutes')) t(d, i)", "2024-01-02T01:30:00Z"),
        ("SELECT count(*) FROM (VALUES (TIMESTAMP '2024-01-01 23:30:00')) t(ts) WHERE ts >= DATE '2024-01-02' - INTERVAL '1 hour'", "1"),
        ("SELECT count(*) FROM (VALUES (TIMESTAMP '2024-01-01 22:30:00')) t(ts) WHERE ts >= DATE '2024-01-02' - INTERVAL '1 hour'", "0"),
    ] {
        assert_eq!(lines(&ctx, query).await, [right], "{query}");
    }
}

#[tokio::test]
async fn days_are_added_to_times_of_a_zone_by_its_clocks() {
    let ctx = session();
    let of = |utc: &str, op: &str, interval: &str| {
        format!("SELECT (ts AT TIME ZONE 'Europe/Berlin') {op} INTERVAL '{interval}' AS t FROM (VALUES (TIMESTAMP '{utc}')) t(ts)")
    };
    for (query, right) in [
        // 02:30 is skipped on 2024-03-31, and comes twice on 2024-10-27.
        (of("2024-03-30 01:30:00", "+", "1 day"), "2024-03-31T03:30:00+02:00"),
        (of("2024-03-30 12:00:00", "+", "1 day"), "2024-03-31T13:00:00+02:00"),
        (of("2024-03-30 12:00:00", "+", "24 hours"), "2024-03-31T14:00:00+02:00"),
        (of("2024-10-26 00:30:00", "+", "1 day"), "2024-10-27T02:30:00+02:00"),
        (of("2024-04-30 00:30:00", "-", "1 month"), "2024-03-30T02:30:00+01:00"),
        (of("2024-04-01 00:30:00", "-", "1 day"), "2024-03-31T03:30:00+02:00"),
        (of("2024-01-31 11:00:00", "+", "1 month"), "2024-02-29T12:00:00+01:00"),
    ] {
        assert_eq!(lines(&ctx, &query).await, [right], "{query}");
    }
}

#[tokio::test]
async fn intervals_are_multiplied_and_divided() {
    let ctx = session();
    for (condition, right) in [
        ("INTERVAL '1 hour' * 3 = INTERVAL '3 hours'", "true"),
        ("2.5 * INTERVAL '1 day' = INTERVAL '60 hours'", "true"),
        ("INTERVAL '1 month' / 2 = INTERVAL '15 days'", "true"),
        ("INTERVAL '1 day' * -1 = INTERVAL '-24 hours'", "true"),
        ("(TIMESTAMP '2024-01-03' - TIMESTAMP '2024-01-01') / 2 = INTERVAL '1 day'", "true"),
        ("TIMESTAMP '2024-01-01' + n * INTERVAL '1 day' = TIMESTAMP '2024-01-08'", "true"),
        ("INTERVAL '1 day' * CAST(NULL AS INT) IS NULL", "true"),
    ] {
        let query = format!("SELECT {condition} AS v FROM (VALUES (7)) t(n)");
        assert_eq!(lines(&ctx, &query).await, [right], "{condition}");
    }
    let query = "SELECT INTERVAL '1 day' * n FROM (VALUES (9223372036854775807)) t(n)";
    let plan = watershed_dialect::plan_text(&ctx, query).await.unwrap();
    let failed = ctx.execute_logical_plan(plan).await.unwrap().collect().await.unwrap_err().to_string();
    assert!(failed.contains("longer than an interval can be"), "{failed}");
}

#[tokio::test]
async fn intervals_have_the_order_and_the_keys_of_their_lengths() {
    let ctx = session();
    let three = "(VALUES (1, INTERVAL '25 hours'), (2, INTERVAL '1 day'), (3, INTERVAL '24 hours'), (4, INTERVAL '1 month'), (5, INTERVAL '2 days')) t(n, i)";
    for (query, right) in [
        (format!("SELECT n FROM {three} WHERE n <> 3 ORDER BY i"), vec!["2", "1", "5", "4"]),
        (format!("SELECT max(i) = INTERVAL '30 days', min(i) = INTERVAL '1 day' FROM {three} WHERE n < 5"), vec!["true true"]),
        (format!("SELECT count(*) FROM (SELECT DISTINCT i FROM {three})"), vec!["4"]),
        (format!("SELECT count(DISTINCT i) FROM {three}"), vec!["4"]),
        (format!("SELECT count(*) FROM (SELECT i, count(*) FROM {three} GROUP BY i)"), vec!["4"]),
        (format!("SELECT n FROM {three} WHERE i IN (SELECT INTERVAL '24 hours') ORDER BY n"), vec!["2", "3"]),
        (format!("SELECT count(*) FROM {three} JOIN (VALUES (INTERVAL '24 hours')) u(i) ON t.i = u.i"), vec!["2"]),
        (format!("SELECT count(*) FROM (SELECT i FROM {three} INTERSECT SELECT INTERVAL '24 hours')"), vec!["1"]),
        (format!("SELECT n, rank() OVER (ORDER BY i) FROM {three} ORDER BY n"), vec!["1 3", "2 1", "3 1", "4 5", "5 4"]),
        (format!("SELECT greatest(i, INTERVAL '2 days') = INTERVAL '2 days' FROM {three} WHERE n = 1"), vec!["true"]),
        (format!("SELECT n, count(*) OVER (PARTITION BY i) FROM {three} ORDER BY n"), vec!["1 1", "2 2", "3 2", "4 1", "5 1"]),
    ] {
        assert_eq!(lines(&ctx, &query).await, right, "{query}");
    }
}

#[tokio::test]
async fn times_need_no_seconds() {
    let ctx = session();
    for (query, right) in [
        ("SELECT TIMESTAMP '2024-01-02 10:30', CAST('2024-01-02T10:30' AS TIMESTAMP)", "2024-01-02T10:30:00Z 2024-01-02T10:30:00Z"),
        ("SELECT to_timestamp(s) FROM (VALUES ('2024-01-02 10:30+02:00')) t(s)", "2024-01-02T08:30:00Z"),
        ("SELECT count(*) FROM (VALUES (TIMESTAMP '2024-01-02 10:31:00')) t(ts) WHERE ts > '2024-01-02 10:30'", "1"),
    ] {
        assert_eq!(lines(&ctx, query).await, [right], "{query}");
    }
}

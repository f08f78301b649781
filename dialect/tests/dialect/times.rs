//! Times from texts and numbers, of any year, and the session's time zone.

use watershed_dialect::{plan_streaming, plan_text};

use crate::shared::{lines, rows, session};

#[tokio::test]
async fn times_are_made_of_columns_of_text_and_numbers() {
    let ctx = session();
    let texts = "(VALUES ('2024-05-06'), ('2024-05-06T07:08:09.123456+02:00'), (NULL)) t(s)";
    for function in ["to_timestamp", "to_timestamp_micros"] {
        let query = format!("SELECT {function}(s), arrow_typeof({function}(s)) = arrow_typeof(TIMESTAMP '2024-01-01') FROM {texts}");
        let right = ["2024-05-06T00:00:00Z true", "2024-05-06T05:08:09.123456Z true", "true"];
        assert_eq!(lines(&ctx, &query).await, right, "{query}");
    }
    for (query, right) in [
        (
            format!("SELECT to_timestamp_seconds(s), to_timestamp_millis(s) FROM {texts} OFFSET 1 LIMIT 1"),
            "2024-05-06T05:08:09Z 2024-05-06T05:08:09.123Z",
        ),
        ("SELECT to_timestamp('9999-12-31'), to_timestamp('0001-01-01T05:00:00Z')".to_owned(), "9999-12-31T00:00:00Z 0001-01-01T05:00:00Z"),
        ("SELECT to_timestamp(s, '%d.%m.%Y', '%d/%m/%Y %H:%M') FROM (VALUES ('31.12.9999')) t(s)".to_owned(), "9999-12-31T00:00:00Z"),
        ("SELECT to_timestamp(s, '%d.%m.%Y', '%d/%m/%Y %H:%M') FROM (VALUES ('01/02/2024 03:04')) t(s)".to_owned(), "2024-02-01T03:04:00Z"),
        ("SELECT to_timestamp('2024-07-01 12:00 Europe/Berlin', '%Y-%m-%d %H:%M %Z')".to_owned(), "2024-07-01T10:00:00Z"),
        ("SELECT to_timestamp('2024-07-01 12:00 +0100', '%Y-%m-%d %H:%M %z')".to_owned(), "2024-07-01T11:00:00Z"),
        ("SELECT to_timestamp(x) FROM (VALUES (1659386157)) t(x)".to_owned(), "2022-08-01T20:35:57Z"),
        (
            "SELECT to_timestamp(CAST(1659386157.403862 AS DECIMAL(20, 6))), to_timestamp(1659386157.403862)".to_owned(),
            "2022-08-01T20:35:57.403862Z 2022-08-01T20:35:57.403862Z",
        ),
        (
            "SELECT to_timestamp_millis(x), to_timestamp_micros(x) FROM (VALUES (1700000000000)) t(x)".to_owned(),
            "2023-11-14T22:13:20Z 1970-01-20T16:13:20Z",
        ),
        ("SELECT to_timestamp(-62135596800), to_timestamp(253402300799)".to_owned(), "0001-01-01T00:00:00Z 9999-12-31T23:59:59Z"),
        (
            "SELECT to_timestamp(DATE '2024-05-06'), to_timestamp(TIMESTAMP '2024-05-06 01:02:03'), to_timestamp(NULL)".to_owned(),
            "2024-05-06T00:00:00Z 2024-05-06T01:02:03Z",
        ),
    ] {
        assert_eq!(lines(&ctx, &query).await, [right], "{query}");
    }
    for (query, said) in [
        ("SELECT to_timestamp(x) FROM (VALUES (9223372036854775807)) t(x)", "is no time"),
        ("SELECT to_timestamp(x) FROM (VALUES (CAST('NaN' AS DOUBLE))) t(x)", "is no time"),
        ("SELECT to_timestamp(s) FROM (VALUES ('yesterday')) t(s)", "'yesterday' cannot be read as RFC 3339"),
        ("SELECT to_timestamp(s, '%Y') FROM (VALUES ('x')) t(s)", "'x' cannot be read with the format '%Y'"),
        ("SELECT to_timestamp(true)", "does not take BOOLEAN"),
    ] {
        let failed = match plan_text(&ctx, query).await {
            Ok(plan) => ctx.execute_logical_plan(plan).await.unwrap().collect().await.unwrap_err().strip_backtrace(),
            Err(error) => error.to_string(),
        };
        assert!(failed.contains(said), "{query}: {failed}");
    }
    let query = "SELECT to_timestamp(concat(city, 'T00:00:00Z')) AS at FROM rides";
    plan_streaming(&ctx.state(), query).await.unwrap_or_else(|e| panic!("{}", e.render(query, None)));
}

#[tokio::test]
async fn dates_of_any_year_are_cut_to_units() {
    let ctx = session();
    let query = "SELECT date_trunc('day', t), date_trunc('week', t), date_trunc('month', t), date_trunc('quarter', t), date_trunc('year', t)
                 FROM (VALUES (TIMESTAMP '0001-05-06 05:00:00'), (TIMESTAMP '9999-12-31 23:59:59'), (TIMESTAMP '1969-12-31 23:00:00')) AS v(t)";
    let right = [
        "0001-05-06T00:00:00Z 0001-04-30T00:00:00Z 0001-05-01T00:00:00Z 0001-04-01T00:00:00Z 0001-01-01T00:00:00Z",
        "9999-12-31T00:00:00Z 9999-12-27T00:00:00Z 9999-12-01T00:00:00Z 9999-10-01T00:00:00Z 9999-01-01T00:00:00Z",
        "1969-12-31T00:00:00Z 1969-12-29T00:00:00Z 1969-12-01T00:00:00Z 1969-10-01T00:00:00Z 1969-01-01T00:00:00Z",
    ];
    assert_eq!(lines(&ctx, query).await, right);
    assert_eq!(
        lines(&ctx, "SELECT date_trunc('hour', TIMESTAMP '0001-01-01 05:06:07'), date_trunc('minute', '2024-05-06T07:08:09')").await,
        ["0001-01-01T05:00:00Z 2024-05-06T07:08:00"]
    );
    let zoned = "SELECT date_trunc('day', TIMESTAMP '2024-05-06 23:00:00' AT TIME ZONE 'Europe/Berlin')";
    assert_eq!(lines(&ctx, zoned).await, ["2024-05-07T00:00:00+02:00"]);
    let plan = plan_text(&ctx, "SELECT date_trunc('fortnight', t) FROM (VALUES (TIMESTAMP '2024-05-06')) AS v(t)").await.unwrap();
    assert!(ctx.execute_logical_plan(plan).await.unwrap().collect().await.is_err());
}

#[tokio::test]
async fn a_series_of_times_is_one_of_timestamps() {
    let ctx = session();
    for (function, last) in [("generate_series", true), ("range", false)] {
        let query = format!(
            "SELECT value, arrow_typeof(value) = arrow_typeof(TIMESTAMP '2024-01-01')
             FROM {function}(TIMESTAMP '2024-01-01', TIMESTAMP '2024-01-02', INTERVAL '12 hours') ORDER BY value"
        );
        let mut right = vec!["2024-01-01T00:00:00Z true", "2024-01-01T12:00:00Z true"];
        right.extend(last.then_some("2024-01-02T00:00:00Z true"));
        assert_eq!(lines(&ctx, &query).await, right, "{query}");
    }
    assert_eq!(lines(&ctx, "SELECT max(value) FROM generate_series(1, 3)").await, ["3"]);
    for (odd, said) in [("5, INTERVAL '1 hour'", "ends at a time"), ("TIMESTAMP '2024-01-02', 5", "goes on by an interval")] {
        let query = format!("SELECT * FROM range(TIMESTAMP '2024-01-01', {odd})");
        let error = rows(&ctx, &query).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    let far = "SELECT * FROM generate_series(TIMESTAMP '9999-01-01', TIMESTAMP '9999-01-02', INTERVAL '1 hour')";
    let error = rows(&ctx, far).await.unwrap_err();
    assert!(error.to_string().contains("a series of times cannot reach"), "{error}");
}

#[tokio::test]
async fn a_session_stays_in_utc() {
    let ctx = session();
    for zone in ["SET TIME ZONE 'Europe/Berlin'", "SET timezone = 'Europe/Berlin'", "SET datafusion.execution.time_zone = 'Europe/Berlin'"]
    {
        let error = plan_text(&ctx, zone).await.unwrap_err();
        assert_eq!(error.message, "a session's times are UTC, and cannot be those of Europe/Berlin", "{zone}");
        assert!(error.hint.unwrap().contains("AT TIME ZONE 'Europe/Berlin'"));
    }
    for zone in ["SET TIME ZONE 'UTC'", "SET timezone = '+00:00'", "RESET datafusion.execution.time_zone"] {
        let plan = plan_text(&ctx, zone).await.unwrap_or_else(|e| panic!("{zone}: {e}"));
        ctx.execute_logical_plan(plan).await.unwrap();
        assert_eq!(lines(&ctx, "SELECT TIMESTAMP '2024-05-06' = to_timestamp('2024-05-06')").await, ["true"], "{zone}");
    }
}

#[tokio::test]
async fn intervals_are_compared_by_how_long_they_are() {
    let ctx = session();
    let (a, b) = ("TIMESTAMP '2024-01-01'", "TIMESTAMP '2024-01-03'");
    for (condition, right) in [
        (format!("{b} - {a} > INTERVAL '1 day'"), "true"),
        (format!("{b} - {a} < INTERVAL '1 month'"), "true"),
        (format!("{b} - {a} = INTERVAL '2 days'"), "true"),
        (format!("{b} - {a} BETWEEN INTERVAL '1 day' AND INTERVAL '3 days'"), "true"),
        (format!("{b} - {a} IN (INTERVAL '48 hours')"), "true"),
        (format!("TIMESTAMP '9999-12-31' - {a} > INTERVAL '7000 years'"), "true"),
        ("INTERVAL '100 days' > INTERVAL '1 month'".to_owned(), "true"),
        ("INTERVAL '24 hours' = INTERVAL '1 day'".to_owned(), "true"),
        ("INTERVAL '1 month' = INTERVAL '30 days'".to_owned(), "true"),
        ("INTERVAL '1 day' < NULL".to_owned(), ""),
    ] {
        assert_eq!(lines(&ctx, &format!("SELECT {condition} AS v")).await, [right], "{condition}");
    }
    let rows = "(VALUES (TIMESTAMP '2024-01-01', TIMESTAMP '2024-01-05'), (TIMESTAMP '2024-01-01', TIMESTAMP '2024-01-01')) t(a, b)";
    assert_eq!(lines(&ctx, &format!("SELECT count(*) FROM {rows} WHERE b - a > INTERVAL '1 day'")).await, ["1"]);
}

#[tokio::test]
async fn far_times_go_where_others_go() {
    let ctx = session();
    let rows = "(VALUES (TIMESTAMP '9999-12-31 12:00:00'), (TIMESTAMP '0001-01-01 00:00:00')) t(ts)";
    for (query, right) in [
        (format!("SELECT ts AT TIME ZONE 'Europe/Berlin' AS d FROM {rows} ORDER BY ts DESC LIMIT 1"), "9999-12-31T13:00:00+01:00"),
        (format!("SELECT count(*) FROM {rows} WHERE ts > now()"), "1"),
        (format!("SELECT count(coalesce(ts, now())) FROM {rows}"), "2"),
        ("SELECT DATE '9999-12-31' > TIMESTAMP '2024-01-01'".to_owned(), "true"),
        (format!("SELECT count(*) FROM {rows} WHERE ts < '9999-12-31 13:00'"), "2"),
        (format!("SELECT count(coalesce(ts, DATE '9999-12-31')) FROM {rows}"), "2"),
        (format!("SELECT max(CASE WHEN ts IS NULL THEN DATE '2024-01-01' ELSE ts END) FROM {rows}"), "9999-12-31T12:00:00Z"),
        ("SELECT date_trunc('year', d) FROM (VALUES (DATE '9999-12-31')) t(d)".to_owned(), "9999-01-01T00:00:00Z"),
        (format!("SELECT max(ts - DATE '9999-12-30') = INTERVAL '36 hours' FROM {rows}"), "true"),
        (format!("SELECT max(DATE '9999-12-30' - ts) > INTERVAL '9000 years' FROM {rows}"), "true"),
        (format!("SELECT count(*) FROM {rows} WHERE ts >= DATE '9999-12-31'"), "1"),
        (format!("SELECT count(*) FROM (SELECT ts FROM {rows} UNION ALL SELECT now())"), "3"),
        (format!("SELECT max(d) FROM (SELECT DATE '9999-12-30' AS d UNION ALL SELECT ts FROM {rows})"), "9999-12-31T12:00:00Z"),
        ("SELECT max(x) FROM (SELECT DATE '2024-01-01' AS x UNION SELECT DATE '9999-01-01') t".to_owned(), "9999-01-01"),
    ] {
        assert_eq!(lines(&ctx, &query).await, [right], "{query}");
    }
}

/// Whatever they come together in: VALUES, lists, unions, set operations, joins.
#[tokio::test]
async fn dates_beside_times_are_times() {
    let ctx = session();
    let (day, time) = ("DATE '9999-01-02'", "TIMESTAMP '2024-01-01 10:00:00'");
    let typed = "Timestamp(µs, \"UTC\")";
    let (first, last) = ("2024-01-01T10:00:00Z", "9999-01-02T00:00:00Z");
    for (query, right) in [
        (format!("SELECT x, arrow_typeof(x) FROM (VALUES ({day}), ({time})) t(x) ORDER BY x"), format!("{first} {typed}; {last} {typed}")),
        (format!("SELECT x FROM (VALUES ({time}), (NULL), ({day})) t(x) WHERE x > '2025-01-01'"), last.to_owned()),
        (format!("SELECT x FROM (VALUES ([{day}]), ([{time}])) t(x)"), format!("[{last}]; [{first}]")),
        (format!("SELECT [{day}, {time}], arrow_typeof([{day}, {time}][1])"), format!("[{last}, {first}] {typed}")),
        (format!("SELECT [{time}, {day}, NULL]"), format!("[{first}, {last}, ]")),
        (format!("SELECT array_append([{time}], {day})"), format!("[{first}, {last}]")),
        (format!("SELECT {day} = ANY ([TIMESTAMP '9999-01-02 00:00:00'])"), "true".to_owned()),
        (format!("SELECT x FROM UNNEST([{day}, {time}]) u(x) ORDER BY x"), format!("{first}; {last}")),
        (format!("SELECT max(x) FROM (SELECT {day} AS x UNION ALL SELECT DATE '2024-01-02' UNION ALL SELECT {time})"), last.to_owned()),
        (format!("SELECT max(x) FROM (SELECT {time} AS x UNION SELECT DATE '2024-01-02' UNION SELECT {day})"), last.to_owned()),
        (format!("SELECT max(x) FROM (SELECT {day} AS x UNION SELECT {time} UNION ALL SELECT '2024-01-02')"), last.to_owned()),
        (format!("SELECT x FROM (SELECT {day} AS x INTERSECT SELECT TIMESTAMP '9999-01-02 00:00:00')"), "9999-01-02".to_owned()),
        (
            format!("SELECT count(*) FROM (SELECT {day} AS x) a JOIN (SELECT TIMESTAMP '9999-01-02 00:00:00' AS x) b USING (x)"),
            "1".to_owned(),
        ),
        (format!("SELECT 1 WHERE TIMESTAMP '9999-01-02 00:00:00' IN (SELECT x FROM (VALUES ({day}), (NULL)) t(x))"), "1".to_owned()),
    ] {
        assert_eq!(lines(&ctx, &query).await.join("; "), right, "{query}");
    }
}

#[tokio::test]
async fn texts_beside_times_are_read_as_times() {
    let ctx = session();
    let rows = "(VALUES (TIMESTAMP '2024-05-06 07:08:09'), (NULL)) t(ts)";
    for (value, right) in [
        ("CASE WHEN ts IS NULL THEN '9999-01-01' ELSE ts END", "2024-05-06T07:08:09Z; 9999-01-01T00:00:00Z"),
        ("CASE ts WHEN '2024-05-06T07:08:09Z' THEN 'same' ELSE 'other' END", "same; other"),
        ("greatest(ts, '9999-01-01')", "9999-01-01T00:00:00Z; 9999-01-01T00:00:00Z"),
        ("coalesce(ts, '9999-01-01')", "2024-05-06T07:08:09Z; 9999-01-01T00:00:00Z"),
        ("coalesce(NULL, '9999-01-01', ts)", "9999-01-01T00:00:00Z; 9999-01-01T00:00:00Z"),
        ("coalesce(CAST(ts AS DATE), '2024-01-03')", "2024-05-06; 2024-01-03"),
        ("coalesce(CAST(ts AS DATE), ts, '2024-01-03 10:30')", "2024-05-06T00:00:00Z; 2024-01-03T10:30:00Z"),
        ("coalesce(CAST(NULL AS VARCHAR), 'no time')", "no time; no time"),
    ] {
        let query = format!("SELECT {value} FROM {rows} ORDER BY ts NULLS LAST");
        assert_eq!(lines(&ctx, &query).await.join("; "), right, "{query}");
    }
    let plan = plan_text(&ctx, "SELECT coalesce(ts, 'soon') FROM (VALUES (CAST(NULL AS TIMESTAMP))) t(ts)").await.unwrap();
    let error = ctx.execute_logical_plan(plan).await.unwrap().collect().await.expect_err("no time");
    assert!(error.to_string().contains("soon"), "{error}");
}

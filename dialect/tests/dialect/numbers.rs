//! Numbers that are right, or an error. Right values are computed by hand.

use datafusion::prelude::SessionContext;
use watershed_dialect::plan_text;

use crate::shared::{lines, session};

/// What a query fails with, when it is planned or run.
async fn failure(ctx: &SessionContext, query: &str) -> String {
    let plan = match plan_text(ctx, query).await {
        Ok(plan) => plan,
        Err(error) => return error.to_string(),
    };
    let run = async { ctx.execute_logical_plan(plan).await?.collect().await };
    match run.await {
        Ok(rows) => panic!("{query} gave {rows:?}"),
        Err(error) => error.strip_backtrace(),
    }
}

#[tokio::test]
async fn what_does_not_fit_a_type_is_an_error() {
    let ctx = session();
    for (query, said) in [
        ("SELECT 9223372036854775807 + 1", "9223372036854775807 + 1 does not fit BIGINT"),
        ("SELECT -9223372036854775808 - 1", "-9223372036854775808 - 1 does not fit BIGINT"),
        ("SELECT 4611686018427387904 * 2", "does not fit BIGINT"),
        ("SELECT CAST(32767 AS SMALLINT) + CAST(1 AS SMALLINT)", "32767 + 1 does not fit SMALLINT"),
        ("SELECT -CAST(-128 AS TINYINT)", "-(-128) does not fit TINYINT"),
        ("SELECT CAST(2147483647 AS INT) * CAST(2147483647 AS INT)", "does not fit INT"),
        // Constants that meet only when plans are merged.
        ("SELECT x + 1 FROM (SELECT 9223372036854775807 AS x)", "does not fit BIGINT"),
        ("SELECT b FROM (VALUES (1), (9223372036854775807)) t(b) WHERE b * 2 > 0", "9223372036854775807 * 2 does not fit BIGINT"),
        ("SELECT a - b FROM (VALUES (-2, 9223372036854775807)) t(a, b)", "-2 - 9223372036854775807 does not fit BIGINT"),
        ("SELECT -b FROM (VALUES (5), (-9223372036854775808)) t(b)", "-(-9223372036854775808) does not fit BIGINT"),
        ("SELECT sum(b) OVER () + 1 FROM (VALUES (9223372036854775807)) t(b)", "does not fit BIGINT"),
        ("SELECT count(*) FROM (VALUES (9223372036854775807)) t(b) GROUP BY b + 1", "does not fit BIGINT"),
        ("SELECT CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0)) + 1", "does not fit DECIMAL(38, 0)"),
        ("SELECT d + d FROM (SELECT CAST('50000000000000000000' AS DECIMAL(38, 18)) AS d)", "does not fit DECIMAL(38, 18)"),
        (
            "SELECT sum(CAST(v AS DECIMAL(38, 18))) FROM (VALUES ('99999999999999999999.5'), ('0.5')) t(v)",
            "does not fit DECIMAL(38, 18): it is 100000000000000000000.000000000000000000",
        ),
        ("SELECT CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0)) * 10", "does not fit DECIMAL(38, 0)"),
        ("SELECT CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0)) / CAST(0.1 AS DECIMAL(1, 1))", "does not fit DECIMAL(38"),
    ] {
        let error = failure(&ctx, query).await;
        assert!(error.contains(said), "{query}: {error}");
    }
}

#[tokio::test]
async fn what_fits_is_computed() {
    let ctx = session();
    for (query, right) in [
        (
            "SELECT 9223372036854775806 + 1, -9223372036854775807 - 1, 3037000499 * 3037000499",
            "9223372036854775807 -9223372036854775808 9223372030926249001",
        ),
        ("SELECT CASE WHEN b < 5 THEN b * 9223372036854775807 END FROM (VALUES (1), (7)) t(b) ORDER BY b LIMIT 1", "9223372036854775807"),
        ("SELECT a + b, a - b, a * b, -a FROM (VALUES (7, 3), (NULL, 9223372036854775807)) t(a, b) WHERE a > 0", "10 4 21 -7"),
        ("SELECT b + 1 AS c FROM (VALUES (1), (2)) t(b) GROUP BY b + 1 ORDER BY b + 1 DESC LIMIT 1", "3"),
        ("SELECT CAST(9.99 AS DECIMAL(3, 2)) + CAST(9.99 AS DECIMAL(3, 2))", "19.98"),
        (
            "SELECT sum(CAST(v AS DECIMAL(38, 18))) FROM (VALUES ('99999999999999999999.5'), ('0.5'), ('-1')) t(v)",
            "99999999999999999999.000000000000000000",
        ),
        // A double has no such cents.
        (
            "SELECT count(*), min(d) FROM (SELECT CAST(v AS DECIMAL(38, 2)) AS d FROM \
             (VALUES ('90071992547409.92'), ('90071992547409.93'), ('90071992547409.94')) t(v)) WHERE d = 90071992547409.93",
            "1 90071992547409.93",
        ),
        ("SELECT 5 LIMIT 1 + 1", "5"),
    ] {
        assert_eq!(lines(&ctx, query).await, [right], "{query}");
    }
}

#[tokio::test]
async fn sums_fit_their_type_or_fail_whatever_the_order() {
    let ctx = session();
    let big = "(VALUES (1, 9223372036854775807), (1, 1), (1, -5), (2, 7)) t(k, v)";
    assert_eq!(lines(&ctx, &format!("SELECT sum(v) FROM {big} WHERE k = 2 OR v < 0")).await, ["2"]);
    for query in [
        "SELECT sum(v) FROM (VALUES (9223372036854775807), (1)) t(v)",
        "SELECT k, sum(v) FROM (VALUES (1, 9223372036854775807), (1, 1)) t(k, v) GROUP BY k",
        "SELECT sum(DISTINCT v) FROM (VALUES (9223372036854775807), (1), (1)) t(v)",
        "SELECT k, sum(DISTINCT v), count(*) FROM (VALUES (1, 9223372036854775807), (1, 1)) t(k, v) GROUP BY k",
        "SELECT sum(v) OVER (ORDER BY v ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM (VALUES (9223372036854775807), (1)) t(v)",
        "SELECT sum(v) OVER (ORDER BY v) FROM (VALUES (9223372036854775807), (1)) t(v)",
    ] {
        let error = failure(&ctx, query).await;
        assert!(error.contains("does not fit BIGINT: it is 9223372036854775808; sum it as DECIMAL"), "{query}: {error}");
    }
    // It comes back into range: nothing is wrong, in whichever order the rows come.
    for rows in ["(9223372036854775807), (1), (-10)", "(1), (-10), (9223372036854775807)", "(-10), (9223372036854775807), (1)"] {
        assert_eq!(lines(&ctx, &format!("SELECT sum(v) FROM (VALUES {rows}) t(v)")).await, ["9223372036854775798"]);
        let grouped = format!("SELECT v IS NULL AS k, sum(v), sum(DISTINCT v) FROM (VALUES {rows}) t(v) GROUP BY v IS NULL");
        assert_eq!(lines(&ctx, &grouped).await, ["false 9223372036854775798 9223372036854775798"]);
    }
    // What overflowed has left the frame.
    let over = "SELECT v, sum(v) OVER (ORDER BY i ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s
                FROM (VALUES (1, 9223372036854775807), (2, -1), (3, 5), (4, 9223372036854775800)) t(i, v) ORDER BY i";
    let right = ["9223372036854775807 9223372036854775807", "-1 9223372036854775806", "5 4", "9223372036854775800 9223372036854775805"];
    assert_eq!(lines(&ctx, over).await, right);
    assert_eq!(lines(&ctx, "SELECT sum(v) FROM (VALUES (1), (NULL)) t(v) WHERE v > 5").await, [""]);
    assert_eq!(lines(&ctx, "SELECT sum(v) FILTER (WHERE v < 9) FROM (VALUES (9223372036854775807), (8), (NULL)) t(v)").await, ["8"]);
}

#[tokio::test]
async fn sums_of_decimals_have_the_digits_of_their_type() {
    let ctx = session();
    let nines = "CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0))";
    for rows in [
        format!("({nines}), (CAST(1 AS DECIMAL(38, 0)))"),
        format!("({nines}), ({nines})"),
        format!("({nines}), ({nines}), ({nines}), ({nines})"),
    ] {
        for query in [
            format!("SELECT sum(v) FROM (VALUES {rows}) t(v)"),
            format!("SELECT v > 0, sum(v) FROM (VALUES {rows}) t(v) GROUP BY v > 0"),
            format!("SELECT sum(v) OVER () FROM (VALUES {rows}) t(v)"),
            format!("SELECT sum(v) OVER (ORDER BY v ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) FROM (VALUES {rows}) t(v)"),
        ] {
            let error = failure(&ctx, &query).await;
            assert!(error.contains("does not fit DECIMAL(38, 0): it is "), "{query}: {error}");
        }
    }
    let back = format!("(VALUES ({nines}), ({nines}), (-{nines}), (CAST(-1 AS DECIMAL(38, 0)))) t(v)");
    assert_eq!(lines(&ctx, &format!("SELECT sum(v) FROM {back}")).await, ["99999999999999999999999999999999999998"]);
    let grouped = format!("SELECT v IS NULL, sum(v) FROM {back} GROUP BY v IS NULL");
    assert_eq!(lines(&ctx, &grouped).await, ["false 99999999999999999999999999999999999998"]);
    assert_eq!(
        lines(&ctx, "SELECT sum(v), arrow_typeof(sum(v)) FROM (VALUES (CAST(1.5 AS DECIMAL(10, 2))), (CAST(2 AS DECIMAL(10, 2)))) t(v)")
            .await,
        ["3.50 Decimal128(20, 2)"]
    );
}

#[tokio::test]
async fn the_greatest_is_nan_and_the_least_is_below_zero_in_any_order() {
    let ctx = session();
    for (rows, right) in [
        ("('NaN'), ('2')", "2.0 NaN"),
        ("('2'), ('NaN')", "2.0 NaN"),
        ("('0.0'), ('-0.0')", "-0.0 0.0"),
        ("('-0.0'), ('0.0')", "-0.0 0.0"),
        ("('-Infinity'), ('NaN'), ('Infinity')", "-inf NaN"),
        ("('NaN'), ('NaN')", "NaN NaN"),
        (" (NULL), ('3')", "3.0 3.0"),
    ] {
        for float in ["DOUBLE", "REAL"] {
            // A NaN that a division made has its sign set.
            for nan in [
                format!("CAST(s AS {float})"),
                format!("CASE WHEN s = 'NaN' THEN CAST('0' AS {float}) / CAST('0' AS {float}) ELSE CAST(s AS {float}) END"),
            ] {
                let from = format!("(SELECT 1 AS k, {nan} AS d FROM (VALUES {rows}) t(s))");
                assert_eq!(lines(&ctx, &format!("SELECT min(d), max(d) FROM {from}")).await, [right], "{from}");
                assert_eq!(lines(&ctx, &format!("SELECT min(d), max(d) FROM {from} GROUP BY k")).await, [right], "{from} by group");
                let over = format!(
                    "SELECT min(d) OVER w, max(d) OVER w FROM {from} WINDOW w AS (ORDER BY k ROWS BETWEEN 5 PRECEDING AND 5 FOLLOWING) LIMIT 1"
                );
                assert_eq!(lines(&ctx, &over).await, [right], "{from} over");
            }
        }
    }
}

#[tokio::test]
async fn both_zeros_are_one_key_and_equal() {
    let ctx = session();
    let zeros =
        "(SELECT CAST(s AS DOUBLE) AS d, i, s AS text FROM (VALUES ('0.0', 1), ('-0.0', 2), ('NaN', 3), ('NaN', 4), ('1.5', 5)) t(s, i))";
    for (query, right) in [
        (format!("SELECT count(*) FROM {zeros} GROUP BY d ORDER BY 1"), vec!["1", "2", "2"]),
        (format!("SELECT count(*) FROM {zeros} GROUP BY d, i > 0 ORDER BY 1"), vec!["1", "2", "2"]),
        (format!("SELECT count(*) FROM {zeros} GROUP BY ROLLUP (d) ORDER BY 1"), vec!["1", "2", "2", "5"]),
        (format!("SELECT count(*) FROM (SELECT DISTINCT d FROM {zeros})"), vec!["3"]),
        (format!("SELECT count(*) FROM (SELECT DISTINCT named_struct('d', d, 'l', [d]) FROM {zeros})"), vec!["3"]),
        (format!("SELECT count(*) FROM (SELECT DISTINCT ON (d) i FROM {zeros} ORDER BY d, i)"), vec!["3"]),
        (format!("SELECT count(*) FROM (SELECT d FROM {zeros} UNION SELECT d FROM {zeros})"), vec!["3"]),
        (format!("SELECT count(*) FROM (SELECT d FROM {zeros} WHERE i = 1 INTERSECT SELECT d FROM {zeros} WHERE i = 2)"), vec!["1"]),
        (format!("SELECT max(c) FROM (SELECT count(*) OVER (PARTITION BY d) AS c FROM {zeros})"), vec!["2"]),
        (format!("SELECT count(*) FROM (SELECT rank() OVER (ORDER BY d) AS r FROM {zeros}) WHERE r = 1"), vec!["2"]),
        (format!("SELECT count(*) FROM (SELECT rank() OVER (ORDER BY [d]) AS r FROM {zeros}) WHERE r = 1"), vec!["2"]),
        (format!("SELECT i FROM {zeros} WHERE i < 3 ORDER BY d, i"), vec!["1", "2"]),
        (format!("SELECT array_agg(i ORDER BY d, i) FROM {zeros} WHERE i < 3"), vec!["[1, 2]"]),
        ("SELECT i FROM (VALUES (1, 0.0), (2, 1.0)) t(i, z) ORDER BY z * 1e0 / z".into(), vec!["2", "1"]),
        (format!("SELECT count(*) FROM {zeros} a JOIN {zeros} b ON a.d = b.d"), vec!["9"]),
        (format!("SELECT count(*) FROM {zeros} a JOIN {zeros} b USING (d)"), vec!["9"]),
        (format!("SELECT count(*) FROM {zeros} WHERE d = 0"), vec!["2"]),
        (format!("SELECT count(*) FROM {zeros} WHERE 0.0 = d"), vec!["2"]),
        (format!("SELECT count(*) FROM {zeros} WHERE d <> 0"), vec!["3"]),
        (format!("SELECT i FROM {zeros} WHERE d > 0 AND d < 5"), vec!["5"]),
        (format!("SELECT count(*) FROM {zeros} WHERE d >= 0 AND d < 1"), vec!["2"]),
        (format!("SELECT count(*) FROM {zeros} WHERE d < 0"), vec!["0"]),
        (format!("SELECT count(*) FROM {zeros} WHERE d <= 0"), vec!["2"]),
        (format!("SELECT count(*) FROM {zeros} WHERE 0 > d"), vec!["0"]),
        (format!("SELECT count(*) FROM {zeros} WHERE 0 <= d AND d < 1"), vec!["2"]),
        (format!("SELECT count(*) FROM {zeros} WHERE d BETWEEN 0 AND 1"), vec!["2"]),
        (format!("SELECT count(*) FROM {zeros} WHERE d BETWEEN -1 AND 0"), vec!["2"]),
        (format!("SELECT count(*) FROM {zeros} WHERE d IN (0, 7)"), vec!["2"]),
        (format!("SELECT count(*) FROM {zeros} WHERE d NOT IN (0, 7)"), vec!["3"]),
        (format!("SELECT count(*) FROM {zeros} WHERE d IN (0, 2, 3, 4, 5, 6, 7)"), vec!["2"]),
        (format!("SELECT count(*) FROM {zeros} WHERE d IN (1.5, 2, 3, 4, 5, 6, 7)"), vec!["1"]),
        (format!("SELECT count(*) FROM {zeros} WHERE d IS NOT DISTINCT FROM 0"), vec!["2"]),
        (format!("SELECT count(CASE d WHEN 0 THEN 1 END) FROM {zeros}"), vec!["2"]),
        (format!("SELECT count(*) FROM {zeros} WHERE d = -d"), vec!["4"]),
        (format!("SELECT count(*) FROM {zeros} WHERE (d, 1) IN ((0, 1), (7, 1))"), vec!["2"]),
        (
            format!(
                "SELECT count(*) FROM {zeros} WHERE (d, 1) IN ({})",
                (0..20).map(|n| format!("({n}, 1)")).collect::<Vec<_>>().join(", ")
            ),
            vec!["2"],
        ),
        (format!("SELECT count(*) FROM {zeros} WHERE [d] = [0e0]"), vec!["2"]),
        (format!("SELECT count(*) FROM {zeros} WHERE named_struct('d', d) IN (named_struct('d', 0e0))"), vec!["2"]),
        (format!("SELECT count(*) FROM {zeros} a JOIN {zeros} b ON named_struct('d', a.d) = named_struct('d', b.d)"), vec!["9"]),
        (format!("SELECT max(c) FROM (SELECT count(DISTINCT d) OVER () AS c FROM {zeros})"), vec!["3"]),
        (format!("SELECT a.d FROM {zeros} a WHERE a.d IN (SELECT b.d FROM {zeros} b WHERE b.i = 2) AND a.i = 1"), vec!["0.0"]),
    ] {
        assert_eq!(lines(&ctx, &query).await, right, "{query}");
    }
}

/// DataFusion has no bounds for functions, and takes rows that are ordered by a comparison of one to be in no order.
#[tokio::test]
async fn rows_are_ordered_by_comparisons_of_what_is_computed() {
    let ctx = session();
    let rows = "(VALUES (1, 'aa', 0.5e0), (2, 'b', 2.5e0), (3, 'ccc', NULL)) t(n, s, x)";
    for (order, right) in [
        ("length(s) > 1, n", ["2", "1", "3"]),
        ("n + 1 > 2, n", ["1", "2", "3"]),
        ("upper(s) >= 'B', n DESC", ["1", "3", "2"]),
        ("x * 2 < 2, n", ["2", "1", "3"]),
        ("CASE WHEN abs(n) > 2 THEN 0 ELSE 1 END, n", ["3", "1", "2"]),
        ("coalesce(x, 9) > 2, n", ["1", "2", "3"]),
    ] {
        assert_eq!(lines(&ctx, &format!("SELECT n FROM {rows} ORDER BY {order}")).await, right, "{order}");
        let over = format!("SELECT n FROM (SELECT n, row_number() OVER (ORDER BY {order}) AS r FROM {rows}) ORDER BY r");
        assert_eq!(lines(&ctx, &over).await, right, "{over}");
        let list = format!("SELECT array_agg(n ORDER BY {order}) FROM {rows}");
        assert_eq!(lines(&ctx, &list).await, [format!("[{}]", right.join(", "))], "{list}");
    }
    let parts = format!("SELECT count(*) OVER (PARTITION BY length(s) > 1) AS c FROM {rows} ORDER BY c");
    assert_eq!(lines(&ctx, &parts).await, ["1", "2", "2"]);
}

/// In one batch with rows that a condition holds for, and that DataFusion computes all of it for.
#[tokio::test]
async fn a_condition_guards_what_comes_after_it() {
    let ctx = session();
    let rows = "(VALUES (0, '0'), (2, 'x'), (4, '4'), (NULL, NULL)) t(n, s)";
    for (query, right) in [
        (format!("SELECT n FROM {rows} WHERE n <> 0 AND 10 / n > 2 ORDER BY n"), vec!["2"]),
        (format!("SELECT n FROM {rows} WHERE n = 0 OR 10 / n > 4 ORDER BY n"), vec!["0", "2"]),
        (format!("SELECT n FROM {rows} WHERE n <> 2 AND CAST(s AS INT) >= 0 ORDER BY n"), vec!["0", "4"]),
        (format!("SELECT count(*) FILTER (WHERE n > 0 AND 10 % n = 0) FROM {rows}"), vec!["1"]),
        (format!("SELECT sum(CASE WHEN n <> 0 AND 10 / n > 2 THEN 1 ELSE 0 END) FROM {rows}"), vec!["1"]),
    ] {
        assert_eq!(lines(&ctx, &query).await, right, "{query}");
    }
}

/// Also where rows are joined, grouped and ordered.
#[tokio::test]
async fn a_condition_guards_keys_and_joins() {
    let ctx = session();
    let (a, b) = ("(VALUES (0, 1), (5, 2)) a(n, k)", "(VALUES (1, 1), (2, 2)) b(m, k)");
    let rows = "(VALUES (0), (1), (9)) t(n)";
    for (query, right) in [
        (format!("SELECT a.k, b.k FROM {a} LEFT JOIN {b} ON a.n <> 0 AND 10 / a.n = b.m ORDER BY 1"), vec!["1", "2 2"]),
        (format!("SELECT a.k, b.k FROM {a} FULL JOIN {b} ON a.n <> 0 AND 10 / a.n = b.m ORDER BY 2"), vec!["1", "2 2", "1"]),
        (format!("SELECT a.k, b.k FROM {b} RIGHT JOIN {a} ON a.n <> 0 AND b.m = 10 / a.n ORDER BY 1"), vec!["1", "2 2"]),
        (format!("SELECT a.k, b.k FROM {a} JOIN {b} ON a.n <> 0 AND 10 / a.n = b.m ORDER BY 1"), vec!["2 2"]),
        (format!("SELECT a.k, b.k FROM {a} LEFT JOIN {b} ON a.n <> 0 AND 10 / a.n > b.m ORDER BY 1"), vec!["1", "2 1"]),
        (format!("SELECT a.k, b.k FROM {b} RIGHT JOIN {a} ON a.n <> 0 AND 10 / a.n > b.m ORDER BY 1"), vec!["1", "2 1"]),
        (format!("SELECT a.k, b.k FROM {a} JOIN {b} ON b.m > 1 AND (a.n = 0 OR 10 / a.n >= b.m) ORDER BY 1"), vec!["1 2", "2 2"]),
        (format!("SELECT a.k FROM {a} WHERE NOT EXISTS (SELECT 1 FROM {b} WHERE a.n <> 0 AND 10 / a.n > b.m)"), vec!["1"]),
        (
            format!("SELECT a.k, b.k FROM {a} FULL JOIN {b} ON a.k = b.k AND a.n <> 0 AND 10 / a.n >= b.m ORDER BY 2, 1"),
            vec!["1", "2 2", "1"],
        ),
        (
            format!("SELECT n <> 0 AND 10 / n > 2 AS v, count(*) FROM {rows} GROUP BY n <> 0 AND 10 / n > 2 ORDER BY 1"),
            vec!["false 2", "true 1"],
        ),
        (format!("SELECT count(*) FROM {rows} GROUP BY ROLLUP (n = 0 OR 10 / n > 2) ORDER BY 1"), vec!["1", "2", "3"]),
        (format!("SELECT n FROM {rows} ORDER BY n <> 0 AND 10 / n > 2 DESC, n"), vec!["1", "0", "9"]),
        (format!("SELECT n FROM {rows} ORDER BY n <> 0 AND 10 / n > 2 DESC LIMIT 1"), vec!["1"]),
        (format!("SELECT a.n FROM {a} WHERE NOT EXISTS (SELECT 1 FROM {b} WHERE a.n <> 0 AND 10 / a.n = b.m)"), vec!["0"]),
    ] {
        let mut found = lines(&ctx, &query).await;
        let mut right: Vec<String> = right.into_iter().map(str::to_owned).collect();
        if query.contains("FULL") {
            found.sort();
            right.sort();
        }
        assert_eq!(found, right, "{query}");
    }
}

#[tokio::test]
async fn percentiles_between_two_values_are_exact() {
    let ctx = session();
    let ten = "generate_series(1, 10) t(x)";
    let moving = format!("SELECT percentile_cont(x, 0.25) OVER (ORDER BY x ROWS 3 PRECEDING) AS p FROM {ten} ORDER BY x");
    for (query, right) in [
        (format!("SELECT percentile_cont(0.9) WITHIN GROUP (ORDER BY x) FROM {ten}"), vec!["9.1"]),
        (format!("SELECT quantile_cont(x, 0.9), percentile_cont(x, 0), percentile_cont(x, 1) FROM {ten}"), vec!["9.1 1.0 10.0"]),
        (format!("SELECT percentile_cont(0.25) WITHIN GROUP (ORDER BY x DESC) FROM {ten}"), vec!["7.75"]),
        (
            format!("SELECT x % 2 AS k, percentile_cont(0.3) WITHIN GROUP (ORDER BY x) FROM {ten} GROUP BY k ORDER BY k"),
            vec!["0 4.4", "1 3.4"],
        ),
        (format!("SELECT percentile_cont(DISTINCT x % 3, 0.75) FROM {ten}"), vec!["1.5"]),
        (format!("SELECT percentile_cont(x, 0.5), count(*) FROM {ten} WHERE x > 10"), vec!["0"]),
        (format!("SELECT percentile_cont(CAST(x AS DECIMAL(9, 2)), 0.123) FROM {ten}"), vec!["2.107"]),
        ("SELECT percentile_cont(x, 0.5) FROM (VALUES (1e0), (CAST('NaN' AS DOUBLE)), (2e0)) t(x)".into(), vec!["2.0"]),
        (format!("SELECT p FROM ({moving}) WHERE p > 6"), vec!["6.75", "7.75"]),
        ("SELECT percentile_cont(x, 0.5) FROM (VALUES (1.7e308), (-1.7e308)) t(x)".into(), vec!["0.0"]),
    ] {
        assert_eq!(lines(&ctx, &query).await, right, "{query}");
    }
}

/// What a division makes has its sign set on some machines, and equals no other then, by its bits.
#[tokio::test]
async fn all_nan_are_equal_and_above_all_numbers() {
    let ctx = session();
    for float in ["DOUBLE", "REAL"] {
        let of = |text: &str| format!("CAST('{text}' AS {float})");
        let rows = format!("(VALUES (1, {}), (2, {}), (3, {}), (4, {}))", of("NaN"), of("0"), of("Infinity"), of("NaN"));
        // NaN for 1, 3 and 4, zero for 2.
        let made = format!("(SELECT i, x - x AS d FROM {rows} t(i, x))");
        for (query, right) in [
            (format!("SELECT count(DISTINCT d), count(DISTINCT x - x) FROM (SELECT x, x - x AS d FROM {rows} t(i, x))"), "2 2"),
            (format!("SELECT count(*) FROM {made} WHERE d > 5"), "3"),
            (format!("SELECT count(*) FROM {rows} t(i, x) WHERE x - x > 5"), "3"),
            (format!("SELECT count(*) FROM {rows} t(i, x) WHERE x - x BETWEEN 5 AND {}", of("NaN")), "3"),
            (format!("SELECT count(*) FROM {made} WHERE d = {}", of("NaN")), "3"),
            (format!("SELECT count(*) FROM {rows} t(i, x) WHERE x - x IN ({}, 1, 2, 3, 4)", of("NaN")), "3"),
            (format!("SELECT count(*) FROM {rows} t(i, x) WHERE x - x IN (SELECT {})", of("NaN")), "3"),
            (format!("SELECT count(*) FROM {rows} t(i, x) WHERE -x = x"), "3"),
            (format!("SELECT count(*) FROM {made} a JOIN {rows} b(i, x) ON a.d = b.x"), "7"),
            (format!("SELECT count(*) FROM {rows} a(i, x) JOIN {rows} b(i, x) ON a.x - a.x = -b.x"), "7"),
            (format!("SELECT count(*) FROM {made} a LEFT JOIN {rows} b(i, x) ON a.d < b.x"), "6"),
            (format!("SELECT sum(CASE x - x WHEN {} THEN 1 END) FROM {rows} t(i, x)", of("NaN")), "3"),
            (format!("SELECT string_agg(CAST(d AS VARCHAR), ' ' ORDER BY d, i) FROM {made}"), "0.0 NaN NaN NaN"),
            (format!("SELECT count(*) FROM (SELECT i, sum(x - x) AS s FROM {rows} t(i, x) GROUP BY i) WHERE s > 5"), "3"),
            (format!("SELECT count(*) FROM (SELECT sum(d) AS s FROM {made}) WHERE s = {}", of("NaN")), "1"),
            (format!("SELECT count(*) FROM (SELECT avg(x - x) OVER (PARTITION BY i) AS s FROM {rows} t(i, x)) WHERE s > 5"), "3"),
            (format!("SELECT count(*) FROM (SELECT var_pop(x - x) AS s FROM {rows} t(i, x)) WHERE s > 5"), "1"),
            (format!("SELECT count(*) FROM {rows} t(i, x) WHERE greatest(x - x, 5) > 5"), "3"),
            (format!("SELECT count(*) FROM {rows} t(i, x) WHERE [x - x] = [{}]", of("NaN")), "3"),
            (format!("SELECT count(*) FROM {rows} t(i, x) WHERE array_has([x - x], {})", of("NaN")), "3"),
            (format!("SELECT count(*) FROM {rows} t(i, x) JOIN {made} u ON named_struct('d', x - x) = named_struct('d', u.d)"), "10"),
            (format!("SELECT max(c) FROM (SELECT count(DISTINCT x - x) OVER () AS c FROM {rows} t(i, x))"), "2"),
        ] {
            assert_eq!(lines(&ctx, &query).await, [right], "{query}");
        }
    }
}

#[tokio::test]
async fn what_has_left_a_frame_leaves_no_trace() {
    let ctx = session();
    for odd in ["NaN", "Infinity", "1e16", "1e300", "-1e300"] {
        let query = format!(
            "SELECT sum(d) OVER w, avg(d) OVER w, stddev_pop(d) OVER w, var(d) OVER w
             FROM (SELECT i, CASE WHEN i = 0 THEN CAST('{odd}' AS DOUBLE) ELSE 1 END AS d FROM generate_series(0, 59) AS t(i))
             WINDOW w AS (ORDER BY i RANGE BETWEEN 20 PRECEDING AND CURRENT ROW) ORDER BY i LIMIT 2 OFFSET 21"
        );
        assert_eq!(lines(&ctx, &query).await, ["21.0 1.0 0.0 0.0", "21.0 1.0 0.0 0.0"], "{odd}");
    }
    let tenths = "SELECT sum(d) OVER (ORDER BY i ROWS 9 PRECEDING) FROM (SELECT i, CAST('0.1' AS DOUBLE) AS d FROM generate_series(0, 19) AS t(i)) ORDER BY i OFFSET 19";
    assert_eq!(lines(&ctx, tenths).await, ["1.0"]);
}

#[tokio::test]
async fn literals_with_a_point_are_exact() {
    let ctx = session();
    let rows =
        "(SELECT CAST(s AS DECIMAL(18, 2)) AS d18, CAST(b AS DECIMAL(38, 0)) AS d0, CAST(b AS DOUBLE) AS f, CAST(length(s) AS BIGINT) AS i
                 FROM (VALUES ('9007199254740993.00', '90071992547409930000000000000000000001'), ('1.25', '0')) t(s, b))";
    for (query, right) in [
        ("SELECT 0.1 + 0.2 = 0.3, 3 * 0.1 = 0.3, 0.3 - 0.1 = 0.2, 1.1 * 1.1 = 1.21".to_owned(), vec!["true true true true"]),
        (
            "SELECT CAST(1234567890123456.78 AS DECIMAL(18, 2)), CAST(-0.005 AS DECIMAL(5, 3))".to_owned(),
            vec!["1234567890123456.78 -0.005"],
        ),
        ("SELECT 18446744073709551616, 18446744073709551616 + 1".to_owned(), vec!["18446744073709551616 18446744073709551617"]),
        (format!("SELECT i FROM {rows} WHERE d18 = 9007199254740993.00"), vec!["19"]),
        (format!("SELECT i FROM {rows} WHERE d18 BETWEEN 9007199254740992.99 AND 9007199254740993.01"), vec!["19"]),
        (format!("SELECT i FROM {rows} WHERE d18 IN (9007199254740993.00, 2.5)"), vec!["19"]),
        (format!("SELECT i FROM {rows} WHERE d0 > 0.5"), vec!["19"]),
        (format!("SELECT i FROM {rows} WHERE d0 < 0.5"), vec!["4"]),
        (format!("SELECT i FROM {rows} WHERE d0 BETWEEN 0.5 AND 1e38"), vec!["19"]),
        (format!("SELECT d18 * 0.1 FROM {rows} WHERE i = 4"), vec!["0.125"]),
        (format!("SELECT i FROM {rows} WHERE i * 0.1 = 0.4"), vec!["4"]),
    ] {
        assert_eq!(lines(&ctx, &query).await, right, "{query}");
    }
}

#[tokio::test]
async fn literals_beside_doubles_and_by_themselves_are_doubles() {
    let ctx = session();
    let rows = "(SELECT CAST(s AS DOUBLE) AS d, CAST(7 AS BIGINT) AS i FROM (VALUES ('NaN'), ('1e300'), ('0.5')) t(s))";
    for (query, right) in [
        ("SELECT arrow_typeof(x), x FROM (SELECT 0.5 AS x)".to_owned(), vec!["Float64 0.5"]),
        ("SELECT arrow_typeof(x), x FROM (SELECT CASE WHEN 1 = 1 THEN 0.8 ELSE 0 END AS x)".to_owned(), vec!["Float64 0.8"]),
        ("SELECT 1e3, -2.5E-1, 1e300, arrow_typeof(1e3)".to_owned(), vec!["1000.0 -0.25 1e300 Float64"]),
        ("SELECT 1 / 4.0, 1.0 / 3, sqrt(0.25), power(4, 0.5), abs(-0.5)".to_owned(), vec!["0.25 0.3333333333333333 0.5 2.0 0.5"]),
        (format!("SELECT count(*) FROM {rows} WHERE d > 0.4"), vec!["3"]),
        (format!("SELECT count(*) FROM {rows} WHERE d BETWEEN 0.4 AND 0.6"), vec!["1"]),
        (format!("SELECT count(*) FROM {rows} WHERE d IN (0.5, 0.75)"), vec!["1"]),
        (
            format!("SELECT arrow_typeof(x), x FROM (SELECT coalesce(NULLIF(d, 0.5), 1.5) AS x FROM {rows} WHERE d < 1)"),
            vec!["Float64 1.5"],
        ),
        (format!("SELECT arrow_typeof(x), x FROM (SELECT i * 0.5 AS x FROM {rows} LIMIT 1)"), vec!["Float64 3.5"]),
        (format!("SELECT arrow_typeof(x), x FROM (SELECT sum(CASE WHEN i > 1 THEN 0.5 ELSE 0 END) AS x FROM {rows})"), vec!["Float64 1.5"]),
        (format!("SELECT x FROM (SELECT 0.25 AS x UNION ALL SELECT d FROM {rows} WHERE d < 1) ORDER BY x"), vec!["0.25", "0.5"]),
        (
            "WITH RECURSIVE r AS (SELECT 0.5 AS x UNION ALL SELECT x * 2 FROM r WHERE x < 3) SELECT x FROM r".to_owned(),
            vec!["0.5", "1.0", "2.0", "4.0"],
        ),
        ("SELECT approx_percentile_cont(v, 0.5) FROM (VALUES (1), (2), (3)) t(v)".to_owned(), vec!["2.0"]),
    ] {
        assert_eq!(lines(&ctx, &query).await, right, "{query}");
    }
    let heading = ctx.execute_logical_plan(plan_text(&ctx, "SELECT 0.5, 2 * 0.25").await.unwrap()).await.unwrap();
    assert_eq!(heading.schema().fields()[0].name(), "0.5");
}

/// Numbers at random, the same in each run, near the ends of their range more often than not.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 17
    }

    fn bigint(&mut self) -> i64 {
        let near = (self.next() % 5) as i64;
        match self.next() % 5 {
            0 => i64::MAX - near,
            1 => i64::MIN + near,
            2 => near - 2,
            3 => 3_037_000_499 + near,
            _ => self.next() as i64 - (1 << 46),
        }
    }
}

#[tokio::test]
async fn arithmetic_of_whole_numbers_agrees_with_wider_ones() {
    let ctx = session();
    let mut numbers = Numbers(1);
    for _ in 0..60 {
        let (a, b) = (numbers.bigint(), numbers.bigint());
        for (operator, right) in
            [("+", i128::from(a) + i128::from(b)), ("-", i128::from(a) - i128::from(b)), ("*", i128::from(a) * i128::from(b))]
        {
            // As constants, as columns, and one of each.
            for query in [
                format!("SELECT ({a}) {operator} ({b})"),
                format!("SELECT a {operator} b FROM (VALUES ({a}, {b}), (NULL, 1)) t(a, b) WHERE a IS NOT NULL"),
                format!("SELECT a {operator} ({b}) FROM (VALUES ({a}), (NULL)) t(a) WHERE a IS NOT NULL"),
            ] {
                match i64::try_from(right) {
                    Ok(right) => assert_eq!(lines(&ctx, &query).await, [right.to_string()], "{query}"),
                    Err(_) => assert!(failure(&ctx, &query).await.contains("does not fit BIGINT"), "{query}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn sums_agree_with_wider_ones() {
    let ctx = session();
    let mut numbers = Numbers(2);
    for _ in 0..60 {
        let values: Vec<i64> = (0..=numbers.next() % 6).map(|_| numbers.bigint()).collect();
        let right: i128 = values.iter().map(|value| i128::from(*value)).sum();
        let rows = values.iter().map(|value| format!("({value})")).collect::<Vec<_>>().join(", ");
        for query in [
            format!("SELECT sum(v) FROM (VALUES {rows}) t(v)"),
            format!("SELECT sum(v) FROM (VALUES {rows}) t(v) GROUP BY v IS NULL"),
            format!("SELECT sum(v) OVER () FROM (VALUES {rows}) t(v) LIMIT 1"),
        ] {
            match i64::try_from(right) {
                Ok(right) => assert_eq!(lines(&ctx, &query).await, [right.to_string()], "{query}"),
                Err(_) => assert!(failure(&ctx, &query).await.contains(&format!("does not fit BIGINT: it is {right}")), "{query}"),
            }
        }
        let decimal = format!("SELECT sum(CAST(v AS DECIMAL(38, 0))) FROM (VALUES {rows}) t(v)");
        assert_eq!(lines(&ctx, &decimal).await, [right.to_string()], "{decimal}");
    }
}

#[tokio::test]
async fn an_average_that_does_not_fit_says_so() {
    let ctx = session();
    let rows = "(VALUES (CAST('999999999999999999999999999999999999.99' AS DECIMAL(38, 2)))) t(v)";
    for query in [
        format!("SELECT avg(v) FROM {rows}"),
        format!("SELECT avg(v) FROM {rows} GROUP BY v > 0"),
        format!("SELECT avg(v) OVER () FROM {rows}"),
    ] {
        let error = failure(&ctx, &query).await;
        assert!(error.contains("does not fit DECIMAL(38, 6): an average has four places more"), "{query}: {error}");
    }
    assert_eq!(lines(&ctx, "SELECT avg(v) FROM (VALUES (CAST(1.25 AS DECIMAL(38, 2))), (2)) t(v)").await, ["1.625000"]);
}

#[tokio::test]
async fn decimals_beside_doubles_are_doubles_everywhere() {
    let ctx = session();
    let rows = "(VALUES (CAST(1.05 AS DECIMAL(10, 2)), CAST('NaN' AS DOUBLE)), (CAST(0 AS DECIMAL(10, 2)), 1e300)) t(p, d)";
    for (query, right) in [
        ("SELECT CAST(0 AS DECIMAL(10, 2)) IN (SELECT 1e-16)".to_owned(), vec!["false"]),
        ("SELECT CAST(0 AS DECIMAL(10, 2)) NOT IN (SELECT 1e-16)".to_owned(), vec!["true"]),
        ("SELECT nullif(CAST(0 AS DECIMAL(10, 2)), 1e-16) IS NULL".to_owned(), vec!["false"]),
        ("SELECT CASE CAST(0 AS DECIMAL(10, 2)) WHEN 1e-16 THEN 'same' ELSE 'other' END".to_owned(), vec!["other"]),
        (format!("SELECT coalesce(d, p) > 0 FROM {rows} ORDER BY p"), vec!["true", "true"]),
        (format!("SELECT greatest(p, d) > 1 FROM {rows} ORDER BY p"), vec!["true", "true"]),
        (format!("SELECT CASE WHEN p > 1 THEN p ELSE d END FROM {rows} ORDER BY p DESC"), vec!["1.05", "1e300"]),
        (format!("SELECT count(*) FROM (SELECT p FROM {rows} UNION SELECT d FROM {rows})"), vec!["4"]),
        (format!("SELECT count(*) FROM {rows} WHERE p IN (SELECT d FROM {rows})"), vec!["0"]),
        (format!("SELECT count(*) FROM {rows} JOIN (SELECT CAST(1.05 AS DOUBLE) AS p) u USING (p)"), vec!["1"]),
    ] {
        assert_eq!(lines(&ctx, &query).await, right, "{query}");
    }
}

#[tokio::test]
async fn lists_of_doubles_take_literals_with_a_point() {
    let ctx = session();
    let rows = "(SELECT [d, 0.5e0] AS l FROM (VALUES (1.5e0), (2.5e0)) t(d))";
    for (query, right) in [
        (format!("SELECT count(*) FROM {rows} WHERE array_has(l, 1.5)"), "1"),
        (format!("SELECT count(*) FROM {rows} WHERE 0.5 = ANY(l)"), "2"),
        (format!("SELECT max(array_length(array_append(l, -2.5))) FROM {rows}"), "3"),
        (format!("SELECT sum(array_position(l, 0.5)) FROM {rows}"), "4"),
        ("SELECT 0.1 = ANY(ARRAY[0.1, 1.05])".to_owned(), "true"),
    ] {
        assert_eq!(lines(&ctx, &query).await, [right], "{query}");
    }
}

#[tokio::test]
async fn a_frame_of_more_rows_than_there_are_has_no_bound() {
    let ctx = session();
    let query = "SELECT sum(v) OVER (ORDER BY v ROWS BETWEEN 1 PRECEDING AND 18446744073709551615 FOLLOWING) AS s FROM (VALUES (1), (2), (4)) t(v) LIMIT 2";
    assert_eq!(lines(&ctx, query).await, ["7", "7"]);
}

//! Short ways of writing, and what would be planned wrongly.

use datafusion::prelude::SessionContext;
use watershed_dialect::plan_text;

use crate::shared::{lines, rows, session};
use crate::small_tables::tables;

#[tokio::test]
async fn short_ways_are_written_out() {
    let ctx = session();
    for (query, right) in [
        ("FROM (VALUES (1, 'a'), (2, 'b')) t(n, s) LIMIT 1", vec!["1 a"]),
        ("FROM (VALUES (1, 'a'), (2, 'b')) t(n, s) SELECT s WHERE n = 2", vec!["b"]),
        ("SELECT (s).a, (t.s).b FROM (SELECT named_struct('a', 1, 'b', 2) AS s) t", vec!["1 2"]),
        ("SELECT list[1].a FROM (SELECT [named_struct('a', 1)] AS list) t", vec!["1"]),
        ("SELECT (list[1]).a FROM (SELECT [named_struct('a', 1)] AS list) t", vec!["1"]),
        ("SELECT ARRAY(SELECT n FROM (VALUES (1), (2)) t(n) ORDER BY -n)", vec!["[2, 1]"]),
        ("SELECT ARRAY(SELECT n * 2 FROM (VALUES (3)) t(n))", vec!["[6]"]),
        ("SELECT cardinality(ARRAY(SELECT n FROM (VALUES (3)) t(n) WHERE false))", vec!["0"]),
        ("SELECT * REPLACE (n + 1 AS n) FROM (VALUES (1, 'a')) t(n, s)", vec!["2 a"]),
        (
            "WITH RECURSIVE r(n, p) AS (SELECT 1, 1 UNION ALL SELECT n + 1, p * 2 FROM r WHERE n < 3) SELECT n, p FROM r ORDER BY n",
            vec!["1 1", "2 2", "3 4"],
        ),
        ("SELECT a + b FROM (SELECT n, n FROM (VALUES (4)) t(n)) AS u(a, b)", vec!["8"]),
        ("SELECT n, n FROM (VALUES (4)) t(n)", vec!["4 4"]),
        ("SELECT 6 XOR 3", vec!["5"]),
        ("SELECT split_part(version(), ' ', 1)", vec!["Watershed"]),
    ] {
        assert_eq!(lines(&ctx, query).await, right, "{query}");
    }
}

#[tokio::test]
async fn rows_are_compared_by_their_parts() {
    let ctx = session();
    for (compared, right) in [
        ("(1, NULL) = (1, NULL)", "unknown"),
        ("(1, NULL) = (2, NULL)", "false"),
        ("(1, NULL) <> (1, NULL)", "unknown"),
        ("(1, NULL) <> (2, NULL)", "true"),
        ("(1, NULL) < (2, NULL)", "true"),
        ("(1, NULL) < (1, 3)", "unknown"),
        ("(1, 2) >= (1, NULL)", "unknown"),
        ("(1, 2) >= (1, 2)", "true"),
        ("(1, 2, 3) < (1, 2, 4)", "true"),
        ("(1, 2, 3) > (1, 2, 3)", "false"),
        ("(1, 2, 3) <= (1, 2, 3)", "true"),
        ("(2, 1, 1) > (1, 9, 9)", "true"),
        ("(1, NULL) IN ((1, NULL))", "unknown"),
        ("(2, NULL) NOT IN ((1, NULL))", "true"),
        ("(1, NULL) NOT IN ((1, 2))", "unknown"),
        ("(1, 2) IN ((1, 2), (3, 4))", "true"),
        ("(1, 4) IN ((1, 2), (3, 4))", "false"),
        ("(1, 4) NOT IN ((1, 2), (3, 4))", "true"),
        ("((1, 2), 3) = ((1, 2), 3)", "true"),
        ("((1, NULL), 3) = ((1, 2), 3)", "unknown"),
        ("((1, NULL), 3) = ((1, 2), 4)", "false"),
        ("((1, 2), 3) < ((1, 2), 4)", "true"),
        ("((1, NULL), 3) < ((2, 2), 1)", "true"),
        ("((1, NULL), 3) < ((1, 2), 4)", "unknown"),
        ("((1, 2), NULL) >= ((1, 1), 3)", "true"),
        ("(1, 5) BETWEEN (1, 2) AND (2, 0)", "true"),
        ("(1, NULL) BETWEEN (1, 2) AND (2, 0)", "unknown"),
        ("(1, 1) NOT BETWEEN (1, 2) AND (2, 0)", "true"),
        ("(1, NULL) IS DISTINCT FROM (1, NULL)", "false"),
        ("(1, NULL) IS DISTINCT FROM (1, 2)", "true"),
        ("(1, NULL) IS NOT DISTINCT FROM (1, NULL)", "true"),
        ("((1, NULL), 2) IS NOT DISTINCT FROM ((1, NULL), 3)", "false"),
        ("(1, NULL) IS NULL", "false"),
        ("(NULL, NULL) IS NULL", "true"),
        ("(1, NULL) IS NOT NULL", "false"),
        ("(1, 2) IS NOT NULL", "true"),
        ("ROW(1, NULL) = ROW(1, NULL)", "unknown"),
        ("ROW(1, 2) < (1, 3)", "true"),
        ("CASE (1, 2) WHEN (1, 3) THEN false WHEN (1, 2) THEN true END", "true"),
        ("CASE (1, NULL) WHEN (1, NULL) THEN true ELSE false END", "false"),
        ("(1, 2) = ANY (SELECT 1, n FROM (VALUES (2), (3)) t(n))", "true"),
        ("(1, 4) <> ALL (SELECT 1, n FROM (VALUES (2), (NULL)) t(n))", "unknown"),
    ] {
        let query = format!("SELECT coalesce(CAST({compared} AS VARCHAR), 'unknown')");
        assert_eq!(lines(&ctx, &query).await, [right], "{query}");
    }
    let from = "(VALUES (1, NULL), (1, 2)) t(x, y)";
    assert_eq!(lines(&ctx, &format!("SELECT count(*) FROM {from} WHERE (x, y) = (1, NULL)")).await, ["0"]);
    let joined = format!("SELECT count(*) FROM {from} JOIN (VALUES (1, NULL), (1, 2)) u(x, y) ON (t.x, t.y) = (u.x, u.y)");
    assert_eq!(lines(&ctx, &joined).await, ["1"]);
    // Short lists are written out, longer ones of constants are hashed in WHERE.
    for many in [5, 50, 600] {
        let list: Vec<String> = (0..many).map(|n| format!("({n}, -{n})")).collect();
        let list = list.join(", ");
        let from = "(VALUES (1, -1), (2, NULL), (7000, NULL), (NULL, -3), (NULL, NULL), (7, 7)) t(x, y)";
        let found = format!("SELECT x FROM {from} WHERE (x, y) IN ({list})");
        assert_eq!(lines(&ctx, &found).await, ["1"], "{many}");
        let left = format!("SELECT x FROM {from} WHERE (x, y) NOT IN ({list}) ORDER BY x");
        assert_eq!(lines(&ctx, &left).await, ["7", "7000"], "{many}");
        let told = format!("SELECT count((x, y) IN ({list})), count(*) FILTER (WHERE (x, y) IN ({list})) FROM {from}");
        assert_eq!(lines(&ctx, &told).await, ["3 1"], "{many}");
    }
}

/// The types of each pair decide, whatever the types of others are.
#[tokio::test]
async fn long_lists_of_rows_have_no_types_of_their_own() {
    let ctx = session();
    let list = |first: &str| (2..12).fold(format!("({first}, 1)"), |list, n| format!("{list}, ({n}, 1)"));
    for (from, first, right) in [
        ("(VALUES (1), (13))", "1.0", vec!["1"]),
        ("(VALUES (CAST('0.12345678901234567891' AS DECIMAL(38, 20))), (13))", "1", vec![]),
        ("(VALUES (CAST('5.00000000000000000001' AS DECIMAL(38, 20))), (11))", "1", vec!["11.00000000000000000000"]),
        ("(VALUES (1.5e0), (7e0))", "1.5", vec!["1.5", "7.0"]),
        ("(VALUES (CAST('-0.0' AS DOUBLE)))", "0", vec!["-0.0"]),
        ("(VALUES ('3'), ('13'))", "1", vec!["3"]),
    ] {
        let query = format!("SELECT x FROM {from} t(x) WHERE (x, 1) IN ({}) ORDER BY x", list(first));
        assert_eq!(lines(&ctx, &query).await, right, "{query}");
    }
    let times = (1..12).fold("('9999-01-01', 1)".to_owned(), |list, n| format!("{list}, ('2024-01-{n:02} 10:00', 1)"));
    let from = "(VALUES (TIMESTAMP '9999-01-01 00:00:00'), (TIMESTAMP '2024-01-03 10:00:00'), (TIMESTAMP '2024-01-03 11:00:00')) t(x)";
    let query = format!("SELECT x FROM {from} WHERE (x, 1) IN ({times}) ORDER BY x");
    assert_eq!(lines(&ctx, &query).await, ["2024-01-03T10:00:00Z", "9999-01-01T00:00:00Z"]);
    let many: Vec<String> = (0..2_500).map(|n| format!("({n}, 1)")).collect();
    let wide = format!("SELECT x FROM (VALUES (CAST(1 AS DECIMAL(9, 2)))) t(x) WHERE (x, 1) IN ({})", many.join(", "));
    let error = run(&ctx, &wide).await.expect_err("too many");
    assert!(error.contains("2000 are the limit; cast the parts of the row"), "{error}");
    let whole = format!("SELECT x FROM (VALUES (2499)) t(x) WHERE (x, 1) IN ({})", many.join(", "));
    assert_eq!(lines(&ctx, &whole).await, ["2499"]);
}

#[tokio::test]
async fn rows_that_do_not_fit_each_other_are_refused_by_name() {
    let ctx = tables().await;
    for (compared, said) in [
        ("(1, 2) = (1, 2, 3)", "a row of 2 parts is compared with one of 3"),
        ("(1, 2) IN ((1, 2), (1, 2, 3))", "a row of 2 parts is compared with one of 3"),
        ("((1, 2), 3) < (1, 2)", "a row is compared with what is none"),
        ("CASE (1, 2) WHEN 1 THEN 2 END", "a row is compared with what is none"),
        ("(1, 2) < ALL (SELECT k, x FROM s.a)", "a row before < ALL of a query is not supported"),
        ("(1, 2) IN (SELECT k FROM s.a)", "a row of 2 parts is compared with the rows of a query of 1 column"),
        ("(1, 2) NOT IN (SELECT k, x, 3 FROM s.a)", "a row of 2 parts is compared with the rows of a query of 3 columns"),
    ] {
        let query = format!("SELECT {compared}");
        let error = plan_text(&ctx, &query).await.expect_err(&query);
        assert!(error.message == said && error.hint.is_some(), "{query}: {error}");
    }
}

/// Why a query fails, when it is planned or run.
async fn run(ctx: &SessionContext, query: &str) -> Result<(), String> {
    let plan = plan_text(ctx, query).await.map_err(|error| error.to_string())?;
    let run = async { ctx.execute_logical_plan(plan).await?.collect().await };
    run.await.map(drop).map_err(|error| error.strip_backtrace())
}

#[tokio::test]
async fn constants_that_order_and_group_nothing_are_refused() {
    let ctx = session();
    for (query, said) in [
        ("SELECT n FROM (VALUES (1)) t(n) ORDER BY 'n'", "ORDER BY of a constant text"),
        ("SELECT count(*) FROM (VALUES (1)) t(n) GROUP BY 'n'", "a name stands in double quotes"),
        ("SELECT to_char(TIMESTAMP '2024-03-05 14:07:09', 'YYYY-MM-DD')", "'%Y-%m-%d %H:%M:%S'"),
    ] {
        let error = rows(&ctx, query).await.expect_err(query).render(query, None);
        assert!(error.contains(said), "{query}: {error}");
    }
    assert_eq!(lines(&ctx, "SELECT 'x' AS x, count(*) FROM (VALUES (1)) t(n) GROUP BY 'x'").await, ["x 1"]);
    assert_eq!(lines(&ctx, "SELECT to_char(DATE '2024-03-05', '%d.%m.%Y')").await, ["05.03.2024"]);
    let formats = "SELECT to_char(TIMESTAMP '2024-03-05 00:00:00', f) FROM (VALUES ('%Y'), ('%m'), ('%d')) t(f)";
    assert_eq!(lines(&ctx, formats).await, ["2024", "03", "05"]);
}

#[tokio::test]
async fn values_may_be_the_time_it_is() {
    let query = "SELECT count(*) FROM (VALUES (now()), (TIMESTAMP '2024-01-01 00:00:00')) t(at) WHERE at <= now()";
    assert_eq!(lines(&session(), query).await, ["2"]);
}

#[tokio::test]
async fn what_would_be_answered_wrongly_is_refused_by_name() {
    let ctx = session();
    for (query, said) in [
        ("SELECT * REPLACE (1 AS nope) FROM (VALUES (1)) t(n)", "nope"),
        ("SELECT count(DISTINCT *) FROM (VALUES (1)) t(n)", "SELECT count(*) FROM (SELECT DISTINCT * FROM t)"),
        ("SELECT count(t.*) FROM (VALUES (1)) t(n)", "count(e.id)"),
        ("SELECT 2 ^ 10", "power(a, b)"),
        (
            "SELECT count(*) OVER (ORDER BY s RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) FROM (VALUES ('a')) t(s)",
            "RANGE with an offset over ORDER BY of VARCHAR",
        ),
        (
            "SELECT count(*) OVER (ORDER BY n RANGE BETWEEN 0.5 PRECEDING AND CURRENT ROW) FROM (VALUES (1)) t(n)",
            "finer than ORDER BY of BIGINT",
        ),
        (
            "SELECT count(*) OVER (ORDER BY d RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW) FROM (VALUES (DATE '2024-01-01')) t(d)",
            "finer than ORDER BY of DATE",
        ),
        (
            "SELECT array_agg(DISTINCT n ORDER BY n), array_agg(DISTINCT n ORDER BY n DESC) FROM (VALUES (1), (2)) t(n)",
            "beside another one in another order",
        ),
        ("SELECT n FROM (VALUES (1), (2)) t(n) WHERE rank() OVER (ORDER BY n) = 1", "write QUALIFY instead"),
        ("SELECT sum(n) FROM (VALUES (1), (2)) t(n) GROUP BY n HAVING count(*) OVER () = 1", "count() OVER in a condition"),
        ("SELECT n FROM (VALUES (1), (2)) t(n) WHERE unnest([n]) = 1", "CROSS JOIN UNNEST"),
    ] {
        let error = rows(&ctx, query).await.expect_err(query);
        let text = error.render(query, None);
        assert!(text.contains(said), "{query}: {text}");
    }
}

#[tokio::test]
async fn any_and_all_of_a_list_know_null() {
    let ctx = session();
    for (condition, right) in [
        ("3 = ANY ([1, NULL])", ""),
        ("NOT (3 = ANY ([1, NULL]))", ""),
        ("1 = ANY ([1, NULL])", "true"),
        ("5 > ANY (ARRAY[NULL, 6])", ""),
        ("7 > ANY (ARRAY[NULL, 6])", "true"),
        ("7 > ALL (ARRAY[NULL, 6])", ""),
        ("5 > ALL (ARRAY[NULL, 6])", "false"),
        ("1 <> ALL ([2, 3])", "true"),
        ("1 <> ANY ([1, 1])", "false"),
        ("NULL = ANY ([1])", ""),
        ("n = ANY (l)", "true"),
        ("n = ALL (l)", "false"),
        ("1.5 = ANY ([1, 1.5])", "true"),
        ("CAST(-0.0 AS DOUBLE) = ANY ([0.0])", "true"),
        ("INTERVAL '24 hours' = ANY ([INTERVAL '1 day'])", "true"),
        ("'b' = ANY (['a', 'b'])", "true"),
        ("1 = ANY (array_remove([1], 1))", "false"),
        ("1 = ALL (array_remove([1], 1))", "true"),
        ("1 = ANY (CAST(NULL AS BIGINT[]))", ""),
        ("2 IN (SELECT unnest(l) FROM (VALUES ([1, 2])) u(l))", "true"),
    ] {
        let query = format!("SELECT {condition} AS v FROM (VALUES (2, [1, 2])) t(n, l)");
        assert_eq!(lines(&ctx, &query).await, [right], "{condition}");
    }
    let error = rows(&ctx, "SELECT 1 = ANY (2)").await.unwrap_err().to_string();
    assert!(error.contains("ANY and ALL take a list or a subquery, and this is BIGINT"), "{error}");
}

#[tokio::test]
async fn unions_and_values_with_a_double_are_doubles() {
    let ctx = session();
    for (query, right) in [
        ("SELECT min(v) FROM (SELECT 1 AS v UNION SELECT 0.5 UNION SELECT 1e-20) t", "1e-20"),
        ("SELECT min(v) FROM (SELECT 1 AS v UNION ALL SELECT CAST(0.5 AS DECIMAL(5, 2)) UNION ALL SELECT 1e-20) t", "1e-20"),
        ("SELECT min(v) FROM (VALUES (1), (0.5), (1e-20)) t(v)", "1e-20"),
        ("SELECT max(v) FROM (VALUES (1), (0.5), (CAST('Infinity' AS DOUBLE))) t(v)", "inf"),
    ] {
        assert_eq!(lines(&ctx, query).await, [right], "{query}");
    }
}

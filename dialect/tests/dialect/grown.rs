//! Each production of the grammar as a statement that grows with a number.

/// A production: its name, and the statement in which it comes `n` times.
pub type Grown = (&'static str, fn(usize) -> String);

fn chain(n: usize, operand: &str, operator: &str) -> String {
    vec![operand; n + 1].join(operator)
}

fn list(n: usize, item: impl Fn(usize) -> String) -> String {
    (0..n).map(item).collect::<Vec<_>>().join(", ")
}

fn around(n: usize, before: &str, inside: &str, after: &str) -> String {
    format!("{}{inside}{}", before.repeat(n), after.repeat(n))
}

/// Operators in a row, and what comes around expressions.
pub const EXPRESSIONS: &[Grown] = &[
    ("+", |n| chain(n, "1", " + ")),
    ("-", |n| chain(n, "1", " - ")),
    ("*", |n| chain(n, "1", " * ")),
    ("/", |n| chain(n, "1", " / ")),
    ("%", |n| chain(n, "1", " % ")),
    ("&", |n| chain(n, "1", " & ")),
    ("|", |n| chain(n, "1", " | ")),
    ("^", |n| chain(n, "1", " ^ ")),
    ("<<", |n| chain(n, "1", " << ")),
    ("||", |n| chain(n, "'a'", " || ")),
    ("AND", |n| chain(n, "1 = 1", " AND ")),
    ("OR", |n| format!("false OR {}", (0..n).map(|i| format!("1 = {}", i + 2)).collect::<Vec<_>>().join(" OR "))),
    ("AND and OR", |n| chain(n, "1 = 1 AND 2 = 2", " OR ")),
    ("=", |n| chain(n, "true", " = ")),
    ("<>", |n| chain(n, "true", " <> ")),
    ("<", |n| chain(n, "true", " < ")),
    ("IS DISTINCT FROM", |n| chain(n, "1 = 1", " IS DISTINCT FROM ")),
    ("IS NOT DISTINCT FROM", |n| chain(n, "1 = 1", " IS NOT DISTINCT FROM ")),
    ("IS NULL", |n| format!("1{}", " IS NULL".repeat(n))),
    ("IS NOT TRUE", |n| format!("true{}", " IS NOT TRUE".repeat(n))),
    ("LIKE", |n| format!("'a' LIKE 'b'{}", " OR 'a' LIKE 'c'".repeat(n))),
    ("LIKE LIKE", |n| chain(n, "'a'", " LIKE ")),
    ("SIMILAR TO", |n| chain(n, "'a'", " SIMILAR TO ")),
    ("~", |n| chain(n, "'a'", " ~ ")),
    ("BETWEEN", |n| format!("1 BETWEEN 0 AND 2{}", " AND 1 BETWEEN 0 AND 2".repeat(n))),
    ("BETWEEN BETWEEN", |n| format!("1{}", " BETWEEN 0 AND 2".repeat(n))),
    ("IN IN", |n| format!("true{}", " IN (true, false)".repeat(n))),
    ("IN", |n| format!("1 IN ({})", list(n, |i| i.to_string()))),
    ("NOT IN", |n| format!("'a' NOT IN ({})", list(n, |i| format!("'{i}'")))),
    ("IN of sums", |n| format!("1 IN ({})", list(n, |i| format!("{i} + 1")))),
    ("::", |n| format!("1{}", "::INT".repeat(n))),
    ("CAST", |n| around(n, "CAST(", "1", " AS INT)")),
    ("TRY_CAST", |n| around(n, "TRY_CAST(", "1", " AS INT)")),
    ("AT TIME ZONE", |n| format!("TIMESTAMP '2024-01-01'{}", " AT TIME ZONE 'UTC'".repeat(n))),
    ("COLLATE", |n| format!("'a'{}", " COLLATE x".repeat(n))),
    ("NOT", |n| format!("{} true", "NOT ".repeat(n))),
    ("NOT with =", |n| format!("{} true", "NOT true = ".repeat(n))),
    ("unary -", |n| format!("{} 1", "- ".repeat(n))),
    ("unary + and ~", |n| format!("{} 1", "+ ~ ".repeat(n))),
    ("brackets", |n| around(n, "(", "1", ")")),
    ("brackets that stay open", |n| "(".repeat(n)),
    ("brackets that were not opened", |n| format!("1{}", ")".repeat(n))),
    ("brackets around sums", |n| around(n, "(1 + ", "1", ")")),
    ("sums after brackets", |n| around(n, "(", "1", " + 1)")),
    ("CASE within CASE", |n| around(n, "CASE WHEN true THEN ", "1", " END")),
    ("CASE without END", |n| "CASE WHEN ".repeat(n)),
    ("arms of CASE", |n| format!("CASE 1 {} END", "WHEN 1 THEN 1 ".repeat(n))),
    ("arms of CASE with conditions", |n| {
        format!("CASE {} ELSE 0 END", (0..n).map(|i| format!("WHEN 1 > {i} THEN {i} ")).collect::<String>())
    }),
    ("function within function", |n| around(n, "abs(", "1", ")")),
    ("special functions", |n| around(n, "ceil(", "1", ")")),
    ("special functions, then a mistake", |n| around(n, "overlay(", "1 1", ")")),
    ("substring, then a mistake", |n| around(n, "substring(", "1 1", ")")),
    ("EXTRACT", |n| around(n, "extract(day FROM ", "now()", ")")),
    ("arguments", |n| format!("concat({})", list(n, |_| "'a'".into()))),
    ("coalesce", |n| format!("coalesce({})", list(n, |i| i.to_string()))),
    ("array", |n| format!("[{}]", list(n, |i| i.to_string()))),
    ("array within array", |n| around(n, "[", "1", "]")),
    ("array's index", |n| format!("[1]{}", "[1]".repeat(n))),
    ("struct's field", |n| format!("named_struct('a', 1){}", "['a']".repeat(n))),
    ("name with dots", |n| format!("a{}", ".a".repeat(n))),
    ("struct", |n| format!("struct({})", list(n, |i| i.to_string()))),
    ("map", |n| format!("MAP {{{}}}", list(n, |i| format!("'{i}': {i}")))),
    ("map within map", |n| around(n, "MAP {'a': ", "1", "}")),
    ("tuple within tuple", |n| around(n, "(1, ", "1", ")")),
    ("type of arrays", |n| format!("CAST(NULL AS INT{})", "[]".repeat(n))),
    ("type in angle brackets", |n| format!("CAST(NULL AS {})", around(n, "ARRAY<", "INT", ">"))),
    ("type of structs", |n| format!("CAST(NULL AS {})", around(n, "STRUCT<a ", "INT", ">"))),
    ("interval", |n| chain(n, "INTERVAL '1 day'", " + ")),
    ("INTERVAL INTERVAL", |n| format!("{} '1 day'", "INTERVAL ".repeat(n))),
    ("text", |n| format!("'{}'", "a''b".repeat(n))),
    ("name in quotes", |n| format!("\"{}\"", "a".repeat(n))),
    ("->", |n| chain(n, "'a'", " -> ")),
    ("subquery", |n| around(n, "(SELECT ", "1", ")")),
    ("EXISTS", |n| around(n, "EXISTS (SELECT ", "1", ")")),
    ("IN (SELECT)", |n| around(n, "1 IN (SELECT ", "1", ")")),
    ("row IN (SELECT)", |n| around(n, "(1, 2) IN (SELECT 1, ", "2", ")")),
    ("row of many values IN (SELECT)", |n| format!("({}) IN (SELECT 1)", list(n, |i| i.to_string()))),
    ("ANY", |n| around(n, "1 = ANY (SELECT ", "1", ")")),
    ("FILTER", |n| format!("count(*) FILTER (WHERE {})", chain(n, "true", " AND "))),
    ("OVER", |n| format!("sum(1) OVER (ORDER BY {})", list(n, |i| format!("{i} + 0")))),
    ("FORMAT of wild operators", |n| chain(n, "1", " <=> ")),
];

/// Whole statements.
pub const STATEMENTS: &[Grown] = &[
    ("expressions of SELECT", |n| format!("SELECT {}", list(n, |i| format!("{i} AS c{i}")))),
    ("sums of SELECT", |n| format!("SELECT {}", list(n.min(2_000), |i| format!("{} AS c{i}", chain(n / 200, "1", " + "))))),
    ("stars of SELECT", |n| format!("SELECT {} FROM (SELECT 1 AS a)", list(n, |_| "*".into()))),
    ("aggregates", |n| format!("SELECT {} FROM (VALUES (1)) t(x)", list(n, |i| format!("sum(x + {i}) AS c{i}")))),
    ("windows", |n| format!("SELECT {} FROM (VALUES (1)) t(x)", list(n, |i| format!("sum(x) OVER (ORDER BY x + {i}) AS c{i}")))),
    ("named windows", |n| format!("SELECT sum(x) OVER w0 FROM (VALUES (1)) t(x) WINDOW {}", list(n, |i| format!("w{i} AS (ORDER BY x)")))),
    ("windows by name", |n| {
        format!("SELECT sum(x) OVER w0 FROM (VALUES (1)) t(x) WINDOW {}", list(n, |i| format!("w{i} AS (w{})", i + 1)))
    }),
    ("GROUP BY", |n| format!("SELECT count(*) FROM (VALUES (1)) t(x) GROUP BY {}", list(n, |i| format!("x + {i}")))),
    ("GROUPING SETS", |n| format!("SELECT count(*) FROM (VALUES (1)) t(x) GROUP BY GROUPING SETS ({})", list(n, |_| "(x)".into()))),
    ("CUBE", |n| format!("SELECT count(*) FROM (VALUES (1)) t(x) GROUP BY CUBE ({})", list(n, |i| format!("x + {i}")))),
    ("ROLLUP", |n| format!("SELECT count(*) FROM (VALUES (1)) t(x) GROUP BY ROLLUP ({})", list(n, |i| format!("x + {i}")))),
    ("ORDER BY", |n| format!("SELECT x FROM (VALUES (1)) t(x) ORDER BY {}", list(n, |i| format!("x + {i}")))),
    ("DISTINCT ON", |n| format!("SELECT DISTINCT ON ({}) x FROM (VALUES (1)) t(x)", list(n, |i| format!("x + {i}")))),
    ("rows of VALUES", |n| format!("VALUES {}", list(n, |i| format!("({i}, 'a')")))),
    ("columns of VALUES", |n| format!("VALUES ({})", list(n, |i| i.to_string()))),
    ("UNION ALL", |n| chain(n, "SELECT 1", " UNION ALL ")),
    ("UNION", |n| chain(n, "SELECT 1", " UNION ")),
    ("INTERSECT", |n| chain(n, "SELECT 1", " INTERSECT ")),
    ("EXCEPT", |n| chain(n, "SELECT 1", " EXCEPT ")),
    ("UNION in brackets", |n| format!("{} SELECT 1 {}", "(SELECT 1 UNION ALL ".repeat(n), ")".repeat(n))),
    ("WITH", |n| {
        let later = (1..=n).map(|i| format!(", c{i} AS (SELECT x + 1 AS x FROM c{})", i - 1)).collect::<String>();
        format!("WITH c0 AS (SELECT 1 AS x){later} SELECT x FROM c{n}")
    }),
    ("WITH twice each", |n| {
        let later = (1..=n).map(|i| format!(", c{i} AS (SELECT a.x FROM c{0} a, c{0} b)", i - 1)).collect::<String>();
        format!("WITH c0 AS (SELECT 1 AS x){later} SELECT x FROM c{n}")
    }),
    ("WITH that nobody uses", |n| format!("WITH {} SELECT 1", list(n, |i| format!("c{i} AS (SELECT 1)")))),
    ("WITH within WITH", |n| around(n, "WITH c AS (", "SELECT 1 AS x", ") SELECT x FROM c")),
    ("FROM within FROM", |n| around(n, "SELECT x FROM (", "SELECT 1 AS x", ") t")),
    ("brackets in FROM", |n| format!("SELECT * FROM {}", around(n, "(", "(SELECT 1 AS x) t", ")"))),
    ("brackets in FROM around a name", |n| format!("SELECT * FROM {}", around(n, "(", "nothing", ")"))),
    ("brackets around all", |n| around(n, "(", "SELECT 1", ")")),
    ("commas of FROM", |n| format!("SELECT count(*) FROM {}", list(n, |i| format!("(SELECT 1 AS x) t{i}")))),
    ("JOIN", |n| {
        let joins = (1..=n).map(|i| format!(" JOIN (SELECT 1 AS x) t{i} ON t{i}.x = t{}.x", i - 1)).collect::<String>();
        format!("SELECT count(*) FROM (SELECT 1 AS x) t0{joins}")
    }),
    ("CROSS JOIN", |n| {
        format!("SELECT count(*) FROM (SELECT 1 AS x) t{}", (0..n).map(|i| format!(" CROSS JOIN (SELECT 1 AS x) t{i}")).collect::<String>())
    }),
    ("JOIN in brackets", |n| {
        let inner = (0..n).map(|i| format!("((SELECT 1 AS x) t{i} CROSS JOIN ")).collect::<String>();
        format!("SELECT 1 FROM {inner}(SELECT 1 AS x) t{}", ")".repeat(n))
    }),
    ("USING", |n| {
        format!(
            "SELECT count(*) FROM (SELECT 1 AS x) t{}",
            (0..n).map(|i| format!(" JOIN (SELECT 1 AS x) t{i} USING (x)")).collect::<String>()
        )
    }),
    ("UNNEST", |n| format!("SELECT * FROM UNNEST({})", list(n, |_| "[1]".into()))),
    ("PIVOT", |n| format!("SELECT * FROM t{}", " PIVOT (sum(a) FOR b IN (1))".repeat(n))),
    ("|>", |n| format!("SELECT 1 AS x{}", " |> SELECT x + 1 AS x".repeat(n))),
    ("|> in a row", |n| format!("FROM (SELECT 1 AS x) t{}", " |> WHERE x > 0".repeat(n))),
    ("EXPLAIN", |n| format!("{}SELECT 1", "EXPLAIN ".repeat(n))),
    ("PREPARE", |n| format!("{}SELECT 1", (0..n).map(|i| format!("PREPARE p{i} AS ")).collect::<String>())),
    ("types of PREPARE", |n| format!("PREPARE p({}) AS SELECT 1", list(n, |_| "INT".into()))),
    ("EXCEPT of a star", |n| format!("SELECT * EXCEPT ({}) FROM (SELECT 1 AS x)", list(n, |i| format!("c{i}")))),
    ("hints", |n| format!("SELECT {} 1", "/* x */ ".repeat(n))),
    ("comment within comment", |n| format!("SELECT {} 1", around(n, "/* ", "x", " */"))),
    ("comments at the end of lines", |n| format!("SELECT 1 {}", "-- x\n".repeat(n))),
    ("aliases of columns", |n| format!("SELECT * FROM (SELECT 1) t({})", list(n, |i| format!("c{i}")))),
    ("RECURSIVE", |n| {
        format!("WITH RECURSIVE {} SELECT 1", list(n, |i| format!("r{i} AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r{i} WHERE x < 3)")))
    }),
    ("statements", |n| "SELECT 1;".repeat(n)),
    ("semicolons", |n| format!("{}SELECT 1", ";".repeat(n))),
    ("HAVING", |n| format!("SELECT count(*) FROM (VALUES (1)) t(x) HAVING {}", chain(n, "count(*) > 0", " AND "))),
    ("SET", |n| format!("SET datafusion.execution.time_zone = '{}'", "x".repeat(n))),
    ("SHOW", |n| format!("SHOW a{}", ".a".repeat(n))),
    ("COPY", |n| format!("{}SELECT 1{}", "COPY (".repeat(n), ") TO 'x'".repeat(n))),
    ("table function", |n| {
        format!("SELECT * FROM {}", around(n, "TUMBLE(TABLE (SELECT * FROM ", "t", "), DESCRIPTOR(x), INTERVAL '1 minute')"))
    }),
    ("TABLE", |n| format!("SELECT * FROM f({})", around(n, "TABLE (", "t", ")"))),
    ("keys of PARTITION BY", |n| {
        format!("SELECT * FROM DEDUPLICATE(TABLE t PARTITION BY {}, DESCRIPTOR(x), INTERVAL '1 minute')", list(n, |i| format!("k{i}")))
    }),
];

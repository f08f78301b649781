//! Edits that change what a query means: each expression, constant, key, option, type, function and frame, under each operator.

use super::{between, tried};

/// An expression, and what it is edited to. Types stay, so that nothing but the expression tells them apart.
const EXPRESSIONS: &[(&str, &str)] = &[
    ("amount * 2", "amount * 3"),
    ("amount + 1", "amount - 1"),
    ("amount / 2", "amount / 4"),
    ("amount % 2", "amount % 4"),
    ("amount % 19", "amount % 7"),
    ("amount + 1", "amount + 2"),
    ("-amount", "amount"),
    ("amount", "id"),
    ("amount - id", "id - amount"),
    ("amount * 2 + 1", "amount * (2 + 1)"),
    ("rate * 0.1", "rate * 0.10000000000000001e1"),
    ("price * CAST(1.5 AS DECIMAL(3, 2))", "price * CAST(1.51 AS DECIMAL(3, 2))"),
    ("upper(city)", "lower(city)"),
    ("upper(city)", "upper(town)"),
    ("city || 'a'", "city || 'b'"),
    ("city || town", "town || city"),
    ("substr(city, 1, 2)", "substr(city, 1, 3)"),
    ("substr(city, 1, 2)", "substr(city, 2, 1)"),
    ("coalesce(amount, 0)", "coalesce(amount, 1)"),
    ("10 / amount", "10 / nullif(amount, 0)"),
    ("round(rate, 1)", "round(rate, 2)"),
    ("CASE WHEN amount > 1 THEN 'large' ELSE 'small' END", "CASE WHEN amount > 9 THEN 'large' ELSE 'small' END"),
    ("CASE WHEN amount > 1 THEN 'large' ELSE 'small' END", "CASE WHEN amount > 1 THEN 'small' ELSE 'large' END"),
    ("CASE WHEN amount > 1 THEN 'large' ELSE 'small' END", "CASE WHEN amount > 1 THEN 'large' END"),
    ("CASE amount WHEN 1 THEN 'one' WHEN 2 THEN 'two' END", "CASE amount WHEN 2 THEN 'one' WHEN 1 THEN 'two' END"),
    ("CASE amount WHEN 1 THEN 'one' END", "CASE id WHEN 1 THEN 'one' END"),
    ("CAST(CAST(amount AS INT) AS BIGINT)", "CAST(CAST(amount AS SMALLINT) AS BIGINT)"),
    ("CAST(city AS BIGINT)", "TRY_CAST(city AS BIGINT)"),
    ("CAST(rate AS INT)", "CAST(round(rate) AS INT)"),
    ("CAST(CAST(rate AS FLOAT) AS DOUBLE)", "rate"),
    ("date_trunc('hour', at)", "date_trunc('day', at)"),
    ("at + INTERVAL '1 hour'", "at + INTERVAL '2 hours'"),
    ("at + INTERVAL '1 month'", "at + INTERVAL '30 days'"),
    ("date_part('hour', at)", "date_part('minute', at)"),
    ("tags[1]", "tags[2]"),
    ("place['lat']", "place['lon']"),
    ("concat(city, 'x')", "concat(city, 'y')"),
    ("greatest(amount, 5)", "least(amount, 5)"),
    ("day + INTERVAL '1 day'", "day + INTERVAL '2 days'"),
    ("amount & 3", "amount | 3"),
    ("amount << 1", "amount >> 1"),
];

/// The same for predicates.
const PREDICATES: &[(&str, &str)] = &[
    ("amount > 1", "amount > 9"),
    ("amount > 1", "amount >= 1"),
    ("amount = 1", "amount <> 1"),
    ("amount = 1", "amount IS DISTINCT FROM 1"),
    ("amount IS DISTINCT FROM 1", "amount IS NOT DISTINCT FROM 1"),
    ("city = 'a'", "city = 'b'"),
    ("city = 'a'", "town = 'a'"),
    ("city = 'a constant longer than ten bytes'", "city = 'a constant longer than ten bits!'"),
    ("flag", "NOT flag"),
    ("flag IS TRUE", "flag IS NOT FALSE"),
    ("flag IS UNKNOWN", "flag IS NOT UNKNOWN"),
    ("city IS NULL", "city IS NOT NULL"),
    ("city LIKE 'a%'", "city LIKE 'b%'"),
    ("city LIKE 'a_c%'", "city ILIKE 'a_c%'"),
    ("city LIKE 'a_c%'", "city NOT LIKE 'a_c%'"),
    ("city SIMILAR TO 'a|b'", "city SIMILAR TO 'a|c'"),
    ("city ~ 'a'", "city ~* 'a'"),
    ("city ~ 'a.c'", "city !~ 'a.c'"),
    ("amount BETWEEN 1 AND 5", "amount BETWEEN 1 AND 6"),
    ("amount BETWEEN 1 AND 5", "amount NOT BETWEEN 1 AND 5"),
    ("amount IN (1, 2, 3, 4, 5, 6)", "amount IN (1, 2, 3, 4, 5, 7)"),
    ("amount IN (1, 2, 3, 4, 5, 6)", "amount NOT IN (1, 2, 3, 4, 5, 6)"),
    ("flag AND amount > 1", "flag OR amount > 1"),
    ("flag AND amount > 1 OR city = 'a'", "flag AND (amount > 1 OR city = 'a')"),
    ("at > TIMESTAMP '2026-01-01 00:00:00'", "at > TIMESTAMP '2026-01-01 00:00:01'"),
    ("day > DATE '2026-01-01'", "day > DATE '2026-01-02'"),
    ("raw = x'000102030405060708090a0b'", "raw = x'000102030405060708090a0c'"),
    ("rate > 0.5", "rate > 0.50000001"),
    ("regexp_like(city, 'a.c')", "regexp_like(city, 'a.d')"),
    ("starts_with(city, 'a')", "ends_with(city, 'a')"),
    ("later - at > INTERVAL '1 hour'", "later - at > INTERVAL '1 hour 1 second'"),
];

/// Where an expression may be.
const PLACES: &[&str] = &[
    "SELECT id, {} AS x FROM pay",
    "SELECT id, x FROM (SELECT id, {} AS x FROM pay) AS inner_one WHERE x IS NOT NULL",
    "WITH one AS (SELECT id, {} AS x FROM pay), two AS (SELECT * FROM one) SELECT x AS y FROM two",
    "SELECT window_start, window_end, count(DISTINCT x) AS n FROM TUMBLE(TABLE (SELECT at, {} AS x FROM pay), DESCRIPTOR(at), INTERVAL '1 hour')
     GROUP BY window_start, window_end",
    "SELECT window_start, window_end, count({}) AS n FROM HOP(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour', INTERVAL '2 hours')
     GROUP BY window_start, window_end",
    "SELECT window_start, window_end, x, count(*) AS n FROM TUMBLE(TABLE (SELECT at, {} AS x FROM pay), DESCRIPTOR(at), INTERVAL '1 hour')
     GROUP BY window_start, window_end, x",
    "SELECT window_start, window_end, count(*) AS n FROM CUMULATE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour', INTERVAL '1 day')
     GROUP BY window_start, window_end, {}",
    "SELECT id, count(*) OVER (PARTITION BY x ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS n
     FROM (SELECT id, at, {} AS x FROM pay)",
    "SELECT id, count(*) OVER (PARTITION BY {} ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS n FROM pay",
    "SELECT id, count({}) OVER w AS n FROM pay
     WINDOW w AS (PARTITION BY city ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW)",
    "SELECT id FROM DEDUPLICATE(TABLE (SELECT id, at, {} AS x FROM pay) PARTITION BY x, DESCRIPTOR(at), INTERVAL '10 minutes')",
    "SELECT id, {} AS x FROM DEDUPLICATE(TABLE pay PARTITION BY id, DESCRIPTOR(at), INTERVAL '10 minutes')",
    "SELECT window_start, x, n FROM (SELECT window_start, window_end, {} AS x, count(*) AS n
     FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end, {})",
];

/// Where a predicate may be.
const CONDITIONS: &[&str] = &[
    "SELECT id FROM pay WHERE {}",
    "SELECT id FROM (SELECT * FROM pay WHERE {}) AS p WHERE p.id > 0",
    "SELECT id, {} AS x FROM pay",
    "SELECT id, CASE WHEN {} THEN 1 ELSE 0 END AS x FROM pay",
    "SELECT window_start, window_end, count(*) FILTER (WHERE {}) AS n FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour')
     GROUP BY window_start, window_end",
    "SELECT window_start, window_end, count(*) AS n FROM TUMBLE(TABLE (SELECT * FROM pay WHERE {}), DESCRIPTOR(at), INTERVAL '1 hour')
     GROUP BY window_start, window_end",
    "SELECT window_start, window_end, count(*) AS n FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') WHERE {}
     GROUP BY window_start, window_end",
    "SELECT id, count(*) FILTER (WHERE {}) OVER (PARTITION BY city ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS n
     FROM pay",
    "SELECT id FROM DEDUPLICATE(TABLE (SELECT * FROM pay WHERE {}) PARTITION BY id, DESCRIPTOR(at), INTERVAL '10 minutes')",
];

/// Whole queries.
const QUERIES: &[(&str, &str)] = &[
    (
        "SELECT window_start, sum(amount) AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end",
        "SELECT window_start, sum(amount) * 2 AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end",
    ),
    (
        "SELECT window_start, sum(amount) / 2 AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end",
        "SELECT window_start, sum(amount) / 4 AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end",
    ),
    (
        "SELECT window_start, sum(amount) AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end",
        "SELECT window_start, max(amount) AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end",
    ),
    (
        "SELECT window_start, sum(amount) AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end",
        "SELECT window_start, sum(DISTINCT amount) AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end",
    ),
    (
        "SELECT window_start, sum(amount) AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end",
        "SELECT window_start, sum(id) AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end",
    ),
    (
        "SELECT window_start, sum(amount) AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end",
        "SELECT window_end AS window_start, sum(amount) AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour')
         GROUP BY window_start, window_end",
    ),
    (
        "SELECT window_start, sum(amount) AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end",
        "SELECT window_start, sum(amount) AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '61 minutes') GROUP BY window_start, window_end",
    ),
    (
        "SELECT window_start, sum(amount) AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end",
        "SELECT window_start, sum(amount) AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour', INTERVAL '1 minute')
         GROUP BY window_start, window_end",
    ),
    (
        "SELECT window_start, count(*) AS n FROM HOP(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour', INTERVAL '2 hours') GROUP BY window_start, window_end",
        "SELECT window_start, count(*) AS n FROM HOP(TABLE pay, DESCRIPTOR(at), INTERVAL '30 minutes', INTERVAL '2 hours')
         GROUP BY window_start, window_end",
    ),
    (
        "SELECT window_start, count(*) AS n FROM HOP(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour', INTERVAL '2 hours') GROUP BY window_start, window_end",
        "SELECT window_start, count(*) AS n FROM CUMULATE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour', INTERVAL '2 hours')
         GROUP BY window_start, window_end",
    ),
    (
        "SELECT window_start, count(*) AS n FROM CUMULATE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour', INTERVAL '2 hours')
         GROUP BY window_start, window_end",
        "SELECT window_start, count(*) AS n FROM CUMULATE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour', INTERVAL '3 hours')
         GROUP BY window_start, window_end",
    ),
    (
        "SELECT window_start, city, sum(amount) AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour')
         GROUP BY window_start, window_end, city HAVING sum(amount) > 1",
        "SELECT window_start, city, sum(amount) AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour')
         GROUP BY window_start, window_end, city HAVING sum(amount) > 2",
    ),
    (
        "SELECT id FROM DEDUPLICATE(TABLE pay PARTITION BY id, DESCRIPTOR(at), INTERVAL '1200 milliseconds')",
        "SELECT id FROM DEDUPLICATE(TABLE pay PARTITION BY id, DESCRIPTOR(at), INTERVAL '1900 milliseconds')",
    ),
    (
        "SELECT id, amount FROM DEDUPLICATE(TABLE pay PARTITION BY id, DESCRIPTOR(at), INTERVAL '10 minutes')",
        "SELECT id, amount FROM DEDUPLICATE(TABLE pay PARTITION BY amount, DESCRIPTOR(at), INTERVAL '10 minutes')",
    ),
    (
        "SELECT id, city FROM DEDUPLICATE(TABLE pay PARTITION BY id, DESCRIPTOR(at), INTERVAL '10 minutes')",
        "SELECT id, city FROM DEDUPLICATE(TABLE pay PARTITION BY id, city, DESCRIPTOR(at), INTERVAL '10 minutes')",
    ),
    (
        "SELECT id, sum(amount) OVER (PARTITION BY city ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS s FROM pay",
        "SELECT id, sum(amount) OVER (PARTITION BY city ORDER BY at RANGE BETWEEN INTERVAL '2 minutes' PRECEDING AND CURRENT ROW) AS s FROM pay",
    ),
    (
        "SELECT id, sum(amount) OVER (PARTITION BY city ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS s FROM pay",
        "SELECT id, sum(amount) OVER (PARTITION BY city ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING
         AND INTERVAL '1 microsecond' PRECEDING) AS s FROM pay",
    ),
    (
        "SELECT id, sum(amount) OVER w AS s FROM pay
         WINDOW w AS (PARTITION BY city ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW)",
        "SELECT id, sum(amount) OVER w AS s FROM pay
         WINDOW w AS (PARTITION BY town ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW)",
    ),
    (
        "SELECT id, min(amount) OVER (ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS s FROM pay",
        "SELECT id, max(amount) OVER (ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS s FROM pay",
    ),
    (
        "SELECT id, count(amount) OVER (ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS s FROM pay",
        "SELECT id, count(DISTINCT amount) OVER (ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS s FROM pay",
    ),
    (
        "SELECT id, first_value(amount) OVER (ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS s FROM pay",
        "SELECT id, last_value(amount) OVER (ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS s FROM pay",
    ),
    ("SELECT id, city FROM pay", "SELECT id, town AS city FROM pay"),
    ("SELECT id, city FROM pay", "SELECT city, id FROM pay"),
    ("SELECT id FROM pay", "SELECT id, city FROM pay"),
    ("SELECT id, city FROM pay", "SELECT id FROM pay"),
    ("SELECT id, city FROM pay", "SELECT id, city AS town FROM pay"),
    ("SELECT amount AS x FROM pay", "SELECT CAST(amount AS DOUBLE) AS x FROM pay"),
];

async fn seen(old: &str, new: &str, unseen: &mut Vec<String>) {
    match tried(old, new).await {
        Ok(Some(_)) => {}
        Ok(None) => unseen.push(format!("{old}\n    {new}")),
        Err(error) => unseen.push(format!("does not plan: {error}\n    {old}\n    {new}")),
    }
}

#[tokio::test]
async fn every_edit_of_a_meaning_is_seen() {
    let mut unseen = Vec::new();
    for (places, edits) in [(PLACES, EXPRESSIONS), (CONDITIONS, PREDICATES)] {
        for place in places {
            for (old, new) in edits {
                seen(&place.replace("{}", old), &place.replace("{}", new), &mut unseen).await;
            }
        }
    }
    for (old, new) in QUERIES {
        seen(old, new, &mut unseen).await;
    }
    assert!(unseen.is_empty(), "{} are not seen:\n{}", unseen.len(), unseen.join("\n"));
}

#[tokio::test]
async fn every_edit_of_a_source_that_a_query_reads_is_seen() {
    let table = "CREATE STREAMING TABLE gold.x AS SELECT id, amount, note, a_key FROM
                 DEDUPLICATE(TABLE pay PARTITION BY id, DESCRIPTOR(at), INTERVAL '10 minutes')";
    let source =
        "CREATE SOURCE pay (id BIGINT NOT NULL, at TIMESTAMP NOT NULL, amount BIGINT, note VARCHAR, unread VARCHAR, a_key VARCHAR METADATA FROM 'key',
                  WATERMARK FOR at AS at - INTERVAL '1 second') WITH (connector = 'kafka', topic = 'pay', format = 'json');";
    let old = super::plan_of(source, table).await;
    let cases = [
        ("1 second", "2 seconds", "the watermark of pay is 2 s late, and was 1 s late"),
        ("amount BIGINT", "amount INT", "column amount of pay is INT, and was BIGINT"),
        ("amount BIGINT", "amount BIGINT NOT NULL", "column amount of pay is BIGINT NOT NULL, and was BIGINT"),
        ("note VARCHAR", "note JSON", "column note of pay keeps JSON as text, and did not"),
        ("FROM 'key'", "FROM 'topic'", "column a_key comes from METADATA 'topic', and came from METADATA 'key'"),
    ];
    for (was, is, said) in cases {
        let new = super::plan_of(&source.replace(was, is), table).await;
        assert_eq!(super::difference(&old.spec, &new.spec).as_deref(), Some(said));
    }
    // DEDUPLICATE looks at all columns, other queries at those they name.
    let table = "CREATE STREAMING TABLE gold.x AS SELECT id, amount, a_key FROM pay";
    let (old, new) = (super::plan_of(source, table).await, super::plan_of(&source.replace("unread VARCHAR, ", ""), table).await);
    assert_eq!(super::difference(&old.spec, &new.spec), None, "a column that is not read");
}

#[tokio::test]
async fn what_changed_is_said() {
    let cases = [
        ("SELECT id FROM pay WHERE amount > 1", "SELECT id FROM pay WHERE amount > 9", "it keeps rows with amount > 9, was amount > 1"),
        ("SELECT id, amount * 2 AS x FROM pay", "SELECT id, amount * 3 AS x FROM pay", "column x is amount * 3, was amount * 2"),
        (
            "SELECT id FROM DEDUPLICATE(TABLE pay PARTITION BY id, DESCRIPTOR(at), INTERVAL '10 minutes')",
            "SELECT id FROM DEDUPLICATE(TABLE pay PARTITION BY id, DESCRIPTOR(at), INTERVAL '20 minutes')",
            "repeats are dropped within 20 min, was 10 min",
        ),
        (
            "SELECT window_start FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end HAVING count(*) > 1",
            "SELECT window_start FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end HAVING count(*) > 2",
            "it keeps rows with count(1) > 2, was count(1) > 1",
        ),
        (
            "SELECT amount * 2 + 1 AS x, amount * 2 + 2 AS y FROM pay",
            "SELECT amount * 3 + 1 AS x, amount * 3 + 2 AS y FROM pay",
            "it computes amount * 3, was amount * 2",
        ),
        (
            "SELECT amount * 2 + 1 AS x, amount * 2 + 2 AS y FROM pay",
            "SELECT amount * 2 + 1 AS x, amount * 2 + 3 AS y FROM pay",
            "column y is (…) + 3, was (…) + 2",
        ),
        ("SELECT id FROM pay", "SELECT id, city FROM pay", "column city is new"),
        ("SELECT amount AS x FROM pay", "SELECT rate AS x FROM pay", "column x is DOUBLE, and was BIGINT"),
    ];
    for (old, new, said) in cases {
        assert_eq!(between(old, new).await.as_deref(), Some(said));
    }
}

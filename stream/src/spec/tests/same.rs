//! Edits that change nothing of what a query means.

use super::between;

const SAME: &[(&str, &str)] = &[
    ("SELECT id FROM pay", "select  ID /* the number */\nfrom Pay -- all"),
    ("SELECT id FROM pay", "SELECT p.id FROM pay AS p"),
    ("SELECT id, amount FROM pay", "SELECT number AS id, amount FROM (SELECT id AS number, amount FROM pay)"),
    ("SELECT id FROM pay", "WITH one AS (SELECT * FROM pay), two AS (SELECT one.id FROM one) SELECT id FROM two"),
    ("SELECT id FROM pay WHERE amount > 1 AND city = 'a'", "SELECT id FROM pay WHERE city = 'a' AND amount > 1"),
    ("SELECT id FROM pay WHERE amount > 1 AND city = 'a' AND flag", "SELECT id FROM pay WHERE flag AND (city = 'a' AND amount > 1)"),
    ("SELECT id FROM pay WHERE amount > 1 OR city = 'a'", "SELECT id FROM pay WHERE city = 'a' OR amount > 1"),
    ("SELECT id FROM pay WHERE amount > 1", "SELECT id FROM pay WHERE 1 < amount"),
    ("SELECT id FROM pay WHERE amount = id", "SELECT id FROM pay WHERE id = amount"),
    ("SELECT id FROM pay WHERE amount BETWEEN 1 AND 5", "SELECT id FROM pay WHERE amount >= 1 AND amount <= 5"),
    ("SELECT id FROM pay WHERE amount IN (1, 2, 3, 4, 5, 6)", "SELECT id FROM pay WHERE amount IN (6, 5, 4, 3, 2, 1, 1)"),
    ("SELECT id FROM pay WHERE amount > 1 AND flag", "SELECT id FROM (SELECT * FROM pay WHERE amount > 1) WHERE flag"),
    ("SELECT amount * 2 AS x FROM pay", "SELECT 2 * amount AS x FROM pay"),
    ("SELECT amount * (1 + 1) AS x FROM pay", "SELECT amount * 2 AS x FROM pay"),
    (
        "SELECT window_start, window_end, sum(x) AS s FROM TUMBLE(TABLE (SELECT at, amount * 2 AS x FROM pay), DESCRIPTOR(at), INTERVAL '1 hour')
         GROUP BY window_start, window_end",
        "SELECT w.window_start, w.window_end, sum(w.y) AS s
         FROM TUMBLE(TABLE (SELECT p.at, p.amount * 2 AS y FROM pay p), DESCRIPTOR(at), INTERVAL '60 minutes') AS w GROUP BY window_start, window_end",
    ),
    (
        "SELECT window_start, window_end, x, count(*) AS n FROM TUMBLE(TABLE (SELECT at, city AS x FROM pay), DESCRIPTOR(at), INTERVAL '1 hour')
         GROUP BY window_start, window_end, x",
        "SELECT window_start, window_end, y AS x, count(*) AS n
         FROM TUMBLE(TABLE (SELECT at, city AS y FROM pay), DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY 1, 2, 3",
    ),
    (
        "SELECT id, count(*) OVER (PARTITION BY x ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS n
         FROM (SELECT id, at, upper(city) AS x FROM pay)",
        "SELECT id, count(*) OVER w AS n FROM (SELECT id, at, upper(city) AS y FROM pay)
         WINDOW w AS (PARTITION BY y ORDER BY at RANGE BETWEEN INTERVAL '60 seconds' PRECEDING AND CURRENT ROW)",
    ),
    (
        "SELECT id, x FROM DEDUPLICATE(TABLE (SELECT id, at, upper(city) AS x FROM pay) PARTITION BY x, DESCRIPTOR(at), INTERVAL '10 minutes')",
        "SELECT id, y AS x FROM DEDUPLICATE(TABLE (SELECT id, at AS t, upper(city) AS y FROM pay) PARTITION BY y, DESCRIPTOR(t), INTERVAL '600 seconds')",
    ),
    (
        "SELECT window_start, sum(amount) FILTER (WHERE flag AND amount > 1) AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour')
         GROUP BY window_start, window_end",
        "SELECT window_start, sum(amount) FILTER (WHERE amount > 1 AND flag) AS s FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour')
         GROUP BY window_start, window_end",
    ),
];

#[tokio::test]
async fn edits_that_change_nothing_are_no_change() {
    let mut seen = Vec::new();
    for (old, new) in SAME {
        if let Some(said) = between(old, new).await {
            seen.push(format!("{said}\n    {old}\n    {new}"));
        }
    }
    assert!(seen.is_empty(), "{} are taken for changes:\n{}", seen.len(), seen.join("\n"));
}

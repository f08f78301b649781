//! Queries that get columns: when rows and state stay, and why not.

use super::super::difference::{Change, change};
use super::{PAY, plan, plan_of};

const WINDOW: &str = "FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end, city";
const OVER: &str = "FROM pay WINDOW w AS (PARTITION BY city ORDER BY at RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW)";
const ONCE: &str = "FROM DEDUPLICATE(TABLE pay PARTITION BY id, DESCRIPTOR(at), INTERVAL '10 minutes')";
const ONCE_OF_TWO: &str = "FROM DEDUPLICATE(TABLE (SELECT id, at FROM pay) PARTITION BY id, DESCRIPTOR(at), INTERVAL '10 minutes')";

/// What is selected from what, and what is added at the end.
const CARRY_ON: &[(&str, &str, &str)] = &[
    ("id", "city", "FROM pay"),
    // A column that comes before those that were read moves them.
    ("city", "id", "FROM pay WHERE amount > 1"),
    ("town", "upper(city) AS big", "FROM pay WHERE city LIKE 'a%' AND amount > 1"),
    ("upper(city) AS big", "place['lat'] AS lat", "FROM (SELECT * FROM pay WHERE flag) AS p"),
    // An expression that both columns have is computed once, in a step of its own.
    ("amount * 2 + 1 AS x", "amount * 2 + 2 AS y", "FROM pay"),
    ("id", "'x' AS tag", "FROM pay"),
    ("window_start, city, sum(amount) AS s", "window_end", WINDOW),
    ("window_start, city, sum(amount) AS s", "lower(city) AS small", WINDOW),
    ("window_start, city, sum(amount) AS s", "sum(amount) * 2 AS twice", WINDOW),
    ("window_start, sum(amount) AS s, count(*) AS n", "sum(amount) / count(*) AS mean", WINDOW),
    ("id, city", "town", ONCE),
    ("id, city", "upper(town) || city AS both", ONCE),
    ("id", "at", ONCE_OF_TWO),
    ("id, count(*) OVER w AS n", "id + 1 AS next", OVER),
    ("id, count(*) OVER w AS n", "count(*) OVER w * 2 AS twice", OVER),
    ("id, count(*) OVER w AS n", "city", OVER),
];

const REBUILD: &[(&str, &str, &str, &str)] = &[
    (
        "window_start, city, sum(amount) AS s",
        "count(*) AS n",
        WINDOW,
        "count(1) is new, and windows that are open have not computed it from their beginning",
    ),
    (
        "window_start, city, sum(amount) AS s",
        "sum(id) AS t",
        WINDOW,
        "sum(id) is new, and windows that are open have not computed it from their beginning",
    ),
    (
        "id, count(*) OVER w AS n",
        "sum(amount) OVER w AS s",
        OVER,
        "rows that wait for the watermark were kept without what the new column is made of",
    ),
    ("id, count(*) OVER w AS n", "count(id) OVER w AS s", OVER, "count(id) OVER (PARTITION BY city ORDER BY at"),
    ("id, count(*) OVER w AS n", "town", OVER, "rows that wait for the watermark were kept without what the new column is made of"),
];

#[tokio::test]
async fn columns_made_of_what_rows_and_groups_carry_leave_state_alone() {
    for (had, added, rest) in CARRY_ON {
        let (old, new) = (plan(&format!("SELECT {had} {rest}")).await, plan(&format!("SELECT {had}, {added} {rest}")).await);
        let columns = new.schema.fields()[old.schema.fields().len()..].iter().map(|field| field.name().clone()).collect();
        assert_eq!(change(&old.spec, &new.spec), Change::Columns(columns), "{had}, {added} {rest}");
        assert_eq!(old.fingerprint(), new.fingerprint(), "{had}, {added} {rest}");
        assert_eq!(old.late_schema, new.late_schema, "{had}, {added} {rest}");
        assert!(matches!(change(&new.spec, &old.spec), Change::Rebuild(_)), "{had}, {added} {rest}");
    }
}

#[tokio::test]
async fn what_state_does_not_have_makes_a_new_table_and_is_said() {
    for (had, added, rest, said) in REBUILD {
        let (old, new) = (plan(&format!("SELECT {had} {rest}")).await, plan(&format!("SELECT {had}, {added} {rest}")).await);
        match change(&old.spec, &new.spec) {
            Change::Rebuild(why) => assert!(why.starts_with(said), "{had}, {added} {rest}: {why}"),
            other => panic!("{had}, {added} {rest}: {other:?}"),
        }
        assert_ne!(old.fingerprint(), new.fingerprint(), "{had}, {added} {rest}");
    }
}

#[tokio::test]
async fn a_column_more_hides_no_other_change() {
    let cases = [
        ("SELECT city FROM pay", "SELECT id, city FROM pay", "column id is new and not at the end"),
        (
            "SELECT town FROM pay WHERE amount > 1",
            "SELECT town, id FROM pay WHERE amount > 9",
            "it keeps rows with amount > 9, was amount > 1",
        ),
        ("SELECT town FROM pay", "SELECT upper(town) AS town, id FROM pay", "column town is computed otherwise"),
        ("SELECT town FROM pay", "SELECT town, id FROM pay WHERE flag", "it has other steps than it had"),
        (
            "SELECT id, city FROM DEDUPLICATE(TABLE pay PARTITION BY id, DESCRIPTOR(at), INTERVAL '10 minutes')",
            "SELECT id, city, town FROM DEDUPLICATE(TABLE pay PARTITION BY id, DESCRIPTOR(at), INTERVAL '20 minutes')",
            "repeats are dropped within 20 min, was 10 min",
        ),
        (
            "SELECT window_start, count(*) AS n FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour') GROUP BY window_start, window_end",
            "SELECT window_start, count(*) AS n, city FROM TUMBLE(TABLE pay, DESCRIPTOR(at), INTERVAL '1 hour')
             GROUP BY window_start, window_end, city",
            "it groups by city, was the window alone",
        ),
    ];
    for (old, new, said) in cases {
        assert_eq!(change(&plan(old).await.spec, &plan(new).await.spec), Change::Rebuild(said.to_owned()), "{new}");
    }
    let table = "CREATE STREAMING TABLE gold.x AS SELECT id, city FROM pay";
    let other = PAY.replace("city VARCHAR", "city INT");
    let (old, new) = (plan_of(PAY, table).await, plan_of(&other, &table.replace("city", "city, town")).await);
    assert_eq!(change(&old.spec, &new.spec), Change::Rebuild("column city of pay is INT, and was VARCHAR".to_owned()));
}

/// A name is that of whatever it was given to within.
#[tokio::test]
async fn another_column_under_the_same_name_is_seen_through_all_steps() {
    let of = |inner: &str, more: &str| format!("SELECT id, x{more} FROM (SELECT id, {inner} AS x, town FROM pay) AS p WHERE x IS NOT NULL");
    let (old, same) = (plan(&of("city", "")).await, plan(&of("city", ", town")).await);
    assert_eq!(change(&old.spec, &same.spec), Change::Columns(vec!["town".to_owned()]));
    let other = plan(&of("upper(city)", ", town")).await;
    assert!(matches!(change(&old.spec, &other.spec), Change::Rebuild(_)));
}

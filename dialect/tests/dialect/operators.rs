//! Operators that the libraries below read wrongly: right values.

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use watershed_dialect::{plan_streaming, plan_text};

use crate::shared::session;

const ROWS: &str = "(VALUES (true, 1), (true, -3), (false, 2), (CAST(NULL AS BOOLEAN), 5)) l(q, b)";

async fn count(condition: &str) -> i64 {
    let ctx = session();
    let text = format!("SELECT count(*) FROM {ROWS} WHERE {condition}");
    let plan = plan_text(&ctx, &text).await.unwrap_or_else(|e| panic!("{}", e.render(&text, None)));
    let batches = ctx.execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

#[tokio::test]
async fn is_distinct_from_ends_where_what_binds_less_begins() {
    for (condition, right) in [
        ("q IS NOT DISTINCT FROM true AND b > 100", 0),
        ("q IS NOT DISTINCT FROM true AND b > 0", 1),
        ("b > 0 AND q IS NOT DISTINCT FROM true AND b < 100", 1),
        ("q IS DISTINCT FROM true OR b = 1", 3),
        ("q IS DISTINCT FROM true", 2),
        ("b IS DISTINCT FROM 1 + 1", 3),
        ("b IS NOT DISTINCT FROM 1 + 1 AND q", 0),
        ("b IS NOT DISTINCT FROM 1 + 1 AND NOT q", 1),
        ("NOT q IS DISTINCT FROM true", 2),
        // A comparison binds more than IS, on either side, as in PostgreSQL.
        ("q IS DISTINCT FROM b = 1", 2),
        ("b = 1 IS DISTINCT FROM q", 2),
        ("q IS NOT DISTINCT FROM NULL AND b = 5", 1),
        ("q IS NOT DISTINCT FROM NULL AND b = 4", 0),
        ("(q IS DISTINCT FROM true) IS NOT DISTINCT FROM (b = 1) OR b = 5", 2),
        ("q IS DISTINCT FROM true IS NOT DISTINCT FROM true", 2),
        ("CASE WHEN q IS NOT DISTINCT FROM NULL THEN b = 5 ELSE false END", 1),
        ("b BETWEEN 1 AND 2 AND q IS DISTINCT FROM true AND b < 3", 1),
    ] {
        assert_eq!(count(condition).await, right, "{condition}");
    }
}

#[tokio::test]
async fn streams_read_operators_like_queries() {
    let ctx = session();
    let query = "SELECT city FROM rides WHERE city IS DISTINCT FROM 'x' AND fare > 1 OR fare IS NULL";
    let plan = plan_streaming(&ctx.state(), query).await.unwrap().display_indent().to_string();
    assert!(plan.contains("IS DISTINCT FROM Utf8(\"x\") AND rides.fare >"), "{plan}");
}

#[tokio::test]
async fn and_and_or_keep_their_ranks_however_many_there_are() {
    let many = vec!["b = 2"; 300].join(" OR ");
    let never = vec!["b < 5"; 300].join(" AND ");
    for (condition, right) in [
        ("b = 1 OR b = 2 AND q OR b = 5", 2),
        ("(b = 1 OR b = 2) AND q", 1),
        ("b = 1 AND q OR b = 2 AND q OR b = 5 AND q IS NULL", 2),
        ("NOT b = 1 AND NOT b = 2 AND NOT b = 5", 1),
        ("b BETWEEN 1 AND 2 OR b BETWEEN 4 AND 5 AND q IS NULL", 3),
        (&many, 1),
        (&never, 3),
        (&format!("{many} AND {never} OR b = 1"), 2),
        // The division stands after the condition that keeps zero away from it.
        ("b <> 0 AND 10 / b > 3 AND b < 3", 2),
    ] {
        assert_eq!(count(condition).await, right, "{condition}");
    }
}

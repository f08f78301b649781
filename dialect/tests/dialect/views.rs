//! Queries of materialized views: planned for batch, over tables that may have no rows yet.

use datafusion::arrow::datatypes::DataType;
use datafusion::prelude::SessionContext;
use watershed_dialect::{MaterializedViewDefinition, SqlError, StatementKind, as_of_join, parse, plan_materialized_view, tables_read};

use crate::shared::{session, with_rows};

fn view(clauses: &str, query: &str) -> MaterializedViewDefinition {
    match parse(&format!("CREATE MATERIALIZED VIEW gold.v {clauses} AS {query}")).unwrap().remove(0).kind {
        StatementKind::CreateMaterializedView(view) => view,
        other => panic!("not a view: {other:?}"),
    }
}

async fn refused(ctx: &SessionContext, clauses: &str, query: &str) -> SqlError {
    plan_materialized_view(&ctx.state(), &view(clauses, query)).await.expect_err(query)
}

#[tokio::test]
async fn results_have_types_that_a_table_can_hold() {
    let ctx = session();
    with_rows(&ctx, &[(Some("a"), Some(0), 1)]);
    // What no stream could do is fine here: no window, a sort, a limit, a join with itself, the clock.
    let query =
        "SELECT t.k, approx_distinct(u.v) AS n, max(now()) AS at FROM t JOIN t AS u ON t.k = u.k GROUP BY t.k ORDER BY n DESC LIMIT 5";
    let plan = plan_materialized_view(&ctx.state(), &view("PARTITIONED BY (k)", query)).await.unwrap();
    let types: Vec<_> = plan.schema().fields().iter().map(|f| f.data_type().clone()).collect();
    assert_eq!(types[..2], [DataType::Utf8, DataType::Int64]);
    assert!(matches!(&types[2], DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC"));
}

#[tokio::test]
async fn mistakes_have_a_place_and_a_way_out() {
    let ctx = session();
    with_rows(&ctx, &[(Some("a"), Some(0), 1)]);
    let error = refused(&ctx, "", "SELECT k,\n  city\nFROM rides").await;
    assert!(error.to_string().contains("'k' does not exist"), "{error}");
    let error = refused(&ctx, "", "SELECT city\nFROM rides").await;
    assert!(error.message.contains("'rides' is a source") && error.to_string().contains("bronze.rides"), "{error}");
    assert_eq!((error.line, error.column), (Some(2), Some(6)));
    let error = refused(&ctx, "", "SELECT k FROM tt").await;
    assert!(error.to_string().contains("table 'tt' does not exist"), "{error}");
    let error = refused(&ctx, "", "SELECT k, sum(v) FROM t GROUP BY k").await;
    assert!(error.to_string().contains("give it a name"), "{error}");
    let error = refused(&ctx, "PARTITIONED BY (kk)", "SELECT k, v FROM t").await;
    assert!(error.to_string().contains("did you mean 'k'?"), "{error}");
}

#[test]
fn names_of_tables_are_found_wherever_they_stand() {
    let query = "WITH x AS (SELECT * FROM a.one) SELECT * FROM x JOIN TUMBLE(TABLE a.two, DESCRIPTOR(ts), INTERVAL '1 s') AS w ON true
                 WHERE EXISTS (SELECT 1 FROM b.one$late) UNION ALL SELECT * FROM bare, a.one";
    let found: Vec<String> = tables_read(query).unwrap().into_iter().map(|(schema, table)| format!("{schema}.{table}")).collect();
    assert_eq!(found, ["a.one", "a.two", "b.one$late"]);
    assert!(tables_read("SELECT 1").unwrap().is_empty());
    assert!(tables_read("SHOW TABLES").unwrap_err().message.contains("made of a query"));
}

#[tokio::test]
async fn facts_are_joined_with_features_as_of_their_times() {
    let ctx = session();
    let schema = |sql: &'static str| ctx.sql(sql);
    schema("CREATE SCHEMA a").await.unwrap().collect().await.unwrap();
    let stamp = "TIMESTAMP '2026-01-01 00:00:00'";
    let make = |table: &str, columns: &str| format!("CREATE TABLE a.{table} AS SELECT {columns}").replace("NOW", stamp);
    for sql in [make("facts", "'x' AS k, NOW AS ts, 1 AS n"), make("features", "'x' AS k, NOW AS known, 2 AS n, 'y' AS other")] {
        ctx.sql(&sql).await.unwrap().collect().await.unwrap();
    }
    let join =
        "SELECT * FROM a.facts AS l ASOF JOIN a.features AS r MATCH_CONDITION (l.ts >= r.known) ON l.k = r.k WHERE l.n > 0 AND ts < now()";
    let plan = plan_materialized_view(&ctx.state(), &view("", join)).await.unwrap();
    let names: Vec<&str> = plan.schema().fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["k", "ts", "n", "known", "feature_n", "other"]);
    let read = as_of_join(&join.replace("l.ts >= r.known", "(r.known < l.ts)")).unwrap().unwrap();
    assert_eq!(
        (read.time.as_str(), read.feature_time.as_str(), read.keys.as_slice(), read.strict),
        ("ts", "known", &["k".to_owned()][..], true)
    );
    assert_eq!(tables_read(join).unwrap().len(), 2);
    assert!(as_of_join("SELECT 1").unwrap().is_none());

    for (from, to, part) in [
        ("SELECT *", "SELECT l.k", "that join and nothing else"),
        ("WHERE l.n > 0", "WHERE l.n > 0 GROUP BY k HAVING true", "that join and nothing else"),
        ("l.ts >= r.known", "r.known >= l.ts", "write MATCH_CONDITION (l.time >= r.time)"),
        ("l.ts >= r.known", "ts >= known", "write MATCH_CONDITION"),
        ("ON l.k = r.k", "", "ON or USING is missing"),
        ("ON l.k = r.k", "ON l.k = r.other", "different names"),
        ("ON l.k = r.k", "ON l.k > r.k", "no equality"),
        ("ON l.k = r.k", "USING (kk)", "did you mean 'k'?"),
        ("l.ts >= r.known", "l.ts >= r.knwon", "did you mean 'known'?"),
        ("l.ts >= r.known", "l.n >= r.known", "no TIMESTAMP"),
        ("a.facts", "facts", "two tables by their names"),
        ("a.features", "a.featurs", "did you mean 'a.features'?"),
        ("l.n > 0", "r.n > 0", "column 'r.n' does not exist"),
        ("l.n > 0", "l.m > 0", "column 'l.m' does not exist"),
    ] {
        let text = join.replacen(from, to, 1);
        let error = refused(&ctx, "", &text).await;
        assert!(error.to_string().contains(part), "{text}\n{error}");
        assert!(error.line.is_some() || error.hint.is_some(), "{text}\n{error}");
    }
}

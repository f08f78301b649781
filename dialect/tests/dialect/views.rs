//! Queries of materialized views: planned for batch, over tables that may have no rows yet.

use datafusion::arrow::datatypes::DataType;
use datafusion::prelude::SessionContext;
use watershed_dialect::{MaterializedViewDefinition, SqlError, StatementKind, parse, plan_materialized_view, tables_read};

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

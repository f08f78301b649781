//! Small tables, and what queries over them give.

use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::SessionContext;
use watershed_dialect::plan_text;

use crate::shared::session;

pub async fn tables() -> SessionContext {
    let ctx = session();
    for made in [
        "CREATE SCHEMA s",
        "CREATE TABLE s.a AS SELECT * FROM (VALUES (1, 10), (2, 20), (3, 30)) t(k, x)",
        "CREATE TABLE s.b AS SELECT * FROM (VALUES (2, 200), (3, 300), (4, 400)) t(k, y)",
        "CREATE TABLE s.n1 AS SELECT * FROM (VALUES (1, 10), (2, 20), (NULL, 30), (4, 40)) t(id, z)",
        "CREATE TABLE s.n2 AS SELECT * FROM (VALUES (1, 5), (NULL, 50), (5, 10)) t(id, z)",
        "CREATE TABLE s.t1 AS SELECT * FROM (VALUES (1), (2)) t(id)",
        "CREATE TABLE s.t2 AS SELECT * FROM (VALUES (1), (NULL)) t(id)",
        "CREATE TABLE s.t_out AS SELECT * FROM (VALUES (1, 1), (2, 2)) t(id, g)",
        "CREATE TABLE s.t_in AS SELECT * FROM (VALUES (1, 1), (NULL, 2)) t(id, g)",
        "CREATE TABLE s.\"Caps\" AS SELECT * FROM (VALUES (1)) t(\"VendorID\")",
        "CREATE TABLE s.words AS SELECT * FROM (VALUES ('foo_1'), ('foox1'), ('50%'), ('a\\b')) t(w)",
        "CREATE TABLE s.l AS SELECT * FROM (VALUES (1, [7, 8]), (2, [9]), (3, NULL), (2, [9])) t(k, l)",
    ] {
        ctx.sql(made).await.unwrap().collect().await.unwrap();
    }
    ctx
}

pub async fn check(cases: &[(&str, &[&str])]) {
    let ctx = tables().await;
    for (query, expected) in cases {
        assert_eq!(cells(&ctx, query).await, *expected, "{query}");
    }
}

/// The cells of each row, joined by spaces.
pub async fn cells(ctx: &SessionContext, query: &str) -> Vec<String> {
    let plan = plan_text(ctx, query).await.unwrap_or_else(|error| panic!("{query}: {}", error.render(query, None)));
    let answer = ctx.execute_logical_plan(plan).await.unwrap().collect().await.unwrap_or_else(|error| panic!("{query}: {error}"));
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in &answer {
        let columns: Vec<_> = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        let row = |at: usize| columns.iter().map(|column| column.value(at).to_string()).collect::<Vec<_>>().join(" ");
        rows.extend((0..batch.num_rows()).map(row));
    }
    rows
}

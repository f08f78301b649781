//! A session with two sources and a few rows.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use watershed_dialect::{SourceDefinition, SourceTable, SqlError, StatementKind, parse, plan_text, session_config, session_state};

pub const SOURCES: &str = "
CREATE SOURCE rides (
    ride_id VARCHAR NOT NULL,
    event_time TIMESTAMP NOT NULL,
    seen_time TIMESTAMP,
    city VARCHAR,
    fare DECIMAL(10, 2),
    pickup STRUCT<lat DOUBLE, lon DOUBLE>,
    tags LIST<VARCHAR>,
    WATERMARK FOR event_time AS event_time - INTERVAL '10 seconds'
) WITH (connector = 'kafka', topic = 'rides', format = 'json');
CREATE SOURCE clicks (user_id VARCHAR, at TIMESTAMP) WITH (topic = 'clicks');";

pub fn source(text: &str) -> SourceDefinition {
    match parse(text).unwrap().remove(0).kind {
        StatementKind::CreateSource(source) => source,
        other => panic!("not a source: {other:?}"),
    }
}

/// A session that knows [`SOURCES`].
pub fn session() -> SessionContext {
    let ctx = SessionContext::new_with_state(session_state(session_config().with_target_partitions(3), None));
    for statement in parse(SOURCES).unwrap() {
        let StatementKind::CreateSource(source) = statement.kind else { panic!("not a source") };
        ctx.register_table(source.name.clone(), Arc::new(SourceTable::new(source))).unwrap();
    }
    ctx
}

/// Adds table `t (k VARCHAR, ts TIMESTAMP, v BIGINT)`; times are given in seconds, rows are spread over several batches and partitions.
pub fn with_rows(ctx: &SessionContext, rows: &[(Option<&str>, Option<i64>, i64)]) {
    let batches: Vec<RecordBatch> = rows
        .chunks(2)
        .map(|rows| {
            let ts = TimestampMicrosecondArray::from_iter(rows.iter().map(|r| r.1.map(|s| s * 1_000_000))).with_timezone("UTC");
            RecordBatch::try_from_iter_with_nullable([
                ("k", Arc::new(StringArray::from_iter(rows.iter().map(|r| r.0))) as ArrayRef, true),
                ("ts", Arc::new(ts) as ArrayRef, true),
                ("v", Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.2))) as ArrayRef, true),
            ])
            .unwrap()
        })
        .collect();
    let schema = batches[0].schema();
    let (left, right) = batches.split_at(batches.len() / 2);
    let table = MemTable::try_new(schema, vec![left.to_vec(), right.to_vec()]).unwrap();
    ctx.register_table("t", Arc::new(table)).unwrap();
}

/// Runs a query and gives its rows as a table.
pub async fn rows(ctx: &SessionContext, query: &str) -> Result<String, SqlError> {
    let plan = plan_text(ctx, query).await?;
    let batches = ctx.execute_logical_plan(plan).await.unwrap().collect().await.unwrap_or_else(|e| panic!("{query}: {e}"));
    Ok(pretty_format_batches(&batches).unwrap().to_string())
}

/// The cells of each row of [`rows`], joined by spaces, without the heading.
pub async fn lines(ctx: &SessionContext, query: &str) -> Vec<String> {
    let table = rows(ctx, query).await.unwrap_or_else(|e| panic!("{query}: {}", e.render(query, None)));
    let body = table.lines().skip(3).filter(|line| line.starts_with('|'));
    body.map(|line| line.split('|').map(str::trim).filter(|c| !c.is_empty()).collect::<Vec<_>>().join(" ")).collect()
}

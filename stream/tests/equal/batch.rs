//! The other side of the comparison: the query in DataFusion, over rows in memory.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use watershed_dialect::{plan_text, session_config, session_state};

/// What `query` gives over `rows` of `source`, in the types of the streaming table.
pub async fn result(query: &str, source: &str, rows: RecordBatch, table: &SchemaRef) -> Vec<RecordBatch> {
    let ctx = SessionContext::new_with_state(session_state(session_config(), None));
    let memory = MemTable::try_new(rows.schema(), vec![vec![rows]]).expect("a table");
    ctx.register_table(source, Arc::new(memory)).expect("registered");
    let plan = plan_text(&ctx, query).await.expect("the query is planned");
    let batches = ctx.execute_logical_plan(plan).await.expect("planned").collect().await.expect("the query runs");
    let fields: Vec<_> = table.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let cast = |batch: &RecordBatch| {
        let columns = batch.columns().iter().zip(table.fields());
        let columns = columns.map(|(c, f)| arrow::compute::cast(c, f.data_type()).expect("cast")).collect();
        RecordBatch::try_new(schema.clone(), columns).expect("the same columns")
    };
    batches.iter().map(cast).collect()
}

/// Rows as text, `a|b|c` each, sorted.
pub fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for batch in batches {
        let text = pretty_format_batches(std::slice::from_ref(batch)).expect("rows can be shown").to_string();
        let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect::<Vec<_>>().join("|");
        lines.extend(text.lines().skip(3).filter(|line| line.starts_with('|')).map(cells));
    }
    lines.sort();
    lines
}

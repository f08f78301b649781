//! The other side of the comparison: the query in DataFusion, over rows in memory.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::MemorySchemaProvider;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use watershed_dialect::{plan_text, session_config, session_state};

/// What `query` gives over rows of sources, in the types of the streaming table.
pub async fn result(query: &str, sources: &[(&str, RecordBatch)], table: &SchemaRef) -> Vec<RecordBatch> {
    let ctx = SessionContext::new_with_state(session_state(session_config(), None));
    for (source, rows) in sources {
        let memory = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]]).expect("a table");
        ctx.register_table(*source, Arc::new(memory)).expect("registered");
    }
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

/// Tables in memory, for queries over several of them.
#[derive(Default)]
pub struct Tables(Vec<(String, Vec<RecordBatch>)>);

impl Tables {
    /// Adds one by the name `schema.table`.
    pub fn add(&mut self, name: &str, rows: Vec<RecordBatch>) {
        self.0.push((name.to_owned(), rows));
    }

    /// What `query` gives over them.
    pub async fn query(&self, query: &str) -> Vec<RecordBatch> {
        let ctx = SessionContext::new_with_state(session_state(session_config(), None));
        let catalog = ctx.catalog("datafusion").expect("the default catalog");
        for (name, rows) in &self.0 {
            let (schema, _) = name.split_once('.').expect("schema.table");
            if catalog.schema(schema).is_none() {
                catalog.register_schema(schema, Arc::new(MemorySchemaProvider::new())).expect("registered");
            }
            let columns = rows.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
            let memory = MemTable::try_new(columns, vec![rows.clone()]).expect("a table");
            ctx.register_table(name.as_str(), Arc::new(memory)).expect("registered");
        }
        let plan = plan_text(&ctx, query).await.unwrap_or_else(|error| panic!("{error}\n{query}"));
        ctx.execute_logical_plan(plan).await.expect("planned").collect().await.unwrap_or_else(|error| panic!("{error}\n{query}"))
    }
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

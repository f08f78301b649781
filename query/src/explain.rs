//! `EXPLAIN`: what DataFusion says of a plan, and below it, as the row `stages`, its stages in the words of MapReduce. `EXPLAIN MATERIALIZED VIEW`
//! says the same of the job that refreshes a view; it is not run. What `EXPLAIN STREAMING TABLE` says is a row of `system.plans`.
//!
//! ```text
//! stages
//! map -> combine -> shuffle -> reduce
//! map          3 tasks  each of 3 inputs; select book, copies
//! combine      3 tasks  sum(copies) by book
//! shuffle      2 tasks  by book
//! reduce       2 tasks  sum(copies) by book
//! ```

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::common::format::ExplainFormat;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::SessionContext;
use watershed_dialect::stages::{JOB_TASKS_MIN, as_of_stages, refresh_stages, shown, stages};
use watershed_dialect::{
    MaterializedViewDefinition, SqlError, StatementKind, ViewName, as_of_join, did_you_mean, parse, plan_materialized_view,
};
use watershed_lake::Warehouse;

use crate::QueryError;

/// The name of our row among DataFusion's.
const STAGES: &str = "stages";

/// The stages of the plan that `plan` explains; none if it explains nothing, in a format for programs, or what has no physical plan.
pub(crate) async fn stages_of(context: &SessionContext, plan: &LogicalPlan) -> Option<String> {
    let LogicalPlan::Explain(explain) = plan else { return None };
    if !matches!(explain.explain_format, ExplainFormat::Indent | ExplainFormat::Tree) {
        return None;
    }
    // Why there is none is what DataFusion's own rows say.
    let physical = context.state().create_physical_plan(&explain.plan).await.ok()?;
    Some(shown(&stages(&physical)))
}

/// The rows of `explained`, and below them the stages.
pub(crate) async fn with_stages(
    explained: Arc<dyn ExecutionPlan>,
    task: Arc<TaskContext>,
    stages: String,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = explained.schema();
    let row = RecordBatch::try_new(Arc::clone(&schema), columns(vec![(STAGES, stages)]))?;
    // The rows of EXPLAIN are texts that are there once the plan is.
    let mut batches = collect(explained, task).await?;
    batches.push(row);
    Ok(MemorySourceConfig::try_new_exec(&[batches], schema, None)?)
}

/// A plan whose rows explain the job of a view, over the tables as the session's catalog has them.
pub(crate) async fn view(context: &SessionContext, warehouse: &Warehouse, name: &ViewName) -> Result<LogicalPlan, QueryError> {
    let definition = definition(warehouse, name).await?;
    let full = format!("{}.{}", definition.schema, definition.table);
    let mut state = context.state();
    let options = &mut state.config_mut().options_mut().execution;
    options.target_partitions = options.target_partitions.max(JOB_TASKS_MIN);
    // The place of an error would be one in the definition, which the person who asks does not see.
    let unplaced = |error: SqlError| SqlError { line: None, column: None, ..error };
    let logical = plan_materialized_view(&state, &definition).await.map_err(unplaced)?;
    let rows = match as_of_join(&definition.query).map_err(unplaced)? {
        Some(join) => vec![(STAGES, format!("{full}: {}", shown(&as_of_stages(&join, &full))))],
        None => {
            let logical = state.optimize(&logical)?;
            let physical = state.create_physical_plan(&logical).await?;
            vec![
                ("logical_plan", logical.display_indent().to_string()),
                ("physical_plan", displayable(physical.as_ref()).indent(false).to_string()),
                (STAGES, format!("{full}: {}", shown(&refresh_stages(&physical, &full)))),
            ]
        }
    };
    let batch = RecordBatch::try_new(LogicalPlan::explain_schema(), columns(rows)).map_err(datafusion::error::DataFusionError::from)?;
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
    Ok(LogicalPlanBuilder::scan("explained", provider_as_source(Arc::new(table)), None)?.build()?)
}

fn columns(rows: Vec<(&str, String)>) -> Vec<arrow::array::ArrayRef> {
    let (names, texts): (Vec<&str>, Vec<String>) = rows.into_iter().unzip();
    vec![Arc::new(StringArray::from(names)), Arc::new(StringArray::from(texts))]
}

/// The view of that name among those applied.
async fn definition(warehouse: &Warehouse, name: &ViewName) -> Result<MaterializedViewDefinition, QueryError> {
    let views = applied(warehouse, |kind| match kind {
        StatementKind::CreateMaterializedView(view) => Some((view.schema.clone(), view.table.clone(), view)),
        _ => None,
    });
    named(views.await?, name, "materialized view", "CREATE MATERIALIZED VIEW")
}

/// `schema.table` of the streaming table of that name among those applied.
pub(crate) async fn streaming_table(warehouse: &Warehouse, name: &ViewName) -> Result<String, QueryError> {
    let tables = applied(warehouse, |kind| match kind {
        StatementKind::CreateStreamingTable(table) => {
            let full = format!("{}.{}", table.schema, table.table);
            Some((table.schema, table.table, full))
        }
        _ => None,
    });
    named(tables.await?, name, "streaming table", "CREATE STREAMING TABLE")
}

/// What is applied of one kind, by schema and name.
async fn applied<T>(
    warehouse: &Warehouse,
    of_kind: impl Fn(StatementKind) -> Option<(String, String, T)>,
) -> Result<Vec<(String, String, T)>, QueryError> {
    let items = warehouse.definitions().await?.items;
    Ok(items.iter().flat_map(|item| parse(&item.sql).unwrap_or_default()).filter_map(|statement| of_kind(statement.kind)).collect())
}

/// The one of `known` that `name` names.
fn named<T>(mut known: Vec<(String, String, T)>, name: &ViewName, what: &str, made_by: &str) -> Result<T, QueryError> {
    let is_it =
        |(schema, table, _): &mut (String, String, T)| *table == name.table && name.schema.as_ref().is_none_or(|wanted| wanted == schema);
    let mut found: Vec<_> = known.extract_if(.., |one| is_it(one)).collect();
    let full = |(schema, table, _): &(String, String, T)| format!("{schema}.{table}");
    let error = match found.len() {
        1 => return Ok(found.remove(0).2),
        0 => {
            let names: Vec<String> = known.iter().map(full).collect();
            let near = did_you_mean(&name.to_string(), names.iter().map(String::as_str));
            let hint = match (near, names.as_slice()) {
                (Some(near), _) => near,
                (None, []) => format!("{made_by} and `watershed apply` define one; EXPLAIN SELECT … explains a query"),
                (None, names) => format!("there are {}; EXPLAIN SELECT … explains a query", names.join(", ")),
            };
            SqlError::new(format!("there is no {what} '{name}'")).hint(hint)
        }
        _ => {
            let names: Vec<String> = found.iter().map(full).collect();
            SqlError::new(format!("'{name}' could be {}", names.join(" or "))).hint("write the schema, too")
        }
    };
    Err(error.at(name.line, name.column).into())
}

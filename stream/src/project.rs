//! A project: the sources and streaming tables of one folder of SQL, planned.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::prelude::SessionContext;
use watershed_dialect::{
    SourceDefinition, SourceTable, SqlError, StatementKind, StreamingTableDefinition, parse, plan_streaming, session_config, session_state,
};
use watershed_lake::TableName;

use crate::StreamError;
use crate::plan::Blueprint;

/// Definitions by name.
#[derive(Debug, Clone, Default)]
pub struct Project {
    /// Sources.
    pub sources: BTreeMap<String, SourceDefinition>,
    /// Streaming tables.
    pub tables: BTreeMap<TableName, StreamingTableDefinition>,
}

impl Project {
    /// Reads definitions from texts; statements of other kinds are refused.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, SqlError> {
        let mut project = Self::default();
        for text in texts {
            for statement in parse(text)? {
                let at = (statement.line, statement.column);
                project.add(statement.kind).map_err(|e| e.at_least(at.0, at.1))?;
            }
        }
        Ok(project)
    }

    /// Adds one definition. Refuses a name that is taken, and statements that define nothing.
    pub fn add(&mut self, statement: StatementKind) -> Result<(), SqlError> {
        match statement {
            StatementKind::CreateSource(source) => match self.sources.entry(source.name.clone()) {
                std::collections::btree_map::Entry::Occupied(_) => Err(taken(&source.name)),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(source);
                    Ok(())
                }
            },
            StatementKind::CreateStreamingTable(table) => {
                let name = TableName::new(&table.schema, &table.table).map_err(SqlError::new)?;
                match self.tables.entry(name.clone()) {
                    std::collections::btree_map::Entry::Occupied(_) => Err(taken(&name.to_string())),
                    std::collections::btree_map::Entry::Vacant(entry) => {
                        entry.insert(table);
                        Ok(())
                    }
                }
            }
            StatementKind::CreateMaterializedView(_) => Err(SqlError::new("a materialized view is no pipeline: a job refreshes it")),
            StatementKind::Other(_) => Err(SqlError::new("this statement defines nothing").hint(
                "a project holds CREATE SOURCE, CREATE STREAMING TABLE and CREATE MATERIALIZED VIEW; run queries in `watershed shell`",
            )),
        }
    }

    /// Plans one streaming table. Errors point into the table's query text.
    pub async fn plan(&self, table: &StreamingTableDefinition) -> Result<Blueprint, StreamError> {
        let ctx = SessionContext::new_with_state(session_state(session_config(), None));
        for source in self.sources.values() {
            ctx.register_table(source.name.as_str(), Arc::new(SourceTable::new(source.clone())))?;
        }
        let state = ctx.state();
        let plan = plan_streaming(&state, &table.query).await?;
        let name = source_of(&plan).ok_or_else(|| SqlError::new("the query reads no source"))?;
        let source = self.sources.get(&name).ok_or_else(|| SqlError::new(format!("'{name}' is not a source")))?;
        let blueprint = Blueprint::new(source, table, &plan, state.execution_props())?;
        for column in &table.partitioned_by {
            if blueprint.schema.column_with_name(column).is_none() {
                let known: Vec<_> = blueprint.schema.fields().iter().map(|f| f.name().as_str()).collect();
                return Err(SqlError::new(format!("PARTITIONED BY names '{column}', which is no column of the result"))
                    .hint(format!("the result has: {}", known.join(", ")))
                    .into());
            }
        }
        Ok(blueprint)
    }

    /// Plans all streaming tables.
    pub async fn plan_all(&self) -> Result<BTreeMap<TableName, Blueprint>, StreamError> {
        let mut blueprints = BTreeMap::new();
        for (name, table) in &self.tables {
            blueprints.insert(name.clone(), self.plan(table).await?);
        }
        Ok(blueprints)
    }
}

fn taken(name: &str) -> SqlError {
    SqlError::new(format!("'{name}' is defined twice")).hint("rename or remove one of them")
}

/// The name of the first source a plan reads.
fn source_of(plan: &datafusion::logical_expr::LogicalPlan) -> Option<String> {
    match plan {
        datafusion::logical_expr::LogicalPlan::TableScan(scan) => Some(scan.table_name.table().to_string()),
        other => other.inputs().into_iter().find_map(source_of),
    }
}

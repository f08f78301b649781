//! Whether the panels of a project can be drawn: their queries are planned over its tables, whose columns are known.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::datasource::empty::EmptyTable;
use watershed_batch::declared_context;
use watershed_dialect::{PanelDefinition, SqlError, plan_text, tables_read};
use watershed_lake::{TableName, Warehouse};
use watershed_query::http::check_panel;

use crate::system;

/// The schema of tables that are made up.
const SYSTEM: &str = "system";
/// Another one, which DataFusion has.
const INFORMATION: &str = "information_schema";

/// What panels may read.
pub struct Tables(BTreeMap<TableName, SchemaRef>);

impl Tables {
    /// Those of the project, and those that every warehouse has.
    pub async fn of(project: impl IntoIterator<Item = (TableName, SchemaRef)>) -> Result<Self> {
        let nowhere = Warehouse::open("memory://", &Default::default()).await?;
        let made_up = system::tables(&nowhere).into_iter();
        let made_up = made_up.filter_map(|table| Some((TableName::new(SYSTEM, table.name()).ok()?, table.schema())));
        Ok(Self(project.into_iter().chain(made_up).collect()))
    }

    /// An error if a panel cannot work. One that reads tables of which the project knows nothing waits for them, and is not looked at.
    pub async fn check(&self, panel: &PanelDefinition) -> Result<(), SqlError> {
        let known = |(schema, table): &(String, String)| {
            schema == INFORMATION || TableName::new(schema, table).is_ok_and(|name| self.0.contains_key(&name))
        };
        if !tables_read(&panel.query)?.iter().all(known) {
            return Ok(());
        }
        let context = declared_context(&self.0);
        // A session finds a table without its schema, too, if there is one of that name.
        for (name, schema) in &self.0 {
            let alone = self.0.keys().filter(|other| other.table() == name.table()).count() == 1;
            if alone {
                let bare = TableReference::bare(name.table());
                context
                    .register_table(bare, Arc::new(EmptyTable::new(Arc::clone(schema))))
                    .map_err(|error| SqlError::new(error.strip_backtrace()))?;
            }
        }
        let plan = plan_text(&context, &panel.query).await?;
        let schema = Arc::clone(plan.schema().inner());
        check_panel(panel, &schema)
    }
}

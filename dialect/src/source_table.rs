//! A source as queries see it while they are planned: it has columns and no rows.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::definition::SourceDefinition;

/// Is in the catalog for a source. Streaming queries are planned over it; a scan in batch is an error that says what to query instead.
#[derive(Debug)]
pub struct SourceTable {
    definition: SourceDefinition,
    schema: SchemaRef,
}

impl SourceTable {
    /// The table of a source.
    pub fn new(definition: SourceDefinition) -> Self {
        Self { schema: definition.schema(), definition }
    }

    /// What `CREATE SOURCE` said.
    pub fn definition(&self) -> &SourceDefinition {
        &self.definition
    }
}

// Filters are not pushed into the scan (the default): a stream applies them itself, after lateness has been decided.
#[async_trait]
impl TableProvider for SourceTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(&self, _: &dyn Session, _: Option<&Vec<usize>>, _: &[Expr], _: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        plan_err!("'{}' is a source, and a source has no rows of its own: query a streaming table that reads it", self.definition.name)
    }
}

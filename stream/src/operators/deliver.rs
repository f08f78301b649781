//! The end of a query: hands on the table's columns and nothing after them. No state.
//!
//! A row with a value that no partition of the table can have is not taken, such as an empty text, which Delta reads as NULL.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use watershed_lake::refused_partition_value;

use super::project::Project;
use crate::StreamError;
use crate::fault::RowFault;
use crate::operator::{Operator, Output};

/// Holds rows to what the table's partition columns can keep, and projects them.
pub struct Deliver {
    project: Project,
    /// Places of the partition columns among those of the table, which come first.
    partitioned_by: Vec<usize>,
}

impl Deliver {
    /// `project` hands on the table's columns.
    pub fn new(project: Project, partitioned_by: Vec<usize>) -> Self {
        Self { project, partitioned_by }
    }
}

impl Operator for Deliver {
    fn name(&self) -> &'static str {
        "deliver"
    }

    fn schema(&self) -> SchemaRef {
        self.project.schema()
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> Result<(), StreamError> {
        for &column in &self.partitioned_by {
            if let Some((_, reason)) = refused_partition_value(batch.column(column)) {
                let schema = batch.schema();
                let name = schema.field(column).name();
                let (what, expression) = (format!("column '{name}'"), format!("PARTITIONED BY ({name})"));
                return Err(StreamError::Row(Box::new(RowFault { what, expression, reason: reason.into() })));
            }
        }
        self.project.process(batch, out)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};
    use datafusion::physical_expr::PhysicalExpr;
    use datafusion::physical_expr::expressions::Column;

    use super::*;

    #[test]
    fn a_row_with_an_empty_text_in_a_partition_column_is_not_taken() {
        let rows = |texts: Vec<Option<&str>>| {
            let texts: ArrayRef = Arc::new(StringArray::from(texts));
            RecordBatch::try_from_iter_with_nullable([("c", texts, true)]).unwrap()
        };
        let schema = rows(vec![]).schema();
        let deliver = |partitioned_by| {
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new("c", 0));
            Deliver::new(Project::new(vec![column], &schema, false), partitioned_by)
        };
        let mut out = Output::default();
        deliver(vec![0]).process(rows(vec![Some("x"), None]), &mut out).unwrap();
        deliver(vec![]).process(rows(vec![Some("")]), &mut out).unwrap();
        assert_eq!(out.rows.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [2, 1]);
        let error = deliver(vec![0]).process(rows(vec![Some("x"), Some("")]), &mut out).unwrap_err();
        assert!(
            matches!(&error, StreamError::Row(_)) && error.to_string().contains("column 'c': PARTITIONED BY (c) fails: an empty text"),
            "{error}"
        );
        assert_eq!(out.rows.len(), 2);
    }
}

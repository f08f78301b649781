//! `SELECT` expressions: computes columns row by row. Hidden columns travel on after them. No state.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::physical_expr::PhysicalExpr;
use watershed_dialect::is_common_expression;

use crate::StreamError;
use crate::fault::evaluate;
use crate::hidden;
use crate::operator::{Operator, Output};

/// Computes one column per expression.
pub struct Project {
    expressions: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
    keep_hidden: bool,
}

impl Project {
    /// `visible` is the schema of the expressions' results; `keep_hidden` says whether the input ends in hidden columns that go on.
    pub fn new(expressions: Vec<Arc<dyn PhysicalExpr>>, visible: &Schema, keep_hidden: bool) -> Self {
        let schema = if keep_hidden { hidden::with_hidden(visible) } else { Arc::new(visible.clone()) };
        Self { expressions, schema, keep_hidden }
    }
}

impl Operator for Project {
    fn name(&self) -> &'static str {
        "project"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> Result<(), StreamError> {
        let rows = batch.num_rows();
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (expression, field) in self.expressions.iter().zip(self.schema.fields()) {
            let what = || match is_common_expression(field.name()) {
                true => "an expression of the query".to_owned(),
                false => format!("column '{}'", field.name()),
            };
            columns.push(evaluate(expression, &batch, what)?);
        }
        if self.keep_hidden {
            columns.extend_from_slice(hidden::hidden_columns(&batch));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        out.rows.push(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?);
        Ok(())
    }
}

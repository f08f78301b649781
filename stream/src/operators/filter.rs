//! `WHERE`: keeps the rows for which a predicate is true. No state.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;

use crate::StreamError;
use crate::fault::evaluate;
use crate::operator::{Operator, Output};

/// Keeps the rows for which `predicate` is true; false and NULL drop.
pub struct Filter {
    predicate: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
}

impl Filter {
    /// `predicate` reads `schema`, which stays as it is.
    pub fn new(predicate: Arc<dyn PhysicalExpr>, schema: SchemaRef) -> Self {
        Self { predicate, schema }
    }
}

impl Operator for Filter {
    fn name(&self) -> &'static str {
        "filter"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> Result<(), StreamError> {
        let mask = evaluate(&self.predicate, &batch, || "WHERE or HAVING".into())?;
        let mask = mask.as_boolean();
        let kept = if mask.null_count() > 0 {
            filter_record_batch(&batch, &prep_null_mask_filter(mask))?
        } else {
            filter_record_batch(&batch, mask)?
        };
        out.rows.push(kept);
        Ok(())
    }
}

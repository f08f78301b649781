//! `UNION ALL` of parts that read one source: each row goes through the steps of each part, as if it were read once for each. No state.
//!
//! Rows of a batch leave part by part, so that two rows of one record are always in the order of their parts, however batches are cut.

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::StreamError;
use crate::operator::{Chain, Operator, Output};

/// See the module documentation.
pub struct Fork {
    /// All hand on the same columns; none keeps state.
    ways: Vec<Chain>,
}

impl Fork {
    /// The steps of each part.
    pub fn new(ways: Vec<Vec<Box<dyn Operator>>>) -> Self {
        Self { ways: ways.into_iter().map(Chain::new).collect() }
    }
}

impl Operator for Fork {
    fn name(&self) -> &'static str {
        "fork"
    }

    fn schema(&self) -> SchemaRef {
        self.ways.first().map_or_else(|| Schema::empty().into(), Chain::schema)
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> Result<(), StreamError> {
        // A row that one part cannot take is taken by none: nothing may be handed on before all have said so.
        let mut all = Output::default();
        for way in &mut self.ways {
            way.process(batch.clone(), &mut all)?;
        }
        out.rows.append(&mut all.rows);
        out.absorb(&mut all);
        Ok(())
    }
}

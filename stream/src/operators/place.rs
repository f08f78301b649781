//! Gives rows that several records made the columns of a place: made of what is in them, so that rows of one time have the same order in every
//! run. No state.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};

use crate::StreamError;
use crate::hidden;
use crate::operator::{Operator, Output};
use crate::spec::fnv;

/// The partition of rows that are of no single record.
const NO_PARTITION: i32 = -1;

/// See the module documentation.
pub struct Place {
    schema: SchemaRef,
    /// Columns of types that have an order.
    columns: Vec<usize>,
    rows: RowConverter,
}

impl Place {
    /// `visible` is the schema of the input, which has no hidden columns.
    pub fn new(visible: &Schema) -> Result<Self, StreamError> {
        let field = |column: usize| SortField::new(visible.field(column).data_type().clone());
        let columns: Vec<usize> = (0..visible.fields().len()).filter(|&column| RowConverter::supports_fields(&[field(column)])).collect();
        let rows = RowConverter::new(columns.iter().map(|&column| field(column)).collect())?;
        Ok(Self { schema: hidden::with_hidden(visible), columns, rows })
    }
}

impl Operator for Place {
    fn name(&self) -> &'static str {
        "place"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> Result<(), StreamError> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|&column| batch.column(column).clone()).collect();
        let rows = self.rows.convert_columns(&columns)?;
        let offsets = Int64Array::from_iter_values(rows.iter().map(|row| fnv(row.as_ref()) as i64));
        let watermarks = Int64Array::from_value(i64::MIN, offsets.len());
        out.rows.push(hidden::attach(batch, self.schema.clone(), NO_PARTITION, Arc::new(offsets), watermarks)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn a_place_follows_from_the_row_alone() {
        let rows = |cities: &[Option<&str>]| {
            let cities: ArrayRef = Arc::new(StringArray::from(cities.to_vec()));
            RecordBatch::try_from_iter_with_nullable([("city", cities, true)]).unwrap()
        };
        let places = |cities: &[Option<&str>]| {
            let mut out = Output::default();
            Place::new(&rows(&[]).schema()).unwrap().process(rows(cities), &mut out).unwrap();
            hidden::hidden_columns(&out.rows[0])[1].as_primitive::<Int64Type>().values().to_vec()
        };
        let all = places(&[Some("Lima"), None, Some("Oslo"), Some("Lima")]);
        assert!(all[0] == all[3] && all[0] != all[1] && all[0] != all[2] && all[1] != all[2]);
        assert_eq!(places(&[Some("Oslo"), None]), [all[2], all[1]]);
    }
}

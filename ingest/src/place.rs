//! Where the values of a source's column are among those that are read: a column, or a field within one.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, make_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use watershed_dialect::definition::SourceDefinition;

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) column: usize,
    /// The number of the field within the column, of the one within that, and so on.
    pub(crate) fields: Vec<usize>,
}

/// The column that holds the values of the column `index`, and the fields down to them.
pub(crate) fn place_of(definition: &SourceDefinition, index: usize) -> Place {
    let mut place = Place { column: index, fields: Vec::new() };
    let path = &definition.columns[index].path;
    let Some((root, names)) = path.split_first() else { return place };
    let Some(column) = definition.columns.iter().position(|column| column.field.name() == root) else { return place };
    place.column = column;
    let mut found = definition.columns[column].field.data_type();
    for name in names {
        let DataType::Struct(fields) = found else { break };
        let Some((at, field)) = fields.find(name) else { break };
        place.fields.push(at);
        found = field.data_type();
    }
    place
}

impl Place {
    /// The values, NULL where what they are within is NULL.
    pub(crate) fn values(&self, columns: &[ArrayRef]) -> Result<ArrayRef, ArrowError> {
        let mut values = Arc::clone(&columns[self.column]);
        for &field in &self.fields {
            let outer = values.as_struct();
            let inner = outer.column(field);
            let nulls = NullBuffer::union(outer.nulls(), inner.nulls());
            values = make_array(inner.to_data().into_builder().nulls(nulls).build()?);
        }
        Ok(values)
    }
}

//! Values in the type that their column has now. Nested ones, too, may have got fields since, or have them in another order.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Fields};
use arrow::error::ArrowError;

/// The values as `data_type`. One that does not fit is an error, never a silent null, and so is a field that the type does not have.
pub(crate) fn evolved(values: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    match (values.data_type(), data_type) {
        (from, to) if from == to => Ok(Arc::clone(values)),
        (DataType::Struct(_), DataType::Struct(fields)) => Ok(Arc::new(evolved_struct(values.as_struct(), fields)?)),
        (DataType::List(_), DataType::List(element)) => {
            let list = values.as_list::<i32>();
            let elements = evolved(list.values(), element.data_type())?;
            Ok(Arc::new(ListArray::try_new(Arc::clone(element), list.offsets().clone(), elements, list.nulls().cloned())?))
        }
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => {
            let map = values.as_map();
            let DataType::Struct(pair) = entries.data_type() else {
                return Err(ArrowError::CastError(format!("a map of {} has no keys and values", entries.data_type())));
            };
            // Writers name keys and values differently.
            let parts = map.entries().columns().iter().zip(pair).map(|(part, field)| evolved(part, field.data_type()));
            let pairs = StructArray::try_new(pair.clone(), parts.collect::<Result<_, _>>()?, None)?;
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), map.offsets().clone(), pairs, map.nulls().cloned(), *sorted)?))
        }
        _ => cast_with_options(values, data_type, &CastOptions { safe: false, ..CastOptions::default() }),
    }
}

fn evolved_struct(values: &StructArray, fields: &Fields) -> Result<StructArray, ArrowError> {
    if let Some(unknown) = values.fields().iter().find(|had| fields.iter().all(|field| field.name() != had.name())) {
        return Err(ArrowError::CastError(format!("the table has no field '{}' in it", unknown.name())));
    }
    let columns = fields.iter().map(|field| match values.column_by_name(field.name()) {
        Some(column) => evolved(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), values.len())),
    });
    StructArray::try_new_with_length(fields.clone(), columns.collect::<Result<_, _>>()?, values.nulls().cloned(), values.len())
}

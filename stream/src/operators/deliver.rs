//! The last step: the columns of the result as types that Delta tables have. No state.
//!
//! Unsigned integers become BIGINT, timestamps microseconds in UTC, views and dictionaries plain strings.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;

use crate::StreamError;
use crate::operator::{Operator, Output};

/// Keeps the first columns of its input and casts them.
#[derive(Debug, Clone)]
pub struct Deliver {
    schema: SchemaRef,
}

impl Deliver {
    /// `columns` are the first columns of the input. Refuses types that a table cannot have.
    pub fn new(columns: &Schema) -> Result<Self, StreamError> {
        let mut fields: Vec<FieldRef> = Vec::new();
        for field in columns.fields() {
            if field.name().chars().any(|c| " ,;{}()\n\t=".contains(c)) {
                return Err(StreamError::Unsupported(format!(
                    "column '{0}' cannot be stored under that name: give it one of letters, digits and '_' (`{0} AS name`)",
                    field.name()
                )));
            }
            if fields.iter().any(|earlier| earlier.name().eq_ignore_ascii_case(field.name())) {
                return Err(StreamError::Unsupported(format!("two columns are named '{}': rename one with AS", field.name())));
            }
            fields.push(stored_field(field)?);
        }
        Ok(Self { schema: Schema::new(fields).into() })
    }
}

fn stored_field(field: &Field) -> Result<FieldRef, StreamError> {
    Ok(Arc::new(Field::new(field.name(), stored_type(field.name(), field.data_type())?, field.is_nullable())))
}

fn stored_type(name: &str, data_type: &DataType) -> Result<DataType, StreamError> {
    Ok(match data_type {
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Date64 => DataType::Date32,
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, values) => stored_type(name, values)?,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|f| stored_field(f)).collect::<Result<Vec<_>, _>>()?.into()),
        DataType::List(item) | DataType::LargeList(item) => DataType::List(stored_field(item)?),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Boolean
        | DataType::Date32
        | DataType::Utf8
        | DataType::Binary
        | DataType::Decimal128(..) => data_type.clone(),
        DataType::Null => {
            return Err(StreamError::Unsupported(format!(
                "column '{name}' is always NULL and has no type: write CAST(NULL AS …) AS {name}"
            )));
        }
        other => {
            return Err(StreamError::Unsupported(format!("column '{name}' is of type {other}, which a Delta table cannot store: cast it")));
        }
    })
}

impl Operator for Deliver {
    fn name(&self) -> &'static str {
        "deliver"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> Result<(), StreamError> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let columns = self
            .schema
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(field, column)| match column.data_type() == field.data_type() {
                true => Ok(column.clone()),
                false => cast_with_options(column, field.data_type(), &strict),
            })
            .collect::<Result<Vec<ArrayRef>, _>>()?;
        out.rows.push(RecordBatch::try_new(self.schema.clone(), columns)?);
        Ok(())
    }
}

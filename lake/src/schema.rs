//! Between Arrow schemas and Delta schemas.
//!
//! A table's schema is what Delta can store: strings are `Utf8`, times are µs, lists are named `element`. Whatever
//! a query produces is first brought to the nearest such type; values are cast when they are written.
//!
//! Queries of streaming tables and views have been through `dialect/src/storable.rs`, which also refuses what nothing holds, at its place in the SQL.
//! What it yields is left as it is here.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use deltalake_core::kernel::StructType;
use deltalake_core::kernel::engine::arrow_conversion::{TryIntoArrow, TryIntoKernel};

use crate::error::{LakeError, Result};

/// The Delta form of an Arrow schema: the `schemaString`, and the Arrow schema that readers get back.
pub(crate) fn to_delta(schema: &Schema) -> Result<(String, SchemaRef)> {
    let fields = schema.fields().iter().map(storable).collect::<Result<Vec<_>>>()?;
    let failed = |reason: String| LakeError::BadType { column: "?".to_owned(), data_type: reason };
    let delta: StructType = (&Schema::new(fields)).try_into_kernel().map_err(|error| failed(error.to_string()))?;
    let text = serde_json::to_string(&delta).map_err(|error| failed(error.to_string()))?;
    let arrow = from_delta(&text).map_err(failed)?;
    Ok((text, arrow))
}

/// The Arrow form of a `schemaString`.
pub(crate) fn from_delta(schema_string: &str) -> Result<SchemaRef, String> {
    let delta: StructType = serde_json::from_str(schema_string).map_err(|error| error.to_string())?;
    let arrow: Schema = (&delta).try_into_arrow().map_err(|error| error.to_string())?;
    // Delta's own field annotations would make equal types compare as different.
    Ok(Arc::new(Schema::new(arrow.fields().iter().map(plain).collect::<Vec<_>>())))
}

/// Whether some column is a time without zone, which Delta calls `timestamp_ntz` and wants declared in the protocol.
pub(crate) fn has_local_times(schema: &Schema) -> bool {
    fn found(data_type: &DataType) -> bool {
        match data_type {
            DataType::Timestamp(_, None) => true,
            DataType::Struct(fields) => fields.iter().any(|field| found(field.data_type())),
            DataType::List(field) | DataType::Map(field, _) => found(field.data_type()),
            _ => false,
        }
    }
    schema.fields().iter().any(|field| found(field.data_type()))
}

/// One line that names columns and types, for error messages.
pub(crate) fn describe(schema: &Schema) -> String {
    let columns = schema.fields().iter().map(|field| {
        let required = if field.is_nullable() { "" } else { " NOT NULL" };
        format!("{} {}{required}", field.name(), field.data_type())
    });
    format!("({})", columns.collect::<Vec<_>>().join(", "))
}

fn storable(field: &FieldRef) -> Result<FieldRef> {
    let data_type = storable_type(field.data_type())
        .ok_or_else(|| LakeError::BadType { column: field.name().clone(), data_type: field.data_type().to_string() })?;
    Ok(Arc::new(Field::new(field.name(), data_type, field.is_nullable())))
}

fn storable_type(data_type: &DataType) -> Option<DataType> {
    let element = |field: &FieldRef| {
        let data_type = storable_type(field.data_type())?;
        Some(Arc::new(Field::new("element", data_type, field.is_nullable())))
    };
    Some(match data_type {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        // Counts beyond i64 do not occur; a value that does not fit is an error when written.
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Dictionary(_, value) => storable_type(value)?,
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| {
                let data_type = storable_type(field.data_type())?;
                Some(Arc::new(Field::new(field.name(), data_type, field.is_nullable())))
            });
            DataType::Struct(fields.collect::<Option<Fields>>()?)
        }
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => DataType::List(element(field)?),
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { return None };
            let [key, value] = pair.as_ref() else { return None };
            let key = Field::new("key", storable_type(key.data_type())?, false);
            let value = Field::new("value", storable_type(value.data_type())?, value.is_nullable());
            let entries = Field::new("key_value", DataType::Struct(Fields::from(vec![key, value])), false);
            DataType::Map(Arc::new(entries), false)
        }
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) | DataType::Decimal128(precision, scale) => {
            if *scale < 0 {
                return None;
            }
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Utf8
        | DataType::Binary => data_type.clone(),
        _ => return None,
    })
}

fn plain(field: &FieldRef) -> FieldRef {
    let strip = |fields: &Fields| fields.iter().map(plain).collect::<Fields>();
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(strip(fields)),
        DataType::List(element) => DataType::List(plain(element)),
        DataType::Map(entries, sorted) => DataType::Map(plain(entries), *sorted),
        other => other.clone(),
    };
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(data_type: DataType) -> DataType {
        let schema = Schema::new(vec![Field::new("c", data_type, true)]);
        to_delta(&schema).unwrap().1.field(0).data_type().clone()
    }

    #[test]
    fn types_come_back_as_tables_promise_them() {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        assert_eq!(read_back(DataType::Utf8View), DataType::Utf8);
        assert_eq!(read_back(DataType::UInt64), DataType::Int64);
        assert_eq!(read_back(DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into()))), utc);
        assert_eq!(read_back(DataType::Decimal128(38, 6)), DataType::Decimal128(38, 6));
        let item = DataType::List(Arc::new(Field::new("item", DataType::Utf8View, true)));
        assert_eq!(read_back(item), DataType::List(Arc::new(Field::new("element", DataType::Utf8, true))));
    }

    #[test]
    fn unstorable_types_are_named() {
        let schema = Schema::new(vec![Field::new("wait", DataType::Duration(TimeUnit::Second), true)]);
        let message = to_delta(&schema).unwrap_err().to_string();
        assert!(message.contains("'wait'") && message.contains("Duration"), "{message}");
    }
}

//! What results look like outside: types that every client reads, messages of a bounded size.
//!
//! Types inside views, dictionaries and runs are DataFusion's business; JDBC, arrow-js and Grafana fail on them. What is converted
//! here is converted in the schema that is promised and in the rows that are sent by the same function, so the two never differ.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};
use watershed_functions::sql_type;
use watershed_lake::pieces;

use crate::memory::PIECE_BYTES_TARGET;

/// Flight SQL's names for what is known of a column.
const TYPE_NAME: &str = "ARROW:FLIGHT:SQL:TYPE_NAME";
const PRECISION: &str = "ARROW:FLIGHT:SQL:PRECISION";
const SCALE: &str = "ARROW:FLIGHT:SQL:SCALE";

/// The schema as clients see it.
pub(super) fn schema(of: &Schema) -> SchemaRef {
    let described = |field: &FieldRef| {
        let outside = plain(field);
        let mut metadata = outside.metadata().clone();
        metadata.insert(TYPE_NAME.to_owned(), sql_type(outside.data_type()));
        if let DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) = outside.data_type() {
            metadata.insert(PRECISION.to_owned(), precision.to_string());
            metadata.insert(SCALE.to_owned(), scale.to_string());
        }
        outside.with_metadata(metadata)
    };
    Arc::new(Schema::new_with_metadata(of.fields().iter().map(described).collect::<Vec<_>>(), of.metadata().clone()))
}

fn plain(field: &FieldRef) -> Field {
    field.as_ref().clone().with_data_type(plain_type(field.data_type()))
}

/// The type every client knows that holds the same values.
fn plain_type(data_type: &DataType) -> DataType {
    let item = |field: &FieldRef| Arc::new(plain(field));
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => DataType::Decimal128(*precision, *scale),
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::RunEndEncoded(_, values) => plain_type(values.data_type()),
        // The encoder declares large lists as lists, whatever they are.
        DataType::List(field) | DataType::LargeList(field) | DataType::ListView(field) | DataType::LargeListView(field) => {
            DataType::List(item(field))
        }
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(item(field), *size),
        DataType::Map(entries, sorted) => DataType::Map(item(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| Arc::new(plain(field))).collect::<Fields>()),
        other => other.clone(),
    }
}

/// The rows of `rows` under `schema`, which [`schema`] made of theirs, in batches that fit a message.
pub(super) fn batches(rows: SendableRecordBatchStream, schema: SchemaRef) -> SendableRecordBatchStream {
    let outside = Arc::clone(&schema);
    let pieces = rows.flat_map(move |batch| {
        let converted = batch.and_then(|batch| Ok(convert(&batch, &outside)?));
        let pieces: Vec<Result<RecordBatch, DataFusionError>> = match converted {
            Ok(batch) => pieces(batch, PIECE_BYTES_TARGET).into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(pieces)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, pieces))
}

fn convert(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    // A value that does not fit is an error, not NULL.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let column = |(column, field): (&ArrayRef, &FieldRef)| {
        if column.data_type() == field.data_type() {
            Ok(Arc::clone(column))
        } else {
            cast_with_options(column, field.data_type(), &options)
        }
    };
    let columns = batch.columns().iter().zip(schema.fields()).map(column).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal64Array, DictionaryArray, Int32Array, LargeListArray, ListArray, StringViewArray, StructArray, builder};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Int32Type;

    use super::*;

    fn views() -> ArrayRef {
        Arc::new(StringViewArray::from(vec![Some("short"), None, Some("longer than twelve bytes")]))
    }

    /// One column of each kind that clients cannot read, nested ones included.
    fn odd() -> RecordBatch {
        let item = Arc::new(Field::new("item", DataType::Utf8View, true));
        let lists = ListArray::new(Arc::clone(&item), OffsetBuffer::from_lengths([1, 0, 2]), views(), None);
        let large = LargeListArray::new(item, OffsetBuffer::from_lengths([2, 1, 0]), views(), None);
        let fields = Fields::from(vec![Field::new("name", DataType::Utf8View, true)]);
        let words: DictionaryArray<Int32Type> = vec!["a", "b", "a"].into_iter().collect();
        let mut maps = builder::MapBuilder::new(None, builder::StringBuilder::new(), builder::StringViewBuilder::new());
        for key in ["x", "y", "z"] {
            maps.keys().append_value(key);
            maps.values().append_value("a value of more than twelve bytes");
            maps.append(true).unwrap();
        }
        RecordBatch::try_from_iter([
            ("view", views()),
            ("list", Arc::new(lists) as _),
            ("large", Arc::new(large) as _),
            ("struct", Arc::new(StructArray::new(fields, vec![views()], None)) as _),
            ("map", Arc::new(maps.finish()) as _),
            ("word", Arc::new(words) as _),
            ("cents", Arc::new(Decimal64Array::from(vec![1, 2, 3]).with_precision_and_scale(10, 2).unwrap()) as _),
        ])
        .unwrap()
    }

    #[test]
    fn every_type_becomes_one_that_clients_read_and_keeps_its_values() {
        let batch = odd();
        let schema = schema(&batch.schema());
        let converted = convert(&batch, &schema).unwrap();
        assert_eq!(converted.schema(), schema);
        let text = |field: &FieldRef| format!("{:?}", field.data_type());
        for field in schema.fields() {
            assert!(["View", "Dictionary", "LargeList", "Decimal64"].iter().all(|odd| !text(field).contains(odd)), "{}", text(field));
        }
        let shown = |batch: &RecordBatch| arrow::util::pretty::pretty_format_batches(std::slice::from_ref(batch)).unwrap().to_string();
        assert_eq!(shown(&converted), shown(&batch));
        assert_eq!(schema.field(6).metadata()[TYPE_NAME], "DECIMAL(10, 2)");
    }

    #[test]
    fn nullability_is_as_promised() {
        let inside = Schema::new(vec![Field::new("a", DataType::Utf8View, false), Field::new("b", DataType::Int32, true)]);
        let outside = schema(&inside);
        assert_eq!(outside.fields().iter().map(|field| field.is_nullable()).collect::<Vec<_>>(), [false, true]);
        let columns: Vec<ArrayRef> = vec![Arc::new(StringViewArray::from(vec!["x"])), Arc::new(Int32Array::from(vec![None]))];
        let batch = RecordBatch::try_new(Arc::new(inside), columns).unwrap();
        assert_eq!(convert(&batch, &outside).unwrap().schema(), outside);
    }

    #[test]
    fn rows_without_columns_keep_their_count() {
        let options = RecordBatchOptions::new().with_row_count(Some(7));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        assert_eq!(convert(&batch, &schema(&batch.schema())).unwrap().num_rows(), 7);
    }
}

//! `METADATA FROM '…'`: columns that come from a message's coordinates instead of its value.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, Int32Array, Int64Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray, new_empty_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Fields, TimeUnit};
use arrow::error::ArrowError;
use watershed_dialect::definition::Metadata;

use crate::event_time::TIMES_US;
use crate::files::row_number;
use crate::source::RawBatch;

/// A metadata column: which coordinate, and the declared field.
#[derive(Debug)]
pub(crate) struct Coordinate {
    metadata: Metadata,
    field: FieldRef,
}

impl Coordinate {
    /// `Err` says which type the coordinate needs.
    pub(crate) fn new(metadata: Metadata, field: FieldRef) -> Result<Self, &'static str> {
        let data_type = field.data_type();
        let (fits, hint) = match metadata {
            Metadata::Key => (matches!(data_type, DataType::Utf8 | DataType::Binary), "declare 'key' as VARCHAR or BINARY"),
            Metadata::Value => (matches!(data_type, DataType::Utf8 | DataType::Binary), "declare 'value' as VARCHAR or BINARY"),
            Metadata::Topic => (*data_type == DataType::Utf8, "declare 'topic' as VARCHAR"),
            Metadata::File => (*data_type == DataType::Utf8, "declare 'file' as VARCHAR"),
            Metadata::Row => (*data_type == DataType::Int64, "declare 'row' as BIGINT"),
            Metadata::Partition => (matches!(data_type, DataType::Int32 | DataType::Int64), "declare 'partition' as INT"),
            Metadata::Offset => (*data_type == DataType::Int64, "declare 'offset' as BIGINT"),
            Metadata::Timestamp => (matches!(data_type, DataType::Timestamp(..)), "declare 'timestamp' as TIMESTAMP"),
            Metadata::Headers => (header_fields(data_type).is_some(), "declare 'headers' as a LIST of STRUCT<key VARCHAR, value BINARY>"),
        };
        if fits { Ok(Self { metadata, field }) } else { Err(hint) }
    }

    pub(crate) fn name(&self) -> &str {
        self.field.name()
    }

    /// Whether this record's coordinate fits the declared column; else the reason.
    pub(crate) fn check(&self, raw: &RawBatch, index: usize) -> Result<(), &'static str> {
        let missing = match self.metadata {
            Metadata::Key => {
                let key = raw.keys.get(index);
                if *self.field.data_type() == DataType::Utf8 && key.is_some_and(|key| std::str::from_utf8(key).is_err()) {
                    return Err("the key is not UTF-8");
                }
                key.is_none()
            }
            Metadata::Timestamp => {
                let ms = raw.timestamps_ms[index];
                let us = ms.saturating_mul(1_000);
                if ms >= 0 && !TIMES_US.contains(&us) {
                    return Err("not in the years 1 to 9999");
                }
                if matches!(self.field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _)) && us.checked_mul(1_000).is_none() {
                    return Err("does not fit a TIMESTAMP in nanoseconds (years 1678 to 2261)");
                }
                ms < 0
            }
            // A message without a value is no row, and the decoder has looked at its bytes.
            Metadata::Value => false,
            Metadata::Topic | Metadata::Partition | Metadata::Offset | Metadata::Headers | Metadata::File | Metadata::Row => false,
        };
        if missing && !self.field.is_nullable() { Err("the message has none, yet it is NOT NULL") } else { Ok(()) }
    }

    /// The coordinate of the records at `accepted` of a topic (or a file), which passed [`Coordinate::check`].
    pub(crate) fn column(&self, topic: &str, raw: &RawBatch, accepted: &[usize]) -> Result<ArrayRef, ArrowError> {
        let count = accepted.len();
        let column: ArrayRef = match self.metadata {
            Metadata::Key => {
                let keys: BinaryArray = accepted.iter().map(|&index| raw.keys.get(index)).collect();
                Arc::new(keys)
            }
            Metadata::Value => {
                let values: BinaryArray = accepted.iter().map(|&index| raw.values.get(index)).collect();
                Arc::new(values)
            }
            Metadata::Topic | Metadata::File => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(topic, count))),
            Metadata::Partition => Arc::new(Int32Array::from_value(raw.partition, count)),
            Metadata::Offset => Arc::new(Int64Array::from_iter_values(accepted.iter().map(|&index| raw.offsets[index]))),
            Metadata::Row => Arc::new(Int64Array::from_iter_values(accepted.iter().map(|&index| row_number(raw.offsets[index])))),
            Metadata::Timestamp => {
                let times_us = accepted.iter().map(|&index| Some(raw.timestamps_ms[index]).filter(|ms| *ms >= 0)?.checked_mul(1000));
                Arc::new(times_us.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
            }
            Metadata::Headers => return self.headers(raw, accepted),
        };
        if column.data_type() == self.field.data_type() { Ok(column) } else { cast(&column, self.field.data_type()) }
    }

    fn headers(&self, raw: &RawBatch, accepted: &[usize]) -> Result<ArrayRef, ArrowError> {
        let Some((element, fields)) = header_fields(self.field.data_type()) else {
            return Ok(new_empty_array(self.field.data_type()));
        };
        // Without headers the transport leaves the list empty.
        let of = |index: usize| raw.headers.get(index).map(Vec::as_slice).unwrap_or_default();
        let all = || accepted.iter().flat_map(|&index| of(index));
        let keys: StringArray = all().map(|(key, _)| Some(key)).collect();
        let values: BinaryArray = all().map(|(_, value)| value.as_deref()).collect();
        let structs = StructArray::try_new(fields, vec![Arc::new(keys), Arc::new(values)], None)?;
        let lengths = OffsetBuffer::from_lengths(accepted.iter().map(|&index| of(index).len()));
        Ok(Arc::new(ListArray::try_new(element, lengths, Arc::new(structs), None)?))
    }
}

/// The element and the two fields of a type that can hold headers.
fn header_fields(data_type: &DataType) -> Option<(FieldRef, Fields)> {
    let DataType::List(element) = data_type else { return None };
    let DataType::Struct(fields) = element.data_type() else { return None };
    match fields.as_ref() {
        [key, value] if *key.data_type() == DataType::Utf8 && *value.data_type() == DataType::Binary && value.is_nullable() => {
            Some((element.clone(), fields.clone()))
        }
        _ => None,
    }
}

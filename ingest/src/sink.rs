//! Sends rows to Kafka as JSON messages, each with an id: the far end of a pipeline.
//!
//! One message a row: an object with a key for each column, NULL written as `null`. The header `id` tells a message that was sent again
//! after a crash from a new one. Types are written so that a source reads them back:
//!
//! | type | JSON |
//! |---|---|
//! | TIMESTAMP | `"2026-01-31T23:59:59.000001Z"`: RFC 3339 in UTC, always six digits |
//! | DATE | `"2026-01-31"` |
//! | DECIMAL, whole numbers | numbers with all their digits |
//! | FLOAT, DOUBLE | the shortest number that reads back the same; `"NaN"`, `"Infinity"`, `"-Infinity"`, for which JSON has no numbers |
//! | BINARY | base64 |
//! | STRUCT, LIST, MAP | objects, arrays, objects |
//!
//! State kept: the producer's bounded queue. Nothing is remembered over restarts.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, PrimitiveArray, StructArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, Float32Type, Float64Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use watershed_dialect::definition::SinkDefinition;

use crate::error::{IngestError, Result};
use crate::producer::{Producer, Unsent, ensure_topics, largest_batch};
use crate::settings::KafkaSettings;

/// Takes the rows of one sink. Blocking; one instance serves one thread.
pub trait SinkWrite: Send {
    /// Hands rows over, row `i` with the id `ids[i]`. Returns once all of them are in the queue, which they may have to wait for.
    fn send(&mut self, rows: &RecordBatch, ids: &[String]) -> Result<()>;

    /// Waits up to `timeout` until everything handed over is acknowledged; false if it is not yet. An error once something never will be.
    fn flush(&mut self, timeout: Duration) -> Result<bool>;

    /// Takes the rows, as far as known, that the receiver will never take; [`SinkWrite::flush`] does not wait for them.
    fn refused(&mut self) -> Vec<Unsent> {
        Vec::new()
    }
}

/// Opens sinks: how pipelines send rows out. Calls block, up to ten seconds for a broker.
pub trait OpenSink: Send + Sync + std::fmt::Debug {
    /// Opens a sink whose rows have the columns `schema`. Makes its topic if the definition says with how many partitions.
    fn open(&self, definition: &SinkDefinition, schema: &SchemaRef) -> Result<Box<dyn SinkWrite>>;
}

/// Sinks in Kafka. Settings of a definition go over these.
impl OpenSink for KafkaSettings {
    fn open(&self, definition: &SinkDefinition, schema: &SchemaRef) -> Result<Box<dyn SinkWrite>> {
        let settings = self.overlaid(&definition.properties)?;
        let mut producer = Producer::for_sink(&settings, None)?;
        match (producer.check_topic(&settings, &definition.topic), definition.partitions) {
            (Err(IngestError::UnknownTopic { topic }), Some(partitions)) => ensure_topics(&settings, &[(&topic, partitions)])?,
            (checked, _) => checked?,
        }
        if let Some(largest) = largest_batch(&settings, &definition.topic) {
            producer = Producer::for_sink(&settings, Some(largest))?;
        }
        let key = definition.key.as_ref().map(|column| schema.index_of(column)).transpose()?;
        Ok(Box::new(KafkaSink { producer, topic: definition.topic.clone(), key }))
    }
}

struct KafkaSink {
    producer: Producer,
    topic: String,
    /// The place of the key among the columns.
    key: Option<usize>,
}

impl SinkWrite for KafkaSink {
    fn send(&mut self, rows: &RecordBatch, ids: &[String]) -> Result<()> {
        let key = self.key.map(|place| rows.column(place));
        let key_text = key.map(|column| ArrayFormatter::try_new(column.as_ref(), &FormatOptions::default())).transpose()?;
        let mut message_key = String::new();
        let Self { producer, topic, .. } = self;
        each_as_json(rows, |row, json| {
            let key = match (key, &key_text) {
                (Some(column), Some(text)) if column.is_valid(row) => {
                    message_key.clear();
                    text.value(row).write(&mut message_key)?;
                    Some(message_key.as_bytes())
                }
                _ => None,
            };
            producer.send_with_id(topic, key, json, &ids[row])
        })
    }

    fn flush(&mut self, timeout: Duration) -> Result<bool> {
        match self.producer.flush(timeout) {
            Ok(()) => Ok(true),
            Err(IngestError::QueueFull { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn refused(&mut self) -> Vec<Unsent> {
        self.producer.take_refused()
    }
}

/// Calls `take` with the number and the JSON text of each row.
fn each_as_json(rows: &RecordBatch, mut take: impl FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
    let options = EncoderOptions::default()
        .with_explicit_nulls(true)
        .with_timestamp_tz_format("%Y-%m-%dT%H:%M:%S%.6fZ".into())
        .with_encoder_factory(Arc::new(AsSourcesRead));
    let field: FieldRef = Arc::new(Field::new_struct("row", rows.schema().fields().clone(), false));
    let object: ArrayRef = Arc::new(StructArray::from(rows.clone()));
    let mut encoder = make_encoder(&field, object.as_ref(), &options)?;
    let mut json = Vec::new();
    for row in 0..rows.num_rows() {
        json.clear();
        encoder.encode(row, &mut json);
        take(row, &json)?;
    }
    Ok(())
}

/// Types that sources read in another form than arrow writes.
#[derive(Debug)]
struct AsSourcesRead;

impl EncoderFactory for AsSourcesRead {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> std::result::Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Binary => Box::new(Base64(array.as_binary::<i32>())),
            DataType::Float32 => Box::new(Floats(array.as_primitive::<Float32Type>())),
            DataType::Float64 => Box::new(Floats(array.as_primitive::<Float64Type>())),
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

struct Base64<'a>(&'a BinaryArray);

impl Encoder for Base64<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(STANDARD.encode(self.0.value(row)).as_bytes());
        out.push(b'"');
    }
}

struct Floats<'a, T: ArrowPrimitiveType>(&'a PrimitiveArray<T>);

impl<T: ArrowPrimitiveType<Native: Into<f64>>> Encoder for Floats<'_, T> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = self.0.value(row);
        let wide: f64 = value.into();
        // Writing to memory does not fail. Debug's form is the shortest that reads back, with an exponent where that is shorter.
        let _ = match wide {
            wide if wide.is_nan() => out.write_all(b"\"NaN\""),
            f64::INFINITY => out.write_all(b"\"Infinity\""),
            f64::NEG_INFINITY => out.write_all(b"\"-Infinity\""),
            _ => write!(out, "{value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int64Array, ListArray, StringArray,
        TimestampMicrosecondArray,
    };
    use arrow::datatypes::{Fields, Int32Type};

    use super::*;

    fn json_of(columns: Vec<(&str, ArrayRef)>) -> Vec<String> {
        let rows = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap();
        let mut lines = Vec::new();
        each_as_json(&rows, |_, json| {
            lines.push(String::from_utf8(json.to_vec()).unwrap());
            Ok(())
        })
        .unwrap();
        lines
    }

    #[test]
    fn every_type_as_sources_read_it() {
        let location = StructArray::new(
            Fields::from(vec![Field::new("lat", DataType::Float64, true)]),
            vec![Arc::new(Float64Array::from(vec![52.5]))],
            None,
        );
        let lines = json_of(vec![
            ("text", Arc::new(StringArray::from(vec!["São \"Paulo\"\n"])) as ArrayRef),
            ("time", Arc::new(TimestampMicrosecondArray::from(vec![1_717_236_000_000_000]).with_timezone("UTC"))),
            ("day", Arc::new(Date32Array::from(vec![20_000]))),
            ("fare", Arc::new(Decimal128Array::from(vec![-1_250]).with_precision_and_scale(10, 2).unwrap())),
            ("big", Arc::new(Int64Array::from(vec![i64::MAX]))),
            ("yes", Arc::new(BooleanArray::from(vec![true]))),
            ("bytes", Arc::new(BinaryArray::from_vec(vec![b"\xff\x00a"]))),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None])]))),
            ("location", Arc::new(location)),
            ("none", Arc::new(StringArray::from(vec![None::<&str>]))),
        ]);
        let expected = "{\"text\":\"São \\\"Paulo\\\"\\n\",\"time\":\"2024-06-01T10:00:00.000000Z\",\"day\":\"2024-10-04\",\"fare\":-12.50,\
                        \"big\":9223372036854775807,\"yes\":true,\"bytes\":\"/wBh\",\"list\":[1,null],\"location\":{\"lat\":52.5},\"none\":null}";
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn floats_read_back_the_same() {
        let lines = json_of(vec![
            ("d", Arc::new(Float64Array::from(vec![0.1, -1e300, f64::NAN, f64::INFINITY])) as ArrayRef),
            ("f", Arc::new(Float32Array::from(vec![0.1, 16_777_216.0, f32::NEG_INFINITY, 2.0]))),
        ]);
        let expected =
            [r#"{"d":0.1,"f":0.1}"#, r#"{"d":-1e300,"f":16777216.0}"#, r#"{"d":"NaN","f":"-Infinity"}"#, r#"{"d":"Infinity","f":2.0}"#];
        assert_eq!(lines, expected);
    }
}

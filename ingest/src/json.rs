//! `format = 'json'`: one JSON object a message, decoded in one pass over its bytes straight to Arrow columns.
//!
//! Only the wanted columns are parsed (and the event time, which decides whether a row is accepted). What is not wanted is passed over: it
//! must be UTF-8 and its brackets and quotes must match, its numbers and escapes are not looked at. So a NOT NULL or a type of a column
//! that no query reads is not checked either.
//!
//! | SQL type | taken from |
//! |---|---|
//! | BOOLEAN | `true`, `false` |
//! | integers, DECIMAL | numbers, also in quotes; exactly, or the row is refused (`1.0` and `1e3` are whole) |
//! | FLOAT, DOUBLE | numbers, also in quotes, there also `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | VARCHAR | strings |
//! | JSON | any value, as the text it is written in; `null` is NULL |
//! | BINARY | strings of base64, standard or URL alphabet, padded or not |
//! | DATE | `"2026-11-21"`, or days since 1970 |
//! | TIMESTAMP | ISO-8601 / RFC 3339 with `T` or a space; without a zone it is UTC; or milliseconds since 1970, or what EPOCH says |
//! | STRUCT | objects |
//! | LIST | arrays |
//!
//! A column takes the value of the key with exactly its name; if there is none, of one that differs in upper and lower case only. Of a key that
//! comes twice the last counts. A key that is missing is NULL; a NOT NULL column then refuses the row. A byte order mark before the object
//! is passed over. Raw control characters inside of strings are taken as they are. Nothing limits the size of a message but
//! Kafka; objects and arrays may lie 128 deep in one another.
//!
//! A row that is refused never touches its neighbours: the columns are cut back to where they were before it.

mod column;
mod cursor;
mod kept;
mod number;
mod record;
#[cfg(test)]
mod tests;
mod time;

use std::collections::HashMap;

use arrow::array::RecordBatchOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use watershed_dialect::definition::{Connector, SourceDefinition, Tombstones};

use self::column::Column;
pub(crate) use self::column::counted_us;
use self::cursor::{Cursor, Reject};
pub(crate) use self::number::is_decimal;
use self::record::Record;
pub(crate) use self::time::days_from_civil;
use crate::coordinates::Coordinate;
use crate::error::{IngestError, Result};
use crate::event_time::{self, EventTime};
use crate::place::{Place, place_of};
use crate::quarantine::Quarantine;
use crate::source::{Decode, Decoded, RawBatch};

const TYPES: &str =
    "JSON fills BOOLEAN, integers, FLOAT, DOUBLE, DECIMAL up to 38 digits, VARCHAR, BINARY, DATE, TIMESTAMP, STRUCT and LIST";

/// Decodes one source's messages. State: column builders, empty between batches, and the order of keys seen last.
#[derive(Debug)]
pub struct JsonDecode {
    source_name: String,
    topic: String,
    schema: SchemaRef,
    outputs: Vec<Output>,
    record: Record,
    event_time: Option<EventTime>,
    quarantine: Quarantine,
    accepted: Vec<usize>,
    skips_tombstones: bool,
}

/// Where an output column comes from.
#[derive(Debug)]
enum Output {
    /// A column of the record, or a field within one.
    Value(Place),
    /// The message's coordinates.
    Coordinate(Coordinate),
}

impl JsonDecode {
    /// A decoder for the columns `wanted` (indices into the definition's columns); they come out in that order.
    ///
    /// Fails if a type cannot be filled from JSON, or the event-time column is not a timestamp of the value.
    pub fn new(definition: &SourceDefinition, wanted: &[usize]) -> Result<Self> {
        let source_name = definition.name.clone();
        let topic = match &definition.connector {
            Connector::Kafka { topic, .. } => topic.clone(),
            Connector::Files { .. } => String::new(),
        };
        let (mut fields, mut epochs, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        let mut position_of = HashMap::new();
        // Where the record has a column's values; reads the column that holds them.
        let mut read = |index: usize| -> Place {
            let Place { column: holder, fields: within } = place_of(definition, index);
            let column = *position_of.entry(holder).or_insert_with(|| {
                let column = &definition.columns[holder];
                kept.extend(column.json.iter().map(|within| Place { column: fields.len(), fields: within.clone() }));
                fields.push(column.field.clone());
                fields.len() - 1
            });
            let place = Place { column, fields: within };
            if let Some(epoch) = definition.columns[index].epoch {
                epochs.push((place.clone(), epoch));
            }
            place
        };
        let mut outputs = Vec::with_capacity(wanted.len());
        let mut schema = Vec::with_capacity(wanted.len());
        for &index in wanted {
            let column = &definition.columns[index];
            schema.push(column.field.clone());
            outputs.push(match column.metadata {
                Some(metadata) => Output::Coordinate(Coordinate::new(metadata, column.field.clone()).map_err(|hint| {
                    let data_type = column.field.data_type().to_string();
                    let (source_name, column) = (source_name.clone(), column.field.name().clone());
                    IngestError::UnsupportedType { source_name, column, data_type, format: "METADATA FROM", hint: hint.into() }
                })?),
                None => Output::Value(read(index)),
            });
        }
        let is_time = |data_type: &DataType| matches!(data_type, DataType::Timestamp(..));
        let event_time = event_time::column_of(definition, is_time, "the message; declare it so")?.map(|index| {
            if definition.columns[index].metadata.is_some() {
                return EventTime::new(definition, None);
            }
            EventTime::new(definition, Some(read(index)))
        });
        if let Some(Place { column, fields: within }) = event_time.as_ref().and_then(|time: &EventTime| time.place.as_ref())
            && within.is_empty()
        {
            // A row without event time belongs nowhere, whatever the column allows.
            let field = &mut fields[*column];
            *field = Field::clone(field).with_nullable(false).into();
        }
        let columns: Result<Vec<_>, _> = fields.into_iter().map(Column::new).collect();
        let columns = columns.map_err(|(column, data_type)| IngestError::UnsupportedType {
            source_name: source_name.clone(),
            column,
            data_type: data_type.to_string(),
            format: "JSON",
            hint: TYPES.into(),
        })?;
        let mut record = Record::new(columns);
        if let Some(place) = event_time.as_ref().and_then(|time| time.place.as_ref()) {
            record.count(place.column, &place.fields, None, true);
        }
        for (place, epoch) in epochs {
            record.count(place.column, &place.fields, Some(epoch), false);
        }
        for place in kept {
            record.keep(place.column, &place.fields);
        }
        Ok(Self {
            source_name,
            topic,
            schema: Schema::new(schema).into(),
            outputs,
            record,
            event_time,
            quarantine: Quarantine::default(),
            accepted: Vec::new(),
            skips_tombstones: definition.tombstones == Tombstones::Skip,
        })
    }

    /// Says which file the next records come from: it goes where Kafka's records have their topic.
    pub(crate) fn read_file(&mut self, file: &str) {
        self.topic.clear();
        self.topic.push_str(file);
    }

    /// The columns that come out.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Appends the record at `index`, or says why not; then some columns may have grown.
    fn append(&mut self, raw: &RawBatch, index: usize, ascii: bool) -> Result<(), Reject> {
        let value = raw
            .values
            .get(index)
            .ok_or_else(|| Reject::new("no value (a tombstone; the source's option tombstones = 'skip' passes over them)"))?;
        if let [0, id @ ..] = value
            && let Some(id) = id.first_chunk()
        {
            let id = u32::from_be_bytes(*id);
            return Err(Reject::new(format!(
                "the message begins with byte 00 and schema {id} of a Schema Registry: only plain JSON is read; let the producer write JSON \
                 without a schema"
            )));
        }
        if !ascii && let Err(error) = std::str::from_utf8(value) {
            return Err(Reject::new(format!("not UTF-8 at byte {}", error.valid_up_to())));
        }
        for output in &self.outputs {
            if let Output::Coordinate(coordinate) = output {
                coordinate.check(raw, index).map_err(|reason| Reject::new(reason).within(coordinate.name()))?;
            }
        }
        let mut cursor = Cursor::new(value.strip_prefix(b"\xef\xbb\xbf").unwrap_or(value));
        cursor.skip_space();
        match cursor.peek() {
            Some(b'{') => {}
            None => return Err(Reject::new("empty message")),
            Some(_) => return Err(cursor.mismatch("a JSON object")),
        }
        self.record.parse(&mut cursor, 1)?;
        cursor.skip_space();
        if cursor.peek().is_some() {
            return Err(cursor.unexpected("the end of the message"));
        }
        let Some(event_time) = &self.event_time else { return Ok(()) };
        let written_ms = Some(raw.timestamps_ms[index]).filter(|&ms| ms >= 0);
        let Some(column) = event_time.place.as_ref().map(|place| self.record.column(place)) else {
            let written_ms = written_ms.ok_or_else(|| Reject::new("the message has no timestamp, which is its event time"))?;
            return event_time.check(written_ms.saturating_mul(1_000), None, raw.taken_ms).map_err(Reject::new);
        };
        let time_us = match column.last_timestamp_us() {
            Some(time_us) => time_us,
            None if column.last_is_null() => return Err(Reject::new("NULL, yet it is the event time").within(column.name())),
            // A time that 64 bits cannot hold is as absurd as the first one they can.
            None => i64::MIN,
        };
        let written = written_ms.map(|ms| (ms, "the Kafka timestamp"));
        event_time.check(time_us, written, raw.taken_ms).map_err(|reason| Reject::new(reason).within(column.name()))
    }
}

impl Decode for JsonDecode {
    fn decode(&mut self, raw: &RawBatch) -> Result<Decoded> {
        // Nearly always true, and then no message needs a look of its own.
        let ascii = raw.values.bytes().is_ascii();
        self.accepted.clear();
        for index in 0..raw.len() {
            if self.skips_tombstones && raw.values.get(index).is_none() {
                continue;
            }
            match self.append(raw, index, ascii) {
                Ok(()) => self.accepted.push(index),
                Err(reject) => {
                    self.record.truncate(self.accepted.len());
                    self.quarantine.push(index, reject.into_reason());
                }
            }
        }
        let values = self.record.finish()?;
        let mut columns = Vec::with_capacity(self.outputs.len());
        for output in &self.outputs {
            columns.push(match output {
                Output::Value(place) => place.values(&values)?,
                Output::Coordinate(coordinate) => coordinate.column(&self.topic, raw, &self.accepted)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.accepted.len()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let quarantined = self.quarantine.finish(&self.source_name, &self.topic, raw)?;
        let offsets = self.accepted.iter().map(|&index| raw.offsets[index]).collect::<Vec<_>>().into();
        Ok(Decoded { rows, offsets, quarantined })
    }
}

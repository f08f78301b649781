//! The records that a batch of rows was made of. They are kept while the batch is in work, so that a row which a query cannot take goes to
//! the quarantine as it came.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::json::LineDelimitedWriter;
use arrow::record_batch::RecordBatch;
use watershed_dialect::definition::{Connector, SourceDefinition};

use crate::error::Result;
use crate::files::row_number;
use crate::quarantine::{self, Quarantine};
use crate::source::RawBatch;

/// The records of one batch, and where they came from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    source: String,
    /// The topic, or the file's path below the source's folder.
    topic: String,
    is_file: bool,
    /// Without values where [`Origin::columns`] holds them.
    raw: RawBatch,
    /// The rows of a file whose rows are no text.
    columns: Option<RecordBatch>,
}

impl Origin {
    /// Messages of a topic.
    pub fn of_topic(source: &str, topic: &str, raw: RawBatch) -> Self {
        Self { source: source.into(), topic: topic.into(), is_file: false, raw, columns: None }
    }

    /// Lines of a file, or rows of it as `columns` if it is no text.
    pub(crate) fn of_file(source: &str, file: &str, raw: RawBatch, columns: Option<RecordBatch>) -> Self {
        Self { source: source.into(), topic: file.into(), is_file: true, raw, columns }
    }

    /// How many of the records come before `offset`.
    pub fn records_before(&self, offset: i64) -> usize {
        self.raw.offsets.partition_point(|&known| known < offset)
    }

    /// How many of the records before `offset` have no value.
    pub fn tombstones_before(&self, offset: i64) -> usize {
        self.raw.tombstones(self.records_before(offset))
    }

    /// Where a record is, as people call it.
    pub fn place(&self, offset: i64) -> String {
        if self.is_file {
            format!("row {} of '{}'", row_number(offset), self.topic)
        } else {
            format!("{}/{}/{offset}", self.topic, self.raw.partition)
        }
    }

    /// The records at these offsets (ascending) in [`quarantine::schema`], each with the reason why it was not taken.
    pub fn set_aside(&self, refused: &[(i64, String)]) -> Result<Option<RecordBatch>> {
        let mut records = RawBatch::new(self.raw.partition);
        let mut quarantine = Quarantine::default();
        for (offset, reason) in refused {
            let found = self.raw.offsets.binary_search(offset).ok();
            let shown = found.zip(self.columns.as_ref()).map(|(index, columns)| as_json(&columns.slice(index, 1)));
            let (key, value) = match found.filter(|_| self.columns.is_none()) {
                Some(index) => (self.raw.keys.get(index), self.raw.values.get(index)),
                None => (None, shown.as_deref()),
            };
            records.push(*offset, found.map_or(-1, |index| self.raw.timestamps_ms[index]), key, value);
            quarantine.push(records.len() - 1, reason.clone());
        }
        let rows = quarantine.finish(&self.source, &self.topic, &records)?;
        rows.map(|rows| if self.is_file { with_row_numbers(&rows) } else { Ok(rows) }).transpose()
    }
}

/// Rows that are no longer with their records, in [`quarantine::schema`]: partition and offset of each, -1 if several records made it, and
/// the reason.
pub fn set_aside(definition: &SourceDefinition, refused: &[((i32, i64), String)]) -> Result<Option<RecordBatch>> {
    let (topic, is_file) = match &definition.connector {
        Connector::Kafka { topic, .. } => (topic, false),
        Connector::Files { path, .. } => (path, true),
    };
    let mut parts = Vec::new();
    for ((partition, offset), reason) in refused {
        let mut records = RawBatch::new(*partition);
        let offset = if is_file && *offset >= 0 { row_number(*offset) } else { *offset };
        records.push(offset, -1, None, None);
        let mut quarantine = Quarantine::default();
        quarantine.push(0, reason.clone());
        parts.extend(quarantine.finish(&definition.name, topic, &records)?);
    }
    if parts.is_empty() {
        return Ok(None);
    }
    Ok(Some(arrow::compute::concat_batches(&quarantine::schema(), &parts)?))
}

/// Quarantined rows of files are listed in their table by file and number in it, which people can look up, not by offset.
pub(crate) fn with_row_numbers(bad: &RecordBatch) -> Result<RecordBatch> {
    let index = quarantine::schema().index_of("offset")?;
    let numbers = bad.column(index).as_primitive::<Int64Type>().unary::<_, Int64Type>(row_number);
    let mut columns = bad.columns().to_vec();
    columns[index] = Arc::new(numbers);
    Ok(RecordBatch::try_new(bad.schema(), columns)?)
}

/// A row as a line of JSON; empty if it cannot be one.
pub(crate) fn as_json(row: &RecordBatch) -> Vec<u8> {
    let mut text = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut text);
    let written = writer.write(row).and_then(|()| writer.finish());
    drop(writer);
    match written {
        Ok(()) => text.trim_ascii_end().to_vec(),
        Err(_) => Vec::new(),
    }
}

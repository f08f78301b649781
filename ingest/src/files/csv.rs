//! `format = 'csv'`: whole batches of lines through arrow-csv, then cast to the declared types. Only a batch with a line that is no
//! record (a field too many, bytes that are no UTF-8) is looked at line by line.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Decoder;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use watershed_dialect::definition::SourceDefinition;

use super::folder::OneFile;
use super::lines::{Line, Lines, holds_carriage_return};
use super::reader::{FileBatch, Opened, fill};
use super::shape::Shape;
use crate::error::Result;
use crate::source::{FetchLimits, RawBatch};

/// What is said of a line that is most likely all of a file.
const CARRIAGE_RETURNS: &str =
    "holds carriage returns that no line feed follows: if its lines end so, write the file with line feeds, under another name";

/// The rest of a CSV file.
pub(crate) struct CsvRows {
    lines: Lines,
    file: OneFile,
    shape: Shape,
    delimiter: u8,
    /// All columns of the file, as text.
    schema: SchemaRef,
    /// Which of them are read, and where each value of the shape then is.
    projection: Vec<usize>,
    values: Vec<Option<usize>>,
    row: u64,
}

impl CsvRows {
    /// Opens a file and goes to `row`. The inner error says why it cannot be a file of this source.
    pub(crate) async fn open(
        file: OneFile,
        definition: &SourceDefinition,
        wanted: &[usize],
        (delimiter, header): (u8, bool),
        row: u64,
    ) -> Result<Opened<Self>> {
        let shape = Shape::new(definition, wanted)?;
        let mut lines = Lines::new(file.clone(), Some(delimiter));
        let names: Vec<String> = if header {
            match lines.next().await? {
                None => Vec::new(),
                Some(Line::Whole(line) | Line::Bad(line, _)) if holds_carriage_return(lines.bytes(&line), delimiter) => {
                    return Ok(Err(format!("its first line {CARRIAGE_RETURNS}")));
                }
                Some(Line::Whole(line)) => fields(lines.bytes(&line), delimiter),
                Some(Line::Bad(_, why)) => return Ok(Err(format!("its first line names no columns: {why}"))),
            }
        } else {
            definition.columns.iter().filter(|column| column.is_value()).map(|column| column.field.name().clone()).collect()
        };
        let columns: Vec<_> = names.iter().map(|name| (name.as_str(), DataType::Utf8)).collect();
        let places = if names.is_empty() {
            Vec::new()
        } else {
            match shape.find(&columns) {
                Ok(places) => places,
                Err(why) => return Ok(Err(why)),
            }
        };
        let mut projection: Vec<usize> = places.iter().flatten().copied().collect();
        projection.sort_unstable();
        projection.dedup();
        let values = places.iter().map(|place| place.and_then(|place| projection.binary_search(&place).ok())).collect();
        if projection.is_empty() {
            // Rows are counted even if nothing of them is read.
            projection.push(0);
        }
        for _ in 0..row {
            lines.next().await?;
        }
        let schema = Arc::new(Schema::new(names.into_iter().map(|name| Field::new(name, DataType::Utf8, true)).collect::<Vec<_>>()));
        Ok(Ok(Self { lines, file, shape, delimiter, schema, projection, values, row }))
    }

    /// The next rows; `None` at the end.
    pub(crate) async fn next(&mut self, limits: FetchLimits) -> Result<Option<FileBatch>> {
        let mut unreadable = BTreeMap::new();
        let raw = fill(&mut self.lines, &self.file, &mut self.row, limits, &mut unreadable).await?;
        if raw.is_empty() {
            return Ok(None);
        }
        let all: Vec<usize> = (0..raw.len()).filter(|index| !unreadable.contains_key(index)).collect();
        let (batch, places) = match self.decode(&raw, &all) {
            Ok(batch) => (batch, all),
            Err(_) => {
                let mut places = Vec::with_capacity(all.len());
                for index in all {
                    match self.decode(&raw, &[index]) {
                        Ok(_) => places.push(index),
                        Err(error) => {
                            let returns = holds_carriage_return(raw.values.get(index).unwrap_or_default(), self.delimiter);
                            let more = if returns { format!("; it {CARRIAGE_RETURNS}") } else { String::new() };
                            unreadable.insert(index, format!("{}{more}", why(&error)));
                        }
                    }
                }
                (self.decode(&raw, &places)?, places)
            }
        };
        let columns: Vec<Option<ArrayRef>> = self.values.iter().map(|value| value.map(|value| batch.column(value).clone())).collect();
        let checked = self.shape.check(&columns, places.len(), self.file.entry.modified_ms, raw.taken_ms)?;
        let (records, bytes) = (raw.len(), raw.byte_len());
        let decoded = self.shape.assemble(&self.file.entry.path, &raw, &places, checked, unreadable)?;
        Ok(Some(FileBatch { decoded, records, bytes, raw, columns: None }))
    }

    pub(crate) fn row(&self) -> u64 {
        self.row
    }

    /// The lines `places` of `raw` as text columns; fails if one of them is no record.
    fn decode(&self, raw: &RawBatch, places: &[usize]) -> Result<RecordBatch, ArrowError> {
        let mut decoder: Decoder = ReaderBuilder::new(self.schema.clone())
            .with_delimiter(self.delimiter)
            // Else a lone carriage return would end a record.
            .with_terminator(b'\n')
            .with_projection(self.projection.clone())
            .with_batch_size(places.len().max(1))
            .build_decoder();
        let mut text = Vec::with_capacity(raw.values.bytes().len() + places.len());
        for &place in places {
            text.extend_from_slice(raw.values.get(place).unwrap_or_default());
            text.push(b'\n');
        }
        let mut at = 0;
        while at < text.len() {
            let taken = decoder.decode(&text[at..])?;
            if taken == 0 {
                return Err(ArrowError::CsvError("the line is more than one record".into()));
            }
            at += taken;
        }
        let batch = decoder.flush()?.unwrap_or_else(|| {
            let fields: Vec<_> = self.projection.iter().map(|&index| self.schema.field(index).clone()).collect();
            RecordBatch::new_empty(Arc::new(Schema::new(fields)))
        });
        if batch.num_rows() == places.len() {
            Ok(batch)
        } else {
            Err(ArrowError::CsvError(format!("{} lines are {} records", places.len(), batch.num_rows())))
        }
    }
}

/// What arrow-csv says of one line, without the number of the line, which is always 1 here.
fn why(error: &ArrowError) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("Csv error: ").unwrap_or(&text);
    text.replace(" for line 1", "").replace(" on line 1", "").replace("line 1, ", "")
}

/// The fields of a header line.
fn fields(line: &[u8], delimiter: u8) -> Vec<String> {
    let text = String::from_utf8_lossy(line);
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            letter if letter == char::from(delimiter) && !quoted => fields.push(std::mem::take(&mut field)),
            letter => field.push(letter),
        }
    }
    fields.push(field);
    fields.iter().map(|field| field.trim().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_may_be_quoted() {
        assert_eq!(fields(b"a, b ,\"c,d\",\"e\"\"f\",", b','), ["a", "b", "c,d", "e\"f", ""]);
    }
}

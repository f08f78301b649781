//! `format = 'json'`: one object a line, decoded as messages from Kafka are (`json.rs`).

use std::collections::BTreeMap;

use watershed_dialect::definition::SourceDefinition;

use super::folder::OneFile;
use super::lines::Lines;
use super::reader::{FileBatch, fill};
use crate::error::Result;
use crate::json::JsonDecode;
use crate::source::{Decode, FetchLimits};

/// The rest of a file of JSON lines.
pub(crate) struct JsonRows {
    lines: Lines,
    file: OneFile,
    decode: JsonDecode,
    row: u64,
}

impl JsonRows {
    /// Opens a file and goes to `row`.
    pub(crate) async fn open(file: OneFile, definition: &SourceDefinition, wanted: &[usize], row: u64) -> Result<Self> {
        let mut decode = JsonDecode::new(definition, wanted)?;
        decode.read_file(&file.entry.path);
        let mut lines = Lines::new(file.clone(), None);
        for _ in 0..row {
            lines.next().await?;
        }
        Ok(Self { lines, file, decode, row })
    }

    /// The next rows; `None` at the end.
    pub(crate) async fn next(&mut self, limits: FetchLimits) -> Result<Option<FileBatch>> {
        // A line that is too long is shown cut off, which is no JSON object either: the decoder refuses it.
        let raw = fill(&mut self.lines, &self.file, &mut self.row, limits, &mut BTreeMap::new()).await?;
        if raw.is_empty() {
            return Ok(None);
        }
        Ok(Some(FileBatch { decoded: self.decode.decode(&raw)?, records: raw.len(), bytes: raw.byte_len(), raw, columns: None }))
    }

    pub(crate) fn row(&self) -> u64 {
        self.row
    }
}

//! Reads a folder file by file, from a position on, and waits for new files at the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::Int64Array;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use tokio::runtime::Handle;
use watershed_dialect::definition::{Connector, Format, OnError, SourceDefinition};

use super::csv::CsvRows;
use super::folder::{Folder, OneFile};
use super::json_lines::JsonRows;
use super::lines::{Line, Lines};
use super::parquet::ParquetRows;
use super::shape::Shape;
use super::{PARTITION, Position, row_number};
use crate::clock::now_ms;
use crate::error::{IngestError, Result};
use crate::origin::{Origin, with_row_numbers};
use crate::quarantine::Quarantine;
use crate::reader::cut_at_first_refused;
use crate::source::{Decoded, FetchLimits, PartitionProgress, RawBatch, SourceBatch, SourceRead};

/// `Err` says why a file, or the rest of it, cannot be read: it will be no better the next time.
pub(crate) type Opened<T> = std::result::Result<T, String>;

/// Some rows of a file.
pub(crate) struct FileBatch {
    pub(crate) decoded: Decoded,
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    /// The rows as they are in the file: as text, or as columns.
    pub(crate) raw: RawBatch,
    pub(crate) columns: Option<RecordBatch>,
}

/// Reads a source of files. State: the position, and the file that is open.
pub(crate) struct FileReader {
    folder: Arc<Folder>,
    runtime: Handle,
    definition: SourceDefinition,
    wanted: Vec<usize>,
    schema: SchemaRef,
    poll_interval: Duration,
    position: Position,
    open: Option<(OneFile, Rows)>,
    /// Files in the ledger, as last heard.
    known: u64,
    looked: Instant,
    /// The row that must not be passed, once it was met: its file, its number, and why.
    barred: Option<(String, i64, String)>,
}

enum Rows {
    Csv(Box<CsvRows>),
    Json(Box<JsonRows>),
    Parquet(Box<ParquetRows>),
}

impl Rows {
    async fn open(file: OneFile, definition: &SourceDefinition, wanted: &[usize], row: u64) -> Result<Opened<Self>> {
        Ok(match &definition.format {
            Format::Csv { delimiter, header } => {
                CsvRows::open(file, definition, wanted, (*delimiter, *header), row).await?.map(|rows| Self::Csv(Box::new(rows)))
            }
            Format::Json => Ok(Self::Json(Box::new(JsonRows::open(file, definition, wanted, row).await?))),
            Format::Parquet => ParquetRows::open(file, definition, wanted, row).await?.map(|rows| Self::Parquet(Box::new(rows))),
        })
    }

    async fn next(&mut self, limits: FetchLimits) -> Result<Opened<Option<FileBatch>>> {
        match self {
            Self::Csv(rows) => Ok(Ok(rows.next(limits).await?)),
            Self::Json(rows) => Ok(Ok(rows.next(limits).await?)),
            Self::Parquet(rows) => rows.next().await,
        }
    }

    /// Rows of the file that were read.
    fn row(&self) -> u64 {
        match self {
            Self::Csv(rows) => rows.row(),
            Self::Json(rows) => rows.row(),
            Self::Parquet(rows) => rows.row(),
        }
    }
}

/// Takes lines up to `limits`, each a record whose offset follows from `row`. Those that are no lines are noted in `unreadable`.
pub(crate) async fn fill(
    lines: &mut Lines,
    file: &OneFile,
    row: &mut u64,
    limits: FetchLimits,
    unreadable: &mut BTreeMap<usize, String>,
) -> Result<RawBatch> {
    let mut raw = RawBatch { taken_ms: Some(now_ms()), ..RawBatch::new(PARTITION) };
    while raw.len() < limits.rows && raw.byte_len() < limits.bytes {
        let line = match lines.next().await? {
            None => break,
            Some(Line::Whole(line)) => line,
            Some(Line::Bad(line, why)) => {
                unreadable.insert(raw.len(), why.into());
                line
            }
        };
        let offset = Position { file: file.number, row: *row }.offset();
        raw.push(offset, file.entry.modified_ms, None, Some(lines.bytes(&line)));
        *row += 1;
    }
    Ok(raw)
}

impl FileReader {
    /// Blocks until the ledger was read.
    pub(crate) fn open(
        folder: Arc<Folder>,
        runtime: Handle,
        definition: &SourceDefinition,
        wanted: &[usize],
        position: Position,
    ) -> Result<Self> {
        let schema = Shape::new(definition, wanted)?.schema();
        runtime.block_on(folder.check(position.file + u64::from(position.row > 0)))?;
        let known = runtime.block_on(folder.known());
        let poll_interval = match &definition.connector {
            Connector::Files { poll_interval, .. } => *poll_interval,
            Connector::Kafka { .. } => Duration::from_secs(5),
        };
        let (definition, wanted) = (definition.clone(), wanted.to_vec());
        Ok(Self {
            folder,
            runtime,
            definition,
            wanted,
            schema,
            poll_interval,
            position,
            open: None,
            known,
            looked: Instant::now(),
            barred: None,
        })
    }

    /// Some rows, or the step to the next file, which has none.
    async fn turn(&mut self, limits: FetchLimits) -> Result<SourceBatch> {
        let (file, mut rows) = match self.open.take() {
            Some(open) => open,
            None => {
                let file = self.folder.file(self.position.file).await?;
                if let Some(why) = &file.entry.unreadable {
                    return self.give_up(&file, why);
                }
                match Rows::open(file.clone(), &self.definition, &self.wanted, self.position.row).await? {
                    Ok(rows) => (file, rows),
                    Err(why) => return self.give_up(&file, &why),
                }
            }
        };
        match rows.next(limits).await? {
            Ok(Some(batch)) => {
                self.position.row = rows.row();
                if self.position.row >= Position::ROWS_MAX {
                    return self.give_up(&file, "it has more rows than an offset can count");
                }
                self.open = Some((file.clone(), rows));
                self.batch(&file, batch)
            }
            Ok(None) => {
                self.position = Position { file: file.number + 1, row: 0 };
                let empty = Decoded {
                    rows: RecordBatch::new_empty(self.schema.clone()),
                    offsets: Int64Array::from(Vec::<i64>::new()),
                    quarantined: None,
                };
                self.batch(&file, FileBatch { decoded: empty, records: 0, bytes: 0, raw: RawBatch::new(PARTITION), columns: None })
            }
            Err(why) => self.give_up(&file, &why),
        }
    }

    /// Sets the rest of a file aside, as one row without a value.
    fn give_up(&mut self, file: &OneFile, why: &str) -> Result<SourceBatch> {
        let from = self.position.offset();
        self.position = Position { file: file.number + 1, row: 0 };
        let mut raw = RawBatch::new(PARTITION);
        raw.push(from, file.entry.modified_ms, None, None);
        let mut quarantine = Quarantine::default();
        quarantine.push(0, format!("from this row on the file cannot be read: {why}"));
        let quarantined = quarantine.finish(&self.definition.name, &file.entry.path, &raw)?;
        let rows = RecordBatch::new_empty(self.schema.clone());
        let decoded = Decoded { rows, offsets: Int64Array::from(Vec::<i64>::new()), quarantined };
        self.batch(file, FileBatch { decoded, records: 1, bytes: 0, raw, columns: None })
    }

    fn batch(&mut self, file: &OneFile, mut batch: FileBatch) -> Result<SourceBatch> {
        let (mut next_offset, mut records) = (self.position.offset(), batch.records);
        if self.definition.on_error == OnError::Fail
            && let Some((offset, reason)) = cut_at_first_refused(&mut batch.decoded)
        {
            (next_offset, records) = (offset, batch.raw.offsets.partition_point(|&known| known < offset));
            self.position = Position::from_offset(offset);
            self.barred = Some((file.entry.path.clone(), row_number(offset), reason));
        }
        if let Some(bad) = batch.decoded.quarantined.take() {
            batch.decoded.quarantined = Some(with_row_numbers(&bad)?);
        }
        Ok(SourceBatch {
            partition: PARTITION,
            next_offset,
            decoded: batch.decoded,
            append_time_ms_max: file.entry.modified_ms,
            records,
            tombstones: 0,
            bytes: batch.bytes,
            origin: Origin::of_file(&self.definition.name, &file.entry.path, batch.raw, batch.columns),
        })
    }

    /// Looks for new files if it is time to.
    fn look(&mut self) -> Result<()> {
        // Another pipeline over the same folder may have found some.
        self.known = self.runtime.block_on(self.folder.known());
        if self.known <= self.position.file && self.looked.elapsed() >= self.poll_interval {
            self.known = self.runtime.block_on(self.folder.look())?.files;
            self.looked = Instant::now();
        }
        Ok(())
    }
}

impl SourceRead for FileReader {
    fn poll(&mut self, limits: FetchLimits, timeout: Duration) -> Result<Vec<SourceBatch>> {
        if let Some((file, row, reason)) = self.barred.clone() {
            return Err(IngestError::BadFileRow { source_name: self.folder.source_name().into(), file, row, reason });
        }
        let deadline = Instant::now() + timeout;
        loop {
            if self.position.file < self.known {
                let runtime = self.runtime.clone();
                return Ok(vec![runtime.block_on(self.turn(limits))?]);
            }
            self.look()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if self.position.file >= self.known {
                if left.is_zero() {
                    return Ok(Vec::new());
                }
                std::thread::sleep(left);
            }
        }
    }

    fn progress(&mut self) -> Vec<PartitionProgress> {
        let next_offset = self.position.offset();
        // How many rows are left is not known: files are counted instead.
        let files_left = self.known.saturating_sub(self.position.file) as i64;
        vec![PartitionProgress { partition: PARTITION, next_offset, high_watermark: Some(next_offset + files_left) }]
    }
}

//! Record batches to Parquet files under a table's folder. Nobody sees the files until a commit names them.
//!
//! Rows are split by partition value; each partition has one open file, encoded in memory and uploaded when it is
//! closed: at its target size, when too many files or bytes are open (the biggest goes first), or at the end.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use uuid::Uuid;
use watershed_message::Message;

use crate::TableName;
use crate::access::Access;
use crate::clock;
use crate::commit::StagedFile;
use crate::error::{LakeError, Result};
use crate::evolve::evolved;
use crate::files::Layout;
use crate::limits;
use crate::log::ENGINE;
use crate::partition::{self, Values, refused_partition_value};
use crate::row_width::RowWidth;
use crate::stats::Collector;

const OWN_ENDING: &str = ".zstd.parquet";
const UUID_CHARS: usize = 36;

/// Writes rows to new data files of one table. Dropped without [`TableWriter::finish`], it leaves files that no
/// commit names: harmless, removed by vacuum.
pub struct TableWriter {
    target: Target,
    open: HashMap<Values, OpenFile>,
    staged: Vec<StagedFile>,
    limits: WriterLimits,
}

/// When files are closed; all of it lowered by tests.
#[derive(Debug, Clone, Copy)]
pub struct WriterLimits {
    /// Files open at once.
    pub open_files: usize,
    /// Encoded bytes in memory.
    pub buffered_bytes: usize,
    /// Size at which a file is closed.
    pub file_bytes: usize,
}

impl Default for WriterLimits {
    fn default() -> Self {
        Self { open_files: limits::OPEN_FILES_MAX, buffered_bytes: limits::BUFFERED_BYTES_MAX, file_bytes: limits::FILE_BYTES_TARGET }
    }
}

/// What stays the same for all files of a writer.
struct Target {
    access: Access,
    table: TableName,
    folder: Path,
    layout: Arc<Layout>,
    properties: WriterProperties,
    collector: Collector,
    hint: String,
}

struct OpenFile {
    writer: ArrowWriter<Vec<u8>>,
    collector: Collector,
    bytes: usize,
}

impl TableWriter {
    pub(crate) fn new(access: Access, table: TableName, folder: Path, layout: Arc<Layout>, hint: &str) -> Self {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap_or_default()))
            .set_dictionary_enabled(true)
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_statistics_truncate_length(Some(limits::STATISTICS_BYTES))
            .set_max_row_group_row_count(Some(limits::ROW_GROUP_ROWS))
            .set_max_row_group_bytes(Some(limits::ROW_GROUP_BYTES))
            .set_created_by(ENGINE.to_owned())
            .build();
        let hint = hint.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).take(40).collect();
        let collector = Collector::new(&layout.file_schema);
        let target = Target { access, table, folder, layout, properties, collector, hint };
        Self { target, open: HashMap::new(), staged: Vec::new(), limits: WriterLimits::default() }
    }

    /// Closes files at other sizes than the defaults of [`limits`].
    pub fn with_limits(mut self, limits: WriterLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Adds rows. Columns are matched by name and cast to the table's types; a nullable column may be missing.
    /// Uploads while it has too much in memory, so a slow store slows the caller down.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let (stored, partition_columns) = self.target.conform(&batch)?;
        if partition_columns.is_empty() {
            return self.append(Values::new(), &stored).await;
        }
        self.target.check_partition_values(&partition_columns)?;
        let parts = partition::split(&stored, &partition_columns).map_err(|error| self.target.bad_rows(error.to_string()))?;
        for (values, part) in parts {
            self.append(values, &part).await?;
        }
        Ok(())
    }

    /// Bytes of encoded rows in memory, not yet uploaded.
    pub fn buffered_bytes(&self) -> usize {
        self.open.values().map(|file| file.bytes).sum()
    }

    /// The files closed so far.
    pub(crate) fn staged(&self) -> &[StagedFile] {
        &self.staged
    }

    /// Closes and uploads what is open and names all files written, ready for [`crate::Commit`].
    pub async fn finish(mut self) -> Result<Vec<StagedFile>> {
        let mut open = self.open.drain().collect::<Vec<_>>();
        open.sort_by(|left, right| left.0.cmp(&right.0));
        let target = &self.target;
        let uploads = open.into_iter().map(|(values, file)| target.close(values, file));
        let last: Vec<StagedFile> = futures::stream::iter(uploads).buffered(limits::UPLOADS_AT_ONCE).try_collect().await?;
        self.staged.extend(last);
        Ok(self.staged)
    }

    async fn append(&mut self, values: Values, rows: &RecordBatch) -> Result<()> {
        if !self.open.contains_key(&values) && self.open.len() >= self.limits.open_files {
            self.close_biggest().await?;
        }
        let file = match self.open.get_mut(&values) {
            Some(file) => file,
            None => {
                let file = self.target.open()?;
                self.open.entry(values.clone()).or_insert(file)
            }
        };
        file.writer.write(&file.collector.take(rows)).map_err(|source| self.target.encode(source))?;
        file.bytes = file.writer.memory_size() + file.writer.inner().len();
        if file.writer.inner().len() + file.writer.in_progress_size() >= self.limits.file_bytes {
            self.close(&values).await?;
        }
        while self.buffered_bytes() > self.limits.buffered_bytes {
            self.close_biggest().await?;
        }
        Ok(())
    }

    async fn close_biggest(&mut self) -> Result<()> {
        let biggest = self.open.iter().max_by_key(|(_, file)| file.bytes).map(|(values, _)| values.clone());
        match biggest {
            Some(values) => self.close(&values).await,
            None => Ok(()),
        }
    }

    async fn close(&mut self, values: &Values) -> Result<()> {
        if let Some(file) = self.open.remove(values) {
            let staged = self.target.close(values.clone(), file).await?;
            self.staged.push(staged);
        }
        Ok(())
    }
}

impl Target {
    fn open(&self) -> Result<OpenFile> {
        let schema = self.layout.file_schema.clone();
        let writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options(self.properties.clone()))
            .map_err(|source| self.encode(source))?;
        Ok(OpenFile { writer, collector: self.collector.clone(), bytes: 0 })
    }

    async fn close(&self, values: Values, mut file: OpenFile) -> Result<StagedFile> {
        let footer = file.writer.finish().map_err(|source| self.encode(source))?;
        let rows = footer.file_metadata().num_rows();
        let stats = file.collector.finish(&footer);
        let mut bytes = Bytes::from(std::mem::take(file.writer.inner_mut()));
        let unbounded = file.collector.unbounded();
        if !unbounded.is_empty() {
            bytes = self.without_bounds(bytes, unbounded).map_err(|source| self.encode(source))?;
        }

        let columns = self.layout.partition_fields.iter().map(|field| field.name().as_str());
        let hint = if self.hint.is_empty() { String::new() } else { format!("{}-", self.hint) };
        let name = format!("{}part-{hint}{}{OWN_ENDING}", partition::folder(columns.clone(), &values), Uuid::new_v4());
        let path = below(&self.folder, &name)?;
        self.access.put_own(&path, &bytes).await?;
        Ok(StagedFile {
            path: name,
            size_bytes: bytes.len() as u64,
            rows: u64::try_from(rows).unwrap_or(0),
            partition_values: columns.map(str::to_owned).zip(values).collect::<BTreeMap<_, _>>(),
            stats,
            modified_ms: clock::now().timestamp_millis(),
        })
    }

    /// The same file without Parquet's bounds of some columns. Readers would skip rows by them that SQL wants: Parquet
    /// ignores NaN, SQL orders it above all numbers. NaN is rare, so files are written with bounds first.
    fn without_bounds(&self, bytes: Bytes, columns: Vec<ColumnPath>) -> std::result::Result<Bytes, ParquetError> {
        let mut properties = self.properties.clone().into_builder();
        for column in columns {
            properties = properties.set_column_statistics_enabled(column, EnabledStatistics::None);
        }
        let mut writer = ArrowWriter::try_new_with_options(Vec::new(), self.layout.file_schema.clone(), options(properties.build()))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
        let rows = RowWidth::of(reader.metadata()).rows_in(limits::BATCH_BYTES_MAX, limits::REWRITE_ROWS);
        for batch in reader.with_batch_size(rows).build()? {
            writer.write(&batch?)?;
        }
        Ok(Bytes::from(writer.into_inner()?))
    }

    /// The stored columns of the rows, and their partition columns, both as the table has them.
    fn conform(&self, batch: &RecordBatch) -> Result<(RecordBatch, Vec<ArrayRef>)> {
        if let Some(field) = batch.schema_ref().fields().iter().find(|field| self.layout.schema.index_of(field.name()).is_err()) {
            return Err(self.bad_rows(format!("they have a column '{}' that the table has not", field.name())));
        }
        let column = |name: &str| -> Result<ArrayRef> {
            let field = self.layout.schema.field_with_name(name).map_err(|error| self.bad_rows(error.to_string()))?;
            let array = match batch.column_by_name(name) {
                Some(array) => evolved(array, field.data_type()).map_err(|error| self.bad_rows(format!("column '{name}': {error}")))?,
                None => new_null_array(field.data_type(), batch.num_rows()),
            };
            if !field.is_nullable() && array.null_count() > 0 {
                return Err(self.bad_rows(format!("column '{name}' is NOT NULL, but {} rows have no value", array.null_count())));
            }
            Ok(array)
        };
        let stored = self.layout.file_schema.fields().iter().map(|field| column(field.name())).collect::<Result<Vec<_>>>()?;
        let partition = self.layout.partition_fields.iter().map(|field| column(field.name())).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let stored = RecordBatch::try_new_with_options(self.layout.file_schema.clone(), stored, &options)
            .map_err(|error| self.bad_rows(error.to_string()))?;
        Ok((stored, partition))
    }

    fn check_partition_values(&self, columns: &[ArrayRef]) -> Result<()> {
        for (field, column) in self.layout.partition_fields.iter().zip(columns) {
            if let Some((_, why)) = refused_partition_value(column) {
                let name = field.name();
                let way_out = "leave such rows out, give them another value, or do not partition by it";
                return Err(self.bad_rows(Message::new(format!("column '{name}'")).why(why).next(way_out)));
            }
        }
        Ok(())
    }

    fn bad_rows(&self, reason: impl Into<Message>) -> LakeError {
        LakeError::BadRows { table: self.table.clone(), reason: Box::new(reason.into()) }
    }

    fn encode(&self, source: ParquetError) -> LakeError {
        LakeError::Encode { table: self.table.clone(), source }
    }
}

/// Types are the table's: a note of Arrow's in each file would say them again.
fn options(properties: WriterProperties) -> ArrowWriterOptions {
    ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true)
}

/// Whether this program has written a file: others end its name in the number of a task, such as `-c000.zstd.parquet`.
pub(crate) fn is_own_name(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let Some(start) = name.strip_prefix("part-").and_then(|rest| rest.strip_suffix(OWN_ENDING)) else { return false };
    start.len().checked_sub(UUID_CHARS).and_then(|at| start.get(at..)).is_some_and(|id| Uuid::try_parse(id).is_ok())
}

/// The store's path of a file named relative to a table's folder.
pub(crate) fn below(folder: &Path, relative: &str) -> Result<Path> {
    Path::parse(format!("{folder}/{relative}"))
        .map_err(|error| LakeError::Damaged { path: format!("{folder}/{relative}"), reason: error.to_string() })
}

//! The live data files of a table at one version, with their statistics in columns.
//!
//! Files are kept in chunks that never change once made: a commit adds a small chunk, so following a table costs
//! what the new commits hold, not what the table holds. Small chunks are merged now and then.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StructArray};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type, Schema, SchemaRef};
use arrow::json::ReaderBuilder;
use datafusion::common::ScalarValue;

use crate::TableName;
use crate::encoding;
use crate::error::{LakeError, Result};
use crate::limits::FILES_PER_CHUNK;
use crate::log::Add;
use crate::partition;
use crate::writer::is_own_name;

/// Chunks smaller than this are merged once there are as many of them.
const SMALL_CHUNK: usize = 64;

/// How the columns of a table are laid out: which are stored in files, which are partition values.
#[derive(Debug)]
pub(crate) struct Layout {
    /// All columns in the order of the table.
    pub(crate) schema: SchemaRef,
    /// The columns stored in data files.
    pub(crate) file_schema: SchemaRef,
    /// The columns stored as partition values, in the order of the partitioning.
    pub(crate) partition_fields: Vec<FieldRef>,
    statistics_schema: SchemaRef,
}

impl Layout {
    pub(crate) fn new(schema: SchemaRef, partition_columns: &[String]) -> Option<Self> {
        let partition_fields = partition_columns
            .iter()
            .map(|column| schema.field_with_name(column).ok().map(|field| Arc::new(field.clone())))
            .collect::<Option<Vec<_>>>()?;
        let stored = schema.fields().iter().filter(|field| !partition_columns.contains(field.name())).cloned().collect::<Fields>();
        let bounds = stored.iter().filter(|field| has_bounds(field.data_type()));
        let bounds = bounds.map(|field| Field::new(field.name(), field.data_type().clone(), true)).collect::<Fields>();
        let counts = stored.iter().filter(|field| !matches!(field.data_type(), DataType::Struct(_)));
        let counts = counts.map(|field| Field::new(field.name(), DataType::Int64, true)).collect::<Fields>();
        let statistics_schema = Arc::new(Schema::new(vec![
            Field::new("numRecords", DataType::Int64, true),
            Field::new("minValues", DataType::Struct(bounds.clone()), true),
            Field::new("maxValues", DataType::Struct(bounds), true),
            Field::new("nullCount", DataType::Struct(counts), true),
        ]));
        Some(Self { schema, file_schema: Arc::new(Schema::new(stored)), partition_fields, statistics_schema })
    }
}

fn has_bounds(data_type: &DataType) -> bool {
    data_type.is_numeric() || matches!(data_type, DataType::Utf8 | DataType::Date32 | DataType::Timestamp(_, _))
}

/// One live file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DataFile {
    /// Relative to the table's folder, decoded.
    pub(crate) path: String,
    pub(crate) size_bytes: u64,
    pub(crate) modified_ms: i64,
    /// In the order of the partitioning.
    pub(crate) partition: Vec<ScalarValue>,
    pub(crate) has_deletion_vector: bool,
    /// This program has written it.
    pub(crate) is_own: bool,
}

/// Files and their statistics, row by row in `statistics`.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) files: Vec<DataFile>,
    statistics: RecordBatch,
}

impl Chunk {
    fn new(table: &TableName, layout: &Layout, adds: &[Add]) -> Result<Self> {
        let files = adds.iter().map(|add| data_file(table, layout, add)).collect::<Result<Vec<_>>>()?;
        let texts = adds.iter().map(|add| add.stats.as_deref()).collect::<Vec<_>>();
        Ok(Self { files, statistics: parse_statistics(&layout.statistics_schema, &texts) })
    }

    /// Rows per file, null where unknown.
    pub(crate) fn rows(&self) -> &Int64Array {
        self.statistics.column(0).as_primitive::<Int64Type>()
    }

    /// Lower bounds of a stored column, null where unknown.
    pub(crate) fn lower(&self, column: &str) -> Option<ArrayRef> {
        flat(self.statistics.column(1).as_struct(), column)
    }

    /// Upper bounds of a stored column as they are written in the log, null where unknown.
    pub(crate) fn upper(&self, column: &str) -> Option<ArrayRef> {
        flat(self.statistics.column(2).as_struct(), column)
    }

    /// Nulls of a stored column per file, null where unknown.
    pub(crate) fn nulls(&self, column: &str) -> Option<ArrayRef> {
        flat(self.statistics.column(3).as_struct(), column)
    }

    fn without(&self, removed: &HashSet<&str>) -> Option<Self> {
        let kept = self.files.iter().map(|file| !removed.contains(file.path.as_str())).collect::<Vec<_>>();
        if kept.iter().all(|kept| *kept) {
            return None;
        }
        let files = self.files.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(file, _)| file.clone()).collect();
        let mask = BooleanArray::from(kept);
        let statistics = filter_record_batch(&self.statistics, &mask).expect("the mask is as long as the batch it was made from");
        Some(Self { files, statistics })
    }
}

/// The live files of one version.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileSet {
    pub(crate) chunks: Vec<Arc<Chunk>>,
}

impl FileSet {
    pub(crate) fn new(table: &TableName, layout: &Layout, adds: &[Add]) -> Result<Self> {
        let chunks = adds.chunks(FILES_PER_CHUNK).map(|adds| Chunk::new(table, layout, adds).map(Arc::new));
        Ok(Self { chunks: chunks.collect::<Result<_>>()? })
    }

    pub(crate) fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.files.len()).sum()
    }

    /// All files, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &DataFile> {
        self.chunks.iter().flat_map(|chunk| &chunk.files)
    }

    /// All files, in no order, each with its rows where it says them.
    pub(crate) fn with_rows(&self) -> impl Iterator<Item = (&DataFile, Option<u64>)> {
        let rows = |rows: Option<i64>| rows.and_then(|rows| u64::try_from(rows).ok());
        self.chunks.iter().flat_map(move |chunk| chunk.files.iter().zip(chunk.rows().iter().map(rows)))
    }

    /// Whether all of `files` are live and as they were.
    pub(crate) fn hold<'a>(&self, files: impl Iterator<Item = &'a DataFile>) -> bool {
        let wanted = files.map(|file| (file.path.as_str(), file)).collect::<HashMap<_, _>>();
        self.iter().filter(|file| wanted.get(file.path.as_str()).is_some_and(|wanted| wanted == file)).count() == wanted.len()
    }

    /// Files about which nothing is known but their rows.
    #[cfg(test)]
    pub(crate) fn of(files: impl Iterator<Item = (DataFile, i64)>) -> Self {
        let (files, rows): (_, Vec<i64>) = files.unzip();
        let statistics = RecordBatch::try_from_iter([("numRecords", Arc::new(Int64Array::from(rows)) as ArrayRef)]).unwrap();
        Self { chunks: vec![Arc::new(Chunk { files, statistics })] }
    }

    /// Follows one commit. Within one commit a file is either added or removed.
    pub(crate) fn apply(&mut self, table: &TableName, layout: &Layout, adds: &[Add], removed: &HashSet<&str>) -> Result<()> {
        // An add for a path that is already live replaces it (statistics recomputed, deletion vector added). Such commits
        // change no data or remove something; plain appends, the common case, need not look at the files there are.
        let may_replace = !removed.is_empty() || adds.iter().any(|add| !add.data_change);
        let added = adds.iter().map(|add| encoding::from_uri(&add.path)).collect::<Vec<_>>();
        let gone = removed.iter().copied().chain(added.iter().map(String::as_str)).collect::<HashSet<_>>();
        if may_replace {
            self.remove(&gone);
        }
        if !adds.is_empty() {
            self.chunks.push(Arc::new(Chunk::new(table, layout, adds)?));
            self.merge_small();
        }
        Ok(())
    }

    fn remove(&mut self, gone: &HashSet<&str>) {
        for chunk in &mut self.chunks {
            if let Some(rest) = chunk.without(gone) {
                *chunk = Arc::new(rest);
            }
        }
        self.chunks.retain(|chunk| !chunk.files.is_empty());
    }

    /// Small chunks become medium ones, medium ones large ones, so that there are never many and each file is
    /// copied twice.
    fn merge_small(&mut self) {
        for (limit, enough) in [(SMALL_CHUNK, SMALL_CHUNK), (FILES_PER_CHUNK, 2 * SMALL_CHUNK)] {
            let small = self.chunks.iter().rev().take_while(|chunk| chunk.files.len() < limit).count();
            if small < enough {
                continue;
            }
            let tail = self.chunks.split_off(self.chunks.len() - small);
            let schema = tail[0].statistics.schema();
            let batches = tail.iter().map(|chunk| &chunk.statistics);
            let statistics = concat_batches(&schema, batches).expect("all chunks of a table have one statistics schema");
            let files = tail.iter().flat_map(|chunk| chunk.files.iter().cloned()).collect();
            self.chunks.push(Arc::new(Chunk { files, statistics }));
        }
    }
}

fn data_file(table: &TableName, layout: &Layout, add: &Add) -> Result<DataFile> {
    let path = encoding::from_uri(&add.path);
    if is_elsewhere(&path) {
        return Err(LakeError::Unsupported {
            table: table.clone(),
            action: "read",
            feature: format!("data files outside its folder ({path})"),
            hint: "copy the table instead of cloning it shallowly",
        });
    }
    let partition = layout.partition_fields.iter().map(|field| {
        let text = add.partition_values.get(field.name()).and_then(Option::as_deref);
        partition::of_file(text, field).map_err(|reason| LakeError::Damaged { path: path.clone(), reason })
    });
    Ok(DataFile {
        partition: partition.collect::<Result<_>>()?,
        size_bytes: u64::try_from(add.size).unwrap_or(0),
        modified_ms: add.modification_time,
        is_own: is_own_name(&path),
        has_deletion_vector: add.deletion_vector.as_ref().is_some_and(|vector| !vector.is_null()),
        path,
    })
}

/// Whether a path of the log does not begin in the table's folder: `s3://…`, `dbfs:/…`, `/mnt/…`.
fn is_elsewhere(path: &str) -> bool {
    let is_scheme = |text: &str| {
        let mut letters = text.chars();
        letters.next().is_some_and(|first| first.is_ascii_alphabetic())
            && letters.all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.'))
    };
    path.starts_with('/') || path.split_once(":/").is_some_and(|(before, _)| is_scheme(before))
}

/// Statistics are hints: a text that cannot be read counts as none, for that file alone.
fn parse_statistics(schema: &SchemaRef, texts: &[Option<&str>]) -> RecordBatch {
    decode(schema, texts).unwrap_or_else(|| {
        let single = texts.iter().map(|text| decode(schema, &[*text]).or_else(|| decode(schema, &[None])));
        let batches = single.map(|batch| batch.expect("an empty object decodes under any schema of nullable columns")).collect::<Vec<_>>();
        concat_batches(schema, &batches).expect("the batches have the schema they were decoded with")
    })
}

fn decode(schema: &SchemaRef, texts: &[Option<&str>]) -> Option<RecordBatch> {
    if texts.is_empty() {
        return Some(RecordBatch::new_empty(schema.clone()));
    }
    let mut decoder = ReaderBuilder::new(schema.clone()).with_batch_size(texts.len()).build_decoder().ok()?;
    for text in texts {
        let bytes = text.unwrap_or("{}").as_bytes();
        if decoder.decode(bytes).ok()? != bytes.len() {
            return None;
        }
        // Objects need no separator, but a number cut off at the end of a damaged text would run into the next.
        decoder.decode(b"\n").ok()?;
    }
    decoder.flush().ok()?.filter(|batch| batch.num_rows() == texts.len())
}

/// A child of a struct with the struct's own nulls applied.
fn flat(parent: &StructArray, column: &str) -> Option<ArrayRef> {
    let child = parent.column_by_name(column)?;
    let Some(nulls) = parent.nulls() else { return Some(child.clone()) };
    let absent = BooleanArray::new(!nulls.inner(), None);
    arrow::compute::nullif(child, &absent).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn add(path: &str, stats: Option<&str>) -> Add {
        Add {
            path: path.to_owned(),
            partition_values: BTreeMap::new(),
            size: 10,
            modification_time: 0,
            data_change: true,
            stats: stats.map(str::to_owned),
            deletion_vector: None,
        }
    }

    #[test]
    fn follows_commits_and_survives_bad_statistics() {
        let table: TableName = "s.t".parse().unwrap();
        let fields = vec![Field::new("n", DataType::Int64, true), Field::new("d", DataType::Decimal128(20, 2), true)];
        let layout = Layout::new(Arc::new(Schema::new(fields)), &[]).unwrap();
        let good = r#"{"numRecords":3,"minValues":{"n":1,"d":123456789012345678.91},"maxValues":{"n":9},"nullCount":{"n":0}}"#;
        let mut files = FileSet::new(&table, &layout, &[add("a", Some(good)), add("b", None), add("c", Some("{nonsense"))]).unwrap();
        let chunk = &files.chunks[0];
        assert_eq!(chunk.rows().iter().collect::<Vec<_>>(), vec![Some(3), None, None]);
        let lowest = ScalarValue::try_from_array(&chunk.lower("d").unwrap(), 0).unwrap();
        assert_eq!(lowest, ScalarValue::Decimal128(Some(12_345_678_901_234_567_891), 20, 2));

        for index in 0..10_000 {
            files.apply(&table, &layout, &[add(&format!("f{index}"), Some(good))], &HashSet::new()).unwrap();
        }
        assert_eq!(files.len(), 10_003);
        assert!(files.chunks.len() < 200, "{}", files.chunks.len());
        files.apply(&table, &layout, &[], &HashSet::from(["b", "f9150"])).unwrap();
        assert_eq!(files.len(), 10_001);
        assert!(files.chunks.iter().all(|chunk| chunk.files.len() == chunk.rows().len()));
    }

    #[test]
    fn names_may_hold_what_begins_an_address() {
        for path in ["part-0.parquet", "at=10:/0.parquet", "1:/0.parquet", ":/0.parquet", "c:0.parquet"] {
            assert!(!is_elsewhere(path), "{path}");
        }
    }

    /// A handle that follows a table for long holds what is live, in few chunks, however often files were merged.
    #[test]
    fn what_compactions_replace_is_let_go() {
        let table: TableName = "s.t".parse().unwrap();
        let layout = Layout::new(Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)])), &[]).unwrap();
        let mut files = FileSet::default();
        let mut small = Vec::new();
        for index in 0..20_000 {
            let name = format!("f{index}");
            files.apply(&table, &layout, &[add(&name, None)], &HashSet::new()).unwrap();
            small.push(name);
            if small.len() == 40 {
                let merged = Add { data_change: false, ..add(&format!("m{index}"), None) };
                let gone = std::mem::take(&mut small);
                files.apply(&table, &layout, &[merged], &gone.iter().map(String::as_str).collect()).unwrap();
            }
        }
        assert_eq!(files.len(), 500);
        assert!(files.chunks.len() < 200, "{}", files.chunks.len());
        assert!(files.chunks.iter().all(|chunk| chunk.files.len() == chunk.statistics.num_rows()));
    }
}

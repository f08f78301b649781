//! Reads checkpoints of a Delta log: in one file, in several parts, or with sidecars.
//!
//! They are Parquet that others may have written, so everything in them may be missing, and the reader may panic over bytes that are damaged:
//! both are an error that names the file.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Int64Type};
use arrow::json::LineDelimitedWriter;
use bytes::Bytes;
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use crate::access::Access;
use crate::error::{LakeError, Result};
use crate::log::{self, Action, Add, Remove, log_folder};

/// What a reader of the log is after. Protocol and metadata are always read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    pub(crate) files: bool,
    pub(crate) removed: bool,
    pub(crate) transactions: bool,
}

/// Rows decoded at once.
const BATCH_ROWS: usize = 8192;

/// The actions of a checkpoint that consists of these files.
pub(crate) async fn read(access: &Access, folder: &Path, parts: &[Path], wanted: Wanted) -> Result<Vec<Action>> {
    let mut actions = Vec::new();
    let mut sidecars = Vec::new();
    for path in parts {
        let bytes = bytes(access, path).await?;
        if path.extension() == Some("json") {
            actions.extend(log::parse(path, &bytes)?);
            sidecars.extend(sidecars_of(&bytes));
        } else {
            let (more, named) = parse(path, bytes, wanted)?;
            actions.extend(more);
            sidecars.extend(named);
        }
    }
    if wanted.files || wanted.removed {
        for name in sidecars {
            let path = log_folder(folder).join("_sidecars").join(name);
            let bytes = bytes(access, &path).await?;
            actions.extend(parse(&path, bytes, wanted)?.0);
        }
    }
    Ok(actions)
}

async fn bytes(access: &Access, path: &Path) -> Result<Bytes> {
    let found = access.get(path).await?;
    found.map(|found| found.bytes).ok_or_else(|| LakeError::Damaged { path: path.to_string(), reason: "it is missing".to_owned() })
}

/// The files that a checkpoint of JSON lines names.
fn sidecars_of(lines: &[u8]) -> Vec<String> {
    let lines = lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    lines.filter_map(|line| Some(line.get("sidecar")?.get("path")?.as_str()?.to_owned())).collect()
}

fn parse(path: &Path, bytes: Bytes, wanted: Wanted) -> Result<(Vec<Action>, Vec<String>)> {
    let damaged = |reason: String| LakeError::Damaged { path: path.to_string(), reason };
    match catch_unwind(AssertUnwindSafe(|| decode(path, bytes, wanted))) {
        Ok(Ok(parsed)) => parsed,
        Ok(Err(error)) => Err(damaged(error.to_string())),
        Err(_) => Err(damaged("its bytes make no sense".to_owned())),
    }
}

type Parsed = Result<(Vec<Action>, Vec<String>)>;

/// The outer error is that of the Parquet file.
fn decode(path: &Path, bytes: Bytes, wanted: Wanted) -> parquet::errors::Result<Parsed> {
    // Arrow's own schema, where there is one, could ask for other types than those that are looked for here.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options)?;
    let is_wanted = |column: &str| match column.split('.').collect::<Vec<_>>().as_slice() {
        ["protocol" | "metaData", ..] | ["sidecar", "path"] => true,
        ["txn", ..] => wanted.transactions,
        ["add", "path" | "partitionValues" | "size" | "modificationTime" | "stats" | "deletionVector", ..] => wanted.files,
        ["remove", "path" | "deletionTimestamp", ..] => wanted.removed,
        _ => false,
    };
    let leaves = builder.parquet_schema().columns().iter().enumerate();
    let leaves = leaves.filter(|(_, leaf)| is_wanted(&leaf.path().string())).map(|(index, _)| index).collect::<Vec<_>>();
    let mask = ProjectionMask::leaves(builder.parquet_schema(), leaves);
    let (mut actions, mut sidecars) = (Vec::new(), Vec::new());
    for batch in builder.with_projection(mask).with_batch_size(BATCH_ROWS).build()? {
        let batch = batch?;
        if let Some(adds) = group(&batch, "add") {
            actions.extend(rows(adds).filter_map(|row| add(adds, row)).map(|add| Action { add: Some(add), ..Action::default() }));
        }
        if let Some(removes) = group(&batch, "remove") {
            let removes = rows(removes).filter_map(|row| remove(removes, row));
            actions.extend(removes.map(|remove| Action { remove: Some(remove), ..Action::default() }));
        }
        if let Some(named) = group(&batch, "sidecar") {
            sidecars.extend(rows(named).filter_map(|row| text(named, "path", row)));
        }
        match others(path, &batch) {
            Ok(others) => actions.extend(others),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok((actions, sidecars)))
}

fn group<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a StructArray> {
    batch.column_by_name(name)?.as_struct_opt()
}

fn rows(group: &StructArray) -> impl Iterator<Item = usize> + '_ {
    (0..group.len()).filter(|row| group.is_valid(*row))
}

fn text(group: &StructArray, name: &str, row: usize) -> Option<String> {
    let texts: &StringArray = group.column_by_name(name)?.as_string_opt()?;
    texts.is_valid(row).then(|| texts.value(row).to_owned())
}

fn number(group: &StructArray, name: &str, row: usize) -> Option<i64> {
    let numbers: &Int64Array = group.column_by_name(name)?.as_primitive_opt::<Int64Type>()?;
    numbers.is_valid(row).then(|| numbers.value(row))
}

fn add(group: &StructArray, row: usize) -> Option<Add> {
    let is_there = |name: &str| group.column_by_name(name).is_some_and(|column| column.is_valid(row));
    Some(Add {
        path: text(group, "path", row)?,
        partition_values: pairs(group, "partitionValues", row),
        size: number(group, "size", row).unwrap_or_default(),
        modification_time: number(group, "modificationTime", row).unwrap_or_default(),
        data_change: true,
        stats: text(group, "stats", row),
        deletion_vector: is_there("deletionVector").then_some(serde_json::Value::Bool(true)),
    })
}

fn remove(group: &StructArray, row: usize) -> Option<Remove> {
    let path = text(group, "path", row)?;
    Some(Remove { path, deletion_timestamp: number(group, "deletionTimestamp", row), data_change: false, size: None })
}

fn pairs(group: &StructArray, name: &str, row: usize) -> BTreeMap<String, Option<String>> {
    let Some(map) = group.column_by_name(name).and_then(|column| column.as_map_opt()).filter(|map| map.is_valid(row)) else {
        return BTreeMap::new();
    };
    let entries = map.value(row);
    let (Some(keys), Some(values)) = (entries.column(0).as_string_opt::<i32>(), entries.column(1).as_string_opt::<i32>()) else {
        return BTreeMap::new();
    };
    keys.iter().zip(values).filter_map(|(key, value)| Some((key?.to_owned(), value.map(str::to_owned)))).collect()
}

/// Protocol, metadata and transactions: few, and of more parts, so they go by way of the JSON that commits have.
fn others(path: &Path, batch: &RecordBatch) -> Result<Vec<Action>> {
    let damaged = |error: arrow::error::ArrowError| LakeError::Damaged { path: path.to_string(), reason: error.to_string() };
    let names = ["protocol", "metaData", "txn"];
    let columns = names.iter().filter_map(|name| batch.schema().index_of(name).ok()).collect::<Vec<_>>();
    let batch = batch.project(&columns).map_err(damaged)?;
    if batch.num_columns() == 0 {
        return Ok(Vec::new());
    }
    let is_any = |row: usize| batch.columns().iter().any(|column| !matches!(column.data_type(), DataType::Null) && column.is_valid(row));
    let mask = (0..batch.num_rows()).map(|row| Some(is_any(row))).collect();
    let some = filter_record_batch(&batch, &mask).map_err(damaged)?;
    let mut lines = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut lines);
    writer.write(&some).and_then(|()| writer.finish()).map_err(damaged)?;
    drop(writer);
    log::parse(path, &lines)
}

//! Reads a Delta table without our code, and without delta-rs: the log as JSON, the files as Parquet. Whatever a correct
//! table must be is asserted on the way: log without gaps, transactions that rise, every file there and named once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

/// A table at its newest version.
#[derive(Debug)]
pub struct DeltaTable {
    folder: PathBuf,
    /// The newest version.
    pub version: i64,
    /// Live files: path below the folder, partition values, rows as the statistics say.
    pub files: BTreeMap<String, DataFile>,
    /// Application transactions in log order: id and version.
    pub transactions: Vec<(String, i64)>,
}

/// One `add` of the log.
#[derive(Debug, Clone)]
pub struct DataFile {
    pub partition_values: BTreeMap<String, Option<String>>,
    pub rows_by_statistics: Option<u64>,
}

/// A row as text: its columns by name, as JSON. Equal rows have equal text.
pub type Row = String;

impl DeltaTable {
    /// True if a table is there.
    pub fn exists(warehouse: &Path, name: &str) -> bool {
        Self::folder_of(warehouse, name).join("_delta_log").is_dir()
    }

    /// The table `schema.name` of a warehouse in a local folder.
    pub fn open(warehouse: &Path, name: &str) -> Self {
        let folder = Self::folder_of(warehouse, name);
        let log = folder.join("_delta_log");
        let mut versions = BTreeSet::new();
        for entry in std::fs::read_dir(&log).unwrap_or_else(|e| panic!("{}: {e}", log.display())) {
            let file_name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
            if let Some(version) = file_name.strip_suffix(".json").and_then(|stem| stem.parse::<i64>().ok()) {
                versions.insert(version);
            }
        }
        let version = *versions.last().unwrap_or_else(|| panic!("{} holds no commit", log.display()));
        let whole: BTreeSet<i64> = (0..=version).collect();
        assert_eq!(versions, whole, "the log of {name} has gaps");

        let mut table = Self { folder, version, files: BTreeMap::new(), transactions: Vec::new() };
        let mut ever = BTreeSet::new();
        let mut newest: BTreeMap<String, i64> = BTreeMap::new();
        for commit in 0..=version {
            let path = log.join(format!("{commit:020}.json"));
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            for line in text.lines() {
                let action: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: {e}: {line}", path.display()));
                if let Some(add) = action.get("add") {
                    let file = add["path"].as_str().expect("add.path").to_string();
                    assert!(ever.insert(file.clone()), "{name} version {commit} adds {file} a second time");
                    table.files.insert(file, DataFile::from_add(add));
                } else if let Some(remove) = action.get("remove") {
                    table.files.remove(remove["path"].as_str().expect("remove.path"));
                } else if let Some(txn) = action.get("txn") {
                    let id = txn["appId"].as_str().expect("txn.appId").to_string();
                    let number = txn["version"].as_i64().expect("txn.version");
                    if let Some(before) = newest.insert(id.clone(), number) {
                        assert!(before < number, "{name} version {commit}: transaction {id} goes from {before} to {number}");
                    }
                    table.transactions.push((id, number));
                }
            }
        }
        for file in table.files.keys() {
            let path = table.path_of(file);
            assert!(path.is_file(), "{name} refers to {}, which does not exist", path.display());
        }
        table
    }

    fn folder_of(warehouse: &Path, name: &str) -> PathBuf {
        let (schema, table) = name.split_once('.').expect("schema.table");
        warehouse.join(schema).join(table)
    }

    /// Paths in the log are URL-encoded.
    fn path_of(&self, file: &str) -> PathBuf {
        let mut bytes = Vec::with_capacity(file.len());
        let mut rest = file.bytes();
        while let Some(byte) = rest.next() {
            let decoded = (byte == b'%').then(|| {
                let hex = [rest.next().unwrap_or(b'%'), rest.next().unwrap_or(b'%')];
                u8::from_str_radix(std::str::from_utf8(&hex).unwrap_or(""), 16).unwrap_or_else(|e| panic!("path {file}: {e}"))
            });
            bytes.push(decoded.unwrap_or(byte));
        }
        self.folder.join(String::from_utf8(bytes).expect("UTF-8"))
    }

    /// All rows, in no order.
    pub fn batches(&self) -> Vec<(RecordBatch, &DataFile)> {
        let mut batches = Vec::new();
        for (file, entry) in &self.files {
            let path = self.path_of(file);
            let open = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let builder = ParquetRecordBatchReaderBuilder::try_new(open).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).expect("a count");
            if let Some(said) = entry.rows_by_statistics {
                assert_eq!(said, rows, "statistics of {file}");
            }
            let reader = builder.build().expect("a reader");
            batches.extend(reader.map(|batch| (batch.unwrap_or_else(|e| panic!("{}: {e}", path.display())), entry)));
        }
        batches
    }

    /// All rows as text, sorted: two tables are equal if these are.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for object in self.objects() {
            rows.push(Value::Object(object).to_string());
        }
        rows.sort_unstable();
        rows
    }

    /// All rows as JSON objects, partition columns (as the strings the log keeps) included.
    pub fn objects(&self) -> Vec<Map<String, Value>> {
        let mut rows = Vec::new();
        for (batch, file) in self.batches() {
            let mut writer =
                arrow::json::WriterBuilder::new().with_explicit_nulls(true).build::<_, arrow::json::writer::LineDelimited>(Vec::new());
            writer.write(&batch).expect("rows as JSON");
            writer.finish().expect("rows as JSON");
            for line in writer.into_inner().split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                let mut object: Map<String, Value> = serde_json::from_slice(line).expect("a JSON object");
                for (name, value) in &file.partition_values {
                    object.insert(name.clone(), value.clone().map_or(Value::Null, Value::String));
                }
                rows.push(object);
            }
        }
        rows
    }

    /// The whole numbers of two columns of each row, sorted: `("kafka_partition", "kafka_offset")` gives the input's coordinates.
    pub fn pairs(&self, first: &str, second: &str) -> Vec<(i64, i64)> {
        // Without a detour through text: the largest tables are asked for these.
        let numbers = |batch: &RecordBatch, name: &str| {
            let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no {name} among {:?}", batch.schema()));
            assert!(column.data_type().is_integer() && column.null_count() == 0, "{name} is {:?}", column.data_type());
            cast(column, &DataType::Int64).expect("whole numbers").as_primitive::<Int64Type>().values().to_vec()
        };
        let mut pairs = Vec::new();
        for (batch, _) in self.batches() {
            pairs.extend(numbers(&batch, first).into_iter().zip(numbers(&batch, second)));
        }
        pairs.sort_unstable();
        pairs
    }

    /// The number of rows.
    pub fn count(&self) -> usize {
        self.batches().iter().map(|(batch, _)| batch.num_rows()).sum()
    }
}

impl DataFile {
    fn from_add(add: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_string);
        let values = add["partitionValues"].as_object().expect("add.partitionValues");
        let statistics: Option<Value> = add["stats"].as_str().map(|stats| serde_json::from_str(stats).expect("add.stats"));
        Self {
            partition_values: values.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
            rows_by_statistics: statistics.and_then(|stats| stats["numRecords"].as_u64()),
        }
    }
}

/// A UTC timestamp in whole seconds, as it is in rows as JSON.
pub fn time_text(time_us: i64) -> String {
    chrono::DateTime::from_timestamp_micros(time_us).expect("a time").format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

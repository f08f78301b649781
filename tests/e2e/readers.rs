//! What deltalake, DuckDB, Polars and Spark read in a table. The first test that asks starts their programs, which answer all others, too.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::tools::{Answerer, java, tool};

/// What a reader says of a table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Summary {
    pub rows: u64,
    /// Also the values inside of structs (`place.lat`) and the lengths of lists (`tags.length`).
    pub columns: BTreeMap<String, Column>,
}

/// What a reader says of a column.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Column {
    /// In Spark's words: `decimal(10,2)`.
    #[serde(rename = "type")]
    pub data_type: String,
    pub nulls: u64,
    /// Different values; not for nested columns.
    pub distinct: Option<u64>,
    /// Only for columns of whole numbers and, as text, of decimals.
    pub sum: Option<Value>,
    /// The smallest and the greatest value, times as microseconds; not for nested columns.
    pub least: Option<Value>,
    pub greatest: Option<Value>,
}

/// Reader to folder to summary.
pub type Summaries = BTreeMap<String, BTreeMap<String, Summary>>;

/// Reads each folder with deltalake, DuckDB and Polars.
pub fn read_with_python(folders: &[&Path]) -> Summaries {
    static PYTHON: Mutex<Option<Answerer>> = Mutex::new(None);
    let start = || {
        let mut python = Command::new(tool("python").join("bin/python"));
        python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/readers.py"));
        python
    };
    let by_folder: Summaries = said(&PYTHON, start, folders);
    let mut by_reader = Summaries::new();
    for (folder, readers) in by_folder {
        for (reader, summary) in readers {
            by_reader.entry(reader).or_default().insert(folder.clone(), summary);
        }
    }
    by_reader
}

/// Reads each folder with Spark and delta-spark alone.
pub fn read_with_spark(folders: &[&Path]) -> BTreeMap<String, Summary> {
    static SPARK: Mutex<Option<Answerer>> = Mutex::new(None);
    said(&SPARK, || java(&[&tool("spark")], "SparkReader.java"), folders)
}

/// Reads each folder with Spark and delta-spark, too.
pub fn read_with_all(folders: &[&Path]) -> Summaries {
    std::thread::scope(|scope| {
        let spark = scope.spawn(|| read_with_spark(folders));
        let mut read = read_with_python(folders);
        read.insert("spark".to_owned(), spark.join().expect("Spark reads"));
        read
    })
}

/// What a reader, started unless it is there already, says of folders.
fn said<T: DeserializeOwned>(shared: &Mutex<Option<Answerer>>, start: impl FnOnce() -> Command, folders: &[&Path]) -> T {
    let line = folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join("\t");
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    // One that does not answer ends with the test that asked, and the next test starts another.
    let mut reader = shared.take().unwrap_or_else(|| Answerer::start(start()));
    let answer = reader.ask(&line);
    *shared = Some(reader);
    serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer}"))
}

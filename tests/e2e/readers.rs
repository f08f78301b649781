//! What deltalake, DuckDB, Polars and Spark read in a table.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::tools::{folder, java, tool};

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
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/readers.py");
    let by_folder: Summaries = said(Command::new(tool("python").join("bin/python")).arg(script).args(folders));
    let mut by_reader = Summaries::new();
    for (folder, readers) in by_folder {
        for (reader, summary) in readers {
            by_reader.entry(reader).or_default().insert(folder.clone(), summary);
        }
    }
    by_reader
}

/// Reads each folder with Spark and delta-spark, too.
pub fn read_with_all(folders: &[&Path]) -> Summaries {
    let home = folder("spark-");
    let mut spark = java(&[&tool("spark")], "SparkReader.java");
    std::thread::scope(|scope| {
        let spark = scope.spawn(|| said(spark.args(folders).current_dir(home.path())));
        let mut read = read_with_python(folders);
        read.insert("spark".to_owned(), spark.join().expect("Spark reads"));
        read
    })
}

/// Standard output of a reader, which must be a success.
fn said<T: DeserializeOwned>(reader: &mut Command) -> T {
    let output = reader.output().unwrap_or_else(|why| panic!("{reader:?}: {why}"));
    assert!(output.status.success(), "a reader failed:\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stdout)))
}

//! What deltalake, DuckDB and Polars read in a table.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::tools::tool;

/// What a reader says of a table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Summary {
    pub rows: u64,
    pub columns: BTreeMap<String, Column>,
}

/// What a reader says of a column.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Column {
    pub nulls: u64,
    /// Different values; not for nested columns.
    pub distinct: Option<u64>,
    /// Only for columns of whole numbers.
    pub sum: Option<i64>,
}

/// Reads each folder with each reader: folder to reader to summary.
pub fn read_with_all(folders: &[&Path]) -> BTreeMap<String, BTreeMap<String, Summary>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/readers.py");
    let output = Command::new(tool("python").join("bin/python")).arg(script).args(folders).output().expect("Python runs");
    assert!(output.status.success(), "a reader failed:\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stdout)))
}

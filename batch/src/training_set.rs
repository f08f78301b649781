//! Training sets: facts joined with the features as they were at their times ([`crate::as_of`]), as a Parquet file.
//!
//! `watershed training-set` writes one; a materialized view with an ASOF JOIN keeps a table of the same rows.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::RecordBatch;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use watershed_dialect::check_side;
use watershed_lake::{LakeError, TableName, Texts};

use crate::as_of::{Matching, named};
use crate::views::declare;
use crate::{BatchError, JobRunner};

/// What to join.
#[derive(Debug, Clone)]
pub struct TrainingSet {
    /// The rows to learn from, such as payments with what became of them.
    pub facts: TableName,
    /// Features by key and time.
    pub features: TableName,
    /// The columns that say whose features they are; both tables have them.
    pub keys: Vec<String>,
    /// When a fact happened: a column of the facts.
    pub time: String,
    /// When a feature row became known: a column of the features.
    pub feature_time: String,
    /// Take only features from before the fact, not of the same moment.
    pub strict: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainingSetMade {
    /// Facts, each a row of the file.
    pub rows: u64,
    /// Facts that had features.
    pub matched: u64,
    /// Facts left out because they have no time.
    pub without_time: u64,
    /// Columns of the file.
    pub columns: usize,
    /// Size of the file.
    pub bytes: u64,
    /// The versions that were read.
    pub read: BTreeMap<TableName, i64>,
}

impl TrainingSet {
    /// Joins, and writes a Parquet file; what was there before is replaced when the new one is whole.
    pub async fn write(&self, runner: &JobRunner, file: &Path) -> Result<TrainingSetMade, BatchError> {
        let context = runner.context();
        let mut read = BTreeMap::new();
        for (name, time) in [(&self.facts, &self.time), (&self.features, &self.feature_time)] {
            let table = match runner.warehouse().table(name).await {
                Err(LakeError::NoSuchTable(_)) => {
                    return Err(BatchError::Refused {
                        what: format!("there is no table {name}"),
                        hint: "`watershed shell -c 'SHOW TABLES'` lists them".to_owned(),
                    });
                }
                other => other?,
            };
            check_side(&table.schema(), &name.to_string(), &self.keys, time)
                .map_err(|error| BatchError::Refused { what: error.message, hint: error.hint.unwrap_or_default() })?;
            // Facts and features may be one table.
            if !read.contains_key(name) {
                let (version, provider) = table.pinned(Texts::Plain).await?;
                declare(&context, name, provider)?;
                read.insert(name.clone(), version);
            }
        }
        let facts = context.table(reference(&self.facts)).await?;
        let without_time = facts.clone().filter(named(&self.time).is_null())?.count().await? as u64;
        let matching = Matching { keys: &self.keys, time: &self.time, feature_time: &self.feature_time, strict: self.strict };
        let joined = matching.joined(facts, context.table(reference(&self.features)).await?).await?;
        let bytes = write_parquet(&joined.rows, file)?;
        let (rows, columns) = (joined.rows.num_rows() as u64, joined.rows.num_columns());
        Ok(TrainingSetMade { rows, matched: joined.matched, without_time, columns, bytes, read })
    }
}

fn reference(name: &TableName) -> datafusion::common::TableReference {
    datafusion::common::TableReference::partial(name.schema(), name.table())
}

/// Writes beside the file and takes its place: nobody reads half of one.
fn write_parquet(rows: &RecordBatch, file: &Path) -> Result<u64, BatchError> {
    let failed = |why: String| BatchError::File { path: file.display().to_string(), why };
    let mut partial = file.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let written = (|| {
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let output = std::fs::File::create(partial).map_err(|error| error.to_string())?;
        let mut writer = ArrowWriter::try_new(output, rows.schema(), Some(properties)).map_err(|error| error.to_string())?;
        writer.write(rows).map_err(|error| error.to_string())?;
        writer.close().map_err(|error| error.to_string())?;
        std::fs::rename(partial, file).map_err(|error| error.to_string())?;
        std::fs::metadata(file).map(|metadata| metadata.len()).map_err(|error| error.to_string())
    })();
    if written.is_err() {
        // A half-written file is of no use, and neither is an error that it cannot be removed.
        let _ = std::fs::remove_file(partial);
    }
    written.map_err(failed)
}

#[cfg(test)]
mod tests;

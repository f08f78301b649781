//! Reads the rows of a data file back, as a commit named it: in the order in which they were written, whatever became of the table since.

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use datafusion::common::ScalarValue;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::commit::StagedFile;
use crate::error::{LakeError, Result};
use crate::partition;
use crate::table::Table;
use crate::writer::below;

/// The rows of one file with the columns of its table.
pub struct StagedRows {
    table: Table,
    path: String,
    reader: ParquetRecordBatchReader,
    /// In the order of the partitioning.
    partition: Vec<ScalarValue>,
}

impl Table {
    /// The rows of a file that a writer of this table staged. The file is held in memory while it is read.
    ///
    /// Errors: [`LakeError::Damaged`] when it is not there or cannot be decoded.
    pub async fn staged_rows(&self, file: &StagedFile) -> Result<StagedRows> {
        let damaged = |reason: String| LakeError::Damaged { path: file.path.clone(), reason };
        let identity = &self.shared.identity;
        let found = self.shared.access.get(&below(&identity.folder, &file.path)?).await?;
        let found = found.ok_or_else(|| damaged("the file was removed".into()))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(found.bytes).and_then(|builder| builder.build());
        let partition = identity.layout.partition_fields.iter().map(|field| {
            let text = file.partition_values.get(field.name()).and_then(Option::as_deref);
            partition::parse(text, field.data_type()).map_err(damaged)
        });
        Ok(StagedRows {
            table: self.clone(),
            path: file.path.clone(),
            partition: partition.collect::<Result<_>>()?,
            reader: reader.map_err(|error| damaged(error.to_string()))?,
        })
    }
}

impl Iterator for StagedRows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let stored = self.reader.next()?;
        Some(
            stored
                .map_err(|error| error.to_string())
                .and_then(|stored| self.whole(&stored))
                .map_err(|reason| LakeError::Damaged { path: self.path.clone(), reason }),
        )
    }
}

impl StagedRows {
    /// Stored columns and partition values in the order of the table.
    fn whole(&self, stored: &RecordBatch) -> Result<RecordBatch, String> {
        let layout = &self.table.shared.identity.layout;
        let column = |name: &str| -> Result<ArrayRef, String> {
            if let Some(column) = stored.column_by_name(name) {
                return Ok(column.clone());
            }
            let place = layout.partition_fields.iter().position(|field| field.name() == name);
            let field = layout.schema.field_with_name(name).map_err(|error| error.to_string())?;
            let Some(value) = place.and_then(|place| self.partition.get(place)) else {
                // The table got it after the file was written.
                let fits = field.is_nullable().then(|| new_null_array(field.data_type(), stored.num_rows()));
                return fits.ok_or_else(|| format!("it has no column '{name}'"));
            };
            value.to_array_of_size(stored.num_rows()).map_err(|error| error.to_string())
        };
        let columns = layout.schema.fields().iter().map(|field| column(field.name())).collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(layout.schema.clone(), columns).map_err(|error| error.to_string())
    }
}

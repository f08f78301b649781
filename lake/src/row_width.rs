//! How large the rows of a data file are, by its footer: so that a few of them are read at once where each is large.

use std::collections::HashMap;

use parquet::basic::Type as PhysicalType;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

/// Bytes of a reference to a text or list.
const REFERENCE_BYTES: u64 = 16;

/// Mean bytes that a row takes in each column, once it is decoded; of the row group where it takes most. Columns are named in lower case, as
/// files of others may have them in any.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RowWidth(HashMap<String, f64>);

impl RowWidth {
    /// Of one file.
    pub(crate) fn of(footer: &ParquetMetaData) -> Self {
        let (schema, mut widest) = (footer.file_metadata().schema_descr(), Self::default());
        for group in footer.row_groups().iter().filter(|group| group.num_rows() > 0) {
            let mut widths: HashMap<String, f64> = HashMap::new();
            for (leaf, column) in group.columns().iter().enumerate() {
                let name = schema.get_column_root(leaf).name().to_lowercase();
                *widths.entry(name).or_default() += decoded_bytes(column) as f64 / group.num_rows() as f64;
            }
            widest.widen(Self(widths));
        }
        widest
    }

    /// The larger of both, column by column.
    pub(crate) fn widen(&mut self, other: Self) {
        for (name, width) in other.0 {
            let widest = self.0.entry(name).or_default();
            *widest = widest.max(width);
        }
    }

    /// Bytes of a row in some columns.
    pub(crate) fn bytes<'a>(&self, columns: impl IntoIterator<Item = &'a str>) -> f64 {
        columns.into_iter().filter_map(|name| self.0.get(&name.to_lowercase())).sum()
    }

    /// How many rows of all columns have `bytes` together, from one to `most`.
    pub(crate) fn rows_in(&self, bytes: usize, most: usize) -> usize {
        rows_of(self.0.values().sum(), bytes, most)
    }
}

/// How many rows of a width have `bytes` together, from one to `most`.
pub(crate) fn rows_of(width: f64, bytes: usize, most: usize) -> usize {
    let rows = (bytes as f64 / width.max(1.0)) as usize;
    rows.clamp(1, most.max(1))
}

/// Bytes of a column chunk in Arrow. A dictionary makes it smaller in the file than it is once each row has its value; not all writers tell by how much.
fn decoded_bytes(column: &ColumnChunkMetaData) -> u64 {
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let values = count(column.num_values());
    let written_out = match column.column_type() {
        PhysicalType::BOOLEAN => values / 8,
        PhysicalType::INT32 | PhysicalType::FLOAT => values.saturating_mul(4),
        PhysicalType::INT64 | PhysicalType::DOUBLE => values.saturating_mul(8),
        PhysicalType::INT96 => values.saturating_mul(12),
        PhysicalType::BYTE_ARRAY => {
            values.saturating_mul(REFERENCE_BYTES).saturating_add(count(column.unencoded_byte_array_data_bytes().unwrap_or(0)))
        }
        PhysicalType::FIXED_LEN_BYTE_ARRAY => {
            values.saturating_mul(u64::try_from(column.column_descr().type_length()).unwrap_or(0).max(REFERENCE_BYTES))
        }
    };
    written_out.max(count(column.uncompressed_size()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn written(texts: impl Iterator<Item = String>) -> RowWidth {
        let texts = StringArray::from_iter_values(texts);
        let numbers = Int64Array::from(vec![7; texts.len()]);
        let batch = RecordBatch::try_from_iter([("N", Arc::new(numbers) as ArrayRef), ("text", Arc::new(texts) as _)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let bytes = bytes::Bytes::from(writer.into_inner().unwrap());
        RowWidth::of(ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().metadata())
    }

    #[test]
    fn a_value_counts_for_each_row_that_has_it() {
        for width in [written((0..100).map(|_| "x".repeat(10_000))), written((0..100).map(|n| format!("{n:10000}")))] {
            let (number, text) = (width.bytes(["n"]), width.bytes(["TEXT"]));
            assert!((8.0..9.0).contains(&number) && (10_000.0..11_000.0).contains(&text), "{width:?}");
            assert_eq!(width.bytes(["other"]), 0.0);
            assert_eq!((width.rows_in(50_000, 8192), width.rows_in(1, 8192), width.rows_in(usize::MAX, 8192)), (4, 1, 8192));
        }
    }
}

//! The exchange: rows go to the keyed task that their key hashes to.
//!
//! The hash is our own, over arrow's row encoding of the key, and must not change: state is split by it.

use arrow::array::UInt32Array;
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use watershed_functions::numbers::one_key;

use crate::StreamError;
use crate::hidden;

/// Splits batches by key.
pub struct Exchange {
    keys: Vec<usize>,
    converter: Option<RowConverter>,
    tasks: usize,
}

impl Exchange {
    /// `keys` are places in `schema`; `tasks` is how many tasks there are to choose from.
    pub fn new(keys: &[usize], schema: &Schema, tasks: usize) -> Result<Self, StreamError> {
        let converter = match tasks {
            1 => None,
            _ => Some(RowConverter::new(keys.iter().map(|&k| SortField::new(schema.field(k).data_type().clone())).collect())?),
        };
        Ok(Self { keys: keys.to_vec(), converter, tasks })
    }

    /// How many tasks there are to choose from.
    pub fn tasks(&self) -> usize {
        self.tasks
    }

    /// The part of `batch` for each task that gets any.
    pub fn split(&self, batch: RecordBatch) -> Result<Vec<(usize, RecordBatch)>, StreamError> {
        let Some(converter) = &self.converter else { return Ok(vec![(0, batch)]) };
        let columns: Vec<_> = self.keys.iter().map(|&k| one_key(batch.column(k))).collect();
        let rows = converter.convert_columns(&columns)?;
        let mut rows_of = vec![Vec::new(); self.tasks];
        for (row, key) in rows.iter().enumerate() {
            rows_of[(hash(key.as_ref()) % self.tasks as u64) as usize].push(row as u32);
        }
        let mut parts = Vec::with_capacity(self.tasks);
        for (task, rows) in rows_of.into_iter().enumerate() {
            if rows.len() == batch.num_rows() {
                return Ok(vec![(task, batch)]);
            }
            if !rows.is_empty() {
                parts.push((task, hidden::take(&batch, &UInt32Array::from(rows))?));
            }
        }
        Ok(parts)
    }
}

/// FNV-1a, 64 bits, with a final mix so that the low bits depend on all bytes.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, ArrayRef, new_null_array};
    use arrow::compute::concat;
    use arrow::datatypes::{DataType as T, Field, TimeUnit};

    use super::*;
    use crate::golden::golden;

    /// State of a key stays with the task that its hash names: were a hash to change, a window would leave as two rows.
    #[test]
    fn keys_of_each_type_hash_as_ever() {
        let of = |data_type: T, texts: &[&str]| {
            let texts: ArrayRef = Arc::new(arrow::array::StringArray::from(texts.to_vec()));
            (data_type.clone(), arrow::compute::cast(&texts, &data_type).unwrap())
        };
        let numbers = ["0", "1", "-1", "100"];
        let mut columns: Vec<(T, ArrayRef)> = vec![
            of(T::Utf8, &["", "a", "Lima", "a text of more than thirty-two bytes, which are encoded in blocks"]),
            of(T::Boolean, &["true", "false"]),
            of(T::Date32, &["1970-01-01", "2026-11-28"]),
            of(T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), &["1970-01-01T00:00:00Z", "2026-11-28T10:11:12.131415Z"]),
            of(T::Decimal128(10, 2), &["0", "1.5", "-99999999.99"]),
            of(T::Float32, &["0", "1.5", "-0.0", "NaN", "inf"]),
            of(T::Float64, &["0", "1.5", "-0.0", "NaN", "inf"]),
            of(T::Binary, &["", "a"]),
        ];
        columns.extend([T::Int8, T::Int16, T::Int32, T::Int64].map(|data_type| of(data_type, &numbers)));
        let mut text = String::new();
        for (data_type, values) in columns {
            let values = concat(&[values.as_ref(), new_null_array(&data_type, 1).as_ref()]).unwrap();
            let schema = Schema::new(vec![Field::new("key", data_type.clone(), true)]);
            let exchange = Exchange::new(&[0], &schema, 8).unwrap();
            let rows = exchange.converter.as_ref().unwrap().convert_columns(std::slice::from_ref(&values)).unwrap();
            let hashes: Vec<String> = rows.iter().map(|row| format!("{:08x}", hash(row.as_ref()))).collect();
            text.push_str(&format!("{}: {}\n", crate::spec::types::type_name(&data_type), hashes.join(" ")));
            let batch = RecordBatch::try_new(schema.into(), vec![values.clone()]).unwrap();
            let rows: usize = exchange.split(batch).unwrap().iter().map(|(_, rows)| rows.num_rows()).sum();
            assert_eq!(rows, values.len());
        }
        golden("exchange.txt", &text);
    }
}

//! The exchange: rows go to the keyed task that their key hashes to.
//!
//! The hash is our own, over arrow's row encoding of the key, and must not change: state is split by it.

use arrow::array::UInt32Array;
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};

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

    /// The part of `batch` for each task that gets any.
    pub fn split(&self, batch: RecordBatch) -> Result<Vec<(usize, RecordBatch)>, StreamError> {
        let Some(converter) = &self.converter else { return Ok(vec![(0, batch)]) };
        let columns: Vec<_> = self.keys.iter().map(|&k| batch.column(k).clone()).collect();
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

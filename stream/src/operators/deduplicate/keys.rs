//! The keys of one run: packed, or put aside.

use std::sync::Arc;

use arrow::array::{AsArray, BinaryArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::record_batch::RecordBatch;

use crate::StreamError;
use crate::budget::Aside;

/// A key: when it was last seen, and which bytes it is.
struct Row {
    time: i64,
    start: u32,
    length: u32,
}

enum Data {
    Packed { rows: Vec<Row>, bytes: Vec<u8> },
    Aside { keys: BinaryArray, times: Int64Array },
}

/// Keys that were seen in one bucket of time.
pub(super) struct Keys {
    /// The bucket.
    pub(super) bucket: i64,
    /// Whether keys are still added.
    pub(super) grows: bool,
    /// How many rows no longer count.
    pub(super) dead: usize,
    data: Data,
}

impl Keys {
    /// No keys yet.
    pub(super) fn new(bucket: i64, grows: bool) -> Self {
        Self { bucket, grows, dead: 0, data: Data::Packed { rows: Vec::new(), bytes: Vec::new() } }
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        match &self.data {
            Data::Packed { rows, .. } => rows.len(),
            Data::Aside { times, .. } => times.len(),
        }
    }

    /// The key of a row.
    pub(super) fn key(&self, row: usize) -> &[u8] {
        match &self.data {
            Data::Packed { rows, bytes } => {
                let Row { start, length, .. } = rows[row];
                &bytes[start as usize..(start + length) as usize]
            }
            Data::Aside { keys, .. } => keys.value(row),
        }
    }

    /// When the key of a row was last seen.
    pub(super) fn time(&self, row: usize) -> i64 {
        match &self.data {
            Data::Packed { rows, .. } => rows[row].time,
            Data::Aside { times, .. } => times.value(row),
        }
    }

    /// Notes another time; runs that are put aside do not change.
    pub(super) fn set_time(&mut self, row: usize, time: i64) {
        if let Data::Packed { rows, .. } = &mut self.data {
            rows[row].time = time;
        }
    }

    /// Adds a key; gives its row. Runs that are put aside do not grow.
    pub(super) fn push(&mut self, key: &[u8], time: i64) -> u32 {
        if let Data::Packed { rows, bytes } = &mut self.data {
            rows.push(Row { time, start: bytes.len() as u32, length: key.len() as u32 });
            bytes.extend_from_slice(key);
        }
        (self.len() - 1) as u32
    }

    /// As it is written.
    pub(super) fn batch(&mut self) -> Result<RecordBatch, StreamError> {
        if let Data::Packed { rows, bytes } = &mut self.data {
            rows.shrink_to_fit();
            bytes.shrink_to_fit();
        }
        let keys = BinaryArray::from_iter_values((0..self.len()).map(|row| self.key(row)));
        let times = Int64Array::from_iter_values((0..self.len()).map(|row| self.time(row)));
        let fields = vec![Field::new("key", DataType::Binary, false), Field::new("time", DataType::Int64, false)];
        Ok(RecordBatch::try_new(Schema::new(fields).into(), vec![Arc::new(keys), Arc::new(times)])?)
    }

    /// Puts it aside, if it does not grow; gives the bytes that this freed.
    pub(super) fn put_aside(&mut self, aside: &dyn Aside) -> Result<usize, StreamError> {
        let before = self.bytes();
        if before == 0 || self.grows {
            return Ok(0);
        }
        if let [rows] = aside.put(&[self.batch()?])?.as_slice() {
            let (keys, times) = (rows.column(0).as_binary::<i32>().clone(), rows.column(1).as_primitive::<Int64Type>().clone());
            self.data = Data::Aside { keys, times };
        }
        Ok(before - self.bytes())
    }

    /// How many bytes of memory it takes.
    pub(super) fn bytes(&self) -> usize {
        match &self.data {
            Data::Packed { rows, bytes } => rows.capacity() * size_of::<Row>() + bytes.capacity(),
            Data::Aside { .. } => 0,
        }
    }
}

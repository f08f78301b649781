//! Rows of one side of a join by key, each key's in the order of time.

use std::collections::{HashMap, VecDeque};

use arrow::array::{Array, ArrayRef};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use watershed_functions::numbers::one_key;

use crate::StreamError;
use crate::budget::Held;
use crate::operators::by_time::times;

/// About what a row takes here beside itself.
const ENTRY_BYTES: u64 = 64;
/// Rows that are added at once, when there are many, are forgotten in parts of this many.
const PART_ROWS: usize = 4_096;

/// Where a row is: the number of its batch, and its place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    batch: u64,
    row: u32,
}

/// The keys of some rows.
pub struct Keys {
    rows: Option<Rows>,
    columns: Vec<ArrayRef>,
}

impl Keys {
    /// The key of a row; `None` if some part of it is NULL, which is equal to nothing.
    fn get(&self, row: usize) -> Option<&[u8]> {
        if self.columns.iter().any(|column| column.is_null(row)) {
            return None;
        }
        self.rows.as_ref().map(|rows| rows.row(row).data())
    }
}

/// See the module documentation.
pub struct Index {
    schema: SchemaRef,
    keys: usize,
    converter: RowConverter,
    of_key: HashMap<Box<[u8]>, VecDeque<(i64, Place)>>,
    /// From the oldest on.
    batches: VecDeque<RecordBatch>,
    /// The number of the first of these.
    first: u64,
    rows: u64,
}

impl Index {
    /// Of rows of `schema`, which begin with so many key columns and the time.
    pub fn new(keys: usize, schema: &SchemaRef) -> Result<Self, StreamError> {
        let fields = schema.fields()[..keys].iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        Ok(Self { schema: schema.clone(), keys, converter, of_key: HashMap::new(), batches: VecDeque::new(), first: 0, rows: 0 })
    }

    /// The keys of rows of either side.
    pub fn keys(&self, rows: &RecordBatch) -> Result<Keys, StreamError> {
        let columns: Vec<ArrayRef> = rows.columns()[..self.keys].iter().map(one_key).collect();
        let rows = (self.keys > 0).then(|| self.converter.convert_columns(&columns)).transpose()?;
        Ok(Keys { rows, columns })
    }

    /// Adds rows in the order of time, none of which is older than those that are there.
    pub fn add(&mut self, rows: &RecordBatch) -> Result<(), StreamError> {
        let (keys, batch) = (self.keys(rows)?, self.first + self.batches.len() as u64);
        for (row, &time_us) in times(rows, self.keys).iter().enumerate() {
            let Some(key) = keys.get(row) else { continue };
            let entry = (time_us, Place { batch, row: row as u32 });
            match self.of_key.get_mut(key) {
                Some(known) => known.push_back(entry),
                None => drop(self.of_key.insert(key.into(), VecDeque::from([entry]))),
            }
        }
        self.rows += rows.num_rows() as u64;
        self.batches.push_back(rows.clone());
        Ok(())
    }

    /// [`Self::add`] of many rows, which can then be forgotten part by part.
    pub fn add_in_parts(&mut self, rows: &RecordBatch) -> Result<(), StreamError> {
        for from in (0..rows.num_rows()).step_by(PART_ROWS) {
            self.add(&rows.slice(from, PART_ROWS.min(rows.num_rows() - from)))?;
        }
        Ok(())
    }

    /// The rows with the key of a row whose times are within these, both included.
    pub fn find<'a>(&'a self, keys: &Keys, row: usize, from_us: i64, to_us: i64) -> impl Iterator<Item = (i64, Place)> + use<'a> {
        let known = keys.get(row).and_then(|key| self.of_key.get(key));
        let from = known.map_or(0, |known| known.partition_point(|(time_us, _)| *time_us < from_us));
        known.into_iter().flat_map(move |known| known.range(from..)).take_while(move |(time_us, _)| *time_us <= to_us).copied()
    }

    /// These rows as one batch.
    pub fn rows(&self, places: &[Place]) -> Result<RecordBatch, StreamError> {
        let mut numbers: Vec<u64> = places.iter().map(|place| place.batch).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let batches: Vec<&RecordBatch> = numbers.iter().map(|number| &self.batches[(number - self.first) as usize]).collect();
        let at = |place: &Place| (numbers.partition_point(|number| *number < place.batch), place.row as usize);
        let places: Vec<(usize, usize)> = places.iter().map(at).collect();
        if batches.is_empty() {
            return Ok(RecordBatch::new_empty(self.schema.clone()));
        }
        Ok(interleave_record_batch(&batches, &places)?)
    }

    /// Forgets batches all of whose rows are before `us`.
    pub fn expire(&mut self, us: i64) -> Result<(), StreamError> {
        while let Some(rows) = self.batches.front() {
            if times(rows, self.keys).last().is_some_and(|last| *last >= us) {
                break;
            }
            let keys = self.keys(rows)?;
            for row in 0..rows.num_rows() {
                let Some(key) = keys.get(row) else { continue };
                let Some(known) = self.of_key.get_mut(key) else { continue };
                known.pop_front();
                if known.is_empty() {
                    self.of_key.remove(key);
                }
            }
            self.rows -= rows.num_rows() as u64;
            self.batches.pop_front();
            self.first += 1;
        }
        Ok(())
    }

    /// What it takes beside the rows themselves.
    pub fn held(&self) -> Held {
        Held { keys: 0, bytes: self.rows * ENTRY_BYTES }
    }
}

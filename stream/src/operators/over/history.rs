//! The rows that frames still reach back to, in event-time order: of each row its time and what keys, arguments and filters read.
//!
//! Rows are numbered as they come and lie in chunks. A chunk is also the segment of a snapshot, so neighbours are joined as they grow: there are
//! few, each row is copied a logarithmic number of times, and a snapshot writes the newest only. Between joins a chunk does not change, so the
//! container is told of chunks only to know what to write.

use std::collections::VecDeque;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::StreamError;
use crate::hidden;
use crate::operator::{StateDelta, StateSnapshot};
use crate::segments::{Plain, Segments};
use crate::state::fit;

/// Chunks of fewer rows are joined however long a time they span.
const SMALL_ROWS: usize = 1_024;
/// Chunks are not joined beyond this: rows are forgotten a chunk at a time.
const CHUNK_ROWS_MAX: usize = 65_536;

struct Chunk {
    /// Number of its first row.
    first: u64,
    rows: RecordBatch,
}

impl Chunk {
    fn len(&self) -> usize {
        self.rows.num_rows()
    }

    fn times(&self) -> &[i64] {
        self.rows.column(0).as_primitive::<Int64Type>().values()
    }

    fn first_us(&self) -> i64 {
        self.times().first().copied().unwrap_or(i64::MIN)
    }

    fn last_us(&self) -> i64 {
        self.times().last().copied().unwrap_or(i64::MIN)
    }
}

/// See the module documentation.
pub struct History {
    schema: SchemaRef,
    /// Chunks that span more than this are not joined.
    span_us_max: i64,
    chunks: VecDeque<Chunk>,
    next: u64,
    /// The same chunks, by the number of their first row.
    saved: Segments<u64>,
}

impl History {
    /// An empty history of rows with the columns `values`, whose frames reach back `keep_us` at most.
    pub fn new(values: &[FieldRef], keep_us: i64) -> Self {
        let mut fields: Vec<FieldRef> = vec![Field::new("time", DataType::Int64, false).into()];
        fields.extend(values.iter().cloned());
        let schema = Schema::new(fields).into();
        Self { schema, span_us_max: keep_us / 16, chunks: VecDeque::new(), next: 0, saved: Segments::default() }
    }

    /// Schema of its rows: the time in microseconds, then the values.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Adds rows that are not older than those before; gives the number of the first.
    pub fn push(&mut self, rows: RecordBatch) -> Result<u64, StreamError> {
        let first = self.next;
        self.next += rows.num_rows() as u64;
        self.saved.append(first, rows.clone());
        self.chunks.push_back(Chunk { first, rows });
        self.join()?;
        Ok(first)
    }

    /// Joins the newest chunks while they are of like size.
    fn join(&mut self) -> Result<(), StreamError> {
        while let Some(before) = self.chunks.len().checked_sub(2) {
            let (a, b) = (&self.chunks[before], &self.chunks[before + 1]);
            let rows = a.len() + b.len();
            let spans_long = rows > SMALL_ROWS && b.last_us().saturating_sub(a.first_us()) > self.span_us_max;
            if a.len() > 2 * b.len() || spans_long || rows > CHUNK_ROWS_MAX {
                break;
            }
            let joined = concat_batches(&self.schema, [&a.rows, &b.rows])?;
            if let Some(b) = self.chunks.pop_back() {
                self.saved.remove(&b.first);
            }
            let a = &mut self.chunks[before];
            a.rows = joined;
            self.saved.replace(a.first, [a.rows.clone()]);
        }
        Ok(())
    }

    fn locate(&self, row: u64) -> (&Chunk, usize) {
        let chunk = &self.chunks[self.chunks.partition_point(|chunk| chunk.first <= row) - 1];
        (chunk, (row - chunk.first) as usize)
    }

    /// One value of a row, as an array of length 1. Columns count from the first value.
    pub fn value(&self, row: u64, column: usize) -> ArrayRef {
        let (chunk, at) = self.locate(row);
        chunk.rows.column(column + 1).slice(at, 1)
    }

    /// Whether a boolean value of a row is true; NULL is not.
    pub fn is_true(&self, row: u64, column: usize) -> bool {
        let (chunk, at) = self.locate(row);
        let values = chunk.rows.column(column + 1).as_boolean();
        values.is_valid(at) && values.value(at)
    }

    /// All rows, chunk by chunk, each with the number of its first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &RecordBatch)> {
        self.chunks.iter().map(|chunk| (chunk.first, &chunk.rows))
    }

    /// Drops chunks whose rows are all older than `before_us`. Nobody may ask for them any more.
    pub fn forget(&mut self, before_us: i64) {
        while self.chunks.front().is_some_and(|chunk| chunk.last_us() < before_us) {
            if let Some(chunk) = self.chunks.pop_front() {
                self.saved.remove(&chunk.first);
            }
        }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.saved.rows()
    }

    /// How many bytes they take.
    pub fn bytes(&self) -> usize {
        self.saved.bytes()
    }

    /// What changed since the last snapshot.
    pub fn snapshot(&mut self) -> Result<StateDelta, StreamError> {
        self.saved.snapshot(&mut Plain::new(&self.schema, |first: &u64| format!("h/{first}")))
    }

    /// Puts the rows of chunks in order that reach into one another: they come from tasks that ran side by side. The rows of a key stay in their order.
    fn put_in_order(&mut self) -> Result<(), StreamError> {
        let mut groups: Vec<(i64, Vec<RecordBatch>)> = Vec::new();
        for chunk in self.chunks.drain(..) {
            let (first_us, last_us) = (chunk.first_us(), chunk.last_us());
            match groups.last_mut().filter(|(until_us, _)| *until_us > first_us) {
                Some((until_us, group)) => {
                    *until_us = last_us.max(*until_us);
                    group.push(chunk.rows);
                }
                None => groups.push((last_us, vec![chunk.rows])),
            }
        }
        for (_, group) in groups {
            if let [rows] = group.as_slice() {
                self.chunks.push_back(Chunk { first: 0, rows: rows.clone() });
                continue;
            }
            let rows = concat_batches(&self.schema, &group)?;
            let times = rows.column(0).as_primitive::<Int64Type>().values();
            let mut places: Vec<u32> = (0..rows.num_rows() as u32).collect();
            places.sort_by_key(|&place| times[place as usize]);
            for places in places.chunks(CHUNK_ROWS_MAX) {
                self.chunks.push_back(Chunk { first: 0, rows: hidden::take(&rows, &UInt32Array::from(places.to_vec()))? });
            }
        }
        Ok(())
    }

    /// Takes back what snapshots wrote.
    pub fn restore(&mut self, state: StateSnapshot) -> Result<(), StreamError> {
        for (segment, pieces) in state.segments {
            for rows in pieces {
                let rows = fit("over", &segment, &rows, &self.schema)?;
                if rows.num_rows() > 0 {
                    self.chunks.push_back(Chunk { first: 0, rows });
                }
            }
        }
        self.chunks.make_contiguous().sort_by_key(Chunk::first_us);
        self.put_in_order()?;
        for chunk in &mut self.chunks {
            chunk.first = self.next;
            self.next += chunk.len() as u64;
            self.saved.append(chunk.first, chunk.rows.clone());
        }
        Ok(())
    }
}

//! The seam between a transport and the pipelines: [`OpenSource`] and [`SourceRead`]. Kafka and folders of files implement it;
//! [`crate::Sources`] chooses by a definition's connector.
//!
//! Within Kafka, [`Fetch`] knows nothing of formats and [`Decode`] nothing of Kafka: a much faster one of either can take the other's place
//! without the rest noticing. Decoders also serve files of messages.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::Int64Array;
use arrow::record_batch::RecordBatch;
use watershed_dialect::definition::SourceDefinition;

use crate::IngestError;
use crate::origin::Origin;

/// How much one call of [`Fetch::fetch`] may return.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    /// Records over all partitions.
    pub rows: usize,
    /// Bytes of keys and values over all partitions. The record that passes the limit is still taken, so that one of any size gets through.
    pub bytes: usize,
}

/// Optional byte strings one after another in one buffer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Arena {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    nulls: Vec<bool>,
}

impl Arena {
    /// Appends one; `None` is not the same as empty.
    pub fn push(&mut self, value: Option<&[u8]>) {
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.ends.push(self.bytes.len());
        self.nulls.push(value.is_none());
    }

    /// The value at `index`. Panics if there are not so many.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        let value = &self.bytes[start..self.ends[index]];
        (!self.nulls[index]).then_some(value)
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All values' bytes, one after another.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A record's headers: names need not be unique; order is kept.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

/// Raw records of one partition, offsets ascending.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawBatch {
    /// Kafka partition number.
    pub partition: i32,
    /// The values; `None` where the message had no value at all (a tombstone).
    pub values: Arena,
    /// The keys; `None` where the message had none.
    pub keys: Arena,
    /// Offset of each record.
    pub offsets: Vec<i64>,
    /// Kafka timestamp of each record in milliseconds since 1970; -1 if there is none.
    pub timestamps_ms: Vec<i64>,
    /// Headers, if wanted; empty otherwise.
    pub headers: Vec<Headers>,
    /// When they were taken from the transport, in milliseconds since 1970; `None` if that is not known. No record is written after it is
    /// read: a timestamp far ahead of this is a mistake.
    pub taken_ms: Option<i64>,
}

impl RawBatch {
    /// An empty batch of one partition.
    pub fn new(partition: i32) -> Self {
        Self { partition, ..Self::default() }
    }

    /// Appends one record (without headers).
    pub fn push(&mut self, offset: i64, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.offsets.push(offset);
        self.timestamps_ms.push(timestamp_ms);
        self.keys.push(key);
        self.values.push(value);
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// How many of the first `records` have no value.
    pub fn tombstones(&self, records: usize) -> usize {
        (0..records.min(self.len())).filter(|&index| self.values.get(index).is_none()).count()
    }

    /// True if there is no record.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Bytes of keys and values.
    pub fn byte_len(&self) -> usize {
        self.keys.bytes().len() + self.values.bytes().len()
    }
}

/// A partition and the offsets its transport holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionRange {
    /// Kafka partition number.
    pub partition: i32,
    /// First offset that is still there.
    pub low: i64,
    /// The end: the next offset to be written.
    pub high: i64,
}

/// How far a partition was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionProgress {
    /// Kafka partition number.
    pub partition: i32,
    /// The next offset that will be returned.
    pub next_offset: i64,
    /// The end of the partition as last known to the client (the next offset to be written); `None` until known.
    pub high_watermark: Option<i64>,
}

impl PartitionProgress {
    /// True if everything known to be in the partition was returned.
    pub fn is_caught_up(&self) -> bool {
        self.high_watermark.is_some_and(|high| self.next_offset >= high)
    }
}

/// Takes raw records from Kafka. One instance serves one thread and a fixed set of partitions.
pub trait Fetch: Send {
    /// Waits up to `timeout` for the first record, then takes what has arrived, up to `limits`.
    /// At most one batch a partition; empty if nothing came.
    fn fetch(&mut self, limits: FetchLimits, timeout: Duration) -> Result<Vec<RawBatch>, IngestError>;

    /// How far each partition was read, without waiting.
    fn progress(&mut self) -> Vec<PartitionProgress>;
}

/// What a decoder made of a [`RawBatch`].
#[derive(Debug)]
pub struct Decoded {
    /// The accepted rows, in offset order: the wanted columns in the order asked for.
    pub rows: RecordBatch,
    /// The offset of each accepted row. Records that are in neither had no value and were passed over.
    pub offsets: Int64Array,
    /// The rows that were not accepted, in [`crate::quarantine::schema`]; `None` if there are none.
    pub quarantined: Option<RecordBatch>,
}

/// Turns raw records to Arrow. Pure: no I/O, no clock.
pub trait Decode: Send {
    /// Decodes all records of `raw`; a bad record is set aside, never an error.
    fn decode(&mut self, raw: &RawBatch) -> Result<Decoded, IngestError>;
}

/// Offsets to start from, by partition: the next offset to be read.
pub type Positions = BTreeMap<i32, i64>;

/// What came from one partition.
#[derive(Debug)]
pub struct SourceBatch {
    /// Kafka partition number.
    pub partition: i32,
    /// The position after these records: where to go on once they are committed.
    pub next_offset: i64,
    /// Accepted rows and quarantined ones.
    pub decoded: Decoded,
    /// The records they were made of.
    pub origin: Origin,
    /// The latest Kafka timestamp among the records, in milliseconds since 1970; -1 if none has one.
    pub append_time_ms_max: i64,
    /// Records taken from Kafka (accepted and not).
    pub records: usize,
    /// Those of them that were passed over because they have no value.
    pub tombstones: usize,
    /// Bytes of their keys and values.
    pub bytes: usize,
}

/// Rows of some partitions of a source, fetched and decoded: what a pipeline's task reads. Blocking; one instance serves one thread.
pub trait SourceRead: Send {
    /// Waits up to `timeout` for records, takes what has arrived up to `limits` and decodes it. At most one batch a partition.
    ///
    /// What came before a record that the source must not pass (`on_error = 'fail'`) is returned; the next call is the error that names it.
    fn poll(&mut self, limits: FetchLimits, timeout: Duration) -> Result<Vec<SourceBatch>, IngestError>;

    /// How far each partition was read, without waiting.
    fn progress(&mut self) -> Vec<PartitionProgress>;

    /// Shows positions that are decided to tools that look at the transport from outside. Nothing is recovered from them.
    fn commit_offsets(&self, _positions: &Positions) {}
}

/// Tells a source from another one that was made under the same name, again and again over one connection.
pub trait Identify: Send {
    /// What the source is now, waiting up to `timeout` for an answer; `None` if whoever answers does not tell. A source that is deleted and
    /// made again is another one, and no source is ever one that it was before.
    fn identity(&mut self, timeout: Duration) -> Result<Option<String>, IngestError>;
}

/// Opens sources: how pipelines come to their rows. Calls block, up to ten seconds for a broker.
pub trait OpenSource: Send + Sync + std::fmt::Debug {
    /// The partitions of a source as they are now.
    fn partitions(&self, definition: &SourceDefinition) -> Result<Vec<PartitionRange>, IngestError>;

    /// What can be asked which source of that name it is; `None` if that cannot be known.
    fn identify(&self, _definition: &SourceDefinition) -> Result<Option<Box<dyn Identify>>, IngestError> {
        Ok(None)
    }

    /// Where a pipeline that has read nothing yet begins in each of these partitions, as the definition says: its `start`.
    fn starts(&self, _definition: &SourceDefinition, ranges: &[PartitionRange]) -> Result<Positions, IngestError> {
        Ok(ranges.iter().map(|range| (range.partition, range.low)).collect())
    }

    /// Reads the partitions in `positions`, each from the position given there. `wanted` are indices into the definition's columns;
    /// rows come out in that order. `reader` is the name under which lag tools see who reads.
    fn open(
        &self,
        definition: &SourceDefinition,
        wanted: &[usize],
        positions: &Positions,
        reader: &str,
    ) -> Result<Box<dyn SourceRead>, IngestError>;
}

//! The seam between a transport and the pipelines: fetch raw records, decode them to Arrow.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::record_batch::RecordBatch;

use crate::IngestError;

/// How much one call of [`Fetch::fetch`] may return.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    /// Records over all partitions.
    pub rows: usize,
    /// Bytes of keys and values over all partitions.
    pub bytes: usize,
}

/// Raw records of one partition, offsets ascending: values lie behind one another in one buffer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawBatch {
    /// Kafka partition number.
    pub partition: i32,
    /// All values, one after another.
    pub bytes: Vec<u8>,
    /// Where each value ends in `bytes`.
    pub ends: Vec<usize>,
    /// True where the message had no value at all (a tombstone).
    pub null_values: Vec<bool>,
    /// Offset of each record.
    pub offsets: Vec<i64>,
    /// Kafka timestamp of each record in milliseconds since 1970; -1 if there is none.
    pub timestamps_ms: Vec<i64>,
    /// Keys, if wanted; empty otherwise.
    pub keys: Vec<Option<Vec<u8>>>,
    /// Headers, if wanted; empty otherwise.
    pub headers: Vec<Vec<(String, Option<Vec<u8>>)>>,
}

/// Where a partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionProgress {
    /// Kafka partition number.
    pub partition: i32,
    /// The next offset that will be returned.
    pub next_offset: i64,
    /// The end of the partition as last known to the client (the next offset to be written); `None` until known.
    pub high_watermark: Option<i64>,
}

/// Takes raw records from a transport. One instance serves one thread and a fixed set of partitions.
pub trait Fetch: Send {
    /// Waits up to `timeout` for the first record, then takes what has arrived, up to `limits`.
    /// At most one batch a partition; empty if nothing came.
    fn fetch(&mut self, limits: FetchLimits, timeout: Duration) -> Result<Vec<RawBatch>, IngestError>;

    /// Where each partition stands, without waiting.
    fn progress(&mut self) -> Vec<PartitionProgress>;
}

/// What a decoder made of a [`RawBatch`].
#[derive(Debug)]
pub struct Decoded {
    /// The accepted rows, in offset order: the wanted columns in the order asked for.
    pub rows: RecordBatch,
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

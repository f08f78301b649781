//! The Kafka transport: librdkafka with partitions assigned by hand, records taken in batches.
//!
//! Positions come from the caller and nowhere else; a gap (retention passed our offset, a truncated topic) is a named error, never a
//! silent jump. A broker that goes away and comes back is no error: [`Fetch::fetch`] returns nothing meanwhile.
//!
//! State kept: one librdkafka client and the next offset of each partition. Memory is bounded by `queued.max.messages.kbytes`
//! (16 MiB, can be set) plus what the limits of a fetch allow.

use std::ffi::CString;
use std::time::{Duration, Instant};

use rdkafka::client::Client;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use crate::client::{self, Context};
use crate::clock::now_ms;
use crate::consume::{self, Consumed, PartitionList, Queue};
use crate::error::{IngestError, Result};
pub use crate::settings::KafkaSettings;
use crate::source::{Fetch, FetchLimits, Identify, PartitionProgress, PartitionRange, Positions, RawBatch};

/// How long look-ups (partitions, watermarks) may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a cluster may take to say which one it is: people wait for it.
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(5);

/// Records taken from librdkafka in one go: amortises its lock, small enough that the first of them is still in the CPU's cache.
const CHUNK_RECORDS: usize = 4096;

/// Ours, before what the user sets. `fetch.queue.backoff.ms`: with the default of a second a fast consumer whose queue is full sleeps that
/// long. `fetch.wait.max.ms`: how long a broker may hold an empty fetch, hence how late a high watermark may be.
const CONSUMER: [(&str, &str); 12] = [
    ("group.id", "watershed"),
    ("auto.offset.reset", "error"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("fetch.queue.backoff.ms", "5"),
    // Waiting a little for more saves both sides most of their requests when records trickle.
    ("fetch.min.bytes", "65536"),
    ("fetch.wait.max.ms", "50"),
    ("queued.max.messages.kbytes", "16384"),
    ("statistics.interval.ms", "0"),
    ("reconnect.backoff.max.ms", "1000"),
    ("topic.metadata.refresh.interval.ms", "60000"),
    ("check.crcs", "true"),
];

/// The topic's partitions and the offsets Kafka holds. Blocks up to ten seconds; partitions added later show up when called again.
pub fn partitions(settings: &KafkaSettings, topic: &str) -> Result<Vec<PartitionRange>> {
    client::ranges(&client::open(settings, &CONSUMER)?, topic, LOOKUP_TIMEOUT)
}

/// Asks for the id that Kafka gave a topic when it was made: another one if it was deleted and made again. Brokers before Kafka 2.8 give none,
/// and some do not let us see it. State: one librdkafka client, which keeps its connections.
pub struct KafkaIdentity {
    client: Client<Context>,
    topic: String,
    name: CString,
}

impl KafkaIdentity {
    /// Does not wait for the broker.
    pub fn open(settings: &KafkaSettings, topic: &str) -> Result<Self> {
        let name = CString::new(topic).map_err(|_| IngestError::UnknownTopic { topic: topic.into() })?;
        Ok(Self { client: client::open(settings, &CONSUMER)?, topic: topic.into(), name })
    }
}

impl Identify for KafkaIdentity {
    fn identity(&mut self, timeout: Duration) -> Result<Option<String>> {
        match consume::topic_id(&self.client, &self.name, timeout) {
            Ok(id) => Ok(id),
            Err(code) => match client::name_request_error(&self.client, &self.topic, &KafkaError::MetadataFetch(code)) {
                // It answers, but does not tell: an old broker, or one that does not let us see the topic.
                IngestError::BrokerUnreachable { .. } if !says_nothing(code) => Ok(None),
                IngestError::Authorization { .. } => Ok(None),
                error => Err(error),
            },
        }
    }
}

/// Whether no broker has answered.
fn says_nothing(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::WaitingForCoordinator
    )
}

/// The id of the cluster, the same under all of its addresses. `None` from brokers that give none. `topic` need not be there. Blocks up to five
/// seconds.
pub fn cluster_id(settings: &KafkaSettings, topic: &str) -> Result<Option<String>> {
    let client = client::open(settings, &CONSUMER)?;
    let answered = client.fetch_metadata(Some(topic), CLUSTER_TIMEOUT);
    answered.map_err(|error| client::name_request_error(&client, topic, &error))?;
    // It came with the answer.
    Ok(client.fetch_cluster_id(Duration::ZERO))
}

/// Where in each partition the first record is whose timestamp is `ms` or later; the end where there is none. Blocks up to ten seconds.
pub fn positions_at(settings: &KafkaSettings, topic: &str, ms: i64, ranges: &[PartitionRange]) -> Result<Positions> {
    let client = client::open(settings, &CONSUMER)?;
    let name = CString::new(topic).map_err(|_| IngestError::UnknownTopic { topic: topic.into() })?;
    let list = PartitionList::new(&name, ranges.iter().map(|range| (range.partition, ms)));
    let found = list.at_times(&client, LOOKUP_TIMEOUT).map_err(|failure| client::name_request_error(&client, topic, &failure))?;
    let of = |(range, offset): (&PartitionRange, i64)| {
        let offset = if offset < 0 { range.high } else { offset.clamp(range.low, range.high) };
        (range.partition, offset)
    };
    Ok(ranges.iter().zip(found).map(of).collect())
}

/// Reads some partitions of one topic.
pub struct KafkaFetch {
    // The queue is dropped before the client it belongs to.
    queue: Queue,
    client: Client<Context>,
    topic: String,
    topic_native: CString,
    partitions: Vec<Assigned>,
    want_headers: bool,
    record_bytes_estimate: usize,
    /// An error that came after records which had to be handed out first.
    failure: Option<IngestError>,
}

#[derive(Debug)]
struct Assigned {
    partition: i32,
    next_offset: i64,
    /// Whether the newest thing that came was an error: librdkafka counts it as a record that was read.
    failing: bool,
}

impl KafkaFetch {
    /// Connects and assigns the partitions in `positions`, each from the offset given there.
    ///
    /// Blocks up to ten seconds for the broker. Fails if the topic or a partition does not exist, or an offset is not (or no longer) there.
    pub fn open(settings: &KafkaSettings, topic: &str, positions: &Positions, want_headers: bool) -> Result<Self> {
        let client = client::open(settings, &CONSUMER)?;
        check_positions(topic, positions, &client::ranges(&client, topic, LOOKUP_TIMEOUT)?)?;
        let topic_native = CString::new(topic).map_err(|_| IngestError::UnknownTopic { topic: topic.into() })?;
        let queue = Queue::of_consumer(&client)?;
        let list = PartitionList::new(&topic_native, positions.iter().map(|(partition, offset)| (*partition, *offset)));
        list.assign(&client)?;
        let partitions = positions.iter().map(|(&partition, &next_offset)| Assigned { partition, next_offset, failing: false }).collect();
        let topic = topic.to_string();
        Ok(Self { queue, client, topic, topic_native, partitions, want_headers, record_bytes_estimate: 256, failure: None })
    }

    /// False while no broker can be reached; librdkafka keeps trying.
    #[cfg(test)]
    pub(crate) fn is_connected(&self) -> bool {
        self.client.context().is_connected()
    }

    /// Shows `positions` (next offsets to be read) to lag tools under the consumer group. Returns at once; a failure is only logged,
    /// since nothing is recovered from there.
    pub fn commit_offsets(&self, positions: &Positions) {
        PartitionList::new(&self.topic_native, positions.iter().map(|(partition, offset)| (*partition, *offset))).commit(&self.client);
    }

    /// Sorts one chunk into the partitions' batches. Returns bytes taken.
    fn sort_in(&mut self, chunk: consume::Chunk, batches: &mut [RawBatch]) -> usize {
        let (mut bytes, mut records, mut slot) = (0, 0, 0);
        for message in chunk {
            let partition = message.partition();
            if self.partitions[slot].partition != partition {
                match self.partitions.binary_search_by_key(&partition, |assigned| assigned.partition) {
                    Ok(found) => slot = found,
                    Err(_) => continue,
                }
            }
            match message.consumed() {
                Consumed::Record { offset, timestamp_ms, key, value } => {
                    let batch = &mut batches[slot];
                    batch.push(offset, timestamp_ms, key, value);
                    if self.want_headers {
                        batch.headers.push(message.headers());
                    }
                    self.partitions[slot].next_offset = offset + 1;
                    self.partitions[slot].failing = false;
                    bytes += key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
                    records += 1;
                }
                Consumed::Failure { code, reason } => {
                    self.partitions[slot].failing = true;
                    if let Some(failure) = self.name_failure(code, reason, slot) {
                        self.failure.get_or_insert(failure);
                    }
                }
            }
        }
        if let Some(mean) = bytes.checked_div(records) {
            self.record_bytes_estimate = mean.max(1);
        }
        bytes
    }

    /// Names an error of a partition; `None` if librdkafka gets over it by itself.
    fn name_failure(&self, code: RDKafkaErrorCode, reason: String, slot: usize) -> Option<IngestError> {
        let (topic, partition) = (self.topic.clone(), self.partitions[slot].partition);
        match code {
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::LogTruncation => {
                let (low, high) = self.client.fetch_watermarks(&topic, partition, LOOKUP_TIMEOUT).unwrap_or((-1, -1));
                Some(IngestError::OffsetGone { topic, partition, wanted: self.partitions[slot].next_offset, low, high })
            }
            RDKafkaErrorCode::TopicAuthorizationFailed => Some(IngestError::Authorization { topic, reason }),
            RDKafkaErrorCode::Fatal => Some(IngestError::Client { doing: format!("reading topic '{topic}'"), reason }),
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownPartition => {
                // A broker that is just starting may say so for a moment; only a clear second answer counts.
                match client::ranges(&self.client, &topic, LOOKUP_TIMEOUT) {
                    Err(error @ IngestError::UnknownTopic { .. }) => Some(error),
                    Ok(ranges) if ranges.iter().all(|range| range.partition != partition) => {
                        Some(IngestError::UnknownPartition { topic, partition })
                    }
                    _ => None,
                }
            }
            _ => {
                self.client.context().report(code, &reason);
                None
            }
        }
    }
}

impl Fetch for KafkaFetch {
    fn fetch(&mut self, limits: FetchLimits, timeout: Duration) -> Result<Vec<RawBatch>> {
        let deadline = Instant::now() + timeout;
        let mut batches: Vec<RawBatch> = self.partitions.iter().map(|assigned| RawBatch::new(assigned.partition)).collect();
        let (mut rows, mut bytes) = (0, 0);
        while self.failure.is_none() && rows < limits.rows && bytes < limits.bytes {
            let room = ((limits.bytes - bytes) / self.record_bytes_estimate).clamp(1, CHUNK_RECORDS).min(limits.rows - rows);
            // `rd_kafka_consume_batch_queue` waits until the chunk is full or time is up: take what is there without waiting, and wait
            // for one record only if there is none.
            let mut chunk = self.queue.take(room, Duration::ZERO)?;
            if chunk.is_empty() {
                let left = deadline.saturating_duration_since(Instant::now());
                if rows > 0 || left.is_zero() {
                    break;
                }
                chunk = self.queue.take(1, left)?;
            }
            bytes += self.sort_in(chunk, &mut batches);
            rows = batches.iter().map(RawBatch::len).sum();
        }
        batches.retain(|batch| !batch.is_empty());
        let taken_ms = now_ms();
        batches.iter_mut().for_each(|batch| batch.taken_ms = Some(taken_ms));
        if rows > 0 {
            self.client.context().answered();
            return Ok(batches);
        }
        match self.failure.take().or_else(|| self.client.context().incurable()) {
            Some(failure) => Err(failure),
            None => Ok(batches),
        }
    }

    fn progress(&mut self) -> Vec<PartitionProgress> {
        let positions = PartitionList::new(&self.topic_native, self.partitions.iter().map(|assigned| (assigned.partition, -1)));
        let read_to = positions.positions(&self.client);
        let of = |(index, assigned): (usize, &Assigned)| PartitionProgress {
            partition: assigned.partition,
            // librdkafka also counts what it keeps to itself (transaction markers), without which the end would never be reached.
            next_offset: assigned.next_offset.max(read_to.get(index).copied().filter(|_| !assigned.failing).unwrap_or(-1)),
            high_watermark: consume::cached_high_watermark(&self.client, &self.topic_native, assigned.partition),
        };
        self.partitions.iter().enumerate().map(of).collect()
    }
}

fn check_positions(topic: &str, positions: &Positions, ranges: &[PartitionRange]) -> Result<()> {
    for (&partition, &wanted) in positions {
        let Some(range) = ranges.iter().find(|range| range.partition == partition) else {
            return Err(IngestError::UnknownPartition { topic: topic.into(), partition });
        };
        if wanted < range.low || wanted > range.high {
            return Err(IngestError::OffsetGone { topic: topic.into(), partition, wanted, low: range.low, high: range.high });
        }
    }
    Ok(())
}

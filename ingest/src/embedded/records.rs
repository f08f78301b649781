//! The requests that move records: Produce, Fetch, ListOffsets.

use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::batch::Batch;
use super::catalog::Catalog;
use super::messages::{
    FetchPartition, FetchRequest, FetchResponse, FetchableTopicResponse, ListOffsetsPartition, ListOffsetsPartitionResponse,
    ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse, PartitionData, PartitionProduceData, PartitionProduceResponse,
    ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use super::protocol::ErrorCode;

/// The most one answer carries, whatever a client asks for.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The longest a fetch waits for records.
const FETCH_WAIT_MAX: Duration = Duration::from_secs(30);

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// Appends batches. Each partition is answered for itself.
pub(super) fn produce(catalog: &Catalog, request: ProduceRequest) -> ProduceResponse {
    let segment_bytes = catalog.segment_bytes();
    let mut topics = Vec::new();
    for topic in request.topic_data {
        let partitions = topic.partition_data.into_iter();
        let answers = partitions.map(|partition| produce_partition(catalog, &topic.name, partition, segment_bytes)).collect();
        topics.push(TopicProduceResponse { name: topic.name, partition_responses: answers });
    }
    catalog.announce_append();
    ProduceResponse { responses: topics, ..ProduceResponse::default() }
}

fn produce_partition(catalog: &Catalog, topic: &str, data: PartitionProduceData, segment_bytes: u64) -> PartitionProduceResponse {
    let index = data.index;
    let append = || -> Result<(i64, i64), ErrorCode> {
        let log = catalog.log(topic, index)?;
        // All of them are looked at before one is written: an answer is for all.
        let mut records = data.records.unwrap_or_default();
        let mut batches = Vec::new();
        while !records.is_empty() {
            batches.push(Batch::take(&mut records)?);
        }
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let mut first = None;
        for (batch, bytes) in &batches {
            first.get_or_insert(log.append(batch, bytes, segment_bytes)?);
        }
        Ok((first.ok_or(ErrorCode::InvalidRecord)?, log.low()))
    };
    let (code, (offset, low)) = match append() {
        Ok(done) => (ErrorCode::None, done),
        Err(code) => (code, (-1, -1)),
    };
    PartitionProduceResponse {
        index,
        error_code: code.number(),
        base_offset: offset,
        log_start_offset: low,
        ..PartitionProduceResponse::default()
    }
}

/// Reads batches; waits until there are as many bytes as the client wants, or as long as it wants to wait.
pub(super) async fn fetch(catalog: &Catalog, request: FetchRequest) -> FetchResponse {
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(FETCH_WAIT_MAX);
    let deadline = Instant::now() + wait;
    let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0);
    // Subscribed before the first look, so that no append in between is missed.
    let mut appends = catalog.appends();
    loop {
        appends.mark_unchanged();
        let (response, bytes, failed) = fetch_now(catalog, &request);
        if bytes >= bytes_min || failed || Instant::now() >= deadline {
            return response;
        }
        if !matches!(timeout_at(deadline, appends.changed()).await, Ok(Ok(()))) {
            return fetch_now(catalog, &request).0;
        }
    }
}

/// An answer with what is there, its bytes, and whether a partition failed.
fn fetch_now(catalog: &Catalog, request: &FetchRequest) -> (FetchResponse, usize, bool) {
    let mut left = usize::try_from(request.max_bytes).unwrap_or(0).min(ANSWER_BYTES_MAX);
    let (mut bytes, mut failed) = (0, false);
    let mut topics = Vec::new();
    for topic in &request.topics {
        let mut partitions = Vec::new();
        for wanted in &topic.partitions {
            let (data, size) = fetch_partition(catalog, &topic.topic, wanted, left);
            failed |= data.error_code != ErrorCode::None.number();
            left = left.saturating_sub(size);
            bytes += size;
            partitions.push(data);
        }
        topics.push(FetchableTopicResponse { topic: topic.topic.clone(), partitions });
    }
    (FetchResponse { responses: topics, ..FetchResponse::default() }, bytes, failed)
}

fn fetch_partition(catalog: &Catalog, topic: &str, wanted: &FetchPartition, left: usize) -> (PartitionData, usize) {
    let (mut low, mut high) = (-1, -1);
    let mut read = || -> Result<Bytes, ErrorCode> {
        let log = catalog.log(topic, wanted.partition)?;
        let log = log.lock().unwrap_or_else(PoisonError::into_inner);
        (low, high) = (log.low(), log.high());
        let slice = log.find(wanted.fetch_offset)?;
        drop(log);
        let bytes_max = left.min(usize::try_from(wanted.partition_max_bytes).unwrap_or(0));
        match slice {
            Some(slice) if left > 0 => slice.read(bytes_max).map_err(|_| ErrorCode::KafkaStorageError),
            _ => Ok(Bytes::new()),
        }
    };
    let (code, records) = match read() {
        Ok(records) => (ErrorCode::None, records),
        Err(code) => (code, Bytes::new()),
    };
    let size = records.len();
    let data = PartitionData {
        partition_index: wanted.partition,
        error_code: code.number(),
        high_watermark: high,
        last_stable_offset: high,
        log_start_offset: low,
        aborted_transactions: Some(Vec::new()),
        records: Some(records),
        ..PartitionData::default()
    };
    (data, size)
}

/// Earliest and latest offsets, and the first one at or after a time.
pub(super) fn list_offsets(catalog: &Catalog, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let mut topics = Vec::new();
    for topic in request.topics {
        let answers = topic.partitions.iter().map(|partition| list_offset(catalog, &topic.name, partition)).collect();
        topics.push(ListOffsetsTopicResponse { name: topic.name, partitions: answers });
    }
    ListOffsetsResponse { topics, ..ListOffsetsResponse::default() }
}

fn list_offset(catalog: &Catalog, topic: &str, wanted: &ListOffsetsPartition) -> ListOffsetsPartitionResponse {
    let find = || -> Result<(i64, i64), ErrorCode> {
        let log = catalog.log(topic, wanted.partition_index)?;
        let log = log.lock().unwrap_or_else(PoisonError::into_inner);
        match wanted.timestamp {
            LATEST => Ok((log.high(), -1)),
            EARLIEST => Ok((log.low(), -1)),
            time_ms if time_ms >= 0 => Ok(log.find_time(time_ms).map_err(|_| ErrorCode::KafkaStorageError)?.unwrap_or((-1, -1))),
            _ => Err(ErrorCode::UnsupportedVersion),
        }
    };
    let (code, (offset, timestamp)) = match find() {
        Ok(found) => (ErrorCode::None, found),
        Err(code) => (code, (-1, -1)),
    };
    ListOffsetsPartitionResponse { partition_index: wanted.partition_index, error_code: code.number(), timestamp, offset, leader_epoch: 0 }
}

//! The requests that move records: Produce, Fetch, ListOffsets.

use std::sync::PoisonError;
use std::time::Duration;

use tansu_sans_io::fetch_request::FetchPartition;
use tansu_sans_io::fetch_response::{FetchableTopicResponse, PartitionData};
use tansu_sans_io::list_offsets_request::ListOffsetsPartition;
use tansu_sans_io::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use tansu_sans_io::produce_request::PartitionProduceData;
use tansu_sans_io::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use tansu_sans_io::record::deflated::Frame;
use tansu_sans_io::{ErrorCode, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, ProduceRequest, ProduceResponse};
use tokio::time::{Instant, timeout_at};

use super::catalog::Catalog;

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
    for topic in request.topic_data.unwrap_or_default() {
        let partitions = topic.partition_data.unwrap_or_default().into_iter();
        let answers = partitions.map(|partition| produce_partition(catalog, &topic.name, partition, segment_bytes)).collect();
        topics.push(TopicProduceResponse::default().name(topic.name).partition_responses(Some(answers)));
    }
    catalog.announce_append();
    ProduceResponse::default().responses(Some(topics)).throttle_time_ms(Some(0))
}

fn produce_partition(catalog: &Catalog, topic: &str, data: PartitionProduceData, segment_bytes: u64) -> PartitionProduceResponse {
    let index = data.index;
    let append = || -> Result<(i64, i64), ErrorCode> {
        let log = catalog.log(topic, index)?;
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let mut first = None;
        for batch in data.records.map(|records| records.batches).unwrap_or_default() {
            first.get_or_insert(log.append(batch, segment_bytes)?);
        }
        Ok((first.ok_or(ErrorCode::InvalidRecord)?, log.low()))
    };
    let (code, (offset, low)) = match append() {
        Ok(done) => (ErrorCode::None, done),
        Err(code) => (code, (-1, -1)),
    };
    PartitionProduceResponse::default()
        .index(index)
        .error_code(code.into())
        .base_offset(offset)
        .log_append_time_ms(Some(-1))
        .log_start_offset(Some(low))
        .record_errors(Some(Vec::new()))
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
    let mut left = usize::try_from(request.max_bytes.unwrap_or(i32::MAX)).unwrap_or(0).min(ANSWER_BYTES_MAX);
    let (mut bytes, mut failed) = (0, false);
    let mut topics = Vec::new();
    for topic in request.topics.iter().flatten() {
        let name = topic.topic.as_deref().unwrap_or_default();
        let mut partitions = Vec::new();
        for wanted in topic.partitions.iter().flatten() {
            let (data, size) = fetch_partition(catalog, name, wanted, left);
            failed |= data.error_code != i16::from(ErrorCode::None);
            left = left.saturating_sub(size);
            bytes += size;
            partitions.push(data);
        }
        topics.push(FetchableTopicResponse::default().topic(topic.topic.clone()).topic_id(topic.topic_id).partitions(Some(partitions)));
    }
    let response = FetchResponse::default().throttle_time_ms(Some(0)).error_code(Some(0)).session_id(Some(0)).responses(Some(topics));
    (response, bytes, failed)
}

fn fetch_partition(catalog: &Catalog, topic: &str, wanted: &FetchPartition, left: usize) -> (PartitionData, usize) {
    let (mut low, mut high) = (-1, -1);
    let mut read = || -> Result<Option<Frame>, ErrorCode> {
        let log = catalog.log(topic, wanted.partition)?;
        let log = log.lock().unwrap_or_else(PoisonError::into_inner);
        (low, high) = (log.low(), log.high());
        let slice = log.find(wanted.fetch_offset)?;
        drop(log);
        let bytes_max = left.min(usize::try_from(wanted.partition_max_bytes).unwrap_or(0));
        match slice {
            Some(slice) if left > 0 => {
                let batches = slice.read(bytes_max).map_err(|_| ErrorCode::KafkaStorageError)?;
                Ok(Some(Frame { batches }))
            }
            _ => Ok(None),
        }
    };
    let (code, records) = match read() {
        Ok(records) => (ErrorCode::None, records),
        Err(code) => (code, None),
    };
    let size = records.iter().flat_map(|frame| &frame.batches).map(|batch| batch.batch_length as usize).sum();
    let data = PartitionData::default()
        .partition_index(wanted.partition)
        .error_code(code.into())
        .high_watermark(high)
        .last_stable_offset(Some(high))
        .log_start_offset(Some(low))
        .aborted_transactions(Some(Vec::new()))
        .preferred_read_replica(Some(-1))
        .records(records);
    (data, size)
}

/// Earliest and latest offsets, and the first one at or after a time.
pub(super) fn list_offsets(catalog: &Catalog, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let mut topics = Vec::new();
    for topic in request.topics.unwrap_or_default() {
        let partitions = topic.partitions.unwrap_or_default();
        let answers = partitions.iter().map(|partition| list_offset(catalog, &topic.name, partition)).collect();
        topics.push(ListOffsetsTopicResponse::default().name(topic.name).partitions(Some(answers)));
    }
    ListOffsetsResponse::default().throttle_time_ms(Some(0)).topics(Some(topics))
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
    ListOffsetsPartitionResponse::default()
        .partition_index(wanted.partition_index)
        .error_code(code.into())
        .timestamp(Some(timestamp))
        .offset(Some(offset))
        .leader_epoch(Some(0))
}

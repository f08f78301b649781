//! Writes to Kafka: one idempotent producer with a bounded queue, and the making of topics.
//!
//! State kept: librdkafka's queue (at most 64 MiB or 500,000 records) and counts of what became of the records.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use tracing::debug;

use crate::client::name_config_error;
use crate::error::{IngestError, Result};
use crate::settings::KafkaSettings;

/// How long [`Producer::send`] waits for room: longer than a broker's restart takes.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the look-up of a topic may take.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(10);

/// How long topics may take to be made and to show up.
const TOPICS_TIMEOUT: Duration = Duration::from_secs(30);

/// Callbacks are served once for so many records.
const SERVE_EVERY: u64 = 1024;

/// How long callbacks are served at a time while waiting: rdkafka serves for all of it, also when there is nothing left to serve.
const SERVE_FOR: Duration = Duration::from_millis(1);

/// Ours, before what the user sets. lz4 is cheap; 5 ms fill batches without being felt.
const PRODUCER: [(&str, &str); 7] = [
    ("enable.idempotence", "true"),
    ("compression.codec", "lz4"),
    ("linger.ms", "5"),
    ("queue.buffering.max.kbytes", "65536"),
    ("queue.buffering.max.messages", "500000"),
    ("message.max.bytes", "16777216"),
    ("statistics.interval.ms", "0"),
];

/// For sinks, over [`PRODUCER`]. A pipeline that cannot deliver says so after half a minute, longer than a broker's restart takes, and tries
/// again from its newest epoch. `murmur2_random` puts a key where Kafka's own clients would.
const SINK: [(&str, &str); 2] = [("message.timeout.ms", "30000"), ("partitioner", "murmur2_random")];

/// The header that carries a message's id.
const ID_HEADER: &str = "id";

/// Bytes of a batch if nobody says otherwise; a larger record is sent alone.
const BATCH_BYTES: u64 = 1_000_000;

/// A record that Kafka will never take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsent {
    /// Its id.
    pub id: String,
    /// Why it is not taken.
    pub reason: String,
}

/// What became of the records sent.
#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    failed: AtomicU64,
    first_failure: OnceLock<Failure>,
    /// Whether a record that is too large is alone in its batch: else it is not known which of them is to blame.
    large_ones_alone: bool,
    refused: Mutex<Vec<Unsent>>,
}

/// Why records were not acknowledged.
#[derive(Debug)]
struct Failure {
    reason: String,
    /// The record, if it would fail as well the next time.
    of: Option<String>,
}

impl Counts {
    fn refused(&self) -> MutexGuard<'_, Vec<Unsent>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, id: &str, bytes: usize) {
        let reason = format!("its message of {bytes} bytes is larger than the topic takes (max.message.bytes)");
        self.refused().push(Unsent { id: id.to_owned(), reason });
    }
}

/// Whether a record is to blame for a failure, so that sending it again would end alike.
fn is_of_the_record(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::MessageBatchTooLarge
            | RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::InvalidTimestamp
            | RDKafkaErrorCode::UnsupportedForMessageFormat
            | RDKafkaErrorCode::PolicyViolation
    )
}

/// The id in a message's headers.
fn id_of<M: Message>(message: &M) -> Option<String> {
    let headers = message.headers()?;
    let id = headers.iter().find(|header| header.key == ID_HEADER)?.value?;
    Some(String::from_utf8_lossy(id).into_owned())
}

/// Counts deliveries.
struct Deliveries(Arc<Counts>);

impl ClientContext for Deliveries {
    fn log(&self, _level: rdkafka::config::RDKafkaLogLevel, facility: &str, text: &str) {
        debug!(target: "librdkafka", "{facility}: {text}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(target: "librdkafka", "{error}: {reason}");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        match result {
            Ok(_) => {
                self.0.delivered.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, message)) => {
                let (code, id) = (error.rdkafka_error_code(), id_of(message));
                let is_too_large = code == Some(RDKafkaErrorCode::MessageSizeTooLarge) && self.0.large_ones_alone;
                if let (true, Some(id)) = (is_too_large, &id) {
                    return self.0.refuse(id, message.payload_len());
                }
                self.0.failed.fetch_add(1, Ordering::Relaxed);
                let of = code.filter(|code| is_of_the_record(*code)).map(|_| id.unwrap_or_else(|| "none".into()));
                self.0.first_failure.get_or_init(|| Failure { reason: error.to_string(), of });
            }
        }
    }
}

/// An idempotent producer: within one instance each record is written once and in order, whatever the network does.
pub struct Producer {
    client: BaseProducer<Deliveries>,
    counts: Arc<Counts>,
    sent: u64,
}

impl Producer {
    /// A producer. Does not wait for the broker.
    pub fn new(settings: &KafkaSettings) -> Result<Self> {
        Self::with(settings, &PRODUCER, None)
    }

    /// A producer for a sink: it gives up sooner, and places keys as Kafka's own clients do. Does not wait for the broker.
    /// `largest` is what the topic takes at most in one batch, in bytes, if that is known.
    pub(crate) fn for_sink(settings: &KafkaSettings, largest: Option<u64>) -> Result<Self> {
        let batch_bytes = largest.map_or(BATCH_BYTES, |largest| largest.clamp(1, BATCH_BYTES)).to_string();
        let ours = [PRODUCER.as_slice(), SINK.as_slice(), &[("batch.size", batch_bytes.as_str())]].concat();
        Self::with(settings, &ours, largest)
    }

    fn with(settings: &KafkaSettings, ours: &[(&str, &str)], largest: Option<u64>) -> Result<Self> {
        let config = settings.client(ours)?;
        let batch_bytes: Option<u64> = config.get("batch.size").and_then(|bytes| bytes.parse().ok());
        let large_ones_alone = batch_bytes.zip(largest).is_some_and(|(batch, largest)| batch <= largest);
        let counts = Arc::new(Counts { large_ones_alone, ..Counts::default() });
        let client = config.create_with_context(Deliveries(counts.clone())).map_err(name_config_error)?;
        Ok(Self { client, counts, sent: 0 })
    }

    /// Hands one record over; returns once it is in the queue, which it may have to wait for up to a minute.
    ///
    /// Without a partition, the key's hash decides (or chance, without a key). `value` `None` is a tombstone. A timestamp of 0 means now.
    pub fn send(&mut self, topic: &str, partition: Option<i32>, key: Option<&[u8]>, value: Option<&[u8]>, timestamp_ms: i64) -> Result<()> {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).timestamp(timestamp_ms);
        record.partition = partition;
        record.key = key;
        record.payload = value;
        self.hand_over(record)
    }

    /// Hands over one record that carries `id` in its header `id`; else as [`Producer::send`].
    pub fn send_with_id(&mut self, topic: &str, key: Option<&[u8]>, value: &[u8], id: &str) -> Result<()> {
        let headers = OwnedHeaders::new_with_capacity(1).insert(Header { key: ID_HEADER, value: Some(id) });
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).payload(value).headers(headers);
        record.key = key;
        match self.hand_over(record) {
            // The client itself takes no more than message.max.bytes, of one record.
            Err(IngestError::Undeliverable { .. }) => {
                self.counts.refuse(id, value.len());
                Ok(())
            }
            handed => handed,
        }
    }

    fn hand_over(&mut self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
        let (topic, partition) = (record.topic, record.partition);
        self.sent += 1;
        if self.sent.is_multiple_of(SERVE_EVERY) {
            self.serve();
        }
        let started = Instant::now();
        loop {
            match self.client.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    if started.elapsed() > QUEUE_TIMEOUT {
                        let waited_ms = started.elapsed().as_millis() as u64;
                        return Err(IngestError::QueueFull { waited_ms, queued: self.queued() });
                    }
                    self.client.poll(SERVE_FOR);
                    record = back;
                }
                Err((error, _)) => {
                    let unknown = matches!(
                        error.rdkafka_error_code(),
                        Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition)
                    );
                    return Err(match (error.rdkafka_error_code(), partition) {
                        (Some(RDKafkaErrorCode::MessageSizeTooLarge), _) => {
                            IngestError::Undeliverable { record: "none".into(), reason: error.to_string() }
                        }
                        (Some(RDKafkaErrorCode::UnknownPartition), Some(partition)) => {
                            IngestError::UnknownPartition { topic: topic.into(), partition }
                        }
                        _ if unknown => IngestError::UnknownTopic { topic: topic.into() },
                        _ => IngestError::Client { doing: format!("writing to topic '{topic}'"), reason: error.to_string() },
                    });
                }
            }
        }
    }

    /// Takes in all reports that have come. One poll takes one, which at a low rate is of a few records, and records keep their memory until then.
    fn serve(&self) {
        let known = || self.delivered() + self.failed() + self.counts.refused().len() as u64;
        loop {
            let before = known();
            self.client.poll(Duration::ZERO);
            if known() == before {
                return;
            }
        }
    }

    /// Fails if the topic does not exist, or no broker says so in time. Blocks up to ten seconds.
    pub(crate) fn check_topic(&self, settings: &KafkaSettings, topic: &str) -> Result<()> {
        let unknown = |code| matches!(code, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic);
        let metadata =
            self.client.client().fetch_metadata(Some(topic), TOPIC_TIMEOUT).map_err(|error| match error.rdkafka_error_code() {
                Some(code) if unknown(code) => IngestError::UnknownTopic { topic: topic.into() },
                _ => IngestError::BrokerUnreachable { bootstrap: settings.bootstrap.clone(), reason: error.to_string() },
            })?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        match found.map(|found| found.error().map(RDKafkaErrorCode::from)) {
            Some(None) => Ok(()),
            Some(Some(code @ RDKafkaErrorCode::TopicAuthorizationFailed)) => {
                Err(IngestError::Authorization { topic: topic.into(), reason: code.to_string() })
            }
            Some(Some(code)) if !unknown(code) => {
                Err(IngestError::Client { doing: format!("looking up topic '{topic}'"), reason: code.to_string() })
            }
            _ => Err(IngestError::UnknownTopic { topic: topic.into() }),
        }
    }

    /// Waits until all records were acknowledged. Fails if some were not, or time is up.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        while self.queued() > 0 && Instant::now() < deadline {
            // The time is up at once by intent: only says that nothing more is to be waited for before sending.
            let _ = self.client.flush(Duration::ZERO);
            self.client.poll(SERVE_FOR);
        }
        let failed = self.failed();
        if failed > 0 {
            return Err(match self.counts.first_failure.get() {
                Some(Failure { reason, of: Some(record) }) => IngestError::Undeliverable { record: record.clone(), reason: reason.clone() },
                failure => IngestError::Delivery { failed, reason: failure.map_or_else(String::new, |failure| failure.reason.clone()) },
            });
        }
        match self.queued() {
            0 => Ok(()),
            queued => Err(IngestError::QueueFull { waited_ms: timeout.as_millis() as u64, queued }),
        }
    }

    /// Takes what Kafka will never take of the records with an id, as far as known; [`Producer::flush`] does not fail for them.
    pub fn take_refused(&mut self) -> Vec<Unsent> {
        std::mem::take(&mut *self.counts.refused())
    }

    /// Records that Kafka acknowledged so far (as far as known: callbacks are served by `send` and `flush`).
    pub fn delivered(&self) -> u64 {
        self.counts.delivered.load(Ordering::Relaxed)
    }

    /// Records that Kafka did not take.
    pub fn failed(&self) -> u64 {
        self.counts.failed.load(Ordering::Relaxed)
    }

    /// Records handed over whose fate is not known yet.
    pub fn queued(&self) -> u64 {
        u64::try_from(self.client.in_flight_count()).unwrap_or(0)
    }
}

/// How many bytes a topic takes in one batch; `None` if no broker says so in time, or to us.
pub(crate) fn largest_batch(settings: &KafkaSettings, topic: &str) -> Option<u64> {
    let admin: AdminClient<DefaultClientContext> = settings.client(&[]).ok()?.create().ok()?;
    let options = AdminOptions::new().request_timeout(Some(TOPIC_TIMEOUT));
    let described = futures::executor::block_on(admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options)).ok()?;
    described.into_iter().next()?.ok()?.get("max.message.bytes")?.value.as_ref()?.parse().ok()
}

/// Makes those of the topics (name, number of partitions) that do not exist, and waits until all of them can be used.
///
/// A topic that exists is left as it is. Blocks up to thirty seconds.
pub fn ensure_topics(settings: &KafkaSettings, topics: &[(&str, i32)]) -> Result<()> {
    let config = settings.client(&[])?;
    let admin: AdminClient<DefaultClientContext> = config.create().map_err(name_config_error)?;
    // -1: as many replicas as the broker makes by default.
    let new: Vec<NewTopic<'_>> = topics.iter().map(|(name, count)| NewTopic::new(name, *count, TopicReplication::Fixed(-1))).collect();
    let options = AdminOptions::new().request_timeout(Some(TOPICS_TIMEOUT));
    let unreachable =
        |error: KafkaError| IngestError::BrokerUnreachable { bootstrap: settings.bootstrap.clone(), reason: error.to_string() };
    for outcome in futures::executor::block_on(admin.create_topics(&new, &options)).map_err(unreachable)? {
        match outcome {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code @ (RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed))) => {
                return Err(IngestError::Authorization { topic, reason: code.to_string() });
            }
            Err((topic, code)) => {
                return Err(IngestError::Client { doing: format!("making topic '{topic}'"), reason: code.to_string() });
            }
        }
    }
    let deadline = Instant::now() + TOPICS_TIMEOUT;
    for (topic, _) in topics {
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
            let metadata = admin.inner().fetch_metadata(Some(topic), left).map_err(unreachable)?;
            let usable = metadata.topics().iter().any(|found| {
                found.name() == *topic && found.error().is_none() && found.partitions().iter().all(|partition| partition.leader() >= 0)
            });
            if usable {
                break;
            }
            if Instant::now() > deadline {
                return Err(IngestError::UnknownTopic { topic: (*topic).into() });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A broker that answers the first batch with an error, and a producer for a topic that takes so many bytes.
    fn refusing(
        error: RDKafkaRespErr,
        largest: Option<u64>,
    ) -> (MockCluster<'static, rdkafka::producer::DefaultProducerContext>, Producer) {
        let broker = MockCluster::new(1).unwrap();
        broker.create_topic("t", 1, 1).unwrap();
        broker.request_errors(RDKafkaApiKey::Produce, &[error]);
        let producer = Producer::for_sink(&KafkaSettings::new(broker.bootstrap_servers()), largest).unwrap();
        (broker, producer)
    }

    #[test]
    fn a_record_that_is_too_large_is_told_of_and_the_others_are_delivered() {
        let (_broker, mut producer) = refusing(RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, Some(1_048_588));
        producer.send_with_id("t", None, b"a large one", "s/0/0").unwrap();
        producer.flush(PATIENCE).unwrap();
        producer.send_with_id("t", None, b"a small one", "s/0/1").unwrap();
        // No message that the client itself would take.
        producer.send_with_id("t", None, &vec![b'x'; 17 << 20], "s/0/2").unwrap();
        producer.flush(PATIENCE).unwrap();
        let refused = producer.take_refused();
        let ids: Vec<&str> = refused.iter().map(|unsent| unsent.id.as_str()).collect();
        assert_eq!((ids, producer.delivered(), producer.failed()), (vec!["s/0/0", "s/0/2"], 1, 0));
        assert_eq!(refused[0].reason, "its message of 11 bytes is larger than the topic takes (max.message.bytes)");
        assert_eq!(producer.take_refused(), []);
    }

    /// It may have been refused for another one of its batch, or a copy of it would change the order of what follows.
    #[test]
    fn what_no_retry_cures_ends_with_the_records_name() {
        let cases = [
            (RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, None),
            (RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD, Some(1_048_588)),
        ];
        for (error, largest) in cases {
            let (_broker, mut producer) = refusing(error, largest);
            producer.send_with_id("t", None, b"{}", "s/0/7").unwrap();
            let failure = producer.flush(PATIENCE).unwrap_err();
            assert!(matches!(&failure, IngestError::Undeliverable { record, .. } if record == "s/0/7"), "{failure}");
            assert!(!failure.may_pass() && producer.take_refused().is_empty());
        }
    }

    #[test]
    fn batches_are_no_larger_than_the_topic_takes() {
        let of = |largest, set: Option<&str>| {
            let mut settings = KafkaSettings::new("localhost:1");
            settings.properties.extend(set.map(|bytes| ("batch.size".to_owned(), bytes.to_owned())));
            Producer::for_sink(&settings, largest).unwrap().counts.large_ones_alone
        };
        assert_eq!((of(Some(50_000), None), of(Some(8_000_000), None), of(None, None)), (true, true, false));
        assert_eq!((of(Some(50_000), Some("60000")), of(Some(50_000), Some("40000"))), (false, true));
    }
}

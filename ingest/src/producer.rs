//! Writes to Kafka: one idempotent producer with a bounded queue, and the making of topics.
//!
//! State kept: librdkafka's queue (at most 64 MiB or 500,000 records) and counts of what became of the records.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
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

/// What became of the records sent.
#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    failed: AtomicU64,
    first_failure: OnceLock<String>,
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
            Err((error, _)) => {
                self.0.failed.fetch_add(1, Ordering::Relaxed);
                self.0.first_failure.get_or_init(|| error.to_string());
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
        Self::with(settings, &PRODUCER)
    }

    /// A producer for a sink: it gives up sooner, and places keys as Kafka's own clients do. Does not wait for the broker.
    pub(crate) fn for_sink(settings: &KafkaSettings) -> Result<Self> {
        Self::with(settings, &[PRODUCER.as_slice(), SINK.as_slice()].concat())
    }

    fn with(settings: &KafkaSettings, ours: &[(&str, &str)]) -> Result<Self> {
        let counts = Arc::new(Counts::default());
        let config = settings.client(ours)?;
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
        self.hand_over(record)
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
        let known = || self.delivered() + self.failed();
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
            let reason = self.counts.first_failure.get().cloned().unwrap_or_default();
            return Err(IngestError::Delivery { failed, reason });
        }
        match self.queued() {
            0 => Ok(()),
            queued => Err(IngestError::QueueFull { waited_ms: timeout.as_millis() as u64, queued }),
        }
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

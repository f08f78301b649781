//! Whole pipelines over a topic of the embedded broker and a warehouse in memory: send messages, run to their end, look at the tables.

use std::sync::Arc;
use std::time::Duration;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::SessionContext;
use object_store::memory::InMemory;
use watershed_ingest::producer::ensure_topics;
use watershed_ingest::{EmbeddedBroker, EmbeddedSettings, KafkaSettings, Producer};
use watershed_lake::{LakeError, Patience, TableName, Warehouse};
use watershed_stream::{Project, RunOptions, Runner, StreamError, Until};

/// The Kafka timestamp of messages: 2024-06-01T10:00:00Z.
const SENT_MS: i64 = 1_717_236_000_000;

/// A broker with a topic, `t`, of some tests others, and a warehouse.
pub struct Topic {
    /// Ends with the test.
    _broker: EmbeddedBroker,
    kafka: KafkaSettings,
    pub warehouse: Warehouse,
}

impl Topic {
    pub fn new() -> Self {
        Self::with_partitions(1)
    }

    pub fn with_partitions(partitions: i32) -> Self {
        Self::of(&[("t", partitions)])
    }

    /// With these topics, each of so many partitions.
    pub fn of(topics: &[(&str, i32)]) -> Self {
        // It starts a runtime of its own, which must not be done on a thread of another.
        let started = std::thread::spawn(|| EmbeddedBroker::start(&EmbeddedSettings::default())).join();
        let broker = started.expect("no panic").expect("a broker");
        let kafka = KafkaSettings::new(broker.bootstrap());
        ensure_topics(&kafka, topics).expect("topics");
        let warehouse = Warehouse::with_patience(Arc::new(InMemory::new()), "memory:///".parse().expect("a URL"), Patience::default());
        Self { _broker: broker, kafka, warehouse }
    }

    /// Sends messages to partition 0.
    pub fn send<T: AsRef<[u8]>>(&self, messages: &[T]) {
        self.send_later(0, messages, Duration::ZERO);
    }

    /// Sends messages to a partition.
    pub fn send_to<T: AsRef<[u8]>>(&self, partition: i32, messages: &[T]) {
        self.send_later(partition, messages, Duration::ZERO);
    }

    /// Sends messages to a partition of a topic.
    pub fn send_into<T: AsRef<[u8]>>(&self, topic: &str, partition: i32, messages: &[T]) {
        self.send_later_into(topic, partition, messages, Duration::ZERO);
    }

    /// Sends messages to a partition, with a Kafka timestamp that is later than that of others.
    pub fn send_later<T: AsRef<[u8]>>(&self, partition: i32, messages: &[T], later: Duration) {
        self.send_later_into("t", partition, messages, later);
    }

    /// [`Self::send_later`] to a topic.
    pub fn send_later_into<T: AsRef<[u8]>>(&self, topic: &str, partition: i32, messages: &[T], later: Duration) {
        let mut producer = Producer::new(&self.kafka).expect("a producer");
        for message in messages {
            let sent_ms = SENT_MS + later.as_millis() as i64;
            producer.send(topic, Some(partition), None, Some(message.as_ref()), sent_ms).expect("sent");
        }
        producer.flush(Duration::from_secs(30)).expect("acknowledged");
    }

    /// Sends one message, or one without a value, to a partition, with a Kafka timestamp.
    pub fn send_one(&self, partition: i32, message: Option<&str>, ms: i64) {
        let mut producer = Producer::new(&self.kafka).expect("a producer");
        producer.send("t", Some(partition), Some(b"k"), message.map(str::as_bytes), ms).expect("sent");
        producer.flush(Duration::from_secs(30)).expect("acknowledged");
    }

    /// Runs all pipelines to the end of the topic; gives the error of the first that could not go on.
    pub async fn run(&self, definitions: &str, drain: bool) -> Result<(), StreamError> {
        self.run_with(definitions, drain, 1).await
    }

    /// [`Self::run`] with so many tasks a stage.
    pub async fn run_with(&self, definitions: &str, drain: bool, parallelism: usize) -> Result<(), StreamError> {
        let project = Project::parse([definitions]).unwrap_or_else(|error| panic!("{error}\n{definitions}"));
        let options = RunOptions {
            sources: Arc::new(self.kafka.clone()),
            sinks: Arc::new(self.kafka.clone()),
            only: Vec::new(),
            until: Until::CaughtUp { drain },
            state_limits: Default::default(),
            spill_dir: std::env::temp_dir(),
            parallelism: Some(parallelism),
        };
        let runner = Runner::start(self.warehouse.clone(), &project, options).await?;
        let ended = tokio::time::timeout(Duration::from_secs(60), runner.join()).await.expect("the pipelines end");
        for (_, result) in ended {
            result?;
        }
        Ok(())
    }

    /// The rows of a query over a table, called `t` in it, as lines in the order that the query gives; none if there is no table.
    pub async fn rows(&self, table: &str, query: &str) -> Vec<String> {
        rows_of(&self.warehouse, table, query).await
    }
}

/// Makes of an epoch record over the source `s` one as older versions wrote it, which knew one source.
pub fn as_layout_2(record: &mut serde_json::Value) {
    let source = record["sources"]["s"].take();
    let all = record.as_object_mut().expect("an object");
    all.remove("sources");
    all.extend(source.as_object().expect("a source").clone());
    record["version"] = 2.into();
}

/// See [`Topic::rows`].
pub async fn rows_of(warehouse: &Warehouse, table: &str, query: &str) -> Vec<String> {
    let table = match warehouse.table(&table.parse::<TableName>().expect("a name")).await {
        Ok(table) => table,
        Err(LakeError::NoSuchTable(_)) => return Vec::new(),
        Err(error) => panic!("{error}"),
    };
    let context = SessionContext::new();
    context.register_table("t", table.provider().await.expect("readable")).expect("registered");
    let batches = context.sql(query).await.expect("planned").collect().await.expect("read");
    let options = FormatOptions::default().with_null("NULL");
    let mut lines = Vec::new();
    for batch in &batches {
        let columns: Vec<_> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).expect("shown")).collect();
        lines.extend((0..batch.num_rows()).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join("|")));
    }
    lines
}

//! Pipelines over a topic of an embedded broker and a warehouse in memory, for the tests of this crate.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::SessionContext;
use watershed_ingest::embedded::{EmbeddedBroker, EmbeddedSettings};
use watershed_ingest::producer::ensure_topics;
use watershed_ingest::{KafkaSettings, Producer};
use watershed_lake::{TableName, Warehouse};
use watershed_stream::{Project, RunOptions, Runner, Until};

/// The Kafka timestamp of all messages: 2024-06-01T10:00:00Z.
const SENT_MS: i64 = 1_717_236_000_000;

/// A broker with one topic, `t`, of one partition, and a warehouse.
pub struct Trial {
    /// Ends with the test.
    _broker: EmbeddedBroker,
    kafka: KafkaSettings,
    /// Where the tables are.
    pub warehouse: Warehouse,
}

impl Trial {
    /// Without messages and tables.
    pub async fn new() -> Self {
        // It starts a runtime of its own, which must not be done on a thread of another.
        let started = std::thread::spawn(|| EmbeddedBroker::start(&EmbeddedSettings::default())).join();
        let broker = started.expect("no panic").expect("a broker");
        let kafka = KafkaSettings::new(broker.bootstrap());
        ensure_topics(&kafka, &[("t", 1)]).expect("a topic");
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.expect("a warehouse");
        Self { _broker: broker, kafka, warehouse }
    }

    /// Sends messages.
    pub fn send(&self, messages: &[&str]) {
        let mut producer = Producer::new(&self.kafka).expect("a producer");
        for message in messages {
            producer.send("t", Some(0), None, Some(message.as_bytes()), SENT_MS).expect("sent");
        }
        producer.flush(Duration::from_secs(30)).expect("acknowledged");
    }

    /// Runs all pipelines of the project to the end of the topic.
    pub async fn run(&self, project: &Project, drain: bool) {
        let options = RunOptions {
            sources: Arc::new(self.kafka.clone()),
            sinks: Arc::new(self.kafka.clone()),
            only: Vec::new(),
            until: Until::CaughtUp { drain },
            state_limits: Default::default(),
            spill_dir: std::env::temp_dir(),
            parallelism: Some(1),
        };
        let runner = Runner::start(self.warehouse.clone(), project, options).await.expect("started");
        let ended = tokio::time::timeout(Duration::from_secs(60), runner.join()).await.expect("the pipelines end");
        for (name, result) in ended {
            result.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    /// The rows of a query over a table, called `t` in it.
    pub async fn rows(&self, table: &str, query: &str) -> Vec<String> {
        let table = self.warehouse.table(&table.parse::<TableName>().expect("a name")).await.expect("a table");
        let context = SessionContext::new();
        context.register_table("t", table.provider().await.expect("readable")).expect("registered");
        let batches = context.sql(query).await.expect("planned").collect().await.expect("read");
        batches.iter().flat_map(lines).collect()
    }
}

/// The rows of a batch, their values between bars.
pub fn lines(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).expect("shown")).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join("|")).collect()
}

//! A topic that is deleted and made again while a pipeline reads it: Kafka's client goes on at the old offsets, and nothing of that is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch};
use object_store::memory::InMemory;
use watershed_dialect::SourceDefinition;
use watershed_ingest::kafka::KafkaSettings;
use watershed_ingest::origin::Origin;
use watershed_ingest::source::{Decoded, FetchLimits, PartitionProgress, PartitionRange, Positions};
use watershed_ingest::{Identify, IngestError, OpenSource, SourceBatch, SourceRead};
use watershed_lake::{Patience, Warehouse};
use watershed_stream::{Project, RunOptions, Runner, StreamError, Until};

use crate::topic::rows_of;

const ROWS: i64 = 40;
const DEFINITIONS: &str = "CREATE SOURCE s (c BIGINT) WITH (topic = 't');
                           CREATE STREAMING TABLE bronze.x WITH (commit_interval = '20 milliseconds') AS SELECT c FROM s;";

/// A topic of one partition, a row a poll. It is made again once `replaced_at` rows were read; then nobody answers for a while.
#[derive(Debug, Clone)]
struct Replaced {
    replaced_at: i64,
    /// How often the question for its id is not answered once so many rows were read.
    silent: (i64, Arc<AtomicI64>),
    read: Arc<AtomicI64>,
}

impl Replaced {
    fn new(replaced_at: i64, silent: (i64, i64)) -> Self {
        Self { replaced_at, silent: (silent.0, Arc::new(AtomicI64::new(silent.1))), read: Arc::default() }
    }
}

impl Identify for Replaced {
    fn identity(&mut self, _: Duration) -> Result<Option<String>, IngestError> {
        let read = self.read.load(Ordering::SeqCst);
        if read >= self.silent.0 && self.silent.1.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Err(IngestError::BrokerUnreachable { bootstrap: "nobody".into(), reason: "timed out".into() });
        }
        Ok(Some(if read >= self.replaced_at { "second" } else { "first" }.into()))
    }
}

impl OpenSource for Replaced {
    fn partitions(&self, _: &SourceDefinition) -> Result<Vec<PartitionRange>, IngestError> {
        Ok(vec![PartitionRange { partition: 0, low: 0, high: ROWS }])
    }

    fn identify(&self, _: &SourceDefinition) -> Result<Option<Box<dyn Identify>>, IngestError> {
        Ok(Some(Box::new(self.clone())))
    }

    fn open(&self, definition: &SourceDefinition, _: &[usize], at: &Positions, _: &str) -> Result<Box<dyn SourceRead>, IngestError> {
        Ok(Box::new(Reader { topic: self.clone(), schema: definition.schema(), next: at[&0] }))
    }
}

struct Reader {
    topic: Replaced,
    schema: arrow::datatypes::SchemaRef,
    next: i64,
}

impl SourceRead for Reader {
    fn poll(&mut self, _: FetchLimits, _: Duration) -> Result<Vec<SourceBatch>, IngestError> {
        std::thread::sleep(Duration::from_millis(5));
        if self.next == ROWS {
            return Ok(Vec::new());
        }
        let offset = self.next;
        self.next += 1;
        // The broker has replaced the topic before it serves this row.
        self.topic.read.fetch_max(self.next, Ordering::SeqCst);
        let value = if offset + 1 >= self.topic.replaced_at { 1000 + offset } else { offset };
        let rows = RecordBatch::try_new(self.schema.clone(), vec![Arc::new(Int64Array::from(vec![value]))])?;
        Ok(vec![SourceBatch {
            partition: 0,
            next_offset: self.next,
            decoded: Decoded { rows, offsets: Int64Array::from(vec![offset]), quarantined: None },
            origin: Origin::default(),
            append_time_ms_max: -1,
            records: 1,
            tombstones: 0,
            bytes: 8,
        }])
    }

    fn progress(&mut self) -> Vec<PartitionProgress> {
        vec![PartitionProgress { partition: 0, next_offset: self.next, high_watermark: Some(ROWS) }]
    }
}

async fn run(topic: Replaced) -> (Vec<i64>, Result<(), StreamError>) {
    let warehouse = Warehouse::with_patience(Arc::new(InMemory::new()), "memory:///".parse().expect("a URL"), Patience::default());
    let project = Project::parse([DEFINITIONS]).expect("definitions");
    let options = RunOptions {
        sources: Arc::new(topic),
        sinks: Arc::new(KafkaSettings::new("nobody:9092")),
        only: Vec::new(),
        until: Until::CaughtUp { drain: false },
        state_limits: Default::default(),
        spill_dir: std::env::temp_dir(),
        parallelism: Some(1),
    };
    let runner = Runner::start(warehouse.clone(), &project, options).await.expect("started");
    let mut ended = tokio::time::timeout(Duration::from_secs(60), runner.join()).await.expect("it ends");
    let rows = rows_of(&warehouse, "bronze.x", "SELECT c FROM t ORDER BY c").await;
    (rows.iter().map(|row| row.parse().expect("a number")).collect(), ended.remove(0).1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_row_of_a_topic_that_was_made_again_is_committed() {
    let (rows, ended) = run(Replaced::new(25, (ROWS, 0))).await;
    let error = ended.expect_err("it must not go on");
    assert!(matches!(&error, StreamError::SourceReplaced { was, now, .. } if was == "first" && now == "second"), "{error}");
    // Some rows of the first topic may not have been in an epoch of their own.
    assert!(rows.iter().copied().eq(0..rows.len() as i64) && rows.len() < 25, "{rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_waits_for_an_answer_and_is_the_same_as_before() {
    let silent = Replaced::new(i64::MAX, (10, 3));
    let (rows, ended) = run(silent.clone()).await;
    ended.expect("it goes on");
    assert!(rows.iter().copied().eq(0..ROWS), "{rows:?}");
    assert!(silent.silent.1.load(Ordering::SeqCst) <= 0, "it was asked");
}

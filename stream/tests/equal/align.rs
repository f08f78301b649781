//! A fast source and a slow one that meet: the fast one waits, so that state stays small, and never for one that is idle.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use object_store::memory::InMemory;
use watershed_dialect::SourceDefinition;
use watershed_ingest::kafka::KafkaSettings;
use watershed_ingest::origin::Origin;
use watershed_ingest::source::{Decoded, FetchLimits, PartitionProgress, PartitionRange, Positions};
use watershed_ingest::{IngestError, OpenSource, SourceBatch, SourceRead};
use watershed_lake::{Patience, Warehouse};
use watershed_stream::{Project, RunOptions, Runner, Until};

use crate::topic::rows_of;

/// Rows a poll of the fast source.
const A_POLL: i64 = 8;
const MAX_AHEAD: i64 = 10;
const DEFINITIONS: &str = "
CREATE SOURCE fast (n BIGINT NOT NULL, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t) WITH (topic = 'f', idle_timeout = '100 milliseconds');
CREATE SOURCE slow (n BIGINT NOT NULL, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t) WITH (topic = 's', idle_timeout = '100 milliseconds');
CREATE STREAMING TABLE gold.x WITH (commit_interval = '20 milliseconds', max_ahead = '10 seconds') AS
SELECT window_start, count(*) AS c FROM TUMBLE(TABLE (SELECT * FROM fast UNION ALL SELECT * FROM slow), DESCRIPTOR(t), INTERVAL '5 seconds')
GROUP BY window_start, window_end;";

/// A row a second in each; how many were read, and how far the fast one has been ahead.
#[derive(Debug, Clone)]
struct Two {
    rows: Arc<BTreeMap<&'static str, i64>>,
    read: Arc<Mutex<BTreeMap<String, i64>>>,
    ahead: Arc<AtomicI64>,
}

impl Two {
    fn of(fast: i64, slow: i64) -> Self {
        Self { rows: Arc::new([("fast", fast), ("slow", slow)].into()), read: Arc::default(), ahead: Arc::default() }
    }

    fn read(&self, source: &str) -> i64 {
        self.read.lock().expect("no panic").get(source).copied().unwrap_or(0)
    }
}

impl OpenSource for Two {
    fn partitions(&self, source: &SourceDefinition) -> Result<Vec<PartitionRange>, IngestError> {
        Ok(vec![PartitionRange { partition: 0, low: 0, high: self.rows[source.name.as_str()] }])
    }

    fn open(&self, definition: &SourceDefinition, wanted: &[usize], at: &Positions, _: &str) -> Result<Box<dyn SourceRead>, IngestError> {
        let schema = Arc::new(definition.schema().project(wanted)?);
        Ok(Box::new(Reader { two: self.clone(), name: definition.name.clone(), schema, next: at[&0] }))
    }
}

struct Reader {
    two: Two,
    name: String,
    schema: SchemaRef,
    next: i64,
}

impl SourceRead for Reader {
    fn poll(&mut self, _: FetchLimits, _: Duration) -> Result<Vec<SourceBatch>, IngestError> {
        std::thread::sleep(Duration::from_millis(if self.name == "slow" { 4 } else { 1 }));
        let count = if self.name == "slow" { 1 } else { A_POLL };
        let offsets: Vec<i64> = (self.next..(self.next + count).min(self.two.rows[self.name.as_str()])).collect();
        let Some(last) = offsets.last() else { return Ok(Vec::new()) };
        self.next = last + 1;
        self.two.read.lock().expect("no panic").insert(self.name.clone(), self.next);
        if self.name == "fast" {
            self.two.ahead.fetch_max(self.next - self.two.read("slow"), Ordering::SeqCst);
        }
        let column = |name: &str| -> ArrayRef {
            match name {
                "n" => Arc::new(Int64Array::from(offsets.clone())),
                _ => Arc::new(TimestampMicrosecondArray::from_iter_values(offsets.iter().map(|n| n * 1_000_000)).with_timezone("UTC")),
            }
        };
        let columns = self.schema.fields().iter().map(|field| column(field.name())).collect();
        let decoded = Decoded {
            rows: RecordBatch::try_new(self.schema.clone(), columns)?,
            offsets: Int64Array::from(offsets.clone()),
            quarantined: None,
        };
        Ok(vec![SourceBatch {
            partition: 0,
            next_offset: self.next,
            decoded,
            origin: Origin::default(),
            append_time_ms_max: 0,
            records: offsets.len(),
            tombstones: 0,
            bytes: 0,
        }])
    }

    fn progress(&mut self) -> Vec<PartitionProgress> {
        vec![PartitionProgress { partition: 0, next_offset: self.next, high_watermark: Some(self.two.rows[self.name.as_str()]) }]
    }
}

async fn start(two: &Two, until: Until) -> (Runner, Warehouse) {
    let warehouse = Warehouse::with_patience(Arc::new(InMemory::new()), "memory:///".parse().expect("a URL"), Patience::default());
    let options = RunOptions {
        sources: Arc::new(two.clone()),
        sinks: Arc::new(KafkaSettings::new("nobody:9092")),
        only: Vec::new(),
        until,
        state_limits: Default::default(),
        spill_dir: std::env::temp_dir(),
        parallelism: Some(2),
    };
    let project = Project::parse([DEFINITIONS]).unwrap_or_else(|error| panic!("{error}"));
    (Runner::start(warehouse.clone(), &project, options).await.expect("started"), warehouse)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fast_source_waits_for_the_slow_one_and_says_so() {
    let two = Two::of(300, 200);
    let (runner, warehouse) = start(&two, Until::CaughtUp { drain: true }).await;
    let mut seen = Vec::new();
    let until = Instant::now() + Duration::from_secs(60);
    while !runner.ended() {
        assert!(Instant::now() < until, "read {:?}", two.read);
        seen.extend(
            runner.metrics().iter().flat_map(|metrics| metrics.sources.clone()).filter_map(|source| Some((source.name, source.waits_for?))),
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for (pipeline, ended) in runner.join().await {
        ended.unwrap_or_else(|error| panic!("{pipeline}: {error}"));
    }
    assert!(!seen.is_empty() && seen.iter().all(|(source, other)| (source.as_str(), other.as_str()) == ("fast", "slow")), "{seen:?}");
    let counts = rows_of(&warehouse, "gold.x", "SELECT c, count(*) FROM t GROUP BY c ORDER BY c").await;
    assert_eq!(counts, ["5|20", "10|40"], "200 seconds of both, and 100 of one");
    // Once the slow one is at its end nothing is waited for.
    let ahead = two.ahead.load(Ordering::SeqCst);
    assert!(ahead >= 100, "{ahead}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_never_further_ahead_than_it_may_be() {
    let two = Two::of(200, 200);
    let (runner, _) = start(&two, Until::CaughtUp { drain: true }).await;
    for (pipeline, ended) in tokio::time::timeout(Duration::from_secs(60), runner.join()).await.expect("in time") {
        ended.unwrap_or_else(|error| panic!("{pipeline}: {error}"));
    }
    // It may go on for a poll after it has come so far, and what is known of the slow one may be some polls old.
    let ahead = two.ahead.load(Ordering::SeqCst);
    assert!((MAX_AHEAD..=MAX_AHEAD + 3 * A_POLL).contains(&ahead), "{ahead}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_idle_holds_nobody() {
    let two = Two::of(300, 3);
    let (runner, _) = start(&two, Until::Stopped).await;
    let until = Instant::now() + Duration::from_secs(60);
    while two.read("fast") < 300 {
        assert!(Instant::now() < until, "read {:?}", two.read);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    runner.stop();
    for (pipeline, ended) in runner.join().await {
        ended.unwrap_or_else(|error| panic!("{pipeline}: {error}"));
    }
}

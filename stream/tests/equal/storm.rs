//! Whole pipelines (source, tasks, epochs, tables) over a store that fails before or after the write, hangs, is slow, and answers 409 and 412
//! for our own writes: they end with the rows of a run that nothing disturbed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::util::display::array_value_to_string;
use datafusion::prelude::SessionContext;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use watershed_dialect::SourceDefinition;
use watershed_ingest::kafka::KafkaSettings;
use watershed_ingest::origin::Origin;
use watershed_ingest::source::{Decoded, FetchLimits, PartitionProgress, PartitionRange, Positions};
use watershed_ingest::{IngestError, OpenSource, SourceBatch, SourceRead};
use watershed_lake::faults::{FaultStore, Outcome};
use watershed_lake::{Patience, TableName, Warehouse};
use watershed_stream::{Project, RunOptions, Runner, Until};

const DEFINITIONS: &str = "
CREATE SOURCE trips (
    id BIGINT NOT NULL, time TIMESTAMP NOT NULL, city VARCHAR,
    WATERMARK FOR time AS time - INTERVAL '5 seconds'
) WITH (connector = 'kafka', topic = 'trips', format = 'json');
CREATE SOURCE walks (
    id BIGINT NOT NULL, time TIMESTAMP NOT NULL, city VARCHAR,
    WATERMARK FOR time AS time - INTERVAL '2 seconds'
) WITH (connector = 'kafka', topic = 'walks', format = 'json');
CREATE STREAMING TABLE bronze.trips PARTITIONED BY (city) WITH (commit_interval = '20 milliseconds') AS SELECT id, time, city FROM trips;
CREATE STREAMING TABLE gold.minutes WITH (commit_interval = '20 milliseconds')
AS SELECT window_start, city, count(id) AS trips, sum(id) AS ids
FROM TUMBLE(TABLE trips, DESCRIPTOR(time), INTERVAL '1 minute') GROUP BY window_start, window_end, city;
CREATE STREAMING TABLE silver.trips WITH (commit_interval = '20 milliseconds')
AS SELECT id, time FROM DEDUPLICATE(TABLE trips PARTITION BY id, DESCRIPTOR(time), INTERVAL '10 minutes');
CREATE STREAMING TABLE gold.stages WITH (commit_interval = '20 milliseconds')
AS SELECT window_end, city, trips, sum(trips) OVER (PARTITION BY city ORDER BY window_end
          RANGE BETWEEN INTERVAL '2 minutes' PRECEDING AND CURRENT ROW) AS lately
FROM (SELECT window_end, city, count(*) AS trips FROM TUMBLE(TABLE (SELECT * FROM
      DEDUPLICATE(TABLE trips PARTITION BY id, DESCRIPTOR(time), INTERVAL '10 minutes')), DESCRIPTOR(time), INTERVAL '1 minute')
      GROUP BY window_start, window_end, city);
CREATE STREAMING TABLE gold.both WITH (commit_interval = '20 milliseconds')
AS SELECT window_start, city, count(*) AS moves, sum(id) AS ids
FROM TUMBLE(TABLE (SELECT id, time, city FROM trips WHERE id % 5 <> 0 UNION ALL SELECT -id, time, city FROM walks
                   UNION ALL SELECT 2 * id, time, 'again' FROM trips), DESCRIPTOR(time), INTERVAL '1 minute')
GROUP BY window_start, window_end, city;
CREATE STREAMING TABLE gold.near WITH (commit_interval = '20 milliseconds')
AS SELECT t.id, t.time, t.city, w.id AS walk, w.time AS walked
FROM trips t FULL JOIN (SELECT id + 1 AS id, time FROM walks WHERE id % 4 <> 0) w
  ON t.id = w.id AND t.time BETWEEN w.time - INTERVAL '3 seconds' AND w.time + INTERVAL '10 seconds';
";
const TABLES: [&str; 11] = [
    "bronze.trips",
    "gold.minutes",
    "gold.minutes$late",
    "silver.trips",
    "silver.trips$late",
    "gold.stages",
    "gold.stages$late",
    "gold.both",
    "gold.both$late",
    "gold.near",
    "gold.near$late",
];
const PARTITIONS: i32 = 3;
const ROWS: i64 = 400;
/// Storms at most.
const STORMS_MAX: u64 = 5;
/// Rows that one poll gives, with a pause after it: so that the input lasts for many epochs.
const ROWS_A_POLL: i64 = 8;
const PAUSE: Duration = Duration::from_millis(10);

/// A topic in memory. Some of its rows are late, some come twice.
#[derive(Debug)]
struct Memory;

impl OpenSource for Memory {
    fn partitions(&self, _: &SourceDefinition) -> Result<Vec<PartitionRange>, IngestError> {
        Ok((0..PARTITIONS).map(|partition| PartitionRange { partition, low: 0, high: ROWS }).collect())
    }

    fn open(
        &self,
        definition: &SourceDefinition,
        wanted: &[usize],
        positions: &Positions,
        _: &str,
    ) -> Result<Box<dyn SourceRead>, IngestError> {
        let names = wanted.iter().map(|&column| definition.columns[column].field.name().clone()).collect();
        let schema = Arc::new(definition.schema().project(wanted)?);
        Ok(Box::new(Reader { names, schema, positions: positions.clone() }))
    }
}

struct Reader {
    names: Vec<String>,
    schema: arrow::datatypes::SchemaRef,
    positions: Positions,
}

impl Reader {
    fn column(&self, name: &str, partition: i32, offsets: &[i64]) -> ArrayRef {
        let number = |offset: &i64| if offset % 9 == 8 { offset - 8 } else { *offset } * i64::from(PARTITIONS) + i64::from(partition);
        let second = |offset: &i64| if offset % 50 == 49 { offset - 49 } else { *offset - offset % 4 };
        match name {
            "id" => Arc::new(Int64Array::from_iter_values(offsets.iter().map(number))),
            "time" => Arc::new(
                TimestampMicrosecondArray::from_iter_values(offsets.iter().map(|o| 1_717_236_000_000_000 + second(o) * 1_000_000))
                    .with_timezone("UTC"),
            ),
            _ => Arc::new(StringArray::from_iter(offsets.iter().map(|o| [Some("Lima"), Some("Oslo"), None][(*o % 3) as usize]))),
        }
    }
}

impl SourceRead for Reader {
    fn poll(&mut self, _: FetchLimits, timeout: Duration) -> Result<Vec<SourceBatch>, IngestError> {
        std::thread::sleep(PAUSE.min(timeout));
        let mut batches = Vec::new();
        for (partition, next) in self.positions.clone() {
            let offsets: Vec<i64> = (next..ROWS.min(next + ROWS_A_POLL)).collect();
            let Some(last) = offsets.last() else { continue };
            self.positions.insert(partition, last + 1);
            let columns = self.names.iter().map(|name| self.column(name, partition, &offsets)).collect();
            batches.push(SourceBatch {
                partition,
                next_offset: last + 1,
                decoded: Decoded {
                    rows: RecordBatch::try_new(self.schema.clone(), columns)?,
                    offsets: Int64Array::from(offsets.clone()),
                    quarantined: None,
                },
                origin: Origin::default(),
                append_time_ms_max: 1_717_236_000_000,
                records: offsets.len(),
                tombstones: 0,
                bytes: 0,
            });
        }
        Ok(batches)
    }

    fn progress(&mut self) -> Vec<PartitionProgress> {
        let of = |(&partition, &next_offset): (&i32, &i64)| PartitionProgress { partition, next_offset, high_watermark: Some(ROWS) };
        self.positions.iter().map(of).collect()
    }
}

/// With little patience in a storm, so that faults get through to the pipelines; yet enough for requests of a busy machine.
const LITTLE: Patience = Patience { attempts: 2, timeout: Duration::from_millis(400), backoff: Duration::from_millis(1) };

fn warehouse(store: Arc<dyn ObjectStore>, patience: Patience) -> Warehouse {
    Warehouse::with_patience(store, "memory:///".parse().expect("a URL"), patience)
}

/// Runs all pipelines to the end of the input.
async fn run(warehouse: Warehouse) -> u64 {
    let project = Project::parse([DEFINITIONS]).expect("definitions");
    let options = RunOptions {
        sources: Arc::new(Memory),
        sinks: Arc::new(KafkaSettings::new("nobody:9092")),
        only: Vec::new(),
        until: Until::CaughtUp { drain: true },
        state_limits: Default::default(),
        spill_dir: std::env::temp_dir(),
        parallelism: Some(2),
    };
    let runner = Runner::start(warehouse, &project, options).await.expect("pipelines");
    let observer = runner.observer();
    let ended = tokio::time::timeout(Duration::from_secs(240), runner.join()).await.expect("the pipelines get through in time");
    for (pipeline, result) in ended {
        result.unwrap_or_else(|error| panic!("{pipeline} gave up: {error}"));
    }
    observer.metrics().iter().map(|metrics| metrics.restarts).sum()
}

/// The rows of all tables, sorted.
async fn rows(store: Arc<dyn ObjectStore>) -> BTreeMap<&'static str, Vec<String>> {
    let (warehouse, mut found) = (warehouse(store, Patience::default()), BTreeMap::new());
    for name in TABLES {
        let table = warehouse.table(&name.parse::<TableName>().expect("a name")).await.expect(name);
        let context = SessionContext::new();
        let batches = context.read_table(table.provider().await.expect(name)).expect(name).collect().await.expect(name);
        let mut lines = Vec::new();
        for batch in &batches {
            for row in 0..batch.num_rows() {
                let values = batch.columns().iter().map(|column| array_value_to_string(column, row).expect("a value"));
                lines.push(values.collect::<Vec<_>>().join(","));
            }
        }
        lines.sort_unstable();
        found.insert(name, lines);
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pipelines_come_through_a_storm_with_the_rows_of_a_calm_day() {
    let calm = Arc::new(InMemory::new());
    assert_eq!(run(warehouse(calm.clone(), Patience::default())).await, 0);
    let expected = rows(calm).await;
    assert_eq!(expected["bronze.trips"].len() as i64, ROWS * i64::from(PARTITIONS));
    assert!(expected.values().all(|rows| !rows.is_empty()), "each table has rows to lose");

    // Storms, until they have been bad enough to prove something: nearly always the first is.
    use Outcome::{ExistsAfter, FailAfter, FailBefore, HangAfter, HangBefore, PreconditionAfter, Slow};
    const KINDS: [Outcome; 7] = [FailBefore, FailAfter, ExistsAfter, PreconditionAfter, HangBefore, HangAfter, Slow];
    let (mut restarts, mut played) = (0, BTreeMap::new());
    for seed in (0..STORMS_MAX).map(|storm| u64::from(std::process::id()) * STORMS_MAX + storm) {
        let below = Arc::new(InMemory::new());
        let store = FaultStore::new(below.clone());
        store.storm(seed, 10);
        restarts += run(warehouse(Arc::new(store.clone()), LITTLE)).await;
        played.extend(store.played());
        println!("seed {seed}: {restarts} restarts, {played:?}");
        let found = rows(below).await;
        for table in TABLES {
            assert!(found[table] == expected[table], "{table}: {} rows instead of {}", found[table].len(), expected[table].len());
        }
        if restarts > 0 && KINDS.iter().all(|kind| played.contains_key(kind)) {
            return;
        }
    }
    panic!("the storms were too mild: {restarts} pipelines had to start again, of {KINDS:?} these were played: {played:?}");
}

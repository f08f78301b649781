//! A warehouse with the three pipelines that most tests run over [`crate::input`]: pass-through, tumbling windows, deduplication.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::input::{Expected, Minute};
use crate::table::{DeltaTable, Row, time_text};
use crate::tools::folder;
use crate::watershed::Watershed;

/// The definitions. `event_id` and the times are read by all three, so that all of them quarantine the same messages.
const DEFINITIONS: &str = "\
CREATE SOURCE events_in (
    event_id   VARCHAR NOT NULL,
    event_time TIMESTAMP NOT NULL,
    city       VARCHAR,
    cents      BIGINT,
    fare       DOUBLE,
    kafka_partition INT    METADATA FROM 'partition',
    kafka_offset    BIGINT METADATA FROM 'offset',
    WATERMARK FOR event_time AS event_time - INTERVAL '10 seconds'
) WITH (connector = 'kafka', topic = '{topic}', format = 'json', on_error = 'quarantine', idle_timeout = '1 hour');

CREATE STREAMING TABLE bronze.events
PARTITIONED BY (city)
WITH (commit_interval = '50 milliseconds')
AS SELECT event_id, event_time, city, cents, kafka_partition, kafka_offset FROM events_in;

CREATE STREAMING TABLE gold.by_minute
WITH (commit_interval = '50 milliseconds', late_rows = 'divert')
AS SELECT window_start, window_end, city,
          count(event_id) AS events, sum(cents) AS cents, max(cents) AS dearest, sum(fare) AS fares
FROM TUMBLE(TABLE events_in, DESCRIPTOR(event_time), INTERVAL '1 minute')
GROUP BY window_start, window_end, city;

CREATE STREAMING TABLE silver.unique_events
WITH (commit_interval = '50 milliseconds')
AS SELECT event_id, event_time, city, cents, kafka_partition, kafka_offset
FROM DEDUPLICATE(TABLE events_in PARTITION BY event_id, DESCRIPTOR(event_time), INTERVAL '10 minutes');
";

/// The pipelines of these definitions.
const PIPELINES: [&str; 3] = ["bronze.events", "gold.by_minute", "silver.unique_events"];

/// The definition of the source alone.
pub fn source() -> &'static str {
    DEFINITIONS.split_inclusive(';').next().expect("a statement")
}

/// The definitions of the three streaming tables.
pub fn tables() -> &'static str {
    &DEFINITIONS[source().len()..]
}

/// Two pass-through tables over the source: what happens to one must not concern the other.
pub const TWINS: &str = "\
CREATE STREAMING TABLE bronze.a WITH (commit_interval = '50 milliseconds')
AS SELECT event_id, event_time, cents, kafka_partition, kafka_offset FROM events_in;
CREATE STREAMING TABLE bronze.b WITH (commit_interval = '50 milliseconds')
AS SELECT event_id, kafka_partition, kafka_offset FROM events_in;
";

/// The tables the pipelines write, side tables included.
pub const TABLES: [&str; 7] = [
    "bronze.events",
    "bronze.events_in$quarantine",
    "gold.by_minute",
    "gold.by_minute$late",
    "silver.unique_events",
    "silver.unique_events$late",
    "bronze.events$late",
];

/// A warehouse, and where its files can be looked at.
pub struct Project {
    folder: tempfile::TempDir,
    /// As given to `--warehouse`.
    pub warehouse: String,
    /// Where its files lie.
    pub files: PathBuf,
    bootstrap: String,
    environment: Vec<(&'static str, String)>,
}

impl Project {
    /// Definitions over `topic` in a warehouse in a local folder.
    pub fn local(bootstrap: String, topic: &str) -> Self {
        let folder = folder("project-");
        let files = folder.path().join("warehouse");
        let warehouse = files.display().to_string();
        Self::applied(Self { folder, warehouse, files, bootstrap, environment: Vec::new() }, topic)
    }

    /// Definitions over `topic` in the warehouse `url`, whose files lie in `files`.
    pub fn remote(bootstrap: String, topic: &str, url: String, files: PathBuf, environment: Vec<(&'static str, String)>) -> Self {
        Self::applied(Self { folder: folder("project-"), warehouse: url, files, bootstrap, environment }, topic)
    }

    /// As [`Project::local`], with definitions of one's own after the source: `{topic}` in them becomes the topic's name.
    pub fn of(bootstrap: String, topic: &str, definitions: &str) -> Self {
        let folder = folder("project-");
        let files = folder.path().join("warehouse");
        let warehouse = files.display().to_string();
        let project = Self { folder, warehouse, files, bootstrap, environment: Vec::new() };
        project.apply(topic, &format!("{}\n{definitions}", source()));
        project
    }

    /// A warehouse in the folder `files`, in which nothing is defined yet.
    pub fn bare(bootstrap: String, files: PathBuf) -> Self {
        let warehouse = files.display().to_string();
        Self { folder: folder("project-"), warehouse, files, bootstrap, environment: Vec::new() }
    }

    fn applied(self, topic: &str) -> Self {
        self.apply(topic, DEFINITIONS);
        self
    }

    /// Makes `definitions` those in force.
    pub fn apply(&self, topic: &str, definitions: &str) {
        self.applying(topic, definitions, &[]).succeeds();
    }

    /// `watershed apply --yes` of `definitions`, with more flags.
    pub fn applying(&self, topic: &str, definitions: &str, flags: &[&str]) -> Watershed {
        let sql = self.folder.path().join("sql");
        std::fs::create_dir_all(&sql).expect("a folder");
        std::fs::write(sql.join("definitions.sql"), definitions.replace("{topic}", topic)).expect("definitions");
        let sql = sql.display().to_string();
        self.watershed(["apply", &sql, "--yes"].into_iter().chain(flags.iter().copied()))
    }

    /// The places of a table's rows in their topic; each must be there once.
    pub fn places(&self, table: &str) -> BTreeSet<(i64, i64)> {
        let pairs = self.table(table).pairs("kafka_partition", "kafka_offset");
        let places: BTreeSet<_> = pairs.iter().copied().collect();
        assert_eq!(pairs.len(), places.len(), "{table} holds rows twice");
        places
    }

    /// What a query answers, as lines of CSV without the heading.
    pub fn ask(&self, query: &str) -> Vec<String> {
        let said = self.watershed(["shell", "--output", "csv", "-c", query]).succeeds();
        said.lines().skip(1).map(str::to_string).collect()
    }

    /// `watershed <arguments>` on this warehouse.
    pub fn watershed<'a>(&'a self, arguments: impl IntoIterator<Item = &'a str>) -> Watershed {
        let run = Watershed::new(arguments.into_iter().chain(["--warehouse", &self.warehouse]));
        run.envs(self.environment.iter().map(|(key, value)| (*key, value.clone())))
    }

    /// `watershed stream`, which goes on until it is stopped.
    pub fn stream(&self) -> Watershed {
        self.watershed(["stream", "--bootstrap", &self.bootstrap])
    }

    /// `watershed stream`, which ends when it has read what is in the topic; `drain` closes all windows then.
    pub fn stream_to_end(&self, drain: bool) -> Watershed {
        let arguments = ["stream", "--bootstrap", &self.bootstrap, "--until-caught-up", "--drain"];
        self.watershed(arguments.into_iter().take(if drain { 5 } else { 4 }))
    }

    /// A table, checked for everything that holds of any correct one.
    pub fn table(&self, name: &str) -> DeltaTable {
        DeltaTable::open(&self.files, name)
    }

    /// The rows of all tables.
    pub fn contents(&self) -> BTreeMap<&'static str, Vec<Row>> {
        TABLES.into_iter().filter(|name| DeltaTable::exists(&self.files, name)).map(|name| (name, self.table(name).rows())).collect()
    }

    /// Asserts that the tables hold what they must, each row once, and that the epoch records agree with them.
    pub fn check(&self, expected: &Expected) {
        let set = |name: &str, pairs: Vec<(i64, i64)>| {
            let (count, set) = (pairs.len(), pairs.into_iter().collect::<BTreeSet<_>>());
            assert_eq!(count, set.len(), "{name} holds rows twice");
            set
        };
        let coordinates = |name: &str| set(name, self.table(name).pairs("kafka_partition", "kafka_offset"));
        assert_same("bronze.events", &coordinates("bronze.events"), &expected.readable);
        assert_same("silver.unique_events", &coordinates("silver.unique_events"), &expected.unique);
        assert_eq!(self.table("silver.unique_events$late").count(), expected.late_for_unique, "silver.unique_events$late");
        assert_eq!(self.table("gold.by_minute$late").count(), expected.late_for_minutes, "gold.by_minute$late");
        self.check_minutes(expected);
        self.check_quarantine(expected);
        for pipeline in PIPELINES {
            check_epochs(&self.files, pipeline);
        }
    }

    fn check_minutes(&self, expected: &Expected) {
        let mut minutes = BTreeMap::new();
        for row in self.table("gold.by_minute").objects() {
            let number = |column: &str| row[column].as_i64().unwrap_or_else(|| panic!("{column} in {row:?}"));
            let start = row["window_start"].as_str().expect("window_start");
            let city = row["city"].as_str().map(str::to_string);
            let minute = Minute { events: number("events"), cents: number("cents"), dearest: number("dearest") };
            let fares = row["fares"].as_f64().expect("fares");
            assert!((fares - minute.cents as f64 / 4.0).abs() < f64::EPSILON, "sum of fares in {row:?}");
            let before = minutes.insert((start.to_string(), city), minute);
            assert!(before.is_none(), "gold.by_minute holds a window twice: {row:?}");
        }
        let expected: BTreeMap<_, _> =
            expected.minutes.iter().map(|((start_us, city), minute)| ((time_text(*start_us), city.clone()), minute.clone())).collect();
        let difference: Vec<_> = expected.iter().filter(|(key, minute)| minutes.get(key) != Some(minute)).take(5).collect();
        let there: Vec<_> = difference.iter().map(|(key, _)| minutes.get(key)).collect();
        assert!(difference.is_empty(), "gold.by_minute lacks {difference:?}; in their place: {there:?}");
        assert_eq!(minutes.len(), expected.len(), "gold.by_minute has windows that no row belongs to");
    }

    /// All pipelines decode the columns that malformed messages lack, so each sets all of them aside.
    fn check_quarantine(&self, expected: &Expected) {
        let mut by_pipeline: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
        for row in self.table("bronze.events_in$quarantine").objects() {
            let pipeline = row["pipeline"].as_str().expect("pipeline").to_string();
            let number = |column: &str| row[column].as_i64().expect("a number");
            by_pipeline.entry(pipeline).or_default().push((number("partition"), number("offset")));
            assert!(row["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "no reason in {row:?}");
        }
        // Tests may have pipelines of their own beside these.
        by_pipeline.retain(|pipeline, _| PIPELINES.contains(&pipeline.as_str()));
        assert_eq!(by_pipeline.len(), 3, "pipelines in the quarantine: {:?}", by_pipeline.keys());
        for (pipeline, rows) in by_pipeline {
            let set: BTreeSet<_> = rows.iter().copied().collect();
            assert_eq!(rows.len(), set.len(), "{pipeline} set rows aside twice");
            assert_same(&format!("the quarantine of {pipeline}"), &set, &expected.malformed);
        }
    }
}

/// Records of a shard are contiguous, and the offsets in them never fall.
fn check_epochs(files: &Path, pipeline: &str) {
    let folder = files.join("_watershed/pipelines").join(pipeline).join("0/epochs");
    let mut records: BTreeMap<i64, Value> = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("an entry").path();
        let Some(number) = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".json")?.parse().ok()) else { continue };
        let text = std::fs::read(&path).expect("a record");
        records.insert(number, serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
    }
    let (first, last) = (records.keys().next().copied(), records.keys().last().copied());
    let (Some(first), Some(last)) = (first, last) else { panic!("{pipeline} has no epoch record") };
    assert_eq!(records.len() as i64, last - first + 1, "{pipeline}: epochs are not contiguous");
    let of_source = |(name, source): (&String, &Value)| {
        let offsets: BTreeMap<String, i64> = serde_json::from_value(source["offsets"].clone()).expect("offsets");
        offsets.into_iter().map(|(partition, offset)| (format!("{name} {partition}"), offset)).collect::<Vec<_>>()
    };
    let offsets =
        |record: &Value| -> BTreeMap<String, i64> { record["sources"].as_object().expect("sources").iter().flat_map(of_source).collect() };
    for (before, after) in records.values().zip(records.values().skip(1)) {
        let after_offsets = offsets(after);
        for (partition, offset) in offsets(before) {
            assert!(after_offsets[&partition] >= offset, "{pipeline}: offsets fall from epoch {} to {}", before["epoch"], after["epoch"]);
        }
    }
}

fn assert_same(name: &str, found: &BTreeSet<(i64, i64)>, expected: &BTreeSet<(i64, i64)>) {
    let (lost, extra) = (expected.difference(found), found.difference(expected));
    assert!(
        found == expected,
        "{name}: {} rows instead of {}; missing (partition, offset): {:?}; too many: {:?}",
        found.len(),
        expected.len(),
        lost.take(5).collect::<Vec<_>>(),
        extra.take(5).collect::<Vec<_>>()
    );
}

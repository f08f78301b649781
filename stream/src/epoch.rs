//! The epoch record: the one file that decides an epoch.
//!
//! `<warehouse>/_watershed/pipelines/<schema.table>/<shard>/epochs/<n>.json`, written with create-if-absent. Everything before it is
//! invisible; everything after it is a redo of what it names. Records are contiguous from 1.

use std::collections::BTreeMap;

use bytes::Bytes;
use object_store::path::Path;
use serde::{Deserialize, Deserializer, Serialize};
use watershed_dialect::Expectation;
use watershed_lake::{StagedFile, TableName, Warehouse};

use crate::StreamError;
use crate::delivery::Delivered;
use crate::holder::Identity;
use crate::idle::QuietSince;
use crate::operator::Tally;
use crate::plan::Blueprint;
use crate::sink_plan::SinkBlueprint;

/// The layout of records that this version writes.
pub const VERSION: u32 = 3;
/// The oldest layout that it reads. In layout 1 each segment had one range; up to layout 2 a pipeline had one source, whose name records did not say.
const OLDEST: u32 = 1;
/// The name of the source in records of these layouts.
const UNNAMED: &str = "";

/// The folder of all pipelines' records and state, below the warehouse root.
pub const PIPELINES: &str = "_watershed/pipelines";

/// The folder of the records and state of all shards of a pipeline, below the warehouse root.
pub fn folder(pipeline: &TableName) -> String {
    format!("{PIPELINES}/{pipeline}")
}

/// Names the chain of epochs of one shard of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId {
    /// The pipeline, named like its table.
    pub pipeline: TableName,
    /// Which of its shards; 0 if there is only one.
    pub shard: u32,
}

impl ShardId {
    /// The application id of its Delta transactions.
    pub fn app_id(&self) -> String {
        format!("{}/{}", self.pipeline, self.shard)
    }

    /// The folder of its records and state, below the warehouse root.
    pub fn folder(&self) -> String {
        format!("{}/{}", folder(&self.pipeline), self.shard)
    }

    /// The folder of its records.
    pub fn records(&self) -> Path {
        Path::from(format!("{}/epochs", self.folder()))
    }

    /// Where the record of an epoch lies.
    pub fn record_path(&self, epoch: u64) -> Path {
        self.records().join(format!("{epoch:020}.json"))
    }
}

/// Where the bytes of a state segment lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRange {
    /// File name in the shard's `state/` folder.
    pub file: String,
    /// First byte.
    pub offset: u64,
    /// How many bytes: one Arrow IPC stream.
    pub bytes: u64,
}

/// Reads the ranges of segments as lists, and as the single ones of layout 1.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Vec<StateRange>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Ranges {
        One(StateRange),
        Several(Vec<StateRange>),
    }
    let read = BTreeMap::<String, Ranges>::deserialize(deserializer)?;
    let list = |ranges| match ranges {
        Ranges::One(range) => vec![range],
        Ranges::Several(ranges) => ranges,
    };
    Ok(read.into_iter().map(|(name, ranges)| (name, list(ranges))).collect())
}

/// What one epoch adds to one table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableEpoch {
    /// The table.
    pub table: TableName,
    /// Its Delta id, so that a table dropped and made again is noticed.
    pub table_id: String,
    /// The last epoch before this one that added files to it; `None` if none has.
    pub previous_epoch: Option<u64>,
    /// The files it adds; empty if none, and then there is no Delta commit.
    pub files: Vec<StagedFile>,
}

/// How well the rows of a table met one of its expectations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConstraintEpoch {
    /// The constraint.
    pub name: String,
    /// Its predicate, as written.
    pub predicate: String,
    /// What becomes of rows that violate it, as written.
    pub action: String,
    /// Rows that met it since it was put in force.
    pub passed: u64,
    /// Rows that violated it since then.
    pub failed: u64,
    /// Rows of this epoch that met it.
    pub epoch_passed: u64,
    /// Rows of this epoch that violated it.
    pub epoch_failed: u64,
    /// When the newest epoch with a violation was written, in milliseconds since 1970.
    pub last_failed_ms: Option<u64>,
}

impl ConstraintEpoch {
    /// `rules` with their counts after the epoch `before`. One that was changed begins to count from zero.
    pub fn following(before: Option<&[Self]>, rules: &[Expectation]) -> Vec<Self> {
        let of = |rule: &Expectation| {
            let same = |c: &&Self| (&c.name, &c.predicate, c.action.as_str()) == (&rule.name, &rule.predicate, rule.action.sql());
            let counted = before.unwrap_or_default().iter().find(same);
            Self {
                name: rule.name.clone(),
                predicate: rule.predicate.clone(),
                action: rule.action.sql().to_string(),
                passed: counted.map_or(0, |c| c.passed),
                failed: counted.map_or(0, |c| c.failed),
                epoch_passed: 0,
                epoch_failed: 0,
                last_failed_ms: counted.and_then(|c| c.last_failed_ms),
            }
        };
        rules.iter().map(of).collect()
    }

    /// Adds the rows of the epoch, whose record is written at `written_ms`.
    pub fn count(&mut self, tally: Tally, written_ms: u64) {
        (self.epoch_passed, self.epoch_failed) = (tally.passed, tally.failed);
        self.passed += tally.passed;
        self.failed += tally.failed;
        if tally.failed > 0 {
            self.last_failed_ms = Some(written_ms);
        }
    }
}

/// How far a sink is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkEpoch {
    /// The sink.
    pub name: String,
    /// Its topic.
    pub topic: String,
    /// Whether rows leave before their epoch is decided; else they leave after it.
    pub at_once: bool,
    /// Rows acknowledged by the time this record was written, since the sink was put in force; none is counted twice.
    pub rows: u64,
}

impl SinkEpoch {
    /// The sinks of `blueprint` with their counts after the epoch `before`, plus the `delivered` rows that have arrived since.
    pub fn following(before: Option<&[Self]>, blueprint: &Blueprint, delivered: &Delivered) -> Vec<Self> {
        let of = |sink: &SinkBlueprint| {
            let name = &sink.definition.name;
            let counted = before.unwrap_or_default().iter().find(|s| s.name == *name).map_or(0, |s| s.rows);
            Self {
                name: name.clone(),
                topic: sink.definition.topic.clone(),
                at_once: blueprint.at_once,
                rows: counted + delivered.get(name).copied().unwrap_or_default(),
            }
        };
        blueprint.sinks.iter().map(of).collect()
    }
}

/// Rows counted since the pipeline began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Records read from the source.
    pub rows_in: u64,
    /// Rows added to the table.
    pub rows_out: u64,
    /// Rows that came after their window had closed.
    pub rows_late: u64,
    /// Records that could not be decoded, cast or accepted.
    pub rows_quarantined: u64,
    /// Rows dropped as duplicates.
    pub rows_deduplicated: u64,
    /// Rows dropped because they violate an expectation.
    pub rows_dropped: u64,
    /// Rows that violate an expectation and are kept in `<table>$violations`.
    pub rows_violating: u64,
    /// Records that Kafka had deleted before they were read, skipped because the source says `on_gap = 'skip'`. Not among `rows_in`.
    pub rows_lost: u64,
    /// Messages without a value that were passed over because the source says `tombstones = 'skip'`. Among `rows_in`.
    pub tombstones: u64,
}

impl Counters {
    /// Adds another count.
    pub fn add(&mut self, other: Counters) {
        self.rows_in += other.rows_in;
        self.rows_out += other.rows_out;
        self.rows_late += other.rows_late;
        self.rows_quarantined += other.rows_quarantined;
        self.rows_deduplicated += other.rows_deduplicated;
        self.rows_dropped += other.rows_dropped;
        self.rows_violating += other.rows_violating;
        self.rows_lost += other.rows_lost;
        self.tombstones += other.tombstones;
    }
}

/// How far one source of a pipeline is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceEpoch {
    /// Which topic of that name the offsets are of: another one once it was deleted and made again. `None` if the source has no such mark.
    #[serde(default)]
    pub source_id: Option<String>,
    /// The next offset to be read, by partition.
    pub offsets: BTreeMap<i32, i64>,
    /// The watermark of each partition in microseconds since 1970, idle decisions included; partitions without rows are absent.
    pub watermarks_us: BTreeMap<i32, i64>,
    /// The greatest event time of each partition in microseconds since 1970; partitions without rows are absent.
    #[serde(default)]
    pub newest_us: BTreeMap<i32, i64>,
    /// Partitions that were idle, and the watermark they were raised to.
    pub idle_us: BTreeMap<i32, i64>,
    /// Since when each partition has been read to its end, in milliseconds since 1970; the others are absent. Of one that
    /// never had a row, idleness goes on from it in the next run.
    #[serde(default)]
    pub caught_up_ms: BTreeMap<i32, u64>,
    /// Those of them that have had rows: since when they have had none, over runs.
    #[serde(default)]
    pub quiet: BTreeMap<i32, QuietSince>,
    /// The latest timestamp of a record that has been read of any partition, in milliseconds since 1970; `None` before the first.
    #[serde(default)]
    pub read_ms: Option<i64>,
}

impl SourceEpoch {
    /// The watermarks of its partitions in microseconds since 1970; `i64::MIN` of those that have none.
    fn least_us(&self) -> Option<i64> {
        self.offsets.keys().map(|partition| self.watermarks_us.get(partition).copied().unwrap_or(i64::MIN)).min()
    }
}

/// One epoch of one shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Layout of this record.
    pub version: u32,
    /// The pipeline.
    pub pipeline: TableName,
    /// The shard.
    pub shard: u32,
    /// Its number; the first is 1.
    pub epoch: u64,
    /// Who wrote it.
    pub writer: Identity,
    /// Hash of the definition it was computed by.
    pub definition: String,
    /// When it was written, in milliseconds since 1970. For people; nothing depends on it.
    pub written_ms: u64,
    /// How far each source is, by its name.
    #[serde(default)]
    pub sources: BTreeMap<String, SourceEpoch>,
    /// How many keyed tasks the state is split over.
    pub keyed_tasks: u32,
    /// All state: where the pieces of each segment lie, in the order in which they came.
    #[serde(deserialize_with = "one_or_several")]
    pub state: BTreeMap<String, Vec<StateRange>>,
    /// The state files that these lie in, and how many bytes each has; not of those written before this was noted.
    #[serde(default)]
    pub state_files: BTreeMap<String, u64>,
    /// All tables of the pipeline.
    pub tables: Vec<TableEpoch>,
    /// Totals.
    pub counters: Counters,
    /// The table's expectations, in the order of their definition.
    #[serde(default)]
    pub constraints: Vec<ConstraintEpoch>,
    /// The sinks that follow the table, in name order.
    #[serde(default)]
    pub sinks: Vec<SinkEpoch>,
}

impl EpochRecord {
    /// As written to the store.
    pub fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// As read from the store.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, StreamError> {
        let corrupt = |reason: String| StreamError::Corrupt { path: path.to_string(), kind: "an epoch record", reason };
        let mut record: Self = serde_json::from_slice(bytes).map_err(|e| corrupt(e.to_string()))?;
        if !(OLDEST..=VERSION).contains(&record.version) {
            return Err(corrupt(format!("it has layout {}, this Watershed knows {OLDEST} to {VERSION}", record.version)));
        }
        if record.version <= 2 {
            // What a source has now was the record's own.
            let only = serde_json::from_slice(bytes).map_err(|e| corrupt(e.to_string()))?;
            record.sources = [(UNNAMED.to_owned(), only)].into();
        }
        Ok(record)
    }

    /// How far a source is; `None` if the record says nothing of it. Older records speak of the only source of their pipeline, whatever its name.
    pub fn source(&self, name: &str) -> Option<&SourceEpoch> {
        self.sources.get(name).or_else(|| self.sources.get(UNNAMED))
    }

    /// The least watermark over all partitions in microseconds since 1970. `None` as long as some partition has none, and if an older
    /// version has drained the pipeline.
    pub fn watermark_us(&self) -> Option<i64> {
        self.sources.values().filter_map(SourceEpoch::least_us).min().filter(|&us| us != i64::MIN && us != i64::MAX)
    }

    /// The next offsets to be read, as people read them: `0:17 1:4`, of several sources after the name of each.
    pub fn offsets_shown(&self) -> String {
        let of =
            |source: &SourceEpoch| source.offsets.iter().map(|(partition, offset)| format!("{partition}:{offset}")).collect::<Vec<_>>();
        let named = |(name, source): (&String, &SourceEpoch)| match self.sources.len() {
            1 => of(source).join(" "),
            _ => format!("{name} {}", of(source).join(" ")),
        };
        self.sources.iter().map(named).collect::<Vec<_>>().join(", ")
    }

    /// All state it holds, in bytes.
    pub fn state_bytes(&self) -> u64 {
        self.state.values().flatten().map(|range| range.bytes).sum()
    }

    /// The last epoch, this one included, that added files to `table`.
    pub fn last_epoch_of(&self, table: &TableEpoch) -> Option<u64> {
        if table.files.is_empty() { table.previous_epoch } else { Some(self.epoch) }
    }
}

/// The newest record of a shard, or `None` before its first.
pub async fn newest(warehouse: &Warehouse, shard: &ShardId) -> Result<Option<EpochRecord>, StreamError> {
    let epochs = numbers(warehouse, shard).await?;
    match epochs.last() {
        None => Ok(None),
        Some(&epoch) => match read(warehouse, shard, epoch).await? {
            Some(record) => Ok(Some(record)),
            None => {
                let (path, reason) = (shard.record_path(epoch).to_string(), "it was listed and is gone".to_owned());
                Err(StreamError::Corrupt { path, kind: "an epoch record", reason })
            }
        },
    }
}

/// The epoch whose record lies at `path`; `None` if it is no record.
pub fn number(path: &Path) -> Option<u64> {
    path.filename()?.strip_suffix(".json")?.parse().ok()
}

/// The numbers of all records that are kept, rising.
pub async fn numbers(warehouse: &Warehouse, shard: &ShardId) -> Result<Vec<u64>, StreamError> {
    let mut numbers: Vec<u64> = warehouse.list(&shard.records()).await?.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// One record; `None` if it is not there (any more).
pub async fn read(warehouse: &Warehouse, shard: &ShardId, epoch: u64) -> Result<Option<EpochRecord>, StreamError> {
    let path = shard.record_path(epoch);
    warehouse.read(&path).await?.map(|bytes| EpochRecord::from_bytes(&bytes, &path)).transpose()
}

/// Removes an old record. Failing to is no error: only the newest matters.
pub async fn remove(warehouse: &Warehouse, shard: &ShardId, epoch: u64) {
    if let Err(error) = warehouse.remove(&[shard.record_path(epoch)]).await {
        tracing::debug!(epoch, %error, "old epoch record not removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::golden;

    /// As Watershed wrote it before sinks, constraints and marks of topics came.
    const FIRST: &str = r#"{"version":1,"pipeline":"gold.x","shard":0,"epoch":1,"writer":{"run":"r","host":"h","pid":1,"started":2},
        "definition":"00000000deadbeef","written_ms":3,"offsets":{"0":4},"watermarks_us":{},"idle_us":{},"keyed_tasks":1,"state":{},"tables":[],
        "counters":{"rows_in":4}}"#;

    fn range(offset: u64, bytes: u64) -> StateRange {
        StateRange { file: "f.arrow".into(), offset, bytes }
    }

    fn record() -> EpochRecord {
        let table: TableName = "gold.x".parse().unwrap();
        let file = StagedFile {
            path: "day=1/part-1.parquet".into(),
            size_bytes: 10,
            rows: 2,
            partition_values: [("day".to_owned(), Some("1".to_owned()))].into(),
            stats: r#"{"numRecords":2}"#.into(),
            modified_ms: 3,
        };
        let constraint = ConstraintEpoch {
            name: "c".into(),
            predicate: "a > 0".into(),
            action: "WARN".into(),
            passed: 1,
            failed: 2,
            epoch_passed: 3,
            epoch_failed: 4,
            last_failed_ms: Some(5),
        };
        let rides = SourceEpoch {
            source_id: Some("topic-id".into()),
            offsets: [(0, 10), (1, 20)].into(),
            watermarks_us: [(0, 5), (1, i64::MAX)].into(),
            newest_us: [(0, 7)].into(),
            idle_us: [(1, 6)].into(),
            caught_up_ms: [(1, 8)].into(),
            quiet: [(1, QuietSince { since_ms: 8, read_ms: 9 })].into(),
            read_ms: Some(9),
        };
        EpochRecord {
            version: VERSION,
            pipeline: table.clone(),
            shard: 0,
            epoch: 7,
            writer: Identity { run: "run".into(), host: "host".into(), pid: 1, started: 2 },
            definition: "2:0123456789abcdef".into(),
            written_ms: 1_764_288_000_000,
            sources: [
                ("rides".to_owned(), rides),
                ("trips".to_owned(), SourceEpoch { offsets: [(0, 3)].into(), ..SourceEpoch::default() }),
            ]
            .into(),
            keyed_tasks: 2,
            state: [("k1/0/0-60".to_string(), vec![range(8, 16), range(24, 4)])].into(),
            state_files: [("f.arrow".to_string(), 32)].into(),
            tables: vec![TableEpoch { table, table_id: "id".into(), previous_epoch: Some(6), files: vec![file] }],
            counters: Counters { rows_in: 1, rows_out: 2, rows_late: 3, rows_quarantined: 4, ..Counters::default() },
            constraints: vec![constraint],
            sinks: vec![SinkEpoch { name: "s".into(), topic: "t".into(), at_once: true, rows: 9 }],
        }
    }

    #[test]
    fn records_are_written_as_ever_and_read_back() {
        let path = Path::from("1.json");
        let bytes = record().to_bytes();
        golden("epoch.json", &format!("{}\n", std::str::from_utf8(&bytes).unwrap()));
        assert_eq!(EpochRecord::from_bytes(&bytes, &path).unwrap(), record());
        // As layout 2 was written: one source, without a name.
        let older = EpochRecord::from_bytes(include_bytes!("../tests/golden/epoch-2.json"), &path).unwrap();
        let mut expected = EpochRecord { version: 2, ..record() };
        expected.sources = [(UNNAMED.to_owned(), record().sources["rides"].clone())].into();
        assert_eq!(older, expected);
        assert_eq!(older.source("rides"), record().source("rides"));
        assert_eq!((older.offsets_shown(), record().offsets_shown()), ("0:10 1:20".to_owned(), "rides 0:10 1:20, trips 0:3".to_owned()));
        assert_eq!((older.watermark_us(), record().watermark_us()), (Some(5), None), "nothing was read of trips yet");
        let first = EpochRecord::from_bytes(FIRST.as_bytes(), &path).unwrap();
        let of_first = first.source("rides").unwrap();
        assert_eq!(of_first, &SourceEpoch { offsets: [(0, 4)].into(), ..SourceEpoch::default() });
        assert_eq!((first.constraints, first.sinks, first.counters.rows_lost), (vec![], vec![], 0));
        let single = FIRST.replace(r#""state":{}"#, r#""state":{"k1/0/0-60":{"file":"f.arrow","offset":8,"bytes":16}}"#);
        let single = EpochRecord::from_bytes(single.as_bytes(), &path).unwrap();
        assert_eq!((single.state, single.state_files.len()), ([("k1/0/0-60".to_string(), vec![range(8, 16)])].into(), 0));
        let newer = FIRST.replace(r#""version":1"#, r#""version":99"#);
        let error = EpochRecord::from_bytes(newer.as_bytes(), &path).unwrap_err().to_string();
        assert!(error.contains("layout 99"), "{error}");
    }
}

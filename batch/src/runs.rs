//! The record of every run: `_watershed/jobs/<view>/<run>.json`, so that every process sees what any of them did.
//!
//! A run leaves `<run>.running` when it starts and `<run>.json` when it ends. A run id begins with the time of its start, so names in order are
//! runs in order. What a killed process left counts as lost as soon as the next run of the job starts. Of each job the newest
//! [`RUNS_KEPT`] records are kept.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use watershed_lake::{LakeError, TableName, Warehouse};

use crate::{ConstraintRun, View};

/// Records kept of one job: a day of one that runs every quarter of an hour.
pub const RUNS_KEPT: usize = 100;
/// Records read at once.
const READS_AT_ONCE: usize = 16;
/// Layout of a record.
const LAYOUT: u32 = 1;

/// What made a job run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Its time had come, or it had never run.
    Schedule,
    /// A table it reads had changed.
    Update,
    /// Somebody asked for it.
    Manual,
    /// Somebody asked for a job that reads it.
    Downstream,
}

/// What state a run is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It has started and not ended.
    Running,
    /// The view holds its rows, or those of a later run.
    Succeeded,
    /// It gave up; the view is as it was.
    Failed,
    /// It was asked to stop; the view is as it was.
    Stopped,
    /// Its process ended before it did. The table's history says whether it committed.
    Lost,
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Schedule => "schedule",
            Self::Update => "update",
            Self::Manual => "manual",
            Self::Downstream => "downstream",
        })
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Lost => "lost",
        })
    }
}

/// One run of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Layout of this record.
    pub layout: u32,
    /// Its id; later runs have greater ids.
    pub run_id: String,
    /// The view that it refreshed.
    pub job: TableName,
    /// What made it run.
    pub trigger: Trigger,
    /// What state it is in.
    pub status: RunStatus,
    /// When it started, in ms since 1970.
    pub started_ms: i64,
    /// When it ended, in ms since 1970.
    pub ended_ms: Option<i64>,
    /// Rows that the view has since.
    pub rows: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Rows left out because they violate an expectation.
    #[serde(default)]
    pub dropped: u64,
    /// How its rows met the view's expectations, in the order of their definition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<ConstraintRun>,
    /// The version of each table it read.
    pub read: BTreeMap<TableName, i64>,
    /// The version of the view that it committed.
    pub written: Option<i64>,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it failed, or what the last attempt but one failed for.
    pub error: Option<String>,
    /// [`View::digest`] of the definition it ran.
    pub definition: String,
    /// The process that ran it.
    pub process: String,
}

impl RunRecord {
    /// A run that starts now.
    pub fn begin(view: &View, trigger: Trigger, now: DateTime<Utc>, process: &str) -> Self {
        let started_ms = now.timestamp_millis();
        Self {
            layout: LAYOUT,
            run_id: new_id(started_ms),
            job: view.name.clone(),
            trigger,
            status: RunStatus::Running,
            started_ms,
            ended_ms: None,
            rows: 0,
            bytes: 0,
            dropped: 0,
            constraints: Vec::new(),
            read: BTreeMap::new(),
            written: None,
            attempts: 0,
            error: None,
            definition: view.digest(),
            process: process.to_owned(),
        }
    }

    /// How long it took, in ms; `None` while it runs.
    pub fn took_ms(&self) -> Option<i64> {
        self.ended_ms.map(|ended| (ended - self.started_ms).max(0))
    }

    fn path(&self, end: &str) -> Path {
        folder(&self.job).join(format!("{}.{end}", self.run_id))
    }
}

/// Tables and the versions that were read of them: `a@1 b@2`.
pub fn versions(read: &BTreeMap<TableName, i64>) -> String {
    read.iter().map(|(table, version)| format!("{table}@{version}")).collect::<Vec<_>>().join(" ")
}

fn new_id(ms: i64) -> String {
    let random = Uuid::new_v4().simple().to_string();
    format!("{ms:013}-{}", &random[..8])
}

const RUNNING: &str = "running";
const ENDED: &str = "json";

fn root() -> Path {
    Path::from("_watershed/jobs")
}

fn folder(job: &TableName) -> Path {
    root().join(job.to_string())
}

/// The records of a warehouse. Clones share what they have read: an ended run's record never changes.
#[derive(Debug, Clone)]
pub struct Runs {
    warehouse: Warehouse,
    ended: Arc<Mutex<HashMap<Path, RunRecord>>>,
}

impl Runs {
    /// Of this warehouse.
    pub fn new(warehouse: Warehouse) -> Self {
        Self { warehouse, ended: Arc::default() }
    }

    /// Says that a run has started. Where the clock was set back since the newest run of the job, it gets a greater id than the clock gives.
    pub async fn started(&self, record: &mut RunRecord) -> Result<(), LakeError> {
        let listed = self.warehouse.list(&folder(&record.job)).await?;
        let newest_ms = listed.iter().filter_map(|path| path.filename()?.split_once('-')?.0.parse::<i64>().ok()).max();
        if let Some(newest_ms) = newest_ms.filter(|newest_ms| *newest_ms >= record.started_ms) {
            record.run_id = new_id(newest_ms + 1);
        }
        self.warehouse.put_own(&record.path(RUNNING), bytes_of(record)).await
    }

    /// Says how a run ended, and lets go of records too many.
    pub async fn ended(&self, record: &RunRecord) -> Result<(), LakeError> {
        self.warehouse.put_own(&record.path(ENDED), bytes_of(record)).await?;
        watershed_lake::step("run_recorded");
        let listed = self.warehouse.list(&folder(&record.job)).await?;
        let mut gone = vec![record.path(RUNNING)];
        let kept_from = listed.iter().filter(|path| path.extension() == Some(ENDED)).rev().nth(RUNS_KEPT - 1);
        if let Some(oldest) = kept_from.and_then(Path::filename) {
            gone.extend(listed.iter().filter(|path| path.filename().is_some_and(|name| name < oldest)).cloned());
        }
        self.warehouse.remove(&gone).await
    }

    /// All records there are, newest first.
    pub async fn all(&self) -> Result<Vec<RunRecord>, LakeError> {
        let listed = self.warehouse.list(&root()).await?;
        self.read(listed).await
    }

    /// The records of one job, newest first.
    pub async fn of(&self, job: &TableName) -> Result<Vec<RunRecord>, LakeError> {
        let listed = self.warehouse.list(&folder(job)).await?;
        self.read(listed).await
    }

    /// Removes what is known of a job that is no more.
    pub async fn forget(&self, job: &TableName) -> Result<(), LakeError> {
        let listed = self.warehouse.list(&folder(job)).await?;
        self.warehouse.remove(&listed).await
    }

    async fn read(&self, listed: Vec<Path>) -> Result<Vec<RunRecord>, LakeError> {
        let ended: Vec<&Path> = listed.iter().filter(|path| path.extension() == Some(ENDED)).collect();
        // Between the two writes at its end a run has both files.
        let running = listed.iter().filter(|path| {
            let stem = path.as_ref().strip_suffix(RUNNING);
            stem.is_some_and(|stem| !ended.iter().any(|other| other.as_ref().strip_suffix(ENDED) == Some(stem)))
        });
        let wanted: Vec<Path> = ended.iter().copied().chain(running).cloned().collect();
        let reads = wanted.into_iter().map(|path| async move { self.one(path).await });
        let found: Vec<Option<RunRecord>> = futures::stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
        let mut records: Vec<RunRecord> = found.into_iter().flatten().collect();
        records.sort_by(|left, right| right.run_id.cmp(&left.run_id));
        let mut newer = std::collections::HashSet::new();
        for record in &mut records {
            if !newer.insert(record.job.clone()) && record.status == RunStatus::Running {
                record.status = RunStatus::Lost;
            }
        }
        Ok(records)
    }

    async fn one(&self, path: Path) -> Result<Option<RunRecord>, LakeError> {
        if let Some(known) = self.known().get(&path) {
            return Ok(Some(known.clone()));
        }
        // Removed since it was listed: it ended, or there were too many.
        let Some(bytes) = self.warehouse.read(&path).await? else { return Ok(None) };
        match serde_json::from_slice::<RunRecord>(&bytes) {
            Ok(record) if record.layout == LAYOUT => {
                if path.extension() == Some(ENDED) {
                    let mut known = self.known();
                    // Of dropped jobs and removed records nothing is kept for ever.
                    if known.len() > 4096 {
                        known.clear();
                    }
                    known.insert(path, record.clone());
                }
                Ok(Some(record))
            }
            Ok(record) => {
                tracing::warn!(%path, layout = record.layout, "a run's record of another layout is left out");
                Ok(None)
            }
            Err(error) => {
                tracing::warn!(%path, %error, "a run's record that cannot be read is left out");
                Ok(None)
            }
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Path, RunRecord>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes_of(record: &RunRecord) -> Bytes {
    serde_json::to_vec(record).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Views;

    async fn runs() -> (Runs, View) {
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        let views = Views::parse(["CREATE MATERIALIZED VIEW gold.v AS SELECT 1 AS one"]).unwrap();
        let view = views.iter().next().unwrap().clone();
        (Runs::new(warehouse), view)
    }

    fn begin(view: &View, ms: i64) -> RunRecord {
        RunRecord::begin(view, Trigger::Manual, DateTime::from_timestamp_millis(ms).unwrap(), "me")
    }

    fn ended(record: &RunRecord) -> RunRecord {
        RunRecord { status: RunStatus::Succeeded, ended_ms: Some(record.started_ms + 5), rows: 3, written: Some(1), ..record.clone() }
    }

    #[tokio::test]
    async fn a_run_is_running_then_ended_or_lost() {
        let (runs, view) = runs().await;
        let statuses = async || -> Vec<RunStatus> {
            // Another process has read nothing before.
            let fresh = Runs::new(runs.warehouse.clone()).all().await.unwrap();
            assert_eq!(fresh, runs.all().await.unwrap());
            fresh.iter().map(|record| record.status).collect()
        };
        assert_eq!(statuses().await, []);
        let mut first = begin(&view, 1_000);
        runs.started(&mut first).await.unwrap();
        assert_eq!(statuses().await, [RunStatus::Running]);
        runs.ended(&ended(&first)).await.unwrap();
        assert_eq!(statuses().await, [RunStatus::Succeeded]);
        assert_eq!(runs.of(&view.name).await.unwrap()[0].took_ms(), Some(5));
        assert!(runs.warehouse.list(&root()).await.unwrap().iter().all(|path| path.extension() == Some(ENDED)));

        runs.started(&mut begin(&view, 2_000)).await.unwrap();
        // The clock was set back: still the newest.
        let mut third = begin(&view, 500);
        runs.started(&mut third).await.unwrap();
        assert_eq!(statuses().await, [RunStatus::Running, RunStatus::Lost, RunStatus::Succeeded]);
        runs.ended(&ended(&third)).await.unwrap();
        assert_eq!(statuses().await, [RunStatus::Succeeded, RunStatus::Lost, RunStatus::Succeeded]);
        // Set back while one runs: it ends before it started, and no time is less than none.
        assert_eq!(RunRecord { ended_ms: Some(400), ..ended(&third) }.took_ms(), Some(0));
        runs.forget(&view.name).await.unwrap();
        assert_eq!(statuses().await, []);
    }

    /// Warehouses hold this: a later version must read it.
    #[tokio::test]
    async fn records_of_runs_are_written_as_ever() {
        let (runs, view) = runs().await;
        let mut record = begin(&view, 1_764_288_000_000);
        runs.started(&mut record).await.unwrap();
        let constraint = ConstraintRun { name: "c".into(), predicate: "one > 0".into(), action: "DROP ROW".into(), passed: 3, failed: 1 };
        let read = [("silver.a".parse().unwrap(), 7)].into();
        let done =
            RunRecord { run_id: record.run_id.clone(), dropped: 1, constraints: vec![constraint], read, attempts: 1, ..ended(&record) };
        runs.ended(&done).await.unwrap();
        let path = Path::from(format!("_watershed/jobs/gold.v/{}.json", record.run_id));
        let bytes = runs.warehouse.read(&path).await.unwrap().expect("a record");
        let text: String = std::str::from_utf8(&bytes).unwrap().replace(&record.run_id, "ID");
        let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let expected = concat!(
            r#"{"layout":1,"run_id":"ID","job":"gold.v","trigger":"manual","status":"succeeded","started_ms":1764288000000,"#,
            r#""ended_ms":1764288000005,"rows":3,"bytes":0,"dropped":1,"#,
            r#""constraints":[{"name":"c","predicate":"one > 0","action":"DROP ROW","passed":3,"failed":1}],"#,
            r#""read":{"silver.a":7},"written":1,"attempts":1,"error":null,"definition":"f11ceafecb3b26c8","process":"me"}"#
        );
        assert_eq!(text, expected);
        assert_eq!(Runs::new(runs.warehouse.clone()).all().await.unwrap(), [done]);
    }

    #[tokio::test]
    async fn only_so_many_are_kept() {
        let (runs, view) = runs().await;
        runs.started(&mut begin(&view, 1)).await.unwrap();
        for ms in 0..RUNS_KEPT as i64 + 7 {
            let mut record = begin(&view, 1_000 + ms);
            runs.started(&mut record).await.unwrap();
            runs.ended(&ended(&record)).await.unwrap();
        }
        let kept = runs.all().await.unwrap();
        assert_eq!(kept.len(), RUNS_KEPT);
        assert_eq!(kept.last().unwrap().started_ms, 1_007);
        assert_eq!(runs.warehouse.list(&root()).await.unwrap().len(), RUNS_KEPT);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_left_out() {
        let (runs, view) = runs().await;
        let record = begin(&view, 1);
        runs.ended(&ended(&record)).await.unwrap();
        let path = folder(&view.name).join("0000000000002-deadbeef.json");
        runs.warehouse.put_own(&path, Bytes::from_static(b"{")).await.unwrap();
        let path = folder(&view.name).join("0000000000003-deadbeef.json");
        runs.warehouse.put_own(&path, bytes_of(&RunRecord { layout: 9, ..record })).await.unwrap();
        assert_eq!(runs.all().await.unwrap().len(), 1);
    }
}

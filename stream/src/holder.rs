//! Who runs a shard: a courtesy beside the record that decides.
//!
//! A process that runs a shard says so in `holder.json` every few seconds. A second one sees it, stops, and names the first. This is
//! never what correctness rests on: a holder that was wrongly taken for dead loses at the next epoch record.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use watershed_lake::Warehouse;
use watershed_lake::clock::now_ms;

use crate::StreamError;
use crate::epoch::ShardId;
use crate::limits::{
    FAILURE_CHARS_MAX, HEARTBEAT_INTERVAL, HOLDER_SILENT_MAX, HOLDER_TIMEOUT, RESERVE_BYTES, RESERVE_PAUSE, RESERVE_TRIES, RETRY_PAUSE_MAX,
};
use crate::metrics::{Metrics, PipelineMetrics, SourceMetrics};

/// A process, as it signs its records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Unique to one run of one process.
    pub run: String,
    /// Host name.
    pub host: String,
    /// Process id on that host.
    pub pid: u32,
    /// When the process started, in the host's own clock ticks: tells a reused process id from the same process.
    pub started: u64,
}

impl Identity {
    /// This process.
    pub fn of_this_process() -> Self {
        let pid = std::process::id();
        Self { run: uuid::Uuid::new_v4().to_string(), host: host_name(), pid, started: process_start(pid).unwrap_or(0) }
    }

    /// Whether the process is known to be gone; false if it runs on another host or that cannot be known.
    fn is_gone(&self) -> bool {
        self.host == host_name() && cfg!(target_os = "linux") && process_start(self.pid) != Some(self.started)
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_string()).unwrap_or_else(|_| "localhost".into())
}

/// Start time of a living process in clock ticks since boot: field 22 of its stat line; the second field, in brackets, may hold spaces.
/// A zombie has ended, even if its parent has not yet looked.
fn process_start(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

/// What keeps a pipeline from its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The newest error.
    pub error: String,
    /// When the first of the errors came that have followed one another since the pipeline last got on, in milliseconds since 1970.
    pub since_ms: u64,
    /// Whether it has given up: the error does not pass by itself.
    pub ended: bool,
}

/// What the holder says of the pipeline with each sign of life: for people who look from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vitals {
    /// Records in the topic that were not read yet.
    pub lag_records: u64,
    /// How old the newest record is that was read of the partition that lags most, in milliseconds; 0 when all is read.
    pub lag_ms: u64,
    /// How long the newest commit took.
    pub commit_ms: u64,
    /// Times the pipeline was started again after an error.
    pub restarts: u64,
    /// What its operators hold: keys, and bytes of memory.
    #[serde(default)]
    pub state_keys: u64,
    /// See [`Vitals::state_keys`].
    #[serde(default)]
    pub state_memory_bytes: u64,
    /// State that is put aside, in bytes.
    #[serde(default)]
    pub state_spilled_bytes: u64,
    /// How long the state of the newest epoch took to say and write.
    #[serde(default)]
    pub snapshot_ms: u64,
    /// How long it took to read the state back at the last start.
    #[serde(default)]
    pub restore_ms: u64,
    /// Sources that wait for another one, which they are too far ahead of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<Waits>,
    /// Why it does not get on, if it does not.
    #[serde(default)]
    pub failure: Option<Failure>,
}

/// A source of a pipeline that waits for another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// The source that waits.
    pub source: String,
    /// The one that it waits for.
    pub waits_for: String,
}

impl Vitals {
    /// Of a pipeline at this moment.
    pub fn of(metrics: &PipelineMetrics) -> Self {
        let PipelineMetrics { lag_records, lag_ms, commit_ms, restarts, snapshot_ms, restore_ms, held, spilled_bytes, .. } = *metrics;
        let failure = metrics.failure.as_ref().map(|failure| Failure { error: short(&failure.error), ..failure.clone() });
        let waits = |source: &SourceMetrics| Some(Waits { source: source.name.clone(), waits_for: source.waits_for.clone()? });
        let waits = metrics.sources.iter().filter_map(waits).collect();
        let (state_keys, state_memory_bytes, state_spilled_bytes) = (held.keys, held.bytes, spilled_bytes);
        Self {
            lag_records,
            lag_ms,
            commit_ms,
            restarts,
            state_keys,
            state_memory_bytes,
            state_spilled_bytes,
            snapshot_ms,
            restore_ms,
            waits,
            failure,
        }
    }
}

/// So much of an error that its file stays in one block of a disk: the fuller the disk, the more the error matters.
fn short(error: &str) -> String {
    match error.char_indices().nth(FAILURE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &error[..end]),
        None => error.to_owned(),
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    holder: Identity,
    seen_ms: u64,
    released: bool,
    #[serde(default)]
    vitals: Option<Vitals>,
}

/// Whether somebody runs a shard, as far as the warehouse knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// A process has just said so.
    Running,
    /// A process tries again and again; [`Vitals::failure`] says why it does not get on.
    Failing,
    /// The last one gave up; [`Vitals::failure`] says why.
    Failed,
    /// The last one let it go.
    Stopped,
    /// The last one has not been heard of for a while: it died, or cannot write.
    Silent,
}

/// Whether somebody runs `shard`, and what they last said of it. A shard that nobody ever ran is stopped.
pub async fn look(warehouse: &Warehouse, shard: &ShardId) -> (Held, Option<Vitals>) {
    let Some(holder) = read(warehouse, shard).await else { return (Held::Stopped, None) };
    let silent = Duration::from_millis(now_ms().saturating_sub(holder.seen_ms));
    let failure = holder.vitals.as_ref().and_then(|vitals| vitals.failure.as_ref());
    let held = match failure {
        Some(failure) if failure.ended => Held::Failed,
        // Between two tries nobody holds it.
        Some(_) if holder.released && (silent >= HOLDER_SILENT_MAX + RETRY_PAUSE_MAX || holder.holder.is_gone()) => Held::Silent,
        Some(_) if holder.released => Held::Failing,
        None if holder.released => Held::Stopped,
        _ if silent >= HOLDER_SILENT_MAX || holder.holder.is_gone() => Held::Silent,
        Some(_) => Held::Failing,
        None => Held::Running,
    };
    (held, holder.vitals)
}

async fn read(warehouse: &Warehouse, shard: &ShardId) -> Option<Holder> {
    let path = path(shard);
    let object = async { warehouse.store().get(&path).await?.bytes().await };
    serde_json::from_slice(&tokio::time::timeout(HOLDER_TIMEOUT, object).await.ok()?.ok()?).ok()
}

fn path(shard: &ShardId) -> Path {
    Path::from(format!("{}/holder.json", shard.folder()))
}

/// Says every few seconds that we hold a shard, until dropped.
pub struct Holding(tokio::task::JoinHandle<()>);

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Refuses if another process than `me` holds the shard and may be alive.
async fn refuse_held(warehouse: &Warehouse, shard: &ShardId, me: Option<&Identity>) -> Result<(), StreamError> {
    let Some(current) = read(warehouse, shard).await else { return Ok(()) };
    let ours = me.is_some_and(|me| current.holder.run == me.run);
    if ours || current.released || current.holder.is_gone() || !is_alive(warehouse, shard, &current).await {
        return Ok(());
    }
    let silent = Duration::from_millis(now_ms().saturating_sub(current.seen_ms));
    Err(StreamError::Held {
        pipeline: shard.pipeline.to_string(),
        holder: format!("{}, last heard of {:.1} s ago", current.holder, silent.as_secs_f64()),
        hint: format!(", or wait {} s after it has died", HOLDER_SILENT_MAX.as_secs()),
    })
}

/// Whether the holder may be alive, as far as the warehouse tells.
async fn is_alive(warehouse: &Warehouse, shard: &ShardId, holder: &Holder) -> bool {
    let now = now_ms();
    if holder.seen_ms <= now {
        return Duration::from_millis(now - holder.seen_ms) < HOLDER_SILENT_MAX;
    }
    // One of the two clocks is wrong, or was set back: only whether it speaks again tells anything.
    tokio::time::sleep(HEARTBEAT_INTERVAL * 2).await;
    let spoke = |later: Holder| (later.holder.run, later.seen_ms) != (holder.holder.run.clone(), holder.seen_ms);
    read(warehouse, shard).await.is_some_and(spoke)
}

/// Refuses if a process runs the shard.
pub async fn check_free(warehouse: &Warehouse, shard: &ShardId) -> Result<(), StreamError> {
    refuse_held(warehouse, shard, None).await
}

/// Refuses if another process holds the shard and may be alive; else says that we hold it.
pub async fn claim(warehouse: &Warehouse, shard: &ShardId, me: &Identity, metrics: &Arc<Metrics>) -> Result<Holding, StreamError> {
    refuse_held(warehouse, shard, Some(me)).await?;
    keep_reserve(warehouse, shard).await;
    say(warehouse, shard, me, Some(Vitals::of(&metrics.read())), false).await;
    let (warehouse, shard, me, metrics) = (warehouse.clone(), shard.clone(), me.clone(), metrics.clone());
    Ok(Holding(tokio::spawn(async move {
        loop {
            tokio::time::sleep(HEARTBEAT_INTERVAL).await;
            say(&warehouse, &shard, &me, Some(Vitals::of(&metrics.read())), false).await;
        }
    })))
}

/// Says that we still hold the shard, or that we let it go. Failing to is no error: the record decides.
pub async fn say(warehouse: &Warehouse, shard: &ShardId, me: &Identity, vitals: Option<Vitals>, released: bool) {
    let holder = Holder { holder: me.clone(), seen_ms: now_ms(), released, vitals };
    let bytes = Bytes::from(serde_json::to_vec(&holder).unwrap_or_default());
    let path = path(shard);
    let Err(first) = put(warehouse, &path, &bytes).await else { return };
    // Of a full disk most of all it must be told what fails, and there.
    if !has_reserve(warehouse) || warehouse.store().delete(&reserve_path(shard)).await.is_err() {
        return tracing::debug!(error = first, pipeline = %shard.pipeline, "holder file not written");
    }
    // Others write to the disk, too, and give back what they took when they fail.
    for _ in 0..RESERVE_TRIES {
        match put(warehouse, &path, &bytes).await {
            Ok(()) => return keep_reserve(warehouse, shard).await,
            Err(error) => tracing::debug!(error, pipeline = %shard.pipeline, "holder file not written, though there was a reserve"),
        }
        tokio::time::sleep(RESERVE_PAUSE).await;
    }
}

async fn put(warehouse: &Warehouse, path: &Path, bytes: &Bytes) -> Result<(), String> {
    match tokio::time::timeout(HOLDER_TIMEOUT, warehouse.store().put(path, bytes.clone().into())).await {
        Ok(put) => put.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err(format!("it took longer than {} s", HOLDER_TIMEOUT.as_secs())),
    }
}

/// Only a disk runs full.
fn has_reserve(warehouse: &Warehouse) -> bool {
    warehouse.url().scheme() == "file"
}

fn reserve_path(shard: &ShardId) -> Path {
    Path::from(format!("{}/holder.reserve", shard.folder()))
}

/// Holds room on the disk for the holder's file, which is replaced and not written over.
async fn keep_reserve(warehouse: &Warehouse, shard: &ShardId) {
    if has_reserve(warehouse)
        && let Err(error) = put(warehouse, &reserve_path(shard), &Bytes::from_static(&[b' '; RESERVE_BYTES])).await
    {
        tracing::debug!(error, pipeline = %shard.pipeline, "no reserve for the holder file");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::golden;
    use crate::hidden::SourceNames;

    #[test]
    fn a_holder_is_written_as_ever_and_read_back() {
        let holder = Identity { run: "run".into(), host: "host".into(), pid: 1, started: 2 };
        let vitals = Vitals {
            lag_records: 3,
            lag_ms: 4,
            commit_ms: 5,
            restarts: 6,
            state_keys: 8,
            state_memory_bytes: 9,
            state_spilled_bytes: 12,
            snapshot_ms: 10,
            restore_ms: 11,
            waits: Vec::new(),
            failure: None,
        };
        let text = serde_json::to_string(&Holder { holder, seen_ms: 7, released: true, vitals: Some(vitals.clone()) }).unwrap();
        golden("holder.json", &format!("{text}\n"));
        let back: Holder = serde_json::from_str(&text).unwrap();
        assert_eq!((back.seen_ms, back.released, back.vitals), (7, true, Some(vitals.clone())));
        let first: Holder =
            serde_json::from_str(r#"{"holder":{"run":"r","host":"h","pid":1,"started":2},"seen_ms":1,"released":false}"#).unwrap();
        assert_eq!(first.vitals, None);
        // As Watershed wrote it before it told of state.
        let older: Vitals = serde_json::from_str(r#"{"lag_records":3,"lag_ms":4,"commit_ms":5,"restarts":6,"failure":null}"#).unwrap();
        assert_eq!(older, Vitals { state_keys: 0, state_memory_bytes: 0, state_spilled_bytes: 0, snapshot_ms: 0, restore_ms: 0, ..vitals });
    }

    /// What its file says, and when it was written.
    async fn held(failure: Option<bool>, released: bool, since: Duration) -> Held {
        let warehouse = Warehouse::open("memory://", &Default::default()).await.unwrap();
        let shard = ShardId { pipeline: "gold.x".parse().unwrap(), shard: 0 };
        assert_eq!(look(&warehouse, &shard).await, (Held::Stopped, None), "nobody ever ran it");
        let mut vitals = Vitals::of(&Metrics::new(shard.pipeline.clone(), SourceNames::new([String::new()])).read());
        vitals.failure = failure.map(|ended| Failure { error: "why".into(), since_ms: 1, ended });
        // Of another machine, whose processes cannot be looked at.
        let holder = Identity { run: "r".into(), host: "another".into(), pid: 1, started: 2 };
        let holder = Holder { holder, seen_ms: now_ms() - since.as_millis() as u64, released, vitals: Some(vitals) };
        put(&warehouse, &path(&shard), &serde_json::to_vec(&holder).unwrap().into()).await.unwrap();
        look(&warehouse, &shard).await.0
    }

    #[tokio::test]
    async fn who_is_not_heard_of_is_silent_whatever_it_said_last() {
        let (now, between, late) = (Duration::ZERO, HOLDER_SILENT_MAX * 2, HOLDER_SILENT_MAX + RETRY_PAUSE_MAX + Duration::from_secs(1));
        for (failure, released, since, expected) in [
            (None, false, now, Held::Running),
            (None, false, between, Held::Silent),
            (None, true, late, Held::Stopped),
            (Some(false), false, now, Held::Failing),
            (Some(false), false, between, Held::Silent),
            // It waits between two tries.
            (Some(false), true, between, Held::Failing),
            (Some(false), true, late, Held::Silent),
            (Some(true), true, late, Held::Failed),
        ] {
            assert_eq!(held(failure, released, since).await, expected, "{failure:?}, {released}, {since:?}");
        }
    }

    #[tokio::test]
    async fn room_for_the_holder_file_is_kept_on_disks_only() {
        let folder = tempfile::tempdir().unwrap();
        let shard = ShardId { pipeline: "gold.x".parse().unwrap(), shard: 0 };
        let me = Identity::of_this_process();
        for (url, kept) in [(folder.path().display().to_string(), true), ("memory://".to_owned(), false)] {
            let warehouse = Warehouse::open(&url, &Default::default()).await.unwrap();
            let metrics = Arc::new(Metrics::new(shard.pipeline.clone(), SourceNames::new([String::new()])));
            let holding = claim(&warehouse, &shard, &me, &metrics).await.unwrap();
            assert_eq!(look(&warehouse, &shard).await.0, Held::Running, "{url}");
            assert_eq!(warehouse.store().head(&reserve_path(&shard)).await.is_ok(), kept, "{url}");
            drop(holding);
        }
    }
}

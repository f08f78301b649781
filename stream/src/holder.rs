//! Who runs a shard: a courtesy beside the record that decides.
//!
//! A process that runs a shard says so in `holder.json` every few seconds. A second one sees it, stops, and names the first. This is
//! never what correctness rests on: a holder that was wrongly taken for dead loses at the next epoch record.

use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use watershed_lake::Warehouse;

use crate::StreamError;
use crate::epoch::{ShardId, now_ms};
use crate::limits::{HEARTBEAT_INTERVAL, HOLDER_SILENT_MAX};

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

    /// Whether the process is known to be gone; false if it runs on another host or cannot be told.
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

#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    holder: Identity,
    seen_ms: u64,
    released: bool,
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

/// Refuses if another process holds the shard and may be alive; else says that we hold it.
pub async fn claim(warehouse: &Warehouse, shard: &ShardId, me: &Identity) -> Result<Holding, StreamError> {
    if let Ok(object) = warehouse.store().get(&path(shard)).await
        && let Ok(bytes) = object.bytes().await
        && let Ok(current) = serde_json::from_slice::<Holder>(&bytes)
    {
        let silent = Duration::from_millis(now_ms().saturating_sub(current.seen_ms));
        let ours = current.holder.run == me.run;
        if !ours && !current.released && !current.holder.is_gone() && silent < HOLDER_SILENT_MAX {
            return Err(StreamError::Held {
                pipeline: shard.pipeline.to_string(),
                holder: format!("{}, last heard of {:.1} s ago", current.holder, silent.as_secs_f64()),
                hint: format!(", or wait {} s after it has died", HOLDER_SILENT_MAX.as_secs()),
            });
        }
    }
    say(warehouse, shard, me, false).await;
    let (warehouse, shard, me) = (warehouse.clone(), shard.clone(), me.clone());
    Ok(Holding(tokio::spawn(async move {
        loop {
            tokio::time::sleep(HEARTBEAT_INTERVAL).await;
            say(&warehouse, &shard, &me, false).await;
        }
    })))
}

/// Says that we still hold the shard, or that we let it go. Failing to is no error: the record decides.
pub async fn say(warehouse: &Warehouse, shard: &ShardId, me: &Identity, released: bool) {
    let holder = Holder { holder: me.clone(), seen_ms: now_ms(), released };
    let bytes = Bytes::from(serde_json::to_vec(&holder).unwrap_or_default());
    if let Err(error) = warehouse.store().put(&path(shard), bytes.into()).await {
        tracing::debug!(%error, pipeline = %shard.pipeline, "holder file not written");
    }
}

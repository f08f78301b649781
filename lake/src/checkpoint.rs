//! Delta checkpoints, written by delta-rs in the background after every [`CHECKPOINT_INTERVAL`] versions.
//!
//! A checkpoint only makes cold starts faster, so nothing that goes wrong here reaches a commit. Every [`CLEANUP_INTERVAL`] versions the log is
//! tidied: delta-rs removes what is older than the table's retention, and most checkpoints that newer ones cover are deleted.

use std::sync::Arc;

use deltalake_core::checkpoints::{cleanup_metadata, create_checkpoint};
use object_store::path::Path;
use tokio::task::JoinHandle;

use crate::clock;
use crate::error::Result;
use crate::limits::{CHECKPOINT_FRESH, CHECKPOINT_INTERVAL, CHECKPOINT_TIMEOUT, CHECKPOINTS_KEPT_EVERY, CLEANUP_INTERVAL};
use crate::log::log_folder;
use crate::state;
use crate::table::Shared;

/// At most one checkpoint of a table at a time in this process.
#[derive(Debug, Default)]
pub(crate) struct Checkpointer {
    running: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Checkpointer {
    /// Starts a checkpoint if this version is due for one and none is running.
    pub(crate) fn after_commit(&self, shared: &Arc<Shared>, version: i64) {
        if version % CHECKPOINT_INTERVAL != 0 {
            return;
        }
        let mut running = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if running.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let shared = shared.clone();
        *running = Some(tokio::spawn(async move {
            let table = &shared.identity.name;
            match tokio::time::timeout(CHECKPOINT_TIMEOUT, write(&shared, version)).await {
                Ok(Ok(())) => tracing::debug!(%table, version, "checkpoint written"),
                Ok(Err(error)) => tracing::warn!(%table, version, %error, "no checkpoint; the next one is tried later"),
                Err(_) => tracing::warn!(%table, version, "checkpoint took too long; the next one is tried later"),
            }
        }));
    }

    /// Waits for the running checkpoint, if any.
    pub(crate) async fn settle(&self) {
        let task = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(task) = task {
            // A panic inside was reported by the runtime and harms nothing else.
            let _ = task.await;
        }
    }
}

async fn write(shared: &Shared, version: i64) -> Result<()> {
    let identity = &shared.identity;
    let (table, _) = state::delta_table(&shared.access, &identity.name, &identity.folder, Some(version)).await?;
    let failed = |source| crate::LakeError::Delta { table: identity.name.clone(), source: Box::new(source) };
    create_checkpoint(&table, None).await.map_err(failed)?;
    if version % CLEANUP_INTERVAL == 0 {
        // Removes only what is older than the table's retention and older than a checkpoint.
        let removed = cleanup_metadata(&table, None).await.map_err(failed)?;
        let thinned = thin_out(shared, version).await?;
        tracing::debug!(table = %identity.name, removed, thinned, "expired log files and old checkpoints removed");
    }
    Ok(())
}

/// Removes old checkpoints but for some: the one at `newest`, and those that reading an old version begins with.
async fn thin_out(shared: &Shared, newest: i64) -> Result<usize> {
    let fresh = clock::now() - CHECKPOINT_FRESH;
    let listed = shared.access.list(&log_folder(&shared.identity.folder)).await?;
    let version = |path: &Path| path.filename()?.strip_suffix(".checkpoint.parquet")?.parse::<i64>().ok();
    let checkpoints = listed.iter().filter_map(|file| Some((version(&file.location)?, file)));
    // Of the versions before the first one nothing may be left but it.
    let first = checkpoints.clone().map(|(version, _)| version).min().unwrap_or(newest);
    let needless = |version: i64| version > first && version < newest && version % CHECKPOINTS_KEPT_EVERY != 0;
    let old = checkpoints.filter(|(version, file)| needless(*version) && file.last_modified < fresh);
    let old = old.map(|(_, file)| file.location.clone()).collect::<Vec<_>>();
    shared.access.delete(&old).await?;
    Ok(old.len())
}

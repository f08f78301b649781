//! Delta checkpoints, written by delta-rs in the background after every [`CHECKPOINT_INTERVAL`] versions.
//!
//! A checkpoint only makes cold starts faster, so nothing that goes wrong here reaches a commit.

use std::sync::Arc;

use deltalake::checkpoints::{cleanup_metadata, create_checkpoint};
use tokio::task::JoinHandle;

use crate::error::Result;
use crate::limits::{CHECKPOINT_INTERVAL, CHECKPOINT_TIMEOUT, CLEANUP_INTERVAL};
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
            // A panic inside was reported by the runtime and harms nobody else.
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
        tracing::debug!(table = %identity.name, removed, "expired log files removed");
    }
    Ok(())
}

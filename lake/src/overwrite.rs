//! Replacing all rows of a table in one commit: what a job does to the table it refreshes.
//!
//! The commit removes the files of the version that was read and adds the new ones, so readers see the old rows or the new
//! ones and never both. It goes only on top of the rows that were read: beside an append a blind overwrite would lose rows. The one
//! that comes second gets an error that says so by name and starts over. A compaction in between leaves the rows as they are;
//! then its files are the ones removed.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::access::PutOutcome;
use crate::clock;
use crate::commit::{Committed, StagedFile, add};
use crate::encoding;
use crate::error::{LakeError, Result};
use crate::limits;
use crate::log::{Action, ENGINE, Remove, Txn, render, version_path};
use crate::table::Table;

/// One application transaction that leaves nothing of what was in the table before.
#[derive(Debug, Clone)]
pub struct Overwrite {
    /// Who commits, such as `job/gold.revenue_by_day`.
    pub app_id: String,
    /// Its transaction; one above `previous_app_version` will do.
    pub app_version: i64,
    /// The transaction of `app_id` that the table holds; `None` if there is none yet.
    pub previous_app_version: Option<i64>,
    /// The version whose rows are replaced. Both come from [`Table::standing`].
    pub read_version: i64,
    /// All rows the table has from now on; may be empty.
    pub files: Vec<StagedFile>,
    /// What `DESCRIBE HISTORY` shows, such as `REFRESH`.
    pub operation: String,
    /// More of that, such as what was read to make the rows.
    pub parameters: BTreeMap<String, String>,
}

/// Which versions a table and one app id's transactions in it are at, seen at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The newest version.
    pub version: i64,
    /// The newest transaction of the app id in it; `None` when there is none.
    pub app_version: Option<i64>,
}

impl Table {
    /// Which versions the table and the transactions of `app_id` are at now.
    pub async fn standing(&self, app_id: &str) -> Result<Standing> {
        let mut state = self.fresh().await?;
        let app_version = state.transaction(&self.shared.access, &self.shared.identity, app_id).await?;
        Ok(Standing { version: state.version, app_version })
    }

    /// Replaces all rows, or finds that this transaction was committed before.
    ///
    /// Errors: [`LakeError::Overtaken`] when rows were added or removed since `read_version`; [`LakeError::NewerWriter`] and
    /// [`LakeError::EpochGap`] when it holds another transaction of the app id than `previous_app_version`;
    /// [`LakeError::Unclear`] when the store cannot be asked what happened. Otherwise as [`Table::commit`].
    pub async fn overwrite(&self, overwrite: Overwrite) -> Result<Committed> {
        let _one_at_a_time = self.shared.committing.lock().await;
        self.check_files(&overwrite.files)?;
        let (identity, access) = (&self.shared.identity, &self.shared.access);
        for _ in 0..limits::COMMIT_ATTEMPTS {
            let (version, removed, tag) = {
                let mut state = self.fresh().await?;
                self.check_writable(&state.protocol, "rewritten")?;
                let found = state.transaction(access, identity, &overwrite.app_id).await?;
                if found == Some(overwrite.app_version) {
                    return Ok(Committed { version: state.version, already_there: true });
                }
                if state.data_version > overwrite.read_version || state.version < overwrite.read_version {
                    return Err(LakeError::Overtaken { table: self.name().clone(), read: overwrite.read_version, found: state.version });
                }
                self.follows(&overwrite.app_id, overwrite.app_version, overwrite.previous_app_version, found)?;
                self.check_fresh(&overwrite.files)?;
                let (version, tag) = (state.version, state.tag.clone());
                let files = state.load_files(access, identity).await?;
                if files.iter().any(|file| file.has_deletion_vector) {
                    let hint = "have the engine that wrote it purge it (Spark: REORG TABLE … APPLY (PURGE)), or drop the table";
                    let feature = "deletion vectors".to_owned();
                    return Err(LakeError::Unsupported { table: self.name().clone(), action: "rewritten", feature, hint });
                }
                (version, files.iter().map(|file| (encoding::to_uri(&file.path), file.size_bytes)).collect::<Vec<_>>(), tag)
            };
            let (gone, added) = (removed.len(), overwrite.files.len());
            let bytes = render(&actions(&overwrite, removed))?;
            match access.put_if_absent(&version_path(&identity.folder, version + 1), &bytes).await {
                Ok((PutOutcome::Won, own_tag)) => {
                    let version = self.landed(version, tag, bytes, own_tag).await?;
                    self.shared.upkeep.committed(&self.shared, gone + added);
                    return Ok(Committed { version, already_there: false });
                }
                // Whether rows came with it is seen in the next round.
                Ok((PutOutcome::Lost(_), _)) => {}
                Err(error) => {
                    return self.after_unclear(&overwrite.app_id, overwrite.app_version, overwrite.previous_app_version, error).await;
                }
            }
        }
        Err(LakeError::TooBusy { table: self.name().clone(), attempts: limits::COMMIT_ATTEMPTS })
    }
}

fn actions(overwrite: &Overwrite, removed: Vec<(String, u64)>) -> Vec<Action> {
    let now_ms = clock::now().timestamp_millis();
    let rows = overwrite.files.iter().map(|file| file.rows).sum::<u64>();
    let bytes = overwrite.files.iter().map(|file| file.size_bytes).sum::<u64>();
    let mut parameters = overwrite.parameters.clone();
    parameters.insert("mode".to_owned(), "Overwrite".to_owned());
    parameters.insert("appId".to_owned(), overwrite.app_id.clone());
    parameters.insert("appVersion".to_owned(), overwrite.app_version.to_string());
    let info = serde_json::json!({
        "timestamp": now_ms,
        "operation": overwrite.operation,
        "operationParameters": parameters,
        "operationMetrics": {
            "numFiles": overwrite.files.len().to_string(),
            "numRemovedFiles": removed.len().to_string(),
            "numOutputRows": rows.to_string(),
            "numOutputBytes": bytes.to_string(),
        },
        "readVersion": overwrite.read_version,
        "isBlindAppend": false,
        "engineInfo": ENGINE,
        // Makes the bytes ours alone: equal bytes in the log are our own write.
        "txnId": Uuid::new_v4().to_string(),
    });
    let txn = Txn { app_id: overwrite.app_id.clone(), version: overwrite.app_version, last_updated: Some(now_ms) };
    let mut actions = vec![Action { commit_info: Some(info), ..Action::default() }, Action { txn: Some(txn), ..Action::default() }];
    let remove = |(path, size)| Remove { path, deletion_timestamp: Some(now_ms), data_change: true, size: i64::try_from(size).ok() };
    actions.extend(removed.into_iter().map(|path| Action { remove: Some(remove(path)), ..Action::default() }));
    actions.extend(overwrite.files.iter().map(|file| Action { add: Some(add(file)), ..Action::default() }));
    actions
}

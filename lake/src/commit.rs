//! The committer: makes staged files visible, once per application transaction.
//!
//! It writes the log file itself, with create-if-absent, and decides every outcome by reading. Before each try it
//! follows the log and looks up what its app id has committed, so a repeated commit, a zombie and a lost reply all
//! end in the same place: the transaction is there, or it is not.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use watershed_message::Message;

use crate::access::{Found, PutOutcome};
use crate::clock;
use crate::encoding;
use crate::error::{LakeError, Result};
use crate::limits;
use crate::log::{Action, Add, ENGINE, Protocol, Txn, render, version_path};
use crate::table::Table;

/// A data file that is written but not yet part of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// Relative to the table's folder, as the store names it.
    pub path: String,
    /// Size of the file.
    pub size_bytes: u64,
    /// Rows in the file.
    pub rows: u64,
    /// The file's value of each partition column; `None` is null.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Delta statistics JSON.
    pub stats: String,
    /// When it was written, in ms since 1970.
    pub modified_ms: i64,
}

/// One application transaction.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Who commits, such as `pipeline/shard`.
    pub app_id: String,
    /// Its epoch. Epochs that add nothing to this table may be left out.
    pub app_version: i64,
    /// The epoch that the table must hold for this one to follow; `None` if it is the first.
    pub previous_app_version: Option<i64>,
    /// What it adds; may be empty, then only the transaction is recorded.
    pub files: Vec<StagedFile>,
    /// What `DESCRIBE HISTORY` shows, such as `STREAMING UPDATE`.
    pub operation: String,
}

/// A transaction that is in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The table's version with the transaction in it; when it was there already, the newest version seen.
    pub version: i64,
    /// It had been committed before: by an earlier try, another process, or a request thought lost.
    pub already_there: bool,
}

impl Table {
    /// Commits, or finds that this was done before.
    ///
    /// Errors: [`LakeError::NewerWriter`] and [`LakeError::EpochGap`] when the table holds another epoch than the one
    /// before this; [`LakeError::TableReplaced`] and [`LakeError::TableChanged`] when it is no longer the table of this
    /// handle; [`LakeError::Unclear`] when the store cannot be asked what happened: repeat it then.
    pub async fn commit(&self, commit: Commit) -> Result<Committed> {
        let _one_at_a_time = self.shared.committing.lock().await;
        self.check_files(&commit.files)?;
        let bytes = render(&actions(&commit))?;
        for _ in 0..limits::COMMIT_ATTEMPTS {
            let (version, tag, found) = {
                let mut state = self.fresh().await?;
                self.check_writable(&state.protocol, "appended to")?;
                let found = state.transaction(&self.shared.access, &self.shared.identity, &commit.app_id).await?;
                (state.version, state.tag.clone(), found)
            };
            if self.follows(&commit.app_id, commit.app_version, commit.previous_app_version, found)? {
                return Ok(Committed { version, already_there: true });
            }
            let path = version_path(&self.shared.identity.folder, version + 1);
            match self.shared.access.put_if_absent(&path, &bytes).await {
                Ok((PutOutcome::Won, own_tag)) => {
                    let version = self.landed(version, tag, bytes, own_tag).await?;
                    self.shared.upkeep.committed(&self.shared, commit.files.len());
                    return Ok(Committed { version, already_there: false });
                }
                Ok((PutOutcome::Lost(_), _)) => {
                    tracing::debug!(table = %self.name(), version = version + 1, "another writer took this version; trying the next");
                }
                Err(error) => {
                    return self.after_unclear(&commit.app_id, commit.app_version, commit.previous_app_version, error).await;
                }
            }
        }
        Err(LakeError::TooBusy { table: self.name().clone(), attempts: limits::COMMIT_ATTEMPTS })
    }

    /// After version + 1 was written by us on top of `version`, which had `tag`. Returns the new version.
    pub(crate) async fn landed(&self, version: i64, tag: Option<String>, bytes: Bytes, own_tag: Option<String>) -> Result<i64> {
        self.check_predecessor(version, tag).await?;
        let version = version + 1;
        // Without a tag the next refresh reads the file back and so learns it.
        if let Some(tag) = own_tag {
            self.learn(version, &Found { bytes, tag }).await?;
        }
        self.shared.checkpointer.after_commit(&self.shared, version);
        Ok(version)
    }

    /// After version + 1 was written: does it follow the version that we saw? If the table was dropped in between, our log
    /// file is in a gap, where the next table of that name would run into it one day, so it is taken away again.
    pub(crate) async fn check_predecessor(&self, version: i64, tag: Option<String>) -> Result<()> {
        let shared = &self.shared;
        let standing = match shared.access.head(&version_path(&shared.identity.folder, version)).await {
            Ok(standing) => standing,
            // The commit is done; a store that has just gone away does not change that.
            Err(error) => {
                tracing::warn!(table = %self.name(), %error, "cannot look whether the table was dropped during a commit");
                return Ok(());
            }
        };
        match (tag, standing) {
            (Some(known), Some(standing)) if known != standing => {
                Err(LakeError::TableReplaced { table: self.name().clone(), made_anew: true })
            }
            (Some(_), None) => {
                shared.access.delete(&[version_path(&shared.identity.folder, version + 1)]).await?;
                Err(LakeError::TableReplaced { table: self.name().clone(), made_anew: false })
            }
            _ => Ok(()),
        }
    }

    /// The write's outcome is unknown: only what the table says counts.
    pub(crate) async fn after_unclear(&self, app_id: &str, wanted: i64, previous: Option<i64>, error: LakeError) -> Result<Committed> {
        let found = match self.transaction_version(app_id).await {
            Ok(found) => found,
            Err(reading) => {
                tracing::warn!(table = %self.name(), %reading, "cannot find out whether a commit happened");
                return Err(error);
            }
        };
        if self.follows(app_id, wanted, previous, found)? {
            return Ok(Committed { version: self.version(), already_there: false });
        }
        Err(error)
    }

    /// True if the table holds transaction `wanted` of an app id, false if it may come next, given the newest one `found`.
    pub(crate) fn follows(&self, app_id: &str, wanted: i64, previous: Option<i64>, found: Option<i64>) -> Result<bool> {
        let (table, app_id) = (self.name().clone(), app_id.to_owned());
        match found {
            Some(found) if found == wanted => Ok(true),
            found if found == previous => Ok(false),
            Some(found) if found > wanted => Err(LakeError::NewerWriter { table, app_id, found, wanted }),
            found => Err(LakeError::EpochGap { table, app_id, found, expected: previous, wanted }),
        }
    }

    pub(crate) fn check_writable(&self, protocol: &Protocol, action: &'static str) -> Result<()> {
        let Some(feature) = protocol.unwritable() else { return Ok(()) };
        let hint = "write with an engine that knows the feature, or rewrite the table without it";
        Err(LakeError::Unsupported { table: self.name().clone(), action, feature, hint })
    }

    /// Makes sure that none of these files was staged so long ago that vacuum may take it for forgotten. To be asked before something is
    /// decided that names them; what was decided is carried out whenever that may be.
    ///
    /// Errors: [`LakeError::StagedTooLong`].
    pub fn check_fresh(&self, files: &[StagedFile]) -> Result<()> {
        let now_ms = clock::now().timestamp_millis();
        let age_ms = |file: &StagedFile| now_ms.saturating_sub(file.modified_ms);
        match files.iter().find(|file| u128::try_from(age_ms(file)).is_ok_and(|age_ms| age_ms > limits::STAGED_AGE_MAX.as_millis())) {
            None => Ok(()),
            Some(file) => {
                let hours = age_ms(file) / 3_600_000;
                Err(LakeError::StagedTooLong { table: self.name().clone(), path: file.path.clone(), hours })
            }
        }
    }

    pub(crate) fn check_files(&self, files: &[StagedFile]) -> Result<()> {
        let columns = self.partitioned_by();
        let fits = |file: &StagedFile| {
            file.partition_values.len() == columns.len() && columns.iter().all(|column| file.partition_values.contains_key(column))
        };
        match files.iter().find(|file| !fits(file)) {
            None => Ok(()),
            Some(file) => Err(LakeError::BadRows {
                table: self.name().clone(),
                reason: Box::new(Message::new(format!(
                    "file {} has partition values {:?}, the table is partitioned by {columns:?}",
                    file.path, file.partition_values
                ))),
            }),
        }
    }
}

fn actions(commit: &Commit) -> Vec<Action> {
    let now_ms = clock::now().timestamp_millis();
    let rows = commit.files.iter().map(|file| file.rows).sum::<u64>();
    let bytes = commit.files.iter().map(|file| file.size_bytes).sum::<u64>();
    let info = serde_json::json!({
        "timestamp": now_ms,
        "operation": commit.operation,
        "operationParameters": { "appId": commit.app_id, "epoch": commit.app_version.to_string() },
        "operationMetrics": {
            "numAddedFiles": commit.files.len().to_string(),
            "numOutputRows": rows.to_string(),
            "numOutputBytes": bytes.to_string(),
        },
        "isBlindAppend": true,
        "engineInfo": ENGINE,
        // Makes the bytes ours alone: equal bytes in the log are our own write.
        "txnId": Uuid::new_v4().to_string(),
    });
    let txn = Txn { app_id: commit.app_id.clone(), version: commit.app_version, last_updated: Some(now_ms) };
    let mut actions = vec![Action { commit_info: Some(info), ..Action::default() }, Action { txn: Some(txn), ..Action::default() }];
    actions.extend(commit.files.iter().map(|file| Action { add: Some(add(file)), ..Action::default() }));
    actions
}

/// A staged file as the log names it.
pub(crate) fn add(file: &StagedFile) -> Add {
    Add {
        path: encoding::to_uri(&file.path),
        partition_values: file.partition_values.clone(),
        size: i64::try_from(file.size_bytes).unwrap_or(i64::MAX),
        modification_time: file.modified_ms,
        data_change: true,
        stats: Some(file.stats.clone()),
        deletion_vector: None,
    }
}

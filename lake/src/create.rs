//! Making and dropping tables.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::datatypes::Schema;
use bytes::Bytes;
use object_store::path::Path;
use uuid::Uuid;

use crate::access::Access;
use crate::clock;
use crate::error::{LakeError, Result};
use crate::limits::{CHECKPOINT_INTERVAL, LOG_RETENTION, TOMBSTONE_SLACK, VACUUM_RETENTION};
use crate::log::{self, Action, ENGINE, Format, MetaData, Protocol, log_folder, version_path};
use crate::partition;
use crate::retention::{self, interval};
use crate::schema;

/// How long a table keeps what nobody needs any more; written into it when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Data files that were replaced or removed.
    pub files: Duration,
    /// Log files that a checkpoint covers: how far back a version can be asked for.
    pub log: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { files: VACUUM_RETENTION, log: LOG_RETENTION }
    }
}

fn slack(retention: Duration) -> Duration {
    let [least, most] = TOMBSTONE_SLACK;
    retention.clamp(least, most)
}

/// The log file of version 0 of a new table.
pub(crate) fn first_version(schema: &Schema, partitioned_by: &[String], retention: &Retention) -> Result<Bytes> {
    let (schema_string, stored) = schema::to_delta(schema)?;
    for (index, column) in partitioned_by.iter().enumerate() {
        let bad = |reason| LakeError::BadPartition { column: column.clone(), reason };
        let field = stored.field_with_name(column).map_err(|_| bad("the table has no such column"))?;
        if !partition::supports(field.data_type()) {
            return Err(bad("only text, whole numbers, decimals, booleans, dates and times can partition a table"));
        }
        if partitioned_by[..index].contains(column) {
            return Err(bad("it is named twice"));
        }
    }
    if partitioned_by.len() == stored.fields().len() {
        let column = partitioned_by.first().cloned().unwrap_or_default();
        return Err(LakeError::BadPartition { column, reason: "at least one column must remain that the table is not partitioned by" });
    }
    let now_ms = clock::now().timestamp_millis();
    let protocol = if schema::has_local_times(&stored) {
        let feature = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        Protocol {
            min_reader_version: 3,
            min_writer_version: 7,
            reader_features: feature(&["timestampNtz"]),
            writer_features: feature(&["timestampNtz", "appendOnly", "invariants"]),
        }
    } else {
        Protocol { min_reader_version: 1, min_writer_version: 2, reader_features: None, writer_features: None }
    };
    let metadata = MetaData {
        id: Uuid::new_v4().to_string(),
        name: None,
        description: None,
        format: Format::default(),
        schema_string,
        partition_columns: partitioned_by.to_vec(),
        configuration: configuration(retention),
        created_time: Some(now_ms),
    };
    let info = serde_json::json!({
        "timestamp": now_ms,
        "operation": "CREATE TABLE",
        "operationParameters": { "partitionBy": serde_json::Value::from(partitioned_by.to_vec()).to_string() },
        "isBlindAppend": true,
        "engineInfo": ENGINE,
        "txnId": Uuid::new_v4().to_string(),
    });
    log::render(&[
        Action { commit_info: Some(info), ..Action::default() },
        Action { protocol: Some(protocol), ..Action::default() },
        Action { meta_data: Some(metadata), ..Action::default() },
    ])
}

fn configuration(retention: &Retention) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::from([
        ("delta.checkpointInterval".to_owned(), CHECKPOINT_INTERVAL.to_string()),
        ("delta.logRetentionDuration".to_owned(), interval(retention.log)),
    ]);
    // Checkpoints forget removals after this time, and vacuum must find them until it has been there.
    properties.extend(retention::of_new_table(retention.files + slack(retention.files)));
    properties
}

/// Says that a table is being dropped: written first, removed last.
fn mark_path(folder: &Path) -> Path {
    log_folder(folder).join("_dropped")
}

/// Removes a table: first what makes it a table, then the rest of the log, then the data. Cut short, it leaves no
/// table but remains, which [`remove_remains`] of the next table of that name removes.
pub(crate) async fn drop_table(access: &Access, folder: &Path) -> Result<()> {
    let log = log_folder(folder);
    access.put_own(&mark_path(folder), &Bytes::from_static(b"{}")).await?;
    let checkpoints = access.list(&log).await?.into_iter().map(|file| file.location);
    let checkpoints = checkpoints.filter(|path| path.filename().is_some_and(log::is_checkpoint)).collect::<Vec<_>>();
    access.delete(&checkpoints).await?;
    access.delete(&[version_path(folder, 0)]).await?;
    remove_remains(access, folder).await
}

/// Whether a folder holds the remains of a drop, not those of a table whose log has lost its first version.
///
/// Errors: [`LakeError::Damaged`].
pub(crate) async fn is_dropped(access: &Access, folder: &Path) -> Result<bool> {
    if access.head(&mark_path(folder)).await?.is_some() {
        return Ok(true);
    }
    // Another process may have dropped it to the end meanwhile, or made the table.
    if !access.any_below(&log_folder(folder)).await? || access.head(&version_path(folder, 0)).await?.is_some() {
        return Ok(false);
    }
    let reason = "it is gone, though later versions are there, and no drop was begun".to_owned();
    Err(LakeError::Damaged { path: version_path(folder, 0).to_string(), reason })
}

/// Removes everything below a folder that is no table any more.
pub(crate) async fn remove_remains(access: &Access, folder: &Path) -> Result<()> {
    let all = access.list(folder).await?.into_iter().map(|file| file.location).collect::<Vec<_>>();
    let log = log_folder(folder);
    let (mut log, data): (Vec<_>, Vec<_>) = all.into_iter().partition(|path| path.prefix_matches(&log));
    let mark = mark_path(folder);
    log.retain(|path| *path != mark);
    access.delete(&log).await?;
    access.delete(&data).await?;
    access.delete(&[mark]).await
}

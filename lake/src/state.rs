//! What a handle knows about its table, kept fresh by reading new log files only.
//!
//! A cold start reads the log from its newest checkpoint on (`replay.rs`). From then on each refresh asks two things: is
//! the newest log file still the one we saw (else the table was replaced), and is there a next one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use deltalake_core::kernel::Version;
use deltalake_core::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use url::Url;

use crate::TableName;
use crate::access::{Access, Found};
use crate::columns;
use crate::encoding;
use crate::error::{LakeError, Result};
use crate::files::{FileSet, Layout};
use crate::limits::LOG_READ_AHEAD;
use crate::log::{self, Action, Add, Protocol, log_folder, version_path};
use crate::log_checkpoint::Wanted;
use crate::ordered::{Ordered, Outage};
use crate::partition;
use crate::replay::{Replayed, replay};
use crate::schema;

/// What never changes under one handle: a change is an error of the handle.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) name: TableName,
    pub(crate) folder: Path,
    /// `metaData.id`.
    pub(crate) id: String,
    pub(crate) partition_columns: Vec<String>,
    pub(crate) column_mapping: bool,
    pub(crate) layout: Arc<Layout>,
}

impl Identity {
    /// Why the files of the table cannot be written again with what is known of it here.
    pub(crate) fn unmergeable(&self) -> Option<String> {
        let odd = self.layout.partition_fields.iter().find(|field| !partition::supports(field.data_type()));
        let odd = odd.map(|field| format!("a partition column of type {}", field.data_type()));
        if self.column_mapping { Some(log::COLUMN_MAPPING.to_owned()) } else { odd }
    }
}

/// What changes with each commit.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) version: i64,
    /// Of the newest log file; `None` until it was looked at.
    pub(crate) tag: Option<String>,
    pub(crate) protocol: Protocol,
    /// The table's properties.
    pub(crate) properties: BTreeMap<String, String>,
    /// The newest version known to have added or removed rows; compactions only rearrange them. The version opened, to begin with.
    pub(crate) data_version: i64,
    /// The newest version known to have changed the table's definition or protocol. The version opened, to begin with.
    pub(crate) defined_version: i64,
    /// Versions of the app ids asked for so far; `None` for one that never committed.
    pub(crate) transactions: HashMap<String, Option<i64>>,
    /// Loaded when a scan wants it.
    pub(crate) files: Option<FileSet>,
}

/// Reads a table's log from scratch.
pub(crate) async fn open(access: &Access, name: &TableName) -> Result<(Identity, State)> {
    let folder = folder_of(name)?;
    let replayed = match replay(access, &folder, None, Wanted::default()).await {
        Ok(replayed) => replayed,
        Err(error) if is_absent(access, &folder).await? => {
            tracing::debug!(table = %name, %error, "no table there");
            return Err(LakeError::NoSuchTable(name.clone()));
        }
        Err(error) => return Err(error),
    };
    let version = replayed.version;
    let tag = access.head(&version_path(&folder, version)).await?;
    let identity = identity(name, folder, &replayed)?;
    let state = State {
        version,
        tag,
        protocol: replayed.protocol,
        properties: replayed.metadata.configuration,
        data_version: version,
        defined_version: version,
        transactions: HashMap::new(),
        files: None,
    };
    Ok((identity, state))
}

impl State {
    /// Follows the log to its newest version.
    pub(crate) async fn refresh(&mut self, access: &Access, identity: &Identity) -> Result<()> {
        let current = version_path(&identity.folder, self.version);
        let next = version_path(&identity.folder, self.version + 1);
        let (tag, newer) = futures::try_join!(access.head(&current), access.get(&next))?;
        match (&self.tag, tag) {
            (Some(known), Some(tag)) if *known != tag => return self.reload(access, identity).await,
            // Expired and removed, or the whole table is gone.
            (_, None) => return self.reload(access, identity).await,
            (_, tag) => self.tag = tag,
        }
        let Some(found) = newer else { return Ok(()) };
        self.apply(identity, self.version + 1, &found)?;
        // One more is likely when there was one; many are likely when there were many.
        let mut ahead = 1;
        loop {
            let versions = (1..=ahead as i64).map(|step| self.version + step).collect::<Vec<_>>();
            let paths = versions.iter().map(|version| version_path(&identity.folder, *version)).collect::<Vec<_>>();
            let reads = paths.into_iter().map(|path| async move { access.get(&path).await });
            let found: Vec<Option<Found>> = futures::stream::iter(reads).buffered(LOG_READ_AHEAD).try_collect().await?;
            for (version, found) in versions.into_iter().zip(found) {
                match found {
                    Some(found) => self.apply(identity, version, &found)?,
                    None => return Ok(()),
                }
            }
            ahead = (ahead * 2).min(LOG_READ_AHEAD);
        }
    }

    /// Takes in one log file, the one after what is known.
    pub(crate) fn apply(&mut self, identity: &Identity, version: i64, found: &Found) -> Result<()> {
        let path = version_path(&identity.folder, version);
        let actions = log::parse(&path, &found.bytes)?;
        for action in &actions {
            if let Some(metadata) = &action.meta_data {
                if metadata.id != identity.id {
                    return Err(LakeError::TableReplaced { table: identity.name.clone(), made_anew: true });
                }
                let schema =
                    schema::from_delta(&metadata.schema_string).map_err(|reason| LakeError::Damaged { path: path.to_string(), reason })?;
                let what = if schema != identity.layout.schema {
                    if columns::takes(&schema, &columns::added(&metadata.configuration), &identity.layout.schema) {
                        return Err(LakeError::TableGrown { table: identity.name.clone(), version });
                    }
                    Some("schema")
                } else if metadata.partition_columns != identity.partition_columns {
                    Some("partitioning")
                } else {
                    None
                };
                let what = what.or_else(|| (metadata.maps_columns() != identity.column_mapping).then_some("column mapping"));
                if let Some(what) = what {
                    return Err(LakeError::TableChanged { table: identity.name.clone(), what, version });
                }
                self.properties = metadata.configuration.clone();
            }
            if let Some(protocol) = &action.protocol {
                if protocol.unreadable().is_some() {
                    return Err(LakeError::TableChanged { table: identity.name.clone(), what: "protocol", version });
                }
                self.protocol = protocol.clone();
            }
        }
        if let Some(files) = &mut self.files {
            let (adds, removed) = split_files(&actions);
            let removed = removed.iter().map(String::as_str).collect::<HashSet<_>>();
            files.apply(&identity.name, &identity.layout, &adds, &removed)?;
        }
        for txn in actions.iter().filter_map(|action| action.txn.as_ref()) {
            self.transactions.insert(txn.app_id.clone(), Some(txn.version));
        }
        if actions.iter().any(Action::changes_data) {
            self.data_version = version;
        }
        if actions.iter().any(|action| action.meta_data.is_some() || action.protocol.is_some()) {
            self.defined_version = version;
        }
        self.version = version;
        self.tag = Some(found.tag.clone());
        Ok(())
    }

    async fn reload(&mut self, access: &Access, identity: &Identity) -> Result<()> {
        let (found, state) = match open(access, &identity.name).await {
            Err(LakeError::NoSuchTable(table)) => return Err(LakeError::TableReplaced { table, made_anew: false }),
            other => other?,
        };
        if found.id != identity.id {
            return Err(LakeError::TableReplaced { table: identity.name.clone(), made_anew: true });
        }
        let same_schema = found.layout.schema == identity.layout.schema;
        if !same_schema && columns::takes(&found.layout.schema, &columns::added(&state.properties), &identity.layout.schema) {
            return Err(LakeError::TableGrown { table: identity.name.clone(), version: state.version });
        }
        if !same_schema || found.partition_columns != identity.partition_columns {
            let what = if same_schema { "partitioning" } else { "schema" };
            return Err(LakeError::TableChanged { table: identity.name.clone(), what, version: state.version });
        }
        *self = state;
        Ok(())
    }

    /// The newest version an app id has committed, as of `self.version`.
    pub(crate) async fn transaction(&mut self, access: &Access, identity: &Identity, app_id: &str) -> Result<Option<i64>> {
        if let Some(known) = self.transactions.get(app_id) {
            return Ok(*known);
        }
        let wanted = Wanted { transactions: true, ..Wanted::default() };
        let replayed = replay(access, &identity.folder, Some(self.version), wanted).await?;
        for (app_id, version) in replayed.transactions {
            self.transactions.entry(app_id).or_insert(Some(version));
        }
        Ok(*self.transactions.entry(app_id.to_owned()).or_insert(None))
    }

    /// Makes sure that the list of files is there.
    pub(crate) async fn load_files(&mut self, access: &Access, identity: &Identity) -> Result<&FileSet> {
        if self.files.is_none() {
            self.files = Some(files_at(access, identity, self.version).await?);
        }
        Ok(self.files.get_or_insert_default())
    }
}

/// The live files of one version, the oldest first.
pub(crate) async fn files_at(access: &Access, identity: &Identity, version: i64) -> Result<FileSet> {
    let replayed = replay(access, &identity.folder, Some(version), Wanted { files: true, ..Wanted::default() }).await?;
    let mut adds = replayed.files.into_values().collect::<Vec<_>>();
    adds.sort_unstable_by(|left, right| (left.modification_time, &left.path).cmp(&(right.modification_time, &right.path)));
    FileSet::new(&identity.name, &identity.layout, &adds)
}

/// What a commit has removed: the file's path relative to the table's folder, and when, in ms since 1970.
pub(crate) struct Tombstone {
    pub(crate) path: String,
    pub(crate) removed_ms: i64,
}

/// All removals that the log still tells of at `version`, those of files that were added again included.
pub(crate) async fn tombstones(access: &Access, identity: &Identity, version: i64) -> Result<Vec<Tombstone>> {
    let replayed = replay(access, &identity.folder, Some(version), Wanted { removed: true, ..Wanted::default() }).await?;
    Ok(replayed.removed.into_iter().map(|(path, removed_ms)| Tombstone { path, removed_ms }).collect())
}

/// The identity of a table as of an older version.
pub(crate) async fn identity_at(access: &Access, name: &TableName, version: i64) -> Result<(Identity, Protocol)> {
    let folder = folder_of(name)?;
    let replayed = replay(access, &folder, Some(version), Wanted::default()).await?;
    let identity = identity(name, folder, &replayed)?;
    Ok((identity, replayed.protocol))
}

/// A table as delta-rs sees it.
pub(crate) async fn delta_table(access: &Access, name: &TableName, folder: &Path, version: Option<i64>) -> Result<(DeltaTable, Reading)> {
    let (mut builder, reading) = delta_builder(access, name, folder)?;
    if let Some(version) = version {
        builder = builder.with_version(version as Version);
    }
    let table = builder.load().await.map_err(|source| reading.error(source))?;
    Ok((table, reading))
}

/// A table that delta-rs reads, and what its errors mean.
pub(crate) struct Reading {
    name: TableName,
    folder: Path,
    outage: Outage,
}

impl Reading {
    /// A store that was away says nothing about the table.
    pub(crate) fn error(&self, source: DeltaTableError) -> LakeError {
        match self.outage.reason() {
            Some(reason) => {
                let source = object_store::Error::Generic { store: "warehouse", source: reason.into() };
                LakeError::Store { operation: "read", path: self.folder.to_string(), source }
            }
            None => delta_error(&self.name, source),
        }
    }
}

/// delta-rs reads through the warehouse's own store, whatever that is. The URL only says where in it the table lies;
/// scheme `memory` has delta-rs take the store as it is.
fn delta_builder(access: &Access, name: &TableName, folder: &Path) -> Result<(DeltaTableBuilder, Reading)> {
    let damaged = |error: url::ParseError| LakeError::Damaged { path: folder.to_string(), reason: error.to_string() };
    let url = Url::parse(&format!("memory:///{folder}/")).map_err(damaged)?;
    let builder = DeltaTableBuilder::from_url(url.clone()).map_err(|source| delta_error(name, source))?;
    let store = Ordered::new(access);
    let reading = Reading { name: name.clone(), folder: folder.clone(), outage: store.outage() };
    Ok((builder.with_storage_backend(Arc::new(store), url), reading))
}

/// The folder of a table in the warehouse's store.
pub(crate) fn folder_of(name: &TableName) -> Result<Path> {
    Path::parse(name.folder()).map_err(|error| LakeError::Damaged { path: name.folder(), reason: error.to_string() })
}

/// Whether there is no table: no log, or what a drop that was cut short has left.
pub(crate) async fn is_absent(access: &Access, folder: &Path) -> Result<bool> {
    if access.head(&version_path(folder, 0)).await?.is_some() {
        return Ok(false);
    }
    let files = access.list(&log_folder(folder)).await?;
    Ok(!files.iter().any(|file| file.location.filename().is_some_and(log::is_checkpoint)))
}

fn identity(name: &TableName, folder: Path, replayed: &Replayed) -> Result<Identity> {
    let Replayed { metadata, protocol, .. } = replayed;
    let unsupported =
        |feature: String| LakeError::Unsupported { table: name.clone(), action: "read", hint: log::way_out(&feature), feature };
    // A type that is not known here belongs to a feature that is not known either.
    let schema = schema::from_delta(&metadata.schema_string).map_err(|why| unsupported(protocol.unreadable().unwrap_or(why)))?;
    let partition_columns = metadata.partition_columns.clone();
    let layout = Layout::new(schema, &partition_columns)
        .ok_or_else(|| unsupported(format!("partition columns {partition_columns:?} that its schema lacks")))?;
    let column_mapping = metadata.maps_columns();
    Ok(Identity { name: name.clone(), folder, id: metadata.id.clone(), partition_columns, column_mapping, layout: Arc::new(layout) })
}

fn split_files(actions: &[Action]) -> (Vec<Add>, Vec<String>) {
    let adds = actions.iter().filter_map(|action| action.add.clone()).collect::<Vec<_>>();
    let removed = actions.iter().filter_map(|action| action.remove.as_ref()).map(|remove| encoding::from_uri(&remove.path));
    (adds, removed.collect())
}

fn delta_error(table: &TableName, source: DeltaTableError) -> LakeError {
    LakeError::Delta { table: table.clone(), source: Box::new(source) }
}

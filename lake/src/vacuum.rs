//! Vacuum: deletes data files of a table that nobody needs any more.
//!
//! | what | found by | deleted |
//! |---|---|---|
//! | *replaced*: a commit removed it (a compaction, a refresh) | the removals in the log | after the retention, which begins with the removal |
//! | *forgotten*: no commit ever named it (a crash, a job tried again) | listing the folder | after the retention, at least a day, which begins with its last write |
//!
//! A table whose properties ask for longer than the setting gets longer (`retention.rs`).
//!
//! Until then readers of older versions find every file. A forgotten file may belong to a commit that is still to come. Whoever decides such
//! a commit looks that its files are fresh ([`Table::check_fresh`]), long before they count as forgotten; and what was decided elsewhere and
//! not yet carried out, such as a pipeline's newest epoch, the caller names as `needed`.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::clock;
use crate::error::Result;
use crate::limits;
use crate::log::{COLUMN_MAPPING, DELETION_VECTORS, log_folder};
use crate::retention;
use crate::state;
use crate::step::step;
use crate::table::Table;
use crate::writer::below;

/// What may be deleted.
#[derive(Debug, Clone, Copy)]
pub struct VacuumOptions<'a> {
    /// How long files are kept that were replaced; longer where the table's own properties ask for it.
    pub retention: Duration,
    /// Look for forgotten files, too, which lists the folder of the table.
    pub forgotten: bool,
    /// Only files that were replaced after this time, in ms since 1970: an earlier vacuum has seen to the others.
    pub since_ms: Option<i64>,
    /// Files, relative to the table's folder, that are needed whatever the log says.
    pub needed: &'a HashSet<String>,
    /// Delete nothing, only say what would be.
    pub dry_run: bool,
}

/// What a vacuum deleted, or would have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// Files that had been replaced.
    pub replaced: u64,
    /// Files that no commit ever named.
    pub forgotten: u64,
    /// Size of both, as far as it is known.
    pub bytes: u64,
    /// Up to when replaced files are gone now, in ms since 1970: [`VacuumOptions::since_ms`] of the next vacuum.
    pub until_ms: i64,
    /// Why the table cannot be vacuumed, such as `deletion vectors`.
    pub skipped: Option<String>,
}

impl Vacuumed {
    /// Files of both kinds.
    pub fn files(&self) -> u64 {
        self.replaced + self.forgotten
    }
}

/// A file in the table's folder.
struct Found {
    size_bytes: u64,
    written: DateTime<Utc>,
}

impl Table {
    /// Deletes data files that were replaced longer ago than the retention, and those that were forgotten. Cut short, it is simply done again.
    ///
    /// Queries that began longer ago than the retention, and versions older than it, can then not be read any more.
    pub async fn vacuum(&self, options: VacuumOptions<'_>) -> Result<Vacuumed> {
        let (access, identity) = (&self.shared.access, &self.shared.identity);
        let now = clock::now();
        let mut done = Vacuumed { until_ms: (now - options.retention).timestamp_millis(), ..Vacuumed::default() };
        // First the folder, then the log: what is committed in between is in the log.
        let found = if options.forgotten { Some(self.data_files().await?) } else { None };
        let (version, files, retention) = {
            let mut state = self.fresh().await?;
            let feature = state.protocol.unwritable().or_else(|| identity.column_mapping.then(|| COLUMN_MAPPING.to_owned()));
            let version = state.version;
            let files = state.load_files(access, identity).await?.clone();
            let wished = retention::wished(&state.properties);
            let vectors = || files.iter().any(|file| file.has_deletion_vector).then(|| DELETION_VECTORS.to_owned());
            if let Some(feature) = feature.or_else(vectors).or_else(|| wished.clone().err()) {
                tracing::debug!(table = %self.name(), feature, "not vacuumed");
                done.skipped = Some(feature);
                return Ok(done);
            }
            (version, files, options.retention.max(wished.unwrap_or_default().unwrap_or_default()))
        };
        done.until_ms = (now - retention).timestamp_millis();
        let live = files.iter().map(|file| file.path.as_str()).collect::<HashSet<_>>();
        let kept = |path: &str| live.contains(path) || options.needed.contains(path);
        let mut removed: HashMap<String, i64> = HashMap::new();
        for tombstone in state::tombstones(access, identity, version).await? {
            let newest = removed.entry(tombstone.path).or_insert(tombstone.removed_ms);
            *newest = tombstone.removed_ms.max(*newest);
        }
        let since_ms = options.since_ms.unwrap_or(i64::MIN);
        // A removal without a time could have been made just now.
        let is_due = |removed_ms: i64| removed_ms > since_ms.max(0) && removed_ms <= done.until_ms;
        let mut paths = Vec::new();
        for (path, _) in removed.iter().filter(|(path, removed_ms)| is_due(**removed_ms) && !kept(path)) {
            let size = match &found {
                // Gone already: nothing to delete.
                Some(found) if !found.contains_key(path) => continue,
                Some(found) => found[path].size_bytes,
                None => 0,
            };
            done.replaced += 1;
            done.bytes += size;
            paths.push(below(&identity.folder, path)?);
        }
        let fresh = now - retention.max(limits::ORPHAN_AGE_MIN);
        for (path, file) in found.iter().flatten() {
            if file.written < fresh && !kept(path) && !removed.contains_key(path) {
                done.forgotten += 1;
                done.bytes += file.size_bytes;
                paths.push(below(&identity.folder, path)?);
            }
        }
        if paths.is_empty() || options.dry_run {
            return Ok(done);
        }
        step("vacuum_begins");
        let (first, rest) = paths.split_at(1);
        access.delete(first).await?;
        step("vacuum_deletes");
        access.delete(rest).await?;
        tracing::info!(table = %self.name(), replaced = done.replaced, forgotten = done.forgotten, bytes = done.bytes, "vacuumed");
        Ok(done)
    }

    /// The Parquet files below the table's folder, by their path relative to it. As in all of Delta, names that begin with `_` or `.` are
    /// not data, unless they name a partition.
    async fn data_files(&self) -> Result<HashMap<String, Found>> {
        let folder = &self.shared.identity.folder;
        let log = log_folder(folder);
        let listed = self.shared.access.list(folder).await?;
        let data = listed.into_iter().filter(|file| !file.location.prefix_matches(&log)).filter_map(|file| {
            let path = file.location.as_ref().strip_prefix(folder.as_ref())?.strip_prefix('/')?.to_owned();
            let hidden = path.split('/').any(|part| part.starts_with(['_', '.']) && !part.contains('='));
            let found = Found { size_bytes: file.size, written: file.last_modified };
            (path.ends_with(".parquet") && !hidden).then_some((path, found))
        });
        Ok(data.collect())
    }
}

//! A table's log, from its newest checkpoint on: what the table is at a version, and what was learnt on the way.
//!
//! Hints may be wrong without harm: `_last_checkpoint` may name what is gone, a checkpoint may be damaged or half there as long as the commits
//! that it covers are, and statistics may be anything. What is needed and cannot be read is an error that names the file.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;

use crate::access::Access;
use crate::encoding;
use crate::error::{LakeError, Result};
use crate::limits::LOG_READ_AHEAD;
use crate::log::{self, Action, Add, MetaData, Protocol, log_folder, version_path};
use crate::log_checkpoint::{self, Wanted};

/// What the log says at a version. What was not asked for is empty.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) version: i64,
    pub(crate) protocol: Protocol,
    pub(crate) metadata: MetaData,
    pub(crate) transactions: HashMap<String, i64>,
    /// The live files by path, decoded.
    pub(crate) files: HashMap<String, Add>,
    /// Files that were removed, decoded, and when, in ms since 1970; those that were added again included.
    pub(crate) removed: Vec<(String, i64)>,
}

/// As far as the log has been read.
#[derive(Debug, Default)]
struct Reached {
    protocol: Option<Protocol>,
    metadata: Option<MetaData>,
    transactions: HashMap<String, i64>,
    files: HashMap<String, Add>,
    removed: Vec<(String, i64)>,
}

impl Reached {
    fn apply(&mut self, actions: Vec<Action>, wanted: Wanted) {
        // Within one commit a path is removed and added where its deletion vector changes.
        for remove in actions.iter().filter_map(|action| action.remove.as_ref()) {
            let path = encoding::from_uri(&remove.path);
            if wanted.files {
                self.files.remove(&path);
            }
            if wanted.removed {
                self.removed.push((path, remove.deletion_timestamp.unwrap_or_default()));
            }
        }
        for action in actions {
            if let Some(add) = action.add.filter(|_| wanted.files) {
                self.files.insert(encoding::from_uri(&add.path), add);
            }
            if let Some(txn) = action.txn.filter(|_| wanted.transactions) {
                self.transactions.insert(txn.app_id, txn.version);
            }
            self.protocol = action.protocol.or(self.protocol.take());
            self.metadata = action.meta_data.or(self.metadata.take());
        }
    }
}

/// Which files a log has.
#[derive(Debug, Default)]
struct Listing {
    commits: BTreeMap<i64, Path>,
    /// The parts of each checkpoint, and of how many it is made.
    checkpoints: BTreeMap<(i64, usize), Vec<Path>>,
}

/// Reads the log of the table in `folder` up to a version, the newest if none is named.
///
/// Errors: [`LakeError::Damaged`], and those of the store.
pub(crate) async fn replay(access: &Access, folder: &Path, version: Option<i64>, wanted: Wanted) -> Result<Replayed> {
    let hint = hint(access, folder).await?.filter(|hint| version.is_none_or(|version| *hint <= version));
    if let Some(hint) = hint {
        let listing = listing(access, folder, Some(hint)).await?;
        if listing.checkpoints.keys().any(|(version, _)| *version == hint) {
            match read(access, folder, &listing, version, wanted).await {
                Ok(replayed) => return Ok(replayed),
                Err(LakeError::Damaged { path, reason }) => tracing::debug!(path, reason, "looking at all of the log"),
                Err(error) => return Err(error),
            }
        }
    }
    let listing = listing(access, folder, None).await?;
    read(access, folder, &listing, version, wanted).await
}

/// The version of the checkpoint that `_last_checkpoint` names.
async fn hint(access: &Access, folder: &Path) -> Result<Option<i64>> {
    let found = access.get(&log_folder(folder).join("_last_checkpoint")).await?;
    let said = found.and_then(|found| serde_json::from_slice::<serde_json::Value>(&found.bytes).ok());
    Ok(said.and_then(|said| said.get("version")?.as_i64()).filter(|version| *version >= 0))
}

async fn listing(access: &Access, folder: &Path, from: Option<i64>) -> Result<Listing> {
    let log = log_folder(folder);
    let files = match from {
        Some(version) => access.list_from(&log, &log.clone().join(format!("{version:020}"))).await?,
        None => access.list(&log).await?,
    };
    let mut listing = Listing::default();
    for file in files.into_iter().filter(|file| file.size > 0 || file.location.extension() == Some("json")) {
        let Some(name) = file.location.filename().filter(|name| log.clone().join(*name) == file.location) else { continue };
        let Some((version, rest)) = name.split_at_checked(20).and_then(|(digits, rest)| Some((digits.parse::<i64>().ok()?, rest))) else {
            continue;
        };
        match rest.split('.').collect::<Vec<_>>().as_slice() {
            ["", "json"] => drop(listing.commits.insert(version, file.location)),
            ["", "checkpoint", "parquet"] | ["", "checkpoint", _, "parquet" | "json"] => {
                listing.checkpoints.entry((version, 1)).or_default().push(file.location);
            }
            ["", "checkpoint", _, of, "parquet"] => {
                let Ok(of) = of.parse() else { continue };
                listing.checkpoints.entry((version, of)).or_default().push(file.location);
            }
            _ => {}
        }
    }
    Ok(listing)
}

async fn read(access: &Access, folder: &Path, listing: &Listing, version: Option<i64>, wanted: Wanted) -> Result<Replayed> {
    let newest = listing.commits.keys().next_back().max(listing.checkpoints.keys().next_back().map(|(version, _)| version));
    let missing = |version: i64, newest: i64| LakeError::Damaged {
        path: version_path(folder, version).to_string(),
        reason: format!("it is missing, though version {newest} is there"),
    };
    let Some(newest) = newest.copied() else {
        return Err(LakeError::Damaged { path: log_folder(folder).to_string(), reason: "no commit is there".to_owned() });
    };
    let target = version.unwrap_or(newest);
    let mut first_damage = None;
    for ((checkpoint, parts), paths) in listing.checkpoints.range(..=(target, usize::MAX)).rev() {
        if let Some(gap) = (checkpoint + 1..=target).find(|version| !listing.commits.contains_key(version)) {
            first_damage.get_or_insert_with(|| missing(gap, newest));
            continue;
        }
        // Where there are several of one version, each complete on its own, the first that is whole will do.
        let sets = if *parts == 1 { paths.chunks(1).collect::<Vec<_>>() } else { vec![paths.as_slice()] };
        for set in sets.into_iter().filter(|set| set.len() == *parts) {
            let begun = log_checkpoint::read(access, folder, set, wanted).await;
            match begun {
                Ok(actions) => return onwards(access, listing, actions, checkpoint + 1, target, wanted, folder).await,
                Err(damaged @ LakeError::Damaged { .. }) => {
                    tracing::warn!(error = %damaged, "a checkpoint cannot be read; what it stands for is looked for elsewhere");
                    first_damage.get_or_insert(damaged);
                }
                Err(error) => return Err(error),
            }
        }
    }
    if let Some(gap) = (0..=target).find(|version| !listing.commits.contains_key(version)) {
        return Err(first_damage.unwrap_or_else(|| missing(gap, newest)));
    }
    onwards(access, listing, Vec::new(), 0, target, wanted, folder).await
}

/// The bytes of a commit; none if it is gone meanwhile.
async fn commit(access: &Access, path: Path) -> Result<(Path, Bytes)> {
    let found = access.get(&path).await?;
    Ok((path, found.map_or_else(Bytes::new, |found| found.bytes)))
}

/// Goes on from what a checkpoint says with the commits `first` to `target`.
async fn onwards(
    access: &Access,
    listing: &Listing,
    begun: Vec<Action>,
    first: i64,
    target: i64,
    wanted: Wanted,
    folder: &Path,
) -> Result<Replayed> {
    let mut reached = Reached::default();
    reached.apply(begun, wanted);
    // Empty where the checkpoint is the target, which an inclusive range cannot be.
    let paths = listing.commits.range(first..target + 1).map(|(_, path)| path.clone());
    let reads = paths.map(|path| commit(access, path).boxed()).collect::<Vec<BoxFuture<'_, _>>>();
    let mut commits = futures::stream::iter(reads).buffered(LOG_READ_AHEAD);
    while let Some((path, bytes)) = commits.try_next().await? {
        let actions = log::parse(&path, &bytes)?;
        if actions.is_empty() {
            return Err(LakeError::Damaged { path: path.to_string(), reason: "it is empty".to_owned() });
        }
        reached.apply(actions, wanted);
    }
    let Reached { protocol, metadata, transactions, files, removed } = reached;
    let lacking = match (protocol, metadata) {
        (Some(protocol), Some(metadata)) => {
            return Ok(Replayed { version: target, protocol, metadata, transactions, files, removed });
        }
        (None, _) => "protocol",
        (_, None) => "metaData",
    };
    Err(LakeError::Damaged {
        path: log_folder(folder).to_string(),
        reason: format!("up to version {target} there is no action '{lacking}'"),
    })
}

//! A source's folder: what lies in it, and its files, read with a look at whether they are still the same.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};
use tokio::sync::Mutex;

use super::OpenedFolder;
use super::ledger::{FileEntry, Ledger};
use super::walk::{Walked, walk};
use crate::clock::now_ms;
use crate::error::{IngestError, Result};

/// A file of this machine that was written to so recently may still grow.
const SETTLED_AFTER_MS: i64 = 1_000;

pub(crate) struct Folder {
    source_name: String,
    /// As the definition names it.
    path: String,
    suffix: String,
    opened: OpenedFolder,
    ledger: Mutex<Ledger>,
}

/// What a look at a folder found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// Files in the ledger.
    pub(crate) files: u64,
    /// The first of them that is still in the folder.
    pub(crate) first_there: u64,
    /// Files that are being written, and will be taken later.
    pub(crate) unsettled: usize,
}

impl Folder {
    pub(crate) fn new(source_name: &str, path: &str, suffix: &str, opened: OpenedFolder, warehouse: Arc<dyn ObjectStore>) -> Self {
        let ledger_of = |path: &str| format!("_watershed/sources/{source_name}-{:016x}", fnv(path.as_bytes()));
        let bare = folder_of(path);
        // Older versions took the path as it was written.
        let others = [path.to_owned(), format!("{bare}/")].iter().map(|path| ledger_of(path)).collect();
        let ledger = Mutex::new(Ledger::new(source_name, warehouse, ledger_of(bare), others));
        Self { source_name: source_name.into(), path: path.into(), suffix: suffix.into(), opened, ledger }
    }

    pub(crate) fn source_name(&self) -> &str {
        &self.source_name
    }

    /// Lists the folder, makes sure that no known file has changed, and puts new files into the ledger, in order of their names.
    pub(crate) async fn look(&self) -> Result<Seen> {
        let (mut found, unsettled) = self.list().await?;
        let mut ledger = self.ledger.lock().await;
        ledger.catch_up().await?;
        let mut first_there = None;
        for (index, was) in (0u64..).zip(ledger.files()) {
            let Some(now) = found.remove(&was.path) else { continue };
            first_there.get_or_insert(index);
            if now.tag != was.tag {
                return Err(self.changed(was, &now.describe(), ledger.folder()));
            }
        }
        let known = ledger.files().len() as u64;
        let settled = |file: &FileEntry| !unsettled.contains(&file.path);
        ledger.append(found.into_values().filter(settled).collect()).await?;
        let files = ledger.files().len() as u64;
        Ok(Seen { files, first_there: first_there.unwrap_or(known), unsettled: unsettled.len() })
    }

    /// How many files the ledger has, as far as known here.
    pub(crate) async fn known(&self) -> u64 {
        self.ledger.lock().await.files().len() as u64
    }

    /// A file by its number.
    pub(crate) async fn file(self: &Arc<Self>, number: u64) -> Result<OneFile> {
        let ledger = self.ledger.lock().await;
        match usize::try_from(number).ok().and_then(|index| ledger.files().get(index)) {
            Some(entry) => Ok(OneFile { folder: self.clone(), number, entry: Arc::new(entry.clone()), ledger: ledger.folder().clone() }),
            None => Err(ledger.broken(format!("the pipeline has come to file {number}, but the list has only {}", ledger.files().len()))),
        }
    }

    /// Fails if a position names files that the ledger does not have.
    pub(crate) async fn check(&self, files_read: u64) -> Result<()> {
        let mut ledger = self.ledger.lock().await;
        ledger.catch_up().await?;
        let known = ledger.files().len() as u64;
        if files_read > known {
            return Err(ledger.broken(format!("the pipeline has read {files_read} files, but the list has only {known}")));
        }
        Ok(())
    }

    /// The files of the folder by path, and which of them are not settled.
    async fn list(&self) -> Result<(BTreeMap<String, FileEntry>, Vec<String>)> {
        let now_ms = now_ms();
        let (mut files, mut unsettled, mut others) = (BTreeMap::new(), Vec::new(), 0);
        for walked in self.all().await? {
            let (meta, path, unreadable) = match walked {
                Walked::Fine(meta) => {
                    let path = meta.location.to_string();
                    (meta, path, None)
                }
                Walked::Odd(meta, path, why) => (meta, path, Some(why.to_owned())),
            };
            // As Spark and Hive do: such names are for files that are not (or not yet) data.
            let hidden = path.split('/').any(|part| part.starts_with(['.', '_']));
            if hidden || !path.ends_with(&self.suffix) {
                others += 1;
                continue;
            }
            let entry = FileEntry { path, unreadable, ..self.entry(&meta) };
            if self.opened.local && (now_ms - entry.modified_ms).abs() < SETTLED_AFTER_MS {
                unsettled.push(entry.path.clone());
            }
            files.insert(entry.path.clone(), entry);
        }
        tracing::debug!(source = self.source_name, files = files.len(), others, "folder listed");
        Ok((files, unsettled))
    }

    async fn all(&self) -> Result<Vec<Walked>> {
        if let Some(root) = self.opened.root.clone() {
            let walked = tokio::task::spawn_blocking(move || walk(&root)).await.unwrap_or_else(|e| Err(io::Error::other(e)));
            return walked.map_err(|error| self.folder_unreachable(error.to_string()));
        }
        let listing = self.opened.store.list(None).map_ok(Walked::Fine);
        listing.try_collect().await.map_err(|error| self.folder_unreachable(error.to_string()))
    }

    fn folder_unreachable(&self, reason: String) -> IngestError {
        let (source_name, what) = (self.source_name.clone(), format!("folder '{}'", self.path));
        IngestError::FolderUnreachable { source_name, what, reason: Box::new(reason.into()) }
    }

    fn entry(&self, meta: &ObjectMeta) -> FileEntry {
        let by_time = || format!("{}-{}", meta.size, meta.last_modified.timestamp_micros());
        FileEntry {
            path: meta.location.as_ref().into(),
            size: meta.size,
            // A local e-tag has the inode in it, which a restored backup changes.
            tag: if self.opened.local { by_time() } else { meta.e_tag.clone().unwrap_or_else(by_time) },
            modified_ms: meta.last_modified.timestamp_millis(),
            modified: meta.last_modified.to_rfc3339(),
            unreadable: None,
        }
    }

    fn changed(&self, was: &FileEntry, now: &str, ledger: &str) -> IngestError {
        IngestError::FileChanged {
            source_name: self.source_name.clone(),
            file: was.path.clone(),
            was: was.describe(),
            now: now.into(),
            ledger: ledger.into(),
        }
    }

    fn unreachable(&self, what: String, error: &object_store::Error) -> IngestError {
        IngestError::FolderUnreachable { source_name: self.source_name.clone(), what, reason: Box::new(error.to_string().into()) }
    }
}

/// One file of the ledger. Every read makes sure that it is the file that was first seen.
#[derive(Clone)]
pub(crate) struct OneFile {
    folder: Arc<Folder>,
    /// Its number in the ledger.
    pub(crate) number: u64,
    pub(crate) entry: Arc<FileEntry>,
    ledger: Arc<str>,
}

impl OneFile {
    /// Some of its bytes; the range must lie within it and not be empty.
    pub(crate) async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let unreachable = |error: &object_store::Error| self.folder.unreachable(format!("file '{}'", self.entry.path), error);
        let location =
            Path::parse(&self.entry.path).map_err(|error| self.folder.unreachable(format!("file '{}'", self.entry.path), &error.into()))?;
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let result = match self.folder.opened.store.get_opts(&location, options).await {
            Ok(result) => result,
            Err(object_store::Error::NotFound { .. }) => {
                return Err(IngestError::FileGone {
                    source_name: self.folder.source_name.clone(),
                    file: self.entry.path.clone(),
                    ledger: self.ledger.to_string(),
                });
            }
            Err(error) => return Err(unreachable(&error)),
        };
        let now = self.folder.entry(&result.meta);
        if now.tag != self.entry.tag {
            return Err(self.folder.changed(&self.entry, &now.describe(), &self.ledger));
        }
        let bytes = result.bytes().await.map_err(|error| unreachable(&error))?;
        if bytes.len() as u64 != range.end - range.start {
            return Err(self.folder.changed(&self.entry, &format!("{} bytes from byte {} on", bytes.len(), range.start), &self.ledger));
        }
        Ok(bytes)
    }
}

/// The path of a folder without the slash that may end it: `in/` and `in` are one folder.
pub fn folder_of(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => path,
        bare => bare,
    }
}

/// A hash that stays the same from version to version: it names a folder in the warehouse.
pub(super) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

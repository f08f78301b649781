//! The order of a folder's files: which file came first, second, …, and what each was when it was first seen.
//!
//! `<warehouse>/_watershed/sources/<source>-<hash of its folder>/<n>.json`, each a list of files, written with create-if-absent. A reader
//! that sees new files writes the next list; one that loses takes the winner's and goes on. What a write did is found out by reading, never
//! from its error.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};

use super::Position;
use crate::error::{IngestError, Result};

/// The layout of lists that this version writes.
const VERSION: u32 = 1;
/// Files in one list: keeps an object at some hundred kilobytes.
const FILES_IN_LIST_MAX: usize = 5_000;
/// Lists read side by side at the start.
const READ_AT_ONCE: usize = 16;

/// A file as it was first seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    /// Path below the folder.
    pub(crate) path: String,
    /// Bytes.
    pub(crate) size: u64,
    /// Differs when the file was changed.
    pub(crate) tag: String,
    /// When it was written, in milliseconds since 1970.
    pub(crate) modified_ms: i64,
    /// The same for people.
    pub(crate) modified: String,
    /// Why it can never be read, if its name says so already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unreadable: Option<String>,
}

impl FileEntry {
    pub(crate) fn describe(&self) -> String {
        format!("{} bytes written {}", self.size, self.modified)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct List {
    version: u32,
    files: Vec<FileEntry>,
}

/// The files in order. State: all of them, as far as the lists were read.
pub(crate) struct Ledger {
    source_name: String,
    store: Arc<dyn ObjectStore>,
    folder: Arc<str>,
    /// Where an older version may have put the lists of this folder: by other ways to write its path.
    others: Vec<String>,
    lists: u64,
    files: Vec<FileEntry>,
    paths: HashSet<String>,
    loaded: bool,
}

impl Ledger {
    /// Lists are in `folder`, or in the first of `others` that holds some.
    pub(crate) fn new(source_name: &str, store: Arc<dyn ObjectStore>, folder: String, others: Vec<String>) -> Self {
        let (folder, source_name) = (folder.into(), source_name.into());
        Self { source_name, store, folder, others, lists: 0, files: Vec::new(), paths: HashSet::new(), loaded: false }
    }

    /// Where the lists are, below the warehouse; certain once they were read.
    pub(crate) fn folder(&self) -> &Arc<str> {
        &self.folder
    }

    pub(crate) fn files(&self) -> &[FileEntry] {
        &self.files
    }

    fn list_path(&self, number: u64) -> Path {
        Path::from(format!("{}/{number:020}.json", self.folder))
    }

    /// Reads what others have written since.
    pub(crate) async fn catch_up(&mut self) -> Result<()> {
        if !self.loaded {
            let mut numbers = self.numbers(&self.folder).await?;
            for other in std::mem::take(&mut self.others) {
                let theirs = if numbers.is_empty() { self.numbers(&other).await? } else { Vec::new() };
                if !theirs.is_empty() {
                    (self.folder, numbers) = (other.into(), theirs);
                }
            }
            numbers.sort_unstable();
            if let Some((expected, _)) = (0u64..).zip(&numbers).find(|(expected, number)| expected != *number) {
                return Err(self.broken(format!("list {expected} of its files is missing")));
            }
            let this = &*self;
            let lists: Vec<Option<List>> =
                futures::stream::iter(numbers).map(|number| this.read(number)).buffered(READ_AT_ONCE).try_collect().await?;
            lists.into_iter().flatten().for_each(|list| self.adopt(list));
            self.loaded = true;
        }
        while let Some(list) = self.read(self.lists).await? {
            self.adopt(list);
        }
        Ok(())
    }

    /// The numbers of the lists in `folder`.
    async fn numbers(&self, folder: &str) -> Result<Vec<u64>> {
        let objects: Vec<_> = self.store.list(Some(&Path::from(folder))).try_collect().await.map_err(|e| self.unreachable(&e))?;
        Ok(objects.iter().filter_map(|object| object.location.filename()?.strip_suffix(".json")?.parse().ok()).collect())
    }

    /// Adds files that are not yet there, in this order, unless others do so first.
    pub(crate) async fn append(&mut self, mut new: Vec<FileEntry>) -> Result<()> {
        loop {
            new.retain(|file| !self.paths.contains(&file.path));
            if new.is_empty() {
                return Ok(());
            }
            if (self.files.len() + new.len()) as u64 >= Position::FILES_MAX {
                return Err(self.broken(format!("it has more than {} files, which is more than an offset can count", Position::FILES_MAX)));
            }
            let list = List { version: VERSION, files: new.iter().take(FILES_IN_LIST_MAX).cloned().collect() };
            let bytes = serde_json::to_vec(&list).unwrap_or_default();
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let put = self.store.put_opts(&self.list_path(self.lists), bytes.into(), options).await;
            match (self.read(self.lists).await?, put) {
                (Some(standing), _) => self.adopt(standing),
                (None, Err(error)) => return Err(self.unreachable(&error)),
                (None, Ok(_)) => return Err(self.broken(format!("list {} of its files was deleted as soon as it was written", self.lists))),
            }
        }
    }

    async fn read(&self, number: u64) -> Result<Option<List>> {
        let object = match self.store.get(&self.list_path(number)).await {
            Ok(object) => object,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.unreachable(&error)),
        };
        let bytes = object.bytes().await.map_err(|error| self.unreachable(&error))?;
        let list: List =
            serde_json::from_slice(&bytes).map_err(|error| self.broken(format!("list {number} of its files cannot be read: {error}")))?;
        if list.version != VERSION {
            let reason = format!("list {number} of its files has layout {}, this Watershed knows {VERSION}", list.version);
            return Err(self.broken(reason));
        }
        Ok(Some(list))
    }

    fn adopt(&mut self, list: List) {
        self.lists += 1;
        for file in list.files {
            self.paths.insert(file.path.clone());
            self.files.push(file);
        }
    }

    pub(crate) fn broken(&self, reason: String) -> IngestError {
        IngestError::Ledger { source_name: self.source_name.clone(), reason, ledger: self.folder.to_string() }
    }

    fn unreachable(&self, error: &object_store::Error) -> IngestError {
        let what = format!("'{}' in the warehouse", self.folder);
        IngestError::FolderUnreachable { source_name: self.source_name.clone(), what, reason: Box::new(error.to_string().into()) }
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    /// Warehouses hold this: a later version must read it, and read the same rows at the offsets that epoch records name.
    #[tokio::test]
    async fn ledgers_are_written_as_ever() {
        let store = Arc::new(InMemory::new());
        let ledger = |folder: &str, others: &[&str]| {
            let others = others.iter().map(|other| (*other).to_owned()).collect();
            Ledger::new("pay", store.clone(), folder.to_owned(), others)
        };
        let file = |path: &str, size: u64| FileEntry {
            path: path.to_owned(),
            size,
            tag: format!("tag-{size}"),
            modified_ms: 1_764_288_000_000,
            modified: "2025-11-28T00:00:00Z".to_owned(),
            unreadable: None,
        };
        let mut first = ledger("_watershed/sources/pay-855b556730a34a05", &[]);
        first.catch_up().await.unwrap();
        first.append(vec![file("a/1.json", 10)]).await.unwrap();
        first.append(vec![file("2.json", 20)]).await.unwrap();
        let path = Path::from("_watershed/sources/pay-855b556730a34a05/00000000000000000000.json");
        let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
        let expected = r#"{"version":1,"files":[{"path":"a/1.json","size":10,"tag":"tag-10","modified_ms":1764288000000,"modified":"2025-11-28T00:00:00Z"}]}"#;
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), expected);
        let mut read = ledger("_watershed/sources/pay-0", &["_watershed/sources/pay-855b556730a34a05"]);
        read.catch_up().await.unwrap();
        assert_eq!(read.files(), [file("a/1.json", 10), file("2.json", 20)]);
        assert_eq!(Position { file: 1, row: 2 }.offset(), 1_099_511_627_778);
    }
}

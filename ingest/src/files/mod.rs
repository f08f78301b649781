//! `connector = 'files'`: a folder as a source, each row of each file once.
//!
//! A folder has no order, and pipelines live on order: what becomes of a row depends on the rows before it. So every file that is seen
//! is written into a *ledger* in the warehouse, with create-if-absent, before a row of it is read. From then on the folder is like a
//! topic of one partition: a file's place in the ledger and a row's place in its file make the offset, and the epoch record holds one
//! number, however many files there are. All pipelines over a source share its ledger and so read the same order.
//!
//! ```text
//!  list the folder ──► ledger (new files, by name) ──► file by file: csv.rs, json_lines.rs, parquet.rs ──► Decoded
//!   folder.rs            ledger.rs                         reader.rs                shape.rs
//! ```
//!
//! A file that changes once it is in the ledger is an error by name. Files are picked up by polling. Memory: a block or a row group
//! of one file, a batch of rows, and a few hundred bytes for each file of the folder.

mod csv;
mod folder;
mod json_lines;
mod ledger;
mod lines;
mod parquet;
mod reader;
mod shape;
#[cfg(test)]
mod tests;
mod times;
mod walk;
mod within;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use object_store::ObjectStore;
use tokio::runtime::Handle;
use watershed_dialect::definition::{Connector, Format, SourceDefinition};
use watershed_message::Message;

use self::folder::Folder;
pub use self::folder::folder_of;
use self::reader::FileReader;
use self::shape::Shape;
use crate::error::{IngestError, Result};
use crate::json::JsonDecode;
use crate::source::{OpenSource, PartitionRange, Positions, SourceRead};

/// The only partition of a folder.
pub(crate) const PARTITION: i32 = 0;
/// How long a start waits for files that are being written right now.
const SETTLE_WAIT_MAX: Duration = Duration::from_secs(3);

const ROW_BITS: u32 = 40;

/// Where reading goes on: a file by its number in the ledger, and how many of its rows were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) file: u64,
    pub(crate) row: u64,
}

impl Position {
    /// More rows than any file has: 10^12.
    pub(crate) const ROWS_MAX: u64 = 1 << ROW_BITS;
    /// More files than a ledger may name: 8 million.
    pub(crate) const FILES_MAX: u64 = 1 << (63 - ROW_BITS);

    /// As an offset: rises from row to row and from file to file.
    pub(crate) fn offset(self) -> i64 {
        ((self.file << ROW_BITS) | self.row) as i64
    }

    pub(crate) fn from_offset(offset: i64) -> Self {
        let bits = offset.max(0) as u64;
        Self { file: bits >> ROW_BITS, row: bits & (Self::ROWS_MAX - 1) }
    }
}

/// The number of a row in its file, the first being 1.
pub(crate) fn row_number(offset: i64) -> i64 {
    Position::from_offset(offset).row as i64 + 1
}

/// Whether the columns of a source can be filled from files.
pub(crate) fn check(definition: &SourceDefinition, columns: &[usize]) -> Result<()> {
    match definition.format {
        Format::Json => JsonDecode::new(definition, columns).map(drop),
        Format::Csv { .. } | Format::Parquet => Shape::new(definition, columns).map(drop),
    }
}

/// A store rooted at a folder.
pub struct OpenedFolder {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// Whether it is a folder of this machine, in which files grow while they are written.
    pub local: bool,
    /// Where that is, if it is known: then files are found whatever they are called.
    pub root: Option<PathBuf>,
}

/// Opens the store of a folder (a path or URL); the error says why it cannot be and what would work.
pub type OpenFolder = Arc<dyn Fn(&str) -> Result<OpenedFolder, Message> + Send + Sync>;

/// Opens sources that are folders of files.
#[derive(Clone)]
pub struct FileSources {
    warehouse: Arc<dyn ObjectStore>,
    open_folder: OpenFolder,
    runtime: Handle,
    folders: Arc<Mutex<BTreeMap<String, Arc<Folder>>>>,
}

impl std::fmt::Debug for FileSources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileSources")
    }
}

impl FileSources {
    /// `warehouse` is where ledgers lie, below `_watershed/sources/`; it must honour create-if-absent. Must be called within a Tokio
    /// runtime, on which all reading is done.
    pub fn new(warehouse: Arc<dyn ObjectStore>, open_folder: OpenFolder) -> Self {
        Self { warehouse, open_folder, runtime: Handle::current(), folders: Arc::default() }
    }

    /// The folder of a source; all readers of it in this process share one.
    fn folder(&self, definition: &SourceDefinition) -> Result<Arc<Folder>> {
        let Connector::Files { path, suffix, .. } = &definition.connector else {
            let reason = "it is no folder of files".into();
            return Err(IngestError::Definition { source_name: definition.name.clone(), reason });
        };
        let key = format!("{}\n{path}\n{suffix}", definition.name);
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = folders.get(&key) {
            return Ok(folder.clone());
        }
        let opened = (self.open_folder)(path).map_err(|reason| IngestError::FolderUnreachable {
            source_name: definition.name.clone(),
            what: format!("folder '{path}'"),
            reason: Box::new(reason),
        })?;
        let folder = Arc::new(Folder::new(&definition.name, path, suffix, opened, self.warehouse.clone()));
        folders.insert(key, folder.clone());
        Ok(folder)
    }
}

impl OpenSource for FileSources {
    fn partitions(&self, definition: &SourceDefinition) -> Result<Vec<PartitionRange>> {
        let folder = self.folder(definition)?;
        let started = Instant::now();
        let seen = self.runtime.block_on(async {
            loop {
                let seen = folder.look().await?;
                if seen.unsettled == 0 || started.elapsed() > SETTLE_WAIT_MAX {
                    return Ok::<_, IngestError>(seen);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })?;
        let at = |file| Position { file, row: 0 }.offset();
        Ok(vec![PartitionRange { partition: PARTITION, low: at(seen.first_there), high: at(seen.files) }])
    }

    fn open(&self, definition: &SourceDefinition, wanted: &[usize], positions: &Positions, _: &str) -> Result<Box<dyn SourceRead>> {
        let position = Position::from_offset(positions.get(&PARTITION).copied().unwrap_or(0));
        Ok(Box::new(FileReader::open(self.folder(definition)?, self.runtime.clone(), definition, wanted, position)?))
    }
}

//! A handle on one table of the warehouse.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::execution::object_store::ObjectStoreUrl;
use tokio::sync::{Mutex, MutexGuard};

use crate::TableName;
use crate::access::Access;
use crate::checkpoint::Checkpointer;
use crate::columns;
use crate::commit::StagedFile;
use crate::error::{LakeError, Result};
use crate::provider::{Snapshot, Texts};
use crate::state::{self, Identity, State};
use crate::upkeep::Upkeep;
use crate::writer::{TableWriter, below};

/// A table, pinned to its identity: when it is dropped, made again, or its schema changes, the handle says so in an
/// error and a new handle is needed. Clones share what is known about the log.
#[derive(Clone)]
pub struct Table {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) access: Access,
    pub(crate) identity: Arc<Identity>,
    pub(crate) store_url: ObjectStoreUrl,
    /// Held while the log is followed, so that many callers make one request.
    state: Mutex<State>,
    /// Held by a commit. Not `state`, so that queries do not wait for a slow commit.
    pub(crate) committing: Mutex<()>,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) upkeep: Arc<Upkeep>,
    version: AtomicI64,
    data_version: AtomicI64,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({} at version {})", self.name(), self.version())
    }
}

impl Table {
    pub(crate) async fn open(access: Access, store_url: ObjectStoreUrl, upkeep: Arc<Upkeep>, name: &TableName) -> Result<Self> {
        let (identity, state) = state::open(&access, name).await?;
        let (version, data_version) = (AtomicI64::new(state.version), AtomicI64::new(state.data_version));
        let shared = Shared {
            access,
            identity: Arc::new(identity),
            store_url,
            state: Mutex::new(state),
            committing: Mutex::new(()),
            checkpointer: Checkpointer::default(),
            upkeep,
            version,
            data_version,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Its name.
    pub fn name(&self) -> &TableName {
        &self.shared.identity.name
    }

    /// Its columns as scans return them, unless asked for views: `Utf8` strings, µs times in UTC, lists of `element`.
    pub fn schema(&self) -> SchemaRef {
        self.shared.identity.layout.schema.clone()
    }

    /// The columns that it got after it was made, as of the newest version seen so far.
    pub(crate) async fn added(&self) -> Vec<String> {
        columns::added(&self.shared.state.lock().await.properties)
    }

    /// The columns its files are partitioned by.
    pub fn partitioned_by(&self) -> &[String] {
        &self.shared.identity.partition_columns
    }

    /// Delta's `metaData.id`: another one when the table was dropped and made again.
    pub fn id(&self) -> &str {
        &self.shared.identity.id
    }

    /// The newest version seen so far by this handle.
    pub fn version(&self) -> i64 {
        self.shared.version.load(Ordering::Acquire)
    }

    /// The newest version seen so far that added or removed rows, as far as this handle knows: at least the version it was opened at. What
    /// came later has only rearranged rows.
    pub fn data_version(&self) -> i64 {
        self.shared.data_version.load(Ordering::Acquire)
    }

    /// Looks for new commits and returns the newest version. Two small requests when there are none.
    pub async fn refresh(&self) -> Result<i64> {
        Ok(self.fresh().await?.version)
    }

    /// The newest version that `app_id` has committed, from fresh state; `None` when it never has.
    pub async fn transaction_version(&self, app_id: &str) -> Result<Option<i64>> {
        let mut state = self.fresh().await?;
        state.transaction(&self.shared.access, &self.shared.identity, app_id).await
    }

    /// The first of these files that is not (any more) in the table's folder.
    pub async fn missing<'a>(&self, files: &'a [StagedFile]) -> Result<Option<&'a str>> {
        for file in files {
            let path = below(&self.shared.identity.folder, &file.path)?;
            if self.shared.access.head(&path).await?.is_none() {
                return Ok(Some(&file.path));
            }
        }
        Ok(None)
    }

    /// A writer of new data files. `prefix_hint`, such as the pipeline's name, becomes part of the file names.
    pub fn writer(&self, prefix_hint: &str) -> TableWriter {
        let identity = &self.shared.identity;
        TableWriter::new(self.shared.access.clone(), identity.name.clone(), identity.folder.clone(), identity.layout.clone(), prefix_hint)
    }

    /// A scan pinned to the newest version there is now.
    pub async fn provider(&self) -> Result<Arc<dyn TableProvider>> {
        Ok(self.pinned(Texts::Plain).await?.1)
    }

    /// [`Table::provider`] with texts of that form, and the version it is pinned to.
    pub async fn pinned(&self, texts: Texts) -> Result<(i64, Arc<dyn TableProvider>)> {
        let shared = &self.shared;
        let mut state = self.fresh().await?;
        let protocol = state.protocol.clone();
        let version = state.version;
        let files = state.load_files(&shared.access, &shared.identity).await?.clone();
        drop(state);
        Ok((version, Snapshot::provider(shared, shared.identity.clone(), &protocol, version, files, texts)?))
    }

    /// A scan pinned to an older version, read from the log each time. For tests: statements read the newest.
    ///
    /// Errors: [`LakeError::NoSuchVersion`].
    #[doc(hidden)]
    pub async fn provider_at(&self, version: i64) -> Result<Arc<dyn TableProvider>> {
        let shared = &self.shared;
        if version > self.refresh().await? || version < 0 {
            return Err(LakeError::NoSuchVersion { table: self.name().clone(), wanted: version, newest: self.version() });
        }
        let (identity, protocol) = state::identity_at(&shared.access, self.name(), version).await?;
        let files = state::files_at(&shared.access, &identity, version).await?;
        Snapshot::provider(shared, Arc::new(identity), &protocol, version, files, Texts::Plain)
    }

    /// Waits for what commits have started in the background for this table: Delta checkpoints. For tests and clean exits.
    pub async fn settle(&self) {
        self.shared.checkpointer.settle().await;
    }

    /// The state after following the log.
    pub(crate) async fn fresh(&self) -> Result<MutexGuard<'_, State>> {
        let mut state = self.shared.state.lock().await;
        let refreshed = state.refresh(&self.shared.access, &self.shared.identity).await;
        // Even a refresh that failed half way may have moved on.
        self.tell(&state);
        refreshed.map(|()| state)
    }

    fn tell(&self, state: &State) {
        self.shared.version.store(state.version, Ordering::Release);
        self.shared.data_version.store(state.data_version, Ordering::Release);
    }

    /// Takes in a log file that this handle has just written, without asking the store for it.
    pub(crate) async fn learn(&self, version: i64, found: &crate::access::Found) -> Result<()> {
        let mut state = self.shared.state.lock().await;
        if state.version == version - 1 {
            state.apply(&self.shared.identity, version, found)?;
            self.tell(&state);
        }
        Ok(())
    }
}

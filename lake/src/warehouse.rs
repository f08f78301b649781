//! The warehouse: a folder of tables on any store that honours create-if-absent.
//!
//! ```text
//! <warehouse>/<schema>/<table>/_delta_log/…           tables
//! <warehouse>/_watershed/definitions/<revision>.json  the applied project
//! <warehouse>/_watershed/pipelines, sources, jobs     what those keep for themselves: docs/architecture.md
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use url::Url;

use crate::TableName;
use crate::access::{Access, Patience, PutOutcome};
use crate::columns;
use crate::create::{self, Retention};
use crate::error::{LakeError, Result};
use crate::limits;
use crate::log::{log_folder, version_path};
use crate::open;
use crate::schema;
use crate::state;
use crate::table::Table;
use crate::upkeep::Upkeep;

/// A warehouse. Clones share one cache of tables.
#[derive(Clone)]
pub struct Warehouse {
    shared: Arc<Shared>,
}

struct Shared {
    access: Access,
    url: Url,
    store_url: ObjectStoreUrl,
    retention: Retention,
    upkeep: Arc<Upkeep>,
    tables: Mutex<HashMap<TableName, Table>>,
}

impl std::fmt::Debug for Warehouse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Warehouse({})", self.shared.url)
    }
}

impl Warehouse {
    /// Opens a warehouse at a path (made if missing), `file://…`, `s3://bucket/prefix` or `memory://`, and makes sure that
    /// its store honours create-if-absent. `options` are object_store's keys, such as `aws_endpoint`.
    pub async fn open(url: &str, options: &HashMap<String, String>) -> Result<Self> {
        let (store, url) = open::store_for(url, options, open::Missing::Make)?;
        let warehouse = Self::with_store(store, url);
        warehouse.check_conditional_writes().await?;
        Ok(warehouse)
    }

    /// As [`Warehouse::open`], for those who only read: nothing is made or tried out, so the store may be one that this user cannot write.
    pub fn open_to_read(url: &str, options: &HashMap<String, String>) -> Result<Self> {
        let (store, url) = open::store_for(url, options, open::Missing::Leave)?;
        Ok(Self::with_store(store, url))
    }

    /// Whether nothing at all is stored there: nobody has applied definitions or written a table, or the path is not the right one.
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(!self.shared.access.any_below(&Path::default()).await?)
    }

    /// Makes sure that the store refuses to overwrite when told not to. [`Warehouse::open`] has done it.
    ///
    /// Errors: [`LakeError::NotConditional`].
    pub async fn check_conditional_writes(&self) -> Result<()> {
        open::check_conditional(&self.shared.access, &self.shared.url).await
    }

    /// A warehouse on a store that is rooted at it. `url` names it to people and to query sessions.
    pub fn with_store(store: Arc<dyn ObjectStore>, url: Url) -> Self {
        Self::with_patience(store, url, Patience::default())
    }

    /// As [`Warehouse::with_store`], with other time limits.
    pub fn with_patience(store: Arc<dyn ObjectStore>, url: Url, patience: Patience) -> Self {
        let access = Access { store, patience };
        let store_url = store_url(&url);
        let (retention, upkeep) = (Retention::default(), Arc::default());
        Self { shared: Arc::new(Shared { access, url, store_url, retention, upkeep, tables: Mutex::default() }) }
    }

    /// The same warehouse with nothing cached; tables it makes keep what nobody needs for so long.
    pub fn with_retention(self, retention: Retention) -> Self {
        let Shared { access, url, store_url, .. } = &*self.shared;
        let (access, url, store_url) = (access.clone(), url.clone(), store_url.clone());
        Self { shared: Arc::new(Shared { access, url, store_url, retention, upkeep: Arc::default(), tables: Mutex::default() }) }
    }

    pub(crate) fn upkeep(&self) -> &Arc<Upkeep> {
        &self.shared.upkeep
    }

    /// Where it is.
    pub fn url(&self) -> &Url {
        &self.shared.url
    }

    /// Its store, rooted at the warehouse.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.shared.access.store
    }

    pub(crate) fn access(&self) -> &Access {
        &self.shared.access
    }

    /// All tables, in order of their names.
    pub async fn tables(&self) -> Result<Vec<TableName>> {
        let access = &self.shared.access;
        let mut candidates = Vec::new();
        for schema in access.folders(None).await? {
            let schema_name = schema.filename().unwrap_or_default().to_owned();
            if schema_name.starts_with('_') {
                continue;
            }
            for table in access.folders(Some(&schema)).await? {
                // Folders that no table could have are not tables.
                candidates.extend(TableName::new(schema_name.as_str(), table.filename().unwrap_or_default()).ok());
            }
        }
        let checks = candidates.into_iter().map(|name| async move {
            let folder = state::folder_of(&name)?;
            Ok::<_, LakeError>((!state::is_absent(access, &folder).await?).then_some(name))
        });
        let found: Vec<_> = futures::stream::iter(checks).buffered(limits::LISTING_AT_ONCE).try_collect().await?;
        let mut tables = found.into_iter().flatten().collect::<Vec<_>>();
        tables.sort();
        Ok(tables)
    }

    /// A table, at its newest version. Handles are shared: following a table that was opened before is cheap.
    pub async fn table(&self, name: &TableName) -> Result<Table> {
        let cached = self.cache().get(name).cloned();
        if let Some(table) = cached {
            match table.refresh().await {
                Ok(_) => return Ok(table),
                // The old handle says so to those who hold it; here a new one is opened.
                Err(LakeError::TableReplaced { .. } | LakeError::TableChanged { .. } | LakeError::TableGrown { .. }) => {
                    self.cache().remove(name);
                }
                Err(error) => return Err(error),
            }
        }
        let table = Table::open(self.shared.access.clone(), self.shared.store_url.clone(), self.shared.upkeep.clone(), name).await?;
        self.cache().insert(name.clone(), table.clone());
        Ok(table)
    }

    /// Makes a table, or finds it there with the same columns and partitioning; columns that [`Warehouse::add_columns`] added may be there besides,
    /// and one that is to have a value in each row may be one that the table holds NULL in.
    ///
    /// Errors: [`LakeError::TableDiffers`], [`LakeError::BadType`], [`LakeError::BadPartition`]; [`LakeError::Damaged`] where a log has lost
    /// its beginning: the rows may still be there.
    pub async fn create_table(&self, name: &TableName, schema: SchemaRef, partitioned_by: &[String]) -> Result<Table> {
        let first = create::first_version(&schema, partitioned_by, &self.shared.retention)?;
        let folder = state::folder_of(name)?;
        let access = &self.shared.access;
        if state::is_absent(access, &folder).await? {
            if access.any_below(&log_folder(&folder)).await? && create::is_dropped(access, &folder).await? {
                tracing::info!(table = %name, "removing what an interrupted drop has left");
                create::remove_remains(access, &folder).await?;
            }
            access.put_if_absent(&version_path(&folder, 0), &first).await?;
        }
        let table = self.table(name).await?;
        let wanted = schema::to_delta(&schema)?.1;
        let differs = |what, existing, wanted| LakeError::TableDiffers { table: name.clone(), what, existing, wanted };
        if !columns::takes(&table.schema(), &table.added().await, &wanted) {
            return Err(differs("schema", schema::describe(&table.schema()), schema::describe(&wanted)));
        }
        if table.partitioned_by() != partitioned_by {
            return Err(differs("partitioning", format!("{:?}", table.partitioned_by()), format!("{partitioned_by:?}")));
        }
        Ok(table)
    }

    /// Removes a table with its data.
    pub async fn drop_table(&self, name: &TableName) -> Result<()> {
        let folder = state::folder_of(name)?;
        self.cache().remove(name);
        // A table whose log has lost its beginning is none to readers, yet there is something to remove.
        let access = &self.shared.access;
        if state::is_absent(access, &folder).await? && !access.any_below(&log_folder(&folder)).await? {
            return Err(LakeError::NoSuchTable(name.clone()));
        }
        create::drop_table(access, &folder).await
    }

    /// Writes an object below the warehouse unless one is there. The outcome is decided by reading back, never by an
    /// error. Two writers of equal bytes both win: bytes that must have one winner carry their writer's identity.
    ///
    /// Errors: [`LakeError::Unclear`] when the store cannot be asked, [`LakeError::Store`] when it refuses for good.
    pub async fn put_if_absent(&self, path: &Path, bytes: Bytes) -> Result<PutOutcome> {
        Ok(self.shared.access.put_if_absent(path, &bytes).await?.0)
    }

    /// Reads an object below the warehouse, patiently; `None` when it does not exist.
    pub async fn read(&self, path: &Path) -> Result<Option<Bytes>> {
        Ok(self.shared.access.get(path).await?.map(|found| found.bytes))
    }

    /// The objects below a folder of the warehouse, in order of their paths.
    pub async fn list(&self, folder: &Path) -> Result<Vec<Path>> {
        let mut paths: Vec<Path> = self.shared.access.list(folder).await?.into_iter().map(|object| object.location).collect();
        paths.sort();
        Ok(paths)
    }

    /// Removes objects below the warehouse, patiently; those that are not there do not matter.
    pub async fn remove(&self, paths: &[Path]) -> Result<()> {
        self.shared.access.delete(paths).await
    }

    /// Writes an object under a name that nobody else uses, in parts when it is large, patiently.
    pub async fn put_own(&self, path: &Path, bytes: Bytes) -> Result<()> {
        self.shared.access.put_own(path, &bytes).await
    }

    fn cache(&self) -> MutexGuard<'_, HashMap<TableName, Table>> {
        // The map is whole at every moment, so a panic elsewhere does not spoil it.
        self.shared.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sessions know stores by scheme and host only; a digest of the whole URL keeps two warehouses of one bucket apart.
fn store_url(url: &Url) -> ObjectStoreUrl {
    // FNV-1a: the same in every process, so that a plan made in one runs in another.
    let digest = url.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    ObjectStoreUrl::parse(format!("watershed://{digest:016x}")).expect("sixteen hex digits are a host name")
}

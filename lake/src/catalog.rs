//! The warehouse as a DataFusion catalog. Nothing is registered: each query resolves its tables when it is planned and
//! is pinned to the versions that were newest then.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::DataFusionError;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::TableName;
use crate::error::LakeError;
use crate::limits::LISTING_TIMEOUT;
use crate::warehouse::Warehouse;

/// The schemas of a warehouse.
///
/// Listings (`SHOW TABLES`, `information_schema`) look at the store each time. DataFusion asks for them outside of async
/// code, which needs a multi-threaded tokio runtime; on another one they are empty, while queries work.
#[derive(Debug, Clone)]
pub struct WarehouseCatalog {
    warehouse: Warehouse,
}

impl WarehouseCatalog {
    /// A catalog of all tables in the warehouse.
    pub fn new(warehouse: Warehouse) -> Self {
        Self { warehouse }
    }
}

impl CatalogProvider for WarehouseCatalog {
    fn schema_names(&self) -> Vec<String> {
        let mut names = list(&self.warehouse).iter().map(|table| table.schema().to_owned()).collect::<Vec<_>>();
        names.dedup();
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        // Whether it has tables is found out when one is asked for: a listing per query would be wasteful.
        TableName::new(name, "t").ok()?;
        Some(Arc::new(WarehouseSchema { warehouse: self.warehouse.clone(), schema: name.to_owned() }))
    }
}

/// The tables of one schema.
#[derive(Debug, Clone)]
pub struct WarehouseSchema {
    warehouse: Warehouse,
    schema: String,
}

#[async_trait]
impl SchemaProvider for WarehouseSchema {
    fn table_names(&self) -> Vec<String> {
        let tables = list(&self.warehouse).into_iter().filter(|table| table.schema() == self.schema);
        tables.map(|table| table.table().to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let Ok(name) = TableName::new(self.schema.as_str(), name) else { return Ok(None) };
        match self.warehouse.table(&name).await {
            Ok(table) => Ok(Some(table.provider().await?)),
            Err(LakeError::NoSuchTable(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|table| table == name)
    }
}

/// Lists the warehouse from code that is not async. What fails is logged: DataFusion has no way to hear of it.
fn list(warehouse: &Warehouse) -> Vec<TableName> {
    let Ok(runtime) = Handle::try_current() else { return Vec::new() };
    if runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
        tracing::warn!("cannot list the warehouse from a single-threaded runtime");
        return Vec::new();
    }
    let listing = || runtime.block_on(tokio::time::timeout(LISTING_TIMEOUT, warehouse.tables()));
    match tokio::task::block_in_place(listing) {
        Ok(Ok(tables)) => tables,
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot list the warehouse");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!("listing the warehouse took too long");
            Vec::new()
        }
    }
}

//! The warehouse as DataFusion sees it.
//!
//! State: the names found by the last [`LakeCatalog::refresh`], and the tables opened since. A refresh comes before each
//! statement, so a statement that names a table twice reads one version of it, and the next statement reads the newest.
//!
//! A table that cannot be read is an error for who names it, and is left out where all are looked at: listings of columns tell of the others.
//!
//! Schemas: those of the warehouse (`bronze`, `silver`, …) and `system` for [`SystemTable`]s. A name without a schema is
//! looked for in all of them: `city_demand` finds `silver.city_demand` as long as no other schema has a table of that name.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::{Arc, RwLock};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::datasource::{MemTable, TableType};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{Query, SetExpr, Statement as SqlStatement, TableFactor, Visitor};
use tokio::sync::Mutex;
use watershed_dialect::walk::{End, Flow, finds};
use watershed_dialect::{Statement, StatementKind};
use watershed_lake::{LakeError, TableName, Texts, Warehouse};

use crate::SystemTable;

/// The catalog's name in `catalog.schema.table`.
pub(crate) const CATALOG: &str = "watershed";
/// The default schema. It holds nothing itself and is not listed.
pub(crate) const HOME: &str = "default";
/// The schema of the [`SystemTable`]s.
pub(crate) const SYSTEM: &str = "system";

tokio::task_local! {
    /// Set while tables are looked up that somebody has named.
    static NAMED: ();
}

/// Looks up tables that somebody has named: one that cannot be read is an error. `information_schema` looks them up by itself, later.
pub(crate) async fn named<T>(work: impl Future<Output = T>) -> T {
    NAMED.scope((), work).await
}

/// Whether a statement may need a table, or the names of tables. `SELECT 1` and `SET` do not, and nothing is read for them.
pub(crate) fn asks_for_tables(statement: &Statement) -> bool {
    let StatementKind::Other(DfStatement::Statement(statement)) = &statement.kind else { return true };
    match statement.as_ref() {
        SqlStatement::Set(_) => false,
        query @ SqlStatement::Query(_) => finds(query, &mut AnyTable),
        _ => true,
    }
}

/// Ends a visit at the first table.
struct AnyTable;

impl Visitor for AnyTable {
    type Break = End;

    fn pre_visit_table_factor(&mut self, _: &TableFactor) -> Flow {
        ControlFlow::Break(End::Found)
    }

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        fn is_plain(body: &SetExpr) -> bool {
            match body {
                SetExpr::SetOperation { left, right, .. } => is_plain(left) && is_plain(right),
                // Those of a query in brackets are visited as well.
                SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Query(_) => true,
                _ => false,
            }
        }
        if is_plain(&query.body) { ControlFlow::Continue(()) } else { ControlFlow::Break(End::Found) }
    }
}

/// All schemas of a session.
#[derive(Debug)]
pub(crate) struct LakeCatalog {
    lake: Arc<Lake>,
    home: Arc<HomeSchema>,
    system: Arc<SystemSchema>,
}

struct Lake {
    warehouse: Warehouse,
    /// Table names as of the last refresh.
    names: RwLock<Vec<TableName>>,
    /// Tables opened since the last refresh.
    pinned: Mutex<HashMap<TableName, Arc<dyn TableProvider>>>,
}

impl std::fmt::Debug for Lake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lake").field("warehouse", &self.warehouse.url().as_str()).finish_non_exhaustive()
    }
}

impl LakeCatalog {
    pub(crate) fn new(warehouse: Warehouse, system: Vec<Arc<dyn SystemTable>>) -> Self {
        let lake = Arc::new(Lake { warehouse, names: RwLock::default(), pinned: Mutex::default() });
        let system = system.into_iter().map(|table| (table.name().to_owned(), table)).collect();
        Self { home: Arc::new(HomeSchema { lake: Arc::clone(&lake) }), system: Arc::new(SystemSchema { tables: system }), lake }
    }

    /// The same warehouse and system tables, with names and versions of its own.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.lake.warehouse.clone(), self.system.tables.values().cloned().collect())
    }

    /// Lists the warehouse again and lets go of the pinned versions.
    pub(crate) async fn refresh(&self) -> Result<(), LakeError> {
        let names = self.lake.warehouse.tables().await?;
        *self.lake.names.write().expect("lock") = names;
        self.lake.pinned.lock().await.clear();
        Ok(())
    }

    /// Where the tables are.
    pub(crate) fn warehouse(&self) -> &Warehouse {
        &self.lake.warehouse
    }

    /// Every table of the warehouse as of the last refresh.
    pub(crate) fn tables(&self) -> Vec<TableName> {
        self.lake.names()
    }

    /// The names of the tables in `system`.
    pub(crate) fn system_tables(&self) -> Vec<String> {
        self.system.table_names()
    }

    /// What `SHOW <name>` lists, if there is such a table in `system`.
    pub(crate) fn shown(&self, name: &str) -> Option<&str> {
        self.system.tables.get(name).map(|table| table.shown())
    }
}

impl Lake {
    fn names(&self) -> Vec<TableName> {
        self.names.read().expect("lock").clone()
    }

    /// A table; `None` if it cannot be read and no statement has named it.
    async fn find(&self, name: &TableName) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.open(name).await {
            Ok(provider) => Ok(Some(provider)),
            Err(error) if NAMED.try_with(|()| ()).is_err() => {
                tracing::warn!(table = %name, %error, "a table cannot be read and is left out of a listing");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn open(&self, name: &TableName) -> Result<Arc<dyn TableProvider>> {
        let mut pinned = self.pinned.lock().await;
        if let Some(provider) = pinned.get(name) {
            return Ok(Arc::clone(provider));
        }
        let external = |error: LakeError| DataFusionError::External(Box::new(error.message()));
        let table = self.warehouse.table(name).await.map_err(external)?;
        let (_, provider) = table.pinned(Texts::Views).await.map_err(external)?;
        pinned.insert(name.clone(), Arc::clone(&provider));
        Ok(provider)
    }
}

impl CatalogProvider for LakeCatalog {
    fn schema_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.lake.names().iter().map(|name| name.schema().to_owned()).collect();
        if !self.system.tables.is_empty() {
            names.push(SYSTEM.to_owned());
        }
        names.sort();
        names.dedup();
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            HOME => Some(Arc::clone(&self.home) as _),
            SYSTEM => Some(Arc::clone(&self.system) as _),
            _ if self.lake.names().iter().any(|table| table.schema() == name) => {
                Some(Arc::new(LakeSchema { lake: Arc::clone(&self.lake), schema: name.to_owned() }))
            }
            _ => None,
        }
    }
}

/// One schema of the warehouse.
#[derive(Debug)]
struct LakeSchema {
    lake: Arc<Lake>,
    schema: String,
}

impl LakeSchema {
    fn find(&self, table: &str) -> Option<TableName> {
        self.lake.names().into_iter().find(|name| name.schema() == self.schema && name.table() == table)
    }
}

#[async_trait]
impl SchemaProvider for LakeSchema {
    fn table_names(&self) -> Vec<String> {
        self.lake.names().iter().filter(|name| name.schema() == self.schema).map(|name| name.table().to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.find(name) {
            Some(name) => self.lake.find(&name).await,
            None => Ok(None),
        }
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(self.find(name).map(|_| TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}

/// The default schema: the way from a bare name to the one table that has it.
#[derive(Debug)]
struct HomeSchema {
    lake: Arc<Lake>,
}

impl HomeSchema {
    fn candidates(&self, table: &str) -> Vec<TableName> {
        self.lake.names().into_iter().filter(|name| name.table() == table).collect()
    }
}

#[async_trait]
impl SchemaProvider for HomeSchema {
    fn table_names(&self) -> Vec<String> {
        Vec::new()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.candidates(name).as_slice() {
            [] => Ok(None),
            [only] => self.lake.find(only).await,
            several => {
                let names: Vec<String> = several.iter().map(ToString::to_string).collect();
                plan_err!("'{name}' could be {}: write the schema, too", names.join(" or "))
            }
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        !self.candidates(name).is_empty()
    }
}

/// The schema `system`.
#[derive(Debug)]
struct SystemSchema {
    tables: BTreeMap<String, Arc<dyn SystemTable>>,
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(table) = self.tables.get(name) else { return Ok(None) };
        match table.rows().await {
            Ok(batch) => Ok(Some(Arc::new(MemTable::try_new(table.schema(), vec![vec![batch]])?))),
            Err(why) => Err(DataFusionError::External(Box::new(why.within(format!("system.{name} cannot be read"))))),
        }
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(self.tables.contains_key(name).then_some(TableType::View))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }
}

//! A warehouse in a temporary folder or in memory, rows to write, and queries over them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, SchemaProvider, TableProvider};
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};
use delta_kernel::Snapshot;
use delta_kernel::engine::arrow_data::EngineDataArrowExt;
use deltalake_core::DeltaTable;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tempfile::TempDir;
use url::Url;
use watershed_lake::faults::FaultStore;
use watershed_lake::{Commit, Committed, LakeError, Overwrite, Patience, Standing, Table, TableName, Warehouse};

/// Short waits: what is tested is what happens, not how long one would wait.
pub fn impatient() -> Patience {
    Patience { attempts: 3, timeout: Duration::from_millis(300), backoff: Duration::from_millis(1) }
}

pub async fn local() -> (TempDir, Warehouse) {
    let folder = TempDir::new().unwrap();
    let warehouse = Warehouse::open(folder.path().to_str().unwrap(), &HashMap::new()).await.unwrap();
    (folder, warehouse)
}

pub fn faulty() -> (FaultStore, Warehouse) {
    faulty_over(Arc::new(InMemory::new()))
}

pub fn faulty_over(inner: Arc<dyn ObjectStore>) -> (FaultStore, Warehouse) {
    let store = FaultStore::new(inner);
    let warehouse = Warehouse::with_patience(Arc::new(store.clone()), Url::parse("memory:///").unwrap(), impatient());
    (store, warehouse)
}

/// Another process on the same store: nothing cached.
pub fn stranger(warehouse: &Warehouse) -> Warehouse {
    Warehouse::with_patience(warehouse.store().clone(), warehouse.url().clone(), impatient())
}

/// The same, as patient as a real one: for tests that keep the machine busy.
pub fn neighbour(warehouse: &Warehouse) -> Warehouse {
    Warehouse::with_store(warehouse.store().clone(), warehouse.url().clone())
}

pub fn name(text: &str) -> TableName {
    text.parse().unwrap()
}

pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("city", DataType::Utf8, true)]))
}

pub fn rows(ids: std::ops::Range<i64>, city: Option<&str>) -> RecordBatch {
    let cities = StringArray::from_iter(ids.clone().map(|_| city));
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from_iter_values(ids)) as ArrayRef, Arc::new(cities)]).unwrap()
}

pub async fn append(table: &Table, app_id: &str, app_version: i64, batches: Vec<RecordBatch>) -> Result<Committed, LakeError> {
    let mut writer = table.writer(app_id);
    for batch in batches {
        writer.write(batch).await?;
    }
    let files = writer.finish().await?;
    let previous_app_version = table.transaction_version(app_id).await?.filter(|&found| found < app_version);
    let operation = "STREAMING UPDATE".to_owned();
    table.commit(Commit { app_id: app_id.to_owned(), app_version, previous_app_version, files, operation }).await
}

/// Rows written for a refresh by `app_id` that starts where the table is now.
pub async fn prepared(table: &Table, app_id: &str, batches: Vec<RecordBatch>) -> Overwrite {
    let Standing { version, app_version } = table.standing(app_id).await.unwrap();
    let mut writer = table.writer("job");
    for batch in batches {
        writer.write(batch).await.unwrap();
    }
    Overwrite {
        app_id: app_id.to_owned(),
        app_version: app_version.unwrap_or(0) + 1,
        previous_app_version: app_version,
        read_version: version,
        files: writer.finish().await.unwrap(),
        operation: "REFRESH".to_owned(),
        parameters: BTreeMap::from([("read".to_owned(), "s.input@3".to_owned())]),
    }
}

/// A session over the tables of schema `s`, each as it is when a query is planned.
pub fn session(warehouse: &Warehouse) -> SessionContext {
    let mut config = SessionConfig::new().with_default_catalog_and_schema("lake", "s");
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    config.options_mut().execution.parquet.schema_force_view_types = false;
    let context = SessionContext::new_with_config(config);
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema("s", Arc::new(Tables(warehouse.clone()))).unwrap();
    context.register_catalog("lake", Arc::new(catalog));
    context
}

/// A session whose table `t` is what delta-rs reads: its kernel follows the log, opens the files, and puts partition values and missing columns
/// in. Only the query is DataFusion's.
pub async fn session_of_delta_rs(table: &DeltaTable) -> SessionContext {
    let store = table.log_store();
    let (engine, root, version) = (store.engine(None), store.table_root_url(), table.version().unwrap());
    let read = move || {
        let snapshot = Snapshot::builder_for(root).at_version(version).build(engine.as_ref()).unwrap();
        let scan = snapshot.scan_builder().build().unwrap();
        scan.execute(engine).unwrap().map(|rows| rows.try_into_record_batch().unwrap()).collect::<Vec<RecordBatch>>()
    };
    let mut batches = tokio::task::spawn_blocking(read).await.unwrap();
    let schema = batches.first().expect("rows").schema();
    for batch in &mut batches {
        *batch = RecordBatch::try_new(schema.clone(), batch.columns().to_vec()).unwrap();
    }
    let context = SessionContext::new();
    context.register_table("t", Arc::new(MemTable::try_new(schema, vec![batches]).unwrap())).unwrap();
    context
}

/// The tables of schema `s`.
#[derive(Debug)]
struct Tables(Warehouse);

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        Vec::new()
    }

    async fn table(&self, table: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        match self.0.table(&TableName::new("s", table).unwrap()).await {
            Ok(table) => Ok(Some(table.provider().await?)),
            Err(LakeError::NoSuchTable(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn table_exist(&self, _table: &str) -> bool {
        true
    }
}

pub async fn query(context: &SessionContext, sql: &str) -> String {
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

/// The one number that a query returns.
pub async fn number(context: &SessionContext, sql: &str) -> i64 {
    use arrow::array::AsArray;
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    batches[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0)
}

/// Numbers that look random and are the same in each run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Less than `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 11) as usize % limit
    }
}

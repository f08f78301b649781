//! A warehouse that an earlier Watershed wrote goes on: `stream/tests/earlier`, written with fingerprints of layout 1, is read on from its records.
//! Two of its windows, a seen key and a history are open.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use datafusion::prelude::SessionContext;
use object_store::local::LocalFileSystem;
use watershed_ingest::FileSources;
use watershed_ingest::files::OpenedFolder;
use watershed_lake::{TableName, Warehouse};

use crate::outlet::tests::Recorders;
use crate::pipelines::newest_epochs;
use crate::project::Project;
use crate::runner::{RunOptions, Runner};
use crate::shard::Until;

/// A copy of the warehouse and its files, removed in the end.
struct Copy(PathBuf);

impl Copy {
    fn new() -> Self {
        let to = std::env::temp_dir().join(format!("watershed-earlier-{}", uuid::Uuid::new_v4()));
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/earlier"), &to);
        // A file is known by its size and the time it was written, which no copy keeps.
        let ledger = to.join("warehouse/_watershed/sources/pay-855b556730a34a05/00000000000000000000.json");
        let ledger: serde_json::Value = serde_json::from_slice(&std::fs::read(ledger).unwrap()).unwrap();
        let written = ledger["files"][0]["modified"].as_str().unwrap();
        let written_ns = chrono::DateTime::parse_from_rfc3339(written).unwrap().timestamp_nanos_opt().unwrap() as u64;
        let file = std::fs::OpenOptions::new().write(true).open(to.join("data/1.json")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_nanos(written_ns)).unwrap();
        Self(to)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(super) async fn rows(warehouse: &Warehouse, table: &str, query: &str) -> String {
    let ctx = SessionContext::new();
    let name: TableName = table.parse().unwrap();
    ctx.register_table("t", warehouse.table(&name).await.unwrap().provider().await.unwrap()).unwrap();
    let batches = ctx.sql(query).await.unwrap().collect().await.unwrap();
    let text = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>().join(" ");
    text.lines().filter(|line| line.starts_with('|')).skip(1).map(cells).collect::<Vec<_>>().join("; ")
}

/// Runs all pipelines over the files of `data` until they are caught up.
pub(super) async fn run(warehouse: &Warehouse, project: &Project, data: &Path, sinks: &Recorders, drain: bool) {
    let data = data.to_owned();
    let open = move |_: &str| {
        let store = LocalFileSystem::new_with_prefix(&data).map_err(|error| error.to_string())?;
        Ok(OpenedFolder { store: Arc::new(store), local: true, root: None })
    };
    let options = RunOptions {
        sources: Arc::new(FileSources::new(warehouse.store().clone(), Arc::new(open))),
        sinks: Arc::new(sinks.clone()),
        only: Vec::new(),
        until: Until::CaughtUp { drain },
        state_limits: Default::default(),
        spill_dir: std::env::temp_dir(),
        parallelism: Some(1),
    };
    let runner = Runner::start(warehouse.clone(), project, options).await.unwrap();
    for (table, result) in runner.join().await {
        result.unwrap_or_else(|error| panic!("{table}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warehouse_of_an_earlier_version_goes_on() {
    let copy = Copy::new();
    let late = r#"{"id":5,"at":"2026-11-28T11:10:00Z","amount":1,"rate":0.5,"city":"Lagos"}"#;
    std::fs::write(copy.0.join("data/2.json"), format!("{late}\n")).unwrap();
    let warehouse = Warehouse::open(copy.0.join("warehouse").to_str().unwrap(), &HashMap::new()).await.unwrap();
    let definitions = warehouse.definitions().await.unwrap();
    let project = Project::parse(definitions.items.iter().map(|item| item.sql.as_str())).unwrap();
    for record in newest_epochs(&warehouse).await.unwrap() {
        assert!(!record.definition.contains(':'), "written by an earlier version");
    }
    run(&warehouse, &project, &copy.0.join("data"), &Recorders::default(), true).await;
    let sums = "SELECT city, payments, points, rate FROM t ORDER BY window_start, city";
    assert_eq!(rows(&warehouse, "gold.sums", sums).await, "LIMA 3 500 1.1666666666666667; OSLO 1 14 2.5; LAGOS 3 38 2.5");
    assert_eq!(rows(&warehouse, "gold.once", "SELECT id FROM t ORDER BY id").await, "1; 2; 3; 4; 5");
    let running = "SELECT id, payments, amount FROM t WHERE id > 3 ORDER BY payments";
    assert_eq!(rows(&warehouse, "gold.running", running).await, "4 1 9; 5 2 18; 5 3 19");
    assert_eq!(rows(&warehouse, "silver.graded", "SELECT id, grade FROM t WHERE id > 4").await, "5 small; 5 small");
    for record in newest_epochs(&warehouse).await.unwrap() {
        assert!(record.definition.starts_with("3:"), "{}: {}", record.pipeline, record.definition);
    }
}

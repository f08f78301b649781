//! Commits: once per transaction, beside others, and told apart from a table that is not the same any more.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use deltalake_core::DeltaTableBuilder;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use url::Url;
use watershed_lake::faults::{Fault, Operation, Outcome};
use watershed_lake::{Commit, LakeError, Warehouse};

use crate::support::{append, faulty_over, local, name, number, query, rows, schema, session, session_of_delta_rs, stranger};

fn empty(app_version: i64) -> Commit {
    let previous_app_version = (app_version > 1).then(|| app_version - 1);
    Commit { app_id: "p/0".to_owned(), app_version, previous_app_version, files: Vec::new(), operation: "STREAMING UPDATE".to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn delta_rs_reads_what_we_append() {
    let (folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    assert_eq!(append(&table, "p/0", 7, vec![rows(0..3, Some("Graz")), rows(3..5, None)]).await.unwrap().version, 1);
    assert_eq!(append(&table, "p/0", 8, vec![rows(5..6, Some("Wien"))]).await.unwrap().version, 2);

    let url = Url::from_directory_path(folder.path().join("s/t")).unwrap();
    let theirs = deltalake_core::open_table(url).await.unwrap();
    let state = theirs.snapshot().unwrap();
    assert_eq!(theirs.version(), Some(2));
    assert_eq!(state.metadata().id(), table.id());
    assert_eq!(state.snapshot().arrow_schema().as_ref(), schema().as_ref());
    assert_eq!(state.transaction_version(theirs.log_store().as_ref(), "p/0").await.unwrap(), Some(8));
    let context = session_of_delta_rs(&theirs).await;
    let by_delta_rs = query(&context, "SELECT id, city FROM t ORDER BY id").await;
    assert_eq!(by_delta_rs, query(&session(&warehouse), "SELECT id, city FROM s.t ORDER BY id").await);
    assert!(by_delta_rs.contains("| 5  | Wien |"), "{by_delta_rs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_counts_once() {
    let (_folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    assert_eq!(table.transaction_version("p/0").await.unwrap(), None);
    append(&table, "p/0", 1, vec![rows(0..3, None)]).await.unwrap();

    let zombie = stranger(&warehouse).table(&name("s.t")).await.unwrap();
    let again = append(&zombie, "p/0", 1, vec![rows(0..3, None)]).await.unwrap();
    assert!(again.already_there);
    assert_eq!(again.version, 1);

    append(&table, "p/0", 2, vec![rows(3..4, None)]).await.unwrap();
    assert!(matches!(zombie.commit(empty(1)).await, Err(LakeError::NewerWriter { found: 2, wanted: 1, .. })));
    assert!(matches!(table.commit(empty(4)).await, Err(LakeError::EpochGap { found: Some(2), expected: Some(3), wanted: 4, .. })));
    assert_eq!(zombie.transaction_version("p/0").await.unwrap(), Some(2));
    assert_eq!(zombie.transaction_version("other").await.unwrap(), None);
    // An epoch without rows still counts.
    assert_eq!(zombie.commit(empty(3)).await.unwrap().version, 3);
    assert_eq!(number(&session(&warehouse), "SELECT count(*) FROM t").await, 4);
}

async fn appenders(warehouse: Warehouse) {
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    let tasks = (0..16).map(|task| {
        // Half of them share a handle, half are other processes.
        let (table, other) = (table.clone(), stranger(&warehouse));
        tokio::spawn(async move {
            let table = if task % 2 == 0 { table } else { other.table(&name("s.t")).await.unwrap() };
            for version in 0..4 {
                let first = (task * 4 + version) * 10;
                append(&table, &format!("p/{task}"), version, vec![rows(first..first + 10, None)]).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    table.settle().await;
    assert_eq!(table.refresh().await.unwrap(), 64);
    let context = session(&stranger(&warehouse));
    assert_eq!(query(&context, "SELECT count(*), count(DISTINCT id), sum(id) FROM t").await.matches("640").count(), 2);
    for task in 0..16 {
        assert_eq!(table.transaction_version(&format!("p/{task}")).await.unwrap(), Some(3));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_append_at_once_in_a_folder() {
    let (_folder, warehouse) = local().await;
    appenders(warehouse).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_append_at_once_in_memory() {
    appenders(Warehouse::with_store(Arc::new(InMemory::new()), Url::parse("memory:///").unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_serve_cold_starts() {
    let (folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &["city".to_owned()]).await.unwrap();
    for version in 0..45 {
        let city = if version % 2 == 0 { Some("Graz") } else { None };
        append(&table, "p/0", version, vec![rows(version..version + 1, city)]).await.unwrap();
        table.settle().await;
    }
    let log = folder.path().join("s/t/_delta_log");
    assert!(log.join("00000000000000000040.checkpoint.parquet").exists());
    assert!(log.join("_last_checkpoint").exists());
    // What a log clean-up would remove: a cold start must not need it.
    for version in 0..40 {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    let cold = stranger(&warehouse);
    let reopened = cold.table(&name("s.t")).await.unwrap();
    assert_eq!(reopened.version(), 45);
    assert_eq!(reopened.transaction_version("p/0").await.unwrap(), Some(44));
    let context = session(&cold);
    assert_eq!(number(&context, "SELECT sum(id) FROM t").await, 44 * 45 / 2);
    assert_eq!(number(&context, "SELECT count(*) FROM t WHERE city IS NULL").await, 22);
    // The statistics survive the checkpoint: this plan reads one file.
    let plan = query(&context, "EXPLAIN SELECT * FROM t WHERE id = 17").await;
    assert_eq!(plan.matches(".zstd.parquet").count(), 1, "{plan}");
    append(&reopened, "p/0", 45, vec![rows(45..46, None)]).await.unwrap();
    assert_eq!(table.refresh().await.unwrap(), 46);
    assert_eq!(cold.tables().await.unwrap(), vec![name("s.t")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_left_behind_by_log_clean_up_catches_up() {
    let (folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    let other = stranger(&warehouse).table(&name("s.t")).await.unwrap();
    for version in 0..21 {
        append(&other, "p/0", version, vec![rows(0..1, None)]).await.unwrap();
        other.settle().await;
    }
    for version in 0..20 {
        std::fs::remove_file(folder.path().join(format!("s/t/_delta_log/{version:020}.json"))).unwrap();
    }
    assert_eq!(table.version(), 0);
    assert!(append(&table, "p/0", 20, vec![]).await.unwrap().already_there);
    assert_eq!(table.version(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_table_is_told_apart() {
    let (_folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    append(&table, "p/0", 1, vec![rows(0..3, None)]).await.unwrap();
    let other = stranger(&warehouse);
    other.drop_table(&name("s.t")).await.unwrap();
    assert!(matches!(table.commit(empty(2)).await, Err(LakeError::TableReplaced { made_anew: false, .. })));
    assert!(matches!(warehouse.table(&name("s.t")).await, Err(LakeError::NoSuchTable(_))));

    let anew = other.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    append(&anew, "p/0", 1, vec![rows(0..3, None)]).await.unwrap();
    assert!(matches!(table.commit(empty(2)).await, Err(LakeError::TableReplaced { made_anew: true, .. })));
    assert_ne!(table.id(), anew.id());
    assert_eq!(warehouse.table(&name("s.t")).await.unwrap().id(), anew.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_schema_is_told_apart() {
    let (folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    let url = Url::from_directory_path(folder.path().join("s/t")).unwrap();
    let theirs = DeltaTableBuilder::from_url(url).unwrap().load().await.unwrap();
    let field = deltalake_core::kernel::StructField::nullable("extra", deltalake_core::kernel::DataType::LONG);
    theirs.add_columns().with_fields(vec![field]).await.unwrap();

    assert!(matches!(table.commit(empty(1)).await, Err(LakeError::TableChanged { what: "schema", version: 1, .. })));
    let reopened = warehouse.table(&name("s.t")).await.unwrap();
    assert_eq!(reopened.schema().fields().len(), 3);
    append(&reopened, "p/0", 1, vec![rows(0..2, None)]).await.unwrap();
    assert_eq!(number(&session(&warehouse), "SELECT count(*) FROM t WHERE extra IS NULL").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_removals_are_followed() {
    let (folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &["city".to_owned()]).await.unwrap();
    append(&table, "p/0", 1, vec![rows(0..3, Some("São Paulo")), rows(3..5, Some("Graz"))]).await.unwrap();
    let context = session(&warehouse);
    assert_eq!(number(&context, "SELECT count(*) FROM t").await, 5);

    // As a DELETE of a whole partition, written by somebody else.
    let log = folder.path().join("s/t/_delta_log");
    let written = std::fs::read_to_string(log.join("00000000000000000001.json")).unwrap();
    let adds = written.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut adds = adds.filter(|action| action["add"]["partitionValues"]["city"] == "São Paulo");
    let remove = serde_json::json!({"remove": {"path": adds.next().unwrap()["add"]["path"], "dataChange": true, "deletionTimestamp": 1}});
    assert!(adds.next().is_none(), "one file holds the partition");
    std::fs::write(log.join("00000000000000000002.json"), format!("{remove}\n")).unwrap();
    assert_eq!(number(&context, "SELECT count(*) FROM t").await, 2);
    // Appends go on beside it.
    assert_eq!(append(&table, "p/0", 2, vec![rows(9..10, None)]).await.unwrap().version, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cost_of_a_commit_does_not_depend_on_the_table() {
    let folder = tempfile::TempDir::new().unwrap();
    let stores: [Arc<dyn ObjectStore>; 2] = [Arc::new(InMemory::new()), Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap())];
    for inner in stores {
        let (store, warehouse) = faulty_over(inner);
        let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
        append(&table, "p/0", 0, vec![rows(0..1, None)]).await.unwrap();
        // A commit that read anything but the newest log file and the next would run into these.
        store.plan(Fault::new(Operation::List, "s/t", Outcome::FailBefore).times(100));
        for version in 0..10 {
            append(&table, "p/0", version + 1, vec![rows(0..1, None)]).await.unwrap();
            store.plan(Fault::new(Operation::Get, &format!("{version:020}.json"), Outcome::FailBefore).times(100));
        }
        assert_eq!(store.fired(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn creating_twice_finds_the_same_table_or_says_what_differs() {
    let (_folder, warehouse) = local().await;
    let first = warehouse.create_table(&name("s.t"), schema(), &["city".to_owned()]).await.unwrap();
    let second = stranger(&warehouse).create_table(&name("s.t"), schema(), &["city".to_owned()]).await.unwrap();
    assert_eq!(first.id(), second.id());
    let error = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap_err();
    assert!(matches!(error, LakeError::TableDiffers { what: "partitioning", .. }), "{error}");
    let other = Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, false)]));
    let error = warehouse.create_table(&name("s.t"), other, &[]).await.unwrap_err().to_string();
    assert!(error.contains("id Int64 NOT NULL") && error.contains("id Utf8 NOT NULL"), "{error}");
    for bad in ["nothing", "id"] {
        let columns = [bad.to_owned(), bad.to_owned()];
        let error = warehouse.create_table(&name("s.u"), schema(), &columns).await.unwrap_err();
        assert!(matches!(error, LakeError::BadPartition { .. }), "{error}");
    }
    assert!(Warehouse::open("ftp://x", &HashMap::new()).await.is_err());
}

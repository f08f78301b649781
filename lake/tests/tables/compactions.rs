//! Compaction: the same rows in fewer files, whoever else writes, and whatever the store does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use serde_json::Value;
use watershed_lake::faults::{Fault, FaultStore, Operation, Outcome};
use watershed_lake::{Commit, CompactOptions, Compaction, LakeError, Table, UpkeepOptions, Warehouse};

use crate::support::{
    append, faulty, local, name, neighbour, number, prepared, query, rows, schema, session, session_of_delta_rs, stranger,
};

pub fn everything() -> CompactOptions {
    CompactOptions { everything: true, ..CompactOptions::default() }
}

pub async fn compact(table: &Table, options: &CompactOptions) -> Result<Compaction, LakeError> {
    table.compact(options, &Arc::new(AtomicBool::new(false))).await
}

/// A live file as its `add` says it.
#[derive(Debug, Clone)]
pub struct Live {
    pub path: String,
    pub written_ms: i64,
    pub stats: Value,
}

/// The live files as delta-rs sees them, oldest first.
pub async fn live(warehouse: &Warehouse) -> Vec<Live> {
    let theirs = deltalake_core::open_table(warehouse.url().join("s/t/").unwrap()).await.unwrap();
    let files = theirs.snapshot().unwrap().log_data();
    let file = |view: deltalake_core::kernel::LogicalFileView| Live {
        path: view.path().into_owned(),
        written_ms: view.modification_time(),
        stats: serde_json::from_str(&view.stats().expect("statistics")).unwrap(),
    };
    let mut files = files.iter().map(file).collect::<Vec<_>>();
    files.sort_by_key(|file| file.written_ms);
    files
}

/// All rows as delta-rs reads them.
pub async fn by_delta_rs(warehouse: &Warehouse, sql: &str) -> String {
    let theirs = deltalake_core::open_table(warehouse.url().join("s/t/").unwrap()).await.unwrap();
    query(&session_of_delta_rs(&theirs).await, sql).await
}

fn wide() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("city", DataType::Utf8, true),
        Field::new("ratio", DataType::Float64, true),
        Field::new("tags", DataType::List(Arc::new(Field::new("element", DataType::Utf8, true))), true),
    ]))
}

fn wide_rows(id: i64, ratio: f64) -> RecordBatch {
    let mut tags = ListBuilder::new(StringBuilder::new()).with_field(Field::new("element", DataType::Utf8, true));
    tags.values().append_value(format!("tag {id}"));
    tags.append(true);
    tags.append(false);
    let city = if id % 3 == 0 { None } else { Some(if id % 3 == 1 { "São Paulo" } else { "Graz" }) };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![id, id + 1000])),
        Arc::new(StringArray::from(vec![city, city])),
        Arc::new(Float64Array::from(vec![Some(ratio), None])),
        Arc::new(tags.finish()),
    ];
    RecordBatch::try_new(wide(), columns).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_stay_as_they_were_for_us_and_for_delta_rs() {
    for partitioned_by in [vec![], vec!["city".to_owned()]] {
        let (_folder, warehouse) = local().await;
        let table = warehouse.create_table(&name("s.t"), wide(), &partitioned_by).await.unwrap();
        for id in 0..24 {
            let ratio = if id == 7 { f64::NAN } else { id as f64 };
            append(&table, "p/0", id + 1, vec![wide_rows(id, ratio)]).await.unwrap();
        }
        let context = session(&warehouse);
        let sql = "SELECT id, city, ratio, tags FROM t ORDER BY id";
        let before = query(&context, sql).await;
        assert_eq!(by_delta_rs(&warehouse, sql).await, before);
        let version = table.version();

        let partitions = if partitioned_by.is_empty() { 1 } else { 3 };
        let done = compact(&table, &everything()).await.unwrap();
        assert_eq!((done.commits, done.files_before, done.files_after, done.rows), (1, 24, partitions, 48), "{done:?}");
        assert_eq!(table.version(), version + 1);
        for warehouse in [warehouse.clone(), stranger(&warehouse)] {
            assert_eq!(query(&session(&warehouse), sql).await, before);
        }
        assert_eq!(by_delta_rs(&warehouse, sql).await, before);
        // Row by row in the order they were written in.
        let first = query(&context, "SELECT id FROM t WHERE city = 'São Paulo'").await;
        let ids = (0..24).filter(|id| id % 3 == 1).flat_map(|id| [id, id + 1000]);
        let ids = ids.map(|id| format!("| {id:<4} |")).collect::<Vec<_>>();
        assert_eq!(first.lines().filter(|line| line.contains(|c: char| c.is_ascii_digit())).collect::<Vec<_>>(), ids, "{first}");

        // Statistics hold for all rows: none for the column with a NaN. Nulls are counted.
        for file in live(&warehouse).await {
            assert_eq!(file.stats["nullCount"]["ratio"], file.stats["numRecords"].as_i64().unwrap() / 2);
            let has_nan = partitioned_by.is_empty() || file.path.contains("Paulo");
            assert_eq!(file.stats["maxValues"]["ratio"].is_null(), has_nan, "{file:?}");
        }
        assert_eq!(number(&context, "SELECT count(*) FROM t WHERE ratio > 100").await, 1);
        assert_eq!(number(&context, "SELECT count(*) FROM t WHERE id > 1020").await, 3);
        // What compactions replaced is still there for older versions; the transaction is as it was; there is nothing more to do.
        let older = datafusion::prelude::SessionContext::new();
        older.register_table("t", table.provider_at(version).await.unwrap()).unwrap();
        assert_eq!(query(&older, sql).await, before);
        assert_eq!(stranger(&warehouse).table(&name("s.t")).await.unwrap().transaction_version("p/0").await.unwrap(), Some(24));
        assert_eq!(compact(&table, &everything()).await.unwrap(), Compaction::default());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_keep_the_order_of_their_rows_through_all_tiers() {
    let (_folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    let options = CompactOptions { files_min: 4, ..CompactOptions::default() };
    let mut total = Compaction::default();
    for epoch in 0..150 {
        append(&table, "p/0", epoch, vec![rows(epoch * 10..epoch * 10 + 10, Some("Graz"))]).await.unwrap();
        total.add(&compact(&table, &options).await.unwrap());
    }
    let files = live(&warehouse).await;
    assert!(files.len() < 20 && total.commits > 20, "{} files, {total:?}", files.len());
    // No file holds rows from before another one's that comes before it.
    let bounds = files.iter().map(|file| [&file.stats["minValues"]["id"], &file.stats["maxValues"]["id"]].map(|id| id.as_i64().unwrap()));
    let bounds = bounds.flatten().collect::<Vec<_>>();
    assert!(bounds.is_sorted(), "{bounds:?}");
    assert_eq!(number(&session(&warehouse), "SELECT count(DISTINCT id) FROM t").await, 1500);
    assert!(total.rows < 6 * 1500, "rows were rewritten too often: {total:?}");
}

/// Lets `work` begin, and `other` commit while the first hangs before its log file is written.
async fn overtaken<T: Send + 'static>(
    store: &FaultStore,
    work: impl Future<Output = T> + Send + 'static,
    other: impl Future<Output = ()>,
) -> T {
    let before = store.fired();
    store.plan(Fault::new(Operation::Put, "_delta_log", Outcome::HangBefore));
    let work = tokio::spawn(work);
    while store.fired() == before {
        tokio::task::yield_now().await;
    }
    other.await;
    store.release();
    work.await.unwrap()
}

async fn small_files(warehouse: &Warehouse, count: i64) -> Table {
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    for epoch in 1..=count {
        append(&table, "p/0", epoch, vec![rows(epoch * 10..epoch * 10 + 10, None)]).await.unwrap();
    }
    table
}

/// Data files that merges left, whether a commit names them or not.
async fn merged_files(warehouse: &Warehouse) -> usize {
    let listed = warehouse.store().list(Some(&Path::from("s/t")));
    listed.filter(|file| futures::future::ready(file.as_ref().unwrap().location.as_ref().contains("part-compacted-"))).count().await
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_appends_a_merge_goes_on_top_of_them() {
    let (store, warehouse) = faulty();
    let table = small_files(&warehouse, 5).await;
    let other = stranger(&warehouse).table(&name("s.t")).await.unwrap();
    let merging = table.clone();
    let work = async move { compact(&merging, &everything()).await.unwrap() };
    let done =
        overtaken(&store, work, async { assert_eq!(append(&other, "q/0", 1, vec![rows(0..5, None)]).await.unwrap().version, 6) }).await;
    assert_eq!((done.commits, done.files_before, done.given_up), (1, 5, 0));
    assert_eq!(table.version(), 7);
    for warehouse in [warehouse.clone(), stranger(&warehouse)] {
        assert_eq!(number(&session(&warehouse), "SELECT count(DISTINCT id) FROM t").await, 55);
        assert_eq!(number(&session(&warehouse), "SELECT count(*) FROM t").await, 55);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_replaced_a_file_meanwhile_comes_first() {
    // Another compactor, a refresh, and another program's overwrite of the definition.
    for rival in ["compaction", "refresh", "definition"] {
        let (store, warehouse) = faulty();
        let table = small_files(&warehouse, 5).await;
        let strange = stranger(&warehouse);
        let other = strange.table(&name("s.t")).await.unwrap();
        let merging = table.clone();
        let work = async move { compact(&merging, &everything()).await.unwrap() };
        let rows_after = if rival == "refresh" { 3 } else { 50 };
        let done = overtaken(&store, work, async {
            match rival {
                "compaction" => assert_eq!(compact(&other, &everything()).await.unwrap().commits, 1),
                "refresh" => {
                    let refresh = prepared(&other, "job/s.t", vec![rows(0..3, None)]).await;
                    assert_eq!(other.overwrite(refresh).await.unwrap().version, 6);
                }
                _ => {
                    let first = strange.read(&Path::from("s/t/_delta_log/00000000000000000000.json")).await.unwrap().unwrap();
                    let first = String::from_utf8(first.to_vec()).unwrap();
                    let line = first.lines().find(|line| line.contains("metaData")).unwrap().to_owned() + "\n";
                    let path = Path::from("s/t/_delta_log/00000000000000000006.json");
                    strange.put_if_absent(&path, Bytes::from(line)).await.unwrap();
                }
            }
        })
        .await;
        assert_eq!((done.commits, done.given_up), (0, 1), "{rival}");
        assert_eq!(table.version(), 6, "{rival}");
        assert_eq!(merged_files(&warehouse).await, usize::from(rival == "compaction"), "{rival}: staged files are left");
        assert_eq!(number(&session(&stranger(&warehouse)), "SELECT count(*) FROM t").await, rows_after, "{rival}");
        assert_eq!(number(&session(&warehouse), "SELECT count(DISTINCT id) FROM t").await, rows_after, "{rival}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_goes_on_top_of_a_compaction_and_keeps_no_row_twice() {
    let (store, warehouse) = faulty();
    let table = small_files(&warehouse, 5).await;
    let other = stranger(&warehouse).table(&name("s.t")).await.unwrap();
    // Before the refresh commits, and while it does.
    let refresh = prepared(&table, "job/s.t", vec![rows(0..3, None)]).await;
    assert_eq!(compact(&other, &everything()).await.unwrap().commits, 1);
    assert_eq!(table.overwrite(refresh).await.unwrap().version, 7);
    assert_eq!(number(&session(&stranger(&warehouse)), "SELECT count(*) FROM t").await, 3);

    append(&table, "p/0", 6, vec![rows(3..5, None)]).await.unwrap();
    let refresh = prepared(&table, "job/s.t", vec![rows(7..9, None)]).await;
    let refreshing = table.clone();
    let work = async move { refreshing.overwrite(refresh).await.unwrap() };
    let committed = overtaken(&store, work, async { assert_eq!(compact(&other, &everything()).await.unwrap().commits, 1) }).await;
    assert_eq!((committed.version, committed.already_there), (10, false));
    assert_eq!(number(&session(&stranger(&warehouse)), "SELECT sum(id) FROM t").await, 15);

    // Rows in between still count.
    let refresh = prepared(&table, "job/s.t", vec![rows(0..1, None)]).await;
    append(&other, "p/0", 7, vec![rows(3..5, None)]).await.unwrap();
    compact(&other, &everything()).await.unwrap();
    assert!(matches!(table.overwrite(refresh).await, Err(LakeError::Overtaken { read: 10, .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_whose_files_were_merged_is_not_committed_again() {
    let (_folder, warehouse) = local().await;
    let table = small_files(&warehouse, 3).await;
    let mut writer = table.writer("p");
    writer.write(rows(100..105, None)).await.unwrap();
    let files = writer.finish().await.unwrap();
    let commit = Commit { app_id: "p/0".to_owned(), app_version: 4, previous_app_version: Some(3), files, operation: "WRITE".to_owned() };
    table.commit(commit.clone()).await.unwrap();
    assert_eq!(compact(&table, &everything()).await.unwrap().commits, 1);
    // A restart carries out the newest record again, and so does a zombie.
    for table in [table.clone(), stranger(&warehouse).table(&name("s.t")).await.unwrap()] {
        assert!(table.commit(commit.clone()).await.unwrap().already_there);
    }
    assert_eq!(number(&session(&stranger(&warehouse)), "SELECT count(*) FROM t").await, 35);
    append(&table, "p/0", 5, vec![rows(105..106, None)]).await.unwrap();
    assert!(matches!(table.commit(commit).await, Err(LakeError::NewerWriter { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_survives_every_lie_of_the_store() {
    for lie in [Outcome::FailBefore, Outcome::FailAfter, Outcome::ExistsAfter, Outcome::HangBefore, Outcome::HangAfter] {
        for path in ["_delta_log/00000000000000000006", "part-compacted-"] {
            let (store, warehouse) = faulty();
            let table = small_files(&warehouse, 5).await;
            store.plan(Fault::new(Operation::Put, path, lie));
            let done = compact(&table, &everything()).await.unwrap();
            assert_eq!((done.commits, store.fired()), (1, 1), "{lie:?} at {path}");
            assert_eq!(number(&session(&stranger(&warehouse)), "SELECT count(*) FROM t").await, 50, "{lie:?} at {path}");
            assert_eq!(merged_files(&warehouse).await, 1, "{lie:?} at {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_that_cannot_be_finished_harms_nothing() {
    // While files are read, while they are written, and when the commit's outcome cannot be found out, whatever it was.
    let cases = [
        (Operation::Get, "s/t/part-", Outcome::FailBefore, false),
        (Operation::Put, "part-compacted-", Outcome::FailBefore, false),
        (Operation::Put, "_delta_log", Outcome::FailBefore, false),
        (Operation::Put, "_delta_log", Outcome::FailAfter, true),
    ];
    for (operation, path, outcome, committed) in cases {
        let (store, warehouse) = faulty();
        let table = small_files(&warehouse, 5).await;
        store.plan(Fault::new(operation, path, outcome).times(1000));
        if path == "_delta_log" {
            // The looks before the write pass; the store goes down with it.
            store.plan(Fault::new(Operation::Get, "_delta_log/00000000000000000006", Outcome::FailBefore).after(2).times(1000));
        }
        let error = compact(&table, &everything()).await.unwrap_err();
        assert!(error.may_pass(), "{error}");
        store.heal();
        let other = stranger(&warehouse);
        assert_eq!(number(&session(&other), "SELECT count(*) FROM t").await, 50, "{operation:?} {path} {outcome:?}");
        assert_eq!(other.table(&name("s.t")).await.unwrap().version(), if committed { 6 } else { 5 }, "{operation:?} {path} {outcome:?}");
        compact(&table, &everything()).await.unwrap();
        append(&table, "p/0", 6, vec![rows(0..1, None)]).await.unwrap();
        assert_eq!(number(&session(&stranger(&warehouse)), "SELECT count(*) FROM t").await, 51, "{operation:?} {path} {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_with_what_we_do_not_know_are_left_alone() {
    let vector = r#"{"storageType":"u","pathOrInlineDv":"x","offset":1,"sizeInBytes":1,"cardinality":1}"#;
    for feature in ["deletion vectors", "writer protocol version 4"] {
        let (_folder, warehouse) = local().await;
        let table = small_files(&warehouse, 5).await;
        let path = live(&warehouse).await[0].path.clone();
        let lines = if feature == "deletion vectors" {
            format!(
                "{{\"protocol\":{{\"minReaderVersion\":3,\"minWriterVersion\":7,\"readerFeatures\":[\"deletionVectors\"],\"writerFeatures\":[\"deletionVectors\"]}}}}\n\
                 {{\"remove\":{{\"path\":\"{path}\",\"deletionTimestamp\":1,\"dataChange\":true}}}}\n\
                 {{\"add\":{{\"path\":\"{path}\",\"partitionValues\":{{}},\"size\":1,\"modificationTime\":1,\"dataChange\":true,\"deletionVector\":{vector}}}}}\n"
            )
        } else {
            "{\"protocol\":{\"minReaderVersion\":1,\"minWriterVersion\":4}}\n".to_owned()
        };
        let log = Path::from("s/t/_delta_log/00000000000000000006.json");
        warehouse.put_if_absent(&log, Bytes::from(lines)).await.unwrap();
        let done = compact(&table, &everything()).await.unwrap();
        assert_eq!(done.skipped.as_deref(), Some(feature));
        assert_eq!(table.version(), 6);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_compact_and_append_at_once() {
    let (_folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &["city".to_owned()]).await.unwrap();
    let appenders = (0..4).map(|task| {
        let other = neighbour(&warehouse);
        tokio::spawn(async move {
            let table = other.table(&name("s.t")).await.unwrap();
            for version in 0..25 {
                let first = (task * 25 + version) * 4;
                let city = ["Graz", "Wien"][(version % 2) as usize];
                append(&table, &format!("p/{task}"), version, vec![rows(first..first + 4, Some(city))]).await.unwrap();
            }
        })
    });
    let appended = Arc::new(AtomicBool::new(false));
    let compactors = (0..3).map(|task| {
        // One shares the handle of the readers, the others are other processes.
        let (table, other, appended) = (table.clone(), neighbour(&warehouse), appended.clone());
        tokio::spawn(async move {
            let table = if task == 0 { table } else { other.table(&name("s.t")).await.unwrap() };
            let mut total = Compaction::default();
            while !appended.load(Ordering::SeqCst) {
                total.add(&compact(&table, &CompactOptions { files_min: 2, ..CompactOptions::default() }).await.unwrap());
            }
            total
        })
    });
    let compactors = compactors.collect::<Vec<_>>();
    for task in appenders.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    appended.store(true, Ordering::SeqCst);
    let mut total = Compaction::default();
    for task in compactors {
        total.add(&task.await.unwrap());
    }
    assert!(total.commits > 0, "{total:?}");
    for warehouse in [warehouse.clone(), neighbour(&warehouse)] {
        let seen = query(&session(&warehouse), "SELECT count(*), count(DISTINCT id), min(id), max(id) FROM t").await;
        assert!(seen.contains("| 400      | 400                  | 0         | 399       |"), "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_staged_for_too_long_are_not_committed() {
    let (_folder, warehouse) = local().await;
    let table = small_files(&warehouse, 1).await;
    let mut refresh = prepared(&table, "job/s.t", vec![rows(0..3, None)]).await;
    table.check_fresh(&refresh.files).unwrap();
    refresh.files[0].modified_ms -= 13 * 3_600_000;
    let error = table.overwrite(refresh).await.unwrap_err();
    assert!(matches!(error, LakeError::StagedTooLong { hours: 13, .. }) && error.may_pass(), "{error}");
    assert_eq!(table.refresh().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_merges_what_commits_leave_and_deletes_what_is_replaced() {
    let (folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let options = UpkeepOptions {
        compact: Some(CompactOptions { files_min: 8, ..CompactOptions::default() }),
        vacuum: Some(Duration::ZERO),
        needed: Arc::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(Default::default()) })
        }),
    };
    // Replaced before upkeep began: the first vacuum finds it.
    for epoch in 0..3 {
        append(&table, "q/0", epoch, vec![rows(0..1, None)]).await.unwrap();
    }
    assert_eq!(compact(&table, &everything()).await.unwrap().files_before, 3);
    let upkeep = warehouse.start_upkeep(options);
    for epoch in 0..40 {
        append(&table, "p/0", epoch, vec![rows(epoch..epoch + 1, None)]).await.unwrap();
    }
    let mut waited = 0;
    while warehouse.upkeep_counts().compactions < 2 || warehouse.upkeep_counts().vacuumed_files < 3 {
        assert!(waited < 1000, "{:?}", warehouse.upkeep_counts());
        waited += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    upkeep.stop().await;
    let counts = warehouse.upkeep_counts();
    assert!(counts.failures == 0 && counts.compacted_files > counts.written_files, "{counts:?}");
    assert!(asked.load(Ordering::SeqCst) > 0, "nobody asked what is needed");
    assert_eq!(number(&session(&stranger(&warehouse)), "SELECT count(*) FROM t").await, 43);
    let there = std::fs::read_dir(folder.path().join("s/t")).unwrap().count();
    assert!(there <= 40 + 1 + counts.written_files as usize + 1, "{there} files are left");
    // Stopped, it does nothing more.
    for epoch in 40..60 {
        append(&table, "p/0", epoch, vec![rows(epoch..epoch + 1, None)]).await.unwrap();
    }
    assert_eq!(warehouse.upkeep_counts(), counts);
}

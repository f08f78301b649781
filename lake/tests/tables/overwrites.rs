//! Replacing all rows: at once, once, and never beside somebody else's change.

use watershed_lake::faults::{Fault, Operation, Outcome};
use watershed_lake::{Committed, LakeError, Overwrite, Standing, Table};

use crate::compactions::{compact, everything};
use crate::support::{append, faulty, local, name, number, prepared, query, rows, schema, session, session_of_delta_rs, stranger};

const JOB: &str = "job/s.t";

async fn refresh(table: &Table, batches: Vec<arrow::array::RecordBatch>) -> Result<Committed, LakeError> {
    table.overwrite(prepared(table, JOB, batches).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_rows_alone_are_there_for_us_and_for_delta_rs() {
    let (_folder, warehouse) = local().await;
    for (table, partitioned_by) in [("s.t", vec![]), ("s.u", vec!["city".to_owned()])] {
        let table = warehouse.create_table(&name(table), schema(), &partitioned_by).await.unwrap();
        assert_eq!(refresh(&table, vec![rows(0..3, Some("São Paulo")), rows(3..5, None)]).await.unwrap().version, 1);
        assert_eq!(refresh(&table, vec![rows(7..9, Some("São Paulo"))]).await.unwrap().version, 2);
        let context = session(&warehouse);
        let sql = format!("SELECT id, city FROM {} ORDER BY id", table.name());
        let ours = query(&context, &sql).await;
        assert!(ours.contains("| 8  | São Paulo |") && !ours.contains("| 1  |"), "{ours}");

        let folder = format!("{}/", table.name().to_string().replace('.', "/"));
        let theirs = deltalake_core::open_table(warehouse.url().join(&folder).unwrap()).await.unwrap();
        assert_eq!(theirs.snapshot().unwrap().transaction_version(theirs.log_store().as_ref(), JOB).await.unwrap(), Some(2));
        let other = session_of_delta_rs(&theirs).await;
        assert_eq!(query(&other, "SELECT id, city FROM t ORDER BY id").await, ours);

        // To nothing, and from nothing; another process sees it, too. The version before is still to be read.
        assert_eq!(refresh(&table, vec![]).await.unwrap().version, 3);
        assert_eq!(number(&session(&stranger(&warehouse)), &format!("SELECT count(*) FROM {}", table.name())).await, 0);
        assert_eq!(refresh(&table, vec![rows(1..2, None)]).await.unwrap().version, 4);
        assert_eq!(number(&session(&stranger(&warehouse)), &format!("SELECT sum(id) FROM {}", table.name())).await, 1);
        let before = datafusion::prelude::SessionContext::new();
        before.register_table("t", table.provider_at(2).await.unwrap()).unwrap();
        assert_eq!(number(&before, "SELECT count(*) FROM t").await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_counts_once() {
    let (_folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    let first = prepared(&table, JOB, vec![rows(0..3, None)]).await;
    assert_eq!(table.overwrite(first.clone()).await.unwrap(), Committed { version: 1, already_there: false });
    assert!(table.overwrite(first.clone()).await.unwrap().already_there);
    assert!(stranger(&warehouse).table(&name("s.t")).await.unwrap().overwrite(first.clone()).await.unwrap().already_there);
    refresh(&table, vec![rows(0..3, None)]).await.unwrap();
    // A zombie that wakes up late, and one that skips a transaction.
    assert!(matches!(table.overwrite(first.clone()).await, Err(LakeError::Overtaken { read: 0, found: 2, .. })));
    let zombie = Overwrite { read_version: 2, ..first.clone() };
    assert!(matches!(table.overwrite(zombie).await, Err(LakeError::NewerWriter { found: 2, wanted: 1, .. })));
    let skips = Overwrite { read_version: 2, app_version: 9, previous_app_version: Some(8), ..first };
    assert!(matches!(table.overwrite(skips).await, Err(LakeError::EpochGap { found: Some(2), wanted: 9, .. })));
    assert_eq!(number(&session(&warehouse), "SELECT count(*) FROM t").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_second_is_told() {
    let (_folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    refresh(&table, vec![rows(0..3, None)]).await.unwrap();

    // An append, and another refresh.
    let late = prepared(&table, JOB, vec![rows(0..3, None)]).await;
    let other = stranger(&warehouse).table(&name("s.t")).await.unwrap();
    append(&other, "p/0", 1, vec![rows(3..4, None)]).await.unwrap();
    let error = table.overwrite(late).await.unwrap_err();
    assert!(matches!(error, LakeError::Overtaken { read: 1, found: 2, .. }) && error.may_pass(), "{error}");
    assert_eq!(number(&session(&warehouse), "SELECT count(*) FROM t").await, 4);

    // delta-rs' own overwrite after an OPTIMIZE keeps the old rows beside the new ones.
    append(&other, "p/0", 2, vec![rows(4..6, None)]).await.unwrap();
    let late = prepared(&table, JOB, vec![rows(0..3, None)]).await;
    let merged = compact(&stranger(&warehouse).table(&name("s.t")).await.unwrap(), &everything()).await.unwrap();
    assert!(merged.files_before > 1, "{merged:?}");
    // Ours replaces the file that the rows were merged into.
    assert_eq!(table.overwrite(late).await.unwrap().version, 5);
    assert_eq!(number(&session(&warehouse), "SELECT count(*) FROM t").await, 3);
    assert!(matches!(table.overwrite(prepared(&other, JOB, vec![]).await).await, Ok(Committed { version: 6, already_there: false })));
    refresh(&table, vec![rows(0..3, None)]).await.unwrap();
    assert_eq!(number(&session(&stranger(&warehouse)), "SELECT count(*) FROM t").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_at_once_each_is_whole() {
    let (_folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    let tasks = (0..8).map(|task| {
        let (table, other) = (table.clone(), stranger(&warehouse));
        tokio::spawn(async move {
            let table = if task % 2 == 0 { table } else { other.table(&name("s.t")).await.unwrap() };
            let mut won = 0;
            for _ in 0..4 {
                match refresh(&table, vec![rows(task * 10..task * 10 + 10, None)]).await {
                    Ok(committed) if !committed.already_there => won += 1,
                    Ok(_) | Err(LakeError::Overtaken { .. } | LakeError::NewerWriter { .. } | LakeError::EpochGap { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            won
        })
    });
    let mut won = 0;
    for task in tasks.collect::<Vec<_>>() {
        won += task.await.unwrap();
    }
    assert!(won > 0);
    let context = session(&stranger(&warehouse));
    let seen = query(&context, "SELECT count(*), count(DISTINCT id), max(id) - min(id) FROM t").await;
    assert!(seen.contains("| 10 "), "{seen}");
    assert_eq!(number(&context, "SELECT count(DISTINCT id) FROM t").await, 10);
    assert_eq!(table.standing(JOB).await.unwrap(), Standing { version: won, app_version: Some(won) });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_survives_every_lie_of_the_store() {
    for lie in [Outcome::FailBefore, Outcome::FailAfter, Outcome::ExistsAfter, Outcome::HangBefore, Outcome::HangAfter] {
        let (store, warehouse) = faulty();
        let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
        refresh(&table, vec![rows(0..3, None)]).await.unwrap();
        store.plan(Fault::new(Operation::Put, "_delta_log/00000000000000000002", lie));
        let committed = refresh(&table, vec![rows(3..5, None)]).await.unwrap();
        assert_eq!((committed.version, committed.already_there), (2, false), "{lie:?}");
        assert_eq!(store.fired(), 1, "{lie:?}");
        assert_eq!(number(&session(&stranger(&warehouse)), "SELECT sum(id) FROM t").await, 7, "{lie:?}");
    }
}

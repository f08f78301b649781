//! Stores that fail: what happened is found out by reading, and nothing happens twice.

use bytes::Bytes;
use object_store::path::Path;
use watershed_lake::faults::{Fault, Operation, Outcome};
use watershed_lake::{Commit, LakeError, PutOutcome};

use crate::support::{append, faulty, impatient, name, number, rows, schema, session, stranger};

const LIES: [Outcome; 7] = [
    Outcome::FailBefore,
    Outcome::FailAfter,
    Outcome::ExistsAfter,
    Outcome::PreconditionAfter,
    Outcome::HangBefore,
    Outcome::HangAfter,
    Outcome::Slow,
];

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conditional_write_knows_its_own_bytes() {
    for lie in LIES {
        let (store, warehouse) = faulty();
        let path = Path::from("_watershed/record.json");
        store.plan(Fault::new(Operation::Put, "record", lie));
        assert_eq!(warehouse.put_if_absent(&path, bytes("ours")).await.unwrap(), PutOutcome::Won, "{lie:?}");
        assert_eq!(store.fired(), 1, "{lie:?}");
        // The same bytes again are the same write; other bytes lose, whatever the store says about it.
        assert_eq!(warehouse.put_if_absent(&path, bytes("ours")).await.unwrap(), PutOutcome::Won);
        store.plan(Fault::new(Operation::Put, "record", Outcome::FailBefore));
        assert_eq!(warehouse.put_if_absent(&path, bytes("theirs")).await.unwrap(), PutOutcome::Lost(bytes("ours")));
        assert_eq!(warehouse.read(&path).await.unwrap(), Some(bytes("ours")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_leaves_the_outcome_open() {
    let path = Path::from("_watershed/record.json");
    for (lie, reads_fail) in [(Outcome::FailBefore, false), (Outcome::FailBefore, true), (Outcome::FailAfter, true)] {
        let (store, warehouse) = faulty();
        store.plan(Fault::new(Operation::Put, "record", lie).times(100));
        if reads_fail {
            store.plan(Fault::new(Operation::Get, "record", Outcome::FailBefore).times(100));
        }
        let error = warehouse.put_if_absent(&path, bytes("ours")).await.unwrap_err();
        assert!(matches!(error, LakeError::Unclear { .. }), "{error}");
        assert!(store.fired() >= 3);
        store.heal();
        assert_eq!(warehouse.put_if_absent(&path, bytes("ours")).await.unwrap(), PutOutcome::Won);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_survives_every_lie() {
    for lie in LIES {
        let (store, warehouse) = faulty();
        let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
        append(&table, "p/0", 1, vec![rows(0..3, None)]).await.unwrap();
        store.plan(Fault::new(Operation::Put, "_delta_log/00000000000000000002", lie));
        let committed = append(&table, "p/0", 2, vec![rows(3..5, None)]).await.unwrap();
        assert_eq!((committed.version, committed.already_there), (2, false), "{lie:?}");
        assert_eq!(store.fired(), 1, "{lie:?}");
        assert_eq!(append(&table, "p/0", 3, vec![]).await.unwrap().version, 3);
        let other = stranger(&warehouse);
        assert_eq!(other.table(&name("s.t")).await.unwrap().transaction_version("p/0").await.unwrap(), Some(3));
        assert_eq!(number(&session(&other), "SELECT count(*) FROM t").await, 5, "{lie:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclear_commit_is_repeated_without_harm() {
    for (lie, was_there) in [(Outcome::FailAfter, true), (Outcome::HangAfter, true), (Outcome::FailBefore, false)] {
        let (store, warehouse) = faulty();
        let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
        append(&table, "p/0", 1, vec![rows(0..3, None)]).await.unwrap();
        let mut writer = table.writer("p");
        writer.write(rows(3..5, None)).await.unwrap();
        let files = writer.finish().await.unwrap();
        let commit =
            Commit { app_id: "p/0".to_owned(), app_version: 2, previous_app_version: Some(1), files, operation: "WRITE".to_owned() };

        store.plan(Fault::new(Operation::Put, "_delta_log", lie).times(100));
        // The looks before the write pass; the store goes down with it.
        store.plan(Fault::new(Operation::Get, "_delta_log", Outcome::FailBefore).after(2).times(100));
        let error = table.commit(commit.clone()).await.unwrap_err();
        assert!(matches!(error, LakeError::Unclear { .. }), "{lie:?}: {error}");

        store.heal();
        let committed = table.commit(commit.clone()).await.unwrap();
        assert_eq!((committed.version, committed.already_there), (2, was_there), "{lie:?}");
        assert!(table.commit(commit).await.unwrap().already_there);
        assert_eq!(number(&session(&stranger(&warehouse)), "SELECT count(*) FROM t").await, 5, "{lie:?}");
    }
}

/// What follows the first append of `p/0`; adds no files.
fn second() -> Commit {
    Commit { app_id: "p/0".to_owned(), app_version: 2, previous_app_version: Some(1), files: vec![], operation: "WRITE".to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclear_commit_is_looked_for_in_the_table() {
    for (lie, is_there) in [(Outcome::FailAfter, true), (Outcome::HangAfter, true), (Outcome::FailBefore, false)] {
        let (store, warehouse) = faulty();
        let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
        append(&table, "p/0", 1, vec![rows(0..3, None)]).await.unwrap();
        let commit = second();
        store.plan(Fault::new(Operation::Put, "_delta_log", lie));
        // The looks before the write pass. The store is back once reading what was written has been given up.
        let tries = impatient().attempts as usize;
        store.plan(Fault::new(Operation::Get, "_delta_log", Outcome::FailBefore).after(2).times(tries));
        let outcome = table.commit(commit).await;
        assert_eq!(store.fired(), 1 + tries, "{lie:?}");
        match outcome {
            Ok(committed) => assert_eq!((is_there, committed.version, committed.already_there), (true, 2, false), "{lie:?}"),
            Err(error) => assert!(!is_there && matches!(error, LakeError::Unclear { .. }), "{lie:?}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_lost_to_another_writer_is_followed_by_ours() {
    let (store, warehouse) = faulty();
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    append(&table, "p/0", 1, vec![rows(0..1, None)]).await.unwrap();
    let other = stranger(&warehouse).table(&name("s.t")).await.unwrap();
    // Ours hangs before it is written; the other one takes the version meanwhile.
    store.plan(Fault::new(Operation::Put, "_delta_log", Outcome::HangBefore));
    let ours = tokio::spawn({
        let table = table.clone();
        async move { append(&table, "p/0", 2, vec![rows(1..2, None)]).await }
    });
    while store.fired() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(append(&other, "q/0", 1, vec![rows(2..3, None)]).await.unwrap().version, 2);
    store.release();
    assert_eq!(ours.await.unwrap().unwrap().version, 3);
    assert_eq!(number(&session(&warehouse), "SELECT count(DISTINCT id) FROM t").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_in_the_middle_of_a_commit_is_noticed() {
    for made_anew in [false, true] {
        let (store, warehouse) = faulty();
        let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
        append(&table, "p/0", 1, vec![rows(0..1, None)]).await.unwrap();
        let commit = second();
        store.plan(Fault::new(Operation::Put, "_delta_log", Outcome::HangBefore));
        let ours = tokio::spawn({
            let table = table.clone();
            async move { table.commit(commit).await }
        });
        while store.fired() == 0 {
            tokio::task::yield_now().await;
        }
        let other = stranger(&warehouse);
        other.drop_table(&name("s.t")).await.unwrap();
        if made_anew {
            other.create_table(&name("s.t"), schema(), &[]).await.unwrap();
        }
        store.release();
        let error = ours.await.unwrap().unwrap_err();
        assert!(matches!(error, LakeError::TableReplaced { .. }), "{error}");
        // Nothing of ours is left for the next table of that name to run into.
        let anew = other.create_table(&name("s.t"), schema(), &[]).await.unwrap();
        for version in 1..4 {
            assert_eq!(append(&anew, "p/0", version, vec![rows(0..1, None)]).await.unwrap().version, version);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_files_are_uploaded_in_the_end() {
    let (store, warehouse) = faulty();
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    store.plan(Fault::new(Operation::Put, "part-p0-", Outcome::FailBefore));
    store.plan(Fault::new(Operation::Put, "part-p0-", Outcome::HangAfter));
    append(&table, "p/0", 1, vec![rows(0..3, None)]).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(store.fired(), 2);
    store.plan(Fault::new(Operation::Put, "part-p0-", Outcome::FailBefore).times(100));
    let error = append(&table, "p/0", 2, vec![rows(3..5, None)]).await.unwrap_err();
    assert!(matches!(error, LakeError::Store { operation: "write", .. }), "{error}");
    assert_eq!(number(&session(&warehouse), "SELECT count(*) FROM t").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_read_is_no_missing_table() {
    let (store, warehouse) = faulty();
    warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    let other = stranger(&warehouse);
    for operation in [Operation::Get, Operation::List] {
        store.plan(Fault::new(operation, "_delta_log", Outcome::FailBefore).times(1000));
        let error = other.table(&name("s.t")).await.unwrap_err();
        assert!(!matches!(error, LakeError::NoSuchTable(_)), "{operation:?}: {error}");
        store.heal();
    }
    assert!(matches!(other.table(&name("s.u")).await, Err(LakeError::NoSuchTable(_))));
    // One failure on the way is nothing to speak of, in our own reads and in those of delta-rs.
    for operation in [Operation::Get, Operation::List] {
        store.plan(Fault::new(operation, "_delta_log", Outcome::FailBefore));
        store.plan(Fault::new(operation, "_delta_log", Outcome::HangBefore));
    }
    let before = store.fired();
    stranger(&warehouse).table(&name("s.t")).await.unwrap();
    assert_eq!(store.fired(), before + 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_overwrites_is_refused() {
    let (store, warehouse) = faulty();
    warehouse.check_conditional_writes().await.unwrap();
    store.plan(Fault::new(Operation::Put, "probe", Outcome::IgnoreCondition).times(2));
    let error = warehouse.check_conditional_writes().await.unwrap_err();
    assert!(matches!(error, LakeError::NotConditional { .. }), "{error}");
    assert_eq!(store.fired(), 2);
    // The probes are gone.
    assert!(warehouse.tables().await.unwrap().is_empty());
    let left = futures::StreamExt::count(warehouse.store().list(None)).await;
    assert_eq!(left, 0);
}

//! The warehouse around the tables: names, drops that were cut short, applied definitions.

use std::collections::HashMap;

use watershed_lake::faults::{Fault, Operation, Outcome};
use watershed_lake::{Definition, Definitions, LakeError, TableName, Warehouse};

use crate::support::{append, faulty, local, name, number, rows, schema, session, stranger};

fn definition(name: &str) -> Definition {
    Definition { name: name.to_owned(), kind: "source".to_owned(), sql: format!("CREATE SOURCE {name} (id BIGINT)") }
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_have_one_history() {
    let (_folder, warehouse) = local().await;
    let none = warehouse.definitions().await.unwrap();
    assert_eq!(none, Definitions::default());
    let first = warehouse.save_definitions(&none, vec![definition("rides")]).await.unwrap();
    assert_eq!(warehouse.definitions().await.unwrap(), first);
    let second = stranger(&warehouse).save_definitions(&first, vec![definition("rides"), definition("clicks")]).await.unwrap();
    let error = warehouse.save_definitions(&first, vec![definition("late")]).await.unwrap_err();
    assert!(matches!(error, LakeError::DefinitionsChanged { expected: 1, found: 2 }), "{error}");
    assert_eq!(warehouse.definitions().await.unwrap(), second);
    assert_eq!(second.items.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_that_was_cut_short_leaves_no_table() {
    // After each number of removals.
    for removed in 0..6 {
        let (store, warehouse) = faulty();
        let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
        for version in 0..3 {
            append(&table, "p/0", version, vec![rows(0..5, None)]).await.unwrap();
        }
        let id = table.id().to_owned();
        store.plan(Fault::new(Operation::Delete, "s/t", Outcome::FailBefore).after(removed).times(1000));
        warehouse.drop_table(&name("s.t")).await.unwrap_err();
        assert!(store.fired() > 0);
        store.heal();
        if removed == 0 {
            assert_eq!(warehouse.table(&name("s.t")).await.unwrap().id(), id);
            continue;
        }
        assert!(matches!(warehouse.table(&name("s.t")).await, Err(LakeError::NoSuchTable(_))), "{removed}");
        assert!(warehouse.tables().await.unwrap().is_empty());
        let anew = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
        assert_ne!(anew.id(), id);
        append(&anew, "p/0", 0, vec![rows(0..2, None)]).await.unwrap();
        assert_eq!(number(&session(&warehouse), "SELECT count(*) FROM t").await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_opened_again() {
    let (folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    append(&table, "p/0", 1, vec![rows(0..3, None)]).await.unwrap();
    for url in [folder.path().to_str().unwrap().to_owned(), warehouse.url().to_string()] {
        let again = Warehouse::open(&url, &HashMap::new()).await.unwrap();
        assert_eq!(again.url(), warehouse.url());
        assert_eq!(again.tables().await.unwrap(), vec![name("s.t")]);
        assert_eq!(number(&session(&again), "SELECT count(*) FROM t").await, 3);
    }
    // Nothing is left of the probe after opening.
    assert!(!folder.path().join("_watershed/probe").exists());
    let blocked = folder.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let error = Warehouse::open(blocked.join("below").to_str().unwrap(), &HashMap::new()).await.unwrap_err();
    assert!(matches!(error, LakeError::BadWarehouse { .. }), "{error}");
    let options = HashMap::from([("aws_colour".to_owned(), "blue".to_owned())]);
    let error = Warehouse::open("s3://bucket/lake", &options).await.unwrap_err().to_string();
    assert!(error.contains("'aws_colour' is not an option of S3"), "{error}");
}

#[test]
fn names_are_folders_anywhere() {
    for bad in ["t", "s.", ".t", "s.t.u", "_s.t", "s.ü", "s.a b", "s.a/b", "s.."] {
        assert!(bad.parse::<TableName>().is_err(), "{bad}");
    }
    assert_eq!(name("silver.city_demand").side("late").to_string(), "silver.city_demand$late");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_its_first_version_is_not_taken_for_the_remains_of_a_drop() {
    let (folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    append(&table, "p/0", 1, vec![rows(0..5, None)]).await.unwrap();
    let files = || walk(folder.path());
    std::fs::remove_file(folder.path().join("s/t/_delta_log/00000000000000000000.json")).unwrap();
    let left = files();
    let error = stranger(&warehouse).create_table(&name("s.t"), schema(), &[]).await.unwrap_err();
    assert!(matches!(error, LakeError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("no drop was begun"), "{error}");
    assert_eq!(files(), left, "nothing was removed");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in found.clone() {
        if path.is_dir() {
            found.extend(walk(&path));
        }
    }
    found.sort();
    found
}

//! Vacuum: what nobody needs any more goes, what anybody may need stays; and the log does not grow without limit.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use watershed_lake::faults::{Fault, Operation, Outcome};
use watershed_lake::{CompactOptions, LakeError, Retention, Table, VacuumOptions, Vacuumed};

use crate::compactions::{compact, everything, live};
use crate::support::{append, faulty, local, name, neighbour, number, prepared, rows, schema, session, stranger};

const HOUR: Duration = Duration::from_secs(3600);

async fn vacuum(table: &Table, retention: Duration, needed: &[String]) -> Result<Vacuumed, LakeError> {
    let needed = needed.iter().cloned().collect::<HashSet<_>>();
    table.vacuum(VacuumOptions { retention, forgotten: true, since_ms: None, needed: &needed, dry_run: false }).await
}

/// The data files there are, however deep.
fn data_files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("_delta_log") {
            found.extend(data_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "parquet") {
            found.push(path.display().to_string());
        }
    }
    found.sort();
    found
}

fn make_old(folder: &Path, age: Duration) {
    for file in data_files(folder) {
        std::fs::File::options().write(true).open(file).unwrap().set_modified(SystemTime::now() - age).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_replaced_goes_after_its_retention() {
    let (folder, warehouse) = local().await;
    let folder = folder.path().join("s/t");
    let table = warehouse.create_table(&name("s.t"), schema(), &["city".to_owned()]).await.unwrap();
    for epoch in 0..6 {
        let city = [Some("São Paulo"), None][epoch as usize % 2];
        append(&table, "p/0", epoch, vec![rows(epoch..epoch + 1, city)]).await.unwrap();
    }
    assert_eq!(compact(&table, &everything()).await.unwrap().files_after, 2);
    // The files are old, but they were replaced just now.
    make_old(&folder, 100 * HOUR);
    assert_eq!(vacuum(&table, HOUR, &[]).await.unwrap().files(), 0);
    assert_eq!(data_files(&folder).len(), 8);

    let nothing = HashSet::new();
    let dry = VacuumOptions { retention: Duration::ZERO, forgotten: true, since_ms: None, needed: &nothing, dry_run: true };
    let told = table.vacuum(dry).await.unwrap();
    assert!(told.replaced == 6 && told.forgotten == 0 && told.bytes > 0, "{told:?}");
    assert_eq!(data_files(&folder).len(), 8);
    // One is still needed, whatever the log says.
    let needed = std::fs::read_to_string(folder.join("_delta_log/00000000000000000001.json")).unwrap();
    let needed = needed.split("\"path\":\"").nth(1).unwrap().split('"').next().unwrap().replace("%25", "%");
    assert_eq!(vacuum(&table, Duration::ZERO, &[needed]).await.unwrap().replaced, 5);
    assert_eq!(data_files(&folder).len(), 3);
    assert_eq!(vacuum(&table, Duration::ZERO, &[]).await.unwrap().replaced, 1);
    assert_eq!(vacuum(&table, Duration::ZERO, &[]).await.unwrap().files(), 0);
    assert_eq!(data_files(&folder).len(), 2);
    for warehouse in [warehouse.clone(), stranger(&warehouse)] {
        assert_eq!(number(&session(&warehouse), "SELECT count(DISTINCT id) FROM t").await, 6);
    }
    // What was there before is reported as missing, not as empty.
    let older = datafusion::prelude::SessionContext::new();
    older.register_table("t", table.provider_at(3).await.unwrap()).unwrap();
    let error = older.sql("SELECT id FROM t").await.unwrap().collect().await.unwrap_err().to_string();
    assert!(error.contains("is gone, which version 3 has"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_forgotten_goes_after_a_day_and_what_is_needed_stays() {
    let (folder, warehouse) = local().await;
    let folder = folder.path().join("s/t");
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    append(&table, "p/0", 1, vec![rows(0..3, None)]).await.unwrap();
    let mut staged = Vec::new();
    for _ in 0..2 {
        let mut writer = table.writer("p");
        writer.write(rows(3..5, None)).await.unwrap();
        staged.extend(writer.finish().await.unwrap());
    }
    std::fs::write(folder.join("notes.txt"), "not ours").unwrap();
    std::fs::create_dir(folder.join("_elsewhere")).unwrap();
    std::fs::write(folder.join("_elsewhere/x.parquet"), "not ours").unwrap();
    // A commit may still come.
    assert_eq!(vacuum(&table, Duration::ZERO, &[]).await.unwrap().files(), 0);
    make_old(&folder, 23 * HOUR);
    assert_eq!(vacuum(&table, Duration::ZERO, &[]).await.unwrap().files(), 0);
    make_old(&folder, 25 * HOUR);
    assert_eq!(vacuum(&table, 30 * HOUR, &[]).await.unwrap().files(), 0);
    let done = vacuum(&table, HOUR, &[staged[0].path.clone()]).await.unwrap();
    assert_eq!((done.replaced, done.forgotten), (0, 1), "one is needed, and the live one is live");
    assert!(folder.join(&staged[0].path).exists() && !folder.join(&staged[1].path).exists());
    assert!(folder.join("notes.txt").exists() && folder.join("_elsewhere/x.parquet").exists());
    assert_eq!(number(&session(&stranger(&warehouse)), "SELECT count(*) FROM t").await, 3);
    // Without looking for them none is found.
    let nothing = HashSet::new();
    let replaced = VacuumOptions { retention: HOUR, forgotten: false, since_ms: None, needed: &nothing, dry_run: false };
    assert_eq!(table.vacuum(replaced).await.unwrap().files(), 0);
    assert!(folder.join(&staged[0].path).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vacuum_goes_on_where_the_last_one_stopped() {
    let (store, warehouse) = faulty();
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    let nothing = HashSet::new();
    let options = |since_ms| VacuumOptions { retention: Duration::ZERO, forgotten: false, since_ms, needed: &nothing, dry_run: false };
    for epoch in 0..4 {
        append(&table, "p/0", epoch, vec![rows(epoch..epoch + 1, None)]).await.unwrap();
    }
    compact(&table, &everything()).await.unwrap();
    // A store that does not delete: later it is made up for.
    store.plan(Fault::new(Operation::Delete, "s/t/part-", Outcome::FailBefore).times(1000));
    assert!(table.vacuum(options(None)).await.unwrap_err().may_pass());
    store.heal();
    let first = table.vacuum(options(None)).await.unwrap();
    assert_eq!(first.replaced, 4);
    tokio::time::sleep(Duration::from_millis(5)).await;
    append(&table, "p/0", 4, vec![rows(4..5, None)]).await.unwrap();
    compact(&table, &everything()).await.unwrap();
    assert_eq!(table.vacuum(options(Some(first.until_ms))).await.unwrap().replaced, 2);
    assert_eq!(number(&session(&stranger(&warehouse)), "SELECT count(*) FROM t").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_remember_what_a_vacuum_has_yet_to_delete() {
    let (folder, warehouse) = local().await;
    let warehouse = warehouse.with_retention(Retention { files: Duration::ZERO, log: HOUR });
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    for epoch in 0..45 {
        append(&table, "p/0", epoch, vec![rows(epoch..epoch + 1, None)]).await.unwrap();
        if epoch == 10 {
            compact(&table, &everything()).await.unwrap();
        }
        table.settle().await;
    }
    let log = folder.path().join("s/t/_delta_log");
    assert!(log.join("00000000000000000040.checkpoint.parquet").exists());
    for version in 0..40 {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    let cold = stranger(&warehouse).table(&name("s.t")).await.unwrap();
    assert_eq!(vacuum(&cold, Duration::ZERO, &[]).await.unwrap().replaced, 11);
    assert_eq!(number(&session(&stranger(&warehouse)), "SELECT count(*) FROM t").await, 45);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_does_not_grow_without_limit() {
    let (folder, warehouse) = local().await;
    let warehouse = warehouse.with_retention(Retention { files: HOUR, log: 2 * HOUR });
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    let log = folder.path().join("s/t/_delta_log");
    let logged = |ending: &str| {
        let names = std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let versions = names.filter_map(|name| name.strip_suffix(ending)?.parse::<i64>().ok());
        let mut versions = versions.collect::<Vec<_>>();
        versions.sort_unstable();
        versions
    };
    for epoch in 0..401 {
        append(&table, "p/0", epoch, vec![]).await.unwrap();
        table.settle().await;
        if epoch == 300 {
            for entry in std::fs::read_dir(&log).unwrap() {
                let (path, name) = (entry.as_ref().unwrap().path(), entry.unwrap().file_name().into_string().unwrap());
                // Up to 110 beyond the retention, the others too old to be read by someone who has just found them.
                let version = name.split('.').next().unwrap().parse::<i64>().unwrap_or(1000);
                let age = if version <= 110 { 3 * HOUR } else { HOUR + HOUR / 2 };
                std::fs::File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
            }
        }
    }
    // The newest checkpoint within reach of the retention begins the log; of those above it only fresh ones are kept.
    assert_eq!(logged(".json"), (100..=401).collect::<Vec<_>>());
    assert_eq!(logged(".checkpoint.parquet"), [100, 320, 340, 360, 380, 400]);
    let cold = stranger(&warehouse).table(&name("s.t")).await.unwrap();
    assert_eq!((cold.version(), cold.transaction_version("p/0").await.unwrap()), (401, Some(400)));
    // Every version that is left can be read.
    for version in [100, 101, 250, 399] {
        cold.provider_at(version).await.unwrap();
    }
    assert!(cold.provider_at(99).await.is_err());
}

/// Any interleaving of appends, compactions, refreshes and vacuums keeps the rows, for handles old and new and for delta-rs.
#[tokio::test(flavor = "multi_thread")]
async fn random_interleavings_keep_the_rows() {
    for seed in 1..=6_u64 {
        let (folder, warehouse) = local().await;
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut below = |limit: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % limit
        };
        let partitioned_by = if seed % 2 == 0 { vec!["city".to_owned()] } else { vec![] };
        let table = warehouse.create_table(&name("s.t"), schema(), &partitioned_by).await.unwrap();
        // A second process works on the table, too.
        let other = neighbour(&warehouse).table(&name("s.t")).await.unwrap();
        let (mut expected, mut next_id, mut epoch, mut counts) = (Vec::<i64>::new(), 0, 0, BTreeMap::<&str, u64>::new());
        for step in 0..120 {
            let table = if below(2) == 0 { &table } else { &other };
            let what = match below(10) {
                0..=5 => {
                    let count = 1 + below(4) as i64;
                    let city = [Some("Graz"), Some("Wien"), None][below(3) as usize];
                    append(table, "p/0", epoch, vec![rows(next_id..next_id + count, city)]).await.unwrap();
                    expected.extend(next_id..next_id + count);
                    (next_id, epoch) = (next_id + count, epoch + 1);
                    "append"
                }
                6 | 7 => {
                    let options =
                        CompactOptions { files_min: 2 + below(3) as usize, everything: below(3) == 0, ..CompactOptions::default() };
                    if compact(table, &options).await.unwrap().commits > 0 { "compaction" } else { "idle compaction" }
                }
                8 => {
                    expected = (next_id..next_id + 5).collect();
                    next_id += 5;
                    let overwrite = prepared(table, "job", vec![rows(expected[0]..next_id, Some("Linz"))]).await;
                    table.overwrite(overwrite).await.unwrap();
                    "refresh"
                }
                _ => {
                    vacuum(table, Duration::ZERO, &[]).await.unwrap();
                    "vacuum"
                }
            };
            *counts.entry(what).or_default() += 1;
            let readers = if step % 10 == 9 { vec![warehouse.clone(), neighbour(&warehouse)] } else { vec![warehouse.clone()] };
            for reader in readers {
                let seen = session(&reader).sql("SELECT id FROM t ORDER BY id").await.unwrap().collect().await.unwrap();
                let ids = seen.iter().flat_map(|batch| {
                    use arrow::array::AsArray;
                    batch.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
                });
                assert_eq!(ids.collect::<Vec<_>>(), expected, "seed {seed}, step {step}: {what}");
            }
        }
        table.settle().await;
        other.settle().await;
        vacuum(&table, Duration::ZERO, &[]).await.unwrap();
        // What is there is what is live, also in the eyes of delta-rs.
        let live = live(&warehouse).await;
        assert_eq!(data_files(&folder.path().join("s/t")).len(), live.len(), "seed {seed}");
        assert_eq!(live.iter().map(|file| file.stats["numRecords"].as_i64().unwrap()).sum::<i64>(), expected.len() as i64);
        assert!(
            ["append", "compaction", "refresh", "vacuum"].iter().all(|what| counts.get(what).is_some_and(|count| *count > 2)),
            "{counts:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_asks_for_longer_gets_longer() {
    for (property, vacuumed) in [("interval 30 days", 0), ("interval 1 hour", 4), ("INTERVAL 1 week 4 days", 0), ("for ever", 0)] {
        let (folder, warehouse) = local().await;
        let folder = folder.path().join("s/t");
        let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
        for epoch in 0..4 {
            append(&table, "p/0", epoch, vec![rows(epoch..epoch + 1, None)]).await.unwrap();
        }
        compact(&table, &everything()).await.unwrap();
        make_old(&folder, 1000 * HOUR);
        let log = |version: i64| folder.join(format!("_delta_log/{version:020}.json"));
        // Its removals were ten days ago.
        let ten_days_ago = (SystemTime::now() - 240 * HOUR).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
        let lines = std::fs::read_to_string(log(5)).unwrap();
        let lines = lines.lines().map(|line| {
            let mut action: serde_json::Value = serde_json::from_str(line).unwrap();
            if action.get("remove").is_some() {
                action["remove"]["deletionTimestamp"] = ten_days_ago.into();
            }
            format!("{action}\n")
        });
        std::fs::write(log(5), lines.collect::<String>()).unwrap();
        let first = std::fs::read_to_string(log(0)).unwrap();
        let metadata = first.lines().find(|line| line.contains("metaData")).unwrap();
        let mut metadata: serde_json::Value = serde_json::from_str(metadata).unwrap();
        metadata["metaData"]["configuration"]["delta.deletedFileRetentionDuration"] = property.into();

        // A handle that is open hears of it as well as one that is opened later.
        let table = stranger(&warehouse).table(&name("s.t")).await.unwrap();
        assert_eq!(vacuum(&table, 480 * HOUR, &[]).await.unwrap().files(), 0);
        std::fs::write(log(6), format!("{metadata}\n")).unwrap();
        for table in [table, stranger(&warehouse).table(&name("s.t")).await.unwrap()] {
            let nothing = HashSet::new();
            let options = VacuumOptions { retention: HOUR, forgotten: true, since_ms: None, needed: &nothing, dry_run: true };
            let told = table.vacuum(options).await.unwrap();
            assert_eq!(told.replaced, vacuumed, "{property}");
            assert_eq!(told.skipped.is_some(), property == "for ever", "{told:?}");
        }
    }
}

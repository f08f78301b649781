//! Compaction and vacuum beside pipelines: killed at every step, by hand, and after a long pause; the tables equal those of an
//! undisturbed run, for every reader.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::disturbed::committed;
use crate::exactly_once::{check_equal, produce};
use crate::http::try_get;
use crate::input::{CHUNKS, PARTITIONS};
use crate::kafka::Kafka;
use crate::project::{Project, TABLES};
use crate::readers;
use crate::serving::python;
use crate::table::DeltaTable;
use crate::tools::free_port;
use crate::watershed::{LIMIT, Watershed};

/// Whatever is small is merged at once, and what was replaced is deleted at once.
fn upkept(run: Watershed) -> Watershed {
    run.env("WATERSHED_LAKE_COMPACT_FILES", "2").env("WATERSHED_LAKE_VACUUM_RETENTION", "0s")
}

/// Small files stay as they are.
fn left_alone(run: Watershed) -> Watershed {
    run.env("WATERSHED_LAKE_COMPACT", "false").env("WATERSHED_LAKE_VACUUM_RETENTION", "")
}

/// Compactions in the logs of all tables.
fn compactions(project: &Project) -> usize {
    let mut found = 0;
    for name in TABLES.iter().filter(|name| DeltaTable::exists(&project.files, name)) {
        let log = project.files.join(name.replacen('.', "/", 1)).join("_delta_log");
        for entry in std::fs::read_dir(log).expect("a log") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|ending| ending == "json") {
                found += usize::from(std::fs::read_to_string(&path).expect("a log file").contains(r#""operation":"OPTIMIZE""#));
            }
        }
    }
    found
}

/// The data files on disk below `folder`.
fn data_files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("_delta_log") {
            found.extend(data_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "parquet") {
            found.insert(path);
        }
    }
    found
}

fn killed_at(step: &str) {
    let kafka = Kafka::shared();
    let topic = format!("killed-at-{step}");
    kafka.create_topic(&topic, PARTITIONS);
    let project = Project::local(kafka.bootstrap(), &topic);
    for chunk in 0..CHUNKS {
        produce(kafka, &topic, chunk);
        if chunk == 0 {
            // Files for the next rounds to merge.
            left_alone(project.stream_to_end(false)).succeeds();
            continue;
        }
        // It goes on until the step kills it: in a compaction each time at another table.
        let times = if step.starts_with("vacuum") { 0 } else { chunk - 1 };
        upkept(project.stream()).killed_at(step, times).run().died_at(step);
        upkept(project.stream_to_end(chunk == CHUNKS - 1)).succeeds();
    }
    assert!(compactions(&project) >= CHUNKS - 1, "hardly anything was merged");
    check_equal(&project);
}

#[test]
fn killed_when_merged_files_are_staged() {
    killed_at("compaction_staged");
}

#[test]
fn killed_when_a_compaction_is_committed() {
    killed_at("compaction_committed");
}

#[test]
fn killed_before_a_vacuum_deletes() {
    killed_at("vacuum_begins");
}

#[test]
fn killed_while_a_vacuum_deletes() {
    killed_at("vacuum_deletes");
}

#[test]
fn a_stream_merges_its_small_files_and_says_so() {
    let kafka = Kafka::shared();
    kafka.create_topic("upkeep", PARTITIONS);
    let project = Project::local(kafka.bootstrap(), "upkeep");
    let address = format!("127.0.0.1:{}", free_port());
    let mut stream = upkept(project.stream()).env("WATERSHED_STREAM_HTTP_ADDRESS", &address).start();
    for chunk in 0..CHUNKS {
        produce(kafka, "upkeep", chunk);
        let all = kafka.ends("upkeep").values().sum::<i64>();
        stream.until("all is committed", |_| (committed(&project, "bronze.events") == all).then_some(()));
    }
    let address = address.parse().expect("an address");
    let counter = |metrics: &str, name: &str| -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}\n{metrics}")).parse().expect("a number")
    };
    let metrics = stream.until("files were merged and deleted", |_| {
        let metrics = try_get(address, "/metrics")?.body;
        let merged = counter(&metrics, "watershed_lake_compactions_total") > 3;
        (merged && counter(&metrics, "watershed_lake_vacuumed_files_total") > 0).then_some(metrics)
    });
    let files = ["compacted", "merged"].map(|what| counter(&metrics, &format!("watershed_lake_{what}_files_total")));
    assert!(files[0] >= 2 * files[1], "{files:?}");
    assert!(counter(&metrics, "watershed_lake_compacted_bytes_total") > 0);
    assert_eq!(counter(&metrics, "watershed_lake_upkeep_failures_total"), 0, "{}", stream.output());
    stream.signal(libc::SIGTERM);
    let finished = stream.wait(LIMIT);
    assert!(finished.status.success() && finished.stderr.contains("compacted"), "{}", finished.output());
    project.stream_to_end(true).succeeds();
    check_equal(&project);
}

#[test]
fn by_hand_all_readers_read_the_same_before_and_after() {
    let kafka = Kafka::shared();
    kafka.create_topic("by-hand", PARTITIONS);
    let project = Project::local(kafka.bootstrap(), "by-hand");
    for chunk in 0..CHUNKS {
        produce(kafka, "by-hand", chunk);
        left_alone(project.stream_to_end(chunk == CHUNKS - 1)).succeeds();
    }
    let tables: Vec<&str> = TABLES.into_iter().filter(|name| DeltaTable::exists(&project.files, name)).collect();
    let folders: Vec<PathBuf> = tables.iter().map(|name| project.files.join(name.replacen('.', "/", 1))).collect();
    let read = || readers::read_with_all(&folders.iter().map(PathBuf::as_path).collect::<Vec<_>>());
    let files = || tables.iter().map(|name| project.table(name).files.len()).sum::<usize>();
    let (before, files_before) = (read(), files());

    let said = project.watershed(["compact"]).succeeds();
    assert!(said.contains("bronze.events: ") && said.contains("became"), "{said}");
    assert!(files() < files_before / 2, "{files_before} files became {}\n{said}", files());
    assert_eq!(read(), before);
    let again = project.watershed(["compact", "bronze.events"]).succeeds();
    assert_eq!(again.trim(), "bronze.events: nothing to merge");

    let on_disk = || folders.iter().map(|folder| data_files(folder).len()).sum::<usize>();
    let all = on_disk();
    assert!(all > files());
    // Nothing is old enough, unless one says so.
    project.watershed(["vacuum"]).succeeds();
    let told = project.watershed(["vacuum", "--retention", "0s", "--dry-run"]).succeeds();
    assert!(told.contains("would delete"), "{told}");
    assert_eq!(on_disk(), all);
    let said = project.watershed(["vacuum", "--retention", "0s"]).succeeds();
    assert!(said.contains("deleted"), "{said}");
    assert!(on_disk() < all && on_disk() >= files(), "{} of {all} files are left, {} are live\n{said}", on_disk(), files());
    assert_eq!(read(), before);

    // Pipelines go on over merged files.
    project.stream_to_end(true).succeeds();
    check_equal(&project);
    let wrong = project.watershed(["compact", "bronze.event"]).run();
    assert!(!wrong.status.success() && wrong.stderr.contains("did you mean 'bronze.events'?"), "{}", wrong.output());
}

/// Times as Spark writes them unless it is told otherwise. Other readers take them for nanoseconds of 64 bits.
#[test]
fn by_hand_spark_reads_times_in_int96_as_they_were() {
    let home = crate::tools::folder("int96-");
    let warehouse = home.path().join("warehouse");
    let table = warehouse.join("bronze/times");
    let folder = table.display().to_string();
    python("delta.py", &["int96", &folder]);
    let before = readers::read_with_spark(&[&table]);
    let at = &before[&folder].columns["at"];
    // 1600-07-01 and 9999-07-01, 12:30:15.250001.
    let ends = (Some(serde_json::json!(-11_660_326_184_749_999_i64)), Some(serde_json::json!(253_386_448_215_250_001_i64)));
    assert_eq!((before[&folder].rows, at.distinct, (at.least.clone(), at.greatest.clone())), (6, Some(6), ends));
    let url = warehouse.display().to_string();
    let watershed = |arguments: &[&str]| Watershed::new(arguments.iter().copied().chain(["--warehouse", &url]));
    let asked = || {
        let said = watershed(&["shell", "--output", "csv", "-c", "SELECT number, at FROM bronze.times ORDER BY number"]).succeeds();
        said.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let rows = asked();
    assert_eq!((rows.len(), rows[0].as_str(), rows[5].as_str()), (6, "0,1600-07-01T12:30:15.250001Z", "5,9999-07-01T12:30:15.250001Z"));
    let said = watershed(&["compact", "bronze.times"]).succeeds();
    assert!(said.contains("became"), "{said}");
    assert_eq!(readers::read_with_spark(&[&table]), before);
    assert_eq!(asked(), rows);
}

/// Somebody else's table, or a damaged one: the others are looked after all the same, and the exit code says that not all was done.
#[test]
fn by_hand_the_others_are_merged_beside_a_table_that_cannot_be_read() {
    let folder = crate::tools::folder("unreadable-");
    let (sql, files, warehouse) = (folder.path().join("sql"), folder.path().join("in"), folder.path().join("warehouse"));
    for made in [&sql, &files] {
        std::fs::create_dir(made).expect("a folder");
    }
    let definitions = format!(
        "CREATE SOURCE numbers (n BIGINT) WITH (connector = 'files', path = '{}', format = 'json');
         CREATE STREAMING TABLE bronze.numbers WITH (commit_interval = '20 milliseconds') AS SELECT n FROM numbers;",
        files.display()
    );
    std::fs::write(sql.join("numbers.sql"), definitions).expect("definitions");
    let url = warehouse.display().to_string();
    let watershed = |arguments: &[&str]| Watershed::new(arguments.iter().copied().chain(["--warehouse", &url]));
    watershed(&["apply", &sql.display().to_string(), "--yes"]).succeeds();
    for n in 0..3 {
        std::fs::write(files.join(format!("{n}.json")), format!("{{\"n\":{n}}}\n")).expect("a file");
        left_alone(watershed(&["stream", "--until-caught-up"])).succeeds();
    }
    // Before and after it in the order of names.
    let vector = r#"{"storageType":"u","pathOrInlineDv":"ab^-aqEH.-t@S}K{vb[*k^","offset":4,"sizeInBytes":40,"cardinality":1}"#;
    let add = format!(
        r#"{{"add":{{"path":"part-0.parquet","partitionValues":{{}},"size":1,"modificationTime":1,"dataChange":true,"deletionVector":{vector}}}}}"#
    );
    let schema = r#"{\"type\":\"struct\",\"fields\":[{\"name\":\"n\",\"type\":\"long\",\"nullable\":true,\"metadata\":{}}]}"#;
    let meta = format!(
        r#"{{"metaData":{{"id":"1","format":{{"provider":"parquet","options":{{}}}},"schemaString":"{schema}","partitionColumns":[],"configuration":{{}}}}}}"#
    );
    let protocol = r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors"]}}"#;
    for (name, log) in [("a_damaged", "{\"protocol\": 7".to_owned()), ("vectors", format!("{protocol}\n{meta}\n{add}\n"))] {
        let folder = warehouse.join("bronze").join(name).join("_delta_log");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("00000000000000000000.json"), log).expect("a log");
    }
    // The newest epoch names the third file.
    let damaged = "bronze/a_damaged/_delta_log/00000000000000000000.json' is damaged";
    for (command, said) in
        [(&["compact"][..], "bronze.numbers: 3 files"), (&["vacuum", "--retention", "0s"], "bronze.numbers: deleted 2 replaced")]
    {
        let ended = watershed(command).run();
        assert_eq!(ended.status.code(), Some(1), "{}", ended.output());
        assert!(ended.stdout.contains(said) && ended.stderr.contains(damaged), "{}", ended.output());
        assert!(ended.output().contains("bronze.vectors: left as it is: it uses deletion vectors"), "{}", ended.output());
    }
    let rows = watershed(&["shell", "--output", "csv", "-c", "SELECT sum(n), count(*) FROM bronze.numbers"]).succeeds();
    assert_eq!(rows.lines().last(), Some("3,3"));
}

/// The record was decided, its tables were not committed, and then the pipeline was not started for days: its files look forgotten.
#[test]
fn a_vacuum_spares_what_a_decided_epoch_will_commit() {
    let kafka = Kafka::shared();
    kafka.create_topic("decided", PARTITIONS);
    let project = Project::local(kafka.bootstrap(), "decided");
    // On a slow machine a pipeline may be killed at a record that names no files.
    let mut forgotten = 0;
    for chunk in 0..CHUNKS {
        produce(kafka, "decided", chunk);
        // At first each of the three pipelines writes an opening record, which names no files.
        let times = if chunk == 0 { 3 } else { chunk - 1 };
        left_alone(project.stream()).killed_at("record_written", times).run().died_at("record_written");
        for name in TABLES.iter().filter(|name| DeltaTable::exists(&project.files, name)) {
            let folder = project.files.join(name.replacen('.', "/", 1));
            let files = data_files(&folder);
            forgotten += files.len() - project.table(name).files.len();
            for file in files {
                let open = std::fs::File::options().write(true).open(file).expect("a data file");
                open.set_modified(SystemTime::now() - Duration::from_secs(9 * 86_400)).expect("its time");
            }
        }
        project.watershed(["vacuum", "--retention", "0s"]).succeeds();
    }
    assert!(forgotten > 0, "no file was waiting to be committed");
    left_alone(project.stream_to_end(true)).succeeds();
    check_equal(&project);
    // What no record names is gone after all.
    let said = project.watershed(["vacuum", "--retention", "0s"]).succeeds();
    println!("{said}");
    for name in TABLES.iter().filter(|name| DeltaTable::exists(&project.files, name)) {
        let on_disk = data_files(&project.files.join(name.replacen('.', "/", 1))).len();
        assert_eq!(on_disk, project.table(name).files.len(), "{name}");
    }
}

/// Files per minute would drown the demo; with upkeep there are few at the end of it.
#[test]
fn upkeep_runs_in_the_demo() {
    let folder = crate::tools::folder("upkept-demo-");
    let warehouse = folder.path().join("warehouse").display().to_string();
    let run = Watershed::new(["demo", "--seconds", "20", "--no-prompt", "--warehouse", &warehouse]);
    let run = run.env("HOME", folder.path().display().to_string()).env("WATERSHED_LAKE_COMPACT_FILES", "3");
    let finished = run.start().wait(2 * LIMIT);
    assert!(finished.status.success(), "{}", finished.output());
    assert!(finished.stdout.contains("replaced ones deleted after 10m"), "{}", finished.output());
    assert!(finished.stderr.contains("compacted"), "{}", finished.output());
    let first = Path::new(&warehouse).join("bronze/ride_events/_delta_log/00000000000000000000.json");
    let first = std::fs::read_to_string(first).expect("the first version");
    assert!(first.contains(r#""delta.logRetentionDuration":"interval 3600 seconds""#), "{first}");
    assert!(first.contains(r#""delta.deletedFileRetentionDuration":"interval 4200 seconds""#), "{first}");
}

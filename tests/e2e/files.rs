//! Folders of files as sources: each row once, whatever is killed; files that come later; rows that are none; New York's taxi trips.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::table::DeltaTable;
use crate::tools::{folder, tool};
use crate::watershed::{LIMIT, Watershed};

/// A folder of files, a warehouse, and a pipeline that keeps each row with its place.
struct Folder {
    root: tempfile::TempDir,
    format: &'static str,
}

impl Folder {
    fn new(format: &'static str) -> Self {
        let root = folder("files-");
        std::fs::create_dir(root.path().join("in")).expect("a folder");
        let this = Self { root, format };
        let definitions = format!(
            "CREATE SOURCE things (
                 id BIGINT NOT NULL, at TIMESTAMP NOT NULL, note VARCHAR,
                 file VARCHAR METADATA FROM 'file', row_in_file BIGINT METADATA FROM 'row',
                 WATERMARK FOR at AS at - INTERVAL '10 seconds'
             ) WITH (connector = 'files', path = '{}', format = '{format}', poll_interval = '200 milliseconds');
             CREATE STREAMING TABLE bronze.things WITH (commit_interval = '20 milliseconds') AS SELECT * FROM things;
             CREATE STREAMING TABLE gold.things_by_minute WITH (commit_interval = '20 milliseconds')
             AS SELECT window_start, count(*) AS things, sum(id) AS ids
             FROM TUMBLE(TABLE things, DESCRIPTOR(at), INTERVAL '1 minute') GROUP BY window_start;",
            this.root.path().join("in").display()
        );
        std::fs::create_dir(this.root.path().join("sql")).expect("a folder");
        std::fs::write(this.root.path().join("sql/things.sql"), definitions).expect("written");
        let sql = this.root.path().join("sql").display().to_string();
        Watershed::new(["apply", &sql, "--yes", "--warehouse", &this.warehouse()]).succeeds();
        this
    }

    fn warehouse(&self) -> String {
        self.files().display().to_string()
    }

    fn files(&self) -> PathBuf {
        self.root.path().join("warehouse")
    }

    /// Puts a file there as it should be done: written elsewhere, then moved in.
    fn put(&self, name: &str, text: &str) {
        let (aside, there) = (self.root.path().join("aside"), self.root.path().join("in").join(name));
        std::fs::create_dir_all(there.parent().expect("a parent")).expect("a folder");
        std::fs::write(&aside, text).expect("written");
        std::fs::rename(&aside, there).expect("moved");
    }

    fn stream(&self, more: &[&str]) -> Watershed {
        let warehouse = self.warehouse();
        Watershed::new(["stream", "--warehouse", &warehouse].into_iter().chain(more.iter().copied()))
    }

    fn to_end(&self, drain: bool) -> Watershed {
        if drain { self.stream(&["--until-caught-up", "--drain"]) } else { self.stream(&["--until-caught-up"]) }
    }

    fn rows(&self, table: &str) -> Vec<Map<String, Value>> {
        if DeltaTable::exists(&self.files(), table) { DeltaTable::open(&self.files(), table).objects() } else { Vec::new() }
    }

    /// (file, row, id), which must be there once each.
    fn places(&self) -> BTreeSet<(String, i64, i64)> {
        let rows = self.rows("bronze.things");
        let number = |row: &Map<String, Value>, name: &str| row[name].as_i64().expect("a number");
        let places: BTreeSet<_> = rows
            .iter()
            .map(|row| (row["file"].as_str().expect("file").to_string(), number(row, "row_in_file"), number(row, "id")))
            .collect();
        assert_eq!(places.len(), rows.len(), "a row stands twice in {}", self.format);
        places
    }
}

/// A file of `format` with `count` rows from `first` on, ten of them a minute.
fn text(format: &str, first: u32, count: u32) -> String {
    let mut text = if format == "csv" { "id,at,note\n".to_string() } else { String::new() };
    for id in first..first + count {
        let at = format!("2024-01-{:02}T{:02}:{:02}:{:02}Z", 1 + id / 14_400, id / 600 % 24, id / 10 % 60, id % 10 * 6);
        match format {
            "csv" => text.push_str(&format!("{id},{at},\"a, note\nin {id}\"\n")),
            _ => text.push_str(&format!("{{\"id\":{id},\"at\":\"{at}\",\"note\":\"in {id}\"}}\n")),
        }
    }
    text
}

const FILES: u32 = 6;
/// More than one turn reads, so that epochs end within files.
const ROWS: u32 = 18_000;

#[test]
fn killed_at_every_step_a_folder_is_read_once_all_the_same() {
    for (format, steps) in [
        ("csv", ["barrier_passed", "record_written", "tables_committed"]),
        ("json", ["files_staged", "state_written", "one_table_committed"]),
    ] {
        let folder = Folder::new(format);
        for (round, step) in (0u32..).zip(steps) {
            for file in round * 2..round * 2 + 2 {
                folder.put(&format!("part-{file}.{format}"), &text(format, file * ROWS, ROWS));
            }
            let last = round == 2;
            folder.to_end(last).killed_at(step, usize::from(round > 0)).run().died_at(step);
            folder.to_end(last).succeeds();
        }
        let expected: BTreeSet<_> =
            (0..FILES * ROWS).map(|id| (format!("part-{}.{format}", id / ROWS), i64::from(id % ROWS) + 1, i64::from(id))).collect();
        assert!(folder.places() == expected, "{format}: {} rows, {} expected", folder.places().len(), expected.len());

        let mut minutes: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for row in folder.rows("gold.things_by_minute") {
            let of = (row["things"].as_i64().expect("a count"), row["ids"].as_i64().expect("a sum"));
            assert!(minutes.insert(row["window_start"].to_string(), of).is_none(), "{format}: a minute stands twice");
        }
        assert_eq!(minutes.len() as u32, FILES * ROWS / 10, "{format}");
        assert!(minutes.values().all(|(things, _)| *things == 10), "{format}");
        assert_eq!(minutes.values().map(|(_, ids)| ids).sum::<i64>(), (0..i64::from(FILES * ROWS)).sum::<i64>());
        assert!(folder.rows("gold.things_by_minute$late").is_empty());
    }
}

#[test]
fn files_that_come_while_it_runs_are_read_and_bad_rows_set_aside_with_their_place() {
    let folder = Folder::new("csv");
    folder.put("b.csv", &text("csv", 0, 10));
    let mut running = folder.stream(&[]).start();
    running.until("the first file is read", |_| (folder.places().len() == 10).then_some(()));
    // Its name comes before that of the file that was read already.
    folder.put(
        "a/later.csv",
        "note,at,id\nfine,2024-01-01 00:00:00,100\nbad,2024-01-01 00:00:00,hundred\nshort,1\nfine,2024-01-01 00:00:01,101\n",
    );
    folder.put("_not_ready.csv", &text("csv", 900, 10));
    running.until("the later file is read", |_| (folder.places().len() == 12).then_some(()));
    running.signal(libc::SIGTERM);
    let finished = running.wait(LIMIT);
    assert!(finished.status.success(), "{}", finished.output());

    let later: Vec<_> = folder.places().into_iter().filter(|(file, ..)| file == "a/later.csv").collect();
    assert_eq!(later, [("a/later.csv".to_string(), 1, 100), ("a/later.csv".to_string(), 4, 101)]);
    let bad: BTreeSet<_> = folder
        .rows("bronze.things$quarantine")
        .iter()
        .filter(|row| row["pipeline"] == "bronze.things")
        .map(|row| (row["topic"].as_str().expect("topic").to_string(), row["offset"].as_i64().expect("offset")))
        .collect();
    assert_eq!(bad, BTreeSet::from([("a/later.csv".to_string(), 2), ("a/later.csv".to_string(), 3)]));
    let reasons: Vec<_> = folder.rows("bronze.things$quarantine").iter().map(|row| row["reason"].to_string()).collect();
    assert!(reasons.iter().any(|reason| reason.contains("'hundred' is no BIGINT")), "{reasons:?}");

    // A file that was read may go, but not change.
    std::fs::remove_file(folder.root.path().join("in/b.csv")).expect("removed");
    folder.to_end(false).succeeds();
    assert_eq!(folder.places().len(), 12);
    folder.put("a/later.csv", "note,at,id\nother,2024-01-01 00:00:00,100\n");
    let refused = folder.to_end(false).run();
    assert_eq!(refused.status.code(), Some(1), "{}", refused.output());
    assert!(refused.stderr.contains("'a/later.csv' has changed since it was first seen"), "{}", refused.output());
    assert_eq!(folder.places().len(), 12);
}

/// Runs the documented command.
fn load_taxi(trips: &Path, warehouse: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("sh");
    command.arg(root.join("examples/nyc_taxi/load.sh")).arg(trips).arg(warehouse);
    let output =
        command.env("WATERSHED", env!("CARGO_BIN_EXE_watershed")).current_dir(env!("CARGO_TARGET_TMPDIR")).output().expect("sh runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn new_yorks_taxi_trips_load_by_the_documented_command() {
    let folder = folder("taxi-");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/yellow_tripdata_2024-01.csv");
    let (csv, parquet) = (folder.path().join("csv"), folder.path().join("parquet"));
    std::fs::create_dir(&csv).and_then(|()| std::fs::create_dir(&parquet)).expect("folders");
    std::fs::copy(&sample, csv.join("yellow_tripdata_2024-01.csv")).expect("copied");
    // As published: typed by another program, without the rows that are none.
    let script = "import sys, pyarrow.csv as c, pyarrow.parquet as p\n\
        skip = c.ParseOptions(invalid_row_handler=lambda row: 'skip')\n\
        nulls = c.ConvertOptions(strings_can_be_null=True)\n\
        t = c.read_csv(sys.argv[1], parse_options=skip, convert_options=nulls)\n\
        i = [n for n, v in enumerate(t['tpep_pickup_datetime'].to_pylist()) if 'xx' not in str(v)]\n\
        t = t.take(i)\n\
        for n in ('tpep_pickup_datetime', 'tpep_dropoff_datetime'):\n\
        \x20   t = t.set_column(t.column_names.index(n), n, t[n].cast('timestamp[us]'))\n\
        p.write_table(t, sys.argv[2], row_group_size=20)";
    let made = Command::new(tool("python").join("bin/python"))
        .args(["-c", script])
        .arg(&sample)
        .arg(parquet.join("yellow_tripdata_2024-01.parquet"))
        .output()
        .expect("Python runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let mut trips = Vec::new();
    for (trip_folder, bad) in [(&csv, 2), (&parquet, 0)] {
        let warehouse = trip_folder.with_extension("warehouse");
        load_taxi(trip_folder, &warehouse);
        // Again: nothing is read twice.
        load_taxi(trip_folder, &warehouse);
        let mut rows = DeltaTable::open(&warehouse, "bronze.yellow_trips").objects();
        assert_eq!(rows.len(), 61, "{}", trip_folder.display());
        let places: BTreeSet<_> = rows.iter().map(|row| row["row_in_file"].as_i64()).collect();
        assert_eq!(places.len(), 61);
        let set_aside = DeltaTable::open(&warehouse, "bronze.yellow_trips$quarantine").objects();
        assert_eq!(set_aside.iter().filter(|row| row["pipeline"] == "bronze.yellow_trips").count(), bad, "{set_aside:?}");
        rows.iter_mut().for_each(|row| {
            row.remove("file");
            row.remove("row_in_file");
        });
        let mut rows: Vec<String> = rows.into_iter().map(|row| Value::Object(row).to_string()).collect();
        rows.sort_unstable();
        trips.push(rows);
        // The clock that was wrong by fifteen years.
        assert_eq!(DeltaTable::open(&warehouse, "gold.yellow_by_hour$late").count(), 1);
    }
    assert!(trips[0] == trips[1], "CSV and Parquet give other trips: {:?}", trips[0].iter().zip(&trips[1]).find(|(a, b)| a != b));
}

#[test]
fn a_folder_that_is_not_there_is_said_so_and_tried_again() {
    let folder = Folder::new("csv");
    std::fs::remove_dir(folder.root.path().join("in")).expect("removed");
    let mut running = folder.to_end(false).start();
    running.until("it says so", |run| run.output().contains("there is no folder").then_some(()));
    std::fs::create_dir(folder.root.path().join("in")).expect("a folder");
    folder.put("x.csv", &text("csv", 0, 5));
    let finished = running.wait(Duration::from_secs(60));
    assert!(finished.status.success(), "{}", finished.output());
    assert_eq!(folder.places().len(), 5);
}

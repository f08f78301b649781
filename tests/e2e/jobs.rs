//! Jobs through the binary: kill -9 around the commit and run again, the scheduler as its own process, the MapReduce example.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::dashboard::address_said;
use crate::http;
use crate::readers;
use crate::serving::url_in;
use crate::table::DeltaTable;
use crate::tools::folder;
use crate::watershed::Watershed;

const BOOKS: &str = "\
CREATE MATERIALIZED VIEW gold.copies SCHEDULE EVERY 1 DAY
AS SELECT book, sum(copies) AS copies FROM (VALUES ('A', 2), ('B', 8), ('A', 1)) AS t (book, copies) GROUP BY book;
CREATE MATERIALIZED VIEW gold.best TRIGGER ON UPDATE
AS SELECT book, copies FROM gold.copies ORDER BY copies DESC LIMIT 1;";

/// A warehouse with views and nothing else: jobs need no Kafka.
struct Jobs {
    folder: tempfile::TempDir,
    files: PathBuf,
}

impl Jobs {
    fn applied(definitions: &str) -> Self {
        let folder = folder("jobs-");
        let files = folder.path().join("warehouse");
        let jobs = Self { folder, files };
        jobs.apply(definitions);
        jobs
    }

    fn apply(&self, definitions: &str) -> String {
        let sql = self.folder.path().join("sql");
        std::fs::create_dir_all(&sql).expect("a folder");
        std::fs::write(sql.join("jobs.sql"), definitions).expect("definitions");
        self.watershed(["apply", &sql.display().to_string(), "--yes"]).succeeds()
    }

    fn watershed<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Watershed {
        let warehouse = self.files.display().to_string();
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).chain(["--warehouse".to_owned(), warehouse]).collect();
        Watershed::new(arguments)
    }

    fn copies(&self) -> Vec<(String, i64)> {
        let text = |row: &serde_json::Map<String, Value>| {
            (row["book"].as_str().expect("book").to_owned(), row["copies"].as_i64().expect("copies"))
        };
        let mut rows: Vec<_> = DeltaTable::open(&self.files, "gold.copies").objects().iter().map(text).collect();
        rows.sort();
        rows
    }

    /// Rows of a query as JSON.
    fn query(&self, sql: &str) -> Vec<Value> {
        let text = self.watershed(["shell", "-c", sql, "--output", "json"]).succeeds();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    fn runs(&self) -> Vec<(String, String)> {
        let rows = self.query("SELECT job, status FROM system.job_runs ORDER BY run_id");
        let text = |row: &Value, column: &str| row[column].as_str().expect("text").to_owned();
        rows.iter().map(|row| (text(row, "job"), text(row, "status"))).collect()
    }
}

fn sold(pairs: &[(&str, i64)]) -> Vec<(String, i64)> {
    pairs.iter().map(|(book, copies)| ((*book).to_owned(), *copies)).collect()
}

fn job_killed_at(step: &str, committed: bool) {
    let jobs = Jobs::applied(BOOKS);
    let version = |jobs: &Jobs| DeltaTable::open(&jobs.files, "gold.copies").version;
    assert_eq!((version(&jobs), jobs.copies()), (0, vec![]));
    // When the view is empty, and when it has rows.
    for (round, expected) in [(1, if committed { 1 } else { 0 }), (2, if committed { 3 } else { 2 })] {
        jobs.watershed(["run", "gold.copies"]).killed_at(step, 0).run().died_at(step);
        assert_eq!(version(&jobs), expected, "round {round}");
        let whole = committed || round == 2;
        assert_eq!(jobs.copies(), if whole { sold(&[("A", 3), ("B", 8)]) } else { vec![] }, "round {round}");
        let said = jobs.watershed(["run", "gold.copies"]).succeeds();
        assert!(said.contains("2 rows") && said.contains(&format!("version {}", expected + 1)), "{said}");
        assert_eq!(jobs.copies(), sold(&[("A", 3), ("B", 8)]), "round {round}");
        if round == 1 && !committed {
            // Level with the other case: the second round starts from two refreshes.
            jobs.watershed(["run", "gold.copies"]).succeeds();
        }
    }
    let transactions = DeltaTable::open(&jobs.files, "gold.copies").transactions;
    assert!(transactions.iter().all(|(id, _)| id == "job/gold.copies"), "{transactions:?}");
    assert_eq!(transactions.last().map(|(_, version)| *version), Some(version(&jobs)), "one transaction a version");
    let statuses: Vec<String> = jobs.runs().into_iter().map(|(_, status)| status).collect();
    let lost = if step == "run_recorded" { 0 } else { 2 };
    assert_eq!(statuses.iter().filter(|status| *status == "lost").count(), lost, "{statuses:?}");
    assert!(statuses.iter().all(|status| status == "lost" || status == "succeeded"), "{statuses:?}");
}

#[test]
fn a_job_killed_when_its_files_are_staged() {
    job_killed_at("refresh_staged", false);
}

#[test]
fn a_job_killed_when_it_is_committed() {
    job_killed_at("refresh_committed", true);
}

#[test]
fn a_job_killed_when_its_run_is_recorded() {
    job_killed_at("run_recorded", true);
}

#[test]
fn jobs_run_by_hand_in_order_and_say_what_they_did() {
    let jobs = Jobs::applied(BOOKS);
    let said = jobs.watershed(["run", "best", "--upstream"]).succeeds();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("gold.copies: 2 rows,"), "{said}");
    assert!(lines[1].starts_with("gold.best: 1 row,") && lines[1].contains("read gold.copies@1"), "{said}");
    let runs = jobs.query(
        "SELECT job, trigger, status, rows, bytes > 0 AS bytes, read, written, attempts, error FROM system.job_runs ORDER BY run_id",
    );
    assert_eq!(runs[1]["read"], "gold.copies@1");
    assert_eq!((&runs[0]["trigger"], &runs[1]["trigger"]), (&Value::from("downstream"), &Value::from("manual")));
    assert_eq!((&runs[1]["rows"], &runs[1]["written"], &runs[1]["bytes"]), (&Value::from(1), &Value::from(1), &Value::from(true)));
    let shown = jobs.watershed(["shell", "-c", "SHOW JOBS"]).succeeds();
    assert!(shown.contains("gold.best") && shown.contains("on update") && shown.contains("succeeded"), "{shown}");
    let status = jobs.watershed(["status"]).succeeds();
    assert!(status.contains("2 materialized views") && status.contains("gold.copies"), "{status}");

    let near = jobs.watershed(["run", "gold.bset"]).run();
    assert_eq!(near.status.code(), Some(1));
    assert!(near.stderr.contains("did you mean 'gold.best'?"), "{}", near.output());
}

#[test]
fn apply_shows_changes_and_refuses_to_lose_columns_unasked() {
    let jobs = Jobs::applied(BOOKS);
    jobs.watershed(["run", "copies"]).succeeds();
    let sql = jobs.folder.path().join("sql").display().to_string();
    let said = jobs.apply(&BOOKS.replace("EVERY 1 DAY", "EVERY 1 HOUR"));
    assert!(said.contains("~ materialized view gold.copies  (schedule and settings only)"), "{said}");
    let wider = BOOKS.replace("AS SELECT book, sum(copies)", "AS SELECT count(*) AS sales, book, sum(copies)");
    std::fs::write(jobs.folder.path().join("sql/jobs.sql"), &wider).expect("definitions");
    let refused = jobs.watershed(["apply", &sql, "--yes"]).run();
    assert!(refused.stderr.contains("--rebuild") && refused.status.code() == Some(1), "{}", refused.output());
    assert_eq!(jobs.copies().len(), 2);
    jobs.watershed(["apply", &sql, "--yes", "--rebuild"]).succeeds();
    assert_eq!(jobs.runs(), [], "the runs of the old table are gone with it");
    jobs.watershed(["run", "copies"]).succeeds();
    assert_eq!(jobs.copies(), sold(&[("A", 3), ("B", 8)]));

    let said = jobs.apply("CREATE MATERIALIZED VIEW gold.other AS SELECT 1 AS one;");
    assert!(said.contains("- materialized view gold.copies") && said.contains("+ materialized view gold.other"), "{said}");
    jobs.watershed(["drop", "gold.copies", "--yes"]).succeeds();
    assert!(!jobs.query("SELECT table_name FROM information_schema.tables").iter().any(|row| row["table_name"] == "copies"));
}

#[test]
fn the_scheduler_is_a_process_of_its_own() {
    let jobs = Jobs::applied(BOOKS);
    let mut batch = jobs.watershed(["batch"]).start();
    batch.until("both views", |run| run.output().contains("gold.best: 1 row").then_some(()));
    // Killed without warning and started again: nothing is due, so nothing is done again.
    batch.kill();
    let before = jobs.runs();
    assert_eq!(before.len(), 2, "{before:?}");
    let mut batch = jobs.watershed(["batch", "--http-address", "127.0.0.1:0"]).start();
    let address = address_said(&mut batch);
    jobs.watershed(["run", "gold.copies"]).succeeds();
    batch.until("the follower", |run| run.output().contains("gold.best: 1 row").then_some(()));
    // Counters are of this process, the rest comes from the records of all processes.
    assert_eq!(http::get(address, "/readyz").status, 200);
    let lines = ["runs_total{job=\"gold.best\",outcome=\"succeeded\"} 1", "runs_total{job=\"gold.copies\",outcome=\"succeeded\"} 0"];
    let records = ["last_rows{job=\"gold.copies\"} 2", "last_rows{job=\"gold.best\"} 1"];
    batch.until("metrics of both jobs", |_| {
        let metrics = http::try_get(address, "/metrics")?.body;
        let told = |line: &&str| metrics.lines().any(|found| found.strip_prefix("watershed_job_") == Some(*line));
        (lines.iter().all(told) && records.iter().all(told)).then_some(())
    });
    assert_eq!(http::get(address, "/sql?q=SELECT+1").status, 404, "a scheduler serves no tables");
    assert!(!batch.output().contains("gold.copies: "), "{}", batch.output());
    batch.signal(libc::SIGTERM);
    let ended = batch.wait(crate::watershed::LIMIT);
    assert!(ended.status.success(), "{}", ended.output());
    assert_eq!(jobs.runs().len(), 4);
}

#[test]
fn a_run_cut_off_in_the_scheduler_is_made_up_for_at_the_next_start() {
    let jobs = Jobs::applied(BOOKS);
    jobs.watershed(["batch"]).killed_at("refresh_committed", 0).run().died_at("refresh_committed");
    let mut batch = jobs.watershed(["batch"]).start();
    batch.until("both views", |run| run.output().contains("gold.best: 1 row").then_some(()));
    batch.signal(libc::SIGTERM);
    assert!(batch.wait(crate::watershed::LIMIT).status.success());
    assert_eq!(jobs.copies(), sold(&[("A", 3), ("B", 8)]));
    assert_eq!(DeltaTable::open(&jobs.files, "gold.copies").version, 2);
}

#[test]
fn rows_of_a_view_are_held_to_its_constraints_and_counted() {
    let held = |few: &str| {
        format!(
            "CREATE MATERIALIZED VIEW gold.copies (
                 CONSTRAINT sold EXPECT (copies > 0) ON VIOLATION DROP ROW,
                 CONSTRAINT few EXPECT (copies < 5) ON VIOLATION {few}
             ) SCHEDULE EVERY 1 DAY
             AS SELECT book, sum(copies) AS copies FROM (VALUES ('A', 2), ('B', 8), ('A', 1), ('C', -1)) AS t (book, copies) GROUP BY book;"
        )
    };
    let jobs = Jobs::applied(&held("WARN"));
    let counted = |jobs: &Jobs| {
        let rows =
            jobs.query("SELECT \"constraint\", passed, failed, epoch, last_failed IS NOT NULL AS seen FROM system.quality ORDER BY 1");
        rows.iter().map(Value::to_string).collect::<Vec<_>>()
    };
    assert!(counted(&jobs).is_empty(), "nothing was refreshed yet");
    // Cut off after its commit, then made again: each refresh is counted for itself.
    jobs.watershed(["run", "copies"]).killed_at("refresh_committed", 0).run().died_at("refresh_committed");
    jobs.watershed(["run", "copies"]).succeeds();
    assert_eq!(jobs.copies(), sold(&[("A", 3), ("B", 8)]));
    let expected = [
        r#"{"constraint":"few","passed":2,"failed":1,"epoch":2,"seen":true}"#,
        r#"{"constraint":"sold","passed":2,"failed":1,"epoch":2,"seen":true}"#,
    ];
    let expected = expected.map(|row| serde_json::from_str::<Value>(row).expect("JSON").to_string());
    assert_eq!(counted(&jobs), expected);
    assert_eq!(jobs.query("SELECT dropped FROM system.job_runs WHERE status = 'succeeded'")[0]["dropped"], 1);

    let said = jobs.apply(&held("FAIL"));
    assert!(said.contains("its constraints: the old rows stay until the next refresh"), "{said}");
    let failed = jobs.watershed(["run", "copies"]).run();
    assert_eq!(failed.status.code(), Some(1));
    assert!(failed.stderr.contains("constraint 'few'") && failed.stderr.contains("book=B, copies=8"), "{}", failed.output());
    assert_eq!((jobs.copies(), counted(&jobs)), (sold(&[("A", 3), ("B", 8)]), expected.to_vec()));
}

#[test]
fn the_mapreduce_example_counts_books() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/sql/gold/book_totals.sql")).expect("the example");
    let jobs = Jobs::applied(&text);
    let explained = jobs.watershed(["run", "book_totals", "--explain"]).succeeds();
    assert!(explained.starts_with("gold.book_totals: map -> combine -> shuffle -> reduce -> write\n"), "{explained}");
    let tasks = |stage: &str| {
        let line = explained.lines().find(|line| line.trim_start().starts_with(stage)).unwrap_or_else(|| panic!("no {stage}: {explained}"));
        line.split_whitespace().find_map(|word| word.parse::<usize>().ok()).unwrap_or_else(|| panic!("{line}"))
    };
    assert_eq!((tasks("map "), tasks("combine ")), (3, 3), "a task for each split: {explained}");
    assert!(tasks("reduce ") >= 2, "{explained}");
    // In the shell, here and through Flight SQL, and over HTTP it is the same.
    let statement = "EXPLAIN MATERIALIZED VIEW gold.book_totals";
    let here = jobs.watershed(["shell", "-c", statement]).succeeds();
    assert!(here.contains("\nstages\ngold.book_totals: map -> combine -> shuffle -> reduce -> write\n"), "{here}");
    let mut server = jobs.watershed(["serve"]).start();
    let url = server.until("Flight SQL listens", |server| url_in(&server.output()));
    assert_eq!(Watershed::new(["shell", "--url", &url, "-c", statement]).succeeds(), here);
    let rows = http::sql(address_said(&mut server), statement).json();
    let rows = rows.as_array().expect("rows");
    let stages = rows.iter().find(|row| row["plan_type"] == "stages").unwrap_or_else(|| panic!("no stages: {rows:?}"));
    let stages = stages["plan"].as_str().expect("text");
    assert!(here.contains(stages) && stages.starts_with("gold.book_totals: map -> combine"), "{stages}");
    assert!(jobs.runs().is_empty(), "explaining runs nothing");

    // Twice, so that other readers, too, must leave out what was replaced.
    jobs.watershed(["run", "book_totals"]).succeeds();
    jobs.watershed(["run", "book_totals"]).succeeds();
    let mut rows: Vec<(String, i64)> = DeltaTable::open(&jobs.files, "gold.book_totals")
        .objects()
        .iter()
        .map(|row| (row["book"].as_str().expect("book").to_owned(), row["copies"].as_i64().expect("copies")))
        .collect();
    rows.sort();
    assert_eq!(rows, sold(&[("Book A", 8), ("Book B", 38), ("Book C", 23)]));
    let folder = jobs.files.join("gold/book_totals");
    for (reader, by_folder) in &readers::read_with_python(&[&folder]) {
        let summary = &by_folder[&folder.display().to_string()];
        assert_eq!((summary.rows, &summary.columns["copies"].sum), (3, &Some(69.into())), "{reader}");
    }
}

/// The analytics over the simulated city in `warehouse`, whose pipelines have read everything: as many trips as its rides say.
pub fn check_trips(warehouse: &Path) {
    let place = warehouse.display().to_string();
    let run = |arguments: &[&str]| Watershed::new(arguments.iter().copied().chain(["--warehouse", &place])).succeeds();
    let said = run(&["run", "gold.trips_by_city", "--upstream"]);
    assert!(said.starts_with("gold.trips_by_hour: ") && said.contains("\ngold.trips_by_city: "), "{said}");
    run(&["run", "trips_by_cell"]);
    let mut completed: BTreeMap<String, i64> = BTreeMap::new();
    for row in DeltaTable::open(warehouse, "silver.ride_events").objects().iter().filter(|row| row["event_type"] == "completed") {
        *completed.entry(row["city"].as_str().expect("city").to_owned()).or_default() += 1;
    }
    assert!(completed.values().sum::<i64>() > 100, "too few trips to prove anything: {completed:?}");
    for view in ["gold.trips_by_hour", "gold.trips_by_city", "gold.trips_by_cell"] {
        let mut trips: BTreeMap<String, i64> = BTreeMap::new();
        for row in DeltaTable::open(warehouse, view).objects() {
            *trips.entry(row["city"].as_str().expect("city").to_owned()).or_default() += row["trips"].as_i64().expect("trips");
            let cell = row.get("cell").map(|cell| cell.as_str().unwrap_or_default().len());
            // 3 bits of the face, 2 of each of 13 levels, and a one after them: 30 bits.
            assert!(cell.is_none_or(|letters| (1..=8).contains(&letters)), "{row:?}");
        }
        assert_eq!(trips, completed, "{view}");
    }
}

type Time = chrono::DateTime<chrono::Utc>;

fn time(value: &Value) -> Option<Time> {
    value.as_str().map(|text| text.parse().unwrap_or_else(|_| text.replace(' ', "T").parse().expect("a time")))
}

/// A training set over the simulated city: each payment with what was known when it was made.
pub fn check_training_set(warehouse: &Path) {
    let place = warehouse.display().to_string();
    let file = warehouse.with_extension("parquet");
    let out = file.display().to_string();
    let tables = ["training-set", "--facts", "bronze.payments", "--features", "gold.payments_by_minute", "--key", "city,currency"];
    let times = ["--time", "event_time", "--feature-time", "window_end", "--out", &out, "--warehouse", &place];
    let said = Watershed::new(tables.into_iter().chain(times)).succeeds();

    let own = |row: &serde_json::Map<String, Value>| (row["city"].to_string(), row["currency"].to_string());
    let mut ends: BTreeMap<(String, String), Vec<_>> = BTreeMap::new();
    for row in DeltaTable::open(warehouse, "gold.payments_by_minute").objects() {
        ends.entry(own(&row)).or_default().push(time(&row["window_end"]).expect("an end"));
    }
    let best = |row: &serde_json::Map<String, Value>| {
        let at = time(&row["event_time"]).expect("a time");
        ends.get(&own(row)).and_then(|ends| ends.iter().filter(|end| **end <= at).max()).copied()
    };
    let (mut rows, mut matched) = (0, 0);
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&file).expect("the file")).expect("Parquet").build().expect("Parquet");
    for batch in reader {
        let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
        writer.write(&batch.expect("rows")).expect("JSON");
        writer.finish().expect("JSON");
        for line in writer.into_inner().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let row: serde_json::Map<String, Value> = serde_json::from_slice(line).expect("JSON");
            let known = row.get("window_end").and_then(time);
            assert_eq!(known, best(&row), "{row:?}");
            rows += 1;
            matched += usize::from(known.is_some());
        }
    }
    assert_eq!(rows, DeltaTable::open(warehouse, "bronze.payments").count());
    assert!(matched > 0 && matched < rows, "{matched} of {rows} prove nothing: {said}");

    // The demo's job keeps a table of the newest hour of it.
    Watershed::new(["run", "gold.payment_training", "--warehouse", &place]).succeeds();
    let payments = DeltaTable::open(warehouse, "bronze.payments").objects();
    let newest = payments.iter().filter_map(|row| time(&row["event_time"])).max().expect("payments");
    let wanted = |row: &&serde_json::Map<String, Value>| {
        let attempt = ["authorised", "declined"].contains(&row["event_type"].as_str().expect("a type"));
        attempt && time(&row["event_time"]) > Some(newest - chrono::TimeDelta::hours(1))
    };
    let kept = DeltaTable::open(warehouse, "gold.payment_training").objects();
    let mut ids: Vec<String> = kept.iter().map(|row| row["event_id"].to_string()).collect();
    let mut expected: Vec<String> = payments.iter().filter(wanted).map(|row| row["event_id"].to_string()).collect();
    ids.sort_unstable();
    expected.sort_unstable();
    assert!(ids == expected && !ids.is_empty(), "{} rows in gold.payment_training, {} attempts", ids.len(), expected.len());
    let known = |row: &serde_json::Map<String, Value>| row.get("window_end").and_then(time);
    let wrong = kept.iter().find(|row| known(row) != best(row));
    assert!(wrong.is_none() && kept.iter().any(|row| known(row).is_some()), "{wrong:?}");
}

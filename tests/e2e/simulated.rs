//! The simulated city through the definitions in `sql/`: the tables equal what the simulator says it sent, over Apache Kafka and
//! over the embedded broker; other readers of Delta see the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::jobs;
use crate::kafka::Kafka;
use crate::readers::{self, Summaries, Summary};
use crate::table::DeltaTable;
use crate::tools::{delete_at_exit, folder, free_port};
use crate::watershed::Watershed;

const EVENTS: &str = "60000";

/// Topic, and the source and pass-through table over it.
const TOPICS: [(&str, &str); 5] = [
    ("ride-events", "ride_events"),
    ("driver-locations", "driver_locations"),
    ("payments", "payments"),
    ("clickstream", "clickstream"),
    ("fraud-labels", "fraud_labels"),
];

/// A warehouse with the simulated city, read over the embedded broker, and the truth about it. Tests share it: they may add to it what jobs
/// make, and read.
pub fn over_the_embedded_broker() -> &'static (PathBuf, Value) {
    static CITY: OnceLock<(PathBuf, Value)> = OnceLock::new();
    CITY.get_or_init(|| {
        let folder = folder("embedded-").keep();
        delete_at_exit(&folder);
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut broker = Watershed::new(["broker", "--port", &address.port().to_string()]).start();
        broker.until("the broker listens", |_| TcpStream::connect(address).ok());
        let warehouse = folder.join("warehouse");
        let truth = simulate_and_stream(&address.to_string(), &warehouse);
        (warehouse, truth)
    })
}

/// Simulates, applies `sql/`, reads all of it with all windows closed; gives the truth.
fn simulate_and_stream(bootstrap: &str, warehouse: &Path) -> Value {
    let truth = warehouse.with_extension("truth.json");
    let truth_text = truth.display().to_string();
    // Few drivers over a long time, so that rides and payments are not lost among locations; trips are under way at the start.
    let world = ["--drivers", "300", "--warm-up", "45m"];
    let rates = ["--late-rate", "0.01", "--duplicate-rate", "0.01", "--malformed-rate", "0.01", "--fraud-rate", "20"];
    let simulate = ["simulate", "--bootstrap", bootstrap, "--seed", "3", "--events", EVENTS, "--rate", "max", "--truth", &truth_text];
    Watershed::new(simulate.into_iter().chain(world).chain(rates)).succeeds();
    let definitions = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql").display().to_string();
    let warehouse = warehouse.display().to_string();
    Watershed::new(["apply", &definitions, "--yes", "--warehouse", &warehouse]).succeeds();
    Watershed::new(["stream", "--bootstrap", bootstrap, "--warehouse", &warehouse, "--until-caught-up", "--drain"]).succeeds();
    serde_json::from_slice(&std::fs::read(&truth).expect("the truth was written")).expect("JSON")
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a count"))
}

fn check_topics(warehouse: &Path, truth: &Value) {
    for (topic, table) in TOPICS {
        let counts = &truth["topics"][topic];
        let readable = count(&counts["clean"]) + count(&counts["duplicates"]);
        assert!(readable > 50, "{topic} is too quiet to prove anything: {counts}");
        let pairs = DeltaTable::open(warehouse, &format!("bronze.{table}")).pairs("kafka_partition", "kafka_offset");
        assert_eq!(pairs.len() as u64, readable, "rows of bronze.{table}");
        let set: BTreeSet<_> = pairs.into_iter().collect();
        assert_eq!(set.len() as u64, readable, "bronze.{table} holds rows twice");

        // What is not in the table is in the quarantine, once for each pipeline over the topic.
        let quarantined = DeltaTable::open(warehouse, &format!("bronze.{table}$quarantine")).objects();
        let mut by_pipeline: BTreeMap<&str, BTreeSet<(i64, i64)>> = BTreeMap::new();
        for row in &quarantined {
            let number = |column: &str| row[column].as_i64().expect("a number");
            let new =
                by_pipeline.entry(row["pipeline"].as_str().expect("pipeline")).or_default().insert((number("partition"), number("offset")));
            assert!(new, "set aside twice: {row:?}");
        }
        for (pipeline, bad) in by_pipeline {
            assert_eq!(bad.len() as u64, count(&counts["malformed_total"]), "rows of {topic} that {pipeline} set aside");
            assert!(set.is_disjoint(&bad), "{pipeline}: rows both accepted and set aside");
        }
    }
}

fn check_deduplicated(warehouse: &Path, truth: &Value) {
    let counts = &truth["topics"]["ride-events"];
    let rows = DeltaTable::open(warehouse, "silver.ride_events").objects();
    let ids: BTreeSet<_> = rows.iter().map(|row| row["event_id"].as_str().expect("event_id")).collect();
    assert_eq!(ids.len(), rows.len(), "silver.ride_events holds an event twice");
    let late = DeltaTable::open(warehouse, "silver.ride_events$late").count() as u64;
    assert_eq!(late, count(&counts["behind_watermark"]), "silver.ride_events$late");
    // Of a clean event nothing is left only if it was late itself.
    let (clean, kept) = (count(&counts["clean"]), rows.len() as u64);
    assert!(kept <= clean && kept + late >= clean, "{kept} kept, {late} late, {clean} clean");
}

/// Hundredths of a decimal as JSON writes it; NULL, the sum of nothing, counts as 0.
fn hundredths(value: &Value) -> i64 {
    let text = match value {
        Value::Null => return 0,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let amount: f64 = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    (amount * 100.0).round() as i64
}

fn check_windows(warehouse: &Path, truth: &Value) {
    let tables = truth["tables"].as_object().expect("tables");
    assert!(tables.len() >= 5);
    for (name, truth) in tables {
        let found: Vec<Map<String, Value>> = DeltaTable::open(warehouse, name).objects();
        let expected = truth["rows"].as_array().expect("rows");
        let measures = |row: &Map<String, Value>| -> BTreeMap<String, i64> {
            row.iter()
                .filter(|(column, value)| column.as_str() != "window_start_us" && value.is_number())
                .map(|(c, v)| (c.clone(), v.as_i64().expect("a whole number")))
                .collect()
        };
        let mut expected: BTreeMap<String, BTreeMap<String, i64>> =
            expected.iter().filter_map(Value::as_object).map(|row| (key_of_truth(row), measures(row))).collect();
        for row in &found {
            let dimensions: Vec<_> =
                expected_dimensions(truth).iter().map(|d| row[d.as_str()].as_str().unwrap_or("").to_string()).collect();
            let key = format!("{} {}", row["window_start"].as_str().expect("window_start"), dimensions.join(" "));
            let Some(measures) = expected.remove(&key) else { panic!("{name} has a row too many, or twice: {row:?}") };
            for (measure, value) in measures {
                let actual = match measure.strip_suffix("_cents") {
                    None => row[&measure].as_i64().unwrap_or_else(|| panic!("{measure} in {row:?}")),
                    Some(stem) => {
                        let column = row.get(stem).or_else(|| row.get(&format!("{stem}_amount")));
                        hundredths(column.unwrap_or_else(|| panic!("no column for {measure} in {row:?}")))
                    }
                };
                assert_eq!(actual, value, "{measure} of {key} in {name}");
            }
        }
        assert!(expected.is_empty(), "{name} lacks {} rows, among them {:?}", expected.len(), expected.iter().next());
        let late = DeltaTable::open(warehouse, &format!("{name}$late")).count() as u64;
        assert_eq!(late, count(&truth["late_pairs"]), "{name}$late");
    }
}

/// Columns of text in the truth's rows, in order of name.
fn expected_dimensions(truth: &Value) -> Vec<String> {
    let first = truth["rows"].as_array().and_then(|rows| rows.first()?.as_object());
    first.map(|row| row.iter().filter(|(_, value)| value.is_string()).map(|(column, _)| column.clone()).collect()).unwrap_or_default()
}

fn key_of_truth(row: &Map<String, Value>) -> String {
    let start_us = row["window_start_us"].as_i64().expect("window_start_us");
    let start = crate::table::time_text(start_us);
    let dimensions: Vec<_> = row.values().filter_map(Value::as_str).collect();
    format!("{start} {}", dimensions.join(" "))
}

fn check(warehouse: &Path, truth: &Value) {
    check_topics(warehouse, truth);
    check_deduplicated(warehouse, truth);
    check_windows(warehouse, truth);
}

#[test]
fn tables_over_kafka_equal_the_simulators_truth_for_every_reader() {
    let folder = folder("simulated-");
    let warehouse = folder.path().join("warehouse");
    let truth = simulate_and_stream(&Kafka::shared().bootstrap(), &warehouse);
    check(&warehouse, &truth);

    let names = ["bronze.ride_events", "bronze.ride_events$quarantine", "silver.ride_events", "gold.city_demand", "gold.city_demand$late"];
    check_readers(&warehouse, &names, readers::read_with_python);
}

/// All readers and our shell see the same in the tables; gives what they see, by table.
fn check_readers(warehouse: &Path, names: &[&str], read: impl Fn(&[&Path]) -> Summaries) -> BTreeMap<String, Summary> {
    let folders: Vec<_> = names.iter().map(|name| warehouse.join(name.replacen('.', "/", 1))).collect();
    let by_reader = read(&folders.iter().map(|f| f.as_path()).collect::<Vec<_>>());
    let mut agreed = BTreeMap::new();
    for (name, folder) in names.iter().zip(&folders) {
        let folder = folder.display().to_string();
        let first = &by_reader["deltalake"][&folder];
        assert_eq!(first.rows, DeltaTable::open(warehouse, name).count() as u64, "{name} read by deltalake");
        for (reader, read) in &by_reader {
            assert_eq!(&read[&folder], first, "{name}: {reader} and deltalake differ");
        }
        agreed.insert((*name).to_owned(), first.clone());
    }
    // All counts and sums in one query.
    let counted = agreed.iter().map(|(name, seen)| {
        (
            format!("{name} has"),
            format!("SELECT '{name} has' AS what, CAST(count(*) AS VARCHAR) AS total FROM {}", quoted(name)),
            seen.rows.to_string(),
        )
    });
    let summed = agreed.iter().flat_map(|(name, seen)| {
        let sums =
            seen.columns.iter().filter(|(column, _)| !column.contains('.')).filter_map(|(column, seen)| Some((column, seen.sum.as_ref()?)));
        sums.map(move |(column, sum)| {
            let total = sum.as_str().map_or_else(|| sum.to_string(), str::to_owned);
            (format!("{name} {column}"), format!("SELECT '{name} {column}', CAST(sum({column}) AS VARCHAR) FROM {}", quoted(name)), total)
        })
    });
    let asked: Vec<(String, String, String)> = counted.chain(summed).collect();
    let query = asked.iter().map(|(_, query, _)| query.as_str()).collect::<Vec<_>>().join(" UNION ALL ");
    let warehouse = warehouse.display().to_string();
    let ours = Watershed::new(["shell", "--warehouse", &warehouse, "--output", "csv", "-c", &query]).succeeds();
    let ours: BTreeSet<&str> = ours.lines().skip(1).collect();
    let theirs: Vec<String> = asked.iter().map(|(what, _, total)| format!("{what},{total}")).collect();
    assert_eq!(ours, theirs.iter().map(String::as_str).collect(), "counts and sums of our shell, and of the other readers");
    agreed
}

/// `bronze.x$y` as `bronze."x$y"`.
fn quoted(name: &str) -> String {
    let (schema, table) = name.split_once('.').expect("schema.table");
    format!(r#"{schema}."{table}""#)
}

#[test]
fn tables_over_the_embedded_broker_equal_the_simulators_truth() {
    let (warehouse, truth) = over_the_embedded_broker();
    check(warehouse, truth);
    jobs::check_trips(warehouse);
    jobs::check_training_set(warehouse);
}

#[test]
fn the_demo_reconciles_and_goes_on_where_it_stopped() {
    let folder = folder("demo-");
    let warehouse = folder.path().join("warehouse").display().to_string();
    let demo = || {
        let run = Watershed::new(["demo", "--seconds", "12", "--no-prompt", "--warehouse", &warehouse]);
        run.env("HOME", folder.path().display().to_string()).succeeds()
    };
    let rows = || DeltaTable::open(Path::new(&warehouse), "bronze.ride_events").count();
    let said = demo();
    assert!(said.contains("jobs made") && said.contains(" 0 of them failed"), "{said}");
    let books = DeltaTable::open(Path::new(&warehouse), "gold.book_totals").count();
    assert_eq!(books, 3, "the demo's scheduler has run no job");
    let training = "SELECT count(*) FROM system.job_runs WHERE job = 'gold.payment_training' AND status = 'succeeded'";
    let runs = Watershed::new(["shell", "--warehouse", &warehouse, "--output", "csv", "-c", training]).succeeds();
    assert!(runs.split_whitespace().last().is_some_and(|runs| runs != "0"), "the demo makes no training set: {runs}");
    let first = rows();
    assert!(first > 0, "no rides in the demo");
    demo();
    assert!(rows() > first, "the second run added nothing");

    // What came of both runs: pass-through, deduplicated, windows, sides, a view; partitions, NULLs, decimals, bytes, structs and lists.
    let seen = check_readers(
        Path::new(&warehouse),
        &[
            "bronze.ride_events",
            "bronze.driver_locations$quarantine",
            "silver.ride_events",
            "gold.city_demand",
            "gold.payments_by_minute",
            "gold.book_totals",
        ],
        readers::read_with_all,
    );
    let columns = || seen.values().flat_map(|table| &table.columns);
    for kind in ["string", "int", "bigint", "double", "decimal(10,2)", "timestamp", "date", "binary", "struct<lat:double,lon:double>"] {
        assert!(columns().any(|(_, column)| column.data_type == kind && column.nulls < seen["bronze.ride_events"].rows), "no {kind}");
    }
    assert!(columns().any(|(name, column)| name == "fare" && column.nulls > 0 && column.sum.is_some()), "no decimal with NULLs");
    assert!(
        columns().any(|(name, column)| name == "location.lat" && column.nulls > 0 && column.distinct > Some(1)),
        "no struct with NULLs"
    );
    assert!(seen["bronze.ride_events"].columns["day"].distinct >= Some(1), "no partition");
}

//! The fraud scores of the simulated city: they are what a query over all payments gives, and they find the labelled fraud.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::kafka;
use crate::tools::{folder, free_port};
use crate::watershed::Watershed;

/// The files of `sql/` that fraud scores need.
const DEFINITIONS: [&str; 10] = [
    "sources/payments.sql",
    "sources/driver_locations.sql",
    "sources/fraud_labels.sql",
    "bronze/payments.sql",
    "bronze/driver_locations.sql",
    "bronze/fraud_labels.sql",
    "gold/fraud_scores.sql",
    "gold/driver_fraud_scores.sql",
    "gold/fraud_quality.sql",
    "sinks/fraud_scores.sql",
];

fn project_file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn csv(warehouse: &str, query: &str) -> Vec<Vec<String>> {
    let out = Watershed::new(["shell", "--warehouse", warehouse, "--output", "csv", "-c", query]).succeeds();
    out.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

fn number(warehouse: &str, query: &str) -> u64 {
    csv(warehouse, query)[0][0].parse().unwrap_or_else(|e| panic!("{query}: {e}"))
}

/// The query of a definition over the rows of the bronze table that were in time for it, with nothing else changed.
fn batch_query(definition: &str, source: &str, table: &str) -> String {
    let text = project_file(&format!("sql/{definition}"));
    let (_, query) = text.split_once("\nAS SELECT").expect("a definition with a query");
    let in_time = format!(
        "FROM bronze.{source} b WHERE NOT EXISTS (SELECT 1 FROM {table}$late l \
         WHERE l.source_partition = b.kafka_partition AND l.source_offset = b.kafka_offset) AND true"
    );
    let from = format!("FROM {source}");
    let at = query.rfind(&from).expect("the query reads its source");
    let (before, after) = (&query[..at], &query[at + from.len()..]);
    // A WHERE of the definition goes on as one condition more.
    let after = after.trim_start().strip_prefix("WHERE").map_or_else(|| after.to_owned(), |rest| format!(" AND {rest}"));
    format!("SELECT{before}{in_time}{after}").trim_end().trim_end_matches(';').to_owned()
}

/// The same rows in both, each as often, floating point to the last digit.
fn check_equal(warehouse: &str, definition: &str, source: &str, table: &str) {
    let query = batch_query(definition, source, table);
    let rows = number(warehouse, &format!("SELECT count(*) FROM {table}"));
    assert_eq!(number(warehouse, &format!("SELECT count(*) FROM ({query})")), rows, "rows of {table}");
    for (left, right) in [(format!("SELECT * FROM {table}"), query.clone()), (query, format!("SELECT * FROM {table}"))] {
        let differing = number(warehouse, &format!("SELECT count(*) FROM (({left}) EXCEPT ALL ({right}))"));
        assert_eq!(differing, 0, "rows of {table} that stream and batch do not share, of {rows}");
    }
}

#[test]
fn fraud_scores_are_those_of_a_query_over_all_payments_and_find_the_fraud() {
    let folder = folder("fraud-");
    let project = folder.path().join("project");
    for file in DEFINITIONS {
        let path = project.join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
        std::fs::write(path, project_file(&format!("sql/{file}"))).expect("it can be written");
    }
    let port = free_port().to_string();
    let bootstrap = format!("127.0.0.1:{port}");
    let mut broker = Watershed::new(["broker", "--port", &port]).start();
    let address: std::net::SocketAddr = bootstrap.parse().expect("an address");
    broker.until("the broker listens", |_| std::net::TcpStream::connect(address).ok());
    let warehouse = folder.path().join("warehouse").display().to_string();

    let world = ["--drivers", "300", "--warm-up", "45m", "--seed", "11", "--fraud-rate", "20"];
    let rates = ["--late-rate", "0.01", "--duplicate-rate", "0.01", "--malformed-rate", "0"];
    let simulate = ["simulate", "--bootstrap", &bootstrap, "--events", "90000", "--rate", "max"];
    Watershed::new(simulate.into_iter().chain(world).chain(rates)).succeeds();
    let definitions = project.display().to_string();
    Watershed::new(["apply", &definitions, "--yes", "--warehouse", &warehouse]).succeeds();
    Watershed::new(["stream", "--bootstrap", &bootstrap, "--warehouse", &warehouse, "--until-caught-up", "--drain"]).succeeds();

    check_equal(&warehouse, "gold/fraud_scores.sql", "payments", "gold.fraud_scores");
    check_equal(&warehouse, "gold/driver_fraud_scores.sql", "driver_locations", "gold.driver_fraud_scores");
    let attempts = "event_type IN ('authorised', 'declined')";
    let made = number(&warehouse, &format!("SELECT count(DISTINCT event_id) FROM bronze.payments WHERE {attempts}"));
    let scored = number(&warehouse, "SELECT count(DISTINCT score_id) FROM gold.fraud_scores");
    let late = number(&warehouse, "SELECT count(DISTINCT event_id) FROM gold.fraud_scores$late");
    assert!(scored > 200 && scored <= made && scored + late >= made, "{made} attempts, {scored} scored, {late} late");

    // The same scores are in the topic, each once because nothing disturbed the run, under their ids.
    let messages = kafka::read_at(&bootstrap, "fraud-scores");
    let ids: BTreeSet<String> = messages.iter().map(|message| message.id.clone().expect("a message has an id")).collect();
    let in_table = csv(&warehouse, "SELECT score_id FROM gold.fraud_scores").into_iter().map(|row| row[0].clone());
    assert_eq!(messages.len(), ids.len(), "scores sent twice");
    assert_eq!(ids, in_table.collect(), "ids of the topic and of the table");
    for message in &messages {
        let body: serde_json::Value = serde_json::from_slice(&message.value).expect("JSON");
        assert_eq!(body["score_id"].as_str(), message.id.as_deref());
        assert_eq!(body["payment_id"].as_str().map(str::as_bytes), message.key.as_deref());
        assert!(body["score"].is_number(), "{body}");
    }

    // By kind: precision and recall, and the least that the rules must reach; docs/guide/fraud.md has a longer run.
    Watershed::new(["run", "gold.fraud_quality", "--warehouse", &warehouse]).succeeds();
    let found: BTreeMap<String, Vec<f64>> = csv(&warehouse, "SELECT * FROM gold.fraud_quality")
        .into_iter()
        .map(|row| (row[0].clone(), row[1..].iter().map(|cell| cell.parse().unwrap_or(0.0)).collect()))
        .collect();
    println!("{found:?}");
    for kind in ["card_testing", "account_takeover", "promo_abuse", "collusion", "gps_spoofing", "all"] {
        let row = found.get(kind).unwrap_or_else(|| panic!("no {kind} in {found:?}"));
        let (labelled, recall, precision) = (row[0], row[2], row[5]);
        assert!(labelled >= 20.0, "{kind}: too few labels to prove anything: {row:?}");
        assert!(recall >= 0.3 && precision >= 0.5, "{kind}: {row:?}");
    }
}

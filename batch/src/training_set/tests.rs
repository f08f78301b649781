//! Facts and features joined: into a file, and into a view.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use watershed_lake::{Commit, Warehouse};

use super::*;
use crate::Limits;

fn batch(keys: &[Option<&str>], time: &str, seconds: &[Option<i64>], value: &str, values: &[i64]) -> RecordBatch {
    let times = TimestampMicrosecondArray::from_iter(seconds.iter().map(|s| s.map(|s| s * 1_000_000))).with_timezone("UTC");
    RecordBatch::try_from_iter_with_nullable([
        ("card", Arc::new(StringArray::from_iter(keys.iter().copied())) as ArrayRef, true),
        (time, Arc::new(times) as ArrayRef, true),
        (value, Arc::new(Int64Array::from_iter_values(values.iter().copied())) as ArrayRef, true),
    ])
    .unwrap()
}

async fn table(warehouse: &Warehouse, name: &str, rows: RecordBatch) {
    let table = warehouse.create_table(&name.parse().unwrap(), rows.schema(), &[]).await.unwrap();
    let mut writer = table.writer("test");
    writer.write(rows).await.unwrap();
    let files = writer.finish().await.unwrap();
    let (app_id, operation) = ("test".to_owned(), "WRITE".to_owned());
    table.commit(Commit { app_id, app_version: 1, previous_app_version: None, files, operation }).await.unwrap();
}

async fn warehouse(facts: RecordBatch, features: RecordBatch) -> JobRunner {
    let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
    table(&warehouse, "silver.payments", facts).await;
    table(&warehouse, "gold.cards", features).await;
    JobRunner::new(warehouse, Limits::default()).unwrap()
}

fn set(strict: bool) -> TrainingSet {
    TrainingSet {
        facts: "silver.payments".parse().unwrap(),
        features: "gold.cards".parse().unwrap(),
        keys: vec!["card".to_owned()],
        time: "at".to_owned(),
        feature_time: "known".to_owned(),
        strict,
    }
}

/// (value of the fact, seconds and value of its feature), by the fact's value.
async fn made(runner: &JobRunner, set: &TrainingSet) -> (TrainingSetMade, Vec<(i64, Option<(i64, i64)>)>) {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("set.parquet");
    let made = set.write(runner, &file).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let mut rows = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let number = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
        let known = batch.column_by_name("known").unwrap().as_primitive::<TimestampMicrosecondType>().clone();
        let (amount, declines) = (number("amount"), number("declines"));
        rows.extend(
            (0..batch.num_rows())
                .map(|row| (amount.value(row), known.is_valid(row).then(|| (known.value(row) / 1_000_000, declines.value(row))))),
        );
    }
    rows.sort_unstable();
    (made, rows)
}

#[tokio::test]
async fn each_fact_has_what_was_known_then_and_nothing_later() {
    let (a, b) = (Some("a"), Some("b"));
    let facts = batch(
        &[a, a, b, a, Some("nobody"), None, a],
        "at",
        &[Some(100), Some(160), Some(100), Some(99), Some(500), Some(500), None],
        "amount",
        &[1, 2, 3, 4, 5, 6, 7],
    );
    // Written out of order; the row at 101 is one second too late for the fact at 100.
    let features = batch(
        &[a, a, a, b, None, a],
        "known",
        &[Some(150), Some(100), Some(101), Some(90), Some(1), Some(999)],
        "declines",
        &[15, 10, 11, 90, 66, 99],
    );
    let runner = warehouse(facts, features).await;
    let (said, rows) = made(&runner, &set(false)).await;
    assert_eq!(rows, [(1, Some((100, 10))), (2, Some((150, 15))), (3, Some((90, 90))), (4, None), (5, None), (6, None)]);
    assert_eq!((said.rows, said.matched, said.without_time, said.columns), (6, 3, 1, 5));
    let (_, rows) = made(&runner, &set(true)).await;
    assert_eq!(rows[0], (1, None), "at the same moment is not before it");
    assert_eq!(rows[1], (2, Some((150, 15))));
}

#[tokio::test]
async fn nothing_leaks_whatever_the_times() {
    // A small generator with a fixed seed; each feature's value is its time, so that a leak shows.
    let mut state = 42_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let keys = ["a", "b", "c", "d"];
    let mut rows = |count: usize| -> (Vec<Option<&str>>, Vec<Option<i64>>) {
        (0..count).map(|_| (Some(keys[random(4) as usize]), Some(random(300) as i64))).unzip()
    };
    let ((fact_keys, fact_times), (feature_keys, feature_times)) = (rows(2000), rows(500));
    let numbers: Vec<i64> = (0..2000).collect();
    let values: Vec<i64> = feature_times.iter().flatten().copied().collect();
    let runner = warehouse(
        batch(&fact_keys, "at", &fact_times, "amount", &numbers),
        batch(&feature_keys, "known", &feature_times, "declines", &values),
    )
    .await;
    for strict in [false, true] {
        let (_, found) = made(&runner, &set(strict)).await;
        for (number, feature) in found {
            let (key, at) = (fact_keys[number as usize], fact_times[number as usize].unwrap());
            let before = |time: i64| if strict { time < at } else { time <= at };
            let best = (0..500).filter(|row| feature_keys[*row] == key).map(|row| values[row]).filter(|time| before(*time)).max();
            assert_eq!(feature.map(|(_, value)| value), best, "fact {number} of {key:?} at {at}");
            assert_eq!(feature.map(|(known, _)| known), best);
        }
    }
}

fn view(query: &str) -> crate::View {
    let text = format!("CREATE MATERIALIZED VIEW gold.learn AS {query}");
    crate::Views::parse([text.as_str()]).unwrap_or_else(|e| panic!("{}", e.render(&text, None))).iter().next().unwrap().clone()
}

const JOIN: &str = "SELECT * FROM silver.payments AS p ASOF JOIN gold.cards f MATCH_CONDITION (p.at >= f.known) ON p.card = f.card";

#[tokio::test]
async fn a_view_keeps_facts_with_what_was_known_then() {
    let a = Some("a");
    let facts = batch(&[a, a, Some("b")], "at", &[Some(100), Some(160), Some(7)], "amount", &[1, 2, 3]);
    let features = batch(&[a, a, a], "known", &[Some(101), Some(100), Some(150)], "declines", &[11, 10, 15]);
    let runner = warehouse(facts, features).await;
    let (_sender, stop) = tokio::sync::watch::channel(false);
    let rows = async |query: &str| {
        let run = runner.run(&view(query), crate::Trigger::Manual, stop.clone()).await.unwrap();
        let context = runner.context();
        declare(&context, &run.job, runner.warehouse().table(&run.job).await.unwrap().provider().await.unwrap()).unwrap();
        let found = context.sql("SELECT amount, declines FROM gold.learn ORDER BY 1").await.unwrap().collect().await.unwrap();
        let text = arrow::util::pretty::pretty_format_batches(&found).unwrap().to_string();
        let cells = text.lines().skip(3).filter(|line| line.starts_with('|')).map(|line| line.split_whitespace().collect::<String>());
        (run, cells.collect::<Vec<_>>())
    };
    let (run, found) = rows(JOIN).await;
    assert_eq!(found, ["|1|10|", "|2|15|", "|3||"]);
    assert_eq!((run.rows, run.read.len(), run.written), (3, 2, Some(1)));
    let (_, found) = rows(&format!("{} WHERE p.amount <> 3 AND at > TIMESTAMP '1970-01-01 00:00:10'", JOIN.replace(">=", ">"))).await;
    assert_eq!(found, ["|1||", "|2|15|"], "at the same moment is not before it");
    let (_, found) = rows(&JOIN.replace("ON p.card = f.card", "USING (card)").replace("p.at >= f.known", "f.known <= p.at")).await;
    assert_eq!(found.len(), 3);
    let stages: Vec<String> = runner.stages(&view(JOIN)).await.unwrap().iter().map(|stage| stage.step.to_string()).collect();
    assert_eq!(stages, ["map", "gather", "reduce", "write"]);

    let little = Limits { memory_bytes: 1 << 10, ..Limits::default() };
    let runner = JobRunner::new(runner.warehouse().clone(), little).unwrap();
    let error = runner.run(&view(JOIN), crate::Trigger::Manual, stop.clone()).await.unwrap_err();
    assert!(matches!(error, BatchError::OutOfMemory(_)), "{error}");
}

#[tokio::test]
async fn a_view_over_nothing_yet_is_empty() {
    let none = |time, value| batch(&[], time, &[], value, &[]);
    let runner = warehouse(none("at", "amount"), none("known", "declines")).await;
    let (_sender, stop) = tokio::sync::watch::channel(false);
    let run = runner.run(&view(JOIN), crate::Trigger::Manual, stop).await.unwrap();
    assert_eq!((run.rows, run.status), (0, crate::RunStatus::Succeeded));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_by_name() {
    let rows = |time, value| batch(&[Some("a")], time, &[Some(1)], value, &[1]);
    let runner = warehouse(rows("at", "amount"), rows("known", "declines")).await;
    let folder = tempfile::TempDir::new().unwrap();
    let refused = async |set: TrainingSet, file: &str| set.write(&runner, &folder.path().join(file)).await.unwrap_err().to_string();
    let said = refused(TrainingSet { keys: vec!["crad".into()], ..set(false) }, "x").await;
    assert_eq!(said, "table silver.payments has no column 'crad'; did you mean 'card'?");
    let said = refused(TrainingSet { feature_time: "declines".into(), ..set(false) }, "x").await;
    assert!(said.contains("'declines' of gold.cards is no TIMESTAMP"), "{said}");
    let said = refused(TrainingSet { facts: "silver.none".parse().unwrap(), ..set(false) }, "x").await;
    assert!(said.contains("no table silver.none"), "{said}");
    let said = refused(set(false), "no/such/folder").await;
    assert!(said.contains("cannot write"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_demo_learns_from_attempts_of_the_newest_hour_with_what_was_known_then() {
    let definition = include_str!("../../../sql/gold/payment_training.sql");
    let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
    let runner = JobRunner::new(warehouse.clone(), Limits::default()).unwrap();
    for (name, query) in [
        (
            "bronze.payments",
            "SELECT * FROM (VALUES
                 ('p1', TIMESTAMP '2026-01-05 08:00:00', 'authorised', 'Graz', 'EUR'),  -- more than an hour before the newest
                 ('p2', TIMESTAMP '2026-01-05 08:30:59', 'declined', 'Graz', 'EUR'),
                 ('p3', TIMESTAMP '2026-01-05 08:31:00', 'authorised', 'Graz', 'EUR'),
                 ('p4', TIMESTAMP '2026-01-05 08:32:00', 'authorised', 'Graz', 'USD'),
                 ('p5', TIMESTAMP '2026-01-05 09:10:00', 'charged_back', 'Graz', 'EUR')  -- no attempt
             ) AS t (event_id, event_time, event_type, city, currency)",
        ),
        (
            "gold.payments_by_minute",
            "SELECT * FROM (VALUES
                 (TIMESTAMP '2026-01-05 08:30:00', 'Graz', 'EUR', 4),
                 (TIMESTAMP '2026-01-05 08:31:00', 'Graz', 'EUR', 7),
                 (TIMESTAMP '2026-01-05 08:33:00', 'Graz', 'USD', 9)
             ) AS t (window_end, city, currency, declined)",
        ),
    ] {
        let rows = runner.context().sql(query).await.unwrap().collect().await.unwrap();
        table(&warehouse, name, concat_batches(&rows[0].schema(), &rows).unwrap()).await;
    }
    let views = crate::Views::parse([definition]).unwrap();
    let (_sender, stop) = tokio::sync::watch::channel(false);
    let view = views.iter().next().unwrap();
    runner.run(view, crate::Trigger::Manual, stop).await.unwrap();
    let context = runner.context();
    declare(&context, &view.name, warehouse.table(&view.name).await.unwrap().provider().await.unwrap()).unwrap();
    let found = context.sql("SELECT event_id, declined FROM gold.payment_training ORDER BY 1").await.unwrap().collect().await.unwrap();
    let text = arrow::util::pretty::pretty_format_batches(&found).unwrap().to_string();
    let rows: Vec<String> =
        text.lines().skip(3).filter(|line| line.starts_with('|')).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows, ["|p2|4|", "|p3|7|", "|p4||"]);
}

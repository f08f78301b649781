//! A clock that goes backwards, between two runs and in the middle of one: epochs, watermarks and the Delta log do not mind.

use std::path::Path;

use crate::disturbed::committed;
use crate::exactly_once::{check_equal, input, produce};
use crate::input::{CHUNKS, PARTITIONS};
use crate::kafka::Kafka;
use crate::project::Project;
use crate::readers::read_with_all;
use crate::serving::python;
use crate::tools::folder;
use crate::watershed::{LIMIT, Watershed};

const DAY_MS: i64 = 86_400_000;

/// Runs with its time of day moved by the milliseconds in `file`, which may change.
fn with_clock(run: Watershed, file: &Path) -> Watershed {
    run.env("FAILPOINTS", format!("clock=return({})", file.display()))
}

#[test]
fn the_clock_goes_backwards() {
    let (kafka, topic) = (Kafka::shared(), "clock");
    kafka.create_topic(topic, PARTITIONS);
    let project = Project::local(kafka.bootstrap(), topic);
    let home = folder("clock-");
    let file = home.path().join("offset");
    let set = |days: i64| std::fs::write(&file, (days * DAY_MS).to_string()).expect("written");

    set(0);
    produce(kafka, topic, 0);
    with_clock(project.stream_to_end(false), &file).succeeds();
    set(-3);
    produce(kafka, topic, 1);
    with_clock(project.stream_to_end(false), &file).succeeds();

    set(0);
    let mut running = with_clock(project.stream(), &file).start();
    produce(kafka, topic, 2);
    let all = kafka.ends(topic).values().sum::<i64>();
    running.until("rows are committed", |_| (committed(&project, "bronze.events") == all).then_some(()));
    set(-30);
    produce(kafka, topic, 3);
    let pipelines = ["bronze.events", "gold.by_minute", "silver.unique_events"];
    let done = || pipelines.iter().all(|pipeline| committed(&project, pipeline) == input().0.len() as i64);
    running.until("rows are committed at the other time", |_| done().then_some(()));
    running.signal(libc::SIGTERM);
    let ended = running.wait(LIMIT);
    assert!(ended.status.success(), "{}\n{}", ended.status, ended.output());
    assert_eq!(CHUNKS, 4);

    // The last holder ran on a machine whose clock was an hour ahead, and died: the next one does not wait an hour for it.
    let holder = project.files.join("_watershed/pipelines/bronze.events/0/holder.json");
    let mut said: serde_json::Value = serde_json::from_slice(&std::fs::read(&holder).expect("a holder")).expect("JSON");
    said["holder"]["host"] = "elsewhere".into();
    said["released"] = false.into();
    let hour_ahead = chrono::Utc::now().timestamp_millis() + 3_600_000;
    said["seen_ms"] = hour_ahead.into();
    std::fs::write(&holder, said.to_string()).expect("written");
    project.stream_to_end(true).succeeds();
    check_equal(&project);

    // Others read the table and its history, whose times go back and forth.
    let table = project.files.join("gold/by_minute");
    let history = python("delta.py", &["history", &table.display().to_string()]);
    let history: Vec<(i64, i64)> = history
        .lines()
        .map(|line| {
            let (version, time) = line.split_once(' ').expect("two numbers");
            (version.parse().expect("a version"), time.parse().expect("a time"))
        })
        .collect();
    let versions: Vec<i64> = history.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions, (0..=project.table("gold.by_minute").version).collect::<Vec<_>>());
    assert!(history.windows(2).any(|pair| pair[1].1 < pair[0].1), "the clock did not go back: {history:?}");
    let rows = project.table("gold.by_minute").count() as u64;
    for (reader, tables) in read_with_all(&[&table]) {
        assert_eq!(tables[&table.display().to_string()].rows, rows, "{reader}");
    }
}

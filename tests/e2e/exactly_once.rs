//! Kill -9 at every step of the epoch protocol and between any two: the tables equal those of an undisturbed run.
//!
//! Each test runs its pipelines over the input in [`CHUNKS`] rounds and is killed in three of them: when there is nothing yet, in the
//! middle, and while the last windows close. Every kill is gated on the step and must prove that it fired.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::input::{CHUNKS, Expected, Input, PARTITIONS};
use crate::kafka::Kafka;
use crate::project::Project;
use crate::table::Row;

/// What all tests of this file read.
pub fn input() -> &'static (Input, Expected) {
    static INPUT: OnceLock<(Input, Expected)> = OnceLock::new();
    INPUT.get_or_init(|| {
        let input = Input::new(7, 8_000);
        let expected = input.expected();
        (input, expected)
    })
}

/// Produces one chunk of [`input`].
pub fn produce(kafka: &Kafka, topic: &str, chunk: usize) {
    let values = input().0.chunk(chunk);
    kafka.produce(topic, values.iter().map(|(partition, value)| (*partition, value.as_slice())));
}

/// The tables after an undisturbed run, checked.
pub fn undisturbed() -> &'static BTreeMap<&'static str, Vec<Row>> {
    static CONTENTS: OnceLock<BTreeMap<&'static str, Vec<Row>>> = OnceLock::new();
    CONTENTS.get_or_init(|| {
        let kafka = Kafka::shared();
        kafka.create_topic("undisturbed", PARTITIONS);
        (0..CHUNKS).for_each(|chunk| produce(kafka, "undisturbed", chunk));
        let project = Project::local(kafka.bootstrap(), "undisturbed");
        project.stream_to_end(true).succeeds();
        project.check(&input().1);
        without_topic(project.contents())
    })
}

/// Quarantined rows name their topic and when they were appended, in which runs differ.
pub fn without_topic(mut contents: BTreeMap<&'static str, Vec<Row>>) -> BTreeMap<&'static str, Vec<Row>> {
    if let Some(rows) = contents.get_mut("bronze.events_in$quarantine") {
        for row in rows.iter_mut() {
            let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(row).expect("JSON");
            object.remove("topic");
            object.remove("append_time");
            *row = serde_json::Value::Object(object).to_string();
        }
        rows.sort_unstable();
    }
    contents
}

/// Asserts that the tables of `project` are those of an undisturbed run.
pub fn check_equal(project: &Project) {
    project.check(&input().1);
    let (found, expected) = (without_topic(project.contents()), undisturbed());
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (table, rows) in &found {
        assert!(*rows == expected[table], "{table} differs from the undisturbed run ({} and {} rows)", rows.len(), expected[table].len());
    }
}

/// Reads all chunks one after another, killed at `step` in three of them.
pub fn read_killed_at(step: &str, kafka: &Kafka, topic: &str, project: &Project) {
    for chunk in 0..CHUNKS {
        produce(kafka, topic, chunk);
        let last = chunk == CHUNKS - 1;
        // Which time the step is reached: by another pipeline each time, as three run side by side.
        let times = match chunk {
            0 => Some(0),
            1 => Some(1),
            _ if last => Some(2),
            _ => None,
        };
        if let Some(times) = times {
            project.stream_to_end(last).killed_at(step, times).run().died_at(step);
        }
        project.stream_to_end(last).succeeds();
    }
}

fn killed_at(step: &str) {
    let kafka = Kafka::shared();
    let topic = format!("killed-at-{step}");
    kafka.create_topic(&topic, PARTITIONS);
    let project = Project::local(kafka.bootstrap(), &topic);
    read_killed_at(step, kafka, &topic, &project);
    check_equal(&project);
}

#[test]
fn killed_when_a_barrier_has_passed() {
    killed_at("barrier_passed");
}

#[test]
fn killed_when_files_are_staged() {
    killed_at("files_staged");
}

#[test]
fn killed_when_state_is_written() {
    killed_at("state_written");
}

#[test]
fn killed_when_the_record_is_written() {
    killed_at("record_written");
}

#[test]
fn killed_when_one_table_is_committed() {
    killed_at("one_table_committed");
}

#[test]
fn killed_when_all_tables_are_committed() {
    killed_at("tables_committed");
}

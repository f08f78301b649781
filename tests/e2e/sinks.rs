//! Sinks: whatever crashes and whenever, every row of the table is in the topic, under one id, with the table's values.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::disturbed::committed;
use crate::exactly_once::{input, produce, read_killed_at};
use crate::input::{CHUNKS, PARTITIONS};
use crate::kafka::Kafka;
use crate::project::{Project, tables};
use crate::tools::wait_for;
use crate::watershed::LIMIT;

/// One sink whose rows leave at once, and two whose rows wait for their epoch.
const SINKS: &str = "
CREATE SINK events_out TO KAFKA (topic = '{topic}-events', format = 'json', key = 'city', partitions = 2)
AS SELECT event_id, event_time, city, cents, kafka_partition, kafka_offset FROM STREAM(bronze.events) WHERE cents >= 0;
CREATE SINK minutes_out TO KAFKA (topic = '{topic}-minutes', partitions = 1)
AS SELECT * FROM STREAM(gold.by_minute);
CREATE SINK unique_out TO KAFKA (topic = '{topic}-unique', id = 'place', partitions = 1)
AS SELECT concat(kafka_partition, ':', kafka_offset) AS place, u.* FROM STREAM(silver.unique_events) AS u;
";

/// Messages of a topic by id, in one spelling. What was sent more than once must have been the same each time.
fn messages(kafka: &Kafka, topic: &str) -> (BTreeMap<String, String>, usize) {
    let records = kafka.read(topic);
    let mut by_id: BTreeMap<String, String> = BTreeMap::new();
    for record in &records {
        let id = record.id.clone().unwrap_or_else(|| panic!("a message of {topic} without an id"));
        let object: Map<String, Value> = serde_json::from_slice(&record.value).expect("a JSON object");
        if topic.ends_with("-events") {
            let key = record.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned());
            assert_eq!(key.as_deref(), object["city"].as_str(), "the key of {object:?}");
        }
        let text = spelled(object);
        let before = by_id.insert(id.clone(), text.clone());
        assert!(before.as_ref().is_none_or(|before| *before == text), "{topic}: {id} was {before:?}, then {text}");
    }
    (by_id, records.len())
}

/// An object as text, with times in microseconds and numbers as such: spellings differ between writers.
fn spelled(object: Map<String, Value>) -> String {
    let value = |value: Value| match &value {
        Value::String(text) => match chrono::DateTime::parse_from_rfc3339(text) {
            Ok(time) => Value::from(time.timestamp_micros()),
            Err(_) => value,
        },
        Value::Number(number) => Value::from(number.as_f64()),
        _ => value,
    };
    let sorted: BTreeMap<String, Value> = object.into_iter().map(|(column, v)| (column, value(v))).collect();
    serde_json::to_string(&sorted).expect("JSON")
}

/// Asserts that each topic holds the rows of its table; gives the number of messages that were sent more than once.
fn check(kafka: &Kafka, topic: &str, project: &Project) -> usize {
    let mut again = 0;
    for (out, table) in [("events", "bronze.events"), ("minutes", "gold.by_minute"), ("unique", "silver.unique_events")] {
        let (messages, sent) = messages(kafka, &format!("{topic}-{out}"));
        let mut rows: Vec<String> = Vec::new();
        for mut row in project.table(table).objects() {
            if out == "events" && row["cents"].as_i64().is_none_or(|cents| cents < 0) {
                continue;
            }
            if out == "unique" {
                row.insert("place".into(), format!("{}:{}", row["kafka_partition"], row["kafka_offset"]).into());
                assert!(messages.contains_key(row["place"].as_str().expect("a text")), "the sink's own id is not in the header: {row:?}");
            }
            rows.push(spelled(row));
        }
        rows.sort_unstable();
        let mut arrived: Vec<String> = messages.into_values().collect();
        arrived.sort_unstable();
        assert_eq!(arrived.len(), rows.len(), "ids in {topic}-{out}, and rows of {table}");
        let differ = arrived.iter().zip(&rows).find(|(arrived, row)| arrived != row);
        assert!(differ.is_none(), "{topic}-{out} and {table} differ: {differ:?}");
        again += sent - arrived.len();
    }
    again
}

/// Runs over all chunks, killed at `step` in three of them. Gives the number of messages that were sent more than once.
fn killed_at(step: &str) -> usize {
    let kafka = Kafka::shared();
    let topic = format!("sinks-{step}");
    kafka.create_topic(&topic, PARTITIONS);
    let project = Project::of(kafka.bootstrap(), &topic, &format!("{}{SINKS}", tables()));
    read_killed_at(step, kafka, &topic, &project);
    project.check(&input().1);
    check(kafka, &topic, &project)
}

#[test]
fn nobody_disturbs_and_nothing_is_sent_twice() {
    let kafka = Kafka::shared();
    kafka.create_topic("sinks", PARTITIONS);
    let project = Project::of(kafka.bootstrap(), "sinks", &format!("{}{SINKS}", tables()));
    for chunk in 0..CHUNKS {
        produce(kafka, "sinks", chunk);
        project.stream_to_end(chunk == CHUNKS - 1).succeeds();
    }
    assert_eq!(check(kafka, "sinks", &project), 0, "messages sent twice although every run ended cleanly");
    let query = "SELECT sink, delivery, rows FROM system.sinks ORDER BY 1";
    let said = project.watershed(["shell", "--output", "csv", "-c", query]).succeeds();
    let lines: Vec<&str> = said.lines().skip(1).collect();
    let events = kafka.read("sinks-events").len();
    let minutes = kafka.read("sinks-minutes").len();
    assert_eq!(lines[0], format!("events_out,at once,{events}"), "{said}");
    assert_eq!(lines[1], format!("minutes_out,after each epoch,{minutes}"), "{said}");
}

#[test]
fn killed_when_files_are_staged() {
    killed_at("files_staged");
}

#[test]
fn killed_when_the_record_is_written() {
    killed_at("record_written");
}

#[test]
fn killed_when_all_tables_are_committed() {
    killed_at("tables_committed");
}

#[test]
fn killed_when_rows_are_sent_and_not_acknowledged() {
    killed_at("sink_rows_sent");
}

#[test]
fn killed_when_rows_are_acknowledged_and_nobody_knows() {
    assert!(killed_at("sink_rows_acknowledged") > 0, "nothing was sent again: the kills prove nothing");
}

#[test]
fn a_sink_whose_broker_is_away_holds_its_pipeline_back_and_nothing_else() {
    let kafka = Kafka::shared();
    kafka.create_topic("sink-away", PARTITIONS);
    let mut other = Kafka::start();
    let sink = format!(
        "CREATE SINK events_out TO KAFKA (topic = 'out', partitions = 1, 'kafka.bootstrap.servers' = '{}')
         AS SELECT kafka_partition, kafka_offset FROM STREAM(bronze.events);",
        other.bootstrap()
    );
    other.kill();
    let project = Project::of(kafka.bootstrap(), "sink-away", &format!("{}{sink}", tables()));
    produce(kafka, "sink-away", 0);
    let mut running = project.stream().start();
    let all = kafka.ends("sink-away").values().sum::<i64>();
    running.until("the other pipelines commit", |_| (committed(&project, "gold.by_minute") == all).then_some(()));
    running
        .until("it says why it waits", |running| running.output().contains("sink 'events_out' cannot send to topic 'out'").then_some(()));
    assert_eq!(committed(&project, "bronze.events"), 0, "rows were committed that the sink has not sent");

    other.restart();
    running.until("it goes on by itself", |_| (committed(&project, "bronze.events") == all).then_some(()));
    // And away again, under way.
    other.kill();
    produce(kafka, "sink-away", 1);
    let all = kafka.ends("sink-away").values().sum::<i64>();
    running.until("the others go on", |_| (committed(&project, "gold.by_minute") == all).then_some(()));
    std::thread::sleep(Duration::from_millis(500));
    assert!(committed(&project, "bronze.events") < all, "rows were committed that the sink has not sent");
    other.restart();
    wait_for("it catches up", LIMIT, || running.output(), || (committed(&project, "bronze.events") == all).then_some(()));
    running.signal(libc::SIGTERM);
    let ended = running.wait(LIMIT);
    assert!(ended.status.success(), "{}\n{}", ended.status, ended.output());

    let mut arrived: Vec<(i64, i64)> = messages(&other, "out")
        .0
        .values()
        .map(|text| {
            let object: Value = serde_json::from_str(text).expect("JSON");
            let number = |column: &str| object[column].as_f64().expect("a number") as i64;
            (number("kafka_partition"), number("kafka_offset"))
        })
        .collect();
    arrived.sort_unstable();
    assert_eq!(arrived, project.table("bronze.events").pairs("kafka_partition", "kafka_offset"));
}

/// Its topic would never take it, however often it were sent.
#[test]
fn a_row_larger_than_the_topic_takes_is_set_aside_and_the_others_arrive() {
    let kafka = Kafka::shared();
    kafka.create_topic("large", 1);
    kafka.create_topic_with("large-out", 1, &[("max.message.bytes", "2000")]);
    let definitions = "
        CREATE SOURCE texts (id BIGINT, s VARCHAR) WITH (topic = '{topic}');
        CREATE STREAMING TABLE bronze.texts WITH (commit_interval = '50 milliseconds') AS SELECT id, s FROM texts;
        CREATE SINK texts_out TO KAFKA (topic = '{topic}-out') AS SELECT id, s FROM STREAM(bronze.texts);";
    let project = Project::of(kafka.bootstrap(), "large", definitions);
    // No compression makes it small.
    let letter = |at: u64| char::from(b'a' + (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as u8 % 26);
    let text = |id: u64, letters: u64| format!("{{\"id\":{id},\"s\":\"{}\"}}", (0..letters).map(|at| letter(at + id)).collect::<String>());
    let produced: Vec<String> = (0..30).map(|id| text(id, if id == 7 { 20_000 } else { 500 })).collect();
    kafka.produce("large", produced.iter().map(|message| (0, message.as_bytes())));
    for _ in 0..2 {
        project.stream_to_end(false).succeeds();
    }
    assert_eq!(project.ask("SELECT count(*) FROM bronze.texts"), ["30"]);
    let (sent, _) = messages(kafka, "large-out");
    let expected: Vec<String> = (0..30).filter(|id| *id != 7).map(|id| format!("texts/0/{id}")).collect();
    assert_eq!(sent.len(), expected.len());
    assert!(expected.iter().all(|id| sent.contains_key(id)), "{:?}", sent.keys());
    let aside = project.ask("SELECT partition, \"offset\", reason FROM bronze.\"texts$quarantine\"");
    assert!(aside.len() == 1 && aside[0].starts_with("0,7,") && aside[0].contains("larger than the topic takes"), "{aside:?}");
    assert_eq!(project.ask("SELECT rows FROM system.sinks"), ["29"]);
}

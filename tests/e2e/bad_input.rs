//! Every kind of bad record between good ones: each is set aside with its bytes, its place and the reason; nothing else is disturbed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use chrono::DateTime;
use serde_json::Value;

use crate::kafka::Kafka;
use crate::project::Project;
use crate::table::time_text;

/// All columns are read by both tables, so that what is bad for one is bad for the other.
const DEFINITIONS: &str = "\
CREATE SOURCE odd (
    id    VARCHAR NOT NULL,
    at    TIMESTAMP NOT NULL,
    n     INT,
    price DECIMAL(6, 2),
    place STRUCT<lat DOUBLE, lon DOUBLE>,
    tags  LIST<VARCHAR>,
    kafka_partition INT    METADATA FROM 'partition',
    kafka_offset    BIGINT METADATA FROM 'offset',
    WATERMARK FOR at AS at - INTERVAL '10 seconds'
) WITH (connector = 'kafka', topic = '{topic}', format = 'json', on_error = '{on_error}', idle_timeout = '1 hour');

CREATE STREAMING TABLE bronze.odd WITH (commit_interval = '50 milliseconds')
AS SELECT id, n, price, place, tags, kafka_partition, kafka_offset FROM odd;

CREATE STREAMING TABLE gold.odd_minutes WITH (commit_interval = '50 milliseconds')
AS SELECT window_start, window_end, count(id) AS events, count(n) AS ns, sum(price) AS price, count(place) AS places, count(tags) AS tagged
FROM TUMBLE(TABLE odd, DESCRIPTOR(at), INTERVAL '1 minute')
GROUP BY window_start, window_end;

CREATE SOURCE calm (id VARCHAR, kafka_partition INT METADATA FROM 'partition', kafka_offset BIGINT METADATA FROM 'offset')
WITH (connector = 'kafka', topic = '{topic}', format = 'json');
CREATE STREAMING TABLE bronze.calm WITH (commit_interval = '50 milliseconds')
AS SELECT id, kafka_partition, kafka_offset FROM calm;
";

const PARTITIONS: i32 = 2;
/// 2024-06-01 10:00 UTC.
const START_US: i64 = 1_717_236_000_000_000;
const TEN_MIB: usize = 10 << 20;

/// A message, and what must become of it.
struct Message {
    value: Option<Vec<u8>>,
    /// Its time, in seconds after the start, if it is good.
    second: Option<i64>,
    /// What the reason begins with, if it is bad.
    reason: Option<&'static str>,
}

/// A good message `second` seconds after the start; more members may follow.
fn good(second: i64, more: &str) -> Vec<u8> {
    let time = DateTime::from_timestamp_micros(START_US + second * 1_000_000).expect("a time").format("%Y-%m-%dT%H:%M:%SZ");
    format!(r#"{{"id":"g-{second}","at":"{time}"{more}}}"#).into_bytes()
}

/// A message with good members but these.
fn with(members: &str) -> Vec<u8> {
    format!(r#"{{"id":"bad","at":"2024-06-01T10:00:00Z",{members}}}"#).into_bytes()
}

/// Every kind of bad value, with what the reason begins with.
fn bad() -> Vec<(Option<Vec<u8>>, &'static str)> {
    let far = chrono::Utc::now().timestamp_millis() + 400 * 86_400_000;
    let text = |text: &str| Some(text.as_bytes().to_vec());
    let digits = "9".repeat(100_000);
    vec![
        // No JSON.
        (text(r#"{"id":"x","at":"2024-06-01T10"#), "column 'at': not JSON: ends after"),
        (text("502 Bad Gateway"), "expected a JSON object, found a number"),
        (text("<html></html>"), "expected a JSON object, found something else"),
        (text(r#"[{"id":"x"}]"#), "expected a JSON object, found an array"),
        (
            text(r#"{"id":"x","at":"2024-06-01T10:00:00Z"}{"id":"y","at":"2024-06-01T10:00:00Z"}"#),
            "not JSON at byte 38: expected the end of the message",
        ),
        (text("\u{feff}{}"), "column 'id': missing"),
        // Bytes that are no text.
        (Some(b"{\"id\":\"\xff\xfe\",\"at\":\"2024-06-01T10:00:00Z\"}".to_vec()), "not UTF-8 at byte"),
        (Some(b"{\"id\":\"x\",\"\xc3\x28\":1,\"at\":\"2024-06-01T10:00:00Z\"}".to_vec()), "not UTF-8 at byte"),
        (Some(vec![0; 64]), "the message begins with byte 00"),
        (Some(with(r#""tags":["\ud800"]"#)), "column 'tags': a \\u escape that is half of a surrogate pair"),
        // Nothing.
        (Some(Vec::new()), "empty message"),
        (text(" \n "), "empty message"),
        (None, "no value (a tombstone; the source's option tombstones = 'skip' passes over them)"),
        // Another type.
        (text(r#"{"id":7,"at":"2024-06-01T10:00:00Z"}"#), "column 'id': expected a string, found a number"),
        (Some(with(r#""n":"seven""#)), "column 'n': expected a number, found the string 'seven'"),
        (Some(with(r#""n":true"#)), "column 'n': expected a whole number, found a boolean"),
        (Some(with(r#""place":[1,2]"#)), "column 'place': expected"),
        (Some(with(r#""tags":"a,b""#)), "column 'tags': expected"),
        (Some(with(&format!(r#""n":"{}""#, "x".repeat(100_000)))), "column 'n': expected a number, found the string 'x"),
        // What must be there.
        (text(r#"{"at":"2024-06-01T10:00:00Z"}"#), "column 'id': missing"),
        (text(r#"{"id":null,"at":"2024-06-01T10:00:00Z"}"#), "column 'id': null, yet it is NOT NULL"),
        (text(r#"{"id":"x"}"#), "column 'at': missing"),
        // Numbers that do not fit.
        (Some(with(r#""n":2147483648"#)), "column 'n': 2147483648 does not fit INT"),
        (Some(with(r#""n":1e99"#)), "column 'n': 1e99 does not fit"),
        (Some(with(r#""n":1.5"#)), "column 'n': 1.5 does not fit a whole number"),
        (Some(with(&format!(r#""n":{digits}"#))), "column 'n': 999"),
        (Some(with(r#""price":10000.00"#)), "column 'price': 10000.00 does not fit DECIMAL(6, 2)"),
        (Some(with(r#""price":1.005"#)), "column 'price': 1.005 does not fit DECIMAL(6, 2)"),
        (Some(with(r#""place":{"lat":1e999,"lon":0}"#)), "column 'place.lat': 1e999 does not fit DOUBLE"),
        // Times that would move the watermark to where every other row is late, or are none.
        (text(r#"{"id":"x","at":"0001-01-01T00:00:00Z"}"#), "column 'at': absurd event time"),
        (text(r#"{"id":"x","at":"9999-12-31T23:59:59Z"}"#), "column 'at': absurd event time"),
        (text(r#"{"id":"x","at":"+12345-01-01T00:00:00Z"}"#), "column 'at': "),
        (text(r#"{"id":"x","at":9223372036854775807}"#), "column 'at': "),
        (text(&format!(r#"{{"id":"x","at":{far}}}"#)), "column 'at': event time is"),
        (text(r#"{"id":"x","at":"2024-13-01T00:00:00Z"}"#), "column 'at': '2024-13-01T00:00:00Z' is not a timestamp"),
        // Large and deep.
        (Some(vec![b'x'; TEN_MIB]), "expected a JSON object, found something else"),
        (Some(with(&format!(r#""deep":{}{}"#, "[".repeat(10_000), "]".repeat(10_000)))), "nested deeper than 128"),
        (Some(with(&format!(r#""place":{}"#, r#"{"lat":"#.repeat(10_000)))), "column 'place"),
    ]
}

/// Good messages that look odd: what else is in them, after `id` and `at`.
fn odd_but_good() -> Vec<String> {
    let large = format!(r#","tags":["{}"]"#, "y".repeat(TEN_MIB));
    let odd = [
        r#","extra":1,"more":{"a":[{"b":null}]}"#,
        r#","n":-2147483648,"price":-9999.99"#,
        r#","n":null,"price":null,"place":null,"tags":null"#,
        r#","n":1,"n":2"#,
        r#","place":{"lat":1.5,"lon":-2.5,"alt":3},"tags":[]"#,
        r#","price":"12.30","n":1e3"#,
        r#","tags":["nul \u0000 inside","😀","\ud83d\ude00"]"#,
        ",\"tags\":[\"raw \0 inside\"]",
    ];
    odd.into_iter().map(str::to_owned).chain([large]).collect()
}

/// The messages of each partition: bad ones and odd ones, a plain one after each, so that whatever a bad one breaks shows in its neighbour.
fn messages() -> &'static BTreeMap<i32, Vec<Message>> {
    static MESSAGES: OnceLock<BTreeMap<i32, Vec<Message>>> = OnceLock::new();
    MESSAGES.get_or_init(|| {
        let mut partitions: BTreeMap<i32, Vec<Message>> = BTreeMap::new();
        let mut second = 0;
        for (index, (value, reason)) in (0..).zip(bad()) {
            let of = partitions.entry(index % PARTITIONS).or_default();
            of.push(Message { value, second: None, reason: Some(reason) });
            second += 5;
            of.push(Message { value: Some(good(second, r#","n":1,"price":0.25"#)), second: Some(second), reason: None });
        }
        for (index, more) in (0..).zip(odd_but_good()) {
            second += 5;
            let message = Message { value: Some(good(second, &more)), second: Some(second), reason: None };
            partitions.entry(index % PARTITIONS).or_default().push(message);
        }
        partitions
    })
}

/// One more good message for each partition, `second` seconds after the start.
fn last(second: i64) -> Vec<(i32, Vec<u8>)> {
    (0..PARTITIONS).map(|partition| (partition, good(second, ""))).collect()
}

fn project(topic: &str, on_error: &str) -> (Project, &'static Kafka) {
    let kafka = Kafka::shared();
    kafka.create_topic_with(topic, PARTITIONS, &[("max.message.bytes", "20000000")]);
    let folder = crate::tools::folder("odd-").keep();
    crate::tools::delete_at_exit(&folder);
    let project = Project::bare(kafka.bootstrap(), folder.join("warehouse"));
    project.apply(topic, &DEFINITIONS.replace("{on_error}", on_error));
    (project, kafka)
}

fn produce(kafka: &Kafka, topic: &str) {
    let all = messages().iter().flat_map(|(partition, of)| of.iter().map(|message| (*partition, message)));
    kafka.produce_keyed(topic, all.map(|(partition, message)| (partition, Some(b"the key".as_slice()), message.value.as_deref())));
}

/// Places of the messages that are bad, or good.
fn places(bad: bool) -> BTreeSet<(i64, i64)> {
    let all = messages().iter().flat_map(|(partition, of)| (0..).zip(of).map(|(offset, message)| (i64::from(*partition), offset, message)));
    all.filter(|(_, _, message)| message.reason.is_some() == bad).map(|(partition, offset, _)| (partition, offset)).collect()
}

#[test]
fn every_kind_of_bad_record_is_set_aside_and_disturbs_nothing() {
    let topic = "odd";
    let (project, kafka) = project(topic, "quarantine");
    produce(kafka, topic);
    project.stream_to_end(false).succeeds();

    assert_eq!(project.places("bronze.odd"), places(false), "bronze.odd");
    check_quarantine(&project, topic);
    // Every window that all partitions have passed is closed, and no other: no bad time has pushed a watermark.
    let newest = |of: &Vec<Message>| of.iter().filter_map(|message| message.second).max();
    let watermark = messages().values().filter_map(newest).min().expect("messages") - 10;
    check_minutes(&project, &[], |minute| (minute + 1) * 60 <= watermark);

    // Rows right after the watermark of the good ones are still in time.
    let more = last(watermark + 5);
    kafka.produce(topic, more.iter().map(|(partition, value)| (*partition, value.as_slice())));
    project.stream_to_end(true).succeeds();
    check_minutes(&project, &[watermark + 5; PARTITIONS as usize], |_| true);
    for table in ["gold.odd_minutes$late", "bronze.odd$late"] {
        assert!(!crate::table::DeltaTable::exists(&project.files, table) || project.table(table).count() == 0, "{table} has rows");
    }
    check_odd_values(&project);
}

fn check_quarantine(project: &Project, topic: &str) {
    let mut found: BTreeMap<String, BTreeSet<(i64, i64)>> = BTreeMap::new();
    for row in project.table("bronze.odd$quarantine").objects() {
        let (partition, offset) = (row["partition"].as_i64().expect("partition"), row["offset"].as_i64().expect("offset"));
        let message = &messages()[&(partition as i32)][offset as usize];
        let said = row["reason"].as_str().expect("a reason");
        let wanted = message.reason.unwrap_or_else(|| panic!("{partition}/{offset} is good, yet it was set aside: {said}"));
        assert!(said.starts_with(wanted), "{partition}/{offset}: the reason is '{said}', not '{wanted}…'");
        assert!(said.len() < 300, "{partition}/{offset}: a reason of {} bytes", said.len());
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert!(row["value"].as_str() == message.value.as_deref().map(hex).as_deref(), "{partition}/{offset}: not the bytes that came");
        assert_eq!(row["key"].as_str(), Some(hex(b"the key").as_str()));
        assert_eq!((row["topic"].as_str(), row["source"].as_str()), (Some(topic), Some("odd")));
        assert!(row["append_time"].is_string(), "{partition}/{offset}: no append time");
        let pipeline = row["pipeline"].as_str().expect("a pipeline").to_owned();
        assert!(found.entry(pipeline).or_default().insert((partition, offset)), "{partition}/{offset} was set aside twice");
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), ["bronze.odd", "gold.odd_minutes"]);
    for (pipeline, found) in found {
        assert_eq!(found, places(true), "set aside by {pipeline}");
    }
}

/// Compares the windows with the good messages and `more` seconds, those for which `closed` holds of their minute.
fn check_minutes(project: &Project, more: &[i64], closed: impl Fn(i64) -> bool) {
    let mut expected: BTreeMap<String, i64> = BTreeMap::new();
    let seconds = messages().values().flatten().filter_map(|message| message.second);
    for second in seconds.chain(more.iter().copied()).filter(|second| closed(second / 60)) {
        *expected.entry(time_text(START_US + second / 60 * 60_000_000)).or_default() += 1;
    }
    let row = |row: serde_json::Map<String, Value>| {
        (row["window_start"].as_str().expect("window_start").to_owned(), row["events"].as_i64().expect("events"))
    };
    let found: BTreeMap<String, i64> = project.table("gold.odd_minutes").objects().into_iter().map(row).collect();
    assert_eq!(found, expected, "gold.odd_minutes");
}

fn check_odd_values(project: &Project) {
    let text = |query: &str| project.ask(query).join("|");
    assert_eq!(text("SELECT n, price FROM bronze.odd WHERE n < 0"), "-2147483648,-9999.99");
    assert_eq!(text("SELECT place['lat'], place['lon'], cardinality(tags) FROM bronze.odd WHERE place IS NOT NULL"), "1.5,-2.5,0");
    assert_eq!(text("SELECT n, price FROM bronze.odd WHERE n = 1000"), "1000,12.30");
    assert_eq!(text("SELECT count(*) FROM bronze.odd WHERE n = 2"), "1", "the last of equal keys counts");
    assert_eq!(text(&format!("SELECT count(*) FROM bronze.odd WHERE length(tags[1]) = {TEN_MIB}")), "1");
    assert_eq!(text("SELECT count(*) FROM bronze.odd WHERE tags[2] = tags[3]"), "1", "an escaped character is the same character");
    for wanted in ["nul \0 inside", "raw \0 inside"] {
        let has = |row: &serde_json::Map<String, Value>| row["tags"][0].as_str() == Some(wanted);
        assert_eq!(project.table("bronze.odd").objects().iter().filter(|row| has(row)).count(), 1, "{wanted:?}");
    }
}

#[test]
fn on_error_fail_stops_its_pipelines_at_the_record_and_no_others() {
    let topic = "odd-strict";
    let (project, kafka) = project(topic, "fail");
    kafka.produce(topic, [(0, good(1, "").as_slice()), (0, &good(2, "")), (0, br#"{"id":7}"#), (0, &good(3, "")), (1, &good(4, ""))]);
    let ended = project.stream_to_end(true).run();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.output());
    for part in ["bronze.odd", "gold.odd_minutes", "source 'odd' cannot accept the record at odd-strict/0/2", "on_error = 'quarantine'"] {
        assert!(ended.stderr.contains(part), "it does not say '{part}'\n{}", ended.output());
    }
    let calm = project.places("bronze.calm");
    assert_eq!(calm, BTreeSet::from([(0, 0), (0, 1), (0, 3), (1, 0)]), "the pipeline beside it was disturbed");

    // The way out that the error names.
    project.apply(topic, &DEFINITIONS.replace("{on_error}", "quarantine"));
    project.stream_to_end(true).succeeds();
    assert_eq!(project.places("bronze.odd"), calm);
    assert_eq!(project.table("bronze.odd$quarantine").count(), 2, "by both pipelines");
}

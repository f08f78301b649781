//! Rows that an expression fails on are set aside one by one, wherever it is in the query; all others go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use watershed_dialect::SourceDefinition;
use watershed_ingest::kafka::KafkaSettings;
use watershed_ingest::source::{FetchLimits, PartitionProgress, PartitionRange, Positions};
use watershed_ingest::{IngestError, OpenSource, SourceBatch, SourceRead};
use watershed_stream::{Project, RunOptions, Runner, StreamError, Until};

use crate::topic::Topic;

const SOURCE: &str = "CREATE SOURCE s (c BIGINT, s VARCHAR, t TIMESTAMP NOT NULL, k VARCHAR, d DECIMAL(38, 2),
    WATERMARK FOR t AS t - INTERVAL '1 second') WITH (connector = 'kafka', topic = 't', format = 'json', max_skew = '36500 days'";

fn definitions(options: &str, query: &str) -> String {
    format!("{SOURCE}{options});\nCREATE STREAMING TABLE gold.x WITH (commit_interval = '20 milliseconds') AS {query};")
}

/// Row 1 fails, rows 0 and 2 are good; row 3 closes windows.
const MESSAGES: [&str; 4] = [
    r#"{"c":1,"s":"1","t":"2024-06-01T10:00:01Z","k":"a"}"#,
    r#"{"c":0,"s":"x","t":"2024-06-01T10:00:02Z","k":"a"}"#,
    r#"{"c":2,"s":"2","t":"2024-06-01T10:00:03Z","k":"a"}"#,
    r#"{"c":5,"s":"5","t":"2024-06-01T11:00:00Z","k":"b"}"#,
];

const QUARANTINED: &str =
    "SELECT topic, partition, \"offset\", CAST(value AS VARCHAR) AS value, reason, pipeline FROM t ORDER BY \"offset\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_an_expression_fails_on_is_set_aside_and_the_others_go_on() {
    let tumble = "FROM TUMBLE(TABLE s, DESCRIPTOR(t), INTERVAL '1 minute') GROUP BY window_start, window_end";
    let cases = [
        ("SELECT 10 / c AS x FROM s".to_string(), vec!["2", "5", "10"], "column 'x': 10 / c fails: division by zero"),
        ("SELECT 10 % c AS x FROM s".to_string(), vec!["0", "0", "0"], "column 'x': 10 % c fails: division by zero"),
        ("SELECT CAST(s AS INT) AS x FROM s".to_string(), vec!["1", "2", "5"], "Cannot cast string 'x'"),
        ("SELECT c AS x FROM s WHERE 10 / c > 0".to_string(), vec!["1", "2", "5"], "10 / c > 0 fails: division by zero"),
        (format!("SELECT sum(10 / c) AS x {tumble}"), vec!["15", "2"], "within sum(10 / s.c): 10 / c fails: division by zero"),
        (format!("SELECT count(*) FILTER (WHERE 10 / c > 0) AS x {tumble}"), vec!["1", "2"], "10 / c > 0 fails: division by zero"),
        (format!("SELECT 10 / c AS x, count(*) AS n {tumble}, 10 / c"), vec!["10", "2", "5"], "10 / c fails: division by zero"),
        (
            "SELECT sum(10 / c) OVER (PARTITION BY k ORDER BY t RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW) AS x FROM s".into(),
            vec!["10", "15", "2"],
            "OVER: 10 / c fails: division by zero",
        ),
        (
            "SELECT 10 / c AS x FROM DEDUPLICATE(TABLE s PARTITION BY c, DESCRIPTOR(t), INTERVAL '1 minute')".into(),
            vec!["10", "2", "5"],
            "column 'x': 10 / c fails: division by zero",
        ),
        (
            "SELECT sum(10 / c) AS x FROM HOP(TABLE s, DESCRIPTOR(t), INTERVAL '30 seconds', INTERVAL '1 minute') GROUP BY window_start, window_end".into(),
            vec!["15", "15", "2", "2"],
            "10 / c fails: division by zero",
        ),
    ];
    for (query, expected, reason) in cases {
        let topic = Topic::new();
        topic.send(&MESSAGES);
        topic.run(&definitions("", &query), true).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        let mut found = topic.rows("gold.x", "SELECT x FROM t").await;
        let mut expected: Vec<String> = expected.into_iter().map(Into::into).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{query}");
        let aside = topic.rows("bronze.s$quarantine", QUARANTINED).await;
        assert_eq!(aside.len(), 1, "{query}: {aside:?}");
        assert!(aside[0].starts_with("t|0|1|") && aside[0].contains(reason) && aside[0].ends_with("|gold.x"), "{query}: {aside:?}");
        // Where the record is still at hand its bytes are kept.
        let is_keyed = query.contains("OVER") || query.contains("DEDUPLICATE");
        assert_eq!(aside[0].contains(MESSAGES[1]), !is_keyed, "{query}: {aside:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_a_row_fails_follows_from_the_row_alone() {
    // AND and CASE look at their second part only where they must: row by row, whatever is in the batch beside it.
    let query = "SELECT c AS x, CASE WHEN c <> 0 THEN 10 / c END AS q FROM s WHERE (c <> 0 AND 10 / c >= 1) OR CAST(s AS INT) = 7";
    let of = |c: i64, s: &str| format!(r#"{{"c":{c},"s":"{s}","t":"2024-06-01T10:00:01Z"}}"#);
    let messages: Vec<String> = (0..64).map(|i| if i % 8 == 3 { of(0, "x") } else { of(i % 3, "7") }).collect();
    let topic = Topic::new();
    topic.send(&messages);
    topic.run(&definitions("", query), false).await.expect("it ends");
    let aside = topic.rows("bronze.s$quarantine", "SELECT \"offset\" FROM t ORDER BY 1").await;
    assert_eq!(aside, ["3", "11", "19", "27", "35", "43", "51", "59"]);
    assert_eq!(topic.rows("gold.x", "SELECT count(*) FROM t").await, ["56"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_fails_is_set_aside_with_its_key_and_the_others_are_not_lost() {
    let message = |k: &str, d: &str, second: u32| format!(r#"{{"c":1,"t":"2024-06-01T10:00:{second:02}Z","k":"{k}","d":"{d}"}}"#);
    let big = "999999999999999999999999999999999999.99";
    let messages = [message("a", big, 1), message("a", big, 2), message("b", "1.50", 3), message("c", "2.50", 4)];
    let tumble = "FROM TUMBLE(TABLE s, DESCRIPTOR(t), INTERVAL '1 minute') GROUP BY window_start, window_end, k";
    for (query, reason) in [
        (format!("SELECT k AS x, avg(d) AS a {tumble}"), "k=a"),
        (format!("SELECT k AS x, sum(c) / (count(*) - 2) AS a {tumble}"), "column 'a': "),
        (format!("SELECT k AS x {tumble} HAVING sum(c) / (count(*) - 2) < 0"), "WHERE or HAVING: "),
    ] {
        let topic = Topic::new();
        topic.send(&messages);
        topic.run(&definitions("", &query), true).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        assert_eq!(topic.rows("gold.x", "SELECT x FROM t ORDER BY x").await, ["b", "c"], "{query}");
        let aside = topic.rows("bronze.s$quarantine", QUARANTINED).await;
        assert_eq!(aside.len(), 1, "{query}: {aside:?}");
        assert!(aside[0].starts_with("t|-1|-1|NULL|") && aside[0].contains(reason), "{query}: {aside:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_before_a_record_that_must_not_be_passed_is_committed() {
    let sum = "SELECT sum(10 / c) AS x FROM TUMBLE(TABLE s, DESCRIPTOR(t), INTERVAL '1 minute') GROUP BY window_start, window_end";
    let bad = r#"{"c":"many","t":"2024-06-01T10:00:02Z"}"#;
    let later = r#"{"c":4,"t":"2024-06-01T10:30:00Z"}"#;
    for (second, query, before, named) in [
        (
            MESSAGES[1],
            "SELECT 10 / c AS x FROM s",
            vec!["10"],
            "gold.x cannot take the record at t/0/1: column 'x': 10 / c fails: division by zero; ",
        ),
        (bad, "SELECT c AS x FROM s", vec!["1"], "source 's' cannot accept the record at t/0/1: column 'c': "),
        (MESSAGES[1], sum, vec![], "gold.x cannot take the record at t/0/1: within sum"),
    ] {
        let topic = Topic::new();
        topic.send(&[MESSAGES[0], second, later]);
        for start in 0..2 {
            let error = topic.run(&definitions(", on_error = 'fail'", query), true).await.expect_err("it must not pass");
            assert!(error.to_string().starts_with(named), "{error}");
            assert_eq!(topic.rows("gold.x", "SELECT x FROM t").await, before, "start {start} of {query}");
        }
        // Told to let it aside, the pipeline goes on at that record and finds its windows as they were before it.
        topic.run(&definitions("", query), true).await.expect("it passes");
        let after = topic.rows("gold.x", "SELECT x FROM t ORDER BY x").await;
        assert_eq!(after.len(), 2, "{query}: {after:?}");
        assert_eq!(topic.rows("bronze.s$quarantine", "SELECT \"offset\" FROM t").await, ["1"], "{query}");
    }
}

/// A source that panics when it is read.
#[derive(Debug)]
struct Panics;

impl OpenSource for Panics {
    fn partitions(&self, _: &SourceDefinition) -> Result<Vec<PartitionRange>, IngestError> {
        Ok(vec![PartitionRange { partition: 0, low: 0, high: 1 }])
    }

    fn open(&self, _: &SourceDefinition, _: &[usize], _: &Positions, _: &str) -> Result<Box<dyn SourceRead>, IngestError> {
        Ok(Box::new(Panics))
    }
}

impl SourceRead for Panics {
    fn poll(&mut self, _: FetchLimits, _: Duration) -> Result<Vec<SourceBatch>, IngestError> {
        let nothing: BTreeMap<i32, i64> = BTreeMap::new();
        panic!("no row {}", nothing.len())
    }

    fn progress(&mut self) -> Vec<PartitionProgress> {
        Vec::new()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_that_comes_again_ends_the_pipeline_by_name() {
    let topic = Topic::new();
    let project = Project::parse([definitions("", "SELECT c FROM s").as_str()]).expect("definitions");
    let options = RunOptions {
        sources: Arc::new(Panics),
        sinks: Arc::new(KafkaSettings::new("nobody:9092")),
        only: Vec::new(),
        until: Until::Stopped,
        parallelism: Some(1),
    };
    let runner = Runner::start(topic.warehouse.clone(), &project, options).await.expect("started");
    let ended = tokio::time::timeout(Duration::from_secs(30), runner.join()).await.expect("it does not start again for ever");
    let (_, result) = &ended[0];
    let error = result.as_ref().expect_err("it cannot go on");
    assert!(matches!(error, StreamError::TaskDied { what, .. } if what == "no row 0"), "{error}");
}

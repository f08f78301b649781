//! Rows that an expression fails on are set aside one by one, wherever it is in the query; all others go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use watershed_dialect::SourceDefinition;
use watershed_ingest::kafka::KafkaSettings;
use watershed_ingest::source::{FetchLimits, PartitionProgress, PartitionRange, Positions};
use watershed_ingest::{IngestError, OpenSource, SourceBatch, SourceRead};
use watershed_stream::{Held, Project, RunOptions, Runner, StreamError, Until};

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

/// What to do about a row that must not be passed.
const ADVICE: &str = "; correct the query (TRY_CAST gives NULL where CAST fails, NULLIF(c, 0) where a divisor is 0), or let such rows \
                      aside with on_error = 'quarantine' in the source";

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
async fn values_that_a_type_does_not_hold_are_set_aside() {
    let message = |c: i64, s: &str| format!(r#"{{"c":{c},"s":"{s}","t":"2024-06-01T10:00:01Z"}}"#);
    let messages = [message(1, "2024-06-01T10:00:00Z"), message(i64::MAX, "no time"), message(-2, "1500-01-01")];
    for (expression, reason) in [
        ("CAST(c AS TINYINT)", "9223372036854775807"),
        ("CAST(c AS DECIMAL(3, 2))", "9223372036854775807"),
        ("to_timestamp(s)", "to_timestamp: 'no time' cannot be read as RFC 3339 or a date"),
        ("c * c", "9223372036854775807 * 9223372036854775807 does not fit BIGINT"),
        ("c + 1", "9223372036854775807 + 1 does not fit BIGINT"),
    ] {
        let topic = Topic::new();
        topic.send(&messages);
        let query = format!("SELECT c, {expression} AS x FROM s");
        topic.run(&definitions("", &query), false).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        assert_eq!(topic.rows("gold.x", "SELECT c FROM t WHERE x IS NOT NULL ORDER BY c").await, ["-2", "1"], "{query}");
        let aside = topic.rows("bronze.s$quarantine", QUARANTINED).await;
        assert_eq!(aside.len(), 1, "{query}: {aside:?}");
        let said = aside[0].strip_prefix(&format!("t|0|1|{}|column 'x': ", messages[1]));
        assert!(said.is_some_and(|said| said.contains(" fails: ") && said.contains(reason)), "{query}: {aside:?}");
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
        (format!("SELECT k AS x, sum(d) AS a {tumble}"), "does not fit DECIMAL(38, 2): it is "),
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
async fn sums_that_leave_their_type_are_set_aside_and_those_that_are_back_in_it_are_not() {
    let message = |c: i64, d: &str, k: &str, second: u32| format!(r#"{{"c":{c},"d":"{d}","t":"2024-06-01T10:00:{second:02}Z","k":"{k}"}}"#);
    let messages = [
        message(i64::MAX, "999999999999999999999999999999999999.99", "a", 1),
        message(1, "0.01", "a", 2),
        message(-5, "-5.00", "a", 3),
        message(7, "7.00", "b", 4),
    ];
    let over = |call: &str| {
        let window = "PARTITION BY k ORDER BY t RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND CURRENT ROW";
        format!("SELECT k AS x, {call} OVER ({window}) AS a FROM s")
    };
    let within = |seconds: u32| {
        let tumble = format!("FROM TUMBLE(TABLE s, DESCRIPTOR(t), INTERVAL '{seconds} seconds') GROUP BY window_start, window_end, k");
        format!("SELECT k AS x, sum(c) AS a {tumble}")
    };
    // A result of OVER is of one record, that of a window of several.
    for (query, kept, aside, reason) in [
        (over("sum(c)"), vec!["a", "a", "b"], vec!["1"], "does not fit BIGINT: it is 9223372036854775808"),
        (over("sum(d)"), vec!["a", "a", "b"], vec!["1"], "does not fit DECIMAL(38, 2): it is 1000000000000000000000000000000000000.00"),
        (over("avg(d)"), vec!["b"], vec!["0", "1", "2"], "does not fit DECIMAL(38, 6)"),
        (within(3), vec!["a", "b"], vec!["-1"], "does not fit BIGINT: it is 9223372036854775808"),
        (within(60), vec!["a", "b"], vec![], ""),
    ] {
        let topic = Topic::new();
        topic.send(&messages);
        topic.run(&definitions("", &query), true).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        assert_eq!(topic.rows("gold.x", "SELECT x FROM t ORDER BY x").await, kept, "{query}");
        let found = topic.rows("bronze.s$quarantine", QUARANTINED).await;
        assert_eq!(topic.rows("bronze.s$quarantine", "SELECT \"offset\" FROM t ORDER BY 1").await, aside, "{query}: {found:?}");
        assert!(found.iter().all(|row| row.contains(reason) && row.contains("k=a")), "{query}: {found:?}");
    }
    let topic = Topic::new();
    topic.send(&messages);
    let error = topic.run(&definitions(", on_error = 'fail'", &over("sum(c)")), true).await.expect_err("it must not pass").to_string();
    assert!(error.starts_with("gold.x cannot take the record of partition 0, offset 1: OVER: ") && error.ends_with(ADVICE), "{error}");
    assert!(topic.rows("bronze.s$quarantine", QUARANTINED).await.is_empty());
}

/// All rows together make a text that is too long, and none of them does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aggregate_that_fails_over_all_its_rows_ends_the_pipeline_with_its_window() {
    let messages: Vec<String> = (0..2_400).map(|i| format!(r#"{{"s":"{i}","t":"2024-06-01T10:00:01Z"}}"#)).collect();
    let between = ",".repeat(30_000);
    let tumble = "FROM TUMBLE(TABLE s, DESCRIPTOR(t), INTERVAL '1 minute') GROUP BY window_start, window_end";
    let topic = Topic::new();
    topic.send(&messages);
    let query = format!("SELECT string_agg(DISTINCT s, '{between}') AS x {tumble}");
    let error = topic.run(&definitions("", &query), true).await.expect_err("no text is so long").to_string();
    let window = "an aggregate of the window from 2024-06-01 10:00:00 to 2024-06-01 10:01:00 failed: ";
    assert!(error.starts_with(&format!("{window}string_agg() would make a value of ")), "{error}");
    assert!(error.contains("; let the query aggregate less at once"), "{error}");
    assert!(topic.rows("gold.x", "SELECT x FROM t").await.is_empty());
    assert!(topic.rows("bronze.s$quarantine", QUARANTINED).await.is_empty());
}

/// Delta reads such a value as NULL. NULL itself is a partition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_partition_value_goes_to_the_quarantine() {
    let message = |c: u32, k: &str| format!(r#"{{"c":{c},"t":"2024-06-01T10:00:01Z","k":{k}}}"#);
    let messages = [message(1, r#""a""#), message(2, r#""""#), message(3, "null"), message(4, r#""b""#)];
    let window = "SELECT sum(c) AS c, k FROM TUMBLE(TABLE s, DESCRIPTOR(t), INTERVAL '1 minute') GROUP BY window_start, window_end, k";
    for (query, place) in [("SELECT c, k FROM s", "t|0|1|{"), (window, "t|-1|-1|NULL|")] {
        let topic = Topic::new();
        topic.send(&messages);
        let table = "CREATE STREAMING TABLE gold.x PARTITIONED BY (k) WITH (commit_interval = '20 milliseconds')";
        topic.run(&format!("{SOURCE});\n{table} AS {query};"), true).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        assert_eq!(topic.rows("gold.x", "SELECT c, k FROM t ORDER BY c").await, ["1|a", "3|NULL", "4|b"], "{query}");
        let aside = topic.rows("bronze.s$quarantine", QUARANTINED).await;
        assert_eq!(aside.len(), 1, "{query}: {aside:?}");
        let reason = "column 'k': PARTITIONED BY (k) fails: an empty text";
        assert!(aside[0].starts_with(place) && aside[0].contains(reason) && aside[0].ends_with("|gold.x"), "{query}: {aside:?}");
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
            // What is wrong with a record itself no query can mend.
            assert_eq!(error.to_string().ends_with(ADVICE), second != bad, "{error}");
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
        state_limits: Default::default(),
        spill_dir: std::env::temp_dir(),
        parallelism: Some(1),
    };
    let runner = Runner::start(topic.warehouse.clone(), &project, options).await.expect("started");
    let ended = tokio::time::timeout(Duration::from_secs(30), runner.join()).await.expect("it does not start again for ever");
    let (_, result) = &ended[0];
    let error = result.as_ref().expect_err("it cannot go on");
    assert!(matches!(error, StreamError::TaskDied { what, .. } if what == "no row 0"), "{error}");
}

/// As a warehouse may hold them that another version applied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_that_this_version_refuses_stops_no_other() {
    let topic = Topic::new();
    topic.send(&MESSAGES);
    let gaps = "SELECT count(*) AS n FROM HOP(TABLE s, DESCRIPTOR(t), INTERVAL '2 minutes', INTERVAL '1 minute') GROUP BY window_start";
    let good = "CREATE STREAMING TABLE gold.good WITH (commit_interval = '20 milliseconds') AS SELECT c FROM s;";
    let error = topic.run(&format!("{}\n{good}", definitions("", gaps)), false).await.expect_err("gold.x cannot run").to_string();
    assert!(error.starts_with("this version of Watershed cannot run gold.x as it was applied: HOP windows of 1m"), "{error}");
    assert!(error.contains("the slide comes before the size") && error.contains("`watershed apply` it"), "{error}");
    assert_eq!(topic.rows("gold.good", "SELECT c FROM t ORDER BY c").await, ["0", "1", "2", "5"]);
    let reports = watershed_stream::reports(&topic.warehouse).await.expect("reports");
    let of = |name: &str| reports.iter().find(|report| report.pipeline.to_string() == name).expect("a report");
    assert_eq!((of("gold.good").held, of("gold.x").held), (Held::Stopped, Held::Failed));
    let failure = of("gold.x").vitals.as_ref().and_then(|vitals| vitals.failure.clone()).expect("why");
    assert!(failure.error.contains("cannot run gold.x"), "{}", failure.error);

    // Rows that its sink is to have are not committed without it.
    let sink = "CREATE SINK out TO KAFKA (topic = 'out') AS SELECT nothing FROM STREAM(gold.followed);";
    let followed = "CREATE STREAMING TABLE gold.followed AS SELECT c FROM s;";
    let error = topic.run(&format!("{SOURCE});\n{followed}\n{sink}"), false).await.expect_err("no such column").to_string();
    assert!(error.contains("cannot run gold.followed") && error.contains("nothing"), "{error}");
    assert!(topic.rows("gold.followed", "SELECT c FROM t").await.is_empty());
}

//! Messages without a value: refused like any other that is no row, or passed over and counted.

use watershed_stream::{EpochRecord, newest_epochs};

use crate::topic::Topic;

fn definitions(options: &str, query: &str) -> String {
    format!(
        "CREATE SOURCE s (n BIGINT, k VARCHAR METADATA FROM 'key', v VARCHAR METADATA FROM 'value')
         WITH (connector = 'kafka', topic = 't', format = 'json'{options});
         CREATE STREAMING TABLE bronze.x WITH (commit_interval = '20 milliseconds') AS SELECT {query} FROM s;"
    )
}

/// Two rows among three tombstones, one of them the last.
fn topic() -> Topic {
    let topic = Topic::new();
    for message in [None, Some(r#"{"n":1}"#), None, Some(r#"{"n":0}"#), None] {
        topic.send_one(0, message, 1_000);
    }
    topic
}

async fn record(topic: &Topic) -> EpochRecord {
    newest_epochs(&topic.warehouse).await.expect("read").remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_are_passed_over_and_counted_if_the_source_says_so() {
    let topic = topic();
    topic.run(&definitions(", tombstones = 'skip'", "n, k, v"), false).await.expect("it ends");
    assert_eq!(topic.rows("bronze.x", "SELECT n, k, v FROM t ORDER BY n").await, [r#"0|k|{"n":0}"#, r#"1|k|{"n":1}"#]);
    assert!(topic.rows("bronze.s$quarantine", "SELECT reason FROM t").await.is_empty());
    let counters = record(&topic).await.counters;
    assert_eq!((counters.rows_in, counters.rows_out, counters.rows_quarantined, counters.tombstones), (5, 2, 0, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn otherwise_they_are_refused_and_the_way_out_is_said() {
    let topic = topic();
    topic.run(&definitions("", "n"), false).await.expect("it ends");
    let reason = "no value (a tombstone; the source's option tombstones = 'skip' passes over them)";
    assert_eq!(
        topic.rows("bronze.s$quarantine", "SELECT \"offset\", reason FROM t ORDER BY 1").await,
        [0, 2, 4].map(|offset| format!("{offset}|{reason}"))
    );
    let counters = record(&topic).await.counters;
    assert_eq!((counters.rows_in, counters.rows_out, counters.rows_quarantined, counters.tombstones), (5, 2, 3, 0));
}

/// A record that a query fails on ends the batch before it, and none of what comes after is counted twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_after_a_record_that_must_not_be_passed_are_not_counted() {
    let topic = topic();
    let options = ", tombstones = 'skip', on_error = 'fail'";
    topic.run(&definitions(options, "10 / n AS n"), false).await.expect_err("the record with 0 must not be passed");
    let counters = record(&topic).await.counters;
    assert_eq!((counters.rows_in, counters.rows_out, counters.tombstones), (3, 1, 2));
    topic.run(&definitions(options, "10 / nullif(n, 0) AS n"), false).await.expect("it ends");
    let counters = record(&topic).await.counters;
    assert_eq!((counters.rows_in, counters.rows_out, counters.tombstones), (5, 2, 3));
}

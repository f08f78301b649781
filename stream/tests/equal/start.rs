//! Where a pipeline begins that has no record yet: `start` of its source, once.

use crate::topic::Topic;

fn definitions(start: &str) -> String {
    format!(
        "CREATE SOURCE s (n BIGINT) WITH (connector = 'kafka', topic = 't', format = 'json', start = '{start}');
         CREATE STREAMING TABLE bronze.x WITH (commit_interval = '20 milliseconds') AS SELECT n FROM s;"
    )
}

async fn run(topic: &Topic, start: &str) -> Vec<String> {
    topic.run(&definitions(start), false).await.unwrap_or_else(|error| panic!("{start}: {error}"));
    topic.rows("bronze.x", "SELECT n FROM t ORDER BY n").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_newest_record_of_when_it_first_ran() {
    let topic = Topic::with_partitions(2);
    topic.send(&[r#"{"n":1}"#, r#"{"n":2}"#]);
    assert!(run(&topic, "latest").await.is_empty(), "what was there is not read");
    // It has no row and no epoch of rows yet, but where it began is recorded: what comes between two runs is not passed over.
    topic.send(&[r#"{"n":3}"#]);
    topic.send_one(1, Some(r#"{"n":4}"#), 1_000);
    assert_eq!(run(&topic, "latest").await, ["3", "4"]);
    topic.send(&[r#"{"n":5}"#]);
    assert_eq!(run(&topic, "earliest").await, ["3", "4", "5"], "it counts once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_time() {
    let topic = Topic::with_partitions(2);
    let ms = 1_767_225_600_000;
    for (n, partition, at) in [(1, 0, ms - 1), (2, 0, ms), (3, 0, ms + 1), (4, 1, ms - 2), (5, 1, ms - 1)] {
        topic.send_one(partition, Some(&format!("{{\"n\":{n}}}")), at);
    }
    assert_eq!(run(&topic, "2026-01-01T00:00:00Z").await, ["2", "3"]);
    topic.send_one(1, Some(r#"{"n":6}"#), ms - 3);
    assert_eq!(run(&topic, "2026-01-01T00:00:00Z").await, ["2", "3", "6"], "from then on everything that comes");
}

//! Event times that are not a time in the payload: Kafka's own timestamp, and numbers of other units.

use crate::topic::Topic;

async fn windows(columns: &str, messages: &[&str]) -> Vec<String> {
    let topic = Topic::new();
    topic.send(messages);
    let definitions = format!(
        "CREATE SOURCE s ({columns}, WATERMARK FOR at AS at - INTERVAL '1 second') WITH (topic = 't');
         CREATE STREAMING TABLE gold.x WITH (commit_interval = '20 milliseconds') AS
         SELECT window_start, sum(n) AS n FROM TUMBLE(TABLE s, DESCRIPTOR(at), INTERVAL '1 minute') GROUP BY window_start, window_end;"
    );
    topic.run(&definitions, true).await.unwrap_or_else(|error| panic!("{columns}: {error}"));
    topic.rows("gold.x", "SELECT CAST(window_start AS VARCHAR), n FROM t ORDER BY 1").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_watermark_may_follow_kafkas_timestamp() {
    // All messages were sent at 10:00:00.
    let found = windows("n BIGINT, at TIMESTAMP METADATA FROM 'timestamp'", &[r#"{"n":1}"#, r#"{"n":2}"#]).await;
    assert_eq!(found, ["2024-06-01T10:00:00Z|3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_times_may_be_seconds() {
    let messages = [r#"{"n":1,"at":1717236001}"#, r#"{"n":2,"at":1717236059.5}"#, r#"{"n":4,"at":"1717236060"}"#];
    let found = windows("n BIGINT, at TIMESTAMP EPOCH 'seconds' NOT NULL", &messages).await;
    assert_eq!(found, ["2024-06-01T10:00:00Z|3", "2024-06-01T10:01:00Z|4"]);
}

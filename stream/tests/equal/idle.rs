//! A partition without rows, or without new ones, holds windows back for `idle_timeout`, however short the runs are in which it is looked at.

use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use crate::topic::Topic;

const DEFINITIONS: &str = "
    CREATE SOURCE s (n BIGINT, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t)
    WITH (connector = 'kafka', topic = 't', format = 'json', max_skew = '36500 days', idle_timeout = '1 hour');
    CREATE STREAMING TABLE gold.x AS
    SELECT sum(n) AS n FROM TUMBLE(TABLE s, DESCRIPTOR(t), INTERVAL '1 minute') GROUP BY window_start, window_end;";

/// As if the newest record had been written two hours earlier.
async fn let_two_hours_pass(topic: &Topic) {
    let folder = Path::from("_watershed/pipelines/gold.x/0/epochs");
    let newest = topic.warehouse.list(&folder).await.expect("listed").into_iter().max().expect("a record");
    let bytes = topic.warehouse.read(&newest).await.expect("read").expect("there");
    let mut record: serde_json::Value = serde_json::from_slice(&bytes).expect("a record");
    let earlier = |since_ms: &mut serde_json::Value| *since_ms = (since_ms.as_u64().expect("a time") - 7_200_000).into();
    let source = &mut record["sources"]["s"];
    source["caught_up_ms"].as_object_mut().expect("it says since when").values_mut().for_each(earlier);
    source["quiet"].as_object_mut().expect("it says since when").values_mut().for_each(|quiet| earlier(&mut quiet["since_ms"]));
    topic.warehouse.store().put(&newest, PutPayload::from(record.to_string().into_bytes())).await.expect("put");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_stays_empty_is_idle_after_its_timeout_also_over_short_runs() {
    let topic = Topic::with_partitions(2);
    topic.send(&[r#"{"n":1,"t":"2024-06-01T10:00:00Z"}"#, r#"{"n":2,"t":"2024-06-01T10:01:00Z"}"#]);
    let run = async || {
        topic.run(DEFINITIONS, false).await.expect("it ends");
        topic.rows("gold.x", "SELECT n FROM t ORDER BY n").await
    };
    assert_eq!(run().await, Vec::<String>::new(), "the other partition may still bring rows of the first minute");
    assert_eq!(run().await, Vec::<String>::new(), "an hour has not passed");
    let_two_hours_pass(&topic).await;
    // The partition with rows has gone on meanwhile: it is not idle, and the empty one no longer holds it back.
    topic.send(&[r#"{"n":4,"t":"2024-06-01T10:02:00Z"}"#]);
    assert_eq!(run().await, ["1", "2"]);
}

const HOURS: Duration = Duration::from_secs(7_200);

/// Partition 1 has had a row, and has no more; partition 0 goes on by a minute a run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_quiet_over_short_runs_is_idle_when_two_clocks_say_so() {
    let topic = Topic::with_partitions(2);
    let row = |n: i32, minute: i32| [format!(r#"{{"n":{n},"t":"2024-06-01T10:{minute:02}:00Z"}}"#)];
    topic.send(&row(1, 0));
    topic.send_later(1, &row(2, 0), Duration::ZERO);
    let run = async || {
        topic.run(DEFINITIONS, false).await.expect("it ends");
        topic.rows("gold.x", "SELECT n FROM t ORDER BY n").await
    };
    assert_eq!(run().await, Vec::<String>::new());
    // This machine's clock is said to have gone on by two hours. The rows that come were written at the same time as the others.
    let_two_hours_pass(&topic).await;
    topic.send(&row(4, 1));
    assert_eq!(run().await, Vec::<String>::new(), "a clock that jumps makes no partition idle");
    // So partition 1 may still bring rows of the first minute.
    topic.send_later(1, &row(8, 0), Duration::ZERO);
    topic.send(&row(16, 2));
    assert_eq!(run().await, Vec::<String>::new());
    assert!(topic.rows("gold.x$late", "SELECT source_offset FROM t").await.is_empty());
    // Rows that were written two hours later, in a run that begins at once.
    topic.send_later(0, &row(32, 3), HOURS);
    assert_eq!(run().await, Vec::<String>::new(), "nor does a row with a late timestamp alone");
    // Both, with a run between them in which nothing came.
    assert_eq!(run().await, Vec::<String>::new());
    let_two_hours_pass(&topic).await;
    assert_eq!(run().await, Vec::<String>::new(), "nothing was read of the other that tells how far those who write are");
    topic.send_later(0, &row(64, 4), 2 * HOURS);
    assert_eq!(run().await, ["4", "11", "16", "32"]);
}

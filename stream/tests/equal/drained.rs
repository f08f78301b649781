//! After `--until-caught-up --drain` time goes on: later rows are taken, and only those of windows that were closed are late.

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use crate::topic::{Topic, as_layout_2};

fn definitions(query: &str) -> String {
    format!(
        "CREATE SOURCE s (n BIGINT, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t - INTERVAL '10 seconds')
         WITH (connector = 'kafka', topic = 't', format = 'json', max_skew = '36500 days');
         CREATE STREAMING TABLE gold.x WITH (commit_interval = '20 milliseconds') AS {query};"
    )
}

fn at(n: u32, time: &str) -> String {
    format!(r#"{{"n":{n},"t":"2024-06-01T{time}Z"}}"#)
}

/// Sends rows and drains, turn by turn; gives what is in the table, and the offsets of the late rows.
async fn turns(query: &str, turns: &[&[String]]) -> (Vec<String>, Vec<String>) {
    let topic = Topic::new();
    for rows in turns {
        topic.send(rows);
        topic.run(&definitions(query), true).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    }
    (topic.rows("gold.x", "SELECT n FROM t ORDER BY n").await, topic.rows("gold.x$late", "SELECT source_offset FROM t ORDER BY 1").await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_later_windows_are_taken_and_rows_of_closed_ones_are_late() {
    let window = |function: &str| format!("SELECT sum(n) AS n FROM {function} GROUP BY window_start, window_end");
    let first = [at(1, "10:00:00"), at(2, "10:30:00")];
    // Within the window that was closed; in the next; much later.
    let second = [at(4, "10:45:00"), at(8, "11:00:00"), at(16, "15:00:00")];
    let tumble = window("TUMBLE(TABLE s, DESCRIPTOR(t), INTERVAL '1 hour')");
    assert_eq!(turns(&tumble, &[&first, &[], &second]).await, (texts(&["3", "8", "16"]), texts(&["2"])));
    let cumulate = window("CUMULATE(TABLE s, DESCRIPTOR(t), INTERVAL '30 minutes', INTERVAL '1 hour')");
    let (rows, late) = turns(&cumulate, &[&first, &[], &second]).await;
    // 10:30 1, 11:00 3; 11:30 and 12:00 8; 15:30 and 16:00 16.
    assert_eq!((rows, late), (texts(&["1", "3", "8", "8", "16", "16"]), texts(&["2"])));
    let hop = window("HOP(TABLE s, DESCRIPTOR(t), INTERVAL '30 minutes', INTERVAL '1 hour')");
    let (rows, late) = turns(&hop, &[&[at(1, "10:00:00")], &[], &[at(4, "10:15:00"), at(8, "10:30:00")]]).await;
    // Closed: 09:30-10:30 and 10:00-11:00. Of the row at 10:30 one window is closed and one is not.
    assert_eq!((rows, late), (texts(&["1", "1", "8"]), texts(&["1", "1", "2"])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_over_windows_are_drained_with_them_and_no_further() {
    let first = [at(1, "10:00:00"), at(2, "10:30:00")];
    let second = [at(4, "10:45:00"), at(8, "11:00:00"), at(16, "15:00:00")];
    let of = |size: &str| format!("TUMBLE(TABLE s, DESCRIPTOR(t), INTERVAL '{size}') GROUP BY window_start, window_end");
    let minutes = format!("SELECT window_start AS began, sum(n) AS n FROM {}", of("1 minute"));
    let hours = format!(
        "SELECT sum(n) AS n FROM TUMBLE(TABLE ({minutes}), DESCRIPTOR(began), INTERVAL '1 hour') GROUP BY window_start, window_end"
    );
    // A drain ends the hour, so all of its minutes are over.
    assert_eq!(turns(&hours, &[&first, &[], &second]).await, (texts(&["3", "8", "16"]), texts(&["2"])));
    for time in ["window_start", "window_end"] {
        let sums = format!("SELECT {time} AS t, sum(n) AS n FROM {}", of("1 hour"));
        let over = format!("SELECT sum(n) OVER (ORDER BY t RANGE BETWEEN INTERVAL '2 hours' PRECEDING AND CURRENT ROW) AS n FROM ({sums})");
        assert_eq!(turns(&over, &[&first, &[], &second]).await, (texts(&["3", "11", "16"]), texts(&["2"])), "{time}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_wait_for_their_time_leave_and_the_next_ones_are_taken() {
    let (first, second) = ([at(1, "10:00:00")], [at(1, "10:00:05"), at(2, "09:59:00"), at(3, "10:00:06")]);
    let deduplicate = "SELECT n FROM DEDUPLICATE(TABLE s PARTITION BY n, DESCRIPTOR(t), INTERVAL '10 minutes')";
    assert_eq!(turns(deduplicate, &[&first, &[], &second]).await, (texts(&["1", "3"]), texts(&["2"])), "keys are remembered");
    let over = "SELECT count(*) OVER (ORDER BY t RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW) AS n FROM s";
    let (rows, _) = turns(over, &[&first, &[], &second]).await;
    assert_eq!(rows, ["1", "2", "3"], "frames reach back over it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_that_an_older_version_drained_goes_on() {
    let query = "SELECT sum(n) AS n FROM TUMBLE(TABLE s, DESCRIPTOR(t), INTERVAL '1 hour') GROUP BY window_start, window_end";
    let topic = Topic::new();
    topic.send(&[at(1, "10:00:00")]);
    topic.run(&definitions(query), true).await.expect("it ends");
    let folder = Path::from("_watershed/pipelines/gold.x/0/epochs");
    let newest = topic.warehouse.list(&folder).await.expect("listed").into_iter().max().expect("a record");
    let bytes = topic.warehouse.read(&newest).await.expect("read").expect("there");
    let mut record: serde_json::Value = serde_json::from_slice(&bytes).expect("a record");
    as_layout_2(&mut record);
    record["watermarks_us"]["0"] = i64::MAX.into();
    record.as_object_mut().expect("an object").remove("newest_us");
    topic.warehouse.store().put(&newest, PutPayload::from(record.to_string().into_bytes())).await.expect("put");

    topic.send(&[at(2, "10:30:00"), r#"{"n":4,"t":"2100-06-01T10:00:00Z"}"#.into()]);
    topic.run(&definitions(query), true).await.expect("it ends");
    assert_eq!(topic.rows("gold.x", "SELECT n FROM t ORDER BY n").await, ["1", "4"]);
    assert_eq!(topic.rows("gold.x$late", "SELECT n FROM t").await, ["2"], "its window was closed");
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

//! Whole pipelines over several topics: what records keep of each, side tables that say which source a row is of, other numbers of tasks and
//! partitions from run to run.

use object_store::path::Path;
use serde_json::Value;

use crate::topic::Topic;

const SOURCES: &str = "CREATE SOURCE a (n BIGINT NOT NULL, k VARCHAR, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t - INTERVAL '1 second')
    WITH (connector = 'kafka', topic = 'ta', format = 'json', max_skew = '36500 days');
    CREATE SOURCE b (at TIMESTAMP NOT NULL, m BIGINT NOT NULL, k VARCHAR, WATERMARK FOR at AS at - INTERVAL '2 seconds')
    WITH (connector = 'kafka', topic = 'tb', format = 'json', max_skew = '36500 days');";
/// Numbers of both, and those of `a` once more by their tens.
const UNITED: &str =
    "SELECT t, n, k FROM a WHERE n >= 0 UNION ALL SELECT at, m, k FROM b UNION ALL SELECT t, n / 10, 'tens' FROM a WHERE n >= 0";
const SUMS: &str = "SELECT window_start, k, count(*) AS c, sum(n) AS n FROM TUMBLE(TABLE (UNITED), DESCRIPTOR(t), INTERVAL '1 minute')
    GROUP BY window_start, window_end, k";

fn definitions(query: &str) -> String {
    format!("{SOURCES}CREATE STREAMING TABLE gold.x WITH (commit_interval = '20 milliseconds') AS {};", query.replace("UNITED", UNITED))
}

/// Numbers in order, 10 seconds apart, from the hour on.
fn of_a(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|n| format!(r#"{{"n":{n},"k":"a","t":"2024-06-01T10:{:02}:{:02}Z"}}"#, n / 6, n % 6 * 10)).collect()
}

fn of_b(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|n| format!(r#"{{"m":{n},"k":"b","at":"2024-06-01T10:{:02}:{:02}Z"}}"#, n / 6, n % 6 * 10)).collect()
}

async fn record(topic: &Topic) -> Value {
    let folder = Path::from("_watershed/pipelines/gold.x/0/epochs");
    let newest = topic.warehouse.list(&folder).await.expect("listed").into_iter().max().expect("a record");
    let bytes = topic.warehouse.read(&newest).await.expect("read").expect("there");
    serde_json::from_slice(&bytes).expect("a record")
}

/// What the numbers below 60 of each come to, by minute.
fn minutes() -> Vec<String> {
    let mut lines = Vec::new();
    for minute in 0..10_u32 {
        let numbers: Vec<u32> = (minute * 6..minute * 6 + 6).collect();
        let sum: u32 = numbers.iter().sum();
        let tens: u32 = numbers.iter().map(|n| n / 10).sum();
        lines.extend([format!("a|6|{sum}"), format!("b|6|{sum}"), format!("tens|6|{tens}")]);
    }
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_union_goes_on_with_other_numbers_of_tasks() {
    let topic = Topic::of(&[("ta", 2), ("tb", 1)]);
    // One source is far ahead of the other each time.
    for (a, b, parallelism) in [(0..50, 0..3, 3), (50..51, 3..20, 1), (51..60, 20..21, 2), (60..60, 21..60, 4)] {
        let last = b.end == 60;
        for (place, message) in of_a(a).iter().enumerate() {
            topic.send_into("ta", place as i32 % 2, &[message]);
        }
        topic.send_into("tb", 0, &of_b(b));
        topic.run_with(&definitions(SUMS), last, parallelism).await.unwrap_or_else(|error| panic!("{error}"));
        let record = record(&topic).await;
        let sources = record["sources"].as_object().expect("sources");
        assert_eq!(sources.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((record["version"].as_u64(), sources["a"]["offsets"].as_object().map(serde_json::Map::len)), (Some(3), Some(2)));
        let stages = |name: &String| name.split('/').next().map(ToOwned::to_owned);
        let stages: std::collections::BTreeSet<_> = record["state"].as_object().expect("state").keys().filter_map(stages).collect();
        assert!(last || stages.contains("0"), "partial results of a wait for b: {stages:?}");
    }
    assert_eq!(topic.rows("gold.x", "SELECT k, c, n FROM t ORDER BY window_start, k").await, minutes());
    assert!(topic.rows("gold.x$late", "SELECT n FROM t").await.is_empty());
    let totals = record(&topic).await;
    assert_eq!(totals["counters"]["rows_in"], 120, "a source that two parts read is read once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn side_tables_say_which_source_a_row_is_of() {
    let topic = Topic::of(&[("ta", 1), ("tb", 1)]);
    let constraint = "CREATE STREAMING TABLE gold.y (CONSTRAINT small EXPECT (n < 100) ON VIOLATION QUARANTINE)
        WITH (commit_interval = '20 milliseconds') AS SELECT n, 10 / (n - 7) AS x FROM (UNITED);";
    let definitions = format!("{}{}", definitions(SUMS), constraint.replace("UNITED", UNITED));
    let late = r#"{"m":59,"k":"b","at":"2024-06-01T09:00:00Z"}"#;
    topic.send_into("ta", 0, &[of_a(0..6), vec!["{".to_owned(), r#"{"n":200,"k":"a","t":"2024-06-01T10:03:00Z"}"#.to_owned()]].concat());
    topic.send_into("tb", 0, &[of_b(0..6), vec![r#"{"m":7,"k":"b","at":"2024-06-01T10:03:00Z"}"#.to_owned(), late.to_owned()]].concat());
    topic.run(&definitions, true).await.unwrap_or_else(|error| panic!("{error}"));

    let places = "source, source_partition, source_offset";
    assert_eq!(topic.rows("gold.x$late", &format!("SELECT n, {places} FROM t")).await, ["59|b|0|7"]);
    let violations = topic.rows("gold.y$violations", &format!("SELECT n, {places} FROM t ORDER BY n")).await;
    assert_eq!(violations, ["200|a|0|7"], "its tens are small");
    let quarantined = async |source: &str| {
        let query = "SELECT pipeline, source, partition, \"offset\", reason FROM t ORDER BY 1, 4";
        topic.rows(&format!("bronze.{source}$quarantine"), query).await
    };
    let (of_a, of_b) = (quarantined("a").await, quarantined("b").await);
    assert!(of_a.len() == 2 && of_a[0].starts_with("gold.x|a|0|6|") && of_a[1].starts_with("gold.y|a|0|6|"), "{of_a:?}");
    assert!(of_b.len() == 1 && of_b[0].starts_with("gold.y|b|0|6|") && of_b[0].contains("division by zero"), "{of_b:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_idle_does_not_hold_the_other() {
    let topic = Topic::of(&[("ta", 1), ("tb", 2)]);
    let definitions = definitions(SUMS).replace("topic = 'tb'", "topic = 'tb', idle_timeout = '50 milliseconds'");
    topic.send_into("tb", 0, &of_b(0..1));
    topic.send_into("ta", 0, &of_a(0..20));
    // Each run is short; over runs the clocks of both sides must say that nothing comes.
    let mut runs = 0;
    while topic.rows("gold.x", "SELECT 1 FROM t").await.is_empty() {
        runs += 1;
        assert!(runs < 50, "the other source is held");
        topic.send_later_into("ta", 0, &of_a(20 + runs..21 + runs), std::time::Duration::from_secs(u64::from(runs)));
        topic.run(&definitions, false).await.unwrap_or_else(|error| panic!("{error}"));
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    }
    let idle = record(&topic).await;
    assert!(idle["sources"]["b"]["watermarks_us"].as_object().is_some_and(|of| of.len() == 2), "{idle}");
    let rows = topic.rows("gold.x", "SELECT k, c FROM t ORDER BY window_start, k LIMIT 3").await;
    assert_eq!(rows, ["a|6", "b|1", "tens|6"]);
}

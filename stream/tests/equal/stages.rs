//! Whole pipelines of several stages, in threads: with other numbers of tasks from run to run, and on from records of older versions, which knew one
//! stage after an exchange.

use std::collections::BTreeMap;

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use serde_json::Value;
use watershed_stream::Project;

use crate::topic::{Topic, as_layout_2};

const SOURCE: &str = "CREATE SOURCE s (n BIGINT, k VARCHAR, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t - INTERVAL '1 second')
    WITH (connector = 'kafka', topic = 't', format = 'json', max_skew = '36500 days');";
/// Rows once each, in minutes by key.
const ONCE: &str = "SELECT window_start, window_end, k, count(*) AS c, sum(n) AS n FROM TUMBLE(TABLE (SELECT * FROM
    DEDUPLICATE(TABLE s PARTITION BY n, DESCRIPTOR(t), INTERVAL '10 minutes')), DESCRIPTOR(t), INTERVAL '1 minute')
    GROUP BY window_start, window_end, k";

fn definitions(query: &str) -> String {
    format!("{SOURCE}CREATE STREAMING TABLE gold.x WITH (commit_interval = '20 milliseconds') AS {query};")
}

/// Numbers in order, 10 seconds apart, each three times, from the hour on; keys a to d in turn.
fn messages(numbers: std::ops::Range<u32>) -> Vec<String> {
    let one = |n: u32| {
        let (minute, second, key) = (n / 6, n % 6 * 10, ["a", "b", "c", "d"][(n % 4) as usize]);
        vec![format!(r#"{{"n":{n},"k":"{key}","t":"2024-06-01T10:{minute:02}:{second:02}Z"}}"#); 3]
    };
    numbers.flat_map(one).collect()
}

fn newest(records: Vec<Path>) -> Path {
    records.into_iter().max().expect("a record")
}

async fn record(topic: &Topic) -> (Path, Value) {
    let folder = Path::from("_watershed/pipelines/gold.x/0/epochs");
    let path = newest(topic.warehouse.list(&folder).await.expect("listed"));
    let bytes = topic.warehouse.read(&path).await.expect("read").expect("there");
    (path, serde_json::from_slice(&bytes).expect("a record"))
}

/// What all numbers below 60 come to, by minute and key.
fn minutes() -> BTreeMap<(u32, &'static str), (u32, u32)> {
    let mut minutes = BTreeMap::new();
    for n in 0..60 {
        let (count, sum) = minutes.entry((n / 6, ["a", "b", "c", "d"][(n % 4) as usize])).or_default();
        *count += 1;
        *sum += n;
    }
    minutes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stages_go_on_with_other_numbers_of_tasks() {
    // Of each minute the keys and the greatest sum, and of these the total of five minutes: four stages.
    let keys = format!("SELECT window_start, window_end, count(*) AS keys, max(n) AS most FROM ({ONCE}) GROUP BY window_start, window_end");
    let five = "sum(most) OVER (ORDER BY window_end RANGE BETWEEN INTERVAL '4 minutes' PRECEDING AND CURRENT ROW)";
    let query = format!("SELECT window_start, keys, {five} AS n FROM ({keys})");
    let topic = Topic::with_partitions(2);
    for (part, parallelism) in [(0..20, 3), (20..21, 1), (21..45, 2), (45..60, 4)] {
        let (last, messages) = (part.end == 60, messages(part));
        topic.send(&messages);
        topic.send_to(1, &messages);
        topic.run_with(&definitions(&query), last, parallelism).await.unwrap_or_else(|error| panic!("{error}"));
        let (_, record) = record(&topic).await;
        assert_eq!(record["keyed_tasks"], 3, "state stays split as it was");
        let stages = |name: &String| name.split('/').next().map(ToOwned::to_owned);
        let stages: std::collections::BTreeSet<_> = record["state"].as_object().expect("state").keys().filter_map(stages).collect();
        assert!(last || stages.contains("1") && stages.contains("3"), "{stages:?}");
    }
    let minutes = minutes();
    let most = |minute: u32| minutes.iter().filter(|((of, _), _)| *of == minute).map(|(_, (_, sum))| *sum).max();
    let expected: Vec<String> =
        (0..10).map(|minute: u32| format!("4|{}", (minute.saturating_sub(4)..=minute).filter_map(most).sum::<u32>())).collect();
    assert_eq!(topic.rows("gold.x", "SELECT keys, n FROM t ORDER BY window_start").await, expected);
    assert!(topic.rows("gold.x$late", "SELECT n FROM t").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_that_older_versions_named_is_found() {
    let definitions = definitions(ONCE);
    let project = Project::parse([definitions.as_str()]).expect("definitions");
    let blueprint = project.plan(project.tables.values().next().expect("one table")).await.expect("planned");
    let after_first = blueprint.spec.stages[1].steps.len();
    assert_eq!(blueprint.stages(), 3);

    let topic = Topic::new();
    topic.send(&messages(0..20));
    topic.run_with(&definitions, false, 1).await.expect("it ends");
    let (path, mut record) = record(&topic).await;
    let older = |name: &str| {
        let parts: Vec<&str> = name.splitn(4, '/').collect();
        let [stage, task, operator, segment] = parts[..] else { panic!("{name}") };
        let operator: usize = operator.parse().expect("a number");
        match stage {
            "0" => format!("l{task}/{operator}/{segment}"),
            "1" => format!("k{task}/{operator}/{segment}"),
            _ => format!("k{task}/{}/{segment}", operator + after_first),
        }
    };
    let state: serde_json::Map<String, Value> =
        record["state"].as_object().expect("state").iter().map(|(name, range)| (older(name), range.clone())).collect();
    let operators: std::collections::BTreeSet<_> = state.keys().filter_map(|name| name.split('/').nth(1)).collect();
    assert!(operators.len() >= 2, "a stage after the second exchange has none: {operators:?}");
    record["state"] = state.into();
    as_layout_2(&mut record);
    topic.warehouse.store().put(&path, PutPayload::from(record.to_string().into_bytes())).await.expect("put");

    topic.send(&messages(20..60));
    topic.run_with(&definitions, true, 4).await.expect("it ends");
    let expected: Vec<String> = minutes().values().map(|(count, sum)| format!("{count}|{sum}")).collect();
    assert_eq!(topic.rows("gold.x", "SELECT c, n FROM t ORDER BY window_start, k").await, expected);
    assert_eq!(self::record(&topic).await.1["keyed_tasks"], 1, "it was of one task");
}

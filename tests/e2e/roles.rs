//! Roles split: `watershed stream`, `watershed batch` and `watershed serve` as three processes over one warehouse end with the tables, views and
//! answers that one process after the other gives over the same topic.

use std::time::Duration;

use crate::dashboard::address_said;
use crate::http;
use crate::input::{CHUNKS, Input, PARTITIONS};
use crate::kafka::Kafka;
use crate::project::{Project, TABLES, tables};
use crate::serving::url_in;
use crate::table::DeltaTable;
use crate::tools::wait_for;
use crate::watershed::{LIMIT, Watershed};

/// Beside the tables of most tests: one with constraints, and views over tables and over each other.
const MORE: &str = "
CREATE STREAMING TABLE silver.paid (
    CONSTRAINT has_city EXPECT (city IS NOT NULL) ON VIOLATION QUARANTINE,
    CONSTRAINT not_negative EXPECT (cents >= 0) ON VIOLATION DROP ROW,
    CONSTRAINT small EXPECT (cents < 9000)
)
WITH (commit_interval = '50 milliseconds')
AS SELECT event_id, event_time, city, cents, kafka_partition, kafka_offset FROM events_in;

CREATE MATERIALIZED VIEW gold.by_city (CONSTRAINT known EXPECT (city IS NOT NULL) ON VIOLATION DROP ROW)
TRIGGER ON UPDATE AT MOST EVERY 1 SECOND
AS SELECT city, count(*) AS events, sum(cents) AS cents FROM bronze.events GROUP BY city;

CREATE MATERIALIZED VIEW gold.best
TRIGGER ON UPDATE AT MOST EVERY 1 SECOND
AS SELECT city, cents FROM gold.by_city ORDER BY cents DESC, city LIMIT 2;

CREATE MATERIALIZED VIEW gold.busy_minutes
TRIGGER ON UPDATE AT MOST EVERY 1 SECOND
AS SELECT window_start, sum(events) AS events, max(dearest) AS dearest FROM gold.by_minute GROUP BY window_start;
";

const VIEWS: [&str; 3] = ["gold.by_city", "gold.best", "gold.busy_minutes"];

/// What is asked of both. When and how often things happened may differ; what came of them may not.
const QUESTIONS: [&str; 9] = [
    "SHOW TABLES",
    "SELECT city, count(*) AS n, sum(cents) AS cents FROM bronze.events GROUP BY city ORDER BY city",
    "SELECT * FROM gold.by_minute ORDER BY window_start, city",
    "SELECT m.window_start, m.events, b.cents FROM gold.busy_minutes m CROSS JOIN gold.best b ORDER BY 1, 3",
    "SELECT pipeline, rows_in, rows_out, late, quarantined, deduplicated, violating, dropped, offsets, watermark FROM system.pipelines ORDER BY 1",
    "SELECT pipeline, \"constraint\", predicate, action, passed, failed FROM system.quality ORDER BY 1, 2",
    "SELECT job, schedule, reads, status, rows, failed, error FROM system.jobs ORDER BY 1",
    "SELECT DISTINCT job, status, error FROM system.job_runs ORDER BY 1",
    "EXPLAIN MATERIALIZED VIEW gold.best",
];

/// `EXPLAIN` names files, whose names are random.
fn without_files(answer: &str) -> String {
    answer.lines().filter(|line| !line.contains(".parquet")).collect::<Vec<_>>().join("\n")
}

#[test]
fn three_processes_over_one_warehouse_give_what_one_gives() {
    let kafka = Kafka::shared();
    kafka.create_topic("roles", PARTITIONS);
    let input = Input::new(17, 2_000);
    let definitions = format!("{}{MORE}", tables());
    let split = Project::of(kafka.bootstrap(), "roles", &definitions);

    // All three are there before any row is, and work beside each other while rows come.
    let mut server = split.watershed(["serve"]).start();
    let url = server.until("Flight SQL listens", |server| url_in(&server.output()));
    let address = address_said(&mut server);
    let batch = split.watershed(["batch"]).start();
    let asked = |sql: &str| Watershed::new(["shell", "--url", &url, "--output", "csv", "-c", sql]).run();
    let refreshed = || {
        // Each question is a process: not too often.
        std::thread::sleep(Duration::from_millis(200));
        let answer = asked("SELECT coalesce(sum(events), 0) FROM gold.by_city");
        answer.stdout.split_whitespace().last().and_then(|number| number.parse::<usize>().ok()).unwrap_or(0)
    };
    let stream = split.stream().start();
    let mut seen = 0;
    for chunk in 0..CHUNKS {
        let values = input.chunk(chunk);
        kafka.produce("roles", values.iter().map(|(partition, value)| (*partition, value.as_slice())));
        let output = || format!("{}\n{}", stream.output(), batch.output());
        seen =
            wait_for("the server sees what the scheduler made of the rows", LIMIT, output, || Some(refreshed()).filter(|now| *now > seen));
    }
    stream.signal(libc::SIGTERM);
    let ended = stream.wait(Duration::from_secs(30));
    assert!(ended.status.success(), "{}", ended.output());
    // All windows close in another run, still beside the others.
    split.stream_to_end(true).succeeds();

    // One after the other, each in the one process there is.
    let single = Project::of(kafka.bootstrap(), "roles", &definitions);
    single.stream_to_end(true).succeeds();
    for view in ["gold.best", "gold.busy_minutes"] {
        single.watershed(["run", view, "--upstream"]).succeeds();
    }
    let expected = input.expected();
    single.check(&expected);
    split.check(&expected);

    for question in QUESTIONS {
        let one = without_files(&single.watershed(["shell", "--output", "csv", "-c", question]).succeeds());
        assert!(one.lines().count() > 1, "{question} proves nothing: {one}");
        let mut last = String::new();
        // The scheduler follows within seconds.
        let deadline = std::time::Instant::now() + LIMIT;
        while last != one && std::time::Instant::now() < deadline {
            let answer = asked(question);
            assert!(answer.status.success(), "{question}: {}", answer.output());
            last = without_files(&answer.stdout);
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(last, one, "{question}\n{}", batch.output());
    }
    // Over HTTP it is the same again.
    let json = single.watershed(["shell", "--output", "json", "-c", QUESTIONS[1]]).succeeds();
    let rows: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(http::sql(address, QUESTIONS[1]).json(), serde_json::Value::from(rows));

    let more = ["silver.paid", "silver.paid$violations"];
    for table in TABLES.into_iter().chain(more).chain(VIEWS) {
        assert_eq!(DeltaTable::exists(&split.files, table), DeltaTable::exists(&single.files, table), "{table}");
        if DeltaTable::exists(&single.files, table) {
            assert!(split.table(table).rows() == single.table(table).rows(), "{table} differs");
        }
    }
    for running in [batch, server] {
        running.signal(libc::SIGTERM);
        let ended = running.wait(LIMIT);
        assert!(ended.status.success(), "{}", ended.output());
    }
}

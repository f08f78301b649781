//! Expectations: every row is held to them once, whatever crashes; what is counted in `system.quality` is the truth.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::exactly_once::{input, produce};
use crate::input::{CHUNKS, PARTITIONS};
use crate::kafka::Kafka;
use crate::project::{Project, source, tables};

/// The same tables with constraints, beside those without, from which the truth is computed.
const HELD: &str = "
CREATE STREAMING TABLE bronze.held (
    CONSTRAINT has_city EXPECT (city IS NOT NULL) ON VIOLATION QUARANTINE,
    CONSTRAINT not_negative EXPECT (cents >= 0) ON VIOLATION DROP ROW,
    CONSTRAINT small EXPECT (cents < 9000)
)
PARTITIONED BY (city)
WITH (commit_interval = '50 milliseconds')
AS SELECT event_id, event_time, city, cents, kafka_partition, kafka_offset FROM events_in;

CREATE STREAMING TABLE gold.busy_minutes (
    CONSTRAINT busy EXPECT (events > 20) ON VIOLATION DROP ROW
)
WITH (commit_interval = '50 milliseconds')
AS SELECT window_start, window_end, city, count(event_id) AS events
FROM TUMBLE(TABLE events_in, DESCRIPTOR(event_time), INTERVAL '1 minute')
GROUP BY window_start, window_end, city;
";

type Place = (i64, i64);

fn place(row: &Map<String, Value>, partition: &str, offset: &str) -> Place {
    let number = |column: &str| row[column].as_i64().unwrap_or_else(|| panic!("{column} in {row:?}"));
    (number(partition), number(offset))
}

fn no_city(row: &Map<String, Value>) -> bool {
    row["city"].is_null()
}

fn negative(row: &Map<String, Value>) -> bool {
    row["cents"].as_i64().is_none_or(|cents| cents < 0)
}

/// Lines of a query's answer, without the heading.
fn answer(project: &Project, query: &str) -> Vec<String> {
    let said = project.watershed(["shell", "--output", "csv", "-c", query]).succeeds();
    said.lines().skip(1).map(str::to_string).collect()
}

fn check(project: &Project) {
    let all = project.table("bronze.events").objects();
    let places = |rows: &mut dyn Iterator<Item = &Map<String, Value>>| -> BTreeSet<Place> {
        rows.map(|row| place(row, "kafka_partition", "kafka_offset")).collect()
    };
    let kept = project.table("bronze.held").objects();
    assert_eq!(places(&mut kept.iter()).len(), kept.len(), "bronze.held holds rows twice");
    assert_eq!(places(&mut kept.iter()), places(&mut all.iter().filter(|row| !no_city(row) && !negative(row))), "bronze.held");

    let aside = project.table("bronze.held$violations").objects();
    assert_eq!(places(&mut aside.iter()).len(), aside.len(), "bronze.held$violations holds rows twice");
    assert_eq!(places(&mut aside.iter()), places(&mut all.iter().filter(|row| no_city(row))), "bronze.held$violations");
    assert!(!aside.is_empty());
    for row in &aside {
        assert_eq!(place(row, "source_partition", "source_offset"), place(row, "kafka_partition", "kafka_offset"));
        let names: Vec<&str> = row["violated_constraints"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        let small = row["cents"].as_i64().is_some_and(|cents| cents < 9000);
        let expected = [("has_city", true), ("not_negative", negative(row)), ("small", !small)];
        assert_eq!(names, expected.iter().filter(|(_, violated)| *violated).map(|(name, _)| *name).collect::<Vec<_>>(), "{row:?}");
    }

    let failed = |violates: &dyn Fn(&Map<String, Value>) -> bool| all.iter().filter(|row| violates(row)).count();
    let minutes = project.table("gold.by_minute").objects();
    let quiet = minutes.iter().filter(|row| row["events"].as_i64().is_some_and(|events| events <= 20)).count();
    assert!(quiet > 0 && quiet < minutes.len());
    assert_eq!(project.table("gold.busy_minutes").count(), minutes.len() - quiet, "gold.busy_minutes");
    let of = |pipeline: &str, constraint: &str, action: &str, all: usize, failed: usize| {
        format!("{pipeline},{constraint},{action},{},{failed}", all - failed)
    };
    let expected = [
        of("bronze.held", "has_city", "QUARANTINE", all.len(), failed(&no_city)),
        of("bronze.held", "not_negative", "DROP ROW", all.len(), failed(&negative)),
        of("bronze.held", "small", "WARN", all.len(), failed(&|row| row["cents"].as_i64().is_none_or(|cents| cents >= 9000))),
        of("gold.busy_minutes", "busy", "DROP ROW", minutes.len(), quiet),
    ];
    let query = "SELECT pipeline, \"constraint\", action, passed, failed FROM system.quality ORDER BY 1, 2";
    assert_eq!(answer(project, query), expected);
    let dropped = failed(&|row| negative(row) && !no_city(row));
    let query = "SELECT rows_out, violating, dropped FROM system.pipelines WHERE pipeline = 'bronze.held'";
    assert_eq!(answer(project, query), [format!("{},{},{dropped}", kept.len(), aside.len())]);
}

#[test]
fn violations_are_counted_once_whatever_crashes() {
    let kafka = Kafka::shared();
    kafka.create_topic("quality", PARTITIONS);
    let project = Project::of(kafka.bootstrap(), "quality", &format!("{}{HELD}", tables()));
    for (chunk, step) in (0..CHUNKS).zip(["state_written", "record_written", "one_table_committed", "tables_committed"]) {
        produce(kafka, "quality", chunk);
        let last = chunk == CHUNKS - 1;
        project.stream_to_end(last).killed_at(step, chunk).run().died_at(step);
        project.stream_to_end(last).succeeds();
    }
    project.check(&input().1);
    check(&project);
}

#[test]
fn fail_stops_its_pipeline_alone_before_the_row_is_committed() {
    let kafka = Kafka::shared();
    kafka.create_topic("fail", PARTITIONS);
    let held = |action: &str| {
        format!(
            "{}
             CREATE STREAMING TABLE silver.strict (CONSTRAINT not_negative EXPECT (cents >= 0) ON VIOLATION {action})
             WITH (commit_interval = '50 milliseconds')
             AS SELECT event_id, cents, kafka_partition, kafka_offset FROM events_in;",
            tables()
        )
    };
    let project = Project::of(kafka.bootstrap(), "fail", &held("FAIL"));
    (0..CHUNKS).for_each(|chunk| produce(kafka, "fail", chunk));
    let ended = project.stream_to_end(true).run();
    assert!(!ended.status.success(), "the run ends well although a pipeline stopped\n{}", ended.output());
    for part in ["silver.strict", "constraint not_negative", "(cents >= 0)", "offset", "cents=-", "ON VIOLATION QUARANTINE"] {
        assert!(ended.stderr.contains(part), "it does not say '{part}'\n{}", ended.output());
    }
    project.check(&input().1);
    let committed = project.table("silver.strict").objects();
    assert!(committed.iter().all(|row| !negative(row)), "a row that violates the constraint was committed");

    // The way out that the error names.
    project.apply("fail", &format!("{}\n{}", source(), held("QUARANTINE")));
    project.stream_to_end(true).succeeds();
    let all = project.table("bronze.events").objects();
    let bad = all.iter().filter(|row| negative(row)).count();
    assert_eq!(project.table("silver.strict$violations").count(), bad);
    assert_eq!(project.table("silver.strict").count(), all.len() - bad);
}

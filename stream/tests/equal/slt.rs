//! Runs the cases in `stream/tests/slt/*.slt`: each query on stream and on batch, and both must give the rows that stand below it.
//!
//! A file holds blocks with empty lines between; `#` begins a comment. Blocks happen in the order they stand in, for every query of the file:
//!
//! ```text
//! source                           CREATE SOURCE …, one a file
//! rows 0                           messages for partition 0, one JSON object a line
//! checkpoint                       an epoch is decided here
//! crash                            everything since the last checkpoint is lost and read again
//! advance watermark to 2026-…Z     all partitions are idle and raised to this time
//! query                            SQL, `----`, the rows as a|b|c in any order, then counts that are not zero: late: 1
//! query error                      SQL, `----`, words of the refusal, one a line
//! ```
//!
//! The stream side runs with one, two and three tasks a stage, as written and with a checkpoint and a crash after each step. The batch side
//! reads the rows that were not late.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use arrow::array::{AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Int32Type, Int64Type};
use chrono::DateTime;
use watershed_ingest::json::JsonDecode;
use watershed_ingest::source::{Decode, Decoded, RawBatch};
use watershed_stream::{Blueprint, Project};

use crate::batch::{self, lines};
use crate::driver::{Driver, Given, Tasks};

enum Step {
    Rows(Box<RawBatch>),
    Checkpoint,
    Crash,
    Advance(i64),
}

struct Query {
    line: usize,
    text: String,
    expected: Vec<String>,
    refused: bool,
}

#[derive(Default)]
struct Script {
    source: String,
    steps: Vec<Step>,
    queries: Vec<Query>,
    partitions: i32,
}

/// Message timestamp of all rows: later than any event time in the cases, as `max_skew` asks.
const APPENDED_MS: i64 = 4_000_000_000_000;

impl Script {
    fn parse(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a case");
        let mut script = Self::default();
        let mut next_offset = std::collections::BTreeMap::new();
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')).peekable();
        while let Some((number, head)) = lines.next() {
            if head.trim().is_empty() {
                continue;
            }
            let mut body = Vec::new();
            while let Some((_, line)) = lines.next_if(|(_, line)| !line.trim().is_empty()) {
                body.push(line);
            }
            let fault = |what: &str| -> ! { panic!("{}:{}: {what}: '{head}'", path.display(), number + 1) };
            match head.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["source"] => script.source = body.join("\n"),
                ["rows", partition] => {
                    let Ok(partition) = partition.parse() else { fault("no partition number") };
                    let offset = next_offset.entry(partition).or_insert(0_i64);
                    let mut raw = RawBatch::new(partition);
                    for line in body {
                        raw.push(*offset, APPENDED_MS, None, Some(line.as_bytes()));
                        *offset += 1;
                    }
                    script.partitions = script.partitions.max(partition + 1);
                    script.steps.push(Step::Rows(Box::new(raw)));
                }
                ["checkpoint"] => script.steps.push(Step::Checkpoint),
                ["crash"] => script.steps.push(Step::Crash),
                ["advance", "watermark", "to", time] => match DateTime::parse_from_rfc3339(time) {
                    Ok(time) => script.steps.push(Step::Advance(time.timestamp_micros())),
                    Err(error) => fault(&error.to_string()),
                },
                ["query", rest @ ..] => {
                    let Some(rule) = body.iter().position(|line| *line == "----") else { fault("no ---- after the query") };
                    script.queries.push(Query {
                        line: number + 1,
                        text: body[..rule].join("\n"),
                        expected: body[rule + 1..].iter().map(|line| line.trim().to_string()).collect(),
                        refused: rest == ["error"],
                    });
                }
                _ => fault("unknown block"),
            }
        }
        assert!(!script.queries.is_empty(), "{} asks nothing", path.display());
        script
    }
}

fn decode(blueprint: &Blueprint, wanted: &[usize], raw: &RawBatch) -> Decoded {
    let mut decoder = JsonDecode::new(&blueprint.source, wanted).expect("a decoder");
    decoder.decode(raw).expect("decoded")
}

/// Runs the steps; `harsh` puts a checkpoint and a crash behind each.
fn stream(blueprint: &Blueprint, script: &Script, tasks: usize, harsh: bool) -> Given {
    let mut driver = Driver::new(blueprint, Tasks { local: tasks, keyed: tasks }, script.partitions);
    let mut since: Vec<&Step> = Vec::new();
    let feed = |driver: &mut Driver, step: &Step| match step {
        Step::Rows(raw) => {
            let decoded = decode(blueprint, &blueprint.wanted, raw);
            driver.take(raw.partition, decoded.rows, decoded.offsets);
        }
        Step::Advance(floor_us) => (0..script.partitions).for_each(|partition| driver.raise(partition, *floor_us)),
        Step::Checkpoint | Step::Crash => {}
    };
    for step in &script.steps {
        match step {
            Step::Checkpoint => {
                driver.checkpoint();
                since.clear();
            }
            Step::Crash => {
                driver.crash();
                since.iter().for_each(|step| feed(&mut driver, step));
            }
            Step::Rows(_) | Step::Advance(_) => {
                feed(&mut driver, step);
                since.push(step);
            }
        }
        if harsh {
            driver.checkpoint();
            driver.crash();
            since.clear();
        }
    }
    driver.finish()
}

/// Partition and offset of each late row.
fn late(given: &Given) -> BTreeSet<(i32, i64)> {
    let mut found = BTreeSet::new();
    for batch in &given.late {
        let partitions = batch.column_by_name("source_partition").expect("a late row says where it came from").as_primitive::<Int32Type>();
        let offsets = batch.column_by_name("source_offset").expect("a late row says where it came from").as_primitive::<Int64Type>();
        found.extend(partitions.values().iter().copied().zip(offsets.values().iter().copied()));
    }
    found
}

/// All rows that were not late, with all columns of the source.
fn in_time(blueprint: &Blueprint, script: &Script, late: &BTreeSet<(i32, i64)>) -> RecordBatch {
    let schema = blueprint.source.schema();
    let wanted: Vec<usize> = (0..schema.fields().len()).collect();
    let mut batches = Vec::new();
    for step in &script.steps {
        let Step::Rows(raw) = step else { continue };
        let decoded = decode(blueprint, &wanted, raw);
        let offsets: &Int64Array = &decoded.offsets;
        let keep: BooleanArray = offsets.values().iter().map(|offset| Some(!late.contains(&(raw.partition, *offset)))).collect();
        let rows = RecordBatch::try_new(schema.clone(), decoded.rows.columns().to_vec()).expect("all columns of the source");
        batches.push(filter_record_batch(&rows, &keep).expect("filtered"));
    }
    concat_batches(&schema, &batches).expect("one batch")
}

/// The rows and the counts that are not zero, as they stand in a case.
fn shown(rows: &[RecordBatch], given: &Given) -> Vec<String> {
    let mut shown = lines(rows);
    let late = given.late.iter().map(RecordBatch::num_rows).sum::<usize>();
    for (name, count) in [("late", late), ("deduplicated", given.deduplicated as usize)] {
        if count > 0 {
            shown.push(format!("{name}: {count}"));
        }
    }
    shown.sort();
    shown
}

fn run(path: &Path) {
    let script = Script::parse(path);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for query in &script.queries {
        let place = format!("{}:{}", path.display(), query.line);
        let text = format!("{}\nCREATE STREAMING TABLE out.t AS {};", script.source, query.text);
        let planned = match Project::parse([text.as_str()]) {
            Ok(project) => {
                let table = project.tables.values().next().expect("one table").clone();
                runtime.block_on(project.plan(&table)).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        let blueprint = match (planned, query.refused) {
            (Err(error), true) => {
                query.expected.iter().for_each(|words| assert!(error.contains(words.as_str()), "{place}: '{words}' is not in: {error}"));
                continue;
            }
            (Err(error), false) => panic!("{place}: {error}"),
            (Ok(_), true) => panic!("{place}: it should have been refused"),
            (Ok(blueprint), false) => blueprint,
        };
        let mut expected = query.expected.clone();
        expected.sort();
        let plain = stream(&blueprint, &script, 1, false);
        let rows = in_time(&blueprint, &script, &late(&plain));
        let batch = runtime.block_on(batch::result(&query.text, &blueprint.source.name, rows, &blueprint.schema));
        assert_eq!(shown(&plain.rows, &plain), expected, "{place}: stream");
        assert_eq!(shown(&batch, &plain), expected, "{place}: batch");
        for (tasks, harsh) in [(1, true), (2, false), (2, true), (3, false), (3, true)] {
            let given = stream(&blueprint, &script, tasks, harsh);
            assert_eq!(shown(&given.rows, &given), expected, "{place}: stream of {tasks} tasks, harsh: {harsh}");
        }
    }
}

#[test]
fn cases() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/slt");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder).expect("the cases").map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "slt"));
    paths.sort();
    assert!(paths.len() >= 5, "the cases are in {}", folder.display());
    paths.iter().for_each(|path| run(path));
}

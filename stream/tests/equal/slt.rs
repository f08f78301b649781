//! Runs the cases below `stream/tests/slt/`: each query on stream and on batch, and both must give the rows that are written below it.
//!
//! A file holds blocks with empty lines between; `#` begins a comment. Blocks happen in the order they are written, for every query of the
//! file:
//!
//! ```text
//! source                           CREATE SOURCE …, one a file; or `source FILE`: the one that FILE in `sql/` creates
//! rows 0                           messages for partition 0, one JSON object a line
//! checkpoint                       an epoch is decided here
//! crash                            everything since the last checkpoint is lost and read again
//! advance watermark to 2026-…Z     all partitions are idle and raised to this time
//! query                            SQL, `----`, the rows as a|b|c in any order, then counts that are not zero: late: 1
//! query error                      SQL, `----`, words of the refusal, one a line
//! query FILE                       the streaming table that FILE in `sql/` creates, `----`, its rows
//! table schema.name                SQL that gives the rows of a table which no query above gives, for views below
//! view FILE                        the materialized view, panel or sink that FILE in `sql/` creates, `----`, its rows: on batch only
//! ```
//!
//! The stream side runs with one, two and three tasks a stage, as written and with a checkpoint and a crash after each step. The batch side
//! reads the rows that were not late. Each file in `sql/` must be in a case, but for those with an ASOF JOIN.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use arrow::array::{AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Int32Type, Int64Type};
use chrono::DateTime;
use watershed_dialect::{StatementKind, StreamingTableDefinition, as_of_join, parse};
use watershed_ingest::json::JsonDecode;
use watershed_ingest::source::{Decode, Decoded, RawBatch};
use watershed_stream::{Blueprint, Project};

use crate::batch::{self, Tables, lines};
use crate::driver::{Driver, Given, Tasks};

enum Step {
    Rows(Box<RawBatch>),
    Checkpoint,
    Crash,
    Advance(i64),
}

enum Asked {
    /// Of a query as it is written in the case.
    Query(String),
    /// Of a query that is refused.
    Refusal(String),
    /// Of a streaming table that `sql/` creates.
    Table(StreamingTableDefinition),
    /// Of what `sql/` creates over tables: the name by which views further down read it, and its query.
    View(Option<String>, String),
    /// Nothing: rows for views.
    Given(String, String),
}

struct Question {
    line: usize,
    asked: Asked,
    expected: Vec<String>,
}

#[derive(Default)]
struct Script {
    source: String,
    steps: Vec<Step>,
    questions: Vec<Question>,
    /// The files of `sql/` that it names.
    files: BTreeSet<PathBuf>,
    partitions: i32,
}

/// Message timestamp of all rows: later than any event time in the cases, as `max_skew` asks.
const APPENDED_MS: i64 = 4_000_000_000_000;

impl Script {
    fn parse(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a case");
        let mut script = Self::default();
        let mut next_offset = BTreeMap::new();
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
                ["source", file] => script.source = script.file(file),
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
                ["table", name] => {
                    let asked = Asked::Given((*name).to_owned(), body.join("\n"));
                    script.questions.push(Question { line: number + 1, asked, expected: Vec::new() });
                }
                [what @ ("query" | "view"), rest @ ..] => {
                    let Some(rule) = body.iter().position(|line| *line == "----") else { fault("no ---- after the query") };
                    let text = body[..rule].join("\n");
                    let asked = match (*what, rest) {
                        ("query", []) => Asked::Query(text),
                        ("query", ["error"]) => Asked::Refusal(text),
                        (_, [file]) => asked_of(&script.file(file)).unwrap_or_else(|error| fault(&error)),
                        _ => fault("unknown block"),
                    };
                    let expected = body[rule + 1..].iter().map(|line| line.trim().to_string()).collect();
                    script.questions.push(Question { line: number + 1, asked, expected });
                }
                _ => fault("unknown block"),
            }
        }
        assert!(!script.questions.is_empty(), "{} asks nothing", path.display());
        script
    }

    /// The text of a file in `sql/`.
    fn file(&mut self, name: &str) -> String {
        let path = project_folder().join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.files.insert(path);
        text
    }
}

fn project_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../sql")
}

/// What there is to ask of the first statement of a text.
fn asked_of(text: &str) -> Result<Asked, String> {
    let statement = parse(text).map_err(|error| error.to_string())?.into_iter().next().ok_or("no statement")?;
    match statement.kind {
        StatementKind::CreateStreamingTable(table) => Ok(Asked::Table(table)),
        StatementKind::CreateMaterializedView(view) => Ok(Asked::View(Some(format!("{}.{}", view.schema, view.table)), view.query)),
        StatementKind::CreatePanel(panel) => Ok(Asked::View(None, panel.query)),
        // What a sink sends is a view of its table.
        StatementKind::CreateSink(sink) => {
            let table = format!("{}.{}", sink.schema, sink.table);
            Ok(Asked::View(None, sink.query.replace(&format!("STREAM({table})"), &table)))
        }
        StatementKind::CreateSource(_) | StatementKind::ExplainView(_) | StatementKind::ExplainTable(_) | StatementKind::Other(_) => {
            Err("it creates no table, view, panel or sink".to_owned())
        }
    }
}

fn decode(blueprint: &Blueprint, wanted: &[usize], raw: &RawBatch) -> Decoded {
    let mut decoder = JsonDecode::new(&blueprint.sources[0].definition, wanted).expect("a decoder");
    decoder.decode(raw).expect("decoded")
}

/// Runs the steps; `harsh` puts a checkpoint and a crash after each.
fn stream(blueprint: &Blueprint, script: &Script, tasks: usize, harsh: bool) -> Given {
    let mut driver = Driver::new(blueprint, Tasks { local: tasks, keyed: tasks }, script.partitions);
    let mut since: Vec<&Step> = Vec::new();
    let feed = |driver: &mut Driver, step: &Step| match step {
        Step::Rows(raw) => {
            let decoded = decode(blueprint, &blueprint.sources[0].wanted, raw);
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
    let schema = blueprint.sources[0].definition.schema();
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

/// The rows and the counts that are not zero, as they are written in a case.
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

/// The table that is asked for, planned.
async fn planned(source: &str, asked: &Asked) -> Result<(StreamingTableDefinition, Blueprint), String> {
    let table = match asked {
        Asked::Table(table) => table.clone(),
        Asked::Query(query) | Asked::Refusal(query) => match asked_of(&format!("CREATE STREAMING TABLE out.t AS {query};"))? {
            Asked::Table(table) => table,
            _ => return Err("no query".to_owned()),
        },
        Asked::View(..) | Asked::Given(..) => return Err("no stream".to_owned()),
    };
    let project = Project::parse([source]).map_err(|error| error.to_string())?;
    let blueprint = project.plan(&table).await.map_err(|error| error.to_string())?;
    Ok((table, blueprint))
}

/// Runs a case and returns the files of `sql/` it names.
async fn run(path: &Path) -> BTreeSet<PathBuf> {
    let script = Script::parse(path);
    let mut tables = Tables::default();
    for Question { line, asked, expected } in &script.questions {
        let place = format!("{}:{line}", path.display());
        let mut expected = expected.clone();
        expected.sort();
        if let Asked::View(name, query) = asked {
            let rows = tables.query(query).await;
            assert_eq!(lines(&rows), expected, "{place}: batch");
            if let Some(name) = name {
                tables.add(name, rows);
            }
            continue;
        }
        if let Asked::Given(name, query) = asked {
            let rows = tables.query(query).await;
            tables.add(name, rows);
            continue;
        }
        let (table, blueprint) = match (planned(&script.source, asked).await, asked) {
            (Err(error), Asked::Refusal(_)) => {
                expected.iter().for_each(|words| assert!(error.contains(words.as_str()), "{place}: '{words}' is not in: {error}"));
                continue;
            }
            (Err(error), _) => panic!("{place}: {error}"),
            (Ok(_), Asked::Refusal(_)) => panic!("{place}: it should have been refused"),
            (Ok(planned), _) => planned,
        };
        let plain = stream(&blueprint, &script, 1, false);
        let rows = in_time(&blueprint, &script, &late(&plain));
        let batch = batch::result(&table.query, &[(blueprint.names.get(0), rows)], &blueprint.schema).await;
        assert_eq!(shown(&plain.rows, &plain), expected, "{place}: stream");
        assert_eq!(shown(&batch, &plain), expected, "{place}: batch");
        for (tasks, harsh) in [(1, true), (2, false), (2, true), (3, false), (3, true)] {
            let given = stream(&blueprint, &script, tasks, harsh);
            assert_eq!(shown(&given.rows, &given), expected, "{place}: stream of {tasks} tasks, harsh: {harsh}");
        }
        tables.add(&format!("{}.{}", table.schema, table.table), batch);
    }
    script.files
}

/// Files below a folder that end so, sorted.
fn files_below(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_below(&path, ending));
        } else if path.extension().is_some_and(|found| found == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Whether a file creates a view by an ASOF JOIN, which only jobs compute: tests of `batch/` say which rows it gives.
fn joined_as_of(file: &Path) -> bool {
    let statements = parse(&std::fs::read_to_string(file).expect("a definition")).expect("SQL");
    statements.iter().any(|statement| match &statement.kind {
        StatementKind::CreateMaterializedView(view) => as_of_join(&view.query).expect("a query").is_some(),
        _ => false,
    })
}

#[tokio::test]
async fn cases() {
    let mut named = BTreeSet::new();
    for path in files_below(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/slt"), "slt") {
        named.extend(run(&path).await);
    }
    let files = files_below(&project_folder(), "sql").into_iter().filter(|file| !joined_as_of(file));
    let without: Vec<PathBuf> = files.filter(|file| !named.contains(file)).collect();
    assert!(without.is_empty(), "no case says which rows these give: {without:#?}");
}

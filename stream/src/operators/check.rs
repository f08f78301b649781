//! The one way operators are tested: a script of rows and watermarks, run plain, and again with a snapshot after every step and a restore
//! after some. All must hand on exactly what is expected.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::pretty::pretty_format_batches;

use crate::operator::{Chain, Change, Operator, Output, StateDelta, StateSnapshot};
use crate::watermark::Watermark;

/// One step of a script.
pub(crate) enum Step {
    /// Rows as CSV lines without a header, in the schema given; times as RFC 3339.
    Rows(SchemaRef, &'static str),
    /// An input's watermark in seconds since 1970, and the merged one.
    Watermark(i32, i64, i64),
}

/// Runs `script` through the operators `make` makes. `expected` is what they hand on, as lines `step: value|value|…`, late rows
/// marked `step late: …`, those that violate expectations `step violating: …`; then how many rows met each expectation, of how many.
pub(crate) fn check(make: impl Fn() -> Vec<Box<dyn Operator>>, script: &[Step], expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let plain = run(&make, script, None);
    assert_eq!(plain, expected, "plain");
    for steps in 1..=3 {
        let restored = run(&make, script, Some(steps));
        assert_eq!(restored, expected, "with a snapshot after every step and a restore after each {steps}");
    }
}

/// What the store has of an operator's state: name and pieces of each segment.
pub(crate) type Saved = BTreeMap<String, Vec<RecordBatch>>;

/// Brings it up to date.
pub(crate) fn save(saved: &mut Saved, delta: StateDelta) {
    for segment in &delta.deletes {
        saved.remove(segment).expect("a segment that is dropped was there");
    }
    for Change { segment, replaces, rows } in delta.changes {
        saved.entry(segment).or_default().splice(replaces, rows);
    }
}

/// What the operators hand on, as lines. `restore`: a snapshot is made after every step, and they are made again from it after each so many.
pub(crate) fn run(make: &impl Fn() -> Vec<Box<dyn Operator>>, script: &[Step], restore: Option<usize>) -> Vec<String> {
    let mut chain = Chain::new(make());
    let mut saved: BTreeMap<usize, Saved> = BTreeMap::new();
    let mut lines = Vec::new();
    for (number, step) in script.iter().enumerate() {
        let mut out = Output::default();
        match step {
            Step::Rows(schema, csv) => chain.process(rows(schema, csv), &mut out).expect("rows are taken"),
            Step::Watermark(input, input_s, merged_s) => {
                let watermark = Watermark { input: *input, input_us: input_s * 1_000_000, merged_us: merged_s * 1_000_000 };
                chain.on_watermark(watermark, &mut out).map(drop).expect("the watermark is taken");
            }
        }
        lines.extend(out.rows.iter().flat_map(|batch| show(&format!("{number}"), batch)));
        lines.extend(out.late.iter().flat_map(|batch| show(&format!("{number} late"), batch)));
        lines.extend(out.violating.iter().flat_map(|batch| show(&format!("{number} violating"), batch)));
        if !out.tallies.is_empty() {
            let counts: Vec<String> = out.tallies.iter().map(|t| format!("{}/{}", t.passed, t.passed + t.failed)).collect();
            lines.push(format!("{number} met: {}, dropped: {}", counts.join(" "), out.dropped));
        }
        let Some(steps) = restore else { continue };
        for (index, operator) in chain.operators_mut() {
            save(saved.entry(index).or_default(), operator.snapshot().expect("a snapshot is made"));
        }
        if (number + 1) % steps != 0 {
            continue;
        }
        chain = Chain::new(make());
        for (index, operator) in chain.operators_mut() {
            // What was restored counts as changed and is written again.
            let segments = saved.remove(&index).unwrap_or_default().into_iter().collect();
            operator.restore(StateSnapshot { segments }).expect("a snapshot is taken back");
        }
    }
    lines
}

/// Parses CSV lines.
pub(crate) fn rows(schema: &SchemaRef, csv: &str) -> RecordBatch {
    let text: String = csv.lines().map(str::trim).filter(|line| !line.is_empty()).flat_map(|line| [line, "\n"]).collect();
    let builder = arrow::csv::ReaderBuilder::new(Arc::clone(schema)).with_batch_size(1 << 20);
    let mut reader = builder.build(text.as_bytes()).expect("the schema can be read as CSV");
    reader.next().expect("there is a row").expect("the rows fit the schema")
}

fn show(label: &str, batch: &RecordBatch) -> Vec<String> {
    let table = pretty_format_batches(std::slice::from_ref(batch)).expect("rows can be shown").to_string();
    let body = table.lines().skip(3).filter(|line| line.starts_with('|'));
    body.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        format!("{label}: {}", cells.join("|"))
    })
    .collect()
}

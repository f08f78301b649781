//! The one way operators are tested: a script of rows and watermarks, run plain, and again with snapshot and restore after every
//! step. Both must hand on exactly what is expected.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::pretty::pretty_format_batches;

use crate::operator::{Chain, Operator, Output, StateSnapshot};
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
    let plain = run(&make, script, false);
    assert_eq!(plain, expected, "plain");
    let restored = run(&make, script, true);
    assert_eq!(restored, expected, "with snapshot and restore after every step");
}

/// What the operators hand on, as lines; with `restore` they are made again from a snapshot after every step.
pub(crate) fn run(make: &impl Fn() -> Vec<Box<dyn Operator>>, script: &[Step], restore: bool) -> Vec<String> {
    let mut chain = Chain::new(make());
    let mut saved: BTreeMap<(usize, String), RecordBatch> = BTreeMap::new();
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
        if !restore {
            continue;
        }
        for (index, operator) in chain.operators_mut() {
            let delta = operator.snapshot().expect("a snapshot is made");
            for segment in delta.deletes {
                saved.remove(&(index, segment));
            }
            saved.extend(delta.upserts.into_iter().map(|(segment, batch)| ((index, segment), batch)));
        }
        chain = Chain::new(make());
        for (index, operator) in chain.operators_mut() {
            let of_operator = saved.iter().filter(|((i, _), _)| *i == index);
            let segments = of_operator.map(|((_, segment), batch)| (segment.clone(), batch.clone())).collect();
            operator.restore(StateSnapshot { segments }).expect("a snapshot is taken back");
        }
        // What was restored counts as changed and is written again.
        saved.clear();
    }
    lines
}

/// Parses CSV lines.
pub(crate) fn rows(schema: &SchemaRef, csv: &str) -> RecordBatch {
    let text: String = csv.lines().map(str::trim).filter(|line| !line.is_empty()).flat_map(|line| [line, "\n"]).collect();
    let mut reader = arrow::csv::ReaderBuilder::new(Arc::clone(schema)).build(text.as_bytes()).expect("the schema can be read as CSV");
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

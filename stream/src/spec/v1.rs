//! The fingerprint of layout 1: a hash of texts about the steps, as Watershed wrote it into epoch records until layout 2 came. Kept only to accept
//! such a record; the next one that is written holds layout 2. It says too little to compare two plans by.

use arrow::datatypes::{FieldRef, Schema};
use datafusion::logical_expr::Expr;
use watershed_dialect::{StreamingTableDefinition, WatermarkDefinition};
use watershed_functions::numbers::as_written;
use watershed_functions::window::WindowKind;

use crate::exchange;
use crate::operators::late::Deadline;

pub(crate) fn names(schema: &Schema) -> String {
    schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ")
}

pub(crate) fn filter(predicate: &Expr) -> String {
    format!("filter {}", as_written(predicate))
}

pub(crate) fn project(schema: &Schema) -> String {
    format!("project {}", names(schema))
}

pub(crate) fn assign_windows(kind: WindowKind) -> String {
    format!("assign_windows {kind:?}")
}

pub(crate) fn late(deadline: Deadline, column: &str) -> String {
    format!("late {deadline:?} {column}")
}

pub(crate) fn aggregate_partial(result: &Schema, by_partition: bool) -> String {
    format!("aggregate_partial {}{}", names(result), if by_partition { ", one state a partition" } else { "" })
}

pub(crate) fn deduplicate(keys: &[&str], within_us: i64) -> String {
    format!("deduplicate by {} within {} s", keys.join(", "), within_us / 1_000_000)
}

/// The steps of one plan, each as one of the texts above.
pub(crate) struct Steps<'a> {
    pub(crate) source: &'a str,
    pub(crate) local: &'a [String],
    pub(crate) exchange: Option<(&'a [usize], bool)>,
    pub(crate) keyed: &'a [String],
    pub(crate) table: &'a StreamingTableDefinition,
}

/// The hash that records of layout 1 hold.
pub(crate) fn fingerprint(steps: &Steps, columns: &[&FieldRef], schema: &Schema, watermark: &Option<WatermarkDefinition>) -> String {
    let mut text = format!("partition-local stage, reads {}\n", steps.source);
    let lines = |lines: &[String]| lines.iter().map(|line| format!("  {line}\n")).collect::<String>();
    text.push_str(&lines(steps.local));
    if let Some((keys, in_parallel)) = steps.exchange {
        let how = if keys.is_empty() || !in_parallel { "to one task".to_owned() } else { format!("by hash of columns {keys:?}") };
        text.push_str(&format!("exchange {how}\nkeyed stage\n{}", lines(steps.keyed)));
    }
    text.push_str(&format!("sink {}.{}\n", steps.table.schema, steps.table.table));
    format!("{:016x}", exchange::hash(format!("{text}{columns:?}{schema:?}{watermark:?}").as_bytes()))
}

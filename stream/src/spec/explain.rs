//! What `EXPLAIN STREAMING TABLE` says of a plan: its stages, how many tasks each has and why, its steps, the state they keep, and how much of it
//! there is.
//!
//! ```text
//! gold.city_demand, from rides
//!
//! stage 1: one task for each partition at most, since the rows of a partition keep their order
//!   read       at, city
//!   window     TUMBLE 1 min of at
//!   late       rows whose window had ended before they came
//!   aggregate  count(1) by window, city
//!              state: partial results of each open window and key, until the window has ended
//!
//! exchange by city
//!
//! stage 2: as many tasks as `parallelism` says, each with the rows of its keys
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Computed, Expression, LateBy, PlanSpec, Sharing, StageSpec, StepSpec};
use crate::epoch::EpochRecord;
use crate::operators::rebase::Rebase;

/// What the pipeline holds now.
#[derive(Debug, Clone, Default)]
pub struct Holds {
    /// The epoch that this was so at; `None` if the pipeline has not run.
    pub epoch: Option<u64>,
    /// Tasks that the state of a stage is split over whose rows are shared out by key.
    pub keyed_tasks: u32,
    /// Each segment and its bytes.
    state: Vec<(String, u64)>,
}

/// Segments and bytes, by stage and step.
type Held = BTreeMap<(usize, usize), (u64, u64)>;

impl Holds {
    /// What a record says.
    pub fn of(record: &EpochRecord) -> Self {
        let state = record.state.iter().map(|(name, ranges)| (name.clone(), ranges.iter().map(|range| range.bytes).sum())).collect();
        Self { epoch: Some(record.epoch), keyed_tasks: record.keyed_tasks, state }
    }

    fn by_step(&self, spec: &PlanSpec) -> Held {
        let (layout, mut held) = (spec.layout(), Held::new());
        for (name, size) in &self.state {
            if let Some(of) = layout.address(name) {
                let (segments, bytes) = held.entry((of.stage, of.operator)).or_default();
                *segments += 1;
                *bytes += size;
            }
        }
        held
    }
}

/// The explanation of the plan of `table`.
pub fn explain(table: &str, spec: &PlanSpec, holds: &Holds, sinks: &[String]) -> String {
    let names: Vec<&str> = spec.sources.iter().map(|source| source.name.as_str()).collect();
    let are_several = names.len() > 1;
    let mut text = format!("{table}, from {}\n", names.join(", "));
    let held = holds.by_step(spec);
    for (place, stage) in spec.stages.iter().enumerate() {
        // Beside several sources a stage is not always after the one that is told before it.
        let of = if are_several { format!(" of {}", numbered(&stage.inputs)) } else { String::new() };
        let exchange = match &stage.sharing {
            Sharing::ByPartition => "\n".to_owned(),
            Sharing::ByKey { names, .. } => format!("\nexchange{of} by {}\n\n", names.join(", ")),
            Sharing::ToOne => format!("\nexchange{of} to one task\n\n"),
        };
        let split = held.keys().any(|(of, _)| *of == place).then_some(holds.keyed_tasks);
        let beside = match stage.source {
            Some(source) if are_several => format!(", beside {}", names[source]),
            _ => String::new(),
        };
        let _ = writeln!(text, "{exchange}stage {}{beside}: {}", place + 1, tasks(&stage.sharing, split));
        if let Some(source) = stage.source {
            let columns: Vec<&str> = spec.sources[source].columns.iter().map(|column| column.name.as_str()).collect();
            line(&mut text, "read", &listed(&columns));
        }
        steps(&mut text, table, (place, stage), &held);
    }
    for sink in sinks {
        line(&mut text, "sink", sink);
    }
    let _ = match holds.epoch {
        None => writeln!(text, "\nit has not run yet"),
        Some(epoch) if holds.state.is_empty() => writeln!(text, "\nat epoch {epoch} it holds no state"),
        Some(epoch) => writeln!(text, "\nat epoch {epoch} it holds {} of state", bytes(holds.state.iter().map(|(_, bytes)| bytes).sum())),
    };
    text
}

/// How many tasks a stage has, and why. `split` is how many its state is of, if it has some.
fn tasks(sharing: &Sharing, split: Option<u32>) -> String {
    match (sharing, split) {
        (Sharing::ByPartition, _) => "one task for each partition at most, since the rows of a partition keep their order".to_owned(),
        (Sharing::ToOne, _) => "one task, since no key tells which rows can be apart".to_owned(),
        (Sharing::ByKey { .. }, None) => "as many tasks as `parallelism` says, each with the rows of its keys".to_owned(),
        (Sharing::ByKey { .. }, Some(split)) => {
            format!("{split} {}, as its state was split, each with the rows of its keys", if split == 1 { "task" } else { "tasks" })
        }
    }
}

fn steps(text: &mut String, table: &str, (stage, of): (usize, &StageSpec), held: &Held) {
    for (place, step) in of.steps.iter().enumerate() {
        let (name, what) = said(step, table);
        line(text, name, &what);
        if let Some((_, keys)) = of.together.iter().find(|(at, _)| *at == place) {
            line(text, "", &format!("no exchange: rows that it needs together agree in {}, and are in one task", keys.join(", ")));
        }
        if let Some(kept) = state_of(step) {
            let now = match held.get(&(stage, place)) {
                Some((segments, held)) => format!("; now {} in {segments} {}", bytes(*held), if *segments == 1 { "part" } else { "parts" }),
                None => String::new(),
            };
            line(text, "", &format!("state: {kept}{now}"));
        }
    }
}

fn line(text: &mut String, name: &str, what: &str) {
    let _ = writeln!(text, "  {name:<12} {what}");
}

fn said(step: &StepSpec, table: &str) -> (&'static str, String) {
    match step {
        StepSpec::Filter { predicate } => ("filter", predicate.to_string()),
        StepSpec::Project { columns } => ("project", computed(columns)),
        StepSpec::Fork { ways } => {
            let step = |step: &StepSpec| {
                let (name, what) = said(step, table);
                format!("{name} {what}")
            };
            let ways: Vec<String> = ways.iter().map(|way| way.iter().map(step).collect::<Vec<_>>().join(", then ")).collect();
            ("unite", format!("for each row: {}", ways.join("; and: ")))
        }
        StepSpec::AssignWindows { function, size_us, step_us, offset_us, time } => {
            let each = if step_us == size_us { String::new() } else { format!(" each {}", length(*step_us)) };
            let offset = if *offset_us == 0 { String::new() } else { format!(", shifted by {}", length(*offset_us)) };
            ("window", format!("{function} {}{each} of {time}{offset}", length(*size_us)))
        }
        StepSpec::Late { by: LateBy::Window, .. } => ("late", format!("rows whose window had ended before they came: {table}$late")),
        StepSpec::Late { by: LateBy::Time, deadline } => ("late", format!("rows whose {deadline} the watermark had passed: {table}$late")),
        StepSpec::AggregatePartial { keys, aggregates, .. } => {
            let by: Vec<String> = std::iter::once("window".to_owned()).chain(keys.iter().map(|key| key.expression.to_string())).collect();
            let made: Vec<String> = aggregates.iter().map(|aggregate| aggregate.expression.to_string()).collect();
            let made = if made.is_empty() { "groups".to_owned() } else { made.join(", ") };
            ("aggregate", format!("{made} by {}", by.join(", ")))
        }
        StepSpec::AggregateFinal { .. } => {
            ("merge", "the partial results of all tasks, once the window has ended in all partitions".to_owned())
        }
        StepSpec::Place => ("place", "rows by what is in them, which gives those of one time an order".to_owned()),
        StepSpec::Rebase { to: Rebase::Starts { .. } } => ("time", "that of the starts of windows which have ended".to_owned()),
        StepSpec::Rebase { to: Rebase::Times } => ("time", "that of the last moments of windows which have ended".to_owned()),
        StepSpec::InOrder { time } => ("order", format!("by {time}")),
        StepSpec::Over { functions, .. } => ("over", computed(functions)),
        StepSpec::IntervalJoin { kind, least_us, most_us, .. } => {
            let bounds = format!("the time of the left less that of the right from {} to {}", length(*least_us), length(*most_us));
            ("join", format!("{kind}, rows of one key with {bounds}"))
        }
        StepSpec::Deduplicate { keys, within_us, .. } => {
            let keys: Vec<String> = keys.iter().map(Expression::to_string).collect();
            ("deduplicate", format!("by {} within {}", keys.join(", "), length(*within_us)))
        }
        StepSpec::Expect { rules } => {
            let rule = |rule: &super::RuleSpec| format!("{} ({}) {}", rule.name, rule.predicate, rule.action.sql());
            ("expect", rules.iter().map(rule).collect::<Vec<_>>().join(", "))
        }
        StepSpec::Deliver { with_places } => {
            ("deliver", format!("to {table}{}", if *with_places { " and, before the epoch is decided, to its sinks" } else { "" }))
        }
    }
}

/// What a step keeps, and when it is dropped.
fn state_of(step: &StepSpec) -> Option<String> {
    Some(match step {
        StepSpec::AggregatePartial { by_partition: true, .. } => {
            "partial results of each open window, key and partition, dropped when the window has ended in the partition".to_owned()
        }
        StepSpec::AggregatePartial { by_partition: false, .. } => {
            "partial results of each open window and key, dropped when the window has ended in all partitions of the task".to_owned()
        }
        StepSpec::AggregateFinal { .. } => "partial results that came, dropped when the window has ended in all partitions".to_owned(),
        StepSpec::InOrder { time } => format!("rows until the watermark has passed their {time}"),
        StepSpec::Over { reach_us, .. } => format!("what the functions read of each row, for {} and an eighth", length(*reach_us)),
        StepSpec::IntervalJoin { .. } => "rows of each side until the watermark has passed all times that they can meet".to_owned(),
        StepSpec::Deduplicate { within_us, time, .. } => {
            format!("rows until the watermark has passed their {time}; keys seen, for {} after", length(*within_us))
        }
        _ => return None,
    })
}

fn computed(columns: &[Computed]) -> String {
    let column = |column: &Computed| {
        let expression = column.expression.to_string();
        // A name with brackets is none that somebody gave.
        if expression == column.name || column.name.contains('(') { expression } else { format!("{expression} AS {}", column.name) }
    };
    columns.iter().map(column).collect::<Vec<_>>().join(", ")
}

/// `stages 1 and 2`
fn numbered(stages: &[usize]) -> String {
    let numbers: Vec<String> = stages.iter().map(|stage| (stage + 1).to_string()).collect();
    format!("{} {}", if numbers.len() == 1 { "stage" } else { "stages" }, numbers.join(" and "))
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "no column".to_owned() } else { names.join(", ") }
}

/// `10 min`: microseconds in the largest unit that divides them.
pub(super) fn length(us: i64) -> String {
    const UNITS: [(i64, &str); 6] =
        [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"), (1_000, "ms"), (1, "µs")];
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| us != 0 && us % unit == 0).unwrap_or((1_000_000, "s"));
    format!("{} {name}", us / unit)
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// A text that fits into a line beside others.
pub(super) fn shortened(text: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    if text.chars().count() <= CHARACTERS_MAX {
        text.to_owned()
    } else {
        format!("{}…", text.chars().take(CHARACTERS_MAX).collect::<String>())
    }
}

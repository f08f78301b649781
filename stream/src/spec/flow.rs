//! What flows through a plan: of each column what it is made of, of the rows which they are, and of each step that keeps state what it keeps.
//!
//! A value is known by how it is computed from columns of the source, whatever way it takes there: at another place among more columns, through one
//! projection or two, it is the same. So two plans can be compared that differ only in what one of them computes besides.
//!
//! ```text
//! SELECT id, city FROM pay WHERE amount > 1           id: source id   city: source city   rows: pay, late by 1 s, amount > 1
//! SELECT id, city, upper(city) AS big FROM pay …      the same, and big: upper(source city)
//! ```

use super::{Computed, Expression, LateBy, PlanSpec, SourceSpec, StepSpec, fnv};

/// Says what something is; equal for what is the same. A hash, so that a value that is made of others in many steps stays short.
pub(super) type Meaning = String;

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    /// How it is computed.
    pub(super) meaning: Meaning,
    /// Its type, and whether it may be NULL.
    pub(super) data_type: String,
}

/// What a step keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// Its address: the stage and the place among its steps.
    pub(super) at: (usize, usize),
    /// Which rows reach it, and what else decides what it keeps of them.
    pub(super) by: Meaning,
    /// What it keeps of each row or group.
    pub(super) values: Vec<Value>,
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Flow {
    /// The rows that leave.
    pub(super) rows: Meaning,
    /// Their columns: those of the table first.
    pub(super) columns: Vec<Value>,
    /// What is kept of late rows; empty if none is late.
    pub(super) late: Vec<Value>,
    /// State, step by step.
    pub(super) kept: Vec<Kept>,
    /// How keyed state is split.
    pub(super) exchange: Meaning,
    groups: Groups,
}

/// What leaves a stage.
struct Leaving {
    rows: Meaning,
    columns: Vec<Value>,
    groups: Groups,
    /// Whether the first half of an aggregate is the last step.
    first_half: bool,
}

/// The two halves of the newest aggregate, between them.
#[derive(Debug, Clone, Default)]
struct Groups {
    window: Vec<Value>,
    keys: Vec<Value>,
    results: Vec<Value>,
}

impl Flow {
    /// What flows through `plan`.
    pub(super) fn of(plan: &PlanSpec) -> Self {
        let mut flow = Self {
            rows: Meaning::new(),
            columns: Vec::new(),
            late: Vec::new(),
            kept: Vec::new(),
            exchange: String::new(),
            groups: Groups::default(),
        };
        let mut leaving: Vec<Leaving> = Vec::with_capacity(plan.stages.len());
        let mut taken = vec![false; plan.stages.len()];
        for (stage, of_stage) in plan.stages.iter().enumerate() {
            if let Some(source) = of_stage.source {
                flow.read(&plan.sources[source]);
            } else {
                of_stage.inputs.iter().for_each(|&input| taken[input] = true);
                let first_half = flow.take(of_stage.inputs.iter().map(|&input| &leaving[input]));
                // What crosses after the first half of an aggregate is laid out as its state: two bounds of the window and a slot, then keys.
                let key = |place: &usize| if first_half { flow.groups.keys.get(place.wrapping_sub(3)) } else { flow.columns.get(*place) };
                let keys = of_stage.sharing.keys();
                let known: Vec<&Value> = keys.iter().filter_map(key).collect();
                let (in_parallel, known) = (!keys.is_empty(), listed(known));
                let before = std::mem::take(&mut flow.exchange);
                flow.exchange = match before.as_str() {
                    "" => meaning(&["exchange", &in_parallel.to_string(), &known]),
                    _ => meaning(&["exchange", &before, &in_parallel.to_string(), &known]),
                };
            }
            for (place, step) in of_stage.steps.iter().enumerate() {
                flow.pass(step, (stage, place));
            }
            let first_half = matches!(of_stage.steps.last(), Some(StepSpec::AggregatePartial { .. }));
            leaving.push(Leaving { rows: flow.rows.clone(), columns: flow.columns.clone(), groups: flow.groups.clone(), first_half });
        }
        flow.take(leaving.iter().zip(&taken).filter(|(_, taken)| !**taken).map(|(leaving, _)| leaving));
        flow
    }

    /// Rows of a source.
    fn read(&mut self, source: &SourceSpec) {
        let read = |column: &super::ColumnSpec| {
            let said = serde_json::to_string(column).unwrap_or_default();
            Value { meaning: meaning(&["source", &source.name, &said]), data_type: column.data_type.clone() }
        };
        self.columns = source.columns.iter().map(read).collect();
        let time = source.time.and_then(|place| self.columns.get(place)).map_or_else(String::new, |time| time.meaning.clone());
        self.rows = meaning(&["rows", &source.name, &time, &source.delay_us.map_or_else(String::new, |us| us.to_string())]);
        self.groups = Groups::default();
    }

    /// The rows of stages, united. Whether they come from the first half of an aggregate.
    fn take<'a>(&mut self, inputs: impl Iterator<Item = &'a Leaving>) -> bool {
        let inputs: Vec<&Leaving> = inputs.collect();
        let Some(first) = inputs.first() else { return false };
        let of = |values: fn(&Leaving) -> &Vec<Value>| united(inputs.iter().map(|input| values(input)));
        (self.rows, self.columns) = (meaning_of_all(inputs.iter().map(|input| &input.rows)), of(|input| &input.columns));
        self.groups = Groups {
            window: of(|input| &input.groups.window),
            keys: of(|input| &input.groups.keys),
            results: of(|input| &input.groups.results),
        };
        first.first_half
    }

    /// What state means: equal for plans that can go on from each other's.
    pub(super) fn state(&self) -> Meaning {
        let kept = |kept: &Kept| {
            let stage = match kept.at.0 {
                0 => "local".to_owned(),
                1 => "keyed".to_owned(),
                later => format!("keyed_{later}"),
            };
            format!("{stage} {} {} {}", kept.at.1, kept.by, listed(&kept.values))
        };
        let all: Vec<String> = self.kept.iter().map(kept).collect();
        meaning(&["state", &self.exchange, &all.join("\n")])
    }

    fn pass(&mut self, step: &StepSpec, at: (usize, usize)) {
        match step {
            StepSpec::Filter { predicate } => self.rows = meaning(&["filter", &self.rows, &self.value(predicate)]),
            StepSpec::Project { columns } => self.columns = self.computed(columns),
            StepSpec::Fork { ways } => {
                let (rows, columns) = (self.rows.clone(), self.columns.clone());
                let mut made = Vec::with_capacity(ways.len());
                for way in ways {
                    (self.rows, self.columns) = (rows.clone(), columns.clone());
                    way.iter().for_each(|step| self.pass(step, at));
                    made.push((self.rows.clone(), self.columns.clone()));
                }
                self.rows = meaning_of_all(made.iter().map(|(rows, _)| rows));
                self.columns = united(made.iter().map(|(_, columns)| columns));
            }
            StepSpec::AssignWindows { function, size_us, step_us, offset_us, time } => {
                let window = meaning(&["window", function, &format!("{size_us} {step_us} {offset_us}"), &self.value(time)]);
                self.rows = meaning(&["windows", &self.rows, &window]);
                self.columns.extend(["start", "end", "time"].map(|bound| of_window(&window, bound)));
            }
            StepSpec::Late { by, deadline } => {
                let by = match by {
                    LateBy::Window => "window",
                    LateBy::Time => "time",
                };
                self.rows = meaning(&["late", &self.rows, by, &self.value(deadline)]);
                self.late.extend(self.columns.iter().cloned());
            }
            StepSpec::AggregatePartial { window, keys, aggregates, by_partition } => {
                let window = window.iter().map(|bound| Value { meaning: self.value(bound), data_type: String::new() }).collect::<Vec<_>>();
                let keys = self.computed(keys);
                let groups = meaning(&["groups", &self.rows, &listed(&window), &listed(&keys)]);
                let of_group = |value: Value| Value { meaning: meaning(&["of group", &groups, &value.meaning]), ..value };
                let results = self.computed(aggregates).into_iter().map(of_group).collect::<Vec<_>>();
                let by = meaning(&["partial", &groups, &by_partition.to_string()]);
                self.kept.push(Kept { at, by, values: results.clone() });
                self.rows = groups;
                self.groups = Groups { window, keys, results };
            }
            StepSpec::AggregateFinal { columns } => {
                self.kept.push(Kept { at, by: meaning(&["final", &self.rows]), values: self.groups.results.clone() });
                self.columns = columns.iter().map(|column| self.groups.column(column)).collect();
            }
            // What is counted by another column of windows leaves at other times.
            StepSpec::Rebase { to } => {
                let to = serde_json::to_string(to).unwrap_or_default();
                self.rows = meaning(&["rebase", &self.rows, &to]);
            }
            StepSpec::InOrder { time } => {
                let by = meaning(&["in order", &self.rows, &self.value(time)]);
                self.kept.push(Kept { at, by, values: self.columns.clone() });
            }
            StepSpec::Over { functions, .. } => {
                let rows = &self.rows;
                let over = |value: Value| Value { meaning: meaning(&["over", rows, &value.meaning]), ..value };
                let results = self.computed(functions).into_iter().map(over).collect::<Vec<_>>();
                self.kept.push(Kept { at, by: meaning(&["over", &self.rows]), values: results.clone() });
                self.columns.extend(results);
            }
            StepSpec::IntervalJoin { kind, keys, least_us, most_us, columns, types } => {
                let before = keys.len() + 2;
                let met: Vec<Meaning> = self.columns[..before.min(self.columns.len())].iter().map(|key| key.meaning.clone()).collect();
                let by = meaning(&["join", &self.rows, kind, &met.join(" "), &format!("{least_us} {most_us} {columns:?}")]);
                self.kept.push(Kept { at, by: by.clone(), values: self.columns.clone() });
                let of = |(value, data_type): (&Value, &String)| Value { meaning: value.meaning.clone(), data_type: data_type.clone() };
                self.columns = self.columns.iter().skip(before).zip(types).map(of).collect();
                self.rows = by;
            }
            StepSpec::Deduplicate { keys, time, within_us } => {
                let keys: Vec<Meaning> = keys.iter().map(|key| self.value(key)).collect();
                let by = meaning(&["deduplicate", &self.rows, &keys.join(" "), &self.value(time), &within_us.to_string()]);
                self.kept.push(Kept { at, by: by.clone(), values: self.columns.clone() });
                self.rows = by;
            }
            StepSpec::Place | StepSpec::Expect { .. } | StepSpec::Deliver { .. } => {}
        }
    }

    fn computed(&self, columns: &[Computed]) -> Vec<Value> {
        columns.iter().map(|column| Value { meaning: self.value(&column.expression), data_type: column.data_type.clone() }).collect()
    }

    /// What an expression over the columns as they are now comes to.
    fn value(&self, expression: &Expression) -> Meaning {
        let of = |place: usize| self.columns.get(place).map_or_else(|| format!("${place}"), |column| column.meaning.clone());
        // Each value within has a meaning of its own: it may be computed in a step before. Which columns a text that is not known is about is not
        // known either, so all count.
        let value = |text: String, is_known: bool| match is_known {
            true => meaning(&["value", &text]),
            false => meaning(&["value", &text, &listed(&self.columns)]),
        };
        expression.canonical_with(&of, &value)
    }
}

impl Groups {
    /// A column of the result, by what [`StepSpec::AggregateFinal`] calls it.
    fn column(&self, name: &str) -> Value {
        let place = |word: &str| name.strip_prefix(word)?.parse::<usize>().ok();
        let known = match name {
            "window_start" => self.window.first().cloned(),
            "window_end" => self.window.get(1).cloned(),
            "window_time" => self.window.get(1).map(|end| of_window(&end.meaning, "time")),
            _ => match (place("key "), place("aggregate ")) {
                (Some(key), _) => self.keys.get(key).cloned(),
                (_, Some(result)) => self.results.get(result).cloned(),
                _ => None,
            },
        };
        known.unwrap_or_else(|| Value { meaning: meaning(&["unknown", name]), data_type: String::new() })
    }
}

/// What rows of several kinds are together; one kind is what it is.
fn meaning_of_all<'a>(kinds: impl Iterator<Item = &'a Meaning>) -> Meaning {
    let kinds: Vec<&str> = std::iter::once("union").chain(kinds.map(String::as_str)).collect();
    if kinds.len() == 2 { kinds[1].to_owned() } else { meaning(&kinds) }
}

/// The same of their columns, each by its place.
fn united<'a>(kinds: impl Iterator<Item = &'a Vec<Value>>) -> Vec<Value> {
    let kinds: Vec<&Vec<Value>> = kinds.collect();
    let columns = kinds.iter().map(|kind| kind.len()).min().unwrap_or(0);
    let of = |place: usize| Value {
        meaning: meaning_of_all(kinds.iter().map(|kind| &kind[place].meaning)),
        data_type: kinds[0][place].data_type.clone(),
    };
    (0..columns).map(of).collect()
}

fn of_window(window: &str, bound: &str) -> Value {
    Value { meaning: meaning(&["bound", window, bound]), data_type: String::new() }
}

fn listed<'a>(values: impl IntoIterator<Item = &'a Value>) -> String {
    values.into_iter().map(|value| format!("{} {}", value.meaning, value.data_type)).collect::<Vec<_>>().join(", ")
}

/// Part of what records hold, so it must not change.
fn meaning(parts: &[&str]) -> Meaning {
    format!("{:016x}", fnv(parts.join("\n").as_bytes()))
}

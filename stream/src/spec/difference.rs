//! What a change of a query comes to for the rows and the state that are there, and where two plans differ first, in words for whoever changed it.

use watershed_dialect::{is_common_expression, plain_expression};

use super::explain::{length, shortened};
use super::flow::{Flow, Value};
use super::{Computed, PlanSpec, SourceSpec, StepSpec};

/// What becomes of the rows and the state of a plan under another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// They are what the new plan would have made.
    Nothing,
    /// They are that but for these columns, which the new plan has at the end of its table and computes from what rows and groups carry already.
    Columns(Vec<String>),
    /// They are not, because of this.
    Rebuild(String),
}

/// What becomes of rows and state of `old` under `new`.
pub fn change(old: &PlanSpec, new: &PlanSpec) -> Change {
    if old.meaning() == new.meaning() {
        return Change::Nothing;
    }
    let (before, after) = (Flow::of(old), Flow::of(new));
    let same_table = old.table.iter().zip(&new.table).all(|(known, column)| known == column) && old.table.len() <= new.table.len();
    let mut values = old.table.iter().zip(before.columns.iter().zip(&after.columns));
    let edited = values.find(|(_, (known, value))| known.meaning != value.meaning).map(|(column, _)| column);
    if !same_table || before.rows != after.rows {
        return Change::Rebuild(first_difference(old, new));
    }
    if let Some(column) = edited {
        let said = first_difference(old, new);
        return Change::Rebuild(if said == OTHER_STEPS { format!("column {} is computed otherwise", column.name) } else { said });
    }
    if before.state() != after.state() {
        return Change::Rebuild(of_state(&before, &after, new).unwrap_or_else(|| first_difference(old, new)));
    }
    if before.late != after.late {
        return Change::Rebuild("late rows would have other columns than those that are there".to_owned());
    }
    let added: Vec<String> = new.table[old.table.len()..].iter().map(|column| column.name.clone()).collect();
    if added.is_empty() { Change::Nothing } else { Change::Columns(added) }
}

/// Why state of `old` does not do for `new`, which computes the same rows and more columns.
fn of_state(old: &Flow, new: &Flow, plan: &PlanSpec) -> Option<String> {
    let (before, after) = old.kept.iter().zip(&new.kept).find(|(before, after)| before != after)?;
    if (before.at, &before.by) != (after.at, &after.by) {
        return None;
    }
    let is_new = |value: &Value| !before.values.contains(value);
    let place = after.values.iter().position(is_new)?;
    let (stage, step) = after.at;
    let step = plan.stages.get(stage)?.steps.get(step)?;
    let said = |columns: &[Computed]| columns.get(place).map(|column| shortened(&column.expression.to_string()));
    Some(plain_expression(&match step {
        StepSpec::AggregatePartial { aggregates, .. } => {
            format!("{} is new, and windows that are open have not computed it from their beginning", said(aggregates)?)
        }
        StepSpec::Over { functions, .. } => format!("{} is new, and what it reads of earlier rows was not kept", said(functions)?),
        StepSpec::InOrder { .. } | StepSpec::Deduplicate { .. } | StepSpec::IntervalJoin { .. } => {
            "rows that wait for the watermark were kept without what the new column is made of".to_owned()
        }
        _ => return None,
    }))
}

fn first_difference(old: &PlanSpec, new: &PlanSpec) -> String {
    let found = of_sources(old, new).or_else(|| of_table(old, new)).or_else(|| of_steps(old, new));
    let found = found.or_else(|| of_more_columns(old, new));
    found.map_or_else(|| "its rows are shared out to tasks otherwise".to_owned(), |found| plain_expression(&found))
}

fn of_sources(old: &PlanSpec, new: &PlanSpec) -> Option<String> {
    let names = |plan: &PlanSpec| plan.sources.iter().map(|source| source.name.clone()).collect::<Vec<_>>();
    if names(old) != names(new) {
        return Some(format!("it reads {}, and read {}", names(new).join(", "), names(old).join(", ")));
    }
    old.sources.iter().zip(&new.sources).find_map(|(before, after)| of_source(before, after))
}

fn of_source(before: &SourceSpec, after: &SourceSpec) -> Option<String> {
    if before.delay_us != after.delay_us {
        let said = |delay: Option<i64>| delay.map_or("absent".to_owned(), |us| format!("{} late", length(us)));
        return Some(format!("the watermark of {} is {}, and was {}", after.name, said(after.delay_us), said(before.delay_us)));
    }
    for column in &after.columns {
        let Some(known) = before.columns.iter().find(|known| known.name == column.name) else { continue };
        if known.data_type != column.data_type {
            return Some(format!("column {} of {} is {}, and was {}", column.name, after.name, column.data_type, known.data_type));
        }
        if known.epoch != column.epoch {
            let said = |unit: &Option<String>| unit.clone().unwrap_or_else(|| "no unit of its own".to_owned());
            return Some(format!("numbers of column {} count {}, and counted {}", column.name, said(&column.epoch), said(&known.epoch)));
        }
        if known.json != column.json {
            let said = if known.json.is_empty() {
                "keeps JSON as text, and did not"
            } else if column.json.is_empty() {
                "no longer keeps JSON as text"
            } else {
                "keeps JSON as text in other places than it did"
            };
            return Some(format!("column {} of {} {said}", column.name, after.name));
        }
        if known.within != column.within {
            let said = |from: &Option<String>| from.clone().unwrap_or_else(|| "a value of its own".to_owned());
            return Some(format!("column {} is {}, and was {}", column.name, said(&column.within), said(&known.within)));
        }
        if known.metadata != column.metadata {
            let said = |from: &Option<String>| from.as_ref().map_or("the value".to_owned(), |from| format!("METADATA '{from}'"));
            return Some(format!("column {} comes from {}, and came from {}", column.name, said(&column.metadata), said(&known.metadata)));
        }
    }
    None
}

fn of_table(old: &PlanSpec, new: &PlanSpec) -> Option<String> {
    for (place, column) in new.table.iter().enumerate() {
        match old.table.iter().find(|known| known.name == column.name) {
            None if place < old.table.len() => return Some(format!("column {} is new and not at the end", column.name)),
            None => {}
            Some(known) if known.data_type != column.data_type => {
                return Some(format!("column {} is {}, and was {}", column.name, column.data_type, known.data_type));
            }
            Some(_) => {}
        }
    }
    if let Some(gone) = old.table.iter().find(|known| new.table.iter().all(|column| column.name != known.name)) {
        return Some(format!("column {} is gone", gone.name));
    }
    let moved = old.table.iter().zip(&new.table).find(|(before, after)| before.name != after.name);
    moved.map(|(_, after)| format!("column {} has another place", after.name))
}

/// Columns that are new at the end, if nothing else is said.
fn of_more_columns(old: &PlanSpec, new: &PlanSpec) -> Option<String> {
    let column = new.table.get(old.table.len())?;
    Some(format!("column {} is new", column.name))
}

fn of_steps(old: &PlanSpec, new: &PlanSpec) -> Option<String> {
    let steps = |plan: &PlanSpec| plan.steps().filter(|step| !step.is_aside()).cloned().collect::<Vec<_>>();
    let (before, after) = (steps(old), steps(new));
    let differs = before.iter().zip(&after).filter(|(before, after)| before != after);
    // A column more moves others to another place, and that is not what was changed.
    let is_plain = |said: &str| !said.ends_with(ELSEWHERE) && said != OTHER_STEPS;
    let (mut said, mut projected) = (Vec::new(), Vec::new());
    for (before, after) in differs {
        let list = if matches!(after, StepSpec::Project { .. }) { &mut projected } else { &mut said };
        list.push(of_step(before, after));
    }
    said.extend(projected);
    let plain = said.iter().find(|said| is_plain(said));
    let counts = || (before.len() != after.len()).then(|| OTHER_STEPS.to_owned());
    plain.or(said.first()).cloned().or_else(counts)
}

fn of_step(old: &StepSpec, new: &StepSpec) -> String {
    use StepSpec as S;
    match (old, new) {
        (S::Filter { predicate: before }, S::Filter { predicate: after }) => {
            changed("it keeps rows with", &before.to_string(), &after.to_string())
        }
        (S::Project { columns: before }, S::Project { columns: after }) => of_columns(before, after),
        (S::AssignWindows { .. }, S::AssignWindows { .. }) => changed("its windows are", &window(old), &window(new)),
        (S::AggregatePartial { keys: before, aggregates: old, .. }, S::AggregatePartial { keys: after, aggregates: new, .. }) => {
            let list = |keys: &[Computed]| match keys.iter().map(|key| key.expression.to_string()).collect::<Vec<_>>().join(", ") {
                none if none.is_empty() => "the window alone".to_owned(),
                some => some,
            };
            match before == after {
                true => of_columns(old, new),
                false if before.len() != after.len() => changed("it groups by", &list(before), &list(after)),
                false => of_columns(before, after),
            }
        }
        (S::Over { functions: before, .. }, S::Over { functions: after, .. }) => of_columns(before, after),
        (S::IntervalJoin { least_us: from, most_us: to, .. }, S::IntervalJoin { least_us, most_us, .. })
            if (from, to) != (least_us, most_us) =>
        {
            let said = |from: i64, to: i64| format!("{} to {}", length(from), length(to));
            changed("rows meet whose times differ by", &said(*from, *to), &said(*least_us, *most_us))
        }
        (S::Deduplicate { keys: before, within_us: old, .. }, S::Deduplicate { keys: after, within_us: new, .. }) => {
            let list = |keys: &[super::Expression]| keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            match old == new {
                true => changed("repeats are told by", &list(before), &list(after)),
                false => changed("repeats are dropped within", &length(*old), &length(*new)),
            }
        }
        _ => OTHER_STEPS.to_owned(),
    }
}

fn window(step: &StepSpec) -> String {
    match step {
        StepSpec::AssignWindows { function, size_us, step_us, offset_us, time } => {
            let offset = if *offset_us == 0 { String::new() } else { format!(", shifted by {}", length(*offset_us)) };
            format!("{function} of {} each {} by {time}{offset}", length(*size_us), length(*step_us))
        }
        _ => String::new(),
    }
}

fn of_columns(before: &[Computed], after: &[Computed]) -> String {
    let differs = |(old, new): &(&Computed, &Computed)| (&old.expression, &old.data_type) != (&new.expression, &new.data_type);
    let Some((old, new)) = before.iter().zip(after).find(differs) else {
        return "it computes more or fewer columns within".to_owned();
    };
    let (was, is) = (old.expression.to_string(), new.expression.to_string());
    if was == is && old.data_type != new.data_type {
        return changed(&format!("column {} is", new.name), &old.data_type, &new.data_type);
    }
    let what = if is_common_expression(&new.name) { "it computes".to_owned() } else { format!("column {} is", new.name) };
    changed(&what, &was, &is)
}

/// What is said when nothing nearer is known.
const OTHER_STEPS: &str = "it has other steps than it had";
/// How it is said that a text stays and means something else.
const ELSEWHERE: &str = " of other columns or types";

/// `it keeps rows with a > 9, and was a > 1`
fn changed(what: &str, before: &str, after: &str) -> String {
    if before == after {
        format!("{what} {}{ELSEWHERE}", shortened(after))
    } else {
        format!("{what} {}, was {}", shortened(after), shortened(before))
    }
}

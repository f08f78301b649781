//! Where two plans differ first, in words for whoever changed a query.

use watershed_dialect::{is_common_expression, plain_expression};

use super::explain::{length, shortened};
use super::{Computed, PlanSpec, StepSpec};

/// What state of `old` would mean otherwise under `new`; `None` if nothing.
pub fn difference(old: &PlanSpec, new: &PlanSpec) -> Option<String> {
    if old.meaning() == new.meaning() {
        return None;
    }
    let found = of_source(old, new).or_else(|| of_table(old, new)).or_else(|| of_steps(old, new));
    Some(found.map_or_else(|| "its rows are shared out to tasks otherwise".to_owned(), |found| plain_expression(&found)))
}

fn of_source(old: &PlanSpec, new: &PlanSpec) -> Option<String> {
    let (before, after) = (&old.source, &new.source);
    if before.name != after.name {
        return Some(format!("it reads {}, and read {}", after.name, before.name));
    }
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
    for column in &new.table {
        match old.table.iter().find(|known| known.name == column.name) {
            None => return Some(format!("column {} is new", column.name)),
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

fn of_steps(old: &PlanSpec, new: &PlanSpec) -> Option<String> {
    let steps = |plan: &PlanSpec| plan.steps().filter(|step| !step.is_aside()).cloned().collect::<Vec<_>>();
    let (before, after) = (steps(old), steps(new));
    let differs = before.iter().zip(&after).find(|(before, after)| before != after);
    let counts = || (before.len() != after.len()).then(|| "it has other steps than it had".to_owned());
    differs.map(|(before, after)| of_step(before, after)).or_else(counts)
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
            if before == after { of_columns(old, new) } else { of_columns(before, after) }
        }
        (S::Over { functions: before, .. }, S::Over { functions: after, .. }) => of_columns(before, after),
        (S::Deduplicate { keys: before, within_us: old, .. }, S::Deduplicate { keys: after, within_us: new, .. }) => {
            let list = |keys: &[super::Expression]| keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            match old == new {
                true => changed("repeats are told by", &list(before), &list(after)),
                false => changed("repeats are dropped within", &length(*old), &length(*new)),
            }
        }
        _ => "it has other steps than it had".to_owned(),
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

/// `it keeps rows with a > 9, and was a > 1`
fn changed(what: &str, before: &str, after: &str) -> String {
    if before == after {
        format!("{what} {} of other columns or types", shortened(after))
    } else {
        format!("{what} {}, was {}", shortened(after), shortened(before))
    }
}

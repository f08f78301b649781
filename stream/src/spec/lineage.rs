//! Lineage of a streaming table's columns, from the spec of its plan, in the words of [`watershed_dialect::lineage`].

use watershed_dialect::lineage::{Lineage, Origins, Role, picks_one};

use super::expression::Form;
use super::{Computed, Expression, PlanSpec, SourceSpec, StepSpec};

/// The lineage of the table that a plan writes.
pub fn lineage(plan: &PlanSpec) -> Lineage {
    let mut leaving: Vec<Flow> = Vec::with_capacity(plan.stages.len());
    let mut taken = vec![false; plan.stages.len()];
    for stage in &plan.stages {
        let mut flow = match stage.source {
            Some(source) => Flow::read(&plan.sources[source]),
            None => {
                stage.inputs.iter().for_each(|&input| taken[input] = true);
                Flow::united(stage.inputs.iter().map(|&input| &leaving[input]))
            }
        };
        stage.steps.iter().for_each(|step| flow.pass(step));
        leaving.push(flow);
    }
    let flow = Flow::united(leaving.iter().zip(&taken).filter(|(_, taken)| !**taken).map(|(flow, _)| flow));
    let names = plan.table.iter().map(|column| column.name.clone());
    Lineage { columns: names.zip(flow.columns).collect(), rows: flow.rows }
}

/// What has passed the steps so far.
#[derive(Default, Clone)]
struct Flow {
    columns: Vec<Origins>,
    rows: Origins,
    /// Between the two halves of an aggregate: bounds of the window, keys, results.
    window: Vec<Origins>,
    keys: Vec<Origins>,
    results: Vec<Origins>,
}

impl Flow {
    fn read(source: &SourceSpec) -> Self {
        Self { columns: source.columns.iter().map(|column| Origins::column(&source.name, &column.name)).collect(), ..Self::default() }
    }

    /// Rows of several kinds: each column is made of those in its place.
    fn united<'a>(flows: impl Iterator<Item = &'a Flow>) -> Self {
        let mut all = Self::default();
        for flow in flows {
            all.rows.add(flow.rows.clone());
            for (sums, more) in [
                (&mut all.columns, &flow.columns),
                (&mut all.window, &flow.window),
                (&mut all.keys, &flow.keys),
                (&mut all.results, &flow.results),
            ] {
                if sums.len() < more.len() {
                    sums.resize(more.len(), Origins::default());
                }
                sums.iter_mut().zip(more).for_each(|(sum, more)| sum.add(more.clone()));
            }
        }
        all
    }
}

impl Flow {
    fn pass(&mut self, step: &StepSpec) {
        match step {
            StepSpec::Filter { predicate } => self.rows.add(self.of(predicate).deciding(Role::Filter)),
            StepSpec::Project { columns } => self.columns = self.computed(columns),
            StepSpec::Fork { ways } => {
                let made: Vec<Flow> = ways.iter().map(|way| self.through(way)).collect();
                *self = Self::united(made.iter());
            }
            StepSpec::AssignWindows { time, .. } => {
                let time = self.of(time).transformed();
                self.columns.extend([time.clone(), time.clone(), time]);
            }
            StepSpec::AggregatePartial { window, keys, aggregates, .. } => {
                self.window = window.iter().map(|bound| self.of(bound)).collect();
                self.keys = self.computed(keys);
                self.results = aggregates.iter().map(|aggregate| self.aggregate(&aggregate.expression)).collect();
                let grouped = self.window.iter().chain(&self.keys).cloned();
                self.rows.add(Origins::all(grouped).deciding(Role::GroupBy));
            }
            StepSpec::AggregateFinal { columns } => self.columns = columns.iter().map(|column| self.of_group(column)).collect(),
            StepSpec::Over { functions, .. } => {
                let results: Vec<Origins> = functions.iter().map(|function| self.over(&function.expression)).collect();
                self.columns.extend(results);
            }
            StepSpec::IntervalJoin { keys, .. } => {
                let met = self.columns.iter().take(keys.len() + 1).cloned();
                self.rows.add(Origins::all(met).deciding(Role::Join));
                self.columns.drain(..(keys.len() + 2).min(self.columns.len()));
            }
            StepSpec::Deduplicate { keys, time, .. } => {
                let by = Origins::all(keys.iter().chain([time]).map(|key| self.of(key)));
                self.rows.add(by.deciding(Role::Filter));
            }
            StepSpec::Late { .. }
            | StepSpec::Place
            | StepSpec::Rebase { .. }
            | StepSpec::InOrder { .. }
            | StepSpec::Expect { .. }
            | StepSpec::Deliver { .. } => {}
        }
    }

    fn through(&self, steps: &[StepSpec]) -> Self {
        let mut flow = self.clone();
        steps.iter().for_each(|step| flow.pass(step));
        flow
    }

    /// A column of the result of an aggregate, by what [`StepSpec::AggregateFinal`] calls it.
    fn of_group(&self, name: &str) -> Origins {
        let place = |word: &str| name.strip_prefix(word)?.parse::<usize>().ok();
        let found = match (place("key "), place("aggregate ")) {
            (Some(key), _) => self.keys.get(key),
            (_, Some(result)) => self.results.get(result),
            _ => self.window.first(),
        };
        found.cloned().unwrap_or_default()
    }

    fn computed(&self, columns: &[Computed]) -> Vec<Origins> {
        columns.iter().map(|column| self.of(&column.expression)).collect()
    }

    fn all<'a>(&self, expressions: impl IntoIterator<Item = &'a Expression>) -> Origins {
        Origins::all(expressions.into_iter().map(|expression| self.of(expression)))
    }

    fn of(&self, expression: &Expression) -> Origins {
        match expression {
            Expression::Column { place, .. } => self.columns.get(*place).cloned().unwrap_or_default(),
            Expression::Literal { .. } | Expression::Word(_) => Origins::default(),
            // Which columns such a text is about is not known.
            Expression::Unknown(_) => Origins::all(self.columns.iter().cloned()).transformed(),
            Expression::Call { name, arguments, .. } if name == "get_field" => match arguments.as_slice() {
                [of, keys @ ..] => keys.iter().fold(self.of(of), |made, key| match text(key) {
                    Some(name) => made.field(&name),
                    None => Origins::all([made, self.of(key)]).transformed(),
                }),
                [] => Origins::default(),
            },
            Expression::Call { name, arguments, form: Form::Function } if name == "CASE" => {
                let (mut conditions, mut values) = (Vec::new(), Vec::new());
                for clause in arguments {
                    match clause {
                        Expression::Call { name, arguments, .. } if name == "WHEN" => {
                            conditions.extend(arguments.first());
                            values.extend(arguments.get(1));
                        }
                        Expression::Call { name, arguments, .. } if name == "OF" => conditions.extend(arguments),
                        Expression::Call { arguments, .. } => values.extend(arguments),
                        _ => {}
                    }
                }
                let mut made = self.all(values).transformed();
                made.add(self.all(conditions).deciding(Role::Conditional));
                made
            }
            Expression::Call { arguments, .. } => self.all(arguments).transformed(),
        }
    }

    /// An aggregate, with what its clauses decide by.
    fn aggregate(&self, expression: &Expression) -> Origins {
        let Expression::Call { arguments, .. } = expression else { return self.of(expression) };
        let (clauses, plain) = parted(arguments);
        let mut made = self.all(plain).aggregated();
        for (name, arguments) in clauses {
            made.add(self.all(arguments).deciding(if name == "FILTER" { Role::Filter } else { Role::Sort }));
        }
        made
    }

    /// A function over a window.
    fn over(&self, expression: &Expression) -> Origins {
        let Expression::Call { name, arguments, .. } = expression else { return self.of(expression) };
        let (clauses, plain) = parted(arguments);
        let plain = self.all(plain);
        let mut made = if picks_one(name) { plain.transformed() } else { plain.aggregated() };
        for (name, arguments) in clauses {
            made.add(self.all(arguments).deciding(if name == "FILTER" { Role::Filter } else { Role::Window }));
        }
        made
    }
}

/// The clauses of a call, and its arguments.
fn parted(arguments: &[Expression]) -> (Vec<(&str, &[Expression])>, Vec<&Expression>) {
    let (mut clauses, mut plain) = (Vec::new(), Vec::new());
    for argument in arguments {
        match argument {
            Expression::Call { form: Form::Clause, name, arguments } => clauses.push((name.as_str(), arguments.as_slice())),
            other => plain.push(other),
        }
    }
    (clauses, plain)
}

/// The text that a constant is.
fn text(expression: &Expression) -> Option<String> {
    let Expression::Literal { exact, .. } = expression else { return None };
    let inner = exact.strip_prefix('\'')?.strip_suffix('\'')?;
    Some(inner.replace("''", "'"))
}

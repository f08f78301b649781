//! `UNION ALL`: no step of its own. What follows is added to the stage of each part, and where rows are shared out, a stage takes those of all.
//!
//! ```text
//! a ─► [project] window late aggregate_partial ─┐
//! b ─► [filter]  window late aggregate_partial ─┴─► by key: aggregate_final
//! ```
//!
//! Parts that read the same source are one stage: the source is read once, and each row goes through the steps of each part (`operators/fork.rs`).

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{LogicalPlan, Union};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use watershed_dialect::union_all::{only_source, parts};

use super::build::{Builder, computed};
use super::drained::Hold;
use super::{StagePlan, Step};
use crate::StreamError;
use crate::operator::Operator;
use crate::operators::fork::Fork;
use crate::operators::project::Project;
use crate::spec::{Expression, Sharing, StepSpec, v1};

/// A part as it was lowered.
struct Part {
    open: Vec<usize>,
    hidden: bool,
    columns: SchemaRef,
    holds: Vec<Vec<Hold>>,
}

impl Builder<'_> {
    pub(super) fn union(&mut self, union: &Union) -> Result<(), StreamError> {
        let result: SchemaRef = Arc::new(union.schema.as_arrow().clone());
        let all: Vec<usize> = (0..result.fields().len()).collect();
        // What is above asks nothing of a part alone.
        let above = std::mem::take(&mut self.above);
        let mut lowered = Vec::new();
        for of_source in by_source(union) {
            self.forget();
            match (of_source.as_slice(), of_source.first().and_then(|part| only_source(part))) {
                (several @ [_, _, ..], Some(name)) => {
                    let place = self.place_of(&name)?;
                    self.fork(place, several.len(), |builder, part| {
                        builder.lower(several[part])?;
                        builder.pick(&all, &result, builder.hidden);
                        Ok(())
                    })?;
                }
                (parts, _) => parts.iter().try_for_each(|part| self.lower(part))?,
            }
            let (open, holds) = (std::mem::take(&mut self.open), std::mem::take(&mut self.holds));
            lowered.push(Part { open, holds, hidden: self.hidden, columns: self.columns.clone() });
        }
        // Rows have a place only if all have.
        let keeps_hidden = lowered.iter().all(|part| part.hidden);
        let (mut open, mut holds) = (Vec::new(), Vec::new());
        for part in lowered {
            (self.open, self.hidden, self.columns) = (part.open, part.hidden, part.columns);
            self.hand_on(&result, keeps_hidden);
            open.append(&mut self.open);
            holds.extend(part.holds);
        }
        self.forget();
        (self.open, self.holds, self.above) = (open, holds, above);
        (self.columns, self.hidden) = (result, keeps_hidden);
        Ok(())
    }

    /// Nothing is known of the rows any more.
    pub(super) fn forget(&mut self) {
        self.keys.clear();
        self.window = None;
        self.copies.clear();
    }

    /// Hands on the first columns of rows, as `result` has them.
    fn hand_on(&mut self, result: &SchemaRef, keeps_hidden: bool) {
        if self.columns == *result && self.hidden == keeps_hidden {
            return;
        }
        let all: Vec<usize> = (0..result.fields().len()).collect();
        self.pick(&all, result, keeps_hidden);
    }

    /// Adds a step that hands on the columns at these places under the names and types of `fields`.
    fn pick(&mut self, places: &[usize], result: &SchemaRef, keeps_hidden: bool) {
        let name = |place: usize| self.columns.field(place).name().clone();
        let expressions: Vec<Arc<dyn PhysicalExpr>> =
            places.iter().map(|&place| Arc::new(PhysicalColumn::new(&name(place), place)) as _).collect();
        let meanings = places.iter().map(|&place| Expression::column(place, &name(place))).collect();
        let spec = StepSpec::Project { columns: computed(meanings, result.fields()) };
        let columns = result.clone();
        self.push(spec, v1::project(result), move || Ok(Box::new(Project::new(expressions.clone(), &columns, keeps_hidden))));
        (self.columns, self.hidden) = (result.clone(), keeps_hidden);
    }

    /// Parts that compute row by row over the source of this place: each becomes a way through one step. `lower` adds the steps of one.
    pub(super) fn fork(
        &mut self,
        place: usize,
        parts: usize,
        lower: impl Fn(&mut Self, usize) -> Result<(), StreamError>,
    ) -> Result<(), StreamError> {
        self.begin_source(place, Vec::new())?;
        (self.shared, self.forks) = (Some(place), true);
        let stage = std::mem::take(&mut self.open);
        let mut ways: Vec<Vec<Step>> = Vec::with_capacity(parts);
        for part in 0..parts {
            let scratch = StagePlan { sharing: Sharing::ByPartition, inputs: Vec::new(), steps: Vec::new(), together: Vec::new() };
            self.open = vec![self.stages.len()];
            self.stages.push(scratch);
            self.hidden = self.carries_hidden;
            lower(self, part)?;
            ways.extend(self.stages.pop().map(|stage| stage.steps));
        }
        self.open = stage;
        self.shared = None;
        let spec = StepSpec::Fork { ways: ways.iter().map(|way| way.iter().map(|step| step.spec.clone()).collect()).collect() };
        self.push_by_task(spec, String::new(), move |task| {
            let chain = |way: &Vec<Step>| way.iter().map(|step| (step.make)(task)).collect::<Result<Vec<Box<dyn Operator>>, _>>();
            Ok(Box::new(Fork::new(ways.iter().map(chain).collect::<Result<_, _>>()?)))
        });
        Ok(())
    }

    /// Takes columns of a source whose stage reads for several parts.
    pub(super) fn take_of(&mut self, place: usize, wanted: &[usize]) {
        let known = &mut self.sources[place].wanted;
        let mut place_of = |column: usize| {
            known.iter().position(|&known| known == column).unwrap_or_else(|| {
                known.push(column);
                known.len() - 1
            })
        };
        let places: Vec<usize> = wanted.iter().map(|&column| place_of(column)).collect();
        let all = self.read(place);
        let fields: Vec<_> = places.iter().map(|&place| all.fields()[place].clone()).collect();
        self.columns = all;
        self.pick(&places, &arrow::datatypes::Schema::new(fields).into(), self.hidden);
    }
}

/// The parts of a union, with those of unions in it, each with the others that read the same source row by row.
fn by_source(union: &Union) -> Vec<Vec<&LogicalPlan>> {
    let mut groups: Vec<(Option<String>, Vec<&LogicalPlan>)> = Vec::new();
    for part in parts(union) {
        let source = only_source(part);
        match groups.iter_mut().find(|(known, _)| source.is_some() && *known == source) {
            Some((_, group)) => group.push(part),
            None => groups.push((source, vec![part])),
        }
    }
    groups.into_iter().map(|(_, parts)| parts).collect()
}

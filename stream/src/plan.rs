//! From a logical plan to the stages of a pipeline.
//!
//! ```text
//! by partition:  [assign_windows] [filter] [project] late aggregate_partial
//! by key:        aggregate_final [project] [filter] [expect] deliver
//! ```
//!
//! Each source has a stage beside it. What `UNION ALL` unites takes the same steps from there on, in the stage of each part, and meets where rows are
//! shared out, or in the table.
//!
//! Deduplication and OVER begin a stage: `late`, then by key `deduplicate`, or `in_order over`. So do more of them after one another, each a stage of
//! its own unless the rows it needs together are together already. Steps that compute row by row are in the stage of the step before them.
//!
//! A [`Blueprint`] is what the plan means and never changes; each task makes its own chain of operators from it.

mod aggregate;
mod build;
mod drained;
mod join;
mod late;
mod over;
#[cfg(test)]
mod tests;
mod union;

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::PhysicalExpr;
use watershed_dialect::{OnViolation, SourceDefinition, StreamingTableDefinition};

use self::build::Builder;
use self::drained::Hold;
use crate::StreamError;
use crate::control::StageName;
use crate::exchange::Exchange;
use crate::hidden::{Lane, SourceNames};
use crate::limits::MAX_AHEAD;
use crate::operator::{Chain, Operator};
use crate::operators::expect;
use crate::sink_plan::SinkBlueprint;
use crate::spec::explain::{Holds, explain};
use crate::spec::{PlanSpec, Sharing, StepSpec};

/// Makes an operator for the task of this number.
type Make = Arc<dyn Fn(usize) -> Result<Box<dyn Operator>, StreamError> + Send + Sync>;

/// One operator to be.
#[derive(Clone)]
struct Step {
    spec: StepSpec,
    /// What the fingerprint of layout 1 says of it.
    v1: String,
    make: Make,
}

/// One stage to be.
#[derive(Clone)]
struct StagePlan {
    sharing: Sharing,
    /// The stages whose rows it takes; none beside a source.
    inputs: Vec<usize>,
    steps: Vec<Step>,
    /// See [`crate::spec::StageSpec::together`].
    together: Vec<(usize, Vec<String>)>,
}

/// A source of a pipeline.
#[derive(Clone)]
pub struct SourcePlan {
    /// As defined.
    pub definition: SourceDefinition,
    /// Which of its columns are decoded, in this order.
    pub wanted: Vec<usize>,
    /// Where the event time is among these, if the source declares one.
    pub time_column: Option<usize>,
    /// The stage beside it.
    pub stage: usize,
}

/// What is asked of the rows that a query gives.
#[derive(Default)]
pub struct Ends {
    /// The table's expectations as predicates over the result's columns, in the order of their definition.
    pub predicates: Vec<Arc<dyn PhysicalExpr>>,
    /// Whether sinks follow the table.
    pub has_sinks: bool,
}

/// The stages of one pipeline.
#[derive(Clone)]
pub struct Blueprint {
    /// The sources it reads, in the order in which its query names them.
    pub sources: Vec<SourcePlan>,
    /// Their names.
    pub names: SourceNames,
    /// The streaming table it writes.
    pub table: StreamingTableDefinition,
    /// Whether rows carry hidden columns: only if some step asks for their place in event time or in the source.
    pub carries_hidden: bool,
    /// Whether rows go to sinks before their epoch is decided: those that are each made of one message. They then carry hidden columns
    /// to the end.
    pub at_once: bool,
    /// The sinks that follow the table, in name order.
    pub sinks: Vec<SinkBlueprint>,
    /// What all of this means, as data.
    pub spec: PlanSpec,
    /// In the order in which rows pass them: each after those whose rows it takes.
    stages: Vec<StagePlan>,
    /// Schema of the table.
    pub schema: SchemaRef,
    /// Schema of `<table>$late`, if rows can be late.
    pub late_schema: Option<SchemaRef>,
    /// A column of it that is of another type in late rows of another source: one table cannot hold both.
    pub late_conflict: Option<String>,
    /// Whether late rows are of several kinds, each with some of its columns.
    pub late_mixed: bool,
    /// Schema of `<table>$violations`, if rows can go there.
    pub violations_schema: Option<SchemaRef>,
    /// Until when rows are kept back, step by step, on each way from a source to the table.
    holds: Vec<Vec<Hold>>,
}

impl Blueprint {
    /// Plans a streaming table over its sources, in the order in which `plan` names them, which [`watershed_dialect::plan_streaming`] made of its
    /// query.
    pub fn new(
        sources: &[SourceDefinition],
        table: &StreamingTableDefinition,
        plan: &LogicalPlan,
        props: &ExecutionProps,
        ends: Ends,
    ) -> Result<Self, StreamError> {
        let row_by_row = !uses_time(plan);
        let names_places = table.expectations.iter().any(|e| e.action >= OnViolation::Quarantine);
        let carries_hidden = !row_by_row || ends.has_sinks || names_places;
        let mut builder = Builder::new(sources, props, carries_hidden);
        builder.lower(plan)?;
        let schema: SchemaRef = Arc::new(plan.schema().as_arrow().clone());
        builder.expect(table, &schema, ends.predicates);
        // A message that is read for several rows would give them one id.
        let at_once = row_by_row && ends.has_sinks && !builder.forks;
        builder.deliver(table, &schema, at_once);
        let quarantines = table.expectations.iter().any(|e| e.action == OnViolation::Quarantine);
        let names = builder.names.clone();
        Ok(Self {
            spec: builder.spec(table, &schema),
            table: table.clone(),
            carries_hidden,
            at_once,
            sinks: Vec::new(),
            violations_schema: quarantines.then(|| expect::side_schema(&schema, &names)),
            names,
            schema,
            late_schema: builder.late_schema,
            late_conflict: builder.late_conflict,
            late_mixed: builder.late_mixed,
            holds: builder.holds,
            sources: builder.sources,
            stages: builder.stages,
        })
    }

    /// How many stages there are: at least the one beside each source.
    pub fn stages(&self) -> usize {
        self.stages.len()
    }

    /// The source that a stage is beside, by its place; `None` after an exchange.
    pub fn source_of(&self, stage: usize) -> Option<usize> {
        self.sources.iter().position(|source| source.stage == stage)
    }

    /// The stages whose rows a stage takes; none beside a source.
    pub fn inputs(&self, stage: usize) -> &[usize] {
        &self.stages[stage].inputs
    }

    /// The stage that takes the rows of a stage; `None` if they go to the table.
    pub fn next(&self, stage: usize) -> Option<usize> {
        self.stages.iter().position(|next| next.inputs.contains(&stage))
    }

    /// By which name metrics know a stage.
    pub fn stage_name(&self, stage: usize) -> StageName {
        match self.source_of(stage) {
            Some(source) => StageName::Source(source),
            None => StageName::Exchange(stage - (0..stage).filter(|&before| self.source_of(before).is_some()).count()),
        }
    }

    /// The definitions of all sources.
    pub fn definitions(&self) -> Arc<[SourceDefinition]> {
        self.sources.iter().map(|source| source.definition.clone()).collect()
    }

    /// Of each source: the stage in which it meets all others of the same stage. `None` if no two sources meet in one.
    pub fn meeting(&self) -> Option<Vec<usize>> {
        let last = |source: &SourcePlan| {
            let mut stage = source.stage;
            while let Some(next) = self.next(stage) {
                stage = next;
            }
            stage
        };
        let stages: Vec<usize> = self.sources.iter().map(last).collect();
        let meet = stages.iter().enumerate().any(|(place, stage)| stages[..place].contains(stage));
        meet.then_some(stages)
    }

    /// How far one source may be ahead of another that it meets.
    pub fn max_ahead(&self) -> Duration {
        self.table.max_ahead.unwrap_or(MAX_AHEAD)
    }

    /// How long a partition must have been read to its end to be idle.
    pub fn idle_timeout(&self, lane: Lane) -> Duration {
        self.sources.get(lane.source).map_or(Duration::MAX, |source| source.definition.idle_timeout)
    }

    /// How rows are shared out to the tasks of a stage.
    pub fn sharing(&self, stage: usize) -> &Sharing {
        &self.stages[stage].sharing
    }

    /// How many tasks a stage after an exchange has, if work that can be split by key has `by_key`.
    pub fn tasks(&self, stage: usize, by_key: usize) -> usize {
        if matches!(self.sharing(stage), Sharing::ByKey { .. }) { by_key } else { 1 }
    }

    /// Whether some stage can have more than one task after an exchange.
    pub fn shares_by_key(&self) -> bool {
        self.stages.iter().any(|stage| matches!(stage.sharing, Sharing::ByKey { .. }))
    }

    /// A fresh chain of operators for one task of a stage.
    pub fn chain(&self, stage: usize, task: usize) -> Result<Chain, StreamError> {
        Ok(Chain::new(self.stages[stage].steps.iter().map(|step| (step.make)(task)).collect::<Result<_, _>>()?))
    }

    /// How rows with these columns go on from a stage; `None` if they go to the table.
    pub fn exchange(&self, stage: usize, schema: &Schema, by_key: usize) -> Result<Option<Exchange>, StreamError> {
        let Some(next) = self.next(stage) else { return Ok(None) };
        Ok(Some(Exchange::new(self.sharing(next).keys(), schema, self.tasks(next, by_key))?))
    }

    /// The watermark at which nothing is kept back any more if no event time is greater than `newest_us`. `None` if nothing ever is.
    pub fn drained_us(&self, newest_us: i64) -> Option<i64> {
        self.holds.iter().filter_map(|holds| drained::drained_us(holds, newest_us)).max()
    }

    /// A hash of what the state means: equal for definitions that can go on from each other's state.
    pub fn fingerprint(&self) -> String {
        self.spec.fingerprint()
    }

    /// What `EXPLAIN STREAMING TABLE` says: its stages and steps, and what the state of each holds.
    pub fn explain(&self, holds: &Holds) -> String {
        let when = if self.at_once { "at once" } else { "once their epoch is decided" };
        let said = |sink: &SinkBlueprint| format!("{} to topic {}, rows leave {when}", sink.definition.name, sink.definition.topic);
        let sinks: Vec<String> = self.sinks.iter().map(said).collect();
        explain(&format!("{}.{}", self.table.schema, self.table.table), &self.spec, holds, &sinks)
    }
}

/// Whether some step asks for a row's place in event time: windows, deduplication, OVER and joins do.
fn uses_time(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Extension(_) | LogicalPlan::Window(_) | LogicalPlan::Join(_)) || plan.inputs().into_iter().any(uses_time)
}

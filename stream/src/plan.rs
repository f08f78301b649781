//! From a logical plan to the stages of a pipeline.
//!
//! ```text
//! by partition:  [assign_windows] [filter] [project] late aggregate_partial
//! by key:        aggregate_final [project] [filter] [expect] deliver
//! ```
//!
//! Deduplication and OVER begin a stage: `late`, then by key `deduplicate`, or `in_order over`. So do more of them after one another, each a stage of
//! its own unless the rows it needs together are together already. Steps that compute row by row are in the stage of the step before them.
//!
//! A [`Blueprint`] is what the plan means and never changes; each task makes its own chain of operators from it.

mod aggregate;
mod build;
mod drained;
mod over;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::PhysicalExpr;
use watershed_dialect::{OnViolation, SourceDefinition, StreamingTableDefinition};

use self::build::Builder;
use self::drained::Hold;
use crate::StreamError;
use crate::exchange::Exchange;
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
    steps: Vec<Step>,
    /// See [`crate::spec::StageSpec::together`].
    together: Vec<(usize, Vec<String>)>,
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
    /// The source it reads.
    pub source: SourceDefinition,
    /// The streaming table it writes.
    pub table: StreamingTableDefinition,
    /// Which of the source's columns are decoded, in this order.
    pub wanted: Vec<usize>,
    /// Where the event time is among the wanted columns, if the source declares one.
    pub time_column: Option<usize>,
    /// Whether rows carry hidden columns: only if some step asks for their place in event time or in the source.
    pub carries_hidden: bool,
    /// Whether rows go to sinks before their epoch is decided: those that are each made of one message. They then carry hidden columns
    /// to the end.
    pub at_once: bool,
    /// The sinks that follow the table, in name order.
    pub sinks: Vec<SinkBlueprint>,
    /// What all of this means, as data.
    pub spec: PlanSpec,
    /// In the order in which rows pass them; the first is beside the source.
    stages: Vec<StagePlan>,
    /// Schema of the table.
    pub schema: SchemaRef,
    /// Schema of `<table>$late`, if rows can be late.
    pub late_schema: Option<SchemaRef>,
    /// Schema of `<table>$violations`, if rows can go there.
    pub violations_schema: Option<SchemaRef>,
    /// Until when rows are kept back, step by step.
    holds: Vec<Hold>,
}

impl Blueprint {
    /// Plans a streaming table over its source. `plan` is what [`watershed_dialect::plan_streaming`] made of its query.
    pub fn new(
        source: &SourceDefinition,
        table: &StreamingTableDefinition,
        plan: &LogicalPlan,
        props: &ExecutionProps,
        ends: Ends,
    ) -> Result<Self, StreamError> {
        let row_by_row = !uses_time(plan);
        let names_places = table.expectations.iter().any(|e| e.action >= OnViolation::Quarantine);
        let carries_hidden = !row_by_row || ends.has_sinks || names_places;
        let mut builder = Builder::new(source, props, carries_hidden);
        builder.lower(plan)?;
        let schema: SchemaRef = Arc::new(plan.schema().as_arrow().clone());
        builder.expect(table, &schema, ends.predicates);
        let at_once = row_by_row && ends.has_sinks;
        builder.deliver(table, &schema, at_once);
        let quarantines = table.expectations.iter().any(|e| e.action == OnViolation::Quarantine);
        Ok(Self {
            spec: builder.spec(table, &schema),
            source: source.clone(),
            table: table.clone(),
            wanted: builder.wanted,
            time_column: builder.time_column,
            carries_hidden,
            at_once,
            sinks: Vec::new(),
            stages: builder.stages,
            violations_schema: quarantines.then(|| expect::side_schema(&schema)),
            schema,
            late_schema: builder.late_schema,
            holds: builder.holds,
        })
    }

    /// How many stages there are: at least the one beside the source.
    pub fn stages(&self) -> usize {
        self.stages.len()
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

    /// How rows with these columns go on from a stage; `None` from the last one.
    pub fn exchange(&self, stage: usize, schema: &Schema, by_key: usize) -> Result<Option<Exchange>, StreamError> {
        let Some(next) = self.stages.get(stage + 1) else { return Ok(None) };
        Ok(Some(Exchange::new(next.sharing.keys(), schema, self.tasks(stage + 1, by_key))?))
    }

    /// The watermark at which nothing is kept back any more if no event time is greater than `newest_us`. `None` if nothing ever is.
    pub fn drained_us(&self, newest_us: i64) -> Option<i64> {
        drained::drained_us(&self.holds, newest_us)
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

/// Whether some step asks for a row's place in event time: windows, deduplication and OVER do.
fn uses_time(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Extension(_) | LogicalPlan::Window(_)) || plan.inputs().into_iter().any(uses_time)
}

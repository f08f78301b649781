//! From a logical plan to the steps of a pipeline.
//!
//! ```text
//! partition-local: [assign_windows] [filter] [project] late aggregate_partial
//! exchange by key
//! keyed:           aggregate_final [project] [filter] [expect] deliver
//! ```
//!
//! or, for deduplication and OVER, `late`, an exchange, and `deduplicate` or `in_order over` in the keyed stage.
//!
//! A [`Blueprint`] is what the plan means and never changes; each task makes its own chain of operators from it.

mod over;

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use watershed_dialect::{Expectation, OnViolation, SourceDefinition, StreamingTableDefinition};
use watershed_functions::deduplicate::Deduplicate as DeduplicateNode;
use watershed_functions::window::{WindowAssign, WindowKind};

use crate::StreamError;
use crate::hidden;
use crate::operator::{Chain, Operator};
use crate::operators::aggregate_final::{AggregateFinal, Part};
use crate::operators::aggregate_partial::{AggregatePartial, AggregatePartialSpec};
use crate::operators::assign_windows::AssignWindows;
use crate::operators::deduplicate::{Deduplicate, wait_us};
use crate::operators::deliver::Deliver;
use crate::operators::expect::{self, Expect, ExpectSpec};
use crate::operators::filter::Filter;
use crate::operators::group_table::{Aggregate, GroupSpec};
use crate::operators::late::{self, Deadline, Late};
use crate::operators::project::Project;
use crate::sink_plan::SinkBlueprint;
use crate::spec::explain::{Holds, explain};
use crate::spec::types::of_field;
use crate::spec::{self, ColumnSpec, Computed, ExchangeSpec, Expression, LateBy, PlanSpec, RuleSpec, SourceSpec, StepSpec, v1};

type Make = Arc<dyn Fn() -> Result<Box<dyn Operator>, StreamError> + Send + Sync>;

/// One operator to be.
#[derive(Clone)]
struct Step {
    spec: StepSpec,
    /// What the fingerprint of layout 1 says of it.
    v1: String,
    make: Make,
}

/// What is asked of the rows that a query gives.
#[derive(Default)]
pub struct Ends {
    /// The table's expectations as predicates over the result's columns, in the order of their definition.
    pub predicates: Vec<Arc<dyn PhysicalExpr>>,
    /// Whether sinks follow the table.
    pub has_sinks: bool,
}

/// The steps of one pipeline.
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
    local: Vec<Step>,
    keyed: Vec<Step>,
    /// Places of the key columns in rows that cross the exchange; `None` if nothing crosses one.
    pub exchange: Option<Vec<usize>>,
    /// Whether keyed work can be split by key over several tasks.
    pub keyed_in_parallel: bool,
    /// Schema of the table.
    pub schema: SchemaRef,
    /// Schema of `<table>$late`, if rows can be late.
    pub late_schema: Option<SchemaRef>,
    /// Schema of `<table>$violations`, if rows can go there.
    pub violations_schema: Option<SchemaRef>,
    /// Until when rows are kept back, step by step.
    holds: Vec<Hold>,
}

/// How long a step keeps rows back.
#[derive(Debug, Clone, Copy)]
enum Hold {
    /// Until their windows have ended.
    Window(WindowKind),
    /// Until the next multiple of this, in microseconds.
    Bucket(i64),
    /// Until their own time has passed.
    Time,
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
        let mut builder = Builder {
            source,
            hidden: carries_hidden,
            props,
            planning: PhysicalPlanningContext::default(),
            wanted: Vec::new(),
            time_column: None,
            local: Vec::new(),
            keyed: Vec::new(),
            exchange: None,
            exchanges: 0,
            key_names: Vec::new(),
            columns: Arc::new(Schema::empty()),
            window: None,
            late_schema: None,
            holds: Vec::new(),
        };
        builder.lower(plan)?;
        let schema: SchemaRef = Arc::new(plan.schema().as_arrow().clone());
        builder.expect(table, &schema, ends.predicates);
        let at_once = row_by_row && ends.has_sinks;
        builder.deliver(table, &schema, at_once);
        let quarantines = table.expectations.iter().any(|e| e.action == OnViolation::Quarantine);
        let keyed_in_parallel = builder.exchanges == 1 && builder.exchange.as_ref().is_some_and(|keys| !keys.is_empty());
        Ok(Self {
            spec: builder.spec(table, &schema, keyed_in_parallel),
            source: source.clone(),
            table: table.clone(),
            wanted: builder.wanted,
            time_column: builder.time_column,
            carries_hidden,
            at_once,
            sinks: Vec::new(),
            local: builder.local,
            keyed: builder.keyed,
            keyed_in_parallel,
            exchange: builder.exchange,
            violations_schema: quarantines.then(|| expect::side_schema(&schema)),
            schema,
            late_schema: builder.late_schema,
            holds: builder.holds,
        })
    }

    /// A fresh chain for the partition-local stage.
    pub fn local_chain(&self) -> Result<Chain, StreamError> {
        chain(&self.local)
    }

    /// A fresh chain for the keyed stage; empty if there is none.
    pub fn keyed_chain(&self) -> Result<Chain, StreamError> {
        chain(&self.keyed)
    }

    /// The watermark at which nothing is kept back any more if no event time is greater than `newest_us`. `None` if nothing ever is.
    pub fn drained_us(&self, newest_us: i64) -> Option<i64> {
        if self.holds.is_empty() {
            return None;
        }
        let (mut time_us, mut reached_us) = (newest_us, newest_us.saturating_add(1));
        for hold in &self.holds {
            if let Hold::Window(kind) = hold {
                let end_us = kind.last_end_us(time_us);
                (time_us, reached_us) = (end_us - 1, reached_us.max(end_us));
            }
        }
        for hold in &self.holds {
            if let Hold::Bucket(us) = hold {
                reached_us = reached_us.saturating_add(us - 1).div_euclid(*us).saturating_mul(*us);
            }
        }
        Some(reached_us)
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

fn chain(steps: &[Step]) -> Result<Chain, StreamError> {
    Ok(Chain::new(steps.iter().map(|step| (step.make)()).collect::<Result<_, _>>()?))
}

/// Whether some step asks for a row's place in event time: windows, deduplication and OVER do.
fn uses_time(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Extension(_) | LogicalPlan::Window(_)) || plan.inputs().into_iter().any(uses_time)
}

fn computed(expressions: Vec<Expression>, fields: &[FieldRef]) -> Vec<Computed> {
    let column =
        |(expression, field): (Expression, &FieldRef)| Computed { name: field.name().clone(), expression, data_type: of_field(field) };
    expressions.into_iter().zip(fields).map(column).collect()
}

/// Where the bounds of the row's window are.
#[derive(Debug, Clone, Copy)]
struct WindowColumns {
    start: usize,
    end: usize,
    time: usize,
}

struct Builder<'a> {
    source: &'a SourceDefinition,
    /// Whether rows have hidden columns at this point: from the source on, until they are aggregated or delivered.
    hidden: bool,
    props: &'a ExecutionProps,
    planning: PhysicalPlanningContext,
    wanted: Vec<usize>,
    time_column: Option<usize>,
    local: Vec<Step>,
    keyed: Vec<Step>,
    exchange: Option<Vec<usize>>,
    exchanges: usize,
    /// What the keys of the exchange are called.
    key_names: Vec<String>,
    /// The columns as they are now: those of the logical plan first, then any that are carried along; hidden ones not counted.
    columns: SchemaRef,
    window: Option<WindowColumns>,
    late_schema: Option<SchemaRef>,
    holds: Vec<Hold>,
}

impl Builder<'_> {
    fn push(&mut self, spec: StepSpec, v1: String, make: impl Fn() -> Result<Box<dyn Operator>, StreamError> + Send + Sync + 'static) {
        let step = Step { spec, v1, make: Arc::new(make) };
        if self.exchange.is_some() { self.keyed.push(step) } else { self.local.push(step) }
    }

    fn expression(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>, StreamError> {
        Ok(create_physical_expr(expr, schema, self.props, &self.planning)?)
    }

    fn input_schema(&self) -> SchemaRef {
        if self.hidden { hidden::with_hidden(&self.columns) } else { self.columns.clone() }
    }

    fn lower(&mut self, plan: &LogicalPlan) -> Result<(), StreamError> {
        if let LogicalPlan::Window(window) = plan {
            return self.over(window);
        }
        for input in plan.inputs() {
            self.lower(input)?;
        }
        match plan {
            LogicalPlan::TableScan(scan) => {
                self.scan(scan.projection.clone());
                if scan.filters.is_empty() && scan.fetch.is_none() {
                    Ok(())
                } else {
                    Err(StreamError::Unsupported("a filter or limit was pushed into the source".into()))
                }
            }
            LogicalPlan::SubqueryAlias(_) => Ok(()),
            LogicalPlan::Filter(filter) => {
                let predicate = self.expression(&filter.predicate, filter.input.schema())?;
                let schema = self.input_schema();
                let spec = StepSpec::Filter { predicate: Expression::of(&filter.predicate, filter.input.schema()) };
                self.push(spec, v1::filter(&filter.predicate), move || Ok(Box::new(Filter::new(predicate.clone(), schema.clone()))));
                Ok(())
            }
            LogicalPlan::Projection(projection) => self.project(&projection.expr, projection.input.schema(), plan.schema()),
            LogicalPlan::Extension(extension) => {
                let node = extension.node.as_ref();
                if let Some(windows) = node.as_any().downcast_ref::<WindowAssign>() {
                    self.assign_windows(windows)
                } else if let Some(dedup) = node.as_any().downcast_ref::<DeduplicateNode>() {
                    self.deduplicate(dedup)
                } else {
                    Err(StreamError::Unsupported(node.name().to_string()))
                }
            }
            LogicalPlan::Aggregate(aggregate) => {
                self.aggregate(&aggregate.group_expr, &aggregate.aggr_expr, aggregate.input.schema(), plan.schema())
            }
            other => Err(StreamError::Unsupported(other.display().to_string())),
        }
    }

    fn scan(&mut self, projection: Option<Vec<usize>>) {
        let all = self.source.columns.len();
        self.wanted = projection.unwrap_or_else(|| (0..all).collect());
        // The event time is always read: it decides what is acceptable and how far the stream has come.
        if let Some(watermark) = &self.source.watermark
            && let Some(time) = self.source.columns.iter().position(|c| *c.field.name() == watermark.column)
        {
            let place = self.wanted.iter().position(|&column| column == time).unwrap_or_else(|| {
                self.wanted.push(time);
                self.wanted.len() - 1
            });
            self.time_column = Some(place);
        }
        let fields: Vec<_> = self.wanted.iter().map(|&i| self.source.columns[i].field.clone()).collect();
        self.columns = Schema::new(fields).into();
    }

    fn project(&mut self, exprs: &[Expr], input: &DFSchema, output: &DFSchema) -> Result<(), StreamError> {
        let mut expressions = exprs.iter().map(|e| self.expression(e, input)).collect::<Result<Vec<_>, _>>()?;
        let mut meanings: Vec<Expression> = exprs.iter().map(|e| Expression::of(e, input)).collect();
        let mut fields: Vec<_> = output.as_arrow().fields().iter().cloned().collect();
        // A window's bounds stay with the row even where the query does not name them: lateness and closing need them.
        if let Some(window) = self.window {
            let mut place = |column: usize, expressions: &mut Vec<Arc<dyn PhysicalExpr>>| {
                let same = |e: &Arc<dyn PhysicalExpr>| e.downcast_ref::<PhysicalColumn>().is_some_and(|c| c.index() == column);
                expressions.iter().position(same).unwrap_or_else(|| {
                    let field = self.columns.field(column);
                    expressions.push(Arc::new(PhysicalColumn::new(field.name(), column)));
                    meanings.push(Expression::column(column, field.name()));
                    fields.push(Arc::new(field.clone()));
                    expressions.len() - 1
                })
            };
            self.window = Some(WindowColumns {
                start: place(window.start, &mut expressions),
                end: place(window.end, &mut expressions),
                time: place(window.time, &mut expressions),
            });
        }
        let columns: SchemaRef = Schema::new(fields).into();
        self.columns = columns.clone();
        let keep_hidden = self.hidden;
        let spec = StepSpec::Project { columns: computed(meanings, columns.fields()) };
        self.push(spec, v1::project(&columns), move || Ok(Box::new(Project::new(expressions.clone(), &columns, keep_hidden))));
        Ok(())
    }

    /// The place of a logical column among the columns as they are now.
    fn place(&self, column: &Column, schema: &DFSchema) -> Result<usize, StreamError> {
        Ok(schema.index_of_column(column)?)
    }

    fn assign_windows(&mut self, node: &WindowAssign) -> Result<(), StreamError> {
        let own = node.input.schema().fields().len();
        let time = self.place(&node.time_column, node.input.schema())?;
        let has_hidden = self.hidden;
        // The new columns must follow the plan's own: columns carried along after those then come after the new ones.
        let carried: Vec<_> = self.columns.fields()[own..].to_vec();
        let mut fields: Vec<_> = node.schema.as_arrow().fields().iter().cloned().collect();
        fields.extend(carried);
        let mut assigned: Vec<_> = self.columns.fields().iter().cloned().collect();
        assigned.extend(node.schema.as_arrow().fields()[own..].iter().cloned());
        let assigned: SchemaRef = Schema::new(assigned).into();
        let kind = node.kind;
        self.holds.push(Hold::Window(kind));
        let (size_us, step_us, offset_us) = match kind {
            WindowKind::Tumble { size_us, offset_us } => (size_us, size_us, offset_us),
            WindowKind::Hop { size_us, slide_us, offset_us } => (size_us, slide_us, offset_us),
            WindowKind::Cumulate { size_us, step_us, offset_us } => (size_us, step_us, offset_us),
        };
        let time_meant = Expression::column(time, assigned.field(time).name());
        let spec = StepSpec::AssignWindows { function: kind.name().to_owned(), size_us, step_us, offset_us, time: time_meant };
        self.push(spec, v1::assign_windows(kind), {
            let assigned = assigned.clone();
            move || Ok(Box::new(AssignWindows::new(kind, time, &assigned, has_hidden)))
        });
        let carried = self.columns.fields().len() - own;
        if carried > 0 {
            let order: Vec<usize> = (0..own).chain(own + carried..own + carried + 3).chain(own..own + carried).collect();
            let expressions: Vec<Arc<dyn PhysicalExpr>> =
                order.iter().map(|&i| Arc::new(PhysicalColumn::new(assigned.field(i).name(), i)) as _).collect();
            let schema: SchemaRef = Schema::new(fields.clone()).into();
            let meanings = order.iter().map(|&i| Expression::column(i, assigned.field(i).name())).collect();
            let spec = StepSpec::Project { columns: computed(meanings, schema.fields()) };
            self.push(spec, "reorder".to_owned(), move || Ok(Box::new(Project::new(expressions.clone(), &schema, has_hidden))));
        }
        self.columns = Schema::new(fields).into();
        self.window = Some(WindowColumns { start: own, end: own + 1, time: own + 2 });
        Ok(())
    }

    /// Sets late rows aside; only possible, and only needed, before the first exchange.
    fn divert_late(&mut self, column: usize, deadline: Deadline) {
        if self.exchange.is_some() {
            return;
        }
        let schema = self.input_schema();
        self.late_schema = Some(late::side_schema(&schema));
        let name = schema.field(column).name().clone();
        let by = match deadline {
            Deadline::At => LateBy::Window,
            Deadline::After => LateBy::Time,
        };
        let spec = StepSpec::Late { by, deadline: Expression::column(column, &name) };
        self.push(spec, v1::late(deadline, &name), move || Ok(Box::new(Late::new(column, deadline, schema.clone()))));
    }

    /// Holds rows to the table's expectations, whose predicates are over the columns of `result`, which come first.
    fn expect(&mut self, table: &StreamingTableDefinition, result: &SchemaRef, predicates: Vec<Arc<dyn PhysicalExpr>>) {
        if predicates.is_empty() {
            return;
        }
        let rules: Vec<_> = table.expectations.iter().cloned().zip(predicates).collect();
        let rule = |rule: &Expectation| RuleSpec { name: rule.name.clone(), predicate: rule.predicate.clone(), action: rule.action };
        let meant = StepSpec::Expect { rules: table.expectations.iter().map(rule).collect() };
        let spec = Arc::new(ExpectSpec { table: format!("{}.{}", table.schema, table.table), rules, result: result.clone() });
        let schema = self.input_schema();
        self.push(meant, String::new(), move || Ok(Box::new(Expect::new(spec.clone(), schema.clone()))));
    }

    /// Hands on the columns of `schema`, which come first, and nothing after them but, if wanted, the hidden ones.
    fn deliver(&mut self, table: &StreamingTableDefinition, schema: &SchemaRef, keep_hidden: bool) {
        let column = |(i, field): (usize, &FieldRef)| Arc::new(PhysicalColumn::new(field.name(), i)) as Arc<dyn PhysicalExpr>;
        let expressions: Vec<_> = schema.fields().iter().enumerate().map(column).collect();
        let schema = schema.clone();
        let (spec, v1) = (StepSpec::Deliver { with_places: keep_hidden }, format!("deliver {}", v1::names(&schema)));
        let parted = table.partitioned_by.iter().filter_map(|column| schema.index_of(column).ok()).collect::<Vec<_>>();
        self.push(spec, v1, move || {
            let project = Project::new(expressions.clone(), &schema, keep_hidden);
            Ok(Box::new(Deliver::new(project, parted.clone())))
        });
    }

    /// What was built, as data.
    fn spec(&self, table: &StreamingTableDefinition, result: &SchemaRef, in_parallel: bool) -> PlanSpec {
        let read: Vec<_> = self.wanted.iter().map(|&column| &self.source.columns[column]).collect();
        let of = |steps: &[Step]| steps.iter().map(|step| step.spec.clone()).collect();
        let said = |steps: &[Step]| steps.iter().filter(|step| !step.spec.is_aside()).map(|step| step.v1.clone()).collect::<Vec<_>>();
        let v1 = v1::Steps {
            source: &self.source.name,
            local: &said(&self.local),
            exchange: self.exchange.as_deref().map(|keys| (keys, in_parallel)),
            keyed: &said(&self.keyed),
            table,
        };
        let fields: Vec<_> = read.iter().map(|column| &column.field).collect();
        let v1 = v1::fingerprint(&v1, &fields, result, &self.source.watermark);
        PlanSpec {
            version: spec::VERSION,
            source: SourceSpec {
                name: self.source.name.clone(),
                columns: read.iter().map(|column| ColumnSpec::read(column)).collect(),
                time: self.time_column,
                delay_us: self.source.watermark.as_ref().map(|watermark| watermark.delay_us),
            },
            local: of(&self.local),
            exchange: self.exchange.as_ref().map(|keys| ExchangeSpec {
                keys: keys.clone(),
                in_parallel,
                names: self.key_names.clone(),
                crossings: self.exchanges,
            }),
            keyed: of(&self.keyed),
            table: result.fields().iter().map(ColumnSpec::of).collect(),
            v1,
        }
    }

    fn cross(&mut self, keys: Vec<usize>, names: Vec<String>) {
        if self.exchange.is_none() {
            self.key_names = names;
        }
        self.exchanges += 1;
        self.exchange.get_or_insert(keys);
    }

    fn deduplicate(&mut self, node: &DeduplicateNode) -> Result<(), StreamError> {
        let input = node.input.schema();
        let time = self.place(&node.time_column, input)?;
        let keys = node.keys.iter().map(|key| self.place(key, input)).collect::<Result<Vec<_>, _>>()?;
        self.divert_late(time, Deadline::After);
        self.cross(keys.clone(), node.keys.iter().map(|key| key.name().to_owned()).collect());
        // Where rows came from goes along: it is the last thing that tells equal rows apart, and operators after this one order by it.
        let (schema, within_us) = (self.input_schema(), node.within_us);
        self.holds.push(Hold::Bucket(wait_us(within_us)));
        let names: Vec<&str> = node.keys.iter().map(|key| key.name()).collect();
        let meant = |column: usize| Expression::column(column, schema.field(column).name());
        let spec = StepSpec::Deduplicate { keys: keys.iter().map(|&key| meant(key)).collect(), time: meant(time), within_us };
        self.push(spec, v1::deduplicate(&names, within_us), move || {
            Ok(Box::new(Deduplicate::new(keys.clone(), time, within_us, schema.clone())?))
        });
        Ok(())
    }

    fn aggregate(&mut self, group: &[Expr], aggregates: &[Expr], input: &DFSchema, output: &DFSchema) -> Result<(), StreamError> {
        let window = self.window.ok_or_else(|| StreamError::Unsupported("GROUP BY without a window".into()))?;
        let mut keys = Vec::new();
        let mut key_fields = Vec::new();
        let mut key_meanings = Vec::new();
        let mut layout = Vec::new();
        for (i, expr) in group.iter().enumerate() {
            let bare = expr.clone().unalias();
            let column = match &bare {
                Expr::Column(column) => Some(self.place(column, input)?),
                _ => None,
            };
            layout.push(match column {
                Some(c) if c == window.start => Part::WindowStart,
                Some(c) if c == window.end => Part::WindowEnd,
                Some(c) if c == window.time => Part::WindowTime,
                _ => {
                    keys.push(self.expression(&bare, input)?);
                    key_meanings.push(Expression::of(&bare, input));
                    key_fields.push(output.as_arrow().fields()[i].clone());
                    Part::Key(keys.len() - 1)
                }
            });
        }
        if keys.is_empty() && aggregates.is_empty() {
            // A group must have at least one column to be counted by.
            let field = self.columns.fields()[window.start].clone();
            keys.push(Arc::new(PhysicalColumn::new(field.name(), window.start)));
            key_meanings.push(Expression::column(window.start, field.name()));
            key_fields.push(field);
        }
        let physical = Arc::new(input.as_arrow().clone());
        let mut lowered = Vec::new();
        for (i, expr) in aggregates.iter().enumerate() {
            let aggregate = LoweredAggregateBuilder::new(expr, input, &physical, self.props, &self.planning).build()?;
            lowered.push(Aggregate { function: aggregate.aggregate, filter: aggregate.filter });
            layout.push(Part::Result(i));
        }
        let slot_per_partition = self.hidden && self.exchange.is_none() && lowered.iter().any(Aggregate::depends_on_order);
        let groups = Arc::new(GroupSpec { keys: key_fields, aggregates: lowered });
        self.divert_late(window.end, Deadline::At);
        let key_places: Vec<usize> = (3..3 + keys.len()).collect();
        let key_names = key_meanings.iter().map(Expression::to_string).collect();
        let bound = |column: usize| Expression::column(column, self.columns.field(column).name());
        let results = &output.as_arrow().fields()[group.len()..];
        let spec = StepSpec::AggregatePartial {
            window: [bound(window.start), bound(window.end)],
            keys: computed(key_meanings, &groups.keys),
            aggregates: computed(aggregates.iter().map(|e| Expression::of(e, input)).collect(), results),
            by_partition: slot_per_partition,
        };
        self.push(spec, v1::aggregate_partial(output.as_arrow(), slot_per_partition), {
            let groups = groups.clone();
            move || {
                Ok(Box::new(AggregatePartial::new(AggregatePartialSpec {
                    window_start: window.start,
                    window_end: window.end,
                    keys: keys.clone(),
                    groups: groups.clone(),
                    slot_per_partition,
                })?))
            }
        });
        self.cross(key_places, key_names);
        self.hidden = false;
        let schema: SchemaRef = Arc::new(output.as_arrow().clone());
        self.columns = schema.clone();
        let place = |part: Part| layout.iter().position(|p| *p == part);
        self.window = match (place(Part::WindowStart), place(Part::WindowEnd), place(Part::WindowTime)) {
            (Some(start), Some(end), time) => Some(WindowColumns { start, end, time: time.unwrap_or(end) }),
            _ => None,
        };
        let spec = StepSpec::AggregateFinal { columns: layout.iter().map(|part| part.to_string()).collect() };
        self.push(spec, format!("aggregate_final {}", v1::names(&schema)), move || {
            Ok(Box::new(AggregateFinal::new(groups.clone(), layout.clone(), schema.clone())?))
        });
        Ok(())
    }
}

//! Walks a logical plan from the sources up and adds each step to the stage that it belongs to.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr, create_physical_expr};
use watershed_dialect::{Expectation, SourceDefinition, StreamingTableDefinition};
use watershed_functions::deduplicate::Deduplicate as DeduplicateNode;
use watershed_functions::numbers::ONE_KEY_NAME;
use watershed_functions::window::{WindowAssign, WindowKind};

use super::drained::{Hold, WindowTime};
use super::{SourcePlan, StagePlan, Step};
use crate::StreamError;
use crate::hidden::{self, SourceNames};
use crate::operator::Operator;
use crate::operators::assign_windows::AssignWindows;
use crate::operators::deduplicate::{Deduplicate, wait_us};
use crate::operators::deliver::Deliver;
use crate::operators::expect::{Expect, ExpectSpec};
use crate::operators::filter::Filter;
use crate::operators::in_order::InOrder;
use crate::operators::late::Deadline;
use crate::operators::place::Place;
use crate::operators::project::Project;
use crate::operators::rebase::{Rebase, Rebased};
use crate::spec::types::of_field;
use crate::spec::{self, ColumnSpec, Computed, Expression, PlanSpec, RuleSpec, Sharing, SourceSpec, StageSpec, StepSpec, v1};

/// Columns that a step computes, as data.
pub(super) fn computed(expressions: Vec<Expression>, fields: &[FieldRef]) -> Vec<Computed> {
    let column =
        |(expression, field): (Expression, &FieldRef)| Computed { name: field.name().clone(), expression, data_type: of_field(field) };
    expressions.into_iter().zip(fields).map(column).collect()
}

/// The window of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct WindowColumns {
    /// Where its bounds are.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) time: usize,
    pub(super) kind: WindowKind,
    /// Of which column the watermark speaks once the window has ended, and rows are results of it; `None` before.
    pub(super) ended: Option<WindowTime>,
}

/// A step further up that keeps state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Above {
    /// `GROUP BY`
    Aggregate {
        /// Whether results depend on the order of rows.
        ordered: bool,
    },
    /// One that puts rows in order itself.
    Other,
}

pub(super) struct Builder<'a> {
    definitions: &'a [SourceDefinition],
    pub(super) names: SourceNames,
    /// Those that were met.
    pub(super) sources: Vec<SourcePlan>,
    /// The one whose stage reads for several parts of a union, while these are lowered.
    pub(super) shared: Option<usize>,
    /// Whether a source is read for several rows of one message.
    pub(super) forks: bool,
    /// Whether rows come from a source with hidden columns.
    pub(super) carries_hidden: bool,
    /// Whether rows have hidden columns at this point: from the source on, until they are aggregated or delivered.
    pub(super) hidden: bool,
    pub(super) props: &'a ExecutionProps,
    pub(super) planning: PhysicalPlanningContext,
    pub(super) stages: Vec<StagePlan>,
    /// Those that steps are added to: the one that was begun last, or several whose rows are united.
    pub(super) open: Vec<usize>,
    crossings: usize,
    /// Where the keys are now by which rows were shared out to the last stage; `None` for one that is no longer there.
    pub(super) keys: Vec<Option<usize>>,
    /// The columns as they are now: those of the logical plan first, then any that are carried along; hidden ones not counted.
    pub(super) columns: SchemaRef,
    pub(super) window: Option<WindowColumns>,
    /// Further columns that hold a bound of the window.
    pub(super) copies: Vec<(usize, WindowTime)>,
    /// Steps that keep state further up, the nearest last.
    pub(super) above: Vec<Above>,
    pub(super) late_schema: Option<SchemaRef>,
    pub(super) late_conflict: Option<String>,
    /// Whether there are late rows of several kinds.
    pub(super) late_mixed: bool,
    /// On each way from a source to here.
    pub(super) holds: Vec<Vec<Hold>>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(definitions: &'a [SourceDefinition], props: &'a ExecutionProps, carries_hidden: bool) -> Self {
        Self {
            definitions,
            names: SourceNames::new(definitions.iter().map(|source| source.name.clone())),
            sources: Vec::new(),
            shared: None,
            forks: false,
            carries_hidden,
            hidden: carries_hidden,
            props,
            planning: PhysicalPlanningContext::default(),
            stages: Vec::new(),
            open: Vec::new(),
            crossings: 0,
            keys: Vec::new(),
            columns: Arc::new(Schema::empty()),
            window: None,
            copies: Vec::new(),
            above: Vec::new(),
            late_schema: None,
            late_conflict: None,
            late_mixed: false,
            holds: Vec::new(),
        }
    }

    pub(super) fn push(
        &mut self,
        spec: StepSpec,
        v1: String,
        make: impl Fn() -> Result<Box<dyn Operator>, StreamError> + Send + Sync + 'static,
    ) {
        self.push_by_task(spec, v1, move |_| make());
    }

    /// [`Self::push`] of an operator that must know which task it is in.
    pub(super) fn push_by_task(
        &mut self,
        spec: StepSpec,
        v1: String,
        make: impl Fn(usize) -> Result<Box<dyn Operator>, StreamError> + Send + Sync + 'static,
    ) {
        let step = Step { spec, v1, make: Arc::new(make) };
        for &stage in &self.open {
            self.stages[stage].steps.push(step.clone());
        }
    }

    /// Whether rows have been shared out: then they no longer come late.
    pub(super) fn has_crossed(&self) -> bool {
        self.open.iter().any(|&stage| self.stages[stage].sharing != Sharing::ByPartition)
    }

    /// Notes what a step does with time.
    pub(super) fn hold(&mut self, hold: Hold) {
        self.holds.iter_mut().for_each(|way| way.push(hold));
    }

    pub(super) fn expression(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>, StreamError> {
        Ok(create_physical_expr(expr, schema, self.props, &self.planning)?)
    }

    pub(super) fn input_schema(&self) -> SchemaRef {
        if self.hidden { hidden::with_hidden(&self.columns) } else { self.columns.clone() }
    }

    /// Lowers what a step reads that keeps state.
    pub(super) fn lower_below(&mut self, above: Above, input: &LogicalPlan) -> Result<(), StreamError> {
        self.above.push(above);
        self.lower(input)?;
        self.above.pop();
        Ok(())
    }

    pub(super) fn lower(&mut self, plan: &LogicalPlan) -> Result<(), StreamError> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                if scan.filters.is_empty() && scan.fetch.is_none() {
                    self.scan(scan.table_name.table(), scan.projection.clone())
                } else {
                    Err(StreamError::Unsupported("a filter or limit was pushed into the source".into()))
                }
            }
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::SubqueryAlias(alias) => self.lower(&alias.input),
            LogicalPlan::Filter(filter) => {
                self.lower(&filter.input)?;
                let predicate = self.expression(&filter.predicate, filter.input.schema())?;
                let schema = self.input_schema();
                let spec = StepSpec::Filter { predicate: Expression::of(&filter.predicate, filter.input.schema()) };
                self.push(spec, v1::filter(&filter.predicate), move || Ok(Box::new(Filter::new(predicate.clone(), schema.clone()))));
                Ok(())
            }
            LogicalPlan::Projection(projection) => {
                self.lower(&projection.input)?;
                self.project(&projection.expr, projection.input.schema(), plan.schema())
            }
            LogicalPlan::Extension(extension) => {
                let node = extension.node.as_ref();
                if let Some(windows) = node.as_any().downcast_ref::<WindowAssign>() {
                    self.lower(&windows.input)?;
                    self.assign_windows(windows)
                } else if let Some(dedup) = node.as_any().downcast_ref::<DeduplicateNode>() {
                    self.lower_below(Above::Other, &dedup.input)?;
                    self.deduplicate(dedup)
                } else {
                    Err(StreamError::Unsupported(node.name().to_string()))
                }
            }
            LogicalPlan::Window(window) => self.over(window),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            other => Err(StreamError::Unsupported(other.display().to_string())),
        }
    }

    fn scan(&mut self, name: &str, projection: Option<Vec<usize>>) -> Result<(), StreamError> {
        let place = self.place_of(name)?;
        let wanted = projection.unwrap_or_else(|| (0..self.definitions[place].columns.len()).collect());
        if self.shared == Some(place) {
            self.take_of(place, &wanted);
            return Ok(());
        }
        self.begin_source(place, wanted)?;
        self.columns = self.read(place);
        Ok(())
    }

    /// The place of a source among those of the query.
    pub(super) fn place_of(&self, name: &str) -> Result<usize, StreamError> {
        let known = self.definitions.iter().position(|source| source.name == name);
        known.ok_or_else(|| StreamError::Unsupported(format!("'{name}', which is no source of the query")))
    }

    /// Begins the stage beside a source.
    pub(super) fn begin_source(&mut self, place: usize, mut wanted: Vec<usize>) -> Result<(), StreamError> {
        let definition = &self.definitions[place];
        if place != self.sources.len() {
            return Err(StreamError::Unsupported(format!("source '{}' twice in one query", definition.name)));
        }
        let mut time_column = None;
        // The event time is always read: it decides what is acceptable and how far the stream has come.
        if let Some(watermark) = &definition.watermark
            && let Some(time) = definition.columns.iter().position(|c| *c.field.name() == watermark.column)
        {
            time_column = Some(wanted.iter().position(|&column| column == time).unwrap_or_else(|| {
                wanted.push(time);
                wanted.len() - 1
            }));
        }
        self.sources.push(SourcePlan { definition: definition.clone(), wanted, time_column, stage: self.stages.len() });
        self.begin_stage(Sharing::ByPartition, Vec::new());
        self.hidden = self.carries_hidden;
        self.holds = vec![Vec::new()];
        Ok(())
    }

    /// The columns that are read of a source.
    pub(super) fn read(&self, place: usize) -> SchemaRef {
        let SourcePlan { definition, wanted, .. } = &self.sources[place];
        Schema::new(wanted.iter().map(|&i| definition.columns[i].field.clone()).collect::<Vec<_>>()).into()
    }

    fn begin_stage(&mut self, sharing: Sharing, inputs: Vec<usize>) {
        self.open = vec![self.stages.len()];
        self.stages.push(StagePlan { sharing, inputs, steps: Vec::new(), together: Vec::new() });
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
            let [start, end, time] = [window.start, window.end, window.time].map(|column| place(column, &mut expressions));
            self.follow(&expressions);
            self.window = Some(WindowColumns { start, end, time, ..window });
        } else {
            self.follow(&expressions);
        }
        let columns: SchemaRef = Schema::new(fields).into();
        self.columns = columns.clone();
        let keep_hidden = self.hidden;
        let spec = StepSpec::Project { columns: computed(meanings, columns.fields()) };
        self.push(spec, v1::project(&columns), move || Ok(Box::new(Project::new(expressions.clone(), &columns, keep_hidden))));
        Ok(())
    }

    /// Notes where the keys of the stage and the bounds of the window are among columns that are made of those before.
    fn follow(&mut self, expressions: &[Arc<dyn PhysicalExpr>]) {
        let bound = |(place, expression)| Some((place, self.bound_at(column_of(expression)?)?));
        self.copies = expressions.iter().enumerate().filter_map(bound).collect();
        let places: Vec<_> = expressions.iter().map(|expression| column_of(within_key(expression))).collect();
        for key in &mut self.keys {
            *key = key.and_then(|key| places.iter().position(|place| *place == Some(key)));
        }
    }

    /// Which bound of the window a column holds.
    pub(super) fn bound_at(&self, place: usize) -> Option<WindowTime> {
        let window = self.window?;
        let own = [(window.start, WindowTime::Start), (window.end, WindowTime::End), (window.time, WindowTime::Last)];
        own.iter().chain(&self.copies).find(|(known, _)| *known == place).map(|(_, bound)| *bound)
    }

    /// The place of a logical column among the columns as they are now.
    pub(super) fn place(&self, column: &Column, schema: &DFSchema) -> Result<usize, StreamError> {
        Ok(schema.index_of_column(column)?)
    }

    fn assign_windows(&mut self, node: &WindowAssign) -> Result<(), StreamError> {
        let own = node.input.schema().fields().len();
        let time = self.place(&node.time_column, node.input.schema())?;
        self.count_by(time, false);
        let has_hidden = self.hidden;
        let mut assigned: Vec<_> = self.columns.fields().iter().cloned().collect();
        assigned.extend(node.schema.as_arrow().fields()[own..].iter().cloned());
        let assigned: SchemaRef = Schema::new(assigned).into();
        let kind = node.kind;
        self.hold(Hold::Windows(kind));
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
        self.columns = assigned;
        if carried > 0 {
            // The new columns must follow the plan's own: columns carried along come after them.
            let order: Vec<usize> = (0..own).chain(own + carried..own + carried + 3).chain(own..own + carried).collect();
            self.reorder(&order);
        }
        self.window = Some(WindowColumns { start: own, end: own + 1, time: own + 2, kind, ended: None });
        self.copies.clear();
        Ok(())
    }

    /// Lets the watermark speak of the column `time`, if that is one of a window that has ended. `keeps` says that rows are then kept back by it.
    pub(super) fn count_by(&mut self, time: usize, keeps: bool) {
        let Some(window @ WindowColumns { kind, ended: Some(spoken), .. }) = self.window else { return };
        let Some(column) = self.bound_at(time) else { return };
        let mut now = spoken;
        // What holds of the starts of windows still to come holds of their ends, and what holds of their last moments, too.
        if column != WindowTime::End && spoken == WindowTime::End {
            self.rebase(Rebase::Times);
            now = WindowTime::Last;
        }
        if column == WindowTime::Start && now == WindowTime::Last {
            self.rebase(Rebase::starts(kind));
            now = WindowTime::Start;
        }
        self.hold(Hold::By(column));
        let ended = Some(if keeps { column } else { now });
        self.window = Some(WindowColumns { ended, ..window });
    }

    pub(super) fn rebase(&mut self, rebase: Rebase) {
        let schema = self.input_schema();
        self.hold(Hold::Rebased(rebase));
        self.push(StepSpec::Rebase { to: rebase }, String::new(), move || Ok(Box::new(Rebased::new(rebase, schema.clone()))));
    }

    /// Puts rows into the order of `time`, those of one time by their place, and leaves the place out again if they had none.
    pub(super) fn in_order(&mut self, time: usize) -> Result<(), StreamError> {
        let placed = self.hidden;
        if !placed {
            let columns = self.columns.clone();
            self.push(StepSpec::Place, String::new(), move || Ok(Box::new(Place::new(&columns)?)));
            self.hidden = true;
        }
        let schema = self.input_schema();
        let name = schema.field(time).name().clone();
        let spec = StepSpec::InOrder { time: Expression::column(time, &name) };
        self.push(spec, format!("in_order {name}"), move || Ok(Box::new(InOrder::new(time, schema.clone()))));
        if !placed {
            self.hidden = false;
            let all: Vec<usize> = (0..self.columns.fields().len()).collect();
            self.reorder(&all);
        }
        Ok(())
    }

    /// Hands on the columns at these places, in this order.
    pub(super) fn reorder(&mut self, places: &[usize]) {
        let fields: Vec<_> = places.iter().map(|&place| self.columns.fields()[place].clone()).collect();
        let expressions: Vec<Arc<dyn PhysicalExpr>> =
            places.iter().map(|&place| Arc::new(PhysicalColumn::new(self.columns.field(place).name(), place)) as _).collect();
        let meanings = places.iter().map(|&place| Expression::column(place, self.columns.field(place).name())).collect();
        self.follow(&expressions);
        let at = |place: usize| places.iter().position(|known| *known == place);
        self.window = self.window.and_then(|w| Some(WindowColumns { start: at(w.start)?, end: at(w.end)?, time: at(w.time)?, ..w }));
        let spec = StepSpec::Project { columns: computed(meanings, &fields) };
        let (columns, keep_hidden): (SchemaRef, _) = (Schema::new(fields).into(), self.hidden);
        self.columns = columns.clone();
        self.push(spec, "reorder".to_owned(), move || Ok(Box::new(Project::new(expressions.clone(), &columns, keep_hidden))));
    }

    /// Holds rows to the table's expectations, whose predicates are over the columns of `result`, which come first.
    pub(super) fn expect(&mut self, table: &StreamingTableDefinition, result: &SchemaRef, predicates: Vec<Arc<dyn PhysicalExpr>>) {
        if predicates.is_empty() {
            return;
        }
        let rules: Vec<_> = table.expectations.iter().cloned().zip(predicates).collect();
        let rule = |rule: &Expectation| RuleSpec { name: rule.name.clone(), predicate: rule.predicate.clone(), action: rule.action };
        let meant = StepSpec::Expect { rules: table.expectations.iter().map(rule).collect() };
        let spec = Arc::new(ExpectSpec {
            table: format!("{}.{}", table.schema, table.table),
            rules,
            result: result.clone(),
            sources: self.names.clone(),
        });
        let schema = self.input_schema();
        self.push(meant, String::new(), move || Ok(Box::new(Expect::new(spec.clone(), schema.clone()))));
    }

    /// Hands on the columns of `schema`, which come first, and nothing after them but, if wanted, the hidden ones.
    pub(super) fn deliver(&mut self, table: &StreamingTableDefinition, schema: &SchemaRef, keep_hidden: bool) {
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
    pub(super) fn spec(&self, table: &StreamingTableDefinition, result: &SchemaRef) -> PlanSpec {
        let of = |(place, stage): (usize, &StagePlan)| StageSpec {
            source: self.sources.iter().position(|source| source.stage == place),
            inputs: stage.inputs.clone(),
            sharing: stage.sharing.clone(),
            steps: stage.steps.iter().map(|step| step.spec.clone()).collect(),
            together: stage.together.clone(),
        };
        let source = |SourcePlan { definition, wanted, time_column, .. }: &SourcePlan| SourceSpec {
            name: definition.name.clone(),
            columns: wanted.iter().map(|&column| ColumnSpec::read(&definition.columns[column])).collect(),
            time: *time_column,
            delay_us: definition.watermark.as_ref().map(|watermark| watermark.delay_us),
        };
        PlanSpec {
            version: spec::VERSION,
            sources: self.sources.iter().map(source).collect(),
            stages: self.stages.iter().enumerate().map(of).collect(),
            crossings: self.crossings,
            table: result.fields().iter().map(ColumnSpec::of).collect(),
            v1: self.v1(table, result),
        }
    }

    /// The fingerprint of layout 1, which knew one source.
    fn v1(&self, table: &StreamingTableDefinition, result: &SchemaRef) -> String {
        let [SourcePlan { definition, wanted, .. }] = self.sources.as_slice() else { return String::new() };
        let said = |stages: &[StagePlan]| {
            let steps = stages.iter().flat_map(|stage| &stage.steps).filter(|step| !step.spec.is_aside());
            steps.map(|step| step.v1.clone()).collect::<Vec<_>>()
        };
        let steps = v1::Steps {
            source: &definition.name,
            local: &said(&self.stages[..1]),
            exchange: self.stages.get(1).map(|stage| (stage.sharing.keys(), self.crossings == 1)),
            keyed: &said(&self.stages[1..]),
            table,
        };
        let fields: Vec<_> = wanted.iter().map(|&column| &definition.columns[column].field).collect();
        v1::fingerprint(&steps, &fields, result, &definition.watermark)
    }

    /// Whether rows that agree in all of `keys` and `beside` are in one task already: the keys by which they were shared out are among these.
    /// One task for all rows is left where there are `keys`, so that there can be more.
    pub(super) fn is_together(&self, keys: &[Option<usize>], beside: &[usize]) -> bool {
        // Rows of one key are in a task of each stage that is united.
        let [stage] = self.open.as_slice() else { return false };
        match &self.stages[*stage].sharing {
            Sharing::ByKey { .. } => self.keys.iter().all(|key| key.is_some_and(|known| keys.contains(key) || beside.contains(&known))),
            Sharing::ToOne => keys.is_empty(),
            Sharing::ByPartition => false,
        }
    }

    /// Notes that the next step finds the rows together that it needs so.
    pub(super) fn stay(&mut self) {
        self.crossings += 1;
        if let Some(StagePlan { sharing: Sharing::ByKey { names, .. }, steps, together, .. }) = self.stages.last_mut() {
            together.push((steps.len(), names.clone()));
        }
    }

    /// Begins a stage to whose tasks rows are shared out by `keys`, or that is one task if there are none.
    pub(super) fn cross(&mut self, keys: Vec<usize>, names: Vec<String>) {
        self.crossings += 1;
        self.keys = keys.iter().map(|&key| Some(key)).collect();
        let sharing = if keys.is_empty() { Sharing::ToOne } else { Sharing::ByKey { keys, names } };
        let inputs = std::mem::take(&mut self.open);
        self.begin_stage(sharing, inputs);
    }

    /// Brings rows together that agree in `keys`.
    pub(super) fn bring_together(&mut self, keys: Vec<usize>) {
        let known: Vec<Option<usize>> = keys.iter().map(|&key| Some(key)).collect();
        if self.is_together(&known, &[]) {
            return self.stay();
        }
        let names = keys.iter().map(|&key| self.columns.field(key).name().clone()).collect();
        self.cross(keys, names);
    }

    fn deduplicate(&mut self, node: &DeduplicateNode) -> Result<(), StreamError> {
        let input = node.input.schema();
        let time = self.place(&node.time_column, input)?;
        let keys = node.keys.iter().map(|key| self.place(key, input)).collect::<Result<Vec<_>, _>>()?;
        self.divert_late(time, Deadline::After);
        self.count_by(time, true);
        self.bring_together(keys.clone());
        // Where rows came from goes along: it is the last thing that tells equal rows apart, and operators after this one order by it.
        let (schema, within_us) = (self.input_schema(), node.within_us);
        self.hold(Hold::Bucket(wait_us(within_us)));
        let names: Vec<&str> = node.keys.iter().map(|key| key.name()).collect();
        let meant = |column: usize| Expression::column(column, schema.field(column).name());
        let spec = StepSpec::Deduplicate { keys: keys.iter().map(|&key| meant(key)).collect(), time: meant(time), within_us };
        self.push(spec, v1::deduplicate(&names, within_us), move || {
            Ok(Box::new(Deduplicate::new(keys.clone(), time, within_us, schema.clone())?))
        });
        Ok(())
    }
}

/// What a key is made of: rows are kept as they are, and the exchange and operators make keys of them.
pub(super) fn within_key(expr: &Arc<dyn PhysicalExpr>) -> &Arc<dyn PhysicalExpr> {
    match expr.downcast_ref::<ScalarFunctionExpr>().map(|call| (call.name(), call.args())) {
        Some((ONE_KEY_NAME, [inner])) => inner,
        _ => expr,
    }
}

/// Where a column is in the input, if the expression is one.
pub(super) fn column_of(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expr.downcast_ref::<PhysicalColumn>().map(PhysicalColumn::index)
}

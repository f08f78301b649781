//! `GROUP BY`: partial results beside the rows, their merge where all of a group are together.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Aggregate as AggregateNode, Expr};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use watershed_functions::window::{WINDOW_END, WINDOW_START, WINDOW_TIME};

use super::build::{Above, Builder, WindowColumns, column_of, computed, within_key};
use super::drained::{Hold, WindowTime};
use crate::StreamError;
use crate::operators::aggregate_final::{AggregateFinal, Part};
use crate::operators::aggregate_partial::{AggregatePartial, AggregatePartialSpec};
use crate::operators::group_table::{Aggregate, GroupSpec};
use crate::operators::late::Deadline;
use crate::operators::rebase::Rebase;
use crate::spec::{Expression, StepSpec, v1};

/// Columns before the keys in partial results: both bounds of the window, and the slot.
const BEFORE_KEYS: usize = 3;

impl Builder<'_> {
    pub(super) fn aggregate(&mut self, node: &AggregateNode) -> Result<(), StreamError> {
        let (input, output) = (node.input.schema(), node.schema.as_ref());
        let lowered = self.lowered(&node.aggr_expr, input)?;
        let ordered = lowered.iter().any(Aggregate::depends_on_order);
        self.lower_below(Above::Aggregate { ordered }, &node.input)?;
        let window = self.window.ok_or_else(|| StreamError::Unsupported("GROUP BY without a window".into()))?;
        if window.ended == Some(WindowTime::End) {
            self.rebase(Rebase::Times);
        }
        let mut groups = self.groups(&node.group_expr, window, input, output)?;
        if groups.keys.is_empty() && lowered.is_empty() {
            // A group must have at least one column to be counted by.
            let field = self.columns.fields()[window.start].clone();
            groups.keys.push(Arc::new(PhysicalColumn::new(field.name(), window.start)));
            groups.meanings.push(Expression::column(window.start, field.name()));
            groups.fields.push(field);
        }
        groups.layout.extend((0..lowered.len()).map(Part::Result));
        let slot_per_partition = self.hidden && !self.has_crossed() && ordered;
        let spec = Arc::new(GroupSpec { keys: groups.fields.clone(), aggregates: lowered });
        self.divert_late(window.end, Deadline::At);
        // Rows of a group agree in the window, too.
        let known: Vec<Option<usize>> = groups.keys.iter().map(|key| column_of(within_key(key))).collect();
        let stays = self.is_together(&known, &[window.start, window.end, window.time]);
        if stays {
            self.stay();
        }
        self.partial(node, window, &groups, spec.clone(), slot_per_partition);
        let mut columns: Vec<_> = output.as_arrow().fields().iter().cloned().collect();
        let mut layout = groups.layout;
        if !self.above.is_empty() {
            // Steps further up ask for the window, whether the query names it or not.
            let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            for (part, name) in [(Part::WindowStart, WINDOW_START), (Part::WindowEnd, WINDOW_END), (Part::WindowTime, WINDOW_TIME)] {
                if !layout.contains(&part) {
                    layout.push(part);
                    columns.push(Arc::new(Field::new(name, time.clone(), false)));
                }
            }
        }
        let place = |part: Part| layout.iter().position(|known| *known == part);
        if stays {
            let part_of = |key: usize| {
                let of_window = [(window.start, Part::WindowStart), (window.end, Part::WindowEnd), (window.time, Part::WindowTime)];
                let bound = of_window.into_iter().find(|(column, _)| *column == key).map(|(_, part)| part);
                bound.or_else(|| known.iter().position(|column| *column == Some(key)).map(Part::Key))
            };
            self.keys = self.keys.iter().map(|key| key.and_then(part_of).and_then(place)).collect();
        } else {
            let names = groups.meanings.iter().map(Expression::to_string).collect();
            self.cross((BEFORE_KEYS..BEFORE_KEYS + groups.keys.len()).collect(), names);
            self.keys = (0..groups.keys.len()).map(|key| place(Part::Key(key))).collect();
        }
        let copy = |(key, column): (usize, &Option<usize>)| Some((place(Part::Key(key))?, self.bound_at((*column)?)?));
        self.copies = known.iter().enumerate().filter_map(copy).collect();
        self.hidden = false;
        let schema: SchemaRef = Schema::new(columns).into();
        self.columns = schema.clone();
        self.window = match (place(Part::WindowStart), place(Part::WindowEnd), place(Part::WindowTime)) {
            (Some(start), Some(end), time) => {
                Some(WindowColumns { start, end, time: time.unwrap_or(end), ended: Some(WindowTime::Last), ..window })
            }
            _ => None,
        };
        let time = place(Part::WindowTime);
        self.hold(Hold::Closed);
        let meant = StepSpec::AggregateFinal { columns: layout.iter().map(|part| part.to_string()).collect() };
        self.push(meant, format!("aggregate_final {}", v1::names(&schema)), move || {
            Ok(Box::new(AggregateFinal::new(spec.clone(), layout.clone(), schema.clone())?))
        });
        match (self.above.last(), time) {
            // Which group of a window is first depends on which task was: what depends on the order of rows needs another one.
            (Some(Above::Aggregate { ordered: true }), Some(time)) => self.in_order(time),
            _ => Ok(()),
        }
    }

    fn lowered(&self, aggregates: &[Expr], input: &DFSchema) -> Result<Vec<Aggregate>, StreamError> {
        let physical = Arc::new(input.as_arrow().clone());
        let lowered = |expr: &Expr| {
            let aggregate = LoweredAggregateBuilder::new(expr, input, &physical, self.props, &self.planning).build()?;
            Ok(Aggregate { function: aggregate.aggregate, filter: aggregate.filter })
        };
        aggregates.iter().map(lowered).collect()
    }

    fn groups(&self, group: &[Expr], window: WindowColumns, input: &DFSchema, output: &DFSchema) -> Result<Groups, StreamError> {
        let mut groups = Groups::default();
        for (i, expr) in group.iter().enumerate() {
            let bare = expr.clone().unalias();
            let column = match &bare {
                Expr::Column(column) => Some(self.place(column, input)?),
                _ => None,
            };
            groups.layout.push(match column {
                Some(c) if c == window.start => Part::WindowStart,
                Some(c) if c == window.end => Part::WindowEnd,
                Some(c) if c == window.time => Part::WindowTime,
                _ => {
                    groups.keys.push(self.expression(&bare, input)?);
                    groups.meanings.push(Expression::of(&bare, input));
                    groups.fields.push(output.as_arrow().fields()[i].clone());
                    Part::Key(groups.keys.len() - 1)
                }
            });
        }
        Ok(groups)
    }

    fn partial(&mut self, node: &AggregateNode, window: WindowColumns, of: &Groups, groups: Arc<GroupSpec>, slot_per_partition: bool) {
        let bound = |column: usize| Expression::column(column, self.columns.field(column).name());
        let (input, output) = (node.input.schema(), node.schema.as_arrow());
        let results = &output.fields()[node.group_expr.len()..];
        let spec = StepSpec::AggregatePartial {
            window: [bound(window.start), bound(window.end)],
            keys: computed(of.meanings.clone(), &of.fields),
            aggregates: computed(node.aggr_expr.iter().map(|e| Expression::of(e, input)).collect(), results),
            by_partition: slot_per_partition,
        };
        let (keys, has_crossed) = (of.keys.clone(), self.has_crossed());
        self.push_by_task(spec, v1::aggregate_partial(output, slot_per_partition), move |task| {
            Ok(Box::new(AggregatePartial::new(AggregatePartialSpec {
                window_start: window.start,
                window_end: window.end,
                keys: keys.clone(),
                groups: groups.clone(),
                slot_per_partition,
                slot: if has_crossed { task as i32 } else { 0 },
            })?))
        });
    }
}

/// What rows are grouped by beside their window.
#[derive(Default)]
struct Groups {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    fields: Vec<arrow::datatypes::FieldRef>,
    meanings: Vec<Expression>,
    /// Where each column of the result comes from.
    layout: Vec<Part>,
}

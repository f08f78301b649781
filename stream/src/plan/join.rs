//! `JOIN` of two streams: rows of both sides become rows of one kind, are shared out by the keys, and meet in `operators/interval_join.rs`.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Join, JoinType, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column as PhysicalColumn, Literal};
use watershed_dialect::SqlError;
use watershed_dialect::interval_join::{self, IntervalJoin as Meeting};
use watershed_dialect::union_all::only_source;

use super::build::{Above, Builder, column_of, computed, within_key};
use super::drained::Hold;
use crate::StreamError;
use crate::operators::filter::Filter;
use crate::operators::interval_join::{IntervalJoin, IntervalJoinSpec, input_schema};
use crate::operators::late::Deadline;
use crate::operators::project::Project;
use crate::spec::types::of_field;
use crate::spec::{Expression, StepSpec};

impl Builder<'_> {
    pub(super) fn join(&mut self, join: &Join) -> Result<(), StreamError> {
        let meeting = interval_join::of(join)?;
        if let Some(rest) = meeting.rest.first().filter(|_| join.join_type != JoinType::Inner) {
            return Err(SqlError::new(format!("a {} JOIN on '{rest}' cannot run as a stream yet", join.join_type))
                .detail("beside the keys and the bounds in time, ON may hold conditions of the side whose rows need not have a partner")
                .hint("write it in WHERE, or in a query that the JOIN reads")
                .into());
        }
        let above = std::mem::take(&mut self.above);
        let sides: [&LogicalPlan; 2] = [&join.left, &join.right];
        let (mut open, mut holds) = (Vec::new(), Vec::new());
        match sides.map(only_source) {
            [Some(left), Some(right)] if left == right => {
                let place = self.place_of(&left)?;
                self.fork(place, sides.len(), |builder, side| builder.side(sides, side, &meeting))?;
                (open, holds) = (std::mem::take(&mut self.open), std::mem::take(&mut self.holds));
            }
            _ => {
                for side in 0..2 {
                    self.forget();
                    self.side(sides, side, &meeting)?;
                    open.append(&mut self.open);
                    holds.append(&mut self.holds);
                }
            }
        }
        self.forget();
        (self.open, self.holds, self.above) = (open, holds, above);
        self.meet(join, &meeting)
    }

    /// Lowers one side, up to rows that are of one kind with those of the other.
    fn side(&mut self, sides: [&LogicalPlan; 2], side: usize, meeting: &Meeting) -> Result<(), StreamError> {
        let plan = sides[side];
        self.lower(plan)?;
        let schema = plan.schema();
        let time = self.place(meeting.times[side], schema)?;
        self.divert_late(time, Deadline::After);
        let (mut expressions, mut meanings): (Vec<Arc<dyn PhysicalExpr>>, Vec<Expression>) = (Vec::new(), Vec::new());
        let mut keys: Vec<Field> = Vec::new();
        for (left, right) in &meeting.keys {
            let key = [left, right][side];
            let physical = self.expression(key, schema)?;
            keys.push(Field::new(key.schema_name().to_string(), physical.data_type(&self.columns)?, true));
            expressions.push(physical);
            meanings.push(Expression::of(key, schema));
        }
        let time_field = self.columns.field(time).clone();
        expressions.push(Arc::new(PhysicalColumn::new(time_field.name(), time)));
        meanings.push(Expression::column(time, time_field.name()));
        let mut literal = |value: ScalarValue, expressions: &mut Vec<Arc<dyn PhysicalExpr>>| {
            meanings.push(Expression::of(&Expr::Literal(value.clone(), None), schema));
            expressions.push(Arc::new(Literal::new(value)));
        };
        literal(ScalarValue::Boolean(Some(side == 1)), &mut expressions);
        let all = sides.map(|plan| plan.schema().as_arrow());
        for (of, columns) in all.into_iter().enumerate() {
            for (place, field) in columns.fields().iter().enumerate() {
                if of == side {
                    expressions.push(Arc::new(PhysicalColumn::new(field.name(), place)));
                } else {
                    literal(ScalarValue::try_from(field.data_type())?, &mut expressions);
                }
            }
        }
        // In the order of the columns: those of the side itself are told by their places.
        let meanings = in_place(meanings, keys.len() + 2, side, all);
        let columns = input_schema(&keys, &time_field, all);
        let spec = StepSpec::Project { columns: computed(meanings, columns.fields()) };
        let made = columns.clone();
        self.push(spec, "side of a join".to_owned(), move || Ok(Box::new(Project::new(expressions.clone(), &made, false))));
        (self.columns, self.hidden) = (columns, false);
        Ok(())
    }

    /// The stage in which rows of both sides meet.
    fn meet(&mut self, join: &Join, meeting: &Meeting) -> Result<(), StreamError> {
        let (keys, input) = (meeting.keys.len(), self.columns.clone());
        let names = meeting.keys.iter().map(|(left, right)| format!("{left} = {right}")).collect();
        self.cross((0..keys).collect(), names);
        let output: SchemaRef = Arc::new(join.schema.as_arrow().clone());
        let columns = [&join.left, &join.right].map(|side| side.schema().fields().len());
        let keeps = [JoinType::Left, JoinType::Right].map(|kept| [kept, JoinType::Full].contains(&join.join_type));
        let spec = IntervalJoinSpec {
            keys,
            columns,
            least_us: meeting.least_us,
            most_us: meeting.most_us,
            keeps,
            in_order: self.above.last() == Some(&Above::Aggregate { ordered: true }),
        };
        self.hold(Hold::Met { reach_us: spec.reach_us(), waits: keeps.contains(&true) });
        let key = |place: usize| Expression::column(place, input.field(place).name());
        let meant = StepSpec::IntervalJoin {
            kind: join.join_type.to_string().to_lowercase(),
            keys: (0..keys).map(key).collect(),
            least_us: meeting.least_us,
            most_us: meeting.most_us,
            columns,
            types: output.fields().iter().map(|field| of_field(field)).collect(),
        };
        let schema = output.clone();
        self.push(meant, "interval join".to_owned(), move || Ok(Box::new(IntervalJoin::new(spec.clone(), &input, schema.clone())?)));
        self.columns = output;
        self.keys = meeting.keys.iter().map(|(left, right)| self.key_after(join, left, right)).collect::<Result<_, _>>()?;
        let rest = conjunction(meeting.rest.iter().map(|rest| (*rest).clone()));
        if let Some(predicate) = rest {
            let (physical, schema) = (self.expression(&predicate, &join.schema)?, self.columns.clone());
            let spec = StepSpec::Filter { predicate: Expression::of(&predicate, &join.schema) };
            self.push(spec, String::new(), move || Ok(Box::new(Filter::new(physical.clone(), schema.clone()))));
        }
        Ok(())
    }

    /// The column of a pair that a key is, if it is one of the side whose rows are always there.
    fn key_after(&self, join: &Join, left: &Expr, right: &Expr) -> Result<Option<usize>, StreamError> {
        let of = |key: &Expr, side: &LogicalPlan| Ok::<_, StreamError>(column_of(within_key(&self.expression(key, side.schema())?)));
        match join.join_type {
            JoinType::Inner | JoinType::Left => of(left, &join.left),
            JoinType::Right => Ok(of(right, &join.right)?.map(|place| place + join.left.schema().fields().len())),
            _ => Ok(None),
        }
    }
}

/// What the columns of a side's rows mean: those before its own and the other side's, which were told in this order, and its own columns.
fn in_place(told: Vec<Expression>, before: usize, side: usize, sides: [&Schema; 2]) -> Vec<Expression> {
    let mut told = told.into_iter();
    let mut all: Vec<Expression> = told.by_ref().take(before).collect();
    for (of, schema) in sides.into_iter().enumerate() {
        match of == side {
            true => all.extend(schema.fields().iter().enumerate().map(|(place, field)| Expression::column(place, field.name()))),
            false => all.extend(told.by_ref().take(schema.fields().len())),
        }
    }
    all
}

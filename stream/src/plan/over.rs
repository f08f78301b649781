//! `OVER`: windows that follow one another in the plan become one operator, since they reach back over the same rows.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, LogicalPlan, Window};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::window::SlidingAggregateWindowExpr;
use datafusion::physical_planner::create_window_expr;
use watershed_dialect::over::{Frame, call};
use watershed_functions::numbers::as_written;

use super::build::{Above, Builder, column_of, computed, within_key};
use super::drained::Hold;
use crate::StreamError;
use crate::operators::late::Deadline;
use crate::operators::over::frames::{Argument, Function, Kind};
use crate::operators::over::{Over, OverSpec, WindowSpec};
use crate::spec::{Expression, StepSpec};

impl Builder<'_> {
    pub(super) fn over(&mut self, window: &Window) -> Result<(), StreamError> {
        // Innermost first: their results come in this order after the columns of the input.
        let mut windows = vec![window];
        while let LogicalPlan::Window(inner) = windows[windows.len() - 1].input.as_ref() {
            windows.push(inner);
        }
        windows.reverse();
        let input = windows[0].input.clone();
        self.lower_below(Above::Other, &input)?;
        let own = input.schema().fields().len();
        let carried = self.columns.fields()[own..].to_vec();

        let output: SchemaRef = Arc::new(window.schema.as_arrow().clone());
        let mut parts =
            Parts { own: self.columns.clone(), time: None, values: Vec::new(), fields: Vec::new(), windows: Vec::new(), keys: None };
        let (mut said, mut functions) = (Vec::new(), Vec::new());
        let mut result = 0;
        for window in windows {
            for expr in &window.window_expr {
                let field = output.fields()[own + result].clone();
                functions.push((Expression::of(expr, window.input.schema()), field.clone()));
                said.push(self.add_function(expr, window.input.schema(), field, result, &mut parts)?);
                result += 1;
            }
        }
        let time_column = parts.time.ok_or_else(|| StreamError::Unsupported("OVER without ORDER BY".into()))?;

        self.divert_late(time_column, Deadline::After);
        self.count_by(time_column, true);
        self.hold(Hold::Time);
        self.bring_together(parts.keys.unwrap_or_default());
        self.in_order(time_column)?;
        // Results come after all columns, also those that are carried along.
        let (mut fields, results) = (output.fields()[..own].to_vec(), &output.fields()[own..]);
        fields.extend(carried.iter().chain(results).cloned());
        let (after, has_hidden) = (Schema::new_with_metadata(fields, output.metadata().clone()), self.hidden);
        let (after, results): (SchemaRef, usize) = (Arc::new(after), results.len());
        self.columns = after.clone();
        let spec = Arc::new(OverSpec { time_column, values: parts.values, value_fields: parts.fields, windows: parts.windows });
        let (meanings, fields): (Vec<_>, Vec<_>) = functions.into_iter().unzip();
        let meant = StepSpec::Over {
            functions: computed(meanings, &fields),
            reach_us: spec.windows.iter().flat_map(|window| &window.functions).map(|function| function.frame.from_us).max().unwrap_or(0),
        };
        self.push(meant, format!("over {}", said.join("; ")), move || Ok(Box::new(Over::new(spec.clone(), &after, has_hidden)?)));
        if !carried.is_empty() {
            let all = own + carried.len();
            let order: Vec<usize> = (0..own).chain(all..all + results).chain(own..all).collect();
            self.reorder(&order);
        }
        Ok(())
    }

    /// Adds one expression of a window; gives what it says.
    fn add_function(
        &self,
        expr: &Expr,
        input: &DFSchema,
        field: FieldRef,
        result: usize,
        parts: &mut Parts,
    ) -> Result<String, StreamError> {
        let unsupported = || StreamError::Unsupported(format!("{expr}"));
        let call = call(expr).ok_or_else(unsupported)?;
        let lowered = create_window_expr(&expr.clone().unalias(), input, self.props, &self.planning)?;
        match lowered.order_by() {
            [sort] => parts.time = Some(column_of(&sort.expr).ok_or_else(unsupported)?),
            _ => return Err(unsupported()),
        }
        let aggregate = lowered.as_any().downcast_ref::<SlidingAggregateWindowExpr>().map(|sliding| sliding.get_aggregate_expr().clone());
        let kind = match (aggregate, call.fun.name()) {
            (Some(function), _) => Kind::Aggregate(Arc::new(function)),
            (None, "first_value") => Kind::FirstValue,
            (None, "last_value") => Kind::LastValue,
            (None, _) => return Err(unsupported()),
        };
        let arguments = lowered.expressions().iter().map(|argument| parts.argument(argument)).collect::<Result<_, _>>()?;
        let filter = match &call.params.filter {
            Some(filter) => Some(parts.value(&self.expression(filter, input)?)?),
            None => None,
        };
        let frame = Frame::of(&call.params.window_frame)?;
        let function = Function { kind, arguments, filter, frame, field };
        parts.add(lowered.partition_by(), function, result)?;
        Ok(as_written(expr).unalias().schema_name().to_string())
    }
}

/// What an [`OverSpec`] is gathered in.
struct Parts {
    own: SchemaRef,
    time: Option<usize>,
    values: Vec<Arc<dyn PhysicalExpr>>,
    fields: Vec<FieldRef>,
    windows: Vec<WindowSpec>,
    /// Columns that are among the keys of every window: rows that differ in them never meet.
    keys: Option<Vec<usize>>,
}

impl Parts {
    fn argument(&mut self, expr: &Arc<dyn PhysicalExpr>) -> Result<Argument, StreamError> {
        match expr.downcast_ref::<Literal>() {
            Some(literal) => Ok(Argument::Constant(literal.value().to_array()?)),
            None => Ok(Argument::Value(self.value(expr)?)),
        }
    }

    /// The place of an expression among the values that are kept.
    fn value(&mut self, expr: &Arc<dyn PhysicalExpr>) -> Result<usize, StreamError> {
        if let Some(place) = self.values.iter().position(|value| value.as_ref() == expr.as_ref()) {
            return Ok(place);
        }
        self.fields.push(Field::new(format!("value_{}", self.values.len()), expr.data_type(&self.own)?, true).into());
        self.values.push(expr.clone());
        Ok(self.values.len() - 1)
    }

    fn add(&mut self, partition_by: &[Arc<dyn PhysicalExpr>], function: Function, result: usize) -> Result<(), StreamError> {
        let keys = partition_by.iter().map(|key| self.value(within_key(key))).collect::<Result<Vec<_>, _>>()?;
        let mut columns: Vec<usize> = partition_by.iter().map(within_key).filter_map(column_of).collect();
        if let Some(common) = self.keys.take() {
            columns.retain(|column| common.contains(column));
        }
        self.keys = Some(columns);
        match self.windows.iter_mut().find(|window| window.keys == keys) {
            Some(window) => {
                window.functions.push(function);
                window.results.push(result);
            }
            None => self.windows.push(WindowSpec { keys, functions: vec![function], results: vec![result] }),
        }
        Ok(())
    }
}

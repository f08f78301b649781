//! The groups of one window with their accumulators: what both halves of a windowed aggregate are made of.
//!
//! The accumulators are DataFusion's own, so that stream and batch share not only the meaning but the code.
//! `update` takes rows, `merge` takes partial states, `drain_*` hands out everything and leaves the table empty.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::compute::{cast, prep_null_mask_filter};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::GroupsAccumulatorAdapter;

use crate::StreamError;
use crate::fault::evaluate;

/// One aggregate of a query: its function and its `FILTER (WHERE …)`.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// Function, arguments, name and type of the result.
    pub function: Arc<AggregateFunctionExpr>,
    /// Only rows for which this is true count.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

impl Aggregate {
    /// Whether the result can differ with the order of the rows. What is not known not to counts as dependent.
    pub fn depends_on_order(&self) -> bool {
        let exact = |t: &DataType| t.is_integer() || matches!(t, DataType::Decimal128(..) | DataType::Decimal256(..));
        match self.function.fun().name() {
            "count" | "min" | "max" | "approx_distinct" | "bool_and" | "bool_or" | "bit_and" | "bit_or" | "bit_xor" => false,
            "sum" => !exact(self.function.field().data_type()),
            _ => true,
        }
    }
}

/// What a [`GroupTable`] is made for; shared by all tables of an operator.
#[derive(Debug, Clone)]
pub struct GroupSpec {
    /// Type of each key column.
    pub keys: Vec<FieldRef>,
    /// The aggregates, in output order.
    pub aggregates: Vec<Aggregate>,
}

impl GroupSpec {
    /// Key columns followed by the partial states of all aggregates.
    pub fn state_fields(&self) -> Result<Vec<FieldRef>, StreamError> {
        let mut fields = self.keys.clone();
        for (i, aggregate) in self.aggregates.iter().enumerate() {
            for (j, field) in aggregate.function.state_fields()?.into_iter().enumerate() {
                fields.push(Arc::new(Field::new(format!("state_{i}_{j}"), field.data_type().clone(), true)));
            }
        }
        Ok(fields)
    }
}

/// What a [`GroupTable`] takes of some rows: computed before anything is added, since a row may fail.
pub struct Inputs {
    rows: usize,
    keys: Vec<ArrayRef>,
    /// Arguments and filter of each aggregate.
    aggregates: Vec<(Vec<ArrayRef>, Option<BooleanArray>)>,
}

impl GroupSpec {
    /// Computes keys, arguments and filters over a batch.
    pub fn inputs(&self, keys: &[Arc<dyn PhysicalExpr>], batch: &RecordBatch) -> Result<Inputs, StreamError> {
        let key = |(key, field): (&Arc<dyn PhysicalExpr>, &FieldRef)| evaluate(key, batch, || format!("GROUP BY '{}'", field.name()));
        let keys = keys.iter().zip(&self.keys).map(key).collect::<Result<_, _>>()?;
        let aggregates = self.aggregates.iter().map(|aggregate| {
            let argument = |argument: &Arc<dyn PhysicalExpr>| evaluate(argument, batch, || format!("within {}", aggregate.function.name()));
            let arguments = aggregate.function.expressions().iter().map(argument).collect::<Result<Vec<_>, _>>()?;
            let filter = match &aggregate.filter {
                Some(filter) => {
                    let mask = evaluate(filter, batch, || format!("FILTER of {}", aggregate.function.name()))?;
                    Some(prep_null_mask_filter_if_needed(mask.as_boolean()))
                }
                None => None,
            };
            Ok((arguments, filter))
        });
        Ok(Inputs { rows: batch.num_rows(), keys, aggregates: aggregates.collect::<Result<_, StreamError>>()? })
    }
}

/// Groups by key, each with its accumulators.
pub struct GroupTable {
    spec: Arc<GroupSpec>,
    values: Option<Box<dyn GroupValues>>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    groups: Vec<usize>,
    started: bool,
}

impl GroupTable {
    /// An empty table.
    pub fn new(spec: Arc<GroupSpec>) -> Result<Self, StreamError> {
        let values = if spec.keys.is_empty() {
            None
        } else {
            let schema: SchemaRef = Schema::new(spec.keys.clone()).into();
            Some(new_group_values(schema, &GroupOrdering::None)?)
        };
        let accumulators = spec.aggregates.iter().map(|a| accumulator(&a.function)).collect::<Result<_, _>>()?;
        Ok(Self { spec, values, accumulators, groups: Vec::new(), started: false })
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<usize, StreamError> {
        self.started |= rows > 0;
        self.groups.clear();
        match &mut self.values {
            Some(values) => {
                values.intern(keys, &mut self.groups)?;
                Ok(values.len())
            }
            None => {
                self.groups.resize(rows, 0);
                Ok(1)
            }
        }
    }

    /// How many groups there are.
    pub fn group_count(&self) -> usize {
        match &self.values {
            Some(values) => values.len(),
            None => usize::from(self.started),
        }
    }

    /// Adds rows.
    pub fn update(&mut self, inputs: &Inputs) -> Result<(), StreamError> {
        let total = self.intern(&inputs.keys, inputs.rows)?;
        for (accumulator, (arguments, filter)) in self.accumulators.iter_mut().zip(&inputs.aggregates) {
            accumulator.update_batch(arguments, &self.groups, filter.as_ref(), total)?;
        }
        Ok(())
    }

    /// Adds partial states as [`GroupTable::drain_state`] gave them out: key columns, then state columns.
    pub fn merge(&mut self, columns: &[ArrayRef]) -> Result<(), StreamError> {
        let keys = self.spec.keys.len();
        let rows = columns.first().map_or(0, |c| c.len());
        let total = self.intern(&columns[..keys], rows)?;
        let mut at = keys;
        for (aggregate, accumulator) in self.spec.aggregates.iter().zip(&mut self.accumulators) {
            let width = aggregate.function.state_fields()?.len();
            accumulator.merge_batch(&columns[at..at + width], &self.groups, total)?;
            at += width;
        }
        Ok(())
    }

    /// Takes all groups out as key columns followed by partial states.
    pub fn drain_state(&mut self) -> Result<Vec<ArrayRef>, StreamError> {
        let mut columns = self.drain_keys()?;
        for accumulator in &mut self.accumulators {
            columns.extend(accumulator.state(EmitTo::All)?);
        }
        self.started = false;
        Ok(columns)
    }

    /// Takes all groups out as key columns followed by results.
    pub fn drain_results(&mut self) -> Result<Vec<ArrayRef>, StreamError> {
        let mut columns = self.drain_keys()?;
        for (aggregate, accumulator) in self.spec.aggregates.iter().zip(&mut self.accumulators) {
            let result = accumulator.evaluate(EmitTo::All)?;
            let declared = aggregate.function.field().data_type().clone();
            columns.push(if *result.data_type() == declared { result } else { cast(&result, &declared)? });
        }
        self.started = false;
        Ok(columns)
    }

    /// A copy of the state as columns; the table goes on as if nothing had happened.
    ///
    /// Accumulators can only hand their state out, not show it, so the copy is merged back into new ones.
    pub fn copy_state(&mut self) -> Result<Vec<ArrayRef>, StreamError> {
        let columns = self.drain_state()?;
        *self = Self::new(self.spec.clone())?;
        self.merge(&columns)?;
        Ok(columns)
    }

    fn drain_keys(&mut self) -> Result<Vec<ArrayRef>, StreamError> {
        match &mut self.values {
            Some(values) => Ok(values.emit(EmitTo::All)?),
            None => Ok(Vec::new()),
        }
    }
}

fn prep_null_mask_filter_if_needed(mask: &BooleanArray) -> BooleanArray {
    if arrow::array::Array::null_count(mask) > 0 { prep_null_mask_filter(mask) } else { mask.clone() }
}

fn accumulator(function: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>, StreamError> {
    if function.groups_accumulator_supported() {
        return Ok(function.create_groups_accumulator()?);
    }
    let function = function.clone();
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
}

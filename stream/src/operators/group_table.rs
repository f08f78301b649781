//! The groups of one window with their accumulators: what both halves of a windowed aggregate are made of.
//!
//! The accumulators are DataFusion's own, so that stream and batch share not only the meaning but the code.
//! `update` takes rows, `merge` takes partial states, `drain_*` hands out everything and leaves the table empty. `save` says what a snapshot has to
//! write of it.

mod resting;

use std::cell::Cell;
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

use self::resting::{Resting, Woken, latest};
use crate::StreamError;
use crate::budget::Aside;
use crate::fault::evaluate;

/// A snapshot writes a table of up to so many groups as a whole. Of a larger one only the groups that rows came for since the last snapshot.
pub const WHOLE_GROUPS_MAX: usize = 4_096;

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
    /// The groups that are not in accumulators. `None`: all are.
    resting: Option<Resting>,
    /// What it takes, until it changes.
    bytes: Cell<Option<usize>>,
}

/// What a snapshot has to write of a table: keys, then states.
pub enum Saved {
    /// All groups.
    Whole(Vec<ArrayRef>),
    /// Groups that are in the place of what was written of them before, if there are any.
    Some(Option<Vec<ArrayRef>>),
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
        let accumulators = new_accumulators(&spec)?;
        Ok(Self { spec, values, accumulators, groups: Vec::new(), started: false, resting: None, bytes: Cell::new(None) })
    }

    /// Finds the accumulators of rows with these keys; says how many accumulators there are.
    fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<usize, StreamError> {
        self.started |= rows > 0;
        self.bytes.set(None);
        self.groups.clear();
        let Some(values) = &mut self.values else {
            self.groups.resize(rows, 0);
            return Ok(1);
        };
        values.intern(keys, &mut self.groups)?;
        let Some(resting) = &mut self.resting else { return Ok(values.len()) };
        let woken = resting.wake(&mut self.groups, values.len(), keys)?;
        let total = resting.awake_count();
        if let Some(Woken { states, at }) = woken {
            merge_states(&self.spec, &mut self.accumulators, &states, &at, total)?;
        }
        Ok(total)
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
        merge_states(&self.spec, &mut self.accumulators, &columns[keys..], &self.groups, total)
    }

    /// Takes all groups out as key columns followed by partial states.
    pub fn drain_state(&mut self) -> Result<Vec<ArrayRef>, StreamError> {
        let mut columns = self.drain_keys()?;
        let states = self.awake_states()?;
        match self.resting.take() {
            Some(resting) => columns.extend(resting.all_states(states, columns.len())?),
            None => columns.extend(states),
        }
        self.started = false;
        Ok(columns)
    }

    fn awake_states(&mut self) -> Result<Vec<ArrayRef>, StreamError> {
        let mut states = Vec::new();
        for accumulator in &mut self.accumulators {
            states.extend(accumulator.state(EmitTo::All)?);
        }
        Ok(states)
    }

    /// Takes all groups out as key columns followed by results.
    pub fn drain_results(&mut self) -> Result<Vec<ArrayRef>, StreamError> {
        if self.resting.is_some() {
            let columns = self.drain_state()?;
            *self = Self::new(self.spec.clone())?;
            self.merge(&columns)?;
        }
        let mut columns = self.drain_keys()?;
        for (aggregate, accumulator) in self.spec.aggregates.iter().zip(&mut self.accumulators) {
            let result = accumulator.evaluate(EmitTo::All)?;
            let declared = aggregate.function.field().data_type().clone();
            columns.push(if *result.data_type() == declared { result } else { cast(&result, &declared)? });
        }
        self.started = false;
        Ok(columns)
    }

    /// What a snapshot has to write; the table goes on as if nothing had happened. Groups that rest from now on do so as the run `id`.
    ///
    /// Accumulators can only hand their state out, not show it, so what is not to rest is merged back into new ones.
    pub fn save(&mut self, id: u32) -> Result<Saved, StreamError> {
        self.bytes.set(None);
        let group_count = self.group_count();
        if let Some(mut resting) = self.resting.take() {
            let columns = if resting.awake_count() > 0 {
                let states = self.awake_states()?;
                self.accumulators = new_accumulators(&self.spec)?;
                Some(resting.rest(id, states)?)
            } else {
                None
            };
            self.resting = Some(resting);
            return Ok(Saved::Some(columns));
        }
        if self.values.is_some() && group_count > WHOLE_GROUPS_MAX {
            let columns = self.drain_state()?;
            *self = Self::new(self.spec.clone())?;
            if let Some(values) = &mut self.values {
                values.intern(&columns[..self.spec.keys.len()], &mut self.groups)?;
            }
            self.started = true;
            self.resting = Some(Resting::all(id, columns.clone(), group_count));
            return Ok(Saved::Whole(columns));
        }
        let columns = self.drain_state()?;
        *self = Self::new(self.spec.clone())?;
        self.merge(&columns)?;
        Ok(Saved::Whole(columns))
    }

    /// How many groups of the run `id` have been written again since, or are about to be.
    pub fn dead(&self, id: u32) -> usize {
        self.resting.as_ref().map_or(0, |resting| resting.dead(id))
    }

    /// Makes one run, `id`, of several: what still rests there, as key columns followed by states.
    pub fn join(&mut self, runs: &[u32], id: u32) -> Result<Option<Vec<ArrayRef>>, StreamError> {
        match &mut self.resting {
            Some(resting) => resting.join(runs, id),
            None => Ok(None),
        }
    }

    /// Puts states aside that rest, until so many bytes are free; gives how many are.
    pub fn put_aside(&mut self, bytes: usize, aside: &dyn Aside) -> Result<usize, StreamError> {
        self.bytes.set(None);
        self.resting.as_mut().map_or(Ok(0), |resting| resting.put_aside(bytes, aside))
    }

    /// How many bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        let bytes = self.bytes.get().unwrap_or_else(|| {
            let accumulators: usize = self.accumulators.iter().map(|accumulator| accumulator.size()).sum();
            let resting = self.resting.as_ref().map_or(0, Resting::bytes);
            accumulators + resting + self.values.as_ref().map_or(0, |values| values.size())
        });
        self.bytes.set(Some(bytes));
        bytes
    }

    fn drain_keys(&mut self) -> Result<Vec<ArrayRef>, StreamError> {
        match &mut self.values {
            Some(values) => Ok(values.emit(EmitTo::All)?),
            None => Ok(Vec::new()),
        }
    }
}

/// What counts of several pieces of one segment, as one: a group in a later piece is in the place of the same in an earlier one.
pub fn as_one(spec: &GroupSpec, mut pieces: Vec<Vec<ArrayRef>>) -> Result<Vec<ArrayRef>, StreamError> {
    if pieces.len() <= 1 || spec.keys.is_empty() {
        return Ok(pieces.pop().unwrap_or_default());
    }
    let schema: SchemaRef = Schema::new(spec.keys.clone()).into();
    let mut values = new_group_values(schema, &GroupOrdering::None)?;
    let mut groups = Vec::with_capacity(pieces.len());
    for piece in &pieces {
        let mut of_piece = Vec::new();
        values.intern(&piece[..spec.keys.len()], &mut of_piece)?;
        groups.push(of_piece);
    }
    latest(&pieces, &groups)
}

fn merge_states(
    spec: &GroupSpec,
    accumulators: &mut [Box<dyn GroupsAccumulator>],
    states: &[ArrayRef],
    at: &[usize],
    total: usize,
) -> Result<(), StreamError> {
    let mut from = 0;
    for (aggregate, accumulator) in spec.aggregates.iter().zip(accumulators) {
        let width = aggregate.function.state_fields()?.len();
        accumulator.merge_batch(&states[from..from + width], at, total)?;
        from += width;
    }
    Ok(())
}

fn new_accumulators(spec: &GroupSpec) -> Result<Vec<Box<dyn GroupsAccumulator>>, StreamError> {
    spec.aggregates.iter().map(|aggregate| accumulator(&aggregate.function)).collect()
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

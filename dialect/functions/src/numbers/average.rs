//! `avg` of decimals, whose result has four more places than they: one with too many digits for that is an error that says so.

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::is_decimal;
use crate::sql_type;

/// How an average is called, and what it must fit; `None` if it always does.
#[derive(Debug, Clone)]
pub(super) struct Target {
    name: String,
    data_type: DataType,
}

impl Target {
    pub(super) fn of(args: &AccumulatorArgs) -> Option<Self> {
        let data_type = args.return_field.data_type();
        is_decimal(data_type).then(|| Self { name: args.name.to_owned(), data_type: data_type.clone() })
    }

    fn said(&self, _: DataFusionError) -> DataFusionError {
        let (name, wanted) = (&self.name, sql_type(&self.data_type));
        exec_datafusion_err!(
            "{name} does not fit {wanted}: an average has four places more than its values; average doubles, avg(CAST(… AS DOUBLE)), or fewer digits"
        )
    }
}

/// DataFusion's accumulator for all rows or a frame.
#[derive(Debug)]
pub(super) struct Average(pub(super) Box<dyn Accumulator>, pub(super) Target);

impl Accumulator for Average {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update_batch(values)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.0.supports_retract_batch()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.evaluate().map_err(|error| self.1.said(error))
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}

/// DataFusion's accumulator for groups.
pub(super) struct GroupedAverage(pub(super) Box<dyn GroupsAccumulator>, pub(super) Target);

impl GroupsAccumulator for GroupedAverage {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total_groups: usize) -> Result<()> {
        self.0.update_batch(values, groups, filter, total_groups)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.0.merge_batch(states, groups, total_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.0.evaluate(emit_to).map_err(|error| self.1.said(error))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.0.state(emit_to)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.0.convert_to_state(values, filter)
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}

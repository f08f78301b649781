//! `avg` of decimals, whose result has four more places than they: one with too many digits for that is an error that says so.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::finished::Finish;
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

impl Finish for Target {
    fn result(&self, accumulator: &mut dyn Accumulator) -> Result<ScalarValue> {
        accumulator.evaluate().map_err(|error| self.said(error))
    }

    fn results(&self, accumulator: &mut dyn GroupsAccumulator, emit_to: EmitTo) -> Result<ArrayRef> {
        accumulator.evaluate(emit_to).map_err(|error| self.said(error))
    }
}

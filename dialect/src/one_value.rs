//! A subquery that is used as a value has one row: a second is an error, found while the query runs.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// `value`, or an error where `rows`, how many rows the subquery has, is above one.
pub(crate) fn one_value(rows: Expr, value: Expr) -> Expr {
    ScalarUDF::new_from_impl(OneValue { signature: Signature::any(2, Volatility::Immutable) }).call(vec![rows, value])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OneValue {
    signature: Signature,
}

impl ScalarUDFImpl for OneValue {
    fn name(&self) -> &str {
        "one_value"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[1].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = ColumnarValue::values_to_arrays(&args.args)?;
        if values[0].as_primitive::<Int64Type>().iter().flatten().any(|rows| rows > 1) {
            return exec_err!("a subquery that stands for a value has more than one row: add LIMIT 1, or take max(…) of it");
        }
        Ok(ColumnarValue::Array(Arc::clone(&values[1])))
    }
}

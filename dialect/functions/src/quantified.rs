//! `value op ANY (list)` and `value op ALL (list)`, as `array_any(value, 'op', list)` and `array_all(value, 'op', list)`: unknown where a NULL in the
//! list, or as the value, leaves it open. DataFusion compares with the least and the greatest of the list, which forgets NULL.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, make_comparator};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use crate::far_times::one_time;
use crate::numbers::{interval_lengths, one_key};
use crate::{columns, result, sql_type};

/// Whether one element decides, or all of them must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Quantifier {
    Any,
    All,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Quantified {
    quantifier: Quantifier,
    signature: Signature,
}

impl Quantified {
    pub(super) fn new(quantifier: Quantifier) -> Self {
        Self { quantifier, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Quantified {
    fn name(&self) -> &str {
        match self.quantifier {
            Quantifier::Any => "array_any",
            Quantifier::All => "array_all",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [value, operator, list] = arguments else { return plan_err!("ANY and ALL compare a value with a list") };
        let element = match list {
            DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => field.data_type(),
            DataType::Null => &DataType::Null,
            // It is refused by its name below.
            _ => return Ok(arguments.to_vec()),
        };
        let common = match one_time(&[value.clone(), element.clone()]) {
            _ if value == element => Some(value.clone()),
            Some(time) => Some(time),
            None => comparison_coercion(value, element),
        };
        let Some(common) = common else {
            return plan_err!("a value of type {} cannot be compared with a list of {}", sql_type(value), sql_type(element));
        };
        Ok(vec![common.clone(), operator.clone(), DataType::List(Arc::new(Field::new_list_field(common, true)))])
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [_, _, list] if list.is_list() || list.is_null() => Ok(DataType::Boolean),
            [_, _, other] => plan_err!("ANY and ALL take a list or a subquery, and this is {}", sql_type(other)),
            _ => plan_err!("ANY and ALL compare a value with a list"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(holds) = args.args.get(1).and_then(operator) else { return exec_err!("ANY and ALL take =, <>, <, <=, > or >=") };
        let (columns, constant) = columns(&args)?;
        let lists = cast(&columns[2], &list_of(columns[0].data_type()))?;
        result(Arc::new(compared(&comparable(&columns[0])?, lists.as_list(), holds, self.quantifier)?), constant)
    }
}

fn list_of(element: &DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(element.clone(), true)))
}

/// What the operator says of the order of two values.
fn operator(written: &ColumnarValue) -> Option<fn(Ordering) -> bool> {
    let ColumnarValue::Scalar(written) = written else { return None };
    Some(match written.try_as_str()?? {
        "=" => Ordering::is_eq,
        "<>" => Ordering::is_ne,
        "<" => Ordering::is_lt,
        "<=" => Ordering::is_le,
        ">" => Ordering::is_gt,
        ">=" => Ordering::is_ge,
        _ => return None,
    })
}

/// Values whose order is that of SQL.
fn comparable(values: &ArrayRef) -> Result<ArrayRef> {
    match values.data_type() {
        DataType::Interval(_) => interval_lengths(values),
        _ => Ok(one_key(values)),
    }
}

fn compared(values: &ArrayRef, lists: &ListArray, holds: fn(Ordering) -> bool, quantifier: Quantifier) -> Result<BooleanArray> {
    let elements = comparable(lists.values())?;
    // Rows of NULL's own type have no order, and no answer.
    let compare = if values.data_type().is_null() { None } else { Some(make_comparator(values, &elements, SortOptions::default())?) };
    let answer = |row: usize| {
        if lists.is_null(row) {
            return None;
        }
        let (start, end) = (lists.value_offsets()[row] as usize, lists.value_offsets()[row + 1] as usize);
        let mut open = false;
        for element in start..end {
            match &compare {
                Some(compare) if values.is_valid(row) && elements.is_valid(element) => {
                    if holds(compare(row, element)) == (quantifier == Quantifier::Any) {
                        return Some(quantifier == Quantifier::Any);
                    }
                }
                _ => open = true,
            }
        }
        (!open).then_some(quantifier == Quantifier::All)
    };
    Ok((0..lists.len()).map(answer).collect())
}

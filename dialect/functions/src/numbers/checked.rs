//! `+`, `-`, `*` and unary minus of whole numbers and decimals, `/` of decimals: a result that does not fit its type is an error, where DataFusion
//! would wrap it round or keep a digit too many.
//!
//! The rule replaces the operators by functions once types are settled, so that everything which is computed from there on, constants that
//! the optimizer folds among them, is checked. The functions keep the names of columns as they would be; [`super::as_written`] gives the operators back.

use std::fmt::Display;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Datum, PrimitiveArray, Scalar};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::numeric;
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, DecimalType, Field, FieldRef, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::sql_type;
use crate::{null_of_null, result as result_of};

static ADD: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Checked::function(Op::Add));
static SUBTRACT: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Checked::function(Op::Subtract));
static MULTIPLY: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Checked::function(Op::Multiply));
static DIVIDE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Checked::function(Op::Divide));
static NEGATE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Checked::function(Op::Negate));

/// An expression whose types are settled with functions in the place of operators that can overflow. Its parts have been rewritten before.
pub(super) fn checked(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let own = Op::of(op);
            // Where one side's type is known the other's follows; that of a long chain would have to be looked for at its far end.
            let Some(own) = own else { return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))) };
            let known = if is_arithmetic(&right) { &left } else { &right };
            if !own.overflows(&end_type(known, schema)) || !own.overflows(&end_type(&left, schema)) {
                return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })));
            }
            Ok(Transformed::yes(call(own, vec![*left, *right])))
        }
        Expr::Negative(inner) if end_type(&inner, schema).is_signed_integer() => Ok(Transformed::yes(call(Op::Negate, vec![*inner]))),
        other => Ok(Transformed::no(other)),
    }
}

/// An expression with operators in the place of the functions that check them.
pub(super) fn as_written(expr: Expr) -> Expr {
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, mut args }) if op_of(&func).is_some() => {
            match (op_of(&func).and_then(Op::operator), args.pop(), args.pop()) {
                (Some(op), Some(right), Some(left)) => Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))),
                (None, Some(inner), None) => Expr::Negative(Box::new(inner)),
                (_, right, left) => Expr::ScalarFunction(ScalarFunction { func, args: left.into_iter().chain(right).collect() }),
            }
        }
        other => other,
    }
}

fn call(op: Op, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction { func: op.function().clone(), args })
}

fn op_of(function: &ScalarUDF) -> Option<Op> {
    let inner: &dyn ScalarUDFImpl = function.inner().as_ref();
    inner.downcast_ref::<Checked>().map(|checked| checked.op)
}

fn is_arithmetic(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(_) => true,
        Expr::ScalarFunction(call) => op_of(&call.func).is_some(),
        _ => false,
    }
}

/// The type of an expression. Whole numbers have one type throughout a chain of operators, so its near end tells.
fn end_type(expr: &Expr, schema: &DFSchema) -> DataType {
    let mut end = expr;
    while let Expr::ScalarFunction(call) = end
        && op_of(&call.func).is_some()
        && let Some(first) = call.args.first()
    {
        end = first;
    }
    super::type_of(end, schema)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Op {
    Add,
    Subtract,
    Multiply,
    Divide,
    Negate,
}

impl Op {
    fn of(operator: Operator) -> Option<Self> {
        match operator {
            Operator::Plus => Some(Self::Add),
            Operator::Minus => Some(Self::Subtract),
            Operator::Multiply => Some(Self::Multiply),
            Operator::Divide => Some(Self::Divide),
            _ => None,
        }
    }

    fn operator(self) -> Option<Operator> {
        match self {
            Self::Add => Some(Operator::Plus),
            Self::Subtract => Some(Operator::Minus),
            Self::Multiply => Some(Operator::Multiply),
            Self::Divide => Some(Operator::Divide),
            Self::Negate => None,
        }
    }

    fn function(self) -> &'static Arc<ScalarUDF> {
        match self {
            Self::Add => &ADD,
            Self::Subtract => &SUBTRACT,
            Self::Multiply => &MULTIPLY,
            Self::Divide => &DIVIDE,
            Self::Negate => &NEGATE,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Add => "checked_add",
            Self::Subtract => "checked_subtract",
            Self::Multiply => "checked_multiply",
            Self::Divide => "checked_divide",
            Self::Negate => "checked_negate",
        }
    }

    /// Whether results over operands of a type can fail to fit. Whole numbers that are divided are checked as it is.
    fn overflows(self, data_type: &DataType) -> bool {
        match data_type {
            DataType::Decimal128(..) => true,
            other => other.is_integer() && self != Self::Divide,
        }
    }

    fn said(self, left: impl Display, right: impl Display, result: &DataType) -> ArrowError {
        let what = match self.operator() {
            Some(operator) => format!("{left} {operator} {right}"),
            None => format!("-({left})"),
        };
        let result = match result {
            DataType::Decimal128(..) => {
                format!("{}: the result has more digits; cast to fewer digits first: CAST(… AS DECIMAL(18, 2))", sql_type(result))
            }
            other => {
                format!("{}: the result is out of its range; cast a side to a wider type first: CAST(… AS DECIMAL(38, 0))", sql_type(other))
            }
        };
        ArrowError::ComputeError(format!("{what} does not fit {result}"))
    }
}

/// See the module documentation.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    op: Op,
    signature: Signature,
}

impl Checked {
    fn function(op: Op) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::new_from_impl(Self { op, signature: Signature::user_defined(Volatility::Immutable) }))
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.op.name()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(match (self.op.operator(), args) {
            (Some(operator), [left, right]) => format!("{} {operator} {}", left.schema_name(), right.schema_name()),
            (_, [inner, ..]) => format!("(- {})", inner.schema_name()),
            _ => self.name().to_owned(),
        })
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Types are settled when the function takes the operator's place.
    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arguments.to_vec())
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match (self.op.operator(), arguments) {
            (Some(operator), [left, right]) => BinaryTypeCoercer::new(left, &operator, right).get_result_type(),
            (None, [inner]) => Ok(inner.clone()),
            _ => internal_err!("{} of {} arguments", self.name(), arguments.len()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let Some(null) = null_of_null(&args) {
            return null;
        }
        let result = args.return_field.data_type();
        match args.args.as_slice() {
            [inner] => negated(inner, result),
            [left, right] if matches!(result, DataType::Decimal128(..)) => of_decimals(self.op, left, right, result),
            [left, right] => of_integers(self.op, left, right, result),
            _ => internal_err!("{} of {} arguments", self.name(), args.args.len()),
        }
    }
}

/// One side of an operator: a column, or one value for all rows, which may be NULL.
enum Side<'a, T: ArrowPrimitiveType> {
    Column(&'a PrimitiveArray<T>),
    Value(Option<T::Native>),
}

impl<'a, T: ArrowPrimitiveType> Side<'a, T> {
    fn at(&self, row: usize) -> Option<T::Native> {
        match self {
            Self::Column(column) => Some(column.value(row)),
            Self::Value(value) => *value,
        }
    }

    fn of(column: &'a ArrayRef, is_constant: bool) -> Self {
        let column = column.as_primitive::<T>();
        if is_constant { Self::Value(column.is_valid(0).then(|| column.value(0))) } else { Self::Column(column) }
    }
}

/// A constant as an array of one row.
fn rows(value: &ColumnarValue) -> Result<(ArrayRef, bool)> {
    Ok(match value {
        ColumnarValue::Array(column) => (column.clone(), false),
        ColumnarValue::Scalar(constant) => (constant.to_array()?, true),
    })
}

fn of_integers(op: Op, left: &ColumnarValue, right: &ColumnarValue, result: &DataType) -> Result<ColumnarValue> {
    let ((left, left_constant), (right, right_constant)) = (rows(left)?, rows(right)?);
    macro_rules! of {
        ($type:ty) => {{
            let sides = (Side::<$type>::of(&left, left_constant), Side::<$type>::of(&right, right_constant));
            let said = |a, b| op.said(a, b, result);
            match op {
                Op::Subtract => computed(sides, |a, b| a.overflowing_sub(b), said),
                Op::Multiply => computed(sides, |a, b| a.overflowing_mul(b), said),
                _ => computed(sides, |a, b| a.overflowing_add(b), said),
            }
        }};
    }
    let values: ArrayRef = match result {
        DataType::Int8 => Arc::new(of!(Int8Type)?),
        DataType::Int16 => Arc::new(of!(Int16Type)?),
        DataType::Int32 => Arc::new(of!(Int32Type)?),
        DataType::Int64 => Arc::new(of!(Int64Type)?),
        DataType::UInt8 => Arc::new(of!(UInt8Type)?),
        DataType::UInt16 => Arc::new(of!(UInt16Type)?),
        DataType::UInt32 => Arc::new(of!(UInt32Type)?),
        DataType::UInt64 => Arc::new(of!(UInt64Type)?),
        other => return internal_err!("{} of {other}", op.name()),
    };
    result_of(values, left_constant && right_constant)
}

fn computed<T: ArrowPrimitiveType>(
    sides: (Side<T>, Side<T>),
    op: impl Fn(T::Native, T::Native) -> (T::Native, bool),
    said: impl Fn(T::Native, T::Native) -> ArrowError,
) -> Result<PrimitiveArray<T>, ArrowError> {
    let mut overflowed = false;
    let mut of = |a, b| {
        let (value, overflows) = op(a, b);
        overflowed |= overflows;
        value
    };
    let (values, nulls): (Vec<T::Native>, _) = match &sides {
        (Side::Column(a), Side::Column(b)) => {
            let both = a.values().iter().zip(b.values());
            (both.map(|(&a, &b)| of(a, b)).collect(), NullBuffer::union(a.nulls(), b.nulls()))
        }
        (Side::Column(a), Side::Value(Some(b))) => (a.values().iter().map(|&a| of(a, *b)).collect(), a.nulls().cloned()),
        (Side::Value(Some(a)), Side::Column(b)) => (b.values().iter().map(|&b| of(*a, b)).collect(), b.nulls().cloned()),
        (Side::Value(Some(a)), Side::Value(Some(b))) => (vec![of(*a, *b)], None),
        (Side::Column(column), _) | (_, Side::Column(column)) => return Ok(PrimitiveArray::new_null(column.len())),
        (Side::Value(_), Side::Value(_)) => return Ok(PrimitiveArray::new_null(1)),
    };
    if overflowed {
        // What lies below a NULL does not count.
        let valid = |row: &usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*row));
        for row in (0..values.len()).filter(valid) {
            if let (Some(a), Some(b)) = (sides.0.at(row), sides.1.at(row))
                && op(a, b).1
            {
                return Err(said(a, b));
            }
        }
    }
    Ok(PrimitiveArray::new(values.into(), nulls))
}

fn negated(inner: &ColumnarValue, result: &DataType) -> Result<ColumnarValue> {
    let (column, is_constant) = rows(inner)?;
    macro_rules! of {
        ($type:ty) => {{
            let zero = Side::<$type>::Value(Some(0));
            let said = |_, value| Op::Negate.said(value, "", result);
            Arc::new(computed((zero, Side::of(&column, is_constant)), |zero, value| zero.overflowing_sub(value), said)?)
        }};
    }
    let values: ArrayRef = match result {
        DataType::Int8 => of!(Int8Type),
        DataType::Int16 => of!(Int16Type),
        DataType::Int32 => of!(Int32Type),
        DataType::Int64 => of!(Int64Type),
        other => return internal_err!("{} of {other}", Op::Negate.name()),
    };
    result_of(values, is_constant)
}

/// Arrow computes decimals in 128 bits, which hold some numbers of 39 digits.
fn of_decimals(op: Op, left: &ColumnarValue, right: &ColumnarValue, result: &DataType) -> Result<ColumnarValue> {
    let ((left, left_constant), (right, right_constant)) = (rows(left)?, rows(right)?);
    let (a, b): (&dyn Datum, &dyn Datum) =
        (if left_constant { &Scalar::new(left.clone()) } else { &left }, if right_constant { &Scalar::new(right.clone()) } else { &right });
    let values = match op {
        Op::Subtract => numeric::sub(a, b),
        Op::Multiply => numeric::mul(a, b),
        Op::Divide => numeric::div(a, b),
        _ => numeric::add(a, b),
    };
    let said = |row: Option<usize>| {
        let shown = |column: &ArrayRef, is_constant| match row.or(Some(0).filter(|_| is_constant)) {
            Some(row) => array_value_to_string(column, if is_constant { 0 } else { row }).unwrap_or_default(),
            None => "…".to_owned(),
        };
        op.said(shown(&left, left_constant), shown(&right, right_constant), result)
    };
    let values = values.map_err(|error| match error {
        ArrowError::ArithmeticOverflow(_) => said(None),
        other => other,
    })?;
    let decimals = values.as_primitive::<Decimal128Type>();
    if let DataType::Decimal128(DECIMAL128_MAX_PRECISION, _) = result {
        let fits = |value: i128| Decimal128Type::is_valid_decimal_precision(value, DECIMAL128_MAX_PRECISION);
        if !decimals.values().iter().all(|&value| fits(value))
            && let Some(row) = (0..decimals.len()).find(|&row| decimals.is_valid(row) && !fits(decimals.value(row)))
        {
            return Err(said(Some(row)).into());
        }
    }
    result_of(values, left_constant && right_constant)
}

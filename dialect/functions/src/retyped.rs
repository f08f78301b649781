//! Functions of DataFusion's that take further types: `coalesce(ts, '2024-05-06')` reads the text as a time, and of BINARY `length` and `octet_length` count
//! bytes.

use std::sync::Arc;

use arrow::compute::kernels::length::length;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::far_times::one_result;
use crate::{columns, result};

/// A function that takes further types; `None` for any other.
pub fn retyped(function: &ScalarUDF) -> Option<ScalarUDF> {
    let further = match function.name() {
        "coalesce" => Further::Times,
        "character_length" | "octet_length" => Further::Bytes,
        _ => return None,
    };
    let known: &dyn ScalarUDFImpl = function.inner().as_ref();
    if known.downcast_ref::<Retyped>().is_some() {
        return None;
    }
    let signature = Signature::user_defined(Volatility::Immutable);
    Some(ScalarUDF::new_from_impl(Retyped { inner: function.clone(), further, signature }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Further {
    /// Dates and texts beside times, and texts beside dates.
    Times,
    Bytes,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Retyped {
    inner: ScalarUDF,
    further: Further,
    signature: Signature,
}

impl Retyped {
    fn of_bytes(&self, argument: Option<&DataType>) -> bool {
        self.further == Further::Bytes && matches!(argument, Some(DataType::Binary | DataType::LargeBinary))
    }
}

impl ScalarUDFImpl for Retyped {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match (self.further, types) {
            (Further::Times, _) => {
                if let Some(common) = one_result(types) {
                    return Ok(vec![common; types.len()]);
                }
            }
            (Further::Bytes, [DataType::LargeBinary]) => return Ok(types.to_vec()),
            (Further::Bytes, [DataType::Binary | DataType::BinaryView | DataType::FixedSizeBinary(_)]) => {
                return Ok(vec![DataType::Binary]);
            }
            (Further::Bytes, _) => {}
        }
        let fields: Vec<FieldRef> = types.iter().map(|found| Arc::new(Field::new("argument", found.clone(), true))).collect();
        Ok(fields_with_udf(&fields, &self.inner)?.iter().map(|field| field.data_type().clone()).collect())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [found] if self.of_bytes(Some(found)) => Ok(length_of(found)),
            _ => self.inner.return_type(types),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.arg_fields {
            [field] if self.of_bytes(Some(field.data_type())) => {
                Ok(Arc::new(Field::new(self.name(), length_of(field.data_type()), field.is_nullable())))
            }
            _ => self.inner.return_field_from_args(args),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if !self.of_bytes(args.args.first().map(ColumnarValue::data_type).as_ref()) {
            return self.inner.invoke_with_args(args);
        }
        let (columns, constant) = columns(&args)?;
        result(length(columns[0].as_ref())?, constant)
    }

    // From here on all is as DataFusion has it.

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// The type of the lengths of such values.
fn length_of(bytes: &DataType) -> DataType {
    if *bytes == DataType::LargeBinary { DataType::Int64 } else { DataType::Int32 }
}

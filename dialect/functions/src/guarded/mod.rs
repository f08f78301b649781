//! Functions whose result may be far bigger than what they are given: `repeat('x', 600000000)`, `range(0, 1099511627776)`. They work out its size
//! first, and refuse what is too big. Neither a constant that is computed while planning nor the memory of a batch is counted by a pool. Those that
//! compare everything with everything, such as `levenshtein`, work out how long that takes: nothing ends a function that has begun.

mod column;
mod growth;
pub(crate) mod string_agg;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use watershed_message::Message;

use self::column::Column;
use self::growth::{Growth, Work};
use super::ended::Ended;
use super::{folding, room};

/// Bytes of one value.
pub(super) const VALUE_BYTES_MAX: u64 = 64 << 20;
/// Bytes of the values of one batch together.
pub(super) const BATCH_BYTES_MAX: u64 = 256 << 20;
/// Pairs that are compared for one batch; some seconds.
const PAIRS_MAX: u64 = 4_000_000_000;

/// A function that may grow or take long in its guarded form, any other as it is.
pub fn guarded(function: &ScalarUDF) -> Option<ScalarUDF> {
    let (growth, work) = match function.name() {
        "repeat" => (Growth::Repeat, Work::None),
        "lpad" | "rpad" => (Growth::Pad, Work::None),
        "range" => (Growth::Range { inclusive: false }, Work::None),
        "generate_series" => (Growth::Range { inclusive: true }, Work::None),
        "array_repeat" => (Growth::Elements, Work::None),
        "array_resize" => (Growth::Resize, Work::None),
        "concat" | "overlay" | "array_concat" | "array_append" | "array_prepend" | "array_union" | "make_array" | "map" => {
            (Growth::Sum, Work::None)
        }
        "concat_ws" => (Growth::Joined, Work::None),
        "array_to_string" => (Growth::JoinedElements, Work::None),
        "string_to_array" => (Growth::Parts, Work::None),
        "arrays_zip" => (Growth::Zipped, Work::None),
        "array_replace" | "array_replace_n" | "array_replace_all" => (Growth::ReplacedElements, Work::None),
        "replace" => (Growth::Replace, Work::None),
        "translate" => (Growth::Translated, Work::None),
        "encode" => (Growth::Times(2), Work::None),
        "to_char" => (Growth::Format, Work::None),
        "regexp_replace" => (Growth::ReplaceMatches, Work::Search),
        "regexp_match" => (Growth::Groups, Work::Search),
        "regexp_count" | "regexp_instr" => (Growth::None, Work::Search),
        "levenshtein" => (Growth::None, Work::CharacterPairs),
        "array_has_all" | "array_has_any" => (Growth::None, Work::ElementPairs),
        // Of a list that is written out it would make IN, which is NULL where NULL is in it.
        "array_has" => (Growth::None, Work::None),
        _ => return None,
    };
    if is_guarded(function) {
        return None;
    }
    Some(ScalarUDF::new_from_impl(Guarded { inner: function.clone(), growth, work }))
}

/// Whether a function works out the size of its result first.
pub fn is_guarded(function: &ScalarUDF) -> bool {
    let inner: &dyn ScalarUDFImpl = function.inner().as_ref();
    inner.downcast_ref::<Guarded>().is_some()
}

/// The call of a function that a planner of DataFusion's has put into a plan, such as `array_concat` for `a || b`.
pub(super) fn call(call: ScalarFunction) -> (Expr, bool) {
    let ScalarFunction { func, args } = call;
    match guarded(&func) {
        Some(guarded) => (Expr::ScalarFunction(ScalarFunction { func: std::sync::Arc::new(guarded), args }), true),
        None => (Expr::ScalarFunction(ScalarFunction { func, args }), false),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Guarded {
    inner: ScalarUDF,
    growth: Growth,
    work: Work,
}

// Without `simplify`: what some functions make of themselves there is not guarded.
impl ScalarUDFImpl for Guarded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&args)?;
        // It would take the first format for all rows.
        if self.growth == Growth::Format
            && let [ColumnarValue::Scalar(constant), ColumnarValue::Array(_)] = args.args.as_slice()
        {
            args.args[0] = ColumnarValue::Array(constant.to_array_of_size(args.number_rows)?);
        }
        self.inner.invoke_with_args(args)
    }
}

impl Guarded {
    fn check(&self, args: &ScalarFunctionArgs) -> Result<()> {
        Ended::check(&args.config_options)?;
        let columns = args.args.iter().map(Column::new).collect::<Result<Vec<_>>>()?;
        let is_constant = columns.iter().all(|column| column.constant);
        let rows = if is_constant { 1 } else { args.number_rows };
        let name = self.shown();
        let mut steps = 0_u64;
        for row in 0..if self.work == Work::None { 0 } else { rows } {
            steps = steps.saturating_add(self.work.steps(&columns, row));
        }
        if self.work != Work::Search && steps > PAIRS_MAX {
            return Err(too_long(&name, rows, steps));
        }
        // The sum of all is no less than one of them.
        if self.growth == Growth::Sum && !is_constant {
            let total = columns.iter().fold(0_u64, |sum, column| sum.saturating_add(column.total(rows)));
            if total <= VALUE_BYTES_MAX {
                return room::check(&name, total);
            }
        }
        let mut total = 0_u64;
        for row in 0..if self.growth == Growth::None { 0 } else { rows } {
            let bytes = self.growth.bytes(&columns, row);
            if bytes > VALUE_BYTES_MAX {
                return Err(too_big(&name, "a value", bytes, VALUE_BYTES_MAX));
            }
            total += bytes;
        }
        folding::check(&name, total, steps)?;
        // A constant becomes a column as soon as it is a part of the result.
        let rows = args.number_rows.max(1);
        let all = if is_constant { total.saturating_mul(rows as u64) } else { total };
        if all > BATCH_BYTES_MAX {
            return Err(too_big(&name, &format!("{rows} values"), all, BATCH_BYTES_MAX));
        }
        room::check(&name, all)
    }

    /// Its name in messages.
    fn shown(&self) -> String {
        format!("{}()", self.name())
    }
}

pub(super) fn too_big(name: &str, what: &str, bytes: u64, limit: u64) -> DataFusionError {
    let limit = limit >> 20;
    let made = if bytes == u64::MAX { "more bytes than can be counted".to_owned() } else { format!("{bytes} bytes") };
    let message = Message::new(format!("{name} would make {what} of {made}, and {limit} MiB are the limit"));
    DataFusionError::External(Box::new(message.next("ask for less of it at once")))
}

fn too_long(name: &str, rows: usize, pairs: u64) -> DataFusionError {
    let of = if rows == 1 { String::new() } else { format!(" for {rows} rows") };
    let message = Message::new(format!("{name} would compare {pairs} pairs{of}, and {PAIRS_MAX} are the limit"));
    DataFusionError::External(Box::new(message.next("give it shorter values, or fewer rows at once")))
}

//! `sum`: DataFusion's, but exact or refused. Whole numbers and wide decimals are summed in a type that no number of rows overflows, and
//! a sum that does not fit its type in the end is an error. What the rows come to on the way does not matter, so their order does not.
//!
//! Partial states are of the wide type: DECIMAL(38, 0) for whole numbers, DECIMAL(76, s) for decimals. Decimals of up to 28 digits get ten
//! digits more as a sum, which 10^10 rows do not fill: they and floats are left to DataFusion; floats in frames that move to [`super::frames`].

use std::collections::HashMap;
use std::fmt::Debug;
use std::mem::size_of_val;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Decimal128Type, Decimal256Type, DecimalType, Field, FieldRef, Int64Type,
    UInt64Type, i256,
};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::accumulate::NullState;

use crate::sql_type;

/// Decimals with more digits than this can come to sums of more digits than there are.
const PRECISION_SAFE_MAX: u8 = DECIMAL128_MAX_PRECISION - 10;

/// `$body` with `$kind` as the [`Wide`] that a sum of `$summed` needs; `None` if it needs none.
macro_rules! with_wide {
    ($summed:expr, $kind:ident => $body:expr) => {
        match $summed {
            DataType::Int64 => {
                type $kind = Int64Type;
                $body
            }
            DataType::UInt64 => {
                type $kind = UInt64Type;
                $body
            }
            DataType::Decimal128(precision, _) if *precision > PRECISION_SAFE_MAX => {
                type $kind = Decimal128Type;
                $body
            }
            DataType::Decimal256(..) => {
                type $kind = Decimal256Type;
                $body
            }
            _ => None,
        }
    };
}

/// For all rows, or for a frame that moves; `None` where DataFusion's own will do.
pub(super) fn accumulator(args: &AccumulatorArgs) -> Option<Box<dyn Accumulator>> {
    with_wide!(args.expr_fields[0].data_type(), K => {
        let target = Target::of(args);
        let own: Box<dyn Accumulator> =
            if args.is_distinct { Box::new(Distinct::<K>::new(target)) } else { Box::new(Total::<K>::new(target)) };
        Some(own)
    })
}

/// One sum a group; `None` where DataFusion's own will do.
pub(super) fn groups_accumulator(args: &AccumulatorArgs) -> Option<Box<dyn GroupsAccumulator>> {
    with_wide!(args.expr_fields[0].data_type(), K => Some(Box::new(Groups::<K>::new(Target::of(args)))))
}

/// What the states of these are; `None` where they are as DataFusion keeps them.
pub(super) fn state_fields(args: &StateFieldsArgs) -> Option<Vec<FieldRef>> {
    let summed = args.input_fields[0].data_type();
    if args.is_distinct {
        return None;
    }
    with_wide!(summed, K => Some(vec![Arc::new(Field::new(format_state_name(args.name, "sum"), K::state_type(summed), true))]))
}

/// What a sum must fit.
#[derive(Debug, Clone)]
struct Target {
    name: String,
    data_type: DataType,
    summed: DataType,
}

impl Target {
    fn of(args: &AccumulatorArgs) -> Self {
        let summed = args.expr_fields[0].data_type().clone();
        Self { name: args.name.to_owned(), data_type: args.return_field.data_type().clone(), summed }
    }

    fn narrow<K: Wide>(&self, sum: WideOf<K>) -> Result<K::Native> {
        K::narrow(sum, &self.data_type).ok_or_else(|| {
            let (name, wanted) = (&self.name, sql_type(&self.data_type));
            let way_out = match self.data_type {
                DataType::Int64 | DataType::UInt64 => "sum it as DECIMAL: sum(CAST(… AS DECIMAL(38, 0)))",
                _ => "sum fewer digits, or sum(CAST(… AS DOUBLE)) where 15 digits will do",
            };
            exec_datafusion_err!("{name} does not fit {wanted}: it is {}; {way_out}", self.shown::<K>(sum))
        })
    }

    fn shown<K: Wide>(&self, sum: WideOf<K>) -> String {
        let (precision, scale) = match K::state_type(&self.summed) {
            DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => (precision, scale),
            _ => (DECIMAL256_MAX_PRECISION, 0),
        };
        K::State::format_decimal(sum, precision, scale)
    }
}

type WideOf<K> = <<K as Wide>::State as ArrowPrimitiveType>::Native;

/// A type with a wider one to sum it in.
trait Wide: ArrowPrimitiveType {
    type State: DecimalType + ArrowPrimitiveType;

    fn state_type(summed: &DataType) -> DataType;

    fn widen(value: Self::Native) -> WideOf<Self>;

    /// The sum of values none of which is NULL.
    fn total(values: &[Self::Native]) -> WideOf<Self> {
        values.iter().fold(WideOf::<Self>::ZERO, |sum, &value| sum.add_wrapping(Self::widen(value)))
    }

    /// The sum as the type of the result, if it fits.
    fn narrow(sum: WideOf<Self>, result: &DataType) -> Option<Self::Native>;
}

impl Wide for Int64Type {
    type State = Decimal128Type;

    fn state_type(_: &DataType) -> DataType {
        DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0)
    }

    #[inline]
    fn widen(value: i64) -> i128 {
        value.into()
    }

    /// Halves apart, which a processor adds several at a time.
    fn total(values: &[i64]) -> i128 {
        let of = |part: &[i64]| {
            let (high, low) = part.iter().fold((0, 0), |(high, low), &value| (high + (value >> 32), low + i64::from(value as u32)));
            (i128::from(high) << 32) + i128::from(low)
        };
        // So few halves of 32 bits do not fill 64.
        values.chunks(1 << 30).map(of).sum()
    }

    fn narrow(sum: i128, _: &DataType) -> Option<i64> {
        sum.try_into().ok()
    }
}

impl Wide for UInt64Type {
    type State = Decimal128Type;

    fn state_type(_: &DataType) -> DataType {
        DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0)
    }

    #[inline]
    fn widen(value: u64) -> i128 {
        value.into()
    }

    fn narrow(sum: i128, _: &DataType) -> Option<u64> {
        sum.try_into().ok()
    }
}

impl Wide for Decimal128Type {
    type State = Decimal256Type;

    fn state_type(summed: &DataType) -> DataType {
        widest(summed)
    }

    #[inline]
    fn widen(value: i128) -> i256 {
        i256::from_i128(value)
    }

    fn narrow(sum: i256, result: &DataType) -> Option<i128> {
        let DataType::Decimal128(precision, scale) = result else { return None };
        sum.to_i128().filter(|sum| Decimal128Type::validate_decimal_precision(*sum, *precision, *scale).is_ok())
    }
}

impl Wide for Decimal256Type {
    type State = Decimal256Type;

    fn state_type(summed: &DataType) -> DataType {
        widest(summed)
    }

    #[inline]
    fn widen(value: i256) -> i256 {
        value
    }

    fn narrow(sum: i256, result: &DataType) -> Option<i256> {
        let DataType::Decimal256(precision, scale) = result else { return None };
        Decimal256Type::validate_decimal_precision(sum, *precision, *scale).is_ok().then_some(sum)
    }
}

fn widest(decimal: &DataType) -> DataType {
    let scale = match decimal {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => *scale,
        _ => 0,
    };
    DataType::Decimal256(DECIMAL256_MAX_PRECISION, scale)
}

/// The sum of all rows, or of those in a frame that moves.
#[derive(Debug)]
struct Total<K: Wide> {
    sum: WideOf<K>,
    /// How many values it is of: 0 means NULL.
    count: u64,
    target: Target,
}

impl<K: Wide> Total<K> {
    fn new(target: Target) -> Self {
        Self { sum: WideOf::<K>::ZERO, count: 0, target }
    }
}

/// The sum of an array's values.
fn total<T: ArrowPrimitiveType, W: ArrowNativeTypeOp>(values: &PrimitiveArray<T>, total: impl Fn(&[T::Native]) -> W) -> W {
    match values.nulls().filter(|nulls| nulls.null_count() > 0) {
        Some(nulls) => nulls.valid_slices().fold(W::ZERO, |sum, (from, to)| sum.add_wrapping(total(&values.values()[from..to]))),
        None => total(values.values()),
    }
}

fn count_of(values: &dyn Array) -> u64 {
    (values.len() - values.null_count()) as u64
}

impl<K: Wide + Debug> Accumulator for Total<K>
where
    WideOf<K>: ArrowNativeTypeOp,
{
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<K>();
        self.sum = self.sum.add_wrapping(total(values, K::total));
        self.count += count_of(values);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<K>();
        self.sum = self.sum.sub_wrapping(total(values, K::total));
        self.count -= count_of(values);
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let values = columns[0].as_primitive::<K::State>();
        self.sum =
            self.sum.add_wrapping(total(values, |states| states.iter().fold(WideOf::<K>::ZERO, |sum, &state| sum.add_wrapping(state))));
        self.count += count_of(values);
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let sum = (self.count > 0).then_some(self.sum);
        Ok(vec![ScalarValue::new_primitive::<K::State>(sum, &K::state_type(&self.target.summed))?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = (self.count > 0).then(|| self.target.narrow::<K>(self.sum)).transpose()?;
        ScalarValue::new_primitive::<K>(sum, &self.target.data_type)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// The sum of the values that differ. Its state is the list of them, as DataFusion keeps it.
#[derive(Debug)]
struct Distinct<K: Wide> {
    /// How often each value is among the rows, so that they can leave again.
    counts: HashMap<K::Native, u64>,
    target: Target,
}

impl<K: Wide> Distinct<K> {
    fn new(target: Target) -> Self {
        Self { counts: HashMap::new(), target }
    }
}

impl<K: Wide + Debug> Accumulator for Distinct<K>
where
    K::Native: std::hash::Hash + Eq,
    WideOf<K>: ArrowNativeTypeOp,
{
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<K>().iter().flatten() {
            *self.counts.entry(value).or_default() += 1;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<K>().iter().flatten() {
            if let Some(count) = self.counts.get_mut(&value) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&value);
                }
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        for list in columns[0].as_list::<i32>().iter().flatten() {
            self.update_batch(&[list])?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = PrimitiveArray::<K>::from_iter_values(self.counts.keys().copied()).with_data_type(self.target.data_type.clone());
        Ok(vec![SingleRowListArrayBuilder::new(Arc::new(values)).build_list_scalar()])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = self.counts.keys().fold(WideOf::<K>::ZERO, |sum, &value| sum.add_wrapping(K::widen(value)));
        let sum = (!self.counts.is_empty()).then(|| self.target.narrow::<K>(sum)).transpose()?;
        ScalarValue::new_primitive::<K>(sum, &self.target.data_type)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.counts.capacity() * (size_of::<K::Native>() + size_of::<u64>() + 1)
    }
}

/// One sum a group.
#[derive(Debug)]
struct Groups<K: Wide> {
    sums: Vec<WideOf<K>>,
    nulls: NullState,
    target: Target,
}

impl<K: Wide> Groups<K> {
    fn new(target: Target) -> Self {
        Self { sums: Vec::new(), nulls: NullState::new(), target }
    }

    fn add<T: ArrowPrimitiveType + Send>(
        &mut self,
        values: &PrimitiveArray<T>,
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
        widen: impl Fn(T::Native) -> WideOf<K> + Send + Sync,
    ) where
        WideOf<K>: ArrowNativeTypeOp,
    {
        self.sums.resize(total_groups, WideOf::<K>::ZERO);
        let sums = self.sums.as_mut_slice();
        self.nulls.accumulate(groups, values, filter, total_groups, |group, value| {
            sums[group] = sums[group].add_wrapping(widen(value));
        });
    }

    fn take(&mut self, emit_to: EmitTo) -> (Vec<WideOf<K>>, Option<NullBuffer>) {
        (emit_to.take_needed(&mut self.sums), self.nulls.build(emit_to))
    }
}

impl<K: Wide + Debug + Send> GroupsAccumulator for Groups<K>
where
    WideOf<K>: ArrowNativeTypeOp,
    K::State: Send,
{
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total_groups: usize) -> Result<()> {
        self.add(values[0].as_primitive::<K>(), groups, filter, total_groups, K::widen);
        Ok(())
    }

    fn merge_batch(&mut self, columns: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.add(columns[0].as_primitive::<K::State>(), groups, None, total_groups, |state| state);
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (sums, nulls) = self.take(emit_to);
        let sums = sums.into_iter().map(|sum| self.target.narrow::<K>(sum)).collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(PrimitiveArray::<K>::new(sums.into(), nulls).with_data_type(self.target.data_type.clone())))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (sums, nulls) = self.take(emit_to);
        let states = PrimitiveArray::<K::State>::new(sums.into(), nulls).with_data_type(K::state_type(&self.target.summed));
        Ok(vec![Arc::new(states)])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<K>();
        let kept = filter.map(|filter| {
            let filter = if filter.null_count() > 0 { prep_null_mask_filter(filter) } else { filter.clone() };
            NullBuffer::new(filter.values().clone())
        });
        let nulls = NullBuffer::union(values.nulls(), kept.as_ref());
        let states: Vec<_> = values.values().iter().map(|&value| K::widen(value)).collect();
        let states = PrimitiveArray::<K::State>::new(states.into(), nulls).with_data_type(K::state_type(&self.target.summed));
        Ok(vec![Arc::new(states)])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<WideOf<K>>() + self.nulls.size()
    }
}

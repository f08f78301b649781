//! `string_agg`, whose text may become as long as all texts of a table together, with something between each two: it stops at the size that a
//! value may have.

use arrow::array::{Array, ArrayRef, BooleanArray};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use datafusion::physical_expr::expressions::Literal;

use super::column::leaves;
use super::{BATCH_BYTES_MAX, VALUE_BYTES_MAX, too_big};

const NAME: &str = "string_agg()";
/// What DISTINCT keeps of each text takes more than a delimiter of so many bytes.
const SHORT_BYTES: u64 = 16;

/// DataFusion's for one group, which knows how long its text becomes.
#[derive(Debug)]
pub(crate) struct Bounded {
    inner: Box<dyn Accumulator>,
    delimiter_bytes: u64,
    is_distinct: bool,
    bytes: u64,
}

impl Bounded {
    pub(crate) fn new(inner: Box<dyn Accumulator>, delimiter_bytes: u64, is_distinct: bool) -> Self {
        Self { inner, delimiter_bytes, is_distinct, bytes: 0 }
    }

    fn add(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(texts) = values.first() else { return Ok(()) };
        // Of texts that come twice DISTINCT keeps one; what it keeps, its size tells.
        let delimiters = if self.is_distinct && self.delimiter_bytes <= SHORT_BYTES { 0 } else { leaves(texts) * self.delimiter_bytes };
        let added = if self.is_distinct { 0 } else { bytes(texts)? };
        self.bytes += added + delimiters;
        let all = if self.is_distinct { self.bytes + self.inner.size() as u64 } else { self.bytes };
        if all > VALUE_BYTES_MAX { Err(too_big(NAME, "a value", all, VALUE_BYTES_MAX)) } else { Ok(()) }
    }
}

impl Accumulator for Bounded {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(values)?;
        self.inner.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.add(states)?;
        self.inner.merge_batch(states)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.inner.evaluate()
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }
}

/// DataFusion's for many groups. The memory pool counts what they keep, after each batch.
pub(crate) struct BoundedGroups {
    inner: Box<dyn GroupsAccumulator>,
    delimiter_bytes: u64,
}

impl BoundedGroups {
    pub(crate) fn new(inner: Box<dyn GroupsAccumulator>, delimiter_bytes: u64) -> Self {
        Self { inner, delimiter_bytes }
    }

    fn check(&self, values: &[ArrayRef]) -> Result<()> {
        let Some(texts) = values.first() else { return Ok(()) };
        let added = bytes(texts)? + texts.len() as u64 * self.delimiter_bytes;
        let what = format!("the texts of {} rows", texts.len());
        if added > BATCH_BYTES_MAX { Err(too_big(NAME, &what, added, BATCH_BYTES_MAX)) } else { Ok(()) }
    }
}

impl GroupsAccumulator for BoundedGroups {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, count: usize) -> Result<()> {
        self.check(values)?;
        self.inner.update_batch(values, groups, filter, count)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        self.check(states)?;
        self.inner.merge_batch(states, groups, count)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        self.inner.evaluate(emit)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        self.inner.state(emit)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.inner.convert_to_state(values, filter)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

/// Bytes of the text between each two.
pub(crate) fn delimiter_bytes(args: &AccumulatorArgs) -> u64 {
    let literal = args.exprs.get(1).and_then(|delimiter| delimiter.downcast_ref::<Literal>());
    literal.and_then(|literal| literal.value().try_as_str().flatten()).map_or(0, |text| text.len() as u64)
}

fn bytes(texts: &ArrayRef) -> Result<u64> {
    Ok(texts.to_data().get_slice_memory_size()? as u64)
}

//! DataFusion's accumulators with results of our own: what they hold, and how they take it up, stays as it is.

use std::borrow::Cow;
use std::fmt::Debug;

use arrow::array::{ArrayRef, BooleanArray};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

/// How a result comes of what an accumulator holds.
pub(super) trait Finish: Debug + Send + Sync + 'static {
    /// What the accumulator of all rows or of a frame is given.
    fn given<'a>(&self, columns: &'a [ArrayRef]) -> Cow<'a, [ArrayRef]> {
        Cow::Borrowed(columns)
    }

    /// The result of all rows, or of a frame, which may go on from here.
    fn result(&self, accumulator: &mut dyn Accumulator) -> Result<ScalarValue>;

    /// The results of groups.
    fn results(&self, accumulator: &mut dyn GroupsAccumulator, emit_to: EmitTo) -> Result<ArrayRef>;
}

/// For all rows or a frame.
#[derive(Debug)]
pub(super) struct Finished<F>(pub(super) Box<dyn Accumulator>, pub(super) F);

impl<F: Finish> Accumulator for Finished<F> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update_batch(&self.1.given(values))
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.retract_batch(&self.1.given(values))
    }

    fn supports_retract_batch(&self) -> bool {
        self.0.supports_retract_batch()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge_batch(&self.1.given(states))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.1.result(self.0.as_mut())
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}

/// For groups.
pub(super) struct FinishedGroups<F>(pub(super) Box<dyn GroupsAccumulator>, pub(super) F);

impl<F: Finish> GroupsAccumulator for FinishedGroups<F> {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total_groups: usize) -> Result<()> {
        self.0.update_batch(values, groups, filter, total_groups)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.0.merge_batch(states, groups, total_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.1.results(self.0.as_mut(), emit_to)
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

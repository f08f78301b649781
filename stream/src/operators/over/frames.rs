//! The rows of one key that frames may still reach, and the results over them.
//!
//! A small frame is computed from its rows each time. For a large one an accumulator is kept that new rows enter and old ones leave, so a row costs
//! the same however long the frame is. What it gives does not depend on what has entered and left before: those of floating-point numbers keep
//! exact sums. So a restart comes to the same digits, and so does a query.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Accumulator;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use watershed_dialect::over::Frame;

use super::history::History;
use crate::StreamError;

/// Frames of up to so many rows are computed from the start each time: for most keys of most streams, which then need no accumulator.
const SMALL_ROWS: usize = 16;

/// What is computed over a frame.
#[derive(Debug, Clone)]
pub enum Kind {
    /// An aggregate.
    Aggregate(Arc<AggregateFunctionExpr>),
    /// The argument in the first row of the frame.
    FirstValue,
    /// The argument in the last row of the frame.
    LastValue,
}

/// An argument of a function.
#[derive(Debug, Clone)]
pub enum Argument {
    /// A value of the history.
    Value(usize),
    /// The same for all rows, as an array of length 1.
    Constant(ArrayRef),
}

/// One `agg(…) FILTER (…) OVER (…)`.
#[derive(Debug, Clone)]
pub struct Function {
    /// What is computed.
    pub kind: Kind,
    /// What from.
    pub arguments: Vec<Argument>,
    /// Only rows in which this value of the history is true count.
    pub filter: Option<usize>,
    /// Which rows.
    pub frame: Frame,
    /// Name and type of the result.
    pub field: FieldRef,
}

impl Function {
    /// How far back rows are needed, in microseconds.
    pub fn keep_us(&self) -> i64 {
        self.frame.from_us
    }

    fn data_type(&self) -> &DataType {
        self.field.data_type()
    }

    fn counts(&self, row: u64, history: &History) -> bool {
        self.filter.is_none_or(|filter| history.is_true(row, filter))
    }

    fn arguments(&self, row: u64, history: &History) -> Vec<ArrayRef> {
        let value = |argument: &Argument| match argument {
            Argument::Value(column) => history.value(row, *column),
            Argument::Constant(value) => value.clone(),
        };
        self.arguments.iter().map(value).collect()
    }

    fn enter(&self, accumulator: &mut dyn Accumulator, row: u64, history: &History) -> Result<(), StreamError> {
        if self.counts(row, history) {
            accumulator.update_batch(&self.arguments(row, history))?;
        }
        Ok(())
    }

    fn leave(&self, accumulator: &mut dyn Accumulator, row: u64, history: &History) -> Result<(), StreamError> {
        if self.counts(row, history) {
            accumulator.retract_batch(&self.arguments(row, history))?;
        }
        Ok(())
    }
}

/// An accumulator over a frame that moves on. Rows are counted from the first row of the key.
struct Sliding {
    accumulator: Box<dyn Accumulator>,
    start: u64,
    end: u64,
}

/// See the module documentation.
#[derive(Default)]
pub struct Frames {
    /// Time and number in the history.
    rows: VecDeque<(i64, u64)>,
    /// How many rows of the key came before these.
    forgotten: u64,
    /// By function; shorter than their list if none is kept.
    sliding: Vec<Option<Box<Sliding>>>,
}

impl Frames {
    /// Adds a row that is not older than those before.
    pub fn push(&mut self, time_us: i64, row: u64) {
        self.rows.push_back((time_us, row));
    }

    /// Whether no frame reaches any row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The result of the function at `place` of a list, for a row of this key at `now_us`. Times do not descend.
    pub fn evaluate(&mut self, function: &Function, place: usize, now_us: i64, history: &History) -> Result<ScalarValue, StreamError> {
        let (from_us, to_us) = (now_us.saturating_sub(function.frame.from_us), now_us.saturating_sub(function.frame.to_us));
        let start = self.rows.partition_point(|(time_us, _)| *time_us < from_us);
        let end = self.rows.partition_point(|(time_us, _)| *time_us <= to_us);
        match &function.kind {
            Kind::FirstValue | Kind::LastValue if start == end => Ok(ScalarValue::try_from(function.data_type())?),
            Kind::FirstValue => value(function, self.rows[start].1, history),
            Kind::LastValue => value(function, self.rows[end - 1].1, history),
            Kind::Aggregate(aggregate) if start == end => {
                self.keep(place, None);
                Ok(aggregate.default_value(function.data_type())?)
            }
            Kind::Aggregate(aggregate) if end - start <= SMALL_ROWS => {
                self.keep(place, None);
                let mut accumulator = aggregate.create_sliding_accumulator()?;
                for (_, row) in self.rows.range(start..end) {
                    function.enter(accumulator.as_mut(), *row, history)?;
                }
                Ok(accumulator.evaluate()?)
            }
            Kind::Aggregate(aggregate) => {
                let (start, end) = (self.forgotten + start as u64, self.forgotten + end as u64);
                let kept = self.sliding.get_mut(place).and_then(Option::take).filter(|s| s.end > start);
                let mut sliding = match kept {
                    Some(sliding) => sliding,
                    None => Box::new(Sliding { accumulator: aggregate.create_sliding_accumulator()?, start, end: start }),
                };
                self.slide(&mut sliding, function, start, end, history)?;
                let result = sliding.accumulator.evaluate()?;
                self.keep(place, Some(sliding));
                Ok(result)
            }
        }
    }

    fn keep(&mut self, place: usize, sliding: Option<Box<Sliding>>) {
        if self.sliding.len() <= place {
            if sliding.is_none() {
                return;
            }
            self.sliding.resize_with(place + 1, || None);
        }
        self.sliding[place] = sliding;
    }

    fn slide(&self, sliding: &mut Sliding, function: &Function, start: u64, end: u64, history: &History) -> Result<(), StreamError> {
        let row = |at: u64| self.rows[(at - self.forgotten) as usize].1;
        while sliding.start < start {
            function.leave(sliding.accumulator.as_mut(), row(sliding.start), history)?;
            sliding.start += 1;
        }
        while sliding.end < end {
            function.enter(sliding.accumulator.as_mut(), row(sliding.end), history)?;
            sliding.end += 1;
        }
        Ok(())
    }

    /// Forgets rows before `before_us`, which no frame of a row still to come reaches. `functions` is the list that places are of.
    pub fn forget(&mut self, before_us: i64, functions: &[Function], history: &History) -> Result<(), StreamError> {
        let old = self.rows.partition_point(|(time_us, _)| *time_us < before_us);
        if old == 0 {
            return Ok(());
        }
        let kept = self.forgotten + old as u64;
        for (place, function) in functions.iter().enumerate().take(self.sliding.len()) {
            // Rows leave accumulators while they can still be read.
            let Some(mut sliding) = self.sliding[place].take().filter(|s| s.end > kept) else { continue };
            if sliding.start < kept {
                let end = sliding.end;
                // One that cannot be moved on is made again when it is asked for.
                if self.slide(&mut sliding, function, kept, end, history).is_err() {
                    continue;
                }
            }
            self.sliding[place] = Some(sliding);
        }
        self.rows.drain(..old);
        self.forgotten = kept;
        if self.rows.capacity() > 4 * self.rows.len().max(4) {
            self.rows.shrink_to(2 * self.rows.len());
        }
        Ok(())
    }
}

fn value(function: &Function, row: u64, history: &History) -> Result<ScalarValue, StreamError> {
    let arguments = function.arguments(row, history);
    Ok(match arguments.first() {
        Some(value) => ScalarValue::try_from_array(value, 0)?,
        None => ScalarValue::Null,
    })
}

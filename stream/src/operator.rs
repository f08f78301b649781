//! The shape of one step of a pipeline, and the chain that runs several as one.
//!
//! An operator is pure: no I/O, no clock, no channels. The runtime in `task.rs` owns control flow; operators only turn
//! batches and watermarks into batches, and say what of their state changed.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::StreamError;
use crate::budget::{Account, Aside, Budget, Held};
use crate::fault::{Refused, sift};
use crate::segments::bytes_of;
use crate::state::KeyColumns;
use crate::watermark::Watermark;

/// What an operator hands on.
#[derive(Debug, Default)]
pub struct Output {
    /// Rows for the next operator, in [`Operator::schema`].
    pub rows: Vec<RecordBatch>,
    /// Rows that came too late, in [`crate::operators::late::side_schema`].
    pub late: Vec<RecordBatch>,
    /// How many rows were dropped as duplicates.
    pub deduplicated: u64,
    /// Rows that violate an expectation, in [`crate::operators::expect::side_schema`].
    pub violating: Vec<RecordBatch>,
    /// Rows that were not taken, where their records are no longer at hand.
    pub refused: Vec<Refused>,
    /// How many rows were dropped because they violate an expectation.
    pub dropped: u64,
    /// Rows that met and violated each expectation, in the order of their definition; empty if none was asked.
    pub tallies: Vec<Tally>,
}

/// How many rows met an expectation and how many did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows for which the predicate was true.
    pub passed: u64,
    /// Rows for which it was false or NULL.
    pub failed: u64,
}

impl Output {
    /// Adds to the count of each expectation.
    pub fn count(&mut self, tallies: &[Tally]) {
        add_tallies(&mut self.tallies, tallies);
    }

    /// Takes over everything but the rows that go on.
    pub(crate) fn absorb(&mut self, emitted: &mut Output) {
        self.late.append(&mut emitted.late);
        self.deduplicated += emitted.deduplicated;
        self.violating.append(&mut emitted.violating);
        self.refused.append(&mut emitted.refused);
        self.dropped += emitted.dropped;
        self.count(&emitted.tallies);
    }
}

/// Adds counts to `sums`, expectation by expectation.
pub fn add_tallies(sums: &mut Vec<Tally>, tallies: &[Tally]) {
    if sums.len() < tallies.len() {
        sums.resize(tallies.len(), Tally::default());
    }
    for (sum, tally) in sums.iter_mut().zip(tallies) {
        sum.passed += tally.passed;
        sum.failed += tally.failed;
    }
}

/// What of an operator's state changed since the last snapshot. A segment is the unit of state: a window, a time bucket. The store keeps each
/// as a list of pieces, so that it can grow without being written again.
#[derive(Debug, Default)]
pub struct StateDelta {
    /// Segments that are no more.
    pub deletes: Vec<String>,
    /// What changes in the lists of the others, in this order.
    pub changes: Vec<Change>,
}

/// A change of the list of one segment's pieces.
#[derive(Debug)]
pub struct Change {
    /// The segment.
    pub segment: String,
    /// The pieces that go; an empty range at the end appends.
    pub replaces: Range<usize>,
    /// The piece that comes in their place; `None` if none does.
    pub rows: Option<RecordBatch>,
}

/// State to start from: segments as once written. One name may come several times (from tasks that ran side by side); such segments add up.
/// What the pieces of one segment mean together is the operator's to say: rows of a later one may be in the place of earlier ones.
#[derive(Debug, Default)]
pub struct StateSnapshot {
    /// Name and pieces of each segment.
    pub segments: Vec<(String, Vec<RecordBatch>)>,
}

/// One step of a pipeline.
pub trait Operator: Send {
    /// The word by which plans and metrics call it.
    fn name(&self) -> &'static str;

    /// Schema of the rows it hands on.
    fn schema(&self) -> SchemaRef;

    /// Takes rows in. [`StreamError::Row`] says that some row cannot be taken; then nothing has changed, and the caller tries fewer rows.
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> Result<(), StreamError>;

    /// Learns that time has moved. Returns what holds for the rows it hands on: less, if it still keeps older ones back.
    fn on_watermark(&mut self, watermark: Watermark, _out: &mut Output) -> Result<Watermark, StreamError> {
        Ok(watermark)
    }

    /// What it keeps now. Asked often: an estimate that costs little.
    fn held(&self) -> Held {
        Held::default()
    }

    /// Puts state aside that is not needed soon, until so many bytes of memory are free, if it can; gives how many are.
    fn put_aside(&mut self, _bytes: usize, _aside: &dyn Aside) -> Result<usize, StreamError> {
        Ok(0)
    }

    /// What changed since the last snapshot. Operators without state say nothing.
    fn snapshot(&mut self) -> Result<StateDelta, StreamError> {
        Ok(StateDelta::default())
    }

    /// Where the key is in the rows of a segment, if it is known there. `keys` are the places of the key in the rows that it takes. What says so can be
    /// split over another number of tasks.
    fn state_keys(&self, _segment: &str, _keys: &[usize]) -> Option<KeyColumns> {
        None
    }

    /// Takes back what snapshots once wrote. Called before any row, at most once. What was restored counts as changed: the next
    /// snapshot writes it again, since the tasks it came from may have been split in another way.
    fn restore(&mut self, state: StateSnapshot) -> Result<(), StreamError> {
        match state.segments.first() {
            None => Ok(()),
            Some((segment, _)) => Err(StreamError::StateMismatch { operator: self.name(), segment: segment.clone() }),
        }
    }
}

/// Operators run as one: the rows of each go straight into the next.
pub struct Chain {
    operators: Vec<Box<dyn Operator>>,
    sets_aside: bool,
    /// The pipeline, and what the operators hold of its budget.
    account: Option<(String, Account)>,
}

impl Chain {
    /// Joins operators, first to last.
    pub fn new(operators: Vec<Box<dyn Operator>>) -> Self {
        Self { operators, sets_aside: false, account: None }
    }

    /// Rows that an operator cannot take are left out and listed in [`Output::refused`]. Without this they are an error, which a caller
    /// that has the rows' records at hand deals with.
    pub fn setting_aside(mut self) -> Self {
        self.sets_aside = true;
        self
    }

    /// What the operators of `pipeline` hold counts within `budget`: [`StreamError::StateLimit`] says that it is too much.
    pub fn within(mut self, pipeline: String, budget: &Arc<Budget>) -> Self {
        self.account = Some((pipeline, Account::new(budget.clone())));
        self
    }

    /// Schema of the rows that leave the chain. A chain has at least one operator.
    pub fn schema(&self) -> SchemaRef {
        self.operators.last().map_or_else(|| Arc::new(arrow::datatypes::Schema::empty()), |last| last.schema())
    }

    /// The operators, first to last.
    pub fn operators_mut(&mut self) -> impl Iterator<Item = (usize, &mut Box<dyn Operator>)> {
        self.operators.iter_mut().enumerate()
    }

    /// Pushes rows through all operators. After [`StreamError::Row`] nothing has changed, as long as no operator but the last keeps state.
    pub fn process(&mut self, batch: RecordBatch, out: &mut Output) -> Result<(), StreamError> {
        let is_due = self.account.as_mut().is_some_and(|(_, account)| account.is_due(bytes_of(&batch) as u64));
        push(&mut self.operators, batch, out, self.sets_aside)?;
        if is_due { self.weigh() } else { Ok(()) }
    }

    /// What of the state of each operator changed since the last snapshot.
    pub fn snapshot(&mut self) -> Result<Vec<StateDelta>, StreamError> {
        let deltas = self.operators.iter_mut().map(|operator| operator.snapshot()).collect::<Result<_, _>>()?;
        self.weigh()?;
        Ok(deltas)
    }

    /// Looks what the operators hold. If that is nearly too much, some of it is put aside; if it still is too much, that is an error.
    fn weigh(&mut self) -> Result<(), StreamError> {
        let Some((pipeline, account)) = &mut self.account else { return Ok(()) };
        let mut held = held_by(&self.operators);
        let mut passed = account.note(sum(&held));
        let (mut bytes, aside) = account.to_put_aside();
        if bytes > 0
            && let Some(aside) = aside
        {
            let mut places: Vec<usize> = (0..held.len()).collect();
            places.sort_by_key(|&place| std::cmp::Reverse(held[place].bytes));
            for place in places {
                bytes = bytes.saturating_sub(self.operators[place].put_aside(bytes, aside.as_ref())?);
                if bytes == 0 {
                    break;
                }
            }
            held = held_by(&self.operators);
            passed = account.note(sum(&held));
        }
        let Some((scope, limit)) = passed else { return Ok(()) };
        let largest = self.operators.iter().zip(held).max_by_key(|(_, held)| held.bytes);
        let (operator, held) = largest.map_or(("none", Held::default()), |(operator, held)| (operator.name(), held));
        Err(StreamError::StateLimit { pipeline: pipeline.clone(), operator, held, scope, limit })
    }

    /// Tells all operators, first to last, that time has moved; what one emits reaches the next before the news does.
    /// Returns the watermark of the rows that leave the chain.
    pub fn on_watermark(&mut self, mut watermark: Watermark, out: &mut Output) -> Result<Watermark, StreamError> {
        for i in 0..self.operators.len() {
            let (done, rest) = self.operators.split_at_mut(i + 1);
            let mut emitted = Output::default();
            watermark = done[i].on_watermark(watermark, &mut emitted)?;
            out.absorb(&mut emitted);
            for batch in emitted.rows {
                push(rest, batch, out, self.sets_aside)?;
            }
        }
        Ok(watermark)
    }
}

fn held_by(operators: &[Box<dyn Operator>]) -> Vec<Held> {
    operators.iter().map(|operator| operator.held()).collect()
}

fn sum(held: &[Held]) -> Held {
    held.iter().fold(Held::default(), |sum, held| Held { keys: sum.keys + held.keys, bytes: sum.bytes + held.bytes })
}

fn push(operators: &mut [Box<dyn Operator>], batch: RecordBatch, out: &mut Output, sets_aside: bool) -> Result<(), StreamError> {
    let Some((first, rest)) = operators.split_first_mut() else {
        if batch.num_rows() > 0 {
            out.rows.push(batch);
        }
        return Ok(());
    };
    let mut emitted = Output::default();
    if sets_aside {
        let mut refused = Vec::new();
        sift(batch, &mut refused, &mut |rows| {
            let mut some = Output::default();
            first.process(rows, &mut some)?;
            emitted.rows.append(&mut some.rows);
            emitted.absorb(&mut some);
            Ok(())
        })?;
        out.refused.append(&mut refused);
    } else {
        first.process(batch, &mut emitted)?;
    }
    out.absorb(&mut emitted);
    for batch in emitted.rows {
        if batch.num_rows() > 0 {
            push(rest, batch, out, sets_aside)?;
        }
    }
    Ok(())
}

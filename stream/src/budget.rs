//! How much memory operator state takes, and how much it may.
//!
//! A process has one budget, each of its pipelines another within it. Every chain of operators says what it holds now and then: the sooner, the less
//! is left, so that a limit is found before it is passed by more than a tenth.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::record_batch::RecordBatch;

use crate::StreamError;

/// What operators hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Keys, groups, or rows where rows wait.
    pub keys: u64,
    /// Bytes of memory.
    pub bytes: u64,
}

/// A place outside of memory for rows that are not needed soon.
pub trait Aside: std::fmt::Debug + Send + Sync {
    /// The same rows, in columns that are read where they lie. All have the same schema.
    fn put(&self, rows: &[RecordBatch]) -> Result<Vec<RecordBatch>, StreamError>;

    /// How many bytes lie there.
    fn bytes(&self) -> u64;
}

/// Less is not worth a file.
pub const ASIDE_BYTES_MIN: usize = 64 << 10;

/// Limits on the memory of operator state, in bytes; `None`: as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateLimits {
    /// Of all pipelines of a process together.
    pub process: Option<u64>,
    /// Of each pipeline.
    pub pipeline: Option<u64>,
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One pipeline's.
    Pipeline,
    /// That of all of them.
    Process,
}

/// The state of a pipeline, or of all pipelines of a process.
#[derive(Debug)]
pub struct Budget {
    scope: Scope,
    limit: Option<u64>,
    keys: AtomicU64,
    bytes: AtomicU64,
    within: Option<Arc<Budget>>,
    aside: Option<Arc<dyn Aside>>,
}

impl Budget {
    /// Of a process.
    pub fn of_process(limits: StateLimits) -> Arc<Self> {
        Arc::new(Self::new(Scope::Process, limits.process, None))
    }

    /// Of one of its pipelines.
    pub fn of_pipeline(process: &Arc<Self>, limits: StateLimits, aside: Option<Arc<dyn Aside>>) -> Arc<Self> {
        Arc::new(Self { aside, ..Self::new(Scope::Pipeline, limits.pipeline, Some(process.clone())) })
    }

    fn new(scope: Scope, limit: Option<u64>, within: Option<Arc<Budget>>) -> Self {
        Self { scope, limit, keys: AtomicU64::new(0), bytes: AtomicU64::new(0), within, aside: None }
    }

    /// What is held now.
    pub fn held(&self) -> Held {
        Held { keys: self.keys.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    /// How many bytes are put aside.
    pub fn bytes_aside(&self) -> u64 {
        self.aside.as_ref().map_or(0, |aside| aside.bytes())
    }

    fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |budget| budget.within.as_deref())
    }

    fn change(&self, from: Held, to: Held) {
        for budget in self.all() {
            // Both ways around zero: the sum over all chains never is below it.
            budget.keys.fetch_add(to.keys.wrapping_sub(from.keys), Ordering::Relaxed);
            budget.bytes.fetch_add(to.bytes.wrapping_sub(from.bytes), Ordering::Relaxed);
        }
    }

    /// How much more may be held; `None`: as much as there is.
    fn left(&self) -> Option<u64> {
        self.all().filter_map(|budget| Some(budget.limit?.saturating_sub(budget.held().bytes))).min()
    }

    /// How many bytes are held beyond [`NEARLY`] of a limit.
    fn nearly_passed(&self) -> u64 {
        let beyond = |budget: &Budget| {
            let (bytes, limit) = (budget.held().bytes, budget.limit?);
            (bytes > NEARLY.of(limit)).then(|| bytes - AFTERWARDS.of(limit))
        };
        self.all().filter_map(beyond).max().unwrap_or(0)
    }

    /// The limit that is passed, if one is.
    fn passed(&self) -> Option<(Scope, u64)> {
        self.all().find_map(|budget| budget.limit.filter(|&limit| budget.held().bytes > limit).map(|limit| (budget.scope, limit)))
    }
}

/// A part of a limit.
struct Part(u64, u64);

impl Part {
    fn of(&self, limit: u64) -> u64 {
        limit / self.1 * self.0
    }
}

/// From here on state is put aside.
const NEARLY: Part = Part(7, 8);
/// Until so much is left.
const AFTERWARDS: Part = Part(3, 4);

/// Of what may still come, a chain looks at its state after a part: state can be several times as large as the rows it is made of.
const PART: u64 = 64;
/// It need not look more often than after so many bytes.
const STEP_MIN: u64 = 16 << 10;
/// Nor less often, so that what is shown is of now.
const STEP_MAX: u64 = 16 << 20;

/// What one chain has of a budget; given back when it ends.
#[derive(Debug)]
pub struct Account {
    budget: Arc<Budget>,
    held: Held,
    /// Bytes of rows that came since the chain last looked.
    came: u64,
    /// After so many it looks again.
    step: u64,
}

impl Account {
    /// Of a chain that holds nothing yet.
    pub fn new(budget: Arc<Budget>) -> Self {
        Self { budget, held: Held::default(), came: 0, step: STEP_MIN }
    }

    /// Whether the chain should look what it holds, now that rows of so many bytes have come.
    pub fn is_due(&mut self, came: u64) -> bool {
        self.came += came;
        self.came >= self.step
    }

    /// Takes note of what the chain holds. Says which limit is passed, if one is.
    pub fn note(&mut self, held: Held) -> Option<(Scope, u64)> {
        self.budget.change(self.held, held);
        (self.held, self.came) = (held, 0);
        self.step = (self.budget.left().unwrap_or(u64::MAX) / PART).clamp(STEP_MIN, STEP_MAX);
        self.budget.passed()
    }

    /// How much of what the chain holds is to be put aside, and where.
    pub fn to_put_aside(&self) -> (usize, Option<Arc<dyn Aside>>) {
        (self.budget.nearly_passed().min(self.held.bytes) as usize, self.budget.aside.clone())
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.budget.change(self.held, Held::default());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Keeps what is put aside.
    #[derive(Debug)]
    pub(crate) struct InMemory;

    impl Aside for InMemory {
        fn put(&self, rows: &[RecordBatch]) -> Result<Vec<RecordBatch>, StreamError> {
            Ok(rows.to_vec())
        }

        fn bytes(&self) -> u64 {
            0
        }
    }

    fn held(bytes: u64) -> Held {
        Held { keys: bytes / 10, bytes }
    }

    #[test]
    fn what_chains_hold_counts_for_their_pipeline_and_the_process() {
        let limits = StateLimits { process: Some(10_000_000), pipeline: Some(8_000_000) };
        let process = Budget::of_process(limits);
        let (a, b) = (Budget::of_pipeline(&process, limits, None), Budget::of_pipeline(&process, limits, Some(Arc::new(InMemory))));
        let (mut first, mut second, mut other) = (Account::new(a.clone()), Account::new(a.clone()), Account::new(b.clone()));
        assert_eq!((first.note(held(3_000_000)), second.note(held(4_000_000))), (None, None));
        assert_eq!((a.held(), process.held()), (held(7_000_000), held(7_000_000)));
        // A look is due sooner the less is left.
        assert!(!first.is_due(77_000) && first.is_due(2_000));
        assert_eq!(second.note(held(5_500_000)), Some((Scope::Pipeline, 8_000_000)));
        assert_eq!(second.note(held(1_000_000)), None);
        assert!(!second.is_due(60_000) && second.is_due(3_000));
        assert_eq!(other.note(held(6_500_000)), Some((Scope::Process, 10_000_000)));
        // Back to three quarters of the process's limit.
        assert_eq!(other.to_put_aside().0, 3_000_000);
        drop(first);
        assert_eq!(other.note(held(6_000_000)), None);
        assert_eq!((a.held(), process.held()), (held(1_000_000), held(7_000_000)));
        drop((second, other));
        assert_eq!(process.held(), Held::default());
    }

    #[test]
    fn without_a_limit_all_is_counted_and_nothing_is_too_much() {
        let process = Budget::of_process(StateLimits::default());
        let mut account = Account::new(Budget::of_pipeline(&process, StateLimits::default(), None));
        assert_eq!(account.note(held(1 << 40)), None);
        assert_eq!(process.held(), held(1 << 40));
    }
}

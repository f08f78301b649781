//! Room for recursion: parsing and planning call themselves once for each level of a statement, in code that is not ours.
//!
//! A thread's own stack is left for one that is big enough for every statement that [`bounds`](crate::bounds) lets through, unless it is so big
//! itself: the threads of `watershed` are.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use watershed_functions::{FOLDING_MAX, folding};

use crate::planning_time::counted;

/// What must be left of the stack for a statement of the greatest depth. Measured: planning 500 operators in a row needs some 3 MiB.
const NEEDED_BYTES: usize = 16 << 20;
/// The stack of threads that plan, and one that is made where less than is needed is left. Its pages are taken from the system as they are
/// touched, so that making one for each statement costs more than planning a short one.
pub const DEEP_STACK_BYTES: usize = 32 << 20;

/// Runs `work` on a stack that is deep enough for any statement.
pub fn on_deep_stack<R>(work: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(NEEDED_BYTES, DEEP_STACK_BYTES, work)
}

/// A future that plans: each step of it runs on a stack that is deep enough for any statement, beside the tasks of its thread, which others take
/// over meanwhile; how long the steps take is limited, and what constants they compute.
pub fn deep<F: Future>(future: F) -> Deep<F> {
    Deep { future: Box::pin(future), is_brief: false, spent: Duration::ZERO, foldable: FOLDING_MAX }
}

/// What [`deep`] makes.
pub struct Deep<F> {
    future: Pin<Box<F>>,
    is_brief: bool,
    /// What its steps took so far.
    spent: Duration,
    /// What its constants may still take.
    foldable: u64,
}

impl<F> Deep<F> {
    /// If it is brief, the tasks of its thread wait: handing them over takes longer than a brief step.
    pub fn brief(self, is_brief: bool) -> Self {
        Self { is_brief, ..self }
    }
}

impl<F: Future> Future for Deep<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, is_brief, spent, foldable } = &mut *self;
        let mut step = || folding(foldable, || counted(spent, || on_deep_stack(|| future.as_mut().poll(context))));
        match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) if !*is_brief => block_in_place(step),
            _ => step(),
        }
    }
}

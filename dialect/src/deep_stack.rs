//! Room for recursion: parsing and planning call themselves once for each level of a statement, in code that is not ours.
//!
//! A thread's own stack (2 MiB, where the runtime made the thread) is left for one that is big enough for every statement that
//! [`bounds`](crate::bounds) lets through.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use watershed_functions::{FOLDING_MAX, folding};

use crate::planning_time::counted;

/// What must be left of the stack for a statement of the greatest depth. Measured: planning 500 operators in a row needs some 3 MiB.
const NEEDED_BYTES: usize = 16 << 20;
/// A stack that is made where less is left. Its pages are taken from the system as they are touched.
const STACK_BYTES: usize = 32 << 20;

/// Runs `work` on a stack that is deep enough for any statement.
pub fn on_deep_stack<R>(work: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(NEEDED_BYTES, STACK_BYTES, work)
}

/// A future that plans: each step of it runs on a stack that is deep enough for any statement, beside the tasks of its thread, which others take
/// over meanwhile; how long the steps take is limited, and what constants they compute.
pub fn deep<F: Future>(future: F) -> Deep<F> {
    Deep { future: Box::pin(future), spent: Duration::ZERO, foldable: FOLDING_MAX }
}

/// What [`deep`] makes.
pub struct Deep<F> {
    future: Pin<Box<F>>,
    /// What its steps took so far.
    spent: Duration,
    /// What its constants may still take.
    foldable: u64,
}

impl<F: Future> Future for Deep<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, spent, foldable } = &mut *self;
        let mut step = || folding(foldable, || counted(spent, || on_deep_stack(|| future.as_mut().poll(context))));
        match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => block_in_place(step),
            _ => step(),
        }
    }
}

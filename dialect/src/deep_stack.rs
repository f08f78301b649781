//! Room for recursion: parsing and planning call themselves once for each level of a statement, in code that is not ours.
//!
//! A thread's own stack (2 MiB, where the runtime made the thread) is left for one that is big enough for every statement that
//! [`bounds`](crate::bounds) lets through.

use std::pin::Pin;
use std::task::{Context, Poll};

/// What must be left of the stack for a statement of the greatest depth. Measured: planning 500 operators in a row needs some 3 MiB.
const NEEDED_BYTES: usize = 16 << 20;
/// A stack that is made where less is left. Its pages are taken from the system as they are touched.
const STACK_BYTES: usize = 32 << 20;

/// Runs `work` on a stack that is deep enough for any statement.
pub fn on_deep_stack<R>(work: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(NEEDED_BYTES, STACK_BYTES, work)
}

/// A future each step of which runs on a stack that is deep enough for any statement.
pub fn deep<F: Future>(future: F) -> Deep<F> {
    Deep(Box::pin(future))
}

/// What [`deep`] makes.
pub struct Deep<F>(Pin<Box<F>>);

impl<F: Future> Future for Deep<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        on_deep_stack(|| self.0.as_mut().poll(context))
    }
}

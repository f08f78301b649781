//! What constants may cost while a statement is planned. Nothing ends planning between two steps of a function, and its client may be gone: a
//! constant that is large, or long to compute, is computed when the query runs, within the query's limits.

use std::cell::Cell;

use datafusion::common::DataFusionError;
use datafusion::common::Result;
use watershed_message::Message;

/// Bytes of a constant that is computed while planning.
const BYTES_MAX: u64 = 32 << 10;
/// Steps of one call.
const STEPS_MAX: u64 = 1 << 20;

/// Bytes and steps that all constants of one statement may take together.
pub const FOLDING_MAX: u64 = 64 << 20;

thread_local! {
    /// What is left to the statement that this thread plans; `None` while it plans none.
    static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Runs a part of planning, of whose allowance `left` is left; takes from it what constants take.
pub fn folding<R>(left: &mut u64, part: impl FnOnce() -> R) -> R {
    /// The thread plans nothing more, also where planning panics.
    struct Ends(Option<u64>);
    impl Drop for Ends {
        fn drop(&mut self) {
            LEFT.set(self.0);
        }
    }
    let ends = Ends(LEFT.replace(Some(*left)));
    let result = part();
    *left = LEFT.get().unwrap_or(0);
    drop(ends);
    result
}

/// Lets a function make so many bytes in so many steps; an error if that is too much for planning, which leaves the call to the query then.
pub(crate) fn check(name: &str, bytes: u64, steps: u64) -> Result<()> {
    let Some(left) = LEFT.get() else { return Ok(()) };
    if bytes <= BYTES_MAX && steps <= STEPS_MAX && bytes + steps <= left {
        LEFT.set(Some(left - bytes - steps));
        return Ok(());
    }
    let message = Message::new(format!("{name} is too large to be computed before the query runs")).next("write its value itself");
    Err(DataFusionError::External(Box::new(message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planning_computes_small_constants_until_they_are_too_many() {
        check("f()", 1 << 40, 1 << 40).unwrap();
        let mut left = 3 * BYTES_MAX;
        folding(&mut left, || {
            check("f()", BYTES_MAX, 0).unwrap();
            assert!(check("f()", BYTES_MAX + 1, 0).is_err() && check("f()", 1, STEPS_MAX + 1).is_err());
        });
        assert_eq!(left, 2 * BYTES_MAX);
        let panicked = std::panic::catch_unwind(|| folding(&mut 1, || panic!("a function does")));
        assert!(panicked.is_err() && LEFT.get().is_none());
        folding(&mut left, || {
            check("f()", BYTES_MAX, 0).unwrap();
            check("f()", BYTES_MAX, 0).unwrap();
            assert!(check("f()", 1, 0).is_err());
        });
        assert_eq!(left, 0);
    }
}

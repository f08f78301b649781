//! The time of day, for all that is written to a warehouse or depends on it. It may go backwards; spans within a process are measured with
//! `Instant` instead.

use chrono::{DateTime, Utc};

/// Now.
///
/// Built with feature `failpoints`, the failpoint `clock=return(FILE)` moves it by the milliseconds written in that file, so that a test
/// can set the clock of a running process.
pub fn now() -> DateTime<Utc> {
    #[expect(clippy::disallowed_methods, reason = "this is its home")]
    let now = Utc::now();
    #[cfg(feature = "failpoints")]
    let now = now + fail::eval("clock", |file| moved_by(&file)).flatten().unwrap_or_default();
    now
}

/// Now, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    u64::try_from(now().timestamp_millis()).unwrap_or(0)
}

#[cfg(feature = "failpoints")]
fn moved_by(file: &Option<String>) -> Option<chrono::TimeDelta> {
    chrono::TimeDelta::try_milliseconds(std::fs::read_to_string(file.as_ref()?).ok()?.trim().parse().ok()?)
}

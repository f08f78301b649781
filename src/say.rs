//! Words for people, on standard output and standard error.
//!
//! Their reader may go away (`watershed status | head -1`, a closed terminal). That ends nothing: `println!` would panic then, so this
//! crate says things with [`say!`] and [`tell!`].

use std::fmt::Arguments;
use std::io::Write;
use std::time::Duration;

use watershed_query::shell::duration;

/// A line on standard output.
macro_rules! say {
    ($($text:tt)*) => { $crate::say::line(std::io::stdout(), format_args!($($text)*)) };
}

/// A line on standard error.
macro_rules! tell {
    ($($text:tt)*) => { $crate::say::line(std::io::stderr(), format_args!($($text)*)) };
}

/// Writes a line; it is no error if there is no reader any more.
pub fn line(mut to: impl Write, text: Arguments<'_>) {
    let _ = writeln!(to, "{text}");
}

/// What the clocks of two machines may differ by.
const CLOCKS_DIFFER_MS: i64 = 60_000;

/// How far something that lags the clock by `lag_ms` is ahead of it, if it is.
pub fn ahead(lag_ms: i64) -> Option<String> {
    (lag_ms < -CLOCKS_DIFFER_MS).then(|| span(lag_ms.saturating_neg()))
}

/// How far a watermark lags the clock, for a place that is called `behind`.
pub fn behind(lag_ms: i64) -> String {
    ahead(lag_ms).map_or_else(|| span(lag_ms), |ahead| format!("{ahead} ahead"))
}

/// A distance in time as a person reads it.
pub fn span(ms: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    match ms {
        ms if ms >= 2 * DAY_MS => format!("{} days", ms / DAY_MS),
        ms if ms >= 60_000 => format!("{} min", ms / 60_000),
        ms => duration(Duration::from_millis(ms.max(0) as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ahead_of_the_clock_is_said_to_be() {
        const YEAR_MS: i64 = 365 * 86_400_000;
        assert_eq!([13_000, 0, -59_000, -61_000, -YEAR_MS].map(behind), ["13.00 s", "1 ms", "1 ms", "1 min ahead", "365 days ahead"]);
        assert_eq!([YEAR_MS, -60_000].map(ahead), [None, None]);
        assert!(ahead(i64::MIN).is_some());
    }
}

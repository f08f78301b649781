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

/// A distance in time as a person reads it.
pub fn span(ms: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    match ms {
        ms if ms >= 2 * DAY_MS => format!("{} days", ms / DAY_MS),
        ms if ms >= 60_000 => format!("{} min", ms / 60_000),
        ms => duration(Duration::from_millis(ms.max(0) as u64)),
    }
}

//! Windows of event time: which of them a row belongs to. One kernel, [`assign`], serves batch and stream.
//!
//! ```text
//! TUMBLE(size 10)            HOP(slide 5, size 10)        CUMULATE(step 5, size 10)
//! |----0----|----10---|      |----0----|                  |-0--|
//!                                 |----5----|             |----0----|
//!                                      |---10---|                   |-10-|
//! ```
//!
//! A window is `[start, end)` in microseconds; starts are `offset + k · step` for whole `k`, negative ones too. A row without an event time is in
//! no window.

mod assign;
mod exec;

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, TimestampMicrosecondArray, UInt32Array};
use arrow::datatypes::{Field, FieldRef};

use crate::event_time_type;

pub use assign::WindowAssign;
pub use exec::WindowAssignExec;

/// The most windows that one row may be in: the batch that is made of one batch stays bounded.
pub const WINDOWS_PER_ROW_MAX: i64 = 4096;

/// First appended column: where the window begins.
pub const WINDOW_START: &str = "window_start";
/// Second appended column: where the window ends, itself outside.
pub const WINDOW_END: &str = "window_end";
/// Third appended column: the last microsecond of the window, `window_end` − 1 µs, an event time for a window over windows.
pub const WINDOW_TIME: &str = "window_time";

/// The columns that a window function appends: `window_start`, `window_end`, `window_time`.
pub fn window_fields() -> [FieldRef; 3] {
    [WINDOW_START, WINDOW_END, WINDOW_TIME].map(|name| Arc::new(Field::new(name, event_time_type(), false)))
}

/// How time is cut to windows. All lengths in microseconds and above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WindowKind {
    /// Each row is in one window.
    Tumble {
        /// Length of a window.
        size_us: i64,
        /// Shifts all windows.
        offset_us: i64,
    },
    /// Windows of equal length that begin every `slide_us`; they overlap if the slide is shorter.
    Hop {
        /// Length of a window.
        size_us: i64,
        /// From one start to the next; no longer than a window, or rows between two would be in none.
        slide_us: i64,
        /// Shifts all windows.
        offset_us: i64,
    },
    /// Windows that begin together every `size_us` and end `step_us` apart, the last one after `size_us`.
    Cumulate {
        /// Length of the longest window, a multiple of the step.
        size_us: i64,
        /// From one end to the next.
        step_us: i64,
        /// Shifts all windows.
        offset_us: i64,
    },
}

impl WindowKind {
    /// The name in SQL.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tumble { .. } => "TUMBLE",
            Self::Hop { .. } => "HOP",
            Self::Cumulate { .. } => "CUMULATE",
        }
    }

    /// Says what is wrong with the lengths, if anything.
    pub fn check(&self) -> Result<(), String> {
        let (size, step, step_name) = match *self {
            Self::Tumble { size_us, .. } => (size_us, size_us, "size"),
            Self::Hop { size_us, slide_us, .. } => (size_us, slide_us, "slide"),
            Self::Cumulate { size_us, step_us, .. } => (size_us, step_us, "step"),
        };
        if size <= 0 {
            return Err(format!("the size of a {} window must be above zero", self.name()));
        }
        if step <= 0 {
            return Err(format!("the {step_name} of a {} window must be above zero", self.name()));
        }
        if matches!(self, Self::Cumulate { .. }) && size % step != 0 {
            return Err(format!("the size of a CUMULATE window must be a multiple of its step, but {} is not of {}", Us(size), Us(step)));
        }
        if step > size {
            let name = self.name();
            return Err(format!(
                "{name} windows of {} that begin every {} leave gaps, and rows in them would be in no window",
                Us(size),
                Us(step)
            ));
        }
        if self.windows_per_row() > WINDOWS_PER_ROW_MAX {
            return Err(format!("a row would be in {} windows, more than {WINDOWS_PER_ROW_MAX}", self.windows_per_row()));
        }
        Ok(())
    }

    /// The most windows that one row can be in.
    pub fn windows_per_row(&self) -> i64 {
        match *self {
            Self::Tumble { .. } => 1,
            Self::Hop { size_us, slide_us, .. } => (size_us - 1) / slide_us.max(1) + 1,
            Self::Cumulate { size_us, step_us, .. } => size_us / step_us.max(1),
        }
    }

    /// Where the last window ends that holds `time_us`.
    pub fn last_end_us(&self, time_us: i64) -> i64 {
        let (size_us, step_us, offset_us) = match *self {
            Self::Tumble { size_us, offset_us } | Self::Cumulate { size_us, offset_us, .. } => (size_us, size_us, offset_us),
            Self::Hop { size_us, slide_us, offset_us } => (size_us, slide_us, offset_us),
        };
        let steps = time_us.saturating_sub(offset_us).div_euclid(step_us.max(1));
        steps.saturating_mul(step_us).saturating_add(offset_us).saturating_add(size_us)
    }

    /// Length of the longest window in microseconds: how far before an event time a window that has it can begin, at most.
    pub fn size_us(&self) -> i64 {
        match *self {
            Self::Tumble { size_us, .. } | Self::Hop { size_us, .. } | Self::Cumulate { size_us, .. } => size_us,
        }
    }
}

impl fmt::Display for WindowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = match *self {
            Self::Tumble { size_us, offset_us } => {
                write!(f, "TUMBLE size={}", Us(size_us))?;
                offset_us
            }
            Self::Hop { size_us, slide_us, offset_us } => {
                write!(f, "HOP slide={} size={}", Us(slide_us), Us(size_us))?;
                offset_us
            }
            Self::Cumulate { size_us, step_us, offset_us } => {
                write!(f, "CUMULATE step={} size={}", Us(step_us), Us(size_us))?;
                offset_us
            }
        };
        if offset != 0 { write!(f, " offset={}", Us(offset)) } else { Ok(()) }
    }
}

/// Shows microseconds in the largest unit that divides them.
pub struct Us(pub i64);

impl fmt::Display for Us {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(i64, &str); 6] =
            [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"), (1_000, "ms"), (1, "us")];
        let (unit, name) = UNITS.into_iter().find(|(unit, _)| self.0 != 0 && self.0 % unit == 0).unwrap_or((1_000_000, "s"));
        write!(f, "{}{name}", self.0 / unit)
    }
}

/// Which rows are in which windows: entry `i` of all three says that row `rows[i]` is in window `[start[i], end[i])`.
#[derive(Debug, Clone)]
pub struct Assigned {
    /// Row numbers, ascending; `None` if each row is there exactly once, in order.
    pub rows: Option<UInt32Array>,
    /// Starts of windows, [`event_time_type`], never null.
    pub start: ArrayRef,
    /// Ends of windows, [`event_time_type`], never null.
    pub end: ArrayRef,
}

impl Assigned {
    /// `window_time`: the last microsecond of each window.
    pub fn time(&self) -> ArrayRef {
        match self.end.as_any().downcast_ref::<TimestampMicrosecondArray>() {
            Some(end) => {
                Arc::new(end.unary::<_, arrow::datatypes::TimestampMicrosecondType>(|us| us.saturating_sub(1)).with_timezone("UTC"))
            }
            None => self.end.clone(),
        }
    }
}

/// Assigns windows to event times in microseconds. Windows of one row ascend. Null times are in no window.
///
/// `kind` must pass [`WindowKind::check`]. Times at the ends of the `i64` range are clamped, never wrapped.
pub fn assign(times: &TimestampMicrosecondArray, kind: &WindowKind) -> Assigned {
    match *kind {
        WindowKind::Tumble { size_us, offset_us } => tumble(times, size_us, offset_us),
        WindowKind::Hop { size_us, slide_us, offset_us } => {
            let mut slides = Grid::new(slide_us, offset_us);
            multiply(times, kind, |time, entries| {
                let last_start = slides.start_of(time);
                let behind_us = time - last_start;
                let windows = if behind_us >= size_us { 0 } else { (size_us - behind_us - 1) / slide_us + 1 };
                for back in (0..windows).rev() {
                    let start = last_start.saturating_sub(back * slide_us);
                    entries.push(start, start.saturating_add(size_us));
                }
            })
        }
        WindowKind::Cumulate { size_us, step_us, offset_us } => {
            let mut series = Grid::new(size_us, offset_us);
            multiply(times, kind, |time, entries| {
                let start = series.start_of(time);
                for step in (time - start) / step_us + 1..=size_us / step_us {
                    entries.push(start, start.saturating_add(step * step_us));
                }
            })
        }
    }
}

/// Times cut at `offset + k · step`. Remembers the last piece: neighbours are mostly in one, and comparing is far cheaper than dividing.
struct Grid {
    step: i64,
    offset: i64,
    start: i64,
    end: i64,
}

impl Grid {
    fn new(step: i64, offset: i64) -> Self {
        // An empty piece, so that the first time is in none.
        Self { step, offset, start: i64::MAX, end: i64::MIN }
    }

    /// The newest cut that is not after `time`. Rounds down for negative times too.
    fn start_of(&mut self, time: i64) -> i64 {
        if time < self.start || time >= self.end {
            let behind = match time.checked_sub(self.offset) {
                Some(shifted) => shifted.rem_euclid(self.step),
                None => (i128::from(time) - i128::from(self.offset)).rem_euclid(i128::from(self.step)) as i64,
            };
            self.start = time.saturating_sub(behind);
            self.end = self.start.saturating_add(self.step);
        }
        self.start
    }
}

fn tumble(times: &TimestampMicrosecondArray, size_us: i64, offset_us: i64) -> Assigned {
    let rows: Option<UInt32Array> =
        (times.null_count() > 0).then(|| (0..times.len() as u32).filter(|&r| times.is_valid(r as usize)).collect());
    let mut grid = Grid::new(size_us, offset_us);
    let starts: Vec<i64> = match times.null_count() {
        0 => times.values().iter().map(|time| grid.start_of(*time)).collect(),
        _ => times.iter().flatten().map(|time| grid.start_of(time)).collect(),
    };
    let ends = starts.iter().map(|start| start.saturating_add(size_us)).collect();
    Assigned { rows, start: timestamps(starts), end: timestamps(ends) }
}

/// Entries of [`Assigned`] while they are made.
struct Entries {
    row: u32,
    rows: Vec<u32>,
    starts: Vec<i64>,
    ends: Vec<i64>,
}

impl Entries {
    fn push(&mut self, start: i64, end: i64) {
        self.rows.push(self.row);
        self.starts.push(start);
        self.ends.push(end);
    }
}

fn multiply(times: &TimestampMicrosecondArray, kind: &WindowKind, mut windows_of: impl FnMut(i64, &mut Entries)) -> Assigned {
    let expected = times.len() * kind.windows_per_row().clamp(1, WINDOWS_PER_ROW_MAX) as usize;
    let room = || Vec::with_capacity(expected);
    let mut entries = Entries { row: 0, rows: Vec::with_capacity(expected), starts: room(), ends: room() };
    for (row, time) in times.iter().enumerate() {
        if let Some(time) = time {
            entries.row = row as u32;
            windows_of(time, &mut entries);
        }
    }
    Assigned { rows: Some(entries.rows.into()), start: timestamps(entries.starts), end: timestamps(entries.ends) }
}

fn timestamps(us: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(us).with_timezone("UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::TimestampMicrosecondType;

    /// (row, start, end) of each entry.
    fn windows(times: &[Option<i64>], kind: WindowKind) -> Vec<(u32, i64, i64)> {
        kind.check().unwrap();
        let times = TimestampMicrosecondArray::from(times.to_vec());
        let assigned = assign(&times, &kind);
        let (start, end) =
            (assigned.start.as_primitive::<TimestampMicrosecondType>(), assigned.end.as_primitive::<TimestampMicrosecondType>());
        assert_eq!((start.data_type(), end.data_type(), start.null_count()), (&event_time_type(), &event_time_type(), 0));
        (0..start.len()).map(|i| (assigned.rows.as_ref().map_or(i as u32, |r| r.value(i)), start.value(i), end.value(i))).collect()
    }

    #[test]
    fn tumbling_windows_round_down_on_both_sides_of_zero() {
        let kind = WindowKind::Tumble { size_us: 10, offset_us: 0 };
        let got = windows(&[Some(0), Some(9), Some(10), Some(-1), Some(-10), Some(-11)], kind);
        assert_eq!(got, [(0, 0, 10), (1, 0, 10), (2, 10, 20), (3, -10, 0), (4, -10, 0), (5, -20, -10)]);
    }

    #[test]
    fn an_offset_shifts_windows_whatever_its_sign_and_size() {
        for offset_us in [3, -7, 13, -1_000_000_007] {
            let got = windows(&[Some(2), Some(3), Some(-8)], WindowKind::Tumble { size_us: 10, offset_us });
            assert_eq!(got, [(0, -7, 3), (1, 3, 13), (2, -17, -7)], "offset {offset_us}");
        }
    }

    #[test]
    fn rows_without_a_time_are_in_no_window() {
        assert_eq!(windows(&[None, Some(1), None], WindowKind::Tumble { size_us: 10, offset_us: 0 }), [(1, 0, 10)]);
        assert_eq!(windows(&[None, Some(1)], WindowKind::Hop { size_us: 10, slide_us: 10, offset_us: 0 }), [(1, 0, 10)]);
    }

    #[test]
    fn hopping_windows_hold_a_row_size_by_slide_times() {
        let kind = WindowKind::Hop { size_us: 10, slide_us: 5, offset_us: 0 };
        assert_eq!(windows(&[Some(12), Some(-1)], kind), [(0, 5, 15), (0, 10, 20), (1, -10, 0), (1, -5, 5)]);
        // A size that is no multiple of the slide: some rows are in one window more than others.
        let kind = WindowKind::Hop { size_us: 7, slide_us: 5, offset_us: 0 };
        assert_eq!(windows(&[Some(11), Some(13)], kind), [(0, 5, 12), (0, 10, 17), (1, 10, 17)]);
    }

    #[test]
    fn cumulating_windows_share_their_start() {
        let kind = WindowKind::Cumulate { size_us: 15, step_us: 5, offset_us: 0 };
        assert_eq!(windows(&[Some(0), Some(7), Some(-1)], kind), [(0, 0, 5), (0, 0, 10), (0, 0, 15), (1, 0, 10), (1, 0, 15), (2, -15, 0)]);
    }

    #[test]
    fn a_hop_assigns_exactly_the_windows_that_contain_the_row() {
        for (size_us, slide_us, offset_us) in [(10, 3, 0), (9, 3, -2), (9, 4, 5), (1, 1, 0)] {
            for time in -30..30 {
                let got = windows(&[Some(time)], WindowKind::Hop { size_us, slide_us, offset_us });
                let expected: Vec<_> = (-50..50)
                    .map(|k| k * slide_us + offset_us.rem_euclid(slide_us))
                    .filter(|s| *s <= time && time < s + size_us)
                    .map(|s| (0, s, s + size_us))
                    .collect();
                assert_eq!(got, expected, "size {size_us} slide {slide_us} offset {offset_us} time {time}");
            }
        }
    }

    #[test]
    fn the_ends_of_time_do_not_panic() {
        for kind in [
            WindowKind::Tumble { size_us: 10, offset_us: i64::MAX },
            WindowKind::Hop { size_us: 10, slide_us: 5, offset_us: i64::MIN },
            WindowKind::Cumulate { size_us: 10, step_us: 5, offset_us: -3 },
        ] {
            assert!(windows(&[Some(i64::MIN), Some(i64::MAX)], kind).len() >= 2);
        }
    }

    #[test]
    fn window_time_is_the_last_moment_inside() {
        let assigned = assign(&TimestampMicrosecondArray::from(vec![5]), &WindowKind::Tumble { size_us: 10, offset_us: 0 });
        assert_eq!(assigned.time().as_primitive::<TimestampMicrosecondType>().value(0), 9);
        assert_eq!(assigned.time().data_type(), &event_time_type());
    }

    #[test]
    fn lengths_are_checked() {
        let message = |kind: WindowKind| kind.check().unwrap_err();
        assert!(message(WindowKind::Tumble { size_us: 0, offset_us: 0 }).contains("above zero"));
        assert!(message(WindowKind::Hop { size_us: 1, slide_us: -1, offset_us: 0 }).contains("slide"));
        assert!(message(WindowKind::Cumulate { size_us: 10, step_us: 3, offset_us: 0 }).contains("multiple"));
        assert!(
            message(WindowKind::Hop { size_us: 1_000_000, slide_us: 2_000_000, offset_us: 0 })
                .contains("of 1s that begin every 2s leave gaps")
        );
        assert!(message(WindowKind::Hop { size_us: 86_400_000_000, slide_us: 1_000_000, offset_us: 0 }).contains("86400 windows"));
    }
}

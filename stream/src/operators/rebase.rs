//! Counts time by another column of windows that have ended: what is known of the last microsecond of the windows still to come says something
//! else of their starts. No state; rows pass as they are.
//!
//! ```text
//! windows of 10 minutes, watermark 10:25   all that end by then have been handed on
//! window_time   10:25 or later             what the watermark says
//! window_start  10:20 or later             `Starts`
//! ```

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use serde::Serialize;
use watershed_functions::window::WindowKind;

use crate::StreamError;
use crate::operator::{Operator, Output};
use crate::watermark::Watermark;

/// How a watermark is turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rebase {
    /// From the last microsecond of windows to their starts, which lie `step_us` apart from `offset_us` on.
    Starts {
        /// Length of the longest window.
        size_us: i64,
        /// From one start to the next.
        step_us: i64,
        /// Shift of all windows.
        offset_us: i64,
    },
    /// From the ends of windows to their last microsecond.
    Times,
}

impl Rebase {
    /// To the starts of windows.
    pub fn starts(kind: WindowKind) -> Self {
        let (size_us, step_us, offset_us) = match kind {
            WindowKind::Tumble { size_us, offset_us } | WindowKind::Cumulate { size_us, offset_us, .. } => (size_us, size_us, offset_us),
            WindowKind::Hop { size_us, slide_us, offset_us } => (size_us, slide_us, offset_us),
        };
        Self::Starts { size_us, step_us, offset_us }
    }

    /// What the watermark `us` says of the other column.
    pub fn turned(self, us: i64) -> i64 {
        match self {
            _ if us == i64::MIN || us == i64::MAX => us,
            // The first window that ends after it has not been handed on.
            Self::Starts { size_us, step_us, offset_us } => {
                let steps = us.saturating_sub(size_us).saturating_sub(offset_us).div_euclid(step_us);
                (steps + 1).saturating_mul(step_us).saturating_add(offset_us)
            }
            Self::Times => us.saturating_sub(1),
        }
    }

    /// The least watermark that says `us`, or more, of the other column.
    pub fn needed(self, us: i64) -> i64 {
        match self {
            _ if us == i64::MIN || us == i64::MAX => us,
            Self::Starts { size_us, step_us, offset_us } => {
                let steps = us.saturating_sub(offset_us).saturating_add(step_us - 1).div_euclid(step_us);
                (steps - 1).saturating_mul(step_us).saturating_add(offset_us).saturating_add(size_us)
            }
            Self::Times => us.saturating_add(1),
        }
    }
}

/// See the module documentation.
pub struct Rebased {
    rebase: Rebase,
    schema: SchemaRef,
}

impl Rebased {
    /// `schema` is that of input and output.
    pub fn new(rebase: Rebase, schema: SchemaRef) -> Self {
        Self { rebase, schema }
    }
}

impl Operator for Rebased {
    fn name(&self) -> &'static str {
        "rebase"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> Result<(), StreamError> {
        out.rows.push(batch);
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, _out: &mut Output) -> Result<Watermark, StreamError> {
        let turned = |us: i64| self.rebase.turned(us);
        Ok(Watermark { input_us: turned(watermark.input_us), merged_us: turned(watermark.merged_us), ..watermark })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All windows that hold one of some times.
    fn windows(kind: WindowKind) -> Vec<(i64, i64)> {
        let of = |time: i64| -> Vec<(i64, i64)> {
            let (starts, ends) = match kind {
                WindowKind::Tumble { size_us, offset_us } => {
                    (vec![(time - offset_us).div_euclid(size_us) * size_us + offset_us], vec![size_us])
                }
                WindowKind::Hop { size_us, slide_us, offset_us } => {
                    let last = (time - offset_us).div_euclid(slide_us) * slide_us + offset_us;
                    ((0..size_us).map(|back| last - back * slide_us).filter(|start| start + size_us > time).collect(), vec![size_us])
                }
                WindowKind::Cumulate { size_us, step_us, offset_us } => {
                    let start = (time - offset_us).div_euclid(size_us) * size_us + offset_us;
                    (vec![start], (1..=size_us / step_us).map(|n| n * step_us).filter(|long| start + long > time).collect())
                }
            };
            starts.iter().flat_map(|start| ends.iter().map(move |long| (*start, start + long))).collect()
        };
        (-60..60).flat_map(of).collect()
    }

    #[test]
    fn a_watermark_says_of_starts_what_holds_for_every_window_still_to_come() {
        for kind in [
            WindowKind::Tumble { size_us: 10, offset_us: 3 },
            WindowKind::Hop { size_us: 10, slide_us: 4, offset_us: 0 },
            WindowKind::Hop { size_us: 12, slide_us: 4, offset_us: -1 },
            WindowKind::Cumulate { size_us: 12, step_us: 4, offset_us: 0 },
        ] {
            let rebase = Rebase::starts(kind);
            for watermark in -20..20 {
                let to_come = windows(kind).into_iter().filter(|(_, end)| *end > watermark).map(|(start, _)| start).min().unwrap();
                let said = rebase.turned(watermark);
                assert!(said <= to_come, "{kind}: {watermark} says {said}, and a window from {to_come} is still to come");
                // No window begins between what is said and the first one to come.
                assert!(windows(kind).iter().all(|(start, _)| !(said..to_come).contains(start)), "{kind}: {watermark} says {said} only");
                let needed = rebase.needed(watermark);
                assert!(rebase.turned(needed) >= watermark && rebase.turned(needed - 1) < watermark, "{kind}: {needed} for {watermark}");
            }
        }
        assert_eq!((Rebase::Times.turned(10), Rebase::Times.needed(9)), (9, 10));
        for end in [i64::MIN, i64::MAX] {
            assert_eq!(Rebase::starts(WindowKind::Tumble { size_us: 10, offset_us: 0 }).turned(end), end);
        }
    }
}

//! How long the steps of a plan keep rows back: up to where time must move so that nothing is kept back any more.

use watershed_functions::window::WindowKind;

use crate::operators::rebase::Rebase;

/// What a step does with time, or keeps back.
#[derive(Debug, Clone, Copy)]
pub enum Hold {
    /// Rows are in windows of this kind from here on.
    Windows(WindowKind),
    /// Rows are kept until their windows have ended.
    Closed,
    /// The event time of rows is from here on this column of the window that has ended.
    By(WindowTime),
    /// The watermark is turned.
    Rebased(Rebase),
    /// Rows are kept until the next multiple of this, in microseconds.
    Bucket(i64),
    /// Rows are kept until their own time has passed.
    Time,
    /// Rows meet others, and are handed on when their time has passed, or, if `waits`, `reach_us` later. Those of the past `reach_us` may still come.
    Met {
        /// In microseconds.
        reach_us: i64,
        /// Whether rows without a partner are handed on.
        waits: bool,
    },
}

/// A column of a window that has ended, as an event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowTime {
    /// `window_start`
    Start,
    /// `window_end`
    End,
    /// `window_time`
    Last,
}

/// The watermark at which nothing is kept back any more if no event time is greater than `newest_us`. `None` if nothing ever is.
pub fn drained_us(holds: &[Hold], newest_us: i64) -> Option<i64> {
    if holds.is_empty() {
        return None;
    }
    // With the rows: the greatest event time at each step.
    let (mut time_us, mut size_us, mut end_us) = (newest_us, 0, newest_us);
    let mut needed_us = Vec::with_capacity(holds.len());
    for hold in holds {
        needed_us.push(match *hold {
            Hold::Windows(kind) => {
                (size_us, end_us) = (kind.size_us(), kind.last_end_us(time_us));
                i64::MIN
            }
            Hold::Closed => end_us,
            Hold::By(column) => {
                time_us = match column {
                    WindowTime::Start => end_us.saturating_sub(size_us),
                    WindowTime::End => end_us,
                    WindowTime::Last => end_us.saturating_sub(1),
                };
                i64::MIN
            }
            Hold::Rebased(_) => i64::MIN,
            Hold::Bucket(_) | Hold::Time => time_us.saturating_add(1),
            Hold::Met { reach_us, waits } => time_us.saturating_add(if waits { reach_us } else { 0 }).saturating_add(1),
        });
    }
    // Against them: what each step must be told so that it tells the next one what that needs.
    let mut reached_us = i64::MIN;
    for (hold, needed_us) in holds.iter().zip(needed_us).rev() {
        if let Hold::Met { reach_us, .. } = hold {
            reached_us = reached_us.saturating_add(*reach_us);
        }
        reached_us = reached_us.max(needed_us);
        reached_us = match *hold {
            Hold::Bucket(us) => reached_us.saturating_add(us - 1).div_euclid(us).saturating_mul(us),
            Hold::Rebased(rebase) => rebase.needed(reached_us),
            _ => reached_us,
        };
    }
    Some(reached_us.max(newest_us.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;
    const HOUR: i64 = 60 * MINUTE;

    #[test]
    fn time_moves_to_where_the_last_step_lets_go_and_no_further() {
        let tumble = |size_us: i64| Hold::Windows(WindowKind::Tumble { size_us, offset_us: 0 });
        let hop = WindowKind::Hop { size_us: 10 * MINUTE, slide_us: 5 * MINUTE, offset_us: 0 };
        let starts = |kind| Hold::Rebased(Rebase::starts(kind));
        // 10:25:30
        let newest_us = 10 * HOUR + 25 * MINUTE + MINUTE / 2;
        let minutes = |holds: &[Hold]| drained_us(holds, newest_us).map(|us| (us.div_euclid(MINUTE) - 600, us.rem_euclid(MINUTE)));
        assert_eq!(minutes(&[]), None);
        assert_eq!(minutes(&[tumble(HOUR)]), Some((25, MINUTE / 2 + 1)), "windows alone keep nothing back");
        assert_eq!(minutes(&[tumble(HOUR), Hold::Closed]), Some((60, 0)));
        assert_eq!(minutes(&[Hold::Time]), Some((25, MINUTE / 2 + 1)));
        assert_eq!(minutes(&[Hold::Bucket(1_000_000), tumble(10 * MINUTE), Hold::Closed]), Some((30, 0)));
        assert_eq!(minutes(&[Hold::Bucket(7 * MINUTE), tumble(10 * MINUTE), Hold::Closed]), Some((30, 0)), "630 is 90 times 7");
        assert_eq!(minutes(&[Hold::Bucket(11 * MINUTE), tumble(10 * MINUTE), Hold::Closed]), Some((38, 0)));
        // The same windows once more; hours of minutes; OVER by the end, which is after the last moment.
        assert_eq!(minutes(&[tumble(MINUTE), Hold::Closed, Hold::Closed]), Some((26, 0)));
        let hours = |column| [tumble(MINUTE), Hold::Closed, Hold::By(column), tumble(HOUR), Hold::Closed];
        assert_eq!(minutes(&hours(WindowTime::Last)), Some((60, 0)));
        assert_eq!(minutes(&[tumble(MINUTE), Hold::Closed, Hold::By(WindowTime::End), Hold::Time]), Some((26, 1)));
        assert_eq!(minutes(&[tumble(MINUTE), Hold::Closed, Hold::By(WindowTime::Last), Hold::Time]), Some((26, 0)));
        // The last window, from 10:25 to 10:35, is handed on at its end, and then no window from 10:25 is to come.
        assert_eq!(minutes(&[Hold::Windows(hop), Hold::Closed, starts(hop), Hold::By(WindowTime::Start), Hold::Time]), Some((35, 0)));
        let half_hours = [Hold::Windows(hop), Hold::Closed, starts(hop), Hold::By(WindowTime::Start), tumble(30 * MINUTE), Hold::Closed];
        assert_eq!(minutes(&half_hours), Some((35, 0)), "windows that begin at 10:30 end at 10:40");
        // A pair of minutes apart: the later one may be the newest row, and what it meets is older.
        let met = |waits| Hold::Met { reach_us: 5 * MINUTE, waits };
        assert_eq!(minutes(&[met(false)]), Some((25, MINUTE / 2 + 1)));
        assert_eq!(minutes(&[met(true)]), Some((30, MINUTE / 2 + 1)));
        assert_eq!(
            minutes(&[met(true), tumble(HOUR), Hold::Closed]),
            Some((65, 0)),
            "the hour ends at 60, and rows are handed on up to 5 late"
        );
        let by_end = [tumble(MINUTE), Hold::Closed, Hold::By(WindowTime::End), Hold::Time, Hold::Rebased(Rebase::Times), Hold::Closed];
        assert_eq!(minutes(&by_end), Some((26, 1)));
    }
}

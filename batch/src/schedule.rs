//! When a job is due. Pure: the caller passes the time.
//!
//! Due times are a function of when the last run started. However many of them passed meanwhile, one run makes up for all: it starts later
//! than they were, so the next due time lies ahead of it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use croner::Cron;
use watershed_dialect::{Schedule, SqlError};

/// When a job whose last run started at `last_start` is due next; `None` if no time makes it due. A view that follows its inputs is due then at
/// the earliest, and only if they have changed.
pub fn next_after(schedule: &Schedule, last_start: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match schedule {
        Schedule::OnDemand => None,
        Schedule::Cron(expression) => expression.parse::<Cron>().ok()?.find_next_occurrence(&last_start, false).ok(),
        Schedule::Every(span) => {
            let span_ms = i64::try_from(span.as_millis()).ok()?.max(1);
            let start_ms = last_start.timestamp_millis();
            DateTime::from_timestamp_millis(start_ms.div_euclid(span_ms).checked_add(1)?.checked_mul(span_ms)?)
        }
        Schedule::OnUpdate { at_most_every } => last_start.checked_add_signed(delta(*at_most_every)),
    }
}

/// Refuses a cron expression that no moment fits, such as the 30th of February.
pub fn check_schedule(schedule: &Schedule, now: DateTime<Utc>) -> Result<(), SqlError> {
    match schedule {
        Schedule::Cron(expression) if next_after(schedule, now).is_none() => {
            Err(SqlError::new(format!("'{expression}' never comes: no day fits"))
                .hint("check day and month: minute, hour, day, month, weekday"))
        }
        _ => Ok(()),
    }
}

fn delta(span: Duration) -> TimeDelta {
    TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("{text}Z").parse().unwrap()
    }

    fn next(schedule: &Schedule, last: &str) -> Option<String> {
        next_after(schedule, at(last)).map(|time| time.format("%Y-%m-%dT%H:%M:%S").to_string())
    }

    #[test]
    fn cron_is_utc_and_strictly_later() {
        let hourly = Schedule::Cron("5 * * * *".into());
        assert_eq!(next(&hourly, "2026-03-29T00:59:59").as_deref(), Some("2026-03-29T01:05:00"));
        assert_eq!(next(&hourly, "2026-03-29T01:05:00").as_deref(), Some("2026-03-29T02:05:00"));
        assert_eq!(next(&hourly, "2026-03-29T01:05:00.200").as_deref(), Some("2026-03-29T02:05:00"));
        let weekdays = Schedule::Cron("0 6 * * MON-FRI".into());
        assert_eq!(next(&weekdays, "2026-11-20T06:00:00").as_deref(), Some("2026-11-23T06:00:00"));
        let seconds = Schedule::Cron("*/10 * * * * *".into());
        assert_eq!(next(&seconds, "2026-11-20T06:00:03").as_deref(), Some("2026-11-20T06:00:10"));
    }

    #[test]
    fn spans_begin_at_whole_multiples() {
        let minutes = Schedule::Every(Duration::from_secs(300));
        assert_eq!(next(&minutes, "2026-11-20T06:03:21").as_deref(), Some("2026-11-20T06:05:00"));
        assert_eq!(next(&minutes, "2026-11-20T06:05:00").as_deref(), Some("2026-11-20T06:10:00"));
        // A run that was late by hours makes up for all that were missed.
        assert_eq!(next(&minutes, "2026-11-20T11:07:00").as_deref(), Some("2026-11-20T11:10:00"));
        assert_eq!(next(&minutes, "1969-12-31T23:59:59").as_deref(), Some("1970-01-01T00:00:00"));
    }

    #[test]
    fn following_waits_and_on_demand_never_comes() {
        let follow = Schedule::OnUpdate { at_most_every: Duration::from_secs(10) };
        assert_eq!(next(&follow, "2026-11-20T06:00:00").as_deref(), Some("2026-11-20T06:00:10"));
        assert_eq!(next(&Schedule::OnDemand, "2026-11-20T06:00:00"), None);
    }

    #[test]
    fn a_day_that_never_comes_is_refused() {
        let never = Schedule::Cron("0 0 30 2 *".into());
        assert!(check_schedule(&never, at("2026-11-20T06:00:00")).unwrap_err().message.contains("never comes"));
        check_schedule(&Schedule::Cron("0 0 29 2 *".into()), at("2026-11-20T06:00:00")).unwrap();
    }
}

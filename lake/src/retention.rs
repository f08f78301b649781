//! How long a table itself wants replaced files to be kept: its property `delta.deletedFileRetentionDuration`.
//!
//! Tables that this program makes have it, a little longer than the setting, since removals must stay on record until a vacuum has been there.
//! What was written is noted beside it: as long as both agree nobody has asked for anything else, and the setting holds.

use std::collections::BTreeMap;
use std::time::Duration;

const FILES: &str = "delta.deletedFileRetentionDuration";
const AS_MADE: &str = "watershed.deletedFileRetentionDuration";

/// A span of time as Delta's table properties say it.
pub(crate) fn interval(span: Duration) -> String {
    format!("interval {} seconds", span.as_secs())
}

/// The properties of a new table whose removals stay on record for so long.
pub(crate) fn of_new_table(span: Duration) -> [(String, String); 2] {
    [(FILES.to_owned(), interval(span)), (AS_MADE.to_owned(), interval(span))]
}

/// What somebody has asked for by the properties of a table, if anybody has. An error shows a property that is not understood.
pub(crate) fn wished(properties: &BTreeMap<String, String>) -> Result<Option<Duration>, String> {
    match properties.get(FILES) {
        Some(text) if properties.get(AS_MADE) != Some(text) => parse(text).map(Some).ok_or_else(|| format!("{FILES} = '{text}'")),
        _ => Ok(None),
    }
}

/// `interval 30 days`, `interval 1 day 12 hours`.
fn parse(text: &str) -> Option<Duration> {
    let text = text.to_lowercase();
    let mut words = text.split_whitespace().skip_while(|word| *word == "interval").peekable();
    words.peek()?;
    let mut span = Duration::ZERO;
    while let Some(count) = words.next() {
        let count: u64 = count.parse().ok()?;
        let unit = words.next()?;
        let part = match unit.strip_suffix('s').unwrap_or(unit) {
            "nanosecond" => Duration::from_nanos(count),
            "microsecond" => Duration::from_micros(count),
            "millisecond" => Duration::from_millis(count),
            "second" => Duration::from_secs(count),
            "minute" => Duration::from_secs(count.checked_mul(60)?),
            "hour" => Duration::from_secs(count.checked_mul(3600)?),
            "day" => Duration::from_secs(count.checked_mul(86_400)?),
            "week" => Duration::from_secs(count.checked_mul(604_800)?),
            _ => return None,
        };
        span = span.checked_add(part)?;
    }
    Some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_spark_writes_them() {
        let day = Duration::from_secs(86_400);
        assert_eq!(parse("interval 30 days"), Some(30 * day));
        assert_eq!(parse("INTERVAL 1 week"), Some(7 * day));
        assert_eq!(parse("interval 1 day 12 hours"), Some(day * 3 / 2));
        assert_eq!(parse(&interval(day)), Some(day));
        for odd in ["", "interval", "interval days", "interval 1 month", "interval -1 days", "7", "interval 99999999999999999999 days"] {
            assert_eq!(parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn what_a_new_table_has_is_nobodys_wish() {
        let mut properties = BTreeMap::from(of_new_table(Duration::from_secs(90)));
        assert_eq!(wished(&properties), Ok(None));
        properties.insert(FILES.to_owned(), "interval 30 days".to_owned());
        assert_eq!(wished(&properties), Ok(Some(Duration::from_secs(30 * 86_400))));
        properties.insert(FILES.to_owned(), "for ever".to_owned());
        assert!(wished(&properties).unwrap_err().contains("for ever"));
        assert_eq!(wished(&BTreeMap::new()), Ok(None));
    }
}

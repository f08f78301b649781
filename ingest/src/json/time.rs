//! Dates and timestamps from text: ISO-8601 / RFC 3339, with `T` or a space, with a zone or as UTC without one.

/// Microseconds since 1970 of `YYYY-MM-DD[T ]HH:MM[:SS[.fraction]][Z|±HH[[:]MM]]`; digits after the sixth are cut off.
/// `None` if the text is not of that form or names a time that does not exist.
pub(super) fn timestamp_us(text: &[u8]) -> Option<i64> {
    let days = date_days(text.get(..10)?)?;
    let Some((b'T' | b't' | b' ', clock)) = text.get(10..)?.split_first() else {
        return None;
    };
    let (hour, minute) = (two(clock, 0)?, two(clock, 3)?);
    if clock.get(2) != Some(&b':') {
        return None;
    }
    let mut rest = &clock[5..];
    let (mut second, mut fraction_us) = (0, 0);
    if let Some((b':', _)) = rest.split_first() {
        second = two(rest, 1)?;
        rest = &rest[3..];
        if let Some((b'.' | b',', digits)) = rest.split_first() {
            let count = digits.iter().take_while(|digit| digit.is_ascii_digit()).count();
            if count == 0 {
                return None;
            }
            // Missing digits count as zeros.
            let digit = |index: usize| if index < count { i64::from(digits[index] - b'0') } else { 0 };
            fraction_us = (0..6).fold(0, |value, index| value * 10 + digit(index));
            rest = &digits[count..];
        }
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - zone_seconds(rest)?;
    Some(seconds * 1_000_000 + fraction_us)
}

/// How far ahead of UTC the zone written in `text` is.
fn zone_seconds(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits.len() {
        2 => (two(digits, 0)?, 0),
        4 => (two(digits, 0)?, two(digits, 2)?),
        5 if digits[2] == b':' => (two(digits, 0)?, two(digits, 3)?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Days since 1970 of `YYYY-MM-DD`; `None` if there is no such day.
pub(super) fn date_days(text: &[u8]) -> Option<i64> {
    if text.len() != 10 || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let (year, month, day) = (two(text, 0)? * 100 + two(text, 2)?, two(text, 5)?, two(text, 8)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    (day >= 1 && day <= length).then(|| days_from_civil(year, month, day))
}

/// Days since 1970 in the proleptic Gregorian calendar. Years begin in March here, so that the leap day comes last and months follow a
/// simple rule (five months have 153 days).
pub(crate) const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The number of two digits at `at`.
fn two(text: &[u8], at: usize) -> Option<i64> {
    match text.get(at..at + 2)? {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0')),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_calendar_on_every_day_of_four_centuries() {
        let mut expected = days_from_civil(1800, 1, 1);
        assert_eq!(expected, -62_091);
        for year in 1800..2201 {
            for month in 1..=12 {
                for day in 1..=31 {
                    let text = format!("{year:04}-{month:02}-{day:02}");
                    if let Some(days) = date_days(text.as_bytes()) {
                        assert_eq!(days, expected, "{text}");
                        expected += 1;
                    }
                }
            }
        }
        assert_eq!(expected, 84_371, "2201-01-01");
    }

    #[test]
    fn reads_what_producers_write() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01 00:00:01", 1_000_000),
            ("1970-01-01T00:00:00.1Z", 100_000),
            ("1970-01-01T00:00:00.123456789Z", 123_456),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1970-01-01T01:00+0100", 0),
            ("1969-12-31T23:59:59.999999-00:00", -1),
            ("1970-01-01t05:30:00+05:30", 0),
            ("2026-11-21T06:40:21.5Z", 1_795_243_221_500_000),
            ("0001-01-01T00:00:00Z", -62_135_596_800_000_000),
            ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
        ];
        for (text, expected) in cases {
            assert_eq!(timestamp_us(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        let cases = [
            "",
            "now",
            "1970-01-01",
            "1970-01-01T",
            "1970-01-01T00",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:60:00Z",
            "1970-01-01T00:00:60Z",
            "1970-02-29T00:00:00Z",
            "1970-13-01T00:00:00Z",
            "1970-00-01T00:00:00Z",
            "1970-01-00T00:00:00Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00 Z",
            "1970-01-01T00:00:00+1",
            "1970-01-01T00:00:00+24:00",
            "1970-01-01x00:00:00",
            "70-01-01T00:00:00Z",
            "1970-01-01T00:0",
            "1970-01-01T00:00:0",
            "1970-01-01T0:00:00",
            "1970-01-01T00:00:00Zjunk",
        ];
        for text in cases {
            assert_eq!(timestamp_us(text.as_bytes()), None, "{text}");
        }
    }
}

//! Days of the Gregorian calendar for every year that a 64-bit time reaches; libraries for time end within them.

/// Year, month and day of a day counted from 1970-01-01. Years before 1 are 0, -1, …
pub fn civil_of_day(day: i64) -> (i64, i64, i64) {
    // Years begin in March here, so that the leap day comes last; eras of 400 years have 146,097 days.
    let shifted = day + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, of_year - (153 * shifted_month + 2) / 5 + 1)
}

/// The day, counted from 1970-01-01, of a year, month and day.
pub fn day_of_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_agree() {
        for (day, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (19_782, (2024, 2, 29)),
            (2_932_896, (9999, 12, 31)),
            (-719_162, (1, 1, 1)),
            (106_751_991, (294_247, 1, 10)),
        ] {
            assert_eq!(civil_of_day(day), date);
            assert_eq!(day_of_civil(date.0, date.1, date.2), day);
        }
        for day in (-200_000_000..200_000_000).step_by(99_991) {
            let (year, month, of_month) = civil_of_day(day);
            assert_eq!(day_of_civil(year, month, of_month), day);
        }
    }
}

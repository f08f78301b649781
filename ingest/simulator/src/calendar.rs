//! The rhythm of a city: how demand, the roads and the pull of its zones change over the day and the week.

use crate::city::ZoneKind;

/// Demand by hour of local time relative to its mean, Monday to Friday and at the weekend.
const WEEKDAY: [f64; 24] = [
    0.35, 0.22, 0.15, 0.13, 0.20, 0.45, 0.90, 1.55, 1.80, 1.30, 0.95, 0.95, 1.05, 1.00, 1.00, 1.10, 1.35, 1.75, 1.95, 1.60, 1.25, 1.10,
    0.90, 0.60,
];
const WEEKEND: [f64; 24] = [
    1.50, 1.40, 1.20, 0.90, 0.55, 0.35, 0.35, 0.45, 0.60, 0.75, 0.90, 1.00, 1.10, 1.10, 1.05, 1.05, 1.10, 1.20, 1.35, 1.40, 1.35, 1.40,
    1.60, 1.60,
];

pub(crate) const SECOND_US: i64 = 1_000_000;
pub(crate) const DAY_US: i64 = 86_400 * SECOND_US;

/// A moment as the people of a city see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LocalTime {
    /// 0.0 to 24.0.
    pub(crate) hour: f64,
    /// Saturday or Sunday.
    pub(crate) weekend: bool,
    /// Friday or Saturday.
    pub(crate) before_rest_day: bool,
}

impl LocalTime {
    pub(crate) fn at(time_us: i64, utc_offset_h: i64) -> Self {
        let local_us = time_us + utc_offset_h * 3_600 * SECOND_US;
        // 1970-01-01 was a Thursday: three days after a Monday.
        let weekday = (local_us.div_euclid(DAY_US) + 3).rem_euclid(7);
        let hour = local_us.rem_euclid(DAY_US) as f64 / (3_600.0 * SECOND_US as f64);
        Self { hour, weekend: weekday >= 5, before_rest_day: weekday == 4 || weekday == 5 }
    }

    fn within(&self, from: f64, to: f64) -> bool {
        (from..to).contains(&self.hour)
    }

    fn rush(&self) -> bool {
        !self.weekend && (self.within(7.0, 9.5) || self.within(16.5, 19.0))
    }

    fn night_out(&self) -> bool {
        self.hour >= 20.0 || self.hour < 4.0
    }

    /// Demand relative to its mean over the week, about 0.1 to 2.
    pub(crate) fn demand(&self) -> f64 {
        let profile = if self.weekend { &WEEKEND } else { &WEEKDAY };
        let hour = self.hour as usize % 24;
        let next = profile[(hour + 1) % 24];
        let smooth = profile[hour] + (next - profile[hour]) * self.hour.fract();
        if self.before_rest_day && self.hour >= 19.0 { smooth * 1.25 } else { smooth }
    }

    /// How fast the roads are, relative to free flow by day.
    pub(crate) fn road_speed(&self) -> f64 {
        match () {
            () if self.rush() => 0.62,
            () if self.within(0.0, 5.5) => 1.15,
            () if self.within(9.5, 16.5) => 0.85,
            () => 0.95,
        }
    }

    /// How much a kind of zone draws people to start (`leaving`) or to end a trip there.
    pub(crate) fn pull(&self, kind: ZoneKind, leaving: bool) -> f64 {
        let morning = self.within(6.0, 10.0);
        let evening = self.within(16.0, 20.0);
        match kind {
            ZoneKind::Centre => 2.0,
            ZoneKind::Shopping => [0.3, 1.6][usize::from(self.within(10.0, 20.0))],
            ZoneKind::Campus => [0.3, 1.2][usize::from(!self.weekend && self.within(8.0, 18.0))],
            ZoneKind::Business if self.weekend => 0.4,
            ZoneKind::Business => match (morning, evening, leaving) {
                (true, _, false) | (_, true, true) => 3.5,
                _ => 0.8,
            },
            ZoneKind::Residential => match (morning, evening || self.night_out(), leaving) {
                (true, _, true) | (_, true, false) => 3.0,
                _ => 1.0,
            },
            ZoneKind::Station => [1.4, 2.6][usize::from(self.rush())],
            ZoneKind::Airport => [0.5, 1.5][usize::from(self.within(4.5, 23.0))],
            ZoneKind::Nightlife => [0.6, 3.2][usize::from(self.night_out())],
            // Matches are in the evening before a day of rest: everybody comes within two hours and leaves within one.
            ZoneKind::Stadium if self.before_rest_day && self.within(17.5, 19.5) => [0.2, 6.0][usize::from(!leaving)],
            ZoneKind::Stadium if self.before_rest_day && self.within(21.5, 22.5) => [0.2, 9.0][usize::from(leaving)],
            ZoneKind::Stadium => 0.2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONDAY_US: i64 = 1_767_571_200_000_000;

    #[test]
    fn days_and_hours_are_local() {
        let at = |hours: i64, offset| LocalTime::at(MONDAY_US + hours * 3_600 * SECOND_US, offset);
        assert_eq!(at(8, 0), LocalTime { hour: 8.0, weekend: false, before_rest_day: false });
        assert!(at(0, -1).weekend, "one hour west of Monday it is still Sunday");
        assert!(at(4 * 24, 0).before_rest_day && !at(4 * 24, 0).weekend, "Friday");
        assert!(at(8, 0).demand() > 5.0 * at(3, 0).demand(), "rush hour against the small hours");
        assert!(at(8, 0).road_speed() < at(3, 0).road_speed());
        assert!(at(8, 0).pull(ZoneKind::Business, false) > at(8, 0).pull(ZoneKind::Business, true));
    }
}

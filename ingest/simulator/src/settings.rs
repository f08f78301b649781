//! What can be set about a world, with defaults that make sense and checks that say what is wrong.

use serde::{Deserialize, Serialize};

use crate::city::CITIES;
use crate::{SimulatorError, Topic};

/// A world to be. All of it decides the events; the same settings give the same events, byte for byte.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seed of all randomness (default 1).
    pub seed: u64,
    /// Names of cities, out of [`crate::city_names`] (default: amsterdam, berlin, london, new_york).
    pub cities: Vec<String>,
    /// Drivers over all cities, on shift or not (default 2,000).
    pub drivers: u32,
    /// Riders over all cities (default 50,000).
    pub riders: u32,
    /// Where simulated time begins, in microseconds since 1970 (default Monday 2026-01-05 07:00 UTC).
    pub start_time_us: i64,
    /// How long the world has been running unseen before `start_time_us`, in seconds (default 0). With 2,700 the
    /// first minute already has completions, but also trips whose earlier stages were never seen.
    pub warm_up_s: u32,
    /// How often a driver on shift sends its location, in seconds (default 4). Locations are nine in ten of all events;
    /// at 60 a short run has far more of the other three topics.
    pub location_every_s: u32,
    /// Trips asked for per driver and hour, averaged over a week (default 0.6; of all drivers about a third is on shift,
    /// and can do about three trips an hour each).
    pub trips_per_driver_hour: f64,
    /// App sessions that end without a request, per trip asked for (default 4.0).
    pub browse_sessions_per_trip: f64,
    /// Ad impressions on other sites, per trip asked for (default 20.0).
    pub impressions_per_trip: f64,
    /// How much fraud there is.
    pub fraud: Fraud,
    /// Partitions by topic.
    pub partitions: Partitions,
    /// What is done to the events on their way to Kafka.
    pub injection: Injection,
    /// The delay for which the truth computes lateness, in microseconds (default 10 s, as in `sql/sources`).
    pub watermark_delay_us: i64,
    /// Keep the id of every duplicated event in the truth (default false: memory grows with them).
    pub keep_duplicate_ids: bool,
}

/// Number of partitions by topic, each at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Partitions {
    /// Of `ride-events` (default 4).
    pub ride_events: i32,
    /// Of `driver-locations` (default 4).
    pub driver_locations: i32,
    /// Of `payments` (default 2).
    pub payments: i32,
    /// Of `clickstream` (default 4).
    pub clickstream: i32,
    /// Of `fraud-labels` (default 1).
    pub fraud_labels: i32,
}

/// Fraud episodes that begin per hour of simulated time, over all cities; each kind 0 to 3,600. What they do is in `fraud.rs`,
/// `repeat.rs` and `fleet.rs`; every event of theirs has a label in [`Topic::FraudLabels`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fraud {
    /// Many small payments with many stolen cards from one device, most of them declined (default 6).
    pub card_testing_per_h: f64,
    /// A rider's account pays high amounts from a new device in another city (default 6).
    pub account_takeover_per_h: f64,
    /// Many new accounts redeem promotions from one device (default 6).
    pub promo_abuse_per_h: f64,
    /// The same driver and rider again and again: short trips, odd fares (default 6).
    pub collusion_per_h: f64,
    /// A driver's location jumps about (default 6).
    pub gps_spoofing_per_h: f64,
}

/// Rates are shares of all events, 0 to 1, and exclude one another: an event is malformed, or late, or duplicated, or
/// out of order, or none of these. The world itself does not change with them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Injection {
    /// Events held back for up to `disorder_max_ms` (default 0.05).
    pub disorder_rate: f64,
    /// Below the watermark delay, so that disorder alone makes no row late (default 8,000).
    pub disorder_max_ms: i64,
    /// Events held back for `late_min_ms` to `late_max_ms` (default 0.002). Whether they are late for a window is decided by
    /// the rows before them in their partition; the truth has the count.
    pub late_rate: f64,
    /// Default 75,000: later than a one-minute window and a 10 s delay.
    pub late_min_ms: i64,
    /// Default 240,000.
    pub late_max_ms: i64,
    /// Events sent again, byte for byte, after up to `duplicate_max_ms` (default 0.005).
    pub duplicate_rate: f64,
    /// Default 20,000.
    pub duplicate_max_ms: i64,
    /// Messages made unreadable, all kinds of [`crate::Malformed`] alike (default 0.001).
    pub malformed_rate: f64,
    /// Every so often one partition of each topic, in turn, gets no events; 0 for never (default 0).
    pub idle_every_s: u32,
    /// For how long, below `idle_every_s` (default 60). Its keys go to the next partition meanwhile.
    pub idle_for_s: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 1,
            cities: ["amsterdam", "berlin", "london", "new_york"].map(str::to_owned).to_vec(),
            drivers: 2_000,
            riders: 50_000,
            start_time_us: 1_767_596_400_000_000,
            warm_up_s: 0,
            location_every_s: 4,
            trips_per_driver_hour: 0.6,
            browse_sessions_per_trip: 4.0,
            impressions_per_trip: 20.0,
            fraud: Fraud::default(),
            partitions: Partitions::default(),
            injection: Injection::default(),
            watermark_delay_us: 10_000_000,
            keep_duplicate_ids: false,
        }
    }
}

impl Default for Partitions {
    fn default() -> Self {
        Self { ride_events: 4, driver_locations: 4, payments: 2, clickstream: 4, fraud_labels: 1 }
    }
}

impl Default for Fraud {
    fn default() -> Self {
        Self::each(6.0)
    }
}

impl Fraud {
    /// Everybody is honest.
    pub fn none() -> Self {
        Self::each(0.0)
    }

    /// So many episodes of each kind an hour.
    pub fn each(per_h: f64) -> Self {
        Self {
            card_testing_per_h: per_h,
            account_takeover_per_h: per_h,
            promo_abuse_per_h: per_h,
            collusion_per_h: per_h,
            gps_spoofing_per_h: per_h,
        }
    }

    /// By kind, in the order of `fraud::Kind`.
    pub(crate) fn rates_per_h(&self) -> [f64; 5] {
        [self.card_testing_per_h, self.account_takeover_per_h, self.promo_abuse_per_h, self.collusion_per_h, self.gps_spoofing_per_h]
    }
}

impl Default for Injection {
    fn default() -> Self {
        Self {
            disorder_rate: 0.05,
            disorder_max_ms: 8_000,
            late_rate: 0.002,
            late_min_ms: 75_000,
            late_max_ms: 240_000,
            duplicate_rate: 0.005,
            duplicate_max_ms: 20_000,
            malformed_rate: 0.001,
            idle_every_s: 0,
            idle_for_s: 60,
        }
    }
}

impl Injection {
    /// Nothing is done to the events: each arrives at once, once and whole.
    pub fn none() -> Self {
        Self { disorder_rate: 0.0, late_rate: 0.0, duplicate_rate: 0.0, malformed_rate: 0.0, idle_every_s: 0, ..Self::default() }
    }
}

impl Partitions {
    /// The same number for every topic.
    pub fn all(count: i32) -> Self {
        Self { ride_events: count, driver_locations: count, payments: count, clickstream: count, fraud_labels: count }
    }

    /// Partitions of one topic.
    pub fn of(&self, topic: Topic) -> i32 {
        match topic {
            Topic::RideEvents => self.ride_events,
            Topic::DriverLocations => self.driver_locations,
            Topic::Payments => self.payments,
            Topic::Clickstream => self.clickstream,
            Topic::FraudLabels => self.fraud_labels,
        }
    }
}

impl Settings {
    /// A world in full swing that is lively when time runs as fast as in life: all cities, 20,000 drivers, 1,500 to
    /// 4,000 events a second by time of day, a fraud episode every half minute. The caller sets `start_time_us` to now.
    pub fn for_demo() -> Self {
        Self {
            cities: CITIES.iter().map(|city| city.name.to_owned()).collect(),
            drivers: 20_000,
            riders: 400_000,
            warm_up_s: 2_700,
            fraud: Fraud::each(24.0),
            injection: Injection { idle_every_s: 300, idle_for_s: 30, ..Injection::default() },
            ..Self::default()
        }
    }

    /// Says what cannot be, before a world is made of it.
    pub fn check(&self) -> Result<(), SimulatorError> {
        let wrong = |setting: &'static str, why: String| Err(SimulatorError::Setting { setting, why });
        if self.cities.is_empty() {
            return wrong("cities", "at least one city is needed".to_owned());
        }
        for (index, name) in self.cities.iter().enumerate() {
            if !CITIES.iter().any(|city| city.name == name) {
                let known: Vec<_> = CITIES.iter().map(|city| city.name).collect();
                return wrong("cities", format!("'{name}' is not known; there are {}", known.join(", ")));
            }
            if self.cities[..index].contains(name) {
                return wrong("cities", format!("'{name}' stands there twice"));
            }
        }
        let cities = self.cities.len() as u32;
        if self.drivers < cities || self.drivers > 999_999 {
            return wrong("drivers", format!("{} is not between {cities} (one a city) and 999999", self.drivers));
        }
        if self.riders < cities || self.riders > 9_999_999 {
            return wrong("riders", format!("{} is not between {cities} (one a city) and 9999999", self.riders));
        }
        let years_1980_to_9000 = 315_532_800_000_000..221_845_392_000_000_000;
        if !years_1980_to_9000.contains(&self.start_time_us) {
            return wrong("start_time_us", format!("{} is not between the years 1980 and 9000", self.start_time_us));
        }
        for (name, value) in [
            ("trips_per_driver_hour", self.trips_per_driver_hour),
            ("browse_sessions_per_trip", self.browse_sessions_per_trip),
            ("impressions_per_trip", self.impressions_per_trip),
        ] {
            if !(0.0..=1_000.0).contains(&value) {
                return wrong(name, format!("{value} is not between 0 and 1000"));
            }
        }
        if !(1..=3_600).contains(&self.location_every_s) {
            return wrong("location_every_s", format!("{} is not between 1 and 3600", self.location_every_s));
        }
        if let Some(rate) = self.fraud.rates_per_h().iter().find(|rate| !(0.0..=3_600.0).contains(*rate)) {
            return wrong("fraud", format!("{rate} episodes an hour is not between 0 and 3600"));
        }
        for topic in Topic::ALL {
            let count = self.partitions.of(topic);
            if !(1..=10_000).contains(&count) {
                return wrong("partitions", format!("{count} for {topic} is not between 1 and 10000"));
            }
        }
        if self.watermark_delay_us < 0 {
            return wrong("watermark_delay_us", "it cannot be negative".to_owned());
        }
        self.injection.check()
    }
}

impl Injection {
    fn check(&self) -> Result<(), SimulatorError> {
        let wrong = |setting: &'static str, why: String| Err(SimulatorError::Setting { setting, why });
        let rates = [self.disorder_rate, self.late_rate, self.duplicate_rate, self.malformed_rate];
        if rates.iter().any(|rate| !(0.0..=1.0).contains(rate)) || rates.iter().sum::<f64>() > 1.0 {
            return wrong("injection", format!("the rates {rates:?} must each lie between 0 and 1 and sum to at most 1"));
        }
        for (name, max_ms) in [("disorder_max_ms", self.disorder_max_ms), ("duplicate_max_ms", self.duplicate_max_ms)] {
            if !(1..=3_600_000).contains(&max_ms) {
                return wrong(name, format!("{max_ms} is not between 1 and 3600000 (an hour)"));
            }
        }
        if self.late_min_ms < 1 || self.late_max_ms <= self.late_min_ms || self.late_max_ms > 3_600_000 {
            return wrong("late_max_ms", format!("{} to {} is not a range within an hour", self.late_min_ms, self.late_max_ms));
        }
        if self.idle_every_s > 0 && (self.idle_for_s == 0 || self.idle_for_s >= self.idle_every_s) {
            return wrong("idle_for_s", format!("{} is not between 1 and idle_every_s ({})", self.idle_for_s, self.idle_every_s));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for settings in [Settings::default(), Settings::for_demo()] {
            settings.check().unwrap();
        }
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        assert!(refused(|s| s.cities.push("atlantis".into())).contains("'atlantis' is not known; there are amsterdam"));
        assert!(refused(|s| s.cities.push("london".into())).contains("twice"));
        assert!(refused(|s| s.location_every_s = 0).contains("location_every_s"));
        assert!(refused(|s| s.drivers = 0).contains("drivers"));
        assert!(refused(|s| s.partitions.payments = 0).contains("payments"));
        assert!(refused(|s| s.injection.late_rate = 0.99).contains("sum to at most 1"));
        assert!(refused(|s| s.injection.late_rate = f64::NAN).contains("rates"));
        assert!(refused(|s| s.fraud.collusion_per_h = f64::NAN).contains("fraud"));
        assert!(refused(|s| s.injection.idle_every_s = 10).contains("idle_for_s"));
    }
}

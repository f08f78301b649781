//! Surge: what scarce drivers and a crowded zone add to the fare.
//!
//! State: by city and zone, requests of late, fading over ten minutes.

const FADE_US: f64 = 600e6;
/// Hundredths: at most three times the fare, in steps of 0.05.
const SURGE_MAX: i64 = 300;
const SURGE_STEP: i64 = 5;

#[derive(Debug, Clone, Copy, Default)]
struct Heat {
    requests: f64,
    since_us: i64,
}

impl Heat {
    fn add(&mut self, now_us: i64) -> f64 {
        self.requests = 1.0 + self.requests * (-((now_us - self.since_us) as f64) / FADE_US).exp();
        self.since_us = now_us;
        self.requests
    }
}

#[derive(Debug)]
pub(crate) struct Surge {
    cities: Vec<Heat>,
    zones: Vec<Heat>,
    zones_of_city: Vec<f64>,
}

impl Surge {
    pub(crate) fn new(zones_of_city: &[usize]) -> Self {
        Self {
            cities: vec![Heat::default(); zones_of_city.len()],
            zones: vec![Heat::default(); zones_of_city.iter().sum()],
            zones_of_city: zones_of_city.iter().map(|zones| *zones as f64).collect(),
        }
    }

    /// Counts a request and says its multiplier in hundredths, given which share of the city's drivers is free.
    pub(crate) fn ask(&mut self, city: u8, zone: u16, free_share: f64, now_us: i64) -> i64 {
        let city = usize::from(city);
        let mean = self.cities[city].add(now_us) / self.zones_of_city[city];
        let crowd = self.zones[usize::from(zone)].add(now_us) / mean.max(1.0);
        let scarcity = (0.45 - free_share).max(0.0) * 2.5;
        let surge = 1.0 + scarcity + 0.08 * (crowd - 2.0).max(0.0);
        ((surge * 100.0) as i64 / SURGE_STEP * SURGE_STEP).clamp(100, SURGE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scarce_drivers_and_crowds_cost_more() {
        let mut surge = Surge::new(&[4]);
        assert_eq!(surge.ask(0, 0, 0.9, 0), 100);
        let scarce = surge.ask(0, 1, 0.05, 1);
        assert!(scarce > 150 && scarce % SURGE_STEP == 0, "{scarce}");
        let crowd = (0..200).map(|k| surge.ask(0, 2, 0.9, 10 + k)).max();
        assert!(crowd > Some(100));
        assert_eq!(surge.ask(0, 2, 0.9, 3_600_000_000), 100, "an hour later it is forgotten");
    }
}

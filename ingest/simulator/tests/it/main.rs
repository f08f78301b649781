//! The simulator seen from outside: what its events say, and whether its truth is the truth about them.

mod fraud;
mod injection;
mod plausible;
mod recount;
mod replaying;

use serde_json::Value;
use watershed_simulator::{EventBuffer, Fraud, Injection, Settings, Topic, World};

pub(crate) const SECOND_US: i64 = 1_000_000;

/// An event that outlives its buffer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sent {
    pub(crate) topic: Topic,
    pub(crate) partition: i32,
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    pub(crate) timestamp_ms: i64,
}

impl Sent {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.value).unwrap()
    }
}

/// Runs a world for some simulated time, to its end, and hands out all events.
pub(crate) fn run(settings: Settings, minutes: i64) -> (World, Vec<Sent>) {
    let mut world = World::new(settings).unwrap();
    let until_us = world.now_us() + minutes * 60 * SECOND_US;
    let (mut buffer, mut sent) = (EventBuffer::new(), Vec::new());
    let mut over = false;
    while !over {
        buffer.clear();
        over = world.fill(until_us, 1_000, &mut buffer);
        if over {
            world.finish(&mut buffer);
        }
        sent.extend(buffer.iter().map(|event| Sent {
            topic: event.topic,
            partition: event.partition,
            key: String::from_utf8(event.key.to_vec()).unwrap(),
            value: event.value.to_vec(),
            timestamp_ms: event.timestamp_ms,
        }));
    }
    (world, sent)
}

/// An honest world.
pub(crate) fn small() -> Settings {
    let cities = vec!["amsterdam".into(), "new_york".into()];
    Settings { cities, drivers: 300, riders: 3_000, fraud: Fraud::none(), ..Settings::default() }
}

/// A world whose events all arrive at once, once and whole.
pub(crate) fn undisturbed() -> Settings {
    Settings { injection: Injection::none(), ..small() }
}

/// Microseconds since 1970 of an `event_time`, by a way of its own.
pub(crate) fn time_us(event: &Value) -> Option<i64> {
    let text = event["event_time"].as_str()?;
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    if !(1980..9000).contains(&year) || text.len() != 27 {
        return None;
    }
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let mut days: i64 = (1970..year).map(|year| 365 + i64::from(leap(year))).sum();
    days +=
        (1..month).map(|month| [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month as usize - 1]).sum::<i64>();
    let seconds = (days + day - 1) * 86_400 + number(11, 13)? * 3_600 + number(14, 16)? * 60 + number(17, 19)?;
    Some(seconds * SECOND_US + number(20, 26)?)
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let (_, first) = run(small(), 10);
    let (_, second) = run(small(), 10);
    assert!(first.len() > 5_000, "{}", first.len());
    assert!(first == second);
    let (_, other) = run(Settings { seed: 2, ..small() }, 10);
    assert_ne!(first[0].value, other[0].value);
}

#[test]
fn how_a_world_is_cut_into_buffers_changes_nothing() {
    let (_, by_thousands) = run(small(), 5);
    let mut world = World::new(small()).unwrap();
    let mut buffer = EventBuffer::new();
    for sent in by_thousands.iter().take(2_000) {
        buffer.clear();
        world.next(&mut buffer);
        assert_eq!(buffer.len(), 1);
        let event = buffer.iter().next().unwrap();
        assert_eq!((event.topic, event.partition, event.value), (sent.topic, sent.partition, &sent.value[..]));
        assert!(world.next_us() >= world.now_us());
    }
}

#[test]
fn a_warm_world_has_completions_in_its_first_minute_and_starts_on_time() {
    let count = |settings: Settings| {
        let (world, sent) = run(settings, 1);
        assert!(sent.iter().all(|event| event.timestamp_ms * 1_000 >= world.settings().start_time_us));
        world.truth().topic(Topic::RideEvents).by_type[4]
    };
    let settings = Settings { drivers: 3_000, riders: 30_000, ..small() };
    assert_eq!(count(settings.clone()), 0);
    assert!(count(Settings { warm_up_s: 2_700, ..settings }) > 5);
}

#[test]
fn with_rare_locations_a_short_run_has_all_topics() {
    let (world, sent) = run(Settings { location_every_s: 60, warm_up_s: 2_700, fraud: Fraud::none(), ..Settings::default() }, 20);
    for topic in Topic::ALL.into_iter().filter(|topic| *topic != Topic::FraudLabels) {
        let share = world.truth().topic(topic).rows as f64 / sent.len() as f64;
        assert!((0.005..0.8).contains(&share), "{topic}: {share}");
    }
}

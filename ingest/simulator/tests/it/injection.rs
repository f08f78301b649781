//! What is done to the events on their way: as often as asked for, and nothing else changes.

use std::collections::{HashMap, HashSet};

use watershed_simulator::{Injection, Malformed, Partitions, Settings, Topic};

use crate::{SECOND_US, run, small, time_us, undisturbed};

#[test]
fn the_world_is_the_same_whatever_is_done_to_its_events() {
    let (_, plain) = run(undisturbed(), 10);
    let injection = Injection { malformed_rate: 0.0, late_rate: 0.1, duplicate_rate: 0.2, disorder_rate: 0.3, ..Injection::default() };
    let (_, disturbed) = run(Settings { injection, ..small() }, 10);
    let values = |sent: &[crate::Sent]| sent.iter().map(|event| event.value.clone()).collect::<HashSet<_>>();
    assert!(disturbed.len() > plain.len());
    assert!(values(&plain) == values(&disturbed));
    assert_eq!(values(&plain).len(), plain.len());
}

#[test]
fn nothing_is_injected_unless_asked_for() {
    let (world, sent) = run(undisturbed(), 20);
    let mut ids = HashSet::new();
    let mut before_us = 0;
    for event in &sent {
        let json = event.json();
        let time_us = time_us(&json).unwrap();
        assert!(time_us >= before_us, "in order of time");
        assert_eq!(event.timestamp_ms, time_us / 1_000);
        before_us = time_us;
        assert!(ids.insert(json["event_id"].as_str().unwrap().to_owned()));
    }
    for topic in Topic::ALL {
        let truth = world.truth().topic(topic);
        assert_eq!((truth.rows, truth.duplicates, truth.malformed_total(), truth.behind_watermark), (truth.clean, 0, 0, 0));
    }
    assert!(world.truth().tables().iter().all(|table| table.late_pairs() == 0));
}

#[test]
fn rates_are_met() {
    let injection = Injection { disorder_rate: 0.2, late_rate: 0.05, duplicate_rate: 0.1, malformed_rate: 0.04, ..Injection::default() };
    let (world, sent) = run(Settings { injection, ..small() }, 30);
    let truth = world.truth();
    let first_sends: u64 = Topic::ALL.iter().map(|topic| truth.topic(*topic).clean + truth.topic(*topic).malformed_total()).sum();
    let share = |count: u64| count as f64 / first_sends as f64;
    let sum = |of: fn(&watershed_simulator::TopicTruth) -> u64| Topic::ALL.iter().map(|topic| of(truth.topic(*topic))).sum::<u64>();
    assert!((share(sum(|topic| topic.duplicates)) - 0.1).abs() < 0.01);
    assert!((share(sum(|topic| topic.malformed_total())) - 0.04).abs() < 0.005);
    for kind in Malformed::ALL {
        let count: u64 = Topic::ALL.iter().map(|topic| truth.topic(*topic).malformed[kind as usize]).sum();
        assert!((share(count) - 0.005).abs() < 0.002, "{kind:?}: {count}");
    }
    let delays_ms = sent.iter().filter_map(|event| {
        let json = serde_json::from_slice(&event.value).ok()?;
        Some(event.timestamp_ms - time_us(&json)? / 1_000)
    });
    let (mut prompt, mut disordered, mut late) = (0, 0, 0);
    for delay_ms in delays_ms {
        match delay_ms {
            0 => prompt += 1,
            1..=20_000 => disordered += 1,
            75_000..=240_000 => late += 1,
            other => panic!("held back for {other} ms"),
        }
    }
    assert!(prompt > 0 && (share(late) - 0.05).abs() < 0.005);
    assert!((share(disordered) - 0.3).abs() < 0.02, "disorder and second copies");
    assert!(sent.windows(2).all(|pair| pair[0].timestamp_ms <= pair[1].timestamp_ms));
}

#[test]
fn disorder_alone_makes_no_row_late() {
    let injection = Injection { disorder_rate: 0.5, ..Injection::none() };
    let (world, _) = run(Settings { injection, ..small() }, 20);
    for topic in Topic::ALL {
        assert_eq!(world.truth().topic(topic).behind_watermark, 0);
    }
}

#[test]
fn partitions_fall_idle_in_turn_and_no_event_is_lost() {
    let injection = Injection { idle_every_s: 120, idle_for_s: 60, ..Injection::none() };
    let settings = Settings { injection, partitions: Partitions::all(3), ..small() };
    let (world, sent) = run(settings.clone(), 12);
    let (_, busy) = run(Settings { injection: Injection::none(), ..settings }, 12);
    assert_eq!(sent.len(), busy.len());
    let mut homes: HashMap<(Topic, &str), i32> = HashMap::new();
    for event in &busy {
        assert_eq!(*homes.entry((event.topic, &event.key)).or_insert(event.partition), event.partition, "a key stays in its partition");
    }
    let start_ms = world.settings().start_time_us / 1_000;
    let mut moved = 0;
    for event in &sent {
        let since_s = (event.timestamp_ms - start_ms) / 1_000;
        let idle = (since_s % 120 >= 60).then_some((since_s / 120 % 3) as i32);
        assert_ne!(Some(event.partition), idle, "{since_s} s");
        let home = homes[&(event.topic, event.key.as_str())];
        moved += u32::from(event.partition != home);
        assert!(event.partition == home || Some(home) == idle);
    }
    assert!(moved > 1_000);
    assert_eq!(sent.last().unwrap().timestamp_ms / 1_000 - start_ms / 1_000, 12 * 60 - 1);
    assert!(world.now_us() < world.settings().start_time_us + 12 * 60 * SECOND_US);
}

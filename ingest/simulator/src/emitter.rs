//! The way of an event to Kafka: it gets its id and partition, and may be held back, sent twice or made unreadable.
//!
//! State: the events held back, by the time at which they leave. Its randomness is its own, so that the world is the same
//! whatever is done to its events. Everything that leaves is reported to the [`Truth`], in the order in which it leaves.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::calendar::SECOND_US;
use crate::json::{ClockText, Writer};
use crate::malformed::Malformed;
use crate::random::{Random, mix};
use crate::truth::{Facts, Outcome, Truth};
use crate::{EventBuffer, Injection, Partitions, Settings, Topic};

/// An event that leaves later than it happened.
#[derive(Debug, Default)]
struct Held {
    facts: Option<(Facts, Outcome)>,
    bytes: Vec<u8>,
    key_bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Emitter {
    pub(crate) truth: Truth,
    partitions: Partitions,
    injection: Injection,
    start_us: i64,
    random: Random,
    /// Names this run: part of every id, so that two worlds share none.
    run: u64,
    sequence: u64,
    clock: ClockText,
    held: Vec<Held>,
    free: Vec<u32>,
    /// When each held event leaves; ties in the order of holding.
    queue: BinaryHeap<Reverse<(i64, u64, u32)>>,
    /// Running sums of the rates: malformed, late, duplicate, disorder.
    thresholds: [f64; 4],
    last_us: i64,
}

impl Emitter {
    pub(crate) fn new(settings: &Settings, truth: Truth) -> Self {
        let injection = settings.injection;
        let mut sum = 0.0;
        let thresholds = [injection.malformed_rate, injection.late_rate, injection.duplicate_rate, injection.disorder_rate].map(|rate| {
            sum += rate;
            sum
        });
        Self {
            truth,
            partitions: settings.partitions,
            injection,
            start_us: settings.start_time_us,
            random: Random::new(settings.seed ^ 0x656d_6974),
            run: mix(settings.seed ^ mix(settings.start_time_us as u64)),
            sequence: 0,
            clock: ClockText::new(),
            held: Vec::new(),
            free: Vec::new(),
            queue: BinaryHeap::new(),
            thresholds,
            last_us: settings.start_time_us,
        }
    }

    /// When the next held event leaves.
    pub(crate) fn next_held_us(&self) -> i64 {
        self.queue.peek().map_or(i64::MAX, |Reverse((time_us, ..))| *time_us)
    }

    /// An event happens: `key` writes its key, `body` its fields after `event_id` (`label_id` for a label) and `event_time`.
    /// Gives its sequence number; `None` while the world is warming up and nobody sees it.
    pub(crate) fn emit(
        &mut self,
        out: &mut EventBuffer,
        mut facts: Facts,
        key: impl FnOnce(&mut Writer),
        body: impl FnOnce(&mut Writer),
    ) -> Option<u64> {
        if facts.event_time_us < self.start_us {
            return None;
        }
        self.sequence += 1;
        facts.sequence = self.sequence;
        let start = out.bytes.len();
        key(&mut Writer::new(&mut out.bytes));
        let key_end = out.bytes.len();
        let (high, low) = self.id(self.sequence);
        let mut writer = Writer::new(&mut out.bytes);
        // Both names are as long: `malformed.rs` counts on where the time begins.
        writer.raw(if facts.topic == Topic::FraudLabels { "{\"label_id\":\"" } else { "{\"event_id\":\"" });
        writer.uuid(high, low);
        writer.raw("\",\"event_time\":\"");
        out.bytes.extend_from_slice(self.clock.of(facts.event_time_us));
        let mut writer = Writer::new(&mut out.bytes);
        writer.raw("\"");
        body(&mut writer);
        writer.raw("}");

        let fate = self.random.unit();
        let fate = self.thresholds.iter().position(|threshold| fate < *threshold);
        let injection = self.injection;
        match fate {
            Some(0) => {
                let kind = *self.random.pick(&Malformed::ALL);
                kind.apply(&mut out.bytes, key_end, &mut self.random);
                self.seal(out, facts, Outcome::Malformed(kind), facts.event_time_us, (start, key_end));
            }
            Some(1) => {
                let delay_ms = self.random.between(injection.late_min_ms, injection.late_max_ms);
                self.hold(out, facts, Outcome::Clean, delay_ms, (start, key_end));
                out.bytes.truncate(start);
            }
            Some(2) => {
                let delay_ms = self.random.between(1, injection.duplicate_max_ms + 1);
                self.hold(out, facts, Outcome::Duplicate, delay_ms, (start, key_end));
                self.seal(out, facts, Outcome::Clean, facts.event_time_us, (start, key_end));
            }
            Some(_) => {
                let delay_ms = self.random.between(1, injection.disorder_max_ms + 1);
                self.hold(out, facts, Outcome::Clean, delay_ms, (start, key_end));
                out.bytes.truncate(start);
            }
            None => self.seal(out, facts, Outcome::Clean, facts.event_time_us, (start, key_end)),
        }
        Some(facts.sequence)
    }

    /// The two halves of the id of the event with this sequence number.
    pub(crate) fn id(&self, sequence: u64) -> (u64, u64) {
        let low = scatter(sequence, self.run);
        (mix(low ^ self.run), low)
    }

    /// Copies the last event of `out` to leave later.
    fn hold(&mut self, out: &EventBuffer, facts: Facts, outcome: Outcome, delay_ms: i64, (start, key_end): (usize, usize)) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.held.push(Held::default());
            (self.held.len() - 1) as u32
        });
        let held = &mut self.held[slot as usize];
        held.facts = Some((facts, outcome));
        held.bytes.clear();
        held.bytes.extend_from_slice(&out.bytes[start..]);
        held.key_bytes = key_end - start;
        self.queue.push(Reverse((facts.event_time_us + delay_ms * 1_000, self.sequence, slot)));
    }

    /// Lets the next held event leave.
    pub(crate) fn release(&mut self, out: &mut EventBuffer) {
        let Some(Reverse((time_us, _, slot))) = self.queue.pop() else { return };
        let held = &mut self.held[slot as usize];
        let Some((facts, outcome)) = held.facts.take() else { return };
        let start = out.bytes.len();
        out.bytes.extend_from_slice(&held.bytes);
        let key_end = start + held.key_bytes;
        self.free.push(slot);
        self.seal(out, facts, outcome, time_us, (start, key_end));
    }

    fn seal(&mut self, out: &mut EventBuffer, facts: Facts, outcome: Outcome, time_us: i64, (start, key_end): (usize, usize)) {
        debug_assert!(time_us >= self.last_us, "events must leave in order of time");
        self.last_us = time_us;
        let partition = self.partition(facts.topic, &out.bytes[start..key_end], time_us);
        self.truth.record(&facts, outcome, partition);
        out.seal(facts.topic, partition, time_us.div_euclid(1_000), start, key_end);
    }

    fn partition(&self, topic: Topic, key: &[u8], time_us: i64) -> i32 {
        let count = self.partitions.of(topic);
        if count == 1 {
            return 0;
        }
        let partition = (murmur2(key) & 0x7fff_ffff) as i32 % count;
        if Some(partition) == self.idle_partition(count, time_us) { (partition + 1) % count } else { partition }
    }

    /// The partition that gets nothing at this time: the last `idle_for_s` of each `idle_every_s`, one after another.
    fn idle_partition(&self, count: i32, time_us: i64) -> Option<i32> {
        let every_us = i64::from(self.injection.idle_every_s) * SECOND_US;
        if every_us == 0 {
            return None;
        }
        let since_us = time_us - self.start_us;
        let idle = since_us % every_us >= every_us - i64::from(self.injection.idle_for_s) * SECOND_US;
        idle.then(|| (since_us / every_us % i64::from(count)) as i32)
    }
}

/// The text of the event id with this sequence number, for the truth.
pub(crate) fn event_id(sequence: u64, run: u64) -> String {
    let mut bytes = Vec::with_capacity(36);
    let low = scatter(sequence, run);
    Writer::new(&mut bytes).uuid(mix(low ^ run), low);
    bytes.into_iter().map(char::from).collect()
}

/// A bijection on 62 bits: no two sequence numbers of a run share an id.
fn scatter(sequence: u64, run: u64) -> u64 {
    const MASK: u64 = u64::MAX >> 2;
    let mut x = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(run) & MASK;
    x ^= x >> 31;
    x = x.wrapping_mul(0xd6e8_feb8_6659_fd93) & MASK;
    x ^ (x >> 29)
}

/// The hash by which Kafka's own clients choose a partition for a key.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_those_of_kafkas_own_clients() {
        // From the tests of Apache Kafka's `Utils.murmur2`.
        for (key, hash) in [("21", -973_932_308), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536)] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn ids_never_meet() {
        let ids: std::collections::HashSet<String> =
            (1..20_000).flat_map(|sequence| [event_id(sequence, 1), event_id(sequence, 2)]).collect();
        assert_eq!(ids.len(), 2 * 19_999);
    }
}

//! What tables must hold: counts and sums kept while the events leave, in the order in which they get their offsets.
//!
//! Lateness is computed as pipelines must compute it: a partition's watermark is the greatest event time of the readable rows
//! before a row, minus the delay; a (row, window) pair is late if the window's end is at or below it. Unreadable messages
//! move no watermark and count nowhere else; duplicates are rows like others.
//!
//! State: a few counters a topic and partition, and one row of counters a window and table. Nothing per event, unless
//! `keep_duplicate_ids` is set.

use serde_json::{Value, json};

use crate::emitter::event_id;
use crate::random::mix;
use crate::tally::WindowTruth;
use crate::{Malformed, Settings, Topic};

/// What the truth needs to know about an event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) topic: Topic,
    pub(crate) event_time_us: i64,
    pub(crate) sequence: u64,
    /// Index into [`type_names`] of the topic.
    pub(crate) kind: u8,
    /// Index into the settings' cities.
    pub(crate) city: u8,
    /// Counted through over all cities.
    pub(crate) zone: u16,
    /// Index into the campaigns, or their number for none.
    pub(crate) campaign: u8,
    /// Fare of a completed trip, or amount of a payment event.
    pub(crate) cents: i64,
}

/// How an event leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Clean,
    Duplicate,
    Malformed(Malformed),
}

/// The values of `event_type` (`state` for locations, `event_name` for clicks, `kind` for labels), by [`Facts::kind`].
pub(crate) fn type_names(topic: Topic) -> &'static [&'static str] {
    match topic {
        Topic::RideEvents => &["requested", "matched", "arrived", "picked_up", "completed", "cancelled"],
        Topic::DriverLocations => &["available", "reserved", "on_trip", "stopped", "non_operational"],
        Topic::Payments => &["authorised", "declined", "refunded", "charged_back"],
        Topic::Clickstream => crate::session::EVENT_NAMES,
        Topic::FraudLabels => crate::fraud::KIND_NAMES,
    }
}

/// Counts of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTruth {
    /// Messages in all: `clean + duplicates + malformed`.
    pub rows: u64,
    /// Readable messages that are the first of their `event_id`.
    pub clean: u64,
    /// Readable messages whose `event_id` was sent before.
    pub duplicates: u64,
    /// Unreadable messages by kind, in the order of [`Malformed::ALL`].
    pub malformed: [u64; Malformed::ALL.len()],
    /// Readable rows whose event time was below the watermark of their partition.
    pub behind_watermark: u64,
    /// The duplicates among them. The event a duplicate repeats is never late itself: it was sent in time.
    pub duplicates_behind_watermark: u64,
    /// Sum of `fare` or `amount` over readable rows, duplicates included, in hundredths.
    pub cents: i64,
    /// Readable rows by event type, duplicates included, in the order of the names in `to_json`.
    pub by_type: Vec<u64>,
    /// By partition.
    pub partitions: Vec<PartitionTruth>,
}

/// Counts of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionTruth {
    /// Messages in all: the next offset, if the partition began empty.
    pub rows: u64,
    /// Unreadable ones among them.
    pub malformed: u64,
    /// The greatest event time of a readable row; `None` before the first.
    pub max_event_time_us: Option<i64>,
}

impl TopicTruth {
    /// Unreadable messages of all kinds: the rows of the quarantine.
    pub fn malformed_total(&self) -> u64 {
        self.malformed.iter().sum()
    }

    /// Rows of a deduplicated table that sets rows below the watermark aside before it looks for repeats: each event that was in time.
    pub fn deduplicated(&self) -> u64 {
        self.clean - (self.behind_watermark - self.duplicates_behind_watermark)
    }

    /// Readable messages: the rows of a pass-through table.
    pub fn readable(&self) -> u64 {
        self.clean + self.duplicates
    }
}

/// Everything a world has let go so far.
#[derive(Debug)]
pub struct Truth {
    seed: u64,
    run: u64,
    watermark_delay_us: i64,
    topics: [TopicTruth; Topic::ALL.len()],
    tables: Vec<WindowTruth>,
    duplicate_sequences: Option<Vec<u64>>,
}

impl Truth {
    pub(crate) fn new(settings: &Settings, tables: Vec<WindowTruth>) -> Self {
        let topic = |topic: Topic| TopicTruth {
            rows: 0,
            clean: 0,
            duplicates: 0,
            malformed: [0; Malformed::ALL.len()],
            behind_watermark: 0,
            duplicates_behind_watermark: 0,
            cents: 0,
            by_type: vec![0; type_names(topic).len()],
            partitions: vec![PartitionTruth { rows: 0, malformed: 0, max_event_time_us: None }; settings.partitions.of(topic) as usize],
        };
        Self {
            seed: settings.seed,
            run: mix(settings.seed ^ mix(settings.start_time_us as u64)),
            watermark_delay_us: settings.watermark_delay_us,
            topics: Topic::ALL.map(topic),
            tables,
            duplicate_sequences: settings.keep_duplicate_ids.then(Vec::new),
        }
    }

    pub(crate) fn record(&mut self, facts: &Facts, outcome: Outcome, partition: i32) {
        let topic = &mut self.topics[facts.topic as usize];
        let partition = &mut topic.partitions[partition as usize];
        topic.rows += 1;
        partition.rows += 1;
        match outcome {
            Outcome::Malformed(kind) => {
                topic.malformed[kind as usize] += 1;
                partition.malformed += 1;
                return;
            }
            Outcome::Duplicate => {
                topic.duplicates += 1;
                if let Some(sequences) = &mut self.duplicate_sequences {
                    sequences.push(facts.sequence);
                }
            }
            Outcome::Clean => topic.clean += 1,
        }
        let watermark_us = partition.max_event_time_us.map(|max| max - self.watermark_delay_us);
        partition.max_event_time_us = partition.max_event_time_us.max(Some(facts.event_time_us));
        let behind = watermark_us.is_some_and(|watermark_us| facts.event_time_us < watermark_us);
        topic.behind_watermark += u64::from(behind);
        topic.duplicates_behind_watermark += u64::from(behind && outcome == Outcome::Duplicate);
        topic.cents += facts.cents;
        topic.by_type[usize::from(facts.kind)] += 1;
        for table in self.tables.iter_mut().filter(|table| table.topic() == facts.topic) {
            table.add(facts, watermark_us.unwrap_or(i64::MIN));
        }
    }

    /// Counts of a topic.
    pub fn topic(&self, topic: Topic) -> &TopicTruth {
        &self.topics[topic as usize]
    }

    /// Messages of all topics.
    pub fn rows(&self) -> u64 {
        self.topics.iter().map(|topic| topic.rows).sum()
    }

    /// What a windowed table of `sql/` must hold, by its name.
    pub fn table(&self, name: &str) -> Option<&WindowTruth> {
        self.tables.iter().find(|table| table.name() == name)
    }

    /// All windowed tables.
    pub fn tables(&self) -> &[WindowTruth] {
        &self.tables
    }

    /// The watermark of a topic: the least over its partitions that have readable rows. Windows that end at or before it have closed.
    pub fn watermark_us(&self, topic: Topic) -> Option<i64> {
        let partitions = self.topic(topic).partitions.iter();
        partitions.filter_map(|partition| partition.max_event_time_us).min().map(|max| max - self.watermark_delay_us)
    }

    /// Ids of the duplicated events, one for each extra copy; `None` unless `keep_duplicate_ids` is set.
    pub fn duplicate_ids(&self) -> Option<Vec<String>> {
        let ids = |sequences: &Vec<u64>| sequences.iter().map(|sequence| event_id(*sequence, self.run)).collect();
        self.duplicate_sequences.as_ref().map(ids)
    }

    /// All of it. Times are microseconds since 1970, sums hundredths; rows of tables are in order of window and key.
    pub fn to_json(&self) -> Value {
        let topics: serde_json::Map<String, Value> = Topic::ALL
            .into_iter()
            .map(|topic| {
                let counts = self.topic(topic);
                let malformed: serde_json::Map<String, Value> =
                    Malformed::ALL.iter().map(|kind| (kind.name().to_owned(), counts.malformed[*kind as usize].into())).collect();
                let by_type: serde_json::Map<String, Value> =
                    type_names(topic).iter().zip(&counts.by_type).map(|(name, rows)| ((*name).to_owned(), (*rows).into())).collect();
                let partition = |partition: &PartitionTruth| {
                    json!({
                        "rows": partition.rows,
                        "malformed": partition.malformed,
                        "max_event_time_us": partition.max_event_time_us,
                    })
                };
                let counts = json!({
                    "rows": counts.rows,
                    "clean": counts.clean,
                    "duplicates": counts.duplicates,
                    "malformed_total": counts.malformed_total(),
                    "malformed": malformed,
                    "behind_watermark": counts.behind_watermark,
                    "duplicates_behind_watermark": counts.duplicates_behind_watermark,
                    "deduplicated": counts.deduplicated(),
                    "cents": counts.cents,
                    "by_type": by_type,
                    "watermark_us": self.watermark_us(topic),
                    "partitions": counts.partitions.iter().map(partition).collect::<Vec<_>>(),
                });
                (topic.name().to_owned(), counts)
            })
            .collect();
        let tables: serde_json::Map<String, Value> = self.tables.iter().map(|table| (table.name().to_owned(), table.to_json())).collect();
        json!({
            "seed": self.seed,
            "watermark_delay_us": self.watermark_delay_us,
            "topics": topics,
            "tables": tables,
            "duplicate_event_ids": self.duplicate_ids(),
        })
    }
}

//! What the world yields: topics, events, and the reusable buffer they are written to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::SimulatorError;

/// The topics of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// Requested, matched, arrived, picked up, completed, cancelled; key `trip_id`.
    RideEvents,
    /// Where each driver on shift is, every 4 s by default; key `driver_id`.
    DriverLocations,
    /// Authorised, declined, refunded, charged back; key `card_id`.
    Payments,
    /// Page and app events with sessions, campaigns, ad impressions and clicks; key `domain_userid`.
    Clickstream,
    /// Which events belong to a fraud episode, and what kind it is; key `episode_id`.
    FraudLabels,
}

impl Topic {
    /// All topics, in the order of their discriminants.
    pub const ALL: [Topic; 5] = [Topic::RideEvents, Topic::DriverLocations, Topic::Payments, Topic::Clickstream, Topic::FraudLabels];

    /// The name in Kafka.
    pub fn name(self) -> &'static str {
        match self {
            Topic::RideEvents => "ride-events",
            Topic::DriverLocations => "driver-locations",
            Topic::Payments => "payments",
            Topic::Clickstream => "clickstream",
            Topic::FraudLabels => "fraud-labels",
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Topic {
    type Err = SimulatorError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Topic::ALL.into_iter().find(|topic| topic.name() == name);
        found.ok_or_else(|| SimulatorError::UnknownTopic { name: name.to_owned() })
    }
}

/// One message as it is to be written to Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Topic it belongs to.
    pub topic: Topic,
    /// Partition, already decided (Kafka's own murmur2 rule over the key, unless that partition is idle).
    pub partition: i32,
    /// Message key.
    pub key: &'a [u8],
    /// Message value: JSON, unless it was made malformed on purpose.
    pub value: &'a [u8],
    /// When the event leaves for Kafka, in simulated time: milliseconds since 1970. Never falls from event to event.
    pub timestamp_ms: i64,
}

/// Events one after another in one allocation that is kept between uses.
#[derive(Debug, Default)]
pub struct EventBuffer {
    pub(crate) bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    topic: Topic,
    partition: i32,
    timestamp_ms: i64,
    start: usize,
    key_end: usize,
    end: usize,
}

impl EventBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the events and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there is no event.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of keys and values together.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The events in the order in which they are to be sent.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Event<'_>> {
        self.entries.iter().map(|entry| Event {
            topic: entry.topic,
            partition: entry.partition,
            key: &self.bytes[entry.start..entry.key_end],
            value: &self.bytes[entry.key_end..entry.end],
            timestamp_ms: entry.timestamp_ms,
        })
    }

    /// Makes the bytes from `start` to the end an event.
    pub(crate) fn seal(&mut self, topic: Topic, partition: i32, timestamp_ms: i64, start: usize, key_end: usize) {
        self.entries.push(Entry { topic, partition, timestamp_ms, start, key_end, end: self.bytes.len() });
    }
}

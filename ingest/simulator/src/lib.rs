//! A ride-hailing world worth analysing: riders, drivers, payments and clicks of several cities as JSON events for Kafka
//! topics, labels of the fraud among them, and the truth about them, against which tables are checked.
//!
//! The crate knows neither Kafka nor a clock: the caller asks for events and keeps the pace. The same [`Settings`] give the
//! same events, byte for byte. Events come in order of the time at which they leave for Kafka, which for most is the time at
//! which they happened; [`Injection`] says how many are late, out of order, doubled or unreadable.
//!
//! ```
//! use watershed_simulator::{EventBuffer, Settings, Topic, World};
//!
//! let mut world = World::new(Settings { drivers: 50, ..Settings::default() })?;
//! let mut events = EventBuffer::new();
//! let one_minute_later_us = world.now_us() + 60_000_000;
//! while !world.fill(one_minute_later_us, 10_000, &mut events) {
//!     // The buffer is full: send it on, then
//!     events.clear();
//! }
//! let pings = world.truth().topic(Topic::DriverLocations);
//! assert_eq!(pings.rows, pings.clean + pings.duplicates + pings.malformed_total());
//! # Ok::<(), watershed_simulator::SimulatorError>(())
//! ```
//!
//! | to change | open |
//! |---|---|
//! | cities, zones, tariffs | `city.rs` |
//! | the rhythm of the day | `calendar.rs` |
//! | what drivers do | `fleet.rs`, `geometry.rs` |
//! | fields of an event | `trip.rs`, `fleet.rs`, `payment.rs`, `session.rs` |
//! | fraud and its labels | `fraud.rs` (payments), `repeat.rs` (the same pair again), `fleet.rs` (false places) |
//! | what only looks like fraud | `rider.rs` (families, travellers), `payment.rs` (hotel desks, promotions), `repeat.rs` (errands) |
//! | what happens on the way to Kafka | `emitter.rs`, `malformed.rs` |
//! | what tests can check | `truth.rs`, `tally.rs` |

mod agenda;
mod calendar;
mod city;
mod emitter;
mod event;
mod fleet;
mod fraud;
mod geometry;
mod json;
mod malformed;
mod payment;
mod random;
mod repeat;
pub mod replay;
mod rider;
mod session;
mod settings;
mod surge;
mod tally;
mod trip;
mod truth;
mod world;

use std::fmt;
use std::path::PathBuf;

use watershed_message::Message;

pub use city::city_names;
pub use event::{Event, EventBuffer, Topic};
pub use malformed::Malformed;
pub use settings::{Fraud, Injection, Partitions, Settings};
pub use tally::{WindowRow, WindowTruth};
pub use truth::{PartitionTruth, TopicTruth, Truth};
pub use world::World;

/// What can go wrong: wrong settings, or a file that cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// A setting has a value that cannot be.
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// What is wrong with it and what would be right.
        why: String,
    },
    /// Not one of the topics.
    UnknownTopic {
        /// As given.
        name: String,
    },
    /// The file to be replayed cannot be read.
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of the file to be replayed is no event.
    ReplayLine {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// Why.
        why: String,
    },
}

impl SimulatorError {
    /// What happened, why, and what to do next.
    pub fn message(&self) -> Message {
        match self {
            Self::Setting { setting, why } => {
                Message::new(format!("the simulator's setting `{setting}` is wrong")).why(why).next("correct it and start again")
            }
            Self::UnknownTopic { name } => Message::new(format!("the simulator has no topic '{name}'"))
                .next("there are ride-events, driver-locations, payments, clickstream and fraud-labels"),
            Self::ReadFile { path, source } => Message::new(format!("cannot read {}", path.display()))
                .why(source.to_string())
                .next("check the path and that the file is readable"),
            Self::ReplayLine { path, line, why } => Message::new(format!("line {line} of {} is not an event", path.display()))
                .why(why)
                .next("each line must be a JSON object with topic, partition, key, timestamp_ms and value"),
        }
    }
}

impl fmt::Display for SimulatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.message(), f)
    }
}

//! Sources (Kafka, folders of files), formats, the embedded broker and the producer. Only this crate knows Kafka.
//!
//! ```text
//!  kafka.rs ── RawBatch ──► json.rs ── Decoded ──┐  reader.rs glues the two
//!  (Fetch)                  (Decode)             ├──► sources.rs ── OpenSource, SourceRead ──► pipelines
//!  files/ ─────────────────────────── Decoded ──┘  a folder as a source of one partition, put in order by a ledger
//!
//!  sink.rs ── JSON ──► producer.rs ──► embedded.rs, or any Kafka
//! ```
//!
//! To add a transport, implement [`OpenSource`] and [`SourceRead`] and give `Sources::of` in `sources.rs` an arm for it; the connector and
//! its options are `dialect/`'s. A format of messages in Kafka is a [`source::Decode`], which [`KafkaReader`] chooses.

mod client;
mod clock;
mod consume;
mod coordinates;
pub mod embedded;
pub mod error;
mod event_time;
pub mod files;
mod folded;
pub mod json;
pub mod kafka;
#[cfg(test)]
mod measure;
pub mod origin;
mod place;
pub mod producer;
pub mod quarantine;
pub mod reader;
mod settings;
pub mod sink;
pub mod source;
mod sources;

pub use embedded::{EmbeddedBroker, EmbeddedSettings};
pub use error::IngestError;
pub use files::{FileSources, folder_of};
pub use kafka::KafkaSettings;
pub use producer::{Producer, Unsent};
pub use reader::KafkaReader;
pub use settings::{Secrets, client_settings, has_client_setting};
pub use sink::{OpenSink, SinkWrite};
pub use source::{Identify, OpenSource, PartitionRange, SourceBatch, SourceRead};
pub use sources::{Sources, check_sink, check_source};

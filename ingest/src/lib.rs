//! Sources (Kafka, folders of files), formats, the embedded broker and the producer. Only this crate knows Kafka.
//!
//! ```text
//!  kafka.rs ── RawBatch ──► json.rs ── Decoded ──► pipelines      reader.rs glues the two
//!  (Fetch)                  (Decode)
//!
//!  files/  a folder as a source of one partition, put in order by a ledger
//!
//!  sink.rs ── JSON ──► producer.rs ──► embedded.rs, or any Kafka
//! ```
//!
//! To add a transport or a format, implement one side of the seam in [`source`].

mod client;
mod consume;
mod coordinates;
pub mod embedded;
pub mod error;
mod event_time;
pub mod files;
pub mod json;
pub mod kafka;
#[cfg(test)]
mod measure;
pub mod producer;
pub mod quarantine;
pub mod reader;
mod settings;
pub mod sink;
pub mod source;
mod sources;

pub use embedded::{EmbeddedBroker, EmbeddedSettings};
pub use error::IngestError;
pub use files::FileSources;
pub use kafka::KafkaSettings;
pub use producer::Producer;
pub use reader::SourceReader;
pub use sink::{OpenSink, SinkWrite};
pub use source::{OpenSource, PartitionRange, SourceBatch, SourceRead};
pub use sources::Sources;

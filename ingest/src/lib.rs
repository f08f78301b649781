//! Sources (Kafka), formats (JSON), the embedded broker and the producer. Only this crate knows Kafka.
pub mod source;

/// What can go wrong between Kafka and Arrow.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// placeholder
    #[error("{0}")]
    Todo(String),
}

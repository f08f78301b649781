//! What can go wrong between Kafka and Arrow: one enum, each variant with what happened, why, and what to do next.

use std::fmt;

use arrow::error::ArrowError;
use watershed_message::Message;

/// An error of this crate. The message reads *what happened: why; what to do next*. Values of client settings never appear in it.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// No broker answered in time.
    BrokerUnreachable {
        /// Addresses as configured.
        bootstrap: String,
        /// What the client said.
        reason: String,
    },
    /// The topic does not exist (or is hidden from this user).
    UnknownTopic {
        /// The topic's name.
        topic: String,
    },
    /// The partition does not exist.
    UnknownPartition {
        /// The topic's name.
        topic: String,
        /// The partition that was asked for.
        partition: i32,
    },
    /// The next offset to be read is no longer (or not yet) there.
    OffsetGone {
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: i32,
        /// The next offset to be read.
        wanted: i64,
        /// First offset that Kafka still holds; -1 if it could not be found out.
        low: i64,
        /// End of the partition: the next offset to be written; -1 if it could not be found out.
        high: i64,
    },
    /// The broker refused who we are, or TLS could not be established.
    Authentication {
        /// Addresses as configured.
        bootstrap: String,
        /// What the client said.
        reason: String,
    },
    /// The broker knows us, yet does not let us.
    Authorization {
        /// The topic's name.
        topic: String,
        /// What the client said.
        reason: String,
    },
    /// A client setting is unknown, malformed, or one that Watershed sets itself.
    Setting {
        /// The setting's name; its value is not shown.
        name: String,
        /// Why, and what to do.
        reason: Message,
    },
    /// Settings that are each allowed, yet of which no client can be made: a key that is none, two that contradict each other.
    Settings {
        /// What the client said.
        reason: String,
    },
    /// Anything else the client reports.
    Client {
        /// What was being done.
        doing: String,
        /// What the client said.
        reason: String,
    },
    /// A record was not accepted and the source says `on_error = 'fail'`.
    BadRow {
        /// Name of the source.
        source_name: String,
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// Why, as it would be written in the quarantine.
        reason: String,
    },
    /// The folder of a source of files could not be listed, or a file of it not read.
    FolderUnreachable {
        /// Name of the source.
        source_name: String,
        /// The folder or the file.
        what: String,
        /// What the store said, and what to do if that is known.
        reason: Box<Message>,
    },
    /// A file is not what it was when it was put in order.
    FileChanged {
        /// Name of the source.
        source_name: String,
        /// Path below the source's folder.
        file: String,
        /// Size and time when first seen.
        was: String,
        /// Size and time now.
        now: String,
        /// Where the source's order of files is kept, below the warehouse.
        ledger: String,
    },
    /// A file has gone before all of it was read.
    FileGone {
        /// Name of the source.
        source_name: String,
        /// Path below the source's folder.
        file: String,
        /// Where the source's order of files is kept, below the warehouse.
        ledger: String,
    },
    /// The list of files that gives a folder its order does not fit.
    Ledger {
        /// Name of the source.
        source_name: String,
        /// What does not fit.
        reason: String,
        /// Where the source's order of files is kept, below the warehouse.
        ledger: String,
    },
    /// A row of a file was not accepted and the source says `on_error = 'fail'`.
    BadFileRow {
        /// Name of the source.
        source_name: String,
        /// Path below the source's folder.
        file: String,
        /// The first row of a file is 1.
        row: i64,
        /// Why, as it would be written in the quarantine.
        reason: String,
    },
    /// A source's column has a type that the format cannot fill.
    UnsupportedType {
        /// Name of the source.
        source_name: String,
        /// Path of the column.
        column: String,
        /// Its Arrow type.
        data_type: String,
        /// The format's name.
        format: &'static str,
        /// What works.
        hint: String,
    },
    /// A source's definition contradicts itself.
    Definition {
        /// Name of the source.
        source_name: String,
        /// What does not fit together.
        reason: String,
    },
    /// The producer's queue stayed full.
    QueueFull {
        /// How long `send` waited.
        waited_ms: u64,
        /// Records in the queue.
        queued: u64,
    },
    /// Records were not acknowledged.
    Delivery {
        /// How many.
        failed: u64,
        /// The first failure.
        reason: String,
    },
    /// Kafka does not take a record, and would not the next time.
    Undeliverable {
        /// Its id.
        record: String,
        /// What Kafka said.
        reason: String,
    },
    /// The embedded broker.
    Embedded {
        /// What was being done.
        doing: String,
        /// Why it did not work, and what to do.
        reason: Message,
    },
    /// A batch could not be put together.
    Arrow(#[from] ArrowError),
}

impl IngestError {
    /// What happened, why, and what to do next.
    pub fn message(&self) -> Message {
        match self {
            Self::BrokerUnreachable { bootstrap, reason } => Message::new(format!("no Kafka broker answers at '{bootstrap}'"))
                .why(reason)
                .next("check the address, that the broker runs, and firewalls between"),
            Self::UnknownTopic { topic } => Message::new(format!("Kafka topic '{topic}' does not exist"))
                .next("create it, or correct the option topic of the source or sink (topic names are case-sensitive)"),
            Self::UnknownPartition { topic, partition } => Message::new(format!("Kafka topic '{topic}' has no partition {partition}"))
                .next(
                    "was the topic deleted and made anew with fewer partitions? Then `watershed rebuild TABLE` reads the new one \
                     from its beginning",
                ),
            Self::OffsetGone { topic, partition, wanted, low, high } => {
                Message::new(format!("offset {wanted} of {topic}/{partition} is gone"))
                    .why(format!("Kafka holds offsets {low} to {high}"))
                    .next(offset_gone_hint(*wanted, *low))
            }
            Self::Authentication { bootstrap, reason } => Message::new(format!("Kafka at '{bootstrap}' refused the connection"))
                .why(reason)
                .next("check security.protocol and the sasl.* and ssl.* settings"),
            Self::Authorization { topic, reason } => Message::new(format!("not allowed on Kafka topic '{topic}'"))
                .why(reason)
                .next("grant this user the right (READ and DESCRIBE to read, WRITE to write)"),
            Self::Setting { name, reason } => reason.clone().within(format!("Kafka setting '{name}' cannot be used")),
            Self::Settings { reason } => Message::new("no Kafka client can be made of the settings").why(reason).next(
                "correct the settings under kafka of this process, or the options 'kafka.…' of the source or sink and `watershed apply` them; \
                 then start again",
            ),
            Self::Client { doing, reason } => {
                Message::new(format!("Kafka client failed while {doing}")).why(reason).next("if it happens again, look at the broker's log")
            }
            Self::BadRow { source_name, topic, partition, offset, reason } => {
                Message::new(format!("source '{source_name}' cannot accept the record at {topic}/{partition}/{offset}"))
                    .why(reason)
                    .next("correct the producer, or let such rows aside with on_error = 'quarantine'")
            }
            Self::FolderUnreachable { source_name, what, reason } => {
                let message = reason.as_ref().clone().within(format!("source '{source_name}': {what} cannot be read"));
                if message.next.is_some() { message } else { message.next("check that it is there and that this user may read it") }
            }
            Self::FileChanged { source_name, file, was, now, ledger } => {
                Message::new(format!("source '{source_name}': file '{file}' has changed since it was first seen ({was}, now {now})"))
                    .why("its rows may have been read already, so neither reading it again nor leaving it would be right")
                    .next(format!(
                        "put the old file back and the new rows into a file of another name, or drop the streaming tables over this \
                         source and the folder {ledger} and start anew",
                    ))
            }
            Self::FileGone { source_name, file, ledger } => {
                Message::new(format!("source '{source_name}': file '{file}' is gone, but rows of it were still to be read"))
                    .next(format!("put it back, or drop the streaming tables over this source and the folder {ledger} and start anew"))
            }
            Self::Ledger { source_name, reason, ledger } => Message::new(format!("source '{source_name}': {reason}")).next(format!(
                "restore {ledger} in the warehouse from a backup, or drop the streaming tables over this source and that \
                 folder and start anew",
            )),
            Self::BadFileRow { source_name, file, row, reason } => {
                Message::new(format!("source '{source_name}' cannot accept row {row} of '{file}'"))
                    .why(reason)
                    .next("files must not be changed once they were seen: let such rows aside with on_error = 'quarantine'")
            }
            Self::UnsupportedType { source_name, column, data_type, format, hint } => {
                Message::new(format!("column '{column}' of source '{source_name}' has type {data_type}, which {format} cannot fill"))
                    .next(hint)
            }
            Self::Definition { source_name, reason } => Message::new(format!("source '{source_name}': {reason}")),
            Self::QueueFull { waited_ms, queued } => {
                Message::new(format!("Kafka took no records for {waited_ms} ms while {queued} wait to be sent"))
                    .next("is the broker up, and has it room?")
            }
            Self::Delivery { failed, reason } => Message::new(format!("{failed} records were not taken by Kafka"))
                .why(reason)
                .next("look whether the broker is up and the topic takes records of this size"),
            Self::Undeliverable { record, reason } => Message::new(format!("Kafka does not take the record with the id '{record}'"))
                .why(reason)
                .next(
                    "it would not the next time: let the topic take such records (max.message.bytes; cleanup.policy=compact takes none without \
                     a key), or leave them out with a WHERE in the sink",
                ),
            Self::Embedded { doing, reason } => reason.clone().within(format!("embedded broker: {doing}")),
            Self::Arrow(inner) => Message::new(format!("Arrow: {inner}")),
        }
    }
}

impl fmt::Display for IngestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.message(), f)
    }
}

fn offset_gone_hint(wanted: i64, low: i64) -> &'static str {
    if wanted < low {
        "retention has deleted records that were not read yet: they are lost. Lengthen the topic's retention; with on_gap = 'skip' in the \
         source (then `watershed apply`) the pipeline goes on behind the gap and counts it, with `watershed rebuild TABLE` it begins anew"
    } else {
        "the topic was truncated or made anew while the pipeline still remembers the old one. `watershed rebuild TABLE` drops the rows and \
         reads it from its beginning"
    }
}

/// `Result` with [`IngestError`].
pub type Result<T, E = IngestError> = std::result::Result<T, E>;

impl IngestError {
    /// Whether trying again later may help: Kafka or a topic may come back without anybody changing the definition.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::BrokerUnreachable { .. }
                | Self::UnknownTopic { .. }
                | Self::Client { .. }
                | Self::Authentication { .. }
                | Self::Authorization { .. }
                | Self::FolderUnreachable { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_no_gaps() {
        let text = || "x".to_owned();
        for error in [
            IngestError::FileChanged { source_name: text(), file: text(), was: text(), now: text(), ledger: text() },
            IngestError::FileGone { source_name: text(), file: text(), ledger: text() },
            IngestError::Ledger { source_name: text(), reason: text(), ledger: text() },
            IngestError::BadFileRow { source_name: text(), file: text(), row: 1, reason: text() },
        ] {
            let message = error.to_string();
            assert!(!message.contains("  "), "{message}");
        }
    }
}

//! Which requests of Kafka's protocol the embedded broker understands, their headers, and the errors it answers with.

use bytes::Bytes;

use super::wire::{Field, Malformed, Reader, Writer};

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    ApiVersions = 18,
    CreateTopics = 19,
    DeleteTopics = 20,
    InitProducerId = 22,
    DescribeConfigs = 32,
}

/// Versions of a kind of request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Versions {
    pub(super) kind: Kind,
    pub(super) min: i16,
    pub(super) max: i16,
    /// The first flexible one (`wire.rs`).
    pub(super) flexible: i16,
}

/// Requests understood: from what Kafka 4 clients still need to the last before topics go by id.
pub(super) const VERSIONS: [Versions; 12] = [
    Versions { kind: Kind::Produce, min: 3, max: 9, flexible: 9 },
    Versions { kind: Kind::Fetch, min: 4, max: 12, flexible: 12 },
    Versions { kind: Kind::ListOffsets, min: 1, max: 7, flexible: 6 },
    Versions { kind: Kind::Metadata, min: 0, max: 12, flexible: 9 },
    Versions { kind: Kind::OffsetCommit, min: 2, max: 8, flexible: 8 },
    Versions { kind: Kind::OffsetFetch, min: 1, max: 8, flexible: 6 },
    Versions { kind: Kind::FindCoordinator, min: 0, max: 4, flexible: 3 },
    Versions { kind: Kind::ApiVersions, min: 0, max: 3, flexible: 3 },
    Versions { kind: Kind::CreateTopics, min: 2, max: 7, flexible: 5 },
    Versions { kind: Kind::DeleteTopics, min: 1, max: 6, flexible: 4 },
    Versions { kind: Kind::InitProducerId, min: 0, max: 4, flexible: 2 },
    Versions { kind: Kind::DescribeConfigs, min: 1, max: 4, flexible: 4 },
];

/// Errors as numbers of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorCode {
    None = 0,
    OffsetOutOfRange = 1,
    CorruptMessage = 2,
    UnknownTopicOrPartition = 3,
    InvalidTopicException = 17,
    UnsupportedVersion = 35,
    TopicAlreadyExists = 36,
    InvalidPartitions = 37,
    InvalidRequest = 42,
    OutOfOrderSequenceNumber = 45,
    InvalidProducerEpoch = 47,
    KafkaStorageError = 56,
    InvalidRecord = 87,
}

impl ErrorCode {
    pub(super) fn number(self) -> i16 {
        self as i16
    }
}

/// What a request says of itself before it says what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) key: i16,
    pub(super) version: i16,
    /// Chosen by the client, which knows its answer by it.
    pub(super) correlation_id: i32,
}

impl Header {
    /// The fixed part of a request's header, and what follows it.
    pub(super) fn read(request: Bytes) -> Result<(Self, Bytes), Malformed> {
        let mut rest = request;
        if rest.len() < 8 {
            return Err(Malformed::CutOff);
        }
        let fixed = rest.split_to(8);
        let mut from = Reader::new(fixed, 0, false);
        let header = Self { key: i16::read(&mut from)?, version: i16::read(&mut from)?, correlation_id: i32::read(&mut from)? };
        Ok((header, rest))
    }

    /// The kind of request, if this broker understands it in this version.
    pub(super) fn served(&self) -> Option<Versions> {
        VERSIONS.into_iter().find(|served| served.kind as i16 == self.key && (served.min..=served.max).contains(&self.version))
    }

    /// What a request wants: all of it after the fixed part of its header.
    pub(super) fn request<T: Field>(&self, served: Versions, rest: Bytes) -> Result<T, Malformed> {
        let flexible = self.version >= served.flexible;
        // The client's name is in the older format in each version: a broker must be able to read it before it knows the version.
        let mut from = Reader::new(rest, self.version, false);
        Option::<String>::read(&mut from)?;
        let mut from = from.flexible(flexible);
        from.tags()?;
        from.whole()
    }

    /// An answer as it is sent: with its length in front.
    pub(super) fn answer<T: Field>(&self, served: Versions, answer: &T) -> Bytes {
        let flexible = self.version >= served.flexible;
        let mut to = Writer::new(self.version, flexible);
        0_i32.write(&mut to);
        self.correlation_id.write(&mut to);
        // A client that asks for versions does not know any yet: the header is the oldest one.
        if served.kind != Kind::ApiVersions {
            to.no_tags();
        }
        answer.write(&mut to);
        to.framed()
    }
}

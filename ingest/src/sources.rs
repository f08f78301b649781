//! All kinds of sources in one place: each definition says by its connector which one it is.

use watershed_dialect::definition::{Connector, SinkDefinition, SourceDefinition};

use crate::error::Result;
use crate::files::FileSources;
use crate::json::JsonDecode;
use crate::settings::{KafkaSettings, check_free};
use crate::source::{Identify, OpenSource, PartitionRange, Positions, SourceRead};

/// Whether a source can be read at all, as far as its definition tells: what a start of its pipelines would find wrong with it.
pub fn check_source(definition: &SourceDefinition) -> Result<()> {
    let all: Vec<usize> = (0..definition.columns.len()).collect();
    match &definition.connector {
        Connector::Kafka { properties, .. } => {
            properties.keys().try_for_each(|name| check_free(name))?;
            JsonDecode::new(definition, &all).map(drop)
        }
        Connector::Files { .. } => crate::files::check(definition, &all),
    }
}

/// The same of a sink.
pub fn check_sink(definition: &SinkDefinition) -> Result<()> {
    definition.properties.keys().try_for_each(|name| check_free(name))
}

/// Kafka and folders of files.
#[derive(Debug, Clone)]
pub struct Sources {
    /// How to reach Kafka.
    pub kafka: KafkaSettings,
    /// How to read folders.
    pub files: FileSources,
}

impl Sources {
    /// The one place that knows all transports.
    fn of(&self, definition: &SourceDefinition) -> &dyn OpenSource {
        match definition.connector {
            Connector::Kafka { .. } => &self.kafka,
            Connector::Files { .. } => &self.files,
        }
    }
}

impl OpenSource for Sources {
    fn partitions(&self, definition: &SourceDefinition) -> Result<Vec<PartitionRange>> {
        self.of(definition).partitions(definition)
    }

    fn identify(&self, definition: &SourceDefinition) -> Result<Option<Box<dyn Identify>>> {
        self.of(definition).identify(definition)
    }

    fn starts(&self, definition: &SourceDefinition, ranges: &[PartitionRange]) -> Result<Positions> {
        self.of(definition).starts(definition, ranges)
    }

    fn open(&self, definition: &SourceDefinition, wanted: &[usize], positions: &Positions, reader: &str) -> Result<Box<dyn SourceRead>> {
        self.of(definition).open(definition, wanted, positions, reader)
    }
}

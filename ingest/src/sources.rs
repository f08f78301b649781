//! All kinds of sources behind one door: each definition says by its connector which one it is.

use watershed_dialect::definition::{Connector, SourceDefinition};

use crate::error::Result;
use crate::files::FileSources;
use crate::settings::KafkaSettings;
use crate::source::{OpenSource, PartitionRange, Positions, SourceRead};

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

    fn identity(&self, definition: &SourceDefinition) -> Result<Option<String>> {
        self.of(definition).identity(definition)
    }

    fn open(&self, definition: &SourceDefinition, wanted: &[usize], positions: &Positions, reader: &str) -> Result<Box<dyn SourceRead>> {
        self.of(definition).open(definition, wanted, positions, reader)
    }
}

//! How to reach Kafka: addresses and the client settings that are handed through.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::error::{IngestError, Result};

/// Where Kafka is and how to talk to it.
///
/// `Debug` shows the names of properties, never their values: they hold passwords and keys.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct KafkaSettings {
    /// `host:port`, several separated by commas.
    pub bootstrap: String,
    /// librdkafka settings (`security.protocol`, `sasl.username`, `ssl.ca.location`, …). `group.id` names the group under which
    /// positions are shown to lag tools; nothing is read back from it.
    pub properties: BTreeMap<String, String>,
}

/// Settings on which exactly-once, bounded memory or our own accounting rests.
const RESERVED: [(&str, &str); 8] = [
    ("auto.offset.reset", "a gap must stop a pipeline, never be jumped over"),
    ("enable.auto.commit", "positions come from the epoch record only"),
    ("enable.auto.offset.store", "positions come from the epoch record only"),
    ("enable.partition.eof", "Watershed reads the end of a partition from the watermarks"),
    ("enable.idempotence", "the producer is always idempotent"),
    ("transactional.id", "Kafka transactions are not what correctness rests on here"),
    ("statistics.interval.ms", "client statistics cost throughput and are not used"),
    ("plugin.library.paths", "loading native libraries by a setting is not allowed"),
];

impl KafkaSettings {
    /// Settings for a broker that needs no more than its address.
    pub fn new(bootstrap: impl Into<String>) -> Self {
        Self { bootstrap: bootstrap.into(), properties: BTreeMap::new() }
    }

    /// These settings with `properties` over them; `bootstrap.servers` among them takes the place of the address.
    pub fn overlaid(&self, properties: &BTreeMap<String, String>) -> Self {
        let mut merged = self.clone();
        for (name, value) in properties {
            if name == "bootstrap.servers" {
                merged.bootstrap.clone_from(value);
            } else {
                merged.properties.insert(name.clone(), value.clone());
            }
        }
        merged
    }

    /// A client configuration: ours first, then what the user set; settings that would break a promise are refused.
    pub(crate) fn client(&self, ours: &[(&str, &str)]) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        config.set("client.id", "watershed");
        for (name, value) in ours {
            config.set(*name, *value);
        }
        for (name, value) in &self.properties {
            if let Some((_, reason)) = RESERVED.iter().find(|(reserved, _)| reserved == name) {
                return Err(IngestError::Setting { name: name.clone(), reason: (*reason).into() });
            }
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.bootstrap);
        config.set_log_level(RDKafkaLogLevel::Info);
        Ok(config)
    }
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.properties.keys().collect();
        f.debug_struct("KafkaSettings").field("bootstrap", &self.bootstrap).field("properties", &names).finish()
    }
}

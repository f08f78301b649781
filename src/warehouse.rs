//! Opens what the configuration names: the warehouse, the Kafka settings, a query session.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use watershed_ingest::kafka::KafkaSettings;
use watershed_lake::Warehouse;
use watershed_query::{Session, SessionOptions};

use crate::config::Config;
use crate::pipelines::Pipelines;

/// The warehouse in force.
pub async fn open(config: &Config) -> Result<Warehouse> {
    Ok(Warehouse::open(config.text("warehouse"), &config.handed_on("storage")).await?)
}

/// How to reach Kafka.
pub fn kafka(config: &Config) -> KafkaSettings {
    KafkaSettings { bootstrap: config.text("kafka.bootstrap").to_owned(), properties: config.handed_on("kafka").into_iter().collect() }
}

/// A session over `warehouse` with the limits in force.
pub fn session(config: &Config, warehouse: Warehouse) -> Result<Session> {
    let options = SessionOptions {
        memory_limit_bytes: usize::try_from(config.bytes("query.memory_limit")?)?,
        spill_dir: config.optional("query.spill_dir").map(PathBuf::from),
        spill_limit_bytes: config.bytes("query.spill_limit")?,
        system_tables: vec![Arc::new(Pipelines::new(warehouse.clone()))],
    };
    Ok(Session::with_options(warehouse, options)?)
}

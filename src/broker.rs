//! `watershed broker`: the embedded Kafka-protocol broker by itself.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use watershed_ingest::embedded::{EmbeddedBroker, EmbeddedSettings};

use crate::Context;
use crate::config::{parse_bytes, parse_duration};
use crate::signals::{second_ends_at_once, stop_asked};

/// Run a small Kafka-protocol broker on this machine, for trying things out
#[derive(Debug, clap::Args)]
#[command(after_help = "\
One node on 127.0.0.1, no replicas, no transactions, no consumer-group balancing, no TLS: not for production.

Examples:
  watershed broker
  watershed broker --dir ./kafka --port 9092 --retention-bytes 4GiB")]
pub struct Args {
    /// Keep topics here; without it they are gone when the broker stops
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The port on 127.0.0.1; 0 for a free one
    #[arg(long, value_name = "PORT", default_value_t = 9092)]
    port: u16,
    /// Bytes of records past which the oldest are deleted
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse_bytes)]
    retention_bytes: u64,
    /// Age past which records are deleted, for example 2h
    #[arg(long, value_name = "SPAN", value_parser = parse_duration)]
    retention: Option<Duration>,
}

/// Runs until stopped.
pub async fn run(args: Args, _: &Context) -> Result<u8> {
    let settings = EmbeddedSettings {
        folder: args.dir.clone(),
        port: (args.port != 0).then_some(args.port),
        retention_bytes: args.retention_bytes,
        retention: args.retention,
    };
    let broker = tokio::task::spawn_blocking(move || EmbeddedBroker::start(&settings)).await??;
    let place = args.dir.map_or("nothing is kept".to_owned(), |dir| format!("kept in {}", dir.display()));
    say!("Kafka protocol on {}, {place}; Ctrl-C stops", broker.bootstrap());
    stop_asked().await;
    second_ends_at_once();
    tokio::task::spawn_blocking(move || broker.stop()).await?;
    Ok(0)
}

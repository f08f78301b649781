//! Flags that several subcommands share.

/// How to reach Kafka.
#[derive(Debug, clap::Args)]
pub struct Kafka {
    /// Kafka brokers, host:port, separated by commas
    #[arg(short, long, value_name = "HOST:PORT")]
    pub bootstrap: Option<String>,
}

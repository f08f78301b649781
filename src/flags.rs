//! Flags that several subcommands share.

use crate::config::SettingFlag;

/// How to reach Kafka.
#[derive(Debug, clap::Args)]
pub struct Kafka {
    /// Kafka brokers, host:port, separated by commas
    #[arg(short, long, value_name = "HOST:PORT")]
    bootstrap: Option<String>,
}

impl Kafka {
    /// The flag that overrides a setting.
    pub fn setting(&self) -> SettingFlag {
        ("kafka.bootstrap", "--bootstrap", self.bootstrap.clone())
    }
}

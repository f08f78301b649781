//! The servers of this process: connections, and what clients ask.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use watershed_query::ServerCounters;

/// One server.
#[derive(Debug)]
pub(super) struct Served {
    counters: Arc<ServerCounters>,
    /// Begins the names of its metrics.
    prefix: &'static str,
    /// Ends their descriptions.
    over: &'static str,
}

impl Served {
    pub(super) fn over_http(counters: Arc<ServerCounters>) -> Self {
        Self { counters, prefix: "http", over: "over HTTP" }
    }

    pub(super) fn over_flight(counters: Arc<ServerCounters>) -> Self {
        Self { counters, prefix: "flight", over: "over Flight SQL" }
    }
}

impl Collector for Served {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Self { counters, prefix, over } = self;
        let (name, help) = (format!("{prefix}_queries"), format!("Statements {over} that ended, by outcome"));
        let mut ended = encoder.encode_descriptor(&name, &help, None, MetricType::Counter)?;
        for (outcome, count) in counters.ended() {
            ended.encode_family(&[("outcome", outcome)])?.encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
        }
        for (name, help, count) in [
            ("rows", "Rows sent", counters.rows()),
            ("turned_away", "Connections and calls turned away: there were too many, or nothing came", counters.turned_away()),
        ] {
            let (name, help) = (format!("{prefix}_{name}"), format!("{help}, {over}"));
            encoder.encode_descriptor(&name, &help, None, MetricType::Counter)?.encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
        }
        for (name, help, count) in [
            ("queries_running", "Statements that run now", counters.running()),
            ("connections", "Connections that are open now", counters.connections()),
        ] {
            let (name, help) = (format!("{prefix}_{name}"), format!("{help}, {over}"));
            encoder.encode_descriptor(&name, &help, None, MetricType::Gauge)?.encode_gauge(&count)?;
        }
        Ok(())
    }
}

//! Sinks that send rows to where they came from: each row would come back, and be sent again, without end.

use std::collections::{BTreeMap, BTreeSet};

use watershed_dialect::{ClientSetting, Connector, SinkDefinition, SqlError};
use watershed_ingest::kafka::{KafkaSettings, cluster_id};
use watershed_lake::TableName;
use watershed_stream::Blueprint;

/// Where a definition says that Kafka is, if it does not leave that to the configuration.
type Address = Option<String>;

/// The clusters that were asked which they are: one may have several addresses.
pub type ClusterIds = BTreeMap<Address, String>;

/// A topic, as a definition names it.
struct Topic<'a> {
    address: Address,
    name: &'a str,
    properties: &'a BTreeMap<String, ClientSetting>,
}

impl<'a> Topic<'a> {
    fn new(name: &'a str, properties: &'a BTreeMap<String, ClientSetting>) -> Self {
        let address = properties.get("bootstrap.servers").map(|setting| match setting {
            ClientSetting::Text(text) => text.clone(),
            ClientSetting::Secret(secret) => secret.to_string(),
        });
        Self { address, name, properties }
    }

    fn is(&self, other: &Self, clusters: &ClusterIds) -> bool {
        let same_cluster = || matches!((clusters.get(&self.address), clusters.get(&other.address)), (Some(one), Some(two)) if one == two);
        self.name == other.name && (self.address == other.address || same_cluster())
    }
}

/// A table reads a topic, and a sink that follows it sends to another.
struct Step<'a> {
    from: Topic<'a>,
    to: Topic<'a>,
    table: &'a TableName,
    sink: &'a SinkDefinition,
}

fn steps(blueprints: &BTreeMap<TableName, Blueprint>) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    for (table, blueprint) in blueprints {
        for source in &blueprint.sources {
            let Connector::Kafka { topic, properties } = &source.definition.connector else { continue };
            for sink in &blueprint.sinks {
                let sink = &sink.definition;
                let (from, to) = (Topic::new(topic, properties), Topic::new(&sink.topic, &sink.properties));
                steps.push(Step { from, to, table, sink });
            }
        }
    }
    steps
}

/// Asks Kafka which clusters it is at those addresses under which topics of one name are read and written. Where there is no answer, which is told,
/// other addresses are taken for other clusters.
pub async fn clusters(blueprints: &BTreeMap<TableName, Blueprint>, kafka: &KafkaSettings) -> ClusterIds {
    let steps = steps(blueprints);
    let topics: Vec<&Topic> = steps.iter().flat_map(|step| [&step.from, &step.to]).collect();
    let at = |topic: &Topic| topic.address.clone().unwrap_or_else(|| kafka.bootstrap.clone());
    let mut ids = BTreeMap::new();
    for topic in &topics {
        let elsewhere = |other: &&Topic| other.name == topic.name && at(other) != at(topic);
        if ids.contains_key(&at(topic)) || !topics.iter().any(elsewhere) {
            continue;
        }
        let (name, settings) = (topic.name.to_owned(), kafka.overlaid(topic.properties));
        let ask = move || cluster_id(&settings.ok()?, &name).ok().flatten();
        if let Some(id) = tokio::task::spawn_blocking(ask).await.ok().flatten() {
            ids.insert(at(topic), id);
            continue;
        }
        tell!(
            "warning: topic '{name}' is read and written at more than one address, and Kafka at {at} did not say which cluster it is; if they \
             are one cluster, rows that a sink sends may come back and be sent again, without end",
            name = topic.name,
            at = at(topic)
        );
        ids.insert(at(topic), at(topic));
    }
    let id = |topic: &&Topic| (topic.address.clone(), ids.get(&at(topic)).cloned().unwrap_or_else(|| at(topic)));
    topics.iter().map(id).collect()
}

/// The first sink of each loop, with what is wrong with it.
pub fn find<'a>(blueprints: &'a BTreeMap<TableName, Blueprint>, clusters: &ClusterIds) -> Vec<(&'a SinkDefinition, SqlError)> {
    let steps = steps(blueprints);
    let mut known = BTreeSet::new();
    let mut loops = Vec::new();
    for (first, step) in steps.iter().enumerate() {
        if known.contains(&first) {
            continue;
        }
        let Some(path) = back(&steps, first, clusters) else { continue };
        let by_way = |&at: &usize| format!("{} and sink '{}'", steps[at].table, steps[at].sink.name);
        let way: Vec<String> = path.iter().map(by_way).collect();
        let error = SqlError::new(format!("sink '{}' sends rows to where they come from", step.sink.name))
            .detail(format!(
                "topic '{}' is read by {}, so each row would come back and be sent again, without end",
                step.from.name,
                way.join(", then ")
            ))
            .hint("send to another topic");
        known.extend(path);
        loops.push((step.sink, error));
    }
    loops
}

/// The shortest way from the topic that a step reads back to it, with that step first.
fn back(steps: &[Step], first: usize, clusters: &ClusterIds) -> Option<Vec<usize>> {
    let mut ways = vec![vec![first]];
    let mut taken = BTreeSet::from([first]);
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let at = *way.last()?;
            if steps[at].to.is(&steps[first].from, clusters) {
                return Some(way);
            }
            for (next, step) in steps.iter().enumerate() {
                if step.from.is(&steps[at].to, clusters) && taken.insert(next) {
                    longer.push(way.iter().copied().chain([next]).collect());
                }
            }
        }
        ways = longer;
    }
    None
}

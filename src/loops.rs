//! Sinks that send rows to where they came from: each row would come back, and be sent again, without end.

use std::collections::{BTreeMap, BTreeSet};

use watershed_dialect::{ClientSetting, Connector, SinkDefinition, SqlError};
use watershed_lake::TableName;
use watershed_stream::Blueprint;

/// A topic, and the cluster it is in if a definition names one.
type Topic = (Option<String>, String);

/// A table reads one topic, and a sink that follows it sends to another.
struct Step<'a> {
    from: Topic,
    to: Topic,
    table: &'a TableName,
    sink: &'a SinkDefinition,
}

/// The first sink of each loop, with what is wrong with it.
pub fn find(blueprints: &BTreeMap<TableName, Blueprint>) -> Vec<(&SinkDefinition, SqlError)> {
    let mut steps = Vec::new();
    for (table, blueprint) in blueprints {
        let Connector::Kafka { topic, properties } = &blueprint.source.connector else { continue };
        for sink in &blueprint.sinks {
            let sink = &sink.definition;
            let (from, to) = ((cluster(properties), topic.clone()), (cluster(&sink.properties), sink.topic.clone()));
            steps.push(Step { from, to, table, sink });
        }
    }
    let mut known = BTreeSet::new();
    let mut loops = Vec::new();
    for (first, step) in steps.iter().enumerate() {
        if known.contains(&first) {
            continue;
        }
        let Some(path) = back(&steps, first) else { continue };
        let by_way = |&at: &usize| format!("{} and sink '{}'", steps[at].table, steps[at].sink.name);
        let way: Vec<String> = path.iter().map(by_way).collect();
        let error = SqlError::new(format!("sink '{}' sends rows to where they come from", step.sink.name))
            .detail(format!(
                "topic '{}' is read by {}, so each row would come back and be sent again, without end",
                step.from.1,
                way.join(", then ")
            ))
            .hint("send to another topic");
        known.extend(path);
        loops.push((step.sink, error));
    }
    loops
}

/// The shortest way from the topic that a step reads back to it, with that step first.
fn back(steps: &[Step], first: usize) -> Option<Vec<usize>> {
    let mut ways = vec![vec![first]];
    let mut taken = BTreeSet::from([first]);
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let at = *way.last()?;
            if steps[at].to == steps[first].from {
                return Some(way);
            }
            for (next, step) in steps.iter().enumerate() {
                if step.from == steps[at].to && taken.insert(next) {
                    longer.push(way.iter().copied().chain([next]).collect());
                }
            }
        }
        ways = longer;
    }
    None
}

fn cluster(properties: &BTreeMap<String, ClientSetting>) -> Option<String> {
    match properties.get("bootstrap.servers")? {
        ClientSetting::Text(text) => Some(text.clone()),
        ClientSetting::Secret(secret) => Some(secret.to_string()),
    }
}

//! Whether a source is still the one whose offsets the epoch records hold. A topic that was deleted and made again under the same name has
//! other records at the same offsets, and Kafka's client goes on in it without a word.
//!
//! | when | what is asked |
//! |---|---|
//! | a run begins | the identity before and after its partitions are looked up: one and the same, and that of the newest record |
//! | an epoch that has read records is to be decided | the identity, after the last of its records was read: still the same |
//!
//! An identity never comes back once it is another one, so all records between two equal answers are of that source. An epoch waits for the
//! answer, as long as a broker's restart takes; without one it is not decided, and its records are read again. Sources that tell none (Kafka
//! before 2.8, folders) are not asked.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use tokio::sync::watch;
use watershed_dialect::SourceDefinition;
use watershed_ingest::{Identify, IngestError, PartitionRange};

use crate::StreamError;
use crate::limits::SOURCE_SAYS_TIMEOUT;
use crate::shard::ShardSpec;

/// How long one question may take before it is looked whether the shard should stop.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause after one that nobody has answered.
const ASK_PAUSE: Duration = Duration::from_millis(100);
/// How long a question may take at the beginning of a run.
const FIRST_ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a source that changes while it is looked at is looked at again.
const LOOKS_MAX: usize = 3;

/// A source as it is now.
pub struct Origin {
    /// Its partitions.
    pub ranges: Vec<PartitionRange>,
    /// Its identity, if that can be known.
    pub source_id: Option<String>,
}

/// Looks at all sources of a shard, side by side, in the order of its plan.
pub async fn look(spec: &ShardSpec) -> Result<Vec<Origin>, StreamError> {
    try_join_all(spec.blueprint.sources.iter().map(|source| look_at(spec, &source.definition))).await
}

/// Looks at one source. The partitions are those of the source that has the identity.
async fn look_at(spec: &ShardSpec, source: &SourceDefinition) -> Result<Origin, StreamError> {
    let (source, sources) = (source.clone(), spec.sources.clone());
    let look = move || {
        let mut asks = sources.identify(&source)?;
        let mut before = None;
        for _ in 0..=LOOKS_MAX {
            let ranges = sources.partitions(&source)?;
            let source_id = match asks.as_mut().map(|asks| asks.identity(FIRST_ASK_TIMEOUT)) {
                // What is wrong with the topic was known a moment ago, or the next look-up of its partitions says it.
                Some(Err(error @ IngestError::BrokerUnreachable { .. })) => return Err(error),
                said => said.and_then(Result::ok).flatten(),
            };
            if source_id.is_none() || before == source_id {
                return Ok(Origin { ranges, source_id });
            }
            before = source_id;
        }
        let reason = "it was deleted and made again each time it was looked at, or its brokers do not agree on its id".into();
        Err(IngestError::Client { doing: format!("looking at source '{}'", source.name), reason })
    };
    let found = tokio::task::spawn_blocking(look).await;
    Ok(found.map_err(|e| StreamError::TaskDied { pipeline: spec.id.pipeline.to_string(), what: e.to_string() })??)
}

/// Refuses to go on at old offsets in a topic that was made again: they would point to other records.
pub fn check(spec: &ShardSpec, source: &str, before: Option<&String>, now: Option<&String>) -> Result<(), StreamError> {
    match (before, now) {
        (Some(before), Some(now)) if before != now => Err(StreamError::SourceReplaced {
            pipeline: spec.id.pipeline.to_string(),
            source_name: source.to_owned(),
            was: before.clone(),
            now: now.clone(),
        }),
        _ => Ok(()),
    }
}

/// Asks while a shard runs.
pub struct Guard {
    source: String,
    /// What is read; `None` if that cannot be known.
    id: Option<String>,
    asks: Option<Box<dyn Identify>>,
}

impl Guard {
    /// Of a source that was found to be `id`. Does not wait.
    pub fn new(spec: &ShardSpec, source: &SourceDefinition, id: Option<String>) -> Result<Self, StreamError> {
        let asks = match id {
            Some(_) => spec.sources.identify(source)?,
            None => None,
        };
        Ok(Self { source: source.name.clone(), id, asks })
    }

    /// The source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What it was found to be.
    pub fn id(&self) -> Option<&String> {
        self.id.as_ref()
    }

    /// Fails unless the source is still the same now.
    pub async fn check(&mut self, spec: &ShardSpec, stop: &watch::Receiver<bool>) -> Result<(), StreamError> {
        let started = Instant::now();
        while let Some(mut asks) = self.asks.take() {
            let asked = tokio::task::spawn_blocking(move || (asks.identity(ASK_TIMEOUT), asks)).await;
            let (said, asks) = asked.map_err(|e| StreamError::TaskDied { pipeline: spec.id.pipeline.to_string(), what: e.to_string() })?;
            self.asks = Some(asks);
            match said {
                Ok(Some(now)) => return check(spec, &self.source, self.id.as_ref(), Some(&now)),
                Ok(None) => {
                    let doing = format!("looking at source '{}'", self.source);
                    return Err(IngestError::Client { doing, reason: "the broker no longer tells the id of its topic".into() }.into());
                }
                Err(IngestError::BrokerUnreachable { .. }) if !*stop.borrow() && started.elapsed() < SOURCE_SAYS_TIMEOUT => {
                    tokio::time::sleep(ASK_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

//! Runs pipelines side by side: each fails and recovers by itself.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use watershed_dialect::{OnGap, did_you_mean};
use watershed_ingest::{IngestError, OpenSink, OpenSource};
use watershed_lake::{TableName, Warehouse};

use crate::StreamError;
use crate::aside::Files;
use crate::budget::{Budget, StateLimits};
use crate::epoch::ShardId;
use crate::fault::panic_text;
use crate::hidden::SourceNames;
use crate::holder::{self, Identity, Vitals};
use crate::limits::{RETRY_PAUSE_MAX, RETRY_PAUSE_MIN};
use crate::metrics::{Metrics, Phase, PipelineMetrics};
use crate::project::{Planned, Project};
use crate::shard::{self, Ended, ShardSpec, Until};

/// How pipelines are to run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// How to reach the sources.
    pub sources: Arc<dyn OpenSource>,
    /// How to reach the sinks.
    pub sinks: Arc<dyn OpenSink>,
    /// Only these pipelines; all if empty.
    pub only: Vec<TableName>,
    /// When they end.
    pub until: Until,
    /// What the pipelines' state may take.
    pub state_limits: StateLimits,
    /// Where state is put aside that has no room in memory.
    pub spill_dir: PathBuf,
    /// Tasks a stage; by default the cores are shared out among the pipelines.
    pub parallelism: Option<usize>,
}

/// Ends with the reason why the pipeline could not go on, if there is one.
type PipelineTask = JoinHandle<Result<(), StreamError>>;

/// Pipelines that run.
pub struct Runner {
    pipelines: Vec<(Arc<Metrics>, PipelineTask)>,
    stop: watch::Sender<bool>,
}

/// Looks at pipelines that run, from elsewhere, without keeping them.
#[derive(Clone)]
pub struct Observer(Vec<Arc<Metrics>>);

impl Observer {
    /// All pipelines now, in name order.
    pub fn metrics(&self) -> Vec<PipelineMetrics> {
        self.0.iter().map(|metrics| metrics.read()).collect()
    }
}

impl Runner {
    /// Plans and starts the pipelines of a project. One that cannot be planned has failed from the start; the others run.
    pub async fn start(warehouse: Warehouse, project: &Project, options: RunOptions) -> Result<Self, StreamError> {
        let Planned { blueprints, refused } = wanted(project.plan_each().await, &options.only)?;
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let parallelism = options.parallelism.unwrap_or((cores / blueprints.len().max(1)).max(1));
        let (stop, stopped) = watch::channel(false);
        let identity = Identity::of_this_process();
        let process = Budget::of_process(options.state_limits);
        let mut pipelines = Vec::new();
        for (name, blueprint) in blueprints {
            let budget = Budget::of_pipeline(&process, options.state_limits, Some(Arc::new(Files::new(&options.spill_dir))));
            let metrics = Metrics::new(name.clone(), blueprint.names.clone()).with_budget(budget.clone());
            let metrics = Arc::new(metrics);
            let spec = ShardSpec {
                id: ShardId { pipeline: name, shard: 0 },
                blueprint: Arc::new(blueprint),
                warehouse: warehouse.clone(),
                sources: options.sources.clone(),
                sinks: options.sinks.clone(),
                budget,
                parallelism,
                until: options.until,
                identity: identity.clone(),
            };
            let (metrics_of_task, stopped) = (metrics.clone(), stopped.clone());
            pipelines.push((metrics, tokio::spawn(async move { keep_running(spec, metrics_of_task, stopped).await })));
        }
        for (pipeline, error) in refused {
            // What it would read is told by its plan.
            let metrics = Arc::new(Metrics::new(pipeline.clone(), SourceNames::new([])));
            let error = StreamError::cannot_plan(&pipeline, error);
            metrics.phase(Phase::Failed { error: error.message() });
            let (warehouse, identity, shard) = (warehouse.clone(), identity.clone(), ShardId { pipeline, shard: 0 });
            let vitals = Vitals::of(&metrics.read());
            let task = async move {
                // Another version may run it.
                if holder::check_free(&warehouse, &shard).await.is_ok() {
                    holder::say(&warehouse, &shard, &identity, Some(vitals), true).await;
                }
                Err(error)
            };
            pipelines.push((metrics, tokio::spawn(task)));
        }
        pipelines.sort_by_cached_key(|(metrics, _)| metrics.read().pipeline);
        Ok(Self { pipelines, stop })
    }

    /// All pipelines now, in name order.
    pub fn metrics(&self) -> Vec<PipelineMetrics> {
        self.pipelines.iter().map(|(metrics, _)| metrics.read()).collect()
    }

    /// The same for others to ask, also when the pipelines have ended.
    pub fn observer(&self) -> Observer {
        Observer(self.pipelines.iter().map(|(metrics, _)| metrics.clone()).collect())
    }

    /// Whether every pipeline has ended.
    pub fn ended(&self) -> bool {
        self.pipelines.iter().all(|(_, task)| task.is_finished())
    }

    /// Tells all pipelines to commit what they have and end.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until all pipelines have ended. Errors are those of pipelines that could not go on.
    pub async fn join(self) -> Vec<(TableName, Result<(), StreamError>)> {
        let mut results = Vec::new();
        for (metrics, task) in self.pipelines {
            let pipeline = metrics.read().pipeline;
            let result = task.await.unwrap_or_else(|e| Err(StreamError::TaskDied { pipeline: pipeline.to_string(), what: e.to_string() }));
            results.push((pipeline, result));
        }
        results
    }
}

/// Those pipelines that are named, or all if none is.
fn wanted(mut planned: Planned, only: &[TableName]) -> Result<Planned, StreamError> {
    if only.is_empty() {
        return Ok(planned);
    }
    let known: BTreeSet<&TableName> = planned.blueprints.keys().chain(planned.refused.keys()).collect();
    if let Some(unknown) = only.iter().find(|name| !known.contains(name)) {
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        let near = did_you_mean(&unknown.to_string(), known.iter().map(String::as_str));
        return Err(StreamError::NoSuchPipeline {
            name: unknown.to_string(),
            known: known.join(", "),
            hint: near.unwrap_or_else(|| "name one of these, or `watershed apply` a project that defines it".into()),
        });
    }
    planned.blueprints.retain(|name, _| only.contains(name));
    planned.refused.retain(|name, _| only.contains(name));
    Ok(planned)
}

/// Runs one shard, again and again while its errors are of the kind that passes.
async fn keep_running(spec: ShardSpec, metrics: Arc<Metrics>, mut stop: watch::Receiver<bool>) -> Result<(), StreamError> {
    let mut pause = RETRY_PAUSE_MIN;
    let mut last_death: Option<u64> = None;
    loop {
        let epoch_before = metrics.read().epoch;
        let outcome = AssertUnwindSafe(shard::run(&spec, &metrics, stop.clone())).catch_unwind().await.unwrap_or_else(|panic| {
            Err(StreamError::TaskDied { pipeline: spec.id.pipeline.to_string(), what: panic_text(panic.as_ref()) })
        });
        // A task that panics again, with nothing committed between, does so because of what it reads: a third time would end alike. Which task
        // it is and what it says may differ.
        let death = matches!(outcome, Err(StreamError::TaskDied { .. })).then(|| metrics.read().epoch);
        let repeats = death.is_some() && death == last_death;
        last_death = death;
        match outcome {
            Ok(Ended::Done) => {
                metrics.phase(Phase::Stopped);
                return Ok(());
            }
            Ok(Ended::PartitionsAdded) => {
                tracing::info!(pipeline = %spec.id.pipeline, "the topic has new partitions: starting again to read them");
                continue;
            }
            Err(error) if !repeats && passes(&spec, &error) && *stop.borrow() => {
                // What was not committed is read again by whoever runs it next.
                tracing::warn!(pipeline = %spec.id.pipeline, %error, "pipeline was stopped while it could not go on");
                metrics.phase(Phase::Stopped);
                let_go(&spec, &metrics, &error).await;
                return Ok(());
            }
            Err(error) if !repeats && passes(&spec, &error) => {
                tracing::warn!(pipeline = %spec.id.pipeline, %error, pause_ms = pause.as_millis() as u64, "pipeline failed, will start again from its newest epoch");
                metrics.phase(Phase::Retrying { error: error.message() });
                let_go(&spec, &metrics, &error).await;
            }
            Err(error) => {
                metrics.phase(Phase::Failed { error: error.message() });
                let_go(&spec, &metrics, &error).await;
                return Err(error);
            }
        }
        if metrics.read().epoch > epoch_before {
            pause = RETRY_PAUSE_MIN;
        }
        tokio::select! {
            _ = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_PAUSE_MAX),
            _ = stop.changed() => {
                metrics.phase(Phase::Stopped);
                holder::say(&spec.warehouse, &spec.id, &spec.identity, Some(Vitals::of(&metrics.read())), true).await;
                return Ok(());
            }
        }
    }
}

/// Says that the shard was let go and why, unless it is another's.
async fn let_go(spec: &ShardSpec, metrics: &Metrics, error: &StreamError) {
    if !matches!(error, StreamError::Held { .. } | StreamError::Fenced { .. }) {
        holder::say(&spec.warehouse, &spec.id, &spec.identity, Some(Vitals::of(&metrics.read())), true).await;
    }
}

/// Whether starting again may help.
fn passes(spec: &ShardSpec, error: &StreamError) -> bool {
    // A start goes on after a gap if the source says so.
    let skips = matches!(error, StreamError::Ingest(IngestError::OffsetGone { wanted, low, .. }) if wanted < low);
    error.may_pass() || skips && spec.blueprint.sources.iter().any(|source| source.definition.on_gap == OnGap::Skip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unknown_pipeline_is_told_with_those_there_are_and_the_nearest() {
        let text = "CREATE SOURCE rides (id VARCHAR) WITH (connector = 'kafka', topic = 'rides', format = 'json');
                    CREATE STREAMING TABLE silver.rides AS SELECT id FROM rides;
                    CREATE STREAMING TABLE silver.ids AS SELECT id FROM rides;";
        let project = Project::parse([text]).unwrap();
        let asked = async |name: &str| wanted(project.plan_each().await, &[name.parse().unwrap()]);
        let names = asked("silver.ids").await.unwrap_or_else(|error| panic!("{error}")).blueprints.into_keys().map(|name| name.to_string());
        assert_eq!(names.collect::<Vec<_>>(), ["silver.ids"]);
        let said = async |name: &str| asked(name).await.err().expect("an error").to_string();
        assert_eq!(
            said("silver.ridse").await,
            "there is no pipeline silver.ridse: the applied definitions have silver.ids, silver.rides; did you mean 'silver.rides'?"
        );
        assert!(said("gold.demand").await.ends_with("; name one of these, or `watershed apply` a project that defines it"));
    }
}

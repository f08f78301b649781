//! One run of a job: a batch query whose rows replace those of its view.
//!
//! ```text
//! state of the view now (version, transaction) ─► each input pinned to a version ─► plan ─► rows, as they come, to files nobody sees
//!                                                                      one commit: old files out, new files in, transaction + 1 ◄─┘
//! ```
//!
//! An attempt that fails for a reason that may pass is made again from the start, on the versions there are then. Nothing is recovered from an
//! attempt: its files are named by no commit, and the next one writes its own.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use uuid::Uuid;
use watershed_dialect::compute::{environment, workers};
use watershed_dialect::stages::{JOB_TASKS_MIN, Stage, as_of_stages, refresh_stages};
use watershed_dialect::{
    AsOfJoin, CountsBesideDistinct, as_of_join, deep, plan_materialized_view, session_config, session_state, without_panic, without_panics,
};
use watershed_lake::{LakeError, Overwrite, TableName, Texts, Warehouse, step, with_bounded_batches, with_damage_named};

use crate::as_of::joined;
use crate::clock::{Clock, SystemClock};
use crate::expect::{ConstraintRun, Expectations};
use crate::metrics::JobObserver;
use crate::runs::{RunRecord, RunStatus, Runs, Trigger, versions};
use crate::views::declare;
use crate::{BatchError, View};

/// What jobs may use, and how patient they are.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Memory for all jobs of the process together.
    pub memory_bytes: usize,
    /// Where operators spill; the system's folder for temporary files if `None`.
    pub spill_dir: Option<PathBuf>,
    /// How much may be spilled.
    pub spill_bytes: u64,
    /// Tasks of a stage; the number of processors if `None`.
    pub tasks: Option<usize>,
    /// How often a run is tried before it fails.
    pub attempts: u32,
    /// First wait between two attempts; doubles each time.
    pub backoff_first: Duration,
    /// Longest wait between two attempts.
    pub backoff_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            spill_dir: None,
            spill_bytes: 32 << 30,
            tasks: None,
            attempts: 5,
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
        }
    }
}

/// Runs jobs of one warehouse. Clones share memory limit and records.
#[derive(Debug, Clone)]
pub struct JobRunner {
    warehouse: Warehouse,
    runs: Runs,
    environment: Arc<RuntimeEnv>,
    limits: Limits,
    workers: tokio::runtime::Handle,
    clock: Arc<dyn Clock>,
    /// Names this process in records.
    process: Arc<str>,
    observer: JobObserver,
}

/// What an attempt has done so far.
#[derive(Debug, Clone, Default)]
struct Done {
    rows: u64,
    bytes: u64,
    dropped: u64,
    constraints: Vec<ConstraintRun>,
    read: BTreeMap<TableName, i64>,
    written: Option<i64>,
}

/// A query over pinned inputs, ready to be computed.
struct Planned {
    context: SessionContext,
    query: Computation,
    /// The columns of the view.
    schema: SchemaRef,
    read: BTreeMap<TableName, i64>,
}

/// Who computes the rows.
enum Computation {
    DataFusion(Arc<dyn ExecutionPlan>),
    /// Polars: the rows are all there at once.
    AsOf(Box<AsOfJoin>),
}

impl JobRunner {
    /// A runner with limits of its own.
    pub fn new(warehouse: Warehouse, limits: Limits) -> Result<Self, BatchError> {
        let environment = environment(limits.memory_bytes, limits.spill_dir.as_deref(), limits.spill_bytes).map_err(BatchError::Setup)?;
        let workers = workers("job").map_err(|why| BatchError::Setup(format!("no threads for jobs: {why}").into()))?;
        let (runs, clock) = (Runs::new(warehouse.clone()), Arc::new(SystemClock));
        Ok(Self {
            warehouse,
            runs,
            environment,
            limits,
            workers,
            clock,
            process: Uuid::new_v4().to_string().into(),
            observer: JobObserver::default(),
        })
    }

    /// The same with another clock, for tests.
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Its clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The warehouse.
    pub fn warehouse(&self) -> &Warehouse {
        &self.warehouse
    }

    /// The records of runs.
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    /// Looks at the jobs that are run and scheduled here.
    pub fn observer(&self) -> &JobObserver {
        &self.observer
    }

    /// Names this process in records.
    pub fn process(&self) -> &str {
        &self.process
    }

    /// Refreshes a view: tries until it succeeds, until an error that will not pass, or until `stop` turns true. The record of the run is kept
    /// whatever comes of it; if even that is impossible, the error says so. Dropping the future ends the run, which then counts as lost.
    pub async fn run(&self, view: &View, trigger: Trigger, mut stop: watch::Receiver<bool>) -> Result<RunRecord, BatchError> {
        let mut record = RunRecord::begin(view, trigger, self.clock.now(), &self.process);
        let _under_way = self.observer.began(&view.name);
        self.runs.started(&mut record).await?;
        let (progress, seen) = watch::channel((0_u32, None::<String>));
        let work = {
            let (runner, view, run_id) = (self.clone(), view.clone(), record.run_id.clone());
            self.workers.spawn(async move { runner.patiently(&view, &run_id, &progress).await })
        };
        // Whoever lets go of this future lets go of the work.
        let guard = AbortOnDrop(work.abort_handle());
        let outcome = tokio::select! {
            outcome = work => outcome.unwrap_or_else(|panic| Err(BatchError::Setup(format!("the job broke down: {panic}").into()))),
            () = asked(&mut stop) => Err(BatchError::Stopped),
        };
        drop(guard);
        let (attempts, hiccup) = seen.borrow().clone();
        record.attempts = attempts;
        record.ended_ms = Some(self.clock.now().timestamp_millis());
        match &outcome {
            Ok(done) => {
                record.status = RunStatus::Succeeded;
                (record.rows, record.bytes, record.written) = (done.rows, done.bytes, done.written);
                (record.dropped, record.constraints) = (done.dropped, done.constraints.clone());
                record.read.clone_from(&done.read);
                record.error = hiccup;
            }
            Err(error) => {
                record.status = if matches!(error, BatchError::Stopped) { RunStatus::Stopped } else { RunStatus::Failed };
                record.error = Some(error.to_string());
            }
        }
        self.observer.ended(&view.name, record.status);
        self.runs.ended(&record).await?;
        outcome.map(|_| record)
    }

    /// The stages that a run would have now; runs nothing.
    pub async fn stages(&self, view: &View) -> Result<Vec<Stage>, BatchError> {
        let name = view.name.to_string();
        Ok(match self.planned(view).await?.query {
            Computation::DataFusion(plan) => refresh_stages(&plan, &name),
            Computation::AsOf(join) => as_of_stages(&join, &name),
        })
    }

    /// Tries again and again; `progress` is the number of attempts and what the last failed one failed for.
    async fn patiently(&self, view: &View, run_id: &str, progress: &watch::Sender<(u32, Option<String>)>) -> Result<Done, BatchError> {
        let limit = view.definition.timeout;
        let mut pause = self.limits.backoff_first;
        for attempt in 1.. {
            progress.send_modify(|(attempts, _)| *attempts = attempt);
            let outcome = tokio::time::timeout(limit, without_panic(self.attempt(view, run_id))).await;
            let error = match outcome.unwrap_or(Err(BatchError::TooSlow(limit))) {
                Ok(done) => return Ok(done),
                Err(error) if attempt < self.limits.attempts && error.may_pass() => error,
                Err(error) => return Err(error),
            };
            tracing::warn!(job = %view.name, run = run_id, attempt, %error, "the job is tried again");
            self.observer.tried_again(&view.name);
            progress.send_modify(|(_, hiccup)| *hiccup = Some(error.to_string()));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.limits.backoff_max);
        }
        Err(BatchError::Setup("no attempt was allowed".into()))
    }

    async fn attempt(&self, view: &View, run_id: &str) -> Result<Done, BatchError> {
        let planned = self.planned(view).await?;
        let table = self.warehouse.create_table(&view.name, planned.schema.clone(), &view.definition.partitioned_by).await?;
        let app_id = format!("job/{}", view.name);
        let standing = table.standing(&app_id).await?;

        let mut writer = table.writer(view.name.table());
        let mut expectations = Expectations::new(view, &planned.context.state(), planned.schema)?;
        match planned.query {
            Computation::DataFusion(plan) => {
                let mut stream = without_panics(execute_stream(plan, planned.context.task_ctx())?);
                while let Some(batch) = stream.next().await {
                    writer.write(expectations.hold(batch?)?).await?;
                }
            }
            Computation::AsOf(join) => {
                let joined = joined(&planned.context, &join).await?;
                writer.write(expectations.hold(joined.rows.clone())?).await?;
            }
        }
        let (constraints, dropped) = expectations.counts();
        let files = writer.finish().await?;
        step("refresh_staged");

        let rows = files.iter().map(|file| file.rows).sum();
        let bytes = files.iter().map(|file| file.size_bytes).sum();
        let parameters = BTreeMap::from([("runId".to_owned(), run_id.to_owned()), ("read".to_owned(), versions(&planned.read))]);
        let committed = table
            .overwrite(Overwrite {
                app_id,
                app_version: standing.app_version.map_or(1, |version| version + 1),
                previous_app_version: standing.app_version,
                read_version: standing.version,
                files,
                operation: "REFRESH".to_owned(),
                parameters,
            })
            .await?;
        if committed.already_there {
            // The transaction was free when this attempt began: another process has taken it since, with rows of its own.
            return Err(LakeError::Overtaken { table: view.name.clone(), read: standing.version, found: committed.version }.into());
        }
        step("refresh_committed");
        Ok(Done { rows, bytes, dropped, constraints, read: planned.read, written: Some(committed.version) })
    }

    /// A session that knows no tables yet, within the limits of all jobs.
    pub(crate) fn context(&self) -> SessionContext {
        let tasks = self.limits.tasks.or_else(|| std::thread::available_parallelism().ok().map(NonZeroUsize::get)).unwrap_or(JOB_TASKS_MIN);
        let config = session_config().with_target_partitions(tasks.max(JOB_TASKS_MIN));
        let context = SessionContext::new_with_state(session_state(config, Some(self.environment.clone())));
        context.add_optimizer_rule(Arc::new(CountsBesideDistinct));
        context
    }

    async fn planned(&self, view: &View) -> Result<Planned, BatchError> {
        let context = self.context();
        let mut read = BTreeMap::new();
        for input in &view.reads {
            let pinned = match self.warehouse.table(input).await {
                Ok(table) => table.pinned(Texts::Plain).await,
                Err(error) => Err(error),
            };
            let (version, provider) = match pinned {
                Err(LakeError::NoSuchTable(_)) => return Err(BatchError::NoInput { view: view.name.clone(), input: input.clone() }),
                other => other?,
            };
            declare(&context, input, provider)?;
            read.insert(input.clone(), version);
        }
        let logical = plan_materialized_view(&context.state(), &view.definition).await?;
        let schema = Arc::clone(logical.schema().inner());
        let query = match as_of_join(&view.definition.query)? {
            Some(join) => Computation::AsOf(Box::new(join)),
            None => {
                let plan = deep(context.execute_logical_plan(logical).await?.create_physical_plan()).await?;
                Computation::DataFusion(with_damage_named(with_bounded_batches(plan, &context.task_ctx()).await?)?)
            }
        };
        Ok(Planned { context, query, schema, read })
    }
}

/// Ends when a stop is asked for. Whoever is gone asks for nothing.
async fn asked(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests;

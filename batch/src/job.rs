//! One run of a job: a batch query whose rows replace those of its view.
//!
//! ```text
//! where the view stands (version, transaction) ─► each input pinned to a version ─► plan ─► rows, as they come, to files nobody sees
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
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use uuid::Uuid;
use watershed_dialect::stages::{JOB_TASKS_MIN, Stage, as_of_stages, refresh_stages};
use watershed_dialect::{AsOfJoin, as_of_join, plan_materialized_view, session_config, session_state};
use watershed_lake::{LakeError, Overwrite, TableName, Warehouse, step};

use crate::clock::{Clock, SystemClock};
use crate::expect::{ConstraintRun, Expectations};
use crate::metrics::JobObserver;
use crate::runs::{RunRecord, RunStatus, Runs, Trigger};
use crate::training_set::joined;
use crate::views::declare;
use crate::{BatchError, View, workers};

/// How many memory consumers an out-of-memory message names.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::new(3).unwrap();

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
        let disk = match &limits.spill_dir {
            Some(dir) => DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![dir.clone()])),
            None => DiskManagerBuilder::default(),
        };
        let pool = TrackConsumersPool::new(FairSpillPool::new(limits.memory_bytes), CONSUMERS_NAMED);
        let environment = RuntimeEnvBuilder::new()
            .with_disk_manager_builder(disk.with_max_temp_directory_size(limits.spill_bytes))
            .with_memory_pool(Arc::new(pool))
            .build_arc()
            .map_err(|error| BatchError::Setup(error.strip_backtrace()))?;
        let (runs, workers, clock) = (Runs::new(warehouse.clone()), workers::handle()?, Arc::new(SystemClock));
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
        self.runs.started(&record).await?;
        let (progress, seen) = watch::channel((0_u32, None::<String>));
        let work = {
            let (runner, view, run_id) = (self.clone(), view.clone(), record.run_id.clone());
            self.workers.spawn(async move { runner.patiently(&view, &run_id, &progress).await })
        };
        // Whoever lets go of this future lets go of the work.
        let guard = AbortOnDrop(work.abort_handle());
        let outcome = tokio::select! {
            outcome = work => outcome.unwrap_or_else(|panic| Err(BatchError::Setup(format!("the job broke down: {panic}")))),
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
            let outcome = tokio::time::timeout(limit, self.attempt(view, run_id)).await;
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
        Err(BatchError::Setup("no attempt was allowed".to_owned()))
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
                let mut stream = execute_stream(plan, planned.context.task_ctx())?;
                while let Some(batch) = stream.next().await {
                    writer.write(expectations.hold(batch?)?).await?;
                }
            }
            Computation::AsOf(join) => {
                let (rows, _memory) = joined(&planned.context, &join).await?;
                writer.write(expectations.hold(rows)?).await?;
            }
        }
        let (constraints, dropped) = expectations.counts();
        let files = writer.finish().await?;
        step("refresh_staged");

        let rows = files.iter().map(|file| file.rows).sum();
        let bytes = files.iter().map(|file| file.size_bytes).sum();
        let read: Vec<String> = planned.read.iter().map(|(input, version)| format!("{input}@{version}")).collect();
        let parameters = BTreeMap::from([("runId".to_owned(), run_id.to_owned()), ("read".to_owned(), read.join(" "))]);
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
        SessionContext::new_with_state(session_state(config, Some(self.environment.clone())))
    }

    async fn planned(&self, view: &View) -> Result<Planned, BatchError> {
        let context = self.context();
        let mut read = BTreeMap::new();
        for input in &view.reads {
            let pinned = match self.warehouse.table(input).await {
                Ok(table) => table.pinned().await,
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
            None => Computation::DataFusion(context.execute_logical_plan(logical).await?.create_physical_plan().await?),
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
mod tests {
    use std::collections::HashMap;

    use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::Int64Type;
    use url::Url;
    use watershed_lake::Commit;
    use watershed_lake::faults::{Fault, FaultStore, Operation, Outcome};

    use super::*;
    use crate::Views;

    /// Five attempts within milliseconds.
    fn hasty() -> Limits {
        Limits { backoff_first: Duration::from_millis(1), backoff_max: Duration::from_millis(4), tasks: Some(2), ..Limits::default() }
    }

    async fn memory() -> JobRunner {
        JobRunner::new(Warehouse::open("memory://", &HashMap::new()).await.unwrap(), hasty()).unwrap()
    }

    fn never() -> watch::Receiver<bool> {
        watch::channel(false).1
    }

    fn view(definition: &str) -> View {
        Views::parse([definition]).unwrap_or_else(|e| panic!("{}", e.render(definition, None))).iter().next().unwrap().clone()
    }

    async fn append(warehouse: &Warehouse, epoch: i64, rows: &[(&str, i64)]) {
        let books: StringArray = rows.iter().map(|(book, _)| Some(*book)).collect();
        let copies: Int64Array = rows.iter().map(|(_, copies)| Some(*copies)).collect();
        let batch =
            RecordBatch::try_from_iter_with_nullable([("book", Arc::new(books) as _, true), ("copies", Arc::new(copies) as _, true)])
                .unwrap();
        let table = warehouse.create_table(&"bronze.sales".parse().unwrap(), batch.schema(), &[]).await.unwrap();
        let mut writer = table.writer("test");
        writer.write(batch).await.unwrap();
        let files = writer.finish().await.unwrap();
        let (app_id, operation) = ("test/0".to_owned(), "WRITE".to_owned());
        let previous_app_version = (epoch > 1).then_some(epoch - 1);
        table.commit(Commit { app_id, app_version: epoch, previous_app_version, files, operation }).await.unwrap();
    }

    async fn totals(warehouse: &Warehouse, table: &str) -> Vec<(String, i64)> {
        let context = SessionContext::new_with_state(session_state(session_config(), None));
        let provider = warehouse.table(&table.parse().unwrap()).await.unwrap().provider().await.unwrap();
        context.register_table("t", provider).unwrap();
        let batches = context.sql("SELECT book, copies FROM t ORDER BY book").await.unwrap().collect().await.unwrap();
        let rows = batches.iter().flat_map(|batch| {
            let (books, copies) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
            (0..batch.num_rows()).map(|row| (books.value(row).to_owned(), copies.value(row))).collect::<Vec<_>>()
        });
        rows.collect()
    }

    const SUMS: &str = "CREATE MATERIALIZED VIEW gold.sums AS SELECT book, sum(copies) AS copies FROM bronze.sales GROUP BY book";

    #[tokio::test]
    async fn a_run_replaces_the_rows_and_says_what_it_read() {
        let runner = memory().await;
        let sums = view(SUMS);
        append(runner.warehouse(), 1, &[("A", 2), ("B", 8), ("A", 1)]).await;
        let first = runner.run(&sums, Trigger::Manual, never()).await.unwrap();
        assert_eq!((first.rows, first.attempts, first.written, first.status), (2, 1, Some(1), RunStatus::Succeeded));
        assert_eq!(first.read, BTreeMap::from([("bronze.sales".parse().unwrap(), 1)]));
        assert!(first.bytes > 0 && first.error.is_none());
        append(runner.warehouse(), 2, &[("B", 1), ("C", 5)]).await;
        let second = runner.run(&sums, Trigger::Update, never()).await.unwrap();
        assert_eq!((second.rows, second.written), (3, Some(2)));
        let sold = |book: &str, copies| (book.to_owned(), copies);
        assert_eq!(totals(runner.warehouse(), "gold.sums").await, [sold("A", 3), sold("B", 9), sold("C", 5)]);
        assert_eq!(runner.runs().all().await.unwrap(), [second, first]);
        let table = runner.warehouse().table(&sums.name).await.unwrap();
        assert_eq!(table.transaction_version("job/gold.sums").await.unwrap(), Some(2));
    }

    #[tokio::test]
    async fn a_store_that_fails_for_a_while_is_waited_for() {
        let store = FaultStore::new(Arc::new(object_store::memory::InMemory::new()));
        let patience = watershed_lake::Patience { attempts: 2, timeout: Duration::from_millis(300), backoff: Duration::from_millis(1) };
        let warehouse = Warehouse::with_patience(Arc::new(store.clone()), Url::parse("memory:///").unwrap(), patience);
        let runner = JobRunner::new(warehouse, hasty()).unwrap();
        append(runner.warehouse(), 1, &[("A", 2)]).await;
        // Each attempt makes two tries; the third attempt succeeds.
        store.plan(Fault::new(Operation::Put, "gold/sums/part-", Outcome::FailBefore).times(4));
        let record = runner.run(&view(SUMS), Trigger::Schedule, never()).await.unwrap();
        assert_eq!((record.attempts, record.status, store.fired()), (3, RunStatus::Succeeded, 4));
        assert!(record.error.is_some(), "what had to be waited for is kept");
        runner.observer().looked(crate::statuses(&Views::parse([SUMS]).unwrap(), &[record]));
        let [job] = runner.observer().metrics().try_into().unwrap();
        assert_eq!(job.counts, crate::JobCounts { succeeded: 1, retries: 2, ..Default::default() });
        assert_eq!(job.status.last_ended.unwrap().rows, 1);
        assert_eq!(totals(runner.warehouse(), "gold.sums").await.len(), 1);
    }

    #[tokio::test]
    async fn what_will_not_pass_fails_at_once_and_leaves_the_view() {
        let runner = memory().await;
        append(runner.warehouse(), 1, &[("A", 2)]).await;
        runner.run(&view(SUMS), Trigger::Manual, never()).await.unwrap();
        let broken = SUMS.replace("sum(copies)", "CAST(max(book) AS BIGINT)");
        let error = runner.run(&view(&broken), Trigger::Manual, never()).await.unwrap_err().to_string();
        assert!(error.contains("'A'"), "{error}");
        let record = runner.runs().all().await.unwrap().remove(0);
        assert_eq!((record.status, record.attempts), (RunStatus::Failed, 1));
        assert_eq!(record.error.as_deref(), Some(error.as_str()));
        assert_eq!(totals(runner.warehouse(), "gold.sums").await, [("A".to_owned(), 2)]);

        let lost = view("CREATE MATERIALIZED VIEW gold.lost AS SELECT * FROM bronze.nowhere");
        let error = runner.run(&lost, Trigger::Manual, never()).await.unwrap_err().to_string();
        assert!(error.contains("gold.lost reads bronze.nowhere, which does not exist"), "{error}");
    }

    #[tokio::test]
    async fn rows_are_held_to_expectations_and_counted() {
        let runner = memory().await;
        append(runner.warehouse(), 1, &[("A", 2), ("B", -8), ("C", 900), ("D", -1)]).await;
        let held = |actions: [&str; 2]| {
            let [sold, few] = actions;
            view(&format!(
                "CREATE MATERIALIZED VIEW gold.sums (
                     CONSTRAINT sold EXPECT (copies > 0) ON VIOLATION {sold},
                     CONSTRAINT few EXPECT (copies < 100 AND book <> 'D') ON VIOLATION {few},
                     CONSTRAINT known EXPECT (nullif(book, 'A') IS NOT NULL)
                 ) AS SELECT book, sum(copies) AS copies FROM bronze.sales GROUP BY book"
            ))
        };
        let record = runner.run(&held(["DROP ROW", "WARN"]), Trigger::Manual, never()).await.unwrap();
        let counts = |record: &RunRecord| -> Vec<(String, u64, u64)> {
            record.constraints.iter().map(|c| (c.name.clone(), c.passed, c.failed)).collect()
        };
        let counted = [("sold", 2, 2), ("few", 2, 2), ("known", 3, 1)].map(|(name, passed, failed)| (name.to_owned(), passed, failed));
        assert_eq!((record.rows, record.dropped, counts(&record)), (2, 2, counted.to_vec()));
        let kept = [("A".to_owned(), 2), ("C".to_owned(), 900)];
        assert_eq!(totals(runner.warehouse(), "gold.sums").await, kept);
        assert_eq!(runner.runs().all().await.unwrap(), [record], "the record is kept as it is");

        let error = runner.run(&held(["DROP ROW", "FAIL"]), Trigger::Manual, never()).await.unwrap_err().to_string();
        assert!(error.contains("gold.sums violates constraint 'few', EXPECT (copies < 100 AND book <> 'D')"), "{error}");
        assert!(error.contains("book=C, copies=900") || error.contains("book=D, copies=-1"), "{error}");
        let failed = runner.runs().all().await.unwrap().remove(0);
        assert_eq!((failed.status, failed.attempts), (RunStatus::Failed, 1));
        assert_eq!(totals(runner.warehouse(), "gold.sums").await, kept, "the rows stay");

        let record = runner.run(&held(["DROP ROW", "DROP ROW"]), Trigger::Manual, never()).await.unwrap();
        assert_eq!((record.rows, record.dropped), (1, 3), "a row is dropped once");
        // A mistake in a constraint is told before anything runs.
        let (_, mistakes) = Views::parse([SUMS.replace("AS SELECT", "(CONSTRAINT x EXPECT (copy > 0)) AS SELECT").as_str()])
            .unwrap()
            .plan([], &BTreeMap::from([("bronze.sales".parse().unwrap(), sales_schema())]))
            .await;
        let [mistake] = mistakes.as_slice() else { panic!("{mistakes:?}") };
        assert!(mistake.of_constraint && mistake.error.to_string().contains("did you mean 'copies'?"), "{mistake:?}");
    }

    fn sales_schema() -> SchemaRef {
        use arrow::datatypes::{DataType, Field, Schema};
        Arc::new(Schema::new(vec![Field::new("book", DataType::Utf8, true), Field::new("copies", DataType::Int64, true)]))
    }

    #[tokio::test]
    async fn of_two_runs_at_once_one_starts_over() {
        let runner = memory().await;
        append(runner.warehouse(), 1, &[("A", 2), ("B", 1)]).await;
        let sums = view(SUMS);
        let runs = (0..4).map(|_| runner.run(&sums, Trigger::Manual, never()));
        let records: Vec<RunRecord> = futures::future::try_join_all(runs).await.unwrap();
        let mut written: Vec<i64> = records.iter().filter_map(|record| record.written).collect();
        written.sort_unstable();
        assert_eq!(written, [1, 2, 3, 4]);
        assert_eq!(totals(runner.warehouse(), "gold.sums").await.len(), 2);
    }

    #[tokio::test]
    async fn a_run_can_be_stopped_and_has_its_time() {
        let runner = memory().await;
        // A thousand million rows: longer than any test waits.
        let endless = "SELECT count(*) AS n FROM generate_series(1, 100000) AS a CROSS JOIN generate_series(1, 1000000) AS b";
        let slow = view(&format!("CREATE MATERIALIZED VIEW gold.slow WITH (timeout = '50 ms') AS {endless}"));
        let error = runner.run(&slow, Trigger::Manual, never()).await.unwrap_err();
        assert!(matches!(error, BatchError::TooSlow(_)), "{error}");
        let (sender, stop) = watch::channel(false);
        let slow = view(&format!("CREATE MATERIALIZED VIEW gold.slow AS {endless}"));
        let run = tokio::spawn({
            let runner = runner.clone();
            async move { runner.run(&slow, Trigger::Manual, stop).await }
        });
        tokio::time::sleep(Duration::from_millis(30)).await;
        sender.send(true).unwrap();
        assert!(matches!(run.await.unwrap(), Err(BatchError::Stopped)));
        let statuses: Vec<_> = runner.runs().all().await.unwrap().iter().map(|record| record.status).collect();
        assert_eq!(statuses, [RunStatus::Stopped, RunStatus::Failed]);
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let runner = memory().await;
        let limits = Limits { memory_bytes: 1 << 20, spill_bytes: 1 << 16, ..hasty() };
        let runner = JobRunner::new(runner.warehouse().clone(), limits).unwrap();
        let keys =
            "SELECT value AS a, value % 1000003 AS b, count(*) AS n FROM generate_series(1, 2000000) GROUP BY value, value % 1000003";
        let wide = view(&format!("CREATE MATERIALIZED VIEW gold.wide AS {keys}"));
        let error = runner.run(&wide, Trigger::Manual, never()).await.unwrap_err();
        assert!(matches!(error, BatchError::OutOfMemory(_)), "{error}");
    }
}

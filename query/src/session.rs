//! A session: one context for queries over a warehouse.
//!
//! ```no_run
//! # async fn example(warehouse: watershed_lake::Warehouse) -> Result<(), watershed_query::QueryError> {
//! let session = watershed_query::Session::new(warehouse)?;
//! let result = session.query("SELECT city, sum(requests) FROM silver.city_demand GROUP BY city").await?;
//! # drop(result); Ok(())
//! # }
//! ```
//!
//! State: settings made with `SET`, and the catalog with its pinned table versions. A session reads: statements that would
//! define or change tables are refused with the way to do it. Memory is bounded; past the bound, operators that can spill
//! write to local disk and the others end with [`QueryError::OutOfMemory`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{
    Analyze, Execute, Explain, LogicalPlan, LogicalPlanBuilder, PlanType, Statement as PlanStatement, ToStringifiedPlan as _,
};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{DataFrame, SessionContext};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use futures::FutureExt as _;
use watershed_dialect::compute::environment;
use watershed_dialect::{CountsBesideDistinct, Statement, StatementKind, ViewName, deep, is_brief, of_panic, on_deep_stack, one_statement};
use watershed_functions::{Ended, FOLDING_MAX, folding};
use watershed_lake::{TableName, Warehouse, with_bounded_batches, with_damage_named};

use crate::catalog::{CATALOG, HOME, LakeCatalog, SYSTEM, asks_for_tables, named};
use crate::copy::{self, Copying};
use crate::explain;
use crate::memory::{self, MemoryUse};
use crate::pauses::with_pauses;
use crate::prepare::Prepared;
use crate::type_names::with_type_names;
use crate::weight::Weight;
use crate::{QueryError, SystemTable, prepare, refusals, settings, show_create, workers};

/// Tables of the schema `system` that the binary hands to every session over a warehouse: `SHOW <name>` lists the main columns of each.
pub(crate) const LISTED: [&str; 6] = ["epochs", "job_runs", "jobs", "pipelines", "quality", "sinks"];

/// What a session may use.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Memory for all queries of the session together.
    pub memory_limit_bytes: usize,
    /// Where operators spill; the system's folder for temporary files if `None`.
    pub spill_dir: Option<PathBuf>,
    /// How much may be spilled.
    pub spill_limit_bytes: u64,
    /// Tables of the schema `system`.
    pub system_tables: Vec<Arc<dyn SystemTable>>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { memory_limit_bytes: 1 << 30, spill_dir: None, spill_limit_bytes: 32 << 30, system_tables: Vec::new() }
    }
}

/// One person's (or program's) view of a warehouse. Cheap to clone; clones share settings.
#[derive(Clone)]
pub struct Session {
    context: SessionContext,
    catalog: Arc<LakeCatalog>,
    /// Queries come from other machines: what touches this machine beyond the tables is refused.
    for_others: bool,
    /// Where queries are computed.
    workers: tokio::runtime::Handle,
    prepared: Arc<Prepared>,
    /// Held from the refresh of the catalog to the end of planning, so that one statement never sees another's versions.
    planning: Arc<tokio::sync::Mutex<()>>,
}

/// The answer to one statement.
pub struct QueryResult {
    /// Rows, computed as they are taken. Dropping the stream cancels the query.
    pub stream: SendableRecordBatchStream,
    /// False for statements such as `SET` that have no rows to show.
    pub has_rows: bool,
    /// What it takes of the memory of this process.
    pub(crate) memory: Arc<MemoryUse>,
}

impl QueryResult {
    /// The columns of the answer.
    pub fn schema(&self) -> SchemaRef {
        self.stream.schema()
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("catalog", &self.catalog).finish_non_exhaustive()
    }
}

impl Session {
    /// A session with the default limits.
    pub fn new(warehouse: Warehouse) -> Result<Self, QueryError> {
        Self::with_options(warehouse, SessionOptions::default())
    }

    /// A session with limits and system tables of its own.
    pub fn with_options(warehouse: Warehouse, options: SessionOptions) -> Result<Self, QueryError> {
        let runtime =
            environment(options.memory_limit_bytes, options.spill_dir.as_deref(), options.spill_limit_bytes).map_err(QueryError::Setup)?;
        Ok(Self::over(LakeCatalog::new(warehouse, options.system_tables), runtime, workers::handle()?))
    }

    fn over(catalog: LakeCatalog, runtime: Arc<RuntimeEnv>, workers: tokio::runtime::Handle) -> Self {
        let config = watershed_dialect::session_config()
            .with_default_catalog_and_schema(CATALOG, HOME)
            .with_create_default_catalog_and_schema(false);
        let context = SessionContext::new_with_state(watershed_dialect::session_state(config, Some(runtime)));
        context.add_optimizer_rule(Arc::new(CountsBesideDistinct));
        let catalog = Arc::new(catalog);
        context.register_catalog(CATALOG, Arc::clone(&catalog) as _);
        Self { context, catalog, for_others: false, workers, prepared: Arc::default(), planning: Arc::default() }
    }

    /// A session for a client of a server: settings of its own, the same warehouse, and memory and threads shared with this one, so that
    /// the limits hold for all clients together. It refuses what touches the server's machine: `COPY … TO`, limits of the whole process.
    pub fn for_client(&self) -> Self {
        let session = Self::over(self.catalog.another(), self.context.runtime_env(), self.workers.clone());
        Self { for_others: true, ..session }
    }

    /// Runs a text of exactly one statement.
    pub async fn query(&self, text: &str) -> Result<QueryResult, QueryError> {
        self.run(&one_statement(text)?).await
    }

    /// Runs one parsed statement. Planning is done when this returns; rows are computed as the stream is read.
    pub async fn run(&self, statement: &Statement) -> Result<QueryResult, QueryError> {
        let plan = self.plan(statement).await?;
        refuse_parameters(&plan)?;
        self.ready(plan).await.map_err(|error| error.placed_in(statement))?.start(|stream| stream)
    }

    /// Plans a statement against the newest version of every table it names; the plan keeps these versions.
    pub(crate) async fn plan(&self, statement: &Statement) -> Result<LogicalPlan, QueryError> {
        no_panic(deep(self.plan_checked(statement)).brief(statement.is_brief)).await
    }

    async fn plan_checked(&self, statement: &Statement) -> Result<LogicalPlan, QueryError> {
        if let StatementKind::CreateSource(_)
        | StatementKind::CreateStreamingTable(_)
        | StatementKind::CreateMaterializedView(_)
        | StatementKind::CreateSink(_)
        | StatementKind::CreatePanel(_) = &statement.kind
        {
            return Err(refused(
                "this statement is a definition, and a query session only reads",
                "write it to a .sql file of the project and run `watershed apply`",
            ));
        }
        // Before its values are looked at: no values would do.
        if let StatementKind::Other(DfStatement::Statement(statement)) = &statement.kind
            && let SqlStatement::Insert(_) | SqlStatement::Update(_) | SqlStatement::Delete(_) | SqlStatement::Merge(_) = statement.as_ref()
        {
            return Err(written_by_pipelines());
        }
        if let StatementKind::Other(DfStatement::Statement(statement)) = &statement.kind
            && let Some(refusal) = refusals::of_other_databases(statement)
        {
            return Err(refusal);
        }
        let planned = {
            let _one_at_a_time = self.planning.lock().await;
            if asks_for_tables(statement) {
                self.catalog.refresh().await?;
            }
            if let StatementKind::ExplainView(name) = &statement.kind {
                return explain::view(&self.context, self.catalog.warehouse(), name).await;
            }
            let rewritten = match &statement.kind {
                StatementKind::ExplainTable(name) => Some(self.explained(name).await?),
                StatementKind::Other(other) => match show_create::asked(other) {
                    Some(name) => Some(show_create::shown(self.catalog.warehouse(), name).await?),
                    None => self.rewrite_show(other)?,
                },
                _ => None,
            };
            let planned = match rewritten {
                Some(text) => self.plan_text(&text).await?,
                None => named(watershed_dialect::plan(&self.context, statement)).await?,
            };
            self.with_executed(planned).await?
        };
        if let LogicalPlan::Statement(PlanStatement::Prepare(prepare)) = &planned {
            self.prepared.keep(prepare, statement)?;
        }
        let planned = with_type_names(planned)?;
        refuse_writes(&planned)?;
        if self.for_others {
            refuse_beyond_tables(&planned)?;
        }
        settings::check(&planned, self.for_others)?;
        Ok(planned)
    }

    /// The plan with that of the prepared statement which it runs or explains.
    async fn with_executed(&self, plan: LogicalPlan) -> Result<LogicalPlan, QueryError> {
        let Some(execute) = prepare::executed_in(&plan).cloned() else { return Ok(plan) };
        let executed = self.executed(execute).await?;
        Ok(match plan {
            LogicalPlan::Explain(explain) => {
                let stringified_plans = vec![executed.to_stringified(PlanType::InitialLogicalPlan)];
                LogicalPlan::Explain(Explain { plan: Arc::new(executed), stringified_plans, ..explain })
            }
            LogicalPlan::Analyze(analyze) => LogicalPlan::Analyze(Analyze { input: Arc::new(executed), ..analyze }),
            _ => executed,
        })
    }

    /// The plan of a prepared statement with values in it.
    async fn executed(&self, execute: Execute) -> Result<LogicalPlan, QueryError> {
        let statement = self.prepared.get(&execute.name)?;
        match named(watershed_dialect::plan(&self.context, &statement)).await? {
            LogicalPlan::Statement(PlanStatement::Prepare(prepare)) => {
                prepare::with_values(&statement, prepare, execute, &self.context.state())
            }
            other => Ok(other),
        }
    }

    /// Makes a plan ready to run. A statement such as `SET` has its effect here.
    pub(crate) async fn ready(&self, plan: LogicalPlan) -> Result<Ready, QueryError> {
        let is_brief = is_brief(&plan);
        no_panic(deep(self.lower(plan)).brief(is_brief)).await
    }

    async fn lower(&self, plan: LogicalPlan) -> Result<Ready, QueryError> {
        let has_rows = !matches!(plan, LogicalPlan::Statement(_));
        let stages = explain::stages_of(&self.context, &plan).await;
        let plan = match plan {
            // It was kept when it was planned.
            LogicalPlan::Statement(PlanStatement::Prepare(_)) => LogicalPlanBuilder::empty(false).build()?,
            LogicalPlan::Statement(PlanStatement::Deallocate(deallocate)) => {
                self.prepared.forget(&deallocate.name)?;
                LogicalPlanBuilder::empty(false).build()?
            }
            plan => plan,
        };
        let (plan, copying) = copy::aside(plan)?;
        let (mut state, plan) = self.context.execute_logical_plan(plan).await?.into_parts();
        let ended = Ended::default();
        state.config_mut().options_mut().extensions.insert(ended.clone());
        state.mark_start_execution();
        let frame = DataFrame::new(state, plan);
        let (task, memory) = memory::counted(frame.task_ctx());
        let task = Arc::new(task);
        let plan = frame.create_physical_plan().await?;
        let weight = Weight::of(&plan, task.memory_pool())?;
        let mut plan = with_damage_named(with_bounded_batches(with_pauses(plan)?, &task).await?)?;
        if let Some(stages) = stages {
            plan = explain::with_stages(plan, Arc::clone(&task), stages).await?;
        }
        Ok(Ready { plan, weight, task, memory, has_rows, copying, ended, workers: self.workers.clone() })
    }

    /// The columns that a plan with parameters will give, as far as they are known before the parameters are.
    pub(crate) fn columns_expected(&self, plan: &LogicalPlan) -> SchemaRef {
        let optimised = || on_deep_stack(|| self.context.state().optimize(plan));
        // Where a rule panics, the columns are as they are before it.
        let optimised = catch_unwind(AssertUnwindSafe(|| folding(&mut FOLDING_MAX.clone(), optimised)));
        let known = optimised.as_ref().map_or(plan, |optimised| optimised.as_ref().unwrap_or(plan));
        Arc::clone(known.schema().inner())
    }

    async fn plan_text(&self, text: &str) -> Result<LogicalPlan, QueryError> {
        let statements = watershed_dialect::parse(text)?;
        Ok(watershed_dialect::plan(&self.context, &statements[0]).await?)
    }

    /// `SHOW TABLES` without the dozen tables about the session itself, and `SHOW <name>` of each table in `system`; `None` for all else.
    fn rewrite_show(&self, statement: &DfStatement) -> Result<Option<String>, QueryError> {
        let DfStatement::Statement(statement) = statement else { return Ok(None) };
        match statement.as_ref() {
            SqlStatement::ShowTables { show_options, .. } if show_options.show_in.is_none() && show_options.filter_position.is_none() => {
                Ok(Some(
                    "SELECT table_schema AS schema, table_name AS \"table\" FROM information_schema.tables \
                     WHERE table_schema <> 'information_schema' ORDER BY 1, 2"
                        .to_owned(),
                ))
            }
            SqlStatement::ShowVariable { variable } if variable.len() == 1 => {
                let name = variable[0].value.to_ascii_lowercase();
                match self.catalog.shown(&name) {
                    Some(columns) => Ok(Some(format!("SELECT {columns} FROM {SYSTEM}.{name}"))),
                    None if LISTED.contains(&name.as_str()) => {
                        Err(refused(&format!("this session knows nothing of {name}"), "run `watershed status`"))
                    }
                    None => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    /// The statement that asks for the plan of a streaming table.
    async fn explained(&self, name: &ViewName) -> Result<String, QueryError> {
        let table = explain::streaming_table(self.catalog.warehouse(), name).await?;
        if self.catalog.shown("plans").is_none() {
            return Err(refused(
                "this session knows nothing of the plans of pipelines",
                "ask `watershed shell` or a server of the warehouse",
            ));
        }
        Ok(format!("SELECT 'stages' AS plan_type, plan FROM {SYSTEM}.plans WHERE pipeline = '{}'", table.replace('\'', "''")))
    }

    /// Every table of the warehouse, sorted, as of now.
    pub async fn tables(&self) -> Result<Vec<TableName>, QueryError> {
        let _one_at_a_time = self.planning.lock().await;
        self.catalog.refresh().await?;
        let mut tables = self.catalog.tables();
        tables.sort();
        Ok(tables)
    }

    /// Names of the tables in the schema `system`.
    pub fn system_tables(&self) -> Vec<String> {
        self.catalog.system_tables()
    }

    /// The columns of a table, named with or without its schema; `None` if there is no such table.
    pub async fn describe(&self, table: &str) -> Result<Option<SchemaRef>, QueryError> {
        let _one_at_a_time = self.planning.lock().await;
        self.catalog.refresh().await?;
        let reference = datafusion::common::TableReference::parse_str(table);
        if !self.context.table_exist(reference.clone())? {
            return Ok(None);
        }
        Ok(Some(named(self.context.table_provider(reference)).await?.schema()))
    }

    /// The columns of a table as of the last statement or listing.
    pub(crate) async fn columns(&self, schema: &str, table: &str) -> Result<SchemaRef, QueryError> {
        let reference = datafusion::common::TableReference::partial(schema, table);
        Ok(named(self.context.table_provider(reference)).await?.schema())
    }

    /// The memory that all statements share.
    pub(crate) fn memory_pool(&self) -> Arc<dyn MemoryPool> {
        Arc::clone(&self.context.runtime_env().memory_pool)
    }

    /// Names of all functions a query can call, sorted.
    pub fn functions(&self) -> Vec<String> {
        let state = self.context.state();
        let mut names: Vec<String> = state.scalar_functions().keys().cloned().collect();
        names.extend(state.aggregate_functions().keys().cloned());
        names.extend(state.window_functions().keys().cloned());
        names.sort();
        names.dedup();
        names
    }
}

/// A plan whose physical form is known and which has not run yet. It runs once: operators keep state.
pub(crate) struct Ready {
    plan: Arc<dyn ExecutionPlan>,
    weight: Weight,
    task: Arc<TaskContext>,
    memory: Arc<MemoryUse>,
    has_rows: bool,
    /// The file it writes.
    copying: Option<Copying>,
    /// Tells functions that nobody waits any more.
    ended: Ended,
    workers: tokio::runtime::Handle,
}

impl Ready {
    /// The columns of the result.
    pub(crate) fn schema(&self) -> SchemaRef {
        self.plan.schema()
    }

    /// What it will take of the memory of this process.
    pub(crate) fn memory(&self) -> Arc<MemoryUse> {
        Arc::clone(&self.memory)
    }

    /// About what the plan itself takes.
    pub(crate) fn plan_bytes(&self) -> usize {
        self.weight.bytes()
    }

    /// False for statements such as `SET` that have no rows to show.
    pub(crate) fn has_rows(&self) -> bool {
        self.has_rows
    }

    /// Starts it on the pool's threads; what `adapt` adds to the stream runs there, too.
    pub(crate) fn start(
        self,
        adapt: impl FnOnce(SendableRecordBatchStream) -> SendableRecordBatchStream,
    ) -> Result<QueryResult, QueryError> {
        let stream = {
            // Some operators start tasks as soon as they are executed: these, too, belong to the pool.
            let _on_the_pool = self.workers.enter();
            let executed = catch_unwind(AssertUnwindSafe(|| execute_stream(self.plan, self.task)));
            executed.unwrap_or_else(|panic| Err(of_panic(panic.as_ref())))?
        };
        let stream = match self.copying {
            Some(copying) => copying.finish(stream),
            None => stream,
        };
        let stream = self.weight.with(adapt(stream));
        Ok(QueryResult { stream: workers::compute(&self.workers, stream, self.ended), has_rows: self.has_rows, memory: self.memory })
    }
}

/// A fault of a library's that ends in a panic is an error of the one statement.
async fn no_panic<T>(planning: impl Future<Output = Result<T, QueryError>>) -> Result<T, QueryError> {
    AssertUnwindSafe(planning).catch_unwind().await.unwrap_or_else(|_| {
        Err(refused("the statement cannot be planned: it meets a fault of the program", "write it in another way; the log says more"))
    })
}

pub(crate) fn refused(what: &str, hint: &str) -> QueryError {
    QueryError::Refused { what: what.to_owned(), hint: hint.to_owned() }
}

fn written_by_pipelines() -> QueryError {
    refused(
        "INSERT, UPDATE and DELETE are not for a query session: tables are written by their pipelines only",
        "write the rows to the pipeline's topic",
    )
}

/// A session reads: tables change through pipelines only. `COPY … TO` writes files elsewhere and is allowed.
fn refuse_writes(plan: &LogicalPlan) -> Result<(), QueryError> {
    match plan {
        LogicalPlan::Dml(_) => Err(written_by_pipelines()),
        LogicalPlan::Ddl(_) => Err(refused(
            "a query session defines nothing",
            "define tables in the project's .sql files and run `watershed apply`; for one query, WITH name AS (…) does",
        )),
        LogicalPlan::Statement(PlanStatement::TransactionStart(_) | PlanStatement::TransactionEnd(_)) => {
            Err(refused("a query session has no transactions", "each statement reads one version of every table it names anyway"))
        }
        LogicalPlan::Explain(explain) => refuse_writes(&explain.plan),
        LogicalPlan::Analyze(analyze) => refuse_writes(&analyze.input),
        _ => Ok(()),
    }
}

/// What a client of a server may not do: its files and limits would be those of the server's machine.
fn refuse_beyond_tables(plan: &LogicalPlan) -> Result<(), QueryError> {
    match plan {
        LogicalPlan::Copy(_) => Err(refused(
            "COPY … TO would write on the server's machine",
            "run the query and write its rows where you are (in the shell: \\o FILE)",
        )),
        LogicalPlan::Statement(PlanStatement::SetVariable(set)) if is_of_process(&set.variable) => Err(refused(
            &format!("{} holds for all clients of the server", set.variable),
            "whoever runs the server sets query.memory_limit and its like",
        )),
        LogicalPlan::Statement(PlanStatement::ResetVariable(reset)) if is_of_process(&reset.variable) => {
            Err(refused(&format!("{} holds for all clients of the server", reset.variable), "leave it as it is"))
        }
        LogicalPlan::Explain(explain) => refuse_beyond_tables(&explain.plan),
        LogicalPlan::Analyze(analyze) => refuse_beyond_tables(&analyze.input),
        _ => Ok(()),
    }
}

fn is_of_process(variable: &str) -> bool {
    variable.to_ascii_lowercase().starts_with("datafusion.runtime.")
}

pub(crate) fn refuse_parameters(plan: &LogicalPlan) -> Result<(), QueryError> {
    if matches!(plan, LogicalPlan::Statement(_)) {
        // PREPARE … AS has parameters on purpose.
        return Ok(());
    }
    let mut names: Vec<String> = plan.get_parameter_names()?.into_iter().collect();
    names.sort();
    match names.as_slice() {
        [] => Ok(()),
        names => Err(refused(
            &format!("the statement has parameters without a value: {}", names.join(", ")),
            "write the values themselves, or prepare the statement and bind them",
        )),
    }
}

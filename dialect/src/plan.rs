//! From text to plans: for batch as DataFusion does it, for streams with rules that keep the shapes that operators know.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion::optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{Optimizer, OptimizerContext, OptimizerRule};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use watershed_functions::numbers::literals;

use crate::accumulators::Accumulators;
use crate::as_of::as_of_join;
use crate::deep_stack::deep;
use crate::diagnose::from_datafusion;
use crate::forms::{self, with_headings};
use crate::locate::{Excerpt, placed_by_message};
use crate::multiset::with_rows_counted;
use crate::order_keys::with_names_of_input;
use crate::own_names;
use crate::refused;
use crate::storable::{check_columns, check_partitioning, with_stored_types};
use crate::streamable::{check_streamable, place_of};
use crate::subquery::with_subqueries_joined;
use crate::time_zone;
use crate::value_sets::ValueSets;
use crate::{
    MaterializedViewDefinition, SourceTable, SqlError, Statement, StatementKind, StreamingTableDefinition, double_literals, ignored, parse,
};

/// Plans a query or command for batch. Places in errors count from the start of the text that the statement was parsed from.
///
/// Definitions (`CREATE SOURCE` and the like) have no plan: they are applied, not run.
pub async fn plan(ctx: &SessionContext, statement: &Statement) -> Result<LogicalPlan, SqlError> {
    deep(plan_statement(ctx, statement)).brief(statement.is_brief).await
}

async fn plan_statement(ctx: &SessionContext, statement: &Statement) -> Result<LogicalPlan, SqlError> {
    match &statement.kind {
        StatementKind::Other(parsed) => {
            if time_zone::check(parsed).map_err(|e| e.at(statement.line, statement.column))? {
                return Box::pin(plan_text(ctx, time_zone::STAY)).await;
            }
            let excerpt = Excerpt { text: &statement.text, line: statement.line, column: statement.column };
            let mut parsed = parsed.clone();
            with_headings(&mut parsed);
            plan_parsed(&ctx.state(), parsed, excerpt).await.map_err(|e| e.at_least(statement.line, statement.column))
        }
        StatementKind::CreateSource(_) => Err(not_run("a source", statement)),
        StatementKind::CreateStreamingTable(_) => Err(not_run("a streaming table", statement)),
        StatementKind::CreateMaterializedView(_) => Err(not_run("a materialized view", statement)),
        StatementKind::CreateSink(_) => Err(not_run("a sink", statement)),
        StatementKind::CreatePanel(_) => Err(not_run("a panel", statement)),
        StatementKind::ExplainTable(table) => Err(SqlError::new(format!("nothing is known of the pipeline of '{table}' here"))
            .hint("ask `watershed shell` or a server of the warehouse")
            .at(statement.line, statement.column)),
        StatementKind::ExplainView(view) => Err(SqlError::new(format!("nothing is known of the job of '{view}' here"))
            .hint("ask `watershed shell` or a server of the warehouse")
            .at(statement.line, statement.column)),
    }
}

fn not_run(what: &str, statement: &Statement) -> SqlError {
    SqlError::new(format!("{what} is not run but applied"))
        .hint("put the statement in a .sql file and run: watershed apply <folder>")
        .at(statement.line, statement.column)
}

/// Parses and plans a text that holds one statement.
pub async fn plan_text(ctx: &SessionContext, text: &str) -> Result<LogicalPlan, SqlError> {
    plan(ctx, &one_statement(text)?).await
}

/// Parses, plans and optimises the query of a streaming table. The plan passes [`check_streamable`], its scan names only columns that are used, and
/// places in errors count from the start of `query`.
///
/// The schema of the plan is one that a Delta table can hold: unsigned numbers are cast to signed ones, timestamps to microseconds in UTC.
///
/// The rules are few so that each operator in the text stays one operator in the plan: nothing becomes a join, `count(DISTINCT x)` stays one
/// aggregate, no filter moves into the scan.
pub async fn plan_streaming(state: &SessionState, query: &str) -> Result<LogicalPlan, SqlError> {
    deep(plan_stream(state, query)).await
}

async fn plan_stream(state: &SessionState, query: &str) -> Result<LogicalPlan, SqlError> {
    let parsed = query_of(query, "a streaming table")?;
    let whole = Excerpt::whole(query);
    let plan = plan_as_written(state, parsed, whole).await?;
    check_clockless(&plan).map_err(|e| placed_by_message(e, whole))?;
    let failed = |e: DataFusionError| from_datafusion(&e, state, whole).at_least(1, 1);
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}).map_err(failed)?;
    // Before the rules run, expressions still know their place in the text.
    check_streamable(&plan).and_then(|()| check_columns(&plan)).map_err(|e| placed_by_message(e, whole))?;
    let plan = with_stored_types(plan).map_err(failed)?;
    let context = OptimizerContext::new_with_config_options(Arc::clone(state.config_options())).without_query_execution_start_time();
    let plan = Optimizer::with_rules(streaming_rules()).optimize(plan, &context, |_, _| {}).map_err(failed)?;
    check_streamable(&plan)?;
    Ok(plan)
}

/// [`plan_streaming`] for the query of a table, whose partition columns must be among the result's.
pub async fn plan_streaming_table(state: &SessionState, table: &StreamingTableDefinition) -> Result<LogicalPlan, SqlError> {
    let plan = plan_streaming(state, &table.query).await?;
    check_partitioning(&table.partitioned_by, &plan)?;
    Ok(plan)
}

/// Parses and plans the query of a materialized view for batch, unoptimised. What it reads must be tables, and places in errors count from the
/// start of its query. As with [`plan_streaming`], the schema of the plan is one that a Delta table can hold. The plan of an [`AsOfJoin`](crate::AsOfJoin) has
/// its columns and no rows.
pub async fn plan_materialized_view(state: &SessionState, view: &MaterializedViewDefinition) -> Result<LogicalPlan, SqlError> {
    deep(plan_view(state, view)).await
}

async fn plan_view(state: &SessionState, view: &MaterializedViewDefinition) -> Result<LogicalPlan, SqlError> {
    let whole = Excerpt::whole(&view.query);
    let parsed = query_of(&view.query, "a materialized view")?;
    let plan = match as_of_join(&view.query)? {
        Some(join) => join.plan(state, whole).await?,
        None => plan_parsed(state, parsed, whole).await?,
    };
    check_reads_tables(&plan, whole)?;
    let failed = |e: DataFusionError| from_datafusion(&e, state, whole).at_least(1, 1);
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}).map_err(failed)?;
    check_columns(&plan).map_err(|e| placed_by_message(e, whole))?;
    let plan = with_stored_types(plan).map_err(failed)?;
    check_partitioning(&view.partitioned_by, &plan)?;
    // Some mistakes come up only when the rules have run, such as a constant that cannot be cast.
    state.optimize(&plan).map_err(failed)?;
    Ok(plan)
}

/// The tables that a query names with their schema, each once, as (schema, table). A name without one is that of a source, a table function or a
/// mistake.
pub fn tables_read(query: &str) -> Result<Vec<(String, String)>, SqlError> {
    let statement = query_of(query, "a materialized view")?;
    let (references, _) = resolve_table_references(&statement, true).map_err(|e| SqlError::new(e.message().into_owned()))?;
    let named = |r: &TableReference| Some((r.schema()?.to_string(), r.table().to_string()));
    let mut tables: Vec<_> = references.iter().filter_map(named).collect();
    tables.sort();
    tables.dedup();
    Ok(tables)
}

/// A source has no rows of its own, so a job over one would fail whenever it runs.
pub(crate) fn check_reads_tables(plan: &LogicalPlan, text: Excerpt<'_>) -> Result<(), SqlError> {
    let mut found = None;
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let provider = source_as_provider(&scan.source).ok();
            let provider: Option<&dyn TableProvider> = provider.as_deref();
            if provider.is_some_and(|p| p.downcast_ref::<SourceTable>().is_some()) {
                found = Some(scan.table_name.table().to_string());
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.map_err(|e| SqlError::new(e.message().into_owned()))?;
    match found {
        None => Ok(()),
        Some(source) => {
            let error = SqlError::new(format!("'{source}' is a source, and a materialized view reads tables"))
                .detail("a source has no rows of its own: its streaming tables keep them")
                .hint(format!("read a streaming table of it, such as bronze.{source}"));
            Err(placed_by_message(error, text))
        }
    }
}

/// The one query that a text must be.
fn query_of(query: &str, what: &str) -> Result<DfStatement, SqlError> {
    let statement = one_statement(query)?;
    match statement.kind {
        StatementKind::Other(DfStatement::Statement(inner)) if matches!(*inner, SqlStatement::Query(_)) => {
            Ok(DfStatement::Statement(inner))
        }
        _ => Err(SqlError::new(format!("{what} is made of a query")).hint("write SELECT … FROM …").at(statement.line, statement.column)),
    }
}

pub(crate) fn streaming_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(ValueSets),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(EliminateDuplicatedExpr::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(CommonSubexprEliminate::new()),
        Arc::new(OptimizeProjections::new()),
        Arc::new(Accumulators),
    ]
}

/// Parses a text that holds one statement.
pub fn one_statement(text: &str) -> Result<Statement, SqlError> {
    let mut statements = parse(text)?.into_iter();
    match (statements.next(), statements.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(SqlError::new("there is no statement here").hint("write one, such as SELECT 1")),
        (_, Some(second)) => {
            Err(SqlError::new("there is more than one statement here").hint("give one statement at a time").at(second.line, second.column))
        }
    }
}

pub(crate) async fn plan_parsed(state: &SessionState, statement: DfStatement, text: Excerpt<'_>) -> Result<LogicalPlan, SqlError> {
    let plan = plan_as_written(state, statement, text).await?;
    refused::check(&plan).map_err(|e| placed_by_message(e, text))?;
    with_rows_counted(plan).and_then(with_subqueries_joined).map_err(|e| from_datafusion(&e, state, text))
}

/// The plan with its subqueries where the text has them: no stream has one, and says so.
pub(crate) async fn plan_as_written(state: &SessionState, mut statement: DfStatement, text: Excerpt<'_>) -> Result<LogicalPlan, SqlError> {
    ignored::check_statement(&statement, state).map_err(|e| placed_by_message(e, text))?;
    let has_ordered_names = forms::rewrite(&mut statement)?;
    double_literals::rewrite(&mut statement)?;
    let mut own_state = None;
    if matches!(&statement, DfStatement::Statement(inner) if is_recursive(inner)) {
        // The types of its columns are settled while it is planned, before literals can be.
        own_state.insert(state.clone()).config_mut().options_mut().sql_parser.parse_float_as_decimal = false;
    }
    let planning = own_state.as_ref().unwrap_or(state);
    let plan = match planning.statement_to_plan(statement.clone()).await {
        // What the second try says may name a part that is nowhere in the text.
        Err(clash) if own_names::is_clash(&clash) => own_names::planned(planning, statement).await.map_err(|_| clash),
        planned => planned,
    };
    let plan = if has_ordered_names { plan.and_then(with_names_of_input) } else { plan };
    plan.and_then(literals::settle).map_err(|e| from_datafusion(&e, state, text))
}

fn is_recursive(statement: &SqlStatement) -> bool {
    matches!(statement, SqlStatement::Query(query) if query.with.as_ref().is_some_and(|with| with.recursive))
}

/// The first function in an expression whose value depends on when or how often it is called.
pub(crate) fn clock_function(expr: &Expr) -> Result<Option<String>, DataFusionError> {
    let mut found = None;
    expr.apply(|part| {
        if let Expr::ScalarFunction(call) = part
            && call.func.signature().volatility != Volatility::Immutable
        {
            found = Some(call.func.name().to_string());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Refuses functions whose value depends on when or how often they are called: a replay must give the same rows.
pub(crate) fn check_clockless(plan: &LogicalPlan) -> Result<(), SqlError> {
    let mut found = None;
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            Ok(match clock_function(expr)? {
                Some(name) => {
                    found = Some((name, place_of(std::slice::from_ref(expr))));
                    TreeNodeRecursion::Stop
                }
                None => TreeNodeRecursion::Continue,
            })
        })
    });
    match (walked, found) {
        (Err(e), _) => Err(SqlError::new(e.message().into_owned())),
        (Ok(_), None) => Ok(()),
        (Ok(_), Some((name, place))) => {
            let error = SqlError::new(format!("{name}() cannot be part of a streaming query"))
                .detail("its value would differ when rows are replayed after a restart")
                .hint("use the event time or a METADATA FROM 'timestamp' column, or call it when you query the table");
            Err(match place {
                Some((line, column)) => error.at(line, column),
                None => error,
            })
        }
    }
}

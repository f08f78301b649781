//! From a sink's query to a plan that sees one row at a time.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::MemorySchemaProvider;
use datafusion::common::TableReference;
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{Optimizer, OptimizerContext};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, Query, SetExpr, Statement as SqlStatement, TableFactor,
};
use datafusion::sql::sqlparser::parser::Parser;

use crate::SqlError;
use crate::bounds::CALLS_MAX;
use crate::deep_stack::deep;
use crate::definition::SinkDefinition;
use crate::diagnose::{from_datafusion, from_parser};
use crate::locate::{Excerpt, placed_by_message};
use crate::nearest::did_you_mean;
use crate::plain::sql_types;
use crate::plan::{check_clockless, plan_as_written, streaming_rules};
use crate::storable::{check_columns, with_stored_types};
use crate::streamable::check_expressions;
use crate::syntax::WatershedDialect;

/// Plans a sink's query over a table with the columns `table`: projections and filters over a scan, with types that a table could hold.
/// Places in errors count from the start of the sink's query.
///
/// `state` is used up: the table is registered in it.
pub async fn plan_sink(state: &SessionState, sink: &SinkDefinition, table: SchemaRef) -> Result<LogicalPlan, SqlError> {
    deep(plan_rows(state, sink, table)).await
}

async fn plan_rows(state: &SessionState, sink: &SinkDefinition, table: SchemaRef) -> Result<LogicalPlan, SqlError> {
    let whole = Excerpt::whole(&sink.query);
    let failed = |e: DataFusionError| from_datafusion(&e, state, whole).at_least(1, 1);
    let parsed = {
        let dialect = WatershedDialect::default();
        let parser = Parser::new(&dialect).with_recursion_limit(CALLS_MAX).try_with_sql(&sink.query);
        parser.and_then(|mut parser| parser.parse_query())
    };
    let mut query = parsed.map_err(|e| from_parser(&e, &sink.query))?;
    read_by_name(&mut query);
    let catalogs = state.catalog_list();
    let catalog = catalogs.catalog(&state.config_options().catalog.default_catalog);
    let catalog = catalog.ok_or_else(|| SqlError::new("the session has no catalog"))?;
    if catalog.schema(&sink.schema).is_none() {
        catalog.register_schema(&sink.schema, Arc::new(MemorySchemaProvider::new())).map_err(failed)?;
    }
    let name = TableReference::partial(sink.schema.as_str(), sink.table.as_str());
    let schema = state.schema_for_ref(name).map_err(failed)?;
    schema.register_table(sink.table.clone(), Arc::new(EmptyTable::new(table))).map_err(failed)?;

    let plan = plan_as_written(state, DfStatement::Statement(Box::new(SqlStatement::Query(query))), whole).await?;
    check_clockless(&plan).map_err(|e| placed_by_message(e, whole))?;
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}).map_err(failed)?;
    check_row_by_row(&plan).and_then(|()| check_columns(&plan)).map_err(|e| placed_by_message(e, whole).at_least(1, 1))?;
    let plan = with_stored_types(plan).map_err(failed)?;
    let context = OptimizerContext::new_with_config_options(Arc::clone(state.config_options())).without_query_execution_start_time();
    let plan = Optimizer::with_rules(streaming_rules()).optimize(plan, &context, |_, _| {}).map_err(failed)?;
    check_row_by_row(&plan)?;
    for (option, column) in [("key", &sink.key), ("id", &sink.id)] {
        column.as_ref().map_or(Ok(()), |column| check_named(column, option, &plan))?;
    }
    Ok(plan)
}

/// Replaces `STREAM(schema.table)` by `schema.table`.
fn read_by_name(query: &mut Query) {
    if let SetExpr::Select(select) = query.body.as_mut()
        && let Some(from) = select.from.first_mut()
        && let TableFactor::Table { name, args, .. } = &mut from.relation
        && let Some(given) = args.take()
        && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(parts)))) = given.args.into_iter().next()
    {
        *name = ObjectName::from(parts.into_iter().collect::<Vec<Ident>>());
    }
}

fn check_row_by_row(plan: &LogicalPlan) -> Result<(), SqlError> {
    let mut node = plan;
    loop {
        check_expressions(node)?;
        node = match node {
            LogicalPlan::Projection(p) => &p.input,
            LogicalPlan::Filter(f) => &f.input,
            LogicalPlan::SubqueryAlias(a) => &a.input,
            LogicalPlan::TableScan(_) => return Ok(()),
            other => {
                let name = match other {
                    LogicalPlan::Aggregate(_) => "GROUP BY".to_string(),
                    LogicalPlan::Sort(_) => "ORDER BY".to_string(),
                    LogicalPlan::Limit(_) => "LIMIT".to_string(),
                    LogicalPlan::Distinct(_) => "DISTINCT".to_string(),
                    LogicalPlan::Window(_) => "OVER".to_string(),
                    other => other.display().to_string(),
                };
                return Err(SqlError::new(format!("{name} cannot be part of a sink: it sees one row at a time"))
                    .hint("make a streaming table of the result and send that"));
            }
        };
    }
}

/// The column that an option names must be there and have a text.
fn check_named(column: &str, option: &str, plan: &LogicalPlan) -> Result<(), SqlError> {
    let fields = plan.schema().fields();
    let names = || fields.iter().map(|f| f.name().as_str());
    let Some(field) = fields.iter().find(|f| f.name() == column) else {
        return Err(SqlError::new(format!("{option} names '{column}', which the query does not give"))
            .detail(format!("columns of the query: {}", names().collect::<Vec<_>>().join(", ")))
            .maybe_hint(did_you_mean(column, names()))
            .at(1, 1));
    };
    let fits =
        |t: &DataType| t.is_integer() || matches!(t, DataType::Utf8 | DataType::Boolean | DataType::Date32 | DataType::Decimal128(..));
    if !fits(field.data_type()) {
        return Err(SqlError::new(format!("'{column}' cannot be the {option}: it is {}", sql_types(&field.data_type().to_string())))
            .hint(format!("cast it: CAST({column} AS VARCHAR) AS {column}"))
            .at(1, 1));
    }
    Ok(())
}

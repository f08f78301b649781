//! `CREATE SINK name TO KAFKA (options) AS SELECT … FROM STREAM(schema.table) [WHERE …]`: sends a streaming table's rows on as it emits them.
//!
//! ```sql
//! CREATE SINK fraud_scores TO KAFKA (topic = 'fraud-scores', format = 'json', key = 'payment_id', id = 'score_id')
//! AS SELECT score_id, payment_id, score FROM STREAM(gold.fraud_scores) WHERE score >= 50
//! ```
//!
//! The query sees one row at a time: it chooses, computes and leaves out.

use std::collections::BTreeMap;
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
use datafusion::sql::sqlparser::tokenizer::{Location, Token};

use crate::SqlError;
use crate::cursor::{Cursor, error_at};
use crate::definition::SinkDefinition;
use crate::diagnose::{from_datafusion, from_parser};
use crate::locate::{Excerpt, placed_by_message};
use crate::nearest::did_you_mean;
use crate::options::Options;
use crate::plan::{check_clockless, plan_parsed, streaming_rules};
use crate::storable::{check_columns, with_stored_types};
use crate::streamable::check_expressions;
use crate::syntax::{WatershedDialect, normalised};

const FORM: &str = "write CREATE SINK name TO KAFKA (topic = '…', format = 'json', key = '…') AS SELECT … FROM STREAM(schema.table)";

/// More partitions than this are a typing error, and a broker would be long in making them.
const PARTITIONS_MAX: i32 = 10_000;

/// All but the query.
pub(crate) struct Head {
    name: String,
    topic: String,
    properties: BTreeMap<String, String>,
    partitions: Option<i32>,
    key: Option<String>,
    id: Option<String>,
}

impl Head {
    pub(crate) fn into_definition(self, schema: String, table: String, query: String) -> SinkDefinition {
        let Self { name, topic, properties, partitions, key, id } = self;
        SinkDefinition { name, topic, properties, partitions, key, id, schema, table, query }
    }
}

/// Parses what stands behind `CREATE SINK`, up to and with `AS`.
pub(crate) fn parse_head(cursor: &mut Cursor) -> Result<Head, SqlError> {
    if cursor.peeks("IF") {
        return Err(cursor.error("IF NOT EXISTS is not needed").hint("leave it out: apply compares the definition with what is there"));
    }
    let (name, place) = cursor.name("a name for the sink")?;
    if cursor.parser.peek_token_ref().token == Token::Period {
        return Err(cursor.error("a sink has no schema").hint(format!("name it '{name}' or with an underscore")));
    }
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
        return Err(error_at(place, format!("'{name}' cannot name a sink")).hint("use letters a-z, digits, '_' and '-'"));
    }
    if !cursor.take(&["TO"]) {
        return Err(cursor.expected("TO KAFKA").hint(FORM));
    }
    if !cursor.take(&["KAFKA"]) {
        let near = cursor.peek_word().and_then(|w| did_you_mean(&w.value, ["KAFKA"]));
        return Err(cursor.expected("KAFKA").hint(near.unwrap_or_else(|| "a sink goes to Kafka: write TO KAFKA (topic = '…')".into())));
    }
    let place = cursor.here();
    let mut options = Options::parse_list(cursor)?;
    let topic = options.take("topic").map(|topic| topic.text).filter(|topic| !topic.is_empty());
    options.take_word("format", &[("json", ())], ())?;
    let key = options.take("key").map(|column| column.text);
    let id = options.take("id").map(|column| column.text);
    let partitions = options.take("partitions").map(|count| match count.text.parse() {
        Ok(count) if (1..=PARTITIONS_MAX).contains(&count) => Ok(count),
        _ => Err(error_at(count.place, format!("partitions cannot be '{}'", count.text))
            .hint(format!("write a number from 1 to {PARTITIONS_MAX}"))),
    });
    let partitions = partitions.transpose()?;
    let properties = options.take_prefixed("kafka.").into_iter().collect();
    options.finish("a sink", &["kafka.bootstrap.servers", "kafka.<any client setting>"])?;
    let topic = topic.ok_or_else(|| error_at(place, format!("sink '{name}' names no topic")).hint("add topic = '…'"))?;
    if !cursor.take(&["AS"]) {
        return Err(cursor.expected("AS").hint(FORM));
    }
    Ok(Head { name, topic, properties, partitions, key, id })
}

/// The streaming table that a sink's query reads. `at` is where the query begins.
pub(crate) fn table_of(query: &Query, at: Location) -> Result<(String, String), SqlError> {
    let refusal = || error_at(at, "a sink sends the rows of one streaming table").hint("write SELECT … FROM STREAM(schema.table)");
    let SetExpr::Select(select) = query.body.as_ref() else { return Err(refusal()) };
    let [from] = select.from.as_slice() else { return Err(refusal()) };
    if !from.joins.is_empty() || query.with.is_some() {
        return Err(refusal());
    }
    let parts = match &from.relation {
        TableFactor::Table { name, args: Some(args), .. } if is_stream(name) => match args.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(parts)))] => parts,
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(name)))] => {
                let place = name.span.start;
                return Err(error_at(place, format!("'{name}' names no schema"))
                    .hint(format!("write STREAM(schema.table), such as STREAM(gold.{name})")));
            }
            _ => return Err(refusal()),
        },
        TableFactor::Table { name, args: None, .. } => {
            let place = name.0.first().and_then(|part| part.as_ident()).map_or(at, |ident| ident.span.start);
            return Err(
                error_at(place, format!("a sink follows '{name}': it does not read it whole")).hint(format!("write FROM STREAM({name})"))
            );
        }
        _ => return Err(refusal()),
    };
    match parts.as_slice() {
        [schema, table] => Ok((normalised(schema), normalised(table))),
        [first, ..] => Err(error_at(first.span.start, "a streaming table's name has two parts").hint("write STREAM(schema.table)")),
        [] => Err(refusal()),
    }
}

fn is_stream(name: &ObjectName) -> bool {
    matches!(name.0.as_slice(), [part] if part.as_ident().is_some_and(|ident| ident.value.eq_ignore_ascii_case("stream")))
}

/// Plans a sink's query over a table with the columns `table`: projections and filters over a scan, with types that a table could hold.
/// Places in errors count from the start of the sink's query.
///
/// `state` is used up: the table is registered in it.
pub async fn plan_sink(state: &SessionState, sink: &SinkDefinition, table: SchemaRef) -> Result<LogicalPlan, SqlError> {
    let whole = Excerpt::whole(&sink.query);
    let failed = |e: DataFusionError| from_datafusion(&e, state, whole).at_least(1, 1);
    let parser = Parser::new(&WatershedDialect).try_with_sql(&sink.query);
    let mut query = parser.and_then(|mut parser| parser.parse_query()).map_err(|e| from_parser(&e, &sink.query))?;
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

    let plan = plan_parsed(state, DfStatement::Statement(Box::new(SqlStatement::Query(query))), whole).await?;
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
        return Err(SqlError::new(format!("'{column}' cannot be the {option}: it is {}", field.data_type()))
            .hint(format!("cast it: CAST({column} AS VARCHAR) AS {column}"))
            .at(1, 1));
    }
    Ok(())
}

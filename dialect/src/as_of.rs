//! `ASOF JOIN … MATCH_CONDITION` in a materialized view: each fact with the features as they were at its time.
//!
//! ```sql
//! SELECT * FROM bronze.payments AS p
//! ASOF JOIN gold.payments_by_minute AS f MATCH_CONDITION (p.event_time >= f.window_end) ON p.city = f.city
//! WHERE p.event_type = 'declined'                 -- of the facts alone
//! ```
//!
//! DataFusion does not plan it, so a view is either such a join and nothing else, or any other query. Here it is parsed and its
//! columns are worked out; the jobs compute it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, JoinConstraint, JoinOperator, ObjectName, Query, SetExpr, Statement as SqlStatement, TableFactor,
};

use crate::diagnose::from_datafusion;
use crate::locate::{Excerpt, placed_by_message};
use crate::nearest::did_you_mean;
use crate::plan::{one_statement, plan_parsed};
use crate::syntax::normalised;
use crate::{SqlError, StatementKind};

const FORM: &str =
    "write SELECT * FROM schema.facts AS p ASOF JOIN schema.features AS f MATCH_CONDITION (p.time >= f.time) ON p.key = f.key";

/// What such a view joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsOfJoin {
    /// The rows to be completed, as (schema, table).
    pub facts: (String, String),
    /// Features by key and time.
    pub features: (String, String),
    /// The columns of both that say whose features they are.
    pub keys: Vec<String>,
    /// When a fact happened.
    pub time: String,
    /// When a row of the features became known.
    pub feature_time: String,
    /// Only features from before the fact, not of the same moment: `>` in place of `>=`.
    pub strict: bool,
    /// The query that gives the facts.
    pub facts_query: String,
    /// The query that gives the features.
    pub features_query: String,
}

/// Reads the query of a view; `None` if it is no such join.
pub fn as_of_join(query: &str) -> Result<Option<AsOfJoin>, SqlError> {
    let StatementKind::Other(DfStatement::Statement(statement)) = one_statement(query)?.kind else { return Ok(None) };
    let SqlStatement::Query(parsed) = *statement else { return Ok(None) };
    read(&parsed).map_err(|error| placed_by_message(error, Excerpt::whole(query)))
}

fn read(query: &Query) -> Result<Option<AsOfJoin>, SqlError> {
    let SetExpr::Select(select) = query.body.as_ref() else { return Ok(None) };
    let Some(from) = select.from.first() else { return Ok(None) };
    let Some((relation, condition, constraint)) = from.joins.iter().find_map(|join| match &join.join_operator {
        JoinOperator::AsOf { match_condition, constraint } => Some((&join.relation, match_condition, constraint)),
        _ => None,
    }) else {
        return Ok(None);
    };
    let filter = select.selection.as_ref().map(|filter| format!(" WHERE {filter}")).unwrap_or_default();
    if query.to_string() != format!("SELECT * FROM {from}{filter}") || from.joins.len() != 1 {
        return Err(SqlError::new(
            "a view with an ASOF JOIN is that join and nothing else: all columns of two tables, and WHERE over the first",
        )
        .hint("join the rest in a view over this one"));
    }
    let (facts, features) = (Side::of(&from.relation)?, Side::of(relation)?);
    let (time, feature_time, strict) = match_columns(condition, &facts, &features)?;
    let keys = match constraint {
        JoinConstraint::Using(columns) => columns.iter().map(last_of).collect::<Option<Vec<String>>>(),
        JoinConstraint::On(condition) => {
            let mut keys = Vec::new();
            key_columns(condition, &facts, &features, &mut keys)?;
            Some(keys)
        }
        JoinConstraint::Natural | JoinConstraint::None => None,
    };
    let Some(keys) = keys.filter(|keys| !keys.is_empty()) else {
        return Err(SqlError::new("an ASOF JOIN says whose features a fact gets: ON or USING is missing").hint(FORM));
    };
    Ok(Some(AsOfJoin {
        facts_query: format!("SELECT * FROM {}{filter}", from.relation),
        features_query: format!("SELECT * FROM {relation}"),
        facts: facts.table,
        features: features.table,
        keys,
        time,
        feature_time,
        strict,
    }))
}

/// One of the two tables.
struct Side {
    table: (String, String),
    /// By which columns are qualified.
    name: String,
}

impl Side {
    fn of(relation: &TableFactor) -> Result<Self, SqlError> {
        let refused = || SqlError::new(format!("an ASOF JOIN is of two tables by their names, not of '{relation}'")).hint(FORM);
        let TableFactor::Table { name, alias, args: None, .. } = relation else { return Err(refused()) };
        let parts: Option<Vec<String>> = name.0.iter().map(|part| part.as_ident().map(normalised)).collect();
        let Some([schema, table]) = parts.and_then(|parts| <[String; 2]>::try_from(parts).ok()) else { return Err(refused()) };
        let name = alias.as_ref().map_or_else(|| table.clone(), |alias| normalised(&alias.name));
        Ok(Self { table: (schema, table), name })
    }

    /// The column, if it is one of this table.
    fn column(&self, expr: &Expr) -> Option<String> {
        let Expr::CompoundIdentifier(parts) = expr else { return None };
        let [table, column] = parts.as_slice() else { return None };
        (normalised(table) == self.name).then(|| normalised(column))
    }
}

fn last_of(name: &ObjectName) -> Option<String> {
    name.0.last().and_then(|part| part.as_ident()).map(normalised)
}

/// The time of the facts, that of the features, and whether they must differ.
fn match_columns(condition: &Expr, facts: &Side, features: &Side) -> Result<(String, String, bool), SqlError> {
    let refused = || {
        SqlError::new(format!("MATCH_CONDITION ({condition}) compares no time of the facts with an earlier one of the features"))
            .hint(format!("write MATCH_CONDITION ({}.time >= {}.time), or > for features from before", facts.name, features.name))
    };
    let Expr::BinaryOp { left, op, right } = unwrapped(condition) else { return Err(refused()) };
    let (later, earlier, strict) = match op {
        BinaryOperator::GtEq => (left, right, false),
        BinaryOperator::Gt => (left, right, true),
        BinaryOperator::LtEq => (right, left, false),
        BinaryOperator::Lt => (right, left, true),
        _ => return Err(refused()),
    };
    match (facts.column(later), features.column(earlier)) {
        (Some(time), Some(feature_time)) => Ok((time, feature_time, strict)),
        _ => Err(refused()),
    }
}

fn key_columns(condition: &Expr, facts: &Side, features: &Side, keys: &mut Vec<String>) -> Result<(), SqlError> {
    let condition = unwrapped(condition);
    if let Expr::BinaryOp { left, op: BinaryOperator::And, right } = condition {
        key_columns(left, facts, features, keys)?;
        return key_columns(right, facts, features, keys);
    }
    let pair = match condition {
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            facts.column(left).zip(features.column(right)).or_else(|| facts.column(right).zip(features.column(left)))
        }
        _ => None,
    };
    match pair {
        Some((one, other)) if one == other => {
            keys.push(one);
            Ok(())
        }
        Some((one, other)) => Err(SqlError::new(format!("the keys '{one}' and '{other}' have different names"))
            .hint("give them one name in the table that the features are made in")),
        None => Err(SqlError::new(format!("ON {condition} is no equality of a column of both tables")).hint(FORM)),
    }
}

fn unwrapped(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

impl AsOfJoin {
    /// A plan without rows that has the columns of the result. Both sides are planned, so mistakes in them are reported.
    pub(crate) async fn plan(&self, state: &SessionState, text: Excerpt<'_>) -> Result<LogicalPlan, SqlError> {
        let facts = columns_of(state, &self.facts_query, text).await?;
        let features = columns_of(state, &self.features_query, text).await?;
        let named = |(schema, table): &(String, String)| format!("{schema}.{table}");
        check_side(&facts, &named(&self.facts), &self.keys, &self.time).map_err(|error| placed_by_message(error, text))?;
        check_side(&features, &named(&self.features), &self.keys, &self.feature_time).map_err(|error| placed_by_message(error, text))?;
        let table = EmptyTable::new(as_of_columns(&facts, &features, &self.keys));
        let scan = LogicalPlanBuilder::scan("as_of", provider_as_source(Arc::new(table)), None).and_then(LogicalPlanBuilder::build);
        scan.map_err(|error| from_datafusion(&error, state, text))
    }
}

/// The plan of one side's query.
pub(crate) async fn plan_side(state: &SessionState, query: &str) -> Result<LogicalPlan, SqlError> {
    let StatementKind::Other(parsed) = one_statement(query)?.kind else { return Err(SqlError::new("a side of an ASOF JOIN is a query")) };
    let plan = plan_parsed(state, parsed, Excerpt::whole(query)).await?;
    let failed = |error: DataFusionError| from_datafusion(&error, state, Excerpt::whole(query));
    state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}).map_err(failed)
}

async fn columns_of(state: &SessionState, query: &str, text: Excerpt<'_>) -> Result<SchemaRef, SqlError> {
    // The query is put together from pieces of the text, so its places are not those of the text.
    let unplaced = |error: SqlError| placed_by_message(SqlError { line: None, column: None, ..error }, text);
    let plan = plan_side(state, query).await.map_err(unplaced)?;
    crate::plan::check_reads_tables(&plan, text)?;
    Ok(Arc::clone(plan.schema().inner()))
}

/// Refuses a table that lacks a key, or whose time is none.
pub fn check_side(schema: &Schema, table: &str, keys: &[String], time: &str) -> Result<(), SqlError> {
    for column in keys.iter().map(String::as_str).chain([time]) {
        if schema.index_of(column).is_ok() {
            continue;
        }
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let near = did_you_mean(column, names.iter().copied());
        return Err(SqlError::new(format!("table {table} has no column '{column}'"))
            .hint(near.unwrap_or_else(|| format!("it has {}", names.join(", ")))));
    }
    if !matches!(schema.field_with_name(time).map(Field::data_type), Ok(DataType::Timestamp(..))) {
        return Err(
            SqlError::new(format!("column '{time}' of {table} is no TIMESTAMP")).hint("name the column that says when a row became known")
        );
    }
    Ok(())
}

/// The columns of facts with their features: those of the facts, then those of the features but the keys, `feature_…` where a name is taken.
pub fn as_of_columns(facts: &Schema, features: &Schema, keys: &[String]) -> SchemaRef {
    let mut fields: Vec<FieldRef> = facts.fields().iter().cloned().collect();
    for field in features.fields().iter().filter(|field| !keys.contains(field.name())) {
        let taken = facts.index_of(field.name()).is_ok();
        let name = if taken { format!("feature_{}", field.name()) } else { field.name().clone() };
        fields.push(Arc::new(Field::new(name, field.data_type().clone(), true)));
    }
    Arc::new(Schema::new(fields))
}

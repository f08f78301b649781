//! Makes the result of a query fit a Delta table: casts types that Delta lacks to the ones that hold them, refuses what nothing holds.
//!
//! `approx_distinct` and `count(*)` over windows give unsigned numbers, `to_timestamp` gives nanoseconds; Delta has neither.
//!
//! `lake/src/schema.rs` brings any schema to what Delta stores; it leaves types that have passed here as they are, lists' names of their elements
//! aside. The tests of `batch/src/job.rs` hold the two together.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};
use watershed_functions::event_time_type;

use crate::SqlError;
use crate::nearest::did_you_mean;
use crate::plain::sql_types;

/// Characters that Delta and Parquet readers refuse in column names.
const NOT_IN_NAMES: [char; 9] = [' ', ',', ';', '{', '}', '(', ')', '\n', '\t'];

/// Fails if a column of the result has no name or type that a table can hold.
pub(crate) fn check_columns(plan: &LogicalPlan) -> Result<(), SqlError> {
    let mut seen: Vec<String> = vec![];
    for field in plan.schema().fields() {
        let name = field.name();
        if name.is_empty() || name.contains(NOT_IN_NAMES) || name.contains('=') {
            let hint = match is_read(plan, name) {
                false if is_given(plan, name) => format!("write AS {} in place of AS \"{name}\"", plain(name)),
                true => format!("give it a name: \"{name}\" AS {}", plain(name)),
                false => format!("give it a name: {name} AS {}", plain(name)),
            };
            return Err(SqlError::new(format!("'{name}' cannot name a column of a table")).hint(hint));
        }
        // Readers compare names without regard to case.
        if seen.contains(&name.to_lowercase()) {
            return Err(
                SqlError::new(format!("column '{name}' would stand twice in the table")).hint("give one of them another name with AS")
            );
        }
        seen.push(name.to_lowercase());
        if stored_type(field.data_type()).is_none() {
            return Err(SqlError::new(format!(
                "column '{name}' is {}, which a table cannot hold",
                sql_types(&field.data_type().to_string())
            ))
            .hint(format!("cast it: CAST({name} AS BIGINT) or CAST({name} AS VARCHAR)")));
        }
    }
    Ok(())
}

/// Whether a table or source has a column of this name: then it needs quotes; else it is an expression.
fn is_read(plan: &LogicalPlan, name: &str) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => scan.projected_schema.fields().iter().any(|field| field.name() == name),
        other => other.inputs().into_iter().any(|input| is_read(input, name)),
    }
}

/// Whether the query gives an expression this name by AS. DataFusion gives names so, too: those are calls.
fn is_given(plan: &LogicalPlan, name: &str) -> bool {
    let is_alias = |expr: &Expr| matches!(expr, Expr::Alias(alias) if alias.name == name);
    !name.contains('(') && (plan.expressions().iter().any(is_alias) || plan.inputs().into_iter().any(|input| is_given(input, name)))
}

/// Adds a projection of casts if any column needs one. The plan must pass [`check_columns`].
pub(crate) fn with_stored_types(plan: LogicalPlan) -> Result<LogicalPlan> {
    let fits = |field: &Field| stored_type(field.data_type()).as_ref() == Some(field.data_type());
    if plan.schema().fields().iter().all(|field| fits(field)) {
        return Ok(plan);
    }
    let columns: Vec<Expr> = plan
        .schema()
        .iter()
        .map(|(qualifier, field)| {
            let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
            match stored_type(field.data_type()) {
                Some(stored) if &stored != field.data_type() => cast(column, stored).alias(field.name()),
                _ => column,
            }
        })
        .collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

/// Fails if `PARTITIONED BY` names what the query does not give or what no table can be partitioned by, or leaves no other column. What passes,
/// `watershed_lake` can make.
pub(crate) fn check_partitioning(partitioned_by: &[String], plan: &LogicalPlan) -> Result<(), SqlError> {
    let fields = plan.schema().fields();
    for column in partitioned_by {
        let Some(field) = fields.iter().find(|f| f.name() == column) else {
            let names: Vec<&str> = fields.iter().map(|f| f.name().as_str()).collect();
            return Err(SqlError::new(format!("PARTITIONED BY names '{column}', which the query does not give"))
                .detail(format!("columns of the query: {}", names.join(", ")))
                .maybe_hint(did_you_mean(column, names)));
        };
        // Values become texts of the log and names of folders: a float or bytes have none that all readers read alike.
        let data_type = field.data_type();
        if data_type.is_nested() || data_type.is_floating() || matches!(data_type, DataType::Binary) {
            return Err(SqlError::new(format!("a table cannot be partitioned by '{column}': it is {}", sql_types(&data_type.to_string())))
                .hint("partition by text, whole numbers, decimals, booleans, dates or times, such as CAST(window_start AS DATE) AS day"));
        }
    }
    if !partitioned_by.is_empty() && partitioned_by.len() == fields.len() {
        return Err(SqlError::new("every column is in PARTITIONED BY: the table's files would be empty").hint("leave at least one out"));
    }
    Ok(())
}

/// The type in which a table holds a type; `None` if there is none.
fn stored_type(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if zone.as_ref() == "UTC" => data_type.clone(),
        DataType::Timestamp(..) => event_time_type(),
        DataType::Dictionary(_, values) => stored_type(values)?,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => DataType::List(stored_field(item)?),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(stored_field).collect::<Option<_>>()?),
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Decimal128(..)
        | DataType::Map(..) => data_type.clone(),
        _ => return None,
    })
}

fn stored_field(field: &Arc<Field>) -> Option<Arc<Field>> {
    let stored = stored_type(field.data_type())?;
    Some(if &stored == field.data_type() { field.clone() } else { Arc::new(field.as_ref().clone().with_data_type(stored)) })
}

/// A name made of the words of an expression: `count(*)` → `count`.
fn plain(name: &str) -> String {
    let words: Vec<&str> = name.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).collect();
    let joined = words.iter().take(3).copied().collect::<Vec<_>>().join("_").to_lowercase();
    if joined.is_empty() || joined.starts_with(|c: char| c.is_ascii_digit()) { "name".into() } else { joined }
}

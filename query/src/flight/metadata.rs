//! What is there: catalogs, schemas, tables and their columns; keys (there are none).

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::sql::metadata::{GetCatalogsBuilder, GetDbSchemasBuilder, GetTablesBuilder};
use arrow_flight::sql::{CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables};
use futures::{StreamExt, TryStreamExt, stream};
use tonic::{Response, Status};
use watershed_message::Message;

use super::edge;
use super::statement::Rows;
use crate::catalog::{CATALOG, SYSTEM};
use crate::{QueryError, Session};

/// A table of the lake.
pub(super) const TABLE: &str = "TABLE";
/// A table of the schema `system`, made up when it is read.
pub(super) const SYSTEM_TABLE: &str = "SYSTEM TABLE";
const TYPES: [&str; 2] = [SYSTEM_TABLE, TABLE];

/// Rows that are known already, as an answer.
pub(super) fn answer(rows: RecordBatch) -> Response<Rows> {
    let messages = FlightDataEncoderBuilder::new().with_schema(rows.schema()).build(stream::iter([Ok(rows)]));
    Response::new(messages.map_err(Status::from).boxed())
}

/// The columns of [`catalogs`].
pub(super) fn catalogs_schema(command: CommandGetCatalogs) -> SchemaRef {
    command.into_builder().schema()
}

/// The one catalog.
pub(super) fn catalogs(command: CommandGetCatalogs) -> Result<RecordBatch, QueryError> {
    let mut builder: GetCatalogsBuilder = command.into_builder();
    builder.append(CATALOG);
    builder.build().map_err(unbuilt)
}

/// The columns of [`schemas`].
pub(super) fn schemas_schema(command: CommandGetDbSchemas) -> SchemaRef {
    command.into_builder().schema()
}

/// The schemas that the command's filters let through.
pub(super) async fn schemas(session: &Session, command: CommandGetDbSchemas) -> Result<RecordBatch, QueryError> {
    let mut names: Vec<String> = all_tables(session).await?.into_iter().map(|table| table.schema).collect();
    names.sort();
    names.dedup();
    let mut builder: GetDbSchemasBuilder = command.into_builder();
    names.iter().for_each(|name| builder.append(CATALOG, name));
    builder.build().map_err(unbuilt)
}

/// The columns of [`tables`].
pub(super) fn tables_schema(command: CommandGetTables) -> SchemaRef {
    command.into_builder().schema()
}

/// The tables that the command's filters let through; only these are opened if their columns are asked for.
pub(super) async fn tables(session: &Session, mut command: CommandGetTables) -> Result<RecordBatch, QueryError> {
    command.table_types = command.table_types.iter().map(|kind| known_type(kind)).collect();
    let names_only = CommandGetTables { include_schema: false, ..command.clone() };
    let mut names: GetTablesBuilder = names_only.into_builder();
    for table in all_tables(session).await? {
        names.append(CATALOG, &table.schema, &table.name, table.kind, &Schema::empty()).map_err(unbuilt)?;
    }
    let names = names.build().map_err(unbuilt)?;
    if !command.include_schema {
        return Ok(names);
    }
    let text = |column: usize, row: usize| names.column(column).as_string::<i32>().value(row).to_owned();
    let mut whole: GetTablesBuilder = command.into_builder();
    for row in 0..names.num_rows() {
        let (schema, name) = (text(1, row), text(2, row));
        let columns = match session.columns(&schema, &name).await {
            Ok(columns) => edge::schema(&columns),
            // One table that cannot be opened must not hide all others.
            Err(why) => {
                tracing::warn!("the columns of {schema}.{name} cannot be told: {why}");
                Arc::new(Schema::empty())
            }
        };
        whole.append(CATALOG, &schema, &name, text(3, row), &columns).map_err(unbuilt)?;
    }
    whole.build().map_err(unbuilt)
}

struct Table {
    schema: String,
    name: String,
    kind: &'static str,
}

async fn all_tables(session: &Session) -> Result<Vec<Table>, QueryError> {
    let of_lake = |name: watershed_lake::TableName| Table { schema: name.schema().to_owned(), name: name.table().to_owned(), kind: TABLE };
    let mut tables: Vec<Table> = session.tables().await?.into_iter().map(of_lake).collect();
    let of_system = |name| Table { schema: SYSTEM.to_owned(), name, kind: SYSTEM_TABLE };
    tables.extend(session.system_tables().into_iter().map(of_system));
    Ok(tables)
}

/// Clients ask for tables under several names: `table`, and `BASE TABLE` as `information_schema` has it.
fn known_type(asked: &str) -> String {
    if asked.eq_ignore_ascii_case("BASE TABLE") { TABLE.to_owned() } else { asked.to_ascii_uppercase() }
}

/// The columns of [`table_types`].
pub(super) fn table_types_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("table_type", DataType::Utf8, false)]))
}

/// What a table can be.
pub(super) fn table_types(_: CommandGetTableTypes) -> Result<RecordBatch, QueryError> {
    let names = arrow::array::StringArray::from(TYPES.to_vec());
    RecordBatch::try_new(table_types_schema(), vec![Arc::new(names)]).map_err(|error| unbuilt(error.into()))
}

/// The columns of a list of primary keys.
pub(super) fn primary_keys_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
}

/// The columns of a list of foreign keys.
pub(super) fn foreign_keys_schema() -> SchemaRef {
    let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
    Arc::new(Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
}

/// A list without rows: Delta tables have no keys.
pub(super) fn none(schema: SchemaRef) -> Response<Rows> {
    answer(RecordBatch::new_empty(schema))
}

fn unbuilt(error: arrow_flight::error::FlightError) -> QueryError {
    QueryError::Failed(Message::new("the list cannot be built").why(error.to_string()))
}

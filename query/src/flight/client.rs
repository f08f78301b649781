//! The shell's end of Flight SQL: a server elsewhere that answers like a [`crate::Session`] here.
//!
//! One connection for the shell's whole life, because the server keeps settings (`SET`) by connection. Dropping a result, as Ctrl-C
//! does, resets its stream, and the server ends the query.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandGetTables, SqlInfo};
use arrow_flight::{FlightInfo, IpcMessage};
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use tonic::transport::{Channel, Endpoint};
use watershed_message::Message;

use super::limits::{CONNECT_TIMEOUT, KEEPALIVE_EVERY, RESPONSE_BYTES_MAX};
use super::metadata::SYSTEM_TABLE;
use super::status::{heard, of_status};
use crate::session::refused;
use crate::{QueryError, QueryResult};

/// A connection to a Flight SQL server. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Remote {
    client: FlightSqlServiceClient<Channel>,
    place: String,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Remote {
    /// Connects to `grpc://host:port`.
    pub async fn connect(url: &str) -> Result<Self, QueryError> {
        let address = address(url)?;
        let unusable = |why: &dyn std::fmt::Display| refused(&format!("'{url}' is not an address ({why})"), "write grpc://host:port");
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|why| unusable(&why))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_EVERY)
            .keep_alive_timeout(KEEPALIVE_EVERY)
            .tcp_nodelay(true);
        let channel = endpoint.connect().await.map_err(|why| {
            let message = innermost(&why).within(format!("cannot connect to {address}"));
            let hint = message.next.as_deref().unwrap_or("check the address, and that `watershed serve` runs there");
            refused(&message.said(), hint)
        })?;
        let inner = FlightServiceClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
        Ok(Self { client: FlightSqlServiceClient::new_from_inner(inner), place: format!("grpc://{address}") })
    }

    /// Where the server is, as a URL.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Runs one statement there. Rows come as the stream is read.
    pub async fn query(&self, text: &str) -> Result<QueryResult, QueryError> {
        let mut client = self.client.clone();
        let info = client.execute(text.to_owned(), None).await.map_err(heard)?;
        let schema = schema_of(&info)?;
        let has_rows = !schema.fields().is_empty();
        let rows = fetch(client, info).await?;
        let rows = rows.map_err(|error| DataFusionError::External(Box::new(error)));
        Ok(QueryResult { stream: Box::pin(RecordBatchStreamAdapter::new(schema, rows)), has_rows, memory: Arc::default() })
    }

    /// Every table: schema, name, and whether it is one of `system`.
    pub async fn tables(&self) -> Result<Vec<(String, String, bool)>, QueryError> {
        let listed = self.get_tables(CommandGetTables::default()).await?;
        Ok(listed.into_iter().map(|(schema, name, kind, _)| (schema, name, kind == SYSTEM_TABLE)).collect())
    }

    /// The columns of a table, named with or without its schema; `None` if there is no such table.
    pub async fn describe(&self, table: &str) -> Result<Option<SchemaRef>, QueryError> {
        let reference = TableReference::parse_str(table);
        let command = CommandGetTables {
            db_schema_filter_pattern: reference.schema().map(literal),
            table_name_filter_pattern: Some(literal(reference.table())),
            include_schema: true,
            ..CommandGetTables::default()
        };
        let mut found = self.get_tables(command).await?;
        // Without a schema, a table of `system` has to be named with it, as at home.
        found.retain(|(_, _, kind, _)| reference.schema().is_some() || kind != SYSTEM_TABLE);
        match found.len() {
            0 => Ok(None),
            1 => {
                let (.., columns) = found.remove(0);
                let columns = Schema::try_from(IpcMessage(columns.into())).map_err(|error| heard(error.into()))?;
                Ok(Some(Arc::new(columns)))
            }
            _ => {
                let names: Vec<String> = found.iter().map(|(schema, name, ..)| format!("{schema}.{name}")).collect();
                Err(refused(&format!("'{table}' could be {}", names.join(" or ")), "write the schema, too"))
            }
        }
    }

    /// Names of all functions a query can call, sorted.
    pub async fn functions(&self) -> Result<Vec<String>, QueryError> {
        let mut client = self.client.clone();
        let info = client.get_sql_info(vec![SqlInfo::SqlSystemFunctions]).await.map_err(heard)?;
        let batches: Vec<RecordBatch> = fetch(client, info).await?.try_collect().await?;
        let mut names = Vec::new();
        for batch in &batches {
            let Some(values) = batch.column(1).as_any().downcast_ref::<arrow::array::UnionArray>() else { continue };
            for row in 0..values.len() {
                let value = values.value(row);
                let Some(list) = value.as_list_opt::<i32>() else { continue };
                names.extend(list.values().as_string::<i32>().iter().flatten().map(str::to_owned));
            }
        }
        Ok(names)
    }

    /// Schema, name, type, and the encoded columns if they were asked for.
    async fn get_tables(&self, command: CommandGetTables) -> Result<Vec<(String, String, String, Vec<u8>)>, QueryError> {
        let mut client = self.client.clone();
        let info = client.get_tables(command).await.map_err(heard)?;
        let batches: Vec<RecordBatch> = fetch(client, info).await?.try_collect().await?;
        let mut tables = Vec::new();
        for batch in &batches {
            let text = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row).to_owned();
            for row in 0..batch.num_rows() {
                let columns = batch.columns().get(4).map(|columns| columns.as_binary::<i32>().value(row).to_vec());
                tables.push((text(1, row), text(2, row), text(3, row), columns.unwrap_or_default()));
            }
        }
        Ok(tables)
    }
}

fn schema_of(info: &FlightInfo) -> Result<SchemaRef, QueryError> {
    info.clone().try_decode_schema().map(Arc::new).map_err(|error| heard(error.into()))
}

/// The rows of the one endpoint that our servers give.
async fn fetch(
    mut client: FlightSqlServiceClient<Channel>,
    info: FlightInfo,
) -> Result<impl futures::Stream<Item = Result<RecordBatch, QueryError>> + Send + use<>, QueryError> {
    let [endpoint] = info.endpoint.as_slice() else {
        let count = info.endpoint.len();
        return Err(QueryError::Told(
            Message::new(format!("the server gives the result at {count} endpoints")).next("this shell reads from one"),
        ));
    };
    let Some(ticket) = endpoint.ticket.clone() else {
        return Err(QueryError::Told(Message::new("the server gives a result without a ticket to fetch it")));
    };
    let rows = client.do_get(ticket).await.map_err(heard)?;
    Ok(rows.map(|batch| batch.map_err(heard)))
}

/// `host:port` of a URL that names a server.
fn address(url: &str) -> Result<String, QueryError> {
    let rest = match url.split_once("://") {
        None => url,
        Some(("grpc" | "grpc+tcp", rest)) => rest,
        Some(("http" | "https", _)) => {
            return Err(refused(
                &format!("'{url}' is an address of HTTP, and the shell speaks Flight SQL"),
                "write grpc://host:port, with the port that `watershed serve` names for Flight SQL (8815 unless set otherwise)",
            ));
        }
        Some(("grpc+tls" | "grpcs", _)) => {
            return Err(refused(
                "this server and shell do not speak TLS yet",
                "write grpc://host:port, over an SSH tunnel if it is elsewhere",
            ));
        }
        Some((scheme, _)) => return Err(refused(&format!("'{scheme}://' is not a server of Flight SQL"), "write grpc://host:port")),
    };
    let rest = rest.trim_end_matches('/');
    match rest.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(rest.to_owned()),
        _ => Err(refused(&format!("'{url}' names no port"), "write grpc://host:port")),
    }
}

/// A pattern that matches this text alone.
fn literal(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

fn innermost(error: &dyn std::error::Error) -> Message {
    if let Some(status) = std::error::Error::source(error).and_then(|source| source.downcast_ref::<tonic::Status>()) {
        return of_status(status).message();
    }
    error.source().map_or_else(|| error.to_string().into(), innermost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for url in ["grpc://127.0.0.1:8815", "grpc+tcp://127.0.0.1:8815/", "127.0.0.1:8815"] {
            assert_eq!(address(url).unwrap(), "127.0.0.1:8815");
        }
        for (url, word) in [
            ("grpc+tls://h:1", "TLS"),
            ("http://127.0.0.1:8321/", "an address of HTTP"),
            ("postgres://h:1", "postgres"),
            ("grpc://h", "port"),
            ("", "port"),
        ] {
            assert!(address(url).unwrap_err().to_string().contains(word), "{url}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named() {
        let error = Remote::connect("grpc://127.0.0.1:1").await.unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:1") && error.contains("watershed serve"), "{error}");
    }

    #[test]
    fn patterns_match_names_alone() {
        assert_eq!(literal("city_demand$late"), "city\\_demand$late");
    }
}

//! Statements: text to a ticket, a ticket to rows.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::TicketStatementQuery;
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use futures::{StreamExt, TryStreamExt};
use tonic::{Response, Status};
use watershed_dialect::one_statement;
use watershed_message::Message;

use super::queries::{Queries, QueryId};
use super::status::told;
use super::{Service, edge, wire};
use crate::counters::Counted;
use crate::session::{Ready, refuse_parameters};
use crate::{QueryError, Session};

/// What DoGet answers.
pub(super) type Rows = <Service as FlightService>::DoGetStream;

/// Plans a statement against the newest versions.
pub(super) async fn plan(session: &Session, text: &str) -> Result<LogicalPlan, QueryError> {
    let plan = session.plan(&one_statement(text)?).await?;
    refuse_parameters(&plan)?;
    Ok(plan)
}

/// Promises the result of what is ready to run.
pub(super) fn promise(
    queries: &Queries,
    ready: Ready,
    mut counted: Counted,
    descriptor: FlightDescriptor,
) -> Result<FlightInfo, QueryError> {
    let schema = if ready.has_rows() { edge::schema(&ready.schema()) } else { Arc::new(Schema::empty()) };
    counted.takes(ready.memory());
    let id = queries.add(ready, Arc::clone(&schema), counted);
    let ticket = wire::packed(&TicketStatementQuery { statement_handle: id.as_bytes().to_vec().into() });
    info(&schema, ticket, descriptor)
}

/// A result at one endpoint, which is this server.
pub(super) fn info(schema: &Schema, ticket: impl Into<Vec<u8>>, descriptor: FlightDescriptor) -> Result<FlightInfo, QueryError> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket.into()));
    let info = FlightInfo::new().with_endpoint(endpoint).with_descriptor(descriptor);
    info.try_with_schema(schema)
        .map_err(|error| QueryError::Failed(Message::new("the schema of the result cannot be sent").why(error.to_string())))
}

/// Runs a promised query.
pub(super) fn fetch(queries: &Arc<Queries>, id: QueryId) -> Result<Response<Rows>, QueryError> {
    let (planned, mut running) = queries.take(id)?;
    let schema = Arc::clone(&planned.schema);
    let result = planned.ready.start(|rows| edge::batches(rows, planned.schema));
    running.counted.end_if_failed(&result);
    let result = result?;
    Ok(Response::new(encoded(running.until_cancelled(result.stream), schema)))
}

/// Rows as messages. They are computed as the client takes them; dropping the answer ends the query.
fn encoded(rows: SendableRecordBatchStream, schema: SchemaRef) -> Rows {
    let rows = rows.map_err(|error| FlightError::from(told(QueryError::from(error))));
    // The batches have their size already, and the encoder would measure parts of a batch by the whole.
    let messages = FlightDataEncoderBuilder::new().with_schema(schema).with_max_flight_data_size(usize::MAX).build(rows);
    messages.map_err(Status::from).boxed()
}

/// The query that a ticket's handle names.
pub(super) fn id_of(handle: &[u8]) -> Result<QueryId, QueryError> {
    QueryId::from_slice(handle).map_err(|_| QueryError::Refused {
        what: "this ticket is not one of this server's".to_owned(),
        hint: "fetch the ticket that GetFlightInfo gave, unchanged".to_owned(),
    })
}

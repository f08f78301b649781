//! Flight's calls as they arrive. All go to [`Service`] but one: arrow-flight has no way to answer `GetSchema`, which clients use to learn
//! the columns of a query without running it. What arrow-flight offers in the name of every server and this one has not is not offered, and
//! refused with the reason.

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{CommandPreparedStatementQuery, CommandStatementQuery, ProstMessageExt};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, PollInfo, SchemaResult, Ticket,
};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use tonic::{Code, Request, Status, Streaming};
use watershed_message::Message;

use super::prepared::{describe, handle_of};
use super::status::{said, told};
use super::wire::{field, unpacked};
use super::{Answer, Service, ipc};
use crate::session::refused;

/// Actions that arrow-flight lists and this server has not.
const ABSENT: [&str; 5] = ["CreatePreparedSubstraitPlan", "BeginTransaction", "EndTransaction", "BeginSavepoint", "EndSavepoint"];

/// What arrow-flight says where a server has no function for a call.
const NO_FUNCTION: &str = " has no default implementation";

/// What it says, in parts, of a message that it cannot decode.
const UNREAD: [&str; 4] = ["DecodeError", "failed to decode Protobuf", "Unable to unpack", "The defined request is invalid"];

/// The words of this server for both.
fn explained(status: Status) -> Status {
    if UNREAD.iter().any(|part| status.message().contains(part)) {
        let message = Message::new("the request was not read: it is none of Flight SQL, or damaged");
        return said(
            Code::InvalidArgument,
            &message.next("send what a Flight SQL driver sends; a ticket is the one GetFlightInfo gave, unchanged"),
        );
    }
    let Some(call) = status.message().strip_suffix(NO_FUNCTION) else { return status };
    let (what, hint) = match call {
        _ if call.contains("ingest") => {
            ("bulk ingestion is not offered: tables are written by their pipelines only", "write the rows to the pipeline's topic")
        }
        _ if call.contains("substrait") => ("Substrait plans are not read", "send SQL"),
        _ if call.contains("transaction") || call.contains("savepoint") => {
            ("there are no transactions", "switch autocommit on: each statement reads one version of every table it names")
        }
        _ => ("this call is not offered", "GetSqlInfo and ListActions say what is"),
    };
    told(refused(what, hint))
}

/// The service with `GetSchema`.
pub(super) struct Front(pub(super) Service);

#[async_trait]
impl FlightService for Front {
    type HandshakeStream = <Service as FlightService>::HandshakeStream;
    type ListFlightsStream = <Service as FlightService>::ListFlightsStream;
    type DoGetStream = <Service as FlightService>::DoGetStream;
    type DoPutStream = <Service as FlightService>::DoPutStream;
    type DoExchangeStream = <Service as FlightService>::DoExchangeStream;
    type DoActionStream = <Service as FlightService>::DoActionStream;
    type ListActionsStream = <Service as FlightService>::ListActionsStream;

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        let (address, message) = unpacked(&request.get_ref().cmd)
            .ok_or_else(|| told(refused("this is not a command of Flight SQL", "send one of its commands")))?;
        let handle_or_text = field(message, 1).unwrap_or_default();
        let (session, text) = if address == CommandStatementQuery::type_url() {
            (self.0.session(&request), String::from_utf8_lossy(handle_or_text).into_owned())
        } else if address == CommandPreparedStatementQuery::type_url() {
            handle_of(handle_or_text).and_then(|handle| self.0.prepared.text(handle)).map_err(told)?
        } else {
            let info = self.0.get_flight_info(request).await?.into_inner();
            return Ok(tonic::Response::new(SchemaResult { schema: info.schema }));
        };
        let (columns, _) = describe(&session, &text).await.map_err(told)?;
        Ok(tonic::Response::new(SchemaResult { schema: ipc(&columns).map_err(told)?.0 }))
    }

    async fn handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        self.0.handshake(request).await
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        self.0.list_flights(request).await.map_err(explained)
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        self.0.get_flight_info(request).await.map_err(explained)
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<PollInfo> {
        self.0.poll_flight_info(request).await.map_err(explained)
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        self.0.do_get(request).await.map_err(explained)
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        self.0.do_put(request).await.map_err(explained)
    }

    async fn do_exchange(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        self.0.do_exchange(request).await.map_err(explained)
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        self.0.do_action(request).await.map_err(explained)
    }

    async fn list_actions(&self, request: Request<Empty>) -> Result<tonic::Response<Self::ListActionsStream>, Status> {
        let all: Vec<ActionType> = self.0.list_actions(request).await?.into_inner().try_collect().await?;
        let offered: Vec<_> = all.into_iter().filter(|action| !ABSENT.contains(&action.r#type.as_str())).map(Ok).collect();
        Ok(tonic::Response::new(stream::iter(offered).boxed()))
    }
}

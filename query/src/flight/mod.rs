//! Flight SQL: the protocol that ADBC and JDBC drivers, Grafana, Superset and our own shell speak, over [`Session`]s.
//!
//! ```text
//!  connection.rs ─► front.rs ─┬─ statement.rs, prepared.rs ─► Session::plan ─► queries.rs ─► edge.rs ─► rows
//!  (its session)              ├─ metadata.rs, info.rs           (versions pinned, once a ticket is out)
//!                             └─ cancel.rs
//! ```
//!
//! A query is planned when its ticket is handed out, reads the table versions of that moment, and runs once, while its rows are fetched:
//! a slow client slows the query, one that goes away ends it. Everything that clients can pile up has a bound (`limits.rs`).
//! The way back, from our shell to a server, is `client.rs`.

mod cancel;
mod client;
mod connection;
mod edge;
mod front;
mod incoming;
mod info;
mod limits;
mod literal;
mod metadata;
mod prepared;
mod queries;
mod statement;
mod status;
mod wire;

use std::future::ready;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::metadata::{SqlInfoData, XdbcTypeInfoData};
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys,
    CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementQuery, CommandStatementUpdate,
    DoPutPreparedStatementResult, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, ActionType, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse, IpcMessage, SchemaAsIpc, Ticket,
};
use async_trait::async_trait;
use datafusion::logical_expr::LogicalPlan;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;
use watershed_message::Message;

pub use client::Remote;

use crate::counters::{Asked, Counted, FLIGHT, Who};
use crate::session::refused;
use crate::{QueryError, ServerCounters, Session};
use connection::Client;
use limits::{KEEPALIVE_EVERY, REQUEST_BYTES_MAX, STOP_TIMEOUT, SWEEP_EVERY};
use prepared::Prepared;
use queries::Queries;
use statement::{Rows, info};
use status::{told, told_of_preparing};

/// A running server. Dropping it leaves it running until the runtime ends; [`FlightServer::stop`] ends it.
pub struct FlightServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    counters: Arc<ServerCounters>,
}

impl FlightServer {
    /// Serves what `session` can read on `address`; port 0 takes a free one.
    pub async fn start(session: Session, address: SocketAddr) -> Result<Self, QueryError> {
        let listener = crate::listen::listen(address).await?;
        let address =
            listener.local_addr().map_err(|why| QueryError::Setup(format!("cannot tell the address of a server: {why}").into()))?;
        let service = Service::new(session)?;
        let (queries, prepared) = (Arc::clone(&service.queries), Arc::clone(&service.prepared));
        let counters = Arc::clone(&service.counters);
        let (stop, stopped) = watch::channel(false);
        let stop_asked = |mut stopped: watch::Receiver<bool>| async move {
            // A sender that is gone can no longer ask.
            if stopped.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let mut builder = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
            .http2_keepalive_timeout(Some(KEEPALIVE_EVERY));
        let service = FlightServiceServer::new(front::Front(service)).max_decoding_message_size(REQUEST_BYTES_MAX);
        let service = InterceptedService::new(service, connection::let_through);
        let accepted = connection::accepted(listener, Arc::clone(&counters));
        let serving = builder.add_service(service).serve_with_incoming_shutdown(accepted, stop_asked(stopped.clone()));
        let task = tokio::spawn(async move {
            let sweeping = async {
                let mut tick = tokio::time::interval(SWEEP_EVERY);
                loop {
                    tick.tick().await;
                    queries.sweep();
                    prepared.sweep();
                }
            };
            let out_of_time = async {
                stop_asked(stopped).await;
                tokio::time::sleep(STOP_TIMEOUT).await;
            };
            tokio::select! {
                result = serving => if let Err(why) = result {
                    tracing::error!("the Flight SQL server ended: {why}");
                },
                () = sweeping => {}
                () = out_of_time => {}
            }
        });
        Ok(Self { address, stop, task, counters })
    }

    /// What it counts of its clients.
    pub fn counters(&self) -> &Arc<ServerCounters> {
        &self.counters
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts nothing more, gives running queries a moment to end, then ends them.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        // A task that panicked has ended, too.
        let _ = self.task.await;
    }
}

/// What requests share.
struct Service {
    base: Session,
    queries: Arc<Queries>,
    prepared: Arc<Prepared>,
    info: SqlInfoData,
    types: XdbcTypeInfoData,
    counters: Arc<ServerCounters>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    fn new(base: Session) -> Result<Self, QueryError> {
        let (info, types) = (info::sql_info(&base)?, info::types()?);
        let queries = Arc::new(Queries::within(base.memory_pool().as_ref()));
        Ok(Self { queries, prepared: Arc::default(), info, types, counters: Arc::default(), base })
    }

    /// The session of the connection that a request came over.
    fn session<T>(&self, request: &Request<T>) -> Session {
        request.extensions().get::<Client>().map_or_else(|| self.base.for_client(), |client| client.session(&self.base))
    }

    /// A statement that a request is about.
    fn asked<T>(&self, request: &Request<T>, text: &str) -> Asked {
        let peer = request.extensions().get::<Client>().map(Client::peer);
        let agent = request.metadata().get("user-agent").and_then(|value| value.to_str().ok());
        Asked::new(Who::new(FLIGHT, peer, agent), text)
    }

    /// Promises the result of a plan: the table versions in it are those that will be read.
    async fn promise(
        &self,
        session: &Session,
        plan: Result<LogicalPlan, QueryError>,
        mut counted: Counted,
        descriptor: FlightDescriptor,
    ) -> Answer<FlightInfo> {
        let ready = match plan {
            Ok(plan) => session.ready(plan).await,
            Err(error) => Err(error),
        };
        counted.end_if_failed(&ready);
        ready.and_then(|ready| statement::promise(&self.queries, ready, counted, descriptor)).map(Response::new).map_err(told)
    }

    /// Does what has an effect and no rows (`SET`); tells why all else is refused.
    async fn update(&self, session: &Session, plan: LogicalPlan) -> Result<i64, QueryError> {
        if !matches!(plan, LogicalPlan::Statement(_)) {
            return Err(refused("this statement has a result and changes nothing", "execute it as a query"));
        }
        session.ready(plan).await?;
        Ok(0)
    }
}

/// A promise whose ticket is the command itself: what it asks for is looked up when it is fetched.
fn by_command(schema: &Schema, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
    let descriptor = request.into_inner();
    info(schema, descriptor.cmd.clone(), descriptor).map(Response::new).map_err(told)
}

fn ipc(schema: &Schema) -> Result<IpcMessage, QueryError> {
    let options = IpcWriteOptions::default();
    let message: Result<IpcMessage, _> = SchemaAsIpc::new(schema, &options).try_into();
    message.map_err(|error| QueryError::Failed(Message::new("the schema cannot be sent").why(error.to_string())))
}

#[async_trait]
impl FlightSqlService for Service {
    type FlightService = Self;

    /// Anyone may come in: only this machine reaches the port. Drivers want a token all the same.
    async fn do_handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Answer<Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>> {
        let token = Uuid::new_v4().to_string();
        let answer = HandshakeResponse { protocol_version: 0, payload: token.clone().into() };
        let mut response = Response::new(stream::iter([Ok(answer)]).boxed());
        if let Ok(bearer) = MetadataValue::try_from(format!("Bearer {token}")) {
            response.metadata_mut().insert("authorization", bearer);
        }
        Ok(response)
    }

    async fn get_flight_info_statement(&self, query: CommandStatementQuery, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        let session = self.session(&request);
        let counted = self.counters.begin(self.asked(&request, &query.query));
        let plan = statement::plan(&session, &query.query).await;
        self.promise(&session, plan, counted, request.into_inner()).await
    }

    async fn do_get_statement(&self, ticket: TicketStatementQuery, _: Request<Ticket>) -> Answer<Rows> {
        statement::id_of(&ticket.statement_handle).and_then(|id| statement::fetch(&self.queries, id)).map_err(told)
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let described = self.prepared.prepare(self.session(&request), query.query).await.map_err(told_of_preparing)?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: described.handle.as_bytes().to_vec().into(),
            dataset_schema: ipc(&described.columns).map_err(told)?.0,
            parameter_schema: ipc(&described.parameters).map_err(told)?.0,
        })
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let handle = prepared::handle_of(&query.prepared_statement_handle).map_err(told)?;
        let batches = incoming::batches(request.into_inner()).await?;
        self.prepared.bind(handle, batches).map_err(told)?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(query.prepared_statement_handle) })
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let handle = prepared::handle_of(&query.prepared_statement_handle).map_err(told)?;
        let (session, text) = self.prepared.text(handle).map_err(told)?;
        let mut counted = self.counters.begin(self.asked(&request, &text));
        counted.holds(self.prepared.bytes(handle).map_err(told)?);
        let plan = self.prepared.plan(handle).await.map(|(_, plan)| plan);
        self.promise(&session, plan, counted, request.into_inner()).await
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<(), Status> {
        // Closing what has expired is no error.
        let _ = self.prepared.close(prepared::handle_of(&query.prepared_statement_handle).map_err(told)?);
        Ok(())
    }

    async fn do_put_statement_update(
        &self,
        command: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let session = self.session(&request);
        let counted = self.counters.begin(self.asked(&request, &command.query));
        let work = async { self.update(&session, statement::plan(&session, &command.query).await?).await };
        counted.of(work.await).map_err(told)
    }

    async fn do_put_prepared_statement_update(
        &self,
        command: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let handle = prepared::handle_of(&command.prepared_statement_handle).map_err(told)?;
        let (session, text) = self.prepared.text(handle).map_err(told)?;
        let counted = self.counters.begin(self.asked(&request, &text));
        // Rows of values come with what is to be run once for each.
        let with_content = request.into_inner().try_filter(|message| ready(!message.data_header.is_empty()));
        let rows = incoming::batches(with_content).await;
        let work = async {
            if rows.is_err() || rows.is_ok_and(|rows| rows.iter().any(|batch| batch.num_rows() > 0)) {
                return Err(refused("a query session only reads, and takes no rows", "execute the query once for each row of values"));
            }
            self.update(&session, self.prepared.plan(handle).await?.1).await
        };
        counted.of(work.await).map_err(told)
    }

    async fn get_flight_info_catalogs(&self, command: CommandGetCatalogs, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        by_command(&metadata::catalogs_schema(command), request)
    }

    async fn do_get_catalogs(&self, command: CommandGetCatalogs, _: Request<Ticket>) -> Answer<Rows> {
        metadata::catalogs(command).map(metadata::answer).map_err(told)
    }

    async fn get_flight_info_schemas(&self, command: CommandGetDbSchemas, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        by_command(&metadata::schemas_schema(command), request)
    }

    async fn do_get_schemas(&self, command: CommandGetDbSchemas, request: Request<Ticket>) -> Answer<Rows> {
        metadata::schemas(&self.session(&request), command).await.map(metadata::answer).map_err(told)
    }

    async fn get_flight_info_tables(&self, command: CommandGetTables, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        by_command(&metadata::tables_schema(command), request)
    }

    async fn do_get_tables(&self, command: CommandGetTables, request: Request<Ticket>) -> Answer<Rows> {
        metadata::tables(&self.session(&request), command).await.map(metadata::answer).map_err(told)
    }

    async fn get_flight_info_table_types(&self, _: CommandGetTableTypes, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        by_command(&metadata::table_types_schema(), request)
    }

    async fn do_get_table_types(&self, command: CommandGetTableTypes, _: Request<Ticket>) -> Answer<Rows> {
        metadata::table_types(command).map(metadata::answer).map_err(told)
    }

    async fn get_flight_info_primary_keys(&self, _: CommandGetPrimaryKeys, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        by_command(&metadata::primary_keys_schema(), request)
    }

    async fn do_get_primary_keys(&self, _: CommandGetPrimaryKeys, _: Request<Ticket>) -> Answer<Rows> {
        Ok(metadata::none(metadata::primary_keys_schema()))
    }

    async fn get_flight_info_exported_keys(&self, _: CommandGetExportedKeys, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        by_command(&metadata::foreign_keys_schema(), request)
    }

    async fn do_get_exported_keys(&self, _: CommandGetExportedKeys, _: Request<Ticket>) -> Answer<Rows> {
        Ok(metadata::none(metadata::foreign_keys_schema()))
    }

    async fn get_flight_info_imported_keys(&self, _: CommandGetImportedKeys, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        by_command(&metadata::foreign_keys_schema(), request)
    }

    async fn do_get_imported_keys(&self, _: CommandGetImportedKeys, _: Request<Ticket>) -> Answer<Rows> {
        Ok(metadata::none(metadata::foreign_keys_schema()))
    }

    async fn get_flight_info_cross_reference(&self, _: CommandGetCrossReference, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        by_command(&metadata::foreign_keys_schema(), request)
    }

    async fn do_get_cross_reference(&self, _: CommandGetCrossReference, _: Request<Ticket>) -> Answer<Rows> {
        Ok(metadata::none(metadata::foreign_keys_schema()))
    }

    async fn get_flight_info_sql_info(&self, _: CommandGetSqlInfo, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        by_command(&self.info.schema(), request)
    }

    async fn do_get_sql_info(&self, command: CommandGetSqlInfo, _: Request<Ticket>) -> Answer<Rows> {
        command.into_builder(&self.info).build().map(metadata::answer).map_err(Status::from)
    }

    async fn get_flight_info_xdbc_type_info(&self, _: CommandGetXdbcTypeInfo, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        by_command(&self.types.schema(), request)
    }

    async fn do_get_xdbc_type_info(&self, command: CommandGetXdbcTypeInfo, _: Request<Ticket>) -> Answer<Rows> {
        command.into_builder(&self.types).build().map(metadata::answer).map_err(Status::from)
    }

    async fn do_action_cancel_query(&self, query: ActionCancelQueryRequest, _: Request<Action>) -> Result<ActionCancelQueryResult, Status> {
        cancel::cancel(&self.queries, &query.info).map(|result| ActionCancelQueryResult { result }).map_err(told)
    }

    async fn do_action_fallback(&self, request: Request<Action>) -> Answer<<Self as FlightService>::DoActionStream> {
        let body = cancel::act(&self.queries, request.get_ref()).map_err(told)?;
        Ok(Response::new(stream::iter([Ok(arrow_flight::Result::new(body))]).boxed()))
    }

    async fn list_custom_actions(&self) -> Option<Vec<Result<ActionType, Status>>> {
        Some(cancel::actions().into_iter().map(Ok).collect())
    }

    /// What the server says of itself is said at its start.
    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}

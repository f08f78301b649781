//! Requests that no client sends: real ones with bytes changed, cut and repeated. None panics, none ends the server.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, Int64Array, ListArray, NullArray, RecordBatch, StringArray, StringViewArray,
};
use arrow::datatypes::{Int32Type, Schema};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, Any, CommandGetTables, CommandPreparedStatementQuery, CommandStatementQuery, ProstMessageExt,
    TicketStatementQuery,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, Ticket};
use futures::{TryStreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use watershed_lake::Warehouse;
use watershed_query::Session;
use watershed_query::flight::FlightServer;
use watershed_query::http::{HttpLimits, HttpParts, HttpServer, Lake};
use watershed_query::listen::listen;

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Counts the panics of the process from now on, but for those of Arrow's reader of parameters, which are caught and answered.
fn count_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let in_arrow = panic.location().is_some_and(|place| place.file().contains("/arrow-"));
        PANICS.fetch_add(usize::from(!in_arrow), Ordering::Relaxed);
        before(panic);
    }));
}

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    /// Bytes with a few things wrong.
    fn spoil(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut spoilt = bytes.to_vec();
        for _ in 0..1 + self.below(3) {
            if spoilt.is_empty() {
                return spoilt;
            }
            let at = self.below(spoilt.len());
            match self.below(6) {
                0 => spoilt[at] ^= 1 << self.below(8),
                1 => spoilt[at] = [0, 0xff, 0x7f, 0x80][self.below(4)],
                2 => spoilt.truncate(at),
                3 => {
                    let until = (at + 1 + self.below(16)).min(spoilt.len());
                    spoilt.extend_from_within(at..until);
                }
                4 => drop(spoilt.remove(at)),
                _ => {
                    // A number that is far too large.
                    let until = (at + 8).min(spoilt.len());
                    spoilt[at..until].fill(if self.below(2) == 0 { 0x7f } else { 0xff });
                }
            }
        }
        spoilt
    }
}

async fn session() -> (Warehouse, Session) {
    let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
    (warehouse.clone(), Session::new(warehouse).unwrap())
}

async fn channel(server: &FlightServer) -> Channel {
    Endpoint::from_shared(format!("http://{}", server.address())).unwrap().connect().await.unwrap()
}

fn packed(message: &impl ProstMessageExt) -> Vec<u8> {
    let Any { type_url, value } = message.as_any();
    let mut bytes = vec![0x0a, type_url.len() as u8];
    bytes.extend_from_slice(type_url.as_bytes());
    bytes.extend_from_slice(&[0x12, value.len() as u8]);
    bytes.extend_from_slice(&value);
    bytes
}

/// Prepares a statement; gives the command that runs it.
async fn prepared(raw: &mut FlightServiceClient<Channel>, text: &str) -> Vec<u8> {
    let request = ActionCreatePreparedStatementRequest { query: text.to_owned(), transaction_id: None };
    let results = raw.do_action(Action::new("CreatePreparedStatement", packed(&request))).await.unwrap();
    let results: Vec<_> = results.into_inner().try_collect().await.unwrap();
    let body = &results[0].body;
    // A field of sixteen bytes: the handle.
    let at = body.windows(2).position(|two| two == [0x0a, 16]).expect("a handle") + 2;
    packed(&CommandPreparedStatementQuery { prepared_statement_handle: body.slice(at..at + 16) })
}

/// One row of many types, as messages.
async fn parameters() -> Vec<FlightData> {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None])]);
    let word: DictionaryArray<Int32Type> = vec!["word"].into_iter().collect();
    let batch = RecordBatch::try_from_iter([
        ("a", Arc::new(Int64Array::from(vec![7])) as ArrayRef),
        ("b", Arc::new(StringArray::from(vec!["a text of some length"])) as _),
        ("c", Arc::new(StringViewArray::from(vec!["a view of more than twelve bytes"])) as _),
        ("d", Arc::new(Decimal128Array::from(vec![1])) as _),
        ("e", Arc::new(BooleanArray::from(vec![None])) as _),
        ("f", Arc::new(list) as _),
        ("g", Arc::new(word) as _),
        ("h", Arc::new(NullArray::new(1)) as _),
    ])
    .unwrap();
    let schema: Arc<Schema> = batch.schema();
    let encoder = FlightDataEncoderBuilder::new().with_schema(schema).build(stream::iter([Ok(batch)]));
    encoder.try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_over_flight_panics() {
    count_panics();
    let (_, session) = session().await;
    let server = FlightServer::start(session, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let channel = channel(&server).await;
    let mut sql = FlightSqlServiceClient::new(channel.clone());
    let mut raw = FlightServiceClient::new(channel);
    let handle = prepared(&mut raw, "SELECT $1, $2, $3, $4, $5, $6, $7, $8").await;
    let mut dice = Dice(0x5eed_2026);
    let messages = parameters().await;
    for round in 0..1_500 {
        let mut sent = messages.clone();
        sent[0].flight_descriptor = Some(FlightDescriptor::new_cmd(handle.clone()));
        let at = dice.below(sent.len());
        if dice.below(4) == 0 {
            sent[at].data_body = dice.spoil(&sent[at].data_body).into();
        } else {
            sent[at].data_header = dice.spoil(&sent[at].data_header).into();
        }
        if let Ok(answer) = raw.do_put(stream::iter(sent)).await {
            // Whatever the answer is, it comes.
            let _ = answer.into_inner().try_collect::<Vec<_>>().await;
        }
        // What could be bound is used, too.
        if round % 10 == 0 {
            let _ = raw.get_flight_info(FlightDescriptor::new_cmd(handle.clone())).await;
        }
    }
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "parameters");
    let commands = [
        packed(&CommandStatementQuery { query: "SELECT 1".to_owned(), transaction_id: None }),
        packed(&CommandGetTables { catalog: Some("watershed".to_owned()), include_schema: true, ..CommandGetTables::default() }),
        packed(&TicketStatementQuery { statement_handle: vec![7; 16].into() }),
        handle,
    ];
    let actions = ["CancelFlightInfo", "CancelQuery", "SetSessionOptions", "CreatePreparedStatement", "ClosePreparedStatement", "Dance"];
    for _ in 0..500 {
        let which = dice.below(commands.len());
        let command = dice.spoil(&commands[which]);
        let _ = raw.get_flight_info(FlightDescriptor::new_cmd(command.clone())).await;
        let _ = raw.get_schema(FlightDescriptor::new_cmd(command.clone())).await;
        if let Ok(rows) = raw.do_get(Ticket::new(command.clone())).await {
            let _ = rows.into_inner().try_collect::<Vec<_>>().await;
        }
        let action = actions[dice.below(actions.len())];
        if let Ok(results) = raw.do_action(Action::new(action, command)).await {
            let _ = results.into_inner().try_collect::<Vec<_>>().await;
        }
    }
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "commands");
    assert!(sql.execute("SELECT 1".to_owned(), None).await.is_ok(), "it answers as before");
}

#[tokio::test]
async fn what_is_compressed_or_announces_too_much_is_not_decoded() {
    let (_, session) = session().await;
    let server = FlightServer::start(session, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let channel = channel(&server).await;
    let mut raw = FlightServiceClient::new(channel);
    let handle = prepared(&mut raw, "SELECT $1").await;
    let batch = RecordBatch::try_from_iter([("a", Arc::new(StringArray::from(vec!["x".repeat(10_000)])) as ArrayRef)]).unwrap();
    let options =
        arrow::ipc::writer::IpcWriteOptions::default().try_with_compression(Some(arrow::ipc::CompressionType::LZ4_FRAME)).unwrap();
    let encoder = FlightDataEncoderBuilder::new().with_options(options).with_schema(batch.schema()).build(stream::iter([Ok(batch)]));
    let mut messages: Vec<FlightData> = encoder.try_collect().await.unwrap();
    messages[0].flight_descriptor = Some(FlightDescriptor::new_cmd(handle.clone()));
    let answer = raw.do_put(stream::iter(messages)).await;
    let error = match answer {
        Err(error) => error,
        Ok(answer) => answer.into_inner().try_collect::<Vec<_>>().await.unwrap_err(),
    };
    assert!(error.message().contains("compressed parameters are not read; switch compression off"), "{error}");
}

#[tokio::test]
async fn no_request_over_http_panics() {
    count_panics();
    let (warehouse, session) = session().await;
    let parts = HttpParts {
        lake: Some(Lake { warehouse, session }),
        metrics: Arc::new(String::new),
        not_ready: Arc::new(Vec::new),
        counters: Arc::default(),
        limits: HttpLimits::default(),
    };
    let server = HttpServer::start(listen("127.0.0.1:0".parse().unwrap()).await.unwrap(), parts).unwrap();
    let requests: [&[u8]; 5] = [
        b"GET /sql?q=SELECT+1&format=csv&limit=3&numbers=exact HTTP/1.1\r\nHost: localhost\r\nAccept: text/csv;q=0.5\r\nConnection: close\r\n\r\n",
        b"POST /sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sql\r\nContent-Length: 8\r\nConnection: close\r\n\r\nSELECT 1",
        b"POST /sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sql\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nSELECT 1\r\n0\r\n\r\n",
        b"GET /panels/%F0%9F%9A%95 HTTP/1.1\r\nHost: [::1]:80\r\nOrigin: null\r\nAccept-Encoding: gzip;q=1\r\nConnection: close\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64",
    ];
    let mut dice = Dice(0x0dd_ba11);
    for _ in 0..1_500 {
        let which = dice.below(requests.len());
        let bytes = dice.spoil(requests[which]);
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        // It may be closed while we write.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "no end of {:?}", String::from_utf8_lossy(&bytes));
    }
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

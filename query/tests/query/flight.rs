//! A Flight SQL server over a warehouse in memory, and arrow-flight's own client: versions, tickets, schemas, cancelling, connections.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, Schema};
use arrow_flight::error::FlightError;
use arrow_flight::sql::CommandStatementIngest;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{CancelFlightInfoRequest, CancelStatus, FlightClient, FlightInfo, Ticket};
use futures::{TryStreamExt, stream};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use watershed_lake::{Commit, TableName, Warehouse};
use watershed_query::Session;
use watershed_query::flight::FlightServer;

type Client = FlightSqlServiceClient<Channel>;

struct Served {
    warehouse: Warehouse,
    server: FlightServer,
    epoch: i64,
}

impl Served {
    async fn new() -> Self {
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        let session = Session::new(warehouse.clone()).unwrap();
        let server = FlightServer::start(session, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let mut served = Self { warehouse, server, epoch: 0 };
        served.append(3).await;
        served
    }

    async fn append(&mut self, count: i64) {
        let name: TableName = "silver.rides".parse().unwrap();
        let numbers: Vec<i64> = (0..count).collect();
        let texts: Vec<String> = numbers.iter().map(|n| format!("ride {n}")).collect();
        let batch = RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from(numbers)) as _),
            ("name", Arc::new(StringArray::from(texts)) as _),
        ])
        .unwrap();
        let table = self.warehouse.create_table(&name, batch.schema(), &[]).await.unwrap();
        let mut writer = table.writer("test");
        writer.write(batch).await.unwrap();
        let files = writer.finish().await.unwrap();
        self.epoch += 1;
        let previous_app_version = (self.epoch > 1).then_some(self.epoch - 1);
        let operation = "WRITE".to_owned();
        table
            .commit(Commit { app_id: "test/0".to_owned(), app_version: self.epoch, previous_app_version, files, operation })
            .await
            .unwrap();
    }

    async fn client(&self) -> Client {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.server.address())).unwrap();
        FlightSqlServiceClient::new(endpoint.connect().await.unwrap())
    }
}

async fn fetch(client: &mut Client, info: FlightInfo) -> Result<Vec<RecordBatch>, FlightError> {
    assert_eq!(info.endpoint.len(), 1, "Grafana reads from one endpoint only");
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    client.do_get(ticket).await?.try_collect().await
}

async fn number(client: &mut Client, sql: &str) -> i64 {
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    let batches = fetch(client, info).await.unwrap();
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

#[tokio::test]
async fn a_result_is_of_the_versions_of_its_ticket_however_late_it_is_fetched() {
    let mut served = Served::new().await;
    let mut client = served.client().await;
    let promised = client.execute("SELECT count(*) FROM rides".to_owned(), None).await.unwrap();
    served.append(2).await;
    let late = fetch(&mut client, promised).await.unwrap();
    assert_eq!(late[0].column(0).as_primitive::<Int64Type>().value(0), 3);
    assert_eq!(number(&mut client, "SELECT count(*) FROM rides").await, 5);
}

#[tokio::test]
async fn a_prepared_statement_sees_the_newest_rows_each_time() {
    let mut served = Served::new().await;
    let mut client = served.client().await;
    let mut prepared = client.prepare("SELECT count(*) FROM rides WHERE n >= ?".to_owned(), None).await.unwrap();
    assert_eq!(prepared.dataset_schema().unwrap().field(0).data_type(), &arrow::datatypes::DataType::Int64);
    assert_eq!(prepared.parameter_schema().unwrap().field(0).data_type(), &arrow::datatypes::DataType::Int64);
    for expected in [2, 3] {
        prepared.set_parameters(RecordBatch::try_from_iter([("p", Arc::new(Int64Array::from(vec![1])) as _)]).unwrap()).unwrap();
        let info = prepared.execute().await.unwrap();
        let batches = fetch(&mut client, info).await.unwrap();
        assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), expected);
        served.append(2).await;
    }
    prepared.close().await.unwrap();
}

#[tokio::test]
async fn a_ticket_is_good_once() {
    let served = Served::new().await;
    let mut client = served.client().await;
    let info = client.execute("SELECT 1".to_owned(), None).await.unwrap();
    fetch(&mut client, info.clone()).await.unwrap();
    let again = fetch(&mut client, info).await.unwrap_err().to_string();
    assert!(again.contains("run the query again"), "{again}");
    for damaged in [&b"not one"[..], b"\x0a\x03abc", b""] {
        let error = client.do_get(Ticket::new(damaged.to_vec())).await.expect_err("no ticket").to_string();
        assert!(error.contains("the request was not read") && error.contains("GetFlightInfo"), "{damaged:?}: {error}");
    }
}

#[tokio::test]
async fn what_is_promised_is_what_comes() {
    let served = Served::new().await;
    let mut client = served.client().await;
    for sql in [
        "SELECT * FROM rides",
        "SELECT n, arrow_cast(name, 'Utf8View') AS v, arrow_cast(name, 'Dictionary(Int32, Utf8)') AS d FROM rides",
        "SELECT make_array(arrow_cast(name, 'Utf8View')) AS l, named_struct('b', arrow_cast(name, 'BinaryView')) AS s FROM rides",
        "SELECT arrow_cast(make_array(n), 'LargeList(Int64)') AS l, CAST(n AS DECIMAL(12, 2)) AS d FROM rides",
        "SELECT 1 AS a UNION ALL SELECT 2.5",
        "SELECT a.n, b.name FROM rides a LEFT JOIN rides b ON a.n = b.n + 1",
        "SELECT count(*), max(name), sum(n) FROM rides WHERE false",
        "SELECT * FROM rides WHERE false",
        "EXPLAIN SELECT * FROM rides",
        "SHOW TABLES",
    ] {
        let info = client.execute(sql.to_owned(), None).await.unwrap();
        let promised: Schema = info.clone().try_decode_schema().unwrap();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let mut rows = client.do_get(ticket).await.unwrap();
        while let Some(batch) = rows.try_next().await.unwrap() {
            assert_eq!(batch.schema().as_ref(), &promised, "{sql}");
        }
        assert_eq!(rows.schema().map(|schema| schema.as_ref()), Some(&promised), "{sql}");
    }
}

#[tokio::test]
async fn a_query_is_cancelled_before_and_while_it_runs() {
    let served = Served::new().await;
    let mut client = served.client().await;
    let mut flight = FlightClient::new_from_inner(client.inner().clone());
    let waiting = client.execute("SELECT 1".to_owned(), None).await.unwrap();
    let cancelled = flight.cancel_flight_info(CancelFlightInfoRequest::new(waiting.clone())).await.unwrap();
    assert_eq!(cancelled.status(), CancelStatus::Cancelled);
    assert!(fetch(&mut client, waiting.clone()).await.is_err());
    let again = flight.cancel_flight_info(CancelFlightInfoRequest::new(waiting)).await.unwrap();
    assert_eq!(again.status(), CancelStatus::NotCancellable);

    let endless = "SELECT max(a.value * b.value % 1003) FROM generate_series(1, 1000000) a, generate_series(1, 100000000) b";
    let info = client.execute(endless.to_owned(), None).await.unwrap();
    let (mut other, running) = (client.clone(), info.clone());
    let fetching = tokio::spawn(async move { fetch(&mut other, running).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!fetching.is_finished());
    let cancelled = flight.cancel_flight_info(CancelFlightInfoRequest::new(info)).await.unwrap();
    assert_eq!(cancelled.status(), CancelStatus::Cancelled);
    let ended = tokio::time::timeout(Duration::from_secs(10), fetching).await.expect("it ends at once").unwrap();
    assert!(ended.unwrap_err().to_string().contains("was cancelled"));
}

#[tokio::test]
async fn settings_belong_to_a_connection() {
    let served = Served::new().await;
    let (mut one, mut other) = (served.client().await, served.client().await);
    let info = one.execute("SET datafusion.execution.batch_size = 77".to_owned(), None).await.unwrap();
    assert!(fetch(&mut one, info).await.unwrap().iter().all(|batch| batch.num_rows() == 0));
    let setting = "SELECT CAST(value AS BIGINT) FROM information_schema.df_settings WHERE name = 'datafusion.execution.batch_size'";
    assert_eq!(number(&mut one, setting).await, 77);
    assert_ne!(number(&mut other, setting).await, 77);
    // `executeUpdate` of JDBC takes another way.
    assert_eq!(one.execute_update("SET datafusion.execution.batch_size = 78".to_owned(), None).await.unwrap(), 0);
    assert_eq!(number(&mut one, setting).await, 78);
    assert!(one.execute_update("SELECT 1".to_owned(), None).await.unwrap_err().to_string().contains("execute it as a query"));
}

#[tokio::test]
async fn who_logs_in_is_let_in_and_a_stopped_server_lets_nobody_in() {
    let served = Served::new().await;
    let mut client = served.client().await;
    client.handshake("anyone", "anything").await.unwrap();
    assert!(client.token().is_some());
    assert_eq!(number(&mut client, "SELECT count(*) FROM rides").await, 3);
    served.server.stop().await;
    assert!(client.execute("SELECT 1".to_owned(), None).await.is_err());
}

#[tokio::test]
async fn connections_that_say_nothing_lock_nobody_out() {
    let served = Served::new().await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(served.server.address()).await.unwrap());
    }
    let answered = async { number(&mut served.client().await, "SELECT count(*) FROM rides").await };
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), answered).await.expect("at once"), 3);
    // What it gets on the way does not matter here.
    let mut told = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(5), silent[0].read_to_end(&mut told)).await;
    assert!(closed.is_ok(), "the oldest made room");
    assert!(served.server.counters().connections() < 100, "{:?}", served.server.counters());
}

#[tokio::test]
async fn a_client_too_many_is_told_so_and_comes_in_when_there_is_room() {
    let served = Served::new().await;
    let mut clients = Vec::new();
    for _ in 0..256 {
        let mut client = served.client().await;
        client.get_catalogs().await.unwrap();
        clients.push(client);
    }
    let refused = served.client().await.execute("SELECT 1".to_owned(), None).await.unwrap_err();
    let FlightError::Tonic(status) = refused else { panic!("{refused}") };
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("256 clients are connected already"), "{status}");
    assert!(served.server.counters().turned_away() > 0);
    clients.truncate(200);
    for _ in 0..100 {
        if served.client().await.execute("SELECT 1".to_owned(), None).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("there is room and nobody is let in");
}

#[tokio::test]
async fn whoever_is_at_fault_is_told_so() {
    let served = Served::new().await;
    let mut client = served.client().await;
    for sql in [
        "SELECT 1 / (n - n) FROM rides",
        "SELECT CAST(name AS BIGINT) FROM rides",
        "SELECT CAST(n + 1000 AS TINYINT) FROM rides",
        "SELEC 1",
    ] {
        let error = match client.execute(sql.to_owned(), None).await {
            Ok(info) => fetch(&mut client, info).await.unwrap_err(),
            Err(error) => error,
        };
        let FlightError::Tonic(status) = error else { panic!("{sql}: {error}") };
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{sql}: {status}");
    }
}

#[tokio::test]
async fn only_what_there_is_is_offered_and_the_rest_is_refused_with_the_reason() {
    let served = Served::new().await;
    let mut client = served.client().await;
    let mut flight = FlightClient::new_from_inner(client.inner().clone());
    let offered: Vec<_> = flight.list_actions().await.unwrap().try_collect().await.unwrap();
    let mut names: Vec<_> = offered.into_iter().map(|action| action.r#type).collect();
    names.sort();
    let expected = [
        "CancelFlightInfo",
        "CancelQuery",
        "ClosePreparedStatement",
        "CloseSession",
        "CreatePreparedStatement",
        "GetSessionOptions",
        "SetSessionOptions",
    ];
    assert_eq!(names, expected);
    let transaction = client.begin_transaction().await.unwrap_err().to_string();
    assert!(transaction.contains("there are no transactions; switch autocommit on"), "{transaction}");
    let rows = stream::iter([Ok(RecordBatch::new_empty(Arc::new(Schema::empty())))]);
    let ingest =
        client.execute_ingest(CommandStatementIngest { table: "t".to_owned(), ..Default::default() }, rows).await.unwrap_err().to_string();
    assert!(ingest.contains("written by their pipelines only"), "{ingest}");
}

#[tokio::test]
async fn long_chains_are_refused_and_the_server_goes_on() {
    let served = Served::new().await;
    let mut client = served.client().await;
    for operator in [" + 1", " || 'a'", "::INT", " UNION ALL SELECT 1", " LIKE 'a'"] {
        let text = format!("SELECT 1{}", operator.repeat(5_000));
        let error = client.execute(text, None).await.unwrap_err().to_string();
        assert!(error.contains("limit"), "{operator}: {error}");
    }
    let terms = (0..2_000).map(|i| format!("n = {i}")).collect::<Vec<_>>().join(" OR ");
    assert_eq!(number(&mut client, &format!("SELECT count(*) FROM rides WHERE {terms}")).await, 3);
}

#[tokio::test]
async fn execute_gives_rows_with_their_columns() {
    let served = Served::new().await;
    let mut client = served.client().await;
    let info = client.execute("PREPARE p(BIGINT) AS SELECT n FROM rides WHERE n >= $1 ORDER BY n".to_owned(), None).await.unwrap();
    assert!(fetch(&mut client, info).await.unwrap().iter().all(|batch| batch.num_rows() == 0));
    let info = client.execute("EXECUTE p(1)".to_owned(), None).await.unwrap();
    assert_eq!(info.clone().try_decode_schema().unwrap().field(0).name(), "n");
    let batches = fetch(&mut client, info).await.unwrap();
    let numbers: Vec<i64> = batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(numbers, [1, 2]);
    let mut prepared = client.prepare("EXECUTE p(2)".to_owned(), None).await.unwrap();
    assert_eq!(prepared.dataset_schema().unwrap().field(0).name(), "n");
    let info = prepared.execute().await.unwrap();
    assert_eq!(fetch(&mut client, info).await.unwrap()[0].column(0).as_primitive::<Int64Type>().value(0), 2);
}

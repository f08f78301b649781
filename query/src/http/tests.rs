//! The server over a real socket, with a client that speaks just enough HTTP to see what a real one would.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use watershed_lake::kind::PANEL;
use watershed_lake::{Commit, Definition, TableName, Warehouse};

use super::*;
use crate::listen::listen;

mod connections;

struct Site {
    server: HttpServer,
    counters: Arc<ServerCounters>,
    warehouse: Warehouse,
}

/// An answer: status, head, body; whether the body came to its end.
struct Answer {
    status: u16,
    head: String,
    body: String,
    whole: bool,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|why| panic!("{why}: {}", self.body))
    }

    /// The error's `what`, `why` and `next`, one after another.
    fn error(&self) -> String {
        let json = self.json();
        ["what", "why", "next"].map(|part| json["error"][part].as_str().unwrap_or("").to_owned()).join(" | ")
    }
}

async fn site(limits: HttpLimits) -> Site {
    let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
    let name: TableName = "silver.rides".parse().unwrap();
    let numbers: Vec<i64> = (0..20_000).collect();
    let texts: Vec<Option<String>> =
        numbers.iter().map(|n| (n % 3 > 0).then(|| format!("row {n}, with a comma and some length"))).collect();
    let columns = [("n", Arc::new(Int64Array::from(numbers)) as arrow::array::ArrayRef), ("text", Arc::new(StringArray::from(texts)) as _)];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let table = warehouse.create_table(&name, batch.schema(), &[]).await.unwrap();
    let mut writer = table.writer("test");
    writer.write(batch).await.unwrap();
    let files = writer.finish().await.unwrap();
    let commit = Commit { app_id: "test/0".to_owned(), app_version: 1, previous_app_version: None, files, operation: "WRITE".to_owned() };
    table.commit(commit).await.unwrap();
    let counters = Arc::new(ServerCounters::default());
    let parts = HttpParts {
        lake: Some(Lake { warehouse: warehouse.clone(), session: Session::new(warehouse.clone()).unwrap() }),
        metrics: Arc::new(|| "# EOF\n".to_owned()),
        not_ready: Arc::new(Vec::new),
        counters: counters.clone(),
        limits,
    };
    let server = HttpServer::start(listen("127.0.0.1:0".parse().unwrap()).await.unwrap(), parts).unwrap();
    Site { server, counters, warehouse }
}

impl Site {
    async fn send(&self, target: &str, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.server.address()).await.unwrap();
        let host = if headers.contains("Host:") { String::new() } else { format!("Host: {}\r\n", self.server.address()) };
        let request = format!("GET {target} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn get_with(&self, target: &str, headers: &str) -> Answer {
        answer(self.send(target, headers).await).await
    }

    /// `POST /sql` with a body.
    async fn post(&self, target: &str, headers: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.server.address()).await.unwrap();
        let length = body.len();
        let request =
            format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        answer(stream).await
    }

    async fn get(&self, target: &str) -> Answer {
        self.get_with(target, "").await
    }

    async fn sql(&self, query: &str, more: &str) -> Answer {
        self.get(&format!("/sql?q={}{more}", encoded(query))).await
    }

    async fn until(&self, what: &str, holds: impl Fn(&ServerCounters) -> bool) {
        for _ in 0..500 {
            if holds(&self.counters) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}: {:?}", self.counters);
    }
}

/// Reads to the end of a connection that ends with its first answer.
async fn answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut bytes)).await;
    read.expect("an answer in time").expect("an answer");
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let (body, whole) = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { (body.to_owned(), true) };
    Answer { status, head: head.to_owned(), body, whole }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The chunks' bytes, and whether the last one came.
fn unchunked(mut body: &str) -> (String, bool) {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        if size == 0 {
            return (text, true);
        }
        if rest.len() < size {
            break;
        }
        text.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    (text, false)
}

#[tokio::test]
async fn rows_come_as_json_and_as_csv() {
    let site = site(HttpLimits::default()).await;
    let query = "SELECT n, text FROM rides WHERE n < 2 ORDER BY n";
    let json = site.sql(query, "").await;
    assert_eq!(
        (json.status, json.body.as_str()),
        (200, "[{\"n\":0,\"text\":null},{\"n\":1,\"text\":\"row 1, with a comma and some length\"}]\n")
    );
    assert!(json.head.contains("content-type: application/json") && json.head.contains("cache-control: no-store"), "{}", json.head);
    assert!(!json.head.to_lowercase().contains("access-control"), "{}", json.head);
    let csv = "n,text\n0,\n1,\"row 1, with a comma and some length\"\n";
    assert_eq!(site.sql(query, "&format=csv").await.body, csv);
    let accepted = site.get_with(&format!("/sql?q={}", encoded(query)), "Accept: application/json;q=0.5, text/csv\r\n").await;
    assert_eq!(accepted.body, csv);
    assert_eq!(site.sql("SELECT n FROM rides WHERE n < 0", "").await.body, "[]\n");
    assert_eq!(site.sql("SELECT n FROM rides WHERE n < 0", "&format=csv").await.body, "n\n");
    let first = site.sql("SELECT n FROM rides ORDER BY n", "&limit=2").await;
    assert_eq!(first.body, "[{\"n\":0},{\"n\":1}]\n");
    assert_eq!(site.sql("SHOW TABLES", "").await.json()[0]["table"], "rides");
}

#[tokio::test]
async fn large_results_are_whole() {
    let site = site(HttpLimits::default()).await;
    let all = site.sql("SELECT n, text FROM rides ORDER BY n", "").await;
    assert!(all.whole && all.head.contains("transfer-encoding: chunked"), "{}", all.head);
    let rows = all.json();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 20_000);
    assert!(rows.iter().enumerate().all(|(at, row)| row["n"] == at));
    let csv = site.sql("SELECT n, text FROM rides ORDER BY n", "&format=csv").await;
    assert!(csv.whole && csv.body.lines().count() == 20_001);
}

#[tokio::test]
async fn mistakes_are_told_with_what_why_and_what_next() {
    let site = site(HttpLimits::default()).await;
    let unknown = site.sql("SELECT m\nFROM silver.rids", "").await;
    assert_eq!((unknown.status, unknown.json()["error"]["line"].as_u64()), (400, Some(2)), "{}", unknown.body);
    for (target, said) in [
        ("/sql", "there is no query"),
        ("/sql?q=SELECT+1&fromat=csv", "did you mean 'format'?"),
        ("/sql?q=SELECT+1&format=xml", "use json or csv"),
        ("/sql?q=SELECT+1&limit=-1", "limit=100"),
        ("/sql?q=SELECT+1&q=SELECT+2", "stands twice"),
        ("/sql?q=SELECT+1;SELECT+2", "one statement at a time"),
        ("/sql?q=SELECT+a.n,+b.n+FROM+rides+a+JOIN+rides+b+ON+a.n=b.n", "named 'n'"),
        ("/sql?q=SET+datafusion.execution.batch_size+=+7", "only reads"),
        ("/sql?q=COPY+(SELECT+1)+TO+'/tmp/watershed-http-test.csv'", "only reads"),
        ("/sql?q=EXPLAIN+ANALYZE+COPY+(SELECT+1)+TO+'/tmp/watershed-http-test.csv'", ""),
        ("/sql?q=DELETE+FROM+silver.rides", "only reads"),
        ("/sql?q=CREATE+STREAMING+TABLE+a.b+AS+SELECT+1", "watershed apply"),
        ("/panels/nothing", "/panels lists all"),
        ("/nothing", "/ is the dashboard"),
    ] {
        let answer = site.get(target).await;
        assert!((400..500).contains(&answer.status) && answer.error().contains(said), "{target}: {} {}", answer.status, answer.body);
    }
    assert!(!std::path::Path::new("/tmp/watershed-http-test.csv").exists());
    let mut stream = TcpStream::connect(site.server.address()).await.unwrap();
    stream.write_all(b"POST /panels HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("use GET"), "{answer}");
}

/// A value may hold what the parts of a message are shown with.
#[tokio::test]
async fn a_value_in_an_error_is_never_cut() {
    let site = site(HttpLimits::default()).await;
    let answer = site.sql("SELECT CAST(c AS INT) FROM (VALUES ('1; 2: 3')) AS t(c)", "").await;
    let error = &answer.json()["error"];
    assert_eq!(error["why"], "Cannot cast string '1; 2: 3' to value of INT type", "{}", answer.body);
    let nowhere = site.sql("SELECT now() AT TIME ZONE 'Mars/Base' AS t", "").await;
    assert!(nowhere.status == 400 && nowhere.error().contains("there is no such time zone"), "{}", nowhere.body);
    // Also where rows are read, which tells it otherwise.
    for filter in ["text = 5", "text = 5 AND n < 100", "100 / (n - 7) > 1 AND text IS NOT NULL"] {
        let answer = site.sql(&format!("SELECT count(*) FROM rides WHERE {filter}"), "").await;
        let said = answer.error();
        assert!(answer.status == 400 && (said.contains("TRY_CAST") || said.contains("| Divide by zero")), "{filter}: {}", answer.body);
    }
}

#[tokio::test]
async fn long_chains_are_refused_and_the_server_goes_on() {
    let site = site(HttpLimits::default()).await;
    for operator in [" + 1", " || 1", "::INT", " UNION ALL SELECT 1"] {
        let answer = site.sql(&format!("SELECT 1{}", operator.repeat(1_000)), "").await;
        assert_eq!(answer.status, 400, "{operator}: {}", answer.body);
        assert!(answer.error().contains("limit"), "{operator}: {}", answer.body);
    }
    let terms = vec!["n = 1"; 1_500].join(" OR ");
    let answer = site.sql(&format!("SELECT count(*) AS found FROM silver.rides WHERE {terms}"), "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn other_sites_are_kept_out() {
    let site = site(HttpLimits::default()).await;
    for headers in ["Host: rebound.example\r\n", "Origin: https://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        for target in ["/sql?q=SELECT+1", "/panels", "/metrics"] {
            let answer = site.get_with(target, headers).await;
            assert_eq!(answer.status, 403, "{target} {headers}");
            assert!(!answer.error().is_empty() && !answer.head.to_lowercase().contains("access-control"), "{}", answer.head);
        }
    }
}

#[tokio::test]
async fn a_result_that_is_too_large_is_an_error_and_never_cut_short() {
    let site = site(HttpLimits { rows_max: 1_000, ..HttpLimits::default() }).await;
    let small = site.sql("SELECT n FROM rides", "").await;
    assert!(small.status == 400 && small.error().contains("more than 1000 rows"), "{}", small.body);
    assert_eq!(site.sql("SELECT n FROM rides", "&limit=1000").await.json().as_array().unwrap().len(), 1_000);
    assert_eq!(site.sql("SELECT n FROM rides", "&limit=1001").await.status, 400);
    // Rows are under way already when the limit is met: then the transfer is broken off.
    let limited = self::site(HttpLimits { rows_max: 19_999, ..HttpLimits::default() }).await;
    let broken = limited.get_with(&format!("/sql?q={}", encoded("SELECT n, text, text AS more FROM rides")), "").await;
    assert!(broken.status == 200 && !broken.whole, "it looks whole");
    limited.until("the failure is counted", |counters| counters.ended()[1].1 == 1).await;
}

/// Texts that are too many for one column make Arrow panic.
#[tokio::test]
async fn a_panic_in_a_query_is_an_error_and_never_the_end_of_its_rows() {
    let site = site(HttpLimits::default()).await;
    let long = "SELECT s FROM rides LEFT JOIN (SELECT repeat('x', 1000000) AS s) ON true";
    for query in [long.to_owned(), format!("SELECT 'y' AS s UNION ALL {long}"), format!("SELECT count(s) FROM ({long})")] {
        let answer = site.sql(&query, "&limit=20000").await;
        assert!(answer.status == 400 && answer.error().contains("more than 2 GiB"), "{query}: {} {}", answer.status, answer.body);
    }
    assert_eq!(site.counters.ended().map(|(_, count)| count), [0, 3, 0]);
}

/// Pairs without end: no answer comes before it is ended.
const ENDLESS: &str = "SELECT count(*) FROM rides a, rides b, rides c WHERE a.n * b.n * c.n % 7 = 3";

#[tokio::test]
async fn a_query_has_a_time_limit() {
    let site = site(HttpLimits { query_time_max: Duration::from_secs(1), ..HttpLimits::default() }).await;
    let answer = site.sql(ENDLESS, "").await;
    assert!(answer.status == 504 && answer.error().contains("longer than 1 s"), "{}", answer.body);
    assert_eq!(site.counters.running(), 0);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_query_and_makes_room() {
    let site = site(HttpLimits { queries_max: 1, ..HttpLimits::default() }).await;
    let endless = site.send(&format!("/sql?q={}", encoded(ENDLESS)), "").await;
    site.until("it runs", |counters| counters.running() == 1).await;
    let busy = site.sql("SELECT 1", "").await;
    assert!(busy.status == 503 && busy.head.contains("retry-after") && busy.error().contains("try again"), "{}", busy.body);
    drop(endless);
    site.until("it was cancelled", |counters| counters.running() == 0 && counters.ended()[2].1 == 1).await;
    // The same in the middle of a body that nobody reads to its end.
    let endless_rows = "SELECT a.n, b.text FROM rides a, rides b";
    let mut reading = site.send(&format!("/sql?q={}", encoded(endless_rows)), "").await;
    let mut some = [0; 1024];
    let read = reading.read_exact(&mut some).await;
    read.unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&some)));
    drop(reading);
    site.until("it was cancelled, too", |counters| counters.running() == 0 && counters.ended()[2].1 == 2).await;
    assert_eq!(site.sql("SELECT 1 AS one", "").await.body, "[{\"one\":1}]\n");
}

#[tokio::test]
async fn a_long_query_is_sent_as_a_body() {
    let site = site(HttpLimits::default()).await;
    let sql = "Content-Type: application/sql; charset=utf-8\r\n";
    let query =
        format!("SELECT count(*) AS n FROM rides WHERE n IN ({})", (0..20_000).map(|n| n.to_string()).collect::<Vec<_>>().join(", "));
    assert!(query.len() > 100_000);
    assert_eq!(site.post("/sql", sql, &query).await.body, "[{\"n\":20000}]\n");
    assert_eq!(site.post("/sql?format=csv&limit=1", sql, "SELECT n FROM rides ORDER BY n").await.body, "n\n0\n");
    // What a form of another site can send without asking is not read.
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"] {
        let refused = site.post("/sql", kind, "SELECT 1").await;
        assert!(refused.status == 415 && refused.error().contains("application/sql"), "{kind}: {}", refused.body);
    }
    let coded = site.post("/sql", &format!("{sql}Content-Encoding: gzip\r\n"), "SELECT 1").await;
    assert!(coded.status == 415 && coded.error().contains("encoded as 'gzip'"), "{}", coded.body);
    assert_eq!(site.post("/sql", sql, "\u{feff}SELECT 1 AS n").await.body, "[{\"n\":1}]\n");
    assert_eq!(site.get("/sql?q=%EF%BB%BFSELECT+'%C3%BC'+AS+n").await.body, "[{\"n\":\"ü\"}]\n");
    let cut = site.get("/sql?q=SELECT+'%ff'+AS+n").await;
    assert!(cut.status == 400 && cut.error().contains("not text in UTF-8"), "{}", cut.body);
    let both = site.post("/sql?q=SELECT+1", sql, "SELECT 2").await;
    assert!(both.status == 400 && both.error().contains("one query"), "{}", both.body);
    let long = site.post("/sql", sql, &format!("SELECT '{}'", "x".repeat(1 << 20))).await;
    assert!(long.status == 413 && long.error().contains("longer than"), "{}", long.body);
    let foreign = site.post("/sql", &format!("{sql}Origin: https://evil.example\r\n"), "SELECT 1").await;
    assert_eq!(foreign.status, 403);
}

#[tokio::test]
async fn numbers_that_readers_round_are_text_if_asked() {
    let site = site(HttpLimits::default()).await;
    let query = "SELECT 9007199254740993 AS big, -5 AS small, CAST('12345678901234567.89' AS DECIMAL(19, 2)) AS long, \
                 CAST('1.50' AS DECIMAL(3, 2)) AS short, CAST('NaN' AS DOUBLE) AS nan, CAST('-Infinity' AS DOUBLE) AS low, \
                 CAST('0.5' AS DOUBLE) AS half, CAST(NULL AS BIGINT) AS nothing, make_array(9007199254740993, 1) AS list";
    let plain = site.sql(query, "").await.body;
    assert_eq!(
        plain.trim(),
        "[{\"big\":9007199254740993,\"small\":-5,\"long\":12345678901234567.89,\"short\":1.50,\"nan\":null,\"low\":null,\"half\":0.5,\
         \"nothing\":null,\"list\":[9007199254740993,1]}]"
    );
    let exact = site.sql(query, "&numbers=exact").await.body;
    assert_eq!(
        exact.trim(),
        "[{\"big\":\"9007199254740993\",\"small\":-5,\"long\":\"12345678901234567.89\",\"short\":1.50,\"nan\":\"NaN\",\
         \"low\":\"-Infinity\",\"half\":0.5,\"nothing\":null,\"list\":[\"9007199254740993\",1]}]"
    );
    assert!(site.sql("SELECT 1", "&numbers=odd").await.error().contains("exact"));
}

#[tokio::test]
async fn whoever_is_at_fault_is_told_so() {
    let site = site(HttpLimits::default()).await;
    for query in ["SELECT 1 / (n - n) FROM rides", "SELECT CAST(text AS BIGINT) FROM rides", "SELECT CAST(n * 1000 AS TINYINT) FROM rides"]
    {
        let answer = site.sql(query, "").await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.body);
    }
}

async fn define(site: &Site, panels: &[(&str, &str)]) {
    let before = site.warehouse.definitions().await.unwrap();
    let items = panels.iter().map(|(name, sql)| Definition { name: (*name).to_owned(), kind: PANEL.to_owned(), sql: (*sql).to_owned() });
    site.warehouse.save_definitions(&before, items.collect()).await.unwrap();
}

#[tokio::test]
async fn panels_are_those_of_the_applied_project() {
    let site = site(HttpLimits::default()).await;
    assert_eq!(site.get("/panels").await.json()["panels"], serde_json::json!([]));
    define(
        &site,
        &[
            ("late", "CREATE PANEL late WITH (chart = 'line', x = 'n', y = 'n', position = 2) AS SELECT n FROM rides WHERE n < 3"),
            ("first", "CREATE PANEL first WITH (title = 'First', chart = 'table', position = 1) AS SELECT n FROM gold.not_yet"),
            ("none", "CREATE PANEL none WITH (chart = 'table', position = 3) AS SELECT n FROM rides WHERE n < 0"),
            ("wrong", "CREATE PANEL wrong WITH (chart = 'bar', x = 'm', y = 'n', position = 4) AS SELECT n FROM rides"),
            ("many", "CREATE PANEL many WITH (chart = 'table', position = 5) AS SELECT n FROM rides"),
            (
                "large",
                "CREATE PANEL large WITH (chart = 'table', position = 6) AS SELECT n, repeat('x', 5000) AS text FROM rides ORDER BY n",
            ),
        ],
    )
    .await;
    let list = site.get("/panels").await.json();
    let names: Vec<&str> = list["panels"].as_array().unwrap().iter().map(|panel| panel["name"].as_str().unwrap()).collect();
    assert_eq!((names, list["revision"].as_u64()), (vec!["first", "late", "none", "wrong", "many", "large"], Some(1)));
    let late = site.get("/panels/late").await.json();
    assert_eq!((late["state"].as_str(), late["rows"].clone()), (Some("ready"), serde_json::json!([{"n": 0}, {"n": 1}, {"n": 2}])));
    assert_eq!(late["columns"][0], serde_json::json!({"name": "n", "number": true, "exact": true, "time": false}));
    let first = site.get("/panels/first").await.json();
    assert_eq!((first["state"].as_str(), first["tables"].clone()), (Some("missing"), serde_json::json!(["gold.not_yet"])));
    assert_eq!(site.get("/panels/none").await.json()["state"], "empty");
    let wrong = site.get("/panels/wrong").await;
    assert!(wrong.status == 400 && wrong.error().contains("'m'") && wrong.error().contains("its query has: n"), "{}", wrong.body);
    let many = site.get("/panels/many").await.json();
    assert_eq!((many["truncated"].as_bool(), many["rows"].as_array().unwrap().len()), (Some(true), 5_000));
    let large = site.get("/panels/large").await;
    assert!(large.body.len() < (4 << 20) + 1000, "{}", large.body.len());
    let large = large.json();
    assert_eq!(
        (large["truncated"].as_bool(), large["cut_at"].as_str(), &large["rows"][800]["n"]),
        (Some(true), Some("4 MiB"), &800.into())
    );
}

#[tokio::test]
async fn of_a_time_line_the_newest_rows_are_kept() {
    let site = site(HttpLimits::default()).await;
    define(&site, &[("line", "CREATE PANEL line WITH (chart = 'line', x = 'n', y = 'n') AS SELECT n FROM rides ORDER BY n")]).await;
    let line = site.get("/panels/line").await.json();
    let rows = line["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["n"], &rows[4_999]["n"]), (5_000, &serde_json::json!(15_000), &serde_json::json!(19_999)));
    assert_eq!(line["truncated"].as_bool(), Some(true));
}

#[tokio::test]
async fn a_panel_is_answered_as_it_is_defined_now() {
    let site = site(HttpLimits::default()).await;
    let defined =
        |column: &str| format!("CREATE PANEL p WITH (chart = 'line', x = '{column}', y = 'n') AS SELECT n FROM rides WHERE n < 3");
    define(&site, &[("p", &defined("n"))]).await;
    assert_eq!(site.get("/panels/p").await.status, 200);
    define(&site, &[("p", &defined("m"))]).await;
    assert_eq!(site.get("/panels/p").await.status, 400, "the query is the same, and the column is not there");
}

#[tokio::test]
async fn long_queries_and_slow_panels_hold_no_other_panel_up() {
    let site = site(HttpLimits { queries_max: 1, query_wait_max: Duration::from_millis(100), ..HttpLimits::default() }).await;
    let slow = format!("CREATE PANEL slow WITH (chart = 'table') AS {ENDLESS}");
    define(&site, &[("slow", &slow), ("quick", "CREATE PANEL quick WITH (chart = 'table') AS SELECT n FROM rides WHERE n < 3")]).await;
    let _endless = site.send(&format!("/sql?q={}", encoded(ENDLESS)), "").await;
    site.until("it runs", |counters| counters.running() == 1).await;
    let _slow = site.send("/panels/slow", "").await;
    site.until("the panel is computed", |counters| counters.running() == 2).await;
    let quick = site.get("/panels/quick").await;
    assert!(quick.status == 200 && site.counters.running() >= 1, "{}", quick.body);
    // A query over /sql waits, and its answer says for what.
    let busy = site.sql("SELECT 1", "").await;
    assert!(busy.status == 503 && busy.error().contains("1 query runs already"), "{}", busy.body);
}

/// Many clients at once: as many as may run end after their time, the others are sent away with the reason, and panels are drawn all the while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_long_queries_than_may_run_get_an_orderly_answer_each() {
    let (query_wait_max, query_time_max) = (Duration::from_secs(1), Duration::from_secs(5));
    let site = Arc::new(site(HttpLimits { queries_max: 4, query_wait_max, query_time_max, ..HttpLimits::default() }).await);
    define(&site, &[("quick", "CREATE PANEL quick WITH (chart = 'table') AS SELECT n FROM rides WHERE n < 3")]).await;
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let site = Arc::clone(&site);
            tokio::spawn(async move { site.sql(ENDLESS, "").await })
        })
        .collect();
    site.until("as many run as may", |counters| counters.running() == 4).await;
    let panel = site.get("/panels/quick").await;
    assert!(panel.status == 200 && panel.json()["state"] == "ready", "{}", panel.body);
    assert_eq!(site.get("/healthz").await.status, 200);
    let (mut ended, mut refused) = (0, 0);
    for client in clients {
        let answer = client.await.unwrap();
        match answer.status {
            504 => ended += usize::from(answer.error().contains("longer than 5 s")),
            503 => {
                assert!(answer.head.contains("retry-after") && answer.error().contains("4 queries run already"), "{}", answer.body);
                refused += 1;
            }
            _ => panic!("{}: {}", answer.status, answer.body),
        }
    }
    // One that comes late may find a place.
    assert!(ended >= 4 && refused >= 10 && ended + refused == 20, "{ended} ended, {refused} refused");
    assert_eq!(site.counters.running(), 0);
    assert_eq!(site.sql("SELECT 1 AS one", "").await.body, "[{\"one\":1}]\n");
}

#[tokio::test]
async fn health_readiness_and_metrics() {
    let site = site(HttpLimits::default()).await;
    assert_eq!((site.get("/healthz").await.status, site.get("/readyz").await.json()["ready"].as_bool()), (200, Some(true)));
    let metrics = site.get("/metrics").await;
    assert!(metrics.body == "# EOF\n" && metrics.head.contains("application/openmetrics-text"), "{}", metrics.head);
    let text = site.get_with("/metrics", "Accept: text/plain\r\n").await;
    assert!(text.body.is_empty() && text.head.contains("content-type: text/plain; version=0.0.4"), "{}", text.head);
    let parts = HttpParts {
        lake: None,
        metrics: Arc::new(String::new),
        not_ready: Arc::new(|| vec!["gold.x is starting".to_owned()]),
        counters: Arc::default(),
        limits: HttpLimits::default(),
    };
    let server = HttpServer::start(listen("127.0.0.1:0".parse().unwrap()).await.unwrap(), parts).unwrap();
    let bare = Site { server, counters: Arc::default(), warehouse: site.warehouse.clone() };
    let not_ready = bare.get("/readyz").await;
    assert!(not_ready.status == 503 && not_ready.json()["reasons"][0] == "gold.x is starting", "{}", not_ready.body);
    assert_eq!((bare.get("/").await.status, bare.get("/sql?q=SELECT+1").await.status), (404, 404));
}

#[tokio::test]
async fn the_page_and_its_assets_are_served() {
    let site = site(HttpLimits::default()).await;
    let page = site.get("/").await;
    assert!(page.head.contains("content-security-policy: default-src 'none'"), "{}", page.head);
    let addresses: Vec<&str> = page.body.split("\"/assets/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(addresses.len() >= 4, "{addresses:?}");
    for address in addresses {
        let asset = site.get(&format!("/assets/{address}")).await;
        assert!(asset.status == 200 && asset.head.contains("immutable") && asset.body.len() > 1_000, "{address}: {}", asset.head);
        let mut small = Vec::new();
        let mut stream = site.send(&format!("/assets/{address}"), "Accept-Encoding: gzip, br\r\n").await;
        stream.read_to_end(&mut small).await.unwrap();
        let end = small.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(small[..end].to_vec()).unwrap();
        assert!(head.contains("content-encoding: gzip") && head.contains("vary: accept-encoding"), "{address}: {head}");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&small[end + 4..]), &mut text).unwrap();
        assert!(text == asset.body && small.len() < text.len() / 2, "{address}: {} of {} bytes", small.len(), text.len());
    }
}

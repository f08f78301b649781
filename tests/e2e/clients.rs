//! Other people's clients over one table with everything in it, written with a kill -9 in between: the JDBC driver, the ADBC driver and
//! HTTP give the same answers to the same ten queries, values that JDBC and Go bind mean what they mean in the text; deltalake, DuckDB, Polars and Spark read the same from its files.

use std::net::SocketAddr;
use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::http;
use crate::kafka::Kafka;
use crate::readers;
use crate::serving::python;
use crate::table::DeltaTable;
use crate::tools::{folder, java, tool};
use crate::watershed::Watershed;

const DEFINITIONS: &str = "
CREATE SOURCE visits_in (
    id         BIGINT NOT NULL,
    event_time TIMESTAMP NOT NULL,
    city       VARCHAR,
    remark     VARCHAR,
    paid       BOOLEAN,
    guests     INT,
    steps      BIGINT,
    price      DECIMAL(12, 3),
    ratio      DOUBLE,
    tags       LIST<VARCHAR>,
    place      STRUCT<lat DOUBLE, lon DOUBLE>,
    stops      LIST<STRUCT<minute INT, name VARCHAR>>,
    WATERMARK FOR event_time AS event_time - INTERVAL '10 seconds'
) WITH (connector = 'kafka', topic = 'visits', format = 'json', on_error = 'quarantine');

CREATE STREAMING TABLE bronze.visits
PARTITIONED BY (city, day)
WITH (commit_interval = '50 milliseconds')
AS SELECT *, CAST(event_time AS DATE) AS day FROM visits_in;
";

/// What all clients are asked. Every result has an order, so that answers can be compared row by row.
const QUERIES: [(&str, &str); 10] = [
    ("integers", "SELECT id, guests, steps, -id AS negative FROM bronze.visits ORDER BY id"),
    (
        "decimals",
        "SELECT id, price, sum(price) OVER (ORDER BY id) AS total, CAST(price AS DECIMAL(38, 9)) AS wide FROM bronze.visits ORDER BY id",
    ),
    (
        "doubles",
        "SELECT id, ratio, ratio / 3 AS third, sqrt(ratio) AS root FROM bronze.visits WHERE ratio IS NULL OR ratio >= 0 ORDER BY id",
    ),
    ("times", "SELECT id, event_time, date_bin(INTERVAL '15 minutes', event_time) AS quarter, day FROM bronze.visits ORDER BY id"),
    ("texts", "SELECT id, city, remark, upper(remark) AS loud, length(remark) AS length FROM bronze.visits ORDER BY id LIMIT 60"),
    (
        "nulls",
        "SELECT paid, count(*) AS visits, count(remark) AS remarks, NULL AS nothing FROM bronze.visits GROUP BY paid ORDER BY paid NULLS FIRST",
    ),
    ("nested", "SELECT id, tags, place, stops, place['lat'] AS lat, cardinality(tags) AS n FROM bronze.visits ORDER BY id LIMIT 80"),
    ("booleans", "SELECT id, paid, NOT paid AS owing, price > 100 AND paid AS dear FROM bronze.visits ORDER BY id DESC LIMIT 50"),
    ("empty", "SELECT * FROM bronze.visits WHERE id < 0"),
    // Each client's query adds the fractions in an order of its own.
    (
        "aggregates",
        "SELECT city, day, count(*) AS visits, sum(guests) AS guests, round(avg(ratio), 9) AS ratio, min(price) AS cheapest, max(event_time) AS newest, \
         count(DISTINCT remark) AS remarks FROM bronze.visits GROUP BY city, day HAVING count(*) > 2 ORDER BY visits DESC, city, day LIMIT 12",
    ),
];

const VISITS: i64 = 240;
const CITIES: [&str; 5] = ["Berlin", "São Paulo", "東京", "a/b=c %41", "Кыїв 🚕"];
const REMARKS: [&str; 6] = ["plain", "", "comma, \"quote\"", "line\nbreak", "naïve Ω 東京 🚕", "\\ ' tab\t"];

/// The visit number `id`; every column but the first two is NULL in some.
fn visit(id: i64) -> Value {
    let but = |every: i64, value: Value| if id % every == every - 1 { Value::Null } else { value };
    let at = |values: &[&str]| json!(values[usize::try_from(id).expect("not negative") % values.len()]);
    let extreme = match id {
        // Far enough from the end for a sum of all.
        0 => i64::MAX - 1_000_000_000_000,
        1 => i64::MIN + 1,
        _ => id * 1_000_003,
    };
    // 2024-06-01, an hour and some microseconds apart.
    let time_us = 1_717_200_000_000_000 + id * 3_600_000_000 + [0, 250_000, 123_456][usize::try_from(id % 3).expect("small")];
    json!({
        "id": id,
        "event_time": chrono::DateTime::from_timestamp_micros(time_us).expect("a time").to_rfc3339(),
        "city": but(7, at(&CITIES)),
        "remark": but(5, at(&REMARKS)),
        "paid": but(4, json!(id % 2 == 0)),
        "guests": but(6, json!(id % 9 - 3)),
        "steps": but(11, json!(extreme)),
        "price": but(8, json!(format!("{}{}.{:03}", if id % 3 == 1 { "-" } else { "" }, id * 12_345 % 1_000_000, id % 1000))),
        "ratio": but(9, json!(id as f64 / 7.0 - 4.0)),
        "tags": but(10, json!((0..id % 4).map(|n| if n == 2 { Value::Null } else { at(&REMARKS[..1]) }).collect::<Vec<_>>())),
        "place": but(12, json!({ "lat": id as f64 / 3.0, "lon": but(3, json!(-id)) })),
        "stops": but(13, json!((0..id % 3).map(|n| json!({ "name": at(&CITIES), "minute": but(2, json!(n)) })).collect::<Vec<_>>())),
    })
}

/// One answer as a client sees it: whole numbers and doubles as numbers, decimals as text, times as ISO 8601 in UTC.
#[derive(Debug, PartialEq, Deserialize)]
struct Answer {
    columns: Vec<String>,
    /// What the driver calls the types; only JDBC says.
    #[serde(default)]
    types: Vec<String>,
    rows: Vec<Vec<Value>>,
}

#[test]
fn clients_and_readers_agree_on_a_table_with_everything_in_it() {
    let kafka = Kafka::shared();
    kafka.create_topic("visits", 2);
    // Both times into the same partitions, so that there are files to merge.
    let produce = |time: i64| {
        let ids = (0..VISITS).filter(|id| id / 10 % 2 == time);
        let visits: Vec<_> = ids.map(|id| ((id % 2) as i32, visit(id).to_string())).collect();
        kafka.produce("visits", visits.iter().map(|(partition, text)| (*partition, text.as_bytes())));
    };
    let home = folder("visits-");
    let warehouse = home.path().join("warehouse");
    let files = warehouse.clone();
    let warehouse = warehouse.display().to_string();
    let definitions = home.path().join("sql");
    std::fs::create_dir(&definitions).expect("a folder");
    std::fs::write(definitions.join("visits.sql"), DEFINITIONS).expect("definitions");
    Watershed::new(["apply", &definitions.display().to_string(), "--yes", "--warehouse", &warehouse]).succeeds();
    let bootstrap = kafka.bootstrap();
    let stream = || Watershed::new(["stream", "--bootstrap", &bootstrap, "--warehouse", &warehouse, "--until-caught-up"]);
    produce(0);
    stream().succeeds();
    produce(1);
    let killed = stream().env("FAILPOINTS", "record_written=return").run();
    assert!(!killed.status.success(), "it was to be killed: {}", killed.output());
    stream().succeeds();

    let table = files.join("bronze/visits");
    let folder = table.display().to_string();
    let read = readers::read_with_all(&[&table]);
    assert_eq!(read.keys().collect::<Vec<_>>(), ["deltalake", "duckdb", "polars", "spark"]);
    let seen = &read["spark"][&folder];
    assert_eq!(seen.rows, DeltaTable::open(&files, "bronze.visits").count() as u64);
    assert_eq!(seen.rows, VISITS as u64, "each message once");
    assert_eq!(seen.columns["id"].sum, Some(json!(VISITS * (VISITS - 1) / 2)));
    assert_eq!(seen.columns["stops"].data_type, "array<struct<minute:int,name:string>>");
    let said = Watershed::new(["compact", "bronze.visits", "--warehouse", &warehouse]).succeeds();
    assert!(said.contains("became"), "{said}");
    assert_eq!(readers::read_with_all(&[&table]), read, "a compaction changes no value for anyone");
    assert_eq!(seen.columns["city"].distinct, Some(CITIES.len() as u64));
    assert!(seen.columns.iter().all(|(name, column)| column.nulls > 0 || ["id", "event_time", "day"].contains(&name.as_str())), "{seen:?}");
    for (reader, by_folder) in &read {
        assert_eq!(&by_folder[&folder], seen, "{reader} and Spark differ");
    }

    let mut server =
        Watershed::new(["serve", "--flight", "127.0.0.1:0", "--http-address", "127.0.0.1:0", "--warehouse", &warehouse]).start();
    let flight = server.until("Flight SQL listens", |server| crate::serving::url_in(&server.output()));
    let page: SocketAddr = server.until("HTTP listens", |server| {
        let (_, rest) = server.output().split_once("dashboard  http://").map(|(a, b)| (a.to_owned(), b.to_owned()))?;
        rest.split_once("/\n")?.0.parse().ok()
    });
    jdbc_parameters(&flight);
    go_parameters(&flight);
    jdbc_types(&flight);
    let texts: Vec<&str> = QUERIES.iter().map(|(_, sql)| *sql).collect();
    let done_before = flight_queries(page);
    let adbc: Vec<Answer> = serde_json::from_str(&python("clients.py", &[&[flight.as_str()], texts.as_slice()].concat())).expect("JSON");
    let jdbc: Vec<Answer> = with_jdbc(&flight, &texts);
    assert_eq!((adbc.len(), jdbc.len()), (QUERIES.len(), QUERIES.len()));
    // Each was asked twice over Flight SQL.
    assert!(flight_queries(page) - done_before >= 2.0 * QUERIES.len() as f64, "{} and before {done_before}", flight_queries(page));
    for (((name, sql), adbc), jdbc) in QUERIES.iter().zip(&adbc).zip(&jdbc) {
        assert_eq!(adbc.rows.is_empty(), *name == "empty", "{name}: {} rows", adbc.rows.len());
        assert_eq!(adbc.columns, jdbc.columns, "{name}: ADBC and JDBC differ");
        // The JDBC driver leaves fields that are NULL out of structs.
        let rows: Vec<Vec<Value>> = adbc.rows.iter().map(|row| row.iter().map(without_null_fields).collect()).collect();
        assert_eq!(rows, jdbc.rows, "{name}: ADBC and JDBC differ");
        let answer = http::sql(page, sql);
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
        check_json(name, adbc, &answer.json());
        let answer = http::get(page, &format!("{}&format=csv", http::target_of(sql)));
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
        check_csv(name, adbc, &answer.body);
    }
}

/// Statements over Flight SQL that ended well, as `/metrics` has them.
fn flight_queries(page: SocketAddr) -> f64 {
    let text = http::get(page, "/metrics").body;
    let line = text.lines().find(|line| line.starts_with("watershed_flight_queries_total{") && line.contains("\"done\""));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no counter in {text}"))
}

/// The JDBC driver names types as SQL does, not as Arrow.
fn jdbc_types(flight: &str) {
    let answers = with_jdbc(flight, &["SELECT * FROM bronze.visits WHERE id < 0"]);
    let named: Vec<(&str, &str)> = answers[0].columns.iter().map(String::as_str).zip(answers[0].types.iter().map(String::as_str)).collect();
    let expected = [
        ("id", "BIGINT"),
        ("event_time", "TIMESTAMP_WITH_TIMEZONE"),
        ("city", "VARCHAR"),
        ("remark", "VARCHAR"),
        ("paid", "BOOLEAN"),
        ("guests", "INTEGER"),
        ("steps", "BIGINT"),
        ("price", "DECIMAL"),
        ("ratio", "DOUBLE"),
        ("tags", "ARRAY"),
        // So the driver calls a struct.
        ("place", "JAVA_OBJECT"),
        ("stops", "ARRAY"),
        ("day", "DATE"),
    ];
    assert_eq!(named, expected);
}

/// Parameters as the JDBC driver writes them mean what they mean written into the statement.
fn jdbc_parameters(flight: &str) {
    let cases: [(&str, &str, &str); 11] = [
        ("city = ?", "text:Berlin", "city = 'Berlin'"),
        ("remark LIKE ?", "text:%東京%", "remark LIKE '%東京%'"),
        ("upper(city) IN (?)", "text:BERLIN", "upper(city) IN ('BERLIN')"),
        ("id < ?", "long:100", "id < 100"),
        ("steps = ?", "long:-9223372036854775807", "steps = -9223372036854775807"),
        ("ratio < ?", "double:0.5", "ratio < CAST('0.5' AS DOUBLE)"),
        ("CAST(guests AS DOUBLE) < ?", "double:1.5", "guests < 1.5"),
        ("price < ?", "decimal:100.500", "price < 100.5"),
        ("event_time >= ?", "instant:2024-06-03T00:00:00.250Z", "event_time >= TIMESTAMP '2024-06-03 00:00:00.25'"),
        ("paid = ?", "boolean:true", "paid = true"),
        ("city IS NOT DISTINCT FROM ?", "null:", "city IS NULL"),
    ];
    let count = |condition: &str| format!("SELECT count(*) AS n FROM bronze.visits WHERE {condition}");
    let bound: Vec<String> = cases.iter().map(|(condition, value, _)| format!("{}\t{value}", count(condition))).collect();
    let written: Vec<String> = cases.iter().map(|(_, _, condition)| count(condition)).collect();
    let bound = with_jdbc(flight, &bound.iter().map(String::as_str).collect::<Vec<_>>());
    let written = with_jdbc(flight, &written.iter().map(String::as_str).collect::<Vec<_>>());
    for (((condition, value, _), bound), written) in cases.iter().zip(&bound).zip(&written) {
        assert_eq!(bound.rows, written.rows, "{condition} with {value}");
        let rows = written.rows[0][0].as_i64().expect("a number");
        assert!((1..VISITS).contains(&rows), "{condition} tells nothing: {rows} rows");
    }
    // The driver cuts a fraction off before it sends it, where a whole number is announced; it refuses whole numbers where anything else is. Once
    // this answer is that of 10.5, the guide's row about it can go.
    let cut = with_jdbc(flight, &[&format!("{}\tdouble:10.5", count("id < ?")), &count("id < 10.5"), &count("id < 10")]);
    assert_eq!([&cut[0].rows, &cut[1].rows], [&cut[2].rows, &vec![vec![json!(11)]]], "the driver sends the fraction now?");
    let whole = with_jdbc(flight, &[&format!("{}\tdouble:10.5", count("id < CAST(? AS DOUBLE)"))]);
    assert_eq!(whole[0].rows, [[json!(11)]], "the way that the guide names");
}

/// What the driver of arrow-go sends means what it means written into the statement; what it cannot send it says.
fn go_parameters(flight: &str) {
    let count = |condition: &str| format!("SELECT count(*) AS n FROM bronze.visits WHERE {condition}");
    let answers = |queries: &[String]| -> Vec<Value> {
        let output = Command::new(tool("go")).arg(flight.trim_start_matches("grpc://")).args(queries).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let cases: [(&str, &str, &str); 8] = [
        ("city = ?", "text:Berlin", "city = 'Berlin'"),
        ("remark LIKE ?", "text:%東京%", "remark LIKE '%東京%'"),
        ("upper(city) IN (?)", "text:BERLIN", "upper(city) IN ('BERLIN')"),
        ("id < ?", "long:100", "id < 100"),
        ("ratio < ?", "double:0.5", "ratio < CAST('0.5' AS DOUBLE)"),
        ("CAST(guests AS DOUBLE) < ?", "double:1.5", "guests < 1.5"),
        ("paid = ?", "boolean:true", "paid = true"),
        (
            "event_time >= CAST(CAST(? AS VARCHAR) AS TIMESTAMP)",
            "text:2024-06-03T00:00:00Z",
            "event_time >= TIMESTAMP '2024-06-03 00:00:00'",
        ),
    ];
    let bound = answers(&cases.map(|(condition, value, _)| format!("{}\t{value}", count(condition))));
    let written = answers(&cases.map(|(_, _, condition)| count(condition)));
    for (((condition, value, _), bound), written) in cases.iter().zip(&bound).zip(&written) {
        assert_eq!(bound["rows"], written["rows"], "{condition} with {value}: {bound}");
        let rows = written["rows"][0][0].as_i64().expect("a number");
        assert!((1..VISITS).contains(&rows), "{condition} tells nothing: {rows} rows");
    }
    // Nothing of it comes here, so nothing can be done about it; whatever is no error any more wants its row in the guide taken out.
    for (query, why) in [
        (count("city IS NOT DISTINCT FROM ?") + "\tnull:", "invalid value type <nil>"),
        ("SELECT ?\tnull:".to_owned(), "invalid value type <nil>"),
        (count("id < ?") + "\tdouble:10.5", "invalid value type float64"),
        (count("event_time >= ?") + "\ttext:2024-06-03T00:00:00Z", "unknown builder type *array.TimestampBuilder"),
        ("SELECT CAST(? AS BYTEA)\tbytes:42".to_owned(), "unknown builder type *array.BinaryBuilder"),
    ] {
        let answer = &answers(std::slice::from_ref(&query))[0];
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(why)), "{query}: {answer}");
    }
}

fn without_null_fields(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(without_null_fields).collect(),
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name.clone(), without_null_fields(value))).collect())
        }
        other => other.clone(),
    }
}

/// The answers of the JDBC driver, far from UTC.
fn with_jdbc(flight: &str, queries: &[&str]) -> Vec<Answer> {
    let url = format!("{}/?useEncryption=false", flight.replace("grpc://", "jdbc:arrow-flight-sql://"));
    let mut program = java(&[&tool("jdbc")], "JdbcClient.java");
    let output = program.arg(url).args(queries).env("TZ", "America/New_York").output().expect("Java runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stdout)))
}

/// An array of objects; decimals are numbers in it.
fn check_json(name: &str, expected: &Answer, found: &Value) {
    let rows = found.as_array().expect("an array");
    assert_eq!(rows.len(), expected.rows.len(), "{name}: rows as JSON");
    for (row, expected_row) in rows.iter().zip(&expected.rows) {
        assert_eq!(row.as_object().map(|row| row.len()), Some(expected.columns.len()), "{name}: {row}");
        for (column, value) in expected.columns.iter().zip(expected_row) {
            let found = &row[column];
            let same_number =
                || value.as_str().and_then(|text| text.parse::<f64>().ok()).is_some_and(|number| found.as_f64() == Some(number));
            assert!(found == value || same_number(), "{name}: {column} is {found} as JSON and {value} elsewhere");
        }
    }
}

/// A header and a line for each row; NULL is nothing, an empty text is `""`.
fn check_csv(name: &str, expected: &Answer, found: &str) {
    let mut lines = csv_lines(found).into_iter();
    let head: Vec<_> = lines.next().expect("a header").into_iter().map(|cell| cell.expect("a name")).collect();
    assert_eq!(head, expected.columns, "{name}: the header");
    let lines: Vec<_> = lines.collect();
    assert_eq!(lines.len(), expected.rows.len(), "{name}: rows as CSV");
    for (line, row) in lines.iter().zip(&expected.rows) {
        for ((column, cell), value) in expected.columns.iter().zip(line).zip(row) {
            // Read as the other answers were, digit by digit.
            let number = || cell.as_ref().and_then(|text| serde_json::from_str::<f64>(text).ok());
            let same_number = || number().is_some_and(|number| value.as_f64() == Some(number));
            assert!(
                *cell == csv_text(value) || same_number() || same_json(cell.as_deref(), value),
                "{name}: {column} is {cell:?} as CSV and {value} elsewhere"
            );
        }
    }
}

/// How a value is written in CSV; `None` is NULL.
fn csv_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Whether a cell holds a list or a struct as JSON.
fn same_json(cell: Option<&str>, value: &Value) -> bool {
    fn same(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
            (Value::Object(a), Value::Object(b)) => a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b))),
            (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
            (a, b) => a == b,
        }
    }
    (value.is_array() || value.is_object()) && cell.and_then(|text| serde_json::from_str(text).ok()).is_some_and(|read| same(&read, value))
}

/// The cells of RFC 4180 text; one without quotes and characters is `None`.
fn csv_lines(text: &str) -> Vec<Vec<Option<String>>> {
    let (mut lines, mut line, mut cell, mut quoted) = (Vec::new(), Vec::new(), None::<String>, false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                cell.get_or_insert_default().push('"');
            }
            '"' => {
                quoted = !quoted;
                cell.get_or_insert_default();
            }
            ',' if !quoted => line.push(cell.take()),
            '\n' if !quoted => {
                line.push(cell.take());
                lines.push(std::mem::take(&mut line));
            }
            other => cell.get_or_insert_default().push(other),
        }
    }
    lines
}

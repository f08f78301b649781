//! A parameter means what its value means written into the text, or is refused: never another value. Over Flight SQL, with arrow-flight's client.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DurationMicrosecondArray, Float32Array, Float64Array,
    Int8Array, Int32Array, Int64Array, LargeStringArray, NullArray, RecordBatch, StringArray, StringViewArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use arrow::util::pretty::pretty_format_batches;
use arrow_flight::FlightInfo;
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use tonic::transport::{Channel, Endpoint};
use watershed_lake::{Commit, TableName, Warehouse};
use watershed_query::Session;
use watershed_query::flight::FlightServer;

/// 2024-06-01T00:00:00Z in microseconds, and as a day.
const JUNE_US: i64 = 1_717_200_000_000_000;
const JUNE_DAY: i32 = 19_875;
const ROWS: i64 = 12;

struct Asked {
    client: FlightSqlServiceClient<Channel>,
    _server: FlightServer,
}

impl Asked {
    /// A server over `s.t` with a column of each type, NULL in its last row.
    async fn new() -> Self {
        let but_last = |n: i64| (n < ROWS - 1).then_some(n);
        let rows = || (0..ROWS).map(but_last);
        let texts: StringArray = rows().map(|n| n.map(|n| if n == 3 { "k1".to_owned() } else { n.to_string() })).collect();
        let bytes: Vec<Option<&[u8]>> = rows().map(|n| n.map(|n| if n == 3 { b"\x00k1\xff".as_slice() } else { b"x" })).collect();
        let cents: Decimal128Array = rows().map(|n| n.map(|n| i128::from(n) * 250)).collect();
        let at: TimestampMicrosecondArray = rows().map(|n| n.map(|n| JUNE_US + n * 3_600_000_000 + n % 3)).collect();
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("n", Arc::new(Int64Array::from_iter(rows())) as ArrayRef, true),
            ("i", Arc::new(rows().map(|n| n.map(|n| n as i32 - 3)).collect::<Int32Array>()) as _, true),
            ("x", Arc::new(rows().map(|n| n.map(|n| n as f64 / 4.0)).collect::<Float64Array>()) as _, true),
            ("m", Arc::new(cents.with_precision_and_scale(12, 2).unwrap()) as _, true),
            ("s", Arc::new(texts) as _, true),
            ("d", Arc::new(rows().map(|n| n.map(|n| JUNE_DAY + n as i32)).collect::<Date32Array>()) as _, true),
            ("at", Arc::new(at.with_timezone("UTC")) as _, true),
            ("b", Arc::new(rows().map(|n| n.map(|n| n % 2 == 0)).collect::<BooleanArray>()) as _, true),
            ("raw", Arc::new(BinaryArray::from(bytes)) as _, true),
        ])
        .unwrap();
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        let name: TableName = "s.t".parse().unwrap();
        let table = warehouse.create_table(&name, batch.schema(), &[]).await.unwrap();
        let mut writer = table.writer("test");
        writer.write(batch).await.unwrap();
        let files = writer.finish().await.unwrap();
        let operation = "WRITE".to_owned();
        table.commit(Commit { app_id: "test/0".to_owned(), app_version: 1, previous_app_version: None, files, operation }).await.unwrap();
        let server = FlightServer::start(Session::new(warehouse).unwrap(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address())).unwrap();
        Self { client: FlightSqlServiceClient::new(endpoint.connect().await.unwrap()), _server: server }
    }

    async fn rows(&mut self, info: FlightInfo) -> Result<RecordBatch, FlightError> {
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let schema = Arc::new(info.try_decode_schema().unwrap());
        let batches: Vec<RecordBatch> = self.client.do_get(ticket).await?.try_collect().await?;
        Ok(concat_batches(&schema, &batches).unwrap())
    }

    async fn written(&mut self, sql: &str) -> Result<RecordBatch, FlightError> {
        let info = self.client.execute(sql.to_owned(), None).await?;
        self.rows(info).await
    }

    async fn bound(&mut self, sql: &str, values: &[ArrayRef]) -> Result<RecordBatch, FlightError> {
        let mut prepared = self.client.prepare(sql.to_owned(), None).await?;
        let columns = values.iter().enumerate().map(|(at, value)| (at.to_string(), Arc::clone(value), true));
        prepared.set_parameters(RecordBatch::try_from_iter_with_nullable(columns).unwrap())?;
        let info = prepared.execute().await?;
        let rows = self.rows(info).await;
        prepared.close().await?;
        rows
    }

    async fn announced(&mut self, sql: &str) -> Vec<DataType> {
        let prepared = self.client.prepare(sql.to_owned(), None).await.unwrap();
        prepared.parameter_schema().unwrap().fields().iter().map(|field| field.data_type().clone()).collect()
    }
}

fn number(rows: &RecordBatch) -> i64 {
    rows.column(0).as_any().downcast_ref::<arrow::array::PrimitiveArray<Int64Type>>().expect("a BIGINT").value(0)
}

fn one(value: impl Array + 'static) -> ArrayRef {
    Arc::new(value)
}

fn decimal(value: i128, precision: u8, scale: i8) -> ArrayRef {
    one(Decimal128Array::from(vec![value]).with_precision_and_scale(precision, scale).unwrap())
}

fn double(value: f64) -> ArrayRef {
    one(Float64Array::from(vec![value]))
}

fn text(value: &str) -> ArrayRef {
    one(StringArray::from(vec![value]))
}

fn instant(us: i64) -> ArrayRef {
    one(TimestampMicrosecondArray::from(vec![us]).with_timezone("UTC"))
}

#[tokio::test]
async fn a_value_that_is_wider_than_its_neighbour_keeps_its_value() {
    let mut asked = Asked::new().await;
    let clock = instant(JUNE_US + 58_200_000_000);
    for (sql, value, expected) in [
        ("SELECT count(*) FROM s.t WHERE n < ?", double(5.5), 6),
        ("SELECT count(*) FROM s.t WHERE n = ?", double(5.5), 0),
        ("SELECT count(*) FROM s.t WHERE n BETWEEN ? AND 8", double(5.5), 3),
        ("SELECT count(*) FROM s.t WHERE n IN (?, 1)", double(5.5), 1),
        ("SELECT count(*) FROM s.t WHERE n < ?", double(1e300), 11),
        ("SELECT count(*) FROM s.t WHERE m = ?", decimal(5_004, 4, 3), 0),
        ("SELECT count(*) FROM s.t WHERE m = ?", decimal(50, 3, 1), 1),
        ("SELECT count(*) FROM s.t WHERE m = ?", double(5.004), 0),
        ("SELECT count(*) FROM s.t WHERE m < ?", decimal(4, 3, 3), 1),
        ("SELECT count(*) FROM s.t WHERE n % 7 = ?", double(3.5), 0),
        ("SELECT count(*) FROM s.t WHERE CAST(at AS DATE) = ?", clock, 0),
        ("SELECT count(*) FROM s.t WHERE at >= ?", instant(JUNE_US + 3_600_000_001), 10),
        ("SELECT count(*) FROM s.t WHERE at >= ?", instant(JUNE_US + 3_600_000_002), 9),
        ("SELECT count(*) FROM s.t WHERE n * ? = 4.5", double(1.5), 1),
        ("SELECT count(*) FROM s.t WHERE n / ? = 2.5", double(4.0), 1),
        ("SELECT CAST(sum(n + ?) * 2 AS BIGINT) FROM s.t WHERE n < 3", double(0.5), 9),
        ("SELECT count(*) FROM s.t WHERE s = ?", text("k1"), 1),
        ("SELECT count(*) FROM s.t WHERE s LIKE ?", text("k%"), 1),
        ("SELECT count(*) FROM s.t WHERE upper(s) IN (?)", text("K1"), 1),
        ("SELECT count(*) FROM s.t WHERE raw = ?", one(BinaryArray::from(vec![b"\x00k1\xff".as_slice()])), 1),
        ("SELECT count(*) FROM (SELECT n FROM s.t LIMIT ?)", one(Int64Array::from(vec![4])), 4),
        ("SELECT count(*) FROM s.t WHERE n = ?", text("4"), 1),
        ("SELECT count(*) FROM s.t WHERE d = ?", text("2024-06-03"), 1),
    ] {
        let rows = asked.bound(sql, &[value]).await.unwrap_or_else(|why| panic!("{sql}: {why}"));
        assert_eq!(number(&rows), expected, "{sql}");
    }
}

#[tokio::test]
async fn what_cannot_be_taken_whole_is_refused() {
    let mut asked = Asked::new().await;
    for (sql, value, said) in [
        ("SELECT n FROM s.t LIMIT ?", double(1.9), "LIMIT"),
        ("SELECT n FROM s.t WHERE n > ?", text("10.5"), "parameter $1 cannot be used: '10.5' is not a BIGINT"),
        ("SELECT n FROM s.t WHERE m = ?", text("5.004"), "'5.004' is not a DECIMAL(12, 2)"),
        ("SELECT n FROM s.t WHERE d = ?", text("2024-06-03 16:10:00"), "is not a DATE"),
        ("SELECT n FROM s.t WHERE at = ?", text("2024-06-01T00:00:00.0000001Z"), "microseconds"),
        ("SELECT n FROM s.t WHERE at = ?", one(TimestampNanosecondArray::from(vec![1])), "microseconds"),
        ("SELECT n FROM s.t WHERE at = ?", instant(i64::MAX), "year"),
    ] {
        let error = asked.bound(sql, &[value]).await.expect_err(sql).to_string();
        assert!(error.contains(said), "{sql}: {error}");
    }
}

#[tokio::test]
async fn null_of_any_type_is_null() {
    let mut asked = Asked::new().await;
    let typed =
        [DataType::Int64, DataType::Utf8, DataType::Date32, DataType::Timestamp(TimeUnit::Microsecond, None), DataType::Decimal128(4, 1)];
    let nulls = typed.iter().map(|kind| arrow::array::new_null_array(kind, 1)).chain([one(NullArray::new(1))]);
    for null in nulls {
        for column in ["n", "i", "x", "m", "s", "d", "at", "b", "raw"] {
            for (condition, expected) in [("= ?", 0), ("<> ?", 0), ("IS NOT DISTINCT FROM ?", 1), ("IN (?)", 0)] {
                let sql = format!("SELECT count(*) FROM s.t WHERE {column} {condition}");
                let rows = asked.bound(&sql, &[Arc::clone(&null)]).await;
                let rows = rows.unwrap_or_else(|why| panic!("{sql}, {}: {why}", null.data_type()));
                assert_eq!(number(&rows), expected, "{sql}, {}", null.data_type());
            }
        }
    }
}

#[tokio::test]
async fn what_is_announced_is_what_every_driver_can_write() {
    let mut asked = Asked::new().await;
    let ms = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    for (sql, expected) in [
        ("SELECT n FROM s.t WHERE s = ? AND s LIKE ? AND upper(s) = ? AND s IN (?)", vec![DataType::Utf8; 4]),
        ("SELECT n FROM s.t WHERE raw = ?", vec![DataType::Binary]),
        ("SELECT n FROM s.t WHERE at >= ? AND at < CAST(? AS TIMESTAMP)", vec![ms; 2]),
        ("SELECT n FROM s.t WHERE n = ? AND m = ? AND d = ? AND b = ?", {
            vec![DataType::Int64, DataType::Decimal128(12, 2), DataType::Date32, DataType::Boolean]
        }),
        ("SELECT n FROM s.t WHERE n = $1 OR m = $1", vec![DataType::Decimal128(22, 2)]),
        ("SELECT ?", vec![DataType::Utf8]),
    ] {
        assert_eq!(asked.announced(sql).await, expected, "{sql}");
    }
    // What the JDBC driver sends for an instant of milliseconds.
    let millis = one(TimestampMillisecondArray::from(vec![JUNE_US / 1_000 + 7_200_000]).with_timezone("UTC"));
    let rows = asked.bound("SELECT count(*) FROM s.t WHERE at >= ?", &[millis]).await.unwrap();
    assert_eq!(number(&rows), 9);
}

/// Values as they are written, and as clients bind them.
fn values() -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("NULL", one(NullArray::new(1))),
        ("5", one(Int64Array::from(vec![5]))),
        ("-3", one(Int8Array::from(vec![-3]))),
        ("0", one(Int32Array::from(vec![0]))),
        ("9223372036854775807", one(Int64Array::from(vec![i64::MAX]))),
        ("-9223372036854775808", one(Int64Array::from(vec![i64::MIN]))),
        ("18446744073709551615", one(UInt64Array::from(vec![u64::MAX]))),
        ("CAST('5.5' AS DOUBLE)", double(5.5)),
        ("CAST('-0.0' AS DOUBLE)", double(-0.0)),
        ("CAST('1e300' AS DOUBLE)", double(1e300)),
        ("CAST('NaN' AS DOUBLE)", double(f64::NAN)),
        ("CAST('-Infinity' AS DOUBLE)", double(f64::NEG_INFINITY)),
        ("CAST('0.1' AS FLOAT)", one(Float32Array::from(vec![0.1]))),
        ("CAST('5.004' AS DECIMAL(4, 3))", decimal(5_004, 4, 3)),
        ("CAST('-0.5' AS DECIMAL(1, 1))", decimal(-5, 1, 1)),
        ("CAST('12345678901234567890123456.75' AS DECIMAL(28, 2))", decimal(1_234_567_890_123_456_789_012_345_675, 28, 2)),
        ("'k1'", text("k1")),
        ("'it''s % $1 ?'", one(StringViewArray::from(vec!["it's % $1 ?"]))),
        ("''", one(LargeStringArray::from(vec![""]))),
        ("'5'", text("5")),
        ("'5.5'", text("5.5")),
        ("'2024-06-03'", text("2024-06-03")),
        ("true", one(BooleanArray::from(vec![true]))),
        ("X'006B31FF'", one(BinaryArray::from(vec![b"\x00k1\xff".as_slice()]))),
        ("DATE '2024-06-03'", one(Date32Array::from(vec![JUNE_DAY + 2]))),
        ("DATE '0099-01-01'", one(Date32Array::from(vec![-683_368]))),
        ("TIMESTAMP '2024-06-01 03:00:00'", instant(JUNE_US + 10_800_000_000)),
        ("TIMESTAMP '2024-06-01 01:00:00.000001'", one(TimestampMicrosecondArray::from(vec![JUNE_US + 3_600_000_001]))),
        ("TIMESTAMP '2024-06-01 02:00:00'", one(TimestampNanosecondArray::from(vec![(JUNE_US + 7_200_000_000) * 1_000]))),
        ("INTERVAL '2 hours'", one(DurationMicrosecondArray::from(vec![7_200_000_000]))),
    ]
}

/// Where a value may be written: `@` is the value, `#` the column.
const PLACES: [&str; 21] = [
    "SELECT count(*) FROM s.t WHERE # = @",
    "SELECT count(*) FROM s.t WHERE # < @",
    "SELECT count(*) FROM s.t WHERE @ >= #",
    "SELECT count(*) FROM s.t WHERE # <> @ OR # IS NULL",
    "SELECT count(*) FROM s.t WHERE (# IS DISTINCT FROM @)",
    "SELECT count(*) FROM s.t WHERE # IN (@, @)",
    "SELECT count(*) FROM s.t WHERE # NOT BETWEEN @ AND @",
    "SELECT # + @ AS v FROM s.t ORDER BY n",
    "SELECT # * @ AS v FROM s.t ORDER BY n",
    "SELECT # / @ AS v FROM s.t ORDER BY n",
    "SELECT # % @ AS v, @ - # AS w FROM s.t ORDER BY n",
    "SELECT coalesce(#, @) AS v FROM s.t ORDER BY n",
    "SELECT CASE WHEN n > 5 THEN # ELSE @ END AS v FROM s.t ORDER BY n",
    "SELECT # = @ AS v, @ AS w FROM s.t ORDER BY n",
    "SELECT concat(#, @) AS v FROM s.t ORDER BY n",
    "SELECT count(*) FROM s.t WHERE # LIKE @",
    "SELECT count(*) FROM s.t WHERE # = (SELECT @)",
    "SELECT # AS v, count(*) FROM s.t GROUP BY # HAVING max(#) >= @ ORDER BY 1",
    "SELECT # AS v FROM s.t WHERE n = 3 UNION ALL SELECT @",
    "SELECT count(*) FROM s.t a JOIN s.t b ON a.# = b.# AND a.# > @",
    "SELECT n FROM s.t ORDER BY n LIMIT @",
];

#[tokio::test]
async fn a_parameter_gives_the_answer_of_the_literal_or_an_error() {
    let mut asked = Asked::new().await;
    // Not every place says in which order its rows come.
    let shown = |rows: RecordBatch| {
        let table = pretty_format_batches(&[rows]).unwrap().to_string();
        let mut lines: Vec<String> = table.lines().map(str::to_owned).collect();
        lines.sort();
        lines.join("\n")
    };
    let values = values();
    let (mut tried, mut same, mut refused) = (0, 0, BTreeMap::<String, usize>::new());
    for (at_place, place) in PLACES.iter().enumerate() {
        for (at_column, column) in ["n", "i", "x", "m", "s", "d", "at", "b", "raw"].into_iter().enumerate() {
            for (at_value, (literal, value)) in values.iter().enumerate() {
                // A third of all, so that every two of place, column and value meet.
                if (at_place + at_column + at_value) % 3 > 0 {
                    continue;
                }
                tried += 1;
                let sql = place.replace('#', column);
                let written = asked.written(&sql.replace('@', literal)).await.map(shown);
                let bound = asked.bound(&sql.replace('@', "$1"), &[Arc::clone(value)]).await.map(shown);
                match (written, bound) {
                    (Ok(written), Ok(bound)) => {
                        assert_eq!(written, bound, "{sql} with {literal}");
                        same += 1;
                    }
                    (Err(why), Ok(bound)) => panic!("{sql} with {literal}: the literal fails ({why}), the parameter gives\n{bound}"),
                    (Ok(_), Err(why)) => {
                        *refused.entry(format!("{place} | {column} | {literal}: {why}")).or_default() += 1;
                    }
                    (Err(_), Err(_)) => {}
                }
            }
        }
    }
    assert!(same * 3 > tried, "{same} of {tried} have an answer");
    // A value of a type that its place does not lead to expect, such as an interval, cannot be prepared.
    assert!(refused.len() * 10 < tried, "{} of {tried} refused: {refused:#?}", refused.len());
}

/// Places where DataFusion plans values only.
#[tokio::test]
async fn statements_that_can_be_planned_with_values_only_are_prepared_all_the_same() {
    let mut asked = Asked::new().await;
    let whole = |n: i64| one(Int64Array::from(vec![n]));
    let two = |a: &str, b: &str| vec![text(a), text(b)];
    let list = one(arrow::array::ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), Some(2), Some(3)])]));
    for (sql, values, expected) in [
        ("SELECT length(? || ?)", two("ab", "c"), 3),
        ("SELECT count(*) FROM s.t WHERE date_part('hour', at AT TIME ZONE ?) = 5", vec![text("Europe/Berlin")], 1),
        (
            "SELECT count(*) FROM s.t WHERE at + ? > TIMESTAMP '2024-06-01 12:00:00'",
            vec![one(DurationMicrosecondArray::from(vec![10_800_000_000]))],
            1,
        ),
        ("SELECT sum(value) FROM generate_series(1, ?)", vec![whole(4)], 10),
        ("SELECT sum(value) FROM generate_series($2, $1)", vec![whole(4), whole(3)], 7),
        ("SELECT sum(v) FROM (SELECT unnest(?) AS v)", vec![list], 6),
    ] {
        let rows = asked.bound(sql, &values).await.unwrap_or_else(|why| panic!("{sql}: {why}"));
        let found = arrow::compute::cast(rows.column(0), &DataType::Int64).unwrap();
        assert_eq!(found.as_any().downcast_ref::<Int64Array>().unwrap().value(0), expected, "{sql}");
    }
    let error = asked.client.prepare("SELECT nothing FROM s.t WHERE n + ? > 1".to_owned(), None).await.expect_err("no such column");
    assert!(error.to_string().contains("'nothing' does not exist"), "{error}");
}

/// A driver that hears "unimplemented" takes the server for one that prepares nothing, and says something else.
#[tokio::test]
async fn what_cannot_be_prepared_or_run_many_times_says_why() {
    let mut asked = Asked::new().await;
    let refused = asked.client.prepare("DELETE FROM s.t WHERE n = ?".to_owned(), None).await.expect_err("it writes").to_string();
    assert!(refused.contains("written by their pipelines") && refused.contains("argument"), "{refused}");
    let mut prepared = asked.client.prepare("SELECT count(*) FROM s.t WHERE n = ?".to_owned(), None).await.unwrap();
    prepared.set_parameters(RecordBatch::try_from_iter([("0", one(Int64Array::from(vec![1, 2])))]).unwrap()).unwrap();
    let many = prepared.execute_update().await.expect_err("rows of values").to_string();
    assert!(many.contains("once for each row"), "{many}");
}

//! The decoder against serde_json on random rows, and against a table of bad ones.

mod event_times;
mod guide;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, TimeUnit, TimestampMicrosecondType};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use watershed_dialect::definition::{
    Connector, Format, Metadata, OnError, OnGap, SourceColumn, SourceDefinition, Start, Tombstones, WatermarkDefinition,
};

use super::JsonDecode;
use crate::error::IngestError;
use crate::source::{Decode, Decoded, RawBatch};

const APPEND_MS: i64 = 1_700_000_000_000;

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

pub(super) fn column(name: &str, data_type: DataType, nullable: bool) -> SourceColumn {
    let field = Arc::new(Field::new(name, data_type, nullable));
    SourceColumn { field, metadata: None, epoch: None, path: Vec::new(), json: Vec::new() }
}

pub(super) fn metadata(name: &str, data_type: DataType, metadata: Metadata) -> SourceColumn {
    SourceColumn { metadata: Some(metadata), ..column(name, data_type, true) }
}

fn definition(columns: Vec<SourceColumn>) -> SourceDefinition {
    let event_time = columns.iter().any(|column| column.field.name() == "event_time");
    SourceDefinition {
        name: "events".into(),
        columns,
        watermark: event_time.then(|| WatermarkDefinition { column: "event_time".into(), delay_us: 0 }),
        connector: Connector::Kafka { topic: "events-topic".into(), properties: BTreeMap::new() },
        format: Format::Json,
        start: Start::Earliest,
        on_error: OnError::Quarantine,
        tombstones: Tombstones::Error,
        on_gap: OnGap::Fail,
        max_skew: Duration::from_secs(3600),
        idle_timeout: Duration::from_secs(10),
    }
}

fn raw<T: AsRef<[u8]>>(values: &[T]) -> RawBatch {
    let mut raw = RawBatch::new(3);
    for (index, value) in values.iter().enumerate() {
        raw.push(100 + index as i64, APPEND_MS, Some(b"key"), Some(value.as_ref()));
    }
    raw
}

pub(super) fn decode_all<T: AsRef<[u8]>>(columns: Vec<SourceColumn>, values: &[T]) -> Decoded {
    let wanted: Vec<usize> = (0..columns.len()).collect();
    JsonDecode::new(&definition(columns), &wanted).unwrap().decode(&raw(values)).unwrap()
}

/// Decodes one value of one nullable column `v`: as arrow's own JSON writer shows it, or the reason.
fn decode_value(data_type: DataType, text: &str) -> Result<Value, String> {
    let decoded = decode_all(vec![column("v", data_type, true)], &[format!("{{\"v\":{text}}}")]);
    match decoded.quarantined {
        Some(bad) => Err(reasons(&bad)[0].clone()),
        None => Ok(to_json(&decoded.rows)[0].get("v").cloned().unwrap_or(Value::Null)),
    }
}

pub(super) fn reasons(quarantined: &RecordBatch) -> Vec<String> {
    let column = quarantined.column_by_name("reason").unwrap().as_string::<i32>();
    column.iter().map(|reason| reason.unwrap().to_string()).collect()
}

fn to_json(batch: &RecordBatch) -> Vec<Map<String, Value>> {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    let written = writer.into_inner();
    serde_json::Deserializer::from_slice(&written).into_iter().map(Result::unwrap).collect()
}

fn list_of(data_type: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", data_type, true)))
}

fn world() -> Vec<SourceColumn> {
    let inner: Vec<FieldRef> =
        vec![Arc::new(Field::new("x", DataType::Int64, true)), Arc::new(Field::new("y", list_of(DataType::Utf8), true))];
    vec![
        column("id", DataType::Int64, false),
        column("small", DataType::Int16, true),
        column("real", DataType::Float64, true),
        column("flag", DataType::Boolean, true),
        column("text", DataType::Utf8, true),
        column("list", list_of(DataType::Int32), true),
        column("inner", DataType::Struct(inner.into()), true),
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|value| if value.is_finite() { json!(value) } else { json!(0) }),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// An optional member: there, `null`, or missing.
fn member<V: Into<Value>>(values: impl Strategy<Value = V>) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![4 => values.prop_map(|value| Some(value.into())), 1 => Just(Some(Value::Null)), 1 => Just(None)]
}

fn any_row() -> impl Strategy<Value = Vec<(String, Value)>> {
    let list = prop::collection::vec(prop_oneof![any::<i32>().prop_map(Value::from), Just(Value::Null)], 0..5).prop_map(Value::from);
    let inner = (member(any::<i64>()), member(prop::collection::vec(any::<String>(), 0..3))).prop_map(|(x, y)| {
        let members = [("x", x), ("y", y)].into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
        Value::Object(members.collect())
    });
    // serde_json itself reads longer ones inexactly; those have a test of their own.
    let real = any::<i32>().prop_map(|eighths| f64::from(eighths) / 8.0);
    let known =
        (any::<i64>(), member(any::<i16>()), member(real), member(any::<bool>()), member(any::<String>()), member(list), member(inner));
    let extra = prop::collection::vec(("[a-z]{1,3}\\PC?", any_json()), 0..3);
    (known, extra)
        .prop_map(|((id, small, real, flag, text, list, inner), extra)| {
            let optional = [("small", small), ("real", real), ("flag", flag), ("text", text), ("list", list), ("inner", inner)].into_iter();
            let known = optional.filter_map(|(name, value)| Some((name.to_string(), value?)));
            let mut members: Vec<_> = known.chain([("id".to_string(), Value::from(id))]).collect();
            members.extend(extra.into_iter().filter(|(name, _)| name != "id" && name != "small"));
            members
        })
        .prop_shuffle()
}

/// Members as text, in this order, with or without white space.
fn write(members: &[(String, Value)], spaced: bool) -> String {
    let (open, colon, comma, close) = if spaced { (" {\n ", " : ", " ,\r\n\t", " }\n") } else { ("{", ":", ",", "}") };
    let members: Vec<_> = members.iter().map(|(name, value)| format!("{}{colon}{value}", Value::from(name.as_str()))).collect();
    format!("{open}{}{close}", members.join(comma))
}

/// What arrow's writer makes of a row: known columns only, no NULL members.
fn expected(members: &[(String, Value)]) -> Map<String, Value> {
    let mut row = Map::new();
    for (name, value) in members {
        let known = ["id", "small", "real", "flag", "text", "list", "inner"].contains(&name.as_str());
        match value {
            Value::Object(inner) if known => {
                let inner = inner.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone()));
                row.insert(name.clone(), Value::Object(inner.collect()));
            }
            value if known && !value.is_null() => {
                row.insert(name.clone(), value.clone());
            }
            _ => {}
        }
    }
    row
}

const BAD: [(&str, &str); 22] = [
    ("", "empty message"),
    ("  ", "empty message"),
    ("[1]", "expected a JSON object, found an array"),
    ("null", "expected a JSON object, found null"),
    ("{", "not JSON: ends after 1 bytes, expected a key in quotes"),
    ("{\"id\":1", "not JSON: ends after 7 bytes, expected ',' or '}'"),
    ("{\"id\":1}x", "not JSON at byte 8: expected the end of the message, found 'x'"),
    ("{\"id\":1,}", "not JSON at byte 8: expected a key in quotes, found '}'"),
    ("{\"id\" 1}", "not JSON at byte 6: expected ':', found '1'"),
    ("{id:1}", "not JSON at byte 1: expected a key in quotes, found 'i'"),
    ("{}", "column 'id': missing"),
    ("{\"id\":null}", "column 'id': null, yet it is NOT NULL"),
    ("{\"id\":\"x\"}", "column 'id': expected a number, found the string 'x'"),
    ("{\"id\":[]}", "column 'id': expected a whole number, found an array"),
    ("{\"id\":9223372036854775808}", "column 'id': 9223372036854775808 does not fit BIGINT"),
    ("{\"id\":1.5}", "column 'id': 1.5 does not fit a whole number"),
    ("{\"small\":1,\"id\":1,\"text\":\"abc}", "column 'text': not JSON: ends after 30 bytes, expected '\"'"),
    ("{\"id\":1,\"small\":32768}", "column 'small': 32768 does not fit SMALLINT"),
    ("{\"id\":1,\"list\":[1,2,true]}", "column 'list': expected a whole number, found a boolean"),
    ("{\"id\":1,\"inner\":{\"x\":1,\"y\":[\"a\",7]}}", "column 'inner.y': expected a string, found a number"),
    ("{\"id\":1,\"text\":\"\\ud800\"}", "column 'text': a \\u escape that is half of a surrogate pair"),
    ("{\"id\":1,\"other\":{\"a\":[1}}", "not JSON at byte 23: expected ']', found '}'"),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reads_what_serde_json_writes_and_bad_rows_touch_no_neighbour(
        rows in prop::collection::vec((any_row(), any::<bool>(), prop::option::weighted(0.3, 0..BAD.len())), 1..20)
    ) {
        let (mut values, mut good, mut bad) = (Vec::new(), Vec::new(), Vec::new());
        for (members, spaced, bad_before) in &rows {
            if let Some(index) = bad_before {
                values.push(BAD[*index].0.to_string());
                bad.push(BAD[*index].1.to_string());
            }
            values.push(write(members, *spaced));
            good.push(expected(members));
        }
        let decoded = decode_all(world(), &values);
        prop_assert_eq!(to_json(&decoded.rows), good);
        prop_assert_eq!(decoded.quarantined.map_or(Vec::new(), |bad| reasons(&bad)), bad);
    }

    #[test]
    fn no_bytes_make_it_panic(value in prop::collection::vec(any::<u8>(), 0..60), cut in 0..200_usize) {
        let whole = br#"{"id":1,"text":"a\u00e9\"b","list":[1,null],"inner":{"x":1,"y":["z"]},"real":1.5e3,"k":{"a":[{}]}}"#;
        let mut torn = whole[..cut.min(whole.len())].to_vec();
        torn.extend_from_slice(&value);
        let decoded = decode_all(world(), &[&torn[..], whole]);
        prop_assert!(decoded.rows.num_rows() >= 1);
        prop_assert_eq!(decoded.rows.num_rows() + decoded.quarantined.map_or(0, |bad| bad.num_rows()), 2);
    }

    #[test]
    fn doubles_are_the_nearest(real in any::<f64>().prop_filter("JSON has no such number", |real| real.is_finite())) {
        let decoded = decode_all(vec![column("v", DataType::Float64, true)], &[format!("{{\"v\":{real:e}}}"), format!("{{\"v\":{real}}}")]);
        let values = decoded.rows.column(0).as_primitive::<arrow::datatypes::Float64Type>().values().to_vec();
        prop_assert_eq!(values, [real, real]);
    }

    #[test]
    fn decimals_are_exact(unscaled in -99_999_999_i64..=99_999_999, zeros in 0..3_usize, quoted in any::<bool>()) {
        let text = format!("{}{}.{:04}{}", if unscaled < 0 { "-" } else { "" }, unscaled.abs() / 10_000, unscaled.abs() % 10_000, "0".repeat(zeros));
        let text = if quoted { format!("\"{text}\"") } else { text };
        let decoded = decode_all(vec![column("v", DataType::Decimal128(8, 4), true)], &[format!("{{\"v\":{text}}}")]);
        prop_assert_eq!(decoded.rows.column(0).as_primitive::<arrow::datatypes::Decimal128Type>().value(0), i128::from(unscaled));
    }
}

#[test]
fn each_bad_row_has_its_reason_and_coordinates() {
    let good = r#"{"id":7,"text":"t"}"#;
    for (text, reason) in BAD {
        let decoded = decode_all(world(), &[good, text, good]);
        let bad = decoded.quarantined.expect(text);
        assert_eq!(reasons(&bad), [reason], "{text}");
        assert_eq!(bad.schema(), crate::quarantine::schema());
        assert_eq!(bad.column_by_name("offset").unwrap().as_primitive::<Int64Type>().value(0), 101);
        assert_eq!(bad.column_by_name("value").unwrap().as_binary::<i32>().value(0), text.as_bytes());
        assert_eq!(bad.column_by_name("key").unwrap().as_binary::<i32>().value(0), b"key");
        assert_eq!(bad.column_by_name("append_time").unwrap().as_primitive::<TimestampMicrosecondType>().value(0), APPEND_MS * 1000);
        assert_eq!(to_json(&decoded.rows), vec![expected(&[("id".into(), json!(7)), ("text".into(), json!("t"))]); 2], "{text}");
    }
}

#[test]
fn tombstones_and_bytes_that_are_no_text_are_set_aside() {
    let mut raw = raw(&[&b"{\"id\":1,\"k\":\"\xff\"}"[..], b"{\"id\":2}"]);
    raw.push(102, -1, None, None);
    let mut decode = JsonDecode::new(&definition(world()), &[0]).unwrap();
    let decoded = decode.decode(&raw).unwrap();
    assert_eq!(decoded.rows.column(0).as_primitive::<Int64Type>().values(), &[2]);
    let bad = decoded.quarantined.unwrap();
    assert_eq!(reasons(&bad), ["not UTF-8 at byte 13", "no value (a tombstone; the source's option tombstones = 'skip' passes over them)"]);
    assert!(bad.column_by_name("value").unwrap().is_null(1));
    assert!(bad.column_by_name("append_time").unwrap().is_null(1));
}

#[test]
fn values_of_each_type() {
    let ok = |data_type: DataType, text: &str, expected: Value| assert_eq!(decode_value(data_type, text), Ok(expected), "{text}");
    let bad = |data_type: DataType, text: &str, reason: &str| {
        assert_eq!(decode_value(data_type, text), Err(format!("column 'v': {reason}")), "{text}");
    };
    ok(DataType::Int64, "\"-12\"", json!(-12));
    ok(DataType::Int64, "1e3", json!(1000));
    ok(DataType::Int64, "-9223372036854775808", json!(i64::MIN));
    ok(DataType::UInt64, "18446744073709551615", json!(u64::MAX));
    bad(DataType::Int64, "007", "not JSON at byte 6: expected no digit behind a leading zero, found '0'");
    bad(DataType::Int64, "1e99999999999999999999", "1e99999999999999999999 does not fit a whole number");
    bad(DataType::UInt8, "-1", "-1 does not fit TINYINT UNSIGNED");
    ok(DataType::Float64, "1e308", json!(1e308));
    ok(DataType::Float32, "\"0.1\"", json!(0.1));
    bad(DataType::Float64, "1e400", "1e400 does not fit DOUBLE");
    bad(DataType::Float32, "1e39", "1e39 does not fit FLOAT");
    bad(DataType::Boolean, "\"true\"", "expected true or false, found a string");
    bad(DataType::Utf8, "5", "expected a string, found a number");
    ok(DataType::Utf8, r#""\u00e9\ud83d\ude00\n\/\\""#, json!("é😀\n/\\"));
    bad(DataType::Utf8, r#""\q""#, "unknown escape '\\q' in a string");
    ok(DataType::Binary, "\"aGk=\"", json!("6869"));
    ok(DataType::Binary, "\"_-8\"", json!("ffef"));
    ok(DataType::Date32, "\"2024-02-29\"", json!("2024-02-29"));
    ok(DataType::Date32, "19782", json!("2024-02-29"));
    bad(DataType::Date32, "\"2023-02-29\"", "'2023-02-29' is not a date (YYYY-MM-DD)");
    ok(utc(), "\"2023-11-14 22:13:20\"", json!("2023-11-14T22:13:20Z"));
    ok(utc(), "1700000000123", json!("2023-11-14T22:13:20.123Z"));
    bad(utc(), "\"yesterday\"", "'yesterday' is not a timestamp (ISO-8601)");
    bad(DataType::Decimal128(10, 2), "1.005", "1.005 does not fit DECIMAL(10, 2)");
    bad(DataType::Decimal128(4, 2), "100", "100 does not fit DECIMAL(4, 2)");
    bad(DataType::Decimal128(4, 2), "\"1,5\"", "expected a number, found the string '1,5'");
    ok(list_of(list_of(DataType::Int32)), "[[1],[],null,[2,3]]", json!([[1], [], null, [2, 3]]));
}

#[test]
fn the_last_of_equal_keys_counts() {
    let rows = [r#"{"id":1,"text":"a","id":2,"list":[1],"list":[2,3]}"#, r#"{"id":3,"text":"b","text":null}"#];
    let decoded = decode_all(world(), &rows);
    assert_eq!(
        to_json(&decoded.rows),
        [json!({"id":2,"text":"a","list":[2,3]}), json!({"id":3})].map(|row| row.as_object().unwrap().clone())
    );
}

#[test]
fn columns_come_in_the_order_asked_for_with_their_coordinates() {
    let header = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)];
    let mut columns = world();
    columns.push(metadata("k", DataType::Utf8, Metadata::Key));
    columns.push(metadata("o", DataType::Int64, Metadata::Offset));
    columns.push(metadata("p", DataType::Int32, Metadata::Partition));
    columns.push(metadata("ts", utc(), Metadata::Timestamp));
    columns.push(metadata("topic", DataType::Utf8, Metadata::Topic));
    columns.push(metadata("h", list_of(DataType::Struct(header.into())), Metadata::Headers));
    let mut raw = raw(&[r#"{"id":1,"text":"a"}"#, "bad", r#"{"id":2,"text":"b"}"#]);
    raw.headers = vec![vec![("h1".into(), Some(b"x".to_vec())), ("h2".into(), None)], vec![], vec![]];
    let wanted = [8, 4, 0, 7, 9, 10, 11, 12];
    let decoded = JsonDecode::new(&definition(columns), &wanted).unwrap().decode(&raw).unwrap();
    let names: Vec<_> = decoded.rows.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["o", "text", "id", "k", "p", "ts", "topic", "h"]);
    let time = "2023-11-14T22:13:20Z";
    let first =
        json!({"o":100,"text":"a","id":1,"k":"key","p":3,"ts":time,"topic":"events-topic","h":[{"key":"h1","value":"78"},{"key":"h2"}]});
    let second = json!({"o":102,"text":"b","id":2,"k":"key","p":3,"ts":time,"topic":"events-topic","h":[]});
    assert_eq!(to_json(&decoded.rows), [first, second].map(|row| row.as_object().unwrap().clone()));
}

#[test]
fn large_and_deep_messages() {
    let text = "x".repeat(10 * 1024 * 1024);
    let decoded = decode_all(world(), &[format!("{{\"id\":1,\"text\":\"{text}\"}}"), "{\"id\":2}".into()]);
    assert_eq!(decoded.rows.column(4).as_string::<i32>().value(0).len(), text.len());
    let nested = |depth: usize| format!("{{\"id\":1,\"k\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let decoded = decode_all(world(), &[nested(127), nested(128), nested(1_000_000)]);
    assert_eq!(decoded.rows.num_rows(), 1);
    assert_eq!(reasons(&decoded.quarantined.unwrap()), ["nested deeper than 128", "nested deeper than 128"]);
}

#[test]
fn a_type_that_json_cannot_fill_is_named() {
    let inner: Vec<FieldRef> = vec![Arc::new(Field::new("when", DataType::Time64(TimeUnit::Nanosecond), true))];
    let error = JsonDecode::new(&definition(vec![column("s", DataType::Struct(inner.into()), true)]), &[0]).unwrap_err();
    assert!(matches!(&error, IngestError::UnsupportedType { column, .. } if column == "s.when"), "{error}");
    let error = JsonDecode::new(&definition(vec![column("event_time", DataType::Utf8, true)]), &[0]).unwrap_err();
    assert!(matches!(error, IngestError::Definition { .. }), "{error}");
}

/// The decoded values of integer columns, row by row.
fn numbers(columns: &[&str], values: &[&str]) -> Vec<Vec<Option<i64>>> {
    let decoded = decode_all(columns.iter().map(|name| column(name, DataType::Int64, true)).collect(), values);
    assert!(decoded.quarantined.is_none(), "{:?}", decoded.quarantined);
    let of = |row: usize| decoded.rows.columns().iter().map(move |c| c.is_valid(row).then(|| c.as_primitive::<Int64Type>().value(row)));
    (0..decoded.rows.num_rows()).map(|row| of(row).collect()).collect()
}

#[test]
fn a_key_of_another_case_fills_a_column_unless_the_exact_one_is_there() {
    let rows = [r#"{"DeviceId":1}"#, r#"{"DeviceId":2}"#, r#"{"deviceid":3}"#, r#"{"DEVICEID":4}"#, r#"{"other":5}"#];
    assert_eq!(numbers(&["deviceid"], &rows), [[Some(1)], [Some(2)], [Some(3)], [Some(4)], [None]]);
    // The exact one wins wherever it is, also over one that comes again after it; of two others the last.
    let both = [
        r#"{"DeviceId":1,"deviceid":2}"#,
        r#"{"deviceid":2,"DeviceId":1}"#,
        r#"{"DeviceId":1,"deviceid":2,"DEVICEID":3}"#,
        r#"{"deviceid":null,"DeviceId":1}"#,
        r#"{"DeviceId":1,"DEVICEID":2}"#,
        r#"{"DeviceId":"x","deviceid":2}"#,
    ];
    for repeat in 0..2 {
        let again: Vec<&str> = both.iter().chain(&both[..repeat * 4]).copied().collect();
        let expected = [Some(2), Some(2), Some(2), None, Some(2), Some(2)];
        let expected: Vec<Vec<_>> = expected.iter().chain(&expected[..repeat * 4]).map(|value| vec![*value]).collect();
        assert_eq!(numbers(&["deviceid"], &again), expected);
    }
    let abroad = [r#"{"größe":1,"É":2}"#, r#"{"GRÖSSE":3,"é":4}"#, "{\"grÖsse\":5,\"\\u00c9\":6}"];
    assert_eq!(numbers(&["grÖsse", "é"], &abroad), [[Some(1), Some(2)], [Some(3), Some(4)], [Some(5), Some(6)]]);
    // Two columns that differ in case: each its own; what is neither goes to the first.
    assert_eq!(numbers(&["Id", "id"], &[r#"{"id":1,"Id":2}"#, r#"{"ID":3}"#]), [[Some(2), Some(1)], [Some(3), None]]);
}

#[test]
fn reasons_name_what_is_meant() {
    let reason = |text: &[u8]| {
        let decoded = decode_all(vec![column("device_id", DataType::Int64, false), column("x", DataType::Float64, true)], &[text]);
        reasons(&decoded.quarantined.unwrap())[0].clone()
    };
    assert_eq!(reason(br#"{"deviceId":1}"#), "column 'device_id': missing; is it the key 'deviceId' of the message?");
    assert_eq!(reason(br#"{"city":1}"#), "column 'device_id': missing");
    assert!(reason(b"\0\0\0\x01\xf4{\"device_id\":1}").starts_with("the message begins with byte 00 and schema 500 of a Schema Registry"));
    assert!(reason(br#"{"device_id":1,"x":NaN}"#).starts_with("column 'x': expected a number, found NaN, which JSON does not have"));
    assert!(reason(br#"{"device_id":1,"y":NaN}"#).contains("expected a value, found NaN, which JSON does not have"));
    assert!(reason(br#"{"device_id":1,"y":Infinity}"#).contains("found Infinity, which JSON does not have"));
    assert_eq!(numbers(&["device_id"], &["\u{feff}{\"device_id\":1}"]), [[Some(1)]], "a byte order mark is no part of the object");
}

/// Damages good messages in every way a byte can be damaged: the decoder gives a row or a reason, and no neighbour is touched.
#[test]
fn hostile_bytes_are_rows_or_reasons() {
    let nested = format!("{{\"id\":1,\"inner\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let objects = format!("{{\"id\":1,\"inner\":{}1{}}}", "{\"x\":".repeat(10_000), "}".repeat(10_000));
    let digits = format!("{{\"id\":{}}}", "9".repeat(100_000));
    let exponent = r#"{"id":1e999999999999999999999,"real":1e-999999999999}"#.to_string();
    let surrogate = r#"{"id":1,"text":"\ud800","flag":true}"#.to_string();
    let good = r#"{"id":7,"small":-3,"real":1.5e3,"flag":true,"text":"a\u00e9\n","list":[1,null,3],"inner":{"x":1,"y":["z"]}}"#;
    let mut messages: Vec<Vec<u8>> = [nested, objects, digits, exponent, surrogate].into_iter().map(String::into_bytes).collect();
    for at in 0..good.len() {
        messages.push(good.as_bytes()[..at].to_vec());
        for byte in [0, b'"', b'\\', b'{', b'}', b'[', b']', b',', b':', b'-', b'e', b'9', 0x80, 0xc3, 0xff] {
            let mut changed = good.as_bytes().to_vec();
            changed[at] = byte;
            messages.push(changed.clone());
            changed.insert(at, byte);
            messages.push(changed);
        }
    }
    let before = messages.len();
    messages.push(good.as_bytes().to_vec());
    let decoded = decode_all(world(), &messages);
    let refused = decoded.quarantined.as_ref().map_or(0, RecordBatch::num_rows);
    assert_eq!(decoded.rows.num_rows() + refused, messages.len());
    assert!(refused > 100 && decoded.rows.num_rows() > 100, "{refused} of {}", messages.len());
    let alone = decode_all(world(), &[good]);
    assert_eq!(decoded.rows.slice(decoded.rows.num_rows() - 1, 1), alone.rows, "the row behind {before} damaged ones");
}

#[test]
fn numbers_of_a_timestamp_count_what_epoch_says() {
    use watershed_dialect::Epoch;
    let decode = |name: &str, epoch, value: &str| {
        let columns = vec![SourceColumn { epoch, ..column(name, utc(), true) }];
        let decoded = decode_all(columns, &[format!("{{\"{name}\":{value}}}")]);
        match decoded.quarantined {
            Some(bad) => Err(reasons(&bad)[0].clone()),
            None => Ok(decoded.rows.column(0).as_primitive::<TimestampMicrosecondType>().value(0)),
        }
    };
    let us = 1_700_000_000_123_456;
    for (epoch, value) in [
        (Epoch::Seconds, "1700000000.123456"),
        (Epoch::Seconds, "\"1700000000.123456789\""),
        (Epoch::Milliseconds, "1700000000123.456"),
        (Epoch::Microseconds, "1700000000123456"),
        (Epoch::Nanoseconds, "1700000000123456789"),
        (Epoch::Nanoseconds, "\"2023-11-14T22:13:20.123456Z\""),
    ] {
        assert_eq!(decode("t", Some(epoch), value), Ok(us), "{epoch:?} {value}");
    }
    assert_eq!(decode("t", Some(Epoch::Seconds), "-0.5"), Ok(-500_000));
    assert!(decode("t", Some(Epoch::Seconds), "99999999999999999999").is_err());
    assert!(decode("t", Some(Epoch::Seconds), "\"12x\"").is_err());
    // Not said: milliseconds. Of event times what evidently is something else is refused with the way out.
    assert_eq!(decode("t", None, "1700000000"), Ok(1_700_000_000_000));
    let reason = decode("event_time", None, "1700000000").unwrap_err();
    assert!(reason.contains("evidently counts seconds: declare the column as TIMESTAMP EPOCH 'seconds'"), "{reason}");
    let reason = decode("event_time", None, "1700000000000000").unwrap_err();
    assert!(reason.contains("EPOCH 'microseconds'"), "{reason}");
    let reason = decode("event_time", None, "1700000000000000000").unwrap_err();
    assert!(reason.contains("EPOCH 'nanoseconds'"), "{reason}");
    // Of other times what would be in no year that people write.
    for (number, unit) in [("1700000000000000", "microseconds"), ("1700000000000000000", "nanoseconds")] {
        let reason = decode("t", None, number).unwrap_err();
        assert!(reason.contains(&format!("TIMESTAMP EPOCH '{unit}'")), "{reason}");
    }
    assert_eq!(decode("t", None, "253402300799999"), Ok(253_402_300_799_999_000));
    for (epoch, number) in [(None, "-62135596800001"), (Some(Epoch::Seconds), "1700000000000"), (Some(Epoch::Seconds), "253402300800")] {
        let reason = decode("t", epoch, number).unwrap_err();
        assert!(reason.contains("not in the years 1 to 9999"), "{reason}");
    }
    assert_eq!(decode("event_time", Some(Epoch::Milliseconds), "1700000000"), Ok(1_700_000_000_000));
    assert_eq!(decode("event_time", Some(Epoch::Seconds), "1700000000"), Ok(1_700_000_000_000_000));
}

/// `event_time AS p.at`, beside `p` itself or without it.
#[test]
fn a_field_of_an_object_can_be_the_event_time() {
    use watershed_dialect::Epoch;
    let inner: Vec<FieldRef> = vec![Arc::new(Field::new("id", DataType::Int64, true)), Arc::new(Field::new("at", utc(), true))];
    let within = |epoch| SourceColumn { path: vec!["p".into(), "at".into()], epoch, ..column("event_time", utc(), true) };
    let columns =
        |epoch| vec![column("n", DataType::Int64, true), column("p", DataType::Struct(inner.clone().into()), true), within(epoch)];
    let messages = [
        r#"{"n":1,"p":{"id":7,"at":"2023-11-14T22:13:20Z"}}"#,
        r#"{"n":2,"p":null}"#,
        r#"{"n":3,"p":{"id":8}}"#,
        r#"{"n":4}"#,
        r#"{"n":5,"p":{"id":9,"at":1700000000}}"#,
        r#"{"n":6,"p":{"id":9,"at":"2033-11-14T22:13:20Z"}}"#,
        r#"{"n":7,"p":{"at":1700000000000}}"#,
    ];
    let of = |columns, wanted: &[usize]| JsonDecode::new(&definition(columns), wanted).unwrap().decode(&raw(&messages)).unwrap();
    let times =
        |rows: &RecordBatch| rows.column_by_name("event_time").unwrap().as_primitive::<TimestampMicrosecondType>().values().to_vec();
    let all = of(columns(None), &[0, 1, 2]);
    assert_eq!(times(&all.rows), [1_700_000_000_000_000; 2]);
    assert_eq!(all.rows.column(1).as_struct().column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(7), None]);
    let reasons = reasons(&all.quarantined.unwrap());
    assert_eq!(&reasons[..3], ["column 'at': NULL, yet it is the event time"; 3]);
    assert!(reasons[3].contains("evidently counts seconds") && reasons[3].contains("p.at"), "{}", reasons[3]);
    assert!(reasons[4].contains("s ahead of the Kafka timestamp"), "{}", reasons[4]);
    // Nobody wants the object itself; the field is the event time all the same.
    let alone = of(columns(None), &[2]);
    assert_eq!((alone.rows.num_columns(), times(&alone.rows)), (1, times(&all.rows)));
    assert_eq!(of(columns(None), &[0]).rows.num_rows(), 2);
    let seconds = of(columns(Some(Epoch::Seconds)), &[2]);
    assert_eq!(times(&seconds.rows), [1_700_000_000_000_000; 2], "the text and the seconds; milliseconds are too far ahead");
}

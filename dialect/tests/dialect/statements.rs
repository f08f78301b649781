//! What statements may say.

use std::collections::BTreeMap;
use std::time::Duration;

use datafusion::arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use watershed_dialect::{
    ClientSetting, Connector, Format, LateRows, MaterializedViewDefinition, Metadata, OnError, OnViolation, Schedule, Start, StatementKind,
    StreamingTableDefinition, Tombstones, WatermarkDefinition, clear_secret, parse,
};

use crate::shared::source;

fn streaming_table(text: &str) -> StreamingTableDefinition {
    match parse(text).unwrap().remove(0).kind {
        StatementKind::CreateStreamingTable(table) => table,
        other => panic!("not a streaming table: {other:?}"),
    }
}

#[test]
fn a_source_in_full() {
    let source = source(
        "create source Ride_Events (
            event_id    VARCHAR(36) NOT NULL, -- an id
            event_time  TIMESTAMP(6) WITH TIME ZONE NOT NULL,
            fare        DECIMAL(10, 2),
            \"Pickup\"  STRUCT<lat DOUBLE, lon: DOUBLE PRECISION NOT NULL, at STRUCT<cells LIST<BIGINT>>>,
            tags        VARCHAR[],
            kafka_key   VARCHAR METADATA FROM 'key',
            offset      BIGINT NOT NULL METADATA,
            headers     LIST<STRUCT<key VARCHAR, value BINARY>> METADATA FROM 'headers',
            lon AS \"Pickup\".lon,
            WATERMARK FOR event_time AS event_time - INTERVAL '1' MINUTE
        ) WITH (
            connector = 'kafka', topic = 'ride-events', format = 'json', on_error = 'fail', max_skew = '2 hours', idle_timeout = INTERVAL '30 s',
            'kafka.security.protocol' = 'SASL_SSL', kafka.client.id = 'me')",
    );
    assert_eq!(source.name, "ride_events");
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let cells = DataType::Struct(Fields::from(vec![Field::new(
        "cells",
        DataType::List(Field::new_list_field(DataType::Int64, true).into()),
        true,
    )]));
    let pickup = DataType::Struct(Fields::from(vec![
        Field::new("lat", DataType::Float64, true),
        Field::new("lon", DataType::Float64, false),
        Field::new("at", cells, true),
    ]));
    let columns: Vec<_> =
        source.columns.iter().map(|c| (c.field.name().as_str(), c.field.data_type().clone(), c.field.is_nullable(), c.metadata)).collect();
    assert_eq!(columns[0], ("event_id", DataType::Utf8, false, None));
    assert_eq!(columns[1], ("event_time", utc, false, None));
    assert_eq!(columns[2], ("fare", DataType::Decimal128(10, 2), true, None));
    assert_eq!(columns[3], ("Pickup", pickup, true, None));
    assert_eq!(columns[4], ("tags", DataType::List(Field::new_list_field(DataType::Utf8, true).into()), true, None));
    assert_eq!(columns[5], ("kafka_key", DataType::Utf8, true, Some(Metadata::Key)));
    assert_eq!(columns[6], ("offset", DataType::Int64, false, Some(Metadata::Offset)));
    assert_eq!((columns[7].0, columns[7].3), ("headers", Some(Metadata::Headers)));
    assert_eq!(
        (columns[8].clone(), &source.columns[8].path[..]),
        (("lon", DataType::Float64, true, None), &["Pickup".to_owned(), "lon".to_owned()][..])
    );
    assert_eq!(source.watermark, Some(WatermarkDefinition { column: "event_time".into(), delay_us: 60_000_000 }));
    let Connector::Kafka { topic, properties } = &source.connector else { panic!("{source:?}") };
    assert_eq!(topic, "ride-events");
    assert_eq!(settings(properties), ["client.id=me", "security.protocol=SASL_SSL"]);
    assert_eq!((source.format, source.on_error), (Format::Json, OnError::Fail));
    assert_eq!((source.max_skew, source.idle_timeout), (Duration::from_secs(7200), Duration::from_secs(30)));
}

#[test]
fn a_source_with_defaults() {
    let source = source("CREATE SOURCE s (a INT, watermark BIGINT) WITH (topic = 't')");
    assert_eq!((source.on_error, source.watermark, source.columns.len()), (OnError::Quarantine, None, 2));
    assert_eq!((source.max_skew, source.idle_timeout), (Duration::from_secs(86400), Duration::from_secs(10)));
    assert_eq!((source.start, source.tombstones), (Start::Earliest, Tombstones::Error));
}

#[test]
fn a_source_says_where_its_pipelines_begin() {
    let start = |text: &str| source(&format!("CREATE SOURCE s (a INT) WITH (topic = 't', start = '{text}')")).start;
    assert_eq!([start("earliest"), start("LATEST")], [Start::Earliest, Start::Latest]);
    let second = Start::At { ms: 1_767_225_600_000 };
    for text in ["2026-01-01T00:00:00Z", "2026-01-01", "2026-01-01 00:00:00", "2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00.0004Z"] {
        assert_eq!(start(text), second, "{text}");
    }
    assert_eq!(start("2026-01-01T00:00:00.25Z"), Start::At { ms: 1_767_225_600_250 });
}

#[test]
fn a_source_of_files() {
    let of = |options: &str| {
        let source =
            source(&format!("CREATE SOURCE s (a INT, f VARCHAR METADATA FROM 'file', r BIGINT METADATA FROM 'row') WITH ({options})"));
        (source.connector, source.format)
    };
    let files = |path: &str, suffix: &str, seconds| Connector::Files {
        path: path.into(),
        suffix: suffix.into(),
        poll_interval: Duration::from_secs(seconds),
    };
    let csv = Format::Csv { delimiter: b',', header: true };
    assert_eq!(of("connector = 'files', path = '/in', format = 'csv'"), (files("/in", ".csv", 5), csv));
    let semicolons = Format::Csv { delimiter: b';', header: false };
    let options = "connector = 'files', path = 's3://b/in', format = 'csv', delimiter = ';', header = false, suffix = '.txt', poll_interval = '1 minute'";
    assert_eq!(of(options), (files("s3://b/in", ".txt", 60), semicolons));
    assert_eq!(of("connector = 'files', path = 'in', format = 'json'"), (files("in", ".json", 5), Format::Json));
    assert_eq!(of("connector = 'files', path = 'in', format = 'parquet'"), (files("in", ".parquet", 5), Format::Parquet));

    let refused = |text: &str| parse(text).unwrap_err().to_string();
    assert!(refused("CREATE SOURCE s (a INT) WITH (connector = 'files', format = 'csv')").contains("names no folder"));
    assert!(refused("CREATE SOURCE s (a INT) WITH (connector = 'files', path = 'x')").contains("how its files are written"));
    assert!(
        refused("CREATE SOURCE s (a INT) WITH (connector = 'files', path = 'x', format = 'csv', delimiter = ',,')").contains("delimiter")
    );
    assert!(refused("CREATE SOURCE s (a INT) WITH (connector = 'files', path = 'x', format = 'json', header = true)").contains("'header'"));
    assert!(
        refused("CREATE SOURCE s (a VARCHAR METADATA FROM 'key') WITH (connector = 'files', path = 'x', format = 'csv')").contains("Kafka")
    );
    assert!(refused("CREATE SOURCE s (a BIGINT METADATA FROM 'row') WITH (topic = 't')").contains("only a file has"));
}

#[test]
fn a_streaming_table_keeps_its_query_as_written() {
    let text = "\n-- demand\n  CREATE STREAMING TABLE Silver.City_Demand PARTITIONED BY (day, City)\nWITH (commit_interval = '500 ms', late_rows = 'drop')\n  AS SELECT  a, -- kept\n 'ä;b' AS b FROM t$late ;\nSELECT 1";
    let statements = parse(text).unwrap();
    let [first, second] = statements.as_slice() else { panic!("{statements:?}") };
    let StatementKind::CreateStreamingTable(table) = &first.kind else { panic!("{first:?}") };
    assert_eq!((table.schema.as_str(), table.table.as_str()), ("silver", "city_demand"));
    assert_eq!(table.partitioned_by, ["day", "city"]);
    assert_eq!((table.commit_interval, table.late_rows), (Duration::from_millis(500), LateRows::Drop));
    assert_eq!(table.query, "SELECT  a, -- kept\n 'ä;b' AS b FROM t$late");
    assert!(first.text.starts_with("CREATE STREAMING") && first.text.ends_with("t$late"), "{}", first.text);
    assert_eq!((first.line, first.column, first.query_line, first.query_column), (3, 3, 5, 6));
    assert_eq!((second.line, second.column, second.text.as_str()), (7, 1, "SELECT 1"));
}

#[test]
fn a_streaming_table_with_defaults() {
    let table = streaming_table("CREATE STREAMING TABLE a.b AS WITH x AS (SELECT 1 AS n) SELECT n FROM x");
    assert_eq!((table.commit_interval, table.late_rows), (Duration::from_secs(5), LateRows::Divert));
    assert!(table.partitioned_by.is_empty());
    assert!(table.query.starts_with("WITH x"));
}

#[test]
fn constraints_of_a_streaming_table() {
    let table = streaming_table(
        "CREATE STREAMING TABLE a.b (
            CONSTRAINT known EXPECT (city IS NOT NULL),
            constraint Fair expect (fare >= 0 AND (tip < fare)) on violation drop row,
            CONSTRAINT c3 EXPECT ( x ) ON VIOLATION QUARANTINE, CONSTRAINT c4 EXPECT (x) ON VIOLATION FAIL UPDATE
        ) PARTITIONED BY (city) AS SELECT city FROM s",
    );
    let said: Vec<_> = table.expectations.iter().map(|e| (e.name.as_str(), e.predicate.as_str(), e.action)).collect();
    let expected = [
        ("known", "city IS NOT NULL", OnViolation::Warn),
        ("fair", "fare >= 0 AND (tip < fare)", OnViolation::DropRow),
        ("c3", "x", OnViolation::Quarantine),
        ("c4", "x", OnViolation::Fail),
    ];
    assert_eq!(said, expected);
    assert_eq!((table.expectations[0].line, table.expectations[0].column), (2, 38));
    assert_eq!(table.partitioned_by, ["city"]);
}

fn settings(settings: &BTreeMap<String, ClientSetting>) -> Vec<String> {
    let shown = |(name, setting): (&String, &ClientSetting)| match setting {
        ClientSetting::Text(text) => format!("{name}={text}"),
        ClientSetting::Secret(secret) => format!("{name}={secret}"),
    };
    settings.iter().map(shown).collect()
}

#[test]
fn client_settings_may_be_looked_up_where_the_pipeline_runs() {
    let text = "CREATE SOURCE s (c INT) WITH (topic = 't', kafka.sasl.password = secret('KAFKA_PASSWORD'),
                'kafka.ssl.key.pem' = SECRET_FILE('/run/key.pem'), kafka.sasl.username = 'me')";
    let StatementKind::CreateSource(source) = parse(text).unwrap().remove(0).kind else { panic!("{text}") };
    let Connector::Kafka { properties, .. } = &source.connector else { panic!("{source:?}") };
    let expected = ["sasl.password=secret('KAFKA_PASSWORD')", "sasl.username=me", "ssl.key.pem=secret_file('/run/key.pem')"];
    assert_eq!(settings(properties), expected);
    assert_eq!(clear_secret(properties), None);
}

#[test]
fn a_sink_in_full() {
    let text = "CREATE SINK scores TO KAFKA (topic = 'fraud-scores', format = 'json', key = 'payment_id', id = 'score_id', partitions = 3,
                'kafka.bootstrap.servers' = 'other:9092') AS SELECT * FROM STREAM(Gold.fraud_scores) WHERE score > 50";
    let StatementKind::CreateSink(sink) = parse(text).unwrap().remove(0).kind else { panic!("{text}") };
    assert_eq!((sink.name.as_str(), sink.topic.as_str()), ("scores", "fraud-scores"));
    assert_eq!((sink.key.as_deref(), sink.id.as_deref(), sink.partitions), (Some("payment_id"), Some("score_id"), Some(3)));
    assert_eq!((sink.schema.as_str(), sink.table.as_str()), ("gold", "fraud_scores"));
    assert_eq!(settings(&sink.properties), ["bootstrap.servers=other:9092"]);
    assert_eq!(sink.query, "SELECT * FROM STREAM(Gold.fraud_scores) WHERE score > 50");
}

#[test]
fn each_definition_parses_again_from_its_text() {
    let text = "CREATE SOURCE s (a INT) WITH (topic = 't'); ;
                CREATE STREAMING TABLE a.b (CONSTRAINT c EXPECT (a > 1) ON VIOLATION DROP ROW) AS SELECT a FROM s;
                CREATE SINK k TO KAFKA (topic = 't') AS SELECT a FROM STREAM(a.b) WHERE a > 1;";
    for statement in parse(text).unwrap() {
        let again = parse(&statement.text).unwrap().remove(0);
        match (statement.kind, again.kind) {
            (StatementKind::CreateSource(a), StatementKind::CreateSource(b)) => assert_eq!(a, b),
            (StatementKind::CreateStreamingTable(a), StatementKind::CreateStreamingTable(b)) => assert_eq!(a, b),
            (StatementKind::CreateSink(a), StatementKind::CreateSink(b)) => assert_eq!(a, b),
            (a, b) => panic!("{a:?} became {b:?}"),
        }
    }
}

#[test]
fn all_else_is_datafusions() {
    let texts = [
        "SELECT table FROM t",
        "SELECT * FROM a$late WHERE x > 1",
        "EXPLAIN SELECT * FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1 minute')",
        "SHOW TABLES",
        "CREATE TABLE source (a INT)",
        "SELECT [1, 2, 3], {'a': 1}, * EXCEPT (b) FROM t",
    ];
    for text in texts {
        let statements = parse(text).unwrap_or_else(|e| panic!("{}", e.render(text, None)));
        assert!(matches!(statements[0].kind, StatementKind::Other(_)), "{text}");
    }
    assert!(parse(" ;; -- nothing\n").unwrap().is_empty());
}

fn view(text: &str) -> MaterializedViewDefinition {
    match parse(text).unwrap_or_else(|e| panic!("{}", e.render(text, None))).remove(0).kind {
        StatementKind::CreateMaterializedView(view) => view,
        other => panic!("not a materialized view: {other:?}"),
    }
}

#[test]
fn a_materialized_view_takes_its_clauses_in_any_order() {
    let text = "create materialized view Gold.By_Day WITH (timeout = '5 minutes')\nSCHEDULE CRON '5 * * * *' PARTITIONED BY (day) AS\n  SELECT day FROM a.b";
    let found = view(text);
    assert_eq!((found.schema.as_str(), found.table.as_str(), found.query.as_str()), ("gold", "by_day", "SELECT day FROM a.b"));
    assert_eq!((found.schedule.clone(), found.timeout), (Schedule::Cron("5 * * * *".into()), Duration::from_secs(300)));
    assert_eq!(found.partitioned_by, ["day"]);
    let other = "CREATE MATERIALIZED VIEW gold.by_day PARTITIONED BY (day) SCHEDULE CRON '5 * * * *' WITH (timeout = '300 s') AS SELECT day FROM a.b";
    assert_eq!(view(other), found);
    let statement = parse(text).unwrap().remove(0);
    assert_eq!((statement.query_line, statement.query_column), (3, 3));
    assert_eq!(view(&statement.text), found);
}

#[test]
fn a_view_has_expectations() {
    let text = "CREATE MATERIALIZED VIEW gold.v (\n CONSTRAINT a EXPECT (n > 0) ON VIOLATION DROP ROW,\n CONSTRAINT b EXPECT (n < 9)\n) AS SELECT 1 AS n";
    let found = view(text).expectations;
    let said: Vec<_> = found.iter().map(|e| (e.name.as_str(), e.predicate.as_str(), e.action.sql(), e.line, e.column)).collect();
    assert_eq!(said, [("a", "n > 0", "DROP ROW", 2, 23), ("b", "n < 9", "WARN", 3, 23)]);
    assert_eq!(view("CREATE MATERIALIZED VIEW gold.v AS SELECT 1 AS n").expectations, []);
}

#[test]
fn schedules_say_when() {
    let cases = [
        ("", "on demand"),
        ("SCHEDULE EVERY 90 SECONDS", "every 90 seconds"),
        ("SCHEDULE REFRESH EVERY 1 HOUR", "every 1 hour"),
        ("SCHEDULE EVERY INTERVAL '2 days'", "every 2 days"),
        ("SCHEDULE CRON '*/10 0 6 * * MON-FRI'", "cron */10 0 6 * * MON-FRI"),
        ("TRIGGER ON UPDATE", "on update, at most every 10 seconds"),
        ("TRIGGER ON UPDATE AT MOST EVERY 5 minutes", "on update, at most every 5 minutes"),
    ];
    for (clause, shown) in cases {
        let found = view(&format!("CREATE MATERIALIZED VIEW a.b {clause} AS WITH x AS (SELECT 1 AS n) SELECT n FROM x"));
        assert_eq!(found.schedule.to_string(), shown);
        assert_eq!(found.timeout, Duration::from_secs(3600));
    }
}

#[test]
fn a_place_is_found_in_a_line_of_any_length_and_any_characters() {
    let text = format!("SELECT 'ü';\r\n{}SELECT '😀', 'end'", "SELECT 'wörter: 日本';".repeat(100));
    let statements = parse(&text).unwrap();
    assert_eq!(statements.len(), 102);
    assert_eq!(statements[0].text, "SELECT 'ü'");
    assert!(statements[1..101].iter().all(|s| s.text == "SELECT 'wörter: 日本'" && s.line == 2));
    assert_eq!(statements[101].text, "SELECT '😀', 'end'");
}

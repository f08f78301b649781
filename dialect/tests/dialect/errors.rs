//! What is wrong, where, and the nearest thing that works.

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use watershed_dialect::{SqlError, StatementKind, parse, plan, plan_expectation, plan_sink, plan_streaming, plan_text};

use crate::shared::{rows, session, with_rows};

/// Where an error points, as the word that is there.
fn pointed<'a>(error: &SqlError, text: &'a str) -> &'a str {
    let line = text.lines().nth(error.line.unwrap() as usize - 1).unwrap_or("");
    let from = line.char_indices().nth(error.column.unwrap() as usize - 1).map_or(line.len(), |(at, _)| at);
    line[from..].split([' ', ',', '(', ')', ';']).next().unwrap()
}

/// Parses a text that is wrong: the word pointed at, and message, detail and hint in one line.
fn refused(text: &str) -> (&str, String) {
    let error = parse(text).expect_err(text);
    (pointed(&error, text), error.to_string())
}

/// Side tables and folders of state are called after them.
#[test]
fn names_that_no_folder_can_have_are_refused() {
    let name = |letters| "t".repeat(letters);
    let table = |letters| format!("CREATE STREAMING TABLE a.{} AS SELECT 1", name(letters));
    let source = |letters| format!("CREATE SOURCE {} (a INT) WITH (topic = 't')", name(letters));
    let view = |letters| format!("CREATE MATERIALIZED VIEW a.{} AS SELECT 1", name(letters));
    for (text, most) in [(&table as &dyn Fn(usize) -> String, 228), (&source, 230), (&view, 228)] {
        assert!(parse(&text(most)).is_ok());
        let text = text(most + 1);
        let (word, said) = refused(&text);
        assert_eq!(word, name(most + 1));
        assert!(said.contains("it has 231 bytes") && said.contains("230 are the limit"), "{said}");
    }
}

#[test]
fn statements_that_do_not_parse() {
    // (text, word pointed at, part of the message)
    let cases = [
        ("CREATE SOURCE s (a INT) WITH (topic = 't', idel_timeout = '1 s')", "idel_timeout", "did you mean 'idle_timeout'?"),
        ("CREATE SOURCE s (a INT) WITH (topic = 't', on_error = 'quarantin')", "'quarantin'", "did you mean 'quarantine'?"),
        ("CREATE SOURCE s (a INT) WITH (topic = 't', max_skew = '5')", "'5'", "no unit"),
        ("CREATE SOURCE s (a INT) WITH (topic = 't', topic = 'u')", "topic", "given twice"),
        ("CREATE SOURCE s (a INT) WITH (topic = kafka)", "kafka", "write 'kafka'"),
        ("CREATE SOURCE s (a INT) WITH (format = 'json')", "WITH", "names no topic"),
        ("CREATE SOURCE s (a INT)", "", "WITH (connector = 'kafka'"),
        ("CREATE SOURCE s (a VARCHR) WITH (topic = 't')", "VARCHR", "did you mean 'VARCHAR'?"),
        ("CREATE SOURCE s (a UUID) WITH (topic = 't')", "UUID", "VARCHAR and cast"),
        ("CREATE SOURCE s (a MAP<VARCHAR, INT>) WITH (topic = 't')", "MAP<VARCHAR", "type MAP is not supported yet"),
        (
            "CREATE SOURCE s (a LIST<MAP<VARCHAR, INT>>) WITH (topic = 't')",
            "MAP<VARCHAR",
            "STRUCT<key VARCHAR, …>; or keep the object as text: JSON",
        ),
        ("CREATE SOURCE s (a DECIMAL(50, 2)) WITH (topic = 't')", "50", "precision is 1 to 38"),
        ("CREATE SOURCE s (a STRUCT<x INT, x INT>) WITH (topic = 't')", "x", "twice in the STRUCT"),
        ("CREATE SOURCE s (a LIST<STRUCT<x INT>) WITH (topic = 't')", "", "expected '>'"),
        ("CREATE SOURCE s (a INT, A INT) WITH (topic = 't')", "A", "stands twice"),
        ("CREATE SOURCE s (a INT PRIMARY KEY) WITH (topic = 't')", "PRIMARY", "leave it out"),
        ("CREATE SOURCE s (a INT METADATA FROM 'offset') WITH (topic = 't')", "INT", "is BIGINT, not INT"),
        ("CREATE SOURCE s (a INT METADATA FROM 'partiton') WITH (topic = 't')", "'partiton'", "did you mean 'partition'?"),
        ("CREATE SOURCE s (t TIMESTAMP, WATERMARK FOR tt AS tt) WITH (topic = 't')", "tt", "did you mean 't'?"),
        ("CREATE SOURCE s (t TIMESTAMP, x INT, WATERMARK FOR x AS x) WITH (topic = 't')", "x", "columns of type TIMESTAMP: t"),
        ("CREATE SOURCE s (x BIGINT, WATERMARK FOR x AS x) WITH (topic = 't')", "x", "x TIMESTAMP EPOCH 'seconds'"),
        ("CREATE SOURCE s (x TIMESTAMP METADATA FROM 'timestamp' EPOCH 'seconds') WITH (topic = 't')", "x", "has a unit of its own"),
        ("CREATE SOURCE s (p STRUCT<t TIMESTAMP>, WATERMARK FOR p.t AS p.t) WITH (topic = 't')", "p.t", "event_time AS p.…, and write"),
        ("CREATE SOURCE s (p STRUCT<t TIMESTAMP>, e AS q.t) WITH (topic = 't')", "q.t", "comes before this one"),
        ("CREATE SOURCE s (p STRUCT<at TIMESTAMP>, e AS p.art) WITH (topic = 't')", "art", "did you mean 'at'?"),
        ("CREATE SOURCE s (p STRUCT<t TIMESTAMP>, e AS p.t.x) WITH (topic = 't')", "x", "'p.t' is TIMESTAMP and has no fields"),
        ("CREATE SOURCE s (p STRUCT<t TIMESTAMP>, e AS p) WITH (topic = 't')", "p", "is a column already"),
        ("CREATE SOURCE s (p STRUCT<t TIMESTAMP>, e AS p.t NOT NULL) WITH (topic = 't')", "NOT", "'e' is what p.t is"),
        ("CREATE SOURCE s (t TIMESTAMP, WATERMARK FOR t AS u - INTERVAL '1 s') WITH (topic = 't')", "u", "must be made of 't'"),
        ("CREATE SOURCE s (t TIMESTAMP, WATERMARK FOR t AS t - INTERVAL '1 month') WITH (topic = 't')", "'1", "no fixed length"),
        ("CREATE SOURCE x.s (a INT) WITH (topic = 't')", ".s", "no schema"),
        ("CREATE SOURCE IF NOT EXISTS s (a INT) WITH (topic = 't')", "IF", "not needed"),
        ("CREATE STREAMING TABLE demand AS SELECT 1", "demand", "silver.demand"),
        ("CREATE STREAMING TABLE a.t$late AS SELECT 1", "t$late", "side tables"),
        ("CREATE STREAMING TABLE a.b (CONSTRANT c EXPECT (x > 1)) AS SELECT 1", "CONSTRANT", "did you mean 'CONSTRAINT'?"),
        ("CREATE STREAMING TABLE a.b (CONSTRAINT EXPECT (x > 1)) AS SELECT 1", "EXPECT", "a constraint has a name"),
        ("CREATE STREAMING TABLE a.b (EXPECT (x > 1)) AS SELECT 1", "EXPECT", "write CONSTRAINT name EXPECT"),
        ("CREATE STREAMING TABLE a.b (CONSTRAINT c CHECK (x > 1)) AS SELECT 1", "CHECK", "write EXPECT in place of CHECK"),
        ("CREATE STREAMING TABLE a.b (CONSTRAINT c EXPCT (x > 1)) AS SELECT 1", "EXPCT", "did you mean 'EXPECT'?"),
        ("CREATE STREAMING TABLE a.b (CONSTRAINT c EXPECT x > 1) AS SELECT 1", "x", "in parentheses: EXPECT (fare >= 0)"),
        ("CREATE STREAMING TABLE a.b (CONSTRAINT c EXPECT (x >)) AS SELECT 1", "", "expected an expression, found )"),
        ("CREATE STREAMING TABLE a.b (CONSTRAINT c EXPECT (x > 1) ON VIOLATON FAIL) AS SELECT 1", "VIOLATON", "did you mean 'VIOLATION'?"),
        ("CREATE STREAMING TABLE a.b (CONSTRAINT c EXPECT (x > 1) ON VIOLATION DROP) AS SELECT 1", "DROP", "write DROP ROW"),
        ("CREATE STREAMING TABLE a.b (CONSTRAINT c EXPECT (x > 1) ON VIOLATION QUARANTIN) AS SELECT 1", "QUARANTIN", "'QUARANTINE'?"),
        ("CREATE STREAMING TABLE a.b (CONSTRAINT c EXPECT (x > 1) FAIL) AS SELECT 1", "FAIL", "write ON VIOLATION FAIL"),
        ("CREATE STREAMING TABLE a.b (CONSTRAINT c EXPECT (x), CONSTRAINT c EXPECT (y)) AS SELECT 1", "c", "stands twice"),
        ("CREATE SOURCE s (j JSONB) WITH (topic = 't')", "JSONB", "JSON keeps any value as text"),
        ("CREATE SOURCE s (j JSON METADATA FROM 'value') WITH (topic = 't')", "JSON", "write j VARCHAR"),
        ("CREATE SOURCE s (v INT METADATA FROM 'value') WITH (topic = 't')", "INT", "write v VARCHAR or BINARY"),
        (
            "CREATE SOURCE s (v VARCHAR METADATA FROM 'value') WITH (connector = 'files', path = '/', format = 'csv')",
            "v",
            "a Kafka message",
        ),
        ("CREATE SOURCE s (c INT) WITH (topic = 't', tombstones = 'drop')", "'drop'", "it is 'error' or 'skip'"),
        ("CREATE SOURCE s (c INT) WITH (topic = 't', start = 'lates')", "'lates'", "did you mean 'latest'?"),
        ("CREATE SOURCE s (c INT) WITH (topic = 't', start = '2026-13-01')", "'2026-13-01'", "a time since 1970 such as"),
        ("CREATE SOURCE s (c INT) WITH (connector = 'files', path = '/', format = 'csv', start = 'latest')", "start", "no option 'start'"),
        ("CREATE SOURCE s (c INT) WITH (topic = secret('X'))", "secret", "option 'topic' is no secret"),
        ("CREATE SOURCE s (c INT) WITH (topic = 't', kafka.sasl.password = secret(''))", "''", "the secret has no name"),
        ("CREATE SINK s KAFKA (topic = 't') AS SELECT * FROM STREAM(a.b)", "KAFKA", "write CREATE SINK name TO KAFKA"),
        ("CREATE SINK s TO KAFKFA (topic = 't') AS SELECT * FROM STREAM(a.b)", "KAFKFA", "did you mean 'KAFKA'?"),
        ("CREATE SINK s TO KAFKA (topc = 't') AS SELECT * FROM STREAM(a.b)", "topc", "did you mean 'topic'?"),
        ("CREATE SINK s TO KAFKA (key = 'k') AS SELECT * FROM STREAM(a.b)", "", "names no topic"),
        ("CREATE SINK s TO KAFKA (topic = 't', format = 'avro') AS SELECT * FROM STREAM(a.b)", "'avro'", "it is 'json'"),
        ("CREATE SINK s TO KAFKA (topic = 't', partitions = 'many') AS SELECT * FROM STREAM(a.b)", "'many'", "a number from 1"),
        ("CREATE SINK x.s TO KAFKA (topic = 't') AS SELECT * FROM STREAM(a.b)", ".s", "no schema"),
        ("CREATE SINK s TO KAFKA (topic = 't') AS SELECT * FROM a.b", "a.b", "write FROM STREAM(a.b)"),
        ("CREATE SINK s TO KAFKA (topic = 't') AS SELECT * FROM STREAM(b)", "b", "such as STREAM(gold.b)"),
        ("CREATE SINK s TO KAFKA (topic = 't') AS SELECT 1", "SELECT", "the rows of one streaming table"),
        ("CREATE SINK s TO KAFKA (topic = 't') AS\n SELECT * FROM STREAM(a.b) JOIN STREAM(a.c) ON true", "SELECT", "one streaming table"),
        ("CREATE STREAMING TABLE a.b (x INT) AS SELECT 1", "", "those of the query"),
        ("CREATE STREAMING TABLE a.b WITH (comit_interval = '1 s') AS SELECT 1", "comit_interval", "did you mean 'commit_interval'?"),
        ("CREATE STREAMING TABLE a.b PARTITION BY (x) AS SELECT 1", "PARTITION", "write PARTITIONED BY"),
        ("CREATE STREAMING TABLE a.b SELECT 1", "SELECT", "write AS before the query"),
        ("CREATE STREAMING TABLE a.b AS INSERT INTO x VALUES (1)", "INSERT", "expected a query"),
        ("CREATE STREAMING TABLE a.b AS SELECT 1,\n FORM x y", "y", "did you mean FROM instead of FORM?"),
        ("CREATE MATERIALIZED VIEW demand AS SELECT 1", "demand", "silver.demand"),
        ("CREATE MATERIALIZED VIEW IF NOT EXISTS a.b AS SELECT 1", "IF", "not needed"),
        ("CREATE OR REPLACE MATERIALIZED VIEW a.b AS SELECT 1", "CREATE", "OR REPLACE is not needed"),
        ("CREATE MATERIALIZED VIEW a.b (x INT) AS SELECT 1", "", "those of the query"),
        ("CREATE MATERIALIZED VIEW a.b (CONSTRAINT x EXPECT (n > 0) ON VIOLATION QUARANTINE) AS SELECT 1 AS n", "n", "write DROP ROW"),
        ("CREATE MATERIALIZED VIEW a.b (CONSTRAINT x CHECK (n > 0)) AS SELECT 1 AS n", "CHECK", "write EXPECT in place of CHECK"),
        ("EXPLAIN MATERIALIZED VIEW", "", "the name of a materialized view"),
        ("EXPLAIN VERBOSE MATERIALIZED VIEW a.b", "EXPLAIN", "write EXPLAIN MATERIALIZED VIEW"),
        ("EXPLAIN MATERIALIZED VIEW a.b.c", ".c", "end of statement"),
        ("CREATE MATERIALIZED VIEW a.b SCHEDULE CRON '5 * * *' AS SELECT 1", "'5", "is not a cron expression"),
        ("CREATE MATERIALIZED VIEW a.b SCHEDULE CRON '61 * * * *' AS SELECT 1", "'61", "is not a cron expression"),
        ("CREATE MATERIALIZED VIEW a.b SCHEDULE CRON hourly AS SELECT 1", "hourly", "in single quotes"),
        ("CREATE MATERIALIZED VIEW a.b SCHEDULE CRON '5 * * * *' AT TIME ZONE 'UTC' AS SELECT 1", "AT", "cron times are UTC"),
        ("CREATE MATERIALIZED VIEW a.b SCHEDULE HOURLY AS SELECT 1", "HOURLY", "SCHEDULE EVERY 1 HOUR"),
        ("CREATE MATERIALIZED VIEW a.b SCHEDULE EVERY HOUR AS SELECT 1", "HOUR", "write a number and a unit"),
        ("CREATE MATERIALIZED VIEW a.b SCHEDULE EVERY 5 MINUTS AS SELECT 1", "MINUTS", "did you mean 'minutes'?"),
        ("CREATE MATERIALIZED VIEW a.b SCHEDULE EVERY 1 MONTH AS SELECT 1", "MONTH", "no fixed length"),
        ("CREATE MATERIALIZED VIEW a.b SCHEDULE EVERY 5 MILLISECONDS AS SELECT 1", "5", "every second at most"),
        ("CREATE MATERIALIZED VIEW a.b SCHEDULE EVERY 9999 DAYS AS SELECT 1", "9999", "366 days"),
        ("CREATE MATERIALIZED VIEW a.b TRIGGER ON COMMIT AS SELECT 1", "COMMIT", "write TRIGGER ON UPDATE"),
        ("CREATE MATERIALIZED VIEW a.b TRIGGER ON UPDATE SCHEDULE EVERY 1 DAY AS SELECT 1", "SCHEDULE", "refreshed in one way"),
        ("CREATE MATERIALIZED VIEW a.b EVERY 1 DAY AS SELECT 1", "EVERY", "write SCHEDULE EVERY"),
        ("CREATE MATERIALIZED VIEW a.b SHEDULE EVERY 1 DAY AS SELECT 1", "SHEDULE", "did you mean 'SCHEDULE'?"),
        (
            "CREATE STREAMING TABLE silver.größe AS SELECT 1",
            "größe",
            "'größe' cannot name a table or its schema (line 1, column 31); use letters a-z",
        ),
        ("CREATE MATERIALIZED VIEW städte.a AS SELECT 1", "städte.a", "use letters a-z, digits, '_' and '-'"),
        ("CREATE MATERIALIZED VIEW a.b WITH (timout = '1 s') AS SELECT 1", "timout", "did you mean 'timeout'?"),
        ("CREATE MATERIALIZED VIEW a.b PARTITIONED BY (x) PARTITIONED BY (x) AS SELECT 1", "PARTITIONED", "stands twice"),
        ("CREATE MATERIALIZED VIEW a.b AS INSERT INTO x VALUES (1)", "INSERT", "expected a query"),
        ("CREATE MATERIALIZED VIEW a.b SELECT 1", "SELECT", "write AS before the query"),
        ("CREATE OR REPLACE SOURCE s (a INT) WITH (topic = 't')", "CREATE", "OR REPLACE is not needed"),
        ("SELECT 1;\nSELEC 2", "SELEC", "did you mean SELECT"),
        ("SELECT a FROM t WERE a > 1", "a", "did you mean WHERE"),
        ("SELECT 'open", "'open", "close what is opened here"),
        ("SELECT (1", "", "the end of the text"),
    ];
    let mut wrong = vec![];
    for (text, word, part) in cases {
        let (at, said) = refused(text);
        if at != word || !said.contains(part) {
            wrong.push(format!("{text}\n  points at: {at}\n  says: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn queries_that_do_not_plan() {
    let ctx = session();
    with_rows(&ctx, &[(Some("a"), Some(0), 1)]);
    let cases = [
        ("SELECT k,\n  vv FROM t", "vv", "column 'vv' does not exist (line 2, column 3): columns here: k, ts, v; did you mean 'v'?"),
        ("SELECT k FROM t WHERE time > 1", "time", "columns here: k, ts, v"),
        ("SELECT x.v FROM t", "x", "column 'x.v' does not exist"),
        (
            "SELECT k FROM ridse",
            "ridse",
            "table 'ridse' does not exist (line 1, column 15): tables and sources: clicks, rides, t; did you mean 'rides'?",
        ),
        ("SELECT k FROM silver.t", "silver.t", "did you mean 't'?"),
        ("SELECT summ(v) FROM t", "summ", "function 'summ' does not exist (line 1, column 8); did you mean 'sum'?"),
        ("SELECT * FROM tumbl(TABLE t, DESCRIPTOR(ts), INTERVAL '1 s')", "tumbl", "did you mean 'tumble'?"),
        ("SELECT k, sum(v) FROM t", "k", "GROUP BY"),
        ("SELECT k FROM t WHERE k = Berlin", "Berlin", "if it is a text, write it in single quotes: 'Berlin'"),
        ("SELECT k FROM t WHERE k IN ('a', Berlin)", "Berlin", "write it in single quotes: 'Berlin'"),
        ("SELECT k FROM t WHERE k LIKE Berlin", "Berlin", "write it in single quotes: 'Berlin'"),
        ("SELECT k FROM t WHERE k = \"Berlin\"", "\"Berlin\"", "text goes in single quotes: 'Berlin'"),
        ("SELECT sum(k) FROM t", "sum", "sum() does not take VARCHAR"),
        ("SELECT substr(k, 1, 2, 3) FROM t", "substr", "it takes substr(str: String"),
        ("SELECT upper() FROM t", "upper", "upper() does not take nothing"),
        ("SELECT * FROM TUMBLE(TABLE tt, DESCRIPTOR(ts), INTERVAL '1 s')", "tt", "table 'tt' does not exist"),
        ("SELECT * FROM TUMBLE(TABLE t, DESCRIPTOR(tss), INTERVAL '1 s')", "tss", "did you mean 'ts'?"),
        ("SELECT * FROM TUMBLE(TABLE t, DESCRIPTOR(k), INTERVAL '1 s')", "DESCRIPTOR", "columns of type TIMESTAMP: ts"),
        ("SELECT * FROM TUMBLE(TABLE t, ts, INTERVAL '1 s')", "ts", "must be DESCRIPTOR(time_column)"),
        ("SELECT * FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1 month')", "'1", "months and years have none"),
        ("SELECT * FROM TUMBLE(TABLE t, DESCRIPTOR(ts), 5)", "5", "must be an interval"),
        ("SELECT * FROM TUMBLE(TABLE t, DESCRIPTOR(ts))", "TUMBLE", "needs an interval for its size"),
        ("SELECT * FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '0 s')", "TUMBLE", "above zero"),
        ("SELECT * FROM TUMBLE(TABLE t, DESCRIPTOR(ts), SIZES => INTERVAL '1 s')", "SIZES", "has no argument 'sizes'"),
        ("SELECT * FROM TUMBLE(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '1 s')", "k", "GROUP BY"),
        ("SELECT * FROM HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1 s')", "HOP", "interval for its size"),
        ("SELECT * FROM HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '9 s', INTERVAL '1 s')", "HOP", "the slide comes before the size"),
        ("SELECT * FROM CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '2 s', INTERVAL '5 s')", "CUMULATE", "multiple of its step"),
        ("SELECT * FROM SESSION(TABLE t, DESCRIPTOR(ts), INTERVAL '1 s')", "SESSION", "not supported yet"),
        ("SELECT * FROM DEDUPLICATE(TABLE t, DESCRIPTOR(ts), INTERVAL '1 s')", "DEDUPLICATE", "needs PARTITION BY"),
        ("SELECT * FROM DEDUPLICATE(TABLE t PARTITION BY kk, DESCRIPTOR(ts), INTERVAL '1 s')", "kk", "did you mean 'k'?"),
        ("SELECT * FROM TUMBLE(TABLE (SELECT ts, 1 AS window_end FROM t), DESCRIPTOR(ts), INTERVAL '1 s')", "TUMBLE", "has one already"),
    ];
    let mut wrong = vec![];
    for (text, word, part) in cases {
        let error = rows(&ctx, text).await.expect_err(text);
        let said = error.to_string();
        if error.line.is_none() || !pointed(&error, text).starts_with(word) || !said.contains(part) {
            wrong.push(format!("{text}\n  says: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_source_that_is_read_says_what_to_read_instead() {
    let ctx = session();
    let plan = plan_text(&ctx, "SELECT * FROM rides").await.unwrap();
    let failed = ctx.execute_logical_plan(plan).await.unwrap().collect().await.unwrap_err().to_string();
    assert!(failed.contains("'rides' is a source, and a source has no rows of its own: query a streaming table"), "{failed}");
}

#[tokio::test]
async fn places_count_from_the_start_of_the_file() {
    let ctx = session();
    let text = "-- a file\nSELECT 1; SELECT city,\n  citty FROM rides;\n\nCREATE STREAMING TABLE a.b AS   SELECT city,\n  count(*)\nFROM rides\nWHERE citi = 'x' GROUP BY city;";
    let statements = parse(text).unwrap();
    let error = plan(&ctx, &statements[1]).await.unwrap_err();
    assert_eq!((error.line, error.column), (Some(3), Some(3)), "{error}");

    let StatementKind::CreateStreamingTable(table) = &statements[2].kind else { panic!("{:?}", statements[2]) };
    let error = statements[2].place(plan_streaming(&ctx.state(), &table.query).await.unwrap_err());
    assert_eq!((error.line, error.column), (Some(8), Some(7)), "{error}");
    // On the first line of the query the columns before it count too.
    let error = statements[2].place(plan_streaming(&ctx.state(), "SELECT cyty FROM rides").await.unwrap_err());
    assert_eq!((error.line, error.column), (Some(5), Some(40)), "{error}");
    let rendered = error.render(text, Some("demand.sql"));
    assert!(rendered.contains("--> demand.sql:5:40\n") && rendered.contains("hint: did you mean 'city'?"), "{rendered}");
}

#[tokio::test]
async fn predicates_that_do_not_plan() {
    let ctx = session();
    let result = Schema::new(vec![Field::new("city", DataType::Utf8, true), Field::new("fare", DataType::Int64, true)]);
    // (predicate, word pointed at, part of the message)
    let cases = [
        ("city IS NOT NULL AND citty <> 'x'", "citty", "an expectation sees the columns of the result: city, fare; did you mean 'city'?"),
        ("fare", "", "an expectation is true or false, but this is BIGINT"),
        ("sum(fare) > 1", "", "one row at a time"),
        ("fare > (SELECT 1)", "", "one row at a time"),
        ("random() < fare", "random", "random() cannot be part of an expectation"),
        ("upperr(city) = 'X'", "upperr", "did you mean 'upper'?"),
    ];
    for (predicate, word, part) in cases {
        let text =
            format!("CREATE STREAMING TABLE a.b (\n  CONSTRAINT c EXPECT ({predicate}) ON VIOLATION FAIL\n) AS SELECT city FROM rides");
        let StatementKind::CreateStreamingTable(table) = parse(&text).unwrap().remove(0).kind else { panic!("{text}") };
        let error = plan_expectation(&ctx.state(), &table.expectations[0], &result).expect_err(predicate);
        assert!(error.to_string().contains(part), "{predicate}: {error}");
        assert_eq!(error.line, Some(2), "{error}");
        if !word.is_empty() {
            assert_eq!(pointed(&error, &text), word, "{error}");
        }
    }
}

#[tokio::test]
async fn sinks_that_do_not_plan() {
    let result: SchemaRef = Schema::new(vec![Field::new("city", DataType::Utf8, true), Field::new("fare", DataType::Float64, true)]).into();
    let cases = [
        ("", "SELECT citty FROM STREAM(gold.x)", "did you mean 'city'?"),
        ("", "SELECT count(*) AS n FROM STREAM(gold.x)", "GROUP BY cannot be part of a sink"),
        ("", "SELECT city FROM STREAM(gold.x) LIMIT 3", "LIMIT cannot be part of a sink"),
        ("", "SELECT DISTINCT city FROM STREAM(gold.x)", "one row at a time"),
        ("", "SELECT upper(city) FROM STREAM(gold.x)", "cannot name a column"),
        ("", "SELECT now() AS t FROM STREAM(gold.x)", "now() cannot be part"),
        (", key = 'cty'", "SELECT city FROM STREAM(gold.x)", "columns of the query: city; did you mean 'city'?"),
        (", id = 'fare'", "SELECT fare FROM STREAM(gold.x)", "'fare' cannot be the id: it is DOUBLE"),
    ];
    for (option, query, part) in cases {
        let text = format!("CREATE SINK s TO KAFKA (topic = 't'{option}) AS {query}");
        let StatementKind::CreateSink(sink) = parse(&text).unwrap().remove(0).kind else { panic!("{text}") };
        let error = plan_sink(&session().state(), &sink, result.clone()).await.expect_err(query);
        assert!(error.to_string().contains(part), "{query}: {error}");
        assert!(error.line.is_some(), "{error}");
    }
}

#[tokio::test]
async fn definitions_are_applied_not_run() {
    let ctx = session();
    let statement = parse("CREATE SOURCE s (a INT) WITH (topic = 't')").unwrap().remove(0);
    assert!(plan(&ctx, &statement).await.unwrap_err().to_string().contains("watershed apply"));
    assert!(watershed_dialect::plan_text(&ctx, "SELECT 1; SELECT 2").await.unwrap_err().message.contains("more than one"));
    assert!(watershed_dialect::plan_text(&ctx, "").await.unwrap_err().message.contains("no statement"));
}

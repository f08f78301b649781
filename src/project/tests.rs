//! What a project may be, and what is said of mistakes in one.

use std::collections::HashMap;

use watershed_ingest::embedded::{EmbeddedBroker, EmbeddedSettings};

use super::*;

const SOURCE_SQL: &str = "CREATE SOURCE rides (city VARCHAR, at TIMESTAMP NOT NULL, WATERMARK FOR at AS at - INTERVAL '1 second')\n\
                          WITH (connector = 'kafka', topic = 'rides', format = 'json');\n";

fn file(name: &str, text: &str) -> SqlFile {
    SqlFile { name: name.to_owned(), text: text.to_owned() }
}

async fn mistakes(files: &[SqlFile]) -> String {
    check(files).await.err().expect("a mistake").to_string()
}

#[tokio::test]
async fn a_project_is_kept_as_written() {
    let table = "CREATE STREAMING TABLE silver.rides AS SELECT city, at FROM rides";
    let checked = check(&[file("a.sql", SOURCE_SQL), file("b.sql", &format!("-- all\n{table};"))]).await.unwrap();
    let kept: Vec<(&str, &str)> = checked.definitions.iter().map(|d| (d.name.as_str(), d.kind.as_str())).collect();
    assert_eq!(kept, [("rides", SOURCE), ("silver.rides", TABLE)]);
    assert_eq!(checked.definitions[1].sql, table);
    assert_eq!(checked.blueprints.len(), 1);
}

/// Editors on Windows put one there.
#[tokio::test]
async fn a_mark_at_the_beginning_of_a_file_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.sql"), format!("\u{feff}{SOURCE_SQL}")).unwrap();
    let files = read(folder.path()).unwrap();
    assert_eq!(files.iter().map(|file| file.text.as_str()).collect::<Vec<_>>(), [SOURCE_SQL]);
    assert_eq!(check(&files).await.unwrap_or_else(|error| panic!("{error}")).definitions.len(), 1);
}

#[tokio::test]
async fn what_this_version_cannot_read_keeps_no_other_table_from_running() {
    let item = |kind: &str, name: &str, sql: &str| Definition { kind: kind.to_owned(), name: name.to_owned(), sql: sql.to_owned() };
    let mut items = vec![
        item(SOURCE, "rides", SOURCE_SQL),
        item(SOURCE, "old", "CREATE SOURCE old (c INT) WITH (topic = 't', gone = 'x')"),
        item(TABLE, "silver.good", "CREATE STREAMING TABLE silver.good AS SELECT city FROM rides"),
        item(TABLE, "silver.old", "CREATE STREAMING TABLE silver.old AS SELECT c FROM old"),
        item(TABLE, "silver.odd", "CREATE STREAMING TABLE silver.odd WITH (gone = 'x') AS SELECT city FROM rides"),
    ];
    let planned = applied(&Definitions { revision: 1, items: items.clone() }).plan_each().await;
    assert_eq!(planned.blueprints.keys().map(ToString::to_string).collect::<Vec<_>>(), ["silver.good"]);
    let refused: Vec<String> = planned.refused.iter().map(|(name, error)| format!("{name}: {error}")).collect();
    assert_eq!(refused.len(), 2);
    assert!(refused[0].starts_with("silver.odd: ") && refused[0].contains("no option 'gone'"), "{refused:?}");
    assert!(refused[1].starts_with("silver.old: source 'old' cannot be read by this version: "), "{refused:?}");
    items.push(item(SINK, "out", "CREATE SINK out TO KAFKA (topic = 'o', gone = 'x') AS SELECT city FROM STREAM(silver.good)"));
    items.push(item(PANEL, "p", "CREATE PANEL p AS WRONG"));
    items.push(item("martian", "m", "CREATE MARTIAN m"));
    let project = applied(&Definitions { revision: 1, items });
    let planned = project.plan_each().await;
    assert!(planned.blueprints.is_empty(), "which table the sink follows is not known");
    let error = planned.refused[&"silver.good".parse().unwrap()].to_string();
    assert!(error.contains("sink 'out'") && error.contains("no option 'gone'"), "{error}");
}

#[tokio::test]
async fn mistakes_in_queries_are_shown_at_their_place_in_the_file() {
    let table = "-- demand\nCREATE STREAMING TABLE silver.rides AS\nSELECT citty FROM rides;";
    let said = mistakes(&[file("a.sql", SOURCE_SQL), file("b.sql", table)]).await;
    assert!(said.contains("b.sql:3:8") && said.contains("SELECT citty FROM rides") && said.contains("city"), "{said}");
}

#[tokio::test]
async fn what_cannot_partition_a_table_is_refused_at_its_place() {
    let refused = async |columns: &str, query: &str| {
        let table = format!("CREATE STREAMING TABLE silver.rides\nPARTITIONED BY ({columns})\nAS SELECT {query} FROM rides;");
        mistakes(&[file("a.sql", SOURCE_SQL), file("b.sql", &table)]).await
    };
    for query in ["city, CAST(1 AS DOUBLE) AS x", "city, CAST(1 AS REAL) AS x", "city, CAST(city AS BYTEA) AS x"] {
        let said = refused("x", query).await;
        assert!(said.contains("cannot be partitioned by 'x'") && said.contains("b.sql:3:4"), "{query}\n{said}");
    }
    let said = refused("citty", "city, at").await;
    assert!(said.contains("did you mean 'city'?") && said.contains("b.sql:3:4"), "{said}");
    let said = refused("city", "city").await;
    assert!(said.contains("leave at least one out"), "{said}");
}

#[tokio::test]
async fn mistakes_in_constraints_and_sinks_are_shown_at_their_place_in_the_file() {
    let table = "CREATE STREAMING TABLE silver.rides (\n  CONSTRAINT known EXPECT (citty IS NOT NULL)\n) AS SELECT city FROM rides;";
    let said = mistakes(&[file("a.sql", SOURCE_SQL), file("b.sql", table)]).await;
    assert!(said.contains("b.sql:2:28") && said.contains("did you mean 'city'?"), "{said}");

    let table = "CREATE STREAMING TABLE silver.rides AS SELECT city FROM rides;";
    let sink = |query: &str| file("c.sql", &format!("-- out\nCREATE SINK out TO KAFKA (topic = 'out') AS\n{query};"));
    let said = mistakes(&[file("a.sql", SOURCE_SQL), file("b.sql", table), sink("SELECT citi FROM STREAM(silver.rides)")]).await;
    assert!(said.contains("c.sql:3:8") && said.contains("did you mean 'city'?"), "{said}");
    let said = mistakes(&[file("a.sql", SOURCE_SQL), file("b.sql", table), sink("SELECT city FROM STREAM(silver.ridse)")]).await;
    assert!(said.contains("c.sql:3:1") && said.contains("did you mean 'silver.rides'?"), "{said}");
}

#[tokio::test]
async fn views_are_planned_over_the_tables_of_the_project_in_any_order() {
    let table = "CREATE STREAMING TABLE silver.rides PARTITIONED BY (city) AS SELECT city, at FROM rides;";
    let over = "CREATE MATERIALIZED VIEW gold.top AS SELECT city FROM gold.counts ORDER BY rides DESC LIMIT 3;";
    let counts = "CREATE MATERIALIZED VIEW gold.counts SCHEDULE EVERY 1 HOUR AS\n\
                  SELECT city, count(*) AS rides FROM silver.rides GROUP BY city\n\
                  UNION ALL SELECT reason, count(*) FROM bronze.rides$quarantine GROUP BY reason;";
    let files = [file("a.sql", over), file("b.sql", counts), file("c.sql", table), file("d.sql", SOURCE_SQL)];
    let checked = check(&files).await.unwrap();
    let order: Vec<String> = checked.views.iter().map(|view| view.name.to_string()).collect();
    assert_eq!(order, ["gold.counts", "gold.top"]);
    assert_eq!(checked.view_schemas[&"gold.counts".parse().unwrap()].field(1).name(), "rides");
    assert_eq!(checked.definitions.iter().filter(|definition| definition.kind == VIEW).count(), 2);
}

#[tokio::test]
async fn views_read_the_side_tables_that_there_will_be() {
    let window = "SELECT window_start, count(*) AS n FROM TUMBLE(TABLE rides, DESCRIPTOR(at), INTERVAL '1 minute') GROUP BY window_start";
    let table = |head: &str| file("b.sql", &format!("CREATE STREAMING TABLE gold.rides {head} AS {window};"));
    let view = |side: &str| file("c.sql", &format!("CREATE MATERIALIZED VIEW gold.v AS SELECT count(*) AS n FROM gold.rides${side};"));
    let constraint = "(CONSTRAINT many EXPECT (n > 1) ON VIOLATION QUARANTINE)";
    for (head, side) in [("", "late"), (constraint, "violations")] {
        let checked = check(&[file("a.sql", SOURCE_SQL), table(head), view(side)]).await;
        assert!(checked.is_ok(), "{side}: {}", checked.err().map(|error| error.to_string()).unwrap_or_default());
    }
    for (head, side) in [("WITH (late_rows = 'drop')", "late"), ("", "violations")] {
        let said = mistakes(&[file("a.sql", SOURCE_SQL), table(head), view(side)]).await;
        assert!(said.contains(&format!("gold.rides${side}")) && said.contains("c.sql:1:"), "{said}");
    }
}

#[tokio::test]
async fn mistakes_in_views_are_shown_at_their_place() {
    let table = file("c.sql", "CREATE STREAMING TABLE silver.rides AS SELECT city, at FROM rides;");
    let view = "-- by city\nCREATE MATERIALIZED VIEW gold.v AS\nSELECT citty FROM silver.rides;";
    let said = mistakes(&[file("a.sql", SOURCE_SQL), file("b.sql", view), table]).await;
    assert!(said.contains("b.sql:3:8") && said.contains("did you mean 'city'?"), "{said}");
    let circle = "CREATE MATERIALIZED VIEW gold.a AS SELECT * FROM gold.b;\nCREATE MATERIALIZED VIEW gold.b AS SELECT * FROM gold.a;";
    let said = mistakes(&[file("a.sql", SOURCE_SQL), file("b.sql", circle)]).await;
    assert!(said.contains("gold.a reads gold.b reads gold.a") && said.contains("b.sql:1:1"), "{said}");
    let never = "CREATE MATERIALIZED VIEW gold.a SCHEDULE CRON '0 0 30 2 *' AS SELECT 1 AS one;";
    let said = mistakes(&[file("b.sql", never)]).await;
    assert!(said.contains("never comes"), "{said}");
}

#[tokio::test]
async fn panels_that_cannot_be_drawn_are_refused_at_their_place() {
    let table = file("b.sql", "CREATE STREAMING TABLE silver.rides AS SELECT city, at FROM rides;");
    let check_one = async |panel: &str| {
        let files = [file("a.sql", SOURCE_SQL), table.clone(), file("c.sql", &format!("-- a picture\n{panel};"))];
        check(&files).await.map(|_| ()).map_err(|error| error.to_string())
    };
    let line = "CREATE PANEL p WITH (chart = 'line', x = 'at', y = 'n')";
    assert_eq!(check_one(&format!("{line} AS SELECT at, count(*) AS n FROM silver.rides GROUP BY at")).await, Ok(()));
    assert_eq!(check_one("CREATE PANEL p WITH (chart = 'table') AS SELECT job, status FROM system.job_runs").await, Ok(()));
    // What another project makes, perhaps.
    assert_eq!(check_one(&format!("{line} AS SELECT a FROM silver.other")).await, Ok(()));
    for (panel, place, said) in [
        (format!("{line} AS\nSELECT at, count(*) AS m FROM silver.rides GROUP BY at"), "c.sql:2:1", "names the column 'n'"),
        (format!("{line} AS\nSELECT at, citty AS n FROM silver.rides"), "c.sql:3:12", "did you mean 'city'?"),
        (format!("{line} AS\nSELECT at, city AS n FROM silver.rides"), "c.sql:2:1", "is a VARCHAR and no number"),
        ("CREATE PANEL p WITH (chart = 'table') AS SELECT city AS x, at AS x FROM silver.rides".to_owned(), "c.sql:2:", "'x'"),
    ] {
        let error = check_one(&panel).await.unwrap_err();
        assert!(error.contains(place) && error.contains(said), "{panel}\n{error}");
    }
}

#[tokio::test]
async fn the_project_in_the_repository_can_be_applied() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let checked = check(&read(&folder).unwrap()).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(!checked.blueprints.is_empty() && checked.views.len() == checked.view_schemas.len());
}

#[tokio::test]
async fn a_secret_in_clear_text_is_refused_and_never_shown() {
    let source = |option: &str| format!("CREATE SOURCE s (c INT) WITH (topic = 't', {option});");
    for option in [
        "kafka.sasl.password = 'SeCrEt77'",
        "'kafka.ssl.key.pem' = 'SeCrEt77'",
        "'kafka.sasl.oauthbearer.client.secret' = 'SeCrEt77'",
        "'kafka.ssl.keystore.password' = 'SeCrEt77'",
        "'kafka.sasl.jaas.config' = 'PlainLoginModule required username=\"u\" password=\"SeCrEt77\";'",
        "'kafka.schema.registry.basic.auth.user.info' = 'u:SeCrEt77'",
        "'kafka.client.rack' = 'PassWord = SeCrEt77'",
        "'kafka.ssl.certificate.pem' = '-----BEGIN PRIVATE KEY-----SeCrEt77'",
    ] {
        let said = mistakes(&[file("a.sql", &source(option))]).await;
        assert!(said.contains("source 's' holds a secret in clear text") && said.contains("a.sql:1:1"), "{said}");
        assert!(said.contains("secret('ENV_NAME')") && !said.contains("SeCrEt77"), "{said}");
    }
    let table = "CREATE STREAMING TABLE silver.s AS SELECT c FROM s;";
    let sink = "CREATE SINK out TO KAFKA (topic = 'o', 'kafka.sasl.password' = 'SeCrEt77') AS SELECT c FROM STREAM(silver.s);";
    let said = mistakes(&[file("a.sql", &source("format = 'json'")), file("b.sql", table), file("c.sql", sink)]).await;
    assert!(said.contains("sink 'out' holds a secret in clear text") && !said.contains("SeCrEt77"), "{said}");
    for option in [
        "kafka.sasl.password = secret('KAFKA_PASSWORD')",
        "kafka.sasl.password = secret_file('/run/secrets/kafka')",
        "'kafka.sasl.oauthbearer.token.endpoint.url' = 'https://login.example'",
        "'kafka.sasl.username' = secret('KAFKA_USER')",
    ] {
        assert!(check(&[file("a.sql", &source(option))]).await.is_ok(), "{option}");
    }
    let said = mistakes(&[file("a.sql", &source("topci = 'x', kafka.sasl.password = 'SeCrEt77'"))]).await;
    assert!(said.contains("no option 'topci'") && !said.contains("SeCrEt77"), "{said}");
    let said = mistakes(&[file("a.sql", &source("kafka.sasl.jaas.config = secret('X')"))]).await;
    assert!(said.contains("only Kafka's Java clients have it") && said.contains("sasl.username"), "{said}");
    let said = mistakes(&[file("a.sql", &source("on_error = secret('X')"))]).await;
    assert!(said.contains("option 'on_error' is no secret"), "{said}");
}

#[tokio::test]
async fn a_table_that_no_query_could_read_is_refused() {
    for schema in ["system", "information_schema", "\"System\""] {
        for kind in ["STREAMING TABLE", "MATERIALIZED VIEW"] {
            let table = format!("-- x\nCREATE {kind} {schema}.x AS SELECT 1 AS one;");
            let said = mistakes(&[file("a.sql", SOURCE_SQL), file("b.sql", &table)]).await;
            assert!(said.contains("Watershed's own") && said.contains("b.sql:2:1") && said.contains("gold.x"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_sink_to_where_its_rows_come_from_is_refused() {
    let table = "CREATE STREAMING TABLE silver.rides AS SELECT city FROM rides;";
    let sink = |name: &str, table: &str, options: &str| {
        format!("-- out\nCREATE SINK {name} TO KAFKA ({options}) AS SELECT * FROM STREAM({table});\n")
    };
    let of = |text: String| [file("a.sql", SOURCE_SQL), file("b.sql", table), file("c.sql", &text)];
    let said = mistakes(&of(sink("out", "silver.rides", "topic = 'rides'"))).await;
    assert!(said.contains("sink 'out' sends rows to where they come from") && said.contains("c.sql:2:1"), "{said}");
    assert!(said.contains("topic 'rides' is read by silver.rides and sink 'out'"), "{said}");
    for other in ["topic = 'others'", "topic = 'rides', 'kafka.bootstrap.servers' = 'elsewhere:9092'"] {
        assert!(check(&of(sink("out", "silver.rides", other))).await.is_ok(), "{other}");
    }
    let over = "CREATE SOURCE there (city VARCHAR) WITH (connector = 'kafka', topic = 'there', format = 'json');
                CREATE STREAMING TABLE silver.there AS SELECT city FROM there;";
    let there = sink("a", "silver.rides", "topic = 'there'");
    assert!(check(&of(format!("{over}\n{there}"))).await.is_ok());
    let said = mistakes(&of(format!("{over}\n{there}{}", sink("b", "silver.there", "topic = 'rides'")))).await;
    assert!(said.contains("silver.rides and sink 'a', then silver.there and sink 'b'") && !said.contains("2 mistakes"), "{said}");
}

/// A sink may name another listener of the cluster that its table is read from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_known_under_all_its_addresses() {
    let start = || EmbeddedBroker::start(&EmbeddedSettings::default()).unwrap();
    let (broker, other) = tokio::task::spawn_blocking(move || (start(), start())).await.unwrap();
    let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
    let kafka = KafkaSettings::new(broker.bootstrap());
    let applied = async |servers: &str| {
        let out = format!("CREATE SINK out TO KAFKA (topic = 'rides', 'kafka.bootstrap.servers' = '{servers}')");
        let table = "CREATE STREAMING TABLE silver.rides AS SELECT city FROM rides";
        let files = [file("a.sql", SOURCE_SQL), file("b.sql", &format!("{table};\n{out} AS SELECT * FROM STREAM(silver.rides);"))];
        let home = Home { warehouse: &warehouse, in_force: &Definitions::default(), kafka: &kafka };
        check_at(&files, Some(home)).await.map(|_| ()).map_err(|error| error.to_string())
    };
    let twice = format!("{0},{0}", broker.bootstrap());
    let error = applied(&twice).await.unwrap_err();
    assert!(error.contains("sink 'out' sends rows to where they come from") && error.contains("b.sql:2:1"), "{error}");
    assert_eq!(applied(&other.bootstrap()).await, Ok(()));
    assert!(applied(&broker.bootstrap()).await.is_err(), "the address that is configured");
}

#[tokio::test]
async fn what_a_start_would_refuse_is_refused_at_once() {
    let said = mistakes(&[file("a.sql", "CREATE SOURCE s (c INT) WITH (topic = 't', 'kafka.auto.offset.reset' = 'latest');")]).await;
    assert!(said.contains("'auto.offset.reset' cannot be used") && said.contains("detail: a gap must stop a pipeline"), "{said}");
}

#[tokio::test]
async fn every_broken_file_is_named() {
    let said = mistakes(&[file("a.sql", "CREATE SOURCE x ("), file("b.sql", "SELEC 1;"), file("c.sql", SOURCE_SQL)]).await;
    assert!(said.contains("a.sql:") && said.contains("b.sql:1:1") && said.contains("2 mistakes"), "{said}");
}

#[tokio::test]
async fn a_query_is_no_definition_and_names_are_taken_once() {
    let said = mistakes(&[file("a.sql", SOURCE_SQL), file("b.sql", SOURCE_SQL), file("c.sql", "\n  SELECT 1;")]).await;
    assert!(said.contains("defined twice") && said.contains("b.sql:1:1") && said.contains("c.sql:2:3"), "{said}");
}

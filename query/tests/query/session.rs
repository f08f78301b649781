//! A session over a real warehouse in memory: names, versions, refusals, limits.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use futures::{StreamExt, TryStreamExt};
use watershed_lake::faults::{Fault, FaultStore, Operation, Outcome};
use watershed_lake::{Commit, Definition, Definitions, TableName, Warehouse, kind};
use watershed_message::Message;
use watershed_query::{QueryError, Session, SessionOptions, SystemTable};

async fn warehouse() -> Warehouse {
    Warehouse::open("memory://", &HashMap::new()).await.unwrap()
}

fn rows(from: i64, count: i64) -> RecordBatch {
    let numbers: Vec<i64> = (from..from + count).collect();
    let names: Vec<String> = numbers.iter().map(|n| format!("row {n} of a table with text in it")).collect();
    RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(numbers)) as _), ("name", Arc::new(StringArray::from(names)) as _)])
        .unwrap()
}

async fn append(warehouse: &Warehouse, name: &str, epoch: i64, batch: RecordBatch) {
    let name: TableName = name.parse().unwrap();
    let table = warehouse.create_table(&name, batch.schema(), &[]).await.unwrap();
    let mut writer = table.writer("test");
    writer.write(batch).await.unwrap();
    let files = writer.finish().await.unwrap();
    let previous_app_version = (epoch > 1).then_some(epoch - 1);
    let operation = "WRITE".to_owned();
    table.commit(Commit { app_id: "test/0".to_owned(), app_version: epoch, previous_app_version, files, operation }).await.unwrap();
}

async fn number(session: &Session, sql: &str) -> i64 {
    let batches: Vec<RecordBatch> = session.query(sql).await.unwrap().stream.try_collect().await.unwrap();
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

async fn refusal(session: &Session, sql: &str) -> QueryError {
    session.query(sql).await.err().expect("a refusal")
}

#[tokio::test]
async fn a_bare_name_finds_the_one_table_that_has_it() {
    let warehouse = warehouse().await;
    append(&warehouse, "silver.rides", 1, rows(0, 3)).await;
    let session = Session::new(warehouse.clone()).unwrap();
    assert_eq!(number(&session, "SELECT count(*) FROM rides").await, 3);
    assert_eq!(number(&session, "SELECT count(*) FROM silver.rides").await, 3);
    append(&warehouse, "gold.rides", 1, rows(0, 1)).await;
    let error = refusal(&session, "SELECT count(*) FROM rides").await.to_string();
    assert!(error.contains("gold.rides or silver.rides"), "{error}");
}

#[tokio::test]
async fn a_statement_reads_one_version_and_the_next_one_the_newest() {
    let warehouse = warehouse().await;
    append(&warehouse, "silver.rides", 1, rows(0, 3)).await;
    let session = Session::new(warehouse.clone()).unwrap();
    // Planned before the second commit, read after it.
    let mut before =
        session.query("SELECT (SELECT count(*) FROM rides) - (SELECT count(*) FROM silver.rides) + count(*) FROM rides").await.unwrap();
    append(&warehouse, "silver.rides", 2, rows(3, 2)).await;
    let batch = before.stream.next().await.unwrap().unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(0), 3);
    assert_eq!(number(&session, "SELECT count(*) FROM rides").await, 5);
}

#[tokio::test]
async fn counts_beside_a_distinct_one_are_computed_in_two_steps() {
    let warehouse = warehouse().await;
    append(&warehouse, "silver.rides", 1, rows(0, 100)).await;
    append(&warehouse, "silver.rides", 2, rows(50, 100)).await;
    let session = Session::new(warehouse).unwrap();
    // As DataFusion computes it where another distinct value keeps it from grouping by one first.
    let as_ever = |query: &str| query.replacen("count(DISTINCT name) AS d", "count(DISTINCT name) AS d, count(DISTINCT n + 1) AS e", 1);
    let shown = async |query: &str| -> Vec<String> {
        let batches: Vec<RecordBatch> = session.query(query).await.unwrap().stream.try_collect().await.unwrap();
        let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| batch.slice(row, 1)));
        let cell = |row: &RecordBatch, name: &str| format!("{:?}", row.column_by_name(name).unwrap());
        rows.map(|row| ["k", "a", "b", "c", "s", "m", "d"].map(|name| cell(&row, name)).join(" ")).collect()
    };
    let aggregates = "count(*) AS a, count(nullif(n % 3, 0)) AS b, count(1) AS c, sum(1) AS s, max(n) AS m, count(DISTINCT name) AS d";
    for query in [
        format!("SELECT 0 AS k, {aggregates} FROM rides"),
        format!("SELECT 0 AS k, {aggregates} FROM rides WHERE n < 0"),
        format!("SELECT n % 7 AS k, {aggregates} FROM rides GROUP BY n % 7 ORDER BY k"),
        format!("SELECT n % 7 AS k, {aggregates} FROM rides GROUP BY n % 7 HAVING count(*) > 28 ORDER BY count(*), k"),
    ] {
        let (found, expected) = (shown(&query).await, shown(&as_ever(&query)).await);
        assert_eq!(found, expected, "{query}");
        assert!(!found.is_empty());
        let plan = shown_plan(&session, &query).await;
        assert!(plan.contains("count(alias1)") && plan.matches("AggregateExec").count() >= 2, "{plan}");
    }
    // Sums of decimals would change their type.
    let decimals = "SELECT count(*), sum(CAST(n AS DECIMAL(10, 2))), count(DISTINCT name) FROM rides";
    assert_eq!(number(&session, decimals).await, 200);
}

async fn shown_plan(session: &Session, query: &str) -> String {
    let explain = format!("EXPLAIN FORMAT INDENT {query}");
    let batches: Vec<RecordBatch> = session.query(&explain).await.unwrap().stream.try_collect().await.unwrap();
    arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string()
}

#[tokio::test]
async fn side_tables_can_be_named_without_quotes() {
    let warehouse = warehouse().await;
    append(&warehouse, "silver.rides$late", 1, rows(0, 2)).await;
    assert_eq!(number(&Session::new(warehouse).unwrap(), "SELECT count(*) FROM silver.rides$late").await, 2);
}

#[tokio::test]
async fn listings_know_tables_and_their_columns() {
    let warehouse = warehouse().await;
    append(&warehouse, "silver.rides", 1, rows(0, 1)).await;
    let session = Session::new(warehouse).unwrap();
    let shown: Vec<RecordBatch> = session.query("SHOW TABLES").await.unwrap().stream.try_collect().await.unwrap();
    let cells: Vec<&str> = shown.iter().flat_map(|batch| batch.columns().iter().map(|column| column.as_string::<i32>().value(0))).collect();
    assert_eq!(cells, ["silver", "rides"]);
    let columns = session.describe("rides").await.unwrap().unwrap();
    assert_eq!(columns.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["n", "name"]);
    assert!(session.describe("silver.other").await.unwrap().is_none());
    let described: Vec<RecordBatch> = session.query("DESCRIBE silver.rides").await.unwrap().stream.try_collect().await.unwrap();
    assert_eq!(described.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
}

#[tokio::test]
async fn a_session_only_reads_and_says_what_to_do_instead() {
    let warehouse = warehouse().await;
    append(&warehouse, "silver.rides", 1, rows(0, 1)).await;
    let session = Session::new(warehouse).unwrap();
    for (sql, hint) in [
        ("INSERT INTO silver.rides VALUES (1, 'x')", "write the rows to the pipeline's topic"),
        ("INSERT INTO silver.rides VALUES ('too few')", "write the rows to the pipeline's topic"),
        ("DELETE FROM silver.rides", "write the rows to the pipeline's topic"),
        ("CREATE VIEW v AS SELECT 1", "watershed apply"),
        ("CREATE TABLE t AS SELECT 1", "watershed apply"),
        ("DROP TABLE silver.rides", "watershed apply"),
        ("EXPLAIN INSERT INTO silver.rides VALUES (1, 'x')", "write the rows to the pipeline's topic"),
        ("CREATE STREAMING TABLE a.b AS SELECT 1", "watershed apply"),
        ("SHOW PIPELINES", "watershed status"),
        ("SHOW JOBS", "watershed status"),
        ("SHOW QUALITY", "watershed status"),
        ("SHOW Sinks", "watershed status"),
        ("SHOW JOB_RUNS", "watershed status"),
        ("CREATE PANEL p WITH (chart = 'table') AS SELECT 1", "watershed apply"),
    ] {
        let error = refusal(&session, sql).await;
        assert!(matches!(error, QueryError::Refused { .. }) && error.to_string().contains(hint), "{sql}: {error}");
    }
    assert_eq!(number(&session, "SELECT count(*) FROM rides").await, 1);
    let error = refusal(&session, "SELECT 1; SELECT 2").await;
    assert!(matches!(error, QueryError::Sql(_)) && error.to_string().contains("one statement at a time"), "{error}");
}

#[tokio::test]
async fn mistakes_are_shown_at_their_place_with_the_nearest_name() {
    let warehouse = warehouse().await;
    append(&warehouse, "silver.rides", 1, rows(0, 1)).await;
    let session = Session::new(warehouse).unwrap();
    let text = "SELECT n\nFROM silver.rids";
    let shown = refusal(&session, text).await.render(text, None);
    assert!(shown.contains("2 | FROM silver.rids") && shown.contains("silver.rides"), "{shown}");
}

#[tokio::test]
async fn settings_last_for_the_session() {
    let session = Session::new(warehouse().await).unwrap();
    let set = session.query("SET datafusion.execution.batch_size = 77").await.unwrap();
    assert!(!set.has_rows);
    drop(set);
    let shown: Vec<RecordBatch> = session.query("SHOW datafusion.execution.batch_size").await.unwrap().stream.try_collect().await.unwrap();
    assert_eq!(shown[0].column(1).as_string::<i32>().value(0), "77");
}

#[tokio::test]
async fn a_query_that_needs_too_much_memory_spills_or_ends_with_a_named_error() {
    let warehouse = warehouse().await;
    append(&warehouse, "silver.big", 1, rows(0, 200_000)).await;
    let options = SessionOptions { memory_limit_bytes: 16 << 20, ..SessionOptions::default() };
    let session = Session::with_options(warehouse.clone(), options).unwrap();
    // Sorting spills: about 11 MB of text, held more than once, do not fit.
    let sorted = session.query("SELECT n, name FROM big ORDER BY name DESC, n").await.unwrap();
    let rows: usize = sorted.stream.map_ok(|batch| batch.num_rows()).try_fold(0, |sum, rows| async move { Ok(sum + rows) }).await.unwrap();
    assert_eq!(rows, 200_000);
    // Where there is no room to spill, either.
    let options = SessionOptions { memory_limit_bytes: 16 << 20, spill_limit_bytes: 1 << 16, ..SessionOptions::default() };
    let cramped = Session::with_options(warehouse, options).unwrap();
    let sorted = cramped.query("SELECT n, name FROM big ORDER BY name DESC, n").await.unwrap();
    let error = QueryError::from(sorted.stream.try_collect::<Vec<_>>().await.expect_err("it cannot spill"));
    assert!(matches!(error, QueryError::OutOfMemory { .. }) && error.to_string().contains("query.spill_limit"), "{error}");
    // One giant value cannot spill.
    let result = session.query("SELECT length(string_agg(name || name || name, ',')) FROM big").await.unwrap();
    let failed = result.stream.try_collect::<Vec<_>>().await.expect_err("it cannot fit");
    let error = QueryError::from(failed);
    assert!(matches!(error, QueryError::OutOfMemory { .. }) && error.to_string().contains("query.memory_limit"), "{error}");
}

#[derive(Debug)]
struct Answer(&'static str);

#[async_trait::async_trait]
impl SystemTable for Answer {
    fn name(&self) -> &str {
        self.0
    }

    fn shown(&self) -> &str {
        if self.0 == "quality" { "n + 1 AS n" } else { "*" }
    }

    fn schema(&self) -> arrow::datatypes::SchemaRef {
        rows(0, 0).schema()
    }

    async fn rows(&self) -> Result<RecordBatch, Message> {
        Ok(rows(41, 2))
    }
}

#[tokio::test]
async fn system_tables_are_made_up_when_asked() {
    const NAMES: [&str; 4] = ["pipelines", "quality", "sinks", "of_a_kind_to_come"];
    let system_tables = NAMES.map(|name| Arc::new(Answer(name)) as Arc<dyn SystemTable>).to_vec();
    let options = SessionOptions { system_tables, ..SessionOptions::default() };
    let session = Session::with_options(warehouse().await, options).unwrap();
    assert_eq!(number(&session, "SELECT max(n) FROM system.pipelines").await, 42);
    for (sql, first) in [("SHOW PIPELINES", 41), ("SHOW QUALITY", 42), ("show sinks", 41), ("SHOW of_a_kind_to_come", 41)] {
        assert_eq!(number(&session, sql).await, first, "{sql}");
    }
}

/// Whether a person can still press Ctrl-C: the caller's only thread must stay free while a query computes without a pause.
#[tokio::test]
async fn a_busy_query_leaves_the_callers_thread_free_and_ends_when_it_is_dropped() {
    let warehouse = warehouse().await;
    append(&warehouse, "silver.big", 1, rows(0, 200_000)).await;
    let session = Session::new(warehouse).unwrap();
    let mut endless = session.query("SELECT count(*) FROM big a, big b WHERE a.n * b.n % 7 = 3").await.unwrap().stream;
    tokio::select! {
        biased;
        _ = endless.next() => panic!("forty thousand million pairs cannot be counted that fast"),
        () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {}
    }
    drop(endless);
    assert_eq!(number(&session, "SELECT count(*) FROM big").await, 200_000);
}

async fn explained(session: &Session, sql: &str) -> Vec<(String, String)> {
    let batches: Vec<RecordBatch> = session.query(sql).await.unwrap().stream.try_collect().await.unwrap();
    let rows = batches.iter().flat_map(|batch| {
        let (names, plans) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        (0..batch.num_rows()).map(|row| (names.value(row).to_owned(), plans.value(row).to_owned())).collect::<Vec<_>>()
    });
    rows.collect()
}

fn kinds(rows: &[(String, String)]) -> Vec<&str> {
    rows.iter().map(|(kind, _)| kind.as_str()).collect()
}

#[tokio::test]
async fn explain_names_the_stages_below_what_datafusion_says() {
    let warehouse = warehouse().await;
    append(&warehouse, "silver.rides", 1, rows(0, 3)).await;
    let session = Session::new(warehouse).unwrap();
    number(&session, "SELECT 1").await;
    session.query("SET datafusion.execution.target_partitions = 4").await.unwrap();
    let by_name = "SELECT name, count(*) AS n FROM rides GROUP BY name";
    let rows = explained(&session, &format!("EXPLAIN {by_name}")).await;
    assert_eq!(kinds(&rows), ["logical_plan", "physical_plan", "stages"]);
    assert!(rows[1].1.contains("AggregateExec: mode=Partial"), "{rows:#?}");
    assert!(rows[2].1.starts_with("map -> combine -> shuffle -> reduce\n"), "{}", rows[2].1);
    assert!(rows[2].1.contains("read silver.rides (1 file)") && rows[2].1.contains("by name"), "{}", rows[2].1);

    let rows = explained(&session, &format!("EXPLAIN VERBOSE {by_name}")).await;
    assert!(rows.len() > 10 && rows.last().unwrap().0 == "stages" && rows[0].0 == "initial_logical_plan", "{:?}", kinds(&rows));
    let rows = explained(&session, &format!("EXPLAIN ANALYZE {by_name}")).await;
    assert_eq!(kinds(&rows), ["Plan with Metrics"]);
    assert!(rows[0].1.contains("output_rows=3"), "{rows:#?}");
    // Formats for programs stay what they are.
    assert_eq!(kinds(&explained(&session, &format!("EXPLAIN FORMAT PGJSON {by_name}")).await), ["logical_plan"]);
    assert_eq!(kinds(&explained(&session, &format!("EXPLAIN FORMAT TREE {by_name}")).await), ["physical_plan", "stages"]);
}

#[tokio::test]
async fn the_job_of_a_view_is_explained_and_not_run() {
    let warehouse = warehouse().await;
    append(&warehouse, "silver.rides", 1, rows(0, 3)).await;
    let sql = "CREATE MATERIALIZED VIEW gold.totals SCHEDULE EVERY 1 HOUR AS SELECT name, sum(n) AS n FROM silver.rides GROUP BY name";
    let broken = "CREATE MATERIALIZED VIEW gold.broken AS SELECT * FROM silver.nowhere";
    let item = |name: &str, sql: &str| watershed_lake::Definition {
        name: name.to_owned(),
        kind: "materialized view".to_owned(),
        sql: sql.to_owned(),
    };
    let before = warehouse.definitions().await.unwrap();
    warehouse.save_definitions(&before, vec![item("gold.totals", sql), item("gold.broken", broken)]).await.unwrap();
    let session = Session::new(warehouse.clone()).unwrap();
    // One task in the session's queries; jobs have more.
    session.query("SET datafusion.execution.target_partitions = 1").await.unwrap();
    for name in ["gold.totals", "totals", "GOLD.Totals"] {
        let rows = explained(&session, &format!("EXPLAIN MATERIALIZED VIEW {name};")).await;
        assert_eq!(kinds(&rows), ["logical_plan", "physical_plan", "stages"]);
        assert!(rows[0].1.contains("TableScan: silver.rides") && rows[1].1.contains("RepartitionExec: partitioning=Hash"), "{rows:#?}");
        let stages = &rows[2].1;
        assert!(stages.starts_with("gold.totals: map -> combine -> shuffle -> reduce -> write\n"), "{stages}");
        assert!(stages.lines().count() == 6 && stages.contains("replaces the rows of gold.totals"), "{stages}");
    }
    assert!(warehouse.tables().await.unwrap().iter().all(|table| table.to_string() == "silver.rides"), "explaining makes no table");

    let error = refusal(&session, "EXPLAIN MATERIALIZED VIEW gold.total").await.render("EXPLAIN MATERIALIZED VIEW gold.total", None);
    assert!(error.contains("no materialized view 'gold.total'") && error.contains("did you mean 'gold.totals'?"), "{error}");
    let error = refusal(&session, "EXPLAIN MATERIALIZED VIEW gold.broken").await.to_string();
    assert!(error.contains("silver.nowhere"), "{error}");
    let error = refusal(&session, "EXPLAIN ANALYZE MATERIALIZED VIEW gold.totals").await.to_string();
    assert!(error.contains("explained in one way"), "{error}");
    let error = refusal(&session, "EXPLAIN MATERIALIZED VIEW").await.to_string();
    assert!(error.contains("expected the name of a materialized view"), "{error}");
}

#[tokio::test]
async fn a_table_that_cannot_be_read_leaves_listings_of_the_others_alone() {
    let folder = std::env::temp_dir().join(format!("watershed-unreadable-{}", std::process::id()));
    let lake = Warehouse::open(folder.to_str().unwrap(), &HashMap::new()).await.unwrap();
    append(&lake, "gold.good", 1, rows(0, 1)).await;
    append(&lake, "gold.bad", 1, rows(0, 1)).await;
    std::fs::write(folder.join("gold/bad/_delta_log/00000000000000000000.json"), "{\"protocol\": 7").unwrap();
    let session = Session::new(Warehouse::open(folder.to_str().unwrap(), &HashMap::new()).await.unwrap()).unwrap();

    let listed = "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'gold'";
    assert_eq!(number(&session, listed).await, 2);
    for listing in ["SHOW COLUMNS FROM gold.good", "SHOW TABLES", "DESCRIBE gold.good", "SELECT * FROM gold.good"] {
        let rows = session.query(listing).await.unwrap().stream;
        rows.try_collect::<Vec<_>>().await.unwrap_or_else(|error| panic!("{listing}: {error}"));
    }
    // What defines a table can be shown whatever became of it.
    let defining = |name: &str| format!("CREATE MATERIALIZED VIEW {name} AS SELECT 1 AS n");
    let item = |name: &str| Definition { kind: kind::VIEW.to_owned(), name: name.to_owned(), sql: defining(name) };
    lake.save_definitions(&Definitions::default(), vec![item("gold.good"), item("gold.bad")]).await.unwrap();
    for name in ["gold.good", "good", "gold.bad"] {
        let shown: Vec<RecordBatch> =
            session.query(&format!("SHOW CREATE TABLE {name}")).await.unwrap().stream.try_collect().await.unwrap();
        let full = if name == "good" { "gold.good" } else { name };
        assert_eq!(shown[0].column(1).as_string::<i32>().value(0), defining(full));
    }
    for naming in ["SELECT n FROM gold.bad", "SELECT * FROM good, bad", "DESCRIBE gold.bad", "SHOW COLUMNS FROM gold.bad"] {
        let error = refusal(&session, naming).await.to_string();
        assert!(error.contains("gold/bad/_delta_log/00000000000000000000.json' is damaged"), "{naming}: {error}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn what_names_no_table_reads_nothing() {
    let lake = warehouse().await;
    let store = FaultStore::new(lake.store().clone());
    let session = Session::new(Warehouse::with_store(Arc::new(store.clone()), lake.url().clone())).unwrap();
    for operation in [Operation::List, Operation::Get] {
        store.plan(Fault::new(operation, "", Outcome::FailBefore));
    }
    for statement in
        ["SELECT 1", "SET datafusion.execution.batch_size = 100", "VALUES (1), (2)", "SELECT 1 UNION ALL SELECT 2", "(SELECT 1)"]
    {
        session.query(statement).await.unwrap().stream.try_collect::<Vec<_>>().await.unwrap();
    }
    assert_eq!(store.fired(), 0);
    session.query("SHOW TABLES").await.unwrap();
    assert!(store.fired() > 0);
}

async fn texts(session: &Session, sql: &str) -> Vec<i64> {
    let result = session.query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    assert!(result.has_rows, "{sql}");
    let batches: Vec<RecordBatch> = result.stream.try_collect().await.unwrap();
    batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

#[tokio::test]
async fn a_prepared_statement_gives_its_rows_from_the_newest_version() {
    let warehouse = warehouse().await;
    append(&warehouse, "silver.rides", 1, rows(0, 3)).await;
    let session = Session::new(warehouse.clone()).unwrap();
    for text in [
        "PREPARE p AS SELECT n FROM silver.rides ORDER BY n LIMIT 2",
        "PREPARE q(BIGINT) AS SELECT n FROM silver.rides WHERE n >= $1 ORDER BY n",
    ] {
        assert!(!session.query(text).await.unwrap().has_rows);
    }
    assert_eq!(texts(&session, "EXECUTE p").await, [0, 1]);
    assert_eq!(texts(&session, "EXECUTE q(1)").await, [1, 2]);
    append(&warehouse, "silver.rides", 2, rows(3, 2)).await;
    assert_eq!(texts(&session, "EXECUTE q(-1 + 3)").await, [2, 3, 4]);
    assert_eq!(texts(&session, "EXECUTE q(NULL)").await, Vec::<i64>::new());
    session.query("PREPARE p AS SELECT max(n) FROM silver.rides").await.unwrap();
    assert_eq!(texts(&session, "EXECUTE p").await, [4]);
    let other = session.for_client();
    assert!(refusal(&other, "EXECUTE p").await.to_string().contains("there is no prepared statement 'p'"));
    session.query("DEALLOCATE p").await.unwrap();
    let long = format!("PREPARE r AS SELECT '{}'", "x".repeat(1 << 20));
    for (text, says) in [
        (long.as_str(), "a session keeps prepared statements of 1 MiB at most; let one go: DEALLOCATE name"),
        ("EXECUTE p", "there is no prepared statement 'p' in this session; make it: PREPARE p AS SELECT …"),
        ("DEALLOCATE p", "there is no prepared statement 'p'"),
        ("EXECUTE q", "'q' takes 1 values, and 0 are given"),
        ("EXECUTE q(1, 2)", "'q' takes 1 values, and 2 are given"),
        ("EXECUTE q(1.5)", "value 1 of 'q' does not fit: 1.5 cannot be BIGINT"),
        ("EXECUTE q('x')", "value 1 of 'q' does not fit: x cannot be BIGINT"),
        ("PREPARE r AS SET datafusion.execution.batch_size = 7", "PREPARE takes a query"),
        ("PREPARE r AS INSERT INTO silver.rides VALUES (1, 'a')", "PREPARE takes a query"),
        ("PREPARE r AS CREATE VIEW v AS SELECT 1", "PREPARE takes a query"),
    ] {
        let said = refusal(&session, text).await.to_string();
        assert!(said.contains(says), "{text}: {said}");
    }
}

#[tokio::test]
async fn prepared_statements_are_explained_and_number_their_parameters() {
    let warehouse = warehouse().await;
    append(&warehouse, "silver.rides", 1, rows(0, 3)).await;
    let session = Session::new(warehouse).unwrap();
    session.query("PREPARE q AS SELECT n FROM silver.rides WHERE n >= $1 ORDER BY n").await.unwrap();
    let plan = explained(&session, "EXPLAIN EXECUTE q(1 + 1)").await;
    assert_eq!(kinds(&plan), kinds(&explained(&session, "EXPLAIN SELECT n FROM silver.rides WHERE n >= 2 ORDER BY n").await));
    assert!(plan.iter().any(|(_, text)| text.contains("n@0 >= 2")), "{plan:?}");
    let analyzed = explained(&session, "EXPLAIN ANALYZE EXECUTE q(1)").await;
    assert!(analyzed.iter().any(|(_, text)| text.contains("output_rows=2")), "{analyzed:?}");
    // Nothing tells the type of the first.
    session.query("PREPARE s AS SELECT $1 AS v FROM silver.rides WHERE n = $2").await.unwrap();
    assert_eq!(texts(&session, "EXECUTE s(7, 2)").await, [7]);
    for (text, says) in [
        ("EXECUTE s(7)", "'s' takes 2 values, and 1 are given"),
        ("EXECUTE s(7, 'x')", "value 2 of 's' does not fit: x cannot be BIGINT"),
        ("EXPLAIN EXECUTE nothing(1)", "there is no prepared statement 'nothing'"),
        ("EXPLAIN EXECUTE q", "'q' takes 1 values, and 0 are given"),
        ("PREPARE r AS SELECT n + $2 FROM silver.rides", "the statement has the parameter $2 and no $1; number them without a gap"),
        ("PREPARE r AS SELECT n FROM silver.rides WHERE n > $low", "PREPARE takes the parameters $1, $2, …, and not $low; number them"),
        ("PREPARE r(BIGINT) AS SELECT n + $1 + $2 FROM silver.rides", "the statement has $2, and PREPARE names 1 types"),
    ] {
        let said = refusal(&session, text).await.to_string();
        assert!(said.contains(says), "{text}: {said}");
    }
    session.query("PREPARE r(BIGINT, BIGINT) AS SELECT n FROM silver.rides WHERE n = $2").await.unwrap();
    assert_eq!(texts(&session, "EXECUTE r(1, 2)").await, [2]);
}

#[tokio::test]
async fn joins_find_both_zeros_and_nan() {
    let warehouse = warehouse().await;
    let doubles = |ids: Vec<i64>, values: Vec<f64>| {
        RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(ids)) as _), ("x", Arc::new(Float64Array::from(values)) as _)])
            .unwrap()
    };
    append(&warehouse, "silver.many", 1, doubles(vec![1, 2, 3], vec![-0.0, 0.0, f64::NAN])).await;
    // As a division leaves it on some machines.
    append(&warehouse, "silver.made", 1, doubles(vec![1, 2], vec![f64::NAN.copysign(-1.0), 1.0])).await;
    append(&warehouse, "silver.one", 1, doubles(vec![1], vec![0.0])).await;
    append(&warehouse, "silver.nan", 1, doubles(vec![1], vec![f64::NAN])).await;
    let session = Session::new(warehouse).unwrap();
    for (query, right) in [
        ("SELECT id FROM silver.many WHERE x IN (SELECT x FROM silver.one) ORDER BY id", vec![1, 2]),
        ("SELECT many.id FROM silver.many JOIN silver.one ON many.x = one.x ORDER BY 1", vec![1, 2]),
        ("SELECT many.id FROM silver.many JOIN silver.nan ON many.x = nan.x ORDER BY 1", vec![3]),
        ("SELECT many.id FROM silver.many JOIN silver.made ON many.x = made.x ORDER BY 1", vec![3]),
        ("SELECT id FROM silver.made WHERE x > 5", vec![1]),
        ("SELECT (SELECT count(*) FROM silver.many JOIN silver.one ON many.x = one.x)", vec![2]),
    ] {
        assert_eq!(texts(&session, query).await, right, "{query}");
    }
}

/// Columns of tables are computed where rows are read.
#[tokio::test]
async fn conditions_guard_what_is_computed_of_tables() {
    let warehouse = warehouse().await;
    let ids = RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![1, 2, 3])) as _)]).unwrap();
    append(&warehouse, "silver.ids", 1, ids).await;
    let session = Session::new(warehouse).unwrap();
    let guarded = "id <> 1 AND 10 / (id - 1) > 6";
    for (query, right) in [
        (format!("SELECT id FROM silver.ids WHERE {guarded}"), vec![2]),
        (format!("SELECT CASE WHEN {guarded} THEN id ELSE 0 END AS v FROM silver.ids ORDER BY v"), vec![0, 0, 2]),
        (format!("SELECT sum(CASE WHEN {guarded} THEN id ELSE 0 END) AS v FROM silver.ids"), vec![2]),
        (format!("SELECT count(*) FILTER (WHERE {guarded}) AS v FROM silver.ids"), vec![1]),
    ] {
        assert_eq!(texts(&session, &query).await, right, "{query}");
    }
}

#[tokio::test]
async fn settings_have_limits_and_clients_have_few() {
    let session = Session::new(warehouse().await).unwrap();
    let client = session.for_client();
    for (text, says) in [
        (
            "SET datafusion.execution.target_partitions = 20000",
            "datafusion.execution.target_partitions cannot be 20000: 1 to 256 are the limits",
        ),
        ("SET datafusion.execution.target_partitions = 0", "1 to 256 are the limits"),
        ("SET datafusion.execution.batch_size = 100000000", "1 to 65536 are the limits"),
        ("SET DataFusion.Execution.BATCH_SIZE = 100000000", "1 to 65536 are the limits"),
        ("SET datafusion.optimizer.max_passes = 1000000", "1 to 10 are the limits"),
    ] {
        for session in [&session, &client] {
            let said = refusal(session, text).await.to_string();
            assert!(said.contains(says), "{text}: {said}");
        }
    }
    let said = refusal(&client, "SET datafusion.execution.sort_spill_reservation_bytes = 1").await.to_string();
    assert!(said.contains("a client cannot set datafusion.execution.sort_spill_reservation_bytes"), "{said}");
    for text in [
        "SET datafusion.execution.batch_size = 77",
        "SET datafusion.explain.show_statistics = true",
        "SET datafusion.execution.target_partitions = 4",
    ] {
        client.query(text).await.unwrap_or_else(|e| panic!("{text}: {e}"));
    }
    session.query("SET datafusion.execution.sort_spill_reservation_bytes = 1000").await.unwrap();
}

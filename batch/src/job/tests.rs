//! Runs over tables in memory: what they replace, count, try again and leave alone.

use std::collections::HashMap;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use url::Url;
use watershed_lake::Commit;
use watershed_lake::faults::{Fault, FaultStore, Operation, Outcome};

use super::*;
use crate::Views;

/// Five attempts within milliseconds.
fn hasty() -> Limits {
    Limits { backoff_first: Duration::from_millis(1), backoff_max: Duration::from_millis(4), tasks: Some(2), ..Limits::default() }
}

async fn memory() -> JobRunner {
    JobRunner::new(Warehouse::open("memory://", &HashMap::new()).await.unwrap(), hasty()).unwrap()
}

fn never() -> watch::Receiver<bool> {
    watch::channel(false).1
}

fn view(definition: &str) -> View {
    Views::parse([definition]).unwrap_or_else(|e| panic!("{}", e.render(definition, None))).iter().next().unwrap().clone()
}

async fn append(warehouse: &Warehouse, epoch: i64, rows: &[(&str, i64)]) {
    let books: StringArray = rows.iter().map(|(book, _)| Some(*book)).collect();
    let copies: Int64Array = rows.iter().map(|(_, copies)| Some(*copies)).collect();
    let batch =
        RecordBatch::try_from_iter_with_nullable([("book", Arc::new(books) as _, true), ("copies", Arc::new(copies) as _, true)]).unwrap();
    let table = warehouse.create_table(&"bronze.sales".parse().unwrap(), batch.schema(), &[]).await.unwrap();
    let mut writer = table.writer("test");
    writer.write(batch).await.unwrap();
    let files = writer.finish().await.unwrap();
    let (app_id, operation) = ("test/0".to_owned(), "WRITE".to_owned());
    let previous_app_version = (epoch > 1).then_some(epoch - 1);
    table.commit(Commit { app_id, app_version: epoch, previous_app_version, files, operation }).await.unwrap();
}

async fn totals(warehouse: &Warehouse, table: &str) -> Vec<(String, i64)> {
    let context = SessionContext::new_with_state(session_state(session_config(), None));
    let provider = warehouse.table(&table.parse().unwrap()).await.unwrap().provider().await.unwrap();
    context.register_table("t", provider).unwrap();
    let batches = context.sql("SELECT book, copies FROM t ORDER BY book").await.unwrap().collect().await.unwrap();
    let rows = batches.iter().flat_map(|batch| {
        let (books, copies) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
        (0..batch.num_rows()).map(|row| (books.value(row).to_owned(), copies.value(row))).collect::<Vec<_>>()
    });
    rows.collect()
}

const SUMS: &str = "CREATE MATERIALIZED VIEW gold.sums AS SELECT book, sum(copies) AS copies FROM bronze.sales GROUP BY book";

#[tokio::test]
async fn a_run_replaces_the_rows_and_says_what_it_read() {
    let runner = memory().await;
    let sums = view(SUMS);
    append(runner.warehouse(), 1, &[("A", 2), ("B", 8), ("A", 1)]).await;
    let first = runner.run(&sums, Trigger::Manual, never()).await.unwrap();
    assert_eq!((first.rows, first.attempts, first.written, first.status), (2, 1, Some(1), RunStatus::Succeeded));
    assert_eq!(first.read, BTreeMap::from([("bronze.sales".parse().unwrap(), 1)]));
    assert!(first.bytes > 0 && first.error.is_none());
    append(runner.warehouse(), 2, &[("B", 1), ("C", 5)]).await;
    let second = runner.run(&sums, Trigger::Update, never()).await.unwrap();
    assert_eq!((second.rows, second.written), (3, Some(2)));
    let sold = |book: &str, copies| (book.to_owned(), copies);
    assert_eq!(totals(runner.warehouse(), "gold.sums").await, [sold("A", 3), sold("B", 9), sold("C", 5)]);
    assert_eq!(runner.runs().all().await.unwrap(), [second, first]);
    let table = runner.warehouse().table(&sums.name).await.unwrap();
    assert_eq!(table.transaction_version("job/gold.sums").await.unwrap(), Some(2));
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_is_waited_for() {
    let store = FaultStore::new(Arc::new(object_store::memory::InMemory::new()));
    let patience = watershed_lake::Patience { attempts: 2, timeout: Duration::from_millis(300), backoff: Duration::from_millis(1) };
    let warehouse = Warehouse::with_patience(Arc::new(store.clone()), Url::parse("memory:///").unwrap(), patience);
    let runner = JobRunner::new(warehouse, hasty()).unwrap();
    append(runner.warehouse(), 1, &[("A", 2)]).await;
    // Each attempt makes two tries; the third attempt succeeds.
    store.plan(Fault::new(Operation::Put, "gold/sums/part-", Outcome::FailBefore).times(4));
    let record = runner.run(&view(SUMS), Trigger::Schedule, never()).await.unwrap();
    assert_eq!((record.attempts, record.status, store.fired()), (3, RunStatus::Succeeded, 4));
    assert!(record.error.is_some(), "what had to be waited for is kept");
    runner.observer().looked(crate::statuses(&Views::parse([SUMS]).unwrap(), &[record]));
    let [job] = runner.observer().metrics().try_into().unwrap();
    assert_eq!(job.counts, crate::JobCounts { succeeded: 1, retries: 2, ..Default::default() });
    assert_eq!(job.status.last_ended.unwrap().rows, 1);
    assert_eq!(totals(runner.warehouse(), "gold.sums").await.len(), 1);
}

#[tokio::test]
async fn what_will_not_pass_fails_at_once_and_leaves_the_view() {
    let runner = memory().await;
    append(runner.warehouse(), 1, &[("A", 2)]).await;
    runner.run(&view(SUMS), Trigger::Manual, never()).await.unwrap();
    let broken = SUMS.replace("sum(copies)", "CAST(max(book) AS BIGINT)");
    let error = runner.run(&view(&broken), Trigger::Manual, never()).await.unwrap_err().to_string();
    assert!(error.contains("'A'"), "{error}");
    let record = runner.runs().all().await.unwrap().remove(0);
    assert_eq!((record.status, record.attempts), (RunStatus::Failed, 1));
    assert_eq!(record.error.as_deref(), Some(error.as_str()));
    assert_eq!(totals(runner.warehouse(), "gold.sums").await, [("A".to_owned(), 2)]);

    let lost = view("CREATE MATERIALIZED VIEW gold.lost AS SELECT * FROM bronze.nowhere");
    let error = runner.run(&lost, Trigger::Manual, never()).await.unwrap_err().to_string();
    assert!(error.contains("gold.lost reads bronze.nowhere, which does not exist"), "{error}");
}

#[tokio::test]
async fn a_sum_that_does_not_fit_fails_and_leaves_the_view() {
    let runner = memory().await;
    append(runner.warehouse(), 1, &[("A", 2), ("B", i64::MAX)]).await;
    runner.run(&view(SUMS), Trigger::Manual, never()).await.unwrap();
    let kept = [("A".to_owned(), 2), ("B".to_owned(), i64::MAX)];
    assert_eq!(totals(runner.warehouse(), "gold.sums").await, kept);
    append(runner.warehouse(), 2, &[("A", 3), ("B", 1)]).await;
    let error = runner.run(&view(SUMS), Trigger::Update, never()).await.unwrap_err().to_string();
    assert!(error.contains("does not fit BIGINT: it is 9223372036854775808"), "{error}");
    let record = runner.runs().all().await.unwrap().remove(0);
    assert_eq!((record.status, record.attempts, record.written), (RunStatus::Failed, 1, None), "trying again would not help");
    assert_eq!(record.error.as_deref(), Some(error.as_str()));
    assert_eq!(totals(runner.warehouse(), "gold.sums").await, kept);
    // What the error advises goes through.
    let wide = SUMS.replace("gold.sums", "gold.wide").replace("sum(copies)", "CAST(sum(CAST(copies AS DECIMAL(38, 0))) / 4 AS BIGINT)");
    runner.run(&view(&wide), Trigger::Manual, never()).await.unwrap();
    assert_eq!(totals(runner.warehouse(), "gold.wide").await[1], ("B".to_owned(), 2_305_843_009_213_693_952));
}

#[tokio::test]
async fn rows_are_held_to_expectations_and_counted() {
    let runner = memory().await;
    append(runner.warehouse(), 1, &[("A", 2), ("B", -8), ("C", 900), ("D", -1)]).await;
    let held = |actions: [&str; 2]| {
        let [sold, few] = actions;
        view(&format!(
            "CREATE MATERIALIZED VIEW gold.sums (
                 CONSTRAINT sold EXPECT (copies > 0) ON VIOLATION {sold},
                 CONSTRAINT few EXPECT (copies < 100 AND book <> 'D') ON VIOLATION {few},
                 CONSTRAINT known EXPECT (nullif(book, 'A') IS NOT NULL)
             ) AS SELECT book, sum(copies) AS copies FROM bronze.sales GROUP BY book"
        ))
    };
    let record = runner.run(&held(["DROP ROW", "WARN"]), Trigger::Manual, never()).await.unwrap();
    let counts = |record: &RunRecord| -> Vec<(String, u64, u64)> {
        record.constraints.iter().map(|c| (c.name.clone(), c.passed, c.failed)).collect()
    };
    let counted = [("sold", 2, 2), ("few", 2, 2), ("known", 3, 1)].map(|(name, passed, failed)| (name.to_owned(), passed, failed));
    assert_eq!((record.rows, record.dropped, counts(&record)), (2, 2, counted.to_vec()));
    let kept = [("A".to_owned(), 2), ("C".to_owned(), 900)];
    assert_eq!(totals(runner.warehouse(), "gold.sums").await, kept);
    assert_eq!(runner.runs().all().await.unwrap(), [record], "the record is kept as it is");

    let error = runner.run(&held(["DROP ROW", "FAIL"]), Trigger::Manual, never()).await.unwrap_err().to_string();
    assert!(error.contains("gold.sums violates constraint 'few', EXPECT (copies < 100 AND book <> 'D')"), "{error}");
    assert!(error.contains("book=C, copies=900") || error.contains("book=D, copies=-1"), "{error}");
    let failed = runner.runs().all().await.unwrap().remove(0);
    assert_eq!((failed.status, failed.attempts), (RunStatus::Failed, 1));
    assert_eq!(totals(runner.warehouse(), "gold.sums").await, kept, "the rows stay");

    let record = runner.run(&held(["DROP ROW", "DROP ROW"]), Trigger::Manual, never()).await.unwrap();
    assert_eq!((record.rows, record.dropped), (1, 3), "a row is dropped once");
    // A mistake in a constraint is reported before anything runs.
    let (_, mistakes) = Views::parse([SUMS.replace("AS SELECT", "(CONSTRAINT x EXPECT (copis > 0)) AS SELECT").as_str()])
        .unwrap()
        .plan([], &BTreeMap::from([("bronze.sales".parse().unwrap(), sales_schema())]))
        .await;
    let [mistake] = mistakes.as_slice() else { panic!("{mistakes:?}") };
    assert!(mistake.of_constraint && mistake.error.to_string().contains("did you mean 'copies'?"), "{mistake:?}");
}

fn sales_schema() -> SchemaRef {
    use arrow::datatypes::{DataType, Field, Schema};
    Arc::new(Schema::new(vec![Field::new("book", DataType::Utf8, true), Field::new("copies", DataType::Int64, true)]))
}

#[tokio::test]
async fn of_two_runs_at_once_one_starts_over() {
    let runner = memory().await;
    append(runner.warehouse(), 1, &[("A", 2), ("B", 1)]).await;
    let sums = view(SUMS);
    let runs = (0..4).map(|_| runner.run(&sums, Trigger::Manual, never()));
    let records: Vec<RunRecord> = futures::future::try_join_all(runs).await.unwrap();
    let mut written: Vec<i64> = records.iter().filter_map(|record| record.written).collect();
    written.sort_unstable();
    assert_eq!(written, [1, 2, 3, 4]);
    assert_eq!(totals(runner.warehouse(), "gold.sums").await.len(), 2);
}

#[tokio::test]
async fn a_run_can_be_stopped_and_has_its_time() {
    let runner = memory().await;
    // A thousand million rows: longer than any test waits.
    let endless = "SELECT count(*) AS n FROM generate_series(1, 100000) AS a CROSS JOIN generate_series(1, 1000000) AS b";
    let slow = view(&format!("CREATE MATERIALIZED VIEW gold.slow WITH (timeout = '50 ms') AS {endless}"));
    let error = runner.run(&slow, Trigger::Manual, never()).await.unwrap_err();
    assert!(matches!(error, BatchError::TooSlow(_)), "{error}");
    let (sender, stop) = watch::channel(false);
    let slow = view(&format!("CREATE MATERIALIZED VIEW gold.slow AS {endless}"));
    let run = tokio::spawn({
        let runner = runner.clone();
        async move { runner.run(&slow, Trigger::Manual, stop).await }
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    sender.send(true).unwrap();
    assert!(matches!(run.await.unwrap(), Err(BatchError::Stopped)));
    let statuses: Vec<_> = runner.runs().all().await.unwrap().iter().map(|record| record.status).collect();
    assert_eq!(statuses, [RunStatus::Stopped, RunStatus::Failed]);
}

#[tokio::test]
async fn memory_is_bounded() {
    let runner = memory().await;
    let limits = Limits { memory_bytes: 1 << 20, spill_bytes: 1 << 16, ..hasty() };
    let runner = JobRunner::new(runner.warehouse().clone(), limits).unwrap();
    let keys = "SELECT value AS a, value % 1000003 AS b, count(*) AS n FROM generate_series(1, 2000000) GROUP BY value, value % 1000003";
    let wide = view(&format!("CREATE MATERIALIZED VIEW gold.wide AS {keys}"));
    let error = runner.run(&wide, Trigger::Manual, never()).await.unwrap_err();
    assert!(matches!(error, BatchError::OutOfMemory(_)), "{error}");
}

#[tokio::test]
async fn tables_have_the_types_that_the_plans_of_their_queries_promise() {
    const TYPES: [&str; 26] = [
        "Boolean",
        "Int8",
        "Int16",
        "Int32",
        "Int64",
        "UInt8",
        "UInt16",
        "UInt32",
        "UInt64",
        "Float16",
        "Float32",
        "Float64",
        "Decimal128(10, 2)",
        "Utf8",
        "LargeUtf8",
        "Utf8View",
        "Binary",
        "LargeBinary",
        "BinaryView",
        "FixedSizeBinary(2)",
        "Date32",
        "Date64",
        "Timestamp(ms)",
        "Timestamp(Microsecond, Some(\"UTC\"))",
        "Timestamp(Nanosecond, Some(\"+01:00\"))",
        "Dictionary(Int32, Utf8)",
    ];
    let runner = memory().await;
    append(runner.warehouse(), 1, &[("A", 2)]).await;
    let context = runner.context();
    let sales: TableName = "bronze.sales".parse().unwrap();
    declare(&context, &sales, runner.warehouse().table(&sales).await.unwrap().provider().await.unwrap()).unwrap();
    let plain = TYPES.iter().enumerate().map(|(at, name)| format!("arrow_cast(copies, '{name}') AS c{at}"));
    let nested = ["make_array(arrow_cast(copies, 'UInt8')) AS numbers", "named_struct('a', arrow_cast(book, 'LargeUtf8')) AS pair"];
    let columns: Vec<String> = plain.chain(nested.map(str::to_owned)).collect();
    let view = view(&format!("CREATE MATERIALIZED VIEW gold.of_all_types AS SELECT {} FROM bronze.sales", columns.join(", ")));
    let plan = plan_materialized_view(&context.state(), &view.definition).await.unwrap();
    let table = runner.warehouse().create_table(&view.name, Arc::clone(plan.schema().inner()), &[]).await.unwrap();
    let held = table.schema();
    assert_eq!(held.fields().len(), columns.len());
    for ((planned, held), column) in plan.schema().fields().iter().zip(held.fields()).zip(&columns) {
        // Delta has one name for the elements of lists.
        assert!(held.data_type().equals_datatype(planned.data_type()), "{column}: {planned} in the plan, {held} in the table");
    }
}

//! Scans: pinned to a version, live by name, and reading no file that cannot matter.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use watershed_lake::LakeError;

use crate::support::{append, local, name, number, query, rows, schema, session, session_of_delta_rs, stranger};

const ODD: [Option<&str>; 8] =
    [Some("São Paulo"), Some("a/b=c"), Some("100%"), Some("%41"), Some(".."), Some("\u{1F600} #?&\\\"'"), Some(" "), None];

fn files_in(plan: &str) -> usize {
    plan.matches(".zstd.parquet").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_partition_values_come_back() {
    let (_folder, warehouse) = local().await;
    // The partition column comes first: files do not hold it, results do.
    let fields = vec![Field::new("city", DataType::Utf8, true), Field::new("id", DataType::Int64, false)];
    let table = warehouse.create_table(&name("s.t"), Arc::new(Schema::new(fields)), &["city".to_owned()]).await.unwrap();
    let long = "ß".repeat(300);
    let values = ODD.into_iter().chain([Some(long.as_str())]).collect::<Vec<_>>();
    for (version, value) in values.iter().enumerate() {
        append(&table, "p/0", version as i64, vec![rows(version as i64..version as i64 + 1, *value)]).await.unwrap();
    }
    let context = session(&warehouse);
    let theirs = deltalake_core::open_table(warehouse.url().join("s/t/").unwrap()).await.unwrap();
    let other = session_of_delta_rs(&theirs).await;
    let ours = query(&context, "SELECT city, id FROM t ORDER BY id").await;
    assert_eq!(ours, query(&other, "SELECT city, id FROM t ORDER BY id").await);
    for (id, value) in values.iter().enumerate() {
        let wanted = match value {
            Some(value) => format!("city = '{}'", value.replace('\'', "''")),
            None => "city IS NULL".to_owned(),
        };
        assert_eq!(number(&context, &format!("SELECT id FROM t WHERE {wanted}")).await, id as i64, "{wanted}");
        assert_eq!(number(&other, &format!("SELECT id FROM t WHERE {wanted}")).await, id as i64, "{wanted}");
        let plan = query(&context, &format!("EXPLAIN FORMAT INDENT SELECT id FROM t WHERE {wanted}")).await;
        assert_eq!(files_in(&plan), 1, "{plan}");
    }
    // A query that wants only partition values.
    assert_eq!(number(&context, "SELECT count(DISTINCT city) FROM t").await, values.len() as i64 - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_pruned_by_bounds() {
    let (_folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    for version in 0..10 {
        let city = if version == 4 { None } else { Some("Graz") };
        append(&table, "p/0", version, vec![rows(version * 100..version * 100 + 100, city)]).await.unwrap();
    }
    let context = session(&warehouse);
    for (filter, files, count) in [
        ("id = 250", 1, 1),
        ("id BETWEEN 150 AND 349", 3, 200),
        ("id < 100 OR id >= 900", 2, 200),
        ("id IN (1, 950)", 2, 2),
        ("city IS NULL", 1, 100),
        ("city = 'Graz' AND id >= 400 AND id < 600", 1, 100),
        ("city > 'H'", 0, 0),
        ("id % 100 = 0", 10, 10),
    ] {
        let plan = query(&context, &format!("EXPLAIN FORMAT INDENT SELECT city FROM t WHERE {filter}")).await;
        // Long file lists are cut in plans.
        assert!(files_in(&plan) == files || (files > 5 && plan.contains("...")), "{filter}: {plan}");
        assert_eq!(number(&context, &format!("SELECT count(*) FROM t WHERE {filter}")).await, count, "{filter}");
    }
    // Counts and bounds come from the log.
    let plan = query(&context, "EXPLAIN FORMAT INDENT SELECT count(*), min(id), max(id) FROM t").await;
    assert_eq!(files_in(&plan), 0, "{plan}");
    let summary = query(&context, "SELECT count(*) AS c, min(id) AS low, max(id) AS high, count(city) AS cities FROM t").await;
    assert!(summary.contains("| 1000 | 0   | 999  | 900    |"), "{summary}");
    let plan = query(&context, "EXPLAIN FORMAT INDENT SELECT * FROM t LIMIT 150").await;
    assert_eq!(files_in(&plan), 2, "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_pinned_and_a_name_is_live() {
    let (_folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    append(&table, "p/0", 1, vec![rows(0..3, None)]).await.unwrap();
    let context = session(&warehouse);
    let pinned = SessionContext::new();
    pinned.register_table("t", table.provider().await.unwrap()).unwrap();
    assert_eq!(number(&context, "SELECT count(*) FROM t").await, 3);

    let other = stranger(&warehouse).table(&name("s.t")).await.unwrap();
    append(&other, "q/0", 1, vec![rows(3..5, None)]).await.unwrap();
    assert_eq!(number(&pinned, "SELECT sum(id) FROM t").await, 3);
    assert_eq!(number(&context, "SELECT sum(id) FROM t").await, 10);
    let past = SessionContext::new();
    past.register_table("t", table.provider_at(1).await.unwrap()).unwrap();
    assert_eq!(number(&past, "SELECT count(*) FROM t").await, 3);
    let empty = SessionContext::new();
    empty.register_table("t", table.provider_at(0).await.unwrap()).unwrap();
    assert_eq!(number(&empty, "SELECT count(*) FROM t").await, 0);
    let error = table.provider_at(9).await.unwrap_err();
    assert!(
        matches!(error, LakeError::NoSuchVersion { wanted: 9, newest: 2, .. }) && error.to_string().contains("no version 9"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_file_that_is_gone_is_named() {
    let (folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    append(&table, "p/0", 1, vec![rows(0..10, None)]).await.unwrap();
    let mut entries = std::fs::read_dir(folder.path().join("s/t")).unwrap().map(|entry| entry.unwrap().path());
    let file = entries.find(|path| path.extension().is_some_and(|ending| ending == "parquet")).unwrap();
    append(&table, "p/0", 2, vec![rows(10..20, None)]).await.unwrap();
    // One session has read the file's footer before, the other has not.
    let before = session(&warehouse);
    assert_eq!(number(&before, "SELECT sum(id) FROM t").await, 190);
    std::fs::remove_file(&file).unwrap();
    for context in [before, session(&stranger(&warehouse))] {
        let error = context.sql("SELECT id FROM t").await.unwrap().collect().await.unwrap_err();
        let DataFusionError::External(root) = error.find_root() else { panic!("{error}") };
        let root = root.downcast_ref::<LakeError>().unwrap();
        let LakeError::DataFileGone { path, version: 2, .. } = root else { panic!("{root}") };
        assert!(file.ends_with(path), "{path}");
        assert!(root.may_pass() && root.to_string().contains("lake.vacuum_retention"), "{root}");
    }
    // Other errors stay what they are.
    std::fs::write(&file, "not Parquet").unwrap();
    let error = session(&stranger(&warehouse)).sql("SELECT id FROM t").await.unwrap().collect().await.unwrap_err();
    assert!(!error.to_string().contains("is gone"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_go_first_for_few_rows_or_where_the_session_says_so() {
    let (_folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    append(&table, "p/0", 1, vec![rows(0..100, Some("Graz"))]).await.unwrap();
    let context = session(&warehouse);
    let explain = |filter: &str| format!("EXPLAIN FORMAT INDENT SELECT city FROM t WHERE {filter}");
    let (few, many) = (explain("id = 7"), explain("id >= 50"));
    let first = |plan: &str| !plan.contains("FilterExec") && plan.contains("predicate=id");
    let plan = query(&context, &few).await;
    assert!(first(&plan), "{plan}");
    assert_eq!(number(&context, "SELECT count(*) FROM t WHERE id = 7").await, 1);
    let plan = query(&context, &many).await;
    assert!(plan.contains("FilterExec"), "{plan}");
    context.sql("SET datafusion.execution.parquet.pushdown_filters = true").await.unwrap();
    let plan = query(&context, &many).await;
    assert!(first(&plan), "{plan}");
    assert_eq!(number(&context, "SELECT count(*) FROM t WHERE id >= 50").await, 50);
}

// A single-threaded runtime: queries work, only listings need more.
#[tokio::test]
async fn queries_run_on_one_thread() {
    let (_folder, warehouse) = local().await;
    let table = warehouse.create_table(&name("s.t"), schema(), &[]).await.unwrap();
    for version in 0..21 {
        append(&table, "p/0", version, vec![rows(version..version + 1, None)]).await.unwrap();
    }
    table.settle().await;
    let context = session(&stranger(&warehouse));
    assert_eq!(number(&context, "SELECT sum(id) FROM t").await, 210);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_several_columns_and_types() {
    let (_folder, warehouse) = local().await;
    let fields = vec![
        Field::new("day", DataType::Date32, true),
        Field::new("id", DataType::Int64, false),
        Field::new("zone", DataType::Int32, true),
        Field::new("note", DataType::Utf8, true),
    ];
    let schema = Arc::new(Schema::new(fields));
    let columns = ["zone".to_owned(), "day".to_owned()];
    let table = warehouse.create_table(&name("s.t"), schema.clone(), &columns).await.unwrap();
    assert_eq!(table.partitioned_by(), columns);
    let ids = (0..60).collect::<Vec<i64>>();
    let batch = RecordBatch::try_new(
        schema,
        vec![
            Arc::new(arrow::array::Date32Array::from_iter(ids.iter().map(|id| (id % 3 != 0).then_some(20_000 + (id % 3) as i32))))
                as ArrayRef,
            Arc::new(Int64Array::from(ids.clone())),
            Arc::new(arrow::array::Int32Array::from_iter(ids.iter().map(|id| (id % 4 != 0).then_some((id % 4) as i32 - 2)))),
            Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("note {id}")))),
        ],
    )
    .unwrap();
    append(&table, "p/0", 1, vec![batch]).await.unwrap();
    let context = session(&warehouse);
    for (filter, files) in
        [("zone = -1", 3), ("zone IS NULL AND day IS NULL", 1), ("day = '2024-10-05'", 4), ("zone >= 0 AND day > '2024-10-05'", 2)]
    {
        let plan = query(&context, &format!("EXPLAIN FORMAT INDENT SELECT note, zone, id, day FROM t WHERE {filter}")).await;
        assert_eq!(files_in(&plan), files, "{filter}: {plan}");
    }
    let row = query(&context, "SELECT note, zone, id, day FROM t WHERE id = 7").await;
    assert!(row.contains("| note 7 | 1    | 7  | 2024-10-05 |"), "{row}");
    let opened = deltalake_core::open_table(warehouse.url().join("s/t/").unwrap()).await.unwrap();
    let theirs = session_of_delta_rs(&opened).await;
    let all = "SELECT note, zone, id, day FROM t ORDER BY id";
    assert_eq!(query(&context, all).await, query(&theirs, all).await);
}

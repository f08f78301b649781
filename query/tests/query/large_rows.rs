//! Tables of large rows: batches have few of them, whatever a query does, so that it stays near the limit of its memory.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use futures::TryStreamExt;
use watershed_lake::{Commit, TableName, Warehouse, row_bytes};
use watershed_query::{QueryError, Session, SessionOptions};

const TEXT_BYTES: usize = 200_000;
const DOCUMENTS: i64 = 300;
const MEMORY_BYTES: usize = 64 << 20;
/// A batch of a query within that memory.
const BATCH_BYTES: usize = MEMORY_BYTES / 32;

async fn written(warehouse: &Warehouse, name: &str, texts: impl Iterator<Item = String>) {
    let name: TableName = name.parse().unwrap();
    let texts = StringArray::from_iter_values(texts);
    let numbers = Int64Array::from_iter_values(0..texts.len() as i64);
    let batch = RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef), ("text", Arc::new(texts) as _)]).unwrap();
    let table = warehouse.create_table(&name, batch.schema(), &[]).await.unwrap();
    let mut writer = table.writer("test");
    writer.write(batch).await.unwrap();
    let files = writer.finish().await.unwrap();
    let operation = "WRITE".to_owned();
    table.commit(Commit { app_id: "test/0".to_owned(), app_version: 1, previous_app_version: None, files, operation }).await.unwrap();
}

async fn session(memory_limit_bytes: usize) -> Session {
    let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
    // Nearly nothing as files: their sizes do not tell.
    written(&warehouse, "silver.documents", (0..DOCUMENTS).map(|n| format!("{n:010}").repeat(TEXT_BYTES / 10))).await;
    written(&warehouse, "silver.authors", (0..40_000).map(|n| format!("author {n}"))).await;
    Session::with_options(warehouse, SessionOptions { memory_limit_bytes, ..SessionOptions::default() }).unwrap()
}

async fn batches(session: &Session, sql: &str) -> Vec<RecordBatch> {
    let result = session.query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    result.stream.try_collect().await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_large_rows_have_few_of_them() {
    let session = session(MEMORY_BYTES).await;
    for (sql, rows) in [
        ("SELECT * FROM documents", DOCUMENTS),
        ("SELECT * FROM documents WHERE n % 2 = 0", DOCUMENTS / 2),
        ("SELECT n, upper(text) AS text FROM documents WHERE n >= 10", DOCUMENTS - 10),
        ("SELECT * FROM documents ORDER BY n DESC", DOCUMENTS),
        ("SELECT * FROM documents UNION ALL SELECT * FROM documents WHERE n < 100", DOCUMENTS + 100),
        ("SELECT d.n, d.text, a.text AS author FROM documents d JOIN authors a ON a.n = d.n", DOCUMENTS),
        ("SELECT a.n, d.text FROM documents d CROSS JOIN authors a WHERE d.n < 3 AND a.n < 100", 300),
        ("SELECT a.n, d.text FROM authors a LEFT JOIN documents d ON a.n = d.n WHERE a.n < 1000", 1000),
    ] {
        let batches = batches(&session, sql).await;
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>() as i64, rows, "{sql}");
        let largest = batches.iter().map(row_bytes).max().unwrap();
        assert!(largest <= BATCH_BYTES + TEXT_BYTES, "{sql}: {largest} bytes");
        // What keeps its memory is not much more than its rows. Those of a join share the memory of its side that is held.
        if sql.contains("JOIN") {
            continue;
        }
        let kept = batches.iter().map(RecordBatch::get_array_memory_size).max().unwrap();
        assert!(kept <= 4 * BATCH_BYTES, "{sql}: {kept} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_small_rows_are_as_ever() {
    let session = session(MEMORY_BYTES).await;
    for sql in [
        "SELECT * FROM authors",
        "SELECT n FROM documents UNION ALL SELECT n FROM authors",
        "SELECT a.n, a.text FROM authors a JOIN (SELECT min(n) AS n FROM documents) d ON a.n >= d.n",
    ] {
        let batches = batches(&session, sql).await;
        assert_eq!(batches.iter().map(RecordBatch::num_rows).max().unwrap(), 8192, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_window_holds_are_within_the_limit() {
    let session = session(MEMORY_BYTES / 2).await;
    let result = session.query("SELECT n, text, count(*) OVER () AS n_all FROM documents").await.unwrap();
    let error = QueryError::from(result.stream.try_collect::<Vec<_>>().await.unwrap_err());
    assert!(matches!(&error, QueryError::OutOfMemory { .. }) && error.to_string().contains("raise query.memory_limit"), "{error}");
    let few = batches(&session, "SELECT n, text, count(*) OVER () AS n_all FROM documents WHERE n < 20").await;
    assert_eq!(few.iter().map(RecordBatch::num_rows).sum::<usize>(), 20);
}

//! Threads that compute queries, apart from the ones that serve everything else.
//!
//! A query can keep a thread busy for long between two awaits. On the caller's runtime that would hold up signals (Ctrl-C), the
//! pipelines of a demo, and every other query's input and output. One pool serves all sessions of the process.

use std::pin::Pin;
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::{Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use watershed_dialect::compute::workers;
use watershed_dialect::without_panics;
use watershed_functions::Ended;

use crate::QueryError;

/// Batches that wait between a query and its reader.
const BATCHES_AHEAD: usize = 2;

/// The pool.
pub(crate) fn handle() -> Result<Handle, QueryError> {
    workers("query").map_err(|why| QueryError::Setup(format!("no threads for queries: {why}").into()))
}

/// Computes `stream` on the pool. Dropping the result ends the query as soon as it next pauses. A panic is an error:
/// a task that is gone would pass for the end of the rows.
pub(crate) fn compute(workers: &Handle, stream: SendableRecordBatchStream, ended: Ended) -> SendableRecordBatchStream {
    let schema = stream.schema();
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    let task = workers.spawn(async move {
        let mut stream = without_panics(stream);
        while let Some(batch) = stream.next().await {
            if sender.send(batch).await.is_err() {
                return;
            }
        }
    });
    Box::pin(Computed { schema, receiver, task: task.abort_handle(), ended })
}

/// Batches of a query that runs on the pool.
struct Computed {
    schema: SchemaRef,
    receiver: mpsc::Receiver<Result<RecordBatch, DataFusionError>>,
    task: AbortHandle,
    ended: Ended,
}

impl Stream for Computed {
    type Item = Result<RecordBatch, DataFusionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context)
    }
}

impl RecordBatchStream for Computed {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

impl Drop for Computed {
    fn drop(&mut self) {
        self.ended.set();
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_the_last_item_and_an_error() {
        let schema = Arc::new(Schema::empty());
        let empty = RecordBatch::new_empty(Arc::clone(&schema));
        let rows = stream::iter(0..2).map(move |n| if n == 0 { Ok(empty.clone()) } else { panic!("a step does") });
        let mut rows = compute(&handle().unwrap(), Box::pin(RecordBatchStreamAdapter::new(schema, rows)), Ended::default());
        assert!(rows.next().await.is_some_and(|batch| batch.is_ok()));
        let error = QueryError::from(rows.next().await.expect("an item").expect_err("an error"));
        assert!(matches!(&error, QueryError::Failed(said) if said.next.is_some()), "{error:?}");
        assert!(rows.next().await.is_none());
    }
}

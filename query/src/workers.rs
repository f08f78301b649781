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

use crate::QueryError;

/// Batches that wait between a query and its reader.
const BATCHES_AHEAD: usize = 2;

/// The pool.
pub(crate) fn handle() -> Result<Handle, QueryError> {
    workers("query").map_err(|why| QueryError::Setup(format!("no threads for queries: {why}")))
}

/// Computes `stream` on the pool. Dropping the result ends the query as soon as it next pauses.
pub(crate) fn compute(workers: &Handle, stream: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let schema = stream.schema();
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    let task = workers.spawn(async move {
        let mut stream = stream;
        while let Some(batch) = stream.next().await {
            if sender.send(batch).await.is_err() {
                return;
            }
        }
    });
    Box::pin(Computed { schema, receiver, task: task.abort_handle() })
}

/// Batches of a query that runs on the pool.
struct Computed {
    schema: SchemaRef,
    receiver: mpsc::Receiver<Result<RecordBatch, DataFusionError>>,
    task: AbortHandle,
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
        self.task.abort();
    }
}

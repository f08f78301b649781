//! Threads that compute queries, apart from the ones that serve everything else.
//!
//! A query can keep a thread busy for long between two awaits. On the caller's runtime that would hold up signals (Ctrl-C), the
//! pipelines of a demo, and every other query's input and output. One pool serves all sessions of the process.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::{Stream, StreamExt};
use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::QueryError;

/// Batches that wait between a query and its reader.
const BATCHES_AHEAD: usize = 2;

/// The pool's handle; starts it at the first call.
pub(crate) fn handle() -> Result<Handle, QueryError> {
    static POOL: Mutex<Option<Handle>> = Mutex::new(None);
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = pool.as_ref() {
        return Ok(handle.clone());
    }
    let runtime = Builder::new_multi_thread().thread_name("query").enable_all().build();
    let runtime = runtime.map_err(|why| QueryError::Setup(format!("no threads for queries: {why}")))?;
    // It lives as long as the process: a runtime must not be dropped on a thread of another one.
    let handle = Box::leak(Box::new(runtime)).handle().clone();
    *pool = Some(handle.clone());
    Ok(handle)
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

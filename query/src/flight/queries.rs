//! Queries between GetFlightInfo, DoGet and their end.
//!
//! State: what is planned and waits to be fetched, and what runs. A planned query keeps the table versions it was planned against; it is
//! fetched once, then runs until its rows are sent, its client goes away, or it is cancelled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};
use tokio::sync::watch;
use uuid::Uuid;

use super::limits::{PLANNED_KEPT, PLANNED_MAX, PLANNED_SHARE, RUNNING_MAX};
use crate::QueryError;
use crate::counters::Counted;
use crate::session::{Ready, refused};

/// A query's name on the wire.
pub(super) type QueryId = Uuid;

/// All queries of a server.
pub(super) struct Queries {
    state: Mutex<State>,
    /// What those that wait may take together.
    planned_bytes_max: usize,
}

#[derive(Default)]
struct State {
    planned: HashMap<QueryId, Planned>,
    running: HashMap<QueryId, watch::Sender<bool>>,
}

/// A query that waits to be fetched.
struct Planned {
    ready: Ready,
    schema: SchemaRef,
    counted: Counted,
    since: Instant,
}

/// A query that is to be run.
pub(super) struct Fetched {
    pub(super) ready: Ready,
    /// As promised to the client.
    pub(super) schema: SchemaRef,
}

/// What a cancellation found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cancelled {
    /// It had not begun, and will not.
    BeforeStart,
    /// It runs and was asked to end.
    Running,
    /// It has ended, or never was.
    Unknown,
}

impl Planned {
    /// Its text and values, and its plan.
    fn bytes(&self) -> usize {
        self.counted.bytes() + self.ready.plan_bytes()
    }
}

impl Queries {
    /// Those of a server whose queries share this memory.
    pub(super) fn within(pool: &dyn MemoryPool) -> Self {
        let planned_bytes_max = match pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / PLANNED_SHARE,
            MemoryLimit::Infinite | MemoryLimit::Unknown => usize::MAX,
        };
        Self { state: Mutex::default(), planned_bytes_max }
    }

    /// Keeps a planned query until it is fetched. Beyond the bounds those that waited longest are let go, never this one.
    pub(super) fn add(&self, ready: Ready, schema: SchemaRef, counted: Counted) -> QueryId {
        let id = Uuid::new_v4();
        let mut state = self.lock();
        state.planned.insert(id, Planned { ready, schema, counted, since: Instant::now() });
        let mut bytes: usize = state.planned.values().map(Planned::bytes).sum();
        while state.planned.len() > PLANNED_MAX || bytes > self.planned_bytes_max {
            let others = state.planned.iter().filter(|(other, _)| **other != id);
            let oldest = others.min_by_key(|(_, planned)| planned.since).map(|(id, _)| *id);
            let Some(gone) = oldest.and_then(|id| state.planned.remove(&id)) else { break };
            bytes -= gone.bytes();
        }
        id
    }

    /// Takes a query to run it. The guard keeps it known as running.
    pub(super) fn take(self: &Arc<Self>, id: QueryId) -> Result<(Fetched, Running), QueryError> {
        let mut state = self.lock();
        if state.running.len() >= RUNNING_MAX {
            return Err(refused(&format!("{RUNNING_MAX} queries run on this server already"), "try again when one of them has ended"));
        }
        let Some(planned) = state.planned.remove(&id) else {
            let minutes = PLANNED_KEPT.as_secs() / 60;
            return Err(refused(
                "this result is not there: it was fetched before, cancelled, not fetched in time, or gave its place to newer ones",
                &format!("run the query again and fetch its result at once, or within {minutes} minutes while few others wait"),
            ));
        };
        let (sender, receiver) = watch::channel(false);
        state.running.insert(id, sender);
        drop(state);
        let Planned { ready, schema, counted, .. } = planned;
        Ok((Fetched { ready, schema }, Running { id, queries: Arc::clone(self), cancelled: receiver, counted }))
    }

    /// Ends a query, whatever it is doing.
    pub(super) fn cancel(&self, id: QueryId) -> Cancelled {
        let mut state = self.lock();
        if state.planned.remove(&id).is_some() {
            return Cancelled::BeforeStart;
        }
        match state.running.get(&id) {
            Some(sender) if sender.send(true).is_ok() => Cancelled::Running,
            _ => Cancelled::Unknown,
        }
    }

    /// Lets go of what was not fetched in time.
    pub(super) fn sweep(&self) {
        self.sweep_older_than(PLANNED_KEPT);
    }

    fn sweep_older_than(&self, age: Duration) {
        self.lock().planned.retain(|_, planned| planned.since.elapsed() < age);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A query that runs; dropped when it has ended.
pub(super) struct Running {
    id: QueryId,
    queries: Arc<Queries>,
    cancelled: watch::Receiver<bool>,
    pub(super) counted: Counted,
}

impl Running {
    /// The same rows until the query is cancelled, which is their last item: said at once, whatever the query is doing.
    pub(super) fn until_cancelled(self, rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
        let schema = rows.schema();
        let guarded = stream::unfold(Some((rows, self)), |state| async {
            let (mut rows, mut running) = state?;
            let next = tokio::select! {
                biased;
                true = async { running.cancelled.wait_for(|cancelled| *cancelled).await.is_ok() } => None,
                next = rows.next() => Some(next),
            };
            match &next {
                Some(Some(Ok(batch))) => running.counted.sent(batch.num_rows()),
                Some(ended) => running.counted.end(ended.is_none()),
                None => {}
            }
            match next {
                Some(next) => next.map(|batch| (batch, Some((rows, running)))),
                None => {
                    let error = refused("the query was cancelled", "run it again if that was not meant");
                    Some((Err(DataFusionError::External(Box::new(error))), None))
                }
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, guarded))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.queries.lock().running.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::{Asked, FLIGHT, Who};
    use crate::{ServerCounters, Session, SessionOptions};

    fn counted() -> Counted {
        Arc::new(ServerCounters::default()).begin(Asked::new(Who::new(FLIGHT, None, None), "SELECT 1"))
    }

    async fn endless(session: &Session) -> Ready {
        let text = "SELECT max(a.value * b.value % 1003) FROM generate_series(1, 1000000) a, generate_series(1, 100000000) b";
        let statement = watershed_dialect::one_statement(text).unwrap();
        session.ready(session.plan(&statement).await.unwrap()).await.unwrap()
    }

    async fn added(queries: &Queries, session: &Session, text: &str) -> QueryId {
        let statement = watershed_dialect::one_statement(text).unwrap();
        let ready = session.ready(session.plan(&statement).await.unwrap()).await.unwrap();
        let schema = ready.schema();
        queries.add(ready, schema, counted())
    }

    async fn session() -> Session {
        Session::new(watershed_lake::Warehouse::open("memory://", &HashMap::new()).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_result_is_fetched_once() {
        let session = session().await;
        let queries = Arc::new(Queries::within(session.memory_pool().as_ref()));
        let ready = endless(&session).await;
        let schema = ready.schema();
        let id = queries.add(ready, schema, counted());
        let (_planned, running) = queries.take(id).unwrap();
        let again = queries.take(id).err().expect("it is gone").to_string();
        assert!(again.contains("run the query again"), "{again}");
        drop(running);
        assert_eq!(queries.cancel(id), Cancelled::Unknown);
    }

    #[tokio::test]
    async fn a_running_query_ends_with_the_reason_when_it_is_cancelled() {
        let session = session().await;
        let queries = Arc::new(Queries::within(session.memory_pool().as_ref()));
        let ready = endless(&session).await;
        let schema = ready.schema();
        let id = queries.add(ready, schema, counted());
        let (planned, running) = queries.take(id).unwrap();
        let mut rows = running.until_cancelled(planned.ready.start(|rows| rows).unwrap().stream);
        let waiting = tokio::time::timeout(Duration::from_millis(100), rows.next()).await;
        assert!(waiting.is_err(), "a million million pairs are not looked at that fast");
        assert_eq!(queries.cancel(id), Cancelled::Running);
        let ended = tokio::time::timeout(Duration::from_secs(10), rows.next()).await.expect("it ends soon");
        let error = QueryError::from(ended.expect("an error").expect_err("an error")).to_string();
        assert!(error.contains("cancelled"), "{error}");
        assert!(rows.next().await.is_none());
        assert_eq!(queries.cancel(id), Cancelled::Unknown);
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_number_and_time() {
        let session = session().await;
        let queries = Arc::new(Queries::within(session.memory_pool().as_ref()));
        let mut ids = Vec::new();
        for _ in 0..=PLANNED_MAX {
            ids.push(added(&queries, &session, "SELECT 1").await);
        }
        assert!(queries.take(ids[0]).is_err() && queries.take(ids[1]).is_ok());
        queries.sweep_older_than(Duration::ZERO);
        assert!(queries.take(ids[2]).is_err());
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_the_memory_that_plans_take() {
        let options = SessionOptions { memory_limit_bytes: 64 << 20, ..SessionOptions::default() };
        let warehouse = watershed_lake::Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        let session = Session::with_options(warehouse, options).unwrap();
        let queries = Arc::new(Queries::within(session.memory_pool().as_ref()));
        let list: Vec<String> = (0..20_000).map(|n| (7 * n).to_string()).collect();
        let text = format!("SELECT value FROM generate_series(1, 10) WHERE value IN ({})", list.join(","));
        let mut ids = Vec::new();
        for _ in 0..12 {
            ids.push(added(&queries, &session, &text).await);
            assert!(session.memory_pool().reserved() <= (64 << 20) / PLANNED_SHARE, "{}", session.memory_pool().reserved());
        }
        let error = queries.take(ids[0]).err().expect("it gave way").to_string();
        assert!(error.contains("gave its place to newer ones") && error.contains("run the query again"), "{error}");
        let (planned, _running) = queries.take(ids[11]).unwrap();
        let rows: Vec<_> = planned.ready.start(|rows| rows).unwrap().stream.collect().await;
        assert!(rows.iter().all(Result::is_ok), "{rows:?}");
        // One that is beyond the bound alone can be fetched.
        let few = Queries { state: Mutex::default(), planned_bytes_max: 1 };
        let id = added(&few, &session, &text).await;
        assert!(Arc::new(few).take(id).is_ok());
    }
}

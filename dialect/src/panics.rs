//! A step of a plan that panics: an error of the one query, and never the end of its rows.
//!
//! DataFusion's tasks hand a panic on to who reads their rows, or an error that names it; so it is caught where the rows of the whole plan are read.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{FutureExt, StreamExt};
use tokio::task::JoinError;
use watershed_message::{Message, panic_text};

/// What Arrow says of more than it counts.
const OVERFLOW: &str = "offset overflow";

/// A fault of the program's or of a library's, whatever the statement says.
#[derive(Debug)]
pub struct ProgramFault(pub Message);

impl fmt::Display for ProgramFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for ProgramFault {}

/// The same rows; a panic while they are computed is their last item, an error.
pub fn without_panics(rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let caught = AssertUnwindSafe(rows).catch_unwind().map(|batch| match batch {
        Ok(batch) => batch.map_err(in_a_task),
        Err(panic) => Err(of_panic(panic.as_ref())),
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, caught))
}

/// What `work` comes to, or the error that it panicked.
pub async fn without_panic<T, E: From<DataFusionError>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| Err(of_panic(panic.as_ref()).into()))
}

/// The error that a step panicked.
pub fn of_panic(panic: &(dyn Any + Send)) -> DataFusionError {
    error(panic_text(panic).unwrap_or_default())
}

/// A panic in a task of DataFusion's that it tells of by an error of its own, and what would be a panic elsewhere.
fn in_a_task(met: DataFusionError) -> DataFusionError {
    match met.find_root() {
        DataFusionError::External(inner) => match inner.downcast_ref::<Arc<JoinError>>() {
            Some(task) if task.is_panic() => error(&task.to_string()),
            _ => met,
        },
        // Where it does not panic over the same.
        DataFusionError::ArrowError(inner, _) if matches!(**inner, ArrowError::OffsetOverflowError(_)) => error(OVERFLOW),
        _ => met,
    }
}

fn error(said: &str) -> DataFusionError {
    // Arrow counts the bytes of a column of texts in 31 bits, and has no other way to say that they are too many.
    if said.contains(OVERFLOW) || said.contains("capacity overflow") {
        let message =
            Message::new("a step of it would hold more than 2 GiB in one column at once").next("make its texts and lists shorter");
        return DataFusionError::External(Box::new(message));
    }
    let message = Message::new("it met a fault of the program").next("write it in another way; the log of the process says where");
    DataFusionError::External(Box::new(ProgramFault(message)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use datafusion::arrow::array::{AsArray, Int64Array, RecordBatch};
    use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use datafusion::datasource::MemTable;
    use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
    use datafusion::physical_plan::{ExecutionPlan, execute_stream};
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::{plan_text, session_config, session_state};

    type Settings = &'static [(&'static str, &'static str)];

    const ROWS: i64 = 40_000;
    /// Late, so that rows have come before.
    const BREAKS_AT: i64 = ROWS - 1_000;

    /// Tables `a` and `b` of several partitions, and `breaks`, which gives what it is given and panics over one value.
    fn context(settings: Settings) -> SessionContext {
        let mut config = session_config().with_target_partitions(4).with_batch_size(1_000);
        for (name, value) in settings {
            config.options_mut().set(name, value).unwrap();
        }
        let context = SessionContext::new_with_state(session_state(config, None));
        let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]));
        let batch = |from: i64| RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from_iter_values(from..from + 1_000))]);
        for name in ["a", "b"] {
            let partitions = (0..4).map(|part| (0..ROWS / 4_000).map(|at| batch((at * 4 + part) * 1_000).unwrap()).collect()).collect();
            context.register_table(name, Arc::new(MemTable::try_new(Arc::clone(&schema), partitions).unwrap())).unwrap();
        }
        let breaks = |args: &[ColumnarValue]| {
            let values = ColumnarValue::values_to_arrays(args)?.remove(0);
            assert!(!values.as_primitive::<Int64Type>().values().contains(&BREAKS_AT), "byte array offset overflow in a test");
            Ok(ColumnarValue::Array(values))
        };
        context.register_udf(create_udf("breaks", vec![DataType::Int64], DataType::Int64, Volatility::Volatile, Arc::new(breaks)));
        context
    }

    fn steps(plan: &Arc<dyn ExecutionPlan>, found: &mut HashSet<String>) {
        found.insert(plan.name().to_owned());
        plan.children().into_iter().for_each(|child| steps(child, found));
    }

    /// Each kind of step that has tasks of its own, or takes rows of others' tasks.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_panic_passes_for_the_end_of_rows() {
        let merge: Settings = &[("datafusion.optimizer.prefer_hash_join", "false")];
        let cases: [(Settings, &str, &str); 15] = [
            (&[], "SELECT breaks(v) FROM a", "ProjectionExec"),
            (&[], "SELECT 1 AS x UNION ALL SELECT breaks(v) FROM a", "UnionExec"),
            (&[], "SELECT breaks(v) AS x FROM a UNION ALL SELECT v FROM b", "UnionExec"),
            (&[], "SELECT x % 7, count(*) FROM (SELECT breaks(v) AS x FROM a) GROUP BY 1", "RepartitionExec"),
            (&[], "SELECT sum(breaks(v)) FROM a", "AggregateExec"),
            (&[], "SELECT a.v FROM a JOIN (SELECT breaks(v) AS v FROM b) b ON a.v = b.v", "HashJoinExec"),
            (&[], "SELECT a.v FROM a LEFT JOIN (SELECT breaks(v) AS v FROM b) b ON a.v = b.v", "HashJoinExec"),
            (&[], "SELECT breaks(a.v) FROM a LEFT JOIN b ON a.v = b.v", "HashJoinExec"),
            (merge, "SELECT a.v FROM a JOIN (SELECT breaks(v) AS v FROM b) b ON a.v = b.v", "SortMergeJoinExec"),
            (&[], "SELECT a.v FROM (SELECT v FROM a LIMIT 3) a JOIN (SELECT breaks(v) AS v FROM b) b ON a.v < b.v", "NestedLoopJoinExec"),
            (&[], "SELECT a.v + b.v FROM (SELECT v FROM a LIMIT 3) a CROSS JOIN (SELECT breaks(v) AS v FROM b) b", "CrossJoinExec"),
            (&[], "SELECT v FROM a ORDER BY breaks(v)", "SortPreservingMergeExec"),
            (&[], "SELECT row_number() OVER (PARTITION BY x % 3 ORDER BY x) FROM (SELECT breaks(v) AS x FROM a)", "BoundedWindowAggExec"),
            (&[], "SELECT breaks(v) FROM a LIMIT 39999", "CoalescePartitionsExec"),
            (&[], "SELECT unnest([x, x]) FROM (SELECT breaks(v) AS x FROM a)", "UnnestExec"),
        ];
        let mut others = Vec::new();
        for (settings, query, step) in cases {
            let context = context(settings);
            let frame = context.execute_logical_plan(plan_text(&context, query).await.unwrap()).await.unwrap();
            let task = Arc::new(frame.task_ctx());
            let plan = frame.create_physical_plan().await.unwrap();
            let mut found = HashSet::new();
            steps(&plan, &mut found);
            if !found.contains(step) {
                others.push(format!("{query}: {found:?}"));
            }
            let mut rows = without_panics(execute_stream(plan, task).unwrap());
            let mut last = None;
            while let Some(batch) = rows.next().await {
                last = Some(batch);
            }
            let error = last.expect("an item").expect_err(query);
            assert!(error.find_root().to_string().contains("more than 2 GiB"), "{query}: {error}");
        }
        assert_eq!(others, Vec::<String>::new(), "planned otherwise than meant");
    }

    #[tokio::test]
    async fn a_panic_is_told_without_its_text() {
        let result: Result<(), DataFusionError> = without_panic(async { panic!("index 7 of 3 at src/x.rs") }).await;
        let DataFusionError::External(inner) = result.unwrap_err() else { panic!("another error") };
        assert!(inner.is::<ProgramFault>() && inner.to_string().contains("met a fault of the program"), "{inner}");
    }
}

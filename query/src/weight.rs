//! What a plan itself takes of the memory that all statements share, from when it is made until its rows have been sent: a list of 150,000 values
//! in a statement of 1 MB becomes a plan of 80 MB.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;

/// A step of a plan, or an expression in it.
const PART_BYTES: usize = 512;
/// A place of a list where an expression is that is elsewhere, too; and its entry in what the list is looked up in.
const PLACE_BYTES: usize = 64;
/// A file that a scan reads.
const FILE_BYTES: usize = 512;
/// Plans up to this size are not accounted for: a query that needs nothing else runs whatever others have taken.
const LIGHT_BYTES_MAX: usize = 1 << 20;

/// The weight of one plan, in the pool if it is heavy.
#[derive(Debug)]
pub(crate) struct Weight {
    bytes: usize,
    _held: Option<MemoryReservation>,
}

impl Weight {
    /// Fails if there is no room for it.
    pub(crate) fn of(plan: &Arc<dyn ExecutionPlan>, pool: &Arc<dyn MemoryPool>) -> Result<Self> {
        let bytes = plan_bytes(plan)?;
        let held = if bytes > LIGHT_BYTES_MAX { Some(held(pool, "plan", bytes)?) } else { None };
        Ok(Self { bytes, _held: held })
    }

    /// About what it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rows of the plan; it is there as long as they are.
    pub(crate) fn with(self, rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
        let schema = rows.schema();
        let held = rows.inspect(move |_| {
            let _until_the_end = &self;
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, held))
    }
}

/// A part of the memory that all statements share, until it is dropped.
pub(crate) fn held(pool: &Arc<dyn MemoryPool>, what: &str, bytes: usize) -> Result<MemoryReservation> {
    let reservation = MemoryConsumer::new(what).register(pool);
    reservation.try_grow(bytes)?;
    Ok(reservation)
}

fn plan_bytes(plan: &Arc<dyn ExecutionPlan>) -> Result<usize> {
    let (mut bytes, mut seen) = (0, HashSet::new());
    plan.apply(|node| {
        bytes += PART_BYTES;
        if let Some(files) = node.downcast_ref::<DataSourceExec>().and_then(|scan| scan.data_source().downcast_ref::<FileScanConfig>()) {
            bytes += FILE_BYTES * files.file_groups.iter().map(|group| group.len()).sum::<usize>();
        }
        node.apply_expressions(&mut |expr| {
            expr.apply(|part| {
                if !seen.insert(Arc::as_ptr(part).cast::<()>()) {
                    bytes += PLACE_BYTES;
                    return Ok(TreeNodeRecursion::Jump);
                }
                bytes += PART_BYTES + text_bytes(part);
                Ok(TreeNodeRecursion::Continue)
            })?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(bytes)
}

/// What a value has beside its place in an expression.
fn text_bytes(expr: &Arc<dyn PhysicalExpr>) -> usize {
    expr.downcast_ref::<Literal>().map_or(0, |literal| literal.value().size())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use futures::TryStreamExt;
    use watershed_dialect::one_statement;

    use crate::{QueryError, Session, SessionOptions};

    async fn session(memory_limit_bytes: usize) -> Session {
        let warehouse = watershed_lake::Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        Session::with_options(warehouse, SessionOptions { memory_limit_bytes, ..SessionOptions::default() }).unwrap()
    }

    fn with_list(values: usize) -> String {
        let list: Vec<String> = (0..values).map(|n| (7 * n).to_string()).collect();
        format!("SELECT count(*) AS n FROM generate_series(1, 100) WHERE value IN ({})", list.join(","))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_heavy_plan_is_in_the_pool_until_its_rows_are_sent() {
        let session = session(64 << 20).await;
        let reserved = || session.memory_pool().reserved();
        let ready = session.ready(session.plan(&one_statement(&with_list(20_000)).unwrap()).await.unwrap()).await.unwrap();
        let bytes = ready.plan_bytes();
        assert!((5 << 20..20 << 20).contains(&bytes), "{bytes}");
        assert_eq!(reserved(), bytes);
        let rows = ready.start(|rows| rows).unwrap().stream;
        assert!(reserved() >= bytes);
        assert_eq!(rows.try_collect::<Vec<_>>().await.unwrap().len(), 1);
        assert_eq!(reserved(), 0);
        let light = session.ready(session.plan(&one_statement("SELECT 1").unwrap()).await.unwrap()).await.unwrap();
        assert!(light.plan_bytes() > 0 && reserved() == 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_plan_that_the_limit_has_no_room_for_is_refused() {
        let error = session(4 << 20).await.query(&with_list(20_000)).await.err().expect("an error");
        assert!(matches!(error, QueryError::OutOfMemory { .. }), "{error}");
        assert!(error.to_string().contains("raise query.memory_limit"), "{error}");
    }
}

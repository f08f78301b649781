//! Data files that cannot be decoded: the error names the file and the column, which the reader's own does not.
//!
//! Decoding runs as fast as if nothing could fail. When it has failed, the files of the scan are read again one by one, column by column, until
//! the failure comes up a second time.

use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::error::ArrowError;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileScanConfig, FileSource, ParquetFileReaderFactory, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{FutureExt, StreamExt, TryStreamExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use watershed_message::panic_text;

use crate::bounded_batches::{batch_bytes, bounded};
use crate::error::LakeError;
use crate::limits::DAMAGE_SEARCH_MAX;

/// The same plan, in which scans of data files say what file and column they failed on, and give batches of a bounded size. For plans that are ready to run.
pub fn with_damage_named(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let is_scan = node.downcast_ref::<DataSourceExec>().is_some_and(|scan| scan.downcast_to_file_source::<ParquetSource>().is_some());
        if is_scan { Ok(Transformed::yes(Arc::new(Named { scan: node }) as Arc<dyn ExecutionPlan>)) } else { Ok(Transformed::no(node)) }
    })
    .data()
}

/// A scan whose failures are explained.
#[derive(Debug)]
struct Named {
    scan: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for Named {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        match self.scan.downcast_ref::<DataSourceExec>() {
            Some(scan) => scan.fmt_as(format, f),
            None => f.write_str(self.scan.name()),
        }
    }
}

/// It looks like the scan itself, so that plans are shown as before.
impl ExecutionPlan for Named {
    fn name(&self) -> &str {
        self.scan.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.scan.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        self.scan.apply_expressions(f)
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self { scan: Arc::clone(&self.scan).reset_state()? }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("a scan reads from no other step") }
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.scan.metrics()
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let bytes = batch_bytes(context.memory_pool().as_ref());
        Ok(bounded(self.explained(partition, context)?, bytes))
    }
}

impl Named {
    fn explained(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.scan.execute(partition, context)?;
        let config = self.scan.downcast_ref::<DataSourceExec>().and_then(|scan| scan.downcast_to_file_source::<ParquetSource>());
        let Some((config, source)) = config else { return Ok(rows) };
        let Some(readers) = source.parquet_file_reader_factory() else { return Ok(rows) };
        let schema = rows.schema();
        let filtered = source.filter().map(|filter| collect_columns(&filter)).unwrap_or_default();
        let names = schema.fields().iter().map(|field| field.name().as_str()).chain(filtered.iter().map(Column::name));
        let looked_through =
            Arc::new(Files { readers: Arc::clone(readers), files: files(config, partition), columns: names.map(str::to_owned).collect() });
        let caught = AssertUnwindSafe(rows).catch_unwind().map(|batch| batch.unwrap_or_else(|panic| Err(panicked(panic).into())));
        let explained = caught.then(move |batch| {
            let files = Arc::clone(&looked_through);
            async move {
                match batch {
                    Err(error) if is_damage(&error) => Err(files.explained(error).await),
                    batch => batch,
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, explained)))
    }
}

/// What a reader of Parquet panicked over: bytes that no writer makes.
fn panicked(panic: Box<dyn Any + Send>) -> ParquetError {
    let text = panic_text(panic.as_ref()).unwrap_or("it does not say why");
    ParquetError::General(format!("what reads it panicked ({text})"))
}

/// What `reading` comes to, or the error that it panicked.
pub(crate) async fn caught<T>(reading: impl Future<Output = Read<T>>) -> Read<T> {
    AssertUnwindSafe(reading).catch_unwind().await.unwrap_or_else(|panic| Err(panicked(panic)))
}

/// The files of a scan, those that this partition was given first: partitions take over one another's files.
fn files(config: &FileScanConfig, partition: usize) -> Vec<PartitionedFile> {
    let group = |index: usize| config.file_groups.get(index).into_iter().flat_map(|group| group.files());
    let others = (0..config.file_groups.len()).filter(|index| *index != partition);
    let mut seen = HashSet::new();
    // A large file may be there in several pieces.
    let files = group(partition).chain(others.flat_map(group)).filter(|file| seen.insert(file.object_meta.location.clone()));
    files.map(|file| PartitionedFile::new_from_meta(file.object_meta.clone())).collect()
}

fn is_damage(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::ParquetError(error) => !matches!(**error, ParquetError::External(_)),
        DataFusionError::ArrowError(error, _) => matches!(**error, ArrowError::ParquetError(_)),
        _ => false,
    }
}

/// What a scan reads.
struct Files {
    readers: Arc<dyn ParquetFileReaderFactory>,
    files: Vec<PartitionedFile>,
    /// The columns that come out or are filtered by.
    columns: HashSet<String>,
}

impl Files {
    async fn explained(&self, error: DataFusionError) -> DataFusionError {
        match tokio::time::timeout(DAMAGE_SEARCH_MAX, self.search()).await {
            Ok(Some(damage)) => damage.into(),
            Ok(None) | Err(_) => error,
        }
    }

    /// The first file that cannot be decoded.
    async fn search(&self) -> Option<LakeError> {
        for file in &self.files {
            let damaged = |column: Option<&str>, error: ParquetError| {
                let reason = error.to_string();
                // Each layer puts its name before what the one below says.
                let reason = reason.rsplit_once("Parquet error: ").map_or(reason.as_str(), |(_, reason)| reason);
                let of = column.map(|column| format!("column '{column}': ")).unwrap_or_default();
                LakeError::Damaged { path: file.object_meta.location.to_string(), reason: format!("{of}{reason}") }
            };
            let columns = match caught(opened(self.readers.as_ref(), file)).await {
                Ok(builder) => builder.schema().fields().clone(),
                // What the store itself cannot give is no damage, and has an error of its own.
                Err(ParquetError::External(_)) => continue,
                Err(error) => return Some(damaged(None, error)),
            };
            for (index, column) in columns.iter().enumerate().filter(|(_, column)| self.columns.contains(column.name())) {
                if let Err(error) = caught(decoded(self.readers.as_ref(), file, index)).await {
                    return Some(damaged(Some(column.name()), error));
                }
            }
        }
        None
    }
}

type Opened = ParquetRecordBatchStreamBuilder<Box<dyn AsyncFileReader>>;

type Read<T> = std::result::Result<T, ParquetError>;

async fn opened(readers: &dyn ParquetFileReaderFactory, file: &PartitionedFile) -> Read<Opened> {
    let reader = readers.create_reader(0, file.clone(), None, &ExecutionPlanMetricsSet::new());
    let reader: Box<dyn AsyncFileReader> = reader.map_err(|error| ParquetError::External(Box::new(error)))?;
    ParquetRecordBatchStreamBuilder::new(reader).await
}

/// Reads all of one column.
async fn decoded(readers: &dyn ParquetFileReaderFactory, file: &PartitionedFile, column: usize) -> Read<()> {
    let builder = opened(readers, file).await?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), [column]);
    builder.with_projection(mask).build()?.try_for_each(|_| async { Ok(()) }).await
}

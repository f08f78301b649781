//! How scans read data files: as DataFusion does, but a file that is gone is named, with what to do about it, and footers that others have
//! written are made fit first (`footer.rs`).
//!
//! A scan keeps its version while a vacuum goes by. DataFusion tells of what it then meets as of any object that is not there.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::common::Result as PlanResult;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectStore};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;

use crate::TableName;
use crate::damage::caught;
use crate::error::LakeError;
use crate::footer;
use crate::limits;
use crate::writer::is_own_name;

/// Makes readers of the data files of a table at one version.
#[derive(Debug)]
pub(crate) struct DataFileReaders {
    /// What reads.
    pub(crate) inner: Arc<dyn ParquetFileReaderFactory>,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) table: TableName,
    pub(crate) version: i64,
    /// The columns that the table's files store.
    pub(crate) columns: SchemaRef,
}

impl ParquetFileReaderFactory for DataFileReaders {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> PlanResult<Box<dyn AsyncFileReader + Send>> {
        let path = file.object_meta.location.clone();
        let what = Described { store: Arc::clone(&self.store), path, table: self.table.clone(), version: self.version };
        let inner = self.inner.create_reader(partition_index, file, metadata_size_hint, metrics)?;
        let columns = (!is_own_name(what.path.as_ref())).then(|| Arc::clone(&self.columns));
        Ok(Box::new(DataFileReader { inner, what, columns }))
    }
}

struct DataFileReader {
    inner: Box<dyn AsyncFileReader + Send>,
    what: Described,
    /// Of the table, if somebody else has written the file.
    columns: Option<SchemaRef>,
}

/// Which file it is.
struct Described {
    store: Arc<dyn ObjectStore>,
    path: Path,
    table: TableName,
    version: i64,
}

impl Described {
    /// The error itself unless the file is gone. Some errors are mere texts by now, so the store is asked.
    async fn explained(&self, error: ParquetError) -> ParquetError {
        let options = GetOptions { head: true, ..GetOptions::default() };
        match tokio::time::timeout(limits::REQUEST_TIMEOUT, self.store.get_opts(&self.path, options)).await {
            Ok(Err(Error::NotFound { .. })) => {
                let gone = LakeError::DataFileGone { table: self.table.clone(), path: self.path.to_string(), version: self.version };
                // So that a look for the root cause finds ours.
                ParquetError::External(Box::new(DataFusionError::from(gone)))
            }
            _ => error,
        }
    }
}

impl AsyncFileReader for DataFileReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move {
            match self.inner.get_bytes(range).await {
                Ok(bytes) => Ok(bytes),
                Err(error) => Err(self.what.explained(error).await),
            }
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move {
            match self.inner.get_byte_ranges(ranges).await {
                Ok(bytes) => Ok(bytes),
                Err(error) => Err(self.what.explained(error).await),
            }
        }
        .boxed()
    }

    fn get_metadata<'a>(&'a mut self, options: Option<&'a ArrowReaderOptions>) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move {
            match caught(self.inner.get_metadata(options)).await {
                Ok(footer) => {
                    footer::check(&footer)?;
                    let footer = footer::without_note(footer);
                    match &self.columns {
                        Some(columns) => footer::adapted(footer, columns),
                        None => Ok(footer),
                    }
                }
                Err(error) => Err(self.what.explained(error).await),
            }
        }
        .boxed()
    }
}

//! `format = 'parquet'`: only the columns that are wanted, a row group at a time, then cast to the declared types.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef, Schema, TimeUnit};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use watershed_dialect::definition::SourceDefinition;

use super::folder::OneFile;
use super::reader::{FileBatch, Opened};
use super::shape::Shape;
use super::{PARTITION, Position};
use crate::clock::now_ms;
use crate::error::{IngestError, Result};
use crate::origin::as_json;
use crate::source::RawBatch;

/// Rows decoded at once.
const BATCH_ROWS: usize = 8_192;

/// The rest of a Parquet file.
pub(crate) struct ParquetRows {
    file: OneFile,
    stream: ParquetRecordBatchStream<OneFile>,
    shape: Shape,
    /// Where each value of the shape is among the columns that are read.
    values: Vec<Option<usize>>,
    row: u64,
}

impl AsyncFileReader for OneFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move {
            if range.is_empty() {
                return Ok(Bytes::new());
            }
            self.read(range).await.map_err(|error| ParquetError::External(Box::new(error)))
        }
        .boxed()
    }

    fn get_metadata<'a>(&'a mut self, _: Option<&'a ArrowReaderOptions>) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            let size = self.entry.size;
            Ok(Arc::new(ParquetMetaDataReader::new().load_and_finish(self, size).await?))
        }
        .boxed()
    }
}

impl ParquetRows {
    /// Opens a file and goes to `row`. The inner error says why it cannot be a file of this source.
    pub(crate) async fn open(file: OneFile, definition: &SourceDefinition, wanted: &[usize], row: u64) -> Result<Opened<Self>> {
        let shape = Shape::new(definition, wanted)?;
        let builder = match reading(file.clone()).await {
            Ok(builder) => builder,
            Err(error) => return Ok(Err(unreadable(error)?)),
        };
        let schema = builder.schema().clone();
        let columns: Vec<_> = schema.fields().iter().map(|field| (field.name().as_str(), field.data_type().clone())).collect();
        let places = match shape.find(&columns) {
            Ok(places) => places,
            Err(why) => return Ok(Err(why)),
        };
        let mut read: Vec<usize> = places.iter().flatten().copied().collect();
        read.sort_unstable();
        read.dedup();
        let values = places.iter().map(|place| place.and_then(|place| read.binary_search(&place).ok())).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), read);
        let from = usize::try_from(row).unwrap_or(usize::MAX);
        let built = builder.with_projection(mask).with_batch_size(BATCH_ROWS).with_offset(from).build();
        match built {
            Ok(stream) => Ok(Ok(Self { file, stream, shape, values, row })),
            Err(error) => Ok(Err(unreadable(error)?)),
        }
    }

    /// The next rows; `None` at the end. The inner error says why the rest cannot be read.
    pub(crate) async fn next(&mut self) -> Result<Opened<Option<FileBatch>>> {
        let batch = match self.stream.next().await {
            None => return Ok(Ok(None)),
            Some(Ok(batch)) => batch,
            Some(Err(error)) => return Ok(Err(unreadable(error)?)),
        };
        let rows = batch.num_rows();
        let columns: Vec<Option<ArrayRef>> = self.values.iter().map(|value| value.map(|value| batch.column(value).clone())).collect();
        let checked = self.shape.check(&columns, rows, self.file.entry.modified_ms, Some(now_ms()))?;
        let mut raw = RawBatch::new(PARTITION);
        let first = Position { file: self.file.number, row: self.row }.offset();
        raw.offsets = (first..first + rows as i64).collect();
        raw.timestamps_ms = vec![self.file.entry.modified_ms; rows];
        if !checked.bad.is_empty() {
            for row in 0..rows {
                raw.keys.push(None);
                let text = checked.bad.contains_key(&row).then(|| as_json(&batch.slice(row, 1)));
                raw.values.push(text.as_deref());
            }
        }
        self.row += rows as u64;
        let places: Vec<usize> = (0..rows).collect();
        let decoded = self.shape.assemble(&self.file.entry.path, &raw, &places, checked, BTreeMap::new())?;
        let bytes = batch.get_array_memory_size();
        Ok(Ok(Some(FileBatch { decoded, records: rows, bytes, raw, columns: Some(batch) })))
    }

    pub(crate) fn row(&self) -> u64 {
        self.row
    }
}

/// A reader of the file. Times in INT96, as Spark writes them, are read in µs: in ns, which Arrow takes, they end in 1677 and 2262, and what
/// lies beyond becomes another time.
async fn reading(mut file: OneFile) -> parquet::errors::Result<ParquetRecordBatchStreamBuilder<OneFile>> {
    // What Arrow's writers note of their own types is not needed, and damage in that note is a panic in Arrow.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let mut metadata = ArrowReaderMetadata::load_async(&mut file, options).await?;
    let leaves = metadata.parquet_schema();
    let is_int96 = |leaf: &usize| leaves.column(*leaf).physical_type() == PhysicalType::INT96;
    let roots: Vec<usize> = (0..leaves.num_columns()).filter(is_int96).map(|leaf| leaves.get_column_root_idx(leaf)).collect();
    if !roots.is_empty() {
        let in_micros = |(index, field): (usize, &FieldRef)| match field.data_type() {
            DataType::Timestamp(TimeUnit::Nanosecond, zone) if roots.contains(&index) => {
                Arc::new(field.as_ref().clone().with_data_type(DataType::Timestamp(TimeUnit::Microsecond, zone.clone())))
            }
            _ => Arc::clone(field),
        };
        let fields: Vec<FieldRef> = metadata.schema().fields().iter().enumerate().map(in_micros).collect();
        let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
        metadata = ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options)?;
    }
    Ok(ParquetRecordBatchStreamBuilder::new_with_metadata(file, metadata))
}

/// Why a file is no Parquet file; what the store said stays an error.
fn unreadable(error: ParquetError) -> Result<String> {
    match error {
        ParquetError::External(inner) => match inner.downcast::<IngestError>() {
            Ok(error) => Err(*error),
            Err(other) => Ok(other.to_string()),
        },
        other => Ok(other.to_string()),
    }
}

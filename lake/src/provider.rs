//! A table at one version as a DataFusion table: a plain Parquet scan with partition columns and statistics.
//!
//! Files that cannot hold a wanted row are left out when the scan is planned, by partition values and by the bounds in
//! the Delta log; inside the files DataFusion prunes row groups and pages. Where few of the rows are left to pass, it reads the filter's columns
//! first and the others for the rows that passed.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use chrono::DateTime;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, Result as PlanResult, ScalarValue, ToDFSchema};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use object_store::{ObjectMeta, ObjectStore};

use crate::bounds::{self, End};
use crate::error::{LakeError, Result};
use crate::files::{Chunk, DataFile, FileSet, Layout};
use crate::limits::FILTER_WHILE_READING_MAX;
use crate::log::{COLUMN_MAPPING, DELETION_VECTORS, Protocol, way_out};
use crate::reader::DataFileReaders;
use crate::scan_statistics;
use crate::selectivity;
use crate::state::Identity;
use crate::table::Shared;
use crate::whole::Whole;
use crate::writer::below;

/// A table pinned to one version.
pub(crate) struct Snapshot {
    store: Arc<dyn ObjectStore>,
    store_url: ObjectStoreUrl,
    identity: Arc<Identity>,
    /// All columns in the order of the table, as this scan returns them.
    schema: SchemaRef,
    /// Those stored in files.
    file_schema: SchemaRef,
    version: i64,
    files: FileSet,
}

/// In which form a scan returns text and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Texts {
    /// `Utf8` and `Binary`, as tables declare them.
    Plain,
    /// `Utf8View` and `BinaryView`, which are filtered and grouped without copying a value. Texts within lists and structs stay plain.
    Views,
}

impl Texts {
    fn form(self, schema: &SchemaRef, kept: &[FieldRef]) -> SchemaRef {
        if self == Self::Plain {
            return Arc::clone(schema);
        }
        let form = |field: &FieldRef| match field.data_type() {
            _ if kept.contains(field) => Arc::clone(field),
            DataType::Utf8 => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
            DataType::Binary => Arc::new(field.as_ref().clone().with_data_type(DataType::BinaryView)),
            _ => Arc::clone(field),
        };
        Arc::new(Schema::new(schema.fields().iter().map(form).collect::<Fields>()))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({} at version {}, {} files)", self.identity.name, self.version, self.files.len())
    }
}

impl Snapshot {
    pub(crate) fn provider(
        shared: &Shared,
        identity: Arc<Identity>,
        protocol: &Protocol,
        version: i64,
        files: FileSet,
        texts: Texts,
    ) -> Result<Arc<dyn TableProvider>> {
        let deleted = || files.chunks.iter().flat_map(|chunk| &chunk.files).any(|file| file.has_deletion_vector);
        let feature = if identity.column_mapping { Some(COLUMN_MAPPING.to_owned()) } else { protocol.unreadable() };
        let feature = feature.or_else(|| deleted().then(|| DELETION_VECTORS.to_owned()));
        if let Some(feature) = feature {
            let hint = way_out(&feature);
            return Err(LakeError::Unsupported { table: identity.name.clone(), action: "read", feature, hint });
        }
        let (store, store_url) = (shared.access.store.clone(), shared.store_url.clone());
        let layout = &identity.layout;
        // Partition values come from the log, one for a file.
        let schema = texts.form(&layout.schema, &layout.partition_fields);
        let file_schema = texts.form(&layout.file_schema, &[]);
        Ok(Arc::new(Self { store, store_url, identity, schema, file_schema, version, files }))
    }

    fn layout(&self) -> &Layout {
        &self.identity.layout
    }

    /// The columns as the scan sees them: stored ones first, then partition values.
    fn scan_schema(&self) -> Schema {
        let partition_fields = &self.layout().partition_fields;
        Schema::new(self.file_schema.fields().iter().chain(partition_fields).cloned().collect::<Fields>())
    }

    /// Per chunk, which files may hold rows that pass the filters.
    fn prune(&self, state: &dyn Session, filters: &[Expr]) -> PlanResult<Vec<(Arc<Chunk>, Vec<bool>)>> {
        let everything = || self.files.chunks.iter().map(|chunk| (chunk.clone(), vec![true; chunk.files.len()])).collect();
        let Some(predicate) = conjunction(filters.iter().cloned()) else { return Ok(everything()) };
        let schema = Arc::new(self.scan_schema());
        let df_schema = schema.clone().to_dfschema()?;
        let predicate = state.create_physical_expr(predicate, &df_schema)?;
        // What cannot be turned into bounds prunes nothing.
        let Ok(predicate) = PruningPredicateBuilder::new().with_file_schema(schema).try_build(predicate) else { return Ok(everything()) };
        let pruned = self.files.chunks.iter().map(|chunk| {
            let kept = predicate.prune(&ChunkBounds { layout: self.layout(), file_schema: &self.file_schema, chunk })?;
            Ok((chunk.clone(), kept))
        });
        pruned.collect()
    }

    /// The same scan with readers that know which table and version they read.
    fn with_readers(&self, plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        let scan = plan.downcast_ref::<DataSourceExec>().and_then(|scan| scan.downcast_to_file_source::<ParquetSource>());
        let Some((config, source)) = scan else { return plan };
        let Some(inner) = source.parquet_file_reader_factory().cloned() else { return plan };
        let (store, table) = (self.store.clone(), self.identity.name.clone());
        let columns = self.layout().file_schema.clone();
        let readers = DataFileReaders { inner, store, table, version: self.version, columns };
        let source = source.clone().with_parquet_file_reader_factory(Arc::new(readers));
        DataSourceExec::from_data_source(FileScanConfigBuilder::from(config.clone()).with_source(Arc::new(source)).build())
    }

    fn partitioned_file(&self, file: &DataFile) -> Result<PartitionedFile> {
        let meta = ObjectMeta {
            location: below(&self.identity.folder, &file.path)?,
            last_modified: DateTime::from_timestamp_millis(file.modified_ms).unwrap_or_default(),
            size: file.size_bytes,
            e_tag: None,
            version: None,
        };
        Ok(PartitionedFile::new_from_meta(meta).with_partition_values(file.partition.clone()))
    }
}

#[async_trait]
impl TableProvider for Snapshot {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let layout = self.layout();
        let everything = (0..self.schema.fields().len()).collect();
        let projection = projection.unwrap_or(&everything);
        let mut kept = self.prune(state, filters)?;
        // Rows that a filter above this scan drops do not count towards a limit.
        let limit = limit.filter(|_| filters.is_empty());
        if let Some(limit) = limit {
            enough_for(&mut kept, limit);
        }
        let statistics = scan_statistics::of(layout, &self.file_schema, &kept);
        let files = kept.iter().flat_map(|(chunk, kept)| chunk.files.iter().zip(kept));
        let files = files.filter(|(_, kept)| **kept).map(|(file, _)| self.partitioned_file(file)).collect::<Result<Vec<_>>>()?;
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(self.schema.project(projection)?))));
        }

        state.runtime_env().register_object_store(self.store_url.as_ref(), Arc::new(Whole(self.store.clone())));
        let columns = TableSchema::builder(self.file_schema.clone()).with_table_partition_cols(layout.partition_fields.clone()).build();
        let scan_schema = self.scan_schema();
        let positions = projection.iter().map(|index| scan_schema.index_of(self.schema.field(*index).name()));
        let few = selectivity::of(filters, &scan_schema, &statistics.column_statistics) <= FILTER_WHILE_READING_MAX;
        let config = FileScanConfigBuilder::new(self.store_url.clone(), Arc::new(ParquetSource::new(columns)))
            .with_file_groups(FileGroup::new(files).split_files(state.config().target_partitions().max(1)))
            .with_statistics(statistics)
            .with_projection_indices(Some(positions.collect::<Result<_, _>>()?))?
            .with_limit(limit)
            .build();
        // The format's options replace those of the source.
        let mut options = state.default_table_options().parquet;
        options.global.pushdown_filters |= few;
        // In ns, times of Spark's that lie beyond 2262 or before 1677 would come out as others.
        options.global.coerce_int96 = Some("us".to_owned());
        let format = ParquetFormat::default().with_options(options);
        Ok(self.with_readers(format.create_physical_plan(state, config).await?))
    }
}

/// Keeps the first files that certainly hold `limit` rows.
fn enough_for(kept: &mut [(Arc<Chunk>, Vec<bool>)], limit: usize) {
    let mut rows = 0;
    for (chunk, kept) in kept {
        for (index, kept) in kept.iter_mut().enumerate() {
            *kept &= rows < limit;
            if *kept && chunk.rows().is_valid(index) {
                rows += usize::try_from(chunk.rows().value(index)).unwrap_or(0);
            }
        }
    }
}

/// A chunk's bounds as DataFusion asks for them.
struct ChunkBounds<'a> {
    layout: &'a Layout,
    file_schema: &'a SchemaRef,
    chunk: &'a Chunk,
}

impl ChunkBounds<'_> {
    fn partition_values(&self, column: &str) -> Option<ArrayRef> {
        let index = self.layout.partition_fields.iter().position(|field| field.name() == column)?;
        ScalarValue::iter_to_array(self.chunk.files.iter().map(|file| file.partition[index].clone())).ok()
    }

    /// In the form of the scan, in which the predicate compares.
    fn formed(&self, column: &str, bounds: ArrayRef) -> Option<ArrayRef> {
        let wanted = self.file_schema.field_with_name(column).ok()?.data_type();
        if bounds.data_type() == wanted { Some(bounds) } else { cast(&bounds, wanted).ok() }
    }
}

impl PruningStatistics for ChunkBounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        let stored = || self.formed(column.name(), bounds::of(self.chunk, column.name(), End::Lower)?);
        self.partition_values(column.name()).or_else(stored)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        let stored = || self.formed(column.name(), bounds::of(self.chunk, column.name(), End::Upper)?);
        self.partition_values(column.name()).or_else(stored)
    }

    fn num_containers(&self) -> usize {
        self.chunk.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        if let Some(values) = self.partition_values(column.name()) {
            let rows = self.chunk.rows();
            let counts = (0..values.len()).map(|index| match (values.is_null(index), rows.is_valid(index)) {
                (false, _) => Some(0),
                (true, true) => u64::try_from(rows.value(index)).ok(),
                (true, false) => None,
            });
            return Some(Arc::new(counts.collect::<UInt64Array>()));
        }
        cast(&self.chunk.nulls(column.name())?, &DataType::UInt64).ok()
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        cast(self.chunk.rows(), &DataType::UInt64).ok()
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

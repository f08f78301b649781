//! Columns that travel after the query's own through the partition-local stage: where a row came from, and what its
//! partition's watermark was before it. Whether a row is late follows from them alone, however batches were cut.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::StreamError;

/// Partition of the row, of a pipeline with several sources the [`Lane`] as a number.
pub const PARTITION: &str = "__partition";
/// Kafka offset of the row.
pub const OFFSET: &str = "__offset";
/// Watermark of the row's partition as it was before the row, in microseconds since 1970.
pub const WATERMARK: &str = "__watermark";
/// How many hidden columns there are.
pub const COUNT: usize = 3;

/// The column of side tables that says which source a row is of, where a pipeline reads several.
pub const SOURCE: &str = "source";
/// As many sources can a pipeline read.
pub const SOURCES_MAX: usize = 64;
/// Bits of a lane's number that the partition has.
const PARTITION_BITS: u32 = 24;

/// A partition of one of a pipeline's sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The source, by its place among those of the pipeline.
    pub source: usize,
    /// Its partition.
    pub partition: i32,
}

impl Lane {
    /// The number by which rows and state know it: for the only source of a pipeline its partition. Part of what records hold, so it must not
    /// change.
    pub fn number(self) -> i32 {
        (self.source as i32) << PARTITION_BITS | self.partition
    }

    /// The lane of this number; `None` if it is none, as of rows that several records made.
    pub fn of(number: i32) -> Option<Self> {
        (number >= 0).then_some(Self { source: (number >> PARTITION_BITS) as usize, partition: number & ((1 << PARTITION_BITS) - 1) })
    }

    /// Which of `tasks` beside a source a segment of state is for, whose name ends in the number of a lane: those of one partition go where the
    /// partition goes, shared ones to the first task.
    pub fn task(segment: &str, tasks: usize) -> usize {
        let lane = segment.rsplit('/').next().and_then(|slot| Self::of(slot.parse().ok()?));
        lane.map_or(0, |lane| lane.partition as usize) % tasks
    }
}

/// The names of a pipeline's sources, by their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceNames(Arc<[String]>);

impl SourceNames {
    /// In this order.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().collect())
    }

    /// Whether rows must say which source they are of.
    pub fn are_several(&self) -> bool {
        self.0.len() > 1
    }

    /// All names.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The name of one.
    pub fn get(&self, source: usize) -> &str {
        self.0.get(source).map_or("", String::as_str)
    }

    /// Where a record is, as people call it; `None` if several records made the row.
    pub fn place(&self, number: i32, offset: i64) -> Option<String> {
        let lane = self.lane(number)?;
        let of = if self.are_several() { format!("{}, ", self.get(lane.source)) } else { String::new() };
        Some(format!("{of}partition {}, offset {offset}", lane.partition))
    }

    /// The id of a row that one record made: `<source>/<partition>/<offset>`.
    pub fn id(&self, number: i32, offset: i64) -> String {
        let Lane { source, partition } = self.lane(number).unwrap_or(Lane { source: 0, partition: number });
        format!("{}/{partition}/{offset}", self.get(source))
    }

    /// The number of the lane and the offset that an id says; `None` if it is not of these sources.
    pub fn place_of(&self, id: &str) -> Option<(i32, i64)> {
        let (rest, offset) = id.rsplit_once('/')?;
        let (name, partition) = rest.rsplit_once('/')?;
        let source = self.0.iter().position(|known| known == name)?;
        Some((Lane { source, partition: partition.parse().ok()? }.number(), offset.parse().ok()?))
    }

    fn lane(&self, number: i32) -> Option<Lane> {
        if self.are_several() { Lane::of(number) } else { Some(Lane { source: 0, partition: number }) }
    }

    /// The columns by which side tables tell where a row came from; `is_known` says that each is of one record.
    pub fn fields(&self, is_known: bool) -> Vec<Field> {
        let place = [Field::new("source_partition", DataType::Int32, !is_known), Field::new("source_offset", DataType::Int64, !is_known)];
        let source = self.are_several().then(|| Field::new(SOURCE, DataType::Utf8, !is_known));
        source.into_iter().chain(place).collect()
    }

    /// The values of these columns for rows that end in hidden columns, or that have none.
    pub fn columns(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        if !has_hidden(rows.schema_ref()) {
            return self.fields(false).iter().map(|field| arrow::array::new_null_array(field.data_type(), rows.num_rows())).collect();
        }
        let hidden = hidden_columns(rows);
        if !self.are_several() {
            return hidden[..2].to_vec();
        }
        let lanes: Vec<Option<Lane>> = hidden[0].as_primitive::<Int32Type>().values().iter().map(|&number| Lane::of(number)).collect();
        let sources: StringArray = lanes.iter().map(|lane| lane.map(|lane| self.get(lane.source))).collect();
        let partitions: Int32Array = lanes.iter().map(|lane| lane.map(|lane| lane.partition)).collect();
        let offsets: Int64Array =
            hidden[1].as_primitive::<Int64Type>().values().iter().zip(&lanes).map(|(&offset, lane)| lane.map(|_| offset)).collect();
        vec![Arc::new(sources), Arc::new(partitions), Arc::new(offsets)]
    }
}

/// `visible` followed by the hidden columns.
pub fn with_hidden(visible: &Schema) -> SchemaRef {
    let mut fields: Vec<_> = visible.fields().iter().cloned().collect();
    fields.push(Field::new(PARTITION, DataType::Int32, false).into());
    fields.push(Field::new(OFFSET, DataType::Int64, false).into());
    fields.push(Field::new(WATERMARK, DataType::Int64, false).into());
    Schema::new(fields).into()
}

/// `schema` without the hidden columns, if it ends in them.
pub fn visible(schema: &Schema) -> SchemaRef {
    let fields = schema.fields();
    let end = fields.len() - if has_hidden(schema) { COUNT } else { 0 };
    Schema::new(fields[..end].to_vec()).into()
}

/// Whether the schema ends in the hidden columns.
pub fn has_hidden(schema: &Schema) -> bool {
    let fields = schema.fields();
    fields.len() >= COUNT && fields[fields.len() - COUNT].name() == PARTITION
}

/// The hidden columns of a batch that has them.
pub fn hidden_columns(batch: &RecordBatch) -> &[ArrayRef] {
    &batch.columns()[batch.num_columns() - COUNT..]
}

/// A batch without its hidden columns, if it has any.
pub fn without_hidden(batch: RecordBatch) -> Result<RecordBatch, StreamError> {
    if !has_hidden(&batch.schema()) {
        return Ok(batch);
    }
    let visible: Vec<usize> = (0..batch.num_columns() - COUNT).collect();
    Ok(batch.project(&visible)?)
}

/// The number of the lane that a batch beside a source is of; all its rows share it.
pub fn lane(batch: &RecordBatch) -> i32 {
    let column = &hidden_columns(batch)[0];
    column.as_any().downcast_ref::<Int32Array>().map_or(0, |values| values.value(0))
}

/// Puts the hidden columns after those of `rows`.
pub fn attach(
    rows: RecordBatch,
    schema: SchemaRef,
    lane: i32,
    offsets: ArrayRef,
    watermarks: Int64Array,
) -> Result<RecordBatch, StreamError> {
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(Int32Array::from_value(lane, rows.num_rows())));
    columns.push(offsets);
    columns.push(Arc::new(watermarks));
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// The rows of `batch` at `rows`.
pub fn take(batch: &RecordBatch, rows: &UInt32Array) -> Result<RecordBatch, StreamError> {
    Ok(arrow::compute::take_record_batch(batch, rows)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_several_sources_say_which_and_those_of_one_are_as_ever() {
        let batch = |numbers: &[i32]| {
            let rows = RecordBatch::try_from_iter([("n", Arc::new(Int32Array::from(numbers.to_vec())) as ArrayRef)]).unwrap();
            let schema = with_hidden(&rows.schema());
            let mut columns = rows.columns().to_vec();
            columns.push(Arc::new(Int32Array::from(numbers.to_vec())));
            columns.push(Arc::new(Int64Array::from_value(7, numbers.len())));
            columns.push(Arc::new(Int64Array::from_value(0, numbers.len())));
            RecordBatch::try_new(schema, columns).unwrap()
        };
        let second = Lane { source: 1, partition: 3 };
        assert_eq!((second.number(), Lane::of(second.number()), Lane::of(-1)), ((1 << 24) + 3, Some(second), None));
        assert_eq!(Lane { source: 0, partition: 3 }.number(), 3);

        let one = SourceNames::new(["a".to_owned()]);
        assert_eq!(one.columns(&batch(&[3, -1])).len(), 2);
        assert_eq!(one.place(3, 7).unwrap(), "partition 3, offset 7");
        let two = SourceNames::new(["a".to_owned(), "b".to_owned()]);
        let columns = two.columns(&batch(&[3, second.number(), -1]));
        let sources: Vec<_> = columns[0].as_string::<i32>().iter().collect();
        assert_eq!(sources, [Some("a"), Some("b"), None]);
        let partitions: Vec<_> = columns[1].as_primitive::<Int32Type>().iter().collect();
        assert_eq!(partitions, [Some(3), Some(3), None]);
        assert_eq!(two.place(second.number(), 7).unwrap(), "b, partition 3, offset 7");
        assert_eq!(two.place(-1, 7), None);
        let id = two.id(second.number(), 7);
        assert_eq!((id.as_str(), two.place_of(&id), two.place_of("c/3/7")), ("b/3/7", Some((second.number(), 7)), None));
    }
}

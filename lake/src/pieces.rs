//! Batches in pieces of a bounded size: a batch may have any number of rows, of any size.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::DataType;

/// Bytes that each value of a view takes beside its text.
const VIEW_BYTES: usize = 16;

/// Halves of halves of `batch`, each of about `bytes_target` at most or of one row. Nothing is copied.
pub fn pieces(batch: RecordBatch, bytes_target: usize) -> Vec<RecordBatch> {
    let rows = batch.num_rows();
    if rows < 2 || row_bytes(&batch) <= bytes_target {
        return vec![batch];
    }
    let mut all = pieces(batch.slice(0, rows / 2), bytes_target);
    all.extend(pieces(batch.slice(rows / 2, rows - rows / 2), bytes_target));
    all
}

/// Bytes of these rows alone, each value written out, even if they are a part of something larger or share their texts.
pub fn row_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(value_bytes).sum()
}

fn value_bytes(column: &ArrayRef) -> usize {
    let written_out = |lengths: &mut dyn Iterator<Item = u32>| lengths.map(|length| length as usize + VIEW_BYTES).sum::<usize>();
    match column.data_type() {
        DataType::Utf8View => written_out(&mut column.as_string_view().lengths()),
        DataType::BinaryView => written_out(&mut column.as_binary_view().lengths()),
        DataType::Struct(_) => column.as_struct().columns().iter().map(value_bytes).sum(),
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let (first, last) = (list.value_offsets()[0] as usize, list.value_offsets()[list.len()] as usize);
            size_of::<i32>() * list.len() + value_bytes(&list.values().slice(first, last - first))
        }
        DataType::Map(..) => {
            let map = column.as_map();
            let (first, last) = (map.value_offsets()[0] as usize, map.value_offsets()[map.len()] as usize);
            let entries = map.entries().slice(first, last - first);
            size_of::<i32>() * map.len() + entries.columns().iter().map(value_bytes).sum::<usize>()
        }
        // Which of the values are meant would have to be looked up, so each counts as one of the average.
        DataType::Dictionary(..) => {
            let values = column.as_any_dictionary().values();
            value_bytes(values).div_ceil(values.len().max(1)) * column.len()
        }
        _ => column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_buffer_memory_size()),
    }
}

/// The same rows without what their views point to beside what they need.
pub fn compacted(batch: RecordBatch) -> RecordBatch {
    let compacted = |column: &ArrayRef| match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => Arc::clone(column),
    };
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = batch.columns().iter().map(compacted).collect();
    // Neither types nor lengths have changed, so there is no error.
    RecordBatch::try_new_with_options(batch.schema(), columns, &options).unwrap_or(batch)
}

/// Bytes of the memory that the views of a batch point to.
pub(crate) fn viewed_bytes(batch: &RecordBatch) -> usize {
    let viewed = |column: &ArrayRef| -> usize {
        let buffers = match column.data_type() {
            DataType::Utf8View => column.as_string_view().data_buffers(),
            DataType::BinaryView => column.as_binary_view().data_buffers(),
            _ => &[],
        };
        buffers.iter().map(|buffer| buffer.len()).sum()
    };
    batch.columns().iter().map(viewed).sum()
}

#[cfg(test)]
mod tests {
    use arrow::array::{ListArray, StringArray, StringViewArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn check(text: ArrayRef) {
        let batch = RecordBatch::try_from_iter([("text", text)]).unwrap();
        let parts = pieces(batch.slice(1, 998), 250_000);
        assert!(parts.iter().all(|part| row_bytes(part) <= 250_000), "{:?}", parts.iter().map(row_bytes).collect::<Vec<_>>());
        assert_eq!(parts.iter().map(RecordBatch::num_rows).sum::<usize>(), 998);
        assert!(parts.len() < 30, "{} parts", parts.len());
        assert_eq!(pieces(batch.slice(0, 1), 10).len(), 1, "one row stays whole");
    }

    #[test]
    fn pieces_are_small_even_if_rows_differ_in_size() {
        let texts: Vec<String> = (0..1000).map(|n| "x".repeat(if n < 10 { 100_000 } else { 10 })).collect();
        check(Arc::new(StringArray::from(texts.clone())));
        check(Arc::new(StringViewArray::from_iter_values(texts)));
    }

    #[test]
    fn a_part_counts_what_it_has_alone() {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>((0..100).map(|n| Some(vec![Some(n); 1000])));
        let batch = RecordBatch::try_from_iter([("list", Arc::new(lists) as ArrayRef)]).unwrap();
        let (all, part) = (row_bytes(&batch), row_bytes(&batch.slice(10, 1)));
        assert!(all > 800_000 && (8_000..9_000).contains(&part), "{all} {part}");
    }

    #[test]
    fn compacted_rows_keep_nothing_else_alive() {
        let texts = StringViewArray::from_iter_values((0..100).map(|n| format!("{n:1000}")));
        let part = RecordBatch::try_from_iter([("text", Arc::new(texts) as ArrayRef)]).unwrap().slice(5, 2);
        assert!(viewed_bytes(&part) >= 100_000);
        let compact = compacted(part.clone());
        assert_eq!((viewed_bytes(&compact), &compact), (2_000, &part));
    }
}

//! Batches in pieces of a bounded size, in which they leave: a batch may have any number of rows, of any size.

use arrow::array::{Array, ArrayRef, RecordBatch};

/// Rows of one piece take about this at most. Clients of Flight refuse messages of more than 4 MiB unless set otherwise.
pub(crate) const PIECE_BYTES_TARGET: usize = 1 << 20;

/// Halves of halves of `batch`, each of about `bytes_target` at most or of one row. Nothing is copied.
pub(crate) fn pieces(batch: RecordBatch, bytes_target: usize) -> Vec<RecordBatch> {
    let rows = batch.num_rows();
    if rows < 2 || bytes(&batch) <= bytes_target {
        return vec![batch];
    }
    let mut all = pieces(batch.slice(0, rows / 2), bytes_target);
    all.extend(pieces(batch.slice(rows / 2, rows - rows / 2), bytes_target));
    all
}

/// Bytes of these rows alone, even if they are a part of something larger.
fn bytes(batch: &RecordBatch) -> usize {
    let of_column = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_buffer_memory_size());
    batch.columns().iter().map(of_column).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::StringArray;

    use super::*;

    #[test]
    fn messages_are_small_even_if_rows_differ_in_size() {
        let texts: Vec<String> = (0..1000).map(|n| "x".repeat(if n < 10 { 100_000 } else { 10 })).collect();
        let batch = RecordBatch::try_from_iter([("text", Arc::new(StringArray::from(texts)) as _)]).unwrap();
        let parts = pieces(batch.slice(1, 998), 250_000);
        assert!(parts.iter().all(|part| bytes(part) <= 250_000), "{:?}", parts.iter().map(bytes).collect::<Vec<_>>());
        assert_eq!(parts.iter().map(RecordBatch::num_rows).sum::<usize>(), 998);
        assert!(parts.len() < 30, "{} parts", parts.len());
        assert_eq!(pieces(batch.slice(0, 1), 10).len(), 1, "one row stays whole");
    }
}

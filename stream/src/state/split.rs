//! State of a stage whose rows are shared out by key, for another number of tasks than it was written by: each row goes where the exchange sends its key.

use arrow::array::{AsArray, UInt32Array};
use arrow::record_batch::RecordBatch;

use super::Layout;
use crate::StreamError;
use crate::exchange::{Exchange, hash};
use crate::hidden;
use crate::operator::{Chain, Operator};

/// Where the key that the exchange splits by is in the rows of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyColumns {
    /// In these columns, in the exchange's order.
    Columns(Vec<usize>),
    /// Encoded in this one, as the exchange encodes it.
    Encoded(usize),
}

/// Operators that hand on the columns they take. After another one, the exchange's places of keys mean nothing.
const KEEP_COLUMNS: [&str; 6] = ["deduplicate", "filter", "in_order", "late", "place", "rebase"];

/// Segments of a stage: name and pieces of each.
type Segments = Vec<(String, Vec<RecordBatch>)>;

/// The segments of a stage for each of `tasks` tasks; `None` if an operator cannot say which keys its rows are of. `chain` is one of the stage, `keys`
/// are places in the rows that come from the exchange.
pub fn split(
    layout: &Layout,
    stage: usize,
    chain: &mut Chain,
    segments: &[(String, Vec<RecordBatch>)],
    keys: &[usize],
    tasks: usize,
) -> Result<Option<Vec<Segments>>, StreamError> {
    let operators: Vec<&mut Box<dyn Operator>> = chain.operators_mut().map(|(_, operator)| operator).collect();
    let reach = 1 + operators.iter().take_while(|operator| KEEP_COLUMNS.contains(&operator.name())).count();
    let mut of_tasks = vec![Segments::new(); tasks];
    for (name, pieces) in segments {
        let Some(of) = layout.address(name).filter(|of| of.stage == stage) else { continue };
        let (index, segment) = (of.operator, of.segment);
        let operator = operators.get(index).filter(|_| index < reach);
        let Some(columns) = operator.and_then(|operator| operator.state_keys(segment, keys)) else { return Ok(None) };
        for of_task in &mut of_tasks {
            of_task.push((name.clone(), Vec::new()));
        }
        for rows in pieces {
            for (task, part) in parts(rows, &columns, tasks)? {
                if let Some((_, pieces)) = of_tasks[task].last_mut() {
                    pieces.push(part);
                }
            }
        }
    }
    for of_task in &mut of_tasks {
        of_task.retain(|(_, pieces)| !pieces.is_empty());
    }
    Ok(Some(of_tasks))
}

/// The rows of each task that has any.
fn parts(rows: &RecordBatch, columns: &KeyColumns, tasks: usize) -> Result<Vec<(usize, RecordBatch)>, StreamError> {
    let column = match columns {
        KeyColumns::Columns(keys) => return Exchange::new(keys, &rows.schema(), tasks)?.split(rows.clone()),
        KeyColumns::Encoded(column) => rows.column(*column).as_binary::<i32>(),
    };
    let mut rows_of = vec![Vec::new(); tasks];
    for (row, key) in column.iter().enumerate() {
        rows_of[(hash(key.unwrap_or_default()) % tasks as u64) as usize].push(row as u32);
    }
    let parts = rows_of.into_iter().enumerate().filter(|(_, of_task)| !of_task.is_empty());
    parts.map(|(task, of_task)| Ok((task, hidden::take(rows, &UInt32Array::from(of_task))?))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, Int64Array, StringArray};
    use arrow::row::{RowConverter, SortField};

    use super::*;

    #[test]
    fn rows_go_where_the_exchange_sends_their_keys() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
        let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..100).map(|i| format!("key {}", i % 17))));
        let rows = RecordBatch::try_from_iter([("n", numbers.clone()), ("name", names.clone())]).unwrap();
        let converter = RowConverter::new(vec![SortField::new(names.data_type().clone())]).unwrap();
        let encoded = converter.convert_columns(&[names]).unwrap();
        let encoded: ArrayRef = Arc::new(BinaryArray::from_iter_values(encoded.iter().map(|row| row.as_ref().to_vec())));
        let seen = RecordBatch::try_from_iter([("n", numbers), ("key", encoded)]).unwrap();
        for tasks in 1..6 {
            let sent = Exchange::new(&[1], &rows.schema(), tasks).unwrap().split(rows.clone()).unwrap();
            let columns = parts(&rows, &KeyColumns::Columns(vec![1]), tasks).unwrap();
            let bytes = parts(&seen, &KeyColumns::Encoded(1), tasks).unwrap();
            assert_eq!(sent.iter().map(|(_, rows)| rows.num_rows()).sum::<usize>(), 100);
            let numbers =
                |parts: &[(usize, RecordBatch)]| parts.iter().map(|(task, rows)| (*task, rows.column(0).clone())).collect::<Vec<_>>();
            assert_eq!((numbers(&columns), numbers(&bytes)), (numbers(&sent), numbers(&sent)));
        }
    }
}

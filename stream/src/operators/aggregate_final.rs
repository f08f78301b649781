//! The second half of a windowed aggregate: reduce. Runs after the exchange by key.
//!
//! State: the partials of each window that has not closed everywhere. Once the merged watermark reaches a window's end all slots have
//! sent theirs; they are merged in slot order, so that the result does not depend on who came first. Dropped at close.
//!
//! ```text
//! (window_start, window_end, slot, city, partial states…)  →  (window_start, window_end, city, results…)
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion::error::DataFusionError;

use super::aggregate_partial::state_schema;
use super::group_table::{GroupSpec, GroupTable};
use crate::StreamError;
use crate::budget::{Aside, Held};
use crate::fault::{Refused, RowFault};
use crate::operator::{Operator, Output, StateDelta, StateSnapshot};
use crate::segments::{Plain, Segments};
use crate::state::{KeyColumns, fit};
use crate::watermark::Watermark;

/// Where a column of the result comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The window's start.
    WindowStart,
    /// The window's end.
    WindowEnd,
    /// The last microsecond of the window.
    WindowTime,
    /// A key, by its place among the keys.
    Key(usize),
    /// A result, by its place among the aggregates.
    Result(usize),
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WindowStart => f.write_str("window_start"),
            Self::WindowEnd => f.write_str("window_end"),
            Self::WindowTime => f.write_str("window_time"),
            Self::Key(place) => write!(f, "key {place}"),
            Self::Result(place) => write!(f, "aggregate {place}"),
        }
    }
}

/// See the module documentation.
pub struct AggregateFinal {
    groups: Arc<GroupSpec>,
    layout: Vec<Part>,
    schema: SchemaRef,
    partial_schema: SchemaRef,
    /// Partials by (window end, window start), as they came.
    windows: Segments<(i64, i64)>,
}

impl AggregateFinal {
    /// `schema` is that of the result, `layout` says for each of its columns where it comes from.
    pub fn new(groups: Arc<GroupSpec>, layout: Vec<Part>, schema: SchemaRef) -> Result<Self, StreamError> {
        let partial_schema = state_schema(&groups)?;
        Ok(Self { groups, layout, schema, partial_schema, windows: Segments::default() })
    }

    fn add(&mut self, batch: RecordBatch) {
        let bound = |column: usize| batch.column(column).as_primitive::<TimestampMicrosecondType>().value(0);
        let window = (bound(1), bound(0));
        self.windows.append(window, batch);
    }

    /// The result of a window. Groups that cannot be computed, such as a sum that no longer fits its type, are added to `refused`: they
    /// must not hold back the others.
    fn close(&self, window: (i64, i64), partials: Vec<RecordBatch>, refused: &mut Vec<Refused>) -> Result<Vec<RecordBatch>, StreamError> {
        let partials = in_slot_order(&partials);
        match self.reduce(window, &partials) {
            Ok(result) => Ok(vec![result]),
            Err(StreamError::Query(error)) => self.close_by_group(window, &partials, error, refused),
            Err(other) => Err(other),
        }
    }

    fn reduce(&self, (end, start): (i64, i64), partials: &[RecordBatch]) -> Result<RecordBatch, StreamError> {
        let mut table = GroupTable::new(self.groups.clone())?;
        for batch in partials {
            table.merge(&batch.columns()[3..])?;
        }
        let rows = table.group_count();
        let drained = table.drain_results()?;
        let keys = self.groups.keys.len();
        let bound = |time: i64| Arc::new(TimestampMicrosecondArray::from_value(time, rows).with_timezone("UTC")) as ArrayRef;
        let columns = self
            .layout
            .iter()
            .map(|part| match part {
                Part::WindowStart => bound(start),
                Part::WindowEnd => bound(end),
                Part::WindowTime => bound(end - 1),
                Part::Key(i) => drained[*i].clone(),
                Part::Result(i) => drained[keys + i].clone(),
            })
            .collect();
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    /// Halves the groups until those that fail are alone.
    fn close_by_group(
        &self,
        window: (i64, i64),
        partials: &[RecordBatch],
        error: DataFusionError,
        refused: &mut Vec<Refused>,
    ) -> Result<Vec<RecordBatch>, StreamError> {
        let key_count = self.groups.keys.len();
        let converter = RowConverter::new(self.groups.keys.iter().map(|field| SortField::new(field.data_type().clone())).collect())?;
        let mut numbers: HashMap<Box<[u8]>, usize> = HashMap::new();
        let mut group_of: Vec<Vec<usize>> = Vec::with_capacity(partials.len());
        for batch in partials {
            let mut of_rows = Vec::with_capacity(batch.num_rows());
            let keys = converter.convert_columns(&batch.columns()[3..3 + key_count])?;
            for row in 0..batch.num_rows() {
                let key: Box<[u8]> = if key_count == 0 { Box::default() } else { keys.row(row).data().into() };
                let next = numbers.len();
                of_rows.push(*numbers.entry(key).or_insert(next));
            }
            group_of.push(of_rows);
        }
        let parts_of = |from: usize, to: usize| -> Result<Vec<RecordBatch>, StreamError> {
            let mut parts = Vec::new();
            for (batch, groups) in partials.iter().zip(&group_of) {
                let wanted: BooleanArray = groups.iter().map(|group| Some((from..to).contains(group))).collect();
                let part = filter_record_batch(batch, &wanted)?;
                if part.num_rows() > 0 {
                    parts.push(part);
                }
            }
            Ok(parts)
        };
        let mut results = Vec::new();
        let mut open = vec![(0, numbers.len(), Some(error))];
        while let Some((from, to, failed)) = open.pop() {
            let parts = parts_of(from, to)?;
            let error = match failed {
                Some(error) => error,
                None => match self.reduce(window, &parts) {
                    Ok(result) => {
                        results.push(result);
                        continue;
                    }
                    Err(StreamError::Query(error)) => error,
                    Err(other) => return Err(other),
                },
            };
            if to - from > 1 {
                let half = from + (to - from) / 2;
                open.push((half, to, None));
                open.push((from, half, None));
                continue;
            }
            let names: Vec<&str> = self.groups.aggregates.iter().map(|aggregate| aggregate.function.name()).collect();
            let fault = match RowFault::of("a window's result".into(), names.join(", "), error) {
                StreamError::Row(fault) => fault,
                // It is not for what is in the rows that these failed.
                other => return Err(other),
            };
            let keys: Vec<usize> = [0, 1].into_iter().chain(3..3 + key_count).collect();
            if let Some(part) = parts.first() {
                refused.push(Refused::new(&part.project(&keys)?, 0, &fault));
            }
        }
        Ok(results)
    }
}

impl Operator for AggregateFinal {
    fn name(&self) -> &'static str {
        "aggregate_final"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, batch: RecordBatch, _out: &mut Output) -> Result<(), StreamError> {
        // Partials leave their operator one window and slot at a time, and the exchange splits them by key only.
        if batch.num_rows() > 0 {
            self.add(batch);
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark, StreamError> {
        while let Some(&window) = self.windows.first().filter(|(end, _)| *end <= watermark.merged_us) {
            let partials = self.windows.remove(&window).into_iter().map(|run| run.rows).collect();
            let results = self.close(window, partials, &mut out.refused)?;
            out.rows.extend(results);
        }
        Ok(watermark)
    }

    fn held(&self) -> Held {
        Held { keys: self.windows.rows() as u64, bytes: self.windows.bytes() as u64 }
    }

    fn put_aside(&mut self, bytes: usize, aside: &dyn Aside) -> Result<usize, StreamError> {
        self.windows.put_aside(bytes, aside)
    }

    fn snapshot(&mut self) -> Result<StateDelta, StreamError> {
        self.windows.snapshot(&mut Plain::new(&self.partial_schema, |(end, start): &(i64, i64)| format!("{start}-{end}")))
    }

    fn state_keys(&self, _segment: &str, keys: &[usize]) -> Option<KeyColumns> {
        Some(KeyColumns::Columns(keys.to_vec()))
    }

    fn restore(&mut self, state: StateSnapshot) -> Result<(), StreamError> {
        for (segment, pieces) in state.segments {
            for rows in pieces {
                let rows = fit(self.name(), &segment, &rows, &self.partial_schema)?;
                if rows.num_rows() > 0 {
                    self.add(rows);
                }
            }
        }
        Ok(())
    }
}

/// Partials slot by slot. A batch may hold those of several slots one after another.
fn in_slot_order(batches: &[RecordBatch]) -> Vec<RecordBatch> {
    let slots = |batch: &RecordBatch| batch.column(2).as_primitive::<Int32Type>().values().clone();
    let mut of_slots = Vec::with_capacity(batches.len());
    for batch in batches {
        let mut from = 0;
        for same in slots(batch).chunk_by(|a, b| a == b) {
            of_slots.push((same[0], batch.slice(from, same.len())));
            from += same.len();
        }
    }
    of_slots.sort_by_key(|(slot, _)| *slot);
    of_slots.into_iter().map(|(_, batch)| batch).collect()
}

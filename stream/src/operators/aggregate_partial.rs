//! The first half of a windowed aggregate: map and combine. Runs beside the source, before any exchange.
//!
//! State: one [`GroupTable`] per open window and *slot*, of which a snapshot writes the groups that rows came for. Where the result depends on the order of rows (floating-point sums,
//! `first_value`) a slot is a Kafka partition, so that each partial is a function of that partition's prefix alone; otherwise all
//! partitions of the task share slot 0, so that memory does not grow with their number. Dropped when the window closes: a slot's
//! partial leaves once the slot's watermark reaches the window's end.
//!
//! ```text
//! rows (window_start, window_end, city, fare)  →  (window_start, window_end, slot, city, partial states…)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatchOptions, TimestampMicrosecondArray, UInt32Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use datafusion::physical_expr::PhysicalExpr;

use super::group_table::{GroupSpec, GroupTable, Inputs, Saved, as_one};
use crate::StreamError;
use crate::budget::{Aside, Held};
use crate::hidden;
use crate::operator::{Operator, Output, StateDelta, StateSnapshot};
use crate::segments::{Kind, Run, Segments};
use crate::state::fit;
use crate::watermark::Watermark;

/// Name of the column that says which slot a partial came from.
pub const SLOT: &str = "__slot";

/// What the operator does; never changes.
pub struct AggregatePartialSpec {
    /// Where `window_start` is in the input.
    pub window_start: usize,
    /// Where `window_end` is in the input.
    pub window_end: usize,
    /// Group keys beside the window's bounds.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Key types and aggregates.
    pub groups: Arc<GroupSpec>,
    /// Whether each partition has its own partials.
    pub slot_per_partition: bool,
    /// The slot of all others: after an exchange the task's number, so that its partials are merged in the same order in every run.
    pub slot: i32,
}

/// `(window_start, window_end, __slot)` which come before keys and states.
pub fn window_fields() -> Vec<FieldRef> {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    vec![
        Arc::new(Field::new("window_start", timestamp.clone(), false)),
        Arc::new(Field::new("window_end", timestamp, false)),
        Arc::new(Field::new(SLOT, DataType::Int32, false)),
    ]
}

/// `(window_start, window_end, __slot, keys…, partial states…)`.
pub fn state_schema(groups: &GroupSpec) -> Result<SchemaRef, StreamError> {
    let mut fields = window_fields();
    fields.extend(groups.state_fields()?);
    Ok(Schema::new(fields).into())
}

/// Window bounds and slot; ordered so that windows close from the front.
type WindowSlot = (i64, i64, i32);

/// See the module documentation.
pub struct AggregatePartial {
    spec: AggregatePartialSpec,
    schema: SchemaRef,
    /// By (window end, window start, slot).
    windows: BTreeMap<WindowSlot, GroupTable>,
    changed: BTreeSet<WindowSlot>,
    saved: Segments<WindowSlot>,
}

impl AggregatePartial {
    /// An operator with no open window.
    pub fn new(spec: AggregatePartialSpec) -> Result<Self, StreamError> {
        let schema = state_schema(&spec.groups)?;
        Ok(Self { spec, schema, windows: BTreeMap::new(), changed: BTreeSet::new(), saved: Segments::default() })
    }

    fn inputs(&self, rows: &RecordBatch) -> Result<Inputs, StreamError> {
        self.spec.groups.inputs(&self.spec.keys, rows)
    }

    fn add(&mut self, window: WindowSlot, inputs: &Inputs) -> Result<(), StreamError> {
        let updated = self.table(window)?.update(inputs);
        updated.map_err(|error| StreamError::aggregate((window.1, window.0), error))
    }

    fn table(&mut self, window: WindowSlot) -> Result<&mut GroupTable, StreamError> {
        self.changed.insert(window);
        match self.windows.entry(window) {
            std::collections::btree_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::btree_map::Entry::Vacant(entry) => Ok(entry.insert(GroupTable::new(self.spec.groups.clone())?)),
        }
    }
}

impl Operator for AggregatePartial {
    fn name(&self) -> &'static str {
        "aggregate_partial"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, batch: RecordBatch, _out: &mut Output) -> Result<(), StreamError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let slot = if self.spec.slot_per_partition { hidden::lane(&batch) } else { self.spec.slot };
        let starts = batch.column(self.spec.window_start).as_primitive::<TimestampMicrosecondType>();
        let ends = batch.column(self.spec.window_end).as_primitive::<TimestampMicrosecondType>();
        let (starts, ends) = (starts.values().clone(), ends.values().clone());
        let first = (ends[0], starts[0]);
        if ends.iter().zip(starts.iter()).all(|(&end, &start)| (end, start) == first) {
            return self.add((first.0, first.1, slot), &self.inputs(&batch)?);
        }
        // A batch seldom spans more than a few windows: one list of rows for each keeps their order.
        let mut rows_of: BTreeMap<(i64, i64), Vec<u32>> = BTreeMap::new();
        for (row, (&end, &start)) in ends.iter().zip(starts.iter()).enumerate() {
            rows_of.entry((end, start)).or_default().push(row as u32);
        }
        // All is computed before anything is added: if a row fails, nothing may have changed.
        let parts = rows_of.into_iter().map(|((end, start), rows)| {
            let part = hidden::take(&batch, &UInt32Array::from(rows))?;
            Ok(((end, start, slot), self.inputs(&part)?))
        });
        for (window, inputs) in parts.collect::<Result<Vec<_>, StreamError>>()? {
            self.add(window, &inputs)?;
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark, StreamError> {
        let reached_us = if self.spec.slot_per_partition { watermark.input_us } else { watermark.merged_us };
        let closing: Vec<WindowSlot> = self
            .windows
            .keys()
            .take_while(|(end, ..)| *end <= reached_us)
            .filter(|(.., slot)| !self.spec.slot_per_partition || *slot == watermark.input)
            .copied()
            .collect();
        for window in closing {
            if let Some(mut table) = self.windows.remove(&window) {
                self.changed.remove(&window);
                self.saved.remove(&window);
                let columns = table.drain_state()?;
                out.rows.push(batch(&self.schema, window, columns)?);
            }
        }
        Ok(watermark)
    }

    fn held(&self) -> Held {
        let tables = || self.windows.values();
        Held { keys: tables().map(|table| table.group_count() as u64).sum(), bytes: tables().map(|table| table.bytes() as u64).sum() }
    }

    fn put_aside(&mut self, bytes: usize, aside: &dyn Aside) -> Result<usize, StreamError> {
        let mut freed = 0;
        for table in self.windows.values_mut().rev() {
            if freed >= bytes {
                break;
            }
            freed += table.put_aside(bytes - freed, aside)?;
        }
        Ok(freed)
    }

    fn snapshot(&mut self) -> Result<StateDelta, StreamError> {
        for window in std::mem::take(&mut self.changed) {
            let Some(table) = self.windows.get_mut(&window) else { continue };
            let run = self.saved.reserve();
            match table.save(run)? {
                Saved::Whole(columns) => {
                    let rows = batch(&self.schema, window, columns)?;
                    self.saved.remove(&window);
                    self.saved.append_as(window, run, rows);
                }
                Saved::Some(Some(columns)) => self.saved.append_as(window, run, batch(&self.schema, window, columns)?),
                Saved::Some(None) => self.saved.give_back(run),
            }
        }
        self.saved.snapshot(&mut Tables { windows: &mut self.windows, schema: &self.schema })
    }

    fn restore(&mut self, state: StateSnapshot) -> Result<(), StreamError> {
        for (segment, pieces) in state.segments {
            let mut window = None;
            let mut columns = Vec::with_capacity(pieces.len());
            for rows in pieces.iter().filter(|rows| rows.num_rows() > 0) {
                let rows = fit(self.name(), &segment, rows, &self.schema)?;
                let bound = |column: usize| rows.column(column).as_primitive::<TimestampMicrosecondType>().value(0);
                let slot = rows.column(2).as_primitive::<Int32Type>().value(0);
                window = Some((bound(1), bound(0), slot));
                columns.push(rows.columns()[3..].to_vec());
            }
            if let Some(window) = window {
                let columns = as_one(&self.spec.groups, columns)?;
                self.table(window)?.merge(&columns)?;
            }
        }
        Ok(())
    }
}

/// Keys and states of a window's groups as rows of the state's schema.
fn batch(schema: &SchemaRef, (end, start, slot): WindowSlot, columns: Vec<ArrayRef>) -> Result<RecordBatch, StreamError> {
    let rows = columns.first().map_or(0, |column| column.len());
    let bound = |time: i64| Arc::new(TimestampMicrosecondArray::from_value(time, rows).with_timezone("UTC")) as ArrayRef;
    let mut all = vec![bound(start), bound(end), Arc::new(Int32Array::from_value(slot, rows)) as ArrayRef];
    all.extend(columns);
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), all, &options)?)
}

/// The tables as the container of segments sees them: each window is a segment, whose rows lie in the table.
struct Tables<'a> {
    windows: &'a mut BTreeMap<WindowSlot, GroupTable>,
    schema: &'a SchemaRef,
}

impl Kind<WindowSlot> for Tables<'_> {
    const KEEPS: bool = false;

    fn name(&self, (end, start, slot): &WindowSlot) -> String {
        format!("{start}-{end}/{slot}")
    }

    fn dead(&self, window: &WindowSlot, run: u32) -> usize {
        self.windows.get(window).map_or(0, |table| table.dead(run))
    }

    fn join(&mut self, window: &WindowSlot, runs: &[Run], id: u32) -> Result<Option<RecordBatch>, StreamError> {
        let runs: Vec<u32> = runs.iter().map(|run| run.id).collect();
        let Some(table) = self.windows.get_mut(window) else { return Ok(None) };
        table.join(&runs, id)?.map(|columns| batch(self.schema, *window, columns)).transpose()
    }
}

//! `agg(…) OVER (PARTITION BY k ORDER BY event_time RANGE BETWEEN INTERVAL '10 minutes' PRECEDING AND CURRENT ROW)`:
//! appends to each row the results over the rows before it that have its key. Several keys and frames are computed side by side over one
//! history.
//!
//! Rows must come in event-time order, all rows of one time in one batch, as [`super::in_order`] hands them on: then a row's peers are there with it.
//!
//! State: the history, a row's time and what keys, arguments and filters read of it, in segments `h/<number of first row>`. A row is
//! forgotten once the watermark is past it by the longest frame, or up to an eighth of that later. Accumulators are not state: they are
//! made of these rows again.
//!
//! ```text
//! 10:00:00  card_1  5.00   →  1 payment,   5.00 within a minute
//! 10:00:40  card_1  7.00   →  2 payments, 12.00
//! 10:01:10  card_1  1.00   →  2 payments,  8.00
//! ```

pub mod frames;
mod history;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{FieldRef, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use watershed_functions::numbers::one_key;

use self::frames::{Frames, Function};
use self::history::History;
use crate::StreamError;
use crate::budget::Held;
use crate::fault::{Refused, RowFault, evaluate, sift};
use crate::hidden;
use crate::operator::{Operator, Output, StateDelta, StateSnapshot};
use crate::state::KeyColumns;
use crate::watermark::Watermark;

/// What a key takes beside its place in an index, more or less.
const KEY_BYTES: usize = 32;

/// What the operator does; never changes.
#[derive(Debug, Clone)]
pub struct OverSpec {
    /// Where the event time is in the input.
    pub time_column: usize,
    /// What is kept of each row.
    pub values: Vec<Arc<dyn PhysicalExpr>>,
    /// Names and types of these values.
    pub value_fields: Vec<FieldRef>,
    /// One for each list of keys.
    pub windows: Vec<WindowSpec>,
}

/// All functions with one `PARTITION BY`.
#[derive(Debug, Clone)]
pub struct WindowSpec {
    /// The keys' places among the values.
    pub keys: Vec<usize>,
    /// The functions.
    pub functions: Vec<Function>,
    /// Place of each function's result among the results.
    pub results: Vec<usize>,
}

/// The rows of one window by key.
struct Index {
    spec: WindowSpec,
    converter: Option<RowConverter>,
    frames: HashMap<Box<[u8]>, Frames>,
    keep_us: i64,
    /// Rows before this are forgotten.
    kept_from_us: i64,
}

impl Index {
    fn new(spec: WindowSpec, fields: &[FieldRef]) -> Result<Self, StreamError> {
        let sort = |&key: &usize| SortField::new(fields[key].data_type().clone());
        let converter = match spec.keys.as_slice() {
            [] => None,
            keys => Some(RowConverter::new(keys.iter().map(sort).collect())?),
        };
        let keep_us = spec.functions.iter().map(Function::keep_us).max().unwrap_or(0);
        Ok(Self { spec, converter, frames: HashMap::new(), keep_us, kept_from_us: i64::MIN })
    }

    /// The keys of rows of the history.
    fn keys(&self, rows: &RecordBatch) -> Result<Keys, StreamError> {
        let columns: Vec<ArrayRef> = self.spec.keys.iter().map(|&key| one_key(rows.column(key + 1))).collect();
        Ok(Keys(match &self.converter {
            Some(converter) => Some(converter.convert_columns(&columns)?),
            None => None,
        }))
    }

    /// Forgets rows that no frame reaches any more, all keys at once: now and then, since most have none.
    fn forget(&mut self, watermark_us: i64, history: &History) -> Result<(), StreamError> {
        let before_us = watermark_us.saturating_sub(self.keep_us);
        if before_us.saturating_sub(self.kept_from_us) < (self.keep_us / 8).max(1) {
            return Ok(());
        }
        self.kept_from_us = before_us;
        for frames in self.frames.values_mut() {
            frames.forget(before_us, &self.spec.functions, history)?;
        }
        self.frames.retain(|_, frames| !frames.is_empty());
        Ok(())
    }

    fn push(&mut self, key: &[u8], time_us: i64, row: u64) {
        match self.frames.get_mut(key) {
            Some(frames) => frames.push(time_us, row),
            None => self.frames.entry(key.into()).or_default().push(time_us, row),
        }
    }
}

/// The keys of some rows; without `PARTITION BY` all have the same.
struct Keys(Option<Rows>);

impl Keys {
    fn of(&self, row: usize) -> &[u8] {
        match &self.0 {
            Some(rows) => rows.row(row).data(),
            None => &[],
        }
    }
}

/// See the module documentation.
pub struct Over {
    spec: Arc<OverSpec>,
    /// How many columns of the input are hidden.
    hidden: usize,
    schema: SchemaRef,
    history: History,
    indexes: Vec<Index>,
}

impl Over {
    /// `visible` is the schema of the result without hidden columns; `has_hidden` says whether the input ends in them.
    pub fn new(spec: Arc<OverSpec>, visible: &Schema, has_hidden: bool) -> Result<Self, StreamError> {
        let schema = if has_hidden { hidden::with_hidden(visible) } else { SchemaRef::new(visible.clone()) };
        let indexes: Vec<Index> =
            spec.windows.iter().map(|window| Index::new(window.clone(), &spec.value_fields)).collect::<Result<_, _>>()?;
        let history = History::new(&spec.value_fields, indexes.iter().map(|index| index.keep_us).max().unwrap_or(0));
        let hidden = if has_hidden { hidden::COUNT } else { 0 };
        Ok(Self { spec, hidden, schema, history, indexes })
    }

    /// Rows as they will be in the history, each beside what it came as. Rows that an expression fails on are left out.
    fn kept(&self, batch: RecordBatch, refused: &mut Vec<Refused>) -> Result<(RecordBatch, RecordBatch), StreamError> {
        let (mut taken, mut kept) = (Vec::new(), Vec::new());
        // Rows of one time must stay together, so only what is kept of them is computed piece by piece.
        sift(batch.clone(), refused, &mut |rows| {
            let times = rows.column(self.spec.time_column).as_primitive::<TimestampMicrosecondType>().values();
            let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(times.to_vec()))];
            for value in &self.spec.values {
                columns.push(evaluate(value, &rows, || "OVER".into())?);
            }
            kept.push(RecordBatch::try_new(self.history.schema(), columns)?);
            taken.push(rows);
            Ok(())
        })?;
        match (taken.pop(), kept.pop()) {
            (Some(taken_last), Some(kept_last)) if taken.is_empty() => Ok((taken_last, kept_last)),
            (taken_last, kept_last) => {
                taken.extend(taken_last);
                kept.extend(kept_last);
                Ok((concat_batches(&batch.schema(), &taken)?, concat_batches(&self.history.schema(), &kept)?))
            }
        }
    }

    /// The results of all functions for rows that have just come. `failed` gets the rows that have none: a sum that no longer fits its
    /// type, say.
    fn results(
        &mut self,
        first: u64,
        kept: &RecordBatch,
        times: &[i64],
        failed: &mut BTreeMap<usize, RowFault>,
    ) -> Result<Vec<Vec<ScalarValue>>, StreamError> {
        let functions = self.indexes.iter().map(|index| index.spec.functions.len()).sum();
        let mut results = vec![Vec::with_capacity(times.len()); functions];
        for index in &mut self.indexes {
            let keys = index.keys(kept)?;
            let mut from = 0;
            while from < times.len() {
                let now_us = times[from];
                let to = from + times[from..].partition_point(|&time| time == now_us);
                for row in from..to {
                    index.push(keys.of(row), now_us, first + row as u64);
                }
                for row in from..to {
                    let Some(frames) = index.frames.get_mut(keys.of(row)) else { continue };
                    for (place, function) in index.spec.functions.iter().enumerate() {
                        let result = match frames.evaluate(function, place, now_us, &self.history) {
                            Err(StreamError::Query(error)) => match RowFault::of("OVER".into(), function.field.name().clone(), error) {
                                StreamError::Row(fault) => {
                                    failed.entry(row).or_insert(*fault);
                                    ScalarValue::try_from(function.field.data_type())?
                                }
                                other => return Err(other),
                            },
                            result => result?,
                        };
                        results[index.spec.results[place]].push(result);
                    }
                }
                from = to;
            }
        }
        Ok(results)
    }

    fn forget(&mut self, watermark_us: i64) -> Result<(), StreamError> {
        for index in &mut self.indexes {
            index.forget(watermark_us, &self.history)?;
        }
        self.history.forget(self.indexes.iter().map(|index| index.kept_from_us).min().unwrap_or(i64::MIN));
        Ok(())
    }
}

impl Operator for Over {
    fn name(&self) -> &'static str {
        "over"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> Result<(), StreamError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let (batch, kept) = self.kept(batch, &mut out.refused)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let times = batch.column(self.spec.time_column).as_primitive::<TimestampMicrosecondType>().values().clone();
        let first = self.history.push(kept.clone())?;
        let mut failed = BTreeMap::new();
        let results = self.results(first, &kept, &times, &mut failed)?;
        let own = batch.num_columns() - self.hidden;
        let mut columns: Vec<ArrayRef> = batch.columns()[..own].to_vec();
        for values in results {
            let result = ScalarValue::iter_to_array(values)?;
            let declared = self.schema.field(columns.len()).data_type();
            columns.push(if result.data_type() == declared { result } else { cast(&result, declared)? });
        }
        columns.extend_from_slice(&batch.columns()[own..]);
        let mut rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        if !failed.is_empty() {
            out.refused.extend(failed.iter().map(|(&row, fault)| Refused::new(&batch, row, fault)));
            let whole: BooleanArray = (0..rows.num_rows()).map(|row| Some(!failed.contains_key(&row))).collect();
            rows = filter_record_batch(&rows, &whole)?;
        }
        out.rows.push(rows);
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, _out: &mut Output) -> Result<Watermark, StreamError> {
        self.forget(watermark.merged_us)?;
        Ok(watermark)
    }

    fn held(&self) -> Held {
        let keys: usize = self.indexes.iter().map(|index| index.frames.len()).sum();
        // Each index knows of each row its time and its number, in lists that are half full at worst.
        let rows = self.history.rows() * self.indexes.len() * 2 * size_of::<(i64, u64)>();
        let frames = keys * 2 * (size_of::<(Box<[u8]>, Frames)>() + KEY_BYTES);
        Held { keys: keys as u64, bytes: (self.history.bytes() + rows + frames) as u64 }
    }

    fn snapshot(&mut self) -> Result<StateDelta, StreamError> {
        self.history.snapshot()
    }

    fn state_keys(&self, _segment: &str, keys: &[usize]) -> Option<KeyColumns> {
        let is_column =
            |value: &Arc<dyn PhysicalExpr>, key: usize| value.downcast_ref::<Column>().is_some_and(|column| column.index() == key);
        // The history begins with the time.
        let place = |&key: &usize| self.spec.values.iter().position(|value| is_column(value, key)).map(|place| place + 1);
        keys.iter().map(place).collect::<Option<_>>().map(KeyColumns::Columns)
    }

    fn restore(&mut self, state: StateSnapshot) -> Result<(), StreamError> {
        self.history.restore(state)?;
        for index in &mut self.indexes {
            for (first, rows) in self.history.iter() {
                let keys = index.keys(rows)?;
                let times = rows.column(0).as_primitive::<Int64Type>().values();
                for (row, &time_us) in times.iter().enumerate() {
                    index.push(keys.of(row), time_us, first + row as u64);
                }
            }
        }
        Ok(())
    }
}

//! The stage beside a source: its inputs are partitions, whose watermarks follow from their rows one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;

use super::{Cut, Message, Stage, Took};
use crate::StreamError;
use crate::fault::RowFault;
use crate::hidden::{self, Lane};
use crate::watermark::{PartitionWatermark, Watermark};

/// One task of the stage, over a group of partitions.
pub struct SourceStage {
    stage: Stage,
    /// Which source, by its place in the plan.
    source: usize,
    watermarks: BTreeMap<i32, PartitionWatermark>,
    /// Where the event time is among the columns of the source.
    time_column: Option<usize>,
    /// Whether rows carry hidden columns.
    carries_hidden: bool,
}

/// Rows that were not taken: their places among those that were given, and why.
pub type RefusedRows = Vec<(usize, RowFault)>;

impl SourceStage {
    /// Beside the source of this place in the plan. `watermarks` are those of all its partitions.
    pub fn new(
        stage: Stage,
        source: usize,
        watermarks: BTreeMap<i32, PartitionWatermark>,
        time_column: Option<usize>,
        carries_hidden: bool,
    ) -> Self {
        Self { stage, source, watermarks, time_column, carries_hidden }
    }

    /// The watermark of each of its partitions.
    pub fn watermarks(&self) -> &BTreeMap<i32, PartitionWatermark> {
        &self.watermarks
    }

    /// Takes the next rows of a partition. Rows that cannot be taken are told apart; if `stops`, the partition ends before the first of them, as
    /// if no later one had come.
    pub fn take(
        &mut self,
        partition: i32,
        mut rows: RecordBatch,
        offsets: &Int64Array,
        stops: bool,
    ) -> Result<(Took, RefusedRows), StreamError> {
        let (mut took, mut refused) = (Took::default(), Vec::new());
        if rows.num_rows() == 0 {
            return Ok((took, refused));
        }
        let times = self.time_column.map(|column| rows.column(column).clone());
        let started = self.watermarks.get(&partition).copied();
        let before = times.as_ref().and_then(|times| self.fold(partition, times));
        if self.carries_hidden {
            let schema = hidden::with_hidden(&rows.schema());
            let before = before.unwrap_or_else(|| Int64Array::from_value(i64::MIN, rows.num_rows()));
            rows = hidden::attach(rows, schema, self.lane(partition), Arc::new(offsets.clone()), before)?;
        }
        self.process(rows, 0, stops, &mut refused, &mut took)?;
        if let (true, Some((row, _)), Some(times), Some(started)) = (stops, refused.first(), &times, started) {
            self.watermarks.insert(partition, started);
            self.fold(partition, &times.slice(0, *row));
        }
        let (was, is) = (started.map(|w| w.watermark_us), self.watermarks.get(&partition).map(|w| w.watermark_us));
        if let Some(input_us) = is.filter(|_| is > was) {
            self.advance(partition, input_us, &mut took)?;
        }
        Ok((took, refused))
    }

    /// Raises the watermark of a partition, of which no row is expected for now. `None` if it has come so far already.
    pub fn raise(&mut self, partition: i32, floor_us: i64) -> Result<Option<Took>, StreamError> {
        let Some(watermark) = self.watermarks.get_mut(&partition).filter(|w| w.watermark_us < floor_us) else { return Ok(None) };
        watermark.raise(floor_us);
        let mut took = Took::default();
        self.advance(partition, floor_us, &mut took)?;
        Ok(Some(took))
    }

    /// Ends an epoch with the rows taken so far.
    pub fn cut(&mut self, cut: Cut) -> Result<Took, StreamError> {
        let mut took = Took::default();
        self.stage.cut(cut, &mut took)?;
        Ok(took)
    }

    /// See [`Stage::shared_out`].
    pub fn shared_out(&self, message: Message) -> Result<Vec<(usize, Message)>, StreamError> {
        self.stage.shared_out(message)
    }

    /// Folds the event times of a partition's next rows into its watermark. Gives it as it was before each.
    fn fold(&mut self, partition: i32, times: &dyn Array) -> Option<Int64Array> {
        let watermark = self.watermarks.get_mut(&partition)?;
        Some(watermark.fold(times.as_primitive::<TimestampMicrosecondType>()))
    }

    /// Pushes rows through the chain. Where it cannot take one, their halves, until those to blame are alone: `refused` gets their places,
    /// counted from `first` for the first row.
    fn process(
        &mut self,
        rows: RecordBatch,
        first: usize,
        stops: bool,
        refused: &mut RefusedRows,
        took: &mut Took,
    ) -> Result<(), StreamError> {
        match self.stage.rows(rows.clone(), took) {
            Err(StreamError::Row(fault)) if rows.num_rows() <= 1 => refused.push((first, *fault)),
            Err(StreamError::Row(_)) => {
                let half = rows.num_rows() / 2;
                for (from, to) in [(0, half), (half, rows.num_rows())] {
                    if stops && !refused.is_empty() {
                        break;
                    }
                    self.process(rows.slice(from, to - from), first + from, stops, refused, took)?;
                }
            }
            other => other?,
        }
        Ok(())
    }

    /// By which number rows know where they came from.
    fn lane(&self, partition: i32) -> i32 {
        Lane { source: self.source, partition }.number()
    }

    fn advance(&mut self, partition: i32, input_us: i64, took: &mut Took) -> Result<(), StreamError> {
        let merged_us = self.watermarks.values().map(|w| w.watermark_us).min().unwrap_or(i64::MIN);
        self.stage.advance(Watermark { input: self.lane(partition), input_us, merged_us }, took)
    }
}

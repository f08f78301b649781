//! `a JOIN b ON a.k = b.k AND a.t BETWEEN b.t - i AND b.t + j`: pairs of rows that agree in the keys and are close in event time; outer joins hand
//! on rows without a partner, too.
//!
//! Rows of both sides come as rows of one kind: keys, time, which side, the columns of the left, and those of the right, NULL for the other side. A row
//! waits until the watermark has passed its time. Then it meets those of the other side that have been passed before, so that each pair leaves once,
//! with the later of its two, in whatever order rows came. It stays as long as one that is still to come could meet it; with that it is known
//! whether it had a partner.
//!
//! ```text
//! a.t BETWEEN b.t AND b.t + 10 min        watermark   leaves
//! b 10:00                                  10:01
//! a 10:05                                  10:06      (a 10:05, b 10:00)
//!                                          10:11      b 10:00 is forgotten; had it met none, RIGHT and FULL joins hand it on now
//! ```
//!
//! State: rows of each side in segments by second: `lw`, `rw` those that wait, `lk`, `rk` those that can meet others, `ld`, `rd` those that are only kept
//! for what others need to know of them; dropped when the watermark has passed all that they can meet.

mod index;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, UInt32Array, new_null_array};
use arrow::compute::{concat_batches, filter_record_batch, not};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};

use self::index::Index;
use super::by_time::{ByTime, times};
use crate::StreamError;
use crate::budget::{Aside, Held};
use crate::hidden;
use crate::operator::{Operator, Output, StateDelta, StateSnapshot};
use crate::state::{KeyColumns, fit};
use crate::watermark::Watermark;

/// So many pairs are handed on as one batch.
const PAIRS_MAX: usize = 8_192;

/// What the operator does; never changes.
#[derive(Debug, Clone)]
pub struct IntervalJoinSpec {
    /// How many key columns there are: the first ones of its rows. The time follows, and then whether the row is of the right side.
    pub keys: usize,
    /// How many columns each side has after these.
    pub columns: [usize; 2],
    /// The time of the left row less that of the right one is at least this, in microseconds.
    pub least_us: i64,
    /// It is at most this.
    pub most_us: i64,
    /// Whether rows of the left and of the right are handed on that have no partner.
    pub keeps: [bool; 2],
    /// Whether pairs leave in an order that does not depend on when the watermark moved.
    pub in_order: bool,
}

impl IntervalJoinSpec {
    /// How long after its own time a row of a side can still find a partner, in microseconds.
    fn ahead_us(&self, side: usize) -> i64 {
        if side == 0 { self.least_us.saturating_neg().max(0) } else { self.most_us.max(0) }
    }

    /// How long after its own time it is needed.
    fn needed_us(&self, side: usize) -> i64 {
        // Whether a row of the other side had a partner is found out when that can find no other.
        let others_us = if self.keeps[1 - side] { self.ahead_us(1 - side) } else { 0 };
        self.ahead_us(side).saturating_add(others_us)
    }

    /// How much older than the watermark the rows may be that are handed on, in microseconds.
    pub fn reach_us(&self) -> i64 {
        self.ahead_us(0).max(self.ahead_us(1))
    }

    /// The times that a row of a side can meet, from the first to the last.
    fn partners_us(&self, side: usize, time_us: i64) -> (i64, i64) {
        match side {
            0 => (time_us.saturating_sub(self.most_us), time_us.saturating_sub(self.least_us)),
            _ => (time_us.saturating_add(self.least_us), time_us.saturating_add(self.most_us)),
        }
    }

    /// The columns of a side's rows as they are kept: keys, time, and its own, by their places in the rows that come.
    fn places(&self, side: usize) -> Vec<usize> {
        let first = self.keys + 2 + if side == 0 { 0 } else { self.columns[0] };
        (0..=self.keys).chain(first..first + self.columns[side]).collect()
    }
}

/// The rows of one side.
struct Side {
    waiting: ByTime,
    kept: ByTime,
    /// Of which it is known whether they had a partner.
    decided: ByTime,
    /// Those of `kept` and `decided`, by key.
    index: Index,
}

/// See the module documentation.
pub struct IntervalJoin {
    spec: IntervalJoinSpec,
    sides: [Side; 2],
    schema: SchemaRef,
    watermark_us: i64,
}

/// Rows to hand on, and when each of them was known.
type Found = Vec<(RecordBatch, Vec<i64>)>;

impl IntervalJoin {
    /// `input` is the schema of rows as they come, `output` that of pairs.
    pub fn new(spec: IntervalJoinSpec, input: &Schema, output: SchemaRef) -> Result<Self, StreamError> {
        let side = |side: usize| {
            let schema: SchemaRef = Arc::new(input.project(&spec.places(side))?);
            let names: [&'static str; 3] = if side == 0 { ["lw", "lk", "ld"] } else { ["rw", "rk", "rd"] };
            let [waiting, kept, decided] = names.map(|name| ByTime::new(spec.keys, schema.clone(), name));
            Ok::<_, StreamError>(Side { waiting, kept, decided, index: Index::new(spec.keys, &schema)? })
        };
        Ok(Self { sides: [side(0)?, side(1)?], spec, schema: output, watermark_us: i64::MIN })
    }

    /// Adds rows that came.
    fn wait(&mut self, batch: &RecordBatch) -> Result<(), StreamError> {
        let is_right = batch.column(self.spec.keys + 1).as_boolean().clone();
        for side in 0..2 {
            let own = if side == 1 { is_right.clone() } else { not(&is_right)? };
            if own.true_count() > 0 {
                let rows = if own.true_count() == batch.num_rows() { batch.clone() } else { filter_record_batch(batch, &own)? };
                let rows = rows.project(&self.spec.places(side))?;
                let rows = RecordBatch::try_new(self.sides[side].waiting.schema().clone(), rows.columns().to_vec())?;
                self.sides[side].waiting.add(&rows)?;
            }
        }
        Ok(())
    }

    /// The watermark has come to `us`.
    fn advance(&mut self, us: i64) -> Result<Found, StreamError> {
        let mut found = Found::new();
        let ripe = [self.sides[0].waiting.take_before(us)?, self.sides[1].waiting.take_before(us)?];
        // Rows of the left meet all of the right, and those of the right the ones of the left from before: each pair once.
        self.keep(1, ripe[1].as_ref())?;
        for (side, rows) in ripe.iter().enumerate() {
            if let Some(rows) = rows {
                self.pairs(side, rows, &mut found)?;
            }
        }
        self.keep(0, ripe[0].as_ref())?;
        for side in 0..2 {
            if self.spec.keeps[side] {
                self.decide(side, us.saturating_sub(self.spec.ahead_us(side)), &mut found)?;
            }
        }
        for side in 0..2 {
            let needed_us = us.saturating_sub(self.spec.needed_us(side));
            let Side { kept, decided, index, .. } = &mut self.sides[side];
            if !self.spec.keeps[side] {
                kept.drop_before(needed_us);
            }
            decided.drop_before(needed_us);
            index.expire(needed_us)?;
        }
        Ok(found)
    }

    /// Rows of a side can be met from now on.
    fn keep(&mut self, side: usize, rows: Option<&RecordBatch>) -> Result<(), StreamError> {
        let Some(rows) = rows else { return Ok(()) };
        self.sides[side].kept.add(rows)?;
        self.sides[side].index.add(rows)
    }

    /// The pairs of rows of a side with those of the other one that can be met.
    fn pairs(&self, side: usize, rows: &RecordBatch, found: &mut Found) -> Result<(), StreamError> {
        let other = &self.sides[1 - side].index;
        let own_times = times(rows, self.spec.keys);
        let (mut own, mut partners, mut known_us) = (Vec::new(), Vec::new(), Vec::new());
        let keys = other.keys(rows)?;
        for (row, &time_us) in own_times.iter().enumerate() {
            let (from_us, to_us) = self.spec.partners_us(side, time_us);
            for (partner_us, partner) in other.find(&keys, row, from_us, to_us) {
                own.push(row as u32);
                partners.push(partner);
                known_us.push(time_us.max(partner_us));
                if own.len() == PAIRS_MAX {
                    let known_us = std::mem::take(&mut known_us);
                    found.push((self.paired(side, rows, std::mem::take(&mut own), &std::mem::take(&mut partners))?, known_us));
                }
            }
        }
        if !own.is_empty() {
            found.push((self.paired(side, rows, own, &partners)?, known_us));
        }
        Ok(())
    }

    /// Rows of a side beside their partners.
    fn paired(&self, side: usize, rows: &RecordBatch, own: Vec<u32>, partners: &[index::Place]) -> Result<RecordBatch, StreamError> {
        let own = hidden::take(rows, &UInt32Array::from(own))?;
        let partners = self.sides[1 - side].index.rows(partners)?;
        let columns = |rows: &RecordBatch| rows.columns()[self.spec.keys + 1..].to_vec();
        let (left, right) = if side == 0 { (&own, &partners) } else { (&partners, &own) };
        Ok(RecordBatch::try_new(self.schema.clone(), [columns(left), columns(right)].concat())?)
    }

    /// Hands on the rows of a side before `us` that had no partner.
    fn decide(&mut self, side: usize, us: i64, found: &mut Found) -> Result<(), StreamError> {
        let Some(rows) = self.sides[side].kept.take_before(us)? else { return Ok(()) };
        let other = &self.sides[1 - side].index;
        let (keys, own_times) = (other.keys(&rows)?, times(&rows, self.spec.keys));
        let is_alone = |(row, &time_us): (usize, &i64)| {
            let (from_us, to_us) = self.spec.partners_us(side, time_us);
            Some(other.find(&keys, row, from_us, to_us).next().is_none())
        };
        let alone: BooleanArray = own_times.iter().enumerate().map(is_alone).collect();
        if alone.true_count() > 0 {
            let alone = filter_record_batch(&rows, &alone)?;
            let known_us = times(&alone, self.spec.keys).iter().map(|us| us.saturating_add(self.spec.ahead_us(side))).collect();
            let own = alone.columns()[self.spec.keys + 1..].to_vec();
            let others = &self.schema.fields()[if side == 0 { self.spec.columns[0] } else { 0 }..][..self.spec.columns[1 - side]];
            let nulls: Vec<ArrayRef> = others.iter().map(|field| new_null_array(field.data_type(), alone.num_rows())).collect();
            let columns = if side == 0 { [own, nulls].concat() } else { [nulls, own].concat() };
            found.push((RecordBatch::try_new(self.schema.clone(), columns)?, known_us));
        }
        if self.spec.needed_us(side) > self.spec.ahead_us(side) {
            self.sides[side].decided.add(&rows)?;
        }
        Ok(())
    }

    /// What was found, in the order of when it was known; what was known at one moment by what is in it.
    fn in_order(&self, found: Found) -> Result<Vec<RecordBatch>, StreamError> {
        if !self.spec.in_order || found.is_empty() {
            return Ok(found.into_iter().map(|(rows, _)| rows).collect());
        }
        let known_us: Vec<i64> = found.iter().flat_map(|(_, known_us)| known_us.iter().copied()).collect();
        let all = concat_batches(&self.schema, found.iter().map(|(rows, _)| rows))?;
        let field = |column: &usize| SortField::new(all.column(*column).data_type().clone());
        let columns: Vec<usize> = (0..all.num_columns()).filter(|column| RowConverter::supports_fields(&[field(column)])).collect();
        let converter = RowConverter::new(columns.iter().map(field).collect())?;
        let content = converter.convert_columns(&columns.iter().map(|&column| all.column(column).clone()).collect::<Vec<_>>())?;
        let mut order: Vec<u32> = (0..all.num_rows() as u32).collect();
        order.sort_by_key(|&row| (known_us[row as usize], content.row(row as usize)));
        Ok(vec![hidden::take(&all, &UInt32Array::from(order))?])
    }
}

impl Operator for IntervalJoin {
    fn name(&self) -> &'static str {
        "interval_join"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, batch: RecordBatch, _out: &mut Output) -> Result<(), StreamError> {
        self.wait(&batch)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark, StreamError> {
        if watermark.merged_us > self.watermark_us {
            self.watermark_us = watermark.merged_us;
            let found = self.advance(watermark.merged_us)?;
            out.rows.extend(self.in_order(found)?);
        }
        let reached_us = match watermark.merged_us {
            i64::MAX => i64::MAX,
            us => us.saturating_sub(self.spec.reach_us()),
        };
        Ok(Watermark { merged_us: reached_us, ..watermark })
    }

    fn held(&self) -> Held {
        let all = self.sides.iter().flat_map(|side| [side.waiting.held(), side.kept.held(), side.decided.held(), side.index.held()]);
        all.fold(Held::default(), |sum, held| Held { keys: sum.keys + held.keys, bytes: sum.bytes + held.bytes })
    }

    fn put_aside(&mut self, bytes: usize, aside: &dyn Aside) -> Result<usize, StreamError> {
        // Those that can be met are looked up all the time.
        let mut freed = 0;
        for side in &mut self.sides {
            if freed < bytes {
                freed += side.waiting.put_aside(bytes - freed, aside)?;
            }
        }
        Ok(freed)
    }

    fn snapshot(&mut self) -> Result<StateDelta, StreamError> {
        let mut all = StateDelta::default();
        for rows in self.sides.iter_mut().flat_map(|side| [&mut side.waiting, &mut side.kept, &mut side.decided]) {
            let delta = rows.snapshot()?;
            all.deletes.extend(delta.deletes);
            all.changes.extend(delta.changes);
        }
        Ok(all)
    }

    fn state_keys(&self, _segment: &str, keys: &[usize]) -> Option<KeyColumns> {
        Some(KeyColumns::Columns(keys.to_vec()))
    }

    fn restore(&mut self, state: StateSnapshot) -> Result<(), StreamError> {
        let name = self.name();
        let mut met: [Vec<RecordBatch>; 2] = [Vec::new(), Vec::new()];
        for (segment, pieces) in state.segments {
            let mismatch = || StreamError::StateMismatch { operator: name, segment: segment.clone() };
            let (place, kind) = segment.split_once('/').and_then(|(kind, _)| kind.split_at_checked(1)).ok_or_else(mismatch)?;
            let place = ["l", "r"].iter().position(|known| *known == place).ok_or_else(mismatch)?;
            let side = &mut self.sides[place];
            let rows_of = match kind {
                "w" => &mut side.waiting,
                "k" => &mut side.kept,
                "d" => &mut side.decided,
                _ => return Err(mismatch()),
            };
            for rows in pieces {
                let rows = fit(name, &segment, &rows, rows_of.schema())?;
                rows_of.add(&rows)?;
                if kind != "w" {
                    met[place].push(rows);
                }
            }
        }
        for (side, met) in self.sides.iter_mut().zip(met) {
            let mut all = ByTime::new(self.spec.keys, side.kept.schema().clone(), "");
            met.iter().try_for_each(|rows| all.add(rows))?;
            if let Some(rows) = all.take_before(i64::MAX)? {
                side.index.add_in_parts(&rows)?;
            }
        }
        Ok(())
    }
}

/// The schema of the rows that come: keys of these types, the time, whether the row is of the right side, and the columns of both, any of which may be
/// NULL.
pub fn input_schema(keys: &[Field], time: &Field, sides: [&Schema; 2]) -> SchemaRef {
    let key = |(place, field): (usize, &Field)| Arc::new(field.clone().with_name(format!("__key_{place}")).with_nullable(true));
    let mut fields: Vec<_> = keys.iter().enumerate().map(key).collect();
    fields.push(Arc::new(time.clone().with_name("__time")));
    fields.push(Arc::new(Field::new("__right", arrow::datatypes::DataType::Boolean, false)));
    let of_side =
        |schema: &Schema| schema.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true))).collect::<Vec<_>>();
    fields.extend(sides.into_iter().flat_map(of_side));
    Schema::new(fields).into()
}

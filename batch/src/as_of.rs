//! Facts joined with the features as they were at their times.
//!
//! ```text
//! facts      payment p, card c, 10:07            features    card c, window_end 10:05   declines 1
//!                                                            card c, window_end 10:10   declines 7   ◄─ not known at 10:07
//! result     payment p, card c, 10:07, window_end 10:05, declines 1
//! ```
//!
//! For each fact the newest feature row of its key is taken whose time is not later than the fact's (with `strict`, earlier): what a service could
//! have known then. A fact without one keeps empty features. A feature row's time is when it became known, so for aggregates over windows that is
//! the window's end. The join is Polars' `join_asof` over keys, times and row numbers; both tables are held in memory, within the limit of all jobs.
//! Before anything is written, every match is checked once more: no row may know the future.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat_batches, take};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::Column;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{Expr, col};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{DataFrame, SessionContext};
use futures::TryStreamExt;
use polars_core::prelude::{Column as PolarsColumn, DataFrame as PolarsFrame, PolarsResult};
use polars_ops::prelude::{AsofJoinBy, AsofStrategy};
use watershed_dialect::{AsOfJoin, as_of_columns, plan_text, without_panics};
use watershed_lake::{with_bounded_batches, with_damage_named};

use crate::BatchError;

/// What belongs together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matching<'a> {
    /// The columns that say whose features they are; both sides have them.
    pub(crate) keys: &'a [String],
    /// When a fact happened: a column of the facts.
    pub(crate) time: &'a str,
    /// When a feature row became known: a column of the features.
    pub(crate) feature_time: &'a str,
    /// Take only features from before the fact, not of the same moment.
    pub(crate) strict: bool,
}

impl Matching<'_> {
    /// Joins rows that are computed as they are needed.
    pub(crate) async fn joined(&self, facts: DataFrame, features: DataFrame) -> Result<Joined, BatchError> {
        // A key that is not known belongs to nobody, and must not match the facts without one.
        let known = self.keys.iter().try_fold(features, |features, key| features.filter(named(key).is_not_null()))?;
        let facts = sorted_rows(facts, self.time).await?;
        let features = sorted_rows(known, self.feature_time).await?;
        self.join(facts, features)
    }

    fn join(&self, facts: Held, features: Held) -> Result<Joined, BatchError> {
        let (memory, facts, features) = ([facts.memory, features.memory], &facts.rows, &features.rows);
        let refused = |error: arrow::error::ArrowError| BatchError::Join(error.to_string());
        let (fact_times, feature_times) = (times(facts, self.time)?, times(features, self.feature_time)?);
        let left = self.frame(facts, &fact_times).map_err(|error| BatchError::Join(error.to_string()))?;
        let right = self.frame(features, &feature_times).map_err(|error| BatchError::Join(error.to_string()))?;
        let matches = as_of(&left, right, self.keys.len(), self.strict).map_err(|error| BatchError::Join(error.to_string()))?;
        self.check(&matches, &fact_times, &feature_times)?;

        let matched = matches.iter().flatten().count() as u64;
        let indices = UInt32Array::from(matches);
        let mut columns: Vec<ArrayRef> = facts.columns().to_vec();
        for (field, column) in features.schema().fields().iter().zip(features.columns()) {
            if !self.keys.contains(field.name()) {
                columns.push(take(column, &indices, None).map_err(refused)?);
            }
        }
        let schema = as_of_columns(&facts.schema(), &features.schema(), self.keys);
        let rows = RecordBatch::try_new(schema, columns).map_err(refused)?;
        Ok(Joined { rows, matched, _memory: memory })
    }

    /// Keys as text, times as numbers, and which row it was.
    fn frame(&self, rows: &RecordBatch, times: &[i64]) -> Result<PolarsFrame, Box<dyn std::error::Error>> {
        let mut columns = vec![PolarsColumn::new("time".into(), times)];
        for (position, key) in self.keys.iter().enumerate() {
            let text = cast(rows.column(rows.schema().index_of(key)?), &DataType::Utf8)?;
            let texts: Vec<Option<&str>> = text.as_string::<i32>().iter().collect();
            columns.push(PolarsColumn::new(key_name(position).into(), texts));
        }
        let numbers: Vec<u32> = (0..u32::try_from(rows.num_rows())?).collect();
        columns.push(PolarsColumn::new("row".into(), numbers));
        Ok(PolarsFrame::new(rows.num_rows(), columns)?)
    }

    /// No match may know the future, nor be somebody else's.
    fn check(&self, matches: &[Option<u32>], fact_times: &[i64], feature_times: &[i64]) -> Result<(), BatchError> {
        let leaks = |(fact, feature): (usize, &Option<u32>)| {
            let known = feature.map(|row| feature_times[row as usize]);
            known.is_some_and(|known| known > fact_times[fact] || self.strict && known == fact_times[fact])
        };
        if matches.len() != fact_times.len() || matches.iter().enumerate().any(leaks) {
            return Err(BatchError::Join("a fact was given features from after its time; nothing was written".to_owned()));
        }
        Ok(())
    }
}

/// What came of a join.
pub(crate) struct Joined {
    /// A row for each fact that has a time.
    pub(crate) rows: RecordBatch,
    /// Facts that had features.
    pub(crate) matched: u64,
    /// Held as long as the rows are.
    _memory: [MemoryReservation; 2],
}

/// Rows of one side, and the part of the jobs' memory that they take.
struct Held {
    rows: RecordBatch,
    memory: MemoryReservation,
}

/// The rows of a view with an ASOF JOIN, whose tables are declared in `context`.
pub(crate) async fn joined(context: &SessionContext, join: &AsOfJoin) -> Result<Joined, BatchError> {
    let matching = Matching { keys: &join.keys, time: &join.time, feature_time: &join.feature_time, strict: join.strict };
    let side = async |query: &str| Ok::<_, BatchError>(context.execute_logical_plan(plan_text(context, query).await?).await?);
    matching.joined(side(&join.facts_query).await?, side(&join.features_query).await?).await
}

/// All rows that have a time, in its order.
async fn sorted_rows(frame: DataFrame, time: &str) -> Result<Held, BatchError> {
    let frame = frame.filter(named(time).is_not_null())?.sort(vec![named(time).sort(true, false)])?;
    let schema = Arc::clone(frame.schema().inner());
    let pool = Arc::clone(&frame.task_ctx().runtime_env().memory_pool);
    let memory = MemoryConsumer::new("as-of join").register(&pool);
    let task = Arc::new(frame.task_ctx());
    let plan = with_damage_named(with_bounded_batches(frame.create_physical_plan().await?, &task).await?)?;
    let mut batches = Vec::new();
    let mut stream = without_panics(execute_stream(plan, task)?);
    while let Some(batch) = stream.try_next().await? {
        // Twice: as they come, and as one.
        memory.try_grow(2 * batch.get_array_memory_size())?;
        batches.push(batch);
    }
    let rows = concat_batches(&schema, &batches).map_err(|error| BatchError::Join(error.to_string()))?;
    Ok(Held { rows, memory })
}

fn key_name(position: usize) -> String {
    format!("key{position}")
}

/// The row of the features that each fact gets.
fn as_of(facts: &PolarsFrame, features: PolarsFrame, keys: usize, strict: bool) -> PolarsResult<Vec<Option<u32>>> {
    let by: Vec<String> = (0..keys).map(key_name).collect();
    let facts = facts.drop("row")?;
    let joined = facts.join_asof_by(&features, "time", "time", &by, &by, AsofStrategy::Backward, None, !strict, false)?;
    Ok(Vec::from(joined.column("row")?.u32()?))
}

/// Microseconds since 1970.
fn times(rows: &RecordBatch, column: &str) -> Result<Vec<i64>, BatchError> {
    let refused = |error: arrow::error::ArrowError| BatchError::Join(error.to_string());
    let column = rows.column(rows.schema().index_of(column).map_err(refused)?);
    let micros = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))).map_err(refused)?;
    Ok(micros.as_primitive::<TimestampMicrosecondType>().values().to_vec())
}

/// A column of exactly this name.
pub(crate) fn named(column: &str) -> Expr {
    col(Column::from_name(column))
}

//! Rows that an expression fails on: `10 / c` where c is 0, a cast of 'x', a value that a table cannot hold.
//!
//! An operator that cannot take a row returns [`StreamError::Row`] and has changed nothing by that call. Whoever runs it cuts the batch in
//! halves until the rows that are to blame are alone, sets these aside and goes on with the others. What becomes of a row follows from
//! the row alone, since each is asked alone in the end.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::physical_expr::fmt_sql;
use watershed_dialect::compute::out_of_memory;
use watershed_dialect::{OnError, SourceDefinition, plain_expression, plain_message, row_shown};
use watershed_ingest::origin;
use watershed_message::Message;

use crate::StreamError;
use crate::hidden::{self, Lane, SourceNames};

/// Longer expressions are cut where they are shown.
const SHOWN_CHARS_MAX: usize = 300;

/// Why a row was not taken. Shown as it is written in the quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFault {
    /// What could not be computed: `column 'x'`, `WHERE`.
    pub what: String,
    /// The expression.
    pub expression: String,
    /// Why it fails.
    pub reason: String,
}

impl fmt::Display for RowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} fails: {}", self.what, self.expression, self.reason)
    }
}

impl RowFault {
    /// What an expression failed with. Errors that no row is to blame for, such as memory that ran out, stay what they are.
    pub fn of(what: String, expression: String, error: DataFusionError) -> StreamError {
        if out_of_memory(&error).is_some() {
            return error.into();
        }
        let reason = match error.find_root() {
            DataFusionError::IoError(_) | DataFusionError::ObjectStore(_) => return error.into(),
            DataFusionError::ArrowError(arrow, _) if matches!(**arrow, ArrowError::IoError(..) | ArrowError::MemoryError(_)) => {
                return error.into();
            }
            DataFusionError::ArrowError(arrow, _) => plain_message(&reason_of(arrow)).to_string(),
            DataFusionError::External(ours) if ours.is::<Message>() => ours.to_string(),
            DataFusionError::Execution(said) | DataFusionError::Internal(said) => said.clone(),
            other => other.strip_backtrace(),
        };
        let reason = reason.lines().next().unwrap_or_default().to_string();
        StreamError::Row(Box::new(Self { what: plain_expression(&what), expression: cut(plain_expression(&expression)), reason }))
    }
}

/// An error of Arrow's without the name of its kind, which says nothing that the text does not.
fn reason_of(error: &ArrowError) -> String {
    match error {
        ArrowError::CastError(said)
        | ArrowError::ComputeError(said)
        | ArrowError::ArithmeticOverflow(said)
        | ArrowError::InvalidArgumentError(said)
        | ArrowError::ParseError(said) => said.clone(),
        ArrowError::DivideByZero => "division by zero".into(),
        other => other.to_string(),
    }
}

fn cut(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(SHOWN_CHARS_MAX) {
        text.truncate(at);
        text.push('…');
    }
    text
}

/// The text of a panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    watershed_message::panic_text(panic).unwrap_or("it panicked").to_owned()
}

/// Computes an expression over a batch; `what` names what it is for, should it fail.
pub fn evaluate(expression: &Arc<dyn PhysicalExpr>, batch: &RecordBatch, what: impl FnOnce() -> String) -> Result<ArrayRef, StreamError> {
    // A function that panics over a value must not take the pipeline with it; expressions keep nothing between calls.
    let computed = catch_unwind(AssertUnwindSafe(|| expression.evaluate(batch)?.into_array(batch.num_rows())));
    let failure = match computed {
        Ok(Ok(values)) => return Ok(values),
        Ok(Err(error)) => error,
        Err(panic) => DataFusionError::Execution(format!("a function panicked ({}), which is a defect", panic_text(panic.as_ref()))),
    };
    Err(RowFault::of(what(), fmt_sql(expression.as_ref()).to_string(), failure))
}

/// A row that was not taken where its record is no longer at hand.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The number of its lane and the offset of its record; `None` if several records made it.
    pub place: Option<(i32, i64)>,
    /// Why, and what the row holds.
    pub reason: String,
}

impl Refused {
    /// One row of a batch.
    pub fn new(batch: &RecordBatch, row: usize, fault: &RowFault) -> Self {
        let place = hidden::has_hidden(&batch.schema()).then(|| {
            let place = hidden::hidden_columns(batch);
            (place[0].as_primitive::<Int32Type>().value(row), place[1].as_primitive::<Int64Type>().value(row))
        });
        let shown = row_shown(&hidden::visible(&batch.schema()), batch, row);
        Self { place, reason: format!("{fault}; the row: {shown}") }
    }
}

/// Refused rows as the quarantine of each source has them, with the source's place; those that several records made are with the first. An error
/// if a source says `on_error = 'fail'`.
pub fn set_aside(pipeline: &str, sources: &[SourceDefinition], refused: Vec<Refused>) -> Result<Vec<(usize, RecordBatch)>, StreamError> {
    if refused.is_empty() {
        return Ok(Vec::new());
    }
    let lane = |place: (i32, i64)| if sources.len() > 1 { Lane::of(place.0) } else { Some(Lane { source: 0, partition: place.0 }) };
    let source_of = |row: &Refused| row.place.and_then(lane).map_or(0, |lane| lane.source);
    let fails = |row: &&Refused| sources.get(source_of(row)).is_some_and(|source| source.on_error == OnError::Fail);
    if let Some(first) = refused.iter().find(fails) {
        let names = SourceNames::new(sources.iter().map(|source| source.name.clone()));
        let place = first.place.and_then(|(number, offset)| names.place(number, offset));
        let place = place.map_or_else(|| "a row of its result".into(), |place| format!("the record of {place}"));
        return Err(StreamError::RowRefused { pipeline: pipeline.into(), place, reason: first.reason.clone() });
    }
    // A row may be in several windows; its record is set aside once.
    let mut records = BTreeSet::new();
    let mut rows_of = vec![Vec::new(); sources.len()];
    for row in refused {
        if row.place.is_none_or(|place| records.insert(place)) {
            let place = row.place.and_then(|place| Some((lane(place)?.partition, place.1)));
            rows_of[source_of(&row)].push((place.unwrap_or((-1, -1)), row.reason));
        }
    }
    let mut aside = Vec::new();
    for (place, (source, rows)) in sources.iter().zip(rows_of).enumerate() {
        aside.extend(origin::set_aside(source, &rows)?.map(|rows| (place, rows)));
    }
    Ok(aside)
}

/// Runs `take` over a batch. Where it says that it cannot take a row, over its halves, down to single rows, which are left out and added to
/// `refused`.
pub fn sift(
    batch: RecordBatch,
    refused: &mut Vec<Refused>,
    take: &mut dyn FnMut(RecordBatch) -> Result<(), StreamError>,
) -> Result<(), StreamError> {
    let rows = batch.num_rows();
    match take(batch.clone()) {
        Err(StreamError::Row(fault)) if rows <= 1 => {
            refused.push(Refused::new(&batch, 0, &fault));
            Ok(())
        }
        Err(StreamError::Row(_)) => {
            let half = rows / 2;
            sift(batch.slice(0, half), refused, take)?;
            sift(batch.slice(half, rows - half), refused, take)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
    use datafusion::physical_expr::ScalarFunctionExpr;
    use datafusion::physical_expr::expressions::Column;

    use super::*;

    #[test]
    fn a_row_that_a_function_panics_over_is_set_aside_alone_and_named() {
        let breaks = |args: &[ColumnarValue]| {
            let values = ColumnarValue::values_to_arrays(args)?.remove(0);
            assert!(!values.as_primitive::<Int64Type>().values().contains(&7), "index 7 of 3");
            Ok(ColumnarValue::Array(values))
        };
        let breaks = Arc::new(create_udf("breaks", vec![DataType::Int64], DataType::Int64, Volatility::Immutable, Arc::new(breaks)));
        let field = Arc::new(Field::new("v", DataType::Int64, true));
        let argument: Arc<dyn PhysicalExpr> = Arc::new(Column::new("v", 0));
        let call = ScalarFunctionExpr::new("breaks", breaks, vec![argument], Arc::clone(&field), Arc::default());
        let call: Arc<dyn PhysicalExpr> = Arc::new(call);
        let schema = Arc::new(Schema::new(vec![field]));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(0..20))]).unwrap();
        let (mut refused, mut taken) = (Vec::new(), Vec::new());
        sift(batch, &mut refused, &mut |rows| {
            let values = evaluate(&call, &rows, || "column 'x'".to_owned())?;
            taken.extend(values.as_primitive::<Int64Type>().values().iter().copied());
            Ok(())
        })
        .unwrap();
        assert_eq!(taken, (0..20).filter(|value| *value != 7).collect::<Vec<_>>());
        let [Refused { reason, .. }] = refused.as_slice() else { panic!("{refused:?}") };
        let said = "column 'x': breaks(v) fails: a function panicked (index 7 of 3), which is a defect";
        assert!(reason.starts_with(said) && reason.contains('7'), "{reason}");
    }
}

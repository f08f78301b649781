//! `CONSTRAINT … EXPECT (…)`: holds each row of the result to the table's expectations. No state.
//!
//! A row meets an expectation only if its predicate is true: false and NULL violate it. All predicates are asked of every row, and each
//! counts for itself. What becomes of a row is decided by the strictest action among those it violates: FAIL, then QUARANTINE, then DROP ROW;
//! with WARN alone it stays.
//!
//! ```text
//! EXPECT (fare >= 0) ON VIOLATION DROP ROW, EXPECT (city IS NOT NULL)
//! fare  city        goes on   counted as failed
//!    5  Lima        yes       –
//!   -5  Lima        no        the first
//! NULL  NULL        no        both
//!    5  NULL        yes       the second
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, ListBuilder, StringBuilder};
use arrow::compute::{filter_record_batch, not, or};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use watershed_dialect::{Expectation, OnViolation, Rule, Violations, row_shown};

use crate::StreamError;
use crate::fault::{RowFault, evaluate};
use crate::hidden::{self, SourceNames};
use crate::operator::{Operator, Output, Tally};

/// The column of `<table>$violations` that names what a row violates.
pub const VIOLATED: &str = "violated_constraints";

/// The expectations of a table.
pub struct ExpectSpec {
    /// The table, for errors.
    pub table: String,
    /// As defined, with their predicates over the result's columns, which come first in a row.
    pub rules: Vec<Rule>,
    /// The result's columns.
    pub result: SchemaRef,
    /// What is read.
    pub sources: SourceNames,
}

/// Counts violations and sets violating rows aside.
pub struct Expect {
    spec: Arc<ExpectSpec>,
    schema: SchemaRef,
    side_schema: SchemaRef,
}

impl Expect {
    /// `schema` is that of input and output; it may end in hidden columns.
    pub fn new(spec: Arc<ExpectSpec>, schema: SchemaRef) -> Self {
        let side_schema = side_schema(&spec.result, &spec.sources);
        Self { spec, schema, side_schema }
    }
}

/// What `<table>$violations` keeps of a row: the table's columns, what it violates, and where it came from if one message made it.
pub fn side_schema(result: &Schema, sources: &SourceNames) -> SchemaRef {
    let mut fields: Vec<_> = result.fields().iter().cloned().collect();
    fields.push(Field::new(VIOLATED, DataType::List(Field::new_list_field(DataType::Utf8, true).into()), false).into());
    fields.extend(sources.fields(false).into_iter().map(Arc::new));
    Schema::new(fields).into()
}

impl Operator for Expect {
    fn name(&self) -> &'static str {
        "expect"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> Result<(), StreamError> {
        let violations = Violations::find(&self.spec.rules, &batch).map_err(|error| self.unanswered(&batch, error))?;
        if let Some((row, rule)) = violations.fatal()? {
            return Err(self.failure(&batch, row, rule));
        }
        let tallies: Vec<Tally> = violations.counts().map(|(passed, failed)| Tally { passed, failed }).collect();
        out.count(&tallies);
        let (aside, dropped) = (violations.with(OnViolation::Quarantine)?, violations.with(OnViolation::DropRow)?);
        if let Some(aside) = &aside {
            out.violating.push(self.to_side(&batch, aside, &violations)?);
        }
        let gone = match (&aside, &dropped) {
            (None, None) => {
                out.rows.push(batch);
                return Ok(());
            }
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (Some(aside), Some(dropped)) => or(aside, dropped)?,
        };
        out.dropped += (gone.true_count() - aside.map_or(0, |aside| aside.true_count())) as u64;
        out.rows.push(filter_record_batch(&batch, &not(&gone)?)?);
        Ok(())
    }
}

impl Expect {
    /// Which predicate could not be asked.
    fn unanswered(&self, batch: &RecordBatch, error: DataFusionError) -> StreamError {
        for (rule, predicate) in &self.spec.rules {
            if let Err(StreamError::Row(fault)) = evaluate(predicate, batch, String::new) {
                let what = format!("constraint {}", rule.name);
                return StreamError::Row(Box::new(RowFault { what, expression: rule.predicate.clone(), reason: fault.reason }));
            }
        }
        error.into()
    }

    fn to_side(&self, batch: &RecordBatch, aside: &BooleanArray, violations: &Violations) -> Result<RecordBatch, StreamError> {
        let mut names = ListBuilder::new(StringBuilder::new());
        for row in aside.values().set_indices() {
            for rule in violations.of_row(row) {
                names.values().append_value(&rule.name);
            }
            names.append(true);
        }
        let rows = filter_record_batch(batch, aside)?;
        let mut columns: Vec<ArrayRef> = rows.columns()[..self.spec.result.fields().len()].to_vec();
        columns.push(Arc::new(names.finish()));
        columns.extend(self.spec.sources.columns(&rows));
        Ok(RecordBatch::try_new(self.side_schema.clone(), columns)?)
    }

    fn failure(&self, batch: &RecordBatch, row: usize, rule: &Expectation) -> StreamError {
        let place = hidden::has_hidden(&batch.schema()).then(|| {
            let hidden = hidden::hidden_columns(batch);
            let (lanes, offsets) = (hidden[0].as_primitive::<Int32Type>(), hidden[1].as_primitive::<Int64Type>());
            self.spec.sources.place(lanes.value(row), offsets.value(row)).map(|place| format!("{place}: "))
        });
        let place = place.flatten();
        StreamError::Violated {
            pipeline: self.spec.table.clone(),
            constraint: rule.name.clone(),
            predicate: rule.predicate.clone(),
            row: format!("{}{}", place.unwrap_or_default(), row_shown(&self.spec.result, batch, row)),
        }
    }
}

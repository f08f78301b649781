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

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListBuilder, StringBuilder, new_null_array};
use arrow::compute::{filter_record_batch, not, or, prep_null_mask_filter};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::physical_expr::PhysicalExpr;
use watershed_dialect::{Expectation, OnViolation};

use crate::StreamError;
use crate::hidden;
use crate::operator::{Operator, Output, Tally};

/// The column of `<table>$violations` that names what a row violates.
pub const VIOLATED: &str = "violated_constraints";
/// How much of a row an error shows.
const ROW_SHOWN_CHARS: usize = 600;

/// The expectations of a table.
pub struct ExpectSpec {
    /// The table, for errors.
    pub table: String,
    /// As defined, with their predicates over the result's columns, which stand first in a row.
    pub rules: Vec<(Expectation, Arc<dyn PhysicalExpr>)>,
    /// The result's columns.
    pub result: SchemaRef,
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
        let side_schema = side_schema(&spec.result);
        Self { spec, schema, side_schema }
    }
}

/// What `<table>$violations` keeps of a row: the table's columns, what it violates, and where it came from if one message made it.
pub fn side_schema(result: &Schema) -> SchemaRef {
    let mut fields: Vec<_> = result.fields().iter().cloned().collect();
    fields.push(Field::new(VIOLATED, DataType::List(Field::new_list_field(DataType::Utf8, true).into()), false).into());
    fields.push(Field::new("source_partition", DataType::Int32, true).into());
    fields.push(Field::new("source_offset", DataType::Int64, true).into());
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
        let rows = batch.num_rows();
        // For each expectation the rows that violate it; None if none does.
        let mut violated: Vec<Option<BooleanArray>> = Vec::with_capacity(self.spec.rules.len());
        let mut tallies = Vec::with_capacity(self.spec.rules.len());
        for (_, predicate) in &self.spec.rules {
            let met = predicate.evaluate(&batch)?.into_array(rows)?;
            let met = met.as_boolean();
            let met = if met.null_count() > 0 { prep_null_mask_filter(met) } else { met.clone() };
            let passed = met.true_count();
            tallies.push(Tally { passed: passed as u64, failed: (rows - passed) as u64 });
            violated.push(if passed == rows { None } else { Some(not(&met)?) });
        }
        let by = |action: OnViolation| self.violators(&violated, action);
        if let Some(failing) = by(OnViolation::Fail)?
            && let Some(row) = failing.values().set_indices().next()
        {
            return Err(self.failure(&batch, row, &violated));
        }
        out.count(&tallies);
        let (aside, dropped) = (by(OnViolation::Quarantine)?, by(OnViolation::DropRow)?);
        if let Some(aside) = &aside {
            out.violating.push(self.to_side(&batch, aside, &violated)?);
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
    /// The rows that violate any expectation with this action.
    fn violators(&self, violated: &[Option<BooleanArray>], action: OnViolation) -> Result<Option<BooleanArray>, StreamError> {
        let mut all: Option<BooleanArray> = None;
        for ((rule, _), rows) in self.spec.rules.iter().zip(violated) {
            let Some(rows) = rows.as_ref().filter(|_| rule.action == action) else { continue };
            all = Some(match all {
                None => rows.clone(),
                Some(all) => or(&all, rows)?,
            });
        }
        Ok(all)
    }

    fn to_side(&self, batch: &RecordBatch, aside: &BooleanArray, violated: &[Option<BooleanArray>]) -> Result<RecordBatch, StreamError> {
        let mut names = ListBuilder::new(StringBuilder::new());
        for row in aside.values().set_indices() {
            for ((rule, _), rows) in self.spec.rules.iter().zip(violated) {
                if rows.as_ref().is_some_and(|rows| rows.value(row)) {
                    names.values().append_value(&rule.name);
                }
            }
            names.append(true);
        }
        let rows = filter_record_batch(batch, aside)?;
        let mut columns: Vec<ArrayRef> = rows.columns()[..self.spec.result.fields().len()].to_vec();
        columns.push(Arc::new(names.finish()));
        if hidden::has_hidden(&rows.schema()) {
            columns.extend_from_slice(&hidden::hidden_columns(&rows)[..2]);
        } else {
            columns.push(new_null_array(&DataType::Int32, rows.num_rows()));
            columns.push(new_null_array(&DataType::Int64, rows.num_rows()));
        }
        Ok(RecordBatch::try_new(self.side_schema.clone(), columns)?)
    }

    fn failure(&self, batch: &RecordBatch, row: usize, violated: &[Option<BooleanArray>]) -> StreamError {
        let is_it = |(rule, rows): (&Expectation, &Option<BooleanArray>)| {
            rule.action == OnViolation::Fail && rows.as_ref().is_some_and(|rows| rows.value(row))
        };
        let rules = self.spec.rules.iter().map(|(rule, _)| rule);
        let rule = rules.zip(violated).find(|&(rule, rows)| is_it((rule, rows))).map(|(rule, _)| rule);
        let place = hidden::has_hidden(&batch.schema()).then(|| {
            let hidden = hidden::hidden_columns(batch);
            let partition: &Int32Array = hidden[0].as_primitive::<Int32Type>();
            let offset: &Int64Array = hidden[1].as_primitive::<Int64Type>();
            format!("partition {}, offset {}: ", partition.value(row), offset.value(row))
        });
        StreamError::Violated {
            pipeline: self.spec.table.clone(),
            constraint: rule.map(|rule| rule.name.clone()).unwrap_or_default(),
            predicate: rule.map(|rule| rule.predicate.clone()).unwrap_or_default(),
            row: format!("{}{}", place.unwrap_or_default(), self.show(batch, row)),
        }
    }

    /// `column=value, …` of one row, cut where it gets long.
    fn show(&self, batch: &RecordBatch, row: usize) -> String {
        let mut text = String::new();
        let options = FormatOptions::default().with_null("NULL");
        for (field, column) in self.spec.result.fields().iter().zip(batch.columns()) {
            let value = ArrayFormatter::try_new(column.as_ref(), &options).and_then(|column| column.value(row).try_to_string());
            // Writing to a text does not fail.
            let _ = write!(text, "{}{}={}", if text.is_empty() { "" } else { ", " }, field.name(), value.unwrap_or_else(|_| "?".into()));
        }
        if let Some((cut, _)) = text.char_indices().nth(ROW_SHOWN_CHARS) {
            text.truncate(cut);
            text.push('…');
        }
        text
    }
}

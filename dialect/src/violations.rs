//! Which rows of a batch violate which expectations: pipelines and jobs ask alike.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{not, or, prep_null_mask_filter};
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;

use crate::{Expectation, OnViolation};

/// How much of a row an error shows.
const ROW_SHOWN_CHARS: usize = 600;

/// An expectation, and its predicate over the columns of the result, which come first in a row.
pub type Rule = (Expectation, Arc<dyn PhysicalExpr>);

/// The violations in one batch.
pub struct Violations<'a> {
    rules: &'a [Rule],
    rows: usize,
    /// For each rule the rows that violate it; `None` if none does.
    violated: Vec<Option<BooleanArray>>,
}

impl<'a> Violations<'a> {
    /// Asks all predicates of every row. A row meets an expectation only if its predicate is true: false and NULL violate it.
    pub fn find(rules: &'a [Rule], batch: &RecordBatch) -> Result<Self, DataFusionError> {
        let rows = batch.num_rows();
        let violators = |(_, predicate): &Rule| {
            let met = predicate.evaluate(batch)?.into_array(rows)?;
            let met = met.as_boolean();
            let met = if met.null_count() > 0 { prep_null_mask_filter(met) } else { met.clone() };
            Ok::<_, DataFusionError>(if met.true_count() == rows { None } else { Some(not(&met)?) })
        };
        let violated = rules.iter().map(violators).collect::<Result<_, _>>()?;
        Ok(Self { rules, rows, violated })
    }

    /// For each expectation how many rows met it, and how many violated it.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        self.violated.iter().map(|rows| {
            let failed = rows.as_ref().map_or(0, BooleanArray::true_count);
            ((self.rows - failed) as u64, failed as u64)
        })
    }

    /// The rows that violate any expectation with this action; `None` if none does.
    pub fn with(&self, action: OnViolation) -> Result<Option<BooleanArray>, ArrowError> {
        let mut all: Option<BooleanArray> = None;
        for ((rule, _), rows) in self.rules.iter().zip(&self.violated) {
            let Some(rows) = rows.as_ref().filter(|_| rule.action == action) else { continue };
            all = Some(match all {
                None => rows.clone(),
                Some(all) => or(&all, rows)?,
            });
        }
        Ok(all)
    }

    /// The expectations that a row violates.
    pub fn of_row(&self, row: usize) -> impl Iterator<Item = &Expectation> {
        let violated = self.rules.iter().zip(&self.violated);
        violated.filter(move |(_, rows)| rows.as_ref().is_some_and(|rows| rows.value(row))).map(|((rule, _), _)| rule)
    }

    /// The first row that violates an expectation with FAIL, and that expectation.
    pub fn fatal(&self) -> Result<Option<(usize, &Expectation)>, ArrowError> {
        let Some(row) = self.with(OnViolation::Fail)?.and_then(|rows| rows.values().set_indices().next()) else { return Ok(None) };
        Ok(self.of_row(row).find(|rule| rule.action == OnViolation::Fail).map(|rule| (row, rule)))
    }
}

/// `column=value, …` of one row, cut where it gets long. `result` are the columns that come first.
pub fn row_shown(result: &Schema, batch: &RecordBatch, row: usize) -> String {
    let mut text = String::new();
    let options = FormatOptions::default().with_null("NULL");
    for (field, column) in result.fields().iter().zip(batch.columns()) {
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

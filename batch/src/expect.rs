//! `CONSTRAINT … EXPECT (…)` of a materialized view: each row of a refresh is held to them before it is written, and counted.
//!
//! A row that violates one with FAIL ends the run before its commit, so that the view keeps the rows it has. One that violates any with DROP ROW is
//! left out. With WARN it stays. As each refresh makes all rows again, its counts are not added to those of earlier ones.

use arrow::array::RecordBatch;
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use serde::{Deserialize, Serialize};
use watershed_dialect::{OnViolation, Rule, Violations, plan_expectation, row_shown};
use watershed_lake::TableName;

use crate::{BatchError, View};

/// How the rows of one run met an expectation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConstraintRun {
    /// The constraint.
    pub name: String,
    /// Its predicate, as written.
    pub predicate: String,
    /// What becomes of rows that violate it, as written.
    pub action: String,
    /// Rows that met it.
    pub passed: u64,
    /// Rows that violated it.
    pub failed: u64,
}

/// Holds the rows of one attempt to the expectations of its view.
pub(crate) struct Expectations {
    view: TableName,
    schema: SchemaRef,
    rules: Vec<Rule>,
    counted: Vec<ConstraintRun>,
    dropped: u64,
}

impl Expectations {
    /// Plans the predicates over the columns of the view.
    pub(crate) fn new(view: &View, state: &SessionState, schema: SchemaRef) -> Result<Self, BatchError> {
        let plan = |rule: &watershed_dialect::Expectation| Ok::<_, BatchError>((rule.clone(), plan_expectation(state, rule, &schema)?));
        let rules: Vec<Rule> = view.definition.expectations.iter().map(plan).collect::<Result<_, _>>()?;
        let counted = rules.iter().map(|(rule, _)| ConstraintRun {
            name: rule.name.clone(),
            predicate: rule.predicate.clone(),
            action: rule.action.sql().to_owned(),
            passed: 0,
            failed: 0,
        });
        Ok(Self { view: view.name.clone(), counted: counted.collect(), rules, schema, dropped: 0 })
    }

    /// The rows that stay.
    pub(crate) fn hold(&mut self, batch: RecordBatch) -> Result<RecordBatch, BatchError> {
        if self.rules.is_empty() {
            return Ok(batch);
        }
        let violations = Violations::find(&self.rules, &batch)?;
        let arrow = |error| BatchError::from(DataFusionError::from(error));
        if let Some((row, rule)) = violations.fatal().map_err(arrow)? {
            return Err(BatchError::Violated {
                view: self.view.clone(),
                constraint: rule.name.clone(),
                predicate: rule.predicate.clone(),
                row: row_shown(&self.schema, &batch, row),
            });
        }
        for (counted, (passed, failed)) in self.counted.iter_mut().zip(violations.counts()) {
            counted.passed += passed;
            counted.failed += failed;
        }
        let Some(dropped) = violations.with(OnViolation::DropRow).map_err(arrow)? else { return Ok(batch) };
        self.dropped += dropped.true_count() as u64;
        filter_record_batch(&batch, &not(&dropped).map_err(arrow)?).map_err(arrow)
    }

    /// How the rows met each expectation, and how many were left out.
    pub(crate) fn counts(self) -> (Vec<ConstraintRun>, u64) {
        (self.counted, self.dropped)
    }
}

//! The plan node that appends `window_start`, `window_end` and `window_time` to its input, one row per window that a row is in.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::{WINDOW_END, WINDOW_START, WINDOW_TIME, WindowKind, window_fields};

/// `TUMBLE(TABLE input, DESCRIPTOR(time_column), …)` and its kin. The schema is the input's plus the three window columns, which have no qualifier.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WindowAssign {
    /// What rows come from.
    pub input: Arc<LogicalPlan>,
    /// The event time, a timestamp column of the input.
    pub time_column: Column,
    /// How time is cut.
    pub kind: WindowKind,
    /// The input's columns, then the window columns.
    pub schema: DFSchemaRef,
}

impl WindowAssign {
    /// Checks the window, the time column and the names, and derives the schema.
    pub fn try_new(input: Arc<LogicalPlan>, time_column: Column, kind: WindowKind) -> Result<Self> {
        if let Err(why) = kind.check() {
            return plan_err!("{why}");
        }
        let (_, time) = input.schema().qualified_field_from_column(&time_column)?;
        if !matches!(time.data_type(), DataType::Timestamp(..)) {
            return plan_err!("the time column '{}' of {} is {}, not TIMESTAMP", time_column.name, kind.name(), time.data_type());
        }
        let mut fields: Vec<_> = input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), field.clone())).collect();
        for field in window_fields() {
            if input.schema().has_column_with_unqualified_name(field.name()) {
                return plan_err!("{} adds a column '{}', but its input has one already", kind.name(), field.name());
            }
            fields.push((None, field));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?);
        Ok(Self { input, time_column, kind, schema })
    }
}

impl PartialOrd for WindowAssign {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let order = (&self.time_column, &self.kind, &self.input).partial_cmp(&(&other.time_column, &other.kind, &other.input));
        order.filter(|o| *o != Ordering::Equal || self == other)
    }
}

impl UserDefinedLogicalNodeCore for WindowAssign {
    fn name(&self) -> &str {
        "WindowAssign"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![Expr::Column(self.time_column.clone())]
    }

    // A filter on the input's own columns may run before rows are multiplied; one on a window cannot.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        [WINDOW_START, WINDOW_END, WINDOW_TIME].map(String::from).into()
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let columns = self.input.schema().fields().len();
        let mut needed: Vec<usize> = output_columns.iter().copied().filter(|c| *c < columns).collect();
        needed.push(self.input.schema().index_of_column(&self.time_column).ok()?);
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "WindowAssign: {} time={}", self.kind, self.time_column)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (exprs.as_slice(), inputs.pop()) {
            ([Expr::Column(time)], Some(input)) if inputs.is_empty() => Self::try_new(Arc::new(input), time.clone(), self.kind),
            _ => plan_err!("{} takes one input and one time column", self.kind.name()),
        }
    }
}

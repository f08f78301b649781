//! The plan node of `DEDUPLICATE`.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchemaRef, Result, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::window::Us;

/// Keeps the first of rows that repeat a key within a time; see [the module](super) for what that means exactly. The schema is the input's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Deduplicate {
    /// What rows come from.
    pub input: Arc<LogicalPlan>,
    /// Columns that make two rows the same event; at least one.
    pub keys: Vec<Column>,
    /// The event time, a timestamp column of the input.
    pub time_column: Column,
    /// A repeat later than this after the row before it is a new event. Microseconds, above zero.
    pub within_us: i64,
}

impl Deduplicate {
    /// Checks keys, time column and interval.
    pub fn try_new(input: Arc<LogicalPlan>, keys: Vec<Column>, time_column: Column, within_us: i64) -> Result<Self> {
        if keys.is_empty() {
            return plan_err!("DEDUPLICATE needs at least one key column");
        }
        if within_us <= 0 {
            return plan_err!("the interval of DEDUPLICATE must be above zero");
        }
        for key in &keys {
            input.schema().index_of_column(key)?;
        }
        let (_, time) = input.schema().qualified_field_from_column(&time_column)?;
        if !matches!(time.data_type(), DataType::Timestamp(..)) {
            return plan_err!("the time column '{}' of DEDUPLICATE is {}, not TIMESTAMP", time_column.name, time.data_type());
        }
        Ok(Self { input, keys, time_column, within_us })
    }
}

impl PartialOrd for Deduplicate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.keys, &self.time_column, self.within_us, &self.input).partial_cmp(&(
            &other.keys,
            &other.time_column,
            other.within_us,
            &other.input,
        ))
    }
}

impl UserDefinedLogicalNodeCore for Deduplicate {
    fn name(&self) -> &str {
        "Deduplicate"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        self.keys.iter().chain([&self.time_column]).cloned().map(Expr::Column).collect()
    }

    // A filter on keys alone drops all rows of a key or none, so it may run first. Any other would change which row is the first.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let schema = self.input.schema();
        let keys: HashSet<usize> = self.keys.iter().filter_map(|key| schema.maybe_index_of_column(key)).collect();
        schema.fields().iter().enumerate().filter(|(i, _)| !keys.contains(i)).map(|(_, field)| field.name().clone()).collect()
    }

    // No column may be left out: rows with equal keys and times are told apart by all columns, and leaving one out could change which is kept.
    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        None
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        write!(f, "Deduplicate: keys=[{}] time={} within={}", keys.join(", "), self.time_column, Us(self.within_us))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut columns = Vec::with_capacity(exprs.len());
        for expr in exprs {
            match expr {
                Expr::Column(column) => columns.push(column),
                other => return plan_err!("DEDUPLICATE takes columns, not '{other}'"),
            }
        }
        match (columns.pop(), inputs.pop()) {
            (Some(time), Some(input)) if inputs.is_empty() => Self::try_new(Arc::new(input), columns, time, self.within_us),
            _ => plan_err!("DEDUPLICATE takes one input, keys and a time column"),
        }
    }
}

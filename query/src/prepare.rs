//! `PREPARE name (types) AS query`, `EXECUTE name (values)` and `DEALLOCATE name` of a session.
//!
//! The statement is kept, not its plan: each `EXECUTE` reads the newest version of every table, as the query itself would.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ParamValues, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Execute, Expr, LogicalPlan, Prepare};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use watershed_dialect::Statement;

use crate::QueryError;
use crate::session::refused;

/// How many statements a session keeps.
const KEPT_MAX: usize = 100;

/// The prepared statements of a session.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    by_name: Mutex<HashMap<String, Statement>>,
}

impl Prepared {
    /// Keeps a statement whose plan is `prepare`, in place of one that had the name.
    pub(crate) fn keep(&self, prepare: &Prepare, statement: &Statement) -> Result<(), QueryError> {
        if matches!(prepare.input.as_ref(), LogicalPlan::Statement(_) | LogicalPlan::Copy(_) | LogicalPlan::Dml(_) | LogicalPlan::Ddl(_)) {
            return Err(refused("PREPARE takes a query", "write PREPARE name AS SELECT …, and any other statement by itself"));
        }
        let mut kept = self.lock();
        if kept.len() >= KEPT_MAX && !kept.contains_key(&prepare.name) {
            return Err(refused(&format!("a session keeps {KEPT_MAX} prepared statements at most"), "let one go: DEALLOCATE name"));
        }
        kept.insert(prepare.name.clone(), statement.clone());
        Ok(())
    }

    /// The `PREPARE` statement of a name.
    pub(crate) fn get(&self, name: &str) -> Result<Statement, QueryError> {
        self.lock().get(name).cloned().ok_or_else(|| unknown(name))
    }

    /// Lets go of a statement.
    pub(crate) fn forget(&self, name: &str) -> Result<(), QueryError> {
        self.lock().remove(name).map(drop).ok_or_else(|| unknown(name))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Statement>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(name: &str) -> QueryError {
    refused(&format!("there is no prepared statement '{name}' in this session"), &format!("make it: PREPARE {name} AS SELECT …"))
}

/// The query of `prepare` with the values of `execute` in it.
pub(crate) fn with_values(prepare: Prepare, execute: Execute, state: &SessionState) -> Result<LogicalPlan, QueryError> {
    let Prepare { name, fields, input } = prepare;
    let mut values = constants(execute.parameters, state)?;
    let wanted = if fields.is_empty() { input.get_parameter_names()?.len() } else { fields.len() };
    if values.len() != wanted {
        let given = values.len();
        return Err(refused(
            &format!("'{name}' takes {wanted} values, and {given} are given"),
            "write EXECUTE name (value, …), one for each",
        ));
    }
    for (number, (value, field)) in values.iter_mut().zip(&fields).enumerate() {
        // Another value than the one that was given would be an answer to another question.
        let is_text = value.data_type().is_string();
        let keeps = |cast: &ScalarValue| is_text || value.is_null() || cast.cast_to(&value.data_type()).is_ok_and(|back| back == *value);
        let fits = value.cast_to(field.data_type()).ok().filter(keeps);
        let Some(cast) = fits else {
            let shown = value.cast_to(&DataType::Utf8).unwrap_or_else(|_| value.clone());
            let kind = watershed_functions::sql_type(field.data_type());
            let what = format!("value {} of '{name}' does not fit: {shown} cannot be {kind}", number + 1);
            return Err(refused(&what, "give one of that type, or prepare the statement with another"));
        };
        *value = cast;
    }
    Ok(input.as_ref().clone().with_param_values(ParamValues::from(values))?)
}

fn constants(expressions: Vec<Expr>, state: &SessionState) -> Result<Vec<ScalarValue>, QueryError> {
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(DFSchema::empty()))
        .with_config_options(Arc::clone(state.config_options()))
        .with_query_execution_start_time(state.execution_props().query_execution_start_time)
        .build();
    let simplifier = ExprSimplifier::new(context);
    let constant = |expression: Expr| match simplifier.simplify(expression)? {
        Expr::Literal(value, _) => Ok(value),
        other => Err(refused(&format!("'{other}' is not a constant"), "give EXECUTE values, such as (2, 'x')")),
    };
    expressions.into_iter().map(constant).collect()
}

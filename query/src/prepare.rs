//! `PREPARE name (types) AS query`, `EXECUTE name (values)` and `DEALLOCATE name` of a session.
//!
//! The text is kept, not its plan: each `EXECUTE` reads the newest version of every table, as the query itself would. Nor is the parsed text, which is many
//! times as large.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ParamValues, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Execute, Expr, LogicalPlan, Prepare, Statement as PlanStatement};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use watershed_dialect::{Statement, StatementKind, one_statement};

use crate::QueryError;
use crate::session::refused;

/// How many statements a session keeps.
const KEPT_MAX: usize = 100;
/// Their texts together: sessions may be many.
const KEPT_BYTES_MAX: usize = 1 << 20;
const PARAMETERS_MAX: usize = 1_000;

/// The prepared statements of a session.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    by_name: Mutex<HashMap<String, Kept>>,
}

/// The text of a statement, and where it began.
#[derive(Debug, Clone)]
struct Kept {
    text: String,
    line: u64,
    column: u64,
}

impl Prepared {
    /// Keeps a statement whose plan is `prepare`, in place of one that had the name.
    pub(crate) fn keep(&self, prepare: &Prepare, statement: &Statement) -> Result<(), QueryError> {
        if matches!(prepare.input.as_ref(), LogicalPlan::Statement(_) | LogicalPlan::Copy(_) | LogicalPlan::Dml(_) | LogicalPlan::Ddl(_)) {
            return Err(refused("PREPARE takes a query", "write PREPARE name AS SELECT …, and any other statement by itself"));
        }
        parameters(statement, prepare)?;
        let mut kept = self.lock();
        if kept.len() >= KEPT_MAX && !kept.contains_key(&prepare.name) {
            return Err(refused(&format!("a session keeps {KEPT_MAX} prepared statements at most"), "let one go: DEALLOCATE name"));
        }
        let others = kept.iter().filter(|(name, _)| **name != prepare.name);
        let bytes = others.map(|(_, kept)| kept.text.len()).sum::<usize>() + statement.text.len();
        if bytes > KEPT_BYTES_MAX {
            let what = format!("a session keeps prepared statements of {} MiB at most", KEPT_BYTES_MAX >> 20);
            return Err(refused(&what, "let one go: DEALLOCATE name; or write long lists of values as a subquery"));
        }
        kept.insert(prepare.name.clone(), Kept { text: statement.text.clone(), line: statement.line, column: statement.column });
        Ok(())
    }

    /// The `PREPARE` statement of a name.
    pub(crate) fn get(&self, name: &str) -> Result<Statement, QueryError> {
        let Kept { text, line, column } = self.lock().get(name).cloned().ok_or_else(|| unknown(name))?;
        Ok(Statement { line, column, ..one_statement(&text)? })
    }

    /// Lets go of a statement.
    pub(crate) fn forget(&self, name: &str) -> Result<(), QueryError> {
        self.lock().remove(name).map(drop).ok_or_else(|| unknown(name))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The types of the parameters of a `PREPARE` statement, as far as they are known: those that it names, or those of what is beside them.
/// `EXECUTE` gives values in order, so parameters are numbered.
fn parameters(statement: &Statement, prepare: &Prepare) -> Result<Vec<Option<DataType>>, QueryError> {
    let declared = match &statement.kind {
        StatementKind::Other(DfStatement::Statement(inner)) => match inner.as_ref() {
            SqlStatement::Prepare { data_types, .. } => data_types.len(),
            _ => 0,
        },
        _ => 0,
    };
    let found = prepare.input.get_parameter_fields()?;
    let number = |name: &String| name.trim_start_matches('$').parse::<usize>().ok().filter(|number| *number > 0);
    if let Some(name) = found.keys().filter(|name| number(name).is_none()).min() {
        let what = format!("PREPARE takes the parameters $1, $2, …, and not {name}");
        return Err(refused(&what, "number them: EXECUTE gives values in that order"));
    }
    let last = found.keys().filter_map(number).max().unwrap_or(0);
    if last > PARAMETERS_MAX {
        return Err(refused(&format!("a statement has {PARAMETERS_MAX} parameters at most"), "number them without a gap: $1, $2, …"));
    }
    if declared > 0 {
        if last > declared {
            let what = format!("the statement has ${last}, and PREPARE names {declared} types");
            return Err(refused(&what, "name one for each parameter"));
        }
        return Ok(prepare.fields.iter().map(|field| Some(field.data_type().clone())).collect());
    }
    let types = (1..=last).map(|wanted| match found.get(&format!("${wanted}")) {
        Some(field) => Ok(field.as_ref().map(|field| field.data_type().clone())),
        None => {
            let next = format!("number them without a gap, or name the types of all: PREPARE {} (BIGINT, …) AS …", prepare.name);
            Err(refused(&format!("the statement has the parameter ${last} and no ${wanted}"), &next))
        }
    });
    types.collect()
}

fn unknown(name: &str) -> QueryError {
    refused(&format!("there is no prepared statement '{name}' in this session"), &format!("make it: PREPARE {name} AS SELECT …"))
}

/// The query of `prepare`, which is the plan of `statement`, with the values of `execute` in it.
pub(crate) fn with_values(
    statement: &Statement,
    prepare: Prepare,
    execute: Execute,
    state: &SessionState,
) -> Result<LogicalPlan, QueryError> {
    let types = parameters(statement, &prepare)?;
    let Prepare { name, input, .. } = prepare;
    let mut values = constants(execute.parameters, state)?;
    if values.len() != types.len() {
        let (wanted, given) = (types.len(), values.len());
        return Err(refused(
            &format!("'{name}' takes {wanted} values, and {given} are given"),
            "write EXECUTE name (value, …), one for each",
        ));
    }
    for (number, (value, wanted)) in values.iter_mut().zip(&types).enumerate() {
        let Some(wanted) = wanted else { continue };
        // Another value than the one that was given would be an answer to another question.
        let is_text = value.data_type().is_string();
        let keeps = |cast: &ScalarValue| is_text || value.is_null() || cast.cast_to(&value.data_type()).is_ok_and(|back| back == *value);
        let fits = value.cast_to(wanted).ok().filter(keeps);
        let Some(cast) = fits else {
            let shown = value.cast_to(&DataType::Utf8).unwrap_or_else(|_| value.clone());
            let kind = watershed_functions::sql_type(wanted);
            let what = format!("value {} of '{name}' does not fit: {shown} cannot be {kind}", number + 1);
            return Err(refused(&what, "give one of that type, or prepare the statement with another"));
        };
        *value = cast;
    }
    Ok(input.as_ref().clone().with_param_values(ParamValues::from(values))?)
}

/// The statement that a plan runs, or explains.
pub(crate) fn executed_in(plan: &LogicalPlan) -> Option<&Execute> {
    match plan {
        LogicalPlan::Statement(PlanStatement::Execute(execute)) => Some(execute),
        LogicalPlan::Explain(explain) => executed_in(&explain.plan),
        LogicalPlan::Analyze(analyze) => executed_in(&analyze.input),
        _ => None,
    }
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

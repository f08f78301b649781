//! A session's times are UTC: a setting that changed `now()` and not what is written as text or literal would give wrong rows without a word.

use datafusion::sql::parser::{ResetStatement, Statement};
use datafusion::sql::sqlparser::ast::{Expr, Set, Statement as SqlStatement, Value};

use crate::SqlError;

/// Names of the setting, in lower case.
const NAMES: [&str; 4] = ["timezone", "time_zone", "time.zone", "datafusion.execution.time_zone"];
const UTC: [&str; 6] = ["utc", "+00:00", "etc/utc", "gmt", "z", "default"];

/// What a statement to set UTC or to go back to it does.
pub(crate) const STAY: &str = "SET datafusion.execution.time_zone = 'UTC'";

/// Refuses to set another time zone than UTC; `true` if the statement is another way to write [`STAY`].
pub(crate) fn check(statement: &Statement) -> Result<bool, SqlError> {
    let statement = match statement {
        Statement::Statement(statement) => statement,
        Statement::Reset(ResetStatement::Variable(name)) => return Ok(NAMES.contains(&name.to_string().to_lowercase().as_str())),
        _ => return Ok(false),
    };
    let is_other_way = !statement.to_string().eq_ignore_ascii_case(STAY);
    let zone = match statement.as_ref() {
        SqlStatement::Set(Set::SetTimeZone { value, .. }) => value,
        SqlStatement::Set(Set::SingleAssignment { variable, values, .. })
            if NAMES.contains(&variable.to_string().to_lowercase().as_str()) && values.len() == 1 =>
        {
            &values[0]
        }
        _ => return Ok(false),
    };
    let zone = match zone {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => text.clone(),
            other => other.to_string(),
        },
        other => other.to_string(),
    };
    if UTC.contains(&zone.to_lowercase().as_str()) {
        return Ok(is_other_way);
    }
    Err(SqlError::new(format!("a session's times are UTC, and cannot be those of {zone}"))
        .hint(format!("convert where you look: event_time AT TIME ZONE '{zone}', date_trunc('day', event_time AT TIME ZONE '{zone}')")))
}

//! Which settings `SET` may change, and to what: one statement must not take the memory or the threads that others need.

use datafusion::logical_expr::{LogicalPlan, Statement};

use crate::QueryError;
use crate::session::refused;

/// Settings that take a number, and the numbers they may have.
const RANGES: [(&str, u64, u64); 8] = [
    ("datafusion.execution.batch_size", 1, 65_536),
    ("datafusion.execution.target_partitions", 1, 256),
    ("datafusion.execution.planning_concurrency", 1, 64),
    ("datafusion.execution.meta_fetch_concurrency", 1, 64),
    ("datafusion.execution.max_buffered_batches_per_output_file", 1, 16),
    ("datafusion.execution.minimum_parallel_output_files", 1, 64),
    ("datafusion.optimizer.max_passes", 1, 10),
    ("datafusion.sql_parser.recursion_limit", 1, 50),
];

/// What a client of a server may set beside those: how its own statements are read, planned and shown.
const OF_CLIENTS: [&str; 5] =
    ["datafusion.execution.time_zone", "datafusion.explain.", "datafusion.format.", "datafusion.optimizer.", "datafusion.sql_parser."];

/// Checks a `SET` or `RESET`; anything else passes.
pub(crate) fn check(plan: &LogicalPlan, for_others: bool) -> Result<(), QueryError> {
    let (variable, value) = match plan {
        LogicalPlan::Statement(Statement::SetVariable(set)) => (&set.variable, Some(&set.value)),
        LogicalPlan::Statement(Statement::ResetVariable(reset)) => (&reset.variable, None),
        _ => return Ok(()),
    };
    let name = variable.to_ascii_lowercase();
    if let Some((_, least, most)) = RANGES.iter().find(|(known, ..)| *known == name) {
        let fits = |value: &String| value.trim().parse::<u64>().is_ok_and(|number| (*least..=*most).contains(&number));
        return match value {
            Some(value) if !fits(value) => {
                Err(refused(&format!("{name} cannot be {value}: {least} to {most} are the limits"), "choose a number between them"))
            }
            _ => Ok(()),
        };
    }
    if for_others && name.starts_with("datafusion.") && !OF_CLIENTS.iter().any(|known| name.starts_with(known)) {
        return Err(refused(
            &format!("a client cannot set {name}: it concerns all of the server's machine, or how its tables are read"),
            "whoever runs the server sets query.memory_limit and its like",
        ));
    }
    Ok(())
}

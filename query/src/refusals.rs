//! Statements that other databases have and a query session has not: each is refused with what there is in its place.

use datafusion::sql::sqlparser::ast::Statement as SqlStatement;

use crate::QueryError;
use crate::session::refused;

const NO_TRANSACTIONS: &str = "a query session has no transactions";
const ONE_VERSION: &str = "leave it out: each statement reads one version of every table it names";
const DEFINED: &str = "tables are changed by the project that defines them";
const APPLY: &str = "change its .sql file and run `watershed apply`";
const NO_ACCESS: &str = "there is no access control";
const LOOPBACK: &str = "servers listen where only this machine reaches them";

/// By the first word of a statement: what is said, and what to do.
const UNKNOWN: [(&str, &str, &str); 25] = [
    ("BEGIN", NO_TRANSACTIONS, ONE_VERSION),
    ("START", NO_TRANSACTIONS, ONE_VERSION),
    ("COMMIT", NO_TRANSACTIONS, ONE_VERSION),
    ("END", NO_TRANSACTIONS, ONE_VERSION),
    ("ROLLBACK", NO_TRANSACTIONS, ONE_VERSION),
    ("SAVEPOINT", NO_TRANSACTIONS, ONE_VERSION),
    ("RELEASE", NO_TRANSACTIONS, ONE_VERSION),
    ("LOCK", "a query session locks nothing", ONE_VERSION),
    ("USE", "a session has no current schema", "write the schema before the table: schema.table; SHOW TABLES lists all"),
    ("ALTER", DEFINED, APPLY),
    ("RENAME", DEFINED, APPLY),
    ("COMMENT", DEFINED, APPLY),
    ("TRUNCATE", "tables are written by their pipelines only", "`watershed rebuild TABLE` empties one and fills it again"),
    ("ANALYZE", "there are no statistics to gather: each file of a table has its own", "EXPLAIN ANALYZE SELECT … shows what a query does"),
    ("VACUUM", "a query session writes no table", "run `watershed vacuum`"),
    ("OPTIMIZE", "a query session writes no table", "run `watershed compact`"),
    ("GRANT", NO_ACCESS, LOOPBACK),
    ("REVOKE", NO_ACCESS, LOOPBACK),
    ("DENY", NO_ACCESS, LOOPBACK),
    ("KILL", "a query is ended by the one who runs it", "press Ctrl-C in the shell, cancel in the client, or close its connection"),
    ("CALL", "there are no procedures", "SELECT calls functions; SHOW FUNCTIONS lists them"),
    ("LISTEN", "a query session has no notifications", "CREATE SINK sends rows to a topic as they come"),
    ("NOTIFY", "a query session has no notifications", "CREATE SINK sends rows to a topic as they come"),
    ("CACHE", "a query session keeps no rows", "keep them as a materialized view"),
    ("FLUSH", "a query session keeps nothing that could be flushed", "each statement reads the newest version of every table it names"),
];

/// The refusal of a statement that no session knows.
pub(crate) fn of_other_databases(statement: &SqlStatement) -> Option<QueryError> {
    let text = statement.to_string();
    let word = text.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default().to_ascii_uppercase();
    let (_, what, hint) = UNKNOWN.iter().find(|(first, ..)| *first == word)?;
    Some(refused(&format!("{word} is not supported: {what}"), hint))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use crate::Session;

    #[tokio::test]
    async fn statements_of_other_databases_are_refused_with_what_there_is_instead() {
        let session = Session::new(watershed_lake::Warehouse::open("memory://", &HashMap::new()).await.unwrap()).unwrap();
        for (text, said) in [
            ("BEGIN", "one version"),
            ("START TRANSACTION", "one version"),
            ("COMMIT", "one version"),
            ("ROLLBACK", "one version"),
            ("SAVEPOINT a", "one version"),
            ("RELEASE SAVEPOINT a", "one version"),
            ("USE silver", "schema.table"),
            ("ALTER TABLE silver.t ADD COLUMN x INT", "`watershed apply`"),
            ("TRUNCATE TABLE silver.t", "`watershed rebuild TABLE`"),
            ("ANALYZE TABLE silver.t", "EXPLAIN ANALYZE"),
            ("GRANT SELECT ON silver.t TO someone", "only this machine"),
            ("SHOW CREATE TABLE silver.t", "SHOW TABLES lists"),
        ] {
            let error = session.query(text).await.err().unwrap_or_else(|| panic!("{text} runs"));
            let next = error.message().next.unwrap_or_default();
            assert!(next.contains(said), "{text}: {error}");
        }
    }
}

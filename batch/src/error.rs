//! What can stop a job. Each says what happened, why, and what to do next.

use std::time::Duration;

use datafusion::error::DataFusionError;
use watershed_dialect::SqlError;
use watershed_dialect::compute::out_of_memory;
use watershed_lake::{LakeError, TableName};

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The view's query does not work. Who wrote it must act.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The warehouse could not be read or written.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A table that the query reads is not there.
    #[error(
        "{view} reads {input}, which does not exist; `watershed apply` makes the tables of the project, and a job its own when it first runs"
    )]
    NoInput {
        /// The view.
        view: TableName,
        /// What it reads.
        input: TableName,
    },
    /// The query needed more memory, spill space included.
    #[error("the query needs more memory than a job may use ({0}); raise batch.memory_limit or query.spill_limit, or filter earlier")]
    OutOfMemory(String),
    /// The query failed over real rows.
    #[error("the query failed: {}", root(.0))]
    Query(DataFusionError),
    /// One attempt took longer than the view allows.
    #[error("it took longer than {} s; make the query do less, or allow more in the view: WITH (timeout = '…')", .0.as_secs())]
    TooSlow(Duration),
    /// A stop was asked for.
    #[error("it was stopped before it was done; the view is as it was, run it again")]
    Stopped,
    /// The process cannot run jobs at all.
    #[error("cannot set up what runs jobs: {0}")]
    Setup(String),
    /// A row violates an expectation that allows none.
    #[error(
        "a row of {view} violates constraint '{constraint}', EXPECT ({predicate}) ON VIOLATION FAIL: {row}; the view keeps the rows it has: mend what it \
         reads, or let the constraint WARN or DROP ROW"
    )]
    Violated {
        /// The view.
        view: TableName,
        /// The constraint.
        constraint: String,
        /// Its predicate, as written.
        predicate: String,
        /// The row.
        row: String,
    },
    /// Polars refused rows.
    #[error("the rows cannot be joined as of their times: {0}")]
    Join(String),
    /// A file outside of the warehouse.
    #[error("cannot write {path}: {why}; check that the folder is there and may be written")]
    File {
        /// Where to.
        path: String,
        /// What the system says.
        why: String,
    },
    /// Columns that a training set asks for and that are not there, or not fit.
    #[error("{what}; {hint}")]
    Refused {
        /// What is wrong.
        what: String,
        /// What to do.
        hint: String,
    },
}

impl BatchError {
    /// Whether trying again can help, without anybody changing anything.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Lake(error) => error.may_pass(),
            Self::Query(error) => query_may_pass(error),
            _ => false,
        }
    }
}

impl From<DataFusionError> for BatchError {
    fn from(error: DataFusionError) -> Self {
        match out_of_memory(&error) {
            Some(what) => Self::OutOfMemory(what),
            None => Self::Query(error),
        }
    }
}

fn query_may_pass(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => true,
        DataFusionError::External(inner) => inner.downcast_ref::<LakeError>().is_some_and(LakeError::may_pass),
        _ => false,
    }
}

fn root(error: &DataFusionError) -> String {
    error.find_root().strip_backtrace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        let store = DataFusionError::IoError(std::io::Error::other("gone"));
        assert!(BatchError::from(store).may_pass());
        assert!(!BatchError::from(DataFusionError::Execution("division by zero".into())).may_pass());
        let full = DataFusionError::ResourcesExhausted("8 MB\nby x".into());
        assert!(matches!(BatchError::from(full), BatchError::OutOfMemory(what) if what.ends_with("8 MB")));
        let table: TableName = "a.b".parse().unwrap();
        assert!(BatchError::from(LakeError::Overtaken { table: table.clone(), read: 1, found: 2 }).may_pass());
        assert!(!BatchError::from(LakeError::NoSuchTable(table)).may_pass());
    }
}

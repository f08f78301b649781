//! What can stop a job. Each says what happened, why, and what to do next.

use std::fmt;
use std::time::Duration;

use datafusion::error::DataFusionError;
use watershed_dialect::compute::out_of_memory;
use watershed_dialect::{ProgramFault, SqlError};
use watershed_lake::{LakeError, TableName};
use watershed_message::Message;

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The view's query does not work. Who wrote it must act.
    Sql(#[from] SqlError),
    /// The warehouse could not be read or written.
    Lake(#[from] LakeError),
    /// A table that the query reads is not there.
    NoInput {
        /// The view.
        view: TableName,
        /// What it reads.
        input: TableName,
    },
    /// The query needed more memory, spill space included.
    OutOfMemory(String),
    /// The query failed over real rows.
    Query(DataFusionError),
    /// One attempt took longer than the view allows.
    TooSlow(Duration),
    /// A stop was asked for.
    Stopped,
    /// The process cannot run jobs at all.
    Setup(Message),
    /// A row violates an expectation that allows none.
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
    Join(String),
    /// A file outside of the warehouse.
    File {
        /// Where to.
        path: String,
        /// What the system says.
        why: String,
    },
    /// Columns that a training set asks for and that are not there, or not fit.
    Refused {
        /// What is wrong.
        what: String,
        /// What to do.
        hint: String,
    },
}

impl BatchError {
    /// What happened, why, and what to do next.
    pub fn message(&self) -> Message {
        match self {
            Self::Sql(inner) => inner.message(),
            Self::Lake(inner) => inner.message(),
            Self::NoInput { view, input } => Message::new(format!("{view} reads {input}, which does not exist"))
                .next("`watershed apply` makes the tables of the project, and a job its own when it first runs"),
            Self::OutOfMemory(inner) => Message::new(format!("the query needs more memory than a job may use ({inner})"))
                .next("raise batch.memory_limit or query.spill_limit, or filter earlier"),
            Self::Query(inner) => of_query(inner),
            Self::TooSlow(inner) => Message::new(format!("it took longer than {} s", inner.as_secs()))
                .next("make the query do less, or allow more in the view: WITH (timeout = '…')"),
            Self::Stopped => Message::new("it was stopped before it was done").next("the view is as it was, run it again"),
            Self::Setup(inner) => inner.clone().within("cannot set up what runs jobs"),
            Self::Violated { view, constraint, predicate, row } => {
                Message::new(format!("a row of {view} violates constraint '{constraint}', EXPECT ({predicate}) ON VIOLATION FAIL"))
                    .why(row)
                    .next("the view keeps the rows it has: mend what it reads, or let the constraint WARN or DROP ROW")
            }
            Self::Join(inner) => Message::new("the rows cannot be joined as of their times").why(inner),
            Self::File { path, why } => {
                Message::new(format!("cannot write {path}")).why(why).next("check that the folder is there and may be written")
            }
            Self::Refused { what, hint } => Message::new(what).next(hint),
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.message(), f)
    }
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

fn of_query(error: &DataFusionError) -> Message {
    let root = error.find_root();
    let said = match root {
        // An error of the lake's that a scan met, or one of a function of ours. They say what to do next.
        DataFusionError::External(inner) => {
            let own = inner.downcast_ref::<Message>().or_else(|| inner.downcast_ref::<ProgramFault>().map(|fault| &fault.0));
            inner.downcast_ref().map(LakeError::message).or_else(|| own.cloned())
        }
        _ => None,
    };
    said.unwrap_or_else(|| root.strip_backtrace().into()).within("the query failed")
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

//! What can go wrong with a query, in words for the person who typed it.

use std::fmt;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use watershed_dialect::compute::out_of_memory;
use watershed_dialect::{ProgramFault, SqlError, Statement, is_of_statement, placed_in, plain_message};
use watershed_lake::LakeError;
use watershed_message::Message;

/// Why a query gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The text is not SQL, or names something that does not exist. Whoever wrote the query acts.
    Sql(#[from] SqlError),
    /// The warehouse could not be read. Whoever runs the storage acts.
    Lake(#[from] LakeError),
    /// The statement is well formed, but this session does not do such things.
    Refused {
        /// What was asked for.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// The query needed more memory (and spill space) than the session may take.
    OutOfMemory {
        /// What ran out.
        detail: String,
    },
    /// A value cannot be computed: division by zero, out of range, a text that is no number. Whoever wrote the query acts.
    Value(Message),
    /// The query failed while it ran.
    Failed(Message),
    /// A server said so, in its own words, which are complete.
    Told(Message),
    /// The session itself could not be set up (spill folder, …).
    Setup(Message),
}

impl QueryError {
    /// What happened, why, and what to do next.
    pub fn message(&self) -> Message {
        match self {
            Self::Sql(inner) => inner.message(),
            Self::Lake(inner) => inner.message(),
            Self::Refused { what, hint } => Message::new(what).next(hint),
            Self::OutOfMemory { detail } => Message::new(format!("the query needs more memory than this session may use ({detail})"))
                .next("narrow it, or raise query.memory_limit or query.spill_limit"),
            Self::Value(inner) | Self::Failed(inner) => inner.clone().within("the query failed"),
            Self::Told(inner) => inner.clone(),
            Self::Setup(inner) => inner.clone().within("cannot set up the query session"),
        }
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.message(), f)
    }
}

impl QueryError {
    /// The message as shown to a person: SQL errors with their line and a caret below it.
    pub fn render(&self, text: &str, file: Option<&str>) -> String {
        match self {
            Self::Sql(error) => error.render(text, file).trim_end().to_owned(),
            other => {
                let message = other.message();
                let hint = message.next.as_ref().map(|next| format!("\n  hint: {next}"));
                format!("error: {}{}", message.said(), hint.unwrap_or_default())
            }
        }
    }
}

impl QueryError {
    /// The error with its place in the statement, if that has the value that it tells of.
    pub(crate) fn placed_in(self, statement: &Statement) -> Self {
        match self {
            Self::Value(message) => placed_in(statement, &message).map_or(Self::Value(message), Self::Sql),
            other => other,
        }
    }
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        let error = match error {
            // An error of ours that went through DataFusion's streams.
            DataFusionError::External(inner) => match inner.downcast::<Self>() {
                Ok(own) => return *own,
                Err(inner) => DataFusionError::External(inner),
            },
            other => other,
        };
        if let Some(detail) = out_of_memory(&error) {
            return Self::OutOfMemory { detail };
        }
        let root = error.find_root();
        if let DataFusionError::External(inner) = root {
            // An error of the lake's that a scan met, or one of a function of ours. They say all there is to say.
            if let Some(lake) = inner.downcast_ref::<LakeError>() {
                return Self::Failed(lake.message());
            }
            if let Some(fault) = inner.downcast_ref::<ProgramFault>() {
                return Self::Failed(fault.0.clone());
            }
            if let Some(message) = inner.downcast_ref::<Message>() {
                return Self::Value(message.clone());
            }
        }
        let said = plain_message(&root.strip_backtrace());
        if is_of_values(root) { Self::Value(said) } else { Self::Failed(said) }
    }
}

/// True if a filter failed where rows are read, which reads as if the rows could not be read.
fn is_in_a_filter(said: &str) -> bool {
    said.contains("Error evaluating filter predicate")
}

/// True if the statement and the values it met are at fault, not what runs it.
fn is_of_values(error: &DataFusionError) -> bool {
    match error {
        DataFusionError::ArrowError(error, _) => {
            let is_of_system = matches!(
                error.as_ref(),
                ArrowError::IoError(..)
                    | ArrowError::IpcError(_)
                    | ArrowError::ParquetError(_)
                    | ArrowError::ExternalError(_)
                    | ArrowError::MemoryError(_)
                    | ArrowError::CDataInterface(_)
            );
            !is_of_system || is_of_statement(&error.to_string())
        }
        DataFusionError::ParquetError(error) => is_in_a_filter(&error.to_string()),
        DataFusionError::Execution(_)
        | DataFusionError::Plan(_)
        | DataFusionError::SQL(..)
        | DataFusionError::SchemaError(..)
        | DataFusionError::Configuration(_)
        | DataFusionError::NotImplemented(_) => true,
        other => is_of_statement(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_lake_speak_for_themselves() {
        let gone = LakeError::DataFileGone { table: "a.b".parse().unwrap(), path: "a/b/x.parquet".to_owned(), version: 3 };
        let met = DataFusionError::from(gone).context("while scanning");
        let shown = QueryError::from(met).render("SELECT 1", None);
        assert!(shown.starts_with("error: the query failed: file 'a/b/x.parquet' of table a.b is gone"), "{shown}");
        assert!(shown.contains("\n  hint: ask a newer version"), "{shown}");
    }

    #[test]
    fn a_mistake_in_a_statement_is_one_whichever_error_it_comes_as() {
        let zone = ArrowError::ParseError("Invalid timezone \"Mars\": failed to parse timezone".to_owned());
        for error in [
            DataFusionError::External(Box::new(zone)),
            DataFusionError::Internal("array_resize: failed to convert size to usize.".to_owned()),
            DataFusionError::Internal("Cannot run range queries on datatype: Struct(\"a\": Int64)".to_owned()),
        ] {
            let said = QueryError::from(error);
            assert!(matches!(&said, QueryError::Value(message) if message.next.is_some()), "{said:?}");
        }
        assert!(matches!(QueryError::from(DataFusionError::Internal("no such batch".to_owned())), QueryError::Failed(_)));
    }

    /// Values may hold what the parts are shown with.
    #[test]
    fn a_value_is_never_cut() {
        let failed = |said: &str| QueryError::from(DataFusionError::Execution(said.to_owned()));
        let shown = failed("Cannot cast string '1; 2: 3' to value of Int32 type").render("SELECT 1", None);
        assert!(
            shown.starts_with("error: the query failed: Cannot cast string '1; 2: 3' to value of INT type\n  hint: TRY_CAST"),
            "{shown}"
        );
        let refused = QueryError::Refused { what: "'a; b: c' is no table".to_owned(), hint: "try 'd; e'".to_owned() };
        assert_eq!(refused.render("", None), "error: 'a; b: c' is no table\n  hint: try 'd; e'");
    }
}

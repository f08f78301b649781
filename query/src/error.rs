//! What can go wrong with a query, in words for the person who typed it.

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use watershed_dialect::compute::out_of_memory;
use watershed_dialect::{SqlError, plain_message};
use watershed_lake::LakeError;

/// Why a query gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The text is not SQL, or names something that does not exist. Whoever wrote the query acts.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The warehouse could not be read. Whoever runs the storage acts.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The statement is well formed, but this session does not do such things.
    #[error("{what}; {hint}")]
    Refused {
        /// What was asked for.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// The query needed more memory (and spill space) than the session may take.
    #[error(
        "the query needs more memory than this session may use ({detail}); narrow it, or raise query.memory_limit or query.spill_limit"
    )]
    OutOfMemory {
        /// What ran out.
        detail: String,
    },
    /// A value cannot be computed: division by zero, out of range, a text that is no number. Whoever wrote the query acts.
    #[error("the query failed: {0}")]
    Value(String),
    /// The query failed while it ran.
    #[error("the query failed: {0}")]
    Failed(String),
    /// A server said so, in its own words, which are complete.
    #[error("{0}")]
    Told(String),
    /// The session itself could not be set up (spill folder, …).
    #[error("cannot set up the query session: {0}")]
    Setup(String),
}

impl QueryError {
    /// The message as shown to a person: SQL errors with their line and a caret below it.
    pub fn render(&self, text: &str, file: Option<&str>) -> String {
        match self {
            Self::Sql(error) => error.render(text, file).trim_end().to_owned(),
            other => {
                let text = other.to_string();
                match text.split_once("; ") {
                    Some((what, next)) => format!("error: {what}\n  hint: {next}"),
                    None => format!("error: {text}"),
                }
            }
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
        match error.find_root() {
            // An error of the lake's that a scan met. It says all there is to say.
            DataFusionError::External(inner) if inner.is::<LakeError>() => Self::Failed(inner.to_string()),
            root if is_of_values(root) => Self::Value(plain_message(&root.strip_backtrace())),
            root => Self::Failed(plain_message(&root.strip_backtrace())),
        }
    }
}

/// True if the statement and the values it met are at fault, not what runs it.
fn is_of_values(error: &DataFusionError) -> bool {
    match error {
        DataFusionError::ArrowError(error, _) => matches!(
            error.as_ref(),
            ArrowError::DivideByZero
                | ArrowError::ArithmeticOverflow(_)
                | ArrowError::CastError(_)
                | ArrowError::ParseError(_)
                | ArrowError::ComputeError(_)
                | ArrowError::InvalidArgumentError(_)
        ),
        DataFusionError::Execution(_)
        | DataFusionError::Plan(_)
        | DataFusionError::SQL(..)
        | DataFusionError::SchemaError(..)
        | DataFusionError::Configuration(_)
        | DataFusionError::NotImplemented(_) => true,
        _ => false,
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
}

//! What can stop a pipeline. Each says what happened, why, and what to do next.

use arrow::temporal_conversions::timestamp_us_to_datetime;
use watershed_dialect::SqlError;
use watershed_ingest::IngestError;
use watershed_lake::LakeError;

use crate::fault::RowFault;

/// Why a pipeline could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The definition's SQL does not work. Who wrote it must act.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// An expectation does not work. Places count from the start of the text that defines the table. Who wrote it must act.
    #[error("{0}")]
    Constraint(SqlError),
    /// A pipeline was asked for that the definitions do not have.
    #[error("there is no pipeline {name}: the applied definitions have {known}; {hint}")]
    NoSuchPipeline {
        /// The name that was asked for.
        name: String,
        /// The pipelines there are.
        known: String,
        /// What to do: the nearest name, if one is near.
        hint: String,
    },
    /// Reading the source failed.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// Reading or writing the warehouse failed.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// Reading or writing a record or a state file failed.
    #[error(
        "the warehouse could not be reached: {0}; check that the store is up and that its credentials may read and write `_watershed/`"
    )]
    Store(#[from] object_store::Error),
    /// A row that an operator cannot take; dealt with by whoever runs the operator.
    #[error("{0}")]
    Row(Box<RowFault>),
    /// The query fails on a row and the source says `on_error = 'fail'`.
    #[error(
        "{pipeline} cannot take {place}: {reason}; correct the query (TRY_CAST gives NULL where CAST fails, NULLIF(c, 0) where a divisor is 0), or let such rows aside with on_error = 'quarantine' in the source"
    )]
    RowRefused {
        /// The pipeline.
        pipeline: String,
        /// Where the row came from.
        place: String,
        /// What could not be computed.
        reason: String,
    },
    /// An aggregate cannot go on.
    #[error(
        "an aggregate of the window from {start} to {end} failed: {reason}; take a wider type in the query, such as sum(CAST(c AS DECIMAL(38, 2)))"
    )]
    Aggregate {
        /// Where the window starts.
        start: String,
        /// Where it ends.
        end: String,
        /// Why.
        reason: String,
    },
    /// An expression failed over real rows, or memory ran out.
    #[error("a step of the query failed: {0}")]
    Query(#[from] datafusion::error::DataFusionError),
    /// A batch did not fit its schema.
    #[error("a batch could not be built: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A row violates an expectation that says FAIL.
    #[error(
        "{pipeline}: a row violates constraint {constraint} EXPECT ({predicate}) ON VIOLATION FAIL, and nothing of its epoch was committed: {row}; correct the query or the constraint, or let such rows aside with ON VIOLATION QUARANTINE, `watershed apply` it and start again"
    )]
    Violated {
        /// The pipeline.
        pipeline: String,
        /// The constraint.
        constraint: String,
        /// Its predicate, as written.
        predicate: String,
        /// Where the row came from, if one message made it, and its values.
        row: String,
    },
    /// Rows could not be sent to a sink.
    #[error("sink '{sink}' cannot send to topic '{topic}': {reason}")]
    Sink {
        /// The sink.
        sink: String,
        /// Its topic.
        topic: String,
        /// Why, and what to do.
        reason: Box<IngestError>,
    },
    /// State of another shape than the operator's.
    #[error(
        "operator '{operator}' cannot go on from segment '{segment}' of the newest epoch: the query, or how this version keeps its state, was changed over old state; `watershed rebuild TABLE` starts the table anew"
    )]
    StateMismatch {
        /// The operator.
        operator: &'static str,
        /// The first segment that has no home.
        segment: String,
    },
    /// The definition is not the one the epochs were written with.
    #[error(
        "{pipeline}: the query was changed since epoch {epoch}, whose state it does not fit; put the old text back, or start anew with `watershed rebuild {pipeline}`"
    )]
    DefinitionChanged {
        /// The pipeline.
        pipeline: String,
        /// The newest epoch.
        epoch: u64,
    },
    /// The source under the offsets is another one.
    #[error(
        "{pipeline}: the topic of source '{source_name}' was deleted and made anew (its id was {was}, now {now}), so the offsets that were \
         committed point to other records; `watershed rebuild {pipeline}` drops the rows and reads the new topic from its beginning, or \
         keep the rows, and read the new topic into a table of another name"
    )]
    SourceReplaced {
        /// The pipeline.
        pipeline: String,
        /// Its source.
        source_name: String,
        /// The topic's id as the newest epoch has it.
        was: String,
        /// The id of the topic that is there now.
        now: String,
    },
    /// Another process runs this pipeline.
    #[error("{pipeline} is held by {holder}; two processes must not run one pipeline: stop that one first{hint}")]
    Held {
        /// The pipeline.
        pipeline: String,
        /// Who holds it.
        holder: String,
        /// What else may help.
        hint: String,
    },
    /// Another process wrote the epoch that was ours to write.
    #[error(
        "{pipeline}: epoch {epoch} was written by {winner}, which took the pipeline over; this process stops and has lost nothing: what it had not committed is read again there"
    )]
    Fenced {
        /// The pipeline.
        pipeline: String,
        /// The epoch both wanted.
        epoch: u64,
        /// Who won.
        winner: String,
    },
    /// The table's history and the pipeline's records do not fit.
    #[error("{pipeline}: {what}; {hint}")]
    Inconsistent {
        /// The pipeline.
        pipeline: String,
        /// What does not fit.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A record or state file could not be read.
    #[error(
        "{path} cannot be read as {kind}: {reason}; if it was damaged, restore it from a backup of the warehouse, or start the table anew with `watershed rebuild TABLE`"
    )]
    Corrupt {
        /// Where it lies.
        path: String,
        /// What it should be.
        kind: &'static str,
        /// Why it is not.
        reason: String,
    },
    /// No epoch was completed for a long time.
    #[error("{pipeline}: epoch {epoch} was not complete after {seconds} s; the store or the machine is too slow or stuck")]
    Stuck {
        /// The pipeline.
        pipeline: String,
        /// The epoch.
        epoch: u64,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A task ended without saying why: a defect.
    #[error("{pipeline}: a task stopped without a word: {what}; this is a defect of Watershed")]
    TaskDied {
        /// The pipeline.
        pipeline: String,
        /// Which task, and its panic message if there was one.
        what: String,
    },
    /// The plan has a shape that streams cannot run; `check_streamable` should have refused it.
    #[error("cannot run as a stream: {0}")]
    Unsupported(String),
}

impl StreamError {
    /// Names the window, from and to in microseconds since 1970, whose aggregates failed.
    pub(crate) fn aggregate((start_us, end_us): (i64, i64), error: StreamError) -> StreamError {
        let StreamError::Query(error) = error else { return error };
        let shown = |us: i64| timestamp_us_to_datetime(us).map_or_else(|| us.to_string(), |time| time.to_string());
        match RowFault::of(String::new(), String::new(), error) {
            StreamError::Row(fault) => Self::Aggregate { start: shown(start_us), end: shown(end_us), reason: fault.reason },
            other => other,
        }
    }

    /// Whether starting again from the newest epoch may help: the world outside may have changed by then.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Ingest(error) => error.may_pass(),
            // Rows that were not acknowledged are sent again: only what the definition says wrongly stays wrong.
            Self::Sink { reason, .. } => !matches!(
                **reason,
                IngestError::Setting { .. } | IngestError::Definition { .. } | IngestError::UnsupportedType { .. } | IngestError::Arrow(_)
            ),
            Self::Lake(error) => error.may_pass(),
            Self::Store(_) | Self::Stuck { .. } | Self::TaskDied { .. } => true,
            _ => false,
        }
    }
}

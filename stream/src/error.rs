//! What can stop a pipeline. Each says what happened, why, and what to do next.

use std::fmt;

use arrow::temporal_conversions::timestamp_us_to_datetime;
use watershed_dialect::SqlError;
use watershed_ingest::IngestError;
use watershed_lake::{LakeError, TableName};
use watershed_message::Message;

use crate::budget::{Held, Scope};
use crate::fault::RowFault;

/// Why a pipeline could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The definition's SQL does not work. Who wrote it must act.
    Sql(#[from] SqlError),
    /// An expectation does not work. Places count from the start of the text that defines the table. Who wrote it must act.
    Constraint(SqlError),
    /// A pipeline was asked for that the definitions do not have.
    NoSuchPipeline {
        /// The name that was asked for.
        name: String,
        /// The pipelines there are.
        known: String,
        /// What to do: the nearest name, if one is near.
        hint: String,
    },
    /// Reading the source failed.
    Ingest(#[from] IngestError),
    /// Reading or writing the warehouse failed.
    Lake(#[from] LakeError),
    /// Reading or writing a record or a state file failed.
    Store(#[from] object_store::Error),
    /// A row that an operator cannot take; dealt with by the caller that runs the operator.
    Row(Box<RowFault>),
    /// The query fails on a row and the source says `on_error = 'fail'`.
    RowRefused {
        /// The pipeline.
        pipeline: String,
        /// Where the row came from.
        place: String,
        /// What could not be computed.
        reason: String,
    },
    /// An aggregate cannot go on.
    Aggregate {
        /// Where the window starts.
        start: String,
        /// Where it ends.
        end: String,
        /// Why.
        reason: String,
    },
    /// An expression failed over real rows, or memory ran out.
    Query(#[from] datafusion::error::DataFusionError),
    /// A batch did not fit its schema.
    Arrow(#[from] arrow::error::ArrowError),
    /// A row violates an expectation that says FAIL.
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
    Sink {
        /// The sink.
        sink: String,
        /// Its topic.
        topic: String,
        /// Why, and what to do.
        reason: Box<IngestError>,
    },
    /// State of another shape than the operator's.
    StateMismatch {
        /// The operator.
        operator: &'static str,
        /// The first segment that has no home.
        segment: String,
    },
    /// State could not be put aside.
    Aside {
        /// Where.
        folder: String,
        /// Why not.
        error: std::io::Error,
    },
    /// State takes more memory than it may.
    StateLimit {
        /// The pipeline.
        pipeline: String,
        /// The operator that holds most in the task that found it.
        operator: &'static str,
        /// What that holds.
        held: Held,
        /// Whose limit it is.
        scope: Scope,
        /// How much may be held.
        limit: u64,
    },
    /// The applied definition cannot be planned: another version accepted it.
    CannotPlan {
        /// The pipeline.
        pipeline: String,
        /// What is wrong with it, or with its source or a sink that follows it.
        reason: Box<StreamError>,
    },
    /// The definition is not the one the epochs were written with.
    DefinitionChanged {
        /// The pipeline.
        pipeline: String,
        /// The newest epoch.
        epoch: u64,
    },
    /// The source under the offsets is another one.
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
    Held {
        /// The pipeline.
        pipeline: String,
        /// Who holds it.
        holder: String,
        /// What else may help.
        hint: String,
    },
    /// Another process wrote the epoch that was ours to write.
    Fenced {
        /// The pipeline.
        pipeline: String,
        /// The epoch both wanted.
        epoch: u64,
        /// Who won.
        winner: String,
    },
    /// The table's history and the pipeline's records do not fit.
    Inconsistent {
        /// The pipeline.
        pipeline: String,
        /// What does not fit.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A record or state file could not be read.
    Corrupt {
        /// Where it lies.
        path: String,
        /// What it should be.
        kind: &'static str,
        /// Why it is not.
        reason: String,
    },
    /// No epoch was completed for a long time.
    Stuck {
        /// The pipeline.
        pipeline: String,
        /// The epoch.
        epoch: u64,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A task ended without saying why: a defect.
    TaskDied {
        /// The pipeline.
        pipeline: String,
        /// Which task, and its panic message if there was one.
        what: String,
    },
    /// The plan has a shape that streams cannot run; `check_streamable` should have refused it.
    Unsupported(String),
}

impl StreamError {
    /// The applied definition of `pipeline` cannot be planned, because of `reason`.
    pub fn cannot_plan(pipeline: &TableName, reason: Self) -> Self {
        Self::CannotPlan { pipeline: pipeline.to_string(), reason: Box::new(reason) }
    }

    /// What happened, why, and what to do next.
    pub fn message(&self) -> Message {
        match self {
            Self::Sql(inner) => inner.message(),
            Self::Constraint(inner) => inner.message(),
            Self::NoSuchPipeline { name, known, hint } => {
                Message::new(format!("there is no pipeline {name}")).why(format!("the applied definitions have {known}")).next(hint)
            }
            Self::Ingest(inner) => inner.message(),
            Self::Lake(inner) => inner.message(),
            Self::Store(inner) => Message::new("the warehouse could not be reached")
                .why(inner.to_string())
                .next("check that the store is up and that its credentials may read and write `_watershed/`"),
            Self::Row(fault) => Message::new(fault.to_string()),
            Self::RowRefused { pipeline, place, reason } => Message::new(format!("{pipeline} cannot take {place}")).why(reason).next(
                "correct the query (TRY_CAST gives NULL where CAST fails, NULLIF(c, 0) where a divisor is 0), or let such \
                 rows aside with on_error = 'quarantine' in the source",
            ),
            Self::Aggregate { start, end, reason } => Message::new(format!("an aggregate of the window from {start} to {end} failed"))
                .why(reason)
                .next("let the query aggregate less at once: a shorter window, more groups, a filter; or take a wider type, sum(CAST(c AS DECIMAL(38, 2)))"),
            Self::Query(inner) => Message::new("a step of the query failed").why(inner.to_string()),
            Self::Arrow(inner) => Message::new("a batch could not be built").why(inner.to_string()),
            Self::Violated { pipeline, constraint, predicate, row } => Message::new(format!(
                "{pipeline}: a row violates constraint {constraint} EXPECT ({predicate}) ON VIOLATION FAIL, and nothing of its \
                 epoch was committed",
            ))
            .why(row)
            .next(
                "correct the query or the constraint, or let such rows aside with ON VIOLATION QUARANTINE, `watershed apply` \
                 it and start again",
            ),
            Self::Sink { sink, topic, reason } => reason.message().within(format!("sink '{sink}' cannot send to topic '{topic}'")),
            Self::StateMismatch { operator, segment } => {
                Message::new(format!("operator '{operator}' cannot go on from segment '{segment}' of the newest epoch"))
                    .why("the query, or how this version keeps its state, was changed over old state")
                    .next("`watershed rebuild TABLE` starts the table anew")
            }
            Self::Aside { folder, error } => Message::new(format!("operator state cannot be put aside in {folder}"))
                .why(error.to_string())
                .next("free some space there, or name another folder as stream.spill_dir; raise stream.state_limit so that it stays in memory"),
            Self::StateLimit { pipeline, operator, held, scope, limit } => {
                let (whose, setting) = match scope {
                    Scope::Pipeline => ("the state of a pipeline", "stream.pipeline_state_limit"),
                    Scope::Process => ("the state of all pipelines of this process", "stream.state_limit"),
                };
                let Held { keys, bytes } = held;
                Message::new(format!("{pipeline}: operator '{operator}' holds {keys} keys in {} MiB of memory", bytes >> 20))
                    .why(format!("{whose} may take {} MiB", limit >> 20))
                    .next(format!(
                        "nothing is lost: raise {setting} and start again; or let the query keep less: a shorter window or interval, fewer keys"
                    ))
            }
            Self::CannotPlan { pipeline, reason } => {
                let reason = reason.message();
                let hint = reason.next.as_ref().map_or_else(String::new, |next| format!(" ({next})"));
                reason
                    .within(format!("this version of Watershed cannot run {pipeline} as it was applied"))
                    .next(format!("correct its definition{hint} and `watershed apply` it, or run it with the version that applied it"))
            }
            Self::DefinitionChanged { pipeline, epoch } => Message::new(format!(
                "{pipeline}: the query was changed since epoch {epoch}, or its source, or this version of Watershed plans them otherwise"
            ))
            .why("the state of that epoch does not fit")
            .next(format!("put the old text back, or start anew with `watershed rebuild {pipeline}`")),
            Self::SourceReplaced { pipeline, source_name, was, now } => Message::new(format!(
                "{pipeline}: the topic of source '{source_name}' is not the one that was read before (its id was {was}, now {now})"
            ))
            .why("it is in another cluster, or was deleted and made again: the offsets that were committed point to other records")
            .next(format!(
                "if the address of Kafka names another cluster by mistake, correct it; `watershed rebuild {pipeline}` drops the rows and \
                 reads the topic that is there now from its beginning; or keep the rows, and read it into a table of another name",
            )),
            Self::Held { pipeline, holder, hint } => Message::new(format!("{pipeline} is held by {holder}"))
                .next(format!("two processes must not run one pipeline: stop that one first{hint}")),
            Self::Fenced { pipeline, epoch, winner } => {
                Message::new(format!("{pipeline}: epoch {epoch} was written by {winner}, which took the pipeline over"))
                    .next("this process stops and has lost nothing: what it had not committed is read again there")
            }
            Self::Inconsistent { pipeline, what, hint } => Message::new(format!("{pipeline}: {what}")).next(hint),
            Self::Corrupt { path, kind, reason } => Message::new(format!("{path} cannot be read as {kind}")).why(reason).next(
                "if it was damaged, restore it from a backup of the warehouse, or start the table anew with `watershed \
                 rebuild TABLE`",
            ),
            Self::Stuck { pipeline, epoch, seconds } => {
                Message::new(format!("{pipeline}: epoch {epoch} was not complete after {seconds} s"))
                    .why("the store or the machine is too slow or stuck")
            }
            Self::TaskDied { pipeline, what } => {
                Message::new(format!("{pipeline}: a task stopped without a word")).why(what).next("this is a defect of Watershed")
            }
            Self::Unsupported(inner) => Message::new("cannot run as a stream").why(inner),
        }
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.message(), f)
    }
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
                IngestError::Setting { .. }
                    | IngestError::Settings { .. }
                    | IngestError::Definition { .. }
                    | IngestError::UnsupportedType { .. }
                    | IngestError::Undeliverable { .. }
                    | IngestError::Arrow(_)
            ),
            Self::Lake(error) => error.may_pass(),
            Self::Store(_) | Self::Stuck { .. } | Self::TaskDied { .. } | Self::Aside { .. } => true,
            _ => false,
        }
    }
}

//! What can go wrong in the lake, said so that one knows who must act.

use std::fmt;

use watershed_message::Message;

use crate::TableName;

/// A result of the lake.
pub type Result<T, E = LakeError> = std::result::Result<T, E>;

/// An error of the lake: what happened, why, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The warehouse URL or its options cannot be used.
    BadWarehouse { url: String, reason: String, hint: &'static str },

    /// The store overwrote an object that it should have refused to overwrite.
    NotConditional { url: String },

    /// A request failed for good: the store answered, and trying again would not help.
    Store { operation: &'static str, path: String, source: object_store::Error },

    /// No room is left where the warehouse lies. Nothing was written.
    Full { folder: String, reason: String },

    /// The store does not let this user write. Nothing was written.
    NotWritable { path: String, reason: String },

    /// A write may or may not have happened: the store could not be asked. Never to be read as "failed".
    Unclear { path: String, reason: String },

    /// No table of that name.
    NoSuchTable(TableName),

    /// The table has no such version.
    NoSuchVersion { table: TableName, wanted: i64, newest: i64 },

    /// A scan of a version met a data file of it that is not there any more.
    DataFileGone { table: TableName, path: String, version: i64 },

    /// The table was created before with another schema or partitioning.
    TableDiffers { table: TableName, what: &'static str, existing: String, wanted: String },

    /// The table under this handle was dropped, or dropped and made again.
    TableReplaced { table: TableName, made_anew: bool },

    /// The schema, partitioning or protocol of the table changed under this handle.
    TableChanged { table: TableName, what: &'static str, version: i64 },

    /// The table under this handle was given columns that rows of older definitions need not have: a new handle goes on.
    TableGrown { table: TableName, version: i64 },

    /// The table uses Delta features that are not supported.
    Unsupported { table: TableName, action: &'static str, feature: String, hint: &'static str },

    /// A newer epoch of the same writer is already in the table: this process is a zombie.
    NewerWriter { table: TableName, app_id: String, found: i64, wanted: i64 },

    /// The table does not hold the epoch that this one follows.
    EpochGap { table: TableName, app_id: String, found: Option<i64>, expected: Option<i64>, wanted: i64 },

    /// All rows were to be replaced, and meanwhile another writer changed the table.
    Overtaken { table: TableName, read: i64, found: i64 },

    /// Files were written long ago and never committed: vacuum may be about to take them for forgotten.
    StagedTooLong { table: TableName, path: String, hours: i64 },

    /// Files could not be merged for a reason that lies in this process.
    Compaction { table: TableName, reason: String },

    /// Other writers won every round.
    TooBusy { table: TableName, attempts: u32 },

    /// A log, checkpoint or definitions file cannot be understood.
    Damaged { path: String, reason: String },

    /// A schema has no Delta equivalent.
    BadType { column: String, data_type: String },

    /// A partition column is unusable.
    BadPartition { column: String, reason: &'static str },

    /// Rows do not fit the table they are written to.
    BadRows { table: TableName, reason: Box<Message> },

    /// Someone else applied definitions first.
    DefinitionsChanged { expected: u64, found: u64 },

    /// Parquet could not be encoded.
    Encode { table: TableName, source: parquet::errors::ParquetError },

    /// delta-rs could not read the table.
    Delta { table: TableName, source: Box<deltalake_core::DeltaTableError> },

    /// Planning a scan failed.
    Plan(#[from] datafusion::error::DataFusionError),
}

impl LakeError {
    /// What happened, why, and what to do next.
    pub fn message(&self) -> Message {
        match self {
            Self::BadWarehouse { url, reason, hint } => Message::new(format!("cannot open warehouse '{url}'")).why(reason).next(*hint),
            Self::NotConditional { url } => Message::new(format!(
                "the store of warehouse '{url}' does not honour create-if-absent, so two writers could overwrite each other",
            ))
            .next("use a store with conditional writes (S3 If-None-Match: AWS S3, MinIO, Versity Gateway, or a local folder)"),
            Self::Store { operation, path, source } => Message::new(format!("cannot {operation} '{path}' in the warehouse"))
                .why(source.to_string())
                .next("check the store's permissions, space and settings"),
            Self::Full { folder, reason } => Message::new("the disk of the warehouse is full")
                .why(format!("nothing more can be written below '{folder}' ({reason})"))
                .next("free some space there: nothing is lost, and pipelines go on by themselves"),
            Self::NotWritable { path, reason } => Message::new("the warehouse cannot be written")
                .why(format!("'{path}': {reason}"))
                .next("check that this user may write there and that it is not mounted read-only"),
            Self::Unclear { path, reason } => Message::new(format!("it is unknown whether '{path}' was written"))
                .why(reason)
                .next("nothing was rewritten; once the store answers again, repeat the operation: it finds out by reading"),
            Self::NoSuchTable(inner) => Message::new(format!("table {inner} does not exist in the warehouse")),
            Self::NoSuchVersion { table, wanted, newest } => Message::new(format!("table {table} has no version {wanted}"))
                .why(format!("its newest is {newest}"))
                .next("ask for one up to that"),
            Self::DataFileGone { table, path, version } => {
                Message::new(format!("file '{path}' of table {table} is gone, which version {version} has"))
                    .why(
                        "newer versions have replaced it longer than lake.vacuum_retention ago and a vacuum has deleted it, or \
                         someone else has deleted it",
                    )
                    .next(
                        "ask a newer version (a query that is run again reads the newest), or raise lake.vacuum_retention where \
                         queries take longer; if the newest has it, restore the file from a copy, or make the table anew (`watershed \
                         rebuild TABLE` if a pipeline writes it)",
                    )
            }
            Self::TableDiffers { table, what, existing, wanted } => Message::new(format!("table {table} exists with a different {what}"))
                .why(format!("it has {existing}, the definition wants {wanted}"))
                .next(
                    "name another one, drop this one, or take back what was changed (`watershed rebuild TABLE` makes a \
                     pipeline's table anew)",
                ),
            Self::TableReplaced { table, made_anew } => Message::new(format!(
                "table {table} was dropped{} by someone else while it was in use",
                if *made_anew { " and made anew" } else { "" },
            ))
            .next("restore it from a copy and start again, or make it anew (`watershed rebuild TABLE` if a pipeline writes it)"),
            Self::TableChanged { table, what, version } => {
                Message::new(format!("the {what} of table {table} was changed by someone else at version {version}")).next(
                    "take the change back and start again, or make the table anew (`watershed rebuild TABLE` if a pipeline \
                     writes it)",
                )
            }
            Self::TableGrown { table, version } => Message::new(format!("table {table} was given more columns at version {version}"))
                .why("definitions that have them were applied")
                .next("nothing need be done: it is opened again, and a pipeline that runs by the old definition goes on without them"),
            Self::Unsupported { table, action, feature, hint } => {
                Message::new(format!("table {table} cannot be {action}")).why(format!("it uses {feature}")).next(*hint)
            }
            Self::NewerWriter { table, app_id, found, wanted } => {
                Message::new(format!("table {table} already holds {app_id} version {found}, newer than {wanted}"))
                    .why("another process runs this pipeline")
                    .next("stop one of them")
            }
            Self::EpochGap { table, app_id, found, expected, wanted } => Message::new(format!(
                "table {table} holds {app_id} version {}, so version {wanted} cannot follow, which comes after {}",
                version_or_none(*found),
                version_or_none(*expected),
            ))
            .why("the table was restored from another copy, or the pipeline's state belongs to another table"),
            Self::Overtaken { table, read, found } => {
                Message::new(format!("table {table} went from version {read} to {found} while its rows were being replaced"))
                    .why("another process writes it, too")
                    .next("do it again on the new version, and let one process alone write the table")
            }
            Self::StagedTooLong { table, path, hours } => {
                Message::new(format!("file '{path}' of table {table} was written {hours} hours ago and has not been committed since"))
                    .why("the process slept, or the work takes too long")
                    .next("nothing was committed; do the work again")
            }
            Self::Compaction { table, reason } => Message::new(format!("the small files of table {table} were not merged"))
                .why(reason)
                .next("the table is as it was, and the next commit tries again"),
            Self::TooBusy { table, attempts } => {
                Message::new(format!("gave up committing to table {table} after {attempts} rounds lost to other writers"))
                    .next("run fewer writers or commit less often")
            }
            Self::Damaged { path, reason } => Message::new(format!("'{path}' is damaged"))
                .why(reason)
                .next("restore it from a copy, or make the table anew (`watershed rebuild TABLE` if a pipeline writes it)"),
            Self::BadType { column, data_type } => {
                Message::new(format!("column '{column}' has type {data_type}, which a Delta table cannot store"))
                    .next("cast it to another type")
            }
            Self::BadPartition { column, reason } => Message::new(format!("cannot partition by '{column}'")).why(*reason),
            Self::BadRows { table, reason } => reason.as_ref().clone().within(format!("rows do not fit table {table}")),
            Self::DefinitionsChanged { expected, found } => {
                Message::new(format!("the definitions were changed to revision {found} by someone else meanwhile (expected {expected})"))
                    .next("look at their change and apply again")
            }
            Self::Encode { table, source } => Message::new(format!("cannot encode rows for table {table}")).why(source.to_string()),
            Self::Delta { table, source } => Message::new(format!("cannot read the Delta log of table {table}"))
                .why(first_line(source))
                .next("restore it from a copy if it was damaged"),
            Self::Plan(inner) => Message::new("cannot plan a scan").why(inner.to_string()),
        }
    }
}

impl fmt::Display for LakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.message(), f)
    }
}

/// delta-rs appends a backtrace to some of its messages.
fn first_line(source: &deltalake_core::DeltaTableError) -> String {
    source.to_string().lines().next().unwrap_or_default().to_owned()
}

fn version_or_none(version: Option<i64>) -> String {
    version.map_or_else(|| "none".into(), |version| version.to_string())
}

impl LakeError {
    /// Whether trying again later may help, without anybody changing anything: the store was away, slow or overtaken, or
    /// the newest version is to be read.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Store { .. }
                | Self::Full { .. }
                | Self::NotWritable { .. }
                | Self::Unclear { .. }
                | Self::TooBusy { .. }
                | Self::Overtaken { .. }
                | Self::TableGrown { .. }
                | Self::StagedTooLong { .. }
                | Self::DataFileGone { .. }
        )
    }
}

impl From<LakeError> for datafusion::error::DataFusionError {
    fn from(error: LakeError) -> Self {
        match error {
            LakeError::Plan(inner) => inner,
            other => Self::External(Box::new(other)),
        }
    }
}

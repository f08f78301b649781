//! What can go wrong in the lake, said so that one knows who must act.

use crate::TableName;

/// A result of the lake.
pub type Result<T, E = LakeError> = std::result::Result<T, E>;

/// An error of the lake: what happened, why, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The warehouse URL or its options cannot be used.
    #[error("cannot open warehouse '{url}': {reason}; {hint}")]
    BadWarehouse { url: String, reason: String, hint: &'static str },

    /// The store overwrote an object that it should have refused to overwrite.
    #[error(
        "the store of warehouse '{url}' does not honour create-if-absent, so two writers could overwrite each other; \
         use a store with conditional writes (S3 If-None-Match: AWS S3, MinIO, Versity Gateway, or a local folder)"
    )]
    NotConditional { url: String },

    /// A request failed for good: the store answered, and trying again would not help.
    #[error("cannot {operation} '{path}' in the warehouse: {source}; check the store's permissions, space and settings")]
    Store { operation: &'static str, path: String, source: object_store::Error },

    /// No room is left where the warehouse lies. Nothing was written.
    #[error(
        "the disk of the warehouse is full: nothing more can be written below '{folder}' ({reason}); free some space there: \
         nothing is lost, and pipelines go on by themselves"
    )]
    Full { folder: String, reason: String },

    /// The store does not let this user write. Nothing was written.
    #[error(
        "the warehouse cannot be written: '{path}': {reason}; check that this user may write there and that it is not mounted \
         read-only: pipelines go on by themselves then"
    )]
    NotWritable { path: String, reason: String },

    /// A write may or may not have happened: the store could not be asked. Never to be read as "failed".
    #[error(
        "it is unknown whether '{path}' was written: {reason}; nothing was rewritten; \
         once the store answers again, repeat the operation: it finds out by reading"
    )]
    Unclear { path: String, reason: String },

    /// No table of that name.
    #[error("table {0} does not exist in the warehouse")]
    NoSuchTable(TableName),

    /// The table has no such version.
    #[error("table {table} has no version {wanted}: its newest is {newest}; ask for one up to that")]
    NoSuchVersion { table: TableName, wanted: i64, newest: i64 },

    /// A scan of a version met a data file of it that is not there any more.
    #[error(
        "file '{path}' of table {table} is gone, which version {version} has: newer versions have replaced it longer than lake.vacuum_retention \
         ago and a vacuum has deleted it, or someone else has deleted it; ask a newer version (a query that is run again reads the newest), or \
         raise lake.vacuum_retention where queries take longer; if the newest has it, restore the file from a copy, or make the table anew \
         (`watershed rebuild TABLE` if a pipeline writes it)"
    )]
    DataFileGone { table: TableName, path: String, version: i64 },

    /// The table was created before with another schema or partitioning.
    #[error(
        "table {table} exists with a different {what}: it has {existing}, the definition wants {wanted}; name another one, drop this one, or \
         take back what was changed (`watershed rebuild TABLE` makes a pipeline's table anew)"
    )]
    TableDiffers { table: TableName, what: &'static str, existing: String, wanted: String },

    /// The table under this handle was dropped, or dropped and made anew.
    #[error("table {table} was dropped{} by someone else while it was in use; restore it from a copy and start again, or make it anew (`watershed rebuild TABLE` if a pipeline writes it)",
        if *.made_anew { " and made anew" } else { "" })]
    TableReplaced { table: TableName, made_anew: bool },

    /// The schema, partitioning or protocol of the table changed under this handle.
    #[error(
        "the {what} of table {table} was changed by someone else at version {version}; take the change back and start again, or make the \
         table anew (`watershed rebuild TABLE` if a pipeline writes it)"
    )]
    TableChanged { table: TableName, what: &'static str, version: i64 },

    /// The table uses Delta features that are not supported.
    #[error("table {table} cannot be {action}: it uses {feature}; {hint}")]
    Unsupported { table: TableName, action: &'static str, feature: String, hint: &'static str },

    /// A newer epoch of the same writer is already in the table: this process is a zombie.
    #[error(
        "table {table} already holds {app_id} version {found}, newer than {wanted}: another process runs this pipeline; \
         stop one of them"
    )]
    NewerWriter { table: TableName, app_id: String, found: i64, wanted: i64 },

    /// The table does not hold the epoch that this one follows.
    #[error(
        "table {table} holds {app_id} version {}, so version {wanted} cannot follow, which comes after {}: \
         the table was restored from another copy, or the pipeline's state belongs to another table",
        version_or_none(*.found), version_or_none(*.expected)
    )]
    EpochGap { table: TableName, app_id: String, found: Option<i64>, expected: Option<i64>, wanted: i64 },

    /// All rows were to be replaced, and meanwhile another writer changed the table.
    #[error(
        "table {table} went from version {read} to {found} while its rows were being replaced: another process writes it, too; \
         do it again on the new version, and let one process alone write the table"
    )]
    Overtaken { table: TableName, read: i64, found: i64 },

    /// Files were written long ago and never committed: vacuum may be about to take them for forgotten.
    #[error(
        "file '{path}' of table {table} was written {hours} hours ago and has not been committed since: the process slept, or the work takes \
         too long; nothing was committed; do the work again"
    )]
    StagedTooLong { table: TableName, path: String, hours: i64 },

    /// Files could not be merged for a reason that lies in this process.
    #[error("the small files of table {table} were not merged: {reason}; the table is as it was, and the next commit tries again")]
    Compaction { table: TableName, reason: String },

    /// Other writers won every round.
    #[error("gave up committing to table {table} after {attempts} rounds lost to other writers; run fewer writers or commit less often")]
    TooBusy { table: TableName, attempts: u32 },

    /// A log, checkpoint or definitions file cannot be understood.
    #[error(
        "'{path}' is damaged: {reason}; restore it from a copy, or make the table anew (`watershed rebuild TABLE` if a pipeline writes it)"
    )]
    Damaged { path: String, reason: String },

    /// A schema has no Delta equivalent.
    #[error("column '{column}' has type {data_type}, which a Delta table cannot store; cast it to another type")]
    BadType { column: String, data_type: String },

    /// A partition column is unusable.
    #[error("cannot partition by '{column}': {reason}")]
    BadPartition { column: String, reason: &'static str },

    /// Rows do not fit the table they are written to.
    #[error("rows do not fit table {table}: {reason}")]
    BadRows { table: TableName, reason: String },

    /// Someone else applied definitions first.
    #[error(
        "the definitions were changed to revision {found} by someone else meanwhile (expected {expected}); look at their change and apply again"
    )]
    DefinitionsChanged { expected: u64, found: u64 },

    /// Parquet could not be encoded.
    #[error("cannot encode rows for table {table}: {source}")]
    Encode { table: TableName, source: parquet::errors::ParquetError },

    /// delta-rs could not read the table.
    #[error("cannot read the Delta log of table {table}: {}; restore it from a copy if it was damaged", first_line(source))]
    Delta { table: TableName, source: Box<deltalake::DeltaTableError> },

    /// Planning a scan failed.
    #[error("cannot plan a scan: {0}")]
    Plan(#[from] datafusion::error::DataFusionError),
}

/// delta-rs appends a backtrace to some of its messages.
fn first_line(source: &deltalake::DeltaTableError) -> String {
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

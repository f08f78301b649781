//! Compaction: many small files of a table become few large ones, with the same rows in the same order.
//!
//! ```text
//! live files ─► tiers.rs: which with which ─► rows read in order, written by a TableWriter ─► one commit: small files out, large ones in
//! ```
//!
//! The commit says of each file that no data changed, so readers of changes see nothing, and it touches no application transaction, so
//! exactly once is as it was. It is right on top of any version in which the files it replaces are live and as they were: appends
//! meanwhile do not matter, and a commit that has replaced one of them comes first. Then the merged files are deleted again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use bytes::Bytes;
use datafusion::common::ScalarValue;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::ParquetMetaDataReader;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::access::{Access, PutOutcome};
use crate::clock;
use crate::commit::{StagedFile, add};
use crate::encoding;
use crate::error::{LakeError, Result};
use crate::files::DataFile;
use crate::footer;
use crate::limits;
use crate::log::{Action, Add, DELETION_VECTORS, ENGINE, Remove, render, version_path};
use crate::partition;
use crate::row_width::RowWidth;
use crate::state::{Identity, State};
use crate::step::step;
use crate::table::Table;
use crate::tiers::{self, CompactOptions, Round};
use crate::writer::{TableWriter, WriterLimits, below};

/// What a compaction of one table did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Commits made.
    pub commits: u64,
    /// Files replaced, and their size.
    pub files_before: u64,
    /// See there.
    pub bytes_before: u64,
    /// Files that took their place, and their size.
    pub files_after: u64,
    /// See there.
    pub bytes_after: u64,
    /// Rows in them.
    pub rows: u64,
    /// Merges thrown away because somebody else had replaced one of the files meanwhile, or because they made nothing smaller.
    pub given_up: u64,
    /// Why the table cannot be compacted at all, such as `deletion vectors`.
    pub skipped: Option<String>,
}

impl Compaction {
    /// Adds another one.
    pub fn add(&mut self, other: &Compaction) {
        self.commits += other.commits;
        self.files_before += other.files_before;
        self.bytes_before += other.bytes_before;
        self.files_after += other.files_after;
        self.bytes_after += other.bytes_after;
        self.rows += other.rows;
        self.given_up += other.given_up;
    }
}

/// The rows of one or more files, encoded again.
struct Rewritten {
    files: Vec<StagedFile>,
    /// Where `files` are in the order of rows: when the newest row before their end was written, in ms since 1970.
    written_ms: Vec<i64>,
}

impl Table {
    /// Merges small files where enough have come together, until there is nothing more to merge or `stop` is true. Rows, and their order
    /// within a partition, stay as they are.
    ///
    /// Beside other writers nothing is lost or doubled: a merge that comes second is given up. Errors: as of reading and writing the table;
    /// [`LakeError::Unclear`] when the store cannot be asked whether a commit happened. None of them harms the table.
    pub async fn compact(&self, options: &CompactOptions, stop: &Arc<AtomicBool>) -> Result<Compaction> {
        let shared = &self.shared;
        let mut done = Compaction::default();
        let (version, rounds) = {
            let mut state = self.fresh().await?;
            let fixed = state.protocol.unwritable().or_else(|| shared.identity.unmergeable());
            let version = state.version;
            let files = state.load_files(&shared.access, &shared.identity).await?.clone();
            drop(state);
            let fixed = fixed.or_else(|| files.iter().any(|file| file.has_deletion_vector).then(|| DELETION_VECTORS.to_owned()));
            if let Some(feature) = fixed {
                tracing::debug!(table = %self.name(), feature, "not compacted");
                done.skipped = Some(feature);
                return Ok(done);
            }
            (version, tiers::plan(&files, options, clock::now().timestamp_millis()))
        };
        for round in rounds {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            done.add(&self.merge(Arc::new(round), version, options, stop).await?);
        }
        Ok(done)
    }

    async fn merge(&self, round: Arc<Round>, planned: i64, options: &CompactOptions, stop: &Arc<AtomicBool>) -> Result<Compaction> {
        let began = std::time::Instant::now();
        let given_up = Compaction { given_up: 1, ..Compaction::default() };
        let rewritten = match self.rewritten(&round, options, stop).await {
            Ok(Some(rewritten)) => rewritten,
            Ok(None) => return Ok(Compaction::default()),
            // Whoever slept for long finds files replaced, and deleted since.
            Err(LakeError::Damaged { .. }) if !self.holds(&round, planned).await? => return Ok(given_up),
            Err(error) => return Err(error),
        };
        let staged = &rewritten.files;
        step("compaction_staged");
        let sum = |of: fn(&StagedFile) -> u64| staged.iter().map(of).sum::<u64>();
        let mut done = Compaction {
            files_before: round.files().count() as u64,
            bytes_before: round.bytes(),
            files_after: staged.len() as u64,
            bytes_after: sum(|file| file.size_bytes),
            rows: sum(|file| file.rows),
            ..Compaction::default()
        };
        let version = if done.files_after < done.files_before { self.replace(&round, &rewritten, planned, &done).await? } else { None };
        let Some(version) = version else {
            self.discard(staged).await;
            tracing::debug!(table = %self.name(), files = done.files_before, "a merge was given up");
            return Ok(given_up);
        };
        step("compaction_committed");
        tracing::info!(
            table = %self.name(), version, files_before = done.files_before, files_after = done.files_after, bytes_before = done.bytes_before,
            bytes_after = done.bytes_after, rows = done.rows, took_ms = began.elapsed().as_millis() as u64, "compacted"
        );
        done.commits = 1;
        Ok(done)
    }

    /// Encodes rows on a thread of its own, which yields to all others. `None` if it was stopped.
    async fn rewritten(&self, round: &Arc<Round>, options: &CompactOptions, stop: &Arc<AtomicBool>) -> Result<Option<Rewritten>> {
        let (table, round, stop, file_bytes) = (self.clone(), round.clone(), stop.clone(), options.file_bytes);
        let (done, rewritten) = tokio::sync::oneshot::channel();
        let runtime = Handle::current();
        let thread = std::thread::Builder::new().name("compaction".to_owned()).spawn(move || {
            yield_to_others();
            // If nobody waits any more, there is nobody to tell.
            let _ = done.send(runtime.block_on(rewrite(&table, &round, file_bytes, &stop)));
        });
        let broken = |reason: String| LakeError::Compaction { table: self.name().clone(), reason };
        thread.map_err(|error| broken(error.to_string()))?;
        rewritten.await.map_err(|_| broken("its thread ended early".to_owned()))?
    }

    /// Puts the merged files in the place of those of `round`. `None` if these are not all live as they were any more.
    async fn replace(&self, round: &Round, rewritten: &Rewritten, planned: i64, done: &Compaction) -> Result<Option<i64>> {
        let (identity, access) = (&self.shared.identity, &self.shared.access);
        let bytes = render(&actions(round, rewritten, planned, done))?;
        let _one_at_a_time = self.shared.committing.lock().await;
        for _ in 0..limits::COMMIT_ATTEMPTS {
            let (version, tag) = {
                let mut state = self.fresh().await?;
                if !still_holds(&mut state, access, identity, round, planned).await? {
                    return Ok(None);
                }
                (state.version, state.tag.clone())
            };
            self.check_fresh(&rewritten.files)?;
            match access.put_if_absent(&version_path(&identity.folder, version + 1), &bytes).await? {
                (PutOutcome::Won, own_tag) => return Ok(Some(self.landed(version, tag, bytes, own_tag).await?)),
                (PutOutcome::Lost(_), _) => {}
            }
        }
        Err(LakeError::TooBusy { table: self.name().clone(), attempts: limits::COMMIT_ATTEMPTS })
    }

    async fn holds(&self, round: &Round, planned: i64) -> Result<bool> {
        let mut state = self.fresh().await?;
        still_holds(&mut state, &self.shared.access, &self.shared.identity, round, planned).await
    }

    /// Deletes files that no commit will name. Those that cannot be deleted are orphans for vacuum.
    async fn discard(&self, files: &[StagedFile]) {
        let paths = files.iter().filter_map(|file| below(&self.shared.identity.folder, &file.path).ok()).collect::<Vec<_>>();
        if let Err(error) = self.shared.access.delete(&paths).await {
            tracing::debug!(table = %self.name(), %error, "merged files that are not needed were not deleted");
        }
    }

    /// The rows of a live file as it stores them, then its partition columns. The file is held in memory while it is read.
    async fn stored_rows(&self, file: &DataFile) -> Result<Box<dyn Iterator<Item = Result<RecordBatch>> + Send>> {
        let identity = self.shared.identity.clone();
        let path = below(&identity.folder, &file.path)?;
        let damaged = move |reason: String| LakeError::Damaged { path: path.to_string(), reason };
        let found = self.shared.access.get(&below(&identity.folder, &file.path)?).await?;
        let found = found.ok_or_else(|| damaged("the log names it, and it is not there".to_owned()))?;
        let reader = reader(found.bytes, file.is_own, &identity.layout.file_schema).map_err(|error| damaged(error.to_string()))?;
        let values = file.partition.clone();
        let with_partition = move |stored: RecordBatch| -> std::result::Result<RecordBatch, arrow::error::ArrowError> {
            let layout = &identity.layout;
            // Columns that the table has no more are left out; the writer casts the others, and fills those that came later with nulls.
            let known = stored.schema_ref().fields().iter().zip(stored.columns());
            let known = known.filter(|(field, _)| layout.file_schema.index_of(field.name()).is_ok());
            let (mut fields, mut columns): (Vec<_>, Vec<ArrayRef>) = known.map(|(field, column)| (field.clone(), column.clone())).unzip();
            for (field, value) in layout.partition_fields.iter().zip(&values) {
                fields.push(field.clone());
                columns.push(value.to_array_of_size(stored.num_rows())?);
            }
            let options = RecordBatchOptions::new().with_row_count(Some(stored.num_rows()));
            RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        };
        Ok(Box::new(reader.map(move |stored| stored.and_then(&with_partition).map_err(|error| damaged(error.to_string())))))
    }
}

/// Reads a file as a scan would.
fn reader(bytes: Bytes, is_own: bool, columns: &Schema) -> parquet::errors::Result<ParquetRecordBatchReader> {
    let mut parquet = ParquetMetaDataReader::new();
    parquet.try_parse(&bytes)?;
    let footer = Arc::new(parquet.finish()?);
    let footer = if is_own { footer } else { footer::adapted(footer, columns)? };
    let rows = RowWidth::of(&footer).rows_in(limits::BATCH_BYTES_MAX, limits::REWRITE_ROWS);
    ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, footer::reading(footer)?).with_batch_size(rows).build()
}

/// Whether the files of a round are live and as they were, in a table defined as it was.
async fn still_holds(state: &mut State, access: &Access, identity: &Identity, round: &Round, planned: i64) -> Result<bool> {
    Ok(state.defined_version <= planned && state.load_files(access, identity).await?.hold(round.files()))
}

/// Reads the files of a round in order and writes their rows again. `None` if it was stopped.
async fn rewrite(table: &Table, round: &Round, file_bytes: u64, stop: &AtomicBool) -> Result<Option<Rewritten>> {
    let file_bytes = usize::try_from(file_bytes).unwrap_or(usize::MAX);
    let limits = WriterLimits { file_bytes, ..WriterLimits::default() };
    let mut writer = table.writer("compacted").with_limits(limits);
    let outcome = write_all(table, round, &mut writer, stop).await;
    let files = match outcome {
        Ok(true) => writer.finish().await?,
        other => {
            table.discard(writer.staged()).await;
            return other.map(|_| None);
        }
    };
    // The files of a partition follow each other: the last one ends with its newest row.
    let layout = &table.shared.identity.layout;
    let newest = round.runs.iter().map(|run| (run[0].partition.as_slice(), run.iter().map(|file| file.modified_ms).max().unwrap_or(0)));
    let newest = newest.collect::<HashMap<_, _>>();
    let mut after: HashMap<Vec<ScalarValue>, i64> = HashMap::new();
    let mut written_ms = Vec::with_capacity(files.len());
    for file in files.iter().rev() {
        let values = layout.partition_fields.iter().map(|field| {
            let text = file.partition_values.get(field.name()).and_then(Option::as_deref);
            partition::of_file(text, field).map_err(|reason| LakeError::Damaged { path: file.path.clone(), reason })
        });
        let values = values.collect::<Result<Vec<_>>>()?;
        let newest = newest.get(values.as_slice()).copied().unwrap_or(file.modified_ms);
        let behind = after.entry(values).or_insert(0);
        written_ms.push(newest - *behind);
        *behind += 1;
    }
    written_ms.reverse();
    Ok(Some(Rewritten { files, written_ms }))
}

/// False if it was stopped.
async fn write_all(table: &Table, round: &Round, writer: &mut TableWriter, stop: &AtomicBool) -> Result<bool> {
    for file in round.files() {
        for rows in table.stored_rows(file).await? {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            writer.write(rows?).await?;
        }
    }
    Ok(true)
}

fn actions(round: &Round, rewritten: &Rewritten, planned: i64, done: &Compaction) -> Vec<Action> {
    let now_ms = clock::now().timestamp_millis();
    let info = serde_json::json!({
        "timestamp": now_ms,
        "operation": "OPTIMIZE",
        "operationParameters": { "predicate": "[]", "zOrderBy": "[]" },
        "operationMetrics": {
            "numAddedFiles": done.files_after.to_string(),
            "numAddedBytes": done.bytes_after.to_string(),
            "numRemovedFiles": done.files_before.to_string(),
            "numRemovedBytes": done.bytes_before.to_string(),
        },
        "readVersion": planned,
        "isBlindAppend": false,
        "engineInfo": ENGINE,
        // Makes the bytes ours alone: equal bytes in the log are our own write.
        "txnId": Uuid::new_v4().to_string(),
    });
    let remove = |file: &DataFile| Remove {
        path: encoding::to_uri(&file.path),
        deletion_timestamp: Some(now_ms),
        data_change: false,
        size: i64::try_from(file.size_bytes).ok(),
    };
    let removes = round.files().map(|file| Action { remove: Some(remove(file)), ..Action::default() });
    let adds = rewritten.files.iter().zip(&rewritten.written_ms).map(|(file, written_ms)| {
        // Delta means the time of the logical file. That of its newest row keeps files in the order of their rows for the next merge.
        let add = Add { data_change: false, modification_time: *written_ms, ..add(file) };
        Action { add: Some(add), ..Action::default() }
    });
    let info = Action { commit_info: Some(info), ..Action::default() };
    std::iter::once(info).chain(removes).chain(adds).collect()
}

/// The calling thread gets what others leave of the processors. Where that cannot be said it is like all others.
fn yield_to_others() {
    #[cfg(target_os = "linux")]
    {
        const NICE: libc::c_int = 10;
        // SAFETY: plain system calls; on Linux the priority of a thread id is that of the thread alone.
        unsafe {
            let thread = libc::syscall(libc::SYS_gettid) as libc::id_t;
            libc::setpriority(libc::PRIO_PROCESS, thread, NICE);
        }
    }
}

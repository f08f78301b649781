//! The writer: puts rows of the table and its side tables into Parquet files that nobody sees until their epoch is decided, and sends rows
//! that need not wait for that to sinks in Kafka.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use crossbeam_channel::Receiver;
use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use watershed_dialect::SourceDefinition;
use watershed_lake::{StagedFile, Table, TableWriter};

use crate::StreamError;
use crate::control::{Control, StageName};
use crate::delivery::Delivered;
use crate::epoch::Counters;
use crate::fault::{panic_text, set_aside};
use crate::hidden::{self, SourceNames};
use crate::limits::WRITER_BUFFER_BYTES_MAX;
use crate::outlet::Outlet;
use crate::stage::{Alignment, Cut};
use crate::tables::{among, under_names_of};
use crate::task::{Inputs, Report};

/// Which of a pipeline's tables rows are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// The streaming table.
    Main,
    /// `<table>$late`.
    Late,
    /// `<source>$quarantine` of the source of this place.
    Quarantine(usize),
    /// `<table>$violations`.
    Violations,
}

/// What flows into the writer.
pub enum WriterMessage {
    /// Rows for a table.
    Rows(Target, RecordBatch),
    /// The cut of an epoch.
    Barrier(Cut),
}

/// The files of one epoch. What the sinks that do not wait for epochs had to send before its barrier has arrived.
pub struct Staged {
    /// The epoch.
    pub epoch: u64,
    /// Rows sent at once and acknowledged, by sink.
    pub delivered: Delivered,
    /// Files by table.
    pub files: BTreeMap<Target, Vec<StagedFile>>,
    /// Rows for the main table among them.
    pub rows_out: u64,
}

/// The last task of a shard.
pub struct Writer {
    /// One input for each task before it.
    pub inputs: Vec<Receiver<WriterMessage>>,
    /// The tables that take rows; rows for one that is not here are dropped (late rows with `late_rows = 'drop'`).
    pub tables: BTreeMap<Target, Table>,
    /// The pipeline's name, noted with each quarantined row.
    pub pipeline: String,
    /// Shared with the coordinator.
    pub control: Arc<Control>,
    /// Where uploads run.
    pub runtime: Handle,
    /// Sinks that get rows at once.
    pub outlets: Vec<Outlet>,
    /// What the pipeline reads: ids of rows begin with the name of one.
    pub sources: Arc<[SourceDefinition]>,
    /// Their names.
    pub names: SourceNames,
    /// Whether late rows are of several kinds.
    pub late_mixed: bool,
}

impl Writer {
    /// Runs until told to stop, or up to the last barrier.
    pub fn run(mut self, reports: &mpsc::Sender<Report>) -> Result<(), StreamError> {
        let inputs = Inputs(std::mem::take(&mut self.inputs));
        let mut alignment = Alignment::new(inputs.0.len());
        let mut open = OpenFiles::default();
        loop {
            if self.control.stopped() {
                return Ok(());
            }
            let Some((input, message)) = inputs.receive(|input| alignment.is_open(input)) else { continue };
            match message {
                WriterMessage::Rows(target, rows) => self.write(&mut open, target, rows)?,
                WriterMessage::Barrier(cut) => {
                    if !alignment.meet(input, cut) {
                        continue;
                    }
                    // The record may be written only once Kafka has the rows: then they are never read again.
                    let Some(delivered) = self.settle(&mut open)? else { return Ok(()) };
                    // Closing and uploading goes on beside the rows of the next epoch.
                    let done = std::mem::take(&mut open);
                    let reports = reports.clone();
                    let pipeline = self.pipeline.clone();
                    self.runtime.spawn(async move {
                        let finished = async {
                            let staged = done.finish(cut.epoch, delivered).await?;
                            watershed_lake::step("files_staged");
                            Ok::<_, StreamError>(staged)
                        };
                        // Nobody else would tell the coordinator, which would wait until the epoch counts as stuck, and again after each start.
                        let finished = AssertUnwindSafe(finished).catch_unwind().await;
                        let report = match finished
                            .unwrap_or_else(|panic| Err(StreamError::TaskDied { pipeline, what: panic_text(panic.as_ref()) }))
                        {
                            Ok(staged) => Report::Staged(Box::new(staged)),
                            Err(error) => Report::Failed(error),
                        };
                        let _ = reports.send(report).await;
                    });
                    if cut.last {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Waits until Kafka has what was sent at once. `None` if the task is to end.
    fn settle(&mut self, open: &mut OpenFiles) -> Result<Option<Delivered>, StreamError> {
        if !self.outlets.is_empty() {
            watershed_lake::step("sink_rows_sent");
        }
        let (mut delivered, mut unsent) = (Delivered::new(), Vec::new());
        for outlet in &mut self.outlets {
            let Some(rows) = outlet.settle(|| self.control.stopped())? else { return Ok(None) };
            delivered.insert(outlet.name().to_string(), rows);
            unsent.extend(outlet.take_unsent(&self.names));
        }
        for (source, aside) in set_aside(&self.pipeline, &self.sources, unsent)? {
            // Not counted, as in `write`.
            self.write(open, Target::Quarantine(source), aside)?;
        }
        if !self.outlets.is_empty() {
            watershed_lake::step("sink_rows_acknowledged");
        }
        Ok(Some(delivered))
    }

    fn write(&mut self, open: &mut OpenFiles, target: Target, mut rows: RecordBatch) -> Result<(), StreamError> {
        if target == Target::Main {
            let mut refused = Vec::new();
            for outlet in &mut self.outlets {
                refused.extend(outlet.send(rows.clone(), &self.names)?);
            }
            for (source, aside) in set_aside(&self.pipeline, &self.sources, refused)? {
                // Not counted: the row itself is in the table.
                self.write(open, Target::Quarantine(source), aside)?;
            }
            rows = hidden::without_hidden(rows)?;
        }
        let Some(table) = self.tables.get(&target) else { return Ok(()) };
        self.control.passed(StageName::Sink, rows.num_rows(), rows.num_rows());
        let rows = match target {
            Target::Quarantine(_) => with_pipeline(&rows, &self.pipeline)?,
            Target::Late if self.late_mixed => among(&rows, &table.schema())?,
            Target::Late => match under_names_of(&rows.schema(), &table.schema()) {
                Some(schema) => RecordBatch::try_new(schema, rows.columns().to_vec())?,
                None => rows,
            },
            Target::Main | Target::Violations => rows,
        };
        if target == Target::Main {
            open.rows_out += rows.num_rows() as u64;
            self.control.count(Counters { rows_out: rows.num_rows() as u64, ..Counters::default() });
        }
        let writer = open.writers.entry(target).or_insert_with(|| table.writer(&self.pipeline));
        self.runtime.block_on(writer.write(rows))?;
        if writer.buffered_bytes() > WRITER_BUFFER_BYTES_MAX
            && let Some(writer) = open.writers.remove(&target)
        {
            open.files.entry(target).or_default().extend(self.runtime.block_on(writer.finish())?);
        }
        Ok(())
    }
}

#[derive(Default)]
struct OpenFiles {
    writers: BTreeMap<Target, TableWriter>,
    files: BTreeMap<Target, Vec<StagedFile>>,
    rows_out: u64,
}

impl OpenFiles {
    async fn finish(mut self, epoch: u64, delivered: Delivered) -> Result<Staged, StreamError> {
        for (target, writer) in self.writers {
            self.files.entry(target).or_default().extend(writer.finish().await?);
        }
        Ok(Staged { epoch, delivered, files: self.files, rows_out: self.rows_out })
    }
}

/// The schema of `<source>$quarantine`: what ingest says of a row, and the pipeline that could not take it.
pub fn quarantine_schema() -> SchemaRef {
    let mut fields: Vec<_> = watershed_ingest::quarantine::schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("pipeline", DataType::Utf8, false)));
    Schema::new(fields).into()
}

fn with_pipeline(rows: &RecordBatch, pipeline: &str) -> Result<RecordBatch, StreamError> {
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(StringArray::from(vec![pipeline; rows.num_rows()])) as ArrayRef);
    Ok(RecordBatch::try_new(quarantine_schema(), columns)?)
}

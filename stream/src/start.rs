//! Starts the tasks of one run of a shard where its newest record left off, and connects them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::mpsc;
use watershed_ingest::PartitionRange;
use watershed_lake::Table;

use crate::StreamError;
use crate::control::Control;
use crate::epoch::EpochRecord;
use crate::exchange::Exchange;
use crate::idle::{self, AtEnd};
use crate::limits::CHANNEL_BATCHES_MAX;
use crate::outlet::Outlet;
use crate::shard::ShardSpec;
use crate::state::{self, Stage};
use crate::tables;
use crate::task::{Downstream, KeyedTask, LocalTask, Message, Report, spawn};
use crate::watermark::PartitionWatermark;
use crate::writer::{Target, Writer, WriterMessage};

/// The tasks of one run.
pub struct Running {
    /// Shared with all of them.
    pub control: Arc<Control>,
    /// What they say.
    pub reports: mpsc::Receiver<Report>,
    /// How many pass each barrier, the writer not counted.
    pub task_count: usize,
    /// How many of them are keyed; 1 if there is no keyed stage.
    pub keyed_tasks: usize,
    /// Their threads.
    pub threads: Vec<JoinHandle<()>>,
}

/// Operator state as it was read back: name and pieces of each segment.
pub type Segments = [(String, Vec<RecordBatch>)];
/// Those of one task.
type OfTask = Vec<(String, Vec<RecordBatch>)>;

/// Where the partitions of a source go on.
pub struct Positions {
    /// The next offset to be read of each.
    pub offsets: BTreeMap<i32, i64>,
    /// Which are at their end, and since when.
    pub at_end: AtEnd,
}

impl Positions {
    /// Of partitions that were found to be `ranges`. One that has had no row yet, and of which the newest record says that it was read to its end,
    /// has been there since then: else a pipeline that never runs for long would wait for its first row for ever. No more than `idle_timeout` of
    /// it counts. Those with rows count from now, since a clock that jumps between two runs must not make their rows late; that they were there
    /// before is another matter ([`crate::idle`]).
    pub fn new(offsets: BTreeMap<i32, i64>, ranges: &[PartitionRange], record: Option<&EpochRecord>, idle_timeout: Duration) -> Self {
        let now = Instant::now();
        let mut at_end = AtEnd::default();
        for range in ranges.iter().filter(|range| offsets.get(&range.partition).is_some_and(|&offset| offset >= range.high)) {
            let partition = range.partition;
            let record = record.filter(|record| record.offsets.get(&partition) == offsets.get(&partition));
            let is_empty = record.filter(|record| !record.newest_us.contains_key(&partition));
            let known = is_empty.and_then(|record| idle::since(*record.caught_up_ms.get(&partition)?, idle_timeout));
            at_end.caught_up.insert(partition, known.unwrap_or(now));
            if let Some(quiet) = record.and_then(|record| record.quiet.get(&partition)?.in_run(idle_timeout)) {
                at_end.quiet.insert(partition, quiet);
            }
        }
        Self { offsets, at_end }
    }
}

/// Starts all tasks of a shard. `outlets` are the sinks that get rows at once.
pub fn start(
    spec: &ShardSpec,
    record: Option<&EpochRecord>,
    tables: &BTreeMap<Target, Table>,
    positions: &Positions,
    segments: &Segments,
    outlets: Vec<Outlet>,
) -> Result<Running, StreamError> {
    let Positions { offsets, at_end } = positions;
    let local_tasks = spec.parallelism.clamp(1, offsets.len().max(1));
    let of_keyed = keyed_segments(spec, record, segments)?;
    let keyed_tasks = of_keyed.len();
    let (report, reports) = mpsc::channel(64);
    let mut starter =
        Starter { spec, record, segments, control: Arc::new(Control::default()), report, threads: Vec::new(), writer_inputs: Vec::new() };
    let has_keyed_stage = spec.blueprint.exchange.is_some();
    let mut keyed_inputs: Vec<Vec<Receiver<Message>>> = (0..if has_keyed_stage { keyed_tasks } else { 0 }).map(|_| Vec::new()).collect();
    for index in 0..local_tasks {
        let mine = offsets.iter().filter(|(p, _)| **p as usize % local_tasks == index).map(|(&p, &offset)| (p, offset)).collect();
        let of_these = Positions { offsets: mine, at_end: at_end.clone() };
        starter.local(index, local_tasks, of_these, &mut keyed_inputs)?;
    }
    let task_count = local_tasks + keyed_inputs.len();
    for ((index, inputs), mine) in keyed_inputs.into_iter().enumerate().zip(&of_keyed) {
        starter.keyed(index, inputs, mine)?;
    }
    starter.writer(tables, outlets)?;
    Ok(Running { control: starter.control, reports, task_count, keyed_tasks, threads: starter.threads })
}

/// The state of each task of the keyed stage. It is split over as many tasks as are wanted, or over those that wrote it if that cannot be done.
fn keyed_segments(spec: &ShardSpec, record: Option<&EpochRecord>, segments: &Segments) -> Result<Vec<OfTask>, StreamError> {
    let wanted = if spec.blueprint.keyed_in_parallel { spec.parallelism } else { 1 };
    let written_by = record.filter(|record| !record.state.is_empty()).map_or(wanted, |record| record.keyed_tasks as usize);
    if written_by != wanted
        && let Some(keys) = &spec.blueprint.exchange
        && let Some(split) = state::split(&mut spec.blueprint.keyed_chain()?, segments, keys, wanted)?
    {
        return Ok(split);
    }
    let tasks = if spec.blueprint.keyed_in_parallel { written_by } else { 1 };
    let of_task = |task: usize| {
        let mine = segments.iter().filter(|(name, _)| state::task_of(name) == Some((Stage::Keyed, task)));
        mine.cloned().collect()
    };
    Ok((0..tasks).map(of_task).collect())
}

struct Starter<'a> {
    spec: &'a ShardSpec,
    record: Option<&'a EpochRecord>,
    segments: &'a Segments,
    control: Arc<Control>,
    report: mpsc::Sender<Report>,
    threads: Vec<JoinHandle<()>>,
    writer_inputs: Vec<Receiver<WriterMessage>>,
}

impl Starter<'_> {
    fn writer_sender(&mut self) -> Sender<WriterMessage> {
        let (sender, receiver) = bounded(CHANNEL_BATCHES_MAX);
        self.writer_inputs.push(receiver);
        sender
    }

    fn thread(
        &mut self,
        role: String,
        body: impl FnOnce(&mpsc::Sender<Report>) -> Result<(), StreamError> + Send + 'static,
    ) -> Result<(), StreamError> {
        self.threads.push(spawn(format!("{}/{role}", self.spec.id.app_id()), self.report.clone(), body)?);
        Ok(())
    }

    /// One task of the partition-local stage, over the partitions that have offsets in `positions`.
    fn local(
        &mut self,
        index: usize,
        of: usize,
        positions: Positions,
        keyed_inputs: &mut [Vec<Receiver<Message>>],
    ) -> Result<(), StreamError> {
        let blueprint = self.spec.blueprint.clone();
        let mut chain = blueprint.local_chain()?.within(self.spec.id.pipeline.to_string(), &self.spec.budget);
        state::restore(Stage::Local, chain.operators_mut(), self.segments, |_, segment| {
            // Segments of one partition go where the partition went, shared ones to the first task.
            let slot: usize = segment.rsplit('/').next().and_then(|slot| slot.parse().ok()).unwrap_or(0);
            slot % of == index
        })?;
        let downstream = match &blueprint.exchange {
            None => Downstream::Writer,
            Some(keys) => {
                let exchange = Exchange::new(keys, &chain.schema(), keyed_inputs.len())?;
                let mut senders = Vec::new();
                for inputs in keyed_inputs {
                    let (sender, receiver) = bounded(CHANNEL_BATCHES_MAX);
                    senders.push(sender);
                    inputs.push(receiver);
                }
                Downstream::Keyed(exchange, senders)
            }
        };
        let Positions { offsets, mut at_end } = positions;
        at_end.caught_up.retain(|partition, _| offsets.contains_key(partition));
        let watermarks = offsets.keys().map(|&p| (p, self.watermark(p))).collect();
        let (sources, name) = (self.spec.sources.clone(), self.spec.id.app_id().replace('/', "-"));
        let (writer, control) = (self.writer_sender(), self.control.clone());
        let pipeline = self.spec.id.pipeline.to_string();
        self.thread(format!("local{index}"), move |reports| {
            let task = LocalTask {
                index,
                // Connects here, so that the partitions of all tasks are looked up side by side.
                reader: sources.open(&blueprint.source, &blueprint.wanted, &offsets, &name)?,
                chain,
                time_column: blueprint.time_column,
                carries_hidden: blueprint.carries_hidden,
                tallies: Vec::new(),
                watermarks,
                idle_timeout: blueprint.source.idle_timeout,
                at_end,
                offsets,
                downstream,
                writer,
                control,
                pipeline,
                on_error: blueprint.source.on_error,
                halted: None,
            };
            task.run(reports)
        })
    }

    /// One task of the keyed stage.
    fn keyed(&mut self, index: usize, inputs: Vec<Receiver<Message>>, segments: &Segments) -> Result<(), StreamError> {
        let chain = self.spec.blueprint.keyed_chain()?.setting_aside();
        let mut chain = chain.within(self.spec.id.pipeline.to_string(), &self.spec.budget);
        state::restore(Stage::Keyed, chain.operators_mut(), segments, |_, _| true)?;
        let task = KeyedTask {
            index,
            chain,
            tallies: Vec::new(),
            inputs,
            writer: self.writer_sender(),
            control: self.control.clone(),
            pipeline: self.spec.id.pipeline.to_string(),
            source: self.spec.blueprint.source.clone(),
        };
        self.thread(format!("keyed{index}"), move |reports| task.run(reports))
    }

    /// The task after all others.
    fn writer(&mut self, tables: &BTreeMap<Target, Table>, outlets: Vec<Outlet>) -> Result<(), StreamError> {
        let writer = Writer {
            inputs: std::mem::take(&mut self.writer_inputs),
            tables: tables::written(tables, self.spec.blueprint.table.late_rows),
            pipeline: self.spec.id.pipeline.to_string(),
            control: self.control.clone(),
            runtime: tokio::runtime::Handle::current(),
            outlets,
            source: self.spec.blueprint.source.clone(),
        };
        self.thread("writer".into(), move |reports| writer.run(reports))
    }

    /// Where a partition's watermark starts. One that was added later starts where the others already closed windows: what it holds
    /// for those is late.
    fn watermark(&self, partition: i32) -> PartitionWatermark {
        let delay_us = self.spec.blueprint.source.watermark.as_ref().map_or(0, |w| w.delay_us);
        let Some(record) = self.record else { return PartitionWatermark::new(i64::MIN, i64::MIN, delay_us) };
        let of = |p: &i32| match record.watermarks_us.get(p).copied() {
            Some(i64::MAX) => self.drained_us(record),
            known => known.unwrap_or(i64::MIN),
        };
        let known = record.offsets.contains_key(&partition);
        let watermark_us = if known { of(&partition) } else { record.offsets.keys().map(of).min().unwrap_or(i64::MIN) };
        let newest_us = match record.newest_us.get(&partition) {
            Some(&newest_us) => newest_us,
            // Records of older versions do not say it. It was not greater than this, as far as any open window knows.
            None if known && record.newest_us.is_empty() && watermark_us > i64::MIN => watermark_us.saturating_add(delay_us),
            None => i64::MIN,
        };
        PartitionWatermark::new(watermark_us, newest_us, delay_us)
    }

    /// Older versions drained a pipeline as if no row could ever come again. What they had read was written before their record was, so
    /// windows that end after it are still to come.
    fn drained_us(&self, record: &EpochRecord) -> i64 {
        let written_us = i64::try_from(record.written_ms).unwrap_or(i64::MAX).saturating_mul(1_000);
        self.spec.blueprint.drained_us(written_us).unwrap_or(written_us)
    }
}

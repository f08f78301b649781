//! Starts the tasks of one run of a shard where its newest record left off, and connects them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use arrow::record_batch::RecordBatch;
use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::mpsc;
use watershed_dialect::SourceDefinition;
use watershed_lake::Table;

use crate::StreamError;
use crate::align::Ceilings;
use crate::control::Control;
use crate::epoch::EpochRecord;
use crate::hidden::Lane;
use crate::limits::CHANNEL_BATCHES_MAX;
use crate::outlet::Outlet;
use crate::plan::{Blueprint, SourcePlan};
use crate::resume::Positions;
use crate::shard::ShardSpec;
use crate::spec::Sharing;
use crate::stage::source::SourceStage;
use crate::stage::{Message, Stage};
use crate::state;
use crate::tables;
use crate::task::{Downstream, KeyedTask, LocalTask, Outputs, Report, spawn};
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
    /// How many a stage has whose rows are shared out by key; 1 if there is none.
    pub keyed_tasks: usize,
    /// Their threads.
    pub threads: Vec<JoinHandle<()>>,
}

/// Operator state as it was read back: name and pieces of each segment.
pub type Segments = [(String, Vec<RecordBatch>)];
/// Those of each task of a stage, by the stage's place.
pub type SplitState = BTreeMap<usize, Vec<Vec<(String, Vec<RecordBatch>)>>>;

/// Starts all tasks of a shard. `outlets` are the sinks that get rows at once.
pub fn start(
    spec: &ShardSpec,
    record: Option<&EpochRecord>,
    tables: &BTreeMap<Target, Table>,
    positions: Vec<Positions>,
    segments: &Segments,
    outlets: Vec<Outlet>,
) -> Result<Running, StreamError> {
    let (keyed_tasks, split) = keyed_tasks(spec, record, segments)?;
    let (report, reports) = mpsc::channel(64);
    let blueprint = &spec.blueprint;
    let tasks_of = |stage: usize| if blueprint.source_of(stage).is_some() { 0 } else { blueprint.tasks(stage, keyed_tasks) };
    let meets = blueprint.meeting().is_some();
    let control = Control::default();
    control.set_ceilings(Ceilings::unknown(blueprint.sources.len()));
    let mut starter = Starter {
        spec,
        record,
        segments,
        keyed_tasks,
        meets,
        split,
        control: Arc::new(control),
        report,
        threads: Vec::new(),
        inputs: (0..blueprint.stages()).map(|stage| (0..tasks_of(stage)).map(|_| Vec::new()).collect()).collect(),
        writer_inputs: Vec::new(),
    };
    let mut task_count = 0;
    for (source, Positions { offsets, at_end }) in positions.into_iter().enumerate() {
        let tasks = spec.parallelism.clamp(1, offsets.len().max(1));
        task_count += tasks;
        for index in 0..tasks {
            let mine = offsets.iter().filter(|(p, _)| **p as usize % tasks == index).map(|(&p, &offset)| (p, offset)).collect();
            starter.local(source, index, tasks, Positions { offsets: mine, at_end: at_end.clone() })?;
        }
    }
    for stage in 0..blueprint.stages() {
        let inputs = std::mem::take(&mut starter.inputs[stage]);
        task_count += inputs.len();
        for (index, inputs) in inputs.into_iter().enumerate() {
            starter.keyed(stage, index, inputs)?;
        }
    }
    starter.writer(tables, outlets)?;
    Ok(Running { control: starter.control, reports, task_count, keyed_tasks, threads: starter.threads })
}

/// How many tasks a stage has whose rows are shared out by key: as many as are wanted, or, if state cannot be split over those, as have written it.
fn keyed_tasks(spec: &ShardSpec, record: Option<&EpochRecord>, segments: &Segments) -> Result<(usize, SplitState), StreamError> {
    if !spec.blueprint.shares_by_key() {
        return Ok((1, SplitState::new()));
    }
    let wanted = spec.parallelism;
    let written_by = record.filter(|record| !record.state.is_empty()).map_or(wanted, |record| record.keyed_tasks as usize);
    if written_by == wanted {
        return Ok((wanted, SplitState::new()));
    }
    let split = split_state(&spec.blueprint, segments, wanted)?;
    Ok(split.map_or_else(|| (written_by, SplitState::new()), |split| (wanted, split)))
}

/// State for `tasks` tasks of each stage whose rows are shared out by key. `None` if some of it cannot be split.
pub fn split_state(blueprint: &Blueprint, segments: &Segments, tasks: usize) -> Result<Option<SplitState>, StreamError> {
    let mut all = SplitState::new();
    for stage in 0..blueprint.stages() {
        if let Sharing::ByKey { keys, .. } = blueprint.sharing(stage) {
            let Some(split) = state::split(&blueprint.spec.layout(), stage, &mut blueprint.chain(stage, 0)?, segments, keys, tasks)? else {
                return Ok(None);
            };
            all.insert(stage, split);
        }
    }
    Ok(Some(all))
}

/// The inputs of each task of a stage, one for each task of the stages before.
type StageInputs = Vec<Vec<Receiver<Message>>>;

struct Starter<'a> {
    spec: &'a ShardSpec,
    record: Option<&'a EpochRecord>,
    segments: &'a Segments,
    /// How many tasks a stage has whose rows are shared out by key.
    keyed_tasks: usize,
    /// Whether sources meet, so that one may have to wait for another.
    meets: bool,
    split: SplitState,
    control: Arc<Control>,
    report: mpsc::Sender<Report>,
    threads: Vec<JoinHandle<()>>,
    /// The inputs of each stage that was not started yet.
    inputs: Vec<StageInputs>,
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

    /// Connects a task of `stage` to all tasks of the next one, or to the writer.
    fn connect(&mut self, stage: usize) -> Outputs {
        let connected = |inputs: &mut Vec<Receiver<Message>>| {
            let (sender, receiver) = bounded(CHANNEL_BATCHES_MAX);
            inputs.push(receiver);
            sender
        };
        let downstream = match self.spec.blueprint.next(stage) {
            None => Downstream::Writer,
            Some(next) => Downstream::Tasks(self.inputs[next].iter_mut().map(connected).collect()),
        };
        let name = self.spec.blueprint.stage_name(stage);
        Outputs { downstream, writer: self.writer_sender(), control: self.control.clone(), name }
    }

    /// One task of the stage beside a source, over the partitions that have offsets in `positions`.
    fn local(&mut self, source: usize, index: usize, of: usize, positions: Positions) -> Result<(), StreamError> {
        let blueprint = self.spec.blueprint.clone();
        let SourcePlan { definition, wanted, time_column, stage: place } = blueprint.sources[source].clone();
        let mut chain = blueprint.chain(place, index)?.within(self.spec.id.pipeline.to_string(), &self.spec.budget);
        state::restore(&blueprint.spec.layout(), place, chain.operators_mut(), self.segments, |_, segment| {
            Lane::task(segment, of) == index
        })?;
        let exchange = blueprint.exchange(place, &chain.schema(), self.keyed_tasks)?;
        let Positions { offsets, mut at_end } = positions;
        at_end.caught_up.retain(|partition, _| offsets.contains_key(partition));
        let watermarks = offsets.keys().map(|&p| (p, self.watermark(&definition, p))).collect();
        let (sources, name) = (self.spec.sources.clone(), self.spec.id.app_id().replace('/', "-"));
        let stage = Stage::new(place, index, chain, 0, exchange);
        let stage = SourceStage::new(stage, source, watermarks, time_column, blueprint.carries_hidden);
        let (outputs, meets) = (self.connect(place), self.meets);
        let pipeline = self.spec.id.pipeline.to_string();
        self.thread(thread_name(place, index), move |reports| {
            let task = LocalTask {
                source,
                meets,
                stage,
                // Connects here, so that the partitions of all tasks are looked up side by side.
                reader: sources.open(&definition, &wanted, &offsets, &name)?,
                tallies: Vec::new(),
                idle_timeout: definition.idle_timeout,
                at_end,
                offsets,
                outputs,
                pipeline,
                on_error: definition.on_error,
                halted: None,
            };
            task.run(reports)
        })
    }

    /// One task of a stage after an exchange.
    fn keyed(&mut self, stage: usize, index: usize, inputs: Vec<Receiver<Message>>) -> Result<(), StreamError> {
        let blueprint = self.spec.blueprint.clone();
        let mut chain = blueprint.chain(stage, index)?.setting_aside().within(self.spec.id.pipeline.to_string(), &self.spec.budget);
        let layout = blueprint.spec.layout();
        match self.split.get(&stage).and_then(|tasks| tasks.get(index)) {
            Some(mine) => state::restore(&layout, stage, chain.operators_mut(), mine, |_, _| true)?,
            None => state::restore(&layout, stage, chain.operators_mut(), self.segments, |task, _| task == index)?,
        }
        let exchange = blueprint.exchange(stage, &chain.schema(), self.keyed_tasks)?;
        let task = KeyedTask {
            stage: Stage::new(stage, index, chain, inputs.len(), exchange),
            tallies: Vec::new(),
            inputs,
            outputs: self.connect(stage),
            pipeline: self.spec.id.pipeline.to_string(),
            sources: blueprint.definitions(),
        };
        self.thread(thread_name(stage, index), move |reports| task.run(reports))
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
            sources: self.spec.blueprint.definitions(),
            names: self.spec.blueprint.names.clone(),
            late_mixed: self.spec.blueprint.late_mixed,
        };
        self.thread("writer".into(), move |reports| writer.run(reports))
    }

    /// Where a partition's watermark starts. One that was added later starts where the others already closed windows: what it holds
    /// for those is late.
    fn watermark(&self, source: &SourceDefinition, partition: i32) -> PartitionWatermark {
        let delay_us = source.watermark.as_ref().map_or(0, |w| w.delay_us);
        let known = self.record.and_then(|record| Some((record.written_ms, record.source(&source.name)?)));
        let Some((written_ms, record)) = known else { return PartitionWatermark::new(i64::MIN, i64::MIN, delay_us) };
        let of = |p: &i32| match record.watermarks_us.get(p).copied() {
            Some(i64::MAX) => self.drained_us(written_ms),
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
    fn drained_us(&self, written_ms: u64) -> i64 {
        let written_us = i64::try_from(written_ms).unwrap_or(i64::MAX).saturating_mul(1_000);
        self.spec.blueprint.drained_us(written_us).unwrap_or(written_us)
    }
}

/// Stages are counted from 1, as `EXPLAIN STREAMING TABLE` does.
fn thread_name(stage: usize, task: usize) -> String {
    format!("stage{}-{task}", stage + 1)
}

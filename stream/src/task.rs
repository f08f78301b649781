//! The threads of a shard and how they pass rows, watermarks and barriers on.
//!
//! ```text
//! local task ──rows, watermark, barrier──► keyed task ──rows, barrier──► writer
//!      └──────────────late, quarantined, barrier─────────────────────────▲
//! ```
//!
//! A barrier cuts the stream: a task that has it on one input reads the others first, until it has it on all. Then its state is that
//! of exactly the rows before the cut. All channels are bounded; a full one slows the sender, up to the fetch.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;
use crossbeam_channel::{Receiver, Select, Sender};
use tokio::sync::mpsc;
use watershed_dialect::{OnError, SourceDefinition};
use watershed_ingest::source::FetchLimits;
use watershed_ingest::{SourceBatch, SourceRead};

use crate::StreamError;
use crate::control::{BarrierRequest, Control, PartitionState, StageName};
use crate::epoch::Counters;
use crate::exchange::Exchange;
use crate::fault::{self, RowFault, panic_text};
use crate::hidden;
use crate::idle::AtEnd;
use crate::limits::{TURN_BYTES_MAX, TURN_ROWS_MAX, TURN_WAIT};
use crate::operator::{Chain, Output, Tally, add_tallies};
use crate::state::{Stage, TaskDelta};
use crate::watermark::{PartitionWatermark, Watermark};
use crate::writer::{Staged, Target, WriterMessage};

/// How long a task waits for a message before it looks whether it should stop.
const STOP_CHECK: Duration = Duration::from_millis(100);
/// Below this many rows a turn was too short to be worth its cost, and the next one waits for more to arrive.
const TURN_ROWS_MIN: usize = 1_000;
/// How long it then waits.
const TURN_PAUSE: Duration = Duration::from_millis(5);

/// What flows from a local to a keyed task.
pub enum Message {
    /// Rows.
    Rows(RecordBatch),
    /// The sender has no older rows than this any more.
    Watermark(i64),
    /// The cut of an epoch.
    Barrier {
        /// The epoch it ends.
        epoch: u64,
        /// Whether the sender ends after it.
        last: bool,
    },
}

/// What tasks tell the coordinator.
pub enum Report {
    /// A task has passed a barrier.
    Passed(Box<Passed>),
    /// The writer has staged the files of an epoch.
    Staged(Box<Staged>),
    /// A task cannot go on.
    Failed(StreamError),
    /// A task cannot go on, but all it has read is good: it waits for a last barrier.
    Halted(StreamError),
}

/// A task that has passed a barrier.
pub struct Passed {
    /// The epoch that ended.
    pub epoch: u64,
    /// What of its state changed.
    pub delta: TaskDelta,
    /// Rows it counted since the barrier before.
    pub counters: Counters,
    /// Rows that met and violated each expectation since then.
    pub tallies: Vec<Tally>,
    /// Local tasks: the next offset of each of its partitions.
    pub offsets: BTreeMap<i32, i64>,
    /// Local tasks: the watermark of each of its partitions.
    pub watermarks_us: BTreeMap<i32, i64>,
    /// Local tasks: the greatest event time of each of its partitions.
    pub newest_us: BTreeMap<i32, i64>,
    /// Local tasks: the idle partitions it raised.
    pub idle_us: BTreeMap<i32, i64>,
    /// Local tasks: since when those of its partitions that it has read to their end are so, in milliseconds since 1970.
    pub caught_up_ms: BTreeMap<i32, u64>,
    /// Local tasks: the latest timestamp of a record that was read in this run, in milliseconds since 1970.
    pub read_ms: Option<i64>,
}

/// Runs `body` on a thread of its own; an error or a panic becomes a report.
pub fn spawn(
    name: String,
    reports: mpsc::Sender<Report>,
    body: impl FnOnce(&mpsc::Sender<Report>) -> Result<(), StreamError> + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, StreamError> {
    let thread_name = name.clone();
    std::thread::Builder::new()
        .name(name.clone())
        .spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| body(&reports)))
                .unwrap_or_else(|panic| Err(StreamError::TaskDied { pipeline: name.clone(), what: panic_text(panic.as_ref()) }));
            if let Err(error) = result {
                // The coordinator may already be gone, with an error of its own.
                let _ = reports.blocking_send(Report::Failed(error));
            }
        })
        .map_err(|e| StreamError::TaskDied { pipeline: thread_name, what: format!("no thread could be started: {e}") })
}

/// Sends, unless the receiver has gone: then somebody has failed and said so, and this task ends quietly.
fn send<T>(sender: &Sender<T>, message: T) -> bool {
    sender.send(message).is_ok()
}

/// Where the rows of a local task go.
pub enum Downstream {
    /// Straight to the writer.
    Writer,
    /// To keyed tasks, by key.
    Keyed(Exchange, Vec<Sender<Message>>),
}

/// The partition-local stage over one group of partitions.
pub struct LocalTask {
    /// Its number.
    pub index: usize,
    /// What it reads.
    pub reader: Box<dyn SourceRead>,
    /// Its operators.
    pub chain: Chain,
    /// Where the event time is among the decoded columns.
    pub time_column: Option<usize>,
    /// Whether rows carry hidden columns.
    pub carries_hidden: bool,
    /// Rows that met and violated each expectation since the last barrier.
    pub tallies: Vec<Tally>,
    /// The watermark of each of its partitions.
    pub watermarks: BTreeMap<i32, PartitionWatermark>,
    /// How long a partition must have been read to its end to be idle.
    pub idle_timeout: Duration,
    /// How far they are; when the run begins, which of them are at their end.
    pub at_end: AtEnd,
    /// The next offset of each of its partitions.
    pub offsets: BTreeMap<i32, i64>,
    /// Where rows go.
    pub downstream: Downstream,
    /// Where late and quarantined rows go.
    pub writer: Sender<WriterMessage>,
    /// Shared with the coordinator.
    pub control: Arc<Control>,
    /// The pipeline, for errors.
    pub pipeline: String,
    /// What becomes of rows that the query fails on.
    pub on_error: OnError,
    /// Set once a record was met that must not be passed.
    pub halted: Option<StreamError>,
}

impl LocalTask {
    /// Runs until told to stop, or up to the last barrier.
    pub fn run(mut self, reports: &mpsc::Sender<Report>) -> Result<(), StreamError> {
        let limits = FetchLimits { rows: TURN_ROWS_MAX, bytes: TURN_BYTES_MAX };
        let mut passed_epoch = 0;
        let mut counters = Counters::default();
        let mut forwarded_us = i64::MIN;
        let mut decided_offsets = self.offsets.clone();
        let mut halted = false;
        loop {
            if self.control.stopped() {
                return Ok(());
            }
            if let Some(request) = self.control.pending(passed_epoch) {
                let Some(passed) = self.pass_barrier(&request, &mut counters, &mut forwarded_us)? else { return Ok(()) };
                // A barrier is asked for only once the epoch before it is decided: now lag tools may know of that one.
                self.reader.commit_offsets(&decided_offsets);
                decided_offsets.clone_from(&self.offsets);
                passed_epoch = request.epoch;
                if reports.blocking_send(Report::Passed(Box::new(passed))).is_err() || request.last {
                    return Ok(());
                }
            }
            if halted {
                std::thread::sleep(TURN_PAUSE);
                continue;
            }
            let batches = match self.reader.poll(limits, TURN_WAIT) {
                // What was read before it is good, and would be read again and again.
                Err(error) if !error.may_pass() => {
                    self.halted = Some(error.into());
                    Vec::new()
                }
                polled => polled?,
            };
            let rows: usize = batches.iter().map(|b| b.records).sum();
            for batch in batches {
                self.at_end.rows(batch.partition, batch.append_time_ms_max);
                let mut counted = Counters::default();
                let alive = self.take(batch, &mut counted, &mut forwarded_us)?;
                counters.add(counted);
                self.control.count(counted);
                if !alive {
                    return Ok(());
                }
                if self.halted.is_some() {
                    break;
                }
            }
            if let Some(error) = self.halted.take() {
                halted = true;
                if reports.blocking_send(Report::Halted(error)).is_err() {
                    return Ok(());
                }
                continue;
            }
            self.report_progress();
            if (1..TURN_ROWS_MIN).contains(&rows) {
                std::thread::sleep(TURN_PAUSE);
            }
        }
    }

    /// One batch of one partition through the chain. False if nobody listens any more.
    fn take(&mut self, batch: SourceBatch, counters: &mut Counters, forwarded_us: &mut i64) -> Result<bool, StreamError> {
        let SourceBatch { partition, mut next_offset, decoded, mut records, mut tombstones, origin, .. } = batch;
        if let Some(quarantined) = decoded.quarantined
            && !self.quarantine(quarantined, counters)
        {
            return Ok(false);
        }
        let (mut rows, offsets) = (decoded.rows, decoded.offsets);
        let mut moved = None;
        if rows.num_rows() > 0 {
            let times = self.time_column.map(|column| rows.column(column).clone());
            let started = self.watermarks.get(&partition).copied();
            let before = times.as_ref().and_then(|times| self.fold(partition, times));
            if self.carries_hidden {
                let schema = hidden::with_hidden(&rows.schema());
                let before = before.unwrap_or_else(|| Int64Array::from_value(i64::MIN, rows.num_rows()));
                rows = hidden::attach(rows, schema, partition, Arc::new(offsets.clone()), before)?;
            }
            let mut refused = Vec::new();
            if !self.process(rows, 0, &mut refused, counters)? {
                return Ok(false);
            }
            match refused.first() {
                None => {}
                Some((row, fault)) if self.on_error == OnError::Fail => {
                    // The partition ends before this record, as if no later one had come.
                    next_offset = offsets.value(*row);
                    (records, tombstones) = (origin.records_before(next_offset), tombstones.min(origin.tombstones_before(next_offset)));
                    if let (Some(times), Some(started)) = (&times, started) {
                        self.watermarks.insert(partition, started);
                        self.fold(partition, &times.slice(0, *row));
                    }
                    self.halted = Some(StreamError::RowRefused {
                        pipeline: self.pipeline.clone(),
                        place: format!("the record at {}", origin.place(next_offset)),
                        reason: fault.to_string(),
                    });
                }
                Some(_) => {
                    let refused: Vec<_> = refused.iter().map(|(row, fault)| (offsets.value(*row), fault.to_string())).collect();
                    if let Some(rows) = origin.set_aside(&refused)?
                        && !self.quarantine(rows, counters)
                    {
                        return Ok(false);
                    }
                }
            }
            let (was, is) = (started.map(|w| w.watermark_us), self.watermarks.get(&partition).map(|w| w.watermark_us));
            moved = is.filter(|_| is > was);
        }
        self.offsets.insert(partition, next_offset);
        counters.rows_in += records as u64;
        counters.tombstones += tombstones as u64;
        self.control.passed(StageName::Local, records, 0);
        match moved {
            Some(input_us) => self.advance(partition, input_us, counters, forwarded_us),
            None => Ok(true),
        }
    }

    /// Folds the event times of a partition's next rows into its watermark. Gives it as it was before each.
    fn fold(&mut self, partition: i32, times: &ArrayRef) -> Option<Int64Array> {
        let watermark = self.watermarks.get_mut(&partition)?;
        Some(watermark.fold(times.as_primitive::<TimestampMicrosecondType>()))
    }

    /// Sends rows that were not taken to their table. False if nobody listens any more.
    fn quarantine(&self, rows: RecordBatch, counters: &mut Counters) -> bool {
        counters.rows_quarantined += rows.num_rows() as u64;
        send(&self.writer, WriterMessage::Rows(Target::Quarantine, rows))
    }

    /// Pushes rows through the chain. Where it cannot take one, their halves, until those to blame are alone: `refused` gets their places,
    /// counted from `first` for the first row. If the source says so, the first of them ends it. False if nobody listens any more.
    fn process(
        &mut self,
        rows: RecordBatch,
        first: usize,
        refused: &mut Vec<(usize, RowFault)>,
        counters: &mut Counters,
    ) -> Result<bool, StreamError> {
        let mut out = Output::default();
        match self.chain.process(rows.clone(), &mut out) {
            Ok(()) => self.emit(out, counters),
            Err(StreamError::Row(fault)) if rows.num_rows() <= 1 => {
                refused.push((first, *fault));
                Ok(true)
            }
            Err(StreamError::Row(_)) => {
                let half = rows.num_rows() / 2;
                for (from, to) in [(0, half), (half, rows.num_rows())] {
                    if self.on_error == OnError::Fail && !refused.is_empty() {
                        break;
                    }
                    if !self.process(rows.slice(from, to - from), first + from, refused, counters)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Tells the chain, and the tasks after it, that a partition's watermark has moved.
    fn advance(&mut self, partition: i32, input_us: i64, counters: &mut Counters, forwarded_us: &mut i64) -> Result<bool, StreamError> {
        let merged_us = self.watermarks.values().map(|w| w.watermark_us).min().unwrap_or(i64::MIN);
        let mut out = Output::default();
        let after = self.chain.on_watermark(Watermark { input: partition, input_us, merged_us }, &mut out)?;
        if !self.emit(out, counters)? {
            return Ok(false);
        }
        if after.merged_us > *forwarded_us
            && let Downstream::Keyed(_, senders) = &self.downstream
        {
            *forwarded_us = after.merged_us;
            return Ok(senders.iter().all(|sender| send(sender, Message::Watermark(after.merged_us))));
        }
        Ok(true)
    }

    fn emit(&mut self, mut out: Output, counters: &mut Counters) -> Result<bool, StreamError> {
        if !set_aside(&mut out, &self.writer, counters, &mut self.tallies) {
            return Ok(false);
        }
        for rows in out.rows {
            self.control.passed(StageName::Local, 0, rows.num_rows());
            let alive = match &self.downstream {
                Downstream::Writer => send(&self.writer, WriterMessage::Rows(Target::Main, rows)),
                Downstream::Keyed(exchange, senders) => {
                    exchange.split(rows)?.into_iter().all(|(task, part)| send(&senders[task], Message::Rows(part)))
                }
            };
            if !alive {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn pass_barrier(
        &mut self,
        request: &BarrierRequest,
        counters: &mut Counters,
        forwarded_us: &mut i64,
    ) -> Result<Option<Passed>, StreamError> {
        let mut idle_us = BTreeMap::new();
        for (&partition, &floor_us) in &request.idle_us {
            // Rows may have come since the coordinator looked: then the partition is not idle after all.
            let still = request.drains || self.at_end.still_idle(partition, self.idle_timeout);
            let Some(watermark) = self.watermarks.get_mut(&partition).filter(|w| still && w.watermark_us < floor_us) else { continue };
            watermark.raise(floor_us);
            idle_us.insert(partition, floor_us);
            if !self.advance(partition, floor_us, counters, forwarded_us)? {
                return Ok(None);
            }
        }
        let delta = snapshot(Stage::Local, self.index, &mut self.chain)?;
        let (epoch, last) = (request.epoch, request.last);
        let mut alive = send(&self.writer, WriterMessage::Barrier { epoch, last });
        if let Downstream::Keyed(_, senders) = &self.downstream {
            alive &= senders.iter().all(|sender| send(sender, Message::Barrier { epoch, last }));
        }
        Ok(alive.then(|| Passed {
            epoch,
            delta,
            counters: std::mem::take(counters),
            tallies: std::mem::take(&mut self.tallies),
            offsets: self.offsets.clone(),
            watermarks_us: self.watermarks.iter().map(|(&p, w)| (p, w.watermark_us)).filter(|(_, w)| *w > i64::MIN).collect(),
            newest_us: self.watermarks.iter().map(|(&p, w)| (p, w.newest_us)).filter(|(_, newest)| *newest > i64::MIN).collect(),
            idle_us,
            caught_up_ms: self.at_end.caught_up_ms(),
            read_ms: self.at_end.read_ms_max,
        }))
    }

    fn report_progress(&mut self) {
        for progress in self.reader.progress() {
            let partition = progress.partition;
            let caught_up_since = self.at_end.progress(&progress);
            let (watermark_us, newest_us) = self.watermarks.get(&partition).map_or((i64::MIN, i64::MIN), |w| (w.watermark_us, w.newest_us));
            let next_offset = self.offsets.entry(partition).or_insert(progress.next_offset);
            // All records that were handed out are through. What a transport keeps to itself, such as the marker at the end of a transaction,
            // counts as read: else a topic that ends in one would never be read to its end.
            *next_offset = progress.next_offset.max(*next_offset);
            let next_offset = *next_offset;
            let high_watermark = progress.high_watermark;
            let (quiet, read_ms) = (self.at_end.quiet.get(&partition).copied(), self.at_end.read_ms.get(&partition).copied());
            let state = PartitionState { next_offset, high_watermark, watermark_us, newest_us, caught_up_since, quiet, read_ms };
            self.control.report(partition, state);
        }
    }
}

/// Counts the rows that do not go on and sends them to their side tables. False if nobody listens any more.
fn set_aside(out: &mut Output, writer: &Sender<WriterMessage>, counters: &mut Counters, tallies: &mut Vec<Tally>) -> bool {
    counters.rows_deduplicated += out.deduplicated;
    counters.rows_dropped += out.dropped;
    counters.rows_late += out.late.iter().map(|rows| rows.num_rows() as u64).sum::<u64>();
    counters.rows_violating += out.violating.iter().map(|rows| rows.num_rows() as u64).sum::<u64>();
    add_tallies(tallies, &out.tallies);
    let late = out.late.drain(..).map(|rows| (Target::Late, rows));
    let violating = out.violating.drain(..).map(|rows| (Target::Violations, rows));
    late.chain(violating).all(|(target, rows)| send(writer, WriterMessage::Rows(target, rows)))
}

/// The keyed stage over one range of keys.
pub struct KeyedTask {
    /// Its number.
    pub index: usize,
    /// Its operators.
    pub chain: Chain,
    /// Rows that met and violated each expectation since the last barrier.
    pub tallies: Vec<Tally>,
    /// One input for each local task.
    pub inputs: Vec<Receiver<Message>>,
    /// Where results go.
    pub writer: Sender<WriterMessage>,
    /// Shared with the coordinator.
    pub control: Arc<Control>,
    /// The pipeline, for errors.
    pub pipeline: String,
    /// What it reads.
    pub source: SourceDefinition,
}

impl KeyedTask {
    /// Runs until told to stop, or up to the last barrier.
    pub fn run(mut self, reports: &mpsc::Sender<Report>) -> Result<(), StreamError> {
        let mut aligner = Aligner::new(std::mem::take(&mut self.inputs));
        let mut watermarks = vec![i64::MIN; aligner.input_count()];
        let mut merged_us = i64::MIN;
        let mut counters = Counters::default();
        loop {
            if self.control.stopped() {
                return Ok(());
            }
            let Some((input, message)) = aligner.receive()? else { continue };
            let mut out = Output::default();
            match message {
                Message::Rows(batch) => {
                    self.control.passed(StageName::Keyed, batch.num_rows(), 0);
                    self.chain.process(batch, &mut out)?;
                }
                Message::Watermark(watermark_us) => {
                    watermarks[input] = watermark_us;
                    let least_us = watermarks.iter().copied().min().unwrap_or(i64::MIN);
                    if least_us > merged_us {
                        merged_us = least_us;
                        let watermark = Watermark { input: input as i32, input_us: watermark_us, merged_us };
                        self.chain.on_watermark(watermark, &mut out)?;
                    }
                }
                Message::Barrier { epoch, last } => {
                    if !aligner.block(input) {
                        continue;
                    }
                    let delta = snapshot(Stage::Keyed, self.index, &mut self.chain)?;
                    if !send(&self.writer, WriterMessage::Barrier { epoch, last }) {
                        return Ok(());
                    }
                    let passed = Passed {
                        epoch,
                        delta,
                        counters: std::mem::take(&mut counters),
                        tallies: std::mem::take(&mut self.tallies),
                        offsets: BTreeMap::new(),
                        watermarks_us: BTreeMap::new(),
                        newest_us: BTreeMap::new(),
                        idle_us: BTreeMap::new(),
                        caught_up_ms: BTreeMap::new(),
                        read_ms: None,
                    };
                    if reports.blocking_send(Report::Passed(Box::new(passed))).is_err() || last {
                        return Ok(());
                    }
                    aligner.unblock();
                }
            }
            let mut counted = Counters::default();
            let refused = fault::set_aside(&self.pipeline, &self.source, std::mem::take(&mut out.refused))?;
            counted.rows_quarantined += refused.as_ref().map_or(0, |rows| rows.num_rows() as u64);
            let aside = refused.is_none_or(|rows| send(&self.writer, WriterMessage::Rows(Target::Quarantine, rows)));
            if !aside || !set_aside(&mut out, &self.writer, &mut counted, &mut self.tallies) {
                return Ok(());
            }
            counters.add(counted);
            self.control.count(counted);
            for rows in out.rows {
                self.control.passed(StageName::Keyed, 0, rows.num_rows());
                if !send(&self.writer, WriterMessage::Rows(Target::Main, rows)) {
                    return Ok(());
                }
            }
        }
    }
}

/// Reads from several inputs, leaving out those that have met the barrier until all have.
pub struct Aligner<T> {
    inputs: Vec<Receiver<T>>,
    blocked: Vec<bool>,
}

impl<T> Aligner<T> {
    /// No input is blocked at first.
    pub fn new(inputs: Vec<Receiver<T>>) -> Self {
        let blocked = vec![false; inputs.len()];
        Self { inputs, blocked }
    }

    /// How many inputs there are.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// The next message of any input that is not blocked; `None` if none came within a short while.
    pub fn receive(&self) -> Result<Option<(usize, T)>, StreamError> {
        let mut select = Select::new();
        let mut open = Vec::with_capacity(self.inputs.len());
        for (i, input) in self.inputs.iter().enumerate() {
            if !self.blocked[i] {
                select.recv(input);
                open.push(i);
            }
        }
        let Ok(operation) = select.select_timeout(STOP_CHECK) else { return Ok(None) };
        let input = open[operation.index()];
        match operation.recv(&self.inputs[input]) {
            Ok(message) => Ok(Some((input, message))),
            Err(_) => {
                // The sender has gone before its last barrier: it has failed and says so itself, or everything is being stopped.
                std::thread::sleep(STOP_CHECK);
                Ok(None)
            }
        }
    }

    /// Leaves `input` out until the barrier is complete; true if it now is.
    pub fn block(&mut self, input: usize) -> bool {
        self.blocked[input] = true;
        self.blocked.iter().all(|&blocked| blocked)
    }

    /// Reads from all inputs again.
    pub fn unblock(&mut self) {
        self.blocked.fill(false);
    }
}

fn snapshot(stage: Stage, task: usize, chain: &mut Chain) -> Result<TaskDelta, StreamError> {
    let started = Instant::now();
    let mut all = TaskDelta::default();
    for (index, delta) in chain.snapshot()?.into_iter().enumerate() {
        all.add(stage, task, index, delta)?;
    }
    all.took = started.elapsed();
    Ok(all)
}

//! The threads of a shard and how they pass rows, watermarks and barriers on.
//!
//! ```text
//! local task ──rows, watermark, barrier──► keyed task ──► further keyed tasks ──rows, barrier──► writer
//!      └──────────────late, quarantined, barrier─────────────────────────────────────────────────▲
//! ```
//!
//! What a task does with a message says `stage.rs`; here it is received, and what came of it is sent on. All channels are bounded; a full one
//! slows the sender, up to the fetch.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use crossbeam_channel::{Receiver, Select, Sender};
use tokio::sync::mpsc;
use watershed_dialect::{OnError, SourceDefinition};
use watershed_ingest::source::FetchLimits;
use watershed_ingest::{SourceBatch, SourceRead};

use crate::StreamError;
use crate::control::{BarrierRequest, Control, PartitionState, StageName};
use crate::epoch::{Counters, SourceEpoch};
use crate::fault::{self, panic_text};
use crate::hidden::Lane;
use crate::idle::AtEnd;
use crate::limits::{TURN_BYTES_MAX, TURN_ROWS_MAX, TURN_WAIT};
use crate::operator::{Output, Tally, add_tallies};
use crate::stage::source::SourceStage;
use crate::stage::{Cut, Message, Stage, Took};
use crate::state::TaskDelta;
use crate::writer::{Staged, Target, WriterMessage};

/// How long a task waits for a message before it looks whether it should stop.
const STOP_CHECK: Duration = Duration::from_millis(100);
/// Below this many rows a turn was too short to be worth its cost, and the next one waits for more to arrive.
const TURN_ROWS_MIN: usize = 1_000;
/// How long it then waits.
const TURN_PAUSE: Duration = Duration::from_millis(5);

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
    /// Tasks beside a source: which, and how far they have read their partitions of it.
    pub read: Option<(usize, SourceEpoch)>,
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

/// Where the rows of a task go.
pub enum Downstream {
    /// Straight to the writer.
    Writer,
    /// To the tasks of the next stage.
    Tasks(Vec<Sender<Message>>),
}

/// The ends of channels that a task sends to.
pub struct Outputs {
    /// Where rows go.
    pub downstream: Downstream,
    /// Where rows for side tables go.
    pub writer: Sender<WriterMessage>,
    /// Shared with the coordinator.
    pub control: Arc<Control>,
    /// As which stage rows are counted.
    pub name: StageName,
}

impl Outputs {
    /// Counts the rows that do not go on and sends them to their side tables. False if nobody listens any more.
    fn set_aside(&self, aside: Output, counters: &mut Counters, tallies: &mut Vec<Tally>) -> bool {
        counters.rows_deduplicated += aside.deduplicated;
        counters.rows_dropped += aside.dropped;
        counters.rows_late += aside.late.iter().map(|rows| rows.num_rows() as u64).sum::<u64>();
        counters.rows_violating += aside.violating.iter().map(|rows| rows.num_rows() as u64).sum::<u64>();
        add_tallies(tallies, &aside.tallies);
        let late = aside.late.into_iter().map(|rows| (Target::Late, rows));
        let violating = aside.violating.into_iter().map(|rows| (Target::Violations, rows));
        late.chain(violating).all(|(target, rows)| send(&self.writer, WriterMessage::Rows(target, rows)))
    }

    /// Sends what goes on; `shared_out` says to which tasks. False if nobody listens any more.
    fn send_on(
        &self,
        messages: Vec<Message>,
        shared_out: impl Fn(Message) -> Result<Vec<(usize, Message)>, StreamError>,
    ) -> Result<bool, StreamError> {
        for message in messages {
            if let Message::Rows(rows) = &message {
                self.control.passed(self.name, 0, rows.num_rows());
            }
            let alive = match (&self.downstream, message) {
                (Downstream::Writer, Message::Rows(rows)) => send(&self.writer, WriterMessage::Rows(Target::Main, rows)),
                (Downstream::Writer, _) => true,
                (Downstream::Tasks(senders), message) => shared_out(message)?.into_iter().all(|(task, part)| send(&senders[task], part)),
            };
            if !alive {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends rows of a source that were not taken to their table. False if nobody listens any more.
    fn quarantine(&self, source: usize, rows: RecordBatch, counters: &mut Counters) -> bool {
        counters.rows_quarantined += rows.num_rows() as u64;
        send(&self.writer, WriterMessage::Rows(Target::Quarantine(source), rows))
    }
}

/// The stage beside a source, over one group of its partitions.
pub struct LocalTask {
    /// Which source, by its place in the plan.
    pub source: usize,
    /// Whether it meets another one, for which it may have to wait.
    pub meets: bool,
    /// What it does.
    pub stage: SourceStage,
    /// What it reads.
    pub reader: Box<dyn SourceRead>,
    /// Rows that met and violated each expectation since the last barrier.
    pub tallies: Vec<Tally>,
    /// How long a partition must have been read to its end to be idle.
    pub idle_timeout: Duration,
    /// How far they are; when the run begins, which of them are at their end.
    pub at_end: AtEnd,
    /// The next offset of each of its partitions.
    pub offsets: BTreeMap<i32, i64>,
    /// Where rows go.
    pub outputs: Outputs,
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
        let control = self.outputs.control.clone();
        let mut passed_epoch = 0;
        let mut counters = Counters::default();
        let mut decided_offsets = self.offsets.clone();
        let mut halted = false;
        loop {
            if control.stopped() {
                return Ok(());
            }
            if let Some(request) = control.pending(passed_epoch) {
                let Some(passed) = self.pass_barrier(&request, &mut counters)? else { return Ok(()) };
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
            if self.meets && self.is_ahead() {
                self.report_progress();
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
                let alive = self.take(batch, &mut counted)?;
                counters.add(counted);
                control.count(counted);
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

    /// Whether it has come so far that another source is waited for ([`crate::align`]).
    fn is_ahead(&self) -> bool {
        let watermarks = self.stage.watermarks().iter().map(|(&partition, watermark)| (partition, watermark.watermark_us));
        self.outputs.control.ceilings().holds(self.source, watermarks)
    }

    /// One batch of one partition through the stage. False if nobody listens any more.
    fn take(&mut self, batch: SourceBatch, counters: &mut Counters) -> Result<bool, StreamError> {
        let SourceBatch { partition, mut next_offset, decoded, mut records, mut tombstones, origin, .. } = batch;
        if let Some(quarantined) = decoded.quarantined
            && !self.outputs.quarantine(self.source, quarantined, counters)
        {
            return Ok(false);
        }
        let offsets = decoded.offsets;
        watershed_lake::step("rows_read");
        let (took, refused) = self.stage.take(partition, decoded.rows, &offsets, self.on_error == OnError::Fail)?;
        match refused.first() {
            None => {}
            Some((row, fault)) if self.on_error == OnError::Fail => {
                // The partition ends before this record, as if no later one had come.
                next_offset = offsets.value(*row);
                (records, tombstones) = (origin.records_before(next_offset), tombstones.min(origin.tombstones_before(next_offset)));
                self.halted = Some(StreamError::RowRefused {
                    pipeline: self.pipeline.clone(),
                    place: format!("the record at {}", origin.place(next_offset)),
                    reason: fault.to_string(),
                });
            }
            Some(_) => {
                let refused: Vec<_> = refused.iter().map(|(row, fault)| (offsets.value(*row), fault.to_string())).collect();
                if let Some(rows) = origin.set_aside(&refused)?
                    && !self.outputs.quarantine(self.source, rows, counters)
                {
                    return Ok(false);
                }
            }
        }
        self.offsets.insert(partition, next_offset);
        counters.rows_in += records as u64;
        counters.tombstones += tombstones as u64;
        self.outputs.control.passed(self.outputs.name, records, 0);
        self.hand_on(took, counters)
    }

    fn hand_on(&mut self, took: Took, counters: &mut Counters) -> Result<bool, StreamError> {
        let aside = self.outputs.set_aside(took.aside, counters, &mut self.tallies);
        Ok(aside && self.outputs.send_on(took.messages, |message| self.stage.shared_out(message))?)
    }

    fn pass_barrier(&mut self, request: &BarrierRequest, counters: &mut Counters) -> Result<Option<Passed>, StreamError> {
        let mut idle_us = BTreeMap::new();
        for (&Lane { source, partition }, &floor_us) in &request.idle_us {
            if source != self.source {
                continue;
            }
            // Rows may have come since the coordinator looked: then the partition is not idle after all.
            let still = request.drains || self.at_end.still_idle(partition, self.idle_timeout);
            if !still {
                continue;
            }
            if let Some(took) = self.stage.raise(partition, floor_us)? {
                idle_us.insert(partition, floor_us);
                if !self.hand_on(took, counters)? {
                    return Ok(None);
                }
            }
        }
        let cut = Cut { epoch: request.epoch, last: request.last };
        let started = Instant::now();
        let mut took = self.stage.cut(cut)?;
        let Some((_, mut delta)) = took.passed.take() else { return Ok(None) };
        delta.took = started.elapsed();
        if !send(&self.outputs.writer, WriterMessage::Barrier(cut)) || !self.hand_on(took, counters)? {
            return Ok(None);
        }
        let watermarks = self.stage.watermarks();
        Ok(Some(Passed {
            epoch: cut.epoch,
            delta,
            counters: std::mem::take(counters),
            tallies: std::mem::take(&mut self.tallies),
            read: Some((
                self.source,
                SourceEpoch {
                    source_id: None,
                    offsets: self.offsets.clone(),
                    watermarks_us: watermarks.iter().map(|(&p, w)| (p, w.watermark_us)).filter(|(_, w)| *w > i64::MIN).collect(),
                    newest_us: watermarks.iter().map(|(&p, w)| (p, w.newest_us)).filter(|(_, newest)| *newest > i64::MIN).collect(),
                    idle_us,
                    caught_up_ms: self.at_end.caught_up_ms(),
                    quiet: BTreeMap::new(),
                    read_ms: self.at_end.read_ms_max,
                },
            )),
        }))
    }

    fn report_progress(&mut self) {
        for progress in self.reader.progress() {
            let partition = progress.partition;
            let caught_up_since = self.at_end.progress(&progress);
            let watermark = self.stage.watermarks().get(&partition);
            let (watermark_us, newest_us) = watermark.map_or((i64::MIN, i64::MIN), |w| (w.watermark_us, w.newest_us));
            let next_offset = self.offsets.entry(partition).or_insert(progress.next_offset);
            // All records that were handed out are through. What a transport keeps to itself, such as the marker at the end of a transaction,
            // counts as read: else a topic that ends in one would never be read to its end.
            *next_offset = progress.next_offset.max(*next_offset);
            let next_offset = *next_offset;
            let high_watermark = progress.high_watermark;
            let (quiet, read_ms) = (self.at_end.quiet.get(&partition).copied(), self.at_end.read_ms.get(&partition).copied());
            let state = PartitionState { next_offset, high_watermark, watermark_us, newest_us, caught_up_since, quiet, read_ms };
            self.outputs.control.report(Lane { source: self.source, partition }, state);
        }
    }
}

/// A stage after an exchange, over one range of keys.
pub struct KeyedTask {
    /// What it does.
    pub stage: Stage,
    /// Rows that met and violated each expectation since the last barrier.
    pub tallies: Vec<Tally>,
    /// One input for each task of the stages before.
    pub inputs: Vec<Receiver<Message>>,
    /// Where results go.
    pub outputs: Outputs,
    /// The pipeline, for errors.
    pub pipeline: String,
    /// What the pipeline reads.
    pub sources: Arc<[SourceDefinition]>,
}

impl KeyedTask {
    /// Runs until told to stop, or up to the last barrier.
    pub fn run(mut self, reports: &mpsc::Sender<Report>) -> Result<(), StreamError> {
        let inputs = Inputs(std::mem::take(&mut self.inputs));
        let mut counters = Counters::default();
        loop {
            if self.outputs.control.stopped() {
                return Ok(());
            }
            let Some((input, message)) = inputs.receive(|input| self.stage.is_open(input)) else { continue };
            if let Message::Rows(rows) = &message {
                self.outputs.control.passed(self.outputs.name, rows.num_rows(), 0);
                watershed_lake::step("rows_shared_out");
            }
            let started = Instant::now();
            let mut took = self.stage.take(input, message)?;
            let passed = took.passed.take();
            let writing = started.elapsed();
            if !self.hand_on(took, &mut counters)? {
                return Ok(());
            }
            let Some((cut, mut delta)) = passed else { continue };
            delta.took = writing;
            if !send(&self.outputs.writer, WriterMessage::Barrier(cut)) {
                return Ok(());
            }
            let passed = Passed {
                epoch: cut.epoch,
                delta,
                counters: std::mem::take(&mut counters),
                tallies: std::mem::take(&mut self.tallies),
                read: None,
            };
            if reports.blocking_send(Report::Passed(Box::new(passed))).is_err() || cut.last {
                return Ok(());
            }
        }
    }

    /// Sends what came of a message. False if nobody listens any more.
    fn hand_on(&mut self, mut took: Took, counters: &mut Counters) -> Result<bool, StreamError> {
        let mut counted = Counters::default();
        let refused = fault::set_aside(&self.pipeline, &self.sources, std::mem::take(&mut took.aside.refused))?;
        let aside = refused.into_iter().all(|(source, rows)| self.outputs.quarantine(source, rows, &mut counted))
            && self.outputs.set_aside(took.aside, &mut counted, &mut self.tallies);
        counters.add(counted);
        self.outputs.control.count(counted);
        Ok(aside && self.outputs.send_on(took.messages, |message| self.stage.shared_out(message))?)
    }
}

/// The channels that a task reads from.
pub struct Inputs<T>(pub Vec<Receiver<T>>);

impl<T> Inputs<T> {
    /// The next message of any input that is open; `None` if none came within a short while.
    pub fn receive(&self, is_open: impl Fn(usize) -> bool) -> Option<(usize, T)> {
        let mut select = Select::new();
        let mut open = Vec::with_capacity(self.0.len());
        for (i, input) in self.0.iter().enumerate() {
            if is_open(i) {
                select.recv(input);
                open.push(i);
            }
        }
        let operation = select.select_timeout(STOP_CHECK).ok()?;
        let input = open[operation.index()];
        match operation.recv(&self.0[input]) {
            Ok(message) => Some((input, message)),
            Err(_) => {
                // The sender has gone before its last barrier: it has failed and says so itself, or everything is being stopped.
                std::thread::sleep(STOP_CHECK);
                None
            }
        }
    }
}

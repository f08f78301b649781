//! One shard of a pipeline: starts its tasks from the newest epoch record, ends an epoch each commit interval, and decides it.
//!
//! 1. A barrier passes all tasks; each says what of its state changed, the writer stages its files.
//! 2. State files are written; the source says that it is still the one that was read (same_source.rs).
//! 3. The epoch record is written with create-if-absent: the moment the epoch happens.
//! 4. All tables commit their files with the epoch as Delta transaction. Rows that had to wait for this leave for sinks (delivery.rs).
//! 5. With the next barrier the tasks commit these offsets to Kafka's consumer group, for lag tools only.
//!
//! The next record is written only once the tables hold this one and the sinks have its rows. Rows of the next epoch flow all the while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use tokio::sync::watch;
use watershed_ingest::{IngestError, OpenSink, OpenSource};
use watershed_lake::clock::now_ms;
use watershed_lake::{PutOutcome, Table, Warehouse};

use crate::StreamError;
use crate::align::Ceilings;
use crate::budget::Budget;
use crate::control::{BarrierRequest, Control};
use crate::delivery::{self, Delivered};
use crate::epoch::{self, ConstraintEpoch, Counters, EpochRecord, ShardId, SinkEpoch, SourceEpoch, TableEpoch};
use crate::hidden::Lane;
use crate::holder::{self, Identity, Vitals};
use crate::idle::{self, QuietSince};
use crate::limits::{EPOCH_RECORDS_KEPT, EPOCH_TIMEOUT, SOURCE_REFRESH};
use crate::metrics::{Metrics, Phase, Snapshot};
use crate::operator::{Tally, add_tallies};
use crate::outlet::Outlet;
use crate::plan::Blueprint;
use crate::resume::{Positions, resume};
use crate::same_source::{self, Guard};
use crate::start::{self, Running};
use crate::state::{self, TaskDelta};
use crate::tables;
use crate::task::{Passed, Report};
use crate::writer::{Staged, Target};

/// When a pipeline ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// When it is told to.
    Stopped,
    /// Once it has read what was in the topic when it started.
    CaughtUp {
        /// Whether all windows then close, as if time had gone on to the end of the last one. Rows that come later are late for these
        /// windows, and in time for later ones.
        drain: bool,
    },
}

/// What a shard is to run.
#[derive(Clone)]
pub struct ShardSpec {
    /// Its name.
    pub id: ShardId,
    /// Its steps.
    pub blueprint: Arc<Blueprint>,
    /// Where its tables lie.
    pub warehouse: Warehouse,
    /// How to reach its source.
    pub sources: Arc<dyn OpenSource>,
    /// How to reach its sinks.
    pub sinks: Arc<dyn OpenSink>,
    /// What its state may take.
    pub budget: Arc<Budget>,
    /// How many tasks each stage may have.
    pub parallelism: usize,
    /// When it ends.
    pub until: Until,
    /// Who runs it.
    pub identity: Identity,
}

/// Why [`run`] came back without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop, or has done its work.
    Done,
    /// The topic has new partitions: start again to read them too.
    PartitionsAdded,
}

/// Runs a shard until it ends; all that was committed stays, all else is read again by whoever runs it next.
pub async fn run(spec: &ShardSpec, metrics: &Arc<Metrics>, stop: watch::Receiver<bool>) -> Result<Ended, StreamError> {
    metrics.phase(Phase::Starting);
    let holding = holder::claim(&spec.warehouse, &spec.id, &spec.identity, metrics).await?;
    let newest = epoch::newest(&spec.warehouse, &spec.id).await?;
    let tables = tables::open(&spec.warehouse, &spec.blueprint, &spec.id, newest.as_ref()).await?;
    let definition = spec.blueprint.fingerprint();
    match &newest {
        None => tables::check_untouched(&spec.id, &tables).await?,
        Some(record) => {
            if !record.state.is_empty() && !spec.blueprint.spec.accepts(&record.definition) {
                return Err(StreamError::DefinitionChanged { pipeline: spec.id.pipeline.to_string(), epoch: record.epoch });
            }
            if record.sources.values().flat_map(|source| source.watermarks_us.values()).any(|&us| us == i64::MAX) {
                tracing::warn!(pipeline = %spec.id.pipeline, "drained by an older version: rows from before that run are late");
            }
            tables::check(&spec.id, record, &tables).await?;
            tables::commit(&spec.id, record, &tables).await?;
        }
    }
    let origins = same_source::look(spec).await?;
    let mut guards = Vec::with_capacity(origins.len());
    for (source, origin) in spec.blueprint.sources.iter().zip(&origins) {
        let known = newest.as_ref().and_then(|record| record.source(&source.definition.name)?.source_id.as_ref());
        same_source::check(spec, &source.definition.name, known, origin.source_id.as_ref())?;
        guards.push(Guard::new(spec, &source.definition, origin.source_id.clone())?);
    }
    let mut outlets = open_outlets(spec).await?;
    let mut shard = Shard::new(spec, metrics.clone(), tables, definition, guards);
    if !spec.blueprint.at_once {
        shard.outlets = std::mem::take(&mut outlets);
    }
    let restoring = Instant::now();
    let segments = match newest {
        Some(record) => {
            let segments = state::read(&spec.warehouse, &spec.id, &record.state).await?;
            shard.pay_debts(&record).await?;
            shard.record = Some(record);
            segments
        }
        None => Vec::new(),
    };
    let resumed = resume(spec, shard.record.as_ref(), &origins).await?;
    let lost: u64 = resumed.iter().map(|resumed| resumed.lost).sum();
    if shard.record.is_none() || lost > 0 {
        let mut opening = shard.next_record();
        opening.counters.rows_lost += lost;
        for (source, resumed) in spec.blueprint.sources.iter().zip(&resumed) {
            let Some(of) = opening.sources.get_mut(&source.definition.name) else { continue };
            let before = of.offsets.clone();
            let stays = |partition: &i32| before.get(partition) == resumed.offsets.get(partition);
            of.caught_up_ms.retain(|partition, _| stays(partition));
            of.quiet.retain(|partition, _| stays(partition));
            of.offsets.clone_from(&resumed.offsets);
        }
        if let Some(before) = &shard.record {
            // No task has run yet: the state is split as it was.
            opening.keyed_tasks = before.keyed_tasks;
        }
        shard.decide(opening).await?;
    }
    let (mut positions, mut targets) = (Vec::with_capacity(resumed.len()), BTreeMap::new());
    for (place, ((source, resumed), origin)) in spec.blueprint.sources.iter().zip(resumed).zip(&origins).enumerate() {
        let definition = &source.definition;
        let record = shard.record.as_ref().and_then(|record| record.source(&definition.name));
        targets.extend(origin.ranges.iter().map(|range| (Lane { source: place, partition: range.partition }, range.high)));
        positions.push(Positions::new(resumed.offsets, &origin.ranges, record, definition.idle_timeout));
    }
    let running = start::start(spec, shard.record.as_ref(), &shard.tables, positions, &segments, outlets)?;
    shard.keyed_tasks = running.keyed_tasks;
    metrics.restored(if segments.is_empty() { Duration::ZERO } else { restoring.elapsed() });
    drop(segments);
    metrics.run(running.control.clone(), shard.record.as_ref());
    let result = shard.drive(running, stop, targets).await;
    if result.is_ok() {
        shard.note_delivery().await;
    }
    drop(holding);
    holder::say(&spec.warehouse, &spec.id, &spec.identity, Some(Vitals::of(&metrics.read())), true).await;
    result
}

/// Connects to all sinks.
async fn open_outlets(spec: &ShardSpec) -> Result<Vec<Outlet>, StreamError> {
    let (blueprint, sinks) = (spec.blueprint.clone(), spec.sinks.clone());
    let open = move || blueprint.sinks.iter().map(|sink| Outlet::open(sink, sinks.as_ref())).collect();
    let opened = tokio::task::spawn_blocking(open).await;
    opened.map_err(|e| StreamError::TaskDied { pipeline: spec.id.pipeline.to_string(), what: e.to_string() })?
}

/// An epoch between its barrier and its record.
struct InFlight {
    request: BarrierRequest,
    since: Instant,
    passed: Vec<Passed>,
    staged: Option<Staged>,
}

/// Tells the tasks of a run to end, also when what drives them panics.
struct StopOnDrop(Arc<Control>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

struct Shard<'a> {
    spec: &'a ShardSpec,
    metrics: Arc<Metrics>,
    tables: BTreeMap<Target, Table>,
    definition: String,
    keyed_tasks: usize,
    /// Of each source: which topic of that name is read, if that can be known, and whether it still is.
    guards: Vec<Guard>,
    /// Which sources meet, if any do.
    meeting: Option<Vec<usize>>,
    /// The newest record.
    record: Option<EpochRecord>,
    /// Whether the newest record's state is that of tasks before a restart: then the first snapshot replaces all of it.
    state_is_stale: bool,
    /// Sinks that get the rows of an epoch once it is decided.
    outlets: Vec<Outlet>,
    /// Rows of the newest epoch that these sinks have acknowledged; the next record says so.
    delivered: Delivered,
}

impl<'a> Shard<'a> {
    fn new(spec: &'a ShardSpec, metrics: Arc<Metrics>, tables: BTreeMap<Target, Table>, definition: String, guards: Vec<Guard>) -> Self {
        Self {
            spec,
            metrics,
            tables,
            definition,
            keyed_tasks: 1,
            guards,
            meeting: spec.blueprint.meeting(),
            record: None,
            state_is_stale: true,
            outlets: Vec::new(),
            delivered: Delivered::new(),
        }
    }

    /// Sends the rows of the newest epoch again, unless it is known that they have arrived. A sink that is new gets those of the next epochs.
    async fn pay_debts(&mut self, record: &EpochRecord) -> Result<(), StreamError> {
        if self.outlets.is_empty() {
            return Ok(());
        }
        if let Some(delivered) = delivery::noted(&self.spec.warehouse, &self.spec.id, record.epoch).await {
            self.delivered = delivered;
            return Ok(());
        }
        let (owed, new): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.outlets).into_iter().partition(|outlet| record.sinks.iter().any(|sink| sink.name == outlet.name()));
        self.outlets = owed;
        self.deliver(record).await?;
        self.outlets.extend(new);
        Ok(())
    }

    /// Sends the rows of a decided epoch to the sinks that wait for it.
    async fn deliver(&mut self, record: &EpochRecord) -> Result<(), StreamError> {
        let Some(main) = self.tables.get(&Target::Main) else { return Ok(()) };
        let outlets = std::mem::take(&mut self.outlets);
        (self.outlets, self.delivered) = delivery::deliver(record, main, &self.spec.blueprint.schema, outlets).await?;
        if !self.delivered.is_empty() {
            // For those who ask how many rows have arrived, and so that whoever follows after a crash need not send them again.
            delivery::note(&self.spec.warehouse, &self.spec.id, record.epoch, &self.delivered).await;
        }
        Ok(())
    }

    /// Notes at a clean end that nothing is owed.
    async fn note_delivery(&mut self) {
        if let Some(record) = self.record.as_ref().filter(|_| !self.outlets.is_empty()) {
            delivery::note(&self.spec.warehouse, &self.spec.id, record.epoch, &self.delivered).await;
        }
    }

    /// Drives epochs until the shard ends, then waits for its threads.
    async fn drive(
        &mut self,
        mut running: Running,
        stop: watch::Receiver<bool>,
        targets: BTreeMap<Lane, i64>,
    ) -> Result<Ended, StreamError> {
        self.metrics.phase(Phase::Running);
        let tasks = StopOnDrop(running.control.clone());
        let result = self.epochs(&mut running, stop, targets).await;
        drop(tasks);
        running.reports.close();
        while running.reports.recv().await.is_some() {}
        let threads = running.threads;
        let _ = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join()))).await;
        result
    }

    async fn epochs(
        &mut self,
        running: &mut Running,
        mut stop: watch::Receiver<bool>,
        targets: BTreeMap<Lane, i64>,
    ) -> Result<Ended, StreamError> {
        let interval = self.spec.blueprint.table.commit_interval.max(Duration::from_millis(10));
        let poll = (interval / 10).clamp(Duration::from_millis(5), Duration::from_millis(100));
        let mut ticks = tokio::time::interval(poll);
        let mut refresh = tokio::time::interval(SOURCE_REFRESH);
        refresh.reset();
        // Beside the epochs, which must not wait for a broker that is away.
        let mut looks = tokio::task::JoinSet::new();
        let mut last_barrier = Instant::now();
        let mut in_flight: Option<InFlight> = None;
        let mut ending: Option<Ended> = None;
        let mut halted: Option<StreamError> = None;
        loop {
            tokio::select! {
                report = running.reports.recv() => match report {
                    Some(Report::Failed(error)) => return Err(error),
                    Some(Report::Halted(error)) => drop(halted.get_or_insert(error)),
                    Some(Report::Passed(passed)) => if let Some(epoch) = &mut in_flight {
                        debug_assert_eq!(passed.epoch, epoch.request.epoch, "a task has passed the barrier of another epoch");
                        epoch.passed.push(*passed);
                    },
                    Some(Report::Staged(staged)) => if let Some(epoch) = &mut in_flight {
                        debug_assert_eq!(staged.epoch, epoch.request.epoch, "the files are of another epoch");
                        epoch.staged = Some(*staged);
                    },
                    None => return Err(StreamError::TaskDied { pipeline: self.name(), what: "all of them".into() }),
                },
                _ = ticks.tick() => {}
                _ = refresh.tick(), if looks.is_empty() => {
                    let spec = self.spec.clone();
                    looks.spawn(async move { same_source::look(&spec).await });
                }
                Some(looked) = looks.join_next() => match looked {
                    Ok(Ok(origins)) => {
                        for (source, (origin, guard)) in origins.iter().zip(&self.guards).enumerate() {
                            same_source::check(self.spec, guard.source(), guard.id(), origin.source_id.as_ref())?;
                            if origin.ranges.iter().any(|r| !targets.contains_key(&Lane { source, partition: r.partition })) {
                                ending = Some(Ended::PartitionsAdded);
                            }
                        }
                    }
                    // librdkafka would wait for it without a word.
                    Ok(Err(error @ StreamError::Ingest(IngestError::UnknownTopic { .. }))) => return Err(error),
                    Ok(Err(error)) => tracing::debug!(%error, "the source was not looked at"),
                    Err(died) => tracing::debug!(%died, "the source was not looked at"),
                },
                _ = stop.changed() => ending = Some(Ended::Done),
            }
            self.align(&running.control, &targets);
            if let Some(epoch) = in_flight.take() {
                if epoch.passed.len() == running.task_count && epoch.staged.is_some() {
                    let last = epoch.request.last;
                    self.finish(epoch, &stop).await?;
                    if last {
                        return halted.map_or(Ok(ending.unwrap_or(Ended::Done)), Err);
                    }
                } else if epoch.since.elapsed() > EPOCH_TIMEOUT {
                    return Err(StreamError::Stuck { pipeline: self.name(), epoch: epoch.request.epoch, seconds: EPOCH_TIMEOUT.as_secs() });
                } else {
                    in_flight = Some(epoch);
                }
                continue;
            }
            let caught_up = matches!(self.spec.until, Until::CaughtUp { .. }) && self.has_reached(&running.control, &targets);
            let due = last_barrier.elapsed() >= interval;
            let ends = ending.is_some() || caught_up || halted.is_some();
            if !(due || ends) {
                continue;
            }
            let drains = caught_up && self.spec.until == Until::CaughtUp { drain: true };
            let idle_us = if drains {
                self.end_of_windows(&running.control)
            } else if running.control.partitions().len() < targets.len() {
                // One that has not reported yet may be the slowest.
                BTreeMap::new()
            } else {
                let partitions = running.control.partitions();
                idle::floors(&partitions, &idle::idle(&partitions, |lane| self.spec.blueprint.idle_timeout(lane)))
            };
            let last = ends;
            if last || !idle_us.is_empty() || self.has_moved(&running.control) {
                last_barrier = Instant::now();
                let request = BarrierRequest { epoch: self.next_epoch(), idle_us, drains, last };
                running.control.request(request.clone());
                in_flight = Some(InFlight { request, since: last_barrier, passed: Vec::new(), staged: None });
            }
        }
    }

    fn name(&self) -> String {
        self.spec.id.pipeline.to_string()
    }

    fn next_epoch(&self) -> u64 {
        self.record.as_ref().map_or(1, |r| r.epoch + 1)
    }

    fn has_reached(&self, control: &Control, targets: &BTreeMap<Lane, i64>) -> bool {
        let partitions = control.partitions();
        targets.iter().all(|(p, &target)| partitions.get(p).is_some_and(|state| state.next_offset >= target))
    }

    /// Says how far each source may go, as far as some meet.
    fn align(&self, control: &Control, targets: &BTreeMap<Lane, i64>) {
        let Some(groups) = &self.meeting else { return };
        let (blueprint, partitions) = (&self.spec.blueprint, control.partitions());
        let mut aside = idle::idle(&partitions, |lane| blueprint.idle_timeout(lane));
        if matches!(self.spec.until, Until::CaughtUp { .. }) {
            // What comes later is for another run.
            let is_done = |lane: &Lane, target: i64| partitions.get(lane).is_some_and(|state| state.next_offset >= target);
            aside.extend(targets.iter().filter(|(lane, target)| is_done(lane, **target)).map(|(lane, _)| *lane));
        }
        let max_ahead_us = i64::try_from(blueprint.max_ahead().as_micros()).unwrap_or(i64::MAX);
        control.set_ceilings(Ceilings::of(&partitions, targets.keys().copied(), aside, groups, max_ahead_us));
    }

    /// The watermark at which all windows that any row has opened are closed, for each partition.
    fn end_of_windows(&self, control: &Control) -> BTreeMap<Lane, i64> {
        let partitions = control.partitions();
        let newest_us = partitions.values().map(|p| p.newest_us).max().filter(|&newest_us| newest_us > i64::MIN);
        let Some(end_us) = newest_us.and_then(|newest_us| self.spec.blueprint.drained_us(newest_us)) else { return BTreeMap::new() };
        partitions.keys().map(|&partition| (partition, end_us)).collect()
    }

    fn has_moved(&self, control: &Control) -> bool {
        let committed = |lane: &Lane| {
            let source = &self.spec.blueprint.sources[lane.source].definition.name;
            self.record.as_ref()?.source(source)?.offsets.get(&lane.partition)
        };
        control.partitions().iter().any(|(lane, state)| committed(lane).is_none_or(|&offset| offset < state.next_offset))
    }

    /// How far the sources were at the newest record, under their names; no partition is idle any more.
    fn sources(&self) -> BTreeMap<String, SourceEpoch> {
        let of = |guard: &Guard| {
            let mut source = self.record.as_ref().and_then(|record| record.source(guard.source()).cloned()).unwrap_or_default();
            source.idle_us.clear();
            source.source_id = guard.id().cloned().or(source.source_id);
            (guard.source().to_owned(), source)
        };
        self.guards.iter().map(of).collect()
    }

    /// A record that follows the newest one and changes nothing.
    fn next_record(&self) -> EpochRecord {
        let before = self.record.as_ref();
        let tables = self
            .tables
            .values()
            .map(|table| TableEpoch {
                table: table.name().clone(),
                table_id: table.id().to_string(),
                previous_epoch: before.and_then(|r| r.tables.iter().find(|t| t.table == *table.name()).and_then(|t| r.last_epoch_of(t))),
                files: Vec::new(),
            })
            .collect();
        EpochRecord {
            version: epoch::VERSION,
            pipeline: self.spec.id.pipeline.clone(),
            shard: self.spec.id.shard,
            epoch: self.next_epoch(),
            writer: self.spec.identity.clone(),
            definition: self.definition.clone(),
            written_ms: now_ms(),
            sources: self.sources(),
            keyed_tasks: self.keyed_tasks as u32,
            state: before.map(|r| r.state.clone()).unwrap_or_default(),
            state_files: before.map(|r| r.state_files.clone()).unwrap_or_default(),
            tables,
            counters: before.map(|r| r.counters).unwrap_or_default(),
            constraints: ConstraintEpoch::following(before.map(|r| r.constraints.as_slice()), &self.spec.blueprint.table.expectations),
            sinks: SinkEpoch::following(before.map(|r| r.sinks.as_slice()), &self.spec.blueprint, &self.delivered),
        }
    }

    /// Decides an epoch whose barrier has passed everywhere.
    async fn finish(&mut self, epoch: InFlight, stop: &watch::Receiver<bool>) -> Result<(), StreamError> {
        watershed_lake::step("barrier_passed");
        let started = Instant::now();
        let mut record = self.next_record();
        debug_assert_eq!(record.epoch, epoch.request.epoch, "an epoch is recorded under the number of its barrier");
        let mut deltas: Vec<TaskDelta> = Vec::new();
        let mut counted = Counters::default();
        let mut tallies: Vec<Tally> = Vec::new();
        record.sources.values_mut().for_each(|source| source.caught_up_ms.clear());
        for passed in epoch.passed {
            counted.add(passed.counters);
            add_tallies(&mut tallies, &passed.tallies);
            deltas.push(passed.delta);
            if let Some((source, read)) = passed.read
                && let Some(of) = record.sources.get_mut(self.guards[source].source())
            {
                of.offsets.extend(read.offsets);
                of.watermarks_us.extend(read.watermarks_us);
                of.newest_us.extend(read.newest_us);
                of.idle_us.extend(read.idle_us);
                of.caught_up_ms.extend(read.caught_up_ms);
                of.read_ms = of.read_ms.max(read.read_ms);
            }
        }
        let before = |name: &str| self.record.as_ref().and_then(|record| record.source(name));
        for (name, source) in &mut record.sources {
            source.quiet = QuietSince::of(source, before(name));
        }
        if let Some(staged) = epoch.staged {
            counted.rows_out += staged.rows_out;
            for sink in &mut record.sinks {
                sink.rows += staged.delivered.get(&sink.name).copied().unwrap_or_default();
            }
            for (target, files) in staged.files {
                let name = self.tables.get(&target).map(|table| table.name().clone());
                if let Some(table) = self.tables.get(&target) {
                    // Whoever slept for a day might name files here that vacuum has taken for forgotten.
                    table.check_fresh(&files)?;
                }
                if let Some(table) = record.tables.iter_mut().find(|t| Some(&t.table) == name.as_ref()) {
                    table.files = files;
                }
            }
        }
        record.counters.add(counted);
        for (constraint, tally) in record.constraints.iter_mut().zip(tallies) {
            constraint.count(tally, record.written_ms);
        }
        if std::mem::take(&mut self.state_is_stale) {
            record.state.clear();
        }
        let has_read = |name: &str| before(name).map(|source| &source.offsets) != record.sources.get(name).map(|source| &source.offsets);
        let has_read: Vec<bool> = self.guards.iter().map(|guard| has_read(guard.source())).collect();
        let took = deltas.iter().map(|delta| delta.took).max().unwrap_or_default();
        let state = async {
            let writing = Instant::now();
            let bytes = state::write(&self.spec.warehouse, &self.spec.id, deltas, &mut record).await?;
            Ok(Snapshot { bytes, took: took + writing.elapsed() })
        };
        let asked = self.guards.iter_mut().zip(has_read).filter(|(_, has_read)| *has_read);
        let same = try_join_all(asked.map(|(guard, _)| guard.check(self.spec, stop)));
        let (snapshot, _) = tokio::try_join!(state, same)?;
        watershed_lake::step("state_written");
        self.decide(record).await?;
        self.metrics.committed(self.record.as_ref(), started.elapsed(), snapshot);
        Ok(())
    }

    /// Writes the record and carries it out.
    async fn decide(&mut self, record: EpochRecord) -> Result<(), StreamError> {
        let path = self.spec.id.record_path(record.epoch);
        match self.spec.warehouse.put_if_absent(&path, record.to_bytes()).await? {
            PutOutcome::Won => {}
            PutOutcome::Lost(theirs) => {
                let winner = EpochRecord::from_bytes(&theirs, &path)?.writer.to_string();
                return Err(StreamError::Fenced { pipeline: self.name(), epoch: record.epoch, winner });
            }
        }
        watershed_lake::step("record_written");
        tables::commit(&self.spec.id, &record, &self.tables).await?;
        watershed_lake::step("tables_committed");
        self.deliver(&record).await?;
        if let Some(before) = &self.record {
            state::remove_unused(&self.spec.warehouse, &self.spec.id, before, &record).await;
            if record.epoch > EPOCH_RECORDS_KEPT {
                epoch::remove(&self.spec.warehouse, &self.spec.id, record.epoch - EPOCH_RECORDS_KEPT).await;
            }
        }
        self.record = Some(record);
        Ok(())
    }
}

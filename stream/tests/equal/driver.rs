//! The tasks of a pipeline in one thread: the stages are those that threads run (`stage.rs`), the channels between them are queues, and which
//! message is taken next is drawn by lot. What else is random or scripted is the caller's.
//!
//! A checkpoint keeps what a real one would, state as it is encoded for storage included; a crash goes back to it, and the caller feeds
//! what came since once more. Its barrier reaches each task beside the source only when that task's next rows come, so other inputs go on before it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use arrow::array::{Int64Array, RecordBatch};
use arrow::ipc::reader::StreamReader;
use watershed_stream::Blueprint;
use watershed_stream::hidden::Lane;
use watershed_stream::operator::{Output, Tally, add_tallies};
use watershed_stream::stage::source::SourceStage;
use watershed_stream::stage::{Cut, Message, Stage, Took};
use watershed_stream::start::split_state;
use watershed_stream::state::{self, TaskDelta};
use watershed_stream::watermark::PartitionWatermark;

/// How many tasks run.
#[derive(Debug, Clone, Copy)]
pub struct Tasks {
    pub local: usize,
    pub keyed: usize,
}

/// What a pipeline has given so far.
#[derive(Debug, Default, Clone)]
pub struct Given {
    pub rows: Vec<RecordBatch>,
    pub late: Vec<RecordBatch>,
    pub deduplicated: u64,
    pub dropped: u64,
    pub tallies: Vec<Tally>,
}

impl Given {
    fn aside(&mut self, aside: Output) {
        assert!(aside.refused.is_empty(), "all rows can be taken");
        self.deduplicated += aside.deduplicated;
        self.dropped += aside.dropped;
        add_tallies(&mut self.tallies, &aside.tallies);
        self.late.extend(aside.late);
    }

    fn append(&mut self, other: Given) {
        self.rows.extend(other.rows);
        self.aside(Output {
            late: other.late,
            deduplicated: other.deduplicated,
            dropped: other.dropped,
            tallies: other.tallies,
            ..Output::default()
        });
    }
}

/// What an epoch record would hold.
#[derive(Default)]
struct Checkpoint {
    segments: BTreeMap<String, Vec<RecordBatch>>,
    /// How many tasks a stage had whose rows are shared out by key.
    keyed: usize,
    watermarks_us: BTreeMap<Lane, i64>,
    given: Given,
}

/// A checkpoint whose barrier is on its way.
#[derive(Default)]
struct Cutting {
    deltas: Vec<TaskDelta>,
    watermarks_us: BTreeMap<Lane, i64>,
    /// What tasks gave that have passed the barrier: it belongs to the next epoch.
    since: Given,
    /// Stage and number of these tasks.
    passed: Vec<(usize, usize)>,
}

/// A task after an exchange.
struct Task {
    stage: Stage,
    /// Messages on their way, one queue a sender.
    inputs: Vec<VecDeque<Message>>,
}

/// All tasks of one run.
pub struct Driver<'a> {
    blueprint: &'a Blueprint,
    tasks: Tasks,
    partitions: i32,
    /// The stages beside sources, by the place of the source.
    local: Vec<Vec<SourceStage>>,
    /// The stages after an exchange.
    later: BTreeMap<usize, Vec<Task>>,
    given: Given,
    checkpoint: Checkpoint,
    cutting: Option<Cutting>,
    /// The first snapshot after a restart replaces all state, since tasks may be split in another way.
    state_is_stale: bool,
    lots: u64,
}

impl<'a> Driver<'a> {
    pub fn new(blueprint: &'a Blueprint, tasks: Tasks, partitions: i32) -> Self {
        let mut driver = Self {
            blueprint,
            tasks,
            partitions,
            local: Vec::new(),
            later: BTreeMap::new(),
            given: Given::default(),
            checkpoint: Checkpoint::default(),
            cutting: None,
            state_is_stale: true,
            lots: 0x9e37_79b9_7f4a_7c15,
        };
        driver.start();
        driver
    }

    /// Starts all tasks from the checkpoint.
    fn start(&mut self) {
        let blueprint = self.blueprint;
        let segments: Vec<_> = self.checkpoint.segments.iter().map(|(name, pieces)| (name.clone(), pieces.clone())).collect();
        let mut split = BTreeMap::new();
        if !segments.is_empty() && self.checkpoint.keyed != self.tasks.keyed {
            match split_state(blueprint, &segments, self.tasks.keyed).expect("it can be split") {
                Some(state) => split = state,
                None => {
                    assert!(blueprint.spec.crossings > 1, "all operators that run side by side know their keys");
                    self.tasks.keyed = self.checkpoint.keyed;
                }
            }
        }
        let by_key = self.tasks.keyed;
        let watermark_us = |lane: Lane| self.checkpoint.watermarks_us.get(&lane).copied().unwrap_or(i64::MIN);
        let locals = self.tasks.local.min(self.partitions as usize);
        let mut tasks = vec![0; blueprint.stages()];
        let stage = |stage: usize, task: usize, senders: usize| {
            let mut chain = blueprint.chain(stage, task).expect("a chain");
            let mine = |written_by: usize, segment: &str| match blueprint.source_of(stage) {
                Some(_) => Lane::task(segment, locals) == task,
                None => written_by == task,
            };
            let layout = blueprint.spec.layout();
            match split.get(&stage) {
                Some(tasks) => state::restore(&layout, stage, chain.operators_mut(), &tasks[task], |_, _| true).expect("restored"),
                None => state::restore(&layout, stage, chain.operators_mut(), &segments, mine).expect("restored"),
            }
            let exchange = blueprint.exchange(stage, &chain.schema(), by_key).expect("keys");
            Stage::new(stage, task, chain, senders, exchange)
        };
        let source = |place: usize, task: usize| {
            let of = &blueprint.sources[place];
            let delay_us = of.definition.watermark.as_ref().map_or(0, |w| w.delay_us);
            let partitions = (0..self.partitions).filter(|p| *p as usize % locals == task);
            let before = |partition: i32| watermark_us(Lane { source: place, partition });
            let watermarks = partitions.map(|p| (p, PartitionWatermark::new(before(p), i64::MIN, delay_us))).collect();
            SourceStage::new(stage(of.stage, task, 0), place, watermarks, of.time_column, blueprint.carries_hidden)
        };
        self.local = (0..blueprint.sources.len()).map(|place| (0..locals).map(|task| source(place, task)).collect()).collect();
        blueprint.sources.iter().for_each(|source| tasks[source.stage] = locals);
        self.later.clear();
        for place in (0..blueprint.stages()).filter(|place| blueprint.source_of(*place).is_none()) {
            let senders: usize = blueprint.inputs(place).iter().map(|&input| tasks[input]).sum();
            let inputs = || (0..senders).map(|_| VecDeque::new()).collect();
            let of = (0..blueprint.tasks(place, by_key)).map(|task| Task { stage: stage(place, task, senders), inputs: inputs() });
            let of: Vec<_> = of.collect();
            tasks[place] = of.len();
            self.later.insert(place, of);
        }
    }

    /// How many tasks a stage has.
    fn tasks_of(&self, stage: usize) -> usize {
        match self.blueprint.source_of(stage) {
            Some(source) => self.local[source].len(),
            None => self.later[&stage].len(),
        }
    }

    /// The cut of an epoch: what was given of rows fed before it is decided.
    pub fn checkpoint(&mut self) {
        self.settle();
        self.cutting = Some(Cutting::default());
    }

    /// Throws all tasks away and starts new ones from the last checkpoint, another number of them.
    pub fn crash(&mut self) {
        self.settle();
        self.given = self.checkpoint.given.clone();
        self.state_is_stale = true;
        self.tasks.local = 1 + self.tasks.local % 3;
        // Another number of tasks each time.
        self.tasks.keyed = self.tasks.keyed % 3 + 1;
        self.start();
    }

    /// The task beside a source that has a partition; it has the rows up to the cut.
    fn task_of(&mut self, lane: Lane) -> usize {
        let task = lane.partition as usize % self.local[lane.source].len();
        self.cut(lane.source, task);
        task
    }

    /// Lets the barrier of a checkpoint that has begun pass a task beside a source.
    fn cut(&mut self, source: usize, task: usize) {
        let stage = self.blueprint.sources[source].stage;
        let Some(cutting) = self.cutting.as_mut().filter(|cutting| !cutting.passed.contains(&(stage, task))) else { return };
        let watermarks = self.local[source][task].watermarks();
        let lane = |&partition: &i32| Lane { source, partition };
        cutting.watermarks_us.extend(watermarks.iter().map(|(partition, watermark)| (lane(partition), watermark.watermark_us)));
        let took = self.local[source][task].cut(Cut { epoch: 1, last: false }).expect("a snapshot");
        self.took(stage, task, took);
    }

    /// Rows of one partition of the first source, with its wanted columns.
    pub fn take(&mut self, partition: i32, rows: RecordBatch, offsets: Int64Array) {
        self.take_of(Lane { source: 0, partition }, rows, offsets);
    }

    /// Rows of one partition of a source, with its wanted columns.
    pub fn take_of(&mut self, lane: Lane, rows: RecordBatch, offsets: Int64Array) {
        let task = self.task_of(lane);
        let (took, refused) = self.local[lane.source][task].take(lane.partition, rows, &offsets, false).expect("rows are taken");
        assert!(refused.is_empty(), "all rows can be taken");
        self.took(self.blueprint.sources[lane.source].stage, task, took);
        self.some_steps();
    }

    /// Raises the watermark of a partition of each source, as for an idle one.
    pub fn raise(&mut self, partition: i32, floor_us: i64) {
        for source in 0..self.local.len() {
            let task = self.task_of(Lane { source, partition });
            if let Some(took) = self.local[source][task].raise(partition, floor_us).expect("time moves") {
                self.took(self.blueprint.sources[source].stage, task, took);
            }
            self.some_steps();
        }
    }

    /// Carries out what came of a message in a task.
    fn took(&mut self, stage: usize, task: usize, took: Took) {
        let next = self.blueprint.next(stage);
        // Senders of the stages before one another.
        let before = next.into_iter().flat_map(|next| self.blueprint.inputs(next)).take_while(|input| **input != stage);
        let sender = before.map(|&input| self.tasks_of(input)).sum::<usize>() + task;
        let given = match &mut self.cutting {
            Some(cutting) if cutting.passed.contains(&(stage, task)) => &mut cutting.since,
            _ => &mut self.given,
        };
        given.aside(took.aside);
        for message in took.messages {
            let parts = match (self.blueprint.source_of(stage), message) {
                (_, Message::Rows(rows)) if next.is_none() => {
                    given.rows.push(rows);
                    continue;
                }
                (Some(source), message) => self.local[source][task].shared_out(message),
                (None, message) => self.later[&stage][task].stage.shared_out(message),
            };
            let Some(next) = next else { continue };
            for (to, part) in parts.expect("split") {
                if let Some(tasks) = self.later.get_mut(&next) {
                    tasks[to].inputs[sender].push_back(part);
                }
            }
        }
        if let (Some((_, delta)), Some(cutting)) = (took.passed, &mut self.cutting) {
            cutting.deltas.push(delta);
            cutting.passed.push((stage, task));
            let all = self.local.iter().map(Vec::len).chain(self.later.values().map(Vec::len)).sum::<usize>();
            if cutting.passed.len() == all {
                self.decide();
            }
        }
    }

    /// All tasks have passed the barrier.
    fn decide(&mut self) {
        let Some(cutting) = self.cutting.take() else { return };
        if std::mem::take(&mut self.state_is_stale) {
            self.checkpoint.segments.clear();
        }
        for delta in cutting.deltas {
            let decoded = |piece: &Range<u64>| {
                let encoded = &delta.bytes[piece.start as usize..piece.end as usize];
                let mut reader = StreamReader::try_new(encoded, None).expect("it can be decoded");
                reader.next().expect("a batch").expect("it can be decoded")
            };
            delta.apply(&mut self.checkpoint.segments, decoded).expect("the pieces are known");
        }
        self.checkpoint.keyed = self.tasks.keyed;
        self.checkpoint.watermarks_us = cutting.watermarks_us;
        self.checkpoint.given = self.given.clone();
        self.given.append(cutting.since);
    }

    fn lot(&mut self, of: usize) -> usize {
        self.lots ^= self.lots << 13;
        self.lots ^= self.lots >> 7;
        self.lots ^= self.lots << 17;
        (self.lots % of as u64) as usize
    }

    /// Takes one message of those that may be taken now. False if there is none.
    fn step(&mut self) -> bool {
        let mut ready = Vec::new();
        for (&stage, tasks) in &self.later {
            for (task, Task { stage: machine, inputs }) in tasks.iter().enumerate() {
                let open = inputs.iter().enumerate().filter(|(input, queue)| !queue.is_empty() && machine.is_open(*input));
                ready.extend(open.map(|(input, _)| (stage, task, input)));
            }
        }
        if ready.is_empty() {
            return false;
        }
        let (stage, task, input) = ready[self.lot(ready.len())];
        let Some(of) = self.later.get_mut(&stage).map(|tasks| &mut tasks[task]) else { return false };
        let Some(message) = of.inputs[input].pop_front() else { return false };
        let took = of.stage.take(input, message).expect("a message is taken");
        self.took(stage, task, took);
        true
    }

    /// Some messages get through, others are still on their way when the next rows come.
    fn some_steps(&mut self) {
        for _ in 0..self.lot(8) {
            self.step();
        }
    }

    /// All messages get through, and the barrier of a checkpoint that has begun.
    fn settle(&mut self) {
        for source in 0..self.local.len() {
            (0..self.local[source].len()).for_each(|task| self.cut(source, task));
        }
        while self.step() {}
        assert!(self.cutting.is_none(), "a barrier passes all tasks");
    }

    /// Closes everything, as if no row could come any more, and hands over what was given.
    pub fn finish(mut self) -> Given {
        for partition in 0..self.partitions {
            self.raise(partition, i64::MAX);
        }
        self.settle();
        self.given
    }
}

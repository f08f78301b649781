//! The chains of a pipeline, driven as its tasks drive them, in one thread: what is random or scripted is the caller's.
//!
//! A checkpoint keeps what a real one would, state as it is encoded for storage included; a crash goes back to it, and the caller feeds
//! what came since once more.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::ipc::reader::StreamReader;
use watershed_stream::Blueprint;
use watershed_stream::exchange::Exchange;
use watershed_stream::hidden;
use watershed_stream::operator::{Chain, Output, Tally, add_tallies};
use watershed_stream::state::{self, Stage, TaskDelta};
use watershed_stream::watermark::{PartitionWatermark, Watermark};

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

/// What an epoch record would hold.
#[derive(Default)]
struct Checkpoint {
    segments: BTreeMap<String, Vec<RecordBatch>>,
    watermarks_us: BTreeMap<i32, i64>,
    given: Given,
}

/// All tasks of one run.
pub struct Driver<'a> {
    blueprint: &'a Blueprint,
    tasks: Tasks,
    partitions: i32,
    local: Vec<Chain>,
    keyed: Vec<Chain>,
    exchange: Option<Exchange>,
    watermarks: BTreeMap<i32, PartitionWatermark>,
    merged_of_task: Vec<i64>,
    given: Given,
    checkpoint: Checkpoint,
    /// The first snapshot after a restart replaces all state, since tasks may be split in another way.
    state_is_stale: bool,
}

impl<'a> Driver<'a> {
    pub fn new(blueprint: &'a Blueprint, tasks: Tasks, partitions: i32) -> Self {
        let mut driver = Self {
            blueprint,
            tasks,
            partitions,
            local: Vec::new(),
            keyed: Vec::new(),
            exchange: None,
            watermarks: BTreeMap::new(),
            merged_of_task: Vec::new(),
            given: Given::default(),
            checkpoint: Checkpoint::default(),
            state_is_stale: true,
        };
        driver.start();
        driver
    }

    fn keyed_tasks(&self) -> usize {
        match (&self.blueprint.exchange, self.blueprint.keyed_in_parallel) {
            (None, _) => 0,
            (Some(_), false) => 1,
            (Some(_), true) => self.tasks.keyed,
        }
    }

    fn start(&mut self) {
        self.local = (0..self.tasks.local).map(|_| self.blueprint.local_chain().expect("a chain")).collect();
        self.keyed = (0..self.keyed_tasks()).map(|_| self.blueprint.keyed_chain().expect("a chain")).collect();
        let keys = self.blueprint.exchange.clone().unwrap_or_default();
        self.exchange = (!self.keyed.is_empty()).then(|| Exchange::new(&keys, &self.local[0].schema(), self.keyed.len()).expect("keys"));
        self.merged_of_task = vec![i64::MIN; self.tasks.local];
        let delay_us = self.blueprint.source.watermark.as_ref().map_or(0, |w| w.delay_us);
        let watermark_us = |p: i32| self.checkpoint.watermarks_us.get(&p).copied().unwrap_or(i64::MIN);
        self.watermarks = (0..self.partitions).map(|p| (p, PartitionWatermark::new(watermark_us(p), i64::MIN, delay_us))).collect();
    }

    /// The cut of an epoch: what was given before it is decided.
    pub fn checkpoint(&mut self) {
        if std::mem::take(&mut self.state_is_stale) {
            self.checkpoint.segments.clear();
        }
        for (stage, chains) in [(Stage::Local, &mut self.local), (Stage::Keyed, &mut self.keyed)] {
            for (task, chain) in chains.iter_mut().enumerate() {
                let mut delta = TaskDelta::default();
                for (index, operator) in chain.operators_mut() {
                    delta.add(stage, task, index, operator.snapshot().expect("a snapshot")).expect("it can be encoded");
                }
                let decoded = |piece: &Range<u64>| {
                    let encoded = &delta.bytes[piece.start as usize..piece.end as usize];
                    let mut reader = StreamReader::try_new(encoded, None).expect("it can be decoded");
                    reader.next().expect("a batch").expect("it can be decoded")
                };
                delta.apply(&mut self.checkpoint.segments, decoded).expect("the pieces are known");
            }
        }
        self.checkpoint.watermarks_us = self.watermarks.iter().map(|(&p, w)| (p, w.watermark_us)).collect();
        self.checkpoint.given = self.given.clone();
    }

    /// Throws all tasks away and starts new ones from the last checkpoint.
    pub fn crash(&mut self) {
        self.given = self.checkpoint.given.clone();
        self.state_is_stale = true;
        // Another number of tasks each time.
        self.tasks.keyed = self.tasks.keyed % 3 + 1;
        self.start();
        let segments: Vec<_> = self.checkpoint.segments.iter().map(|(name, pieces)| (name.clone(), pieces.clone())).collect();
        let of = self.tasks.local;
        for (task, chain) in self.local.iter_mut().enumerate() {
            let mine = |_, segment: &str| segment.rsplit('/').next().and_then(|s| s.parse::<usize>().ok()).unwrap_or(0) % of == task;
            state::restore(Stage::Local, chain.operators_mut(), &segments, mine).expect("restored");
        }
        let (keys, mut chain) = (self.blueprint.exchange.clone().unwrap_or_default(), self.blueprint.keyed_chain().expect("a chain"));
        let split = state::split(&mut chain, &segments, &keys, self.keyed.len()).expect("it can be split");
        assert!(split.is_some() || !self.blueprint.keyed_in_parallel, "all operators that run side by side know their keys");
        for (task, chain) in self.keyed.iter_mut().enumerate() {
            match &split {
                Some(split) => state::restore(Stage::Keyed, chain.operators_mut(), &split[task], |_, _| true).expect("restored"),
                None => state::restore(Stage::Keyed, chain.operators_mut(), &segments, |of, _| of == task).expect("restored"),
            }
        }
    }

    fn task_of(&self, partition: i32) -> usize {
        partition as usize % self.tasks.local
    }

    /// Rows of one partition, with the wanted columns of the source.
    pub fn take(&mut self, partition: i32, rows: RecordBatch, offsets: Int64Array) {
        if rows.num_rows() == 0 {
            return;
        }
        let mut batch = rows;
        let watermark = self.watermarks.get_mut(&partition).expect("a known partition");
        let before =
            self.blueprint.time_column.map(|column| watermark.fold(batch.column(column).as_primitive::<TimestampMicrosecondType>()));
        let input_us = watermark.watermark_us;
        if let (true, Some(before)) = (self.blueprint.carries_hidden, before) {
            batch = hidden::attach(batch.clone(), hidden::with_hidden(&batch.schema()), partition, Arc::new(offsets), before)
                .expect("attached");
        }
        let task = self.task_of(partition);
        let mut out = Output::default();
        self.local[task].process(batch, &mut out).expect("rows are taken");
        self.pass_on(out);
        self.advance(partition, input_us);
    }

    /// Raises a partition's watermark, as for an idle one.
    pub fn raise(&mut self, partition: i32, floor_us: i64) {
        let watermark = self.watermarks.get_mut(&partition).expect("a known partition");
        watermark.raise(floor_us);
        let input_us = watermark.watermark_us;
        self.advance(partition, input_us);
    }

    fn advance(&mut self, partition: i32, input_us: i64) {
        let task = self.task_of(partition);
        let of_task = self.watermarks.iter().filter(|(p, _)| **p as usize % self.tasks.local == task);
        let merged_us = of_task.map(|(_, w)| w.watermark_us).min().expect("the task has a partition");
        let mut out = Output::default();
        let after = self.local[task].on_watermark(Watermark { input: partition, input_us, merged_us }, &mut out).expect("time moves");
        self.pass_on(out);
        self.merged_of_task[task] = after.merged_us;
        let tasks_with_partitions = self.tasks.local.min(self.partitions as usize);
        let merged_us = self.merged_of_task[..tasks_with_partitions].iter().copied().min().expect("a task");
        for keyed in 0..self.keyed.len() {
            let mut out = Output::default();
            self.keyed[keyed].on_watermark(Watermark { input: task as i32, input_us, merged_us }, &mut out).expect("time moves");
            self.deliver(out);
        }
    }

    fn pass_on(&mut self, mut out: Output) {
        let rows = std::mem::take(&mut out.rows);
        self.deliver(out);
        for rows in rows {
            let Some(exchange) = &self.exchange else {
                self.given.rows.push(rows);
                continue;
            };
            for (task, part) in exchange.split(rows).expect("split") {
                let mut out = Output::default();
                self.keyed[task].process(part, &mut out).expect("rows are taken");
                self.deliver(out);
            }
        }
    }

    fn deliver(&mut self, out: Output) {
        self.given.deduplicated += out.deduplicated;
        self.given.dropped += out.dropped;
        add_tallies(&mut self.given.tallies, &out.tallies);
        self.given.late.extend(out.late);
        self.given.rows.extend(out.rows);
    }

    /// Closes everything, as if no row could come any more, and hands over what was given.
    pub fn finish(mut self) -> Given {
        for partition in 0..self.partitions {
            self.raise(partition, i64::MAX);
        }
        self.given
    }
}

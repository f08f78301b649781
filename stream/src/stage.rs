//! One task of a stage, without channels, clock or I/O: what it does with a message, and what it hands on. Threads (`task.rs`) and the tests
//! that compare stream with batch drive the same code.
//!
//! ```text
//! inputs ──► align at barriers, merge watermarks ──► chain of operators ──► split by key ──► tasks of the next stage, or the table
//! ```
//!
//! A barrier cuts the stream: an input that has met it is left out until all have. Then the state is that of exactly the rows before the cut.
//! Of a watermark the least over all inputs counts.

pub mod source;
#[cfg(test)]
mod tests;

use arrow::record_batch::RecordBatch;

use crate::StreamError;
use crate::exchange::Exchange;
use crate::operator::{Chain, Output};
use crate::state::TaskDelta;
use crate::watermark::Watermark;

/// The end of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The epoch.
    pub epoch: u64,
    /// Whether the sender ends after it.
    pub last: bool,
}

/// What flows from one stage to the next.
#[derive(Debug, Clone)]
pub enum Message {
    /// Rows.
    Rows(RecordBatch),
    /// The sender has no older rows than this any more.
    Watermark(i64),
    /// The cut of an epoch.
    Barrier(Cut),
}

/// Which of several inputs have met the barrier.
#[derive(Debug)]
pub struct Alignment {
    met: Vec<bool>,
}

impl Alignment {
    /// No input has met one at first.
    pub fn new(inputs: usize) -> Self {
        Self { met: vec![false; inputs] }
    }

    /// Whether `input` may be read: it has not met a barrier that others have yet to meet, and has not ended.
    pub fn is_open(&self, input: usize) -> bool {
        !self.met[input]
    }

    /// Notes that `input` has met the barrier; true if now all have. Then all may be read again, unless they end with it.
    pub fn meet(&mut self, input: usize, cut: Cut) -> bool {
        debug_assert!(self.is_open(input), "an input that waits for others was read");
        self.met[input] = true;
        let all = self.met.iter().all(|&met| met);
        if all && !cut.last {
            self.met.fill(false);
        }
        all
    }
}

/// What came of one message.
#[derive(Debug, Default)]
pub struct Took {
    /// What goes on, in this order: to the next stage, or, of the last one, rows for the table.
    pub messages: Vec<Message>,
    /// What does not go on: rows for side tables, and counts.
    pub aside: Output,
    /// The barrier, if it has passed, and what of the state changed since the one before.
    pub passed: Option<(Cut, TaskDelta)>,
}

/// See the module documentation.
pub struct Stage {
    place: usize,
    task: usize,
    chain: Chain,
    alignment: Alignment,
    watermarks_us: Vec<i64>,
    merged_us: i64,
    forwarded_us: i64,
    /// How rows are shared out to the next stage; `None` if there is none.
    exchange: Option<Exchange>,
}

impl Stage {
    /// Task number `task` of the stage number `place`, over `inputs` senders. `chain` has been restored.
    pub fn new(place: usize, task: usize, chain: Chain, inputs: usize, exchange: Option<Exchange>) -> Self {
        Self {
            place,
            task,
            chain,
            alignment: Alignment::new(inputs),
            watermarks_us: vec![i64::MIN; inputs],
            merged_us: i64::MIN,
            forwarded_us: i64::MIN,
            exchange,
        }
    }

    /// Whether a message of `input` may be taken now.
    pub fn is_open(&self, input: usize) -> bool {
        self.alignment.is_open(input)
    }

    /// Takes one message of an open input.
    pub fn take(&mut self, input: usize, message: Message) -> Result<Took, StreamError> {
        let mut took = Took::default();
        match message {
            Message::Rows(rows) => self.rows(rows, &mut took)?,
            Message::Watermark(input_us) => {
                self.watermarks_us[input] = input_us;
                let merged_us = self.watermarks_us.iter().copied().min().unwrap_or(i64::MIN);
                if merged_us > self.merged_us {
                    self.merged_us = merged_us;
                    self.advance(Watermark { input: input as i32, input_us, merged_us }, &mut took)?;
                }
            }
            Message::Barrier(cut) => {
                if self.alignment.meet(input, cut) {
                    self.cut(cut, &mut took)?;
                }
            }
        }
        Ok(took)
    }

    /// The parts of a message for tasks of the next stage, each with the task's number.
    pub fn shared_out(&self, message: Message) -> Result<Vec<(usize, Message)>, StreamError> {
        let Some(exchange) = &self.exchange else { return Ok(Vec::new()) };
        Ok(match message {
            Message::Rows(rows) => exchange.split(rows)?.into_iter().map(|(task, part)| (task, Message::Rows(part))).collect(),
            news => (0..exchange.tasks()).map(|task| (task, news.clone())).collect(),
        })
    }

    /// Pushes rows through the chain. After an error nothing of them is in `took`.
    fn rows(&mut self, rows: RecordBatch, took: &mut Took) -> Result<(), StreamError> {
        let mut out = Output::default();
        self.chain.process(rows, &mut out)?;
        hand_on(out, took);
        Ok(())
    }

    /// Tells the chain that time has moved, and the next stage, as far as the chain lets it.
    fn advance(&mut self, watermark: Watermark, took: &mut Took) -> Result<(), StreamError> {
        let mut out = Output::default();
        let after = self.chain.on_watermark(watermark, &mut out)?;
        hand_on(out, took);
        if after.merged_us > self.forwarded_us && self.exchange.is_some() {
            self.forwarded_us = after.merged_us;
            took.messages.push(Message::Watermark(after.merged_us));
        }
        Ok(())
    }

    /// Ends an epoch: all rows before the cut have been taken.
    fn cut(&mut self, cut: Cut, took: &mut Took) -> Result<(), StreamError> {
        let mut delta = TaskDelta::default();
        for (index, changed) in self.chain.snapshot()?.into_iter().enumerate() {
            delta.add(self.place, self.task, index, changed)?;
        }
        if self.exchange.is_some() {
            took.messages.push(Message::Barrier(cut));
        }
        took.passed = Some((cut, delta));
        Ok(())
    }
}

fn hand_on(mut out: Output, took: &mut Took) {
    took.messages.extend(out.rows.drain(..).map(Message::Rows));
    took.aside.absorb(&mut out);
}

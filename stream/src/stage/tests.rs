//! What a stage does with each message.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, AsArray, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::source::SourceStage;
use super::{Cut, Message, Stage, Took};
use crate::StreamError;
use crate::exchange::Exchange;
use crate::fault::RowFault;
use crate::operator::{Chain, Operator, Output, StateDelta};
use crate::watermark::{PartitionWatermark, Watermark};

/// `(n, t)`: a number, and a time in microseconds.
fn rows(numbers: &[i64]) -> RecordBatch {
    let times = TimestampMicrosecondArray::from(numbers.to_vec()).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 2] = [("n", Arc::new(Int64Array::from(numbers.to_vec()))), ("t", Arc::new(times))];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn numbers(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

/// Keeps the numbers it has seen as state, refuses 13, and holds the watermark back by 100.
struct Probe {
    schema: SchemaRef,
    seen: Vec<i64>,
    watermarks: Arc<Mutex<Vec<Watermark>>>,
}

impl Operator for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> Result<(), StreamError> {
        if numbers(&batch).contains(&13) {
            let [what, expression, reason] = ["n", "n", "13"].map(String::from);
            return Err(StreamError::Row(Box::new(RowFault { what, expression, reason })));
        }
        self.seen.extend(numbers(&batch));
        out.deduplicated += batch.num_rows() as u64;
        out.rows.push(batch);
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Watermark, StreamError> {
        self.watermarks.lock().unwrap().push(watermark);
        out.rows.push(rows(&[-1]));
        Ok(Watermark { merged_us: watermark.merged_us.saturating_sub(100), ..watermark })
    }

    fn snapshot(&mut self) -> Result<StateDelta, StreamError> {
        Ok(StateDelta { deletes: self.seen.drain(..).map(|n| n.to_string()).collect(), ..StateDelta::default() })
    }
}

/// A stage over some inputs, with two tasks after it, or none.
fn stage(inputs: usize, goes_on: bool) -> (Stage, Arc<Mutex<Vec<Watermark>>>) {
    let watermarks = Arc::new(Mutex::new(Vec::new()));
    let probe = Probe { schema: rows(&[]).schema(), seen: Vec::new(), watermarks: watermarks.clone() };
    let exchange = goes_on.then(|| Exchange::new(&[0], &rows(&[]).schema(), 2).unwrap());
    (Stage::new(1, 3, Chain::new(vec![Box::new(probe)]), inputs, exchange), watermarks)
}

fn barrier(epoch: u64, last: bool) -> Message {
    Message::Barrier(Cut { epoch, last })
}

/// Messages in short: rows by their numbers, watermarks, epochs.
fn shown(took: &Took) -> Vec<String> {
    took.messages.iter().map(one).collect()
}

fn one(message: &Message) -> String {
    match message {
        Message::Rows(batch) => format!("{:?}", numbers(batch)),
        Message::Watermark(us) => format!("to {us}"),
        Message::Barrier(cut) => format!("epoch {}{}", cut.epoch, if cut.last { ", the last" } else { "" }),
    }
}

/// The rows before the cut, by the state that a task wrote.
fn saved(took: &Took) -> Option<Vec<&str>> {
    took.passed.as_ref().map(|(_, delta)| delta.deletes.iter().filter_map(|name| name.rsplit('/').next()).collect())
}

#[test]
fn the_state_of_a_cut_is_that_of_the_rows_before_it_of_all_inputs() {
    let (mut stage, _) = stage(2, true);
    assert_eq!(shown(&stage.take(0, Message::Rows(rows(&[1]))).unwrap()), ["[1]"]);
    let met = stage.take(0, barrier(7, false)).unwrap();
    assert!(met.messages.is_empty() && met.passed.is_none(), "the other input has rows before it");
    assert!(!stage.is_open(0) && stage.is_open(1));
    assert_eq!(stage.take(1, Message::Rows(rows(&[2]))).unwrap().aside.deduplicated, 1);
    let passed = stage.take(1, barrier(7, false)).unwrap();
    assert_eq!((shown(&passed), saved(&passed)), (vec!["epoch 7".to_owned()], Some(vec!["1", "2"])));
    assert!(stage.is_open(0) && stage.is_open(1));

    stage.take(0, Message::Rows(rows(&[3]))).unwrap();
    stage.take(1, barrier(8, false)).unwrap();
    assert!(stage.is_open(0) && !stage.is_open(1), "whichever meets it first waits");
    assert_eq!(saved(&stage.take(0, barrier(8, false)).unwrap()), Some(vec!["3"]));
}

#[test]
fn inputs_that_end_are_not_read_again() {
    let (mut stage, _) = stage(2, false);
    stage.take(0, barrier(1, true)).unwrap();
    let passed = stage.take(1, barrier(1, true)).unwrap();
    assert_eq!(passed.passed.as_ref().map(|(cut, _)| *cut), Some(Cut { epoch: 1, last: true }));
    assert!(passed.messages.is_empty(), "no stage comes after it");
    assert!(!stage.is_open(0) && !stage.is_open(1));
}

#[test]
fn time_moves_with_the_slowest_input_and_only_ahead() {
    let (mut stage, seen) = stage(3, true);
    assert!(stage.take(0, Message::Watermark(500)).unwrap().messages.is_empty());
    assert!(stage.take(1, Message::Watermark(300)).unwrap().messages.is_empty(), "the third has none");
    assert_eq!(shown(&stage.take(2, Message::Watermark(400)).unwrap()), ["[-1]", "to 200"]);
    assert!(stage.take(0, Message::Watermark(600)).unwrap().messages.is_empty(), "the second is where it was");
    assert_eq!(shown(&stage.take(1, Message::Watermark(700)).unwrap()), ["[-1]", "to 300"], "what it holds goes on before the news");
    let seen: Vec<_> = seen.lock().unwrap().iter().map(|w| (w.input, w.input_us, w.merged_us)).collect();
    assert_eq!(seen, [(2, 400, 300), (1, 700, 400)]);
}

#[test]
fn rows_go_to_the_task_of_their_key_and_news_to_all() {
    let (stage, _) = stage(1, true);
    let all: Vec<i64> = (0..100).collect();
    let parts = stage.shared_out(Message::Rows(rows(&all))).unwrap();
    let to: BTreeMap<i64, usize> = parts
        .iter()
        .flat_map(|(task, part)| match part {
            Message::Rows(part) => numbers(part).into_iter().map(|n| (n, *task)).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(to.len(), 100);
    assert!(to.values().any(|&task| task == 0) && to.values().any(|&task| task == 1));
    for (task, part) in stage.shared_out(Message::Rows(rows(&[7, 8, 7]))).unwrap() {
        let Message::Rows(part) = part else { panic!("rows stay rows") };
        assert!(numbers(&part).iter().all(|n| to[n] == task));
    }
    for news in [Message::Watermark(5), barrier(2, false)] {
        let parts = stage.shared_out(news.clone()).unwrap();
        assert_eq!(parts.iter().map(|(task, part)| (*task, one(part))).collect::<Vec<_>>(), [(0, one(&news)), (1, one(&news))]);
    }
}

fn source(partitions: &[i32]) -> SourceStage {
    let watermarks = partitions.iter().map(|&p| (p, PartitionWatermark::new(i64::MIN, i64::MIN, 10))).collect();
    SourceStage::new(stage(0, true).0, 0, watermarks, Some(1), false)
}

fn offsets(count: i64) -> Int64Array {
    Int64Array::from_iter_values(0..count)
}

#[test]
fn time_beside_the_source_is_that_of_its_slowest_partition() {
    let mut source = source(&[0, 4]);
    assert_eq!(shown(&source.take(0, rows(&[500, 300]), &offsets(2), false).unwrap().0), ["[500, 300]", "[-1]"]);
    assert_eq!(shown(&source.take(4, rows(&[400]), &offsets(1), false).unwrap().0), ["[400]", "[-1]", "to 290"]);
    assert_eq!(shown(&source.raise(4, 450).unwrap().unwrap()), ["[-1]", "to 350"], "an idle one is raised");
    assert!(source.raise(4, 450).unwrap().is_none() && source.raise(9, 450).unwrap().is_none());
    let (took, _) = source.take(4, rows(&[420]), &offsets(1), false).unwrap();
    assert_eq!(shown(&took), ["[420]"], "and stays there");
    let watermarks: Vec<_> = source.watermarks().iter().map(|(&p, w)| (p, w.watermark_us, w.newest_us)).collect();
    assert_eq!(watermarks, [(0, 490, 500), (4, 450, 420)]);
    assert_eq!(saved(&source.cut(Cut { epoch: 1, last: false }).unwrap()).unwrap(), ["500", "300", "400", "420"]);
}

#[test]
fn rows_that_cannot_be_taken_are_told_apart_or_end_the_partition() {
    let given = rows(&[200, 13, 300, 13, 900]);
    let mut goes_on = source(&[0]);
    let (took, refused) = goes_on.take(0, given.clone(), &offsets(5), false).unwrap();
    assert_eq!(refused.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(took.aside.deduplicated, 3, "each of the others once");
    assert_eq!(goes_on.watermarks()[&0].watermark_us, 890, "their times count");

    let mut stops = source(&[0]);
    let (took, refused) = stops.take(0, given, &offsets(5), true).unwrap();
    assert_eq!((refused.len(), refused[0].0), (1, 1));
    assert_eq!(shown(&took), ["[200]", "[-1]", "to 90"]);
    assert_eq!((stops.watermarks()[&0].watermark_us, stops.watermarks()[&0].newest_us), (190, 200), "as if no later row had come");
}

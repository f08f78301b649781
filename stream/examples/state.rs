//! What operator state costs: bytes that an epoch writes while more and more keys are held, and how fast keys are taken with and without a limit of
//! memory. `make bench-state`.
//!
//! ```text
//! state bytes                       bytes of an epoch with 1,000 keys touched, at 10 K, 1 M and 10 M keys held
//! state rate KEYS [LIMIT_MIB]       keys per second of DEDUPLICATE over KEYS different keys, one in ten of them twice
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::col;
use watershed_functions::event_time_type;
use watershed_stream::StateLimits;
use watershed_stream::aside::Files;
use watershed_stream::budget::Budget;
use watershed_stream::hidden;
use watershed_stream::operator::{Chain, Operator, Output};
use watershed_stream::operators::aggregate_partial::{AggregatePartial, AggregatePartialSpec};
use watershed_stream::operators::deduplicate::Deduplicate;
use watershed_stream::operators::group_table::{Aggregate, GroupSpec};
use watershed_stream::state::TaskDelta;
use watershed_stream::watermark::Watermark;

type Outcome<T> = Result<T, Box<dyn Error>>;

const SECOND_US: i64 = 1_000_000;
/// A day: the window, and the interval in which keys are known.
const DAY_US: i64 = 86_400 * SECOND_US;
/// Rows a batch.
const BATCH: i64 = 16_384;
/// Keys an epoch touches.
const TOUCHED: i64 = 1_000;
/// Epochs that are measured.
const EPOCHS: i64 = 200;

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["bytes"] => bytes(),
        ["rate", keys] => rate(keys.parse()?, None),
        ["rate", keys, limit] => rate(keys.parse()?, Some(limit.parse::<u64>()? << 20)),
        _ => Err("say `bytes`, or `rate KEYS [LIMIT_MIB]`".into()),
    }
}

fn schema() -> SchemaRef {
    Schema::new(vec![
        Field::new("time", event_time_type(), false),
        Field::new("id", DataType::Int64, false),
        Field::new("window_start", event_time_type(), false),
        Field::new("window_end", event_time_type(), false),
    ])
    .into()
}

fn rows(time: i64, keys: Vec<i64>) -> Outcome<RecordBatch> {
    let count = keys.len();
    let times = |time: i64| Arc::new(TimestampMicrosecondArray::from_value(time, count).with_timezone("UTC")) as ArrayRef;
    let columns: Vec<ArrayRef> = vec![times(time), Arc::new(Int64Array::from(keys)), times(0), times(DAY_US)];
    let rows = RecordBatch::try_new(schema(), columns)?;
    let zeros: ArrayRef = Arc::new(Int64Array::from_value(0, count));
    Ok(hidden::attach(rows, hidden::with_hidden(&schema()), 0, zeros, Int64Array::from_value(0, count))?)
}

fn deduplicate() -> Outcome<Box<dyn Operator>> {
    Ok(Box::new(Deduplicate::new(vec![1], 0, DAY_US, hidden::with_hidden(&schema()))?))
}

fn sums() -> Outcome<Box<dyn Operator>> {
    let input = hidden::with_hidden(&schema());
    let id = || Ok::<Arc<dyn PhysicalExpr>, Box<dyn Error>>(col("id", &input)?);
    let sum = AggregateExprBuilder::new(sum_udaf(), vec![id()?]).schema(input.clone()).alias("sum").build()?;
    let groups = Arc::new(GroupSpec {
        keys: vec![Arc::new(Field::new("id", DataType::Int64, false))],
        aggregates: vec![Aggregate { function: Arc::new(sum), filter: None }],
    });
    let spec = AggregatePartialSpec { window_start: 2, window_end: 3, keys: vec![id()?], groups, slot_per_partition: false, slot: 0 };
    Ok(Box::new(AggregatePartial::new(spec)?))
}

/// The cut of an epoch; gives the bytes it writes.
fn epoch(chain: &mut Chain, time: i64, live: &mut BTreeMap<String, Vec<u64>>) -> Outcome<u64> {
    chain.on_watermark(Watermark { input: 0, input_us: time, merged_us: time }, &mut Output::default())?;
    let mut delta = TaskDelta::default();
    for (index, of_operator) in chain.snapshot()?.into_iter().enumerate() {
        delta.add(1, 0, index, of_operator)?;
    }
    delta.apply(live, |piece| piece.end - piece.start)?;
    Ok(delta.bytes.len() as u64)
}

fn bytes() -> Outcome<()> {
    println!("operator           keys held   bytes an epoch: mean     median        most   bytes held   pieces");
    for (name, make) in [("deduplicate", deduplicate as fn() -> Outcome<Box<dyn Operator>>), ("aggregate_partial", sums)] {
        for held in [10_000, 1_000_000, 10_000_000] {
            let mut chain = Chain::new(vec![make()?]);
            let mut live = BTreeMap::new();
            for first in (0..held).step_by(BATCH as usize) {
                chain.process(rows(SECOND_US, (first..held.min(first + BATCH)).collect())?, &mut Output::default())?;
            }
            epoch(&mut chain, 3 * SECOND_US, &mut live)?;
            let mut written = Vec::new();
            for number in 1..=EPOCHS {
                let time = (3 * number) * SECOND_US;
                // Keys all over what is held.
                let keys = (0..TOUCHED).map(|i| ((number * TOUCHED + i) * 7_919) % held).collect::<Vec<_>>();
                chain.process(rows(time, keys)?, &mut Output::default())?;
                written.push(epoch(&mut chain, time + 3 * SECOND_US, &mut live)?);
            }
            let mean = written.iter().sum::<u64>() / written.len() as u64;
            written.sort_unstable();
            let (median, most) = (written[written.len() / 2], written[written.len() - 1]);
            let (stored, pieces) = (live.values().flatten().sum::<u64>(), live.values().map(Vec::len).sum::<usize>());
            println!("{name:<17} {held:>10} {mean:>22} {median:>10} {most:>11} {stored:>12} {pieces:>8}");
        }
    }
    Ok(())
}

fn rate(keys: i64, limit: Option<u64>) -> Outcome<()> {
    let limits = StateLimits { process: None, pipeline: limit };
    let budget = Budget::of_pipeline(&Budget::of_process(limits), limits, Some(Arc::new(Files::new(&std::env::temp_dir()))));
    let mut chain = Chain::new(vec![deduplicate()?]).within("bench.keys".into(), &budget);
    let mut live = BTreeMap::new();
    let (started, mut rows_in, mut most) = (Instant::now(), 0, 0);
    // A million keys an epoch, spread over twenty hours.
    let epochs = (keys / 1_000_000).max(1);
    for number in 0..epochs {
        let time = number * (20 * 3_600 * SECOND_US / epochs) / SECOND_US * SECOND_US;
        let (from, to) = (number * keys / epochs, (number + 1) * keys / epochs);
        for first in (from..to).step_by(BATCH as usize) {
            let new = (to - first).min(BATCH);
            let scattered = |key: i64| key.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64);
            let batch = (first..first + new).chain((first..first + new / 10).map(|key| key / 2)).map(scattered).collect::<Vec<_>>();
            rows_in += batch.len();
            chain.process(rows(time, batch)?, &mut Output::default())?;
            most = most.max(budget.held().bytes);
        }
        epoch(&mut chain, time + 2 * SECOND_US, &mut live)?;
        most = most.max(budget.held().bytes);
    }
    let took = started.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let memory = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap_or(0) >> 10
    };
    println!(
        "{keys} keys, limit {}: {rows_in} rows in {took:.1} s, {:.0} rows/s; held at most {} MiB, aside {} MiB; process: {} MiB of its own, {} MiB of files",
        limit.map_or_else(|| "none".to_owned(), |limit| format!("{} MiB", limit >> 20)),
        rows_in as f64 / took,
        most >> 20,
        budget.bytes_aside() >> 20,
        memory("RssAnon:"),
        memory("RssFile:"),
    );
    Ok(())
}

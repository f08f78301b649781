//! Operators within a limit of memory: they put state aside and come to the same, or say that the limit cannot be kept.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use watershed_functions::event_time_type;

use super::deduplicate::Deduplicate;
use super::in_order::InOrder;
use crate::StreamError;
use crate::aside::Files;
use crate::budget::{Budget, StateLimits};
use crate::hidden;
use crate::operator::{Chain, Operator, Output};
use crate::operators::check::{Saved, save};
use crate::watermark::Watermark;

fn schema() -> SchemaRef {
    let fields = vec![
        Field::new("time", event_time_type(), false),
        Field::new("city", DataType::Utf8, true),
        Field::new("fare", DataType::Float64, true),
    ];
    Schema::new(fields).into()
}

/// Rows with these times and keys.
fn rows(of: impl Iterator<Item = (i64, u64)> + Clone) -> RecordBatch {
    let times = TimestampMicrosecondArray::from_iter_values(of.clone().map(|(time, _)| time)).with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(times),
        Arc::new(StringArray::from_iter_values(of.clone().map(|(_, key)| format!("key {key:09}")))),
        Arc::new(Float64Array::from_iter_values(of.map(|(_, key)| key as f64))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn watermark(us: i64) -> Watermark {
    Watermark { input: 0, input_us: us, merged_us: us }
}

const SECOND_US: i64 = 1_000_000;

/// Keys that come once, each fifth a second time much later, in epochs of a second; gives the count of rows that were handed on, the most that was
/// held, and whether anything was put aside.
fn deduplicated(limit: Option<u64>) -> Result<(usize, u64, bool), StreamError> {
    let limits = StateLimits { process: None, pipeline: limit };
    let budget = Budget::of_pipeline(&Budget::of_process(limits), limits, Some(Arc::new(Files::new(&std::env::temp_dir()))));
    let operator = Deduplicate::new(vec![1], 0, 1_000 * SECOND_US, schema())?;
    let mut chain = Chain::new(vec![Box::new(operator)]).within("gold.once".into(), &budget);
    let (mut saved, mut handed_on, mut most, mut was_aside) = (Saved::new(), 0, 0, false);
    for epoch in 0..60_i64 {
        for part in 0..5_u64 {
            let first = epoch as u64 * 5_000 + part * 1_000;
            let time = epoch * SECOND_US;
            let again = (0..if epoch > 30 { 200 } else { 0 }).map(|i| (time, first / 2 + i * 5));
            let mut out = Output::default();
            chain.process(rows((first..first + 1_000).map(|key| (time, key)).chain(again)), &mut out)?;
            handed_on += out.rows.iter().map(RecordBatch::num_rows).sum::<usize>();
            most = most.max(budget.held().bytes);
            was_aside |= budget.bytes_aside() > 0;
        }
        let mut out = Output::default();
        chain.on_watermark(watermark((epoch + 1) * SECOND_US), &mut out)?;
        handed_on += out.rows.iter().map(RecordBatch::num_rows).sum::<usize>();
        chain.snapshot()?.into_iter().for_each(|delta| save(&mut saved, delta));
        most = most.max(budget.held().bytes);
    }
    drop(chain);
    assert_eq!((budget.held().bytes, budget.bytes_aside()), (0, 0));
    Ok((handed_on, most, was_aside))
}

#[test]
fn deduplication_puts_keys_aside_and_drops_the_same_rows() {
    let (plain, unlimited, was_aside) = deduplicated(None).unwrap();
    assert_eq!((plain, was_aside), (300_000, false));
    let limit = 10 << 20;
    assert!(unlimited > limit, "{unlimited}");
    let (limited, most, was_aside) = deduplicated(Some(limit)).unwrap();
    assert_eq!((limited, was_aside), (300_000, true));
    assert!(most <= limit + limit / 10, "{most} of {limit}");
}

#[test]
fn a_limit_that_cannot_be_kept_names_operator_keys_and_what_to_do() {
    let error = deduplicated(Some(1 << 20)).unwrap_err();
    let StateError { operator, keys } = StateError::of(&error);
    assert_eq!(operator, "deduplicate");
    assert!((10_000..60_000).contains(&keys), "{keys}");
    let text = error.to_string();
    for part in ["gold.once", "'deduplicate'", &keys.to_string(), "may take 1 MiB", "stream.pipeline_state_limit"] {
        assert!(text.contains(part), "{part} in: {text}");
    }
}

struct StateError {
    operator: &'static str,
    keys: u64,
}

impl StateError {
    fn of(error: &StreamError) -> Self {
        match error {
            StreamError::StateLimit { operator, held, .. } => Self { operator, keys: held.keys },
            other => panic!("{other}"),
        }
    }
}

#[test]
fn rows_that_wait_are_put_aside_and_leave_in_order() {
    let limits = StateLimits { process: Some(4 << 20), pipeline: None };
    let budget = Budget::of_pipeline(&Budget::of_process(limits), limits, Some(Arc::new(Files::new(&std::env::temp_dir()))));
    let schema = hidden::with_hidden(&schema());
    let operator: Box<dyn Operator> = Box::new(InOrder::new(0, schema.clone()));
    let mut chain = Chain::new(vec![operator]).within("gold.running".into(), &budget);
    let (mut saved, mut most) = (Saved::new(), 0);
    for number in 0..100_i64 {
        // From the newest second to the oldest.
        let of = (0..2_000_i64).map(|row| ((100 - number) * SECOND_US + row, row as u64));
        let offsets: ArrayRef = Arc::new(Int64Array::from_iter_values(number * 2_000..(number + 1) * 2_000));
        let before = Int64Array::from_value(-1, 2_000);
        let batch = hidden::attach(rows(of), schema.clone(), 0, offsets, before).unwrap();
        chain.process(batch, &mut Output::default()).unwrap();
        if number % 10 == 9 {
            chain.snapshot().unwrap().into_iter().for_each(|delta| save(&mut saved, delta));
        }
        most = most.max(budget.held().bytes);
    }
    assert!(most <= (4 << 20) + (4 << 20) / 10, "{most}");
    assert!(budget.bytes_aside() > 6 << 20, "{}", budget.bytes_aside());
    let mut last_us = i64::MIN;
    let mut count = 0;
    for second in 1..=102 {
        let mut out = Output::default();
        chain.on_watermark(watermark(second * SECOND_US - 999_000), &mut out).unwrap();
        for batch in &out.rows {
            for &time in batch.column(0).as_primitive::<TimestampMicrosecondType>().values() {
                assert!(time >= last_us);
                last_us = time;
                count += 1;
            }
        }
    }
    assert_eq!((count, budget.bytes_aside()), (200_000, 0));
}

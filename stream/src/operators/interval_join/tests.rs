//! Which pairs leave, when, and what is known of rows without a partner.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use watershed_functions::event_time_type;

use super::index::Index;
use super::{IntervalJoin, IntervalJoinSpec, input_schema};
use crate::operator::Operator;
use crate::operators::check::{Step, check};

/// `a.t BETWEEN b.t AND b.t + 10 s`
fn spec(keeps: [bool; 2]) -> IntervalJoinSpec {
    IntervalJoinSpec { keys: 1, columns: [1, 1], least_us: 0, most_us: 10_000_000, keeps, in_order: true }
}

fn input() -> SchemaRef {
    let column = |name: &str| Schema::new(vec![Field::new(name, DataType::Int64, true)]);
    let time = Field::new("t", event_time_type(), false);
    input_schema(&[Field::new("k", DataType::Utf8, true)], &time, [&column("a"), &column("b")])
}

fn join(keeps: [bool; 2]) -> Vec<Box<dyn Operator>> {
    let output = Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Int64, true)]);
    vec![Box::new(IntervalJoin::new(spec(keeps), &input(), Arc::new(output)).unwrap())]
}

fn script() -> Vec<Step> {
    let rows = |csv: &'static str| Step::Rows(input(), csv);
    let watermark = |seconds: i64| Step::Watermark(0, seconds, seconds);
    vec![
        rows(
            "x,1970-01-01T00:00:20Z,true,,1
              x,1970-01-01T00:00:25Z,false,2,
              y,1970-01-01T00:00:26Z,false,3,
              ,1970-01-01T00:00:20Z,false,4,
              ,1970-01-01T00:00:20Z,true,,5",
        ),
        watermark(25),
        watermark(26),
        rows(
            "x,1970-01-01T00:00:30Z,false,6,
              x,1970-01-01T00:00:31Z,false,7,
              y,1970-01-01T00:00:27Z,true,,8
              x,1970-01-01T00:00:30Z,true,,9",
        ),
        watermark(27),
        watermark(40),
        watermark(41),
    ]
}

#[test]
fn pairs_leave_with_the_later_of_their_two() {
    check(
        || join([false, false]),
        &script(),
        "2: 2|1
         5: 6|1
         5: 6|9
         5: 7|9",
    );
}

#[test]
fn rows_without_a_partner_leave_when_none_can_come_any_more() {
    // Of the left that is at once: only earlier rows of the right can be partners.
    check(
        || join([true, true]),
        &script(),
        "1: 4|
         2: 2|1
         4: 3|
         5: |5
         5: 6|1
         5: 6|9
         5: 7|9
         5: |8",
    );
    check(
        || join([false, true]),
        &script(),
        "2: 2|1
         5: |5
         5: 6|1
         5: 6|9
         5: 7|9
         5: |8",
    );
}

#[test]
fn what_no_row_can_meet_any_more_is_forgotten() {
    let mut operator = join([true, true]).remove(0);
    let mut out = crate::operator::Output::default();
    for step in script() {
        match step {
            Step::Rows(schema, csv) => operator.process(crate::operators::check::rows(&schema, csv), &mut out).unwrap(),
            Step::Watermark(input, input_s, merged_s) => {
                let watermark = crate::watermark::Watermark { input, input_us: input_s * 1_000_000, merged_us: merged_s * 1_000_000 };
                let after = operator.on_watermark(watermark, &mut out).unwrap();
                assert_eq!(after.merged_us, (merged_s - 10) * 1_000_000, "rows of the right are handed on up to 10 s after their time");
            }
        }
    }
    assert!(operator.held().keys > 0);
    let late = crate::watermark::Watermark { input: 0, input_us: 60_000_000, merged_us: 60_000_000 };
    operator.on_watermark(late, &mut out).unwrap();
    let held = operator.held();
    assert_eq!((held.keys, held.bytes), (0, 0));
    assert!(operator.snapshot().unwrap().changes.is_empty());
}

#[test]
fn an_index_finds_rows_of_a_key_between_times_until_they_expire() {
    let rows = |rows: &[(i64, i64)]| {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.1)).with_timezone("UTC"));
        RecordBatch::try_from_iter([("k", keys), ("t", times)]).unwrap()
    };
    let mut index = Index::new(1, &rows(&[]).schema()).unwrap();
    index.add(&rows(&[(1, 10), (2, 10), (1, 20)])).unwrap();
    index.add(&rows(&[(1, 20), (1, 30)])).unwrap();
    let found = |index: &Index, from_us: i64, to_us: i64| {
        let keys = index.keys(&rows(&[(1, 0)])).unwrap();
        let found: Vec<_> = index.find(&keys, 0, from_us, to_us).collect();
        let places: Vec<_> = found.iter().map(|(_, place)| *place).collect();
        assert_eq!(index.rows(&places).unwrap().num_rows(), found.len());
        found.into_iter().map(|(time_us, _)| time_us).collect::<Vec<_>>()
    };
    assert_eq!(found(&index, 10, 20), [10, 20, 20]);
    assert_eq!(found(&index, 11, 30), [20, 20, 30]);
    index.expire(20).unwrap();
    assert_eq!(found(&index, 0, 100), [10, 20, 20, 30], "the batch has a row that is needed");
    index.expire(21).unwrap();
    assert_eq!(found(&index, 0, 100), [20, 30]);
    index.expire(31).unwrap();
    assert!(found(&index, 0, 100).is_empty());
    assert_eq!(index.held().bytes, 0);
}

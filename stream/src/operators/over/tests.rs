//! Cases of `OVER`: rows in any order in, results in event-time order out.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, col};
use watershed_dialect::over::Frame;
use watershed_dialect::{session_config, session_state};
use watershed_functions::event_time_type;

use super::frames::{Argument, Function, Kind};
use super::{Over, OverSpec, WindowSpec};
use crate::hidden;
use crate::operator::Operator;
use crate::operators::check::{Saved, Step, check, run, save};
use crate::operators::in_order::InOrder;
use crate::operators::project::Project;

const SECOND_US: i64 = 1_000_000;
const CITY: usize = 0;
const FARE: usize = 1;

fn event_fields() -> Vec<Field> {
    vec![
        Field::new("time", event_time_type(), false),
        Field::new("city", DataType::Utf8, true),
        Field::new("fare", DataType::Float64, true),
    ]
}

fn events() -> SchemaRef {
    hidden::with_hidden(&Schema::new(event_fields()))
}

fn function(kind: Kind, value: usize, frame: Frame, data_type: DataType) -> Function {
    let field = Arc::new(Field::new("result", data_type, true));
    Function { kind, arguments: vec![Argument::Value(value)], filter: None, frame, field }
}

/// As sessions have it.
fn sum() -> Arc<AggregateUDF> {
    session_state(session_config(), None).aggregate_functions()["sum"].clone()
}

fn aggregate(udaf: Arc<AggregateUDF>, column: &str, distinct: bool) -> Kind {
    let argument = vec![col(column, &events()).expect("a column") as Arc<dyn PhysicalExpr>];
    let built = AggregateExprBuilder::new(udaf, argument).schema(events()).alias("result").with_distinct(distinct).build();
    Kind::Aggregate(Arc::new(built.expect("an aggregate")))
}

/// Windows over rows, each with its keys and functions, in one chain that ends without hidden columns.
fn over(windows: &[(Vec<usize>, Vec<Function>)]) -> Vec<Box<dyn Operator>> {
    let values = ["city", "fare"].map(|name| col(name, &events()).expect("a column") as Arc<dyn PhysicalExpr>).to_vec();
    let mut fields = event_fields();
    let mut specs = Vec::new();
    for (keys, functions) in windows {
        let first = fields.len() - event_fields().len();
        fields.extend(functions.iter().enumerate().map(|(i, f)| Field::new(format!("r{}", first + i), f.field.data_type().clone(), true)));
        specs.push(WindowSpec { keys: keys.clone(), functions: functions.clone(), results: (first..first + functions.len()).collect() });
    }
    let value_fields = event_fields()[1..].iter().cloned().map(Arc::new).collect();
    let spec = OverSpec { time_column: 0, values, value_fields, windows: specs };
    let visible = Schema::new(fields);
    let show: Vec<Arc<dyn PhysicalExpr>> =
        visible.fields().iter().enumerate().map(|(i, f)| Arc::new(Column::new(f.name(), i)) as Arc<dyn PhysicalExpr>).collect();
    vec![
        Box::new(InOrder::new(0, events())),
        Box::new(Over::new(Arc::new(spec), &visible, true).expect("the keys can be compared")),
        Box::new(Project::new(show, &visible, false)),
    ]
}

fn back(seconds: i64) -> Frame {
    Frame { from_us: seconds * SECOND_US, to_us: 0 }
}

#[test]
fn rows_leave_in_event_time_order_with_their_peers_counted() {
    let count = function(aggregate(count_udaf(), "fare", false), FARE, back(10), DataType::Int64);
    let sum = function(aggregate(sum(), "fare", false), FARE, back(10), DataType::Float64);
    check(
        || over(&[(vec![CITY], vec![count.clone(), sum.clone()])]),
        &[
            Step::Rows(events(), "1970-01-01T00:00:12Z,rome,4,1,7,-1\n1970-01-01T00:00:01Z,rome,1,1,8,-1\n1970-01-01T00:00:02Z,,16,1,9,-1"),
            // 11 s itself may still come: peers wait for one another.
            Step::Watermark(0, 11, 11),
            Step::Rows(events(), "1970-01-01T00:00:12Z,rome,2,0,3,0\n1970-01-01T00:00:11Z,rome,,0,4,0\n1970-01-01T00:00:12Z,,8,0,5,0"),
            Step::Watermark(0, 13, 13),
        ],
        "1: 1970-01-01T00:00:01Z|rome|1.0|1|1.0
         1: 1970-01-01T00:00:02Z||16.0|1|16.0
         3: 1970-01-01T00:00:11Z|rome||1|1.0
         3: 1970-01-01T00:00:12Z|rome|2.0|2|6.0
         3: 1970-01-01T00:00:12Z||8.0|2|24.0
         3: 1970-01-01T00:00:12Z|rome|4.0|2|6.0",
    );
}

#[test]
fn several_keys_and_frames_stand_side_by_side() {
    let total = function(aggregate(sum(), "fare", false), FARE, back(4), DataType::Float64);
    let cities = function(aggregate(count_udaf(), "city", true), CITY, back(100), DataType::Int64);
    let before = Frame { from_us: 5 * SECOND_US, to_us: 1 };
    let previous = function(Kind::LastValue, FARE, before, DataType::Float64);
    let first = function(Kind::FirstValue, FARE, back(3), DataType::Float64);
    check(
        || over(&[(vec![], vec![total.clone(), cities.clone()]), (vec![CITY], vec![previous.clone(), first.clone()])]),
        &[
            Step::Rows(
                events(),
                "1970-01-01T00:00:01Z,rome,1,0,0,-1\n1970-01-01T00:00:03Z,oslo,2,0,1,-1\n1970-01-01T00:00:04Z,rome,4,0,2,-1",
            ),
            Step::Watermark(0, 5, 5),
            Step::Rows(events(), "1970-01-01T00:00:06Z,rome,8,0,3,-1\n1970-01-01T00:00:30Z,rome,16,0,4,-1"),
            Step::Watermark(0, 60, 60),
        ],
        "1: 1970-01-01T00:00:01Z|rome|1.0|1.0|1||1.0
         1: 1970-01-01T00:00:03Z|oslo|2.0|3.0|2||2.0
         1: 1970-01-01T00:00:04Z|rome|4.0|7.0|2|1.0|1.0
         3: 1970-01-01T00:00:06Z|rome|8.0|14.0|2|4.0|4.0
         3: 1970-01-01T00:00:30Z|rome|16.0|16.0|2||16.0",
    );
}

#[test]
fn sums_of_fractions_are_the_same_to_the_last_digit_after_restarts() {
    // More rows in a frame than are computed from the start each time, so that accumulators slide; 0.1 is no binary fraction.
    let mut script = Vec::new();
    for second in 0..60_u64 {
        let row = |i: u64| {
            let fare = (second * 7 + i * 3) % 11;
            format!("1970-01-01T00:00:{second:02}.{i}Z,rome,0.{fare},0,{},-1\n", second * 10 + i)
        };
        let rows: String = (0..4).map(row).collect();
        script.push(Step::Rows(events(), rows.leak()));
        script.push(Step::Watermark(0, second as i64, second as i64));
    }
    let sum = function(aggregate(sum(), "fare", false), FARE, back(16), DataType::Float64);
    let make = || over(&[(vec![CITY], vec![sum.clone()])]);
    let plain = run(&make, &script, None);
    assert_eq!(plain.len(), 59 * 4);
    assert_eq!(plain, run(&make, &script, Some(1)));
    assert_eq!(plain, run(&make, &script, Some(7)));
}

#[test]
fn what_no_frame_reaches_is_forgotten() {
    let count = function(aggregate(count_udaf(), "fare", false), FARE, back(10), DataType::Int64);
    let mut chain = crate::operator::Chain::new(over(&[(vec![CITY], vec![count])]));
    let mut live = Saved::new();
    for second in 0..200 {
        let csv: &'static str = format!("1970-01-01T00:{:02}:{:02}Z,rome,1,0,{second},-1", second / 60, second % 60).leak();
        let mut out = crate::operator::Output::default();
        chain.process(crate::operators::check::rows(&events(), csv), &mut out).expect("rows are taken");
        let now_us = second * SECOND_US;
        chain
            .on_watermark(crate::watermark::Watermark { input: 0, input_us: now_us, merged_us: now_us }, &mut out)
            .expect("the watermark is taken");
        let (_, over) = chain.operators_mut().nth(1).expect("three operators");
        let delta = over.snapshot().expect("a snapshot is made");
        // A snapshot writes what is new, not the whole history.
        let written: usize = delta.changes.iter().flat_map(|change| &change.rows).map(|rows| rows.num_rows()).sum();
        assert!(written <= 256, "{written} rows at {second} s");
        save(&mut live, delta);
        assert!(live.len() < 12, "{} segments at {second} s", live.len());
    }
}

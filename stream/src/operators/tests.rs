//! Cases of all operators: see [`super::check`].

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::col;
use watershed_dialect::{Expectation, OnViolation, plan_expectation, session_config, session_state};
use watershed_functions::event_time_type;
use watershed_functions::window::{WindowKind, window_fields};

use super::aggregate_final::{AggregateFinal, Part};
use super::aggregate_partial::{AggregatePartial, AggregatePartialSpec};
use super::assign_windows::AssignWindows;
use super::check::{self, Step, check};
use super::deduplicate::Deduplicate;
use super::expect::{Expect, ExpectSpec};
use super::group_table::{Aggregate, GroupSpec, WHOLE_GROUPS_MAX};
use super::late::{Deadline, Late};
use crate::hidden::{self, SourceNames};
use crate::operator::{Chain, Operator, Output, StateSnapshot};
use crate::watermark::Watermark;

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

fn rides() -> SourceNames {
    SourceNames::new(["rides".to_owned()])
}

fn windowed() -> Schema {
    let mut fields: Vec<_> = event_fields().into_iter().map(Arc::new).collect();
    fields.extend(window_fields());
    Schema::new(fields)
}

/// `SELECT window_end, city, sum(fare), first_value(fare) … GROUP BY window_start, window_end, city`, both halves in one chain.
fn windowed_sum(kind: WindowKind, slot_per_partition: bool) -> Vec<Box<dyn Operator>> {
    let input = hidden::with_hidden(&windowed());
    let fare = || vec![col("fare", &input).expect("fare is a column") as Arc<dyn PhysicalExpr>];
    let sum = AggregateExprBuilder::new(sum_udaf(), fare()).schema(input.clone()).alias("sum").build().expect("sum is an aggregate");
    let first =
        AggregateExprBuilder::new(first_value_udaf(), fare()).schema(input.clone()).alias("first").build().expect("first is one too");
    let groups = Arc::new(GroupSpec {
        keys: vec![Arc::new(Field::new("city", DataType::Utf8, true))],
        aggregates: [sum, first].into_iter().map(|f| Aggregate { function: Arc::new(f), filter: None }).collect(),
    });
    let partial = AggregatePartialSpec {
        window_start: 3,
        window_end: 4,
        keys: vec![col("city", &input).expect("city is a column")],
        groups: groups.clone(),
        slot_per_partition,
        slot: 0,
    };
    let result = Schema::new(vec![
        Field::new("window_end", event_time_type(), false),
        Field::new("city", DataType::Utf8, true),
        Field::new("sum", DataType::Float64, true),
        Field::new("first", DataType::Float64, true),
    ]);
    let layout = vec![Part::WindowEnd, Part::Key(0), Part::Result(0), Part::Result(1)];
    vec![
        Box::new(AssignWindows::new(kind, 0, &windowed(), true)),
        Box::new(Late::new(4, Deadline::At, input, rides())),
        Box::new(AggregatePartial::new(partial).expect("the aggregates have states")),
        Box::new(AggregateFinal::new(groups, layout, result.into()).expect("the aggregates have states")),
    ]
}

const TUMBLE_10_S: WindowKind = WindowKind::Tumble { size_us: 10_000_000, offset_us: 0 };

#[test]
fn a_window_closes_when_the_watermark_reaches_its_end() {
    check(
        || windowed_sum(TUMBLE_10_S, false),
        &[
            Step::Rows(
                events(),
                "1970-01-01T00:00:01Z,rome,1.5,0,0,-1\n1970-01-01T00:00:11Z,rome,4,0,1,0\n1970-01-01T00:00:02Z,oslo,2,0,2,0",
            ),
            Step::Watermark(0, 9, 9),
            Step::Rows(events(), "1970-01-01T00:00:09Z,rome,1,0,3,9000000"),
            Step::Watermark(0, 10, 10),
            Step::Watermark(0, 20, 20),
        ],
        "3: 1970-01-01T00:00:10Z|rome|2.5|1.5
         3: 1970-01-01T00:00:10Z|oslo|2.0|2.0
         4: 1970-01-01T00:00:20Z|rome|4.0|4.0",
    );
}

#[test]
fn a_row_is_late_by_its_own_partitions_watermark_only() {
    check(
        || windowed_sum(TUMBLE_10_S, true),
        &[
            Step::Rows(events(), "1970-01-01T00:00:01Z,rome,1,0,0,-1"),
            Step::Watermark(0, 10, i64::MIN / 1_000_000),
            Step::Rows(events(), "1970-01-01T00:00:02Z,rome,2,1,7,-1"),
            Step::Rows(events(), "1970-01-01T00:00:03Z,rome,4,0,1,10000000\n1970-01-01T00:00:13Z,rome,8,0,2,10000000"),
            Step::Watermark(1, 30, 10),
        ],
        "3 late: 1970-01-01T00:00:03Z|rome|4.0|1970-01-01T00:00:00Z|1970-01-01T00:00:10Z|1970-01-01T00:00:09.999999Z|0|1|1970-01-01T00:00:10Z
         4: 1970-01-01T00:00:10Z|rome|3.0|1.0",
    );
}

#[test]
fn partials_merge_in_partition_order_whoever_closes_first() {
    let first = [
        Step::Rows(events(), "1970-01-01T00:00:01Z,rome,0.1,0,0,-1"),
        Step::Rows(events(), "1970-01-01T00:00:01Z,rome,0.2,1,0,-1"),
        Step::Watermark(0, 10, 5),
        Step::Watermark(1, 10, 10),
    ];
    let second = [
        Step::Rows(events(), "1970-01-01T00:00:01Z,rome,0.2,1,0,-1"),
        Step::Watermark(1, 10, 5),
        Step::Rows(events(), "1970-01-01T00:00:01Z,rome,0.1,0,0,-1"),
        Step::Watermark(0, 10, 10),
    ];
    let expected = "3: 1970-01-01T00:00:10Z|rome|0.30000000000000004|0.1";
    check(|| windowed_sum(TUMBLE_10_S, true), &first, expected);
    check(|| windowed_sum(TUMBLE_10_S, true), &second, expected);
}

/// One row of each of the cities, of the same time.
fn of_cities(cities: impl Iterator<Item = u64>, number: u64) -> Step {
    let row = |city: u64| format!("1970-01-01T00:00:01Z,city {city},0.{},0,{number},-1\n", 1 + (city + number) % 9);
    Step::Rows(events(), cities.map(row).collect::<String>().leak())
}

#[test]
fn groups_that_rest_between_snapshots_come_to_the_same_results() {
    let many = WHOLE_GROUPS_MAX as u64 + 500;
    let mut script = vec![of_cities(0..many, 0)];
    for number in 1..12 {
        // Some that are known, some twice, some that are new.
        script.push(of_cities((0..40).map(|i| (i * i * number) % 300).chain(many + number * 3..many + number * 3 + 5), number));
    }
    script.push(Step::Watermark(0, 10, 10));
    let make = || windowed_sum(TUMBLE_10_S, true);
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    let plain = sorted(check::run(&make, &script, None));
    assert_eq!(plain.len(), many as usize + 35);
    for steps in [1, 2, 5, 100] {
        assert_eq!(sorted(check::run(&make, &script, Some(steps))), plain, "restored after each {steps}");
    }
}

#[test]
fn a_snapshot_writes_the_groups_that_rows_came_for() {
    let many = 3 * WHOLE_GROUPS_MAX as u64;
    let mut chain = Chain::new(windowed_sum(TUMBLE_10_S, true));
    let mut saved = check::Saved::new();
    let mut rows = Vec::new();
    for number in 0..40 {
        let cities = if number == 0 { 0..many } else { number * 200..number * 200 + 100 };
        let Step::Rows(schema, csv) = of_cities(cities, number) else { unreachable!("a step of rows") };
        chain.process(check::rows(&schema, csv), &mut Output::default()).expect("rows are taken");
        let (_, partial) = chain.operators_mut().nth(2).expect("four operators");
        let delta = partial.snapshot().expect("a snapshot is made");
        rows.push(delta.changes.iter().flat_map(|change| &change.rows).map(|rows| rows.num_rows()).sum::<usize>());
        check::save(&mut saved, delta);
    }
    assert_eq!((rows[0], rows[1], rows[2]), (many as usize, 100, 200));
    assert!(rows[1..].iter().all(|rows| (100..=4_096).contains(rows)), "{rows:?}");
    assert!(rows[1..].iter().sum::<usize>() < 30_000, "{rows:?}");
    assert!(saved["0-10000000/0"].len() <= 8, "{} pieces", saved["0-10000000/0"].len());
}

/// Sums of BIGINT were kept as such before they were kept wide.
#[test]
fn sums_that_an_earlier_version_kept_go_on() {
    let input = hidden::with_hidden(&Schema::new(
        [vec![Field::new("n", DataType::Int64, true)], window_fields().iter().map(|field| field.as_ref().clone()).collect()].concat(),
    ));
    let sum = session_state(session_config(), None).aggregate_functions()["sum"].clone();
    let number = vec![col("n", &input).expect("n is a column") as Arc<dyn PhysicalExpr>];
    let sum = AggregateExprBuilder::new(sum, number).schema(input.clone()).alias("sum").build().expect("sum is an aggregate");
    let groups = Arc::new(GroupSpec { keys: vec![], aggregates: vec![Aggregate { function: Arc::new(sum), filter: None }] });
    let kept = |value: i64| {
        let time = |us| Arc::new(TimestampMicrosecondArray::from(vec![us]).with_timezone("UTC")) as ArrayRef;
        let columns: [(&str, ArrayRef); 4] = [
            ("window_start", time(0)),
            ("window_end", time(10_000_000)),
            ("__slot", Arc::new(Int32Array::from(vec![0]))),
            ("state_0_0", Arc::new(Int64Array::from(vec![value]))),
        ];
        StateSnapshot { segments: vec![("0-10000000".to_owned(), vec![RecordBatch::try_from_iter(columns).expect("a batch")])] }
    };
    let spec =
        AggregatePartialSpec { window_start: 1, window_end: 2, keys: vec![], groups: groups.clone(), slot_per_partition: false, slot: 0 };
    let mut partial = AggregatePartial::new(spec).expect("sums have states");
    partial.restore(kept(i64::MAX)).expect("it is taken back");
    let result = Schema::new(vec![Field::new("sum", DataType::Int64, true)]);
    let mut last = AggregateFinal::new(groups, vec![Part::Result(0)], result.into()).expect("sums have states");
    last.restore(kept(-5)).expect("it is taken back");
    let closed = Watermark { input: 0, input_us: 10_000_000, merged_us: 10_000_000 };
    let mut partials = Output::default();
    partial.on_watermark(closed, &mut partials).expect("the window closes");
    let mut results = Output::default();
    for rows in partials.rows {
        last.process(rows, &mut results).expect("it is taken");
    }
    // Both kinds are in one segment.
    assert_eq!(last.snapshot().expect("a snapshot").changes.len(), 1);
    last.on_watermark(closed, &mut results).expect("the window closes");
    assert_eq!(results.rows[0].column(0).as_ref(), &Int64Array::from(vec![i64::MAX - 5]));
}

#[test]
fn hop_counts_a_row_in_each_of_its_windows_and_is_late_for_each_by_itself() {
    let hop = WindowKind::Hop { size_us: 10_000_000, slide_us: 5_000_000, offset_us: 0 };
    check(
        || windowed_sum(hop, false),
        &[
            Step::Rows(events(), "1970-01-01T00:00:07Z,rome,1,0,0,-1"),
            Step::Watermark(0, 10, 10),
            Step::Rows(events(), "1970-01-01T00:00:08Z,rome,2,0,1,10000000"),
            Step::Watermark(0, 15, 15),
        ],
        "1: 1970-01-01T00:00:10Z|rome|1.0|1.0
         2 late: 1970-01-01T00:00:08Z|rome|2.0|1970-01-01T00:00:00Z|1970-01-01T00:00:10Z|1970-01-01T00:00:09.999999Z|0|1|1970-01-01T00:00:10Z
         3: 1970-01-01T00:00:15Z|rome|3.0|1.0",
    );
}

fn deduplicated() -> Vec<Box<dyn Operator>> {
    vec![Box::new(Deduplicate::new(vec![1], 0, 10_000_000, Schema::new(event_fields()).into()).expect("the columns can be ordered"))]
}

fn plain_events() -> SchemaRef {
    Schema::new(event_fields()).into()
}

#[test]
fn the_first_in_event_time_stays_whatever_came_first() {
    check(
        deduplicated,
        &[
            Step::Rows(
                plain_events(),
                "1970-01-01T00:00:05Z,a,2\n1970-01-01T00:00:01Z,a,1\n1970-01-01T00:00:05Z,b,3\n1970-01-01T00:00:05Z,b,2",
            ),
            Step::Watermark(0, 6, 6),
            // Seen 10 s ago counts, also by a row that was itself dropped; 10 s and a bit does not.
            Step::Rows(plain_events(), "1970-01-01T00:00:15Z,a,4\n1970-01-01T00:00:15.000001Z,b,5"),
            Step::Watermark(0, 16, 16),
        ],
        "1: 1970-01-01T00:00:01Z|a|1.0
         1: 1970-01-01T00:00:05Z|b|2.0
         3: 1970-01-01T00:00:15.000001Z|b|5.0",
    );
}

#[test]
fn rows_the_watermark_has_not_passed_wait_through_a_restart() {
    check(
        deduplicated,
        &[
            Step::Rows(plain_events(), "1970-01-01T00:00:05Z,a,2\n1970-01-01T00:00:09Z,c,1"),
            Step::Watermark(0, 6, 6),
            Step::Rows(plain_events(), "1970-01-01T00:00:08Z,a,7\n1970-01-01T00:00:08Z,c,7"),
            Step::Watermark(0, 60, 60),
        ],
        "1: 1970-01-01T00:00:05Z|a|2.0
         3: 1970-01-01T00:00:08Z|c|7.0",
    );
}

/// Expectations over (time, city, fare); `FAIL` for a fare of 13.
fn expectations() -> Vec<Box<dyn Operator>> {
    let rules = [
        ("known_city", "city IS NOT NULL", OnViolation::Warn),
        ("not_negative", "fare >= 0", OnViolation::DropRow),
        ("plausible", "fare < 100 OR fare IS NULL", OnViolation::Quarantine),
        ("lucky", "fare IS DISTINCT FROM 13", OnViolation::Fail),
    ];
    let state = session_state(session_config(), None);
    let result: SchemaRef = Schema::new(event_fields()).into();
    let planned = rules.map(|(name, predicate, action)| {
        let rule = Expectation { name: name.into(), predicate: predicate.into(), action, line: 1, column: 1 };
        let predicate = plan_expectation(&state, &rule, &result).expect("the predicate is planned");
        (rule, predicate)
    });
    let spec = ExpectSpec { table: "silver.rides".into(), rules: planned.into(), result, sources: rides() };
    vec![Box::new(Expect::new(Arc::new(spec), events()))]
}

#[test]
fn rows_are_held_to_expectations_and_counted() {
    check(
        expectations,
        &[
            Step::Rows(
                events(),
                "2024-01-01T00:00:01Z,Lima,5,0,1,0
                 2024-01-01T00:00:02Z,,7,0,2,0
                 2024-01-01T00:00:03Z,Lima,-1,0,3,0
                 2024-01-01T00:00:04Z,,,0,4,0
                 2024-01-01T00:00:05Z,,200,0,5,0",
            ),
            Step::Rows(events(), "2024-01-01T00:00:06Z,Lima,8,1,9,0"),
        ],
        "0: 2024-01-01T00:00:01Z|Lima|5.0|0|1|0
         0: 2024-01-01T00:00:02Z||7.0|0|2|0
         0 violating: 2024-01-01T00:00:05Z||200.0|[known_city, plausible]|0|5
         0 met: 2/5 3/5 4/5 5/5, dropped: 2
         1: 2024-01-01T00:00:06Z|Lima|8.0|1|9|0
         1 met: 1/1 1/1 1/1 1/1, dropped: 0",
    );
}

#[test]
fn a_row_that_is_both_dropped_and_quarantined_is_kept_aside() {
    let rules = [("small", "fare < 10", OnViolation::DropRow), ("odd", "fare % 2 = 1", OnViolation::Quarantine)];
    let state = session_state(session_config(), None);
    let make = || -> Vec<Box<dyn Operator>> {
        let result: SchemaRef = Schema::new(event_fields()).into();
        let planned = rules.map(|(name, predicate, action)| {
            let rule = Expectation { name: name.into(), predicate: predicate.into(), action, line: 1, column: 1 };
            let predicate = plan_expectation(&state, &rule, &result).expect("the predicate is planned");
            (rule, predicate)
        });
        let spec = ExpectSpec { table: "silver.rides".into(), rules: planned.into(), result: result.clone(), sources: rides() };
        vec![Box::new(Expect::new(Arc::new(spec), result))]
    };
    let plain: SchemaRef = Schema::new(event_fields()).into();
    check(
        make,
        &[Step::Rows(
            plain,
            "2024-01-01T00:00:01Z,a,12
             2024-01-01T00:00:02Z,b,11",
        )],
        // After an exchange no single message made the row: it has no place.
        "0 violating: 2024-01-01T00:00:01Z|a|12.0|[small, odd]||
         0 met: 0/2 1/2, dropped: 1",
    );
}

#[test]
fn fail_names_the_row_and_the_way_out() {
    let mut chain = Chain::new(expectations());
    let rows = check::rows(&events(), "2024-01-01T00:00:01Z,Lima,5,0,1,0\n2024-01-01T00:00:02Z,Lima,13,2,77,0");
    let said = chain.process(rows, &mut Output::default()).expect_err("a row violates an expectation").to_string();
    for part in ["constraint lucky", "fare IS DISTINCT FROM 13", "partition 2, offset 77", "city=Lima, fare=13.0", "QUARANTINE"] {
        assert!(said.contains(part), "{part} in: {said}");
    }
}

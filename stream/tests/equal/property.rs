//! Random rows in random order, cut and restarted at random, through every operator: the answer is that of DataFusion over the rows
//! that were in time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use proptest::prelude::*;
use watershed_stream::operator::Tally;
use watershed_stream::{Blueprint, Project};

use crate::batch::{self, lines};
use crate::driver::{Driver, Given, Tasks};

const SOURCE: &str = "
CREATE SOURCE trips (
    id BIGINT NOT NULL, time TIMESTAMP NOT NULL, city VARCHAR, seats BIGINT, fare DECIMAL(10, 2),
    WATERMARK FOR time AS time - INTERVAL '5 seconds'
) WITH (connector = 'kafka', topic = 'trips', format = 'json');
CREATE STREAMING TABLE out.t AS ";
const DELAY_US: i64 = 5_000_000;

/// When a row of a query is too late, in terms of its own time and the watermark before it.
#[derive(Clone, Copy)]
pub enum LateIf {
    Never,
    WindowClosed { size_us: i64 },
    Behind,
}

impl LateIf {
    /// Whether a row of this time is too late once the watermark has come so far.
    pub fn is_late(self, time_us: i64, watermark_us: i64) -> bool {
        match self {
            LateIf::Never => false,
            LateIf::Behind => time_us < watermark_us,
            LateIf::WindowClosed { size_us } => (time_us.div_euclid(size_us) + 1) * size_us <= watermark_us,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Row {
    pub id: i64,
    pub time_us: i64,
    pub city: Option<String>,
    pub seats: Option<i64>,
    pub fare: Option<i128>,
    pub partition: i32,
    /// Where there are two sources: which it is of.
    pub source: usize,
}

/// One way to run: how rows are cut, on how many tasks, and when everything is torn down and restored.
#[derive(Debug, Clone)]
pub struct Run {
    pub rows: Vec<Row>,
    pub local_tasks: usize,
    pub keyed_tasks: usize,
    /// Rows a batch.
    pub cuts: Vec<usize>,
    /// What happens before each batch.
    pub restarts: Vec<Restart>,
}

#[derive(Debug, Clone, Copy)]
pub enum Restart {
    No,
    Checkpoint,
    Crash,
}

/// How many rows have the same time.
#[derive(Debug, Clone, Copy)]
pub enum Ties {
    None,
    Few,
    Many,
}

fn rows(spread_us: i64, ties: Ties) -> impl Strategy<Value = Vec<Row>> {
    let row = (-spread_us..=0, prop::option::of("[abc]"), prop::option::of(0..9_i64), prop::option::of(0..9999_i128), 0..3_i32, 0..2_usize);
    prop::collection::vec(row, 1..80).prop_map(move |drawn| {
        let step = 60_000_000 / drawn.len() as i64;
        let mut rows = Vec::with_capacity(drawn.len());
        for (jitter_us, city, seats, fare, partition, source) in drawn {
            let i = rows.len() as i64;
            let time_us = i * step + jitter_us;
            let time_us = match ties {
                Ties::None => time_us / 1_000 * 1_000 + i,
                Ties::Few => time_us / 1_000 * 1_000,
                Ties::Many => time_us / 2_000_000 * 2_000_000,
            };
            rows.push(Row { id: i / 2, time_us, city, seats, fare, partition, source });
        }
        rows
    })
}

pub fn runs(spread_us: i64, ties: Ties) -> impl Strategy<Value = Run> {
    let restart = prop_oneof![4 => Just(Restart::No), 1 => Just(Restart::Checkpoint), 1 => Just(Restart::Crash)];
    (rows(spread_us, ties), 1..4_usize, 1..4_usize, prop::collection::vec(1..12_usize, 80), prop::collection::vec(restart, 80))
        .prop_map(|(rows, local_tasks, keyed_tasks, cuts, restarts)| Run { rows, local_tasks, keyed_tasks, cuts, restarts })
}

fn batch_of(rows: &[Row], schema: &SchemaRef) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.id))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.time_us)).with_timezone("UTC")),
        Arc::new(rows.iter().map(|r| r.city.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| r.seats).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.fare).collect::<Decimal128Array>().with_precision_and_scale(10, 2).expect("fits")),
    ];
    RecordBatch::try_new(schema.clone(), columns).expect("the columns are those of the source")
}

/// Feeds all rows of a run, with its cuts and restarts, and closes everything.
fn run_all(blueprint: &Blueprint, run: &Run, source: &SchemaRef) -> Given {
    let tasks = Tasks { local: run.local_tasks, keyed: run.keyed_tasks };
    let mut driver = Driver::new(blueprint, tasks, 3);
    let mut offsets = [0_i64; 3];
    let mut at = 0;
    // What was fed since the last checkpoint: partition, rows, offsets.
    let mut since: Vec<(i32, RecordBatch, Int64Array)> = Vec::new();
    for (cut, restart) in run.cuts.iter().zip(&run.restarts) {
        if at >= run.rows.len() {
            break;
        }
        match restart {
            Restart::No => {}
            Restart::Checkpoint => {
                driver.checkpoint();
                since.clear();
            }
            Restart::Crash => {
                driver.crash();
                since.iter().for_each(|(partition, rows, offsets)| driver.take(*partition, rows.clone(), offsets.clone()));
            }
        }
        let end = (at + cut).min(run.rows.len());
        for partition in 0..3 {
            let part: Vec<Row> = run.rows[at..end].iter().filter(|r| r.partition == partition).cloned().collect();
            let next = &mut offsets[partition as usize];
            let part_offsets = Int64Array::from_iter_values((0..part.len() as i64).map(|i| *next + i));
            *next += part.len() as i64;
            let rows = batch_of(&part, source).project(&blueprint.sources[0].wanted).expect("wanted columns");
            driver.take(partition, rows.clone(), part_offsets.clone());
            since.push((partition, rows, part_offsets));
        }
        at = end;
    }
    assert_eq!(at, run.rows.len(), "all rows were fed");
    driver.finish()
}

/// The rows that are in time for a query, and how many are not.
fn in_time(rows: &[Row], late_if: LateIf) -> (Vec<Row>, usize) {
    let mut watermarks = BTreeMap::new();
    let mut kept = Vec::new();
    for row in rows {
        let watermark: &mut i64 = watermarks.entry(row.partition).or_insert(i64::MIN);
        let late = late_if.is_late(row.time_us, *watermark);
        *watermark = (*watermark).max(row.time_us - DELAY_US);
        if !late {
            kept.push(row.clone());
        }
    }
    let late = rows.len() - kept.len();
    (kept, late)
}

fn check(query: &str, late_if: LateIf, run: &Run) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let project = Project::parse([format!("{SOURCE}{query}").as_str()]).expect("the project parses");
    let table = project.tables.values().next().expect("one table");
    let blueprint = runtime.block_on(project.plan(table)).expect("the query runs as a stream");
    let source = blueprint.sources[0].definition.schema();
    let given = run_all(&blueprint, run, &source);
    let (kept, late) = in_time(&run.rows, late_if);
    let expected = runtime.block_on(batch::result(query, &[("trips", batch_of(&kept, &source))], &blueprint.schema));
    prop_assert_eq!(given.late.iter().map(RecordBatch::num_rows).sum::<usize>(), late, "late rows of {}", query);
    prop_assert_eq!(lines(&given.rows), lines(&expected), "{}", query);
    if matches!(late_if, LateIf::Behind) && !query.contains("GROUP BY") {
        let out: usize = given.rows.iter().map(RecordBatch::num_rows).sum();
        prop_assert_eq!(out + late + given.deduplicated as usize, run.rows.len(), "no row is lost");
    }
    Ok(())
}

/// A constraint that drops rows leaves those that WHERE over the result would, and counts each once.
fn check_constraint(query: &str, predicate: &str, late_if: LateIf, run: &Run) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let head = SOURCE.replace("out.t AS", &format!("out.t (CONSTRAINT c EXPECT ({predicate}) ON VIOLATION DROP ROW) AS"));
    let project = Project::parse([format!("{head}{query}").as_str()]).expect("the project parses");
    let blueprint = runtime.block_on(project.plan(project.tables.values().next().expect("one table"))).expect("planned");
    let source = blueprint.sources[0].definition.schema();
    let given = run_all(&blueprint, run, &source);
    let (rows, _) = in_time(&run.rows, late_if);
    let result = |query: &str| runtime.block_on(batch::result(query, &[("trips", batch_of(&rows, &source))], &blueprint.schema));
    let (all, kept) = (lines(&result(query)), lines(&result(&format!("SELECT * FROM ({query}) WHERE {predicate}"))));
    prop_assert_eq!(lines(&given.rows), &kept[..], "{} where {}", query, predicate);
    let (passed, failed) = (kept.len() as u64, (all.len() - kept.len()) as u64);
    prop_assert_eq!(given.dropped, failed);
    prop_assert_eq!(given.tallies.first().copied().unwrap_or_default(), Tally { passed, failed });
    Ok(())
}

/// Rows up to 20 s out of order: some are late. Restarts, cuts, tasks and partitions vary.
fn disordered() -> impl Strategy<Value = Run> {
    runs(20_000_000, Ties::Few)
}

/// Rows at most 5 s out of order, the declared delay: none is late.
fn orderly() -> impl Strategy<Value = Run> {
    runs(4_900_000, Ties::Few)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn row_by_row(run in disordered()) {
        check("SELECT id, upper(city) AS city, fare * 2 AS twice FROM trips WHERE seats > 2 OR seats IS NULL", LateIf::Never, &run)?;
    }

    #[test]
    fn tumble(run in disordered()) {
        let late_if = LateIf::WindowClosed { size_us: 10_000_000 };
        check(
            "SELECT window_start, window_end, city, count(*) AS n, count(seats) FILTER (WHERE seats > 3) AS big, sum(fare) AS fares, \
             avg(seats) AS seats, min(id) AS first_id, max(time) AS last, count(DISTINCT seats) AS kinds, \
             approx_distinct(id) AS ids \
             FROM TUMBLE(TABLE trips, DESCRIPTOR(time), INTERVAL '10 seconds') GROUP BY window_start, window_end, city",
            late_if,
            &run,
        )?;
        check(
            "SELECT CAST(window_start AS DATE) AS day, n + 1 AS m FROM (SELECT window_start, count(*) AS n FROM \
             TUMBLE(TABLE trips, DESCRIPTOR(time), INTERVAL '10 seconds') GROUP BY window_start) WHERE n > 1",
            late_if,
            &run,
        )?;
    }

    #[test]
    fn hop_and_cumulate(run in orderly()) {
        check(
            "SELECT window_start, window_end, city, count(*) AS n, sum(fare) AS fares \
             FROM HOP(TABLE trips, DESCRIPTOR(time), INTERVAL '3 seconds', INTERVAL '10 seconds') GROUP BY window_start, window_end, city",
            LateIf::Never,
            &run,
        )?;
        check(
            "SELECT window_end, count(*) AS n, max(seats) AS most \
             FROM CUMULATE(TABLE trips, DESCRIPTOR(time), INTERVAL '5 seconds', INTERVAL '20 seconds') GROUP BY window_start, window_end",
            LateIf::Never,
            &run,
        )?;
    }

    #[test]
    fn constraints(run in disordered()) {
        check_constraint("SELECT id, upper(city) AS city, seats FROM trips", "seats > 2 OR city = 'A'", LateIf::Never, &run)?;
        check_constraint(
            "SELECT window_start, city, count(*) AS n FROM TUMBLE(TABLE trips, DESCRIPTOR(time), INTERVAL '10 seconds') \
             GROUP BY window_start, window_end, city",
            "n > 1 AND city <> 'a'",
            LateIf::WindowClosed { size_us: 10_000_000 },
            &run,
        )?;
    }

    #[test]
    fn deduplicate(run in disordered()) {
        check(
            "SELECT * FROM DEDUPLICATE(TABLE trips PARTITION BY city, seats, DESCRIPTOR(time), INTERVAL '7 seconds')",
            LateIf::Behind,
            &run,
        )?;
    }

    #[test]
    fn over_with_peers(run in runs(20_000_000, Ties::Many)) {
        // One key: several tasks. Frames of all rows hold more than are computed from the start each time, so accumulators slide.
        check(
            "SELECT id, time, city, count(*) OVER near AS n, sum(fare) OVER near AS fares, avg(fare) OVER far AS fare, min(seats) OVER far AS least, \
             max(id) OVER near AS last_id, count(DISTINCT seats) OVER far AS kinds, count(*) FILTER (WHERE seats > 3) OVER far AS big, \
             sum(CAST(seats AS DOUBLE)) OVER far AS seats FROM trips \
             WINDOW near AS (PARTITION BY city ORDER BY time RANGE BETWEEN INTERVAL '7 seconds' PRECEDING AND CURRENT ROW), \
             far AS (PARTITION BY city ORDER BY time RANGE BETWEEN INTERVAL '40 seconds' PRECEDING AND CURRENT ROW)",
            LateIf::Behind,
            &run,
        )?;
        // Several keys, and none.
        check(
            "SELECT id, time, fare, count(DISTINCT city) OVER s AS cities, count(*) OVER cs AS n, sum(fare) OVER w AS fares, min(fare) OVER w AS least, \
             count(DISTINCT seats) OVER w AS kinds, avg(seats) OVER w AS seats, sum(CAST(seats AS DOUBLE)) FILTER (WHERE city <> 'a') OVER w AS others \
             FROM trips WINDOW s AS (PARTITION BY seats ORDER BY time RANGE BETWEEN INTERVAL '15 seconds' PRECEDING AND CURRENT ROW), \
             cs AS (PARTITION BY upper(city), seats ORDER BY time RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND INTERVAL '1 second' PRECEDING), \
             w AS (ORDER BY time RANGE BETWEEN INTERVAL '30 seconds' PRECEDING AND CURRENT ROW)",
            LateIf::Behind,
            &run,
        )?;
    }

    #[test]
    fn over_one_row_at_a_time(run in runs(20_000_000, Ties::None)) {
        check(
            "SELECT id, time, last_value(fare) OVER before AS previous, first_value(id) OVER w AS first_id, last_value(id) OVER w AS same, \
             last_value(time) OVER before AS previous_time, 2 * count(*) OVER before AS twice FROM trips \
             WINDOW before AS (PARTITION BY city ORDER BY time RANGE BETWEEN INTERVAL '20 seconds' PRECEDING AND INTERVAL '1 microsecond' PRECEDING), \
             w AS (PARTITION BY city ORDER BY time RANGE BETWEEN INTERVAL '20 seconds' PRECEDING AND CURRENT ROW)",
            LateIf::Behind,
            &run,
        )?;
        // Results of one are rows of another, then of a window.
        check(
            "SELECT id, n, sum(n) OVER (PARTITION BY seats ORDER BY time RANGE BETWEEN INTERVAL '10 seconds' PRECEDING AND CURRENT ROW) AS total \
             FROM (SELECT *, count(*) OVER (PARTITION BY city ORDER BY time RANGE BETWEEN INTERVAL '10 seconds' PRECEDING AND CURRENT ROW) AS n \
             FROM trips)",
            LateIf::Behind,
            &run,
        )?;
        check(
            "SELECT window_start, max(n) AS most FROM TUMBLE(TABLE (SELECT time, n FROM (SELECT time, count(*) OVER (PARTITION BY city ORDER BY time \
             RANGE BETWEEN INTERVAL '10 seconds' PRECEDING AND CURRENT ROW) AS n FROM trips) WHERE n > 1), DESCRIPTOR(time), INTERVAL '10 seconds') \
             GROUP BY window_start, window_end",
            LateIf::Behind,
            &run,
        )?;
    }

    #[test]
    fn over_deduplicated_rows(run in disordered()) {
        check(
            "SELECT id, time, city, count(*) OVER w AS n, sum(fare) OVER w AS fares FROM \
             DEDUPLICATE(TABLE trips PARTITION BY id, DESCRIPTOR(time), INTERVAL '30 seconds') \
             WINDOW w AS (PARTITION BY city ORDER BY time RANGE BETWEEN INTERVAL '20 seconds' PRECEDING AND CURRENT ROW)",
            LateIf::Behind,
            &run,
        )?;
    }

    #[test]
    fn deduplicated_rows_by_other_keys(run in disordered()) {
        check(
            "SELECT id, time, seats FROM DEDUPLICATE(TABLE (SELECT id, time, seats, city, count(*) OVER (PARTITION BY city ORDER BY time \
             RANGE BETWEEN INTERVAL '5 seconds' PRECEDING AND CURRENT ROW) AS n FROM DEDUPLICATE(TABLE trips PARTITION BY id, DESCRIPTOR(time), \
             INTERVAL '30 seconds')) PARTITION BY seats, DESCRIPTOR(time), INTERVAL '2 seconds')",
            LateIf::Behind,
            &run,
        )?;
        // Rows of a city are in one task from the first step to the last.
        check(
            "SELECT window_start, city, max(n) AS most FROM TUMBLE(TABLE (SELECT city, time, count(*) OVER (PARTITION BY city, seats ORDER BY time \
             RANGE BETWEEN INTERVAL '5 seconds' PRECEDING AND CURRENT ROW) AS n FROM DEDUPLICATE(TABLE trips PARTITION BY city, DESCRIPTOR(time), \
             INTERVAL '1 second')), DESCRIPTOR(time), INTERVAL '10 seconds') GROUP BY window_start, window_end, city",
            LateIf::Behind,
            &run,
        )?;
    }

    #[test]
    fn group_by_over_group_by(run in disordered()) {
        let late_if = LateIf::WindowClosed { size_us: 10_000_000 };
        let inner = "SELECT window_start, window_end, city, seats, count(*) AS n, sum(fare) AS fares \
             FROM TUMBLE(TABLE trips, DESCRIPTOR(time), INTERVAL '10 seconds') GROUP BY window_start, window_end, city, seats";
        check(
            &format!(
                "SELECT window_start, count(*) AS groups, max(n) AS most, sum(fares) AS fares, avg(n) AS mean FROM ({inner}) \
                 GROUP BY window_start, window_end"
            ),
            late_if,
            &run,
        )?;
        check(
            &format!(
                "SELECT cities, count(*) AS n FROM (SELECT window_end, seats, count(DISTINCT city) AS cities FROM ({inner}) WHERE n < 3 \
                 GROUP BY window_start, window_end, seats) GROUP BY window_end, cities"
            ),
            late_if,
            &run,
        )?;
    }

    #[test]
    fn windows_over_windows(run in disordered()) {
        for time in ["window_start", "window_end", "window_time"] {
            let inner = format!(
                "SELECT {time} AS t, city, seats, count(*) AS n, sum(fare) AS fares FROM \
                 TUMBLE(TABLE trips, DESCRIPTOR(time), INTERVAL '4 seconds') GROUP BY window_start, window_end, window_time, city, seats"
            );
            check(
                &format!(
                    "SELECT window_start, window_end, city, count(*) AS rows, max(n) AS most, sum(fares) AS fares FROM \
                     HOP(TABLE ({inner}), DESCRIPTOR(t), INTERVAL '6 seconds', INTERVAL '18 seconds') GROUP BY window_start, window_end, city"
                ),
                LateIf::WindowClosed { size_us: 4_000_000 },
                &run,
            )?;
        }
    }

    #[test]
    fn windows_over_windows_that_overlap(run in orderly()) {
        for window in ["HOP(TABLE trips, DESCRIPTOR(time), INTERVAL '3 seconds', INTERVAL '10 seconds')",
            "CUMULATE(TABLE trips, DESCRIPTOR(time), INTERVAL '3 seconds', INTERVAL '12 seconds')"]
        {
            for time in ["window_start", "window_end"] {
                let inner = format!("SELECT {time} AS t, city, count(*) AS n FROM {window} GROUP BY window_start, window_end, city");
                check(
                    &format!(
                        "SELECT window_end, sum(n) AS n, count(*) AS windows FROM TUMBLE(TABLE ({inner}), DESCRIPTOR(t), INTERVAL '15 seconds') \
                         GROUP BY window_start, window_end"
                    ),
                    LateIf::Never,
                    &run,
                )?;
                check(
                    &format!("SELECT t, city, sum(n) OVER (PARTITION BY city ORDER BY t \
                              RANGE BETWEEN INTERVAL '9 seconds' PRECEDING AND CURRENT ROW) AS n FROM ({inner})"),
                    LateIf::Never,
                    &run,
                )?;
            }
        }
        // Windows of windows of rows: each row is in several of both.
        check(
            "SELECT window_end, began, count(*) AS n FROM TUMBLE(TABLE (SELECT time, began FROM (SELECT time, window_start AS began FROM \
             HOP(TABLE trips, DESCRIPTOR(time), INTERVAL '5 seconds', INTERVAL '10 seconds'))), DESCRIPTOR(time), INTERVAL '10 seconds') \
             GROUP BY window_start, window_end, began",
            LateIf::Never,
            &run,
        )?;
    }

    #[test]
    fn over_aggregates(run in disordered()) {
        let late_if = LateIf::WindowClosed { size_us: 4_000_000 };
        for time in ["window_start", "window_end", "window_time"] {
            let over = format!(
                "SELECT window_start, window_end, {time} AS t, city, n, sum(n) OVER w AS total, min(fares) OVER w AS least, \
                 count(*) OVER (ORDER BY {time} RANGE BETWEEN INTERVAL '4 seconds' PRECEDING AND INTERVAL '1 second' PRECEDING) AS others FROM \
                 (SELECT window_start, window_end, window_time, city, count(*) AS n, sum(fare) AS fares FROM \
                 TUMBLE(TABLE trips, DESCRIPTOR(time), INTERVAL '4 seconds') GROUP BY window_start, window_end, window_time, city) \
                 WINDOW w AS (PARTITION BY city ORDER BY {time} RANGE BETWEEN INTERVAL '12 seconds' PRECEDING AND CURRENT ROW)"
            );
            check(&format!("SELECT t, city, n, total, least, others FROM ({over})"), late_if, &run)?;
            // The same windows once more, and others.
            check(
                &format!("SELECT window_end, max(total) AS most, count(*) AS n FROM ({over}) GROUP BY window_start, window_end"),
                late_if,
                &run,
            )?;
            check(
                &format!(
                    "SELECT window_end, sum(total) AS totals FROM TUMBLE(TABLE (SELECT t, total FROM ({over})), DESCRIPTOR(t), \
                     INTERVAL '12 seconds') GROUP BY window_start, window_end"
                ),
                late_if,
                &run,
            )?;
        }
    }

    #[test]
    fn deduplicated_aggregates(run in disordered()) {
        check(
            "SELECT city, n FROM DEDUPLICATE(TABLE (SELECT window_end, city, count(*) AS n FROM TUMBLE(TABLE trips, DESCRIPTOR(time), \
             INTERVAL '4 seconds') GROUP BY window_start, window_end, city) PARTITION BY n, DESCRIPTOR(window_end), INTERVAL '10 seconds')",
            LateIf::WindowClosed { size_us: 4_000_000 },
            &run,
        )?;
    }

    #[test]
    fn windows_over_deduplicated_rows(run in disordered()) {
        check(
            "SELECT window_start, city, count(*) AS n, sum(seats) AS seats FROM TUMBLE(TABLE (SELECT * FROM \
             DEDUPLICATE(TABLE trips PARTITION BY id, DESCRIPTOR(time), INTERVAL '30 seconds')), DESCRIPTOR(time), INTERVAL '10 seconds') \
             GROUP BY window_start, window_end, city",
            LateIf::Behind,
            &run,
        )?;
    }
}

#[test]
fn rows_is_a_checked_shape() {
    // The harness itself must be able to fail: dropping a row must be seen.
    let row = |id, time_us| Row { id, time_us, city: None, seats: Some(1), fare: None, partition: 0, source: 0 };
    let run = Run { rows: vec![row(1, 0), row(2, 1_000)], local_tasks: 1, keyed_tasks: 1, cuts: vec![2], restarts: vec![Restart::No] };
    let query = "SELECT id FROM trips";
    let project = Project::parse([format!("{SOURCE}{query}").as_str()]).expect("the project parses");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let blueprint = runtime.block_on(project.plan(project.tables.values().next().expect("one table"))).expect("planned");
    let source = blueprint.sources[0].definition.schema();
    let given = run_all(&blueprint, &run, &source);
    let fewer = runtime.block_on(batch::result(query, &[("trips", batch_of(&run.rows[..1], &source))], &blueprint.schema));
    assert_ne!(lines(&given.rows), lines(&fewer));
}

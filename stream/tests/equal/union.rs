//! Random rows of two sources, and of one that is read for several parts of a query: `UNION ALL` gives in a stream what it gives in DataFusion over
//! the rows that were in time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use proptest::prelude::*;
use watershed_stream::hidden::Lane;
use watershed_stream::{Blueprint, Project};

use crate::batch::{self, lines};
use crate::driver::{Driver, Given, Tasks};
use crate::property::{LateIf, Restart, Row, Run, Ties, runs};

const SOURCES: &str = "
CREATE SOURCE trips (
    id BIGINT NOT NULL, time TIMESTAMP NOT NULL, city VARCHAR, seats BIGINT, fare DECIMAL(10, 2),
    WATERMARK FOR time AS time - INTERVAL '5 seconds'
) WITH (connector = 'kafka', topic = 'trips', format = 'json');
CREATE SOURCE walks (
    fare DECIMAL(10, 2), town VARCHAR, at TIMESTAMP NOT NULL, steps BIGINT, who BIGINT NOT NULL,
    WATERMARK FOR at AS at - INTERVAL '2 seconds'
) WITH (connector = 'kafka', topic = 'walks', format = 'json');
CREATE STREAMING TABLE out.t AS ";
const NAMES: [&str; 2] = ["trips", "walks"];
const DELAYS_US: [i64; 2] = [5_000_000, 2_000_000];

/// All rows of both.
const BOTH: &str = "SELECT id, time, city, seats, fare FROM trips UNION ALL SELECT who, at, town, steps, fare FROM walks";
/// Rows of one twice, at most, beside those of the other.
const FORKED: &str = "SELECT id, time, city, seats, fare FROM trips WHERE seats > 3 OR city = 'a' UNION ALL \
     SELECT who, at, town, steps, fare FROM walks UNION ALL SELECT -id, time, upper(city), seats + 1, NULL FROM trips WHERE city IS NOT NULL";

/// Rows of the source of this place, in the order of its columns.
fn batch_of<'a>(source: usize, rows: impl IntoIterator<Item = &'a Row>, schema: &SchemaRef) -> RecordBatch {
    let rows: Vec<&Row> = rows.into_iter().collect();
    let fares = rows.iter().map(|r| r.fare).collect::<Decimal128Array>().with_precision_and_scale(10, 2).expect("fits");
    let fares: ArrayRef = Arc::new(fares);
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.id)));
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.time_us)).with_timezone("UTC"));
    let cities: ArrayRef = Arc::new(rows.iter().map(|r| r.city.clone()).collect::<StringArray>());
    let seats: ArrayRef = Arc::new(rows.iter().map(|r| r.seats).collect::<Int64Array>());
    let columns = if source == 0 { vec![ids, times, cities, seats, fares] } else { vec![fares, cities, times, seats, ids] };
    RecordBatch::try_new(schema.clone(), columns).expect("the columns are those of the source")
}

/// Feeds all rows of a run to the sources of a plan, with its cuts and restarts, and closes everything.
fn run_all(blueprint: &Blueprint, run: &Run) -> Given {
    let mut driver = Driver::new(blueprint, Tasks { local: run.local_tasks, keyed: run.keyed_tasks }, 3);
    let mut offsets: BTreeMap<Lane, i64> = BTreeMap::new();
    let mut since: Vec<(Lane, RecordBatch, Int64Array)> = Vec::new();
    let mut at = 0;
    for (cut, restart) in run.cuts.iter().zip(&run.restarts) {
        match restart {
            Restart::No => {}
            Restart::Checkpoint => {
                driver.checkpoint();
                since.clear();
            }
            Restart::Crash => {
                driver.crash();
                since.iter().for_each(|(lane, rows, offsets)| driver.take_of(*lane, rows.clone(), offsets.clone()));
            }
        }
        let end = (at + cut).min(run.rows.len());
        for (source, plan) in blueprint.sources.iter().enumerate() {
            let schema = plan.definition.schema();
            let of = NAMES.iter().position(|name| *name == plan.definition.name).expect("a source of these");
            for partition in 0..3 {
                // A query over one source reads the rows of both.
                let is_of = |row: &&Row| row.partition == partition && (blueprint.sources.len() == 1 || row.source == of);
                let rows: Vec<&Row> = run.rows[at..end].iter().filter(is_of).collect();
                let lane = Lane { source, partition };
                let next = offsets.entry(lane).or_default();
                let places = Int64Array::from_iter_values((0..rows.len() as i64).map(|i| *next + i));
                *next += rows.len() as i64;
                let rows = batch_of(of, rows, &schema).project(&plan.wanted).expect("wanted columns");
                driver.take_of(lane, rows.clone(), places.clone());
                since.push((lane, rows, places));
            }
        }
        at = end;
    }
    assert_eq!(at, run.rows.len(), "all rows were fed");
    driver.finish()
}

/// The rows that are in time, each by the watermark of its own partition.
fn in_time(rows: &[Row], late_if: LateIf, are_two: bool) -> Vec<Row> {
    let mut watermarks = BTreeMap::new();
    let mut kept = Vec::new();
    for row in rows {
        let source = if are_two { row.source } else { 0 };
        let watermark: &mut i64 = watermarks.entry((source, row.partition)).or_insert(i64::MIN);
        let is_late = late_if.is_late(row.time_us, *watermark);
        *watermark = (*watermark).max(row.time_us - DELAYS_US[source]);
        if !is_late {
            kept.push(row.clone());
        }
    }
    kept
}

/// The rows of a query are those of batch, and rows that were late are set aside.
fn check(query: &str, late_if: LateIf, run: &Run) -> Result<(), TestCaseError> {
    let (late, expected) = check_rows(query, late_if, run)?;
    if !query.contains("WHERE") {
        prop_assert_eq!(late, expected, "late rows of {}", query);
    }
    Ok(())
}

/// The rows of a query are those of batch over the rows in time. Gives how many were late, and how many should have been if none is left out before.
pub fn check_rows(query: &str, late_if: LateIf, run: &Run) -> Result<(usize, usize), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let project = Project::parse([format!("{SOURCES}{query}").as_str()]).expect("the project parses");
    let table = project.tables.values().next().expect("one table");
    let blueprint = runtime.block_on(project.plan(table)).unwrap_or_else(|error| panic!("{error}\n{query}"));
    let given = run_all(&blueprint, run);
    let are_two = blueprint.sources.len() == 2;
    let kept = in_time(&run.rows, late_if, are_two);
    let rows = |of: usize| {
        let schema = project.sources[NAMES[of]].schema();
        batch_of(of, kept.iter().filter(|row| !are_two || row.source == of), &schema)
    };
    let sources: Vec<_> = blueprint.names.iter().map(|name| (name, rows(usize::from(name == NAMES[1])))).collect();
    let expected = runtime.block_on(batch::result(query, &sources, &blueprint.schema));
    prop_assert_eq!(lines(&given.rows), lines(&expected), "{}", query);
    Ok((given.late.iter().map(RecordBatch::num_rows).sum(), run.rows.len() - kept.len()))
}

fn disordered() -> impl Strategy<Value = Run> {
    runs(20_000_000, Ties::Few)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_of_two_sources_are_one_table(run in disordered()) {
        check(BOTH, LateIf::Never, &run)?;
        check(FORKED, LateIf::Never, &run)?;
        check(&format!("SELECT city, fare * 2 AS twice FROM ({FORKED}) WHERE id <> 3"), LateIf::Never, &run)?;
        check("SELECT id FROM trips WHERE seats > 4 UNION ALL SELECT id + 1 FROM trips", LateIf::Never, &run)?;
    }

    #[test]
    fn windows_over_a_union(run in disordered()) {
        let late_if = LateIf::WindowClosed { size_us: 10_000_000 };
        for union in [BOTH, FORKED] {
            check(
                &format!(
                    "SELECT window_start, window_end, city, count(*) AS n, sum(fare) AS fares, avg(seats) AS seats, min(id) AS first_id, \
                     count(DISTINCT seats) AS kinds, max(time) AS last FROM TUMBLE(TABLE ({union}), DESCRIPTOR(time), INTERVAL '10 seconds') \
                     GROUP BY window_start, window_end, city"
                ),
                late_if,
                &run,
            )?;
            let seats = format!(
                "SELECT window_start, window_end, city, seats, count(*) AS n FROM TUMBLE(TABLE ({union}), DESCRIPTOR(time), INTERVAL '10 seconds') \
                 GROUP BY window_start, window_end, city, seats"
            );
            check(&format!("SELECT window_end, max(n) AS most, count(*) AS groups FROM ({seats}) GROUP BY window_start, window_end"), late_if, &run)?;
        }
    }

    #[test]
    fn windows_whose_results_depend_on_order(run in runs(1_900_000, Ties::None)) {
        check(
            &format!(
                "SELECT window_start, count(*) AS n, round(sum(CAST(fare AS DOUBLE)), 3) AS fares \
                 FROM HOP(TABLE ({BOTH}), DESCRIPTOR(time), INTERVAL '5 seconds', INTERVAL '10 seconds') GROUP BY window_start, window_end"
            ),
            LateIf::Never,
            &run,
        )?;
    }

    #[test]
    fn deduplicated_unions_and_over(run in disordered()) {
        for union in [BOTH, FORKED] {
            check(
                &format!("SELECT id, time, seats FROM DEDUPLICATE(TABLE ({union}) PARTITION BY id, time, seats, DESCRIPTOR(time), INTERVAL '7 seconds')"),
                LateIf::Behind,
                &run,
            )?;
            check(
                &format!(
                    "SELECT id, time, city, count(*) OVER w AS n, sum(fare) OVER w AS fares FROM ({union}) \
                     WINDOW w AS (PARTITION BY city ORDER BY time RANGE BETWEEN INTERVAL '20 seconds' PRECEDING AND CURRENT ROW)"
                ),
                LateIf::Behind,
                &run,
            )?;
        }
    }

    #[test]
    fn a_union_of_results(run in disordered()) {
        let counted = |source: &str, time: &str, key: &str| {
            format!(
                "SELECT window_start, {key}, count(*) AS n FROM TUMBLE(TABLE {source}, DESCRIPTOR({time}), INTERVAL '10 seconds') \
                 GROUP BY window_start, window_end, {key}"
            )
        };
        let union = format!("{} UNION ALL {}", counted("trips", "time", "city"), counted("walks", "at", "town"));
        check(&union, LateIf::WindowClosed { size_us: 10_000_000 }, &run)?;
    }
}

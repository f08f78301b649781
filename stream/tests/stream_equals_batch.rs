//! The same text over the same rows gives the same answer on stream and on batch: for any order of arrival, any cut into batches, any
//! number of partitions and tasks, and a restart at any point.
//!
//! The stream side runs the planned chains as tasks would, in one thread, with what is random drawn by proptest. The batch side is
//! DataFusion over the rows that were in time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use proptest::prelude::*;
use watershed_dialect::{plan_text, session_config, session_state};
use watershed_stream::exchange::Exchange;
use watershed_stream::hidden::{self, PartitionWatermark};
use watershed_stream::operator::{Chain, Output, StateSnapshot, Watermark};
use watershed_stream::{Blueprint, Project};

const SOURCE: &str = "
CREATE SOURCE trips (
    id BIGINT NOT NULL, time TIMESTAMP NOT NULL, city VARCHAR, seats BIGINT, fare DECIMAL(10, 2),
    WATERMARK FOR time AS time - INTERVAL '5 seconds'
) WITH (connector = 'kafka', topic = 'trips', format = 'json');
CREATE STREAMING TABLE out.t AS ";
const DELAY_US: i64 = 5_000_000;

/// When a row of a query is too late, in terms of its own time and the watermark before it.
#[derive(Clone, Copy)]
enum LateIf {
    Never,
    WindowClosed { size_us: i64 },
    Behind,
}

#[derive(Debug, Clone)]
struct Row {
    id: i64,
    time_us: i64,
    city: Option<String>,
    seats: Option<i64>,
    fare: Option<i128>,
    partition: i32,
}

/// One way to run: how rows are cut, on how many tasks, and when everything is torn down and restored.
#[derive(Debug, Clone)]
struct Run {
    rows: Vec<Row>,
    local_tasks: usize,
    keyed_tasks: usize,
    /// Rows a batch.
    cuts: Vec<usize>,
    /// Before which batches everything restarts.
    restarts: Vec<bool>,
}

fn rows(spread_us: i64) -> impl Strategy<Value = Vec<Row>> {
    let row = (-spread_us..=0, prop::option::of("[abc]"), prop::option::of(0..9_i64), prop::option::of(0..9999_i128), 0..3_i32);
    prop::collection::vec(row, 1..80).prop_map(|drawn| {
        let step = 60_000_000 / drawn.len() as i64;
        let mut rows = Vec::with_capacity(drawn.len());
        for (jitter_us, city, seats, fare, partition) in drawn {
            let i = rows.len() as i64;
            rows.push(Row { id: i / 2, time_us: (i * step + jitter_us) / 1000 * 1000, city, seats, fare, partition });
        }
        rows
    })
}

fn runs(spread_us: i64) -> impl Strategy<Value = Run> {
    (rows(spread_us), 1..4_usize, 1..4_usize, prop::collection::vec(1..12_usize, 80), prop::collection::vec(prop::bool::weighted(0.2), 80))
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

/// All tasks of one run, in one thread.
struct Stream<'a> {
    blueprint: &'a Blueprint,
    run: &'a Run,
    local: Vec<Chain>,
    keyed: Vec<Chain>,
    exchange: Option<Exchange>,
    watermarks: BTreeMap<i32, PartitionWatermark>,
    merged_of_task: Vec<i64>,
    out: Vec<RecordBatch>,
    late: usize,
    deduplicated: u64,
}

impl<'a> Stream<'a> {
    fn new(blueprint: &'a Blueprint, run: &'a Run) -> Self {
        let partitions: BTreeMap<i32, PartitionWatermark> = (0..3).map(|p| (p, PartitionWatermark::new(i64::MIN, DELAY_US))).collect();
        let mut stream = Self {
            blueprint,
            run,
            local: Vec::new(),
            keyed: Vec::new(),
            exchange: None,
            watermarks: partitions,
            merged_of_task: Vec::new(),
            out: Vec::new(),
            late: 0,
            deduplicated: 0,
        };
        stream.start();
        stream
    }

    fn keyed_tasks(&self) -> usize {
        match (&self.blueprint.exchange, self.blueprint.keyed_in_parallel) {
            (None, _) => 0,
            (Some(_), false) => 1,
            (Some(_), true) => self.run.keyed_tasks,
        }
    }

    fn start(&mut self) {
        self.local = (0..self.run.local_tasks).map(|_| self.blueprint.local_chain().expect("a chain")).collect();
        self.keyed = (0..self.keyed_tasks()).map(|_| self.blueprint.keyed_chain().expect("a chain")).collect();
        let keys = self.blueprint.exchange.clone().unwrap_or_default();
        self.exchange = (!self.keyed.is_empty()).then(|| Exchange::new(&keys, &self.local[0].schema(), self.keyed.len()).expect("keys"));
        self.merged_of_task = vec![i64::MIN; self.run.local_tasks];
    }

    /// Saves all state, throws the tasks away, and starts new ones from what was saved.
    fn restart(&mut self) {
        let save = |chains: &mut Vec<Chain>| -> Vec<(usize, usize, String, RecordBatch)> {
            let mut saved = Vec::new();
            for (task, chain) in chains.iter_mut().enumerate() {
                for (index, operator) in chain.operators_mut() {
                    let delta = operator.snapshot().expect("a snapshot");
                    saved.extend(delta.upserts.into_iter().map(|(name, batch)| (task, index, name, batch)));
                }
            }
            saved
        };
        let (local, keyed) = (save(&mut self.local), save(&mut self.keyed));
        self.start();
        let tasks = self.run.local_tasks;
        for (task, chain) in self.local.iter_mut().enumerate() {
            for (index, operator) in chain.operators_mut() {
                let mine = |name: &str| name.rsplit('/').next().and_then(|s| s.parse::<usize>().ok()).unwrap_or(0) % tasks == task;
                let of = local.iter().filter(|(_, i, name, _)| *i == index && mine(name));
                let segments = of.map(|(_, _, name, batch)| (name.clone(), batch.clone())).collect();
                operator.restore(StateSnapshot { segments }).expect("restored");
            }
        }
        for (task, chain) in self.keyed.iter_mut().enumerate() {
            for (index, operator) in chain.operators_mut() {
                let of = keyed.iter().filter(|(t, i, ..)| *t == task && *i == index);
                let segments = of.map(|(_, _, name, batch)| (name.clone(), batch.clone())).collect();
                operator.restore(StateSnapshot { segments }).expect("restored");
            }
        }
    }

    fn task_of(&self, partition: i32) -> usize {
        partition as usize % self.run.local_tasks
    }

    fn take(&mut self, rows: &[Row], first_offset: i64, source: &SchemaRef) {
        let partition = rows[0].partition;
        let all = batch_of(rows, source);
        let mut batch = all.project(&self.blueprint.wanted).expect("wanted columns");
        let times = all.column(1).as_primitive::<TimestampMicrosecondType>();
        let watermark = self.watermarks.get_mut(&partition).expect("a known partition");
        let before = watermark.fold(times);
        let input_us = watermark.watermark_us;
        if self.blueprint.uses_time {
            let offsets = Arc::new(Int64Array::from_iter_values((0..rows.len() as i64).map(|i| first_offset + i)));
            batch = hidden::attach(batch.clone(), hidden::with_hidden(&batch.schema()), partition, offsets, before).expect("attached");
        }
        let task = self.task_of(partition);
        let mut out = Output::default();
        self.local[task].process(batch, &mut out).expect("rows are taken");
        self.pass_on(out);
        self.advance(partition, input_us);
    }

    fn advance(&mut self, partition: i32, input_us: i64) {
        let task = self.task_of(partition);
        let of_task = self.watermarks.iter().filter(|(p, _)| **p as usize % self.run.local_tasks == task);
        let merged_us = of_task.map(|(_, w)| w.watermark_us).min().expect("the task has a partition");
        let mut out = Output::default();
        let after = self.local[task].on_watermark(Watermark { input: partition, input_us, merged_us }, &mut out).expect("time moves");
        self.pass_on(out);
        self.merged_of_task[task] = after.merged_us;
        let tasks_with_partitions = self.run.local_tasks.min(3);
        let merged_us = self.merged_of_task[..tasks_with_partitions].iter().copied().min().expect("a task");
        for keyed in 0..self.keyed.len() {
            let mut out = Output::default();
            self.keyed[keyed].on_watermark(Watermark { input: task as i32, input_us, merged_us }, &mut out).expect("time moves");
            self.deduplicated += out.deduplicated;
            self.out.extend(out.rows);
        }
    }

    fn pass_on(&mut self, out: Output) {
        self.late += out.late.iter().map(RecordBatch::num_rows).sum::<usize>();
        for rows in out.rows {
            let Some(exchange) = &self.exchange else {
                self.out.push(rows);
                continue;
            };
            for (task, part) in exchange.split(rows).expect("split") {
                let mut out = Output::default();
                self.keyed[task].process(part, &mut out).expect("rows are taken");
                self.out.extend(out.rows);
            }
        }
    }

    fn run_all(mut self, source: &SchemaRef) -> Self {
        let mut offsets = [0_i64; 3];
        let mut at = 0;
        for (cut, restart) in self.run.cuts.iter().zip(&self.run.restarts) {
            if at >= self.run.rows.len() {
                break;
            }
            if *restart {
                self.restart();
            }
            let end = (at + cut).min(self.run.rows.len());
            for partition in 0..3 {
                let part: Vec<Row> = self.run.rows[at..end].iter().filter(|r| r.partition == partition).cloned().collect();
                if !part.is_empty() {
                    self.take(&part, offsets[partition as usize], source);
                    offsets[partition as usize] += part.len() as i64;
                }
            }
            at = end;
        }
        assert_eq!(at, self.run.rows.len(), "all rows were fed");
        for partition in 0..3 {
            self.watermarks.get_mut(&partition).expect("a known partition").raise(i64::MAX);
            self.advance(partition, i64::MAX);
        }
        self
    }
}

/// The rows that are in time for a query, and how many are not.
fn in_time(rows: &[Row], late_if: LateIf) -> (Vec<Row>, usize) {
    let mut watermarks = BTreeMap::new();
    let mut kept = Vec::new();
    for row in rows {
        let watermark: &mut i64 = watermarks.entry(row.partition).or_insert(i64::MIN);
        let late = match late_if {
            LateIf::Never => false,
            LateIf::Behind => row.time_us < *watermark,
            LateIf::WindowClosed { size_us } => (row.time_us.div_euclid(size_us) + 1) * size_us <= *watermark,
        };
        *watermark = (*watermark).max(row.time_us - DELAY_US);
        if !late {
            kept.push(row.clone());
        }
    }
    let late = rows.len() - kept.len();
    (kept, late)
}

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for batch in batches {
        let text = pretty_format_batches(std::slice::from_ref(batch)).expect("rows can be shown").to_string();
        let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect::<Vec<_>>().join("|");
        lines.extend(text.lines().skip(3).filter(|line| line.starts_with('|')).map(cells));
    }
    lines.sort();
    lines
}

async fn batch_result(query: &str, rows: &[Row], source: &SchemaRef, result: &SchemaRef) -> Vec<RecordBatch> {
    let ctx = SessionContext::new_with_state(session_state(session_config(), None));
    let batch = batch_of(rows, source);
    ctx.register_table("trips", Arc::new(MemTable::try_new(source.clone(), vec![vec![batch]]).expect("a table"))).expect("registered");
    let plan = plan_text(&ctx, query).await.expect("the query is planned");
    let batches = ctx.execute_logical_plan(plan).await.expect("planned").collect().await.expect("the query runs");
    // The table's types: those of the stream's result.
    let cast = |batch: &RecordBatch| {
        let columns =
            batch.columns().iter().zip(result.fields()).map(|(c, f)| arrow::compute::cast(c, f.data_type()).expect("cast")).collect();
        RecordBatch::try_new(
            Arc::new(arrow::datatypes::Schema::new(
                result.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>(),
            )),
            columns,
        )
        .expect("the same columns")
    };
    batches.iter().map(cast).collect()
}

fn check(query: &str, late_if: LateIf, run: &Run) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let project = Project::parse([format!("{SOURCE}{query}").as_str()]).expect("the project parses");
    let table = project.tables.values().next().expect("one table");
    let blueprint = runtime.block_on(project.plan(table)).expect("the query runs as a stream");
    let source = blueprint.source.schema();
    let stream = Stream::new(&blueprint, run).run_all(&source);
    let (kept, late) = in_time(&run.rows, late_if);
    let expected = runtime.block_on(batch_result(query, &kept, &source, &blueprint.schema));
    prop_assert_eq!(stream.late, late, "late rows of {}", query);
    prop_assert_eq!(lines(&stream.out), lines(&expected), "{}", query);
    if matches!(late_if, LateIf::Behind) && !query.contains("GROUP BY") {
        let out: usize = stream.out.iter().map(RecordBatch::num_rows).sum();
        prop_assert_eq!(out + late + stream.deduplicated as usize, run.rows.len(), "no row is lost");
    }
    Ok(())
}

/// Rows up to 20 s out of order: some are late. Restarts, cuts, tasks and partitions vary.
fn disordered() -> impl Strategy<Value = Run> {
    runs(20_000_000)
}

/// Rows at most 5 s out of order, the declared delay: none is late.
fn orderly() -> impl Strategy<Value = Run> {
    runs(4_900_000)
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
    fn deduplicate(run in disordered()) {
        check(
            "SELECT * FROM DEDUPLICATE(TABLE trips PARTITION BY city, seats, DESCRIPTOR(time), INTERVAL '7 seconds')",
            LateIf::Behind,
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
    let row = |id, time_us| Row { id, time_us, city: None, seats: Some(1), fare: None, partition: 0 };
    let run = Run { rows: vec![row(1, 0), row(2, 1_000)], local_tasks: 1, keyed_tasks: 1, cuts: vec![2], restarts: vec![false] };
    let query = "SELECT id FROM trips";
    let project = Project::parse([format!("{SOURCE}{query}").as_str()]).expect("the project parses");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let blueprint = runtime.block_on(project.plan(project.tables.values().next().expect("one table"))).expect("planned");
    let stream = Stream::new(&blueprint, &run).run_all(&blueprint.source.schema());
    let fewer = runtime.block_on(batch_result(query, &run.rows[..1], &blueprint.source.schema(), &blueprint.schema));
    assert_ne!(lines(&stream.out), lines(&fewer));
}

//! The scheduler over a real warehouse in memory, with a clock that moves when told to.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use watershed_batch::{Clock, JobRunner, Limits, Listener, RunRecord, RunStatus, Runs, Scheduler, SchedulerOptions, Trigger, Views};
use watershed_lake::{Commit, CompactOptions, Warehouse};

/// What must come about does so within this time.
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct TestClock {
    now: watch::Sender<DateTime<Utc>>,
}

impl TestClock {
    fn at(text: &str) -> Arc<Self> {
        Arc::new(Self { now: watch::channel(text.parse().unwrap()).0 })
    }

    fn advance(&self, span: TimeDelta) {
        self.now.send_modify(|now| *now += span);
    }
}

impl Clock for TestClock {
    fn now(&self) -> DateTime<Utc> {
        *self.now.borrow()
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        let mut now = self.now.subscribe();
        let until = self.now() + TimeDelta::from_std(span).unwrap();
        async move {
            let _ = now.wait_for(|now| *now >= until).await;
        }
        .boxed()
    }
}

struct Stage {
    warehouse: Warehouse,
    views: Views,
    clock: Arc<TestClock>,
    /// Runs that have ended, in order, as `view trigger`.
    ended: Arc<Mutex<Vec<String>>>,
}

impl Stage {
    async fn set(definitions: &[&str]) -> Self {
        let warehouse = Warehouse::open("memory://", &HashMap::new()).await.unwrap();
        let views = Views::parse(definitions.iter().copied()).unwrap();
        Self { warehouse, views, clock: TestClock::at("2026-11-20T06:00:10Z"), ended: Arc::default() }
    }

    fn runner(&self) -> JobRunner {
        let limits = Limits { attempts: 1, tasks: Some(2), ..Limits::default() };
        JobRunner::new(self.warehouse.clone(), limits).unwrap().with_clock(self.clock.clone())
    }

    fn start(&self) -> Scheduler {
        let ended = self.ended.clone();
        let listener: Listener = Arc::new(move |job, result| {
            let trigger = result.as_ref().map_or("failed".to_owned(), |record| record.trigger.to_string());
            ended.lock().unwrap().push(format!("{} {trigger}", job.table()));
        });
        // Looks as often as the test lets a millisecond pass.
        let (look_every, grace) = (Duration::from_millis(1), Duration::from_millis(5));
        let options = SchedulerOptions { look_every, grace, listener: Some(listener), ..SchedulerOptions::default() };
        Scheduler::start(self.runner(), self.views.clone(), options)
    }

    async fn by_hand(&self, view: &str) {
        let view = self.views.get(&view.parse().unwrap()).unwrap();
        let record = self.runner().run(view, Trigger::Manual, watch::channel(false).1).await.unwrap();
        self.ended.lock().unwrap().push(format!("{} {}", record.job.table(), record.trigger));
    }

    /// Lets time trickle until so many runs have ended, and a little longer: no more may come.
    async fn runs(&self, count: usize) -> Vec<String> {
        let start = Instant::now();
        let mut quiet = 0;
        loop {
            let ended = self.ended.lock().unwrap().clone();
            quiet = if ended.len() >= count { quiet + 1 } else { 0 };
            if quiet > 10 {
                return ended;
            }
            assert!(start.elapsed() < LIMIT, "{ended:?}, not {count}");
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.clock.advance(TimeDelta::milliseconds(1));
        }
    }
}

const BASE: &str = "CREATE MATERIALIZED VIEW g.base SCHEDULE EVERY 1 MINUTE AS SELECT 1 AS n";
const FOLLOWER: &str = "CREATE MATERIALIZED VIEW g.follower TRIGGER ON UPDATE AS SELECT n + 1 AS n FROM g.base";
const HOURLY: &str = "CREATE MATERIALIZED VIEW g.hourly SCHEDULE CRON '5 * * * *' AS SELECT n + 1 AS n FROM g.follower";
const BY_HAND: &str = "CREATE MATERIALIZED VIEW g.by_hand AS SELECT 1 AS n";

#[tokio::test(flavor = "multi_thread")]
async fn new_views_come_at_once_and_in_order_then_each_in_its_time() {
    let stage = Stage::set(&[HOURLY, FOLLOWER, BASE, BY_HAND]).await;
    let scheduler = stage.start();
    assert_eq!(stage.runs(3).await, ["base schedule", "follower update", "hourly schedule"]);
    stage.clock.advance(TimeDelta::seconds(50));
    // Minute over: the base, and who follows it; the hourly one is not due before five past.
    assert_eq!(stage.runs(5).await[3..], ["base schedule", "follower update"]);
    stage.clock.advance(TimeDelta::seconds(240));
    assert_eq!(stage.runs(8).await[5..], ["base schedule", "follower update", "hourly schedule"]);
    // A day away: one run makes up for all that were missed.
    stage.clock.advance(TimeDelta::days(1));
    assert_eq!(stage.runs(11).await[8..], ["base schedule", "follower update", "hourly schedule"]);
    scheduler.stop().await;
    stage.clock.advance(TimeDelta::days(1));
    assert_eq!(stage.runs(11).await.len(), 11, "stopped is stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_scheduler_goes_on_where_the_first_stopped() {
    let stage = Stage::set(&[BASE, FOLLOWER]).await;
    let first = stage.start();
    stage.runs(2).await;
    first.stop().await;
    // Nothing is due, so nothing is done again; a run made by hand counts, and its follower follows.
    let second = stage.start();
    assert_eq!(stage.runs(2).await.len(), 2);
    stage.clock.advance(TimeDelta::seconds(20));
    stage.by_hand("g.base").await;
    assert_eq!(stage.runs(4).await[2..], ["base manual", "follower update"]);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_delays_no_job() {
    let stage = Stage::set(&[BASE, FOLLOWER]).await;
    let first = stage.start();
    stage.runs(2).await;
    first.stop().await;
    stage.clock.advance(TimeDelta::days(-3));
    let second = stage.start();
    // Once at once, then in its time.
    assert_eq!(stage.runs(4).await[2..], ["base schedule", "follower update"]);
    stage.clock.advance(TimeDelta::seconds(60));
    assert_eq!(stage.runs(6).await[4..], ["base schedule", "follower update"]);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_cut_off_is_made_up_for() {
    let stage = Stage::set(&[BASE]).await;
    let base = stage.views.iter().next().unwrap();
    let mut killed = RunRecord::begin(base, Trigger::Schedule, stage.clock.now(), "a process that was killed");
    Runs::new(stage.warehouse.clone()).started(&mut killed).await.unwrap();
    stage.clock.advance(TimeDelta::seconds(1));
    let scheduler = stage.start();
    assert_eq!(stage.runs(1).await, ["base schedule"]);
    let statuses: Vec<RunStatus> = Runs::new(stage.warehouse.clone()).all().await.unwrap().iter().map(|record| record.status).collect();
    assert_eq!(statuses, [RunStatus::Succeeded, RunStatus::Lost]);
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_follower_is_tried_ever_more_rarely() {
    let broken =
        "CREATE MATERIALIZED VIEW g.broken TRIGGER ON UPDATE AT MOST EVERY 10 SECONDS AS SELECT CAST('x' || n AS BIGINT) AS n FROM g.base";
    let stage = Stage::set(&[BY_HAND.replace("by_hand", "base").as_str(), broken]).await;
    stage.by_hand("g.base").await;
    let scheduler = stage.start();
    stage.runs(2).await;
    // 20 s after the first failure, 40 s after the second.
    stage.clock.advance(TimeDelta::seconds(15));
    assert_eq!(stage.runs(2).await.len(), 2);
    stage.clock.advance(TimeDelta::seconds(6));
    assert_eq!(stage.runs(3).await.len(), 3);
    stage.clock.advance(TimeDelta::seconds(35));
    assert_eq!(stage.runs(3).await.len(), 3);
    stage.clock.advance(TimeDelta::seconds(6));
    assert_eq!(stage.runs(4).await.len(), 4);
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_do_not_end_are_stopped() {
    let endless = "CREATE MATERIALIZED VIEW g.endless SCHEDULE EVERY 1 HOUR AS
                   SELECT count(*) AS n FROM generate_series(1, 1000000) AS a CROSS JOIN generate_series(1, 1000000) AS b";
    let stage = Stage::set(&[endless]).await;
    let scheduler = stage.start();
    let start = Instant::now();
    let runs = Runs::new(stage.warehouse.clone());
    while runs.all().await.unwrap().is_empty() {
        assert!(start.elapsed() < LIMIT);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let clock = stage.clock.clone();
    let ticking = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(2)).await;
            clock.advance(TimeDelta::milliseconds(1));
        }
    });
    scheduler.stop().await;
    ticking.abort();
    let statuses: BTreeMap<String, RunStatus> =
        runs.all().await.unwrap().into_iter().map(|record| (record.job.to_string(), record.status)).collect();
    assert_eq!(statuses, BTreeMap::from([("g.endless".to_owned(), RunStatus::Stopped)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_is_no_update() {
    let follower = "CREATE MATERIALIZED VIEW g.follower TRIGGER ON UPDATE AS SELECT sum(n) AS n FROM g.input";
    let stage = Stage::set(&[follower]).await;
    let rows = || RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]).unwrap();
    let table = stage.warehouse.create_table(&"g.input".parse().unwrap(), rows().schema(), &[]).await.unwrap();
    let append = async |epoch: i64| {
        let mut writer = table.writer("test");
        writer.write(rows()).await.unwrap();
        let (app_id, operation, files) = ("test/0".to_owned(), "WRITE".to_owned(), writer.finish().await.unwrap());
        let previous_app_version = (epoch > 1).then_some(epoch - 1);
        table.commit(Commit { app_id, app_version: epoch, previous_app_version, files, operation }).await.unwrap();
    };
    append(1).await;
    append(2).await;
    let scheduler = stage.start();
    assert_eq!(stage.runs(1).await, ["follower update"]);
    let options = CompactOptions { everything: true, ..CompactOptions::default() };
    assert_eq!(table.compact(&options, &Arc::default()).await.unwrap().commits, 1);
    assert_eq!((table.version(), table.data_version()), (3, 2));
    stage.clock.advance(TimeDelta::minutes(10));
    assert_eq!(stage.runs(1).await, ["follower update"]);
    append(3).await;
    stage.clock.advance(TimeDelta::minutes(10));
    assert_eq!(stage.runs(2).await.len(), 2);
    scheduler.stop().await;
}

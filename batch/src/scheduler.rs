//! The loop that starts jobs when they are due.
//!
//! State: which jobs run here. All else is looked up again each time: the records of all runs, whoever made them, and the versions of what
//! followers read. So a scheduler can be killed and started anywhere: a time that passed meanwhile is made up for by one run, a run that was
//! cut off is made again at once, and a run made by hand counts.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use watershed_dialect::Schedule;
use watershed_lake::TableName;

use crate::clock::Clock;
use crate::job::JobRunner;
use crate::runs::{RunRecord, RunStatus, Trigger};
use crate::turn::{Situation, turn};
use crate::{BatchError, View, Views, statuses};

/// How long runs that were told to stop may take to say so in their records.
const STOPPING_MAX: Duration = Duration::from_secs(10);

/// How far the clocks of machines that run jobs over one warehouse may be apart.
const CLOCK_AHEAD_MAX: TimeDelta = TimeDelta::minutes(1);

/// Hears of every run that ends.
pub type Listener = Arc<dyn Fn(&TableName, &Result<RunRecord, BatchError>) + Send + Sync>;

/// How a scheduler works.
#[derive(Clone)]
pub struct SchedulerOptions {
    /// Runs at once.
    pub parallel: usize,
    /// How often inputs and the runs of other processes are looked at.
    pub look_every: Duration,
    /// How long runs may go on after a stop was asked for.
    pub grace: Duration,
    /// Hears of every run that ends.
    pub listener: Option<Listener>,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self { parallel: 2, look_every: Duration::from_secs(2), grace: Duration::from_secs(20), listener: None }
    }
}

impl fmt::Debug for SchedulerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerOptions").field("parallel", &self.parallel).field("look_every", &self.look_every).finish_non_exhaustive()
    }
}

/// A scheduler at work. Dropped, it ends at once, and its runs with it.
#[derive(Debug)]
pub struct Scheduler {
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl Scheduler {
    /// Starts the jobs of `views` whenever they are due, until it is stopped.
    pub fn start(runner: JobRunner, views: Views, options: SchedulerOptions) -> Self {
        let (stop, asked) = watch::channel(false);
        let clock = runner.clock().clone();
        let (abort, _) = watch::channel(false);
        runner.observer().looked(statuses(&views, &[]));
        let work = Loop { began: clock.now(), runner, views, options, clock, abort, running: BTreeSet::new(), tasks: JoinSet::new() };
        Self { stop, task: Some(tokio::spawn(work.run(asked))) }
    }

    /// Starts nothing more, lets runs end within the grace they have, and stops those that do not.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            // A panic inside was reported by the runtime.
            let _ = task.await;
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Ends when a stop is asked for, or when nobody is left to ask.
async fn stopped(asked: &mut watch::Receiver<bool>) {
    // Either way there is nothing more to wait for.
    let _ = asked.wait_for(|stop| *stop).await;
}

struct Loop {
    /// Runs of other processes that had started before this and have no end are taken for cut off.
    began: DateTime<Utc>,
    runner: JobRunner,
    views: Views,
    options: SchedulerOptions,
    clock: Arc<dyn Clock>,
    abort: watch::Sender<bool>,
    running: BTreeSet<TableName>,
    tasks: JoinSet<(TableName, Result<RunRecord, BatchError>)>,
}

impl Loop {
    async fn run(mut self, mut asked: watch::Receiver<bool>) {
        loop {
            let wait = match self.turn().await {
                Ok(wait) => wait,
                Err(error) => {
                    self.runner.observer().could_not_look(error.to_string());
                    tracing::warn!(%error, "cannot see which jobs are due; looking again");
                    self.options.look_every
                }
            };
            tokio::select! {
                () = self.clock.sleep(wait) => {}
                Some(ended) = self.tasks.join_next() => self.ended(ended),
                () = stopped(&mut asked) => break,
            }
        }
        let grace = self.clock.sleep(self.options.grace);
        tokio::pin!(grace);
        while !self.tasks.is_empty() {
            tokio::select! {
                Some(ended) = self.tasks.join_next() => self.ended(ended),
                () = &mut grace => break,
            }
        }
        self.abort.send_replace(true);
        let last = async {
            while let Some(ended) = self.tasks.join_next().await {
                self.ended(ended);
            }
        };
        if tokio::time::timeout(STOPPING_MAX, last).await.is_err() {
            tracing::warn!("runs that could not be stopped are cut off; they count as lost");
        }
    }

    fn ended(&mut self, ended: Result<(TableName, Result<RunRecord, BatchError>), tokio::task::JoinError>) {
        match ended {
            Ok((job, result)) => {
                self.running.remove(&job);
                match &result {
                    Ok(record) => {
                        tracing::info!(%job, run = record.run_id, rows = record.rows, attempts = record.attempts, took_ms = record.took_ms(), "job done");
                    }
                    Err(error) => tracing::warn!(%job, %error, "job failed"),
                }
                if let Some(listener) = &self.options.listener {
                    listener(&job, &result);
                }
            }
            Err(error) => tracing::error!(%error, "a job's task broke down"),
        }
    }

    /// Looks, starts what is due, and says how long to wait.
    async fn turn(&mut self) -> Result<Duration, BatchError> {
        let records = self.runner.runs().all().await?;
        self.runner.observer().looked(statuses(&self.views, &records));
        let now = self.clock.now();
        let mut situations = Vec::with_capacity(self.views.len());
        for view in self.views.iter() {
            situations.push(self.situation(view, &records, now).await);
        }
        let free = self.options.parallel.saturating_sub(self.running.len());
        let turn = turn(&situations, now, free);
        for job in &turn.start {
            let Some(view) = self.views.get(job) else { continue };
            let follows = situations.iter().any(|s| s.job == *job && s.inputs_changed);
            self.spawn(view.clone(), if follows { Trigger::Update } else { Trigger::Schedule });
        }
        let until = turn.next.and_then(|next| (next - now).to_std().ok());
        Ok(until.map_or(self.options.look_every, |until| until.min(self.options.look_every)))
    }

    fn spawn(&mut self, view: View, trigger: Trigger) {
        self.running.insert(view.name.clone());
        let (runner, abort) = (self.runner.clone(), self.abort.subscribe());
        self.tasks.spawn(async move {
            let result = runner.run(&view, trigger, abort).await;
            (view.name, result)
        });
    }

    async fn situation(&self, view: &View, records: &[RunRecord], now: DateTime<Utc>) -> Situation {
        let digest = view.digest();
        let own: Vec<&RunRecord> = records.iter().filter(|record| record.job == view.name && record.definition == digest).collect();
        // Of a run that lies ahead one cannot tell how long ago it was: the clock was set back. It is made again rather than waited for.
        let start = |record: &RunRecord| DateTime::from_timestamp_millis(record.started_ms).filter(|start| *start <= now + CLOCK_AHEAD_MAX);
        let last_success = own.iter().copied().find(|record| record.status == RunStatus::Succeeded);
        let failures =
            own.iter().take_while(|record| record.status != RunStatus::Succeeded).filter(|record| record.status == RunStatus::Failed);
        let mut situation = Situation {
            job: view.name.clone(),
            schedule: view.definition.schedule.clone(),
            upstream: self.views.upstream(&view.name).into_iter().map(|view| view.name.clone()).collect(),
            last_start: own.iter().copied().find(|record| self.counts(record)).and_then(start),
            last_ended_start: own.iter().copied().find(|record| record.ended_ms.is_some()).and_then(start),
            failures: failures.count() as u32,
            running: self.running.contains(&view.name),
            inputs_changed: false,
        };
        let follows = matches!(view.definition.schedule, Schedule::OnUpdate { .. });
        // Looking at versions costs requests, so only for those who would act on it.
        if follows && !situation.running && situation.earliest().is_some_and(|earliest| earliest <= now) {
            situation.inputs_changed = self.inputs_changed(view, last_success).await;
        }
        situation
    }

    /// Whether a run counts as one that started: one that was cut off or stopped does not, so that it is made up for.
    fn counts(&self, record: &RunRecord) -> bool {
        match record.status {
            RunStatus::Succeeded | RunStatus::Failed => true,
            RunStatus::Lost | RunStatus::Stopped => false,
            RunStatus::Running => {
                let ours = record.process == self.runner.process();
                ours || record.started_ms >= self.began.timestamp_millis()
            }
        }
    }

    async fn inputs_changed(&self, view: &View, last_success: Option<&RunRecord>) -> bool {
        let Some(success) = last_success else { return true };
        for input in &view.reads {
            let (version, data_version) = match self.runner.warehouse().table(input).await {
                Ok(table) => (table.version(), table.data_version()),
                Err(error) => {
                    tracing::warn!(job = %view.name, %input, %error, "cannot see whether an input changed");
                    continue;
                }
            };
            // Commits since then that only rearranged rows do not count. A version that lies ahead is one of a table that was dropped.
            if success.read.get(input).is_none_or(|&read| data_version > read || read > version) {
                return true;
            }
        }
        false
    }
}

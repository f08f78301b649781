//! Which jobs start now, and when to look again. Pure: the scheduler brings time and situation.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use watershed_dialect::Schedule;
use watershed_lake::TableName;

use crate::schedule::next_after;

/// A view that follows its inputs and keeps failing is tried ever more rarely, down to this many times its least distance.
const FAILURES_MAX: u32 = 6;

/// One job as it is now.
#[derive(Debug, Clone)]
pub(crate) struct Situation {
    /// Its name.
    pub(crate) job: TableName,
    /// When it is refreshed.
    pub(crate) schedule: Schedule,
    /// The jobs whose rows reach it.
    pub(crate) upstream: Vec<TableName>,
    /// When its last run with this definition started; `None` if it never did, or if that run was cut off.
    pub(crate) last_start: Option<DateTime<Utc>>,
    /// When the newest run that has ended had started.
    pub(crate) last_ended_start: Option<DateTime<Utc>>,
    /// How many runs have failed since one succeeded.
    pub(crate) failures: u32,
    /// It runs now, here.
    pub(crate) running: bool,
    /// What it reads has other versions than those its last success read.
    pub(crate) inputs_changed: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Jobs to start, in this order.
    pub(crate) start: Vec<TableName>,
    /// When the next job comes due; `None` if no time makes one so.
    pub(crate) next: Option<DateTime<Utc>>,
}

impl Situation {
    /// The earliest time of its next run; `None` if no time brings one.
    pub(crate) fn earliest(&self) -> Option<DateTime<Utc>> {
        match (&self.schedule, self.last_start) {
            (Schedule::OnDemand, _) => None,
            (_, None) => Some(DateTime::<Utc>::MIN_UTC),
            (Schedule::OnUpdate { at_most_every }, Some(last)) => {
                let patience: Duration = *at_most_every * 2_u32.pow(self.failures.min(FAILURES_MAX));
                last.checked_add_signed(TimeDelta::from_std(patience).ok()?)
            }
            (schedule, Some(last)) => next_after(schedule, last),
        }
    }

    /// Since when it is due; `None` if it is not.
    fn due_since(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let since = self.earliest().filter(|since| *since <= now && !self.running)?;
        let follows = matches!(self.schedule, Schedule::OnUpdate { .. }) && self.last_start.is_some();
        (!follows || self.inputs_changed).then_some(since)
    }
}

/// Decides for `jobs`, each of which comes after those it reads, with `free` places for runs.
///
/// A job waits for those it reads if they run or are due themselves, so that one look of the scheduler refreshes a chain in order; but only for
/// one run of each since it came due, so that a job that always runs does not hold up others for ever.
pub(crate) fn turn(jobs: &[Situation], now: DateTime<Utc>, free: usize) -> Turn {
    let of = |name: &TableName| jobs.iter().find(|job| job.job == *name);
    let mut start = Vec::new();
    for job in jobs {
        let Some(since) = job.due_since(now) else { continue };
        let waits_for = |name: &TableName| {
            of(name).is_some_and(|input| {
                let busy = input.running || input.due_since(now).is_some();
                busy && input.last_ended_start.is_none_or(|started| started < since)
            })
        };
        if start.len() < free && !job.upstream.iter().any(waits_for) {
            start.push(job.job.clone());
        }
    }
    // A job that is due and waits is looked at when a run ends; one that follows its inputs, at every look.
    let next = jobs.iter().filter(|job| !job.running && job.due_since(now).is_none()).filter_map(Situation::earliest);
    Turn { start, next: next.filter(|time| *time > now).min() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 / 3600 * 3600 + seconds, 0).unwrap()
    }

    fn job(name: &str, schedule: Schedule, upstream: &[&str]) -> Situation {
        Situation {
            job: name.parse().unwrap(),
            schedule,
            upstream: upstream.iter().map(|name| name.parse().unwrap()).collect(),
            last_start: None,
            last_ended_start: None,
            failures: 0,
            running: false,
            inputs_changed: false,
        }
    }

    fn every(seconds: u64) -> Schedule {
        Schedule::Every(Duration::from_secs(seconds))
    }

    fn on_update() -> Schedule {
        Schedule::OnUpdate { at_most_every: Duration::from_secs(10) }
    }

    fn started(turn: &Turn) -> Vec<String> {
        turn.start.iter().map(ToString::to_string).collect()
    }

    fn ran(mut job: Situation, seconds: i64) -> Situation {
        (job.last_start, job.last_ended_start) = (Some(at(seconds)), Some(at(seconds)));
        job
    }

    #[test]
    fn a_new_job_runs_at_once_and_then_in_its_time() {
        let new = job("g.a", every(60), &[]);
        assert_eq!(started(&turn(std::slice::from_ref(&new), at(5), 2)), ["g.a"]);
        let done = ran(new, 5);
        let quiet = turn(std::slice::from_ref(&done), at(6), 2);
        assert_eq!((quiet.start.len(), quiet.next), (0, Some(at(60))));
        // However many times passed while nobody looked: one run.
        let late = turn(std::slice::from_ref(&done), at(605), 2);
        assert_eq!(started(&late), ["g.a"]);
        assert!(turn(&[ran(done, 605)], at(606), 2).start.is_empty());
        assert!(turn(&[job("g.b", Schedule::OnDemand, &[])], at(9), 2).start.is_empty());
    }

    #[test]
    fn a_follower_runs_when_its_inputs_changed_and_not_too_often() {
        let follower = ran(job("g.a", on_update(), &[]), 0);
        assert!(turn(std::slice::from_ref(&follower), at(60), 2).start.is_empty());
        let changed = Situation { inputs_changed: true, ..follower };
        assert!(turn(std::slice::from_ref(&changed), at(9), 2).start.is_empty());
        assert_eq!(turn(std::slice::from_ref(&changed), at(9), 2).next, Some(at(10)));
        assert_eq!(started(&turn(std::slice::from_ref(&changed), at(10), 2)), ["g.a"]);
        // Failing, it leaves more and more time.
        let failing = Situation { failures: 2, ..changed };
        assert!(turn(std::slice::from_ref(&failing), at(39), 2).start.is_empty());
        assert_eq!(started(&turn(&[failing], at(40), 2)), ["g.a"]);
    }

    #[test]
    fn a_chain_runs_in_order() {
        let (first, second) = (job("g.a", every(60), &[]), job("g.b", every(60), &["g.a"]));
        let jobs = [first.clone(), second.clone()];
        assert_eq!(started(&turn(&jobs, at(1), 4)), ["g.a"]);
        let running = Situation { last_start: Some(at(1)), running: true, ..first.clone() };
        assert!(turn(&[running, second.clone()], at(2), 4).start.is_empty());
        assert_eq!(started(&turn(&[ran(first.clone(), 1), second.clone()], at(3), 4)), ["g.b"]);
        // At the next minute again.
        let jobs = [ran(first.clone(), 1), ran(second.clone(), 3)];
        assert_eq!(started(&turn(&jobs, at(60), 4)), ["g.a"]);
        assert_eq!(started(&turn(&[ran(first, 60), ran(second, 3)], at(62), 4)), ["g.b"]);
    }

    #[test]
    fn a_job_that_always_runs_holds_nobody_up() {
        let busy = Situation { last_start: Some(at(62)), last_ended_start: Some(at(61)), running: true, ..job("g.a", every(1), &[]) };
        let waiting = ran(job("g.b", every(60), &["g.a"]), 3);
        assert_eq!(started(&turn(&[busy, waiting], at(63), 4)), ["g.b"]);
    }

    #[test]
    fn places_are_bounded() {
        let jobs: Vec<Situation> = (0..5).map(|n| job(&format!("g.j{n}"), every(60), &[])).collect();
        assert_eq!(started(&turn(&jobs, at(1), 2)), ["g.j0", "g.j1"]);
        assert!(turn(&jobs, at(1), 0).start.is_empty());
    }
}

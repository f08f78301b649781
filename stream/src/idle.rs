//! Which partitions are idle, so that others need not wait for their rows. Within a run it is those that have been read to their end for the
//! source's `idle_timeout`. A pipeline that runs for seconds at a time would never see that: over runs it is those of which two clocks say so
//! that know nothing of each other (docs/decisions/0005-idle-partitions.md).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use watershed_ingest::source::PartitionProgress;
use watershed_lake::clock::now_ms;

use crate::control::PartitionState;
use crate::epoch::SourceEpoch;
use crate::hidden::Lane;

/// A partition that has had rows and has been read to its end since an earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quiet {
    /// Since when by this machine's clock, though no longer ago than counts.
    pub since: Instant,
    /// The latest timestamp that any record of the source had which was read by then, in milliseconds since 1970.
    pub read_ms: i64,
}

impl Quiet {
    /// Whether it is idle by both clocks: this machine's, and that of those who write the source, whose newest records were read of the
    /// others at `others_ms`.
    fn idle(&self, timeout: Duration, others_ms: Option<i64>) -> bool {
        let timeout_ms = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        self.since.elapsed() >= timeout && others_ms.is_some_and(|ms| ms >= self.read_ms.saturating_add(timeout_ms))
    }
}

/// The same as records keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuietSince {
    /// Since when by the clock of the machine that found it so, in milliseconds since 1970.
    pub since_ms: u64,
    /// See [`Quiet::read_ms`].
    pub read_ms: i64,
}

impl QuietSince {
    /// The partitions of a source that its newest epoch finds at their end after rows. One that was there in the epoch `before`, too, and has had
    /// no row since, has been there since then.
    pub fn of(record: &SourceEpoch, before: Option<&SourceEpoch>) -> BTreeMap<i32, Self> {
        let Some(read_ms) = record.read_ms else { return BTreeMap::new() };
        let had_rows = record.caught_up_ms.iter().filter(|(partition, _)| record.newest_us.contains_key(*partition));
        let since = |(&partition, &since_ms): (&i32, &u64)| {
            let before = before.filter(|before| before.offsets.get(&partition) == record.offsets.get(&partition));
            let known = before.and_then(|before| before.quiet.get(&partition));
            let found = Self { since_ms, read_ms };
            (partition, known.map_or(found, |known| Self { since_ms: known.since_ms.min(since_ms), ..*known }))
        };
        had_rows.map(since).collect()
    }

    /// What it comes to when a run begins.
    pub fn in_run(&self, idle_timeout: Duration) -> Option<Quiet> {
        Some(Quiet { since: since(self.since_ms, idle_timeout)?, read_ms: self.read_ms })
    }
}

/// The instant at which this machine's clock showed `ms`, though no longer ago than `limit`.
pub fn since(ms: u64, limit: Duration) -> Option<Instant> {
    Instant::now().checked_sub(Duration::from_millis(now_ms().saturating_sub(ms)).min(limit))
}

/// How far the partitions of a task are, as far as idle ones are found by it.
#[derive(Debug, Clone, Default)]
pub struct AtEnd {
    /// Since when those that are read to their end are so, in this run.
    pub caught_up: BTreeMap<i32, Instant>,
    /// Those of them that were so in an earlier run and have had no row since.
    pub quiet: BTreeMap<i32, Quiet>,
    /// The latest timestamp in the newest records that were read of each in this run, in milliseconds since 1970.
    pub read_ms: BTreeMap<i32, i64>,
    /// The latest of all.
    pub read_ms_max: Option<i64>,
}

impl AtEnd {
    /// Rows of a partition came, the latest of which was written at `written_ms` if that is known.
    pub fn rows(&mut self, partition: i32, written_ms: i64) {
        self.not_at_end(partition);
        if written_ms >= 0 {
            self.read_ms.insert(partition, written_ms);
            self.read_ms_max = self.read_ms_max.max(Some(written_ms));
        }
    }

    fn not_at_end(&mut self, partition: i32) {
        self.caught_up.remove(&partition);
        self.quiet.remove(&partition);
    }

    /// Since when a partition has been read to its end; `None` if it is not.
    pub fn progress(&mut self, progress: &PartitionProgress) -> Option<Instant> {
        let partition = progress.partition;
        match progress.high_watermark {
            // The client does not know yet: what was found before it was opened holds until a row comes.
            None => self.caught_up.get(&partition).copied(),
            Some(_) if progress.is_caught_up() => Some(*self.caught_up.entry(partition).or_insert_with(Instant::now)),
            Some(_) => {
                self.not_at_end(partition);
                None
            }
        }
    }

    /// Whether a partition that was found idle still is: rows may have come since. Over runs it is only they that end it.
    pub fn still_idle(&self, partition: i32, timeout: Duration) -> bool {
        let in_run = self.caught_up.get(&partition).is_some_and(|since| since.elapsed() >= timeout);
        in_run || self.quiet.get(&partition).is_some_and(|quiet| quiet.since.elapsed() >= timeout)
    }

    /// Since when those that are read to their end are so in this run, in milliseconds since 1970.
    pub fn caught_up_ms(&self) -> BTreeMap<i32, u64> {
        let ms = |since: &Instant| now_ms().saturating_sub(since.elapsed().as_millis() as u64);
        self.caught_up.iter().map(|(&partition, since)| (partition, ms(since))).collect()
    }
}

/// The partitions that are idle, each by the timeout of its source.
pub fn idle(partitions: &BTreeMap<Lane, PartitionState>, timeout: impl Fn(Lane) -> Duration) -> BTreeSet<Lane> {
    let in_run = |lane: Lane, state: &PartitionState| state.caught_up_since.is_some_and(|since| since.elapsed() >= timeout(lane));
    let may_be =
        |lane: Lane, state: &PartitionState| in_run(lane, state) || state.quiet.is_some_and(|quiet| quiet.since.elapsed() >= timeout(lane));
    // None of these is quiet itself, so what they have read was written since.
    let others_ms = partitions.iter().filter(|(lane, state)| !may_be(**lane, state)).map(|(_, state)| state.read_ms).min().flatten();
    let idle =
        |lane: Lane, state: &PartitionState| in_run(lane, state) || state.quiet.is_some_and(|quiet| quiet.idle(timeout(lane), others_ms));
    partitions.iter().filter(|(lane, state)| idle(**lane, state)).map(|(&lane, _)| lane).collect()
}

/// What the watermarks of idle partitions are raised to: the least of those of all sources that are not idle, or, if all are, the greatest that
/// any has reached. Empty if no partition would move.
pub fn floors(partitions: &BTreeMap<Lane, PartitionState>, idle: &BTreeSet<Lane>) -> BTreeMap<Lane, i64> {
    let active = partitions.iter().filter(|(lane, _)| !idle.contains(lane)).map(|(_, state)| state.watermark_us).min();
    let floor = active.or_else(|| partitions.values().map(|state| state.watermark_us).max()).unwrap_or(i64::MIN);
    let raised = partitions.iter().filter(|(lane, state)| idle.contains(lane) && state.watermark_us < floor);
    raised.map(|(&lane, _)| (lane, floor)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn ago(seconds: u64) -> Instant {
        Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap()
    }

    fn partition(watermark_us: i64, idle: bool) -> PartitionState {
        let caught_up_since = idle.then(|| ago(60));
        let (next_offset, high_watermark) = (5, Some(5));
        PartitionState { next_offset, high_watermark, watermark_us, newest_us: watermark_us, caught_up_since, quiet: None, read_ms: None }
    }

    fn of(states: impl IntoIterator<Item = PartitionState>, timeout: Duration) -> BTreeMap<i32, i64> {
        let lanes = (0..).map(|partition| Lane { source: 0, partition });
        let states = lanes.zip(states).collect();
        let raised = floors(&states, &idle(&states, |_| timeout));
        raised.into_iter().map(|(lane, floor)| (lane.partition, floor)).collect()
    }

    #[test]
    fn an_idle_partition_is_raised_to_the_slowest_active_one() {
        let states = [partition(100, false), partition(70, false), partition(i64::MIN, true), partition(90, true)];
        assert_eq!(of(states, TIMEOUT), BTreeMap::from([(2, 70)]));
    }

    #[test]
    fn when_all_are_idle_the_farthest_leads() {
        let states = [partition(100, true), partition(70, true)];
        assert_eq!(of(states, TIMEOUT), BTreeMap::from([(1, 100)]));
        assert_eq!(of(states, Duration::from_secs(100)), BTreeMap::new());
    }

    #[test]
    fn an_idle_source_is_raised_to_the_others_by_its_own_timeout() {
        let states: BTreeMap<Lane, PartitionState> = [(0, 0, 100, false), (0, 1, 80, true), (1, 0, 10, true)]
            .map(|(source, partition, us, at_end)| (Lane { source, partition }, self::partition(us, at_end)))
            .into();
        let raised = |timeouts: [u64; 2]| {
            let idle = idle(&states, |lane| Duration::from_secs(timeouts[lane.source]));
            floors(&states, &idle).into_iter().map(|(lane, floor)| (lane.source, lane.partition, floor)).collect::<Vec<_>>()
        };
        assert_eq!(raised([10, 10]), [(0, 1, 100), (1, 0, 100)]);
        assert_eq!(raised([100, 10]), [(1, 0, 80)], "the slowest that is not idle is the second of the first source");
        assert!(raised([10, 100]).is_empty(), "the slowest is not idle yet");
    }

    #[test]
    fn over_runs_two_clocks_must_say_that_a_partition_is_idle() {
        let active = |read_ms: Option<i64>| PartitionState { read_ms, ..partition(100, false) };
        let quiet = |seconds: u64, read_ms: i64| PartitionState {
            caught_up_since: Some(Instant::now()),
            quiet: Some(Quiet { since: ago(seconds), read_ms }),
            ..partition(70, false)
        };
        let raised = BTreeMap::from([(1, 100)]);
        assert_eq!(of([active(Some(25_000)), quiet(20, 5_000)], TIMEOUT), raised);
        assert_eq!(of([active(Some(25_000)), quiet(5, 5_000)], TIMEOUT), BTreeMap::new(), "this machine's clock has not come so far");
        assert_eq!(of([active(Some(14_999)), quiet(20, 5_000)], TIMEOUT), BTreeMap::new(), "nor have those who write");
        assert_eq!(of([active(None), quiet(20, 5_000)], TIMEOUT), BTreeMap::new(), "nothing was read of the other");
        assert_eq!(of([active(Some(25_000)), quiet(20, 5_000), active(Some(9_000))], TIMEOUT), BTreeMap::new(), "one has old rows to read");
        // Two that are quiet say nothing of each other.
        assert_eq!(of([quiet(20, 0), PartitionState { watermark_us: 90, ..quiet(20, 0) }], TIMEOUT), BTreeMap::new());
        assert_eq!(of([active(Some(25_000)), quiet(20, 5_000), quiet(20, 20_000)], TIMEOUT), BTreeMap::from([]), "the third is not idle");
    }
}

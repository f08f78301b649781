//! Sources that meet in one stage go on side by side in event time: one that is too far ahead of the slowest waits for it, since until that has come
//! as far, all that it brings would only be kept.
//!
//! ```text
//! clicks  10:00 ─────────────► 10:31   waits: more than `max_ahead` (10 min) ahead of rides
//! rides   10:00 ───► 10:20
//! ```
//!
//! A partition that is idle holds nobody, nor does one that a run need not read any further. The slowest of the others never waits, so that one
//! source always goes on.

use std::collections::{BTreeMap, BTreeSet};

use crate::control::PartitionState;
use crate::hidden::Lane;

/// How far sources may go, for all tasks that read them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ceilings {
    /// Of each source: the watermark above which it waits, in microseconds since 1970. `i64::MIN` while another one that counts has none.
    pub ceilings_us: Vec<i64>,
    /// The partitions that do not count.
    pub aside: BTreeSet<Lane>,
    /// Of each source that waits: for which one.
    pub waits_for: Vec<Option<usize>>,
}

impl Ceilings {
    /// Before anything is known of any source.
    pub fn unknown(sources: usize) -> Self {
        Self { ceilings_us: vec![i64::MIN; sources], aside: BTreeSet::new(), waits_for: vec![None; sources] }
    }

    /// What follows from how far the partitions are: `groups` says of each source which others it meets (those of the same group), `aside` are the
    /// partitions that do not count. Of partitions that have not said yet how far they are nothing is known, so `all` must have said so.
    pub fn of(
        partitions: &BTreeMap<Lane, PartitionState>,
        all: impl IntoIterator<Item = Lane>,
        aside: BTreeSet<Lane>,
        groups: &[usize],
        max_ahead_us: i64,
    ) -> Self {
        let mut reached: Vec<Option<i64>> = vec![None; groups.len()];
        for lane in all {
            if aside.contains(&lane) {
                continue;
            }
            let us = partitions.get(&lane).map_or(i64::MIN, |state| state.watermark_us);
            let of_source = &mut reached[lane.source];
            *of_source = Some(of_source.map_or(us, |least| least.min(us)));
        }
        // Those that a source meets, with how far they are.
        let slowest = |source: usize| {
            let others = (0..groups.len()).filter(|&other| other != source && groups[other] == groups[source]);
            others.filter_map(|other| Some((reached[other]?, other))).min()
        };
        let ceiling = |source: usize| match slowest(source) {
            None => i64::MAX,
            Some((i64::MIN, _)) => i64::MIN,
            Some((us, _)) => us.saturating_add(max_ahead_us),
        };
        let ceilings_us: Vec<i64> = (0..groups.len()).map(ceiling).collect();
        let waits = |source: usize| slowest(source).filter(|_| reached[source].is_some_and(|us| us > ceilings_us[source]));
        let waits_for = (0..groups.len()).map(|source| waits(source).map(|(_, other)| other)).collect();
        Self { ceilings_us, aside, waits_for }
    }

    /// Whether a task must wait that has come so far in its partitions of a source.
    pub fn holds(&self, source: usize, watermarks_us: impl IntoIterator<Item = (i32, i64)>) -> bool {
        let counts = |partition: i32| !self.aside.contains(&Lane { source, partition });
        let reached_us = watermarks_us.into_iter().filter(|(partition, _)| counts(*partition)).map(|(_, us)| us).min();
        reached_us.is_some_and(|us| us > self.ceilings_us[source])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(watermark_us: i64) -> PartitionState {
        PartitionState {
            next_offset: 0,
            high_watermark: None,
            watermark_us,
            newest_us: watermark_us,
            caught_up_since: None,
            quiet: None,
            read_ms: None,
        }
    }

    fn lane(source: usize, partition: i32) -> Lane {
        Lane { source, partition }
    }

    /// Of sources that all meet, each with the watermarks of its partitions.
    fn ceilings(sources: &[&[i64]], aside: &[Lane]) -> Ceilings {
        let mut partitions = BTreeMap::new();
        for (source, watermarks) in sources.iter().enumerate() {
            partitions.extend(watermarks.iter().enumerate().map(|(partition, &us)| (lane(source, partition as i32), state(us))));
        }
        let all: Vec<Lane> = partitions.keys().copied().collect();
        Ceilings::of(&partitions, all, aside.iter().copied().collect(), &vec![0; sources.len()], 100)
    }

    #[test]
    fn the_fast_wait_for_the_slowest_which_goes_on() {
        let found = ceilings(&[&[1_000, 500], &[350], &[480]], &[]);
        assert_eq!(found.ceilings_us, [450, 580, 450]);
        assert_eq!(found.waits_for, [Some(1), None, Some(1)]);
        assert!(found.holds(0, [(0, 1_000), (1, 500)]) && !found.holds(0, [(0, 1_000), (1, 450)]), "its slowest partition counts");
        assert!(!found.holds(1, [(0, 350)]) && found.holds(2, [(0, 451)]));
    }

    #[test]
    fn one_without_rows_holds_the_others_until_it_does_not_count() {
        let found = ceilings(&[&[1_000], &[i64::MIN]], &[]);
        assert_eq!((found.ceilings_us.clone(), found.waits_for.clone()), (vec![i64::MIN, 1_100], vec![Some(1), None]));
        assert!(!found.holds(0, [(0, i64::MIN)]), "what has read nothing yet may begin");
        let found = ceilings(&[&[1_000], &[i64::MIN]], &[lane(1, 0)]);
        assert_eq!((found.ceilings_us.clone(), found.waits_for.clone()), (vec![i64::MAX, 1_100], vec![None, None]));
        assert!(!found.holds(1, [(0, 5_000)]), "where nothing counts nothing waits");
    }

    #[test]
    fn partitions_that_have_said_nothing_and_sources_that_do_not_meet() {
        let partitions = BTreeMap::from([(lane(0, 0), state(1_000)), (lane(2, 0), state(0))]);
        let all = [lane(0, 0), lane(1, 0), lane(2, 0)];
        let found = Ceilings::of(&partitions, all, BTreeSet::new(), &[7, 7, 8], 100);
        assert_eq!((found.ceilings_us, found.waits_for), (vec![i64::MIN, 1_100, i64::MAX], vec![Some(1), None, None]));
        assert!(Ceilings::unknown(2).holds(0, [(0, 1)]) && !Ceilings::unknown(2).holds(0, [(0, i64::MIN)]));
    }
}

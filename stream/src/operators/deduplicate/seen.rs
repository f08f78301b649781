//! When each key was last seen.
//!
//! Keys lie in runs, packed, those of one bucket of time in one segment; an index of hashes says where. A key that is seen again goes to the run that
//! grows in the newest bucket, and its old row is dead. A snapshot writes the runs that grew, so it costs what was seen since the last one. Keys that
//! are never seen again are forgotten a bucket at a time.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use watershed_functions::deduplicate::is_first;

use super::index::{Index, Place};
use super::keys::Keys;
use crate::StreamError;
use crate::budget::Aside;
use crate::operator::StateDelta;
use crate::segments::{Kind, Run, Segments};

/// See the module documentation.
pub struct Seen<S = RandomState> {
    within_us: i64,
    bucket_us: i64,
    hasher: S,
    index: Index,
    /// By the name of the run.
    runs: Vec<Option<Keys>>,
    /// The run of a bucket that gets the keys seen until the next snapshot.
    growing: BTreeMap<i64, u32>,
    saved: Segments<i64>,
}

impl<S: BuildHasher + Default> Seen<S> {
    /// No key was seen. A key counts as seen for `within_us`; a snapshot knows buckets of `bucket_us`.
    pub fn new(within_us: i64, bucket_us: i64) -> Self {
        Self {
            within_us,
            bucket_us,
            hasher: S::default(),
            index: Index::new(),
            runs: Vec::new(),
            growing: BTreeMap::new(),
            saved: Segments::default(),
        }
    }

    /// Notes that `key` was seen at `time`; true if it was not within the interval before.
    pub fn is_first(&mut self, key: &[u8], time: i64) -> bool {
        let hash = self.hasher.hash_one(key);
        let found = self.find(hash, key);
        let last = found.map(|place| self.time(place));
        self.note(hash, key, time, found);
        is_first(time, last, self.within_us)
    }

    /// Forgets keys that no row still to come can repeat.
    pub fn forget(&mut self, watermark_us: i64) {
        let mut forgotten = false;
        while let Some(bucket) = self.saved.first().copied().into_iter().chain(self.growing.keys().next().copied()).min() {
            let end_us = (bucket + 1).saturating_mul(self.bucket_us);
            if end_us.saturating_add(self.within_us) >= watermark_us {
                break;
            }
            forgotten = true;
            for run in self.saved.remove(&bucket) {
                self.drop_run(run.id);
            }
            if let Some(run) = self.growing.remove(&bucket) {
                self.drop_run(run);
                self.saved.give_back(run);
            }
        }
        if forgotten && self.index.is_sparse() {
            self.make_room();
        }
    }

    /// How many keys are known.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// How many bytes of memory they take.
    pub fn bytes(&self) -> usize {
        self.index.bytes() + self.runs.iter().flatten().map(Keys::bytes).sum::<usize>()
    }

    /// Puts the keys aside that were seen longest ago, until so many bytes are free, but no runs of fewer than `least`; gives how many are free.
    pub fn put_aside(&mut self, bytes: usize, least: usize, aside: &dyn Aside) -> Result<usize, StreamError> {
        let mut freed = 0;
        let mut runs: Vec<&mut Keys> = self.runs.iter_mut().flatten().collect();
        runs.sort_by_key(|keys| keys.bucket);
        for keys in runs {
            if freed >= bytes {
                break;
            }
            if keys.bytes() >= least {
                freed += keys.put_aside(aside)?;
            }
        }
        Ok(freed)
    }

    /// What changed since the last snapshot.
    pub fn snapshot(&mut self) -> Result<StateDelta, StreamError> {
        for (bucket, id) in std::mem::take(&mut self.growing) {
            let Some(keys) = self.runs[id as usize].as_mut() else { continue };
            keys.grows = false;
            let rows = keys.batch()?;
            self.saved.append_as(bucket, id, rows);
        }
        let mut saved = std::mem::take(&mut self.saved);
        let delta = saved.snapshot(self);
        self.saved = saved;
        delta
    }

    /// Takes back what a snapshot wrote. An older piece may still hold a key that a newer one has moved on: the later time counts.
    pub fn restore(&mut self, rows: &RecordBatch) {
        let keys = rows.column(0).as_binary::<i32>();
        let times = rows.column(1).as_primitive::<Int64Type>();
        for (key, &time) in keys.iter().flatten().zip(times.values()) {
            let hash = self.hasher.hash_one(key);
            let found = self.find(hash, key);
            if found.is_none_or(|place| self.time(place) < time) {
                self.note(hash, key, time, found);
            }
        }
    }

    fn time(&self, place: Place) -> i64 {
        self.runs[place.run as usize].as_ref().map_or(i64::MIN, |keys| keys.time(place.row as usize))
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<Place> {
        self.index.find(hash, |place| self.runs[place.run as usize].as_ref().is_some_and(|keys| keys.key(place.row as usize) == key))
    }

    /// Notes the time of a key that was `found` there.
    fn note(&mut self, hash: u64, key: &[u8], time: i64, found: Option<Place>) {
        let bucket = time.div_euclid(self.bucket_us);
        if let Some(place) = found
            && let Some(keys) = self.runs[place.run as usize].as_mut()
        {
            if keys.grows && keys.bucket == bucket {
                return keys.set_time(place.row as usize, time);
            }
            keys.dead += 1;
        }
        let run = match self.growing.get(&bucket) {
            Some(&run) => run,
            None => {
                let run = self.saved.reserve();
                self.growing.insert(bucket, run);
                self.put_run(run, Keys::new(bucket, true));
                run
            }
        };
        if found.is_none() && self.index.is_full() {
            self.make_room();
        }
        let Some(keys) = self.runs[run as usize].as_mut() else { return };
        let now = Place { run, row: keys.push(key, time) };
        match found {
            Some(before) => {
                self.index.move_to(hash, before, now);
            }
            None => self.index.insert(hash, now),
        }
    }

    /// Makes the index again, twice as large as there are keys.
    fn make_room(&mut self) {
        let mut index = Index::with_room(self.index.len());
        for (run, keys) in self.runs.iter().enumerate() {
            let Some(keys) = keys else { continue };
            for row in 0..keys.len() {
                let (hash, place) = (self.hasher.hash_one(keys.key(row)), Place { run: run as u32, row: row as u32 });
                if self.index.find(hash, |noted| noted == place).is_some() {
                    index.insert(hash, place);
                }
            }
        }
        self.index = index;
    }

    fn put_run(&mut self, run: u32, keys: Keys) {
        if self.runs.len() <= run as usize {
            self.runs.resize_with(run as usize + 1, || None);
        }
        self.runs[run as usize] = Some(keys);
    }

    /// Forgets a run and the keys that lie in it.
    fn drop_run(&mut self, run: u32) {
        let Some(keys) = self.runs[run as usize].take() else { return };
        for row in 0..keys.len() {
            self.index.remove(self.hasher.hash_one(keys.key(row)), Place { run, row: row as u32 });
        }
    }
}

impl<S: BuildHasher + Default> Kind<i64> for Seen<S> {
    const KEEPS: bool = false;

    fn name(&self, bucket: &i64) -> String {
        format!("s/{bucket}")
    }

    fn dead(&self, _bucket: &i64, run: u32) -> usize {
        self.runs.get(run as usize).and_then(Option::as_ref).map_or(0, |keys| keys.dead)
    }

    fn join(&mut self, &bucket: &i64, runs: &[Run], id: u32) -> Result<Option<RecordBatch>, StreamError> {
        let mut joined = Keys::new(bucket, false);
        for run in runs {
            let Some(keys) = self.runs[run.id as usize].take() else { continue };
            for row in 0..keys.len() {
                let (before, now) = (Place { run: run.id, row: row as u32 }, Place { run: id, row: joined.len() as u32 });
                if self.index.move_to(self.hasher.hash_one(keys.key(row)), before, now) {
                    joined.push(keys.key(row), keys.time(row));
                }
            }
        }
        if joined.len() == 0 {
            return Ok(None);
        }
        let rows = joined.batch()?;
        self.put_run(id, joined);
        Ok(Some(rows))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::hash::{BuildHasherDefault, Hasher};

    use proptest::prelude::*;

    use super::*;
    use crate::budget::tests::InMemory;
    use crate::operators::check::{Saved, save};

    /// All hashes are one of two.
    #[derive(Default)]
    struct Parity(u64);

    impl Hasher for Parity {
        fn finish(&self) -> u64 {
            self.0 % 2
        }

        fn write(&mut self, bytes: &[u8]) {
            self.0 += bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        }
    }

    const WITHIN: i64 = 100;
    const BUCKET: i64 = 10;

    #[derive(Debug, Clone)]
    enum Event {
        See(u8, i64),
        Forget,
        Snapshot,
        PutAside,
        Restart,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            12 => (0..20_u8, 0..4_i64).prop_map(|(key, wait)| Event::See(key, wait)),
            2 => Just(Event::Forget),
            3 => Just(Event::Snapshot),
            1 => Just(Event::PutAside),
            1 => Just(Event::Restart),
        ];
        prop::collection::vec(event, 0..400)
    }

    /// Whether keys are first is what a list of all that was seen says, whatever was written, forgotten and restored in between.
    fn as_the_model<S: BuildHasher + Default>(events: Vec<Event>) {
        let mut seen = Seen::<S>::new(WITHIN, BUCKET);
        let (mut model, mut saved, mut now) = (HashMap::new(), Saved::new(), 0);
        // What a restart goes back to: the model and the time of the last snapshot.
        let mut known = (model.clone(), now);
        for event in events {
            match event {
                Event::See(key, wait) => {
                    now += wait;
                    let expected = model.insert(key, now).is_none_or(|last| now - last > WITHIN);
                    assert_eq!(seen.is_first(&[key], now), expected, "key {key} at {now}");
                }
                Event::Forget => seen.forget(now),
                Event::Snapshot => {
                    save(&mut saved, seen.snapshot().unwrap());
                    known = (model.clone(), now);
                }
                Event::PutAside => {
                    let before = seen.bytes();
                    assert_eq!(before - seen.put_aside(1_000, 1, &InMemory).unwrap(), seen.bytes());
                }
                Event::Restart => {
                    seen = Seen::new(WITHIN, BUCKET);
                    saved.values().flatten().for_each(|rows| seen.restore(rows));
                    saved.clear();
                    (model, now) = known.clone();
                    save(&mut saved, seen.snapshot().unwrap());
                }
            }
            assert!(seen.len() <= 20);
        }
        // In the end all is forgotten, in memory and in the store.
        seen.forget(now + 10 * WITHIN);
        save(&mut saved, seen.snapshot().unwrap());
        assert_eq!((seen.len(), saved.len()), (0, 0));
        assert!(seen.runs.iter().all(Option::is_none));
    }

    proptest! {
        #[test]
        fn keys_are_known_through_snapshots_and_restarts(events in events()) {
            as_the_model::<RandomState>(events.clone());
            as_the_model::<BuildHasherDefault<Parity>>(events);
        }
    }

    #[test]
    fn a_snapshot_writes_the_keys_that_were_seen_since_the_last() {
        let mut seen = Seen::<RandomState>::new(1_000_000, 1_000_000);
        let mut saved = Saved::new();
        for key in 0..100_000_u32 {
            seen.is_first(&key.to_le_bytes(), 1);
        }
        save(&mut saved, seen.snapshot().unwrap());
        let mut rows = 0;
        for epoch in 0..64_u32 {
            for key in 0..500 {
                assert!(!seen.is_first(&(epoch * 500 + key).to_le_bytes(), 2 + i64::from(epoch)));
            }
            let delta = seen.snapshot().unwrap();
            rows += delta.changes.iter().flat_map(|change| &change.rows).map(RecordBatch::num_rows).sum::<usize>();
            save(&mut saved, delta);
        }
        // 500 each time, and joins of these; not the 100,000.
        assert!((32_000..160_000).contains(&rows), "{rows}");
        let pieces = saved["s/0"].len();
        assert!(pieces <= 12, "{pieces} pieces");
        let mut restored = Seen::<RandomState>::new(1_000_000, 1_000_000);
        saved["s/0"].iter().for_each(|rows| restored.restore(rows));
        assert_eq!(restored.len(), 100_000);
        assert_eq!(restored.time(restored.find(restored.hasher.hash_one(&700_u32.to_le_bytes()[..]), &700_u32.to_le_bytes()).unwrap()), 3);
    }
}

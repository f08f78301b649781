//! The container against a model: whatever is done and wherever it is restored, memory and store hold the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use proptest::prelude::*;

use super::*;
use crate::operators::check::{Saved, save};

fn schema() -> SchemaRef {
    Schema::new(vec![Field::new("value", DataType::Int64, false)]).into()
}

fn rows(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from_iter_values(values))]).unwrap()
}

fn values<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> Vec<i64> {
    batches.into_iter().flat_map(|rows| rows.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Append(u8, usize),
    Replace(u8, usize),
    Remove(u8),
    Snapshot,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let count = prop_oneof![6 => 0..40_usize, 2 => 500..2_000_usize, 1 => 4_000..9_000_usize];
    let step = prop_oneof![
        8 => (0..4_u8, count.clone()).prop_map(|(key, count)| Step::Append(key, count)),
        1 => (0..4_u8, count).prop_map(|(key, count)| Step::Replace(key, count)),
        1 => (0..4_u8).prop_map(Step::Remove),
        6 => Just(Step::Snapshot),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..80)
}

type Model = BTreeMap<String, Vec<i64>>;

fn stored(saved: &Saved) -> Model {
    saved.iter().map(|(name, pieces)| (name.clone(), values(pieces))).filter(|(_, values)| !values.is_empty()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn memory_and_store_hold_what_was_added(steps in steps()) {
        let schema = schema();
        let mut segments = Segments::<u8>::default();
        let (mut saved, mut model, mut known) = (Saved::new(), Model::new(), Model::new());
        let mut next = 0_i64;
        let mut fresh = |count: usize| {
            next += count as i64;
            (next - count as i64)..next
        };
        for step in steps {
            match step {
                Step::Append(key, count) => {
                    let added = fresh(count);
                    segments.append(key, rows(added.clone()));
                    model.entry(key.to_string()).or_default().extend(added);
                }
                Step::Replace(key, count) => {
                    let added = fresh(count);
                    segments.replace(key, [rows(added.clone())]);
                    model.insert(key.to_string(), added.collect());
                }
                Step::Remove(key) => {
                    let gone = segments.remove(&key);
                    prop_assert_eq!(values(gone.iter().map(|run| &run.rows)), model.remove(&key.to_string()).unwrap_or_default());
                }
                Step::Snapshot => {
                    save(&mut saved, segments.snapshot(&mut Plain::new(&schema, u8::to_string)).unwrap());
                    model.retain(|_, values| !values.is_empty());
                    prop_assert_eq!(&stored(&saved), &model);
                    known.clone_from(&model);
                }
                Step::Restart => {
                    segments = Segments::default();
                    for (name, pieces) in std::mem::take(&mut saved) {
                        pieces.into_iter().for_each(|rows| segments.append(name.parse().unwrap(), rows));
                    }
                    model.clone_from(&known);
                    save(&mut saved, segments.snapshot(&mut Plain::new(&schema, u8::to_string)).unwrap());
                }
            }
            let held = values((0..4).flat_map(|key| segments.runs(&key)).map(|run| &run.rows));
            prop_assert_eq!(held, model.values().flatten().copied().collect::<Vec<_>>());
            prop_assert_eq!(segments.rows(), model.values().map(Vec::len).sum::<usize>());
            prop_assert_eq!(segments.bytes(), 8 * segments.rows());
            for pieces in saved.values() {
                prop_assert!(pieces.len() <= 40, "{} pieces", pieces.len());
            }
        }
    }
}

/// The value of a key is what the last row says.
#[derive(Default)]
struct Latest {
    /// By key: the run that has its row.
    runs: BTreeMap<i64, u32>,
    dead: BTreeMap<u32, usize>,
    rows: BTreeMap<u32, Vec<i64>>,
}

impl Latest {
    fn add(&mut self, run: u32, keys: Vec<i64>) {
        for &key in &keys {
            if let Some(before) = self.runs.insert(key, run) {
                *self.dead.entry(before).or_default() += 1;
            }
        }
        self.dead.insert(run, 0);
        self.rows.insert(run, keys);
    }
}

impl Kind<u8> for Latest {
    const KEEPS: bool = false;

    fn name(&self, key: &u8) -> String {
        key.to_string()
    }

    fn dead(&self, _key: &u8, run: u32) -> usize {
        self.dead.get(&run).copied().unwrap_or(0)
    }

    fn join(&mut self, _key: &u8, runs: &[Run], id: u32) -> Result<Option<RecordBatch>, StreamError> {
        let mut live = Vec::new();
        for run in runs {
            let rows = self.rows.remove(&run.id).unwrap();
            live.extend(rows.into_iter().filter(|key| self.runs[key] == run.id));
            self.dead.remove(&run.id);
        }
        if live.is_empty() {
            return Ok(None);
        }
        for &key in &live {
            self.runs.insert(key, id);
        }
        self.dead.insert(id, 0);
        self.rows.insert(id, live.clone());
        Ok(Some(rows(live)))
    }
}

#[test]
fn what_is_written_follows_what_changed_and_dead_rows_are_left_out() {
    for held in [10_000, 100_000, 1_000_000] {
        let (mut segments, mut kind, mut saved) = (Segments::<u8>::default(), Latest::default(), Saved::new());
        let mut written = 0;
        for epoch in 0..=100 {
            let keys: Vec<i64> =
                if epoch == 0 { (0..held).collect() } else { (0..1_000).map(|i| (epoch * 7_919 + i * 104_729) % held).collect() };
            let run = segments.reserve();
            segments.append_as(0, run, rows(keys.clone()));
            kind.add(run, keys);
            let delta = segments.snapshot(&mut kind).unwrap();
            if epoch > 0 {
                written += delta.changes.iter().flat_map(|change| &change.rows).map(RecordBatch::num_rows).sum::<usize>();
            }
            save(&mut saved, delta);
            assert!(saved["0"].len() <= 16, "{} pieces", saved["0"].len());
            let stored = saved["0"].iter().map(RecordBatch::num_rows).sum::<usize>();
            assert!(stored <= 2 * held as usize + 1_024, "{stored} rows of {held} keys");
        }
        // A thousand keys an epoch, of which each is written again each time the run it is in is joined.
        assert!((100_000..600_000).contains(&written), "{written} rows with {held} keys held");
        let mut last = values(&saved["0"]);
        last.sort_unstable();
        last.dedup();
        assert_eq!(last.len(), held as usize);
    }
}

#[test]
fn runs_are_joined_with_those_of_like_size() {
    // Small ones always.
    assert_eq!(join_from(&[1_000, 20, 3], 2), 0);
    assert_eq!(join_from(&[1_000, 24, 3], 2), 1);
    assert_eq!(join_from(&[4_096, 1_024, 900, 700], 3), 3);
    assert_eq!(join_from(&[4_096, 1_024, 1_024, 1_024, 1_000], 4), 1);
    // What is small and in the way goes along.
    assert_eq!(join_from(&[50_000, 10, 5_000], 2), 1);
    assert_eq!(join_from(&[], 0), 0);
    // Nothing is joined beyond the greatest length.
    assert_eq!(join_from(&[900_000, 900_000, 900_000, 900_000], 3), 3);
}

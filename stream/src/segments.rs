//! The one container for operator state: named segments, such as a window or a bucket of time, each made of *runs* of rows.
//!
//! New rows make new runs. A snapshot writes those, and now and then joins them with older ones of like size, so that a segment has few runs, each
//! row is written a logarithmic number of times, and what an epoch writes follows what came, not what is held. The store keeps the same list
//! of runs for each segment as ranges of bytes; see [`Change`].
//!
//! ```text
//! runs of a segment (rows)          a snapshot writes
//! 4096 1024 900 | 700          →    700, appended
//! 4096 1024 1024 1024 | 1000   →    4072 in the place of the last four
//! 4096 (3000 dead) 1024 | 700  →    700, appended; 1096 in the place of the first
//! ```

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

use arrow::array::Array;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::StreamError;
use crate::budget::{ASIDE_BYTES_MIN, Aside};
use crate::operator::{Change, StateDelta};

/// Runs are joined however few they are, as long as the result is not longer than this.
const SMALL_ROWS: usize = 1_024;
/// So many runs of like size are joined to one of the next size: each size is this many times the one before.
const FAN_OUT: usize = 4;
/// Runs are not joined beyond this, so that no snapshot has to write a long one again because of its age alone.
const RUN_ROWS_MAX: usize = 1_048_576;

/// Rows that were added to a segment together, or joined since.
#[derive(Debug)]
pub struct Run {
    /// Names it among all runs of the container for as long as it is there.
    pub id: u32,
    /// Its rows, unless the operator keeps them itself ([`Kind::KEEPS`]).
    pub rows: RecordBatch,
    /// How many rows it has.
    pub count: usize,
    bytes: usize,
}

/// What an operator knows of its segments.
pub trait Kind<K> {
    /// Whether the container keeps the rows. If not they are let go once they were written.
    const KEEPS: bool = true;

    /// The segment's name in the store.
    fn name(&self, key: &K) -> String;

    /// How many rows of a run no longer count, because a later run says otherwise or they have left.
    fn dead(&self, _key: &K, _run: u32) -> usize {
        0
    }

    /// The rows of several runs that still count as those of one, which will be known as `id`; `None` if there are none.
    fn join(&mut self, key: &K, runs: &[Run], id: u32) -> Result<Option<RecordBatch>, StreamError>;
}

/// Segments of rows that are only added and dropped together.
pub struct Plain<'a, F> {
    schema: &'a SchemaRef,
    name: F,
}

impl<'a, F> Plain<'a, F> {
    /// Rows of `schema`; `name` gives a segment's name.
    pub fn new(schema: &'a SchemaRef, name: F) -> Self {
        Self { schema, name }
    }
}

impl<K, F: Fn(&K) -> String> Kind<K> for Plain<'_, F> {
    fn name(&self, key: &K) -> String {
        (self.name)(key)
    }

    fn join(&mut self, _key: &K, runs: &[Run], _id: u32) -> Result<Option<RecordBatch>, StreamError> {
        let rows = concat_batches(self.schema, runs.iter().map(|run| &run.rows))?;
        Ok((rows.num_rows() > 0).then_some(rows))
    }
}

/// A segment, and what the store has of it.
#[derive(Debug, Default)]
struct Segment {
    runs: Vec<Run>,
    /// So many of the runs are in the store, at the same places.
    stored: usize,
    /// So many pieces follow these in the store that are no longer among the runs.
    replaced: usize,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Segments<K> {
    live: BTreeMap<K, Segment>,
    /// Dropped since the last snapshot: how many pieces the store has of each.
    gone: BTreeMap<K, usize>,
    ids: Ids,
    rows: usize,
    bytes: usize,
}

impl<K> Default for Segments<K> {
    fn default() -> Self {
        Self { live: BTreeMap::new(), gone: BTreeMap::new(), ids: Ids::default(), rows: 0, bytes: 0 }
    }
}

impl<K: Ord + Clone> Segments<K> {
    /// A name for a run that will be added.
    pub fn reserve(&mut self) -> u32 {
        self.ids.take()
    }

    /// A name that was reserved and not used.
    pub fn give_back(&mut self, id: u32) {
        self.ids.give_back(id);
    }

    /// Adds rows to a segment.
    pub fn append(&mut self, key: K, rows: RecordBatch) {
        let bytes = bytes_of(&rows);
        self.append_sized(key, rows, bytes);
    }

    /// Adds rows that take so many bytes to a segment.
    pub fn append_sized(&mut self, key: K, rows: RecordBatch, bytes: usize) {
        let id = self.reserve();
        self.push(key, Run { id, count: rows.num_rows(), bytes, rows });
    }

    /// Adds rows to a segment under a name that was reserved.
    pub fn append_as(&mut self, key: K, id: u32, rows: RecordBatch) {
        self.push(key, Run { id, count: rows.num_rows(), bytes: bytes_of(&rows), rows });
    }

    fn push(&mut self, key: K, run: Run) {
        if run.count == 0 {
            return self.give_back(run.id);
        }
        self.rows += run.count;
        self.bytes += run.bytes;
        let segment = match self.live.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let replaced = self.gone.remove(entry.key()).unwrap_or(0);
                entry.insert(Segment { replaced, ..Segment::default() })
            }
        };
        segment.runs.push(run);
    }

    /// Puts rows in the place of all that a segment has.
    pub fn replace(&mut self, key: K, batches: impl IntoIterator<Item = RecordBatch>) {
        self.remove(&key);
        for rows in batches {
            self.append(key.clone(), rows);
        }
    }

    /// Takes a segment out.
    pub fn remove(&mut self, key: &K) -> Vec<Run> {
        let Some(segment) = self.live.remove(key) else { return Vec::new() };
        for run in &segment.runs {
            self.rows -= run.count;
            self.bytes -= run.bytes;
            self.ids.give_back(run.id);
        }
        let stored = segment.stored + segment.replaced;
        if stored > 0 {
            self.gone.insert(key.clone(), stored);
        }
        segment.runs
    }

    /// The first segment.
    pub fn first(&self) -> Option<&K> {
        self.live.first_key_value().map(|(key, _)| key)
    }

    /// The runs of a segment, oldest first.
    pub fn runs(&self, key: &K) -> &[Run] {
        self.live.get(key).map_or(&[], |segment| &segment.runs)
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many bytes the rows take that are kept here.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts rows aside until so many bytes are free, those of the last segments first: in the order of time they are needed last. Gives how many are.
    pub fn put_aside(&mut self, bytes: usize, aside: &dyn Aside) -> Result<usize, StreamError> {
        let mut freed = 0;
        let mut runs = Vec::new();
        for run in self.live.values_mut().rev().flat_map(|segment| &mut segment.runs) {
            if freed >= bytes {
                break;
            }
            if run.bytes > 0 {
                freed += run.bytes;
                runs.push(run);
            }
        }
        if freed < ASIDE_BYTES_MIN {
            return Ok(0);
        }
        let rows: Vec<RecordBatch> = runs.iter().map(|run| run.rows.clone()).collect();
        for (run, rows) in runs.into_iter().zip(aside.put(&rows)?) {
            (run.rows, run.bytes) = (rows, 0);
        }
        self.bytes -= freed;
        Ok(freed)
    }

    /// What changed since the last snapshot. From then on the store is expected to have it.
    pub fn snapshot<S: Kind<K>>(&mut self, kind: &mut S) -> Result<StateDelta, StreamError> {
        let mut delta =
            StateDelta { deletes: std::mem::take(&mut self.gone).keys().map(|key| kind.name(key)).collect(), ..StateDelta::default() };
        let mut emptied = Vec::new();
        for (key, segment) in &mut self.live {
            let is_stored = segment.stored + segment.replaced > 0;
            let changes = segment.snapshot(key, kind, &mut self.ids)?;
            if segment.runs.is_empty() {
                if is_stored {
                    delta.deletes.push(kind.name(key));
                }
                emptied.push(key.clone());
            } else {
                let name = |(replaces, rows)| Change { segment: kind.name(key), replaces, rows };
                delta.changes.extend(changes.into_iter().map(name));
            }
        }
        emptied.iter().for_each(|key| drop(self.live.remove(key)));
        let runs = || self.live.values().flat_map(|segment| &segment.runs);
        (self.rows, self.bytes) = (runs().map(|run| run.count).sum(), runs().map(|run| run.bytes).sum());
        Ok(delta)
    }
}

/// Which pieces are replaced, and by what.
type Replaced = (Range<usize>, Option<RecordBatch>);

impl Segment {
    fn snapshot<K, S: Kind<K>>(&mut self, key: &K, kind: &mut S, ids: &mut Ids) -> Result<Vec<Replaced>, StreamError> {
        let mut changes = Vec::new();
        let counts: Vec<usize> = self.runs.iter().map(|run| run.count - kind.dead(key, run.id)).collect();
        let mut from = self.runs.len();
        if self.stored < from || self.replaced > 0 {
            from = join_from(&counts, self.stored);
            let tail: Vec<Run> = self.runs.drain(from..).collect();
            let replaces = from..self.stored + self.replaced;
            let joined = joined(key, tail, kind, ids)?;
            let rows = joined.as_ref().map(|run| run.rows.clone());
            if rows.is_some() || !replaces.is_empty() {
                changes.push((replaces, rows));
            }
            self.runs.extend(joined);
        }
        // From the back, so that the places of those before stay as they are.
        for place in (0..from).rev() {
            let run = &self.runs[place];
            if 2 * counts[place] < run.count {
                let run = self.runs.remove(place);
                let joined = joined(key, vec![run], kind, ids)?;
                changes.push((place..place + 1, joined.as_ref().map(|run| run.rows.clone())));
                if let Some(run) = joined {
                    self.runs.insert(place, run);
                }
            }
        }
        (self.stored, self.replaced) = (self.runs.len(), 0);
        if !S::KEEPS {
            for run in &mut self.runs {
                (run.rows, run.bytes) = (RecordBatch::new_empty(run.rows.schema()), 0);
            }
        }
        Ok(changes)
    }
}

/// Several runs as one, without what is dead.
fn joined<K, S: Kind<K>>(key: &K, mut runs: Vec<Run>, kind: &mut S, ids: &mut Ids) -> Result<Option<Run>, StreamError> {
    if runs.len() == 1 && kind.dead(key, runs[0].id) == 0 {
        return Ok(runs.pop());
    }
    let id = ids.take();
    let rows = kind.join(key, &runs, id)?;
    runs.iter().for_each(|run| ids.give_back(run.id));
    if rows.is_none() {
        ids.give_back(id);
    }
    Ok(rows.map(|rows| Run { id, count: rows.num_rows(), bytes: bytes_of(&rows), rows }))
}

/// The first of the runs that a snapshot joins, of runs with so many rows of which those before `fresh` are in the store.
fn join_from(counts: &[usize], fresh: usize) -> usize {
    let mut from = fresh.min(counts.len());
    let mut size: usize = counts[from..].iter().sum();
    loop {
        let before = &counts[..from];
        if let Some(last) = before.last().filter(|&&last| last + size <= SMALL_ROWS) {
            (from, size) = (from - 1, size + last);
            continue;
        }
        // Shorter ones that are in the way, then those of like size if they are many.
        let smaller = before.iter().rev().take_while(|&&count| level(count) < level(size)).count();
        let alike = before.iter().rev().skip(smaller).take_while(|&&count| level(count) == level(size)).count();
        let taken = if alike + 1 >= FAN_OUT { smaller + alike } else { smaller };
        let sum: usize = before[from - taken..].iter().sum();
        if taken == 0 || size + sum > RUN_ROWS_MAX {
            return from;
        }
        (from, size) = (from - taken, size + sum);
    }
}

/// The size of a run, as a power of [`FAN_OUT`].
fn level(count: usize) -> u32 {
    (count.saturating_sub(1) / SMALL_ROWS).checked_ilog(FAN_OUT).map_or(0, |log| log + 1)
}

/// How many bytes the rows take. Of memory that is shared with other rows only their part counts. This is not free: for the parts of a batch that is
/// cut into many, a part of its bytes will do.
pub(crate) fn bytes_of(rows: &RecordBatch) -> usize {
    let of = |column: &dyn Array| column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size());
    rows.columns().iter().map(|column| of(column)).sum()
}

/// Numbers that are in use, the lowest free ones first.
#[derive(Debug, Default)]
struct Ids {
    free: Vec<u32>,
    next: u32,
}

impl Ids {
    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    fn give_back(&mut self, id: u32) {
        self.free.push(id);
    }
}

//! Groups of a large table that no row came for since the last snapshot: their states rest in runs of columns instead of accumulators.
//!
//! A group wakes when a row comes for it: its state goes back into the accumulators as it was, so the result does not depend on when snapshots were
//! made. A snapshot then has to write the groups that are awake, and no others. Accumulators alone could not say those: they only hand out all.

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{concat, interleave, take};
use arrow::record_batch::RecordBatch;

use crate::StreamError;
use crate::budget::{ASIDE_BYTES_MIN, Aside};

/// No place among the accumulators; no run.
const NONE: u32 = u32::MAX;

/// Where the state of a group lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    run: u32,
    row: u32,
}

const NOWHERE: Place = Place { run: NONE, row: 0 };

/// Groups with their states.
struct Run {
    /// Its name in the container of segments.
    id: u32,
    /// Keys, then states.
    columns: Vec<ArrayRef>,
    /// The group of each row.
    groups: Vec<u32>,
    dead: usize,
    /// Whether the columns are not in memory.
    is_aside: bool,
}

impl Run {
    fn bytes(&self) -> usize {
        if self.is_aside { 0 } else { self.columns.iter().map(|column| column.get_array_memory_size()).sum() }
    }
}

/// See the module documentation.
#[derive(Default)]
pub(super) struct Resting {
    /// By group: its place among the accumulators.
    awake_at: Vec<u32>,
    /// By group: where its state rests.
    places: Vec<Place>,
    /// Groups by their place among the accumulators.
    awake: Vec<u32>,
    /// Keys of these, column by column, in pieces.
    keys: Vec<Vec<ArrayRef>>,
    runs: Vec<Option<Run>>,
}

/// States that go back into accumulators.
pub(super) struct Woken {
    /// State columns.
    pub(super) states: Vec<ArrayRef>,
    /// Place of each row among the accumulators.
    pub(super) at: Vec<usize>,
}

impl Resting {
    /// How many groups are in accumulators.
    pub(super) fn awake_count(&self) -> usize {
        self.awake.len()
    }

    /// Wakes the groups that rows are of, out of `group_count`, and puts their places among the accumulators instead. `keys` are those of the rows.
    pub(super) fn wake(&mut self, groups: &mut [usize], group_count: usize, keys: &[ArrayRef]) -> Result<Option<Woken>, StreamError> {
        self.awake_at.resize(group_count, NONE);
        self.places.resize(group_count, NOWHERE);
        let mut new_rows = Vec::new();
        let mut resting: Vec<Place> = Vec::new();
        let mut at = Vec::new();
        for (row, group) in groups.iter_mut().enumerate() {
            let place = &mut self.awake_at[*group];
            if *place == NONE {
                *place = self.awake.len() as u32;
                self.awake.push(*group as u32);
                new_rows.push(row as u32);
                let state = std::mem::replace(&mut self.places[*group], NOWHERE);
                if state != NOWHERE {
                    resting.push(state);
                    at.push(*place as usize);
                }
            }
            *group = *place as usize;
        }
        if !new_rows.is_empty() {
            let new_rows = UInt32Array::from(new_rows);
            self.keys.push(keys.iter().map(|key| take(key, &new_rows, None)).collect::<Result<_, _>>()?);
        }
        if resting.is_empty() {
            return Ok(None);
        }
        for place in &resting {
            if let Some(run) = &mut self.runs[place.run as usize] {
                run.dead += 1;
            }
        }
        Ok(Some(Woken { states: self.gather(&resting, keys.len()..)?, at }))
    }

    /// Columns of the groups that rest at some places.
    fn gather(&self, places: &[Place], columns: std::ops::RangeFrom<usize>) -> Result<Vec<ArrayRef>, StreamError> {
        let (mut arrays_at, mut runs) = (vec![0; self.runs.len()], Vec::new());
        for (at, run) in self.runs.iter().enumerate() {
            if let Some(run) = run {
                arrays_at[at] = runs.len();
                runs.push(run);
            }
        }
        let indices: Vec<(usize, usize)> = places.iter().map(|place| (arrays_at[place.run as usize], place.row as usize)).collect();
        let width = runs.first().map_or(0, |run| run.columns.len());
        (columns.start..width)
            .map(|column| {
                let arrays: Vec<_> = runs.iter().map(|run| run.columns[column].as_ref()).collect();
                Ok(interleave(&arrays, &indices)?)
            })
            .collect()
    }

    /// Takes note that the groups that are awake go to rest as the run `id`, with states that the accumulators have handed out. Gives keys and states.
    pub(super) fn rest(&mut self, id: u32, states: Vec<ArrayRef>) -> Result<Vec<ArrayRef>, StreamError> {
        let groups = std::mem::take(&mut self.awake);
        let pieces = std::mem::take(&mut self.keys);
        let key_count = pieces.first().map_or(0, Vec::len);
        let mut columns = Vec::with_capacity(key_count + states.len());
        for key in 0..key_count {
            let parts: Vec<_> = pieces.iter().map(|piece| piece[key].as_ref()).collect();
            columns.push(concat(&parts)?);
        }
        columns.extend(states);
        for &group in &groups {
            self.awake_at[group as usize] = NONE;
        }
        self.add(id, columns.clone(), groups);
        Ok(columns)
    }

    /// A run with all groups of a table that was not resting so far.
    pub(super) fn all(id: u32, columns: Vec<ArrayRef>, group_count: usize) -> Self {
        let mut resting = Self { awake_at: vec![NONE; group_count], places: vec![NOWHERE; group_count], ..Self::default() };
        resting.add(id, columns, (0..group_count as u32).collect());
        resting
    }

    fn add(&mut self, id: u32, columns: Vec<ArrayRef>, groups: Vec<u32>) {
        let run = self.runs.iter().position(Option::is_none).unwrap_or(self.runs.len());
        for (row, &group) in groups.iter().enumerate() {
            self.places[group as usize] = Place { run: run as u32, row: row as u32 };
        }
        if run == self.runs.len() {
            self.runs.push(None);
        }
        self.runs[run] = Some(Run { id, columns, groups, dead: 0, is_aside: false });
    }

    /// How many groups of a run have been woken since.
    pub(super) fn dead(&self, id: u32) -> usize {
        self.runs.iter().flatten().find(|run| run.id == id).map_or(0, |run| run.dead)
    }

    /// Joins runs to one that is called `id`: the groups that still rest there, in the order of their numbers. Gives keys and states; `None` if there
    /// are none.
    pub(super) fn join(&mut self, ids: &[u32], id: u32) -> Result<Option<Vec<ArrayRef>>, StreamError> {
        let mut resting: Vec<(u32, Place)> = Vec::new();
        for (at, run) in self.runs.iter().enumerate() {
            let Some(run) = run.as_ref().filter(|run| ids.contains(&run.id)) else { continue };
            for (row, &group) in run.groups.iter().enumerate() {
                let place = Place { run: at as u32, row: row as u32 };
                if self.places[group as usize] == place {
                    resting.push((group, place));
                }
            }
        }
        resting.sort_unstable_by_key(|(group, _)| *group);
        let (groups, places): (Vec<u32>, Vec<Place>) = resting.into_iter().unzip();
        let columns = if places.is_empty() { None } else { Some(self.gather(&places, 0..)?) };
        for run in &mut self.runs {
            run.take_if(|run| ids.contains(&run.id));
        }
        if let Some(columns) = &columns {
            self.add(id, columns.clone(), groups);
        }
        Ok(columns)
    }

    /// The state columns of all groups, by their number; `awake` are those that accumulators have handed out.
    pub(super) fn all_states(mut self, awake: Vec<ArrayRef>, key_count: usize) -> Result<Vec<ArrayRef>, StreamError> {
        if !self.awake.is_empty() {
            self.rest(NONE, awake)?;
        }
        self.gather(&self.places, key_count..)
    }

    /// Puts runs aside until so many bytes are free; gives how many are.
    pub(super) fn put_aside(&mut self, bytes: usize, aside: &dyn Aside) -> Result<usize, StreamError> {
        let mut freed = 0;
        for run in self.runs.iter_mut().flatten() {
            if freed >= bytes {
                break;
            }
            let of_run = run.bytes();
            if of_run < ASIDE_BYTES_MIN {
                continue;
            }
            let rows = RecordBatch::try_from_iter_with_nullable(run.columns.iter().map(|column| ("", column.clone(), true)))?;
            if let [rows] = aside.put(&[rows])?.as_slice() {
                run.columns = rows.columns().to_vec();
                run.is_aside = true;
                freed += of_run;
            }
        }
        Ok(freed)
    }

    /// How many bytes of memory it takes.
    pub(super) fn bytes(&self) -> usize {
        let arrays = |columns: &[ArrayRef]| columns.iter().map(|column| column.get_array_memory_size()).sum::<usize>();
        let runs: usize = self.runs.iter().flatten().map(|run| run.bytes() + 4 * run.groups.len()).sum();
        let keys: usize = self.keys.iter().map(|piece| arrays(piece)).sum();
        runs + keys + 4 * (self.awake_at.len() + self.awake.len()) + 8 * self.places.len()
    }
}

/// The rows that count of pieces of one segment: the last of each group, in the order in which groups first came. `groups` says which each row is of.
pub(super) fn latest(pieces: &[Vec<ArrayRef>], groups: &[Vec<usize>]) -> Result<Vec<ArrayRef>, StreamError> {
    let mut places: Vec<(usize, usize)> = Vec::new();
    for (piece, groups) in groups.iter().enumerate() {
        for (row, &group) in groups.iter().enumerate() {
            if group >= places.len() {
                places.resize(group + 1, (0, 0));
            }
            places[group] = (piece, row);
        }
    }
    let width = pieces.first().map_or(0, Vec::len);
    (0..width)
        .map(|column| {
            let arrays: Vec<_> = pieces.iter().map(|piece| piece[column].as_ref()).collect();
            Ok(interleave(&arrays, &places)?)
        })
        .collect()
}

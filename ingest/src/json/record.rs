//! JSON objects to columns: the same code serves a whole message and a nested STRUCT.
//!
//! Producers write the keys of one topic in the same order nearly always. So the order of the previous object is tried first: one
//! comparison of bytes for each key, no look-up. A key that differs is looked up by name, and the new order learnt.
//!
//! A key that is no column's name, but for upper and lower case, fills that column unless the exact one is in the same object.

use std::collections::HashMap;

use arrow::array::ArrayRef;
use arrow::datatypes::Fields;
use watershed_dialect::{Epoch, nearest};

use super::column::Column;
use super::cursor::{Cursor, Reject, check_depth};
use crate::folded::{folded, folded_bytes};
use crate::place::Place;

/// Keys whose place is remembered: more than a wide object has, small enough to be kept for each object type.
const REMEMBERED_KEYS_MAX: usize = 512;

/// A key longer than this is looked up each time.
const REMEMBERED_KEY_BYTES_MAX: usize = 256;

/// Columns filled from the members of objects. State: the columns of the batch being built, and the order of keys seen last.
#[derive(Debug)]
pub(super) struct Record {
    columns: Vec<Column>,
    by_name: HashMap<Box<[u8]>, usize>,
    /// The same in lower case; of two columns that differ in case only, the first.
    by_folded_name: HashMap<Box<[u8]>, usize>,
    remembered: Vec<Remembered>,
    /// For each column the number of the object in which its key came last.
    seen_in: Vec<u64>,
    /// For each column the number of the object in which a key of another case filled it; 0 if the exact one did.
    folded_in: Vec<u64>,
    /// Whether any key has ever differed in case.
    folds: bool,
    /// Columns that a key of another case could not fill in this object, and why: the exact key may follow.
    refused: Vec<(usize, Reject)>,
    object_number: u64,
}

/// What was at one place of the previous object.
#[derive(Debug, Default)]
struct Remembered {
    /// The key as written, from its opening quote to the colon.
    text: Vec<u8>,
    target: Target,
}

/// Where a value goes.
#[derive(Debug, Default, Clone, Copy)]
enum Target {
    /// Nobody wants it.
    #[default]
    None,
    /// To the column of this name.
    Exact(usize),
    /// To the column whose name differs in case only.
    Folded(usize),
}

impl Record {
    pub(super) fn new(columns: Vec<Column>) -> Self {
        let by_name = columns.iter().enumerate().map(|(index, column)| (column.name().as_bytes().into(), index)).collect();
        let mut by_folded_name = HashMap::new();
        for (index, column) in columns.iter().enumerate() {
            by_folded_name.entry(folded(column.name()).into_bytes().into_boxed_slice()).or_insert(index);
        }
        let (seen_in, folded_in) = (vec![0; columns.len()], vec![0; columns.len()]);
        let (remembered, refused) = (Vec::new(), Vec::new());
        Self { columns, by_name, by_folded_name, remembered, seen_in, folded_in, folds: false, refused, object_number: 0 }
    }

    /// The column at a place, below objects if need be.
    pub(super) fn column(&self, place: &Place) -> &Column {
        place
            .fields
            .iter()
            .fold(&self.columns[place.column], |column, &field| column.record().map_or(column, |record| &record.columns[field]))
    }

    /// Says what numbers count in the column at `index`, or in one of its `fields`: see [`Column::count`].
    pub(super) fn count(&mut self, index: usize, fields: &[usize], epoch: Option<Epoch>, is_event_time: bool) {
        self.columns[index].count(fields, epoch, is_event_time);
    }

    /// Says that values of the column at `index`, or of one of its `fields`, are kept as text: see [`Column::keep`].
    pub(super) fn keep(&mut self, index: usize, fields: &[usize]) {
        self.columns[index].keep(fields);
    }

    /// Appends one object to all columns. On error some may have grown already: the caller truncates.
    ///
    /// Of a key that comes twice the last counts. Columns whose key is missing become NULL.
    pub(super) fn parse(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Reject> {
        check_depth(depth)?;
        cursor.expect(b'{')?;
        self.object_number += 1;
        self.refused.clear();
        let mut seen = 0;
        let mut place = 0;
        cursor.skip_space();
        if !cursor.eat(b'}') {
            loop {
                cursor.skip_space();
                let target = self.key(cursor, place)?;
                cursor.skip_space();
                match target {
                    Target::Exact(index) => {
                        if self.folds {
                            self.folded_in[index] = 0;
                        }
                        seen += usize::from(self.member(index, cursor, depth)?);
                    }
                    Target::Folded(index) => seen += usize::from(self.folded_member(index, cursor, depth)?),
                    Target::None => cursor.skip_value(depth)?,
                }
                place += 1;
                cursor.skip_space();
                if !cursor.eat(b',') {
                    break;
                }
            }
            if !cursor.eat(b'}') {
                return Err(cursor.unexpected("',' or '}'"));
            }
        }
        if seen < self.columns.len() || !self.refused.is_empty() {
            for (index, column) in self.columns.iter_mut().enumerate() {
                if self.seen_in[index] == self.object_number {
                    continue;
                }
                if let Some(at) = self.refused.iter().position(|(refused, _)| *refused == index) {
                    return Err(self.refused.swap_remove(at).1);
                }
                if column.append_missing().is_err() {
                    return Err(self.missing(index, place));
                }
            }
        }
        Ok(())
    }

    /// Passes over a key and its colon. Returns the column it belongs to, if any.
    #[inline]
    fn key(&mut self, cursor: &mut Cursor<'_>, place: usize) -> Result<Target, Reject> {
        if let Some(remembered) = self.remembered.get(place)
            && cursor.rest().starts_with(&remembered.text)
        {
            cursor.advance(remembered.text.len());
            return Ok(remembered.target);
        }
        self.key_by_name(cursor, place)
    }

    #[cold]
    fn key_by_name(&mut self, cursor: &mut Cursor<'_>, place: usize) -> Result<Target, Reject> {
        let start = cursor.position();
        if cursor.peek() != Some(b'"') {
            return Err(cursor.unexpected("a key in quotes"));
        }
        let name = cursor.string()?;
        cursor.skip_space();
        cursor.expect(b':')?;
        let target = self.target(&name);
        let text = cursor.since(start);
        if place < REMEMBERED_KEYS_MAX && text.len() <= REMEMBERED_KEY_BYTES_MAX {
            if self.remembered.len() <= place {
                self.remembered.resize_with(place + 1, || Remembered { text: b"\0".to_vec(), target: Target::None });
            }
            let remembered = &mut self.remembered[place];
            remembered.text.clear();
            remembered.text.extend_from_slice(text);
            remembered.target = target;
        }
        Ok(target)
    }

    fn target(&mut self, name: &[u8]) -> Target {
        if let Some(&index) = self.by_name.get(name) {
            return Target::Exact(index);
        }
        match self.by_folded_name.get(&*folded_bytes(name)) {
            Some(&index) => {
                self.folds = true;
                Target::Folded(index)
            }
            None => Target::None,
        }
    }

    /// As [`Record::member`], of a key that differs from the column's name in case, if the exact one has not come in this object.
    fn folded_member(&mut self, index: usize, cursor: &mut Cursor<'_>, depth: usize) -> Result<bool, Reject> {
        if self.seen_in[index] == self.object_number && self.folded_in[index] != self.object_number {
            cursor.skip_value(depth)?;
            return Ok(false);
        }
        self.folded_in[index] = self.object_number;
        let start = cursor.position();
        let rows = self.columns[index].len() - usize::from(self.seen_in[index] == self.object_number);
        let reject = match self.member(index, cursor, depth) {
            Ok(first) => return Ok(first),
            Err(reject) => reject,
        };
        cursor.rewind(start);
        cursor.skip_value(depth)?;
        self.columns[index].truncate(rows);
        self.seen_in[index] = 0;
        self.refused.push((index, reject));
        Ok(false)
    }

    /// Says that a column has no value, and which of the object's `keys` may have been meant.
    #[cold]
    fn missing(&self, index: usize, keys: usize) -> Reject {
        let name = self.columns[index].name();
        let of = |remembered: &Remembered| {
            let key = remembered.text.strip_prefix(b"\"")?;
            let end = memchr::memchr(b'"', key)?;
            Some(String::from_utf8_lossy(&key[..end]).into_owned())
        };
        let keys: Vec<String> = self.remembered.iter().take(keys).filter_map(of).filter(|key| !self.is_column(key)).collect();
        let near = nearest(name, keys.iter().map(String::as_str));
        let reason = near.map_or_else(|| "missing".to_string(), |near| format!("missing; is it the key '{near}' of the message?"));
        Reject::new(reason).within(name)
    }

    fn is_column(&self, key: &str) -> bool {
        self.by_folded_name.contains_key(folded(key).as_bytes())
    }

    /// Appends a value to a column; true if it is the first of this object.
    #[inline]
    fn member(&mut self, index: usize, cursor: &mut Cursor<'_>, depth: usize) -> Result<bool, Reject> {
        let column = &mut self.columns[index];
        let first = std::mem::replace(&mut self.seen_in[index], self.object_number) != self.object_number;
        if !first {
            column.truncate(column.len() - 1);
        }
        match column.parse(cursor, depth) {
            Ok(()) => Ok(first),
            Err(reject) => Err(reject.within(column.name())),
        }
    }

    /// Appends a row of NULLs (below a STRUCT that is NULL itself).
    pub(super) fn append_null(&mut self) {
        self.columns.iter_mut().for_each(Column::append_null);
    }

    /// Forgets all rows after the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.columns.iter_mut().for_each(|column| column.truncate(len));
    }

    pub(super) fn finish(&mut self) -> Result<Vec<ArrayRef>, arrow::error::ArrowError> {
        self.columns.iter_mut().map(Column::finish).collect()
    }

    pub(super) fn fields(&self) -> Fields {
        self.columns.iter().map(|column| column.field().clone()).collect()
    }
}

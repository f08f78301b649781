//! JSON objects to columns: the same code serves a whole message and a nested STRUCT.
//!
//! Producers write the keys of one topic in the same order nearly always. So the order of the previous object is tried first: one
//! comparison of bytes for each key, no look-up. A key that differs is looked up by name, and the new order learnt.

use std::collections::HashMap;

use arrow::array::ArrayRef;
use arrow::datatypes::Fields;

use super::column::Column;
use super::cursor::{Cursor, Reject, check_depth};

/// Keys whose place is remembered: more than a wide object has, small enough to be kept for each object type.
const REMEMBERED_KEYS_MAX: usize = 512;

/// A key longer than this is looked up each time.
const REMEMBERED_KEY_BYTES_MAX: usize = 256;

/// Columns filled from the members of objects. State: the columns of the batch being built, and the order of keys seen last.
#[derive(Debug)]
pub(super) struct Record {
    columns: Vec<Column>,
    by_name: HashMap<Box<[u8]>, usize>,
    remembered: Vec<Remembered>,
    /// For each column the number of the object in which its key stood last.
    seen_in: Vec<u64>,
    object_number: u64,
}

/// What stood at one place of the previous object.
#[derive(Debug, Default)]
struct Remembered {
    /// The key as written, from its opening quote to the colon.
    text: Vec<u8>,
    column: Option<usize>,
}

impl Record {
    pub(super) fn new(columns: Vec<Column>) -> Self {
        let by_name = columns.iter().enumerate().map(|(index, column)| (column.name().as_bytes().into(), index)).collect();
        let seen_in = vec![0; columns.len()];
        Self { columns, by_name, remembered: Vec::new(), seen_in, object_number: 0 }
    }

    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Appends one object to all columns. On error some may have grown already: the caller truncates.
    ///
    /// A key that stands twice counts as it stands last. Columns whose key is missing become NULL.
    pub(super) fn parse(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Reject> {
        check_depth(depth)?;
        cursor.expect(b'{')?;
        self.object_number += 1;
        let mut seen = 0;
        cursor.skip_space();
        if !cursor.eat(b'}') {
            let mut place = 0;
            loop {
                cursor.skip_space();
                let target = self.key(cursor, place)?;
                cursor.skip_space();
                match target {
                    Some(index) => seen += usize::from(self.member(index, cursor, depth)?),
                    None => cursor.skip_value(depth)?,
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
        if seen < self.columns.len() {
            for (column, &seen_in) in self.columns.iter_mut().zip(&self.seen_in) {
                if seen_in != self.object_number {
                    column.append_missing()?;
                }
            }
        }
        Ok(())
    }

    /// Passes over a key and its colon. Returns the column it belongs to, if any.
    #[inline]
    fn key(&mut self, cursor: &mut Cursor<'_>, place: usize) -> Result<Option<usize>, Reject> {
        if let Some(remembered) = self.remembered.get(place)
            && cursor.rest().starts_with(&remembered.text)
        {
            cursor.advance(remembered.text.len());
            return Ok(remembered.column);
        }
        self.key_by_name(cursor, place)
    }

    #[cold]
    fn key_by_name(&mut self, cursor: &mut Cursor<'_>, place: usize) -> Result<Option<usize>, Reject> {
        let start = cursor.position();
        if cursor.peek() != Some(b'"') {
            return Err(cursor.unexpected("a key in quotes"));
        }
        let name = cursor.string()?;
        cursor.skip_space();
        cursor.expect(b':')?;
        let column = self.by_name.get(&*name).copied();
        let text = cursor.since(start);
        if place < REMEMBERED_KEYS_MAX && text.len() <= REMEMBERED_KEY_BYTES_MAX {
            if self.remembered.len() <= place {
                self.remembered.resize_with(place + 1, || Remembered { text: b"\0".to_vec(), column: None });
            }
            let remembered = &mut self.remembered[place];
            remembered.text.clear();
            remembered.text.extend_from_slice(text);
            remembered.column = column;
        }
        Ok(column)
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

    /// Forgets all rows behind the first `len`.
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

//! Which event times are accepted. One that is absurd, or far ahead of when its record was written or read, would move a watermark to where no
//! other row follows.

use std::ops::Range;

use arrow::datatypes::DataType;
use watershed_dialect::definition::{Metadata, SourceDefinition};

use crate::error::{IngestError, Result};
use crate::json::days_from_civil;
use crate::place::Place;

/// Event times before the year 2 and from the year 9999 on are mistakes.
const ACCEPTED_US: Range<i64> = days_from_civil(2, 1, 1) * 86_400_000_000..days_from_civil(9999, 1, 1) * 86_400_000_000;

/// The years 1 to 9999, in microseconds since 1970: no TIMESTAMP is beyond, where functions of time give up.
pub(crate) const TIMES_US: Range<i64> = days_from_civil(1, 1, 1) * 86_400_000_000..days_from_civil(10_000, 1, 1) * 86_400_000_000;

/// The index of the watermark's column among the definition's columns; `None` if there is no watermark. Fails if it is neither a column of
/// the record whose type `fits` (`whose` says of what) nor the record's own timestamp.
pub(crate) fn column_of(definition: &SourceDefinition, fits: impl Fn(&DataType) -> bool, whose: &str) -> Result<Option<usize>> {
    let Some(watermark) = &definition.watermark else { return Ok(None) };
    let found = definition
        .columns
        .iter()
        .position(|column| *column.field.name() == watermark.column && column.metadata.is_none_or(|what| what == Metadata::Timestamp));
    match found.filter(|&index| fits(definition.columns[index].field.data_type())) {
        Some(index) => Ok(Some(index)),
        None => {
            let reason = format!("WATERMARK FOR names '{}', which is not a TIMESTAMP column of {whose}", watermark.column);
            Err(IngestError::Definition { source_name: definition.name.clone(), reason })
        }
    }
}

/// The check of a source's event times.
#[derive(Debug)]
pub(crate) struct EventTime {
    /// Where they are among the columns that are read; `None` if they are the records' own timestamps.
    pub(crate) place: Option<Place>,
    max_skew_us: i64,
}

impl EventTime {
    pub(crate) fn new(definition: &SourceDefinition, place: Option<Place>) -> Self {
        Self { place, max_skew_us: i64::try_from(definition.max_skew.as_micros()).unwrap_or(i64::MAX) }
    }

    /// Why a row with this event time is not accepted: it is too far ahead of when its record was written, as far as that is known (in
    /// milliseconds since 1970, and how people call that time), or of when it was read. Nothing is written after it is read, so a clock that
    /// says so vouches for nothing.
    #[inline]
    pub(crate) fn check(&self, time_us: i64, written: Option<(i64, &str)>, read_ms: Option<i64>) -> Result<(), String> {
        if !ACCEPTED_US.contains(&time_us) {
            return Err("absurd event time (not in the years 2 to 9998)".into());
        }
        let read = read_ms.map(|ms| (ms, "when it was read"));
        let Some((than_ms, when)) = [written, read].into_iter().flatten().min_by_key(|(ms, _)| *ms) else { return Ok(()) };
        let ahead_us = time_us.saturating_sub(than_ms.saturating_mul(1000));
        if ahead_us <= self.max_skew_us {
            return Ok(());
        }
        let (ahead_s, max_skew_s) = (ahead_us / 1_000_000, self.max_skew_us / 1_000_000);
        Err(format!("event time is {ahead_s} s ahead of {when}, more than max_skew ({max_skew_s} s)"))
    }
}

//! Idempotent producers: which batches of a producer are new, which come again, which are out of order.

use std::collections::VecDeque;

use super::batch::Batch;
use super::protocol::ErrorCode;

/// A producer may have so many batches of a partition under way: one that comes again is among these.
const REMEMBERED_BATCHES: usize = 5;

/// What a producer says of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sequence {
    epoch: i16,
    first: i32,
    last: i32,
}

impl Sequence {
    /// `None` for a batch of a producer that is not idempotent.
    pub(super) fn of(batch: &Batch) -> Option<Self> {
        // Sequence numbers begin again at 0 after the greatest.
        let last = ((i64::from(batch.base_sequence) + i64::from(batch.last_offset_delta)) & i64::from(i32::MAX)) as i32;
        batch.is_idempotent().then_some(Self { epoch: batch.producer_epoch, first: batch.base_sequence, last })
    }

    fn next(self) -> i32 {
        if self.last == i32::MAX { 0 } else { self.last + 1 }
    }
}

/// The last batches of one producer in one partition and their offsets.
#[derive(Debug, Default)]
pub(super) struct Sequences(VecDeque<(Sequence, i64)>);

impl Sequences {
    /// The offset at which this very batch was written before; `None` if it comes next; an error if it does neither.
    pub(super) fn check(&self, sequence: Sequence) -> Result<Option<i64>, ErrorCode> {
        let Some((last, _)) = self.0.back() else { return Ok(None) };
        if sequence.epoch < last.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if sequence.epoch > last.epoch {
            return if sequence.first == 0 { Ok(None) } else { Err(ErrorCode::OutOfOrderSequenceNumber) };
        }
        if sequence.first == last.next() {
            return Ok(None);
        }
        let again = self.0.iter().find(|(known, _)| *known == sequence).map(|(_, offset)| *offset);
        again.map(Some).ok_or(ErrorCode::OutOfOrderSequenceNumber)
    }

    /// Offset of the batch written last.
    pub(super) fn last_offset(&self) -> i64 {
        self.0.back().map_or(-1, |(_, offset)| *offset)
    }

    /// Remembers a batch that was written.
    pub(super) fn record(&mut self, sequence: Sequence, offset: i64) {
        if self.0.back().is_some_and(|(last, _)| last.epoch != sequence.epoch) {
            self.0.clear();
        }
        if self.0.len() == REMEMBERED_BATCHES {
            self.0.pop_front();
        }
        self.0.push_back((sequence, offset));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::batch::tests::batch;

    fn sequence(epoch: i16, first: i32, last: i32) -> Sequence {
        Sequence { epoch, first, last }
    }

    #[test]
    fn tells_new_from_repeated_from_lost() {
        let mut sequences = Sequences::default();
        assert_eq!(sequences.check(sequence(0, 7, 9)), Ok(None), "nothing is known of the producer");
        sequences.record(sequence(0, 0, 4), 100);
        sequences.record(sequence(0, 5, 5), 105);
        assert_eq!(sequences.check(sequence(0, 6, 8)), Ok(None));
        assert_eq!(sequences.check(sequence(0, 0, 4)), Ok(Some(100)));
        assert_eq!(sequences.check(sequence(0, 5, 5)), Ok(Some(105)));
        assert_eq!(sequences.check(sequence(0, 7, 8)), Err(ErrorCode::OutOfOrderSequenceNumber));
        assert_eq!(sequences.check(sequence(1, 3, 3)), Err(ErrorCode::OutOfOrderSequenceNumber));
        assert_eq!(sequences.check(sequence(1, 0, 3)), Ok(None));
        sequences.record(sequence(1, 0, 3), 106);
        assert_eq!(sequences.check(sequence(0, 6, 6)), Err(ErrorCode::InvalidProducerEpoch));
    }

    #[test]
    fn begins_anew_behind_the_greatest_number() {
        let mut sequences = Sequences::default();
        let wrapped = Sequence::of(&Batch::read(&batch(1, i32::MAX - 1, 3, b"")).unwrap()).unwrap();
        assert_eq!(wrapped.last, 1);
        sequences.record(wrapped, 0);
        assert_eq!(sequences.check(sequence(0, 2, 2)), Ok(None));
        sequences.record(sequence(0, 2, i32::MAX), 4);
        assert_eq!(sequences.check(sequence(0, 0, 0)), Ok(None));
    }
}

//! Watermarks: how far event time has come, in one partition and for a task.

use arrow::array::{Int64Array, TimestampMicrosecondArray};

/// A lower bound on event times still expected, as one task sees it after one of its inputs moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// Which input moved: beside a source the number of the lane ([`crate::hidden::Lane`]), after an exchange that of the sender.
    pub input: i32,
    /// That input's watermark, in microseconds since 1970.
    pub input_us: i64,
    /// The least watermark over all inputs of this task, in microseconds since 1970.
    pub merged_us: i64,
}

/// The watermark of one partition: the running maximum of event time less the delay, or a floor that was set when it was idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionWatermark {
    /// Microseconds since 1970; `i64::MIN` before the first row.
    pub watermark_us: i64,
    /// The greatest event time so far, in microseconds since 1970; `i64::MIN` before the first row.
    pub newest_us: i64,
    delay_us: i64,
}

impl PartitionWatermark {
    /// Starts at `watermark_us`, with rows expected to lag the newest by `delay_us` at most.
    pub fn new(watermark_us: i64, newest_us: i64, delay_us: i64) -> Self {
        Self { watermark_us, newest_us, delay_us }
    }

    /// Folds the event times of the next rows in and returns the watermark as it was before each.
    pub fn fold(&mut self, times: &TimestampMicrosecondArray) -> Int64Array {
        let mut before = Vec::with_capacity(times.len());
        let mut watermark = self.watermark_us;
        for &time in times.values() {
            before.push(watermark);
            watermark = watermark.max(time.saturating_sub(self.delay_us));
            self.newest_us = self.newest_us.max(time);
        }
        self.watermark_us = watermark;
        before.into()
    }

    /// Never below `floor_us` from here on.
    pub fn raise(&mut self, floor_us: i64) {
        self.watermark_us = self.watermark_us.max(floor_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watermark_before_a_row_depends_on_the_rows_before_it_only() {
        let times = [100, 90, 150, 120, 149];
        let fold = |cuts: &[usize]| {
            let mut watermark = PartitionWatermark::new(i64::MIN, i64::MIN, 10);
            let (mut before, mut start) = (Vec::new(), 0);
            for &end in cuts {
                let part = TimestampMicrosecondArray::from(times[start..end].to_vec());
                before.extend(watermark.fold(&part).values().to_vec());
                start = end;
            }
            assert_eq!(watermark.newest_us, 150);
            (before, watermark.watermark_us)
        };
        let whole = fold(&[5]);
        assert_eq!(whole, (vec![i64::MIN, 90, 90, 140, 140], 140));
        assert_eq!(fold(&[1, 2, 4, 5]), whole);
    }
}

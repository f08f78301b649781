//! Which files of a table are merged with which: a pure function of the list of files.
//!
//! Small files are sorted into tiers by size, each four times the last. Once a tier of a partition holds enough files, they are merged with
//! those of the tiers below, in the order in which their rows were written. The result stands in a higher tier, so a row is rewritten once a
//! tier at most: with 8 KiB files and a target of 128 MiB that is 7 times, in practice 2 or 3. Files of half the target size stay as they are.
//!
//! ```text
//! 32 × 8 KiB ─► 1 × 200 KiB     32 × 200 KiB ─► 1 × 6 MiB     32 × 6 MiB ─► 128 MiB + 64 MiB, which stay
//! ```

use std::collections::HashMap;
use std::time::Duration;

use datafusion::common::ScalarValue;

use crate::files::{DataFile, FileSet};
use crate::limits;

/// When files are merged, and how large the result may be.
#[derive(Debug, Clone, Copy)]
pub struct CompactOptions {
    /// Size of the files that are made.
    pub file_bytes: u64,
    /// Files of about one size that are worth merging.
    pub files_min: usize,
    /// Merge whatever is small, however few and of whatever sizes.
    pub everything: bool,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self { file_bytes: limits::FILE_BYTES_TARGET as u64, files_min: limits::COMPACT_FILES_MIN, everything: false }
    }
}

/// Files to be replaced in one commit: each run becomes one file, or a few where it is larger than one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Round {
    /// Each of one partition, oldest rows first.
    pub(crate) runs: Vec<Vec<DataFile>>,
}

impl Round {
    pub(crate) fn files(&self) -> impl Iterator<Item = &DataFile> {
        self.runs.iter().flatten()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.files().map(|file| file.size_bytes).sum()
    }
}

/// What to merge now, if anything.
pub(crate) fn plan(files: &FileSet, options: &CompactOptions, now_ms: i64) -> Vec<Round> {
    let mut partitions: HashMap<&[ScalarValue], Vec<&DataFile>> = HashMap::new();
    for file in files.iter().filter(|file| file.size_bytes < options.file_bytes / 2) {
        partitions.entry(&file.partition).or_default().push(file);
    }
    let mut runs = Vec::new();
    for mut small in partitions.into_values() {
        small.sort_unstable_by(|left, right| (left.modified_ms, &left.path).cmp(&(right.modified_ms, &right.path)));
        runs.extend(split(due(small, options, now_ms), options.file_bytes));
    }
    // Where the oldest rows are first; partitions come out of the map in any order.
    runs.sort_unstable_by(|left, right| (left[0].modified_ms, &left[0].path).cmp(&(right[0].modified_ms, &right[0].path)));
    rounds(runs, options.file_bytes)
}

/// The small files of one partition that are to be merged, in their order.
fn due<'a>(mut small: Vec<&'a DataFile>, options: &CompactOptions, now_ms: i64) -> Vec<&'a DataFile> {
    let files_min = options.files_min.max(2);
    let age_ms = now_ms - small.last().map_or(now_ms, |file| file.modified_ms);
    let quiet = age_ms > ms(limits::COMPACT_QUIET) && small.len() >= limits::COMPACT_FILES_MIN_QUIET.min(files_min);
    if options.everything || quiet {
        return small;
    }
    let mut counts: Vec<usize> = Vec::new();
    for file in &small {
        let tier = tier(file.size_bytes);
        counts.resize(counts.len().max(tier + 1), 0);
        counts[tier] += 1;
    }
    let Some(highest) = counts.iter().rposition(|&count| count >= files_min) else { return Vec::new() };
    small.retain(|file| tier(file.size_bytes) <= highest);
    small
}

fn tier(bytes: u64) -> usize {
    let mut bound = limits::COMPACT_TIER_BYTES;
    let mut tier = 0;
    while bytes >= bound {
        bound = bound.saturating_mul(limits::COMPACT_TIER_FACTOR);
        tier += 1;
    }
    tier
}

/// Cuts files where they fill a file of the target size. A single one is left as it is.
fn split(files: Vec<&DataFile>, file_bytes: u64) -> Vec<Vec<DataFile>> {
    let (mut runs, mut run, mut bytes) = (Vec::new(), Vec::new(), 0);
    for file in files {
        if bytes >= file_bytes || run.len() >= limits::COMPACT_FILES_MAX {
            runs.push(std::mem::take(&mut run));
            bytes = 0;
        }
        bytes += file.size_bytes;
        run.push(file.clone());
    }
    runs.push(run);
    runs.retain(|run| run.len() > 1);
    runs
}

/// Runs that are small together go into one commit.
fn rounds(runs: Vec<Vec<DataFile>>, file_bytes: u64) -> Vec<Round> {
    let mut rounds: Vec<Round> = Vec::new();
    for run in runs {
        let (files, bytes) = (run.len(), run.iter().map(|file| file.size_bytes).sum::<u64>());
        match rounds.last_mut() {
            // As many partitions as a writer holds open, else it would close files before they are full.
            Some(round)
                if round.bytes() + bytes <= file_bytes
                    && round.files().count() + files <= limits::COMPACT_FILES_MAX
                    && round.runs.len() < limits::OPEN_FILES_MAX =>
            {
                round.runs.push(run);
            }
            _ => rounds.push(Round { runs: vec![run] }),
        }
    }
    rounds
}

fn ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;

    fn file(index: i64, size_bytes: u64, city: &str) -> DataFile {
        let partition = vec![ScalarValue::Utf8(Some(city.to_owned()))];
        DataFile { path: format!("{city}/{index}"), size_bytes, modified_ms: index, partition, has_deletion_vector: false }
    }

    fn planned(files: &[DataFile], options: &CompactOptions, now_ms: i64) -> Vec<Vec<Vec<i64>>> {
        let rounds = plan(&FileSet::of(files.to_vec()), options, now_ms);
        let times = |run: Vec<DataFile>| run.iter().map(|file| file.modified_ms).collect();
        rounds.into_iter().map(|round| round.runs.into_iter().map(times).collect()).collect()
    }

    #[test]
    fn enough_files_of_one_size_are_merged_in_their_order_with_the_smaller_ones() {
        let options = CompactOptions { files_min: 3, ..CompactOptions::default() };
        let files = [file(5, 900 * KIB, "a"), file(2, KIB, "a"), file(9, 800 * KIB, "a"), file(3, 700 * KIB, "a"), file(4, 20 * MIB, "a")];
        assert_eq!(planned(&files, &options, 10), [[[2, 3, 5, 9]]]);
        assert!(planned(&files[..3], &options, 10).is_empty());
        // Partitions are counted alone.
        let two = [file(1, KIB, "a"), file(2, KIB, "b"), file(3, KIB, "a"), file(4, KIB, "b"), file(5, KIB, "b")];
        assert_eq!(planned(&two, &options, 10), [[[2, 4, 5]]]);
        let everything = CompactOptions { everything: true, ..options };
        assert_eq!(planned(&two, &everything, 10), [[[1, 3], [2, 4, 5]]]);
    }

    #[test]
    fn what_is_large_enough_stays_and_nothing_is_cut_too_small() {
        let options = CompactOptions { file_bytes: 10 * MIB, everything: true, ..CompactOptions::default() };
        let files: Vec<DataFile> = (0..9).map(|index| file(index, if index == 4 { 5 * MIB } else { 4 * MIB }, "a")).collect();
        assert_eq!(planned(&files, &options, 10), [[[0, 1, 2]], [[3, 5, 6]], [[7, 8]]]);
        assert!(planned(&files[4..5], &options, 10).is_empty());
    }

    #[test]
    fn a_quiet_partition_is_finished() {
        let options = CompactOptions::default();
        let files: Vec<DataFile> = (0..5).map(|index| file(index, KIB << index, "a")).collect();
        assert!(planned(&files, &options, 1000).is_empty());
        assert_eq!(planned(&files, &options, 2 * 3_600_000), [[[0, 1, 2, 3, 4]]]);
        assert!(planned(&files[..3], &options, 2 * 3_600_000).is_empty());
    }

    /// Appends for a long time: few small files at any moment, and each row is rewritten a few times.
    #[test]
    fn a_row_is_rewritten_a_few_times_and_small_files_stay_few() {
        const FILES: i64 = 50_000;
        let options = CompactOptions { file_bytes: 16 * MIB, ..CompactOptions::default() };
        let (mut live, mut rewritten, mut most) = (Vec::new(), 0, 0);
        for index in 0..FILES {
            live.push(file(index, 8 * KIB, "a"));
            for round in plan(&FileSet::of(live.clone()), &options, index) {
                // Half of a small file is its footer, which a merge saves.
                let payload = |file: &DataFile| file.size_bytes - 4 * KIB;
                let bytes: u64 = round.files().map(payload).sum();
                rewritten += bytes;
                let gone: Vec<&String> = round.files().map(|file| &file.path).collect();
                live.retain(|file| !gone.contains(&&file.path));
                let newest = round.files().map(|file| file.modified_ms).max().unwrap();
                live.push(DataFile { path: format!("m{index}"), ..file(newest, bytes + 4 * KIB, "a") });
            }
            most = most.max(live.iter().filter(|file| file.size_bytes < 8 * MIB).count());
        }
        let written = FILES as u64 * 4 * KIB;
        assert!(rewritten < 4 * written, "rewritten {} times", rewritten as f64 / written as f64);
        assert!(most < 120, "{most} small files");
        assert!(rewritten > written, "nothing was merged");
    }
}

//! Which files of a table are merged with which: a pure function of the list of files.
//!
//! Small files are sorted into tiers by their rows, each four times the last. Once a tier of a partition holds enough files, they are merged with
//! those of the tiers below, in the order in which their rows were written. The result is in a higher tier, so a row is rewritten once a
//! tier at most. Files of half the target size stay as they are. Rows and not bytes, because a small file is mostly its footer, and files that
//! hardly grow by a merge would be merged again and again.
//!
//! ```text
//! 32 × 100 rows ─► 1 × 3,200     32 × 3,200 ─► 1 × 102,400     32 × 102,400 ─► 1 × 3.3 million
//! ```

use std::collections::HashMap;
use std::time::Duration;

use datafusion::common::ScalarValue;

use crate::files::{DataFile, FileSet};
use crate::limits;
use crate::partition;

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

/// A file that may be merged.
#[derive(Debug, Clone, Copy)]
struct Small<'a> {
    file: &'a DataFile,
    rows: u64,
}

/// What to merge now, if anything.
pub(crate) fn plan(files: &FileSet, options: &CompactOptions, now_ms: i64) -> Vec<Round> {
    let mut partitions: HashMap<&[ScalarValue], Vec<Small>> = HashMap::new();
    for (file, rows) in files.with_rows().filter(|(file, _)| file.size_bytes < options.file_bytes / 2) {
        let rows = rows.unwrap_or(file.size_bytes / limits::COMPACT_ROW_BYTES);
        partitions.entry(&file.partition).or_default().push(Small { file, rows });
    }
    partitions.retain(|values, _| partition::can_be_written(values));
    let mut runs = Vec::new();
    for mut small in partitions.into_values() {
        small.sort_unstable_by(|left, right| (left.file.modified_ms, &left.file.path).cmp(&(right.file.modified_ms, &right.file.path)));
        runs.extend(split(due(small, options, now_ms), options.file_bytes));
    }
    // Where the oldest rows are first; partitions come out of the map in any order.
    runs.sort_unstable_by(|left, right| (left[0].modified_ms, &left[0].path).cmp(&(right[0].modified_ms, &right[0].path)));
    rounds(runs, options.file_bytes)
}

/// The small files of one partition that are to be merged, in their order.
fn due<'a>(mut small: Vec<Small<'a>>, options: &CompactOptions, now_ms: i64) -> Vec<Small<'a>> {
    let files_min = options.files_min.max(2);
    let age_ms = now_ms - small.last().map_or(now_ms, |small| small.file.modified_ms);
    let quiet = age_ms > ms(limits::COMPACT_QUIET) && small.len() >= limits::COMPACT_FILES_MIN_QUIET.min(files_min);
    if options.everything || quiet {
        return small;
    }
    // So many files of a tier have the rows of one in the next.
    let factor = limits::COMPACT_TIER_FACTOR.min(files_min as u64);
    let mut counts: Vec<usize> = Vec::new();
    for Small { rows, .. } in &small {
        let tier = tier(*rows, factor);
        counts.resize(counts.len().max(tier + 1), 0);
        counts[tier] += 1;
    }
    let Some(highest) = counts.iter().rposition(|&count| count >= files_min) else { return Vec::new() };
    small.retain(|small| tier(small.rows, factor) <= highest);
    small
}

fn tier(rows: u64, factor: u64) -> usize {
    rows.max(1).ilog(factor) as usize
}

/// Cuts files where they fill a file of the target size. A single one is left as it is.
fn split(small: Vec<Small>, file_bytes: u64) -> Vec<Vec<DataFile>> {
    let (mut runs, mut run, mut bytes) = (Vec::new(), Vec::new(), 0);
    for Small { file, .. } in small {
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
        DataFile { path: format!("{city}/{index}"), size_bytes, modified_ms: index, partition, has_deletion_vector: false, is_own: true }
    }

    fn planned(files: &[DataFile], options: &CompactOptions, now_ms: i64) -> Vec<Vec<Vec<i64>>> {
        // Of 100 bytes each.
        let with_rows = files.iter().map(|file| (file.clone(), file.size_bytes as i64 / 100));
        let rounds = plan(&FileSet::of(with_rows), options, now_ms);
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
        assert_eq!(planned(&two, &everything, 10), [[vec![1, 3], vec![2, 4, 5]]]);
    }

    #[test]
    fn what_is_large_enough_stays_and_nothing_is_cut_too_small() {
        let options = CompactOptions { file_bytes: 10 * MIB, everything: true, ..CompactOptions::default() };
        let files: Vec<DataFile> = (0..9).map(|index| file(index, if index == 4 { 5 * MIB } else { 4 * MIB }, "a")).collect();
        assert_eq!(planned(&files, &options, 10), [[vec![0, 1, 2]], [vec![3, 5, 6]], [vec![7, 8]]]);
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
        const ROWS: i64 = 10;
        // A row is 400 bytes, a footer 4 KiB.
        let sized = |index: i64, rows: i64| (file(index, rows as u64 * 400 + 4 * KIB, "a"), rows);
        let options = CompactOptions { file_bytes: 16 * MIB, ..CompactOptions::default() };
        let (mut live, mut rewritten, mut most) = (Vec::new(), 0, 0);
        for index in 0..FILES {
            live.push(sized(index, ROWS));
            for round in plan(&FileSet::of(live.iter().cloned()), &options, index) {
                let gone = round.files().map(|file| file.path.clone()).collect::<Vec<_>>();
                let (merged, rest): (Vec<_>, Vec<_>) = live.into_iter().partition(|(file, _)| gone.contains(&file.path));
                let rows = merged.iter().map(|(_, rows)| rows).sum::<i64>();
                rewritten += rows;
                let (file, rows) = sized(merged.iter().map(|(file, _)| file.modified_ms).max().unwrap(), rows);
                live = rest;
                live.push((DataFile { path: format!("m{index}-{}", gone[0]), ..file }, rows));
            }
            most = most.max(live.iter().filter(|(file, _)| file.size_bytes < 8 * MIB).count());
        }
        assert_eq!(live.iter().map(|(_, rows)| rows).sum::<i64>(), FILES * ROWS);
        assert!(rewritten < 4 * FILES * ROWS, "each row was rewritten {} times", rewritten / FILES / ROWS);
        assert!(most < 120, "{most} small files");
        assert!(rewritten > FILES * ROWS, "nothing was merged");
    }
}

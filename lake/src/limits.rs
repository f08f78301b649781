//! Named maxima of the lake, each with its reason.

use std::time::Duration;

/// One request to the store may take this long before it counts as unclear. A slow upload of 8 MiB fits ten times over.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How often one request is tried. With the back-off below this rides out some 15 seconds of a store that is down.
pub const REQUEST_ATTEMPTS: u32 = 6;
/// First wait between two tries; doubles each time.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Longest wait between two tries.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A scan that has failed over a damaged file looks for the file and column no longer than this.
pub const DAMAGE_SEARCH_MAX: Duration = Duration::from_secs(30);

/// How many other writers one commit lets pass before it gives up and says that the table is too busy.
pub const COMMIT_ATTEMPTS: u32 = 200;
/// Log files fetched at once when a handle lags far.
pub const LOG_READ_AHEAD: usize = 16;
/// A Delta checkpoint is written every this many versions: a cold reader fetches at most this many log files.
pub const CHECKPOINT_INTERVAL: i64 = 20;
/// Expired log files are looked for every this many versions, because it lists the whole log.
pub const CLEANUP_INTERVAL: i64 = 200;
/// A checkpoint that takes longer is given up; the next one is tried at the next interval.
pub const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(300);

/// Of checkpoints older than [`CHECKPOINT_FRESH`] those at every this many versions are kept: all of them name every file, live or replaced,
/// so a log kept for days would be mostly checkpoints. Reading an old version costs at most this many small log files.
pub const CHECKPOINTS_KEPT_EVERY: i64 = 1000;
/// A reader that has found a checkpoint reads it within this time.
pub const CHECKPOINT_FRESH: Duration = Duration::from_secs(3600);

/// Small files of about one size that must have come together before they are merged, so that a row is rewritten a few times only.
pub const COMPACT_FILES_MIN: usize = 32;
/// The same where nothing was written for [`COMPACT_QUIET`]: more will hardly come.
pub const COMPACT_FILES_MIN_QUIET: usize = 4;
/// A partition that nothing was written to for so long is quiet.
pub const COMPACT_QUIET: Duration = Duration::from_secs(3600);
/// Files of about one size differ by less than this factor in their rows.
pub const COMPACT_TIER_FACTOR: u64 = 4;
/// Bytes taken for a row where a file does not say how many it has.
pub const COMPACT_ROW_BYTES: u64 = 50;
/// Files that one compaction commit replaces: a log file of some 300 KiB.
pub const COMPACT_FILES_MAX: usize = 1000;

/// How long replaced data files are kept unless told otherwise: as Delta does.
pub const VACUUM_RETENTION: Duration = Duration::from_secs(7 * 86_400);
/// How long the log is kept unless told otherwise. Longer would be of no use: the files that old versions name are gone.
pub const LOG_RETENTION: Duration = Duration::from_secs(7 * 86_400);
/// Least and longest time that a removal stays on record beyond the retention of its file, so that a vacuum finds it.
pub const TOMBSTONE_SLACK: [Duration; 2] = [Duration::from_secs(3600), Duration::from_secs(86_400)];
/// Files that no commit names may belong to a commit that is still to come, so vacuum leaves them alone for this long at least.
pub const ORPHAN_AGE_MIN: Duration = Duration::from_secs(86_400);
/// Files staged longer ago than this are not committed any more, unless it was decided before: with [`ORPHAN_AGE_MIN`] this leaves half a
/// day between the look at the clock and the commit.
pub const STAGED_AGE_MAX: Duration = Duration::from_secs(43_200);

/// How often tables are looked at for what is due with them.
pub const UPKEEP_LOOK_EVERY: Duration = Duration::from_secs(10);
/// Least and longest time between two vacuums of a table; in between, a fifth of the retention.
pub const VACUUM_EVERY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3600)];
/// How long a process that ends waits for the merge under way.
pub const UPKEEP_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Files one [`crate::TableWriter`] holds open; the biggest is closed when a row needs one more.
pub const OPEN_FILES_MAX: usize = 64;
/// Encoded bytes one [`crate::TableWriter`] holds in memory; the biggest file is closed beyond it.
pub const BUFFERED_BYTES_MAX: usize = 256 * 1024 * 1024;
/// A data file is closed at this size: large enough to scan well, small enough to rewrite.
pub const FILE_BYTES_TARGET: usize = 128 * 1024 * 1024;
/// Rows of one Parquet row group: the unit of parallel reading and of pruning inside a file.
pub const ROW_GROUP_ROWS: usize = 512 * 1024;
/// Bytes of one Parquet row group.
pub const ROW_GROUP_BYTES: usize = 64 * 1024 * 1024;
/// Uploads of more bytes than this go in parts.
pub const UPLOAD_PART_BYTES: usize = 8 * 1024 * 1024;
/// Files uploaded at once when a writer finishes, and parts of one file uploaded at once.
pub const UPLOADS_AT_ONCE: usize = 4;

/// Objects removed at once when a table is dropped.
pub const DELETIONS_AT_ONCE: usize = 16;

/// Characters of a string kept in file statistics, as other Delta writers do.
pub const STATISTICS_CHARS: usize = 32;
/// Bytes of a string kept in Parquet statistics: at least `STATISTICS_CHARS` characters of any alphabet.
pub const STATISTICS_BYTES: usize = 160;
/// Bytes of a partition value that appear in a folder name. File systems allow 255; the value itself is in the log.
pub const PARTITION_FOLDER_BYTES: usize = 120;

/// A scan that expects no more than this part of the rows to pass its filter reads the filter's columns first. Above it, reading
/// all columns at once is faster.
pub const FILTER_WHILE_READING_MAX: f64 = 0.05;
/// Bytes of one batch of a scan, at most and at least: of rows up to 512 bytes, most of a batch of the usual 8,192 rows; and one batch of short rows.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// See there.
pub const BATCH_BYTES_MIN: usize = 64 * 1024;
/// In between, so many batches have the memory limit of queries together: some for each step and thread.
pub const BATCHES_IN_MEMORY: usize = 32;
/// Rows read at once where a file is written again, if they are small.
pub const REWRITE_ROWS: usize = 8192;
/// Rows that are large: the few of them that a batch has may need little of the pages that they were decoded from.
pub const LARGE_ROW_BYTES: usize = 1024;
/// Files of a scan whose footers tell how large rows are, before it starts. It reads these anyway.
pub const FOOTERS_LOOKED_AT: usize = 16;
/// Footers read at once.
pub const FOOTERS_AT_ONCE: usize = 16;
/// Scans of a query whose footers are read at once.
pub const SCANS_AT_ONCE: usize = 4;
/// Files whose statistics are kept and pruned together.
pub const FILES_PER_CHUNK: usize = 4096;
/// Tables looked at together while listing the warehouse.
pub const LISTING_AT_ONCE: usize = 16;

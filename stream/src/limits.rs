//! Named maxima, with their reasons.

use std::time::Duration;

/// Rows taken from a source in one turn: enough to amortise a turn's cost, few enough that a turn stays in milliseconds.
pub const TURN_ROWS_MAX: usize = 16_384;
/// Bytes taken from a source in one turn; a single larger message still passes.
pub const TURN_BYTES_MAX: usize = 4 << 20;
/// How long a turn waits for a first row: also how late a barrier can be noticed when nothing arrives.
pub const TURN_WAIT: Duration = Duration::from_millis(20);
/// Batches that may wait between two tasks. A full channel slows the sender down to the fetch.
pub const CHANNEL_BATCHES_MAX: usize = 4;
/// How long an epoch may take from barrier to commit before the pipeline is given up as stuck.
pub const EPOCH_TIMEOUT: Duration = Duration::from_secs(300);
/// How long an epoch waits for its source to say that it is still the same one, before its pipeline starts again from its newest epoch: longer
/// than a broker's restart takes.
pub const SOURCE_SAYS_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a sink may wait for acknowledgements before its pipeline starts again from its newest epoch. Kafka's client gives up a record
/// sooner (`message.timeout.ms`), unless the definition says otherwise.
pub const SINK_ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(60);
/// How far in event time one source may be ahead of another that it meets, unless the table says `max_ahead`.
pub const MAX_AHEAD: Duration = Duration::from_secs(600);
/// How often the holder of a shard says that it is alive.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// How long reading or writing the holder's file may take: it is a courtesy, not worth waiting for.
pub const HOLDER_TIMEOUT: Duration = Duration::from_secs(5);
/// A holder on another machine that has been silent for this long is taken for dead.
pub const HOLDER_SILENT_MAX: Duration = Duration::from_secs(15);
/// How much of an error is kept in the holder's file.
pub const FAILURE_CHARS_MAX: usize = 800;
/// Room on a disk that is kept for the holder's file: one block of most file systems.
pub const RESERVE_BYTES: usize = 4096;
/// How often the holder's file is tried in that room, and the pause between.
pub const RESERVE_TRIES: usize = 5;
/// See [`RESERVE_TRIES`].
pub const RESERVE_PAUSE: Duration = Duration::from_millis(100);
/// The first pause before a failed pipeline starts again; each further one is twice as long.
pub const RETRY_PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest pause.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A pipeline that has run for so long since its last error is taken to be well, even if it had nothing to commit.
pub const WELL_AFTER: Duration = Duration::from_secs(15);
/// Epoch records that are kept for reading back; older ones are deleted.
pub const EPOCH_RECORDS_KEPT: u64 = 1_000;
/// How often a running pipeline looks for partitions that were added to its topic, and whether it is still the same topic.
pub const SOURCE_REFRESH: Duration = Duration::from_secs(10);
/// Bytes of encoded rows a writer may buffer for one table before it closes files early.
pub const WRITER_BUFFER_BYTES_MAX: usize = 64 << 20;

//! How much clients together may hold and run at once: past these bounds the oldest goes or the newest is refused, always with the reason.

use std::time::Duration;

/// Connections; each has settings of its own.
pub(super) const CONNECTIONS_MAX: usize = 256;
/// Connections beyond that, which get an answer that says so.
pub(super) const CROWDED_MAX: usize = 32;
/// For how long those are kept.
pub(super) const CROWDED_KEPT: Duration = Duration::from_secs(5);
/// Connections that have not spoken yet.
pub(super) const SILENT_MAX: usize = 64;
/// For how long a connection may say nothing.
pub(super) const SILENT_KEPT: Duration = Duration::from_secs(10);
/// Planned queries whose result was not fetched yet. Each holds the lists of files of the versions it reads.
pub(super) const PLANNED_MAX: usize = 256;
/// One part in so many of the memory of all queries is what those take at most, with their texts: a client that never fetches leaves the others
/// the rest.
pub(super) const PLANNED_SHARE: usize = 4;
/// How long a result waits to be fetched.
pub(super) const PLANNED_KEPT: Duration = Duration::from_secs(10 * 60);
/// Queries that run at once. Memory is bounded by the session's limit; this bounds what shares it.
pub(super) const RUNNING_MAX: usize = 64;
/// Prepared statements of all clients.
pub(super) const PREPARED_MAX: usize = 1024;
/// Texts and values of all prepared statements. Beyond that, too, the oldest goes.
pub(super) const KEPT_BYTES_MAX: usize = 64 << 20;
/// How long a prepared statement is kept after it was last used.
pub(super) const PREPARED_KEPT: Duration = Duration::from_secs(60 * 60);
/// Parameters of one statement.
pub(super) const PARAMETERS_MAX: usize = 1000;
/// A message from a client: a statement, or the values of its parameters.
pub(super) const REQUEST_BYTES_MAX: usize = 16 << 20;
/// A message from a server, as the shell accepts it: a row may be large.
pub(super) const RESPONSE_BYTES_MAX: usize = 256 << 20;
/// How often what has expired is let go.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// A client that is gone without a word is noticed after two of these.
pub(super) const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);
/// How long the shell waits for a server to answer its first call.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server that stops lets running queries go on.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(2);

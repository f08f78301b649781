//! Pipelines: from a source through operators to a Delta table, exactly once.
//!
//! ```text
//!            one thread a group of partitions               one thread a key range, any number of stages    one thread
//! source ──► watermark ─► filter, project, windows, partials ──► exchange ──► merge, dedup ──► … ──► writer.rs ──► staged files
//!                                     │                                                                  ▲
//!                                     └──── late and quarantined rows ────────────────────────────────────┘
//! What a task does with a message says stage.rs; task.rs receives and sends.
//! shard.rs asks for a barrier each commit interval; when it has passed all tasks, one epoch record (epoch.rs) decides, and the
//! tables commit what it names (tables.rs). After a crash the same commit is repeated from the newest record.
//! ```
//!
//! Rows for sinks in Kafka leave `writer.rs` at once if each is made of one message, and else after their epoch (delivery.rs).
//!
//! Operators (`operators/`) and stages are pure: no I/O, no clock, no channels.

pub mod align;
pub mod aside;
pub mod budget;
pub mod control;
pub mod delivery;
pub mod epoch;
mod error;
pub mod exchange;
pub mod fault;
#[cfg(test)]
mod golden;
pub mod hidden;
pub mod history;
pub mod holder;
pub mod idle;
pub mod limits;
pub mod metrics;
pub mod operator;
pub mod operators;
pub mod outlet;
pub mod pipelines;
pub mod plan;
pub mod project;
pub mod resume;
pub mod runner;
pub mod same_source;
pub mod segments;
pub mod shard;
pub mod sink_plan;
pub mod spec;
pub mod stage;
pub mod start;
pub mod state;
pub mod tables;
pub mod task;
pub mod watermark;
pub mod writer;

pub use budget::StateLimits;
pub use control::StageName;
pub use delivery::with_noted;
pub use epoch::{ConstraintEpoch, Counters, EpochRecord, SinkEpoch, SourceEpoch};
pub use error::StreamError;
pub use history::{EpochHistory, EpochSummary};
pub use holder::{Failure, Held, Vitals, Waits};
pub use metrics::{COMMIT_BUCKETS_MS, CommitTimes, Metrics, Phase, PipelineMetrics, Snapshot, SourceMetrics};
pub use pipelines::{PipelineReport, check_free, newest_epochs, prepare, rebuild, remove, reports, started, unfit, with_refused};
pub use plan::Blueprint;
pub use project::{Planned, Project};
pub use runner::{Observer, RunOptions, Runner};
pub use shard::Until;
pub use sink_plan::SinkBlueprint;
pub use spec::difference::{Change, change};

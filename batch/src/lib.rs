//! Jobs: materialized views refreshed by batch queries, on a schedule or when their inputs change.
//!
//! ```text
//!  views.rs      what is defined, what reads what
//!  schedule.rs   when a job is due;  turn.rs: whose turn it is
//!      │
//!  scheduler.rs ──► job.rs: pin inputs ─► plan ─┬─► DataFusion ────────────────┬─► expect.rs ─► TableWriter ─► one commit that replaces all rows
//!                       │                       └─► as_of.rs: an ASOF JOIN ────┘
//!                       │                              ▲
//!                       │                       training_set.rs: the same into a file
//!                   runs.rs: _watershed/jobs/<view>/<run>.json ──► status.rs: how jobs are doing;  metrics.rs: what this process did
//! ```
//!
//! A run reads each input at one version and replaces the view's rows in one Delta commit with an application transaction. Killed anywhere,
//! it has either happened or not, and is simply run again: nothing is ever there twice. Which versions were read is in the run's record
//! and in the commit itself.

mod as_of;
mod clock;
mod error;
mod expect;
mod job;
mod metrics;
mod runs;
mod schedule;
mod scheduler;
mod status;
mod training_set;
mod turn;
mod views;

pub use clock::{Clock, SystemClock};
pub use error::BatchError;
pub use expect::ConstraintRun;
pub use job::{JobRunner, Limits};
pub use metrics::{JobCounts, JobMetrics, JobObserver};
pub use runs::{RunRecord, RunStatus, Runs, Trigger, versions};
pub use schedule::{check_schedule, next_after};
pub use scheduler::{Listener, Scheduler, SchedulerOptions};
pub use status::{JobStatus, statuses};
pub use training_set::{TrainingSet, TrainingSetMade};
pub use views::{Mistake, View, Views, declared_context};

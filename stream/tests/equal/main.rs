//! The same text over the same rows gives the same answer on stream and on batch.
//!
//! | file | what it is |
//! |---|---|
//! | `driver.rs` | the stages of a pipeline in one thread, with queues for channels, checkpoints and crashes |
//! | `batch.rs` | the same query in DataFusion over the rows that were in time |
//! | `align.rs` | sources that wait for one another |
//! | `sources.rs` | whole pipelines over several topics |
//! | `storm.rs` | whole pipelines over a store that fails at random: the tables are those of a run that nothing disturbed |
//! | `topic.rs` | whole pipelines over the embedded broker |
//! | `aggregates.rs` | every aggregate, refused or computed |
//! | `drained.rs` | pipelines that go on after they were drained |
//! | `join.rs` | `property.rs` for joins |
//! | `idle.rs` | partitions that are idle over several runs |
//! | `event_time.rs` | event times that are no time in the payload |
//! | `stages.rs` | pipelines of several stages that go on with other numbers of tasks, and from older records |
//! | `refused.rs` | rows that an expression fails on |
//! | `replaced.rs` | a topic that is deleted and made again while it is read |
//! | `property.rs` | random rows, order, cuts, tasks, crashes for every operator |
//! | `start.rs` | where pipelines begin |
//! | `tombstones.rs` | messages without a value |
//! | `union.rs` | `property.rs` for several sources, and for one that is read for several parts of a query |
//! | `slt.rs` | the cases in `stream/tests/slt/`: text with rows, verbs, queries and what they give |

mod aggregates;
mod align;
mod batch;
mod drained;
mod driver;
mod event_time;
mod idle;
mod join;
mod property;
mod refused;
mod replaced;
mod slt;
mod sources;
mod stages;
mod start;
mod storm;
mod tombstones;
mod topic;
mod union;

//! Tables on object storage: warehouse, commit, scan. Only this crate writes `_delta_log`.
//!
//! A [`Warehouse`] is a folder of any store that honours create-if-absent. Each [`Table`] in it is a standard Delta
//! table that other engines read. Rows go in by two steps, so that a pipeline can decide between them:
//!
//! ```text
//!  RecordBatch ──► TableWriter ──► Parquet files nobody sees ──► StagedFile, …      (may be thrown away)
//!                                                                    │
//!                          Table::commit(app id, app version, files) ▼
//!                          _delta_log/<version>.json, create-if-absent              (this makes them visible, once)
//! ```
//!
//! Every commit leaves files. [`Table::compact`] makes few large ones of many small ones, [`Table::vacuum`] deletes what nobody needs any
//! more, and [`Warehouse::start_upkeep`] does both in the background.
//!
//! Invariants: an outcome is decided by reading what is in the store, never by an error; one (app id, app version)
//! is committed at most once; the cost of a commit does not grow with the number of files in the table.

mod access;
mod accounted;
mod bounded_batches;
mod bounds;
mod checkpoint;
pub mod clock;
mod columns;
mod commit;
mod compact;
mod create;
mod damage;
mod definitions;
mod encoding;
mod error;
mod evolve;
pub mod faults;
mod files;
mod footer;
pub mod limits;
mod log;
mod log_checkpoint;
pub mod name;
mod open;
mod ordered;
mod overwrite;
mod partition;
mod pieces;
mod provider;
mod reader;
mod replay;
mod retention;
mod row_width;
mod scan_statistics;
mod schema;
mod selectivity;
pub mod side;
mod staged;
mod state;
mod stats;
mod step;
mod table;
mod tiers;
mod upkeep;
mod vacuum;
mod warehouse;
mod whole;
mod writer;

pub use access::{Patience, PutOutcome};
pub use bounded_batches::{batch_bytes, with_bounded_batches};
pub use commit::{Commit, Committed, StagedFile};
pub use compact::Compaction;
pub use create::Retention;
pub use damage::with_damage_named;
pub use definitions::{Definition, Definitions, kind};
pub use error::{LakeError, Result};
pub use name::TableName;
pub use open::open_folder;
pub use overwrite::{Overwrite, Standing};
pub use partition::refused_partition_value;
pub use pieces::{compacted, pieces, row_bytes};
pub use provider::Texts;
pub use staged::StagedRows;
pub use step::step;
pub use table::Table;
pub use tiers::CompactOptions;
pub use upkeep::{FindNeeded, Needed, UpkeepCounts, UpkeepOptions, UpkeepTask};
pub use vacuum::{VacuumOptions, Vacuumed};
pub use warehouse::Warehouse;
pub use writer::{TableWriter, WriterLimits};

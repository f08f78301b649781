//! Reading the lake with SQL: a session over a warehouse, and the shell a person types into.
//!
//! ```text
//!  text ──► dialect: parse, plan ──► DataFusion ──► Arrow batches ──► table / CSV / JSON
//!                      ▲
//!             catalog.rs: the warehouse's tables, each pinned to one version per statement
//! ```
//!
//! A [`Session`] reads; it never writes a table. What people see of it is [`shell`], and what browsers and scripts
//! see is [`http`].

mod catalog;
mod copy;
mod counters;
mod csv;
mod error;
mod explain;
pub mod flight;
pub mod http;
mod json;
pub mod listen;
mod memory;
mod pauses;
mod prepare;
mod printable;
mod refusals;
mod session;
mod settings;
pub mod shell;
mod show_create;
mod system;
mod type_names;
mod weight;
mod workers;

pub use counters::ServerCounters;
pub use error::QueryError;
pub use session::{QueryResult, Session, SessionOptions};
pub use system::SystemTable;

//! The SQL front end shared by stream and batch: statements, window table functions, planning.
pub mod definition;

pub use definition::*;

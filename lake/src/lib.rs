//! Tables on object storage: warehouse, commit, scan. Only this crate writes `_delta_log`.
pub mod name;

pub use name::TableName;

//! Jobs: batch queries that refresh a table.

//! Stores that fail: what happened is found out by reading.

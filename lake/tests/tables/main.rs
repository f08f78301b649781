//! The lake against real files, against delta-rs as a second reader, and against stores that fail.

mod commits;
mod faults;
mod overwrites;
mod scans;
mod support;
mod warehouses;
mod writers;

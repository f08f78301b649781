//! The lake against real files, against delta-rs as a second reader, and against stores that fail.

#![allow(clippy::disallowed_methods, reason = "files are given times of the machine's clock")]

mod any_table;
mod columns;
mod commits;
mod compactions;
mod faults;
mod foreign;
mod overwrites;
mod partitions;
mod scans;
mod support;
mod vacuums;
mod warehouses;
mod writers;

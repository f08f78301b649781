//! End-to-end tests: the binary against Apache Kafka, its own embedded broker, an S3-protocol server and other readers of Delta.
//!
//! `make test` (or `make e2e T=name`) installs what they need. A tool that is missing fails the test that needs it.
//!
//! | file | what it is |
//! |---|---|
//! | `tools.rs` | where the installed tools are; servers that never outlive the tests; waiting with a limit |
//! | `kafka.rs` | Apache Kafka: start, kill, restart; produce and read back |
//! | `s3.rs` | an S3-protocol server over a folder |
//! | `watershed.rs` | runs of the binary |
//! | `terminal.rs` | a terminal that a test sits at |
//! | `table.rs` | reads Delta tables without our code: log, transactions, rows |
//! | `http.rs` | GET requests |
//! | `delta.py` | what other people do to Delta tables |
//! | `browser.py` | what headless Chromium shows of a page |
//! | `readers.rs` | what deltalake, DuckDB, Polars (`readers.py`) and Spark (`SparkReader.java`) read in a table |
//! | `serving.rs` | a server, and Python clients of it (`flight.py`) |

#![allow(dead_code)]
#![allow(clippy::disallowed_methods, reason = "files are given times of the machine's clock")]

mod bad_input;
mod bad_topics;
mod bad_warehouse;
mod clients;
mod clock;
mod compaction;
mod compat;
mod dashboard;
mod disturbed;
mod exactly_once;
mod files;
mod fraud;
mod fraud_chain;
mod fraud_service;
mod grown;
mod guide;
mod http;
mod input;
mod jobs;
mod kafka;
mod not_well;
mod object_storage;
mod panics;
mod partition_values;
mod people;
mod project;
mod quality;
mod readers;
mod roles;
mod s3;
mod secured;
mod servers;
mod serving;
mod simulated;
mod sinks;
mod table;
mod telemetry;
mod terminal;
mod tools;
mod watershed;
